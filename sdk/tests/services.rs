//! Services beside the game: what is theirs goes to them and to nobody else, with and without async, until they or the mesh end.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::Duration;

use peerflock::service::sim::ServiceSim;
use peerflock::service::{self, Input, Output, Service, ServiceError, Time};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, Event, Identity, PeerId, PeerMesh, PeerMeshBuilder, SendError, Target, Topic};
use peerflock_proto::Config;
use peerflock_proto::sim::{Options, Sim};
use tokio::time::sleep;

/// More than these tests ever hear.
const EVENTS_MAX: usize = 1_000;
const GAME: Topic = Topic(Topic::RESERVED);

/// What one of these services tells.
#[derive(Clone, Debug, PartialEq)]
enum Told {
    Joined(PeerId),
    Left(PeerId),
    Heard(PeerId, Vec<u8>),
    Unsent(SendError),
    Time,
}

/// Tells all that it is told, on its own channel.
#[derive(Debug, Default)]
struct Parrot<const TOPIC: u16> {
    outputs: VecDeque<Output<Told>>,
    due: Option<Time>,
}

impl<const TOPIC: u16> Parrot<TOPIC> {
    fn say(&mut self, to: Target, text: &'static str) {
        self.outputs.push_back(Output::Send { to, payload: text.into() });
    }
}

impl<const TOPIC: u16> Service for Parrot<TOPIC> {
    type Event = Told;
    const TOPIC: Topic = Topic(TOPIC);

    fn handle(&mut self, input: Input<'_>, _: Time) {
        match input {
            Input::Members(members) => {
                self.outputs.extend(members.left.iter().map(|peer| Output::Tell(Told::Left(*peer))));
                self.outputs.extend(members.joined.iter().map(|peer| Output::Tell(Told::Joined(*peer))));
            }
            Input::Message { from, payload } => self.outputs.push_back(Output::Tell(Told::Heard(from, payload.to_vec()))),
            Input::Unsent { error, .. } => self.outputs.push_back(Output::Tell(Told::Unsent(error.clone()))),
            Input::Timeout => {
                self.due = None;
                self.outputs.push_back(Output::Tell(Told::Time));
            }
        }
    }

    fn poll_output(&mut self) -> Option<Output<Told>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.due
    }
}

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("services")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .lan(false)
        .socket(network.socket())
}

/// Two services on each of two peers, and their ears.
#[tokio::test(start_paused = true)]
async fn each_hears_its_own_and_the_game_the_rest() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(Duration::from_millis(10)));
    let ann = builder(&network, 1).start().await.unwrap();
    let (tell, told) = mpsc::sync_channel(EVENTS_MAX);
    let anns = service::start(&ann, Parrot::<200>::default(), move |event| _ = tell.send(event)).unwrap();
    anns.act(|parrot, now| {
        parrot.say(Target::All, "is anybody here?");
        parrot.due = Some(now + Duration::from_secs(3));
    });
    let bob = builder(&network, 2).join(ann.ticket()).start().await.unwrap();
    let (tell, bobs_told) = mpsc::sync_channel(EVENTS_MAX);
    let first = service::start(&bob, Parrot::<200>::default(), move |event| _ = tell.send((1, event))).unwrap();
    let second = service::start(&bob, Parrot::<1_000>::default(), |_| ()).unwrap();
    let twice = service::start(&bob, Parrot::<1_000>::default(), |_| ());
    assert_eq!(twice.err(), Some(ServiceError::Taken(Topic(1_000))));

    sleep(Duration::from_secs(1)).await;
    anns.act(|parrot, _| parrot.say(Target::All, "to the service"));
    second.act(|parrot, _| parrot.say(Target::AllAndMe, "nobody claims this at Ann's"));
    // One of the SDK's that does not run at Bob's, and the game's own.
    ann.send(Target::All, Topic(255), "for a service that Bob has not").unwrap();
    ann.send(Target::All, GAME, "for the game").unwrap();
    sleep(Duration::from_secs(5)).await;

    let unsent = Told::Unsent(SendError::NobodyThere);
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [unsent, Told::Joined(bob.id()), Told::Time]);
    let heard = Told::Heard(ann.id(), b"to the service".to_vec());
    assert_eq!(bobs_told.try_iter().collect::<Vec<_>>(), [(1, Told::Joined(ann.id())), (1, heard)]);
    let games = |mesh: &PeerMesh| -> Vec<(Topic, Vec<u8>)> {
        let said = mesh.try_events().into_iter().filter_map(|event| match event {
            Event::Message { topic, payload, .. } => Some((topic, payload.to_vec())),
            _ => None,
        });
        said.collect()
    };
    assert_eq!(games(&bob), [(GAME, b"for the game".to_vec())]);
    assert_eq!(games(&ann), [(Topic(1_000), b"nobody claims this at Ann's".to_vec())]);

    // The last handle ends it; the channel is free again.
    drop((first, second));
    let (tell, ear) = mpsc::sync_channel(EVENTS_MAX);
    let again = service::start(&bob, Parrot::<1_000>::default(), move |event| _ = tell.send(event)).unwrap();
    let (bob_id, clone) = (bob.id(), again.clone());
    drop(again);
    bob.leave().await;
    assert!(clone.is_closed());
    assert_eq!(ear.iter().collect::<Vec<_>>(), [Told::Joined(ann.id())], "its ear is closed with the mesh");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [Told::Left(bob_id)]);
    // A handle on a service does not hold the mesh.
    drop(ann);
    sleep(Duration::from_secs(3)).await;
    assert!(anns.is_closed());
}

