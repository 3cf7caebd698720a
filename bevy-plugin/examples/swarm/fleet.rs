//! Many processes that play the scene together on this machine, and what all of them came to.
//!
//! Where the system allows it they run in a network namespace of their own, in which there is no traffic but theirs.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::ages::Ages;
use super::cpu::machine_ms;
use super::measure::{Found, JOIN};
use super::part::{LINGER, Part, SETTLE, clock_micros};
use super::wire::Wire;

/// How long the first process may take until others can join it.
const OPENING: Duration = Duration::from_secs(10);
/// How long all together take to start, and each adds to it.
const STARTING: Duration = Duration::from_millis(1_500);
const STARTING_EACH: Duration = Duration::from_millis(200);
/// How much later than it should a process may say what it found.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of one process that wait to be read; it waits when there are more.
const LINES_WAITING_MAX: usize = 64;
/// So much is kept of what a process complained of.
const COMPLAINT_CHARS: usize = 600;

/// Why a run has no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FleetError {
    /// A process could not be started.
    #[error("cannot start a process: {0}; run fewer peers, or close other programs")]
    Start(#[from] io::Error),
    /// The first process never said where to join it.
    #[error("the first process did not open within {} seconds; it said {complaint:?}", OPENING.as_secs())]
    NotOpened {
        /// What it said of it.
        complaint: String,
    },
    /// Not one process said what it found.
    #[error("no process lived to tell what it found; the first to complain said {complaint:?}")]
    NothingFound {
        /// What the first one said.
        complaint: String,
    },
}

