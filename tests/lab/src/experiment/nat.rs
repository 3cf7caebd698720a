//! Real processes behind real address translation: who gets a link of its own, how soon, and does everybody play?
//!
//! Each pair gets network namespaces of its own: a small internet, a member that can be reached, and two players behind routers made of
//! nft rules, of the four sorts that homes have, and some odder set-ups. Beside each pair, in the same namespaces, the naive puncher tries the
//! same. Nothing leaves them. It needs root on Linux; elsewhere it says so and does nothing.

mod game;
mod naive;
pub(super) mod net;
pub(crate) mod peer;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::net::{Member, Net, Set, Third};
use super::Failure;
use crate::report::{self, Report};

/// How long each of a pair plays, once it runs.
const PLAY_SECONDS: u64 = 6;
/// The same where they have to find each other by a directory first, from their start.
const ALONE_SECONDS: u64 = 12;
/// How long the doctor takes, at most.
const DOCTOR_SECONDS: u64 = 6;
/// Where the member that can be reached listens.
const MEMBER_PORT: u16 = 4_433;
/// Where a directory does, and at the next one.
const DIRECTORY_PORT: u16 = 4_434;
/// When one gets IPv4, too.
const FOUR_AFTER_SECONDS: u64 = 5;
/// When one that moves does.
const MOVE_AFTER_SECONDS: u64 = 2;
/// Our own bound: a link within this is soon enough.
const DIRECT_SECONDS: f64 = 2.0;
/// What iroh says of itself, out of 16 pairs.
const IROH_PUBLISHED: usize = 13;
/// The first line of those that serve others, once they do.
pub(crate) const READY: &str = "ready";

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Times that each pair is tried.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Only pairs whose name contains this, such as `symmetric` or `double`.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Pairs tried at the same time.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    at_once: u32,
    /// Without our own ways through: what is left is dialing addresses that are known. (The naive puncher is another one: it runs anyway.)
    #[arg(long)]
    plain: bool,
    /// The game itself instead, in three set-ups: its program, such as `target/debug/murmuration`.
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["runs", "only", "plain"])]
    game: Option<PathBuf>,
}

/// What came of one run of one pair.
#[derive(Clone, Debug)]
struct Outcome {
    direct: bool,
    plays: bool,
    seconds: Option<f64>,
    packets: u64,
    why: Option<String>,
    /// Whether they were linked by way of a directory.
    relayed: bool,
    /// Whether the naive puncher got through; None where nobody could introduce its two ends.
    naive: Option<bool>,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({"runs": options.runs, "only": options.only, "plain": options.plain});
    let mut report = Report::new("nat", settings, None);
    if let Err(why) = net::possible() {
        // Said, not silent: an empty table would look like a good one.
        report::complain(&format!("nat: skipped, {why}"));
        report.field("skipped", why);
        return Ok(report);
    }
    net::sweep();
    if let Some(game) = &options.game {
        game::run(game, &mut report)?;
        return Ok(report);
    }
    let sets: Vec<Set> = Set::all()
        .into_iter()
        .filter(|set| options.only.as_ref().is_none_or(|only| set.name().contains(only.as_str())))
        .collect();
    let no_mapper = net::maps_ports().err();
    if let Some(why) = &no_mapper {
        report::complain(&format!("nat: routers that open ports are left out, {why}"));
        report.field("left_out", why.clone());
    }
    let mut cells = Vec::new();
    let (mut direct_pairs, mut direct_soon, mut matrix, mut plays_pairs, mut doctors) = (0, 0, 0, 0, 0);
    let mut naive_pairs = 0;
    for set in sets.iter().filter(|set| no_mapper.is_none() || !matches!(set, Set::Mapped(..))) {
        // Alone, so that no crowd of players makes it late.
        let doctor = (set.third() != Third::Nobody).then(|| diagnosed(*set, options.runs as usize)).transpose()?;
        let mut outcomes = Vec::new();
        while outcomes.len() < options.runs as usize {
            let batch = (options.runs as usize - outcomes.len()).min(options.at_once as usize);
            let first = outcomes.len();
            let runs: Vec<Result<Outcome, Failure>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..batch).map(|n| scope.spawn(move || one(*set, first + n, options.plain))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap_or_else(|_| Err(Failure::Unmet("a run broke".into()))))
                    .collect()
            });
            for run in runs {
                outcomes.push(run?);
            }
        }
        let count = |of: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| of(outcome)).count();
        let (direct, plays) = (count(|outcome| outcome.direct), count(|outcome| outcome.plays));
        let soon = count(|outcome| outcome.seconds.is_some_and(|seconds| seconds <= DIRECT_SECONDS));
        let mut seconds: Vec<f64> = outcomes.iter().filter_map(|outcome| outcome.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let packets = outcomes.iter().map(|outcome| outcome.packets).max().unwrap_or(0);
        let worst = seconds.last().copied();
        let (relayed, naive) = (count(|outcome| outcome.relayed), count(|outcome| outcome.naive == Some(true)));
        doctors += usize::from(doctor == Some(true));
        let (a, b) = set.ends();
        let why: Vec<&String> = outcomes.iter().filter_map(|outcome| outcome.why.as_ref()).collect();
        report::complain(&format!(
            "nat: {:44} direct {direct}/{runs}, within 2 s {soon}/{runs}, relayed {relayed}/{runs}, plays {plays}/{runs}, {} s, {packets} packets, \
             naive {naive}/{runs}, doctor {}{}",
            set.name(),
            worst.map_or_else(|| "-".into(), |worst| format!("{worst:.2}")),
            doctor.map_or("-", |doctor| if doctor { "true" } else { "WRONG" }),
            why.first().map_or_else(String::new, |why| format!(" ({why})")),
            runs = options.runs,
        ));
        if set.is_of_matrix() {
            matrix += 1;
            // A pair counts where nearly all of its runs do.
            direct_pairs += usize::from(direct * 100 >= options.runs as usize * 97);
            direct_soon += usize::from(soon * 100 >= options.runs as usize * 97);
            plays_pairs += usize::from(plays == options.runs as usize);
            naive_pairs += usize::from(naive * 100 >= options.runs as usize * 97);
        }
        cells.push(json!({
            "a": a, "b": b, "set": set.name(), "runs": options.runs, "direct": direct, "direct_within_2s": soon, "plays": plays,
            "naive_direct": naive, "relayed": relayed, "doctor_true": doctor, "seconds": worst, "seconds_median": seconds.get(seconds.len() / 2), "packets": packets,
        }));
    }
    report.field("pairs", matrix);
    report.field("pairs_direct", direct_pairs);
    report.field("pairs_direct_within_2s", direct_soon);
    report.field("pairs_naive_direct", naive_pairs);
    report.field("pairs_that_play", plays_pairs);
    report.field("cells_in_which_the_doctor_is_right", doctors);
    report.field("iroh_published", IROH_PUBLISHED);
    report.field("cells", Value::Array(cells));
    Ok(report)
}

