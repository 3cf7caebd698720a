//! What the experiments in virtual time share: a mesh on links of 10 to 50 ms, peers that talk on a beat, and a ledger of who
//! heard what.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock_proto::sim::{self, Sim, remember_signatures};
use peerflock_proto::{Config, Event, NeighborLimits, Target, Time, Topic};
use serde_json::{Map, Value};

use crate::dice::Dice;
use crate::experiment::Failure;
use crate::report::Report;
use crate::stats::Figure;

/// Everybody speaks once in this time, as a game does.
pub(crate) const ROUND: Duration = Duration::from_millis(50);
/// After all have met, before anything is measured: time for the overlay to find its shape.
const SETTLE: Duration = Duration::from_secs(20);
/// In which all must have met.
const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every mesh here, as that of [`Sim::mesh`].
pub(crate) const SECRET: [u8; 32] = [7; 32];
const TOPIC: Topic = Topic(Topic::RESERVED);
/// Sender and number: the first bytes of each payload.
const MARK_BYTES: usize = 8;
/// The SDK writes the length of each frame before it, as a `u32`.
const FRAME_PREFIX_BYTES: u64 = 4;

/// The links, and what is random about them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Network {
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    pub(crate) max_neighbors: usize,
    /// Part of the datagrams that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) loss: f64,
    /// Datagrams lost in a row, on average, in one direction of a link (Gilbert and Elliott); 1: each by itself.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) burst: f64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, from that one on: the figures are means, with the worst beside them.
    #[arg(long, default_value_t = 1)]
    pub(crate) seeds: u64,
    /// Seconds, in virtual time, in which the overlay may find its shape after all have met.
    #[arg(long, default_value_t = SETTLE.as_secs())]
    pub(crate) settle: u64,
}

impl Network {
    /// Runs an experiment once for each seed; a report of all runs, with these options among `settings`.
    pub(crate) fn each_seed(
        &self,
        experiment: &'static str,
        settings: Value,
        mut run: impl FnMut(u64) -> Result<Vec<Figure>, Failure>,
    ) -> Result<Report, Failure> {
        // What several nodes get is checked once: nothing but the time that a run takes depends on it.
        remember_signatures();
        let runs = (self.seed..self.seed + self.seeds.max(1)).map(&mut run).collect::<Result<Vec<_>, _>>()?;
        let mut report = Report::new(experiment, self.with(settings), Some(self.seed));
        report.runs(&runs);
        Ok(report)
    }

    /// `settings` and these options.
    pub(crate) fn with(&self, settings: Value) -> Value {
        let mut all: Map<String, Value> = settings.as_object().cloned().unwrap_or_default();
        all.insert("max_neighbors".into(), self.max_neighbors.into());
        all.insert("loss".into(), self.loss.into());
        all.insert("burst".into(), self.burst.into());
        all.insert("settle".into(), self.settle.into());
        all.insert("seeds".into(), self.seeds.into());
        all.into()
    }

    pub(crate) fn config(&self) -> Config {
        Config { neighbors: NeighborLimits::with_max(self.max_neighbors), ..Config::default() }
    }

    pub(crate) fn simulator(&self, seed: u64) -> sim::Options {
        sim::Options { seed, loss: self.loss, burst: self.burst, ..sim::Options::default() }
    }

    /// The same, but that every round trip takes so long.
    pub(crate) fn simulator_with_rtt(&self, seed: u64, rtt_ms: u64) -> sim::Options {
        let one_way = Duration::from_millis(rtt_ms) / 2;
        sim::Options { latency: (one_way, one_way), ..self.simulator(seed) }
    }

    /// A mesh in which all have met, and have had time to choose their neighbors.
    pub(crate) fn mesh(&self, seed: u64, peers: usize) -> Result<Sim, Failure> {
        self.meet(self.simulator(seed), &self.config(), peers)
    }

    /// The same, of peers and on links of an experiment's own.
    pub(crate) fn meet(&self, simulator: sim::Options, config: &Config, peers: usize) -> Result<Sim, Failure> {
        let mut sim = Sim::mesh(simulator, peers, config, PATIENCE);
        let met = (0..peers).filter(|index| sim.node(*index).member_count() == peers).count();
        if met != peers {
            let seconds = PATIENCE.as_secs();
            return Err(Failure::Unmet(format!(
                "only {met} of {peers} peers have met all others within {seconds} virtual seconds"
            )));
        }
        self.settle(&mut sim);
        Ok(sim)
    }

    /// Lets the overlay find its shape.
    pub(crate) fn settle(&self, sim: &mut Sim) {
        for _ in 0..self.settle {
            sim.run(Duration::from_secs(1));
            (0..sim.len()).for_each(|index| drop(sim.take_events(index)));
        }
    }
}

/// Who said what when, and who heard it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    said: Vec<Vec<Said>>,
}

#[derive(Debug)]
struct Said {
    at: Time,
    /// A bit for each receiver.
    heard: Vec<u64>,
}

/// A message arrived at an application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing {
    pub(crate) sender: usize,
    /// Which of the sender's messages, from 0.
    pub(crate) number: usize,
    pub(crate) receiver: usize,
    /// Since it was said.
    pub(crate) latency: Duration,
    /// It had arrived there before: what must never be.
    pub(crate) again: bool,
}

impl Ledger {
    /// A peer says its next message to all, now.
    pub(crate) fn say(&mut self, sim: &mut Sim, sender: usize, payload_bytes: usize) -> Result<(), Failure> {
        if self.said.len() <= sender {
            self.said.resize_with(sender + 1, Vec::new);
        }
        let number = self.said[sender].len();
        let payload = payload(sender, number, payload_bytes);
        let sent = sim.with(sender, |node, now| node.send(Target::All, TOPIC, payload, now));
        sent.map_err(|error| Failure::Unmet(format!("peer {sender} could not send: {error}")))?;
        self.said[sender].push(Said { at: sim.now(), heard: Vec::new() });
        Ok(())
    }

