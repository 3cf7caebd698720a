//! What the handle, the driver and the resolvers of one mesh share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use peerflock_proto::{Boot, Candidate, CloseReason, EntityId, Input, LinkId, LinkInfo, Node, OwnershipPolicy, PeerId, Time};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bulk::BulkDoors;
use super::mailbox::Mailbox;
use crate::link::SocketCounters;
use crate::metrics::{LinkMetrics, Metrics, Pressure, Traffic};
use crate::resolve::{Listing, ResolverReport};
use crate::service::Inboxes;
use crate::sync::lock;

/// Addresses remembered at which a refusal says nothing; beyond it one is as good as any.
const UNVOUCHED_MAX: usize = 1_024;
/// Refusals remembered while starting: one is enough to fail, a few tell more.
const REFUSALS_MAX: usize = 16;

/// Locked by the handle for the length of one call, by the driver for one batch; never across an await, and the node before
/// anything else.
pub(crate) struct Shared {
    node: Mutex<Node>,
    origin: Instant,
    /// The node has something to say: the driver should look.
    pub(super) wake: Notify,
    pub(crate) mailbox: Mailbox,
    /// What is not for the game but for a service beside it.
    pub(crate) services: Inboxes,
    /// The links' side doors, for what is large.
    pub(crate) bulk: BulkDoors,
    /// What became of the attempts to join.
    pub(crate) standing: watch::Sender<Standing>,
    /// Whether the mesh is to be left, once and for all.
    pub(crate) leaving: watch::Sender<bool>,
    /// Whether the driver is done.
    pub(crate) closed: watch::Sender<bool>,
    /// What resolvers tell others about this mesh.
    listing: Mutex<Listing>,
    /// Where we may be reached.
    addresses: Mutex<Vec<SocketAddr>>,
    /// Our neighbors at the moment at which we began to leave.
    last_neighbors: Mutex<Vec<LinkInfo>>,
    /// How each resolver fares.
    resolvers: Mutex<BTreeMap<usize, ResolverReport>>,
    /// Where a refusal says nothing, since whoever is there is none of ours.
    unvouched: Mutex<BTreeSet<SocketAddr>>,
    pub(super) traffic: Mutex<BTreeMap<LinkId, Traffic>>,
    pub(super) counts: LinkCounts,
    /// The socket is another one now: the driver should look after the links.
    pub(super) moved: AtomicBool,
    socket: Arc<SocketCounters>,
    entities_spawned: AtomicU32,
}

/// What the driver counts of all links.
#[derive(Debug, Default)]
pub(super) struct LinkCounts {
    pub(super) datagrams_unsent: AtomicU64,
    pub(super) datagrams_skipped: AtomicU64,
    pub(super) frames_dropped: AtomicU64,
    pub(super) opened: AtomicU64,
    pub(super) closed: AtomicU64,
    pub(super) too_slow: AtomicU64,
    ways_opened: AtomicU64,
    ways_closed: AtomicU64,
    way_packets: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How far joining has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Whether there was anybody to try.
    pub(crate) candidates: bool,
    /// A member admitted us, or we it.
    pub(crate) joined: bool,
    /// Who would not have us.
    pub(crate) refusals: Vec<(SocketAddr, CloseReason)>,
    /// Resolvers that found somebody, failed, or have looked for long enough.
    pub(crate) looked: BTreeSet<usize>,
}

impl Shared {
    /// Around a node made at `origin`, which is its time zero.
    pub(crate) fn new(
        node: Node,
        origin: Instant,
        listing: Listing,
        addresses: Vec<SocketAddr>,
        socket: Arc<SocketCounters>,
    ) -> Self {
        Self {
            node: Mutex::new(node),
            origin,
            wake: Notify::new(),
            mailbox: Mailbox::default(),
            services: Inboxes::default(),
            bulk: BulkDoors::default(),
            standing: watch::Sender::default(),
            leaving: watch::Sender::default(),
            closed: watch::Sender::default(),
            listing: Mutex::new(listing),
            addresses: Mutex::new(addresses),
            last_neighbors: Mutex::default(),
            resolvers: Mutex::default(),
            unvouched: Mutex::default(),
            traffic: Mutex::default(),
            counts: LinkCounts::default(),
            moved: AtomicBool::new(false),
            socket,
            entities_spawned: AtomicU32::new(0),
        }
    }

    /// Looks at the node, or tells it something that needs no answer.
    pub(crate) fn node<R>(&self, look: impl FnOnce(&mut Node, Time) -> R) -> R {
        let mut node = lock(&self.node);
        // Only now, or a caller that waited for the lock would turn the node's time back.
        look(&mut node, self.time(Instant::now()))
    }

    /// Tells the node something, and the driver to see what comes of it.
    pub(crate) fn act<R>(&self, act: impl FnOnce(&mut Node, Time) -> R) -> R {
        let result = self.node(act);
        self.wake.notify_one();
        result
    }

    /// Members may be found here.
    pub(crate) fn candidates(&self, candidates: Vec<Candidate>) {
        if !candidates.is_empty() {
            self.standing.send_modify(|standing| standing.candidates |= true);
            self.act(|node, now| node.handle(Input::Candidates(candidates), now));
        }
    }

