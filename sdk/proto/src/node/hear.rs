//! What members say on the streams: presence, keyframes, who owns what; and what a packet of state tells. Decode, verify, check, then
//! apply. Messages are in `messages`, datagrams in `parcels`.

use std::time::Duration;

use super::admit::HOLDINGS_PER_FRAME;
use super::{CloseReason, Event, Farewell, Node};
use crate::flood::Slot;
use crate::id::{LinkId, PeerId, Tick};
use crate::roster::News;
use crate::state::acks::HASH_MASK;
use crate::state::replica::{Fault, Received, Replica};
use crate::state::{Change, tick_frame};
use crate::time::Time;
use crate::wire::{ADDRESSES_MAX, DecodeError, FRAME_BYTES_MAX, Frame, Presence, REFERRALS_MAX, Signed};

impl Node {
    pub(super) fn frame(&mut self, link: LinkId, bytes: &[u8], now: Time) {
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.hear(now);
        if !held.is_member() {
            return self.admission_frame(link, bytes, now);
        }
        if !self.within_quota(link, bytes.len(), false, now) {
            return;
        }
        match Frame::decode(bytes, FRAME_BYTES_MAX) {
            Ok(frame) => self.member_frame(link, frame, now),
            Err(error) => {
                tracing::warn!(target: "peerflock::wire", ?link, %error, "closing a link that broke the protocol");
                self.counters.violations += 1;
                self.close(link, CloseReason::Violation, now);
            }
        }
    }

    fn member_frame(&mut self, link: LinkId, frame: Frame, now: Time) {
        match frame {
            Frame::Presence(signed) => self.hear_presence(link, signed, now),
            Frame::Message(message) => self.hear_message(link, message),
            Frame::Receipt(signed) => self.hear_receipt(signed),
            // Whoever hides dials only those whom its own program names.
            Frame::Refer(_) if self.config.relay_only => {}
            Frame::Refer(referrals) => {
                for referral in referrals.into_iter().take(REFERRALS_MAX) {
                    self.book.add(referral.address, Some(referral.peer), now);
                }
                self.neighborhood.look(now);
                self.pace.soon(now);
            }
            Frame::Said { author, boot, repair, said } => {
                if let (Some(port), Some(slot)) = (self.flood.port_of(link), self.flood.slot_of(&author, boot)) {
                    self.hear_said(port, slot, said, repair, now);
                }
            }
            Frame::Standing(entries) => {
                for entry in entries {
                    let known = self.roster.get(&entry.origin).is_some_and(|member| member.presence.boot == entry.boot);
                    let told = self.hints.get(&entry.origin).is_some_and(|(boot, _)| *boot == entry.boot);
                    if !known && !told && self.hints.len() < 2 * self.config.limits.members {
                        self.hints.insert(entry.origin, (entry.boot, entry.upto));
                    }
                }
            }
            Frame::Gone(gone) => self.hear_gone(link, &gone, now),
            Frame::Aliases(aliases) => self.hear_aliases(link, aliases),
            Frame::AliasesKnown(numbers) => self.hear_aliases_known(link, &numbers),
            Frame::Prune(origins) => origins.iter().for_each(|origin| self.flood.pruned(link, origin)),
            Frame::Graft(origins) => origins.iter().for_each(|origin| self.flood.grafted(link, origin)),
            Frame::Ages { first, ages } => self.hear_ages(link, first, &ages),
            Frame::Holdings(holdings) => {
                let (world, mut around) = self.world(now);
                let reply = world.learn(holdings, &mut around);
                self.reply(reply);
            }
            Frame::HoldingsHash { part, hash } => {
                if self.world.part_hash(part) != hash {
                    for holdings in self.world.holdings(Some(part)).chunks(HOLDINGS_PER_FRAME) {
                        self.say_to(link, &Frame::Holdings(holdings.to_vec()));
                    }
                }
            }
            Frame::WantKeyframe { origin, tick } => self.hear_want_keyframe(link, origin, tick, now),
            Frame::Keyframe(keyframe) => self.hear_keyframe(link, keyframe, now),
            Frame::WantProof { origin, seq } => self.hear_want_proof(link, &origin, seq),
            Frame::Retire => self.hear_retire(link, now),
            Frame::Stay => self.hear_stay(link, now),
            Frame::Roster(known) => self.hear_known(link, known, now),
            Frame::News(news) => self.hear_news(link, news, now),
            Frame::Vote(signed) => self.hear_vote(link, signed, now),
            Frame::Removal { record, letter } => self.hear_removal(link, record, letter.as_ref(), now),
            Frame::Evidence { origin, boot, one, other } => self.hear_evidence(Some(link), origin, boot, one, other, now),
            Frame::Revocations(list) => _ = self.learn_revocations(Some(link), list, now),
            Frame::Guessed(addresses) => self.hear_guessed(link, addresses, now),
            Frame::Lock { lock, proof } => self.hear_lock(link, lock, proof),
            Frame::Hello { .. } | Frame::Share { .. } | Frame::Confirm(_) | Frame::Welcome(_) => {
                self.counters.violations += 1;
                self.close(link, CloseReason::Violation, now);
            }
        }
    }

