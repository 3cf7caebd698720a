//! When everybody sends on a beat: how often is each payload received, what does it cost, how late is it?
//!
//! The scene of `cargo lab flood`, played on each stack by the same code over the same links. Every peer sends one message to all
//! in every round of 50 ms, each at its own phase. Three stretches of rounds follow each other without a gap: the first is not
//! measured; of the second bytes and copies are counted, and each message is followed to whenever it arrives; the third keeps the
//! beat. Then two silent seconds in which whatever was missed can be repaired.

mod iroh_gossip;
mod peerflock;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock_proto::Time;
use peerflock_proto::sim::{self, Sim};
use rand::rngs::ChaCha8Rng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::Failure;
use crate::report::{Column, Report};

use self::iroh_gossip::IrohGossip;
use self::peerflock::Peerflock;

const ROUND: Duration = Duration::from_millis(50);
const REPAIR: Duration = Duration::from_secs(2);
/// Rounds after those that are measured.
const ROUNDS_AFTER: u32 = 10;

/// Who sent a message, and which of its messages it is: the first bytes of every payload, so that no two are alike.
const MARK_BYTES: usize = 8;

const NOTES: [&str; 6] = [
    "bytes_per_payload_byte: everything either protocol gives to its links (payloads, headers, control messages), at the size of \
     its own wire encoding and with the length prefix of 4 bytes that both write before each message on a stream, over the bytes \
     of payload delivered. iroh-gossip: postcard, the topic left out as it is sent once per stream. QUIC, UDP and IP headers, \
     acknowledgements and stream openings are counted for neither.",
    "rmr: payloads received again, for each delivery. within_*: part of all deliveries that were due. Bytes and copies are those \
     of the measured rounds, in a steady beat.",
    "Loss: iroh-gossip sends on reliable QUIC streams, so what is lost comes later, by two more one-way latencies, and holds up \
     what follows on that link. Peerflock's frames have the same model; only its datagrams are really lost. The figure --loss is \
     per message for both; no stack pays bytes for what its transport resends.",
    "Peerflock: its default configuration (at most 7 neighbors), heartbeats and keep-alives counted. Joined by introduction to \
     the first peer, then 20 s to settle.",
    "iroh-gossip: its default configuration (5 active neighbors), identities of 32 bytes, no addresses in its membership \
     messages (so they are smaller than in the field). Joined one by one through the first peer, then 20 s to settle.",
    "shortest_path_mean_ms: the mean over all pairs of the fastest way, were everybody linked to everybody.",
];

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh; several numbers for a mesh of each.
    #[arg(long, value_name = "PEERS,...", value_delimiter = ',', default_value = "16",
          value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: Vec<u16>,
    /// Part of what is sent that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = part_of_one)]
    loss: f64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds that are measured.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Rounds before those, not measured.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(..=100_000))]
    warmup: u32,
    /// Payload of each message, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(MARK_BYTES as i64..=1_000))]
    payload: u16,
    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl Options {
    fn network(&self) -> sim::Options {
        sim::Options { seed: self.seed, loss: self.loss, ..sim::Options::default() }
    }
}

/// What a protocol must be able to do to be measured here: run many peers in virtual time, and count.
trait Stack {
    const NAME: &'static str;

    fn now(&self) -> Time;

    /// Lets time pass.
    fn run(&mut self, duration: Duration);

    /// The peer of that index sends to all others, now.
    fn send(&mut self, index: usize, payload: Bytes) -> Result<(), Failure>;

    /// What peers other than its sender were given since the last call, and when.
    fn take_deliveries(&mut self) -> Vec<(Time, Bytes)>;

    /// Since the beginning.
    fn totals(&self) -> Totals;
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// Given to the links by all peers.
    bytes: u64,
    /// Payloads that a peer received and had already.
    duplicates: u64,
}

