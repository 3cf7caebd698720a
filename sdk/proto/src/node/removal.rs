//! Members are removed, and the mesh gets another lock: votes, the record that says so, and proofs of the new lock on each link.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{CloseReason, Event, Farewell, Node};
use crate::admission::{LockId, Removal, RemovalRule, Vote};
use crate::id::{LinkId, PeerId};
use crate::time::Time;
use crate::wire::{Frame, Signed};

/// After so long no link lives on that was not proved with the present lock.
const OLD_LOCK: Duration = Duration::from_secs(10);
/// Whoever is the first among those who voted removes the member; the next in order waits so much longer, should that one be gone.
const VOTER_PATIENCE: Duration = Duration::from_secs(1);
/// Most members against whom votes are counted at once.
const ACCUSED_MAX: usize = 64;
/// Most removed members that are remembered.
const REMOVED_MAX: usize = 4_096;

/// Why a member was not removed, or a vote not cast. Nothing was told to anybody, nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovalError {
    /// The mesh's rule does not let us.
    #[error("the rule of this mesh does not let us remove members: see `RemovalRule`")]
    NotAllowed,
    /// One cannot remove oneself.
    #[error("one cannot remove oneself; leave instead")]
    Ourselves,
    /// That peer is not here, and was not lately.
    #[error("{0:?} is not in the mesh; look at the members")]
    UnknownPeer(PeerId),
    /// More than one record holds.
    #[error("too many at once: {0} may be removed together, and a record must hold a letter for each who stays; remove fewer")]
    TooMany(usize),
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// What a node knows of removals.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// By which the mesh got its present lock.
    record: Option<Signed>,
    /// When that was.
    at: Option<Time>,
    removed: BTreeSet<PeerId>,
    votes: BTreeMap<PeerId, BTreeMap<PeerId, Signed>>,
    /// Since when there is a majority against somebody.
    carried: BTreeMap<PeerId, Time>,
    /// How many of our locks a peer did not know when we knocked.
    misses: BTreeMap<PeerId, usize>,
}

impl Removals {
    pub(super) fn is_removed(&self, peer: &PeerId) -> bool {
        self.removed.contains(peer)
    }
}

impl Node {
    // --- for the application -------------------------------------------------------------------------------------------

    /// Removes members: they are out at once, and the mesh gets another lock, so that what they know no longer opens it. Who joins
    /// later needs a ticket made after this: [`secret`](Self::secret).
    pub fn remove(&mut self, peers: &[PeerId], now: Time) -> Result<(), RemovalError> {
        self.now = now;
        match &self.config.removal {
            RemovalRule::By(allowed) if allowed.contains(&self.me) => self.relock(peers, Vec::new(), now),
            _ if self.left => Err(RemovalError::Closed),
            _ => Err(RemovalError::NotAllowed),
        }
    }

    /// Votes for the removal of a member. As soon as more than half of all members did, it is removed.
    pub fn vote(&mut self, against: PeerId, now: Time) -> Result<(), RemovalError> {
        self.now = now;
        if self.left {
            return Err(RemovalError::Closed);
        }
        if self.config.removal != RemovalRule::Majority {
            return Err(RemovalError::NotAllowed);
        }
        self.check_removed(&against)?;
        let vote = Vote { against, lock: self.locks.id() };
        if let Some(signed) = Signed::new(&self.identity, &self.mesh, "vote", &vote) {
            self.count_vote(None, signed, now);
        }
        Ok(())
    }

    /// Who may remove members from now on.
    pub(super) fn set_removal(&mut self, rule: RemovalRule) {
        self.config.removal = rule;
        self.removals.votes.clear();
        self.removals.carried.clear();
    }

    /// The 32 bytes that open the mesh now, for tickets; None while it is what it was opened with.
    pub fn secret(&self) -> Option<Zeroizing<[u8; 32]>> {
        self.locks.secret().cloned()
    }

    fn check_removed(&self, peer: &PeerId) -> Result<(), RemovalError> {
        if *peer == self.me {
            return Err(RemovalError::Ourselves);
        }
        if self.roster.may_be_here(peer) { Ok(()) } else { Err(RemovalError::UnknownPeer(*peer)) }
    }