    // --- state ---------------------------------------------------------------------------------------------------------

    pub(super) fn apply_state(
        &mut self,
        link: LinkId,
        origin: PeerId,
        direct: bool,
        payload: &[u8],
        now: Time,
    ) -> Result<(), DecodeError> {
        let frame = tick_frame::decode(payload, self.config.limits.members, self.mesh_now(now))?;
        if direct {
            let rtt = self.least_rtt(link);
            self.clock.sample(frame.header.at, rtt, now);
        }
        if let Some(acks) = frame.acks
            && acks.roster_hash == self.roster_hash()
        {
            let mine = self.roster.place_beside(&origin).checked_sub(acks.start);
            if let Some(entry) = mine.and_then(|place| acks.entries.get(place)) {
                let newest = self.author.tick();
                self.acks.learn(origin, entry.acked(newest), newest);
            }
        }
        let Some(boot) = self.roster.get(&origin).map(|member| member.presence.boot) else { return Ok(()) };
        let replica = self.replicas.entry(origin).or_insert_with(|| Replica::new(boot));
        match replica.receive(frame.header, frame.body, &self.config.registry, &self.config.limits)? {
            Received::Claims(changes) => {
                let starved = replica.is_starved(frame.header.tick);
                let (world, mut around) = self.world(now);
                world.claimed(origin, changes, &mut around);
                if starved {
                    self.want_keyframe(link, origin, frame.header.tick, now);
                }
            }
            Received::NoBaseline { tick, fault } => {
                match fault {
                    Fault::Missing => {}
                    Fault::Differs => {
                        tracing::warn!(target: "peerflock::state", ?origin, ?tick, "what we have is not what its origin has");
                    }
                    Fault::Lent => self.distrust_keyframe(origin, direct, now),
                }
                self.counters.state_packets_undecodable += 1;
                self.want_keyframe(link, origin, tick, now);
            }
        }
        Ok(())
    }

    /// What an origin seemed to say from a tick on was altered on the way: back to what is known to be its own.
    pub(super) fn undo_state(&mut self, slot: Slot, origin: PeerId, from: Tick, now: Time) {
        self.acks.forget(&origin);
        let Some(replica) = self.replicas.get_mut(&origin) else { return };
        let changes = replica.undo(from);
        let bare = replica.newest().is_none();
        let (world, mut around) = self.world(now);
        world.undo(origin, changes, &mut around);
        // Not from a difference only: nothing may be left of it.
        let way = self.overlay.neighbor(&origin).or_else(|| self.flood.nearest(slot));
        if bare && let Some(link) = way {
            self.want_keyframe(link, origin, from, now);
        }
    }

    /// By which acknowledgements tell whose they are.
    pub(super) fn roster_hash(&self) -> u32 {
        self.roster.hash() & HASH_MASK
    }

    // --- who is here ---------------------------------------------------------------------------------------------------

