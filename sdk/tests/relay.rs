//! Two players who find no way to each other, and have nobody else: a directory carries their packets. Over real sockets on loopback, where
//! one is at `::1` alone and the other at 127.0.0.1 alone, so that there is no direct way.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock::directory::{DirectoryLimits, DirectoryOptions, DirectoryService};
use peerflock::{Change, Event, Group, Kind, KindId, Orphan, PeerMesh, PeerMeshBuilder, Shape, Target, Topic, Value, WorldEvent};
use tokio::net::UdpSocket;
use tokio::time::{Instant, interval, sleep};

const CHAT: Topic = Topic(Topic::RESERVED);
const FOUR: &str = "127.0.0.1:0";
const SIX: &str = "[::1]:0";

/// At both loopback addresses.
async fn directory(limits: DirectoryLimits) -> DirectoryService {
    DirectoryService::start(DirectoryOptions { listen: "[::]:0".parse().unwrap(), limits, ..DirectoryOptions::default() })
        .await
        .unwrap()
}

/// Somebody at `bind`, who knows the directory by its address of the same family, and nothing else.
fn builder(service: &DirectoryService, bind: &str) -> (PeerMeshBuilder, KindId) {
    let bind: SocketAddr = bind.parse().unwrap();
    let host = if bind.ip().is_unspecified() { "127.0.0.1".into() } else { bind.ip().to_string() };
    let mut builder = PeerMesh::named("relay").password("hunter2").loopback_only().lan(false).bind(bind);
    let kind = builder.registry_mut().register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    (builder.directory(service.address(&host)), kind)
}

async fn within(seconds: u64, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// Whether it has links by way of a directory alone, and knows who is there: that comes right after the link.
fn relayed(mesh: &PeerMesh) -> bool {
    let links = mesh.metrics().links;
    !links.is_empty() && links.iter().all(|link| link.relayed) && mesh.members().len() > links.len()
}

/// What one heard in a while: chat lines, and changes of state.
#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    changes: usize,
    left: usize,
}

impl Heard {
    fn take(&mut self, mesh: &PeerMesh) {
        for event in mesh.try_events() {
            match event {
                Event::Message { payload, .. } => self.lines.push(String::from_utf8_lossy(&payload).into_owned()),
                Event::World(WorldEvent::Set { .. }) => self.changes += 1,
                Event::PeerLeft { .. } => self.left += 1,
                _ => {}
            }
        }
    }
}

/// Both play `ticks` ticks of 25 ms with `birds` things each that move all the time, and say something every tenth.
async fn play(meshes: [&PeerMesh; 2], kind: KindId, birds: usize, ticks: i32) -> [Heard; 2] {
    let mut heard = [Heard::default(), Heard::default()];
    let flocks = meshes.map(|mesh| (0..birds).map(|_| mesh.spawn()).collect::<Vec<_>>());
    let mut tick = interval(Duration::from_millis(25));
    for step in 0..ticks {
        tick.tick().await;
        for (mesh, flock) in meshes.iter().zip(&flocks) {
            let mut changes = Vec::new();
            for (number, entity) in flock.iter().enumerate() {
                if step == 0 {
                    changes.push(Change::Spawn { entity: *entity, orphan: Orphan::Vanish });
                }
                // No two move alike, nor as they did before.
                let number = number as i32;
                let (x, y) = (
                    step * (number % 7 + 3) + (step * step * (number + 5)) % 83,
                    step * (number % 5) - (step * step * number) % 61,
                );
                changes.push(Change::Set { entity: *entity, kind, value: Value::fields([x, y]) });
            }
            mesh.commit(changes);
            if step % 10 == 0 {
                mesh.send(Target::All, CHAT, Bytes::from(format!("line {step}"))).unwrap();
            }
        }
        for (heard, mesh) in heard.iter_mut().zip(meshes) {
            heard.take(mesh);
        }
    }
    let lines = (ticks as usize).div_ceil(10);
    within(10, "the last words", || {
        heard.iter_mut().zip(meshes).for_each(|(heard, mesh)| heard.take(mesh));
        heard.iter().all(|heard| heard.lines.len() >= lines)
    })
    .await;
    let expected: Vec<String> = (0..ticks).step_by(10).map(|step| format!("line {step}")).collect();
    for heard in &heard {
        assert_eq!((&heard.lines, heard.left), (&expected, 0), "everything once, in its order, and nobody went");
    }
    heard
}

