//! Nodes on wires that a test reads, alters and plays again: all that a dishonest member can do without the keys of others.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::remember_signatures;
use peerflock_proto::{
    Candidate, Config, Event, Identity, Input, LinkId, MeshId, MeshKey, Node, Output, PeerId, SendError, Target, Time,
};

use super::{TOPIC, message, millis, seconds};

/// How long anything takes from one node to another.
const LATENCY: Duration = Duration::from_millis(10);

/// Something on its way from one node to another.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The receiver's number of the link.
    link: LinkId,
    datagram: bool,
    pub(crate) bytes: Bytes,
}

impl Passing {
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Whether it is a message to one or to those near: a frame, after whose version that kind's number comes.
    pub(crate) fn is_letter(&self) -> bool {
        !self.datagram && self.bytes.get(1) == Some(&6)
    }
}

type Tap = Box<dyn FnMut(&mut Passing)>;

/// The nodes and the wires between them.
pub(crate) struct Wires {
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
    pub(crate) fn new(pairs: &[(usize, usize)], config: &Config) -> Self {
        remember_signatures();
        let count = pairs.iter().map(|(one, other)| one.max(other) + 1).max().unwrap_or_default();
        let key = MeshKey::open(MeshId::from_name("wires"));
        let node = |index: usize| {
            let seed = [index as u8 + 1; 32];
            let config = Config { addresses: vec![address(index)], ..config.clone() };
            Node::new(config, Identity::from_seed(seed), key.clone(), seed, Time(0))
        };
        let mut wires = Self {
            nodes: (0..count).map(node).collect(),
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
        wires.run(seconds(5));
        assert!((0..count).all(|index| wires.node(index).members(wires.now).len() == count), "all met");
        assert!(pairs.iter().all(|(one, other)| wires.link(*one, *other).is_some()), "all pairs are linked");
        wires
    }

    /// Nodes in a row.
    pub(crate) fn row(count: usize, config: &Config) -> Self {
        Self::new(&(1..count).map(|index| (index - 1, index)).collect::<Vec<_>>(), config)
    }

    /// From now on `tap` sees all that passes, and may alter it.
    pub(crate) fn tap(&mut self, tap: impl FnMut(&mut Passing) + 'static) {
        self.tap = Box::new(tap);
    }

    /// From now on all that passes is noted.
    pub(crate) fn record(&mut self) -> Rc<RefCell<Vec<Passing>>> {
        let record = Rc::new(RefCell::new(Vec::new()));
        let noted = record.clone();
        self.tap(move |passing| noted.borrow_mut().push(passing.clone()));
        record
    }

    /// What passed once arrives again.
    pub(crate) fn replay(&mut self, passed: &Passing) {
        self.deliver(self.now, passed.clone());
    }

    pub(crate) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    pub(crate) fn peer(&self, index: usize) -> PeerId {
        self.nodes[index].peer_id()
    }

    /// The link that `one` holds to `other`.
    pub(crate) fn link(&self, one: usize, other: usize) -> Option<LinkId> {
        let peer = self.peer(other);
        self.nodes[one].links().into_iter().find(|link| link.peer == peer).map(|link| link.link)
    }

    pub(crate) fn send(&mut self, index: usize, to: Target, text: &str) -> Result<(), SendError> {
        let result = self.nodes[index].send(to, TOPIC, Bytes::from(text.to_owned()), self.now);
        self.drain(index);
        result
    }

    /// All that a node's application heard since it last asked.
    pub(crate) fn heard(&mut self, index: usize) -> Vec<String> {
        let events = self.events.remove(&index).unwrap_or_default();
        events.into_iter().filter_map(message).map(|(_, text)| text).collect()
    }

    pub(crate) fn input(&mut self, index: usize, input: Input) {
        self.nodes[index].handle(input, self.now);
        self.drain(index);
    }

    pub(crate) fn run(&mut self, duration: Duration) {
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
        let Some((to, theirs)) = accepted else { return self.later(self.now + millis(500), from, Input::DialFailed { link }) };
        self.ends.insert((from, link), (to, theirs));
        self.ends.insert((to, theirs), (from, link));
        for (end, link, other) in [(from, link, to), (to, theirs, from)] {
            let up = Input::LinkUp { link, peer: self.peer(other), address: address(other), exporter: [7; 32] };
            self.later(self.now + LATENCY, end, up);
            self.later(self.now + LATENCY, end, Input::LinkStats { link, rtt: 2 * LATENCY, limit: None });
        }
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

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + index as u16))
}