    /// One round: each of `who` speaks once, each at its own phase. What all heard meanwhile goes to `hear`.
    pub(crate) fn round(
        &mut self,
        sim: &mut Sim,
        who: &[usize],
        payload_bytes: usize,
        hear: impl FnMut(Hearing),
    ) -> Result<(), Failure> {
        let start = sim.now();
        for (place, index) in who.iter().enumerate() {
            let phase = start + ROUND * place as u32 / who.len() as u32;
            sim.run(phase.since(sim.now()));
            self.say(sim, *index, payload_bytes)?;
        }
        sim.run((start + ROUND).since(sim.now()));
        self.collect(sim, hear);
        Ok(())
    }

    /// Takes in what the applications were told since the last call. What is no message of this ledger is passed over.
    pub(crate) fn collect(&mut self, sim: &mut Sim, mut hear: impl FnMut(Hearing)) {
        for receiver in 0..sim.len() {
            for (at, event) in sim.take_events(receiver) {
                if let Some(hearing) = self.hearing(sim, receiver, at, &event) {
                    hear(hearing);
                }
            }
        }
    }

    /// Enters what an application was told, if it is a message of this ledger.
    pub(crate) fn hearing(&mut self, sim: &Sim, receiver: usize, at: Time, event: &Event) -> Option<Hearing> {
        let Event::Message { from, payload, .. } = event else { return None };
        let sender = u32::from_le_bytes(payload.get(..4)?.try_into().ok()?) as usize;
        let number = u32::from_le_bytes(payload.get(4..MARK_BYTES)?.try_into().ok()?) as usize;
        let said = self.said.get_mut(sender)?.get_mut(number)?;
        if sim.peer(sender) != *from {
            return None;
        }
        let (word, bit) = (receiver / 64, 1 << (receiver % 64));
        if said.heard.len() <= word {
            said.heard.resize(word + 1, 0);
        }
        let again = said.heard[word] & bit != 0;
        said.heard[word] |= bit;
        Some(Hearing { sender, number, receiver, latency: at.since(said.at), again })
    }

    /// How many messages a peer has said.
    pub(crate) fn count(&self, sender: usize) -> usize {
        self.said.get(sender).map_or(0, Vec::len)
    }

    /// When a message was said.
    pub(crate) fn said_at(&self, sender: usize, number: usize) -> Option<Time> {
        Some(self.said.get(sender)?.get(number)?.at)
    }

    pub(crate) fn heard(&self, sender: usize, number: usize, receiver: usize) -> bool {
        let said = self.said.get(sender).and_then(|said| said.get(number));
        said.and_then(|said| said.heard.get(receiver / 64)).is_some_and(|word| word & (1 << (receiver % 64)) != 0)
    }
}

/// All that peers gave to their links since the beginning: everything above UDP, with what the SDK puts before each frame.
pub(crate) fn bytes_sent(sim: &Sim) -> u64 {
    let counters = (0..sim.len()).map(|index| sim.node(index).counters());
    counters
        .map(|counters| counters.datagram_bytes_sent + counters.frame_bytes_sent + FRAME_PREFIX_BYTES * counters.frames_sent)
        .sum()
}

/// The mark, then bytes without a pattern.
fn payload(sender: usize, number: usize, bytes: usize) -> Bytes {
    let mut payload = Vec::with_capacity(bytes.max(MARK_BYTES) + MARK_BYTES);
    payload.extend_from_slice(&(sender as u32).to_le_bytes());
    payload.extend_from_slice(&(number as u32).to_le_bytes());
    let mut dice = Dice::new(((sender as u64) << 32) | number as u64);
    while payload.len() < bytes {
        payload.extend_from_slice(&dice.roll().to_le_bytes());
    }
    payload.truncate(bytes.max(MARK_BYTES));
    payload.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_knows_who_heard_what_and_what_comes_twice() {
        let mut sim = Sim::mesh(sim::Options::default(), 3, &Config::default(), Duration::from_secs(10));
        // Until everybody is linked to everybody.
        sim.run(Duration::from_secs(2));
        let mut ledger = Ledger::default();
        ledger.say(&mut sim, 1, 100).unwrap();
        assert_eq!((ledger.count(1), ledger.heard(1, 0, 2)), (1, false));
        sim.run(Duration::from_secs(1));
        let mut heard = Vec::new();
        ledger.collect(&mut sim, |hearing| heard.push(hearing));
        assert_eq!(heard.iter().map(|hearing| hearing.receiver).collect::<Vec<_>>(), [0, 2]);
        assert!(heard.iter().all(|hearing| !hearing.again && hearing.latency == sim.latency(1, hearing.receiver)));
        assert!(ledger.heard(1, 0, 0) && ledger.heard(1, 0, 2) && !ledger.heard(1, 0, 1));
        let event = Event::Message { from: sim.peer(1), topic: TOPIC, private: false, payload: payload(1, 0, 100) };
        assert!(ledger.hearing(&sim, 2, sim.now(), &event).unwrap().again);
        let forged = Event::Message { from: sim.peer(0), topic: TOPIC, private: false, payload: payload(1, 0, 100) };
        assert!(ledger.hearing(&sim, 2, sim.now(), &forged).is_none());
    }

    #[test]
    fn payloads_have_their_length_and_no_two_are_alike() {
        assert_eq!((payload(1, 2, 0).len(), payload(1, 2, 13).len(), payload(1, 2, 200).len()), (8, 13, 200));
        assert_ne!(payload(1, 2, 200)[8..], payload(1, 3, 200)[8..]);
    }
}
