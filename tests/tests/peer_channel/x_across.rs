//! X: what cuts across the scenarios.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use peerflock::resolve::{Answer, Found, Registration, Resolver};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{
    CloseReason, Conditioner, Event, Group, Identity, Kind, PeerId, PeerMesh, PeerMeshBuilder, Registry, Shape, StartError,
};
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Candidate, Input, SendError, Target};
use peerflock_tests::game::{TOPIC, config, heard, members, millis, seconds, send};
use peerflock_tests::wiretap::{Passing, Wires};
use tokio::time::sleep;

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("across").identity(Identity::from_seed([n; 32])).seed([n; 32]).lan(false).socket(network.socket())
}

fn said(mesh: &PeerMesh) -> usize {
    mesh.try_events().iter().filter(|event| matches!(event, Event::Message { .. })).count()
}

/// Real programs' parts, real sockets, and nothing that knows either of them beforehand: mDNS on loopback.
#[test]
fn x1_two_that_start_at_the_same_instant_meet() {
    let name = format!("x1 {}", std::process::id());
    let started = Instant::now();
    let starting: Vec<_> = (0..2).map(|_| PeerMesh::named(&name).loopback_only().start_in_background()).collect();
    let meshes: Vec<PeerMesh> = starting.into_iter().map(|mesh| mesh.wait().unwrap()).collect();
    while !meshes.iter().all(|mesh| mesh.members().len() == 2) {
        assert!(started.elapsed() < seconds(15), "they did not meet");
        std::thread::sleep(millis(20));
    }
    meshes.iter().for_each(|mesh| mesh.leave_now(seconds(3)));
}

/// Two islands whose members all have the links that they want: a resolver that names one of one to one of the other is enough.
#[test]
fn x2_contented_islands_merge() {
    remember_signatures();
    let mut sim = Sim::new(Options::default());
    for index in 0..24 {
        sim.add(config(3), [7; 32]);
        if index % 12 > 0 {
            sim.introduce(index, index / 12 * 12);
        }
    }
    sim.run(seconds(5));
    assert!((0..24).all(|index| members(&sim, index) == 12), "two islands");
    sim.input(5, Input::Candidates(vec![Candidate { address: Sim::address(17), peer: None }]));
    sim.run(seconds(10));
    assert!((0..24).all(|index| members(&sim, index) == 24), "one mesh");
}

/// A resolver in a program's own words, that can be killed and started again with nothing in it.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Option<BTreeMap<PeerId, Vec<SocketAddr>>>>>);

impl Shelf {
    /// It starts, empty.
    fn start(&self) {
        *self.0.lock().unwrap() = Some(BTreeMap::new());
    }

    fn kill(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn entries(&self) -> Vec<PeerId> {
        self.0.lock().unwrap().iter().flat_map(BTreeMap::keys).copied().collect()
    }

    fn with<T: Send + 'static>(&self, act: impl FnOnce(&mut BTreeMap<PeerId, Vec<SocketAddr>>) -> T) -> Answer<'_, T> {
        let dead = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into();
        Box::pin(std::future::ready(self.0.lock().unwrap().as_mut().map(act).ok_or_else(dead)))
    }
}

impl Resolver for Shelf {
    fn name(&self) -> String {
        "shelf".into()
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration> {
        let (peer, addresses) = (us.peer, us.addresses.clone());
        self.with(move |entries| {
            entries.insert(peer, addresses);
            seconds(10)
        })
    }

    fn resolve<'a>(&'a self, _us: &'a Registration) -> Answer<'a, Vec<Found>> {
        self.with(|entries| entries.iter().map(|(peer, addresses)| Found::peer(*peer, addresses.clone())).collect())
    }
}

/// The resolver dies after they have met: talk goes on. It comes back with nothing in it: they fill it again by themselves, and a
/// newcomer finds them there.
#[tokio::test(start_paused = true)]
async fn x3_a_resolver_that_dies_is_not_missed_and_is_filled_again() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(millis(10)));
    let shelf = Shelf::default();
    shelf.start();
    let ann = builder(&network, 1).resolver(shelf.clone()).start().await.unwrap();
    let bob = builder(&network, 2).resolver(shelf.clone()).start().await.unwrap();
    sleep(seconds(10)).await;
    assert_eq!((shelf.entries().len(), ann.members().len(), bob.members().len()), (2, 2, 2));
    shelf.kill();
    sleep(seconds(60)).await;
    ann.send(Target::All, TOPIC, "hello").unwrap();
    sleep(seconds(1)).await;
    assert_eq!(said(&bob), 1);
    shelf.start();
    sleep(seconds(30)).await;
    assert_eq!(shelf.entries().len(), 2, "filled again");
    let late = builder(&network, 3).resolver(shelf.clone()).start().await.unwrap();
    sleep(seconds(5)).await;
    assert_eq!((late.members().len(), ann.members().len()), (3, 3));
}

