//! When everybody sends on a beat: how often is each payload received, what does it cost, how late is it?
//!
//! The scene of `cargo lab flood`, played on each stack by the same code over the same links. Every peer sends one message to
//! all in every round of 50 ms, each at its own phase. As many rounds pass unmeasured as are measured, then two seconds in which
//! whatever was missed can be repaired.

mod iroh_gossip;
mod peerflock;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock_proto::Time;
use peerflock_proto::sim::{self, Sim};
use serde_json::json;

use crate::Failure;
use crate::report::{Column, Report};

use self::iroh_gossip::IrohGossip;
use self::peerflock::Peerflock;

const ROUND: Duration = Duration::from_millis(50);
const REPAIR: Duration = Duration::from_secs(2);

/// Who sent a message, and which of its messages it is: the first bytes of every payload, so that no two are alike.
const MARK_BYTES: usize = 8;

const NOTES: [&str; 6] = [
    "bytes_per_payload_byte: everything either protocol gives to its links (payloads, headers, control messages), at the size of \
     its own wire encoding and with the length prefix of 4 bytes that both write before each message on a stream, over the bytes \
     of payload delivered. iroh-gossip: postcard, the topic left out as it is sent once per stream. QUIC, UDP and IP headers, \
     acknowledgements and stream openings are counted for neither.",
    "rmr: payloads received again, for each delivery. within_*: part of all deliveries that were due.",
    "Loss: iroh-gossip sends on reliable QUIC streams, so what is lost comes later, by two more one-way latencies, and holds up \
     what follows on that link. Peerflock's frames have the same model; only its datagrams are really lost. The figure --loss is \
     per message for both; no stack pays bytes for what its transport resends.",
    "Peerflock: at most 7 neighbors, heartbeats once a second (counted). Joined by introduction to the first peer.",
    "iroh-gossip: its default configuration (5 active neighbors), identities of 32 bytes, no addresses in its membership \
     messages (so they are smaller than in the field). Joined one by one through the first peer, then 10 s to settle.",
    "shortest_path_mean_ms: the mean over all pairs of the fastest way, were everybody linked to everybody.",
];

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: u16,
    /// Part of what is sent that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = part_of_one)]
    loss: f64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds that are measured, after as many that are not.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
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

    fn peers(&self) -> usize {
        usize::from(self.peers)
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
    });
    let columns = vec![measure(Peerflock::joined(options)?, options)?, measure(IrohGossip::joined(options), options)?];
    Ok(Report { scene: "flood", options: settings, seed: options.seed, columns, notes: NOTES.to_vec() })
}

fn measure<S: Stack>(mut stack: S, options: &Options) -> Result<Column, Failure> {
    rounds(&mut stack, options, 0)?;
    let before = stack.totals();
    stack.take_deliveries();
    let sent = rounds(&mut stack, options, options.rounds)?;
    stack.run(REPAIR);
    let after = stack.totals();

    let mark = |payload: &Bytes| payload.get(..MARK_BYTES).map(<[u8]>::to_vec);
    let deliveries = stack.take_deliveries();
    let mut latencies: Vec<Duration> =
        deliveries.iter().filter_map(|(at, payload)| Some(at.since(*sent.get(&mark(payload)?)?))).collect();
    latencies.sort_unstable();

    let expected = sent.len() * (options.peers() - 1);
    let count = latencies.len().max(1);
    let within = |limit: u64| latencies.partition_point(|latency| *latency <= Duration::from_millis(limit));
    let part = |some: usize| some as f64 / expected as f64;
    let millis = |latency: Duration| latency.as_secs_f64() * 1_000.0;
    let figures = vec![
        ("rmr", (after.duplicates - before.duplicates) as f64 / count as f64),
        ("bytes_per_payload_byte", (after.bytes - before.bytes) as f64 / (count * usize::from(options.payload)) as f64),
        ("mean_ms", millis(latencies.iter().sum::<Duration>()) / count as f64),
        ("p99_ms", latencies.get(latencies.len() * 99 / 100).copied().map_or(0.0, millis)),
        ("delivered", part(latencies.len())),
        ("within_100ms", part(within(100))),
        ("within_150ms", part(within(150))),
        ("within_1s", part(within(1_000))),
        ("shortest_path_mean_ms", shortest_path_mean_ms(options)),
    ];
    Ok(Column { stack: S::NAME, figures })
}

/// Lets everybody speak in every round, each at its own phase; when each message was sent, by its mark.
fn rounds<S: Stack>(stack: &mut S, options: &Options, first: u32) -> Result<BTreeMap<Vec<u8>, Time>, Failure> {
    let mut sent = BTreeMap::new();
    let phase = ROUND / u32::from(options.peers);
    for round in first..first + options.rounds {
        for index in 0..options.peers() {
            let mut payload = vec![0; usize::from(options.payload)];
            payload[..4].copy_from_slice(&(index as u32).to_le_bytes());
            payload[4..MARK_BYTES].copy_from_slice(&round.to_le_bytes());
            sent.insert(payload[..MARK_BYTES].to_vec(), stack.now());
            stack.send(index, payload.into())?;
            stack.run(phase);
        }
    }
    Ok(sent)
}

/// Floyd and Warshall's, over the links that all stacks run on.
fn shortest_path_mean_ms(options: &Options) -> f64 {
    let links = Sim::new(options.network());
    let peers = options.peers();
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
        Options { peers: 8, loss, seed: 3, rounds: 10, payload: 64, json: None }
    }

    fn figure(column: &Column, wanted: &str) -> f64 {
        column.figures.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value).expect("a figure of that name")
    }

    #[test]
    fn without_loss_both_deliver_everything_and_nothing_is_free() {
        let report = run(&options(0.0)).expect("figures");
        assert_eq!(report.columns.len(), 2);
        for column in &report.columns {
            assert_eq!(figure(column, "delivered"), 1.0, "{}", column.stack);
            assert!(figure(column, "bytes_per_payload_byte") > 1.0, "{}: {column:?}", column.stack);
            assert!(figure(column, "mean_ms") >= figure(column, "shortest_path_mean_ms"), "{}: {column:?}", column.stack);
        }
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
