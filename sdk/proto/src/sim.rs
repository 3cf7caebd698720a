//! Many nodes on virtual links in virtual time: what tests and measurements run on. Behind the feature `sim`.
//!
//! One thread, one seed, one trace: the same [`Options`] and calls give the same events in the same order. Links have a one-way
//! latency each, drawn once; datagrams are lost, doubled and jittered as the options say; frames arrive in order, later when
//! something of theirs was lost, as on a QUIC stream.

mod signatures;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

pub(crate) use signatures::checked_once;
pub use signatures::remember_signatures;

use crate::admission::MeshKey;
use crate::config::Config;
use crate::id::{Identity, LinkId, MeshId, PeerId};
use crate::node::{Candidate, Event, Input, Node, Output};
use crate::time::{Time, micros};

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
            duplicates: 0.0,
        }
    }
}

/// How long a dial into nowhere takes to fail.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);

/// The virtual network and the nodes on it, by index.
#[derive(Debug)]
pub struct Sim {
    options: Options,
    now: Time,
    nodes: Vec<Host>,
    wires: BTreeMap<(usize, LinkId), Wire>,
    cut: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(Time, u64), Arrival>,
    /// When which living node wants to be woken: kept beside, so that a step does not ask them all.
    timers: BTreeSet<(Time, usize)>,
    next: u64,
    rng: ChaCha8Rng,
    trace: blake3::Hasher,
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
    /// Its entry in the simulator's timers.
    timer: Option<Time>,
    events: Vec<(Time, Event)>,
}

/// One end of a connection: where it leads, and when the last frame on it arrives there.
#[derive(Clone, Copy, Debug)]
struct Wire {
    peer: usize,
    peer_link: LinkId,
    last_frame: Time,
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
            wires: BTreeMap::new(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            timers: BTreeSet::new(),
            next: 0,
            rng: ChaCha8Rng::seed_from_u64(options.seed),
            trace: blake3::Hasher::new(),
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
        self.nodes.push(Host { node, alive: true, paused_until: Time(0), timer: None, events: Vec::new() });
        self.set_timer(index);
        index
    }