/// One pair, once.
fn one(set: Set, run: usize, plain: bool) -> Result<Outcome, Failure> {
    let net = build(set, run)?;
    let third = set.third();
    let (port, alone) = (if third == Third::Directory { DIRECTORY_PORT } else { MEMBER_PORT }, third == Third::Directory);
    let at = net.member(port);
    let _third = match third {
        Third::Nobody => None,
        Third::Player => Some(ready(start(&net, "c", "Member", PLAY_SECONDS + 4, Role::Listens(port), false)?)?),
        Third::Directory => Some(ready(start(&net, "c", "Directory", ALONE_SECONDS + 4, Role::Serves(port), false)?)?),
    };
    let role = |address| match third {
        Third::Nobody => Role::Finds,
        Third::Player => Role::Joins(address),
        Third::Directory => Role::Asks(address),
    };
    let seconds = if alone { ALONE_SECONDS } else { PLAY_SECONDS };
    let a = start(&net, "a", "Ann", seconds, role(at.for_a), plain)?;
    let b = start(&net, "b", "Ben", seconds, role(at.for_b), plain)?;
    let unmoved = |why| Failure::Unmet(format!("the player could not be moved: {why}"));
    match set {
        Set::Moves(..) => {
            std::thread::sleep(Duration::from_secs(MOVE_AFTER_SECONDS));
            net.move_a().map_err(unmoved)?;
        }
        Set::AloneThenBoth => {
            std::thread::sleep(Duration::from_secs(FOUR_AFTER_SECONDS));
            net.give_four().map_err(unmoved)?;
        }
        _ => {}
    }
    let (a, b) = (told(a)?, told(b)?);
    let flag = |of: &Value, key: &str| of[key].as_bool().unwrap_or(false);
    let other = |of: &Value, key: &str, name: &str| of[key][name].as_f64();
    // Seen, heard without a gap, and nobody thought that anybody had gone.
    let plays =
        |of: &Value, name: &str| flag(&of["heard"], name) && flag(&of["seen"], name) && of["left"] == 0 && of["gaps"] == 0;
    let (met, linked) = (other(&a, "met", "Ben"), other(&a, "linked", "Ben"));
    let linked_b = other(&b, "linked", "Ann").is_some();
    let why = [&a, &b].into_iter().find_map(|of| of["error"].as_str().map(str::to_owned));
    Ok(Outcome {
        direct: linked.is_some() && linked_b,
        plays: plays(&a, "Ben") && plays(&b, "Ann") && a["state"] == b["state"],
        seconds: met.zip(linked).map(|(met, linked)| (linked - met).max(0.0)),
        packets: a["packets"].as_u64().unwrap_or(0).max(b["packets"].as_u64().unwrap_or(0)),
        why,
        relayed: other(&a, "relayed", "Ben").is_some() && other(&b, "relayed", "Ann").is_some(),
        naive: (third != Third::Nobody).then(|| naively(&net)).transpose()?,
    })
}

