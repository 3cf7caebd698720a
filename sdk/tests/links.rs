//! Meshes on links that move, and on links that are too slow.

use std::time::Duration;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{Bytes, Conditioner, Event, Identity, PeerMesh, PeerMeshBuilder, Pressure, StartError, Target, Topic};
use tokio::time::{Instant, sleep};

const TOPIC: Topic = Topic(Topic::RESERVED);
const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));
const TICK: Duration = Duration::from_millis(16);

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("links")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .lan(false)
        .socket(network.socket())
}

async fn met(network: &VirtualNetwork, count: u8) -> Vec<PeerMesh> {
    let first = builder(network, 1).start().await.unwrap();
    let mut meshes = vec![first];
    for n in 2..=count {
        meshes.push(builder(network, n).join(meshes[0].ticket()).start().await.unwrap());
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while meshes.iter().any(|mesh| mesh.members().iter().filter(|member| member.linked).count() + 1 < meshes.len()) {
        assert!(Instant::now() < deadline, "all linked to all within 20 s");
        sleep(TICK).await;
    }
    meshes
}

/// Everybody plays for so long. What happened at each.
async fn play(meshes: &[PeerMesh], length: Duration) -> Vec<Vec<Event>> {
    let mut happened = vec![Vec::new(); meshes.len()];
    let until = Instant::now() + length;
    while Instant::now() < until {
        for (mesh, happened) in meshes.iter().zip(&mut happened) {
            mesh.commit(Vec::new());
            happened.extend(mesh.try_events());
        }
        sleep(TICK).await;
    }
    happened
}

fn left(happened: &[Vec<Event>]) -> bool {
    happened.iter().flatten().any(|event| matches!(event, Event::PeerLeft { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_player_that_moves_to_another_address_stays() {
    let network = VirtualNetwork::new(1, LAN);
    let meshes = met(&network, 2).await;
    play(&meshes, Duration::from_secs(1)).await;
    let closed = |mesh: &PeerMesh| mesh.metrics().links_closed;
    let before: Vec<u64> = meshes.iter().map(closed).collect();
    let old = meshes[0].metrics().links[0].address;
    let socket = network.socket();
    let new = socket.address();
    meshes[1].rebind_to(socket).unwrap();
    network.unplug(old);
    let happened = play(&meshes, Duration::from_secs(5)).await;
    assert!(!left(&happened), "nobody noticed");
    assert_eq!(meshes.iter().map(closed).collect::<Vec<_>>(), before, "the link is the same one");
    assert_eq!(meshes[0].metrics().links[0].address, new);
    meshes[0].send(Target::All, TOPIC, "still there?").unwrap();
    let happened = play(&meshes, Duration::from_secs(1)).await;
    assert!(happened[1].iter().any(|event| matches!(event, Event::Message { .. })));
}

#[tokio::test(start_paused = true)]
async fn links_that_others_dialed_are_dialed_anew_from_the_new_address() {
    let network = VirtualNetwork::new(1, LAN);
    let meshes = met(&network, 3).await;
    // The first accepted all its links.
    let old = meshes[0].local_addresses()[0];
    meshes[0].rebind_to(network.socket()).unwrap();
    network.unplug(old);
    play(&meshes, Duration::from_secs(4)).await;
    for mesh in &meshes {
        assert_eq!(mesh.members().iter().filter(|member| member.linked).count(), 2);
    }
}

#[test]
fn a_real_socket_moves_in_the_middle_of_a_game() {
    let start = |builder: PeerMeshBuilder| builder.lan(false).loopback_only().start_in_background().wait();
    let host = start(PeerMesh::named("links-rebind")).unwrap();
    let guest = start(PeerMesh::from_ticket(&host.ticket())).unwrap();
    let before = host.metrics().links[0].address;
    // From a thread that has no runtime.
    guest.rebind().unwrap();
    let started = std::time::Instant::now();
    let (mut heard, mut moved) = (false, false);
    while started.elapsed() < Duration::from_secs(3) {
        for mesh in [&host, &guest] {
            mesh.commit(Vec::new());
        }
        if !heard {
            _ = host.send(Target::All, TOPIC, "hello");
        }
        for event in guest.try_events().into_iter().chain(host.try_events()) {
            assert!(!matches!(event, Event::PeerLeft { .. }), "{event:?}");
            heard |= matches!(event, Event::Message { .. });
        }
        moved |= host.metrics().links.first().is_some_and(|link| link.address != before);
        std::thread::sleep(TICK);
    }
    assert!(heard && moved, "heard {heard}, moved {moved}");
    assert_eq!((host.metrics().links_closed, guest.metrics().links_closed), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_slow_neighbor_is_eased_and_seen() {
    let network = VirtualNetwork::new(1, LAN);
    let meshes = met(&network, 3).await;
    assert!(meshes.iter().all(|mesh| mesh.pressure() == Pressure::Free));
    let slow = Conditioner { rate_bytes_per_second: Some(40_000), ..LAN };
    let address = meshes[2].local_addresses()[0];
    for mesh in &meshes[..2] {
        network.set_link_conditioner(mesh.local_addresses()[0], address, slow);
    }
    for _ in 0..20 {
        meshes[0].send(Target::All, TOPIC, Bytes::from(vec![0; 20_000])).unwrap();
    }
    let happened = play(&meshes, Duration::from_secs(4)).await;
    assert!(!left(&happened));
    assert!(meshes[0].pressure() >= Pressure::Eased);
    let metrics = meshes[0].metrics();
    let to = |index: usize| metrics.links.iter().find(|link| link.peer == meshes[index].id());
    assert_eq!(to(1).map(|link| link.pressure), Some(Pressure::Free), "the others do not feel it");
    assert!(to(2).is_none_or(|link| link.pressure >= Pressure::Eased));
}

#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_is_cut_but_never_the_last_one() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(Duration::from_millis(50)));
    let meshes = met(&network, 2).await;
    // Far more than waits for one neighbor.
    for _ in 0..60 {
        meshes[0].send(Target::All, TOPIC, Bytes::from(vec![0; 60_000])).unwrap();
    }
    let metrics = meshes[0].metrics();
    assert_eq!((metrics.links.len(), metrics.links_too_slow), (1, 0));
    let happened = play(&meshes, Duration::from_secs(1)).await;
    assert!(!left(&happened));
    let metrics = meshes[0].metrics();
    assert!(metrics.frames_dropped > 0 && metrics.links_too_slow == 0, "{metrics:?}");
    assert_eq!(meshes[0].pressure(), Pressure::Eased);
}

#[tokio::test(start_paused = true)]
async fn a_conditioned_peer_plays_on_a_worse_network() {
    let network = VirtualNetwork::new(1, LAN);
    let bad: Conditioner = "delay=90ms,loss=5%,duplicates=1%,bursts=0.1%".parse().unwrap();
    let host = builder(&network, 1).conditioner(bad).start().await.unwrap();
    let guest = builder(&network, 2).join(host.ticket()).start().await.unwrap();
    let meshes = [host, guest];
    play(&meshes, Duration::from_secs(3)).await;
    let rtt = meshes[1].metrics().links[0].rtt.unwrap();
    assert!(rtt >= Duration::from_millis(100) && rtt <= Duration::from_millis(160), "{rtt:?}");
}

#[tokio::test(start_paused = true)]
async fn bad_text_in_the_environment_is_an_error_that_helps() {
    let error = StartError::from("delay=fast".parse::<Conditioner>().unwrap_err());
    assert!(matches!(error, StartError::Conditioner(_)));
    let said = error.to_string();
    assert!(said.contains("PEERFLOCK_CONDITIONER") && said.contains("50ms"), "{said}");
}