/// As in a game loop: no runtime here, real sockets on loopback, and events are drained by the game.
#[test]
fn a_program_without_async_has_services_too() {
    let start = |name: &str| PeerMesh::named("no async").secret([7; 32]).player(name).loopback_only().lan(false);
    let ann = start("Ann").start_in_background().wait().unwrap();
    let bob = start("Bob").join(ann.ticket()).start_in_background().wait().unwrap();
    let (tell, told) = mpsc::sync_channel(EVENTS_MAX);
    let _ear = service::start(&ann, Parrot::<200>::default(), move |event| _ = tell.send(event)).unwrap();
    let voice = service::start(&bob, Parrot::<200>::default(), |_| ()).unwrap();
    voice.act(|parrot, _| parrot.say(Target::One(ann.id()), "hello"));
    let heard =
        std::iter::from_fn(|| told.recv_timeout(Duration::from_secs(10)).ok()).find(|told| matches!(told, Told::Heard(..)));
    assert_eq!(heard, Some(Told::Heard(bob.id(), b"hello".to_vec())));
    let is_message = |event: &Event| matches!(event, Event::Message { .. });
    assert!(!ann.try_events().iter().any(is_message) && !bob.try_events().iter().any(is_message));
    bob.leave_now(Duration::from_secs(3));
    ann.leave_now(Duration::from_secs(3));
}

#[test]
fn the_simulator_runs_them_in_virtual_time_and_repeats_itself() {
    let run = |seed: u64| {
        let options = Options { seed, loss: 0.05, ..Options::default() };
        let mut services = ServiceSim::new(Sim::mesh(options, 10, &Config::default(), Duration::from_secs(20)));
        (0..10).for_each(|index| services.start(index, Parrot::<200>::default()));
        services.act(3, |parrot, _| parrot.say(Target::All, "hello"));
        services.run(Duration::from_secs(2));
        services.crash(9);
        services.run(Duration::from_secs(4));
        let (three, nine) = (services.sim.peer(3), services.sim.peer(9));
        for index in (0..9).filter(|index| *index != 3) {
            let told: Vec<Told> = services.take_told(index).into_iter().map(|(_, told)| told).collect();
            let (joined, rest): (Vec<_>, Vec<_>) = told.into_iter().partition(|told| matches!(told, Told::Joined(_)));
            assert_eq!((joined.len(), rest), (9, vec![Told::Heard(three, b"hello".to_vec()), Told::Left(nine)]), "seed {seed}");
            assert!(services.take_events(index).iter().all(|(_, event)| !matches!(event, Event::Message { .. })));
        }
        services.sim.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