/// Plays the scene on every stack.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "peers": options.peers, "loss": options.loss, "payload": options.payload, "rounds": options.rounds,
        "warmup": options.warmup,
    });
    // What several nodes get is checked once: nothing but the time that a run takes depends on it.
    sim::remember_signatures();
    let mut columns = Vec::new();
    for peers in options.peers.iter().map(|peers| usize::from(*peers)) {
        columns.push(measure(Peerflock::joined(options, peers)?, options, peers)?);
        columns.push(measure(IrohGossip::joined(options, peers), options, peers)?);
    }
    Ok(Report { scene: "flood", options: settings, seed: Some(options.seed), columns, notes: NOTES.map(str::to_owned).to_vec() })
}

fn measure<S: Stack>(mut stack: S, options: &Options, peers: usize) -> Result<Column, Failure> {
    let measured = options.warmup..options.warmup + options.rounds;
    // When each message was sent: of every round those of all peers, by index.
    let mut sent: Vec<Time> = Vec::new();
    let mut latencies: Vec<Duration> = Vec::new();
    let (mut before, mut after, mut deliveries) = (Totals::default(), Totals::default(), 0);
    for round in 0..measured.end + ROUNDS_AFTER {
        if round == measured.start {
            (before, deliveries) = (stack.totals(), 0);
        }
        play(&mut stack, peers, round, options.payload, &mut sent)?;
        let heard = stack.take_deliveries();
        if round < measured.end {
            deliveries += heard.len();
        }
        if round + 1 == measured.end {
            after = stack.totals();
        }
        latencies.extend(heard.iter().filter_map(|(at, payload)| late_by(*at, payload, &sent, peers, &measured)));
    }
    stack.run(REPAIR);
    let heard = stack.take_deliveries();
    latencies.extend(heard.iter().filter_map(|(at, payload)| late_by(*at, payload, &sent, peers, &measured)));
    latencies.sort_unstable();

    let expected = options.rounds as usize * peers * (peers - 1);
    let count = latencies.len().max(1);
    let within = |limit: u64| latencies.partition_point(|latency| *latency <= Duration::from_millis(limit));
    let part = |some: usize| some as f64 / expected as f64;
    let millis = |latency: Duration| latency.as_secs_f64() * 1_000.0;
    let mean = millis(latencies.iter().sum::<Duration>()) / count as f64;
    let shortest = shortest_path_mean_ms(options, peers);
    let payloads = (deliveries * usize::from(options.payload)) as f64;
    let figures = vec![
        ("rmr", (after.duplicates - before.duplicates) as f64 / deliveries as f64),
        ("bytes_per_payload_byte", (after.bytes - before.bytes) as f64 / payloads),
        ("mean_ms", mean),
        ("p99_ms", latencies.get(latencies.len() * 99 / 100).copied().map_or(0.0, millis)),
        ("delivered", part(latencies.len())),
        ("within_100ms", part(within(100))),
        ("within_150ms", part(within(150))),
        ("within_1s", part(within(1_000))),
        ("shortest_path_mean_ms", shortest),
        ("mean_over_shortest", mean / shortest),
    ];
    Ok(Column { stack: S::NAME, peers, figures })
}

/// Everybody speaks once, each at its own phase.
fn play<S: Stack>(stack: &mut S, peers: usize, round: u32, payload: u16, sent: &mut Vec<Time>) -> Result<(), Failure> {
    let start = stack.now();
    for index in 0..peers {
        let phase = start + ROUND * index as u32 / peers as u32;
        stack.run(phase.since(stack.now()));
        sent.push(stack.now());
        stack.send(index, marked(index, round, payload))?;
    }
    stack.run((start + ROUND).since(stack.now()));
    Ok(())
}

/// How long a message of the measured rounds was on its way.
fn late_by(at: Time, payload: &Bytes, sent: &[Time], peers: usize, measured: &Range<u32>) -> Option<Duration> {
    let index = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) as usize;
    let round = u32::from_le_bytes(payload.get(4..MARK_BYTES)?.try_into().ok()?);
    let sent = sent.get(round as usize * peers + index).filter(|_| measured.contains(&round))?;
    Some(at.since(*sent))
}

