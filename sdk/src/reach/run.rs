//! The task that keeps ways open: where are we seen, who is not linked that should be, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Input, LinkInfo, NeighborLimits, PeerId, Target, is_relay};
use tokio::time::{Instant, sleep_until};

use super::offer::{ADDRESSES_MAX, Offer};
use super::punch::{Act, Attempt, is_behind_router, number_of};
use super::{Courier, Post, TOPIC};
use crate::driver::Shared;
use crate::link::LinkEndpoint;
use crate::link::probe::{Arrived, SideDoor, Via};
use crate::resolve::Interface;

/// How often to look around.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often to see whether the machine is on another network.
const WATCH_EVERY: Duration = Duration::from_secs(2);
/// A member not linked after so long is offered a way, by the smaller key; the larger waits longer.
const UNLINKED: Duration = Duration::from_millis(250);
const UNLINKED_LARGER: Duration = Duration::from_millis(1_500);
/// An offer that nobody answers by then is none.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);
/// Attempts at the same time.
const ATTEMPTS_MAX: usize = 4;
/// Wait after an attempt that led nowhere; doubled by each further one.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MAX: Duration = Duration::from_secs(120);
/// Who makes us try more often than that is not answered.
const ANSWER_AGAIN: Duration = Duration::from_millis(1_500);
/// Others who told where they see us.
const OBSERVERS_MAX: usize = 16;
/// So long after an attempt began two who have no others ask a directory to relay: where there is no hope for a way, and else. Between the
/// two somebody else may have been found who can be reached.
const RELAY_HOPELESS: Duration = Duration::from_secs(1);
const RELAY_AFTER: Duration = Duration::from_millis(2_800);
/// Members that a courier can reach.
const COURIERS_MAX: usize = 64;

/// What the task needs to know.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) shared: Arc<Shared>,
    pub(crate) door: Arc<SideDoor>,
    pub(crate) endpoint: Weak<LinkEndpoint>,
    pub(crate) me: PeerId,
    pub(crate) interface: Interface,
    pub(crate) neighbors: NeighborLimits,
    /// Whether the machine's own addresses may change under us.
    pub(crate) watch: bool,
}

/// What the task has found out.
#[derive(Debug, Default)]
struct Seen {
    inner: Vec<SocketAddr>,
    /// Who sees us where.
    outer: BTreeMap<SocketAddr, SocketAddr>,
    /// Where the router promised to let others in.
    mapped: Option<SocketAddr>,
    unlinked: BTreeMap<PeerId, Instant>,
    /// Who was linked by way of a directory when we last looked.
    relayed: BTreeSet<PeerId>,
    posts: BTreeMap<PeerId, Post>,
    tried: BTreeMap<PeerId, Tried>,
    asked: BTreeMap<PeerId, Asked>,
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Tried {
    again: Instant,
    failures: u32,
    answered: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    offer: Offer,
    by: Post,
    at: Instant,
}

#[derive(Debug)]
struct Running {
    peer: PeerId,
    attempt: Attempt,
    began: Instant,
    extras: Vec<Via>,
    /// When it stops listening once it is settled.
    adopted: bool,
    /// Who can have packets relayed if there is no way, and was not yet asked to.
    courier: Option<Arc<dyn Courier>>,
}

impl Reach {
    /// Runs until the mesh is left.
    pub(crate) async fn run(self) {
        let mut seen = Seen { inner: self.shared.addresses(), ..Seen::default() };
        let (mut look_at, mut watch_at) = (Instant::now() + LOOK_EVERY, Instant::now() + WATCH_EVERY);
        loop {
            let next =
                seen.running.values().map(|run| run.began + run.attempt.next(run.began.elapsed())).fold(look_at, Instant::min);
            tokio::select! {
                biased;
                () = self.shared.left() => return,
                arrived = self.door.next() => self.take(arrived, &mut seen),
                () = sleep_until(next) => {}
            }
            self.poll(&mut seen);
            if Instant::now() >= look_at {
                look_at = Instant::now() + LOOK_EVERY;
                self.look(&mut seen);
            }
            if self.watch && Instant::now() >= watch_at {
                watch_at = Instant::now() + WATCH_EVERY;
                self.watch(&mut seen);
            }
        }
    }

