//! The one state machine that all rooms plug into.
//!
//! A node does nothing by itself. Whoever drives it says what happened and what time it is, then does what the node asks for:
//! [`handle`](Node::handle) an [`Input`], drain [`poll_output`](Node::poll_output), wait for the next input or for
//! [`poll_timeout`](Node::poll_timeout). In code: *mutate, drain, wait, mutate*.
//!
//! ```
//! use peerflock_proto::{Config, Identity, Input, MeshId, MeshKey, Node, Output, Profile, Time};
//!
//! let config = Config { profile: Profile::named("Ann"), ..Config::default() };
//! let key = MeshKey::open(MeshId::from_name("my-game"));
//! let mut node = Node::new(config, Identity::from_seed([1; 32]), key, [2; 32], Time(0));
//! node.handle(Input::Commit(vec![]), Time(0));
//! while let Some(output) = node.poll_output() {
//!     match output {
//!         Output::Event(event) => println!("{event:?}"),
//!         other => println!("to be done: {other:?}"),
//!     }
//! }
//! assert_eq!(node.members(Time(0)).len(), 1);
//! ```

mod admit;
mod beat;
mod budget;
mod digests;
mod hear;
mod io;
mod keyframes;
mod membership;
mod messages;
mod neighbors;
mod outage;
mod ownership;
mod parcels;
mod presence;
mod proofs;
mod removal;
mod report;
mod repute;
mod room;
mod say;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
pub use io::*;
pub use ownership::{ANSWER_WITHIN, OwnershipError, REQUESTS_MAX, Refusal};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
pub use removal::RemovalError;
pub use report::{Beacon, Counters, LinkInfo, Member};

use crate::admission::{Crowd, GuessLimiter, Locks, MeshKey, Revocations, network};
use crate::config::{Config, NeighborLimits};
use crate::flood::{Flood, Repairs, Slot};
use crate::id::{Boot, Identity, LinkId, MeshId, PeerId};
use crate::message::{Broadcast, Letters, Private};
use crate::overlay::{Book, Link, Overlay, Quota};
use crate::roster::{Clock, Roster};
use crate::state::acks::AckTable;
use crate::state::author::Author;
use crate::state::digest::Digester;
use crate::state::replica::Replica;
use crate::state::world::{Surroundings, World};
use crate::time::{MeshTime, Time};
use crate::wire::Frame;

/// Decides what a peer passes on: from whom, on which topic, what. Whoever does not get a message from us may get it from others.
pub type Filter = Box<dyn Fn(PeerId, Topic, &[u8]) -> bool + Send>;

/// A key may guess so many times as often as an address, wherever it comes from: whoever mistyped at home still gets in from elsewhere.
const GUESSES_PER_KEY: u32 = 4;

/// One member of a mesh, or one who is about to be.
pub struct Node {
    config: Config,
    identity: Identity,
    me: PeerId,
    locks: Locks,
    mesh: MeshId,
    boot: Boot,
    rng: ChaCha20Rng,
    filter: Option<Filter>,

    limiter: GuessLimiter,
    /// The same by key: one that travels is no other.
    keys: GuessLimiter<PeerId>,
    removals: removal::Removals,
    repute: repute::Repute,
    crowd: Crowd,
    revocations: Option<Revocations>,
    /// The same for those that we dial: who does not prove the password in turn may be after ours.
    dials: GuessLimiter,
    overlay: Overlay,
    book: Book,
    neighborhood: neighbors::Neighborhood,
    hearing: outage::Hearing,
    flood: Flood,
    /// Whom neighbors are to be asked to leave out.
    prunes: BTreeMap<LinkId, Vec<PeerId>>,
    repairs: Repairs,
    roster: Roster,
    clock: Clock,

    author: Author,
    digester: Digester,
    replicas: BTreeMap<PeerId, Replica>,
    acks: AckTable,
    world: World,
    keyframes: keyframes::Keyframes,
    requests: ownership::Requests,

    broadcast: Broadcast,
    private: Private,
    letters: Letters,
    /// Where a neighbor that told us of authors said that we are to begin to listen: what was said before is not ours to hear.
    hints: BTreeMap<PeerId, (Boot, u64)>,

