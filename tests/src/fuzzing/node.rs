//! A node among a member and strangers who say whatever the fuzzer makes of it: nothing panics, nothing grows without bound, and
//! the same bytes end in the same world.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use peerflock_proto::sim::samples;
use peerflock_proto::wire::WIRE_VERSION;
use peerflock_proto::{
    Candidate, Change, Config, EntityId, Group, Identity, Input, Kind, KindId, LinkId, MeshId, MeshKey, Node, Orphan, Output,
    PeerId, Profile, Registry, Shape, Target as To, Time, Topic, Value,
};

use super::{Script, Target, counted};

/// The bytes are instructions: what happens to whom.
pub const TARGET: Target = Target { name: "node", seeds, start };

fn seeds() -> Vec<Vec<u8>> {
    // Each sort of frame, without its version, and each parcel, as if the member had said them; and something of all else.
    let injected = |sort: u8, skip: usize| {
        move |(_, bytes): (String, bytes::Bytes)| [&[sort], &counted(&bytes[skip..])[..], &[1, 0, 20, 1]].concat()
    };
    let frames = samples::frames().into_iter().map(injected(7, 1));
    let parcels = samples::parcels().into_iter().map(injected(8, 0));
    let rest = [
        vec![10, 0, 0, 0, 4, 0, 10, 1, 10, 0, 1, 0, 9, 0, 10, 1, 2, 3, 5, 9, 1],
        vec![11, 0, 0, 9, 0, 30, 3, 9, 255, 6, 5, 4, 2, 1],
    ];
    frames.chain(parcels).chain(rest).collect()
}

fn start() -> Box<dyn FnMut(&[u8])> {
    let mut worlds = [Scene::new(), Scene::new()];
    Box::new(move |bytes| {
        for scene in &mut worlds {
            scene.play(&mut Script(bytes));
        }
        let [one, other] = &worlds;
        assert_eq!(one.hashes(), other.hashes(), "the same bytes, the same world");
    })
}

/// More inputs on their way than any honest pair has: what is beyond falls out, as on a real link.
const QUEUE_MAX: usize = 256;
/// More links than the fuzzer needs.
const LINKS_MAX: usize = 16;

