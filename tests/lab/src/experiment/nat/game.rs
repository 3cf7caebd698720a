//! The game itself, as players at home have it: on a LAN without internet, in two homes, and at home with one that can be reached. All they
//! share is the name of the mesh, its password, and where there is an internet the address of a directory.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::net::{Nat, Net, Set};
use super::{DIRECTORY_PORT, Failure, Killed, Role, build, ready, start};
use crate::report::{self, Report};

/// How long two may take to meet: they look for others by name, and find a way through their routers.
const MEET_WITHIN: Duration = Duration::from_secs(20);
/// How long they play.
const PLAY: Duration = Duration::from_secs(8);
/// How long nothing moves before their worlds are compared.
const QUIET: Duration = Duration::from_secs(1);
/// How long a report may take.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// How long the directory serves: longer than all of it.
const SERVES_SECONDS: u64 = 60;
/// Birds that each brings.
const BIRDS: u64 = 40;
/// Lines that each says.
const LINES: u64 = 5;
/// News that wait to be read.
const NEWS_MAX: usize = 1_024;

/// The three set-ups, with the game at `game`.
pub(super) fn run(game: &Path, report: &mut Report) -> Result<(), Failure> {
    let sets = [
        ("a LAN without internet", Set::Isolated),
        ("two homes", Set::Homes(Nat::Port, Nat::Symmetric)),
        ("one at home, one that can be reached", Set::Reachable(Nat::Symmetric)),
    ];
    let mut cells = Vec::new();
    for (name, set) in sets {
        let cell = one(game, name, set)?;
        report::complain(&format!("nat: the game in {name}: {cell}"));
        cells.push(cell);
    }
    report.field("set_ups_in_which_the_game_plays", cells.iter().filter(|cell| cell["plays"] == true).count());
    report.field("cells", Value::Array(cells));
    Ok(())
}

fn one(game: &Path, name: &str, set: Set) -> Result<Value, Failure> {
    let net = build(set, 0)?;
    let directory = (set != Set::Isolated).then(|| net.member(DIRECTORY_PORT));
    let serves = Role::Serves(DIRECTORY_PORT);
    let _directory = match directory {
        Some(_) => Some(ready(start(&net, "c", "Directory", SERVES_SECONDS, serves, false)?)?),
        None => None,
    };
    let began = Instant::now();
    let mut players = Vec::new();
    for (host, player, seed) in [("a", "Ann", 1), ("b", "Ben", 2)] {
        let at = directory.map(|at| if host == "a" { at.for_a } else { at.for_b }.to_string());
        let settings = json!({
            "name": player, "bot": true, "mesh": format!("an evening at {name}"), "password": "dusk", "join": null,
            "neighbors": [2, 3, 7], "lan": true, "discover": true, "interface": null, "directories": at.into_iter().collect::<Vec<_>>(),
            "birds": BIRDS, "seed": seed, "tick_rate": 30.0, "round_seconds": 90, "measured": true,
        });
        players.push(Player::start(&net, host, game, &settings)?);
    }
    let met = |news: &Value| news["Status"]["members"] == 2 && news["Status"]["birds"] == 2 * BIRDS;
    let mut meets = true;
    for player in &players {
        meets &= player.until(MEET_WITHIN, met).is_some();
    }
    let met_after = began.elapsed();
    for player in &mut players {
        player.order(&json!({"Play": {"chat": LINES, "seconds": PLAY.as_secs_f64()}}))?;
    }
    std::thread::sleep(PLAY);
    players.iter_mut().try_for_each(|player| player.order(&json!("Quiet")))?;
    std::thread::sleep(QUIET);
    let mut reports = Vec::new();
    for player in &mut players {
        player.order(&json!("Report"))?;
        let told = player.until(REPORT_WITHIN, |news| news["Report"].is_object());
        reports.push(told.map(|news| news["Report"].clone()).unwrap_or_default());
    }
    let [ann, ben] = &reports[..] else { return Err(Failure::Unmet("there are two players".into())) };
    let same_world = ann["state_hash"].is_string() && ann["state_hash"] == ben["state_hash"];
    let birds = [ann, ben].iter().all(|report| report["birds"] == 2 * BIRDS);
    let heard = |listener: &Value, speaker: &Value| {
        let by: BTreeMap<String, Vec<u64>> = serde_json::from_value(listener["chat_received"].clone()).unwrap_or_default();
        let lines = by.get(speaker["peer"].as_str().unwrap_or_default()).cloned().unwrap_or_default();
        lines == (0..LINES).collect::<Vec<_>>()
    };
    let chat = heard(ann, ben) && heard(ben, ann);
    let stall = [ann, ben].iter().filter_map(|report| report["longest_standstill_ms"].as_u64()).max();
    Ok(json!({
        "set": name, "plays": meets && same_world && birds && chat, "met": meets, "met_seconds": (met_after.as_secs_f64() * 10.0).round() / 10.0,
        "same_world": same_world, "all_birds": birds, "every_line_once_in_order": chat, "longest_standstill_ms": stall,
    }))
}

/// One player's process, and what it says.
struct Player {
    leash: ChildStdin,
    news: Receiver<Value>,
    _process: Killed,
}

impl Player {
    fn start(net: &Net, host: &str, game: &Path, settings: &Value) -> Result<Self, Failure> {
        let failed = |source| Failure::Start { program: game.display().to_string(), source };
        let mut command = net.inside(host);
        command.arg(game).arg("--child").env("PEERFLOCK_INTERFACE", "all").env_remove("DISPLAY");
        // Each has a home of its own: what they remember of others is nobody else's.
        command.env("XDG_CONFIG_HOME", std::env::temp_dir().join(format!("pflab-{}-{host}", std::process::id())));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process: Child = command.spawn().map_err(failed)?;
        let broken = || failed(std::io::ErrorKind::BrokenPipe.into());
        let (leash, output) = process.stdin.take().zip(process.stdout.take()).ok_or_else(broken)?;
        let (sender, news) = sync_channel(NEWS_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(news) = serde_json::from_str(&line) else { break };
                if sender.send(news).is_err() {
                    break;
                }
            }
        });
        let mut player = Self { leash, news, _process: Killed(process) };
        player.order(&json!({"Begin": settings}))?;
        Ok(player)
    }

    fn order(&mut self, order: &Value) -> Result<(), Failure> {
        let written = writeln!(self.leash, "{order}").and_then(|()| self.leash.flush());
        written.map_err(|source| Failure::Start { program: "the game".into(), source })
    }

    /// The first news like that; None if none comes in time.
    fn until(&self, within: Duration, is_it: impl Fn(&Value) -> bool) -> Option<Value> {
        let end = Instant::now() + within;
        loop {
            let news = self.news.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
            if is_it(&news) {
                return Some(news);
            }
        }
    }
}