    /// Where we may be reached.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        lock(&self.addresses).clone()
    }

    /// Our neighbors; once we leave, those that we had.
    pub(crate) fn neighbors(&self) -> Vec<LinkInfo> {
        if *self.leaving.borrow() { lock(&self.last_neighbors).clone() } else { self.node(|node, _| node.links()) }
    }

    /// How each resolver fares, in the order in which they were given.
    pub(crate) fn resolvers(&self) -> Vec<ResolverReport> {
        lock(&self.resolvers).values().cloned().collect()
    }

    /// One of them did something.
    pub(crate) fn note_resolver(&self, index: usize, report: ResolverReport, looked: bool) {
        lock(&self.resolvers).insert(index, report);
        if looked {
            self.standing.send_if_modified(|standing| standing.looked.insert(index));
        }
    }

    /// Whoever is there is none of ours if it would not have us.
    pub(crate) fn note_unvouched(&self, addresses: impl Iterator<Item = SocketAddr>) {
        let mut unvouched = lock(&self.unvouched);
        for address in addresses {
            if unvouched.len() < UNVOUCHED_MAX {
                unvouched.insert(address);
            }
        }
    }

    /// We can be found at these addresses, too, from now on.
    pub(crate) fn set_addresses(&self, addresses: Vec<SocketAddr>) {
        lock(&self.addresses).clone_from(&addresses);
        self.act(|node, now| node.handle(Input::SetAddresses(addresses), now));
    }

    /// There is somebody to try.
    pub(crate) fn note_candidates(&self) {
        self.standing.send_if_modified(|standing| !std::mem::replace(&mut standing.candidates, true));
    }

    /// An attempt to get through to somebody is over.
    pub(crate) fn note_attempt(&self, direct: bool, packets: usize) {
        count(if direct { &self.counts.ways_opened } else { &self.counts.ways_closed });
        self.counts.way_packets.fetch_add(packets as u64, Ordering::Relaxed);
    }

    /// Waits until the mesh is to be left.
    pub(crate) async fn left(&self) {
        // The channel's other end is in `self`: it cannot be gone.
        _ = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    /// The driver is done: nobody hears anything more.
    pub(super) fn end(&self) {
        self.mailbox.close();
        self.closed.send_replace(true);
        self.services.close_all();
    }

    /// Waits until the driver is done.
    pub(crate) async fn over(&self) {
        _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Numbers an entity of ours.
    pub(crate) fn spawn(&self, spawner: PeerId, boot: Boot, policy: OwnershipPolicy) -> EntityId {
        EntityId::new(spawner, boot, self.entities_spawned.fetch_add(1, Ordering::Relaxed), policy)
    }

    pub(crate) fn listing(&self) -> Listing {
        lock(&self.listing).clone()
    }

    pub(crate) fn set_listing(&self, listing: Listing) {
        *lock(&self.listing) = listing;
    }

    /// The mesh is to be left. More than once is once.
    pub(crate) fn leave(&self) {
        // Who is to remember our neighbors may look only after the links are gone.
        let links = self.node(|node, _| node.links());
        if !*self.leaving.borrow() {
            *lock(&self.last_neighbors) = links;
        }
        self.leaving.send_replace(true);
    }

    /// The worst pressure on any link.
    pub(crate) fn pressure(&self) -> Pressure {
        lock(&self.traffic).values().map(Traffic::pressure).max().unwrap_or_default()
    }

    /// Our socket is another one now, and we can be found at these addresses.
    pub(crate) fn moved(&self, addresses: Vec<SocketAddr>) {
        self.moved.store(true, Ordering::Relaxed);
        lock(&self.addresses).clone_from(&addresses);
        self.act(|node, now| node.handle(Input::SetAddresses(addresses), now));
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (counters, links, state_hash, entity_count) =
            self.node(|node, _| (node.counters(), node.links(), node.state_hash(), node.entity_count()));
        let (packets_sent, packet_bytes_sent) = self.socket.sent();
        let traffic = lock(&self.traffic);
        let links =
            links.iter().map(|info| LinkMetrics::new(info, traffic.get(&info.link).copied().unwrap_or_default())).collect();
        Metrics {
            counters,
            links,
            state_hash,
            entity_count,
            events_dropped: self.mailbox.dropped() + self.services.dropped(),
            pressure: traffic.values().map(Traffic::pressure).max().unwrap_or_default(),
            datagrams_unsent: counted(&self.counts.datagrams_unsent),
            datagrams_skipped: counted(&self.counts.datagrams_skipped),
            frames_dropped: counted(&self.counts.frames_dropped),
            links_opened: counted(&self.counts.opened),
            links_closed: counted(&self.counts.closed),
            links_too_slow: counted(&self.counts.too_slow),
            ways_opened: counted(&self.counts.ways_opened),
            ways_not_opened: counted(&self.counts.ways_closed),
            way_packets: counted(&self.counts.way_packets),
            packets_sent,
            packet_bytes_sent,
            packets_ignored: self.socket.ignored(),
            probes_answered: self.socket.probes(),
            knocks_ignored: self.socket.knocks_ignored(),
        }
    }

    pub(super) fn note_joined(&self) {
        self.standing.send_modify(|standing| standing.joined = true);
    }

    pub(super) fn note_refusal(&self, address: SocketAddr, reason: CloseReason) {
        if lock(&self.unvouched).contains(&address) {
            return;
        }
        self.standing.send_modify(|standing| {
            if standing.refusals.len() < REFUSALS_MAX {
                standing.refusals.push((address, reason));
            }
        });
    }

    /// The node's time.
    pub(crate) fn now(&self) -> Time {
        self.time(Instant::now())
    }

    pub(super) fn time(&self, instant: Instant) -> Time {
        Time::default() + instant.duration_since(self.origin)
    }

    /// `None` when that is past all clocks.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        self.origin.checked_add(time.since(Time::default()))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