/// The node under test (0), a member that does as it is told (1), and what is on its way between them.
#[derive(Debug)]
pub struct Scene {
    nodes: [Node; 2],
    /// The links between the two, as each numbers them.
    links: Vec<[LinkId; 2]>,
    queue: VecDeque<(usize, Input)>,
    spawned: u32,
    now: Time,
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Scene {
    /// Both are in one mesh.
    ///
    /// # Panics
    /// Where they do not meet: a fault of ours.
    pub fn new() -> Self {
        let key = MeshKey::open(MeshId::from_name("fuzz"));
        let node = |seed: u8| {
            let mut registry = Registry::default();
            registry.register(Kind { name: "place".to_owned(), shape: Shape::Fields(&[Group::Motion(3)]) });
            registry.register(Kind { name: "notes".to_owned(), shape: Shape::Bytes });
            let config = Config { registry, addresses: vec![address(seed.into())], ..Config::default() };
            Node::new(config, Identity::from_seed([seed; 32]), key.clone(), [seed; 32], Time(0))
        };
        let mut scene = Self { nodes: [node(0), node(1)], links: Vec::new(), queue: VecDeque::new(), spawned: 0, now: Time(0) };
        scene.handle(0, Input::Candidates(vec![Candidate { address: address(1), peer: None }]));
        while scene.nodes[0].members(scene.now).len() < 2 && scene.now < Time(0) + Duration::from_secs(2) {
            scene.advance(Duration::from_millis(10));
            scene.deliver_all();
        }
        assert_eq!(scene.nodes[0].members(scene.now).len(), 2, "two who know the name meet");
        scene
    }

    /// One of the two.
    pub fn node(&self, who: usize) -> &Node {
        &self.nodes[who]
    }

    /// The node under test hears something of the member, if they are linked.
    pub fn hear(&mut self, input: impl FnOnce(LinkId) -> Input) {
        if let Some([link, _]) = self.links.first().copied() {
            self.handle(0, input(link));
        }
    }

    /// Some time passes, in which what is on its way arrives: a link that broke stands again.
    pub fn settle(&mut self) {
        if self.links.is_empty() {
            self.advance(Duration::from_secs(1));
        }
        self.advance(Duration::from_millis(2));
        self.deliver_all();
    }

    fn hashes(&self) -> [[u8; 32]; 2] {
        [0, 1].map(|who| self.nodes[who].state_hash())
    }

    fn play(&mut self, script: &mut Script<'_>) {
        while !script.is_over() {
            match script.byte() % 12 {
                0 => self.advance(Duration::from_millis(u64::from(script.byte()) * 4)),
                1 => self.deliver_all(),
                2 => self.deliver_next(|_| ()),
                3 => {
                    let (place, change) = (usize::from(script.byte()), script.byte());
                    self.deliver_next(|bytes| {
                        if let Some(byte) = bytes.get_mut(place) {
                            *byte ^= change;
                        }
                    });
                }
                4 => {
                    let length = usize::from(script.byte());
                    self.deliver_next(|bytes| bytes.truncate(length));
                }
                5 => _ = self.queue.pop_front(),
                6 => {
                    // Late, and twice.
                    if let Some(next) = self.queue.front().cloned() {
                        self.queue.push_back(next);
                    }
                }
                7 => self.inject(|link, bytes| Input::Frame { link, bytes: bytes.into() }, framed(script)),
                8 => self.inject(|link, bytes| Input::Datagram { link, bytes: bytes.into() }, script.bytes().to_vec()),
                9 => self.stranger(script),
                10 => self.commit(script),
                _ => self.say(script),
            }
        }
        self.deliver_all();
    }

    /// Bytes to the node under test as if the member had said them.
    fn inject(&mut self, input: impl Fn(LinkId, Vec<u8>) -> Input, message: Vec<u8>) {
        self.hear(|link| input(link, message));
    }

    /// Somebody else connects, and says something.
    fn stranger(&mut self, script: &mut Script<'_>) {
        let who = script.byte();
        let Ok(link) = self.nodes[0].accept(address(u16::from(who) + 10), self.now) else { return };
        self.handle(
            0,
            Input::LinkUp { link, peer: PeerId([who; 32]), address: address(u16::from(who) + 10), exporter: [who; 32] },
        );
        self.handle(0, Input::Frame { link, bytes: framed(script).into() });
        if who.is_multiple_of(2) {
            self.handle(0, Input::LinkDown { link, reason: peerflock_proto::CloseReason::Transport });
        }
    }

    /// One of the two changes its world, rightly or not.
    fn commit(&mut self, script: &mut Script<'_>) {
        let (who, what, which, value) = (usize::from(script.byte() % 2), script.byte(), script.byte(), script.byte());
        let spawner = self.nodes[usize::from(which % 2)].peer_id();
        let boot = self.nodes[usize::from(which % 2)].boot();
        let entity = |counter| EntityId { spawner, boot, counter };
        let known = entity(u32::from(which / 2) % self.spawned.max(1));
        let change = match what % 6 {
            0 => {
                self.spawned += 1;
                let orphan = if value.is_multiple_of(2) { Orphan::Adopt } else { Orphan::Vanish };
                Change::Spawn { entity: entity(self.spawned), orphan }
            }
            1 => Change::Set { entity: known, kind: KindId(0), value: Value::fields([i32::from(value), i32::MIN, i32::MAX]) },
            2 => Change::Set { entity: known, kind: KindId(1), value: Value::bytes(vec![value; usize::from(value) * 16]) },
            3 => Change::Unset { entity: known, kind: KindId(value % 3) },
            4 => Change::Despawn { entity: known },
            _ => Change::Transfer { entity: known, to: self.nodes[usize::from(value % 2)].peer_id() },
        };
        self.handle(who, Input::Commit(vec![change]));
    }

    /// One of the two says something.
    fn say(&mut self, script: &mut Script<'_>) {
        let (who, to, length) = (usize::from(script.byte() % 2), script.byte(), usize::from(script.byte()));
        let to = match to % 5 {
            0 => To::All,
            1 => To::AllAndMe,
            2 => To::One(self.nodes[usize::from(to / 5 % 2)].peer_id()),
            3 => To::Hops(to / 5),
            _ => return self.handle(who, Input::SetProfile(Profile::named("é".repeat(length)))),
        };
        let _ = self.nodes[who].send(to, Topic(length as u16), vec![1; length * 300].into(), self.now);
        self.drain(who);
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        for who in 0..2 {
            // As a driver does: whatever is due by now, once.
            if self.nodes[who].poll_timeout().is_some_and(|due| due <= self.now) {
                self.nodes[who].handle_timeout(self.now);
                self.drain(who);
            }
        }
    }

    fn deliver_all(&mut self) {
        for _ in 0..QUEUE_MAX {
            if self.queue.is_empty() {
                break;
            }
            self.deliver_next(|_| ());
        }
    }

    fn deliver_next(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let Some((to, mut input)) = self.queue.pop_front() else { return };
        if let Input::Frame { bytes, .. } | Input::Datagram { bytes, .. } = &mut input {
            let mut changed = bytes.to_vec();
            change(&mut changed);
            *bytes = changed.into();
        }
        self.handle(to, input);
    }

    fn handle(&mut self, who: usize, input: Input) {
        self.nodes[who].handle(input, self.now);
        self.drain(who);
    }

    /// Does what a node asks for.
    fn drain(&mut self, who: usize) {
        while let Some(output) = self.nodes[who].poll_output() {
            match output {
                Output::Dial { link, address: to, .. } => self.dial(who, link, to),
                Output::Probe { address } => self.enqueue(who, Input::Probed { address, rtt: Duration::from_millis(1) }),
                Output::Frame { link, bytes } => self.pass_on(who, link, |link| Input::Frame { link, bytes }),
                Output::Datagram { link, bytes } => self.pass_on(who, link, |link| Input::Datagram { link, bytes }),
                Output::Close { link, reason } => {
                    self.pass_on(who, link, |link| Input::LinkDown { link, reason });
                    self.links.retain(|ends| ends[who] != link);
                }
                Output::Admitted { .. } | Output::Event(_) => {}
            }
        }
    }

    fn dial(&mut self, who: usize, link: LinkId, to: SocketAddr) {
        let other = 1 - who;
        let answered = if to == address(other as u16) && self.links.len() < LINKS_MAX {
            self.nodes[other].accept(address(who as u16), self.now).ok()
        } else {
            None
        };
        let Some(theirs) = answered else { return self.enqueue(who, Input::DialFailed { link }) };
        let mut ends = [link, theirs];
        ends.rotate_left(who);
        self.links.push(ends);
        for (end, link) in ends.into_iter().enumerate() {
            let (peer, address) = (self.nodes[1 - end].peer_id(), address(1 - end as u16));
            self.enqueue(end, Input::LinkUp { link, peer, address, exporter: [7; 32] });
        }
    }

    fn pass_on(&mut self, from: usize, link: LinkId, input: impl FnOnce(LinkId) -> Input) {
        if let Some(ends) = self.links.iter().find(|ends| ends[from] == link) {
            let theirs = ends[1 - from];
            self.enqueue(1 - from, input(theirs));
        }
    }

    fn enqueue(&mut self, to: usize, input: Input) {
        if self.queue.len() < QUEUE_MAX {
            self.queue.push_back((to, input));
        }
    }
}

/// Some bytes, with the wire's version in front, or every decoder would stop there.
fn framed(script: &mut Script<'_>) -> Vec<u8> {
    [&[WIRE_VERSION], script.bytes()].concat()
}

fn address(number: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1_000 + number))
}
