//! When everybody sends on a beat: how often is each payload received, what does it cost, how late is it?
//!
//! The protocol alone, in virtual time, on links of 10 to 50 ms one way. Every peer sends one message to all in every round of 50 ms, as in
//! the measurements of other gossip protocols, so that copies, bytes and latency can be laid side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock_proto::sim::{self, Sim};
use peerflock_proto::{Config, Counters, Event, NeighborLimits, PeerId, Target, Time, Topic};
use serde_json::json;

use super::Failure;
use crate::report::Report;

const ROUND: Duration = Duration::from_millis(50);
const TOPIC: Topic = Topic(Topic::RESERVED);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 16)]
    peers: usize,
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    max_neighbors: usize,
    /// Part of the datagrams that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Payload of each message, in bytes.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// Rounds that are measured, after as many that are not.
    #[arg(long, default_value_t = 40)]
    rounds: u32,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<std::path::PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let network = sim::Options { seed: options.seed, loss: options.loss, ..sim::Options::default() };
    // Heartbeats are state, and state is not what is measured here: few of them, and patience to match.
    let slow = Duration::from_secs(3_600);
    let config = Config {
        neighbors: NeighborLimits::with_max(options.max_neighbors),
        heartbeat: Duration::from_secs(1),
        link_silence: slow,
        member_silence: slow,
        ..Config::default()
    };
    let mut sim = Sim::mesh(network, options.peers, &config, Duration::from_secs(60));
    if (0..options.peers).any(|index| sim.node(index).members(sim.now()).len() != options.peers) {
        return Err(Failure::Unmet("the peers did not all meet within 60 virtual seconds".into()));
    }
    rounds(&mut sim, options, 0);
    let before = totals(&sim);
    (0..options.peers).for_each(|index| drop(sim.take_events(index)));
    let sent = rounds(&mut sim, options, 1);
    sim.run(Duration::from_secs(2));
    let after = totals(&sim);

    let mut latencies = Vec::new();
    for index in 0..options.peers {
        for (at, event) in sim.take_events(index) {
            if let Event::Message { from, payload, .. } = event
                && let Some(sent) = sent.get(&(from, payload.slice(..8)))
            {
                latencies.push(at.since(*sent));
            }
        }
    }
    latencies.sort_unstable();
    let expected = sent.len() * (options.peers - 1);
    let within =
        |limit: u64| part(latencies.iter().filter(|latency| **latency <= Duration::from_millis(limit)).count(), expected);
    let millis = |latency: Duration| latency.as_secs_f64() * 1_000.0;
    let mean = millis(latencies.iter().sum::<Duration>()) / latencies.len().max(1) as f64;
    let shortest = shortest_path_mean_ms(&sim);
    let bytes = (after.frame_bytes_sent + after.datagram_bytes_sent) - (before.frame_bytes_sent + before.datagram_bytes_sent);

    let settings = json!({
        "peers": options.peers, "max_neighbors": options.max_neighbors, "loss": options.loss, "payload": options.payload,
        "rounds": options.rounds,
    });
    let mut report = Report::new("flood", settings, Some(options.seed));
    report.field("rmr", part((after.messages_duplicate - before.messages_duplicate) as usize, latencies.len()));
    report.field("bytes_per_payload_byte", bytes as f64 / (latencies.len().max(1) * options.payload) as f64);
    report.field("mean_ms", mean);
    report.field("p99_ms", latencies.get(latencies.len() * 99 / 100).copied().map_or(0.0, millis));
    report.field("shortest_path_mean_ms", shortest);
    report.field("mean_over_shortest", mean / shortest);
    report.field("delivered", part(latencies.len(), expected));
    report.field("within_100ms", within(100));
    report.field("within_150ms", within(150));
    report.field("within_1s", within(1_000));
    Ok(report)
}

/// Lets everybody speak in every round, each at its own phase; when each message was sent, by its first eight bytes.
fn rounds(sim: &mut Sim, options: &Options, part: u32) -> BTreeMap<(PeerId, Bytes), Time> {
    let mut sent = BTreeMap::new();
    let phase = ROUND / options.peers as u32;
    for round in 0..options.rounds {
        for index in 0..options.peers {
            let mut payload = vec![0; options.payload.max(8)];
            payload[..4].copy_from_slice(&part.to_le_bytes());
            payload[4..8].copy_from_slice(&round.to_le_bytes());
            let payload = Bytes::from(payload);
            sent.insert((sim.peer(index), payload.slice(..8)), sim.now());
            // All have met, so somebody is there to hear it.
            let _ = sim.with(index, |node, now| node.send(Target::All, TOPIC, payload, now));
            sim.run(phase);
        }
    }
    sent
}

fn totals(sim: &Sim) -> Counters {
    let mut totals = Counters::default();
    for index in 0..sim.len() {
        let counters = sim.node(index).counters();
        totals.frame_bytes_sent += counters.frame_bytes_sent;
        totals.datagram_bytes_sent += counters.datagram_bytes_sent;
        totals.messages_duplicate += counters.messages_duplicate;
    }
    totals
}

/// The mean over all pairs of the shortest way between them, were everybody linked to everybody (Floyd and Warshall).
fn shortest_path_mean_ms(sim: &Sim) -> f64 {
    let peers = sim.len();
    let mut ways: Vec<Vec<f64>> = (0..peers)
        .map(|one| {
            (0..peers).map(|other| if one == other { 0.0 } else { sim.latency(one, other).as_secs_f64() * 1_000.0 }).collect()
        })
        .collect();
    for via in 0..peers {
        let from_via = ways[via].clone();
        for way in &mut ways {
            let to_via = way[via];
            for (length, rest) in way.iter_mut().zip(&from_via) {
                *length = length.min(to_via + rest);
            }
        }
    }
    ways.iter().flatten().sum::<f64>() / (peers * (peers - 1)).max(1) as f64
}

fn part(count: usize, of: usize) -> f64 {
    count as f64 / of.max(1) as f64
}