/// A payload with its mark, then bytes without a pattern.
fn marked(index: usize, round: u32, bytes: u16) -> Bytes {
    let mut payload = vec![0; usize::from(bytes)];
    let (mark, rest) = payload.split_at_mut(MARK_BYTES);
    mark[..4].copy_from_slice(&(index as u32).to_le_bytes());
    mark[4..].copy_from_slice(&round.to_le_bytes());
    ChaCha8Rng::seed_from_u64(((index as u64) << 32) | u64::from(round)).fill_bytes(rest);
    payload.into()
}

/// Floyd and Warshall's, over the links that all stacks run on.
fn shortest_path_mean_ms(options: &Options, peers: usize) -> f64 {
    let links = Sim::new(options.network());
    let length = |one, other| if one == other { 0.0 } else { links.latency(one, other).as_secs_f64() * 1_000.0 };
    let mut ways: Vec<Vec<f64>> = (0..peers).map(|one| (0..peers).map(|other| length(one, other)).collect()).collect();
    for via in 0..peers {
        let from_via = ways[via].clone();
        for way in &mut ways {
            let to_via = way[via];
            way.iter_mut().zip(&from_via).for_each(|(length, rest)| *length = length.min(to_via + rest));
        }
    }
    ways.iter().flatten().sum::<f64>() / (peers * (peers - 1)) as f64
}

fn part_of_one(text: &str) -> Result<f64, String> {
    let part: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1.0).contains(&part) { Ok(part) } else { Err("not between 0 and 1".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(loss: f64) -> Options {
        Options { peers: vec![8], loss, seed: 3, rounds: 10, warmup: 10, payload: 64, json: None }
    }

    fn figure(column: &Column, wanted: &str) -> f64 {
        column.figures.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value).expect("a figure of that name")
    }

    #[test]
    fn without_loss_both_deliver_everything_and_nothing_is_free() {
        let report = run(&options(0.0)).expect("figures");
        assert_eq!(report.columns.len(), 2);
        assert!(report.json().contains("\"peerflock\": {\n    \"bytes_per_payload_byte\""), "{}", report.json());
        for column in &report.columns {
            assert_eq!(figure(column, "delivered"), 1.0, "{}", column.stack);
            assert!(figure(column, "bytes_per_payload_byte") > 1.0, "{}: {column:?}", column.stack);
            assert!(figure(column, "mean_ms") >= figure(column, "shortest_path_mean_ms"), "{}: {column:?}", column.stack);
        }
    }

    #[test]
    fn several_meshes_stand_side_by_side() {
        let report = run(&Options { peers: vec![4, 9], ..options(0.0) }).expect("figures");
        let of: Vec<_> = report.columns.iter().map(|column| (column.stack, column.peers)).collect();
        assert_eq!(of, [("peerflock", 4), ("iroh-gossip 0.101", 4), ("peerflock", 9), ("iroh-gossip 0.101", 9)]);
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(json["iroh-gossip 0.101"]["9"]["delivered"], 1.0);
    }

    #[test]
    fn loss_makes_late_but_loses_no_message() {
        let (clean, lossy) = (run(&options(0.0)).expect("figures"), run(&options(0.2)).expect("figures"));
        for (clean, lossy) in clean.columns.iter().zip(&lossy.columns) {
            assert_eq!(figure(lossy, "delivered"), 1.0, "{}", lossy.stack);
            assert!(figure(lossy, "mean_ms") > figure(clean, "mean_ms"), "{}", lossy.stack);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        let once = run(&options(0.05)).expect("figures");
        assert_eq!(once.columns, run(&options(0.05)).expect("figures").columns);
        assert_ne!(once.columns, run(&Options { seed: 4, ..options(0.05) }).expect("figures").columns);
    }
}