/// This program again in a network namespace of its own, with these arguments; none where the system does not allow it.
pub(crate) fn isolated(arguments: &[String]) -> Option<Command> {
    const UP: &str = "ip link set lo up";
    let mut probe = Command::new("unshare");
    probe.args(["-rn", "sh", "-c", UP]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let mut command = Command::new("unshare");
    command.args(["-rn", "sh", "-c", &format!("{UP} && exec \"$0\" \"$@\"")]).arg(program).args(arguments);
    Some(command)
}

/// Runs this program once for each of `parts`, the first one before the others join it, and adds up what they find. `verb` is
/// what each command line begins with.
pub(crate) fn run(verb: &[&str], parts: &[Part]) -> Result<Map<String, Value>, FleetError> {
    let mut fleet = Fleet { members: Vec::new() };
    let mut join = None;
    for part in parts {
        let member = fleet.start(verb, &part.joining(join.clone()))?;
        if join.is_none() {
            match member.line_with(JOIN, Instant::now() + OPENING) {
                Some(line) => join = line.strip_prefix(JOIN).map(str::to_owned),
                None => return Err(FleetError::NotOpened { complaint: member.complaint() }),
            }
        }
    }
    let Some(part) = parts.first() else { return Err(FleetError::NothingFound { complaint: String::new() }) };
    sleep_until(part.begin_micros());
    let (wire, machine_ms, begun) = (Wire::read(), machine_ms(), Instant::now());
    sleep_until(part.end_micros());
    let window = Window {
        seconds: begun.elapsed().as_secs_f64(),
        wire: Wire::since(wire.as_ref()),
        machine_ms: self::machine_ms().zip(machine_ms).map(|(now, before)| now - before),
    };
    let deadline = Instant::now() + SETTLE + LINGER + PATIENCE;
    let found: Vec<Option<Found>> = fleet.members.iter_mut().map(|member| member.found(deadline)).collect();
    let complaint = fleet.members.iter().map(Member::complaint).find(|complaint| !complaint.is_empty()).unwrap_or_default();
    if found.iter().all(Option::is_none) {
        return Err(FleetError::NothingFound { complaint });
    }
    Ok(figures(parts, &found, &window, &complaint))
}

/// Parts for so many processes, each with its share of the bodies.
pub(crate) fn shares(part: &Part, peers: u32) -> Vec<Part> {
    let part = part.clone().begun(starting(peers));
    let first = |peer: u32| (u64::from(part.entities) * u64::from(peer) / u64::from(peers)) as u32;
    (0..peers).map(|peer| part.share(peer, first(peer), first(peer + 1) - first(peer))).collect()
}

/// How long so many processes take to start.
pub(crate) fn starting(processes: u32) -> Duration {
    STARTING + STARTING_EACH * processes
}

/// What was counted of all together while each measured.
#[derive(Clone, Copy, Debug)]
struct Window {
    seconds: f64,
    wire: Option<Wire>,
    /// CPU time of the whole machine.
    machine_ms: Option<f64>,
}

/// What all found, by the names under which it is shown.
fn figures(parts: &[Part], found: &[Option<Found>], window: &Window, complaint: &str) -> Map<String, Value> {
    let told = || found.iter().flatten();
    let total: u32 = parts.iter().map(|part| part.entities).sum();
    let owners = || told().filter(|found| found.own > 0);
    let ticks_per_second = owners().map(|found| found.ticks as f64 / found.seconds).sum::<f64>() / owners().count() as f64;
    let receivers = parts.iter().filter(|part| part.others().is_some_and(|others| others > 0));
    // What is due: every tick of every body, at every process that does not own it.
    let entities_due: f64 = receivers.clone().filter_map(Part::others).map(f64::from).sum();
    let updates_due = entities_due * ticks_per_second;
    let seen: f64 = told().map(|found| f64::from(found.seen)).sum();
    let watched: f64 = told().map(|found| f64::from(found.watched) * found.seconds).sum();
    let updates_per_second = told().map(|found| found.updates as f64).sum::<f64>() / watched;
    // Of those that are not there at all, no update arrived.
    let updates_seen = updates_per_second * seen;
    let mut ages = Ages::default();
    told().for_each(|found| ages.merge(&found.ages));
    let cpu = told().map(|found| Some(found.cpu_ms? / found.seconds)).sum::<Option<f64>>();
    // Whoever else was busy took from what this needed, and spoils the figures where there was not enough.
    let others = cpu.zip(window.machine_ms).map(|(cpu, machine)| (machine / window.seconds - cpu).max(0.0));
    let bytes = window.wire.map(|wire| wire.bytes as f64 / window.seconds);
    let at_rest: u32 = told().map(|found| found.at_rest).sum();
    let figures = json!({
        "bytes_per_entity_update": bytes.map(|bytes| bytes / updates_due),
        "bytes_per_update_seen": bytes.map(|bytes| bytes / updates_seen),
        "kilobytes_per_second_per_receiver": bytes.map(|bytes| bytes / 1_000.0 / receivers.count() as f64),
        "cpu_ms_per_second_total": cpu,
        "cpu_ms_per_second_others": others,
        "state_age_p50_ms": ages.quantile_ms(0.5),
        "state_age_p99_ms": ages.quantile_ms(0.99),
        "state_age_mean_ms": ages.mean_ms(),
        "updates_seen_per_entity_per_second": updates_per_second,
        "ticks_per_second": ticks_per_second,
        "frames_per_second": told().map(|found| found.frames as f64 / found.seconds).sum::<f64>() / told().count() as f64,
        "entities_seen": seen / entities_due,
        "entities_converged": f64::from(at_rest) / (f64::from(total) * parts.len() as f64),
        "datagrams_dropped_per_second": window.wire.and_then(|wire| Some(wire.dropped? as f64 / window.seconds)),
        "processes": parts.len(),
        "processes_failed": found.iter().filter(|found| found.is_none()).count(),
    });
    let mut figures = if let Value::Object(figures) = figures { figures } else { Map::new() };
    if !complaint.is_empty() {
        figures.insert("complaint".into(), complaint.into());
    }
    figures
}

fn sleep_until(micros: u64) {
    thread::sleep(Duration::from_micros(micros.saturating_sub(clock_micros())));
}

/// The processes of one run; those that still run end with it.
struct Fleet {
    members: Vec<Member>,
}

impl Fleet {
    fn start(&mut self, verb: &[&str], part: &Part) -> Result<&Member, FleetError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(verb.iter().map(OsString::from)).args(part.arguments());
        command.env("PEERFLOCK_INTERFACE", "lo");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (said, complained) = (lines(child.stdout.take()), lines(child.stderr.take()));
        self.members.push(Member { child, said, complained });
        Ok(&self.members[self.members.len() - 1])
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for member in &mut self.members {
            // Ended already, mostly.
            _ = member.child.kill();
            _ = member.child.wait();
        }
    }
}