    /// Adds `count` nodes that all know the first one's address, and runs until they have met, or for `patience`.
    pub fn mesh(options: Options, count: usize, config: &Config, patience: Duration) -> Self {
        let mut sim = Self::new(options);
        for index in 0..count {
            sim.add(config.clone(), [7; 32]);
            if index > 0 {
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

    /// The node at that address; no node at all for an address that is none of ours.
    fn index(address: SocketAddr) -> usize {
        match address.ip() {
            std::net::IpAddr::V4(ip) => ip.to_bits() as usize & 0x00ff_ffff,
            std::net::IpAddr::V6(_) => usize::MAX,
        }
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

    /// A node stops, without a word.
    pub fn crash(&mut self, index: usize) {
        self.nodes[index].alive = false;
        self.set_timer(index);
    }

    /// A node does nothing for a while, then goes on: a process stopped and continued.
    pub fn pause(&mut self, index: usize, duration: Duration) {
        self.nodes[index].paused_until = self.now + duration;
        self.set_timer(index);
    }

    /// Nothing passes between these two nodes any more, in both directions.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    /// All cuts are healed.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timeout = self.timers.first().copied();
            let next = arrival.into_iter().chain(timeout.map(|(at, _)| at)).min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            match (arrival, timeout) {
                (_, Some((due, index))) if due == at && arrival.is_none_or(|arrival| arrival > due) => {
                    self.nodes[index].node.handle_timeout(self.now);
                    self.drain(index);
                }
                _ => {
                    if let Some((_, arrival)) = self.queue.pop_first() {
                        self.arrive(arrival);
                    }
                }
            }
        }
        self.now = end;
    }

    /// A hash of everything that was sent so far, when and to whom: the same seed, the same trace.
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
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
                host.node.handle(input, self.now);
                self.drain(index);
            }
            Arrival::Question { from, to } => {
                let answers = self.nodes.get(to).is_some_and(|host| host.alive && host.paused_until <= self.now);
                if !answers || self.is_cut(from, to) || self.chance(self.options.loss) {
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
                let reachable = self.nodes.get(to).is_some_and(|host| host.alive) && !self.is_cut(from, to);
                let accepted = if reachable { self.nodes[to].node.accept(Self::address(from), self.now).ok() } else { None };
                let Some(peer_link) = accepted else {
                    return self.later(self.now + DIAL_TIMEOUT, Arrival::Input(from, Input::DialFailed { link }));
                };
                self.wires.insert((from, link), Wire { peer: to, peer_link, last_frame: self.now });
                self.wires.insert((to, peer_link), Wire { peer: from, peer_link: link, last_frame: self.now });
                let mut exporter = [0; 32];
                self.rng.fill_bytes(&mut exporter);
                for (index, link, peer, wait) in [(from, link, to, rtt / 2), (to, peer_link, from, rtt)] {
                    let up = Input::LinkUp { link, peer: self.peer(peer), address: Self::address(peer), exporter };
                    self.later(self.now + wait, Arrival::Input(index, up));
                    self.later(self.now + wait, Arrival::Input(index, Input::LinkStats { link, rtt }));
                }
            }
        }
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].node.poll_output() {
            match output {
                Output::Dial { link, address, .. } => {
                    let to = Self::index(address);
                    let at = self.now + self.latency(index, to);
                    self.later(at, Arrival::Connect { from: index, link, to });
                }
                Output::Probe { address } => {
                    if !self.chance(self.options.loss) {
                        let to = Self::index(address);
                        let at = self.now + self.latency(index, to);
                        self.later(at, Arrival::Question { from: index, to });
                    }
                }
                Output::Frame { link, bytes } => self.send_in_order(index, link, |link| Input::Frame { link, bytes }),
                Output::Datagram { link, bytes } => {
                    self.record(index, &bytes);
                    let Some(wire) = self.wires.get(&(index, link)).copied() else { continue };
                    let copies = if self.chance(self.options.duplicates) { 2 } else { 1 };
                    for _ in 0..copies {
                        if self.chance(self.options.loss) || self.is_cut(index, wire.peer) {
                            continue;
                        }
                        self.datagrams += 1;
                        let jitter = self.draw(Duration::ZERO, self.options.jitter);
                        let at = self.now + self.latency(index, wire.peer) + jitter;
                        self.later(at, Arrival::Input(wire.peer, Input::Datagram { link: wire.peer_link, bytes: bytes.clone() }));
                    }
                }
                Output::Close { link, reason } => {
                    self.send_in_order(index, link, |link| Input::LinkDown { link, reason });
                    self.wires.remove(&(index, link));
                }
                Output::Admitted { .. } => {}
                Output::Event(event) => {
                    let now = self.now;
                    self.nodes[index].events.push((now, event));
                }
            }
        }
        self.set_timer(index);
    }

    fn set_timer(&mut self, index: usize) {
        let host = &mut self.nodes[index];
        let due = host.node.poll_timeout().filter(|_| host.alive).map(|due| due.max(host.paused_until));
        if host.timer == due {
            return;
        }
        if let Some(former) = std::mem::replace(&mut host.timer, due) {
            self.timers.remove(&(former, index));
        }
        self.timers.extend(due.map(|due| (due, index)));
    }

    fn send_in_order(&mut self, index: usize, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        let Some(wire) = self.wires.get(&(index, link)).copied() else { return };
        if self.is_cut(index, wire.peer) {
            // The connection is lost with what was on it; both ends will notice by silence.
            return;
        }
        self.frames += 1;
        let latency = self.latency(index, wire.peer);
        let repaired = if self.chance(self.options.loss) { latency * 2 } else { Duration::ZERO };
        let at = (self.now + latency + repaired).max(wire.last_frame);
        if let Some(wire) = self.wires.get_mut(&(index, link)) {
            wire.last_frame = at;
        }
        let input = input(wire.peer_link);
        if let Input::Frame { bytes, .. } = &input {
            self.record(index, bytes);
        }
        self.later(at, Arrival::Input(wire.peer, input));
    }

    fn record(&mut self, index: usize, bytes: &[u8]) {
        self.trace.update(&self.now.0.to_le_bytes()).update(&(index as u64).to_le_bytes()).update(bytes);
    }

    fn later(&mut self, at: Time, arrival: Arrival) {
        self.next += 1;
        self.queue.insert((at, self.next), arrival);
    }

    fn is_cut(&self, one: usize, other: usize) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// The one-way latency between two nodes: from the seed and the two indices alone, so that the order of calls does not matter.
    pub fn latency(&self, one: usize, other: usize) -> Duration {
        let pair = ((one.min(other) as u64) << 32) | one.max(other) as u64;
        between(self.options.latency.0, self.options.latency.1, (scramble(self.options.seed ^ scramble(pair)) >> 32) as u32)
    }

    fn draw(&mut self, least: Duration, most: Duration) -> Duration {
        let drawn = self.rng.next_u32();
        between(least, most, drawn)
    }

    fn chance(&mut self, part: f64) -> bool {
        part > 0.0 && f64::from(self.rng.next_u32()) < part * f64::from(u32::MAX)
    }
}

/// The last step of `SplitMix64` (Steele et al., 2014).
fn scramble(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn between(least: Duration, most: Duration, drawn: u32) -> Duration {
    let span = micros(most).saturating_sub(micros(least));
    Duration::from_micros(micros(least) + (u128::from(span) * u128::from(drawn) / u128::from(u32::MAX)) as u64)
}
