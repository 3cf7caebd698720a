//! Real sockets and real mDNS, on loopback only: programs that know nothing but a name find each other.

use std::time::{Duration, Instant};

use peerflock::resolve::Browser;
use peerflock::{
    CloseReason, Event, Farewell, Interface, Listing, PeerMesh, PeerMeshBuilder, StartError, StartingMesh, Target, Topic,
};

const TOPIC: Topic = Topic(Topic::RESERVED);
const PATIENCE: Duration = Duration::from_secs(15);

/// A name that no other test on this machine uses now.
fn name(purpose: &str) -> String {
    format!("peerflock-test-{purpose}-{}", std::process::id())
}

fn builder(name: &str, player: usize) -> PeerMeshBuilder {
    PeerMesh::named(name).loopback_only().player(format!("player {player}"))
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ready(starting: Vec<StartingMesh>) -> Vec<PeerMesh> {
    starting.into_iter().map(|starting| eventually("ready", || starting.try_ready()).unwrap()).collect()
}

#[test]
fn four_programs_without_async_meet_by_name_alone() {
    let name = name("four");
    let listing = Listing::new("test").players_max(8);
    // All at once: nobody is first.
    let starting = (0..4).map(|n| builder(&name, n).password("hunter2").listing(listing.clone()).start_in_background());
    let mut meshes = ready(starting.collect());
    eventually("everybody sees everybody", || meshes.iter().all(|mesh| mesh.members().len() == 4).then_some(()));
    assert!(meshes.iter().all(|mesh| mesh.local_addresses().iter().all(|address| address.ip().is_loopback())));

    meshes[0].send(Target::All, TOPIC, "hello").unwrap();
    for mesh in &meshes[1..] {
        let hello = |event: &Event| matches!(event, Event::Message { payload, .. } if payload == "hello");
        eventually("hello", || mesh.try_events().iter().any(hello).then_some(()));
    }

    let browser = Browser::start(Interface::Loopback).unwrap();
    let seen = eventually("the lobby lists it", || {
        let found = browser.snapshot().into_iter().find(|found| found.name == name);
        found.filter(|found| found.players == 4 && found.hosts.len() == 4 && found.round_trip.is_some())
    });
    assert_eq!((seen.game.as_str(), seen.players_max, seen.locked), ("test", 8, true));

    let wrong = builder(&name, 4).password("hunter3").start_in_background().wait();
    assert!(matches!(wrong, Err(StartError::Refused { reason: CloseReason::Refused, .. })), "{wrong:?}");
    let said = wrong.unwrap_err().to_string();
    assert!(said.contains("password") && said.contains("check"), "says what to do: {said}");

    let gone = meshes.remove(0);
    gone.leave_now(Duration::from_secs(3));
    assert!(gone.is_closed());
    for mesh in &meshes {
        let left = |event: &Event| *event == Event::PeerLeft { peer: gone.id(), farewell: Farewell::Left };
        eventually("the goodbye", || mesh.try_events().iter().any(left).then_some(()));
        assert_eq!(mesh.members().len(), 3);
    }
}

#[test]
fn meshes_of_one_name_that_started_apart_find_each_other() {
    let name = name("apart");
    let hermit = builder(&name, 1).lan(false).start_in_background().wait().unwrap();
    let first = builder(&name, 2).start_in_background().wait().unwrap();
    assert_eq!((hermit.members().len(), first.members().len()), (1, 1));
    // One that knows both brings them together.
    let guest = builder(&name, 3).join(hermit.ticket()).start_in_background().wait().unwrap();
    eventually("one mesh", || [&hermit, &first, &guest].iter().all(|mesh| mesh.members().len() == 3).then_some(()));
}

#[test]
fn garbage_on_a_real_port_is_counted() {
    let mesh = builder(&name("garbage"), 1).lan(false).start_in_background().wait().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..100_u8 {
        socket.send_to(&[n & 0x3f; 64], mesh.local_addresses()[0]).unwrap();
    }
    eventually("counted", || (mesh.metrics().packets_ignored == 100).then_some(()));
    assert_eq!(mesh.members().len(), 1);
}

#[tokio::test]
async fn a_lonely_mesh_without_anybody_to_try_starts_at_once() {
    let started = Instant::now();
    let mesh = builder(&name("alone"), 1).lan(false).start().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    mesh.leave().await;
    assert!(started.elapsed() < Duration::from_secs(2));
}
