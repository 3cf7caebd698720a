//! Many nodes on virtual links in virtual time: what tests and measurements run on. Behind the feature `sim`.
//!
//! One thread, one seed, one trace: the same [`Options`] and calls give the same events in the same order. Links have a one-way
//! latency each, drawn once; datagrams are lost, doubled and jittered as the options say; frames arrive in order, later when
//! something of theirs was lost, as on a QUIC stream.

pub mod effort;
pub mod forge;
pub mod fuzz;
pub mod guess;
mod links;
pub mod samples;
mod schedule;
mod signatures;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use links::{Channel, Latencies, between, chance};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use schedule::{Agenda, Timers};
pub(crate) use signatures::checked_once;
pub use signatures::{SignatureChecks, remember_signatures, signature_checks};
use trace::Trace;

use crate::admission::MeshKey;
use crate::config::Config;
use crate::id::{Identity, LinkId, MeshId, PeerId};
use crate::node::{Candidate, Event, Input, Node, Output};
use crate::time::Time;

/// What the virtual network does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// One-way latency of a pair of nodes, drawn evenly between these two.
    pub latency: (Duration, Duration),
    /// Up to so much later, drawn anew for each datagram: so they overtake each other.
    pub jitter: Duration,
    /// Part of the datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// How many datagrams of one direction of a link are lost in a row, on average; up to 1: each by itself.
    pub burst: f64,
    /// Part of the datagrams that arrives twice, 0 to 1.
    pub duplicates: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            latency: (Duration::from_millis(10), Duration::from_millis(50)),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            duplicates: 0.0,
        }
    }
}

/// How long a dial into nowhere takes to fail.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// So many may come to the first node's door at once. Where there are more, those after the first few each know somebody, and one
/// comes after the other.
const DOOR: usize = 257;
const FIRST_GUESTS: usize = 16;
const NEXT_GUEST: Duration = Duration::from_millis(5);

/// The virtual network and the nodes on it, by index.
#[derive(Debug)]
pub struct Sim {
    options: Options,
    now: Time,
    nodes: Vec<Host>,
    latencies: Latencies,
    cut: BTreeSet<(usize, usize)>,
    /// Nothing passes between anybody until then.
    outage_until: Time,
    arrivals: Agenda<Arrival>,
    timers: Timers,
    rng: ChaCha8Rng,
    trace: Trace,
    /// Datagrams that arrived, and bytes of them.
    pub datagrams: u64,
    /// Frames that arrived.
    pub frames: u64,
}

#[derive(Debug)]
struct Host {
    node: Node,
    alive: bool,
    /// Does nothing until then, like a stopped process.
    paused_until: Time,
    wires: BTreeMap<LinkId, Wire>,
    events: Vec<(Time, Event)>,
}

/// One end of a connection: where it leads, and when the last frame on it arrives there.
#[derive(Clone, Copy, Debug)]
struct Wire {
    peer: usize,
    peer_link: LinkId,
    last_frame: Time,
    channel: Channel,
}

#[derive(Debug)]
enum Arrival {
    Input(usize, Input),
    Connect { from: usize, link: LinkId, to: usize },
    Question { from: usize, to: usize },
}

