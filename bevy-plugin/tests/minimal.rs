//! The minimal example, as two processes that know nothing of each other but the name and the password.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// The most lines that it may take, without blank ones and comments.
const LINES_MAX: usize = 25;

/// Lines that may wait to be read; the example waits when there are more.
const LINES_WAITING_MAX: usize = 100;

/// How long the two may take to meet.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn the_example_is_small() {
    let source = include_str!("../examples/minimal.rs");
    let lines = source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    assert!(lines <= LINES_MAX, "{lines} lines of code");
}

#[test]
fn two_processes_meet_see_each_other_and_talk() {
    let games = [Game::start(), Game::start()];
    for game in &games {
        let start = Instant::now();
        let (mut greeted, mut seen) = (false, false);
        while !(greeted && seen) {
            let left = PATIENCE.checked_sub(start.elapsed()).expect("one did not see or hear the other in time");
            let line = game.lines.recv_timeout(left).expect("one did not see or hear the other in time");
            greeted |= line.ends_with(" says hello");
            seen |= line.ends_with(" has 100 health");
        }
    }
}

/// One process of the example; ended with the test.
struct Game {
    process: Child,
    lines: Receiver<String>,
}

impl Game {
    fn start() -> Self {
        let mut process = Command::new(example())
            .env("PEERFLOCK_INTERFACE", "lo")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is there: `cargo test` builds it, `cargo build --example minimal` too");
        let output = BufReader::new(process.stdout.take().expect("its output was asked for"));
        let (told, lines) = sync_channel(LINES_WAITING_MAX);
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| told.send(line)));
        Self { process, lines }
    }
}

impl Drop for Game {
    fn drop(&mut self) {
        // Gone already is as good.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

/// Beside this test: `target/<profile>/examples`.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("this test is a file");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("cargo puts tests into <profile>/deps");
    profile.join("examples").join(format!("minimal{}", std::env::consts::EXE_SUFFIX))
}