/// Whether the naive puncher gets through.
fn naively(net: &Net) -> Result<bool, Failure> {
    let at = net.member(naive::PORT);
    let _introducer = ready(start(net, "c", "Introducer", 1, Role::Introduces(naive::PORT), false)?)?;
    let a = start(net, "a", "Ann", 1, Role::Punches(at.for_a), false)?;
    let b = start(net, "b", "Ben", 1, Role::Punches(at.for_b), false)?;
    Ok([told(a)?, told(b)?].iter().all(|of| of["heard"] == true))
}

/// Whether the doctor, who asks two that can be reached, says of both routers what they are.
fn diagnosed(set: Set, number: usize) -> Result<bool, Failure> {
    let net = build(set, number)?;
    let ports = [MEMBER_PORT, MEMBER_PORT + 1];
    let mut members = Vec::new();
    for port in ports {
        members.push(ready(start(&net, "c", "Member", DOCTOR_SECONDS, Role::Listens(port), false)?)?);
    }
    let of = |which: fn(&Member) -> SocketAddr| Role::Examines(ports.map(|port| which(&net.member(port))));
    let a = start(&net, "a", "Ann", 1, of(|member| member.for_a), false)?;
    let b = start(&net, "b", "Ben", 1, of(|member| member.for_b), false)?;
    Ok([told(a)?, told(b)?].map(|diagnosis| diagnosis["router"].clone()) == set.routers().map(|router| json!(router)))
}

fn build(set: Set, number: usize) -> Result<Net, Failure> {
    Net::build(set, number).map_err(|why| Failure::Unmet(format!("the network of {} could not be made: {why}", set.name())))
}

/// Waits until one that serves others does.
fn ready(mut child: Child) -> Result<Killed, Failure> {
    let said = child.stdout.as_mut().map(|stdout| BufReader::new(stdout).lines().next());
    let killed = Killed(child);
    match said {
        Some(Some(Ok(line))) if line == READY => Ok(killed),
        other => Err(Failure::Unmet(format!("one that was to serve others said {other:?}"))),
    }
}

/// Ends with whoever holds it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// What somebody at a host does.
#[derive(Clone, Copy)]
enum Role {
    /// A player who can be reached there.
    Listens(u16),
    /// A directory.
    Serves(u16),
    /// A player who joins that one.
    Joins(SocketAddr),
    /// A player who finds others by that directory.
    Asks(SocketAddr),
    /// A player who finds others by name on the LAN.
    Finds,
    /// A doctor who asks these two.
    Examines([SocketAddr; 2]),
    /// Whoever introduces naive punchers.
    Introduces(u16),
    /// One of those.
    Punches(SocketAddr),
}

fn start(net: &Net, host: &str, player: &str, seconds: u64, role: Role, plain: bool) -> Result<Child, Failure> {
    let failed = |source| Failure::Start { program: "a player in a namespace".into(), source };
    let lab = std::env::current_exe().map_err(failed)?;
    let mut command: Command = net.inside(host);
    command.arg(lab).args(["nat-peer", "--player", player, "--seconds", &seconds.to_string()]);
    match role {
        Role::Listens(port) => command.args(["--bind", &format!("[::]:{port}")]),
        Role::Finds => command.arg("--lan"),
        Role::Joins(address) => command.args(["--join", &address.to_string()]),
        Role::Examines([one, two]) => command.args(["--doctor", &format!("{one},{two}")]),
        Role::Serves(port) => command.args(["--serve", &port.to_string()]),
        Role::Asks(address) => command.args(["--directory", &address.to_string()]),
        Role::Introduces(port) => command.args(["--introduce", &port.to_string()]),
        Role::Punches(address) => command.args(["--punch", &address.to_string()]),
    };
    if plain {
        command.arg("--plain");
    }
    // Where the lab itself is kept on loopback, these are in a world of their own.
    command.env("PEERFLOCK_INTERFACE", "all").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if std::env::var_os("RUST_LOG").is_some() {
        command.stderr(Stdio::inherit());
    }
    command.spawn().map_err(failed)
}

fn told(child: Child) -> Result<Value, Failure> {
    let output = child.wait_with_output().map_err(|source| Failure::Start { program: "a player".into(), source })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| Failure::Unmet(format!("a player said nothing of use ({error}): {last:?}")))
}

#[cfg(test)]
mod tests {
    use super::net::Nat;
    use super::*;

    #[test]
    fn the_matrix_is_whole() {
        let sets = Set::all();
        assert_eq!(sets.iter().filter(|set| set.is_of_matrix()).count(), 16);
        for nat in Nat::ALL {
            assert_eq!(sets.iter().filter(|set| set.is_of_matrix() && set.ends().0 == nat.name()).count(), 4);
        }
        assert!(sets.len() > 16);
    }
}