impl Sim {
    /// An empty network.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            now: Time(1_000_000),
            nodes: Vec::new(),
            latencies: Latencies::default(),
            cut: BTreeSet::new(),
            outage_until: Time(0),
            arrivals: Agenda::new(),
            timers: Timers::new(),
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            trace: Trace::default(),
            datagrams: 0,
            frames: 0,
        }
    }

    /// Adds a node that knows the password `secret` and has an address of its own; its index.
    pub fn add(&mut self, mut config: Config, secret: [u8; 32]) -> usize {
        let index = self.nodes.len();
        config.addresses = vec![Self::address(index)];
        let key = MeshKey::from_secret(MeshId::from_name("sim"), secret);
        let (mut identity, mut seed) = ([0; 32], [0; 32]);
        self.rng.fill_bytes(&mut identity);
        self.rng.fill_bytes(&mut seed);
        let node = Node::new(config, Identity::from_seed(identity), key, seed, self.now);
        self.nodes.push(Host { node, alive: true, paused_until: Time(0), wires: BTreeMap::new(), events: Vec::new() });
        self.latencies.add(index, &self.options);
        self.schedule(index);
        index
    }

    /// Adds `count` nodes that all know the first one's address, and runs until they have met, or for `patience`.
    pub fn mesh(options: Options, count: usize, config: &Config, patience: Duration) -> Self {
        let mut sim = Self::new(options);
        let door = if count > DOOR { FIRST_GUESTS } else { DOOR };
        for index in 0..count {
            sim.add(config.clone(), [7; 32]);
            if index >= door {
                // As invitations go from hand to hand: a thousand at one door would wait for each other.
                let friend = sim.rng.next_u32() as usize % index;
                sim.introduce(index, friend);
                sim.run(NEXT_GUEST);
            } else if index > 0 {
                sim.introduce(index, 0);
            }
        }
        let deadline = sim.now + patience;
        while sim.now < deadline && !(0..count).all(|index| sim.node(index).member_count() == count) {
            sim.run(Duration::from_millis(50));
        }
        sim
    }

    /// Where the node of that index is.
    pub fn address(index: usize) -> SocketAddr {
        SocketAddr::from(([10, (index >> 16) as u8, (index >> 8) as u8, index as u8], 1))
    }

    /// The index of the node that is there.
    fn index_at(&self, address: SocketAddr) -> Option<usize> {
        let IpAddr::V4(ip) = address.ip() else { return None };
        let index = (u32::from(ip) & 0x00ff_ffff) as usize;
        (index < self.nodes.len() && Self::address(index) == address).then_some(index)
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// How many nodes there are, crashed ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A node.
    ///
    /// # Panics
    /// Without a node of that index.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index].node
    }

    /// Who the node of that index is.
    pub fn peer(&self, index: usize) -> PeerId {
        self.node(index).peer_id()
    }

    /// What the node's application was told so far and when; forgotten with the call.
    pub fn take_events(&mut self, index: usize) -> Vec<(Time, Event)> {
        std::mem::take(&mut self.nodes[index].events)
    }

    /// Tells node `index` the address of node `of`.
    pub fn introduce(&mut self, index: usize, of: usize) {
        self.input(index, Input::Candidates(vec![Candidate { address: Self::address(of), peer: None }]));
    }

    /// Gives an input to a node, now.
    pub fn input(&mut self, index: usize, input: Input) {
        self.nodes[index].node.handle(input, self.now);
        self.drain(index);
    }

    /// Calls something on a node, now, and does what the node then asks for.
    pub fn with<T>(&mut self, index: usize, call: impl FnOnce(&mut Node, Time) -> T) -> T {
        let result = call(&mut self.nodes[index].node, self.now);
        self.drain(index);
        result
    }

    /// Does what a node asked for in an output that somebody else drained: a measurement of the node alone.
    pub fn perform(&mut self, index: usize, output: Output) {
        match output {
            Output::Dial { link, address, .. } => {
                let to = self.index_at(address).unwrap_or(usize::MAX);
                let at = self.now + self.latency(index, to);
                self.later(at, Arrival::Connect { from: index, link, to });
            }
            Output::Probe { address } => {
                if let Some(to) = self.index_at(address)
                    && !chance(self.options.loss, &mut self.rng)
                {
                    let at = self.now + self.latency(index, to);
                    self.later(at, Arrival::Question { from: index, to });
                }
            }
            Output::Frame { link, bytes } => self.send_in_order(index, link, |link| Input::Frame { link, bytes }),
            Output::Datagram { link, bytes } => self.send_datagram(index, link, bytes),
            Output::Close { link, reason } => {
                self.send_in_order(index, link, |link| Input::LinkDown { link, reason });
                self.nodes[index].wires.remove(&link);
            }
            Output::Admitted { .. } => {}
            Output::Event(event) => {
                let now = self.now;
                self.nodes[index].events.push((now, event));
            }
        }
    }

    /// A node stops, without a word.
    pub fn crash(&mut self, index: usize) {
        self.nodes[index].alive = false;
        self.schedule(index);
    }

    /// A node does nothing for a while, then goes on: a process stopped and continued.
    pub fn pause(&mut self, index: usize, duration: Duration) {
        self.nodes[index].paused_until = self.now + duration;
        self.schedule(index);
    }

    /// Nothing passes between these two nodes any more, in both directions.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    /// All cuts are healed.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Nothing passes between any two nodes for a while: datagrams and dials are lost, and frames are sent again until they arrive.
    pub fn outage(&mut self, duration: Duration) {
        self.outage_until = self.outage_until.max(self.now + duration);
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.arrivals.next_at().unwrap_or(Time(u64::MAX));
            // What arrives at the very moment of a timeout comes first.
            let timeout = self.timers.first().filter(|(due, _)| *due < arrival);
            let at = timeout.map_or(arrival, |(due, _)| due);
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if let Some((_, index)) = timeout {
                self.nodes[index].node.handle_timeout(self.now);
                self.drain(index);
            } else if let Some(arrival) = self.arrivals.pop() {
                self.arrive(arrival);
            }
        }
        self.now = end;
    }

    /// A hash of everything that was sent so far, when and to whom: the same seed, the same trace.
    pub fn trace(&self) -> [u8; 32] {
        self.trace.hash()
    }

    /// Whether all living nodes see the same world and the same members.
    pub fn converged(&self) -> bool {
        let mut views = self.nodes.iter().filter(|host| host.alive).map(|host| {
            let members: Vec<PeerId> = host.node.members(self.now).into_iter().map(|member| member.peer).collect();
            (host.node.state_hash(), members)
        });
        let first = views.next();
        views.all(|view| Some(view) == first)
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Input(index, input) => {
                let host = &mut self.nodes[index];
                if !host.alive {
                    return;
                }
                if host.paused_until > self.now {
                    let at = host.paused_until;
                    return self.later(at, Arrival::Input(index, input));
                }
                if let Input::LinkDown { link, .. } = &input {
                    host.wires.remove(link);
                }
                host.node.handle(input, self.now);
                self.drain(index);
            }
            Arrival::Question { from, to } => {
                let answers = self.nodes.get(to).is_some_and(|host| host.alive && host.paused_until <= self.now);
                if !answers || self.is_out(from, to) || chance(self.options.loss, &mut self.rng) {
                    return;
                }
                let latency = self.latency(from, to);
                self.later(
                    self.now + latency,
                    Arrival::Input(from, Input::Probed { address: Self::address(to), rtt: latency * 2 }),
                );
            }
            Arrival::Connect { from, link, to } => {
                let rtt = self.latency(from, to) * 2;
                let reachable = self.nodes.get(to).is_some_and(|host| host.alive) && !self.is_out(from, to);
                let accepted = if reachable { self.nodes[to].node.accept(Self::address(from), self.now).ok() } else { None };
                let Some(peer_link) = accepted else {
                    return self.later(self.now + DIAL_TIMEOUT, Arrival::Input(from, Input::DialFailed { link }));
                };
                self.schedule(to);
                let wire = |peer, peer_link| Wire { peer, peer_link, last_frame: self.now, channel: Channel::default() };
                self.nodes[from].wires.insert(link, wire(to, peer_link));
                self.nodes[to].wires.insert(peer_link, wire(from, link));
                let mut exporter = [0; 32];
                self.rng.fill_bytes(&mut exporter);
                for (index, link, peer, wait) in [(from, link, to, rtt / 2), (to, peer_link, from, rtt)] {
                    let up = Input::LinkUp { link, peer: self.peer(peer), address: Self::address(peer), exporter };
                    self.later(self.now + wait, Arrival::Input(index, up));
                    self.later(self.now + wait, Arrival::Input(index, Input::LinkStats { link, rtt, limit: None }));
                }
            }
        }
    }

    /// Does what a node asks for, and notes when it wants to be woken.
    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].node.poll_output() {
            self.perform(index, output);
        }
        self.schedule(index);
    }

    fn schedule(&mut self, index: usize) {
        let host = &self.nodes[index];
        let due = if host.alive { host.node.poll_timeout() } else { None };
        self.timers.set(index, due.map(|due| due.max(host.paused_until)));
    }

    fn send_datagram(&mut self, index: usize, link: LinkId, bytes: Bytes) {
        self.trace.record(self.now, index, &bytes);
        let Some(wire) = self.nodes[index].wires.get(&link).copied() else { return };
        let copies = if chance(self.options.duplicates, &mut self.rng) { 2 } else { 1 };
        for _ in 0..copies {
            if self.is_lost(index, link) || self.is_out(index, wire.peer) {
                continue;
            }
            self.datagrams += 1;
            let jitter = between(Duration::ZERO, self.options.jitter, self.rng.next_u32());
            let at = self.now + self.latency(index, wire.peer) + jitter;
            self.later(at, Arrival::Input(wire.peer, Input::Datagram { link: wire.peer_link, bytes: bytes.clone() }));
        }
    }

    fn send_in_order(&mut self, index: usize, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        let Some(wire) = self.nodes[index].wires.get(&link).copied() else { return };
        if self.is_cut(index, wire.peer) {
            // The connection is lost with what was on it; both ends will notice by silence.
            return;
        }
        self.frames += 1;
        let latency = self.latency(index, wire.peer);
        let repaired = if self.is_lost(index, link) || self.now < self.outage_until { latency * 2 } else { Duration::ZERO };
        let at = (self.now.max(self.outage_until) + latency + repaired).max(wire.last_frame);
        if let Some(wire) = self.nodes[index].wires.get_mut(&link) {
            wire.last_frame = at;
        }
        let input = input(wire.peer_link);
        if let Input::Frame { bytes, .. } = &input {
            self.trace.record(self.now, index, bytes);
        }
        self.later(at, Arrival::Input(wire.peer, input));
    }

    fn is_lost(&mut self, index: usize, link: LinkId) -> bool {
        let Some(wire) = self.nodes[index].wires.get_mut(&link) else { return false };
        wire.channel.loses(&self.options, &mut self.rng)
    }

    fn later(&mut self, at: Time, arrival: Arrival) {
        self.arrivals.push(at, arrival);
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// Whether datagrams and dials between these two are lost.
    fn is_out(&self, one: usize, other: usize) -> bool {
        self.now < self.outage_until || self.is_cut(one, other)
    }

    /// The one-way latency between two nodes: from the seed and the two indices alone, so that the order of calls does not matter.
    pub fn latency(&self, one: usize, other: usize) -> Duration {
        self.latencies.get(one, other, &self.options)
    }
}
