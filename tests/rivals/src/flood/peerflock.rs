//! Peerflock's protocol core, in its own simulator.

use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::Sim;
use peerflock_proto::{Config, Event, Target, Time, Topic};

use super::{Options, Stack, Totals};
use crate::Failure;

const TOPIC: Topic = Topic(Topic::RESERVED);

/// The SDK writes the length of each frame before it, as a `u32`.
const FRAME_PREFIX_BYTES: u64 = 4;

/// Far more than joining takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// After all have met, before anything is sent.
const SETTLE: Duration = Duration::from_secs(20);

/// A mesh of nodes.
#[derive(Debug)]
pub(super) struct Peerflock {
    sim: Sim,
}

impl Peerflock {
    /// A mesh in which all have met.
    pub(super) fn joined(options: &Options, peers: usize) -> Result<Self, Failure> {
        let mut sim = Sim::mesh(options.network(), peers, &Config::default(), PATIENCE);
        if (0..peers).any(|index| sim.node(index).member_count() != peers) {
            return Err(Failure::Unmet(format!(
                "Peerflock's peers did not all meet within {} virtual seconds",
                PATIENCE.as_secs()
            )));
        }
        sim.run(SETTLE);
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
