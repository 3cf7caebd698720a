//! Peerflock's protocol core, in its own simulator.

use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::Sim;
use peerflock_proto::{Config, Event, NeighborLimits, Target, Time, Topic};

use super::{Options, Stack, Totals};
use crate::Failure;

const NEIGHBORS_MAX: usize = 7;
const TOPIC: Topic = Topic(Topic::RESERVED);

/// The SDK writes the length of each frame before it, as a `u32`.
const FRAME_PREFIX_BYTES: u64 = 4;

/// Far more than joining takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A mesh of nodes.
#[derive(Debug)]
pub(super) struct Peerflock {
    sim: Sim,
}

impl Peerflock {
    /// A mesh in which all have met.
    pub(super) fn joined(options: &Options) -> Result<Self, Failure> {
        // Heartbeats are state, and state is not what is measured here: few of them, and patience to match, as in the lab.
        let slow = Duration::from_secs(3_600);
        let config = Config {
            neighbors: NeighborLimits::with_max(NEIGHBORS_MAX),
            heartbeat: Duration::from_secs(1),
            link_silence: slow,
            member_silence: slow,
            ..Config::default()
        };
        let sim = Sim::mesh(options.network(), options.peers(), &config, PATIENCE);
        if (0..sim.len()).any(|index| sim.node(index).members(sim.now()).len() != sim.len()) {
            return Err(Failure::Unmet(format!(
                "Peerflock's peers did not all meet within {} virtual seconds",
                PATIENCE.as_secs()
            )));
        }
        Ok(Self { sim })
    }
}

impl Stack for Peerflock {
    const NAME: &'static str = "peerflock";

    fn now(&self) -> Time {
        self.sim.now()
    }

    fn run(&mut self, duration: Duration) {
        self.sim.run(duration);
    }

    fn send(&mut self, index: usize, payload: Bytes) -> Result<(), Failure> {
        let sent = self.sim.with(index, |node, now| node.send(Target::All, TOPIC, payload, now));
        sent.map_err(|error| Failure::Unmet(format!("Peerflock would not send: {error}")))
    }

    fn take_deliveries(&mut self) -> Vec<(Time, Bytes)> {
        let events = (0..self.sim.len()).flat_map(|index| self.sim.take_events(index));
        events
            .filter_map(|(at, event)| if let Event::Message { payload, .. } = event { Some((at, payload)) } else { None })
            .collect()
    }

    fn totals(&self) -> Totals {
        (0..self.sim.len()).map(|index| self.sim.node(index).counters()).fold(Totals::default(), |totals, counters| Totals {
            bytes: totals.bytes
                + counters.datagram_bytes_sent
                + counters.frame_bytes_sent
                + FRAME_PREFIX_BYTES * counters.frames_sent,
            duplicates: totals.duplicates + counters.messages_duplicate,
        })
    }
}