/// The same without any resolver: whoever brought them together goes, talk goes on, and any other brings in the next.
#[tokio::test(start_paused = true)]
async fn x3_who_introduced_them_is_not_needed_afterwards() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(millis(10)));
    let introducer = builder(&network, 1).start().await.unwrap();
    let ann = builder(&network, 2).join(introducer.ticket()).start().await.unwrap();
    let bob = builder(&network, 3).join(introducer.ticket()).start().await.unwrap();
    sleep(seconds(1)).await;
    let stale = introducer.ticket();
    introducer.leave().await;
    ann.send(Target::All, TOPIC, "hello").unwrap();
    sleep(seconds(1)).await;
    assert_eq!(said(&bob), 1);
    // The old invitation leads nowhere; one beside it that is fresh is enough.
    let late = builder(&network, 4).join(stale).join(bob.ticket()).start().await.unwrap();
    sleep(seconds(1)).await;
    assert_eq!((late.members().len(), ann.members().len()), (3, 3));
}

/// What led nowhere once is tried again.
#[test]
fn x4_a_timeout_is_not_the_end() {
    let mut sim = Sim::new(Options::default());
    for _ in 0..2 {
        sim.add(config(7), [7; 32]);
    }
    sim.cut(0, 1);
    sim.introduce(0, 1);
    sim.run(seconds(5));
    assert_eq!(members(&sim, 0), 1);
    sim.heal();
    sim.introduce(0, 1);
    sim.run(seconds(5));
    assert_eq!((members(&sim, 0), members(&sim, 1)), (2, 2));
}

/// Another address: whoever moved is heard again within seconds, and stays the same member.
#[tokio::test(start_paused = true)]
async fn x5_who_moves_to_another_address_is_reachable_again() {
    let network = VirtualNetwork::new(2, Conditioner::with_delay(millis(10)));
    let ann = builder(&network, 1).start().await.unwrap();
    let bob = builder(&network, 2).join(ann.ticket()).start().await.unwrap();
    sleep(seconds(1)).await;
    bob.rebind_to(network.socket()).unwrap();
    sleep(seconds(3)).await;
    ann.try_events();
    bob.send(Target::All, TOPIC, "from elsewhere").unwrap();
    ann.send(Target::One(bob.id()), TOPIC, "to elsewhere").unwrap();
    sleep(seconds(1)).await;
    assert_eq!((said(&ann), said(&bob)), (1, 1));
}

#[test]
fn x6_speaking_to_nobody_is_an_error() {
    let mut sim = Sim::mesh(Options::default(), 1, &config(7), seconds(1));
    assert_eq!(send(&mut sim, 0, Target::All, "anybody?"), Err(SendError::NobodyThere));
    let other = sim.add(config(7), [7; 32]);
    sim.introduce(0, other);
    sim.run(seconds(2));
    send(&mut sim, 0, Target::All, "somebody!").unwrap();
    sim.run(seconds(1));
    assert_eq!(heard(&mut sim, other).len(), 1, "and it is not said later");
}