/// One process.
struct Member {
    child: Child,
    said: Receiver<String>,
    complained: Receiver<String>,
}

impl Member {
    /// What it found, unless it failed or says nothing until then.
    fn found(&mut self, deadline: Instant) -> Option<Found> {
        let found = serde_json::from_str(&self.line_with("{", deadline)?).ok()?;
        // It lingers for the others, then ends; one that does not is ended with the fleet.
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        Some(found)
    }

    /// The next line that begins so.
    fn line_with(&self, start: &str, deadline: Instant) -> Option<String> {
        loop {
            match self.said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    if line.starts_with(start) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The first of what it complained of; nothing if it did not.
    fn complaint(&self) -> String {
        let lines: Vec<String> = self.complained.try_iter().filter(|line| !line.trim().is_empty()).collect();
        lines.join(" ").chars().take(COMPLAINT_CHARS).collect()
    }
}

/// Reads in a thread, so that nobody waits for a process that says nothing. What is too much to keep is read all the same.
fn lines(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_WAITING_MAX);
    if let Some(output) = output {
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                _ = sender.try_send(line);
            }
        });
    }
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(own: u32, seen: u32, updates: u64) -> Option<Found> {
        Some(Found {
            own,
            seen,
            updates,
            at_rest: own + seen,
            watched: 10,
            seconds: 2.0,
            ticks: 120,
            cpu_ms: Some(50.0),
            ..Found::default()
        })
    }

    fn figures_of(found: &[Option<Found>]) -> Map<String, Value> {
        let part = shares_of(100);
        let wire = Some(Wire { bytes: 60_000, dropped: Some(4) });
        figures(&part, found, &Window { seconds: 2.0, wire, machine_ms: Some(400.0) }, "")
    }

    fn shares_of(entities: u32) -> Vec<Part> {
        #[derive(Debug, clap::Parser)]
        struct Program {
            #[command(flatten)]
            part: Part,
        }
        let arguments = ["program", "--entities", &entities.to_string()].map(str::to_owned);
        shares(&<Program as clap::Parser>::try_parse_from(arguments).expect("arguments that are understood").part, 2)
    }

    #[test]
    fn bytes_are_divided_by_the_updates_that_were_due() {
        // 50 bodies at each of two, 60 ticks a second: 6,000 updates a second for 30,000 bytes.
        let figures = figures_of(&[found(50, 50, 1_200), found(50, 50, 1_200)]);
        assert_eq!((&figures["bytes_per_entity_update"], &figures["bytes_per_update_seen"]), (&5.0.into(), &5.0.into()));
        assert_eq!((&figures["cpu_ms_per_second_total"], &figures["cpu_ms_per_second_others"]), (&50.0.into(), &150.0.into()));
        assert_eq!(figures["entities_converged"], 1.0);
    }

    #[test]
    fn who_sends_less_gains_nothing_by_it() {
        let figures = figures_of(&[found(50, 50, 600), found(50, 25, 600)]);
        assert_eq!(figures["bytes_per_entity_update"], 5.0);
        assert!((figures["bytes_per_update_seen"].as_f64().expect("a figure") - 30_000.0 / (75.0 * 30.0)).abs() < 1e-9);
        assert_eq!((&figures["entities_seen"], &figures["entities_converged"]), (&0.75.into(), &0.875.into()));
    }

    #[test]
    fn a_process_that_failed_is_counted() {
        let figures = figures_of(&[found(50, 50, 1_200), None]);
        assert_eq!((&figures["processes"], &figures["processes_failed"]), (&2.into(), &1.into()));
        assert_eq!((&figures["entities_seen"], &figures["entities_converged"]), (&0.5.into(), &0.5.into()));
    }

    #[test]
    fn every_body_has_one_owner() {
        let parts = shares_of(7);
        let bodies: Vec<u32> = parts.iter().flat_map(|part| part.first..part.first + part.entities).collect();
        assert_eq!(bodies, (0..7).collect::<Vec<_>>());
        assert!(parts.iter().all(|part| part.others() == Some(7 - part.entities)));
    }
}
