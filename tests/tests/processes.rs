//! Real processes on loopback: the game and the lobby as players start them, and what strangers do to them.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::Output;
use std::time::{Duration, Instant};

use peerflock::Ticket;
use peerflock_tests::programs::{Running, program};
use serde_json::Value;

fn start(name: &str, arguments: &[&str]) -> Running {
    Running(program(name).args(arguments).spawn().expect("the program starts"))
}

fn run(name: &str, arguments: &[&str]) -> Output {
    program(name).args(arguments).output().expect("the program starts")
}

/// The mesh of that name as the lobby lists it, within `patience`.
fn listed(name: &str, patience: Duration, is_there: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + patience;
    loop {
        let output = run("peerflock-lobby", &["list", "--json", "--seconds", "2"]);
        let meshes: Value = serde_json::from_slice(&output.stdout).expect("the lobby writes JSON");
        let found = meshes.as_array().into_iter().flatten().find(|mesh| mesh["name"] == name && is_there(mesh));
        match found {
            Some(mesh) => return mesh.clone(),
            None => assert!(Instant::now() < deadline, "{name} is not among {meshes:#}"),
        }
    }
}

#[test]
fn the_lobby_lists_a_running_game() {
    let mesh = format!("sky {}", std::process::id());
    let _game = start("murmuration", &["--headless", "--peers", "2", "--seconds", "40", "--mesh", &mesh, "--password", "dusk"]);
    let listed = listed(&mesh, Duration::from_secs(20), |mesh| mesh["players"] == 2);
    assert_eq!((&listed["game"], &listed["locked"]), (&"Murmuration".into(), &true.into()));
    assert!(listed["round_trip_ms"].as_f64().is_some_and(|rtt| rtt < 1_000.0), "{listed}");
}

#[test]
fn garbage_at_the_port_changes_nothing() {
    let room = format!("room {}", std::process::id());
    let mut open = start("peerflock-lobby", &["create", "--name", &room, "--seconds", "40"]);
    listed(&room, Duration::from_secs(15), |_| true);
    let ticket = first_ticket(&mut open);
    let address = *ticket.addresses().first().expect("a room has an address");
    assert!(address.ip().is_loopback(), "{address}: a test speaks to this machine only");
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port is free");
    for length in 0..1_400_usize {
        let garbage: Vec<u8> = (0..length).map(|byte| (byte * 151 + length * 7) as u8).collect();
        socket.send_to(&garbage, address).expect("loopback takes it");
    }
    let joined = run("peerflock-lobby", &["join", &ticket.to_string(), "--seconds", "2"]);
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
    assert!(open.0.try_wait().expect("our own child").is_none(), "the room ended");
}

/// The first ticket that a process prints. Its output stays open: who closes it ends the process.
fn first_ticket(process: &mut Running) -> Ticket {
    let mut output = BufReader::new(process.0.stdout.take().expect("it is piped"));
    let mut line = String::new();
    let ticket = loop {
        line.clear();
        assert!(output.read_line(&mut line).is_ok_and(|read| read > 0), "it ended without a ticket");
        if let Some(ticket) = line.trim().strip_prefix("ticket: ").and_then(|text| text.parse().ok()) {
            break ticket;
        }
    };
    process.0.stdout = Some(output.into_inner());
    ticket
}
