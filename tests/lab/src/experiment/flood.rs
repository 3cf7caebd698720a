//! When everybody sends on a beat: how often is each payload received, what does it cost, how late is it?
//!
//! The protocol alone, in virtual time, on links of 10 to 50 ms one way, as its users run it. Every peer sends one message to all
//! in every round of 50 ms, as in the measurements of other gossip protocols, so that copies, bytes and latency can be laid side
//! by side.
//!
//! Three stretches of rounds follow each other without a gap: the first is not measured; of the second the bytes, copies and CPU
//! time are counted, and each message is followed to whenever it arrives; the third keeps the beat, so that what was lost at the
//! end of the second is repaired as it would be in a game.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::Sim;
use serde_json::json;

use super::{Failure, sweep};
use crate::graph;
use crate::report::Report;
use crate::scene::{Ledger, Network, bytes_sent};
use crate::stats::{Figure, Latencies, part};
use crate::usage::{self, CpuClock};

/// Rounds after those that are measured, with few peers and with many.
const ROUNDS_AFTER: u32 = 10;
const ROUNDS_AFTER_MANY: u32 = 4;
/// Silence after that, in which what is still missing may come.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// Up to so many peers a run takes seconds, and more rounds are measured.
const FEW: usize = 256;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: u16,
    /// Payload of each message, in bytes.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(8..))]
    pub(super) payload: u16,
    /// Rounds that are measured. By default 40, or 5 of more than 256 peers.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) rounds: Option<u32>,
    /// Rounds before those, not measured. By default 40, or 10 of more than 256 peers.
    #[arg(long)]
    pub(super) warmup: Option<u32>,
    /// Measure each of these numbers of peers instead, each in a process of its own.
    #[arg(long, value_name = "PEERS,...", value_delimiter = ',', conflicts_with = "peers")]
    pub(super) sweep: Vec<u16>,
    /// Draw the sweep into this file.
    #[arg(long, value_name = "FILE", requires = "sweep")]
    pub(super) svg: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    if !options.sweep.is_empty() {
        return sweep::run(options);
    }
    let peers = usize::from(options.peers);
    let rounds = options.rounds.unwrap_or(if peers > FEW { 5 } else { 40 });
    let warmup = options.warmup.unwrap_or(if peers > FEW { 10 } else { 40 });
    let settings = json!({ "peers": peers, "payload": options.payload, "rounds": rounds, "warmup": warmup });
    // Once: later seeds live in what the first left behind.
    let memory = usage::memory_kib();
    options.network.each_seed("flood", settings, |seed| {
        let sim = options.network.mesh(seed, peers)?;
        measure(sim, usize::from(options.payload), warmup, rounds, memory)
    })
}

