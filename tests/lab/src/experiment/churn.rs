//! Peers come and go all the time while everybody talks: does anybody who stays miss a word?
//!
//! Of those who go half say goodbye and half die without a word; as many come. A message was due at a peer that stayed to the end
//! if, when it was said, sender and receiver each had the other in its roster. Messages of those who died are counted apart: the
//! last word of one who dies while speaking may reach nobody, but what one survivor has all must get.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::Sim;
use peerflock_proto::{Event, Input, PeerId, Time};
use serde_json::json;

use super::Failure;
use crate::dice::Dice;
use crate::report::Report;
use crate::scene::{Ledger, Network, SECRET};
use crate::stats::{Figure, Latencies};

const MINUTE: Duration = Duration::from_secs(60);
/// Silence at the end, in which what is still missing may come.
const LAST_CHANCE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh, at any time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(4..=1_000))]
    peers: u16,
    /// Virtual minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u32,
    /// Part of the peers that goes, and comes, in each minute.
    #[arg(long, default_value_t = 0.1)]
    part: f64,
    /// Messages that each says in a second.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    rate: u32,
    /// Payload of each message, in bytes.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "peers": options.peers, "minutes": options.minutes, "part": options.part, "rate": options.rate, "payload": options.payload,
    });
    options.network.each_seed("churn", settings, |seed| measure(options, seed))
}

/// How a peer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Here,
    Left,
    Died,
}

struct Churn<'a> {
    options: &'a Options,
    sim: Sim,
    dice: Dice,
    ledger: Ledger,
    stays: Vec<Stay>,
    indices: BTreeMap<PeerId, usize>,
    /// Since when a peer (the first) has another in its roster.
    known: BTreeMap<(usize, usize), Time>,
    /// The last message that a peer (the first) heard of another.
    last: BTreeMap<(usize, usize), usize>,
    reordered: u64,
    doubled: u64,
    latencies: Latencies,
}

fn measure(options: &Options, seed: u64) -> Result<Vec<Figure>, Failure> {
    let peers = usize::from(options.peers);
    let sim = options.network.mesh(seed, peers)?;
    let mut churn = Churn {
        options,
        dice: Dice::new(seed),
        ledger: Ledger::default(),
        stays: vec![Stay::Here; peers],
        indices: (0..peers).map(|index| (sim.peer(index), index)).collect(),
        // The mesh has met: its first members knew each other from the start.
        known: (0..peers).flat_map(|one| (0..peers).map(move |other| ((one, other), Time(0)))).collect(),
        last: BTreeMap::new(),
        reordered: 0,
        doubled: 0,
        latencies: Latencies::default(),
        sim,
    };
    churn.play()?;
    Ok(churn.figures())
}