    /// Makes another lock, known to all but `removed`.
    fn relock(&mut self, removed: &[PeerId], votes: Vec<Signed>, now: Time) -> Result<(), RemovalError> {
        if self.left {
            return Err(RemovalError::Closed);
        }
        removed.iter().try_for_each(|peer| self.check_removed(peer))?;
        let mut secret = Zeroizing::new([0; 32]);
        rand_core::RngCore::fill_bytes(&mut self.rng, secret.as_mut_slice());
        let out: BTreeSet<PeerId> = removed.iter().chain(&self.removals.removed).copied().collect();
        // Those who are away may only be out of our hearing: their letter waits for them.
        let staying: Vec<PeerId> = self.roster.present_or_lost().filter(|peer| !out.contains(peer)).collect();
        let letters = staying.iter().filter_map(|peer| Some((crate::admission::short(peer), self.letter(peer, &secret)?)));
        let letters: Vec<(u64, Bytes)> = letters.collect();
        let removal = Removal { after: self.locks.id(), removed: removed.to_vec(), votes, letters };
        let record = (removed.len() <= Removal::REMOVED_MAX)
            .then(|| Signed::new(&self.identity, &self.mesh, "removal", &removal))
            .flatten()
            .filter(|record| Frame::Removal { record: record.clone(), letter: None }.encode().is_some());
        let record = record.ok_or(RemovalError::TooMany(Removal::REMOVED_MAX))?;
        self.adopt_lock(None, record, removal, secret, now);
        Ok(())
    }

    fn letter(&mut self, peer: &PeerId, secret: &Zeroizing<[u8; 32]>) -> Option<Bytes> {
        self.letters.seal(&self.identity, peer, Removal::CONTEXT, secret.as_slice(), &mut self.rng)
    }

    // --- votes ---------------------------------------------------------------------------------------------------------

    pub(super) fn hear_vote(&mut self, link: LinkId, signed: Signed, now: Time) {
        let known = signed.peek::<Vote>().is_some_and(|vote| {
            self.removals.votes.get(&vote.against).is_some_and(|votes| votes.contains_key(&signed.author))
                || vote.lock != self.locks.id()
        });
        if !known && self.config.removal == RemovalRule::Majority && self.roster.present().contains(&signed.author) {
            if Vote::open(&signed, &self.mesh).is_some_and(|vote| self.roster.may_be_here(&vote.against)) {
                self.count_vote(Some(link), signed, now);
            } else {
                self.counters.forgeries += 1;
            }
        }
    }

    fn count_vote(&mut self, from: Option<LinkId>, signed: Signed, now: Time) {
        let Some(against) = signed.peek::<Vote>().map(|vote| vote.against) else { return };
        if self.removals.votes.len() >= ACCUSED_MAX && !self.removals.votes.contains_key(&against) {
            return;
        }
        let votes = self.removals.votes.entry(against).or_default();
        votes.insert(signed.author, signed.clone());
        let carried = votes.len() * 2 > self.roster.present().len();
        if carried {
            self.removals.carried.entry(against).or_insert(now);
        }
        self.pass_to_all(from, &Frame::Vote(signed));
        self.carry_out_votes(now);
    }

    /// The first of those who voted does what they decided.
    fn carry_out_votes(&mut self, now: Time) {
        let due = self.removals.carried.iter().find(|(against, since)| {
            let voters = self.removals.votes.get(against).into_iter().flat_map(BTreeMap::keys);
            let here = voters.filter(|voter| self.roster.present().contains(voter));
            here.into_iter()
                .position(|voter| *voter == self.me)
                .is_some_and(|rank| now.since(**since) >= VOTER_PATIENCE * u32::try_from(rank).unwrap_or(u32::MAX))
        });
        let Some(against) = due.map(|(against, _)| *against) else { return };
        self.removals.carried.remove(&against);
        let votes = self.removals.votes.remove(&against).unwrap_or_default().into_values().collect();
        if let Err(error) = self.relock(&[against], votes, now) {
            tracing::warn!(target: "peerflock::admission", ?against, %error, "a vote was carried and came to nothing");
        }
    }

    // --- locks ---------------------------------------------------------------------------------------------------------