    fn take(&self, arrived: Arrived, seen: &mut Seen) {
        match arrived {
            Arrived::Told { nonce, by, at } => {
                if nonce == self.door.nonce() {
                    self.observed(by, at, seen);
                }
            }
            Arrived::Probe { from, via, bytes } => {
                let Some(run) = number_of(&bytes).and_then(|number| seen.running.get_mut(&number)) else { return };
                let acts = run.attempt.hear(from, via, &bytes);
                self.carry_out(acts.unwrap_or_default(), number_of(&bytes), seen);
            }
            Arrived::Letter { from, bytes, by } => {
                if let Some(offer) = Offer::decode(&bytes) {
                    self.read(from, offer, by, seen);
                }
            }
            Arrived::Mapped { at } => {
                // Whoever could not be reached before may be now.
                if at.is_some() && at != seen.mapped {
                    seen.tried.clear();
                }
                seen.mapped = at;
            }
            Arrived::Relayed { peer, at } => {
                // The other end is told the same, and waits.
                if self.me < peer {
                    self.shared.act(|node, now| node.handle(Input::Opened { address: at, peer }, now));
                }
                self.shared.note_candidates();
            }
            Arrived::Found { peer, by } => {
                if seen.posts.len() < COURIERS_MAX || seen.posts.contains_key(&peer) {
                    seen.posts.insert(peer, by);
                }
            }
        }
    }

    /// Somebody sees us somewhere.
    fn observed(&self, by: SocketAddr, at: SocketAddr, seen: &mut Seen) {
        // Where a relayed link seems to end there is nothing.
        if !self.interface.reaches(at.ip()) || at.port() == 0 || is_relay(at) || is_relay(by) {
            return;
        }
        if seen.outer.len() >= OBSERVERS_MAX && !seen.outer.contains_key(&by) {
            seen.outer.pop_first();
        }
        if seen.outer.insert(by, at) != Some(at) {
            tracing::debug!(target: "peerflock::reach", %by, %at, "seen");
        }
    }

    fn look(&self, seen: &mut Seen) {
        let (members, links) = self.shared.node(|node, now| (node.members(now), node.links()));
        self.door.tend_relays(|at| links.iter().any(|link| link.address == at));
        // A relayed link is one to be done without.
        let (relayed, links): (Vec<LinkInfo>, Vec<LinkInfo>) = links.into_iter().partition(|link| is_relay(link.address));
        let by_directory: BTreeSet<PeerId> = relayed.iter().map(|link| link.peer).collect();
        for lost in seen.relayed.difference(&by_directory) {
            // That no direct way opened meanwhile is no reason to wait with another relayed link.
            seen.tried.remove(lost);
        }
        for link in &links {
            if let Some(at) = link.observed {
                self.observed(link.address, crate::link::canonical(at), seen);
            }
        }
        seen.relayed = by_directory;
        self.tell_addresses(seen);
        let linked = |peer: &PeerId| links.iter().any(|link| link.peer == *peer);
        let others: Vec<PeerId> =
            members.iter().map(|member| member.peer).filter(|peer| *peer != self.me && !linked(peer)).collect();
        let goal = if members.len() <= self.neighbors.max + 1 { members.len() - 1 } else { self.neighbors.ideal };
        let now = Instant::now();
        let alone = members.len() <= 1;
        seen.posts.retain(|peer, _| !linked(peer) && relayed.iter().all(|link| link.peer != *peer));
        let strangers = seen.posts.keys().filter(|peer| alone && **peer != self.me).copied();
        let wanted: Vec<PeerId> = others.iter().copied().filter(|_| links.len() < goal).chain(strangers).collect();
        seen.unlinked.retain(|peer, _| wanted.contains(peer));
        for peer in &wanted {
            seen.unlinked.entry(*peer).or_insert(now);
        }
        seen.tried.retain(|peer, tried| !linked(peer) && (wanted.contains(peer) || tried.again > now));
        let unanswered: Vec<PeerId> =
            seen.asked.iter().filter(|(_, asked)| now - asked.at >= ANSWER_DEADLINE).map(|(peer, _)| *peer).collect();
        for peer in unanswered {
            seen.asked.remove(&peer);
            seen.failed(peer, now);
        }
        for peer in wanted {
            let patience = if self.me < peer { UNLINKED } else { UNLINKED_LARGER };
            let due = seen.unlinked.get(&peer).is_some_and(|since| now - *since >= patience)
                && seen.tried.get(&peer).is_none_or(|tried| tried.again <= now)
                && !seen.asked.contains_key(&peer)
                && seen.running.values().all(|run| run.peer != peer);
            if due && seen.running.len() + seen.asked.len() < ATTEMPTS_MAX {
                let offer = seen.offer(number(), false);
                let post = if alone { seen.posts.get(&peer).cloned() } else { Some(Post::Mesh) };
                if let Some(by) = post {
                    self.send(peer, &by, &offer);
                    seen.asked.insert(peer, Asked { offer, by, at: now });
                }
            }
        }
    }