/// A forged message behind a relay that could not know: the relay keeps its links, and what was meant arrives.
#[test]
fn x7_an_honest_relay_keeps_its_links() {
    let mut wires = Wires::row(4, &config(7));
    let honest = [(1, 2), (2, 1), (2, 3), (3, 2)];
    let before = honest.map(|(one, other)| wires.link(one, other));
    let letters = Rc::new(Cell::new(0_usize));
    let count = letters.clone();
    wires.tap(move |passing| {
        if (passing.from, passing.to) == (0, 1) && passing.is_letter() {
            count.set(count.get() + 1);
            if count.get() % 2 == 1 {
                let mut bytes = passing.bytes.to_vec();
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
                passing.bytes = bytes.into();
            }
        }
    });
    let to = wires.peer(3);
    let said: Vec<String> = (0..20).map(|number| format!("truth {number}")).collect();
    for text in &said {
        wires.send(0, Target::One(to), text).unwrap();
        wires.run(millis(900));
    }
    wires.run(seconds(8));
    assert!(letters.get() >= 2 * said.len(), "{} letters: each was altered once", letters.get());
    assert_eq!(honest.map(|(one, other)| wires.link(one, other)), before);
    assert_eq!(wires.heard(3), said);
}

/// A copy that comes after ten minutes is not heard again.
#[test]
fn x8_a_late_copy_is_delivered_once() {
    let mut wires = Wires::row(3, &config(7));
    let record = wires.record();
    let to = wires.peer(2);
    for target in [Target::All, Target::One(to), Target::Hops(2)] {
        wires.send(0, target, "<once>").unwrap();
        wires.run(seconds(1));
    }
    assert_eq!(wires.heard(2).len(), 3);
    // What is for one is sealed: it shows by its kind only.
    let is_it = |passing: &&Passing| passing.to == 2 && (passing.holds("<once>") || passing.is_letter());
    let copies: Vec<_> = record.borrow().iter().filter(is_it).cloned().collect();
    assert!(copies.len() >= 3);
    wires.run(seconds(600));
    copies.iter().for_each(|copy| wires.replay(copy));
    wires.run(seconds(2));
    assert_eq!(wires.heard(2), Vec::<String>::new());
    assert_eq!(wires.node(2).counters().violations, 0);
}

#[tokio::test]
async fn x9_two_of_one_mesh_in_one_program() {
    let name = format!("x9 {}", std::process::id());
    let one = PeerMesh::named(&name).loopback_only().lan(false).start().await.unwrap();
    let other = PeerMesh::named(&name).loopback_only().lan(false).join(one.ticket()).start().await.unwrap();
    let started = Instant::now();
    while one.members().len() < 2 {
        assert!(started.elapsed() < seconds(10));
        sleep(millis(10)).await;
    }
    one.send(Target::All, TOPIC, "to my neighbor in here").unwrap();
    while said(&other) == 0 {
        assert!(started.elapsed() < seconds(10));
        sleep(millis(10)).await;
    }
    other.leave().await;
    one.leave().await;
}

/// Two that replicate other components are told that this is what differs, not that something failed.
#[tokio::test(start_paused = true)]
async fn x10_a_mismatch_is_named() {
    let network = VirtualNetwork::new(3, Conditioner::with_delay(millis(10)));
    let registry = |name: &str| {
        let mut registry = Registry::default();
        registry.register(Kind { name: name.into(), shape: Shape::Fields(&[Group::Motion(2)]) });
        registry
    };
    let ann = builder(&network, 1).registry(registry("position")).start().await.unwrap();
    let error = builder(&network, 2).registry(registry("speed")).join(ann.ticket()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Refused { reason: CloseReason::Registry, .. }), "{error}");
    assert!(error.to_string().contains("components differ"), "{error}");
}