    pace: beat::Pace,
    allowance: budget::Allowance,
    presence_seq: u32,
    packet_seq: u32,
    /// Packets of ours that others pass on.
    unproved: proofs::Unproved,
    message_seq: u64,
    near_seq: u64,
    /// What we said to all of late.
    said: Quota,
    /// When what we said to all was last sealed.
    sealed: Time,
    /// When we were last called: what leaves now, leaves then.
    now: Time,
    /// When we were no longer alone.
    joined: Option<Time>,
    left: bool,
    counters: Counters,
    outputs: VecDeque<Output>,
}

impl Node {
    /// A node alone in its mesh. `seed` must be 32 random bytes: it is all the randomness that the node ever gets, keys of the
    /// handshake included, and the same seed with the same inputs gives the same outputs.
    pub fn new(config: Config, identity: Identity, key: MeshKey, seed: [u8; 32], now: Time) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let me = identity.peer_id();
        let boot = Boot(rng.next_u32());
        let NeighborLimits { min, ideal, max } = config.neighbors;
        let mut broadcast = Broadcast::new(key.mesh(), config.limits.message_cache_bytes, config.limits.messages_ahead);
        broadcast.listen(Slot::ME, me, boot, 0);
        Self {
            me,
            mesh: key.mesh(),
            boot,
            rng,
            filter: None,
            limiter: GuessLimiter::new(config.limits.guesses),
            keys: GuessLimiter::new(config.limits.guesses.saturating_mul(GUESSES_PER_KEY)),
            dials: GuessLimiter::new(config.limits.guesses),
            overlay: Overlay::new(NeighborLimits::new(min, ideal, max)),
            book: Book::default(),
            neighborhood: neighbors::Neighborhood::default(),
            hearing: outage::Hearing::default(),
            flood: Flood::new(me, boot, now),
            prunes: BTreeMap::new(),
            repairs: Repairs::default(),
            roster: Roster::new(me),
            clock: Clock::opened(now),
            author: Author::new(&config.registry),
            digester: Digester::default(),
            replicas: BTreeMap::new(),
            acks: AckTable::default(),
            world: World::new(me, &config),
            keyframes: keyframes::Keyframes::default(),
            requests: ownership::Requests::default(),
            broadcast,
            private: Private::default(),
            letters: Letters::default(),
            hints: BTreeMap::new(),
            pace: beat::Pace::starting(now),
            allowance: budget::Allowance::starting(now),
            presence_seq: 0,
            packet_seq: 0,
            unproved: proofs::Unproved::default(),
            message_seq: 0,
            near_seq: 0,
            said: Quota::new(now),
            sealed: Time(0),
            now,
            joined: None,
            left: false,
            counters: Counters::default(),
            outputs: VecDeque::new(),
            config,
            identity,
            locks: Locks::new(key),
            removals: removal::Removals::default(),
            repute: repute::Repute::default(),
            crowd: Crowd::default(),
            revocations: None,
        }
    }

    /// Sets what decides which messages are passed on. Without one, all are.
    pub fn set_filter(&mut self, filter: Filter) {
        self.filter = Some(filter);
    }

    /// A stranger connects from `address`: the number its link is to have, or why it is not to be listened to. Then ignore it:
    /// an answer would cost more than it is worth.
    pub fn accept(&mut self, address: SocketAddr, now: Time) -> Result<LinkId, CloseReason> {
        if self.left {
            return Err(CloseReason::Goodbye);
        }
        if !self.limiter.allows(network(address.ip()), now) {
            self.counters.strangers_locked_out += 1;
            return Err(CloseReason::LockedOut);
        }
        if self.overlay.strangers() >= self.config.limits.strangers {
            self.counters.strangers_turned_away += 1;
            return Err(CloseReason::Full);
        }
        Ok(self.overlay.open(Link::new(address, false, None, now)))
    }

    /// Takes an input in. Then drain [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, input: Input, now: Time) {
        if self.left {
            return;
        }
        self.now = now;
        match input {
            Input::Candidates(candidates) => {
                for Candidate { address, peer } in candidates {
                    self.book.add(address, peer, now);
                }
                self.neighborhood.look(now);
                self.pace.soon(now);
            }
            Input::DialFailed { link } => self.link_gone(link, CloseReason::Transport, now),
            Input::LinkUp { link, peer, address, exporter } => self.link_up(link, peer, address, exporter, now),
            Input::Frame { link, bytes } => self.frame(link, &bytes, now),
            Input::Datagram { link, bytes } => self.datagram(link, bytes, now),
            Input::LinkDown { link, reason } => self.link_gone(link, reason, now),
            Input::LinkStats { link, rtt, limit } => {
                self.note_limit(link, limit);
                if let Some(held) = self.overlay.get_mut(link) {
                    held.note_rtt(rtt, now);
                }
                if let Some(port) = self.flood.port_of(link).and_then(|port| self.flood.port_mut(port)) {
                    port.rtt = rtt;
                }
            }
            Input::Opened { address, peer } => self.opened(address, peer, now),
            Input::Probed { address, rtt } => self.probed(address, rtt, now),
            Input::Refresh => self.refresh(now),
            Input::Commit(changes) => self.commit(changes, now),
            Input::RequestOwnership(entity) => self.try_request(entity, now),
            Input::AnswerRequest { entity, peer, grant } => self.answer_request(entity, peer, grant, now),
            Input::Seize(entity) => {
                // Whoever wants to know whether it could be calls `seize`.
                let _ = self.seize(entity, now);
            }
            Input::Send { to, topic, payload } => {
                // Whoever wants to know whether it was sent calls `send`.
                let _ = self.send(to, topic, payload, now);
            }
            Input::SetRemovalRule(rule) => self.set_removal(rule),
            Input::SetProfile(profile) => {
                self.config.profile = profile.cut();
                self.presence_changed(now);
            }
            Input::SetAddresses(addresses) => {
                self.config.addresses = addresses;
                self.presence_changed(now);
            }
            Input::Leave => self.leave(),
        }
        self.report_world();
    }

    /// What is to be done next, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.flush();
        }
        self.outputs.pop_front()
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Sends a frame to an end of a link. What cannot be encoded was too long and is counted: our own limits should prevent it.
    fn say_to(&mut self, link: LinkId, frame: &Frame) {
        match frame.encode() {
            Some(bytes) => self.send_frame(link, bytes),
            None => self.counters.frames_too_long += 1,
        }
    }

    fn send_frame(&mut self, link: LinkId, bytes: Bytes) {
        self.counters.frames_sent += 1;
        self.counters.frame_bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Frame { link, bytes });
    }

    fn report_world(&mut self) {
        let insisted = self.world.take_insisted();
        self.tell_removed(&insisted);
        for event in self.world.take_events() {
            let ends = match event {
                WorldEvent::Owner { entity, owner } => Some((entity, Some(owner))),
                WorldEvent::Vanished { entity } => Some((entity, None)),
                WorldEvent::Appeared { .. } | WorldEvent::Set { .. } | WorldEvent::Unset { .. } => None,
            };
            self.outputs.push_back(Output::Event(Event::World(event)));
            if let Some((entity, owner)) = ends {
                self.settle_requests(entity, owner);
            }
        }
    }

    fn mesh_now(&self, now: Time) -> MeshTime {
        self.clock.read(now)
    }

    /// The world, with what it needs of us beside it.
    fn world(&mut self, now: Time) -> (&mut World, Surroundings<'_>) {
        let mesh_now = self.mesh_now(now);
        let present: &BTreeSet<PeerId> = self.roster.present();
        (&mut self.world, Surroundings { author: &mut self.author, replicas: &self.replicas, present, now, mesh_now })
    }

    fn rtt(&self, link: LinkId) -> Duration {
        self.overlay.get(link).and_then(|link| link.rtt).unwrap_or_default()
    }

    /// The same where nothing stands in a queue.
    fn least_rtt(&self, link: LinkId) -> Duration {
        self.overlay.get(link).and_then(|held| held.least_rtt()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("me", &self.me)
            .field("mesh", &self.mesh)
            .field("members", &self.roster.present().len())
            .field("links", &self.overlay.neighbors().count())
            .field("entities", &self.world.len())
            .finish_non_exhaustive()
    }
}
