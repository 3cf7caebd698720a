//! The game as people start it: real processes, real links, on loopback.
//!
//! One test at a time: side by side they would measure each other.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Held by the test that runs.
static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    // A test that failed has spoiled nothing for the next.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The game without a display, and with nothing from the environment that could change it.
fn game(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_murmuration"));
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "MURMURATION_PASSWORD", "PEERFLOCK_INTERFACE"] {
        command.env_remove(name);
    }
    command.args(line.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs a headless game to its end; its report.
fn measured(name: &str, line: &str) -> Value {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.json", std::process::id()));
    let output = game(&format!("--headless {line} --report {}", file.display())).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let report = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(&file).unwrap();
    report
}

fn shown(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{:?}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// A number of the report.
fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {report:#}"))
}

/// A player without a window, who lets others join. Ends with the test.
struct Host {
    process: Child,
    ticket: String,
}

impl Host {
    fn open(line: &str) -> Self {
        let mesh = format!("processes-{}", std::process::id());
        let mut process =
            game(&format!("--terminal --mesh {mesh} {line}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let ticket = lines.find_map(|line| line.split_once("--join ").map(|(_, ticket)| ticket.to_owned()));
        // What else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, ticket: ticket.expect("the host opens its mesh") }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[test]
fn four_peers_meet_play_and_agree() {
    let _turn = my_turn();
    let report = measured("four", "--peers 4 --seconds 5 --seed 1");
    assert_eq!(report["peers"], 4);
    assert_eq!(report["converged"], true);
    for name in ["birds_total", "birds_total_start", "birds_total_end"] {
        assert_eq!(report[name], 240, "{name}");
    }
    assert_eq!((&report["chat_sent"], &report["chat_delivered"]), (&12.into(), &36.into()));
    assert_eq!(report["max_neighbors_seen"], 3, "up to eight peers everybody is linked to everybody");
    // Until the last two know that they are linked, a third passes on a packet or two that they have from each other.
    assert!(number(&report, "redundancy") < 0.001, "in a complete mesh nothing comes twice");
    assert!(number(&report, "state_age_p99_ticks") > 0.0);
    assert!(number(&report, "bytes_per_peer_per_second") > 1_000.0, "links carry what the protocol sends");
    assert!(number(&report, "longest_stall_ms") < 2_000.0);
}

#[test]
fn whoever_opened_the_mesh_is_killed_and_no_bird_is_lost() {
    let _turn = my_turn();
    let report = measured("killed", "--peers 4 --seconds 7 --kill-at 3 --seed 2");
    assert_eq!((&report["peers"], &report["peers_at_end"]), (&4.into(), &3.into()));
    assert_eq!(report["converged"], true);
    assert_eq!((&report["birds_total_start"], &report["birds_total_end"]), (&240.into(), &240.into()));
    assert!(number(&report, "longest_stall_ms") <= 2_000.0, "{report:#}");
    assert!(number(&report, "longest_standstill_ms") > 500.0, "the orphans' standstill is part of it: {report:#}");
}

#[test]
fn twelve_peers_see_each_other_over_four_links_each() {
    let _turn = my_turn();
    let report = measured("twelve", "--peers 12 --max-neighbors 4 --birds 10 --seconds 4 --chat 1 --seed 3");
    assert!(number(&report, "max_neighbors_seen") <= 4.0);
    assert_eq!((&report["birds_total"], &report["chat_delivered"]), (&120.into(), &132.into()));
    for peer in report["per_peer"].as_array().unwrap() {
        assert_eq!((&peer["members"], &peer["birds"]), (&12.into(), &120.into()), "{peer:#}");
    }
}

#[test]
fn a_wrong_password_is_refused_with_a_reason_and_the_mesh_plays_on() {
    let _turn = my_turn();
    let mut host = Host::open("--bots 0 --password nightfall");
    let join = |password: &str| {
        game(&format!("--headless --peers 1 --seconds 2 --join {} --password {password}", host.ticket)).output().unwrap()
    };
    let refused = join("Nightfall");
    assert_eq!(refused.status.code(), Some(2), "{}", shown(&refused));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("refused us") && told.contains("ask whoever invited you for the right one"), "{told}");
    let none = game(&format!("--headless --peers 1 --seconds 2 --join {}", host.ticket)).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "{}", shown(&none));
    assert!(String::from_utf8_lossy(&none.stderr).contains("asks for a password"), "{}", shown(&none));

    let admitted = join("nightfall");
    assert!(admitted.status.success(), "{}", shown(&admitted));
    assert_eq!(host.process.try_wait().unwrap(), None, "the host plays on");
}

#[test]
fn a_ticket_to_nowhere_is_told_as_that() {
    let _turn = my_turn();
    let ticket = Host::open("--bots 0").ticket.clone();
    let output = game(&format!("--headless --peers 1 --seconds 2 --join {ticket}")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody answered"), "{}", shown(&output));
}

#[test]
fn without_a_display_it_says_so_and_plays() {
    let _turn = my_turn();
    let output = game(&format!("--mesh dark-{} --bots 1 --seconds 7", std::process::id())).output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no window, because there is no display"), "{}", shown(&output));
    let lines = String::from_utf8_lossy(&output.stdout);
    assert!(lines.contains("Wren joined") && lines.contains("round 1") && lines.contains("Wren 60"), "{lines}");
}

#[test]
fn a_display_that_is_not_there_is_no_crash_either() {
    let _turn = my_turn();
    let output =
        game(&format!("--mesh gone-{} --bots 0 --seconds 1", std::process::id())).env("DISPLAY", ":4711").output().unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("no window, because") && !told.contains("panicked"), "{told}");
}

/// Nobody is left behind, even if the launcher has no time for a goodbye.
#[cfg(target_os = "linux")]
#[test]
fn bots_end_with_the_process_that_started_them() {
    let _turn = my_turn();
    let mut launcher = game("--headless --peers 3 --seconds 60").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let children = |pid: u32| -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let listed = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        listed.flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
    };
    let begin = Instant::now();
    let mut bots = Vec::new();
    while bots.len() < 3 && begin.elapsed() < Duration::from_secs(10) {
        bots = children(launcher.id());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(bots.len(), 3, "three bots fly");
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let killed = Instant::now();
    // A process of another program may have got the number since: it is not called murmuration.
    let alive = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("murmur"));
    while bots.iter().any(alive) {
        assert!(killed.elapsed() < Duration::from_secs(5), "bots outlive their launcher");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn help_and_mistakes_are_for_people() {
    let help = game("--help").output().unwrap();
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Examples:"));
    let mut mistake = game("--headless --peers 1 --kill-at 3").stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    mistake.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!(mistake.wait().unwrap().code(), Some(2));
    assert!(told.contains("raise --peers"), "{told}");
}