#[tokio::test]
async fn two_who_find_no_way_play_by_the_directory_and_let_go_of_it_once_a_third_is_there() {
    let service = directory(DirectoryLimits::default()).await;
    let ((four, kind), (six, _)) = (builder(&service, FOUR), builder(&service, SIX));
    let (four, six) = tokio::join!(four.start(), six.start());
    let (four, six) = (four.unwrap(), six.unwrap());
    within(10, "linked by the directory", || relayed(&four) && relayed(&six)).await;
    assert_eq!((four.members().len(), six.members().len(), service.stats().relays), (2, 2, 1));
    // Garbage at the directory and at both ends, with and without what their packets begin with, changes nothing.
    let stranger = UdpSocket::bind(FOUR).await.unwrap();
    let stranger_six = UdpSocket::bind(SIX).await.unwrap();
    let noise = tokio::spawn({
        let directory = SocketAddr::new([127, 0, 0, 1].into(), service.local_address().port());
        let ends = [four.local_addresses()[0], six.local_addresses()[0], directory];
        async move {
            for round in 0..=255_u8 {
                for end in ends {
                    let from = if end.is_ipv4() { &stranger } else { &stranger_six };
                    for packet in
                        [vec![round; 40], [b"\x21pf\x01\x04".as_slice(), &[round; 9]].concat(), b"\x21pf\x01\x04".to_vec()]
                    {
                        _ = from.send_to(&packet, end).await;
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let heard = play([&four, &six], kind, 5, 100).await;
    assert!(heard.iter().all(|heard| heard.changes > 100), "{heard:?}");
    within(5, "the same state", || four.metrics().state_hash == six.metrics().state_hash).await;
    noise.await.unwrap();
    assert!(relayed(&four) && relayed(&six));
    let stats = service.stats();
    assert!(stats.relayed_bytes > 10_000, "{stats:?}");

    // One who can be reached by both: from now on they hear each other by it, and the directory carries nothing.
    let (both, _) = builder(&service, "[::]:0");
    let both = both.start().await.unwrap();
    within(15, "all three", || [&four, &six, &both].iter().all(|mesh| mesh.members().len() == 3)).await;
    within(20, "the relayed link is given up", || {
        [&four, &six, &both].iter().all(|mesh| {
            let links = mesh.metrics().links;
            !links.is_empty() && links.iter().all(|link| !link.relayed)
        })
    })
    .await;
    let carried = service.stats().relayed_bytes;
    play([&four, &six], kind, 5, 60).await;
    assert_eq!(service.stats().relayed_bytes, carried);
    within(20, "the pair is forgotten", || service.stats().relays == 0).await;
}

#[tokio::test]
async fn a_world_too_large_for_a_relayed_link_settles_to_what_it_carries() {
    let service = directory(DirectoryLimits { relay_burst_bytes: 20_000, ..DirectoryLimits::default() }).await;
    let ((four, kind), (six, _)) = (builder(&service, FOUR), builder(&service, SIX));
    let (four, six) = tokio::join!(four.start(), six.start());
    let (four, six) = (four.unwrap(), six.unwrap());
    within(10, "linked by the directory", || relayed(&four) && relayed(&six)).await;
    let (before, started) = (service.stats(), Instant::now());
    let heard = play([&four, &six], kind, 150, 240).await;
    let (after, seconds) = (service.stats(), started.elapsed().as_secs_f64());
    let carried = (after.relayed_bytes - before.relayed_bytes) as f64;
    let dropped = (after.relay_dropped_bytes - before.relay_dropped_bytes) as f64;
    let limits = DirectoryLimits::default();
    assert!(
        carried <= 2.0 * (20_000.0 + seconds * f64::from(limits.relay_bytes_per_second)),
        "the limit holds: {carried} in {seconds} s"
    );
    assert!(carried >= seconds * 6_000.0, "and is used: {carried} in {seconds} s");
    assert!(dropped <= carried / 20.0, "who knows the limit keeps to it: {dropped} of {carried}");
    let skipped = [&four, &six].map(|mesh| mesh.metrics().links[0].datagram_limit);
    assert!(skipped.iter().all(Option::is_some), "{skipped:?}");
    assert!(heard.iter().all(|heard| heard.changes > 300), "{:?}", heard.map(|heard| heard.changes));
}

#[tokio::test]
async fn a_directory_that_dies_ends_the_link_and_one_that_relays_for_nobody_says_what_to_do() {
    let service = directory(DirectoryLimits::default()).await;
    let ((four, _), (six, _)) = (builder(&service, FOUR), builder(&service, SIX));
    let (four, six) = tokio::join!(four.start(), six.start());
    let (four, six) = (four.unwrap(), six.unwrap());
    within(10, "linked by the directory", || relayed(&four) && relayed(&six)).await;
    let place = service.local_address();
    drop(service);
    within(20, "the link ends", || four.members().len() == 1 && six.members().len() == 1).await;
    within(10, "and it is told", || four.resolvers().iter().any(|report| report.failure.is_some())).await;

    // The same place again, where nobody is relayed for.
    let none = DirectoryOptions {
        listen: SocketAddr::new("::".parse().unwrap(), place.port()),
        limits: DirectoryLimits { relays: 0, ..DirectoryLimits::default() },
        ..DirectoryOptions::default()
    };
    let service = DirectoryService::start(none).await.unwrap();
    let ((four, _), (six, _)) = (builder(&service, FOUR), builder(&service, SIX));
    let (four, six) = tokio::join!(four.start(), six.require_members(true).start());
    let why = six.unwrap_err().to_string();
    assert!(why.contains("relays for nobody") && why.contains("open a port"), "{why}");
    let four = four.unwrap();
    assert_eq!((four.members().len(), service.stats().relays), (1, 0));
}
