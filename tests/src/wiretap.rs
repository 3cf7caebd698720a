//! Nodes on wires that a test reads, alters and plays again: all that a dishonest member can do without the keys of others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::remember_signatures;
use peerflock_proto::{
    Candidate, Config, Event, Identity, Input, LinkId, MeshId, MeshKey, Node, Output, PeerId, SendError, Target, Time,
};

use crate::game::{self, TOPIC};

/// How long anything takes from one node to another.
pub const LATENCY: Duration = Duration::from_millis(10);
/// Something on its way from one node to another.
#[derive(Clone, Debug)]
pub struct Passing {
    /// Who said it.
    pub from: usize,
    /// To whom.
    pub to: usize,
    /// The receiver's number of the link.
    link: LinkId,
    /// Whether it may be lost: a parcel. Else it is a frame.
    pub datagram: bool,
    /// What it is; a tap may say otherwise.
    pub bytes: Bytes,
}

impl Passing {
    /// Whether it holds a text.
    pub fn holds(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether it is a message to one or to those near: a frame, after whose version that kind's number comes.
    pub fn is_letter(&self) -> bool {
        !self.datagram && self.bytes.get(1) == Some(&6)
    }
}

type Tap = Box<dyn FnMut(&mut Passing)>;

/// The nodes and the wires between them.
pub struct Wires {
    nodes: Vec<Node>,
    /// Who can reach whom.
    pairs: BTreeSet<(usize, usize)>,
    ends: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    queue: BTreeMap<(Time, u64), (usize, Input)>,
    queued: u64,
    tap: Tap,
    events: BTreeMap<usize, Vec<Event>>,
    now: Time,
}

impl Wires {
    /// As many nodes as `pairs` names; only those pairs can reach each other, and they are linked.
    ///
    /// # Panics
    /// Where they do not meet within 5 seconds.
    pub fn new(pairs: &[(usize, usize)], config: &Config) -> Self {
        remember_signatures();
        let count = pairs.iter().map(|(one, other)| one.max(other) + 1).max().unwrap_or_default();
        let mut wires = Self {
            nodes: (0..count).map(|index| node(index, config, Time(0))).collect(),
            pairs: pairs.iter().flat_map(|(one, other)| [(*one, *other), (*other, *one)]).collect(),
            ends: BTreeMap::new(),
            queue: BTreeMap::new(),
            queued: 0,
            tap: Box::new(|_| ()),
            events: BTreeMap::new(),
            now: Time(0),
        };
        for (one, other) in pairs {
            let candidate = Candidate { address: address(*other), peer: None };
            wires.input(*one, Input::Candidates(vec![candidate]));
        }
        wires.run(Duration::from_secs(5));
        assert!((0..count).all(|index| wires.node(index).members(wires.now).len() == count), "all met");
        assert!(pairs.iter().all(|(one, other)| wires.link(*one, *other).is_some()), "all pairs are linked");
        wires
    }

    /// Nodes in a row.
    ///
    /// # Panics
    /// As [`Wires::new`].
    pub fn row(count: usize, config: &Config) -> Self {
        Self::new(&(1..count).map(|index| (index - 1, index)).collect::<Vec<_>>(), config)
    }

    /// One more node that can reach those, and dials them in that order, with so much time between.
    pub fn join(&mut self, others: &[usize], config: &Config, pause: Duration) -> usize {
        let index = self.nodes.len();
        self.nodes.push(node(index, config, self.now));
        for other in others {
            self.pairs.extend([(index, *other), (*other, index)]);
            let candidate = Candidate { address: address(*other), peer: None };
            self.input(index, Input::Candidates(vec![candidate]));
            self.run(pause);
        }
        index
    }

    /// From now on `tap` sees all that passes, and may alter it.
    pub fn tap(&mut self, tap: impl FnMut(&mut Passing) + 'static) {
        self.tap = Box::new(tap);
    }

    /// From now on all that passes is noted.
    pub fn record(&mut self) -> Rc<RefCell<Vec<Passing>>> {
        let record = Rc::new(RefCell::new(Vec::new()));
        let noted = record.clone();
        self.tap(move |passing| noted.borrow_mut().push(passing.clone()));
        record
    }

    /// Node `from` says something to `to` that it did not make; nothing if there is no link.
    pub fn inject(&mut self, from: usize, to: usize, datagram: bool, bytes: Bytes) {
        if let Some(link) = self.link(to, from) {
            self.deliver(self.now + LATENCY, Passing { from, to, link, datagram, bytes });
        }
    }

    /// What passed once arrives again.
    pub fn replay(&mut self, passed: &Passing) {
        self.deliver(self.now, passed.clone());
    }

    /// A node.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Who a node is.
    pub fn peer(&self, index: usize) -> PeerId {
        self.nodes[index].peer_id()
    }

