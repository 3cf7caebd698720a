//! iroh-gossip's protocol core (`HyParView` and Plumtree), on the links of Peerflock's simulator.
//!
//! A small event loop in virtual time. Between two peers everything travels on one reliable, ordered stream, as in
//! iroh-gossip's own networking, with the model that [`Sim`] has for such streams: what is lost comes two one-way latencies
//! later, and nothing overtakes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use iroh_gossip::proto::state::MessageKind;
use iroh_gossip::proto::{Command, Config, Event, InEvent, Message, OutEvent, PeerData, Scope, State, TopicId};
use peerflock_proto::Time;
use peerflock_proto::sim::Sim;
use rand::rngs::ChaCha12Rng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::{Options, Stack, Totals};
use crate::Failure;

/// As long as the public key that is an identity in the field, for these are part of messages.
type Id = [u8; 32];

const TOPIC_BYTES: usize = 32;

/// A message's topic is written once, when the stream opens; before each message goes its length, as a `u32`.
const PREFIX_BYTES: usize = 4;

/// Between two peers' joining.
const JOIN_PAUSE: Duration = Duration::from_millis(100);

/// After the last has joined, before anything is sent.
const SETTLE: Duration = Duration::from_secs(20);

/// A swarm of peers and what is on its way between them.
#[derive(Debug)]
pub(super) struct IrohGossip {
    peers: Vec<State<Id, ChaCha12Rng>>,
    /// Only asked for latencies.
    links: Sim,
    loss: f64,
    rng: ChaCha12Rng,
    /// What `now` is called where an [`Instant`] is asked for, less the virtual time since then.
    epoch: Instant,
    now: Time,
    queue: BTreeMap<(Time, u64), (usize, InEvent<Id>)>,
    next: u64,
    /// Pairs with a connection, the smaller index first.
    connected: BTreeSet<(usize, usize)>,
    /// When the last message from one to the other arrives.
    last_arrival: BTreeMap<(usize, usize), Time>,
    deliveries: Vec<(Time, Bytes)>,
    bytes: u64,
    payloads_received: u64,
    payloads_delivered: u64,
}

impl IrohGossip {
    /// A swarm that all have joined.
    pub(super) fn joined(options: &Options, peers: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(options.seed);
        let states = (0..peers)
            .map(|index| {
                let rng = ChaCha12Rng::from_rng(&mut rng);
                State::new(identity(index), PeerData::default(), Config::default(), rng)
            })
            .collect();
        let mut swarm = Self {
            peers: states,
            links: Sim::new(options.network()),
            loss: options.loss,
            rng,
            epoch: Instant::now(),
            now: Time(0),
            queue: BTreeMap::new(),
            next: 0,
            connected: BTreeSet::new(),
            last_arrival: BTreeMap::new(),
            deliveries: Vec::new(),
            bytes: 0,
            payloads_received: 0,
            payloads_delivered: 0,
        };
        for index in 0..peers {
            let known = if index == 0 { Vec::new() } else { vec![identity(0)] };
            swarm.handle(index, InEvent::Command(topic(), Command::Join(known)));
            swarm.run(JOIN_PAUSE);
        }
        swarm.run(SETTLE);
        swarm
    }

    fn handle(&mut self, index: usize, event: InEvent<Id>) {
        if let InEvent::RecvMessage(_, message) = &event
            && matches!(message.kind(), MessageKind::Data)
        {
            self.payloads_received += 1;
        }
        let instant = self.epoch + self.now.since(Time(0));
        let asked: Vec<OutEvent<Id>> = self.peers[index].handle(event, instant, None).collect();
        for event in asked {
            match event {
                OutEvent::SendMessage(to, message) => self.transmit(index, index_of(&to), message),
                OutEvent::ScheduleTimer(wait, timer) => self.later(self.now + wait, index, InEvent::TimerExpired(timer)),
                OutEvent::DisconnectPeer(peer) => self.disconnect(index, index_of(&peer)),
                OutEvent::EmitEvent(_, Event::Received(received)) => {
                    self.payloads_delivered += 1;
                    self.deliveries.push((self.now, received.content));
                }
                OutEvent::EmitEvent(..) | OutEvent::PeerData(..) => {}
            }
        }
    }

    fn transmit(&mut self, from: usize, to: usize, message: Message<Id>) {
        // Encoding fails for no message: all of them are plain data of known length.
        let size = message.size().unwrap_or_default();
        self.bytes += (size.saturating_sub(TOPIC_BYTES) + PREFIX_BYTES) as u64;
        self.connected.insert(pair(from, to));
        let latency = self.links.latency(from, to);
        let repaired = if self.rng.random_bool(self.loss) { latency * 2 } else { Duration::ZERO };
        self.in_order(from, to, latency + repaired, InEvent::RecvMessage(identity(from), message));
    }

    /// Closes a connection: the other end hears of it after everything that was sent before.
    fn disconnect(&mut self, from: usize, to: usize) {
        if self.connected.remove(&pair(from, to)) {
            let latency = self.links.latency(from, to);
            self.in_order(from, to, latency, InEvent::PeerDisconnected(identity(from)));
        }
    }

    fn in_order(&mut self, from: usize, to: usize, wait: Duration, event: InEvent<Id>) {
        let last = self.last_arrival.entry((from, to)).or_insert(self.now);
        *last = (self.now + wait).max(*last);
        let at = *last;
        self.later(at, to, event);
    }

    fn later(&mut self, at: Time, index: usize, event: InEvent<Id>) {
        self.next += 1;
        self.queue.insert((at, self.next), (index, event));
    }
}

impl Stack for IrohGossip {
    const NAME: &'static str = "iroh-gossip 0.101";

    fn now(&self) -> Time {
        self.now
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let (index, event) = entry.remove();
            self.handle(index, event);
        }
        self.now = end;
    }

    fn send(&mut self, index: usize, payload: Bytes) -> Result<(), Failure> {
        self.handle(index, InEvent::Command(topic(), Command::Broadcast(payload, Scope::Swarm)));
        Ok(())
    }

    fn take_deliveries(&mut self) -> Vec<(Time, Bytes)> {
        std::mem::take(&mut self.deliveries)
    }

    fn totals(&self) -> Totals {
        Totals { bytes: self.bytes, duplicates: self.payloads_received - self.payloads_delivered }
    }
}

fn topic() -> TopicId {
    TopicId::from_bytes([7; TOPIC_BYTES])
}

fn identity(index: usize) -> Id {
    let mut id = [0xff; 32];
    id[..8].copy_from_slice(&(index as u64).to_be_bytes());
    id
}

fn index_of(id: &Id) -> usize {
    let mut index = [0; 8];
    index.copy_from_slice(&id[..8]);
    u64::from_be_bytes(index) as usize
}

fn pair(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}
