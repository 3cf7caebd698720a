//! The same on real QUIC, in virtual time: what only shows where sockets and applications are.

use std::net::SocketAddr;
use std::time::Duration;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{
    Conditioner, Event, Farewell, Identity, Limits, NeighborLimits, PeerMesh, PeerMeshBuilder, SendError, Target, Topic,
};
use peerflock_tests::game::{millis, seconds};
use tokio::time::{Instant, sleep};

const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));
const CHAT: Topic = Topic(Topic::RESERVED);
/// A long message.
const LENGTH: usize = 60_000;

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("weaknesses")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .lan(false)
        .socket(network.socket())
}

/// `count` members who all see each other; `settings` makes each as it is to be.
async fn gather(network: &VirtualNetwork, count: u8, settings: impl Fn(PeerMeshBuilder) -> PeerMeshBuilder) -> Vec<PeerMesh> {
    let mut meshes: Vec<PeerMesh> = Vec::new();
    for n in 1..=count {
        let mut builder = settings(builder(network, n));
        if let Some(door) = meshes.first().map(door) {
            builder = builder.join_address(door);
        }
        meshes.push(builder.start().await.expect("it starts"));
    }
    let all = meshes.len();
    until(seconds(10), || meshes.iter().all(|mesh| mesh.members().len() == all)).await.expect("all met");
    meshes
}

/// How many messages wait for the application, which takes them.
fn messages(mesh: &PeerMesh) -> usize {
    mesh.try_events().iter().filter(|event| matches!(event, Event::Message { .. })).count()
}

fn door(mesh: &PeerMesh) -> SocketAddr {
    mesh.local_addresses()[0]
}

/// How long it took until `done`; None if it took longer than `limit`.
async fn until(limit: Duration, mut done: impl FnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < limit {
        if done() {
            return Some(started.elapsed());
        }
        sleep(millis(10)).await;
    }
    None
}

/// 24: nothing kept a link alive, and nothing noticed that it was dead.
#[tokio::test(start_paused = true)]
async fn weakness_24_a_silent_death_is_noticed_on_real_links_and_loss_is_not_taken_for_one() {
    let lossy = Conditioner { delay: millis(30), jitter: millis(20), loss: 0.1, duplicates: 0.02, reordering: 0.05, ..LAN };
    let network = VirtualNetwork::new(24, lossy);
    let mut meshes = gather(&network, 4, |builder| builder).await;
    meshes.iter().for_each(|mesh| drop(mesh.try_events()));
    sleep(seconds(60)).await;
    for mesh in &meshes {
        assert_eq!(mesh.try_events(), [], "nothing happened, so nothing is told");
        assert_eq!(mesh.metrics().links.len(), 3);
    }
    let dead = meshes.remove(0);
    network.unplug(door(&dead));
    let unlinked = until(seconds(3), || meshes.iter().all(|mesh| mesh.metrics().links.len() == 2)).await;
    assert!(unlinked.is_some_and(|after| after < millis(1_200)), "links are given up after {unlinked:?}");
    let noticed = until(seconds(3), || meshes.iter().all(|mesh| mesh.members().len() == 3)).await;
    assert!(noticed.is_some(), "the member is taken for gone");
}

/// 25: whoever left said nothing.
#[tokio::test(start_paused = true)]
async fn weakness_25_a_goodbye_arrives_on_real_links() {
    let network = VirtualNetwork::new(25, Conditioner { loss: 0.1, ..LAN });
    let mut meshes = gather(&network, 4, |builder| builder).await;
    meshes.iter().for_each(|mesh| drop(mesh.try_events()));
    let leaver = meshes.remove(0);
    let gone = leaver.id();
    tokio::spawn(leaver.leave());
    let heard = until(seconds(3), || meshes.iter().all(|mesh| mesh.members().len() == 3)).await;
    assert!(heard.is_some_and(|after| after < millis(600)), "{heard:?}");
    for mesh in &meshes {
        assert_eq!(mesh.try_events(), [Event::PeerLeft { peer: gone, farewell: Farewell::Left }]);
    }
}

/// 26: a message to nobody was sent with success.
#[tokio::test(start_paused = true)]
async fn weakness_26_speaking_to_nobody_is_an_error_of_the_handle() {
    let network = VirtualNetwork::new(26, LAN);
    let mut meshes = gather(&network, 2, |builder| builder).await;
    meshes[0].send(Target::All, CHAT, "hello!").expect("somebody is there");
    meshes.remove(1).leave().await;
    assert_eq!(meshes[0].send(Target::All, CHAT, "hello?"), Err(SendError::NobodyThere));
}

/// 27: back-pressure never reached the application. Here the sender is told to wait, at a bound, and what it was let send arrives.
#[tokio::test(start_paused = true)]
async fn weakness_27_a_sender_is_told_to_wait_on_real_links() {
    let network = VirtualNetwork::new(27, LAN);
    let meshes = gather(&network, 2, |builder| builder).await;
    let reader = meshes[1].id();
    network.unplug(door(&meshes[1]));
    let mut taken = 0;
    let refused = loop {
        match meshes[0].send(Target::One(reader), CHAT, vec![7; LENGTH]) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken * LENGTH <= 4 << 20, "no bound");
    };
    assert_eq!(refused, SendError::Backlog(reader));
    sleep(millis(300)).await;
    network.plug(door(&meshes[1]));
    let mut heard = 0;
    let arrived = until(seconds(10), || {
        heard += messages(&meshes[1]);
        heard >= taken
    })
    .await;
    assert!(arrived.is_some(), "{heard} of {taken}");
    assert_eq!(meshes[0].send(Target::One(reader), CHAT, "go on"), Ok(()));
}

/// 27: receive queues had no bound. Here an application that never looks fills no memory, and is told what fell out.
#[tokio::test(start_paused = true)]
async fn weakness_27_an_application_that_never_looks_fills_no_memory() {
    let network = VirtualNetwork::new(27, LAN);
    let meshes = gather(&network, 2, |builder| builder).await;
    meshes[1].try_events();
    let reader = meshes[1].id();
    let mut sent = 0;
    while sent < 300 {
        match meshes[0].send(Target::One(reader), CHAT, vec![7; LENGTH]) {
            Ok(()) => sent += 1,
            Err(SendError::Backlog(_)) => {}
            Err(other) => panic!("{other}"),
        }
        sleep(millis(50)).await;
    }
    sleep(seconds(3)).await;
    let dropped = meshes[1].metrics().events_dropped;
    let waiting = messages(&meshes[1]);
    assert!(waiting * LENGTH <= 8 << 20, "{waiting} messages waited");
    assert_eq!(waiting as u64 + dropped, sent, "{waiting} waited, {dropped} are said to have fallen out");
}

/// 31: how many links and how much to keep could not be set.
#[tokio::test(start_paused = true)]
async fn weakness_31_limits_are_settings_of_the_handle() {
    let network = VirtualNetwork::new(31, LAN);
    let limits = Limits { message_bytes: 100, ..Limits::default() };
    let meshes = gather(&network, 6, |builder| builder.neighbors(NeighborLimits::new(1, 2, 2)).limits(limits)).await;
    for _ in 0..50 {
        sleep(millis(100)).await;
        assert!(meshes.iter().all(|mesh| mesh.metrics().links.len() <= 2));
    }
    let long = meshes[0].send(Target::All, CHAT, vec![7; 101]);
    assert_eq!(long, Err(SendError::TooLong { len: 101, max: 100 }));
}