    /// The link that `one` holds to `other`.
    pub fn link(&self, one: usize, other: usize) -> Option<LinkId> {
        let peer = self.peer(other);
        self.nodes[one].links().into_iter().find(|link| link.peer == peer).map(|link| link.link)
    }

    /// A node says something.
    ///
    /// # Errors
    /// As [`Node::send`].
    pub fn send(&mut self, index: usize, to: Target, text: &str) -> Result<(), SendError> {
        let result = self.nodes[index].send(to, TOPIC, Bytes::from(text.to_owned()), self.now);
        self.drain(index);
        result
    }

    /// All that a node's application heard since it last asked.
    pub fn heard(&mut self, index: usize) -> Vec<String> {
        self.take_events(index).into_iter().filter_map(|event| game::message(event).map(|(_, text)| text)).collect()
    }

    /// All that a node's application was told since it last asked.
    pub fn take_events(&mut self, index: usize) -> Vec<Event> {
        self.events.remove(&index).unwrap_or_default()
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Node `index` removes members.
    ///
    /// # Panics
    /// Where it may not.
    pub fn remove(&mut self, index: usize, peers: &[PeerId]) {
        self.nodes[index].remove(peers, self.now).expect("the rule lets it");
        self.drain(index);
    }

    /// Gives an input to a node, now.
    pub fn input(&mut self, index: usize, input: Input) {
        self.nodes[index].handle(input, self.now);
        self.drain(index);
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timeouts = self.nodes.iter().enumerate().filter_map(|(index, node)| Some((node.poll_timeout()?, index)));
            let timeout = timeouts.min();
            let Some(at) = arrival.into_iter().chain(timeout.map(|(at, _)| at)).min().filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            match (self.queue.first_entry(), timeout) {
                (Some(first), _) if first.key().0 <= at => {
                    let (to, input) = first.remove();
                    self.input(to, input);
                }
                (_, Some((_, index))) => {
                    self.nodes[index].handle_timeout(self.now);
                    self.drain(index);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.nodes[index].poll_output() {
            match output {
                Output::Dial { link, address: to, .. } => self.dial(index, link, to),
                Output::Frame { link, bytes } => self.pass(index, link, false, bytes),
                Output::Datagram { link, bytes } => self.pass(index, link, true, bytes),
                Output::Close { link, reason } => {
                    if let Some((to, link)) = self.ends.remove(&(index, link)) {
                        self.later(self.now + LATENCY, to, Input::LinkDown { link, reason });
                    }
                }
                Output::Event(event) => self.events.entry(index).or_default().push(event),
                _ => {}
            }
        }
    }

    fn dial(&mut self, from: usize, link: LinkId, to: SocketAddr) {
        let reached = (0..self.nodes.len()).find(|index| address(*index) == to && self.pairs.contains(&(from, *index)));
        let accepted = reached.and_then(|to| Some((to, self.nodes[to].accept(address(from), self.now).ok()?)));
        let Some((to, theirs)) = accepted else {
            return self.later(self.now + Duration::from_millis(500), from, Input::DialFailed { link });
        };
        self.ends.insert((from, link), (to, theirs));
        self.ends.insert((to, theirs), (from, link));
        // Each connection has its own.
        let exporter = self.exporter();
        for (end, link, other) in [(from, link, to), (to, theirs, from)] {
            let up = Input::LinkUp { link, peer: self.peer(other), address: address(other), exporter };
            self.later(self.now + LATENCY, end, up);
            self.later(self.now + LATENCY, end, Input::LinkStats { link, rtt: 2 * LATENCY, limit: None });
        }
    }

    fn exporter(&mut self) -> [u8; 32] {
        self.queued += 1;
        let mut exporter = [7; 32];
        exporter[..8].copy_from_slice(&self.queued.to_le_bytes());
        exporter
    }

    fn pass(&mut self, from: usize, link: LinkId, datagram: bool, bytes: Bytes) {
        if let Some((to, link)) = self.ends.get(&(from, link)).copied() {
            let mut passing = Passing { from, to, link, datagram, bytes };
            (self.tap)(&mut passing);
            self.deliver(self.now + LATENCY, passing);
        }
    }

    fn deliver(&mut self, at: Time, Passing { to, link, datagram, bytes, .. }: Passing) {
        self.later(at, to, if datagram { Input::Datagram { link, bytes } } else { Input::Frame { link, bytes } });
    }

    fn later(&mut self, at: Time, to: usize, input: Input) {
        self.queued += 1;
        self.queue.insert((at, self.queued), (to, input));
    }
}

impl fmt::Debug for Wires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wires").field("nodes", &self.nodes).field("now", &self.now).finish_non_exhaustive()
    }
}

fn node(index: usize, config: &Config, now: Time) -> Node {
    let seed = [index as u8 + 1; 32];
    let config = Config { addresses: vec![address(index)], ..config.clone() };
    Node::new(config, Identity::from_seed(seed), MeshKey::open(MeshId::from_name("wires")), seed, now)
}

/// Where the node of that index is.
pub fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + index as u16))
}