    pub(super) fn hear_removal(&mut self, link: LinkId, record: Signed, letter: Option<&Bytes>, now: Time) {
        let Some(after) = record.peek::<Removal>().map(|removal| removal.after) else {
            self.counters.violations += 1;
            return;
        };
        let (lock, ours) = (Removal::lock(&record, after), self.locks.id());
        if lock == ours && self.removals.record.is_some() {
            return;
        }
        if lock != ours && !lock.replaces(ours) {
            // Of another half of the mesh, or before our time: ours is the one that stays.
            if let Some(record) = self.removals.record.clone() {
                self.tell_removal(link, record);
            }
            return;
        }
        let Some(removal) = Removal::open(&record, &self.mesh, &self.config.removal, self.roster.present().len()) else {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::admission", author = ?record.author, "a removal against the rule of this mesh");
            return;
        };
        if lock == ours {
            // We came in with this lock, and hear now who was removed by it.
            self.exclude(&removal, &record, now);
            self.locks.tell(removal.letters.iter().map(|(reader, _)| *reader));
            self.removals.record = Some(record);
            return;
        }
        if removal.removed.contains(&self.me) {
            return self.thrown_out(record.author, now);
        }
        let neighbor = self.overlay.get(link).and_then(|held| held.peer);
        let ours = removal.letter_for(&self.me).map(|letter| (record.author, letter));
        let beside = letter.and_then(|letter| Some((neighbor?, letter)));
        let secret = [ours, beside].into_iter().flatten().find_map(|(author, letter)| {
            let secret = self.letters.open(&self.identity, &author, Removal::CONTEXT, letter)?;
            Some(Zeroizing::new(<[u8; 32]>::try_from(&secret[..]).ok()?))
        });
        match secret {
            Some(secret) => self.adopt_lock(Some(link), record, removal, secret, now),
            None => tracing::warn!(target: "peerflock::admission", author = ?record.author, "another lock, and no letter for us"),
        }
    }

    /// The mesh has another lock from now on.
    fn adopt_lock(&mut self, from: Option<LinkId>, record: Signed, removal: Removal, secret: Zeroizing<[u8; 32]>, now: Time) {
        let lock = Removal::lock(&record, removal.after);
        tracing::info!(target: "peerflock::admission", epoch = lock.epoch, by = ?record.author, removed = ?removal.removed, "another lock");
        self.locks.change(lock, secret);
        self.locks.tell(removal.letters.iter().map(|(reader, _)| *reader));
        self.removals.at = Some(now);
        self.removals.record = Some(record.clone());
        self.removals.votes.clear();
        self.removals.carried.clear();
        self.removals.misses.clear();
        // What another half of the mesh decided while we were apart holds as well, as far as our rule goes.
        let also = self.removals.removed.iter().copied().find(|peer| self.locks.was_told(peer));
        self.exclude(&removal, &record, now);
        let links: Vec<(LinkId, PeerId)> = self.overlay.neighbors().collect();
        for (link, peer) in links {
            if Some(link) != from {
                self.tell_removal(link, record.clone());
            }
            self.prove_lock(link, peer);
        }
        self.event(Event::LockChanged { by: record.author });
        if let Some(peer) = also {
            let _ = self.remove(&[peer], now);
        }
    }

    /// Whom a record removes is gone.
    fn exclude(&mut self, removal: &Removal, record: &Signed, now: Time) {
        let me = self.me;
        for peer in removal.removed.iter().filter(|peer| **peer != me) {
            self.shut_out(*peer, Some(record), now);
        }
    }

    /// A peer is out, and stays out.
    pub(super) fn shut_out(&mut self, peer: PeerId, record: Option<&Signed>, now: Time) {
        if !self.removals.removed.insert(peer) {
            return;
        }
        if self.removals.removed.len() > REMOVED_MAX {
            self.removals.removed.pop_first();
        }
        self.book.remove_peer(&peer);
        let links: Vec<LinkId> = self.overlay.iter().filter(|(_, held)| held.peer == Some(peer)).map(|(link, _)| link).collect();
        for link in links {
            if let Some(record) = record {
                // So that it knows what became of it.
                self.say_to(link, &Frame::Removal { record: record.clone(), letter: None });
            }
            self.close(link, CloseReason::Removed, now);
        }
        self.depart(peer, Farewell::Removed, now);
    }

    pub(super) fn thrown_out(&mut self, by: PeerId, now: Time) {
        tracing::warn!(target: "peerflock::admission", ?by, "we were removed from the mesh");
        let links: Vec<LinkId> = self.overlay.iter().map(|(link, _)| link).collect();
        for link in links {
            // No goodbye: neighbors are to hear from the record what this is.
            self.close(link, CloseReason::Removed, now);
        }
        self.event(Event::WeWereRemoved { by });
        self.left = true;
    }