impl Churn<'_> {
    fn play(&mut self) -> Result<(), Failure> {
        let start = self.sim.now();
        let end = start + MINUTE * self.options.minutes;
        let changes = ((f64::from(self.options.peers) * self.options.part).round() as u32).max(1);
        let (pause, beat) = (MINUTE / changes, Duration::from_secs(1) / self.options.rate);
        let mut next_change = start + pause;
        let mut dies = false;
        while self.sim.now() < end {
            let round_end = self.sim.now() + beat;
            let speakers = self.here();
            for (place, index) in speakers.iter().enumerate() {
                // Who has come but knows nobody yet has nobody to talk to.
                if self.sim.node(*index).member_count() > 1 {
                    self.ledger.say(&mut self.sim, *index, self.options.payload)?;
                }
                let left = round_end.since(self.sim.now());
                self.sim.run(left / (speakers.len() - place) as u32);
            }
            self.hear();
            // Nobody goes in the last seconds: what is due then must still come.
            if self.sim.now() >= next_change && next_change + LAST_CHANCE < end {
                next_change = next_change + pause;
                dies = !dies;
                self.someone_goes(dies);
                self.someone_comes();
            }
        }
        self.sim.run(LAST_CHANCE);
        self.hear();
        Ok(())
    }

    fn here(&self) -> Vec<usize> {
        (0..self.stays.len()).filter(|index| self.stays[*index] == Stay::Here).collect()
    }

    fn someone_goes(&mut self, dies: bool) {
        for index in self.dice.draw(&mut self.here(), 1) {
            if dies {
                self.sim.crash(index);
                self.stays[index] = Stay::Died;
            } else {
                self.sim.input(index, Input::Leave);
                self.stays[index] = Stay::Left;
            }
        }
    }

    fn someone_comes(&mut self) {
        let known = self.dice.draw(&mut self.here(), 1);
        let index = self.sim.add(self.options.network.config(), SECRET);
        self.stays.push(Stay::Here);
        self.indices.insert(self.sim.peer(index), index);
        known.into_iter().for_each(|known| self.sim.introduce(index, known));
    }

    fn hear(&mut self) {
        for receiver in 0..self.stays.len() {
            for (at, event) in self.sim.take_events(receiver) {
                if let Event::PeerJoined { peer, .. } = &event
                    && let Some(other) = self.indices.get(peer)
                {
                    self.known.entry((receiver, *other)).or_insert(at);
                }
                let Some(hearing) = self.ledger.hearing(&self.sim, receiver, at, &event) else { continue };
                if hearing.again {
                    self.doubled += 1;
                    continue;
                }
                self.latencies.add(hearing.latency);
                let last = self.last.insert((receiver, hearing.sender), hearing.number);
                self.reordered += u64::from(last.is_some_and(|last| last >= hearing.number));
            }
        }
    }

    fn figures(&self) -> Vec<Figure> {
        let (mut said, mut due, mut missed, mut uneven) = (0_u64, 0_u64, 0_u64, 0_u64);
        let stayed = self.here();
        for sender in 0..self.stays.len() {
            for number in 0..self.ledger.count(sender) {
                let Some(at) = self.ledger.said_at(sender, number) else { continue };
                let knew = |one, other| self.known.get(&(one, other)).is_some_and(|since| *since <= at);
                let receivers =
                    stayed.iter().filter(|receiver| **receiver != sender && knew(sender, **receiver) && knew(**receiver, sender));
                let (mut here, mut heard) = (0, 0);
                for receiver in receivers {
                    here += 1;
                    heard += u64::from(self.ledger.heard(sender, number, *receiver));
                }
                said += 1;
                due += here;
                match self.stays[sender] {
                    Stay::Here | Stay::Left => missed += here - heard,
                    Stay::Died if heard > 0 => uneven += here - heard,
                    Stay::Died => {}
                }
            }
        }
        let gone = |how| self.stays.iter().filter(|stay| **stay == how).count() as f64;
        vec![
            Figure::less("missed", missed as f64),
            Figure::less("missed_of_crashed", uneven as f64),
            Figure::less("reordered", self.reordered as f64),
            Figure::less("doubled", self.doubled as f64),
            Figure::less("p99_ms", self.latencies.percentile_ms(0.99)),
            Figure::more("messages", said as f64),
            Figure::more("due", due as f64),
            Figure::more("left", gone(Stay::Left)),
            Figure::more("died", gone(Stay::Died)),
            Figure::more("stayed", stayed.len() as f64),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_go_as_many_come_and_what_is_due_is_counted() {
        let network = Network { max_neighbors: 7, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 1 };
        let options = Options { peers: 8, minutes: 1, part: 0.5, rate: 1, payload: 20, network };
        let found = measure(&options, 2).unwrap();
        let value = |name| found.iter().find(|figure| figure.name == name).unwrap().value.unwrap();
        assert_eq!((value("left") + value("died"), value("stayed")), (3.0, 8.0));
        assert!(value("due") > 8.0 * 55.0 * 4.0, "{found:?}");
        assert_eq!((value("missed"), value("doubled"), value("reordered")), (0.0, 0.0, 0.0));
    }

    #[test]
    fn what_is_not_heard_is_missed() {
        let network = Network { max_neighbors: 7, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 1 };
        let options = Options { peers: 4, minutes: 1, part: 0.25, rate: 1, payload: 20, network };
        let sim = options.network.mesh(2, 4).unwrap();
        let mut churn = Churn {
            options: &options,
            dice: Dice::new(1),
            ledger: Ledger::default(),
            stays: vec![Stay::Here; 4],
            indices: BTreeMap::new(),
            known: (0..4).flat_map(|one| (0..3).map(move |other| ((one, other), Time(0)))).collect(),
            last: BTreeMap::new(),
            reordered: 0,
            doubled: 0,
            latencies: Latencies::default(),
            sim,
        };
        // Nobody knows the last one; nothing has time to arrive.
        churn.ledger.say(&mut churn.sim, 0, 20).unwrap();
        let found = churn.figures();
        let value = |name| found.iter().find(|figure| figure.name == name).unwrap().value.unwrap();
        assert_eq!((value("messages"), value("due"), value("missed")), (1.0, 2.0, 2.0));
    }
}