    /// Where we are seen is where others may dial us, unless the router will not have it.
    fn tell_addresses(&self, seen: &Seen) {
        let mut addresses = seen.inner.clone();
        addresses.truncate(ADDRESSES_MAX - usize::from(seen.mapped.is_some()));
        addresses.extend(seen.mapped.filter(|mapped| !seen.inner.contains(mapped)));
        for outer in seen.outer.values() {
            if is_behind_router(&seen.inner, *outer) && !addresses.contains(outer) && seen.is_hard() != Some(true) {
                addresses.push(*outer);
            }
        }
        addresses.truncate(ADDRESSES_MAX);
        if addresses != self.shared.addresses() {
            self.shared.set_addresses(addresses);
        }
    }

    /// Somebody offers a way, or answers.
    fn read(&self, from: PeerId, theirs: Offer, by: Post, seen: &mut Seen) {
        let now = Instant::now();
        if theirs.answer {
            let asked = seen.asked.get(&from).is_some_and(|asked| asked.offer.attempt == theirs.attempt);
            if asked && let Some(Asked { offer, by, .. }) = seen.asked.remove(&from) {
                self.begin(from, offer, theirs, by, seen);
            }
            return;
        }
        // Where both begin at once, the smaller key's attempt counts.
        if seen.asked.contains_key(&from) && self.me < from || seen.running.len() >= ATTEMPTS_MAX {
            return;
        }
        let linked = self.shared.node(|node, _| node.links()).iter().any(|link| link.peer == from && !is_relay(link.address));
        let soon = seen.tried.get(&from).and_then(|tried| tried.answered).is_some_and(|at| now - at < ANSWER_AGAIN);
        if linked || soon || from == self.me {
            return;
        }
        seen.asked.remove(&from);
        let tried = seen.tried.entry(from).or_insert(Tried { again: now, failures: 0, answered: None });
        tried.answered = Some(now);
        let answer = seen.offer(theirs.attempt, true);
        self.send(from, &by, &answer);
        self.begin(from, answer, theirs, by, seen);
    }

    fn begin(&self, peer: PeerId, mine: Offer, mut theirs: Offer, by: Post, seen: &mut Seen) {
        theirs.inner.retain(|address| self.interface.reaches(address.ip()));
        theirs.outer.retain(|address| self.interface.reaches(address.ip()));
        tracing::debug!(target: "peerflock::reach", ?peer, ?mine, ?theirs, "attempt");
        let number = mine.attempt;
        // One at a time with each; and of two who say the same number the later one counts.
        let former: Vec<u64> =
            seen.running.iter().filter(|(other, run)| **other == number || run.peer == peer).map(|(other, _)| *other).collect();
        former.into_iter().for_each(|former| _ = self.end(former, seen));
        let attempt = Attempt::new(self.me < peer, mine, theirs, self::number());
        let began = Instant::now();
        let courier = match by {
            Post::Mesh => None,
            Post::Courier(courier) => Some(courier),
        };
        seen.running.insert(number, Running { peer, attempt, began, extras: Vec::new(), adopted: false, courier });
        self.poll(seen);
    }

    fn poll(&self, seen: &mut Seen) {
        let due: Vec<u64> = seen.running.keys().copied().collect();
        for number in due {
            let Some(run) = seen.running.get_mut(&number) else { continue };
            let acts = run.attempt.poll(run.began.elapsed());
            self.carry_out(acts, Some(number), seen);
        }
        if seen.running.is_empty() {
            return;
        }
        let (members, mut links) = self.shared.node(|node, now| (node.members(now), node.links()));
        links.retain(|link| !is_relay(link.address));
        for run in seen.running.values_mut() {
            let patience = if run.attempt.is_hopeless() { RELAY_HOPELESS } else { RELAY_AFTER };
            // Members hear each other by others.
            if run.began.elapsed() >= patience
                && let Some(courier) = run.courier.take()
                && members.iter().all(|member| member.peer != run.peer)
            {
                courier.relay(run.peer);
            }
        }
        let linked = |run: &Running| links.iter().any(|link| link.peer == run.peer);
        let over: Vec<u64> =
            seen.running.iter().filter(|(_, run)| run.attempt.is_over() || linked(run)).map(|(number, _)| *number).collect();
        for number in over {
            let Some(run) = self.end(number, seen) else { continue };
            let direct = links.iter().any(|link| link.peer == run.peer);
            let packets = run.attempt.packets();
            tracing::info!(target: "peerflock::reach", peer = ?run.peer, direct, packets, after = ?run.began.elapsed(), "attempt over");
            self.shared.note_attempt(direct, packets);
            if direct {
                seen.tried.remove(&run.peer);
            } else {
                seen.failed(run.peer, Instant::now());
            }
        }
    }