    fn hear_presence(&mut self, link: LinkId, signed: Signed, now: Time) {
        let peer = signed.author;
        let Some(claimed) = signed.peek::<Presence>() else {
            self.counters.violations += 1;
            return;
        };
        if self.removals.is_removed(&peer) {
            return;
        }
        if peer == self.me || self.roster.knows_newer(&peer, claimed.boot, claimed.seq) {
            let known = self.roster.get(&peer).map(|member| (member.presence.boot, member.presence.seq));
            if known == Some((claimed.boot, claimed.seq)) {
                self.roster.shown(&peer, link);
            }
            return;
        }
        let Some(presence) = Presence::open(&signed, &self.mesh) else {
            self.counters.forgeries += 1;
            return;
        };
        if !self.is_certified(&peer, presence.certificate.as_ref(), now) {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::admission", ?peer, "a presence without a certificate that holds");
            return;
        }
        let former = self.roster.get(&peer).map(|member| member.presence.boot);
        let news = self.roster.learn(peer, presence.clone(), signed, self.config.limits.members, now);
        self.roster.shown(&peer, link);
        match news {
            News::Nothing => return,
            News::Restarted => {
                self.forget_member(peer, now);
                self.private.give_up(&peer);
                self.event(Event::PeerLeft { peer, farewell: Farewell::Lost });
                tracing::info!(target: "peerflock::roster", ?peer, ?former, "started anew");
                self.member_joined(peer, &presence, now);
            }
            News::Joined => self.member_joined(peer, &presence, now),
            News::Returned => {
                self.member_joined(peer, &presence, now);
                self.give_back(peer, now);
            }
            News::Changed { profile } => {
                if profile {
                    self.event(Event::PeerChanged { peer, profile: presence.profile() });
                }
            }
        }
        self.note_addresses(peer, &presence, now);
        if !matches!(news, News::Changed { .. }) {
            self.show_presence(peer);
        }
        self.neighborhood.tell(peer, now);
    }

    fn member_joined(&mut self, peer: PeerId, presence: &Presence, now: Time) {
        let hint = self.hints.remove(&peer).filter(|(boot, _)| *boot == presence.boot);
        let after = hint.map_or(presence.messages, |(_, upto)| upto);
        // What it said in a former life nobody can ask for any more.
        if self.flood.slot_of(&peer, presence.boot).is_none()
            && let Some(former) = self.flood.slot(&peer)
        {
            self.broadcast.forget(former);
        }
        let slot = self.flood.enroll(peer, presence.boot, now);
        self.broadcast.listen(slot, peer, presence.boot, after);
        tracing::info!(target: "peerflock::roster", ?peer, name = presence.profile().name, "joined");
        self.event(Event::PeerJoined { peer, profile: presence.profile() });
        self.neighborhood.look(now);
        self.pace.soon_among(self.roster.present().len(), now);
    }

    /// A member that we took for gone was heard.
    pub(super) fn member_returned(&mut self, peer: PeerId, now: Time) {
        let Some(presence) = self.roster.get(&peer).map(|member| member.presence.clone()) else { return };
        self.member_joined(peer, &presence, now);
        self.give_back(peer, now);
    }

    /// What we adopted from a member while it only seemed gone is its own again.
    fn give_back(&mut self, peer: PeerId, now: Time) {
        let changes: Vec<Change> =
            self.world.returned(peer, now).into_iter().map(|entity| Change::Transfer { entity, to: peer }).collect();
        if !changes.is_empty() {
            self.apply_changes(changes, now);
        }
    }

    fn note_addresses(&mut self, peer: PeerId, presence: &Presence, now: Time) {
        if self.config.relay_only {
            return;
        }
        // Both ends learn of each other at the same moment: the smaller key dials at once, the larger only if nothing came of it.
        let patience = if self.me < peer { Duration::ZERO } else { Duration::from_millis(600) };
        for address in presence.addresses.iter().take(ADDRESSES_MAX) {
            self.book.add(*address, Some(peer), now + patience);
        }
    }

    pub(super) fn depart(&mut self, peer: PeerId, farewell: Farewell, now: Time) {
        if !self.roster.depart(&peer, farewell, now) {
            return;
        }
        tracing::info!(target: "peerflock::roster", ?peer, ?farewell, "gone");
        if farewell != Farewell::Lost {
            self.book.remove_peer(&peer);
            self.private.give_up(&peer);
        }
        self.forget_member(peer, now);
        self.event(Event::PeerLeft { peer, farewell });
        if let Some(link) = self.overlay.neighbor(&peer) {
            let reason = match farewell {
                Farewell::Left => CloseReason::Goodbye,
                Farewell::Lost => CloseReason::Silence,
                Farewell::Removed => CloseReason::Removed,
            };
            self.close(link, reason, now);
        }
    }

    fn forget_member(&mut self, peer: PeerId, now: Time) {
        self.replicas.remove(&peer);
        self.acks.forget(&peer);
        self.neighborhood.near.forget(&peer);
        self.keyframes.forget(&peer);
        // If it comes back, whoever passes it on is not to blame for proofs that did not come meanwhile; of its state nothing is left.
        if let Some(origin) = self.flood.slot(&peer).and_then(|slot| self.flood.origin_mut(slot)) {
            origin.ledger.abandon();
        }
        let (world, mut around) = self.world(now);
        world.departed(peer, &mut around);
    }
}