    /// Tells a neighbor of a record, with a letter if the record has none for it.
    pub(super) fn tell_removal(&mut self, link: LinkId, record: Signed) {
        let Some(peer) = self.overlay.get(link).and_then(|held| held.peer) else { return };
        let missed = !self.locks.was_told(&peer) && !self.removals.is_removed(&peer);
        let secret = self.locks.secret().cloned().filter(|_| missed);
        let letter = secret.and_then(|secret| self.letter(&peer, &secret));
        self.say_to(link, &Frame::Removal { record, letter });
    }

    /// The record by which the mesh got its present lock, for one who comes in.
    pub(super) fn tell_lock(&mut self, link: LinkId, peer: PeerId) {
        self.tell_evidence(link);
        self.tell_revocations(link);
        if let Some(record) = self.removals.record.clone() {
            self.tell_removal(link, record);
            self.prove_lock(link, peer);
        }
    }

    fn prove_lock(&mut self, link: LinkId, peer: PeerId) {
        let (lock, me) = (self.locks.id(), self.me);
        let Some(held) = self.overlay.get_mut(link) else { return };
        let proof = self.locks.prove(&me, &held.exporter);
        // What it said before we knew this lock may be its proof.
        let proved = held
            .claimed
            .take()
            .is_some_and(|(claimed, proof)| claimed == lock && self.locks.is_proof(&peer, &held.exporter, proof));
        if proved {
            held.lock = lock;
        }
        self.say_to(link, &Frame::Lock { lock, proof });
    }

    pub(super) fn hear_lock(&mut self, link: LinkId, lock: LockId, proof: [u8; 32]) {
        let present = self.locks.id();
        let Some(held) = self.overlay.get_mut(link) else { return };
        let Some(peer) = held.peer else { return };
        if lock != present {
            held.claimed = Some((lock, proof));
        } else if self.locks.is_proof(&peer, &held.exporter, proof) {
            held.lock = lock;
        } else {
            self.counters.forgeries += 1;
        }
    }

    /// What time brings: votes that were carried, and links whose other ends do not know the present lock.
    pub(super) fn tend_locks(&mut self, now: Time) {
        self.carry_out_votes(now);
        if self.removals.at.is_none_or(|at| now.since(at) < OLD_LOCK) {
            return;
        }
        let lock = self.locks.id();
        let stale = |(link, held): (LinkId, &crate::overlay::Link)| {
            (held.is_member() && held.lock != lock && now.since(held.heard_lock) >= OLD_LOCK).then_some(link)
        };
        let stale: Vec<LinkId> = self.overlay.iter().filter_map(stale).collect();
        for link in stale {
            self.close(link, CloseReason::OtherLock, now);
        }
    }

    // --- at the door ---------------------------------------------------------------------------------------------------

    /// Says something to all neighbors but the one it came from.
    pub(super) fn pass_to_all(&mut self, from: Option<LinkId>, frame: &Frame) {
        let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).filter(|link| Some(*link) != from).collect();
        if let Some(bytes) = frame.encode() {
            links.into_iter().for_each(|link| self.send_frame(link, bytes.clone()));
        }
    }

    /// The lock with which to knock at `peer`.
    pub(super) fn lock_for(&self, peer: &PeerId) -> LockId {
        let misses = self.misses(peer);
        let (_, lock) = self.locks.knock(peer, misses);
        // A newcomer does not know what its password is the lock of.
        if self.joined.is_none() && misses == 0 { LockId::NEWEST } else { lock }
    }

    /// How many of our locks `peer` did not know.
    pub(super) fn misses(&self, peer: &PeerId) -> usize {
        self.removals.misses.get(peer).copied().unwrap_or_default()
    }

    /// Where we knocked, our lock is not known: next time with an older one.
    pub(super) fn lock_unknown(&mut self, peer: &PeerId) {
        if self.locks.was_told(peer) {
            let misses = self.removals.misses.entry(*peer).or_default();
            *misses = (*misses + 1) % self.locks.len();
        }
        while self.removals.misses.len() > self.config.limits.members {
            self.removals.misses.pop_first();
        }
    }
}
