//! Rooms between real processes on loopback, from the terminal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may fail anywhere")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long something may take that takes a second or two on an idle machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a process may live if its test forgets it, in seconds.
const LIFE: &str = "90";

fn lobby(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerflock-lobby"));
    command
        .args(words)
        .env("PEERFLOCK_INTERFACE", "lo")
        .env_remove("PEERFLOCK_PASSWORD")
        .env_remove("DISPLAY")
        .stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> Output {
    lobby(words).output().unwrap()
}

/// A name that no other run of this test has.
fn name(what: &str) -> String {
    format!("{what} {}", std::process::id())
}

/// Somebody in a room, whose events are read as they come.
struct Visitor {
    process: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
}

impl Visitor {
    fn start(words: &[&str]) -> Self {
        let mut process =
            lobby(words).args(["--json", "--seconds", LIFE]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let events = read(process.stdout.take().unwrap());
        Self { process, events, seen: Vec::new() }
    }

    /// Waits for an event that `wanted` likes.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(seen) = self.seen.iter().find(|event| wanted(event)) {
            return seen.clone();
        }
        let started = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(started.elapsed());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no {what} in {:?}", self.seen),
            }
        }
    }

    /// Everything that comes within `how_long`, after what came before.
    fn settle(&mut self, how_long: Duration) -> &[Value] {
        let started = Instant::now();
        while let Ok(event) = self.events.recv_timeout(how_long.saturating_sub(started.elapsed())) {
            self.seen.push(event);
        }
        &self.seen
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

fn read(output: ChildStdout) -> Receiver<Value> {
    let (sender, receiver) = sync_channel(1_024);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

fn is(event: &Value, what: &str) -> bool {
    event["event"] == what
}

fn said(events: &[Value], text: &str) -> Vec<Value> {
    events.iter().filter(|event| is(event, "said") && event["text"] == text).cloned().collect()
}

#[test]
fn a_room_that_one_process_opens_is_listed_by_another() {
    let room = name("listed");
    let mut host = Visitor::start(&["create", "--name", &room, "--password", "dusk", "--players", "5", "--player", "Ada"]);
    host.until("opening", |event| is(event, "opened"));
    let started = Instant::now();
    let listed = loop {
        let output = run(&["list", "--json", "--seconds", "2"]);
        assert!(output.status.success(), "{output:?}");
        let rooms: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        match rooms.into_iter().find(|listed| listed["name"] == *room) {
            Some(listed) if listed["round_trip_ms"].is_number() => break listed,
            _ => assert!(started.elapsed() < PATIENCE, "not listed"),
        }
    };
    assert_eq!(listed["game"], "Murmuration");
    assert_eq!(listed["stage"], "gathering");
    assert_eq!((&listed["players"], &listed["players_max"], &listed["locked"]), (&1.into(), &5.into(), &true.into()));

    let table = run(&["list", "--seconds", "2"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let line = table.lines().find(|line| line.contains(&*room)).unwrap();
    assert!(line.contains("1 of 5") && line.contains("locked"), "{line}");
}

#[test]
fn a_wrong_password_exits_with_2_and_the_right_one_comes_in() {
    let room = name("locked");
    let mut ada = Visitor::start(&["create", "--name", &room, "--password", "dusk", "--player", "Ada"]);
    let ticket = ada.until("opening", |event| is(event, "opened"))["ticket"].as_str().unwrap().to_owned();

    let wrong = run(&["join", &room, "--password", "dawn", "--player", "Bo"]);
    let words = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{words}");
    assert!(words.contains("password does not open this room") && words.contains("ask whoever invited you"), "{words}");
    let none = run(&["join", &ticket, "--player", "Bo"]);
    assert_eq!(none.status.code(), Some(2), "{none:?}");

    let mut bo = Visitor::start(&["join", &room, "--password", "dusk", "--player", "Bo", "--say", "hello Ada"]);
    bo.until("joining", |event| is(event, "joined"));
    ada.until("coming", |event| is(event, "came") && event["name"] == "Bo");
    ada.until("line", |event| is(event, "said") && event["text"] == "hello Ada" && event["from"] == "Bo");
    ada.type_line("hello Bo");
    bo.until("line", |event| is(event, "said") && event["text"] == "hello Bo" && event["from"] == "Ada");

    // By invitation, too; and each line is seen once by everybody who was there.
    let mut cy = Visitor::start(&["join", &ticket, "--password", "dusk", "--player", "Cy", "--say", "me too"]);
    cy.until("joining", |event| is(event, "joined"));
    for visitor in [&mut ada, &mut bo, &mut cy] {
        visitor.until("line", |event| is(event, "said") && event["text"] == "me too");
    }
    for (visitor, lines) in [(&mut ada, 3), (&mut bo, 3), (&mut cy, 1)] {
        let seen = visitor.settle(Duration::from_millis(500)).to_vec();
        for text in ["hello Ada", "hello Bo", "me too"] {
            assert!(said(&seen, text).len() <= 1, "{text} more than once in {seen:?}");
        }
        assert_eq!(seen.iter().filter(|event| is(event, "said")).count(), lines, "{seen:?}");
    }
    let from_me = said(&ada.seen, "hello Bo");
    assert_eq!((from_me[0]["me"].as_bool(), said(&bo.seen, "hello Bo")[0]["me"].as_bool()), (Some(true), Some(false)));
}

#[test]
fn a_room_outlives_whoever_opened_it() {
    let room = name("outlives");
    let mut ada = Visitor::start(&["create", "--name", &room, "--player", "Ada"]);
    ada.until("opening", |event| is(event, "opened"));
    let mut bo = Visitor::start(&["join", &room, "--player", "Bo"]);
    bo.until("joining", |event| is(event, "joined"));
    ada.until("coming", |event| is(event, "came"));
    drop(ada); // SIGKILL: no goodbye.
    bo.until("leaving", |event| is(event, "left") && event["name"] == "Ada");
    let mut cy = Visitor::start(&["join", &room, "--player", "Cy", "--say", "anybody here?"]);
    cy.until("joining", |event| is(event, "joined"));
    bo.until("line", |event| is(event, "said") && event["text"] == "anybody here?");
}

#[test]
fn a_room_that_is_not_there_and_a_command_without_a_display_say_what_to_do() {
    let nowhere = run(&["join", &name("nowhere")]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("`cargo lobby -- list` shows what there is"));

    let windowless = run(&[]);
    assert!(windowless.status.success(), "{windowless:?}");
    let words = String::from_utf8_lossy(&windowless.stderr);
    assert!(words.contains("no display") && words.contains("--help"), "{words}");
    assert!(!windowless.stdout.is_empty(), "it lists instead");
}

#[test]
fn one_line_is_said_and_heard_and_the_list_is_sieved() {
    let room = name("sieve");
    let mut ada = Visitor::start(&["create", "--name", &room, "--mode", "marsh", "--player", "Ada"]);
    ada.until("opening", |event| is(event, "opened"));
    let said = run(&["say", &room, "back in five", "--player", "Bo", "--json"]);
    assert!(said.status.success(), "{said:?}");
    ada.until("line", |event| is(event, "said") && event["text"] == "back in five" && event["from"] == "Bo");
    ada.until("farewell", |event| is(event, "left") && event["name"] == "Bo");

    let listed = |words: &[&str]| -> Vec<Value> {
        let output = run(&[&["list", "--json", "--seconds", "2"], words].concat());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let here = |rooms: &[Value]| rooms.iter().any(|listed| listed["name"] == *room);
    let found = listed(&["--search", &format!("{} MARSH", room.to_uppercase()), "--free", "--open"]);
    assert!(here(&found) && found[0]["mode"] == "marsh", "{found:?}");
    assert!(!here(&listed(&["--search", &format!("{room} moor")])));

    let nowhere = run(&["say", "a room that nobody ever opened", "hello?"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8(nowhere.stderr).unwrap().contains("lobby -- list"), "it says what to do");
}