    /// Ends an attempt, and closes the sockets that it opened: however it ends, none may stay open.
    fn end(&self, number: u64, seen: &mut Seen) -> Option<Running> {
        let run = seen.running.remove(&number)?;
        self.door.close_extras(&run.extras);
        Some(run)
    }

    fn carry_out(&self, acts: Vec<Act>, number: Option<u64>, seen: &mut Seen) {
        for act in acts {
            let Some(run) = number.and_then(|number| seen.running.get_mut(&number)) else { return };
            match act {
                Act::Probe { via, to, bytes } => self.door.probe(via, to, &bytes),
                Act::OpenSockets(count) => {
                    run.extras = self.door.open_extras(count);
                    run.attempt.opened(run.extras.clone());
                }
                Act::Adopt { via, to } => {
                    if !std::mem::replace(&mut run.adopted, via != Via::Main)
                        && let Err(error) = self.door.adopt(via, to)
                    {
                        tracing::debug!(target: "peerflock::reach", %error, "a way cannot be used");
                    }
                }
                Act::Dial(address) => {
                    let peer = run.peer;
                    self.shared.act(|node, now| node.handle(Input::Opened { address, peer }, now));
                    self.shared.note_candidates();
                }
                Act::GiveUp => {}
            }
        }
    }

    fn send(&self, to: PeerId, post: &Post, offer: &Offer) {
        let letter = offer.encode();
        match post {
            // Who is gone meanwhile needs no way.
            Post::Mesh => _ = self.shared.act(|node, now| node.send(Target::One(to), TOPIC, Bytes::from(letter), now)),
            Post::Courier(courier) => courier.send(&letter),
        }
    }

    /// The machine may have moved to another network: then others must know, and ask us where we are now.
    fn watch(&self, seen: &mut Seen) {
        let Some(endpoint) = self.endpoint.upgrade() else { return };
        let Ok(bound) = endpoint.local_address() else { return };
        let inner = self.interface.addresses(bound);
        if inner == seen.inner {
            return;
        }
        tracing::info!(target: "peerflock::reach", from = ?seen.inner, to = ?inner, "this machine's addresses changed");
        seen.inner.clone_from(&inner);
        seen.outer.clear();
        seen.tried.clear();
        self.shared.moved(inner);
        self.shared.act(|node, now| node.handle(Input::Refresh, now));
        for link in self.shared.node(|node, _| node.links()) {
            self.door.ask(link.address);
        }
    }
}

impl Seen {
    fn offer(&self, attempt: u64, answer: bool) -> Offer {
        let mut outer: Vec<SocketAddr> = self.outer.values().copied().collect();
        outer.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
        outer.dedup();
        outer.truncate(ADDRESSES_MAX - usize::from(self.mapped.is_some()));
        // The first one is where many ports may be tried: not this, which is one port alone.
        outer.extend(self.mapped.filter(|mapped| !outer.contains(mapped)));
        let inner = self.inner.iter().take(ADDRESSES_MAX).copied().collect();
        let [token, more] = [number(), number()].map(u64::to_le_bytes);
        let mut both = [0; 16];
        both[..8].copy_from_slice(&token);
        both[8..].copy_from_slice(&more);
        Offer { attempt, answer, token: both, hard: self.is_hard(), inner, outer }
    }

    /// Whether our router gives each way another port, by what others see.
    fn is_hard(&self) -> Option<bool> {
        let mut seen = self.outer.values().filter(|address| address.is_ipv4());
        let first = seen.next()?;
        if !is_behind_router(&self.inner, *first) {
            return Some(false);
        }
        let mut others = seen.peekable();
        others.peek()?;
        Some(others.any(|other| other != first))
    }

    fn failed(&mut self, peer: PeerId, now: Instant) {
        let tried = self.tried.entry(peer).or_insert(Tried { again: now, failures: 0, answered: None });
        tried.again = now + AGAIN.saturating_mul(1 << tried.failures.min(5)).min(AGAIN_MAX);
        tried.failures += 1;
    }
}

/// A number that nobody guesses.
fn number() -> u64 {
    u64::from_le_bytes(*crate::identity::random().first_chunk().unwrap_or(&[0; 8]))
}