fn measure(mut sim: Sim, payload: usize, warmup: u32, rounds: u32, memory_before: Option<f64>) -> Result<Vec<Figure>, Failure> {
    let peers = sim.len();
    let all: Vec<usize> = (0..peers).collect();
    let mut ledger = Ledger::default();
    let measured = warmup as usize..(warmup + rounds) as usize;
    let mut latencies = Latencies::default();
    let (mut doubled, mut deliveries) = (0_u64, 0_u64);
    let (mut before, mut after) = (Totals::default(), Totals::default());
    let (mut clock, mut cpu, mut memory) = (None, None, None);
    let after_those = if peers > FEW { ROUNDS_AFTER_MANY } else { ROUNDS_AFTER };
    for round in 0..warmup + rounds + after_those {
        if round == warmup {
            (before, clock, deliveries) = (totals(&sim), Some(CpuClock::start()), 0);
        }
        ledger.round(&mut sim, &all, payload, |hearing| {
            deliveries += u64::from(round < warmup + rounds);
            doubled += u64::from(hearing.again);
            if measured.contains(&hearing.number) && !hearing.again {
                latencies.add(hearing.latency);
            }
        })?;
        if round + 1 == warmup + rounds {
            after = totals(&sim);
            cpu = clock.as_ref().and_then(CpuClock::spent);
            memory = usage::memory_kib();
        }
    }
    sim.run(LAST_CHANCE);
    ledger.collect(&mut sim, |hearing| {
        doubled += u64::from(hearing.again);
        if measured.contains(&hearing.number) && !hearing.again {
            latencies.add(hearing.latency);
        }
    });

    let expected = u64::from(rounds) * (peers * (peers - 1)) as u64;
    let within = |limit| part(latencies.within(Duration::from_millis(limit)), expected);
    let bytes = (after.bytes - before.bytes) as f64;
    let shortest = graph::shortest_path_mean_ms(&sim);
    let overlay = graph::overlay_path_mean_ms(&sim, &graph::links(&sim));
    let mean = latencies.mean_ms();
    Ok(vec![
        Figure::less("rmr", part(after.duplicates - before.duplicates, deliveries)),
        Figure::less("bytes_per_payload_byte", bytes / (deliveries.max(1) as f64 * payload as f64)),
        Figure::less("mean_ms", mean),
        Figure::less("p99_ms", latencies.percentile_ms(0.99)),
        Figure::less("shortest_path_mean_ms", shortest),
        Figure::less("mean_over_shortest", mean / shortest),
        Figure::soon("overlay_path_mean_ms", overlay),
        Figure::more("delivered", part(latencies.count(), expected)),
        Figure::more("within_100ms", within(100)),
        Figure::more("within_150ms", within(150)),
        Figure::more("within_1s", within(1_000)),
        Figure::less("doubled", doubled as f64),
        Figure::soon("cpu_us_per_delivery", cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / deliveries.max(1) as f64)),
        Figure::soon("memory_kib_per_peer", memory.zip(memory_before).map(|(after, before)| (after - before) / peers as f64)),
    ])
}

/// Since the beginning, of all peers.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// Everything above UDP.
    bytes: u64,
    /// Messages that a peer received and had already.
    duplicates: u64,
}

fn totals(sim: &Sim) -> Totals {
    let duplicates = (0..sim.len()).map(|index| sim.node(index).counters().messages_duplicate);
    Totals { bytes: bytes_sent(sim), duplicates: duplicates.sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(loss: f64, burst: f64) -> Vec<Figure> {
        let network = Network { max_neighbors: 7, loss, burst, seed: 3, seeds: 1, settle: 2 };
        measure(network.mesh(3, 12).unwrap(), 64, 5, 10, None).unwrap()
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        figures.iter().find(|figure| figure.name == name).unwrap().value.unwrap()
    }

    #[test]
    fn nothing_is_free_and_nothing_faster_than_its_way() {
        let found = figures(0.0, 1.0);
        assert_eq!((value(&found, "delivered"), value(&found, "doubled")), (1.0, 0.0));
        assert!(value(&found, "bytes_per_payload_byte") > 1.0);
        assert!(value(&found, "overlay_path_mean_ms") >= value(&found, "shortest_path_mean_ms"));
        assert!(value(&found, "mean_ms") >= value(&found, "shortest_path_mean_ms"));
    }

    #[test]
    fn loss_makes_late_but_loses_no_message() {
        let (clean, lossy, bursts) = (figures(0.0, 1.0), figures(0.2, 1.0), figures(0.2, 10.0));
        for worse in [lossy, bursts] {
            assert_eq!((value(&worse, "delivered"), value(&worse, "doubled")), (1.0, 0.0));
            assert!(value(&worse, "mean_ms") > value(&clean, "mean_ms"));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_figures() {
        // Without what the machine tells: CPU time and memory.
        let counted = |mut figures: Vec<Figure>| {
            figures.retain(|figure| !figure.name.starts_with("cpu") && !figure.name.starts_with("memory"));
            figures
        };
        assert_eq!(counted(figures(0.1, 6.0)), counted(figures(0.1, 6.0)));
    }
}
