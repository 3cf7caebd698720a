//! What members say: packets of state, messages, presence, digests, keyframes. Decode, verify, check, then apply.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::admit::HOLDINGS_PER_FRAME;
use super::{CloseReason, Event, Farewell, Node, Topic};
use crate::flood::Arrival;
use crate::id::{LinkId, PeerId, Tick};
use crate::message::Taken;
use crate::roster::News;
use crate::state::acks;
use crate::state::coder::{self, Assembler};
use crate::state::replica::{Received, Replica};
use crate::state::snapshot::{Record, Snapshot};
use crate::state::{Change, tick_frame};
use crate::time::Time;
use crate::wire::{
    ADDRESSES_MAX, Body, DecodeError, FRAME_BYTES_MAX, Frame, Keyframe, Lane, Message, Note, Packet, Presence, REFERRALS_MAX,
    Receipt, Signed, codec,
};

/// A keyframe is asked for again after so long.
const KEYFRAME_RETRY: Duration = Duration::from_millis(200);
/// Longest part of a keyframe, in bytes.
const KEYFRAME_PART_BYTES: usize = 16 * 1024;
/// Most parts of a keyframe; 16,384 entities of some 60 bytes take 60.
const KEYFRAME_PARTS_MAX: usize = 1_024;

/// Keyframes on their way to us.
#[derive(Debug, Default)]
pub(super) struct Keyframes {
    /// By origin: when we last asked.
    asked: BTreeMap<PeerId, Time>,
    parts: BTreeMap<(LinkId, PeerId), (Tick, Vec<Option<Bytes>>)>,
}

impl Keyframes {
    pub(super) fn link_down(&mut self, link: LinkId) {
        self.parts.retain(|(from, _), _| *from != link);
    }

    /// Adds a part; all of them in order, once they are there.
    fn add(&mut self, link: LinkId, keyframe: &Keyframe) -> Option<Vec<Bytes>> {
        let (part, parts) = (usize::from(keyframe.part), usize::from(keyframe.parts));
        let key = (link, keyframe.origin);
        let collected = self.parts.entry(key).or_insert_with(|| (keyframe.tick, vec![None; parts]));
        if collected.0 != keyframe.tick || collected.1.len() != parts {
            *collected = (keyframe.tick, vec![None; parts]);
        }
        *collected.1.get_mut(part)? = Some(keyframe.body.clone());
        if collected.1.iter().any(Option::is_none) {
            return None;
        }
        self.parts.remove(&key).map(|(_, parts)| parts.into_iter().flatten().collect())
    }
}

impl Node {
    pub(super) fn frame(&mut self, link: LinkId, bytes: &[u8], now: Time) {
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.heard = now;
        if !held.is_member() {
            return self.admission_frame(link, bytes, now);
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
            Frame::Message(message) => self.hear_message(link, message, now),
            Frame::Receipt(signed) => self.hear_receipt(signed),
            Frame::Refer(referrals) => {
                for referral in referrals.into_iter().take(REFERRALS_MAX) {
                    self.book.add(referral.address, Some(referral.peer), now);
                }
                self.pace.soon(now);
            }
            Frame::Digest(entries) => {
                for entry in entries {
                    if self.roster.present().contains(&entry.origin) {
                        self.gaps.insert((link, entry.origin), (entry, now));
                    } else if self.hints.len() < 2 * self.config.limits.members {
                        self.hints.insert(entry.origin, (entry.boot, entry.upto));
                    }
                }
            }
            Frame::Pull(pull) => match self.broadcast.pulled(&pull) {
                Ok(messages) => {
                    for message in messages {
                        self.say_to(link, &Frame::Message(message));
                    }
                }
                Err(upto) => self.say_to(link, &Frame::Gone(crate::wire::DigestEntry { upto, ..pull })),
            },
            Frame::Gone(gone) => {
                let ready = self.broadcast.skip(&gone.origin, gone.boot, gone.upto);
                self.deliver(gone.origin, ready, now);
            }
            // Of members only: what nobody sends need not be remembered.
            Frame::Prune { origin } if self.roster.present().contains(&origin) => self.flood.prune(link, origin),
            Frame::Prune { .. } => {}
            Frame::Graft { origin } => {
                self.flood.graft(link, origin);
                let digest = self.broadcast.digest(link);
                if !digest.is_empty() {
                    self.say_to(link, &Frame::Digest(digest));
                }
            }
            Frame::Holdings(holdings) => {
                let (world, mut around) = self.world(now);
                let objections = world.learn(holdings, &mut around);
                self.tell_adoptions(objections);
            }
            Frame::HoldingsHash { part, hash } => {
                if self.world.part_hash(part) != hash {
                    for holdings in self.world.holdings(Some(part)).chunks(HOLDINGS_PER_FRAME) {
                        self.say_to(link, &Frame::Holdings(holdings.to_vec()));
                    }
                }
            }
            Frame::WantKeyframe { origin, tick } => self.send_keyframe(link, origin, Some(tick)),
            Frame::Keyframe(keyframe) => self.hear_keyframe(link, keyframe, now),
            Frame::Hello { .. } | Frame::Share { .. } | Frame::Confirm { .. } | Frame::Welcome(_) => {
                self.counters.violations += 1;
                self.close(link, CloseReason::Violation, now);
            }
        }
    }

    // --- state ---------------------------------------------------------------------------------------------------------

    pub(super) fn datagram(&mut self, link: LinkId, bytes: Bytes, now: Time) {
        let Some(held) = self.overlay.get_mut(link) else { return };
        // Datagrams overtake WELCOME: what comes before admission is dropped.
        let (true, Some(neighbor)) = (held.is_member(), held.peer) else { return };
        held.heard = now;
        let Ok(packet) = Packet::decode(bytes) else {
            self.counters.violations += 1;
            return;
        };
        let origin = packet.origin.unwrap_or(neighbor);
        let direct = packet.origin.is_none();
        if origin == self.me || packet.hops >= packet.hop_limit {
            return;
        }
        let seq = u64::from(packet.seq);
        if !self.flood.is_new(&origin, packet.boot, seq) {
            self.counters.state_packets_duplicate += 1;
            if self.flood.arrived(origin, packet.boot, seq, link, direct || origin == neighbor, now) == Arrival::Redundant {
                self.say_to(link, &Frame::Prune { origin });
            }
            return;
        }
        // The link proves its own end; anybody else's packet must prove itself. To pass one on, we want to see its proof hold.
        let targets = self.flood_targets(origin, Some(link));
        let needs_proof = !direct || (packet.proof.is_some() && !targets.is_empty());
        if needs_proof && !packet.is_proved(&self.mesh, &origin) {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::flood", ?origin, ?neighbor, "a packet that its origin did not sign");
            return;
        }
        if self.roster.heard(&origin, packet.boot, now) {
            self.member_returned(origin, now);
        }
        if self.roster.get(&origin).is_none_or(|member| member.presence.boot != packet.boot) {
            return;
        }
        self.flood.arrived(origin, packet.boot, seq, link, direct, now);
        self.counters.state_packets_first += 1;
        if packet.proof.is_some() && packet.hops + 1 < packet.hop_limit && !targets.is_empty() {
            let onward = Packet { origin: Some(origin), hops: packet.hops + 1, ..packet.clone() }.encode();
            self.counters.state_packets_forwarded += targets.len() as u64;
            for target in targets {
                self.send_datagram(target, onward.clone());
            }
        }
        if self.apply_state(link, origin, direct, &packet.payload, now).is_err() {
            self.counters.violations += 1;
            tracing::warn!(target: "peerflock::state", ?origin, "state that does not decode");
        }
    }

    fn apply_state(&mut self, link: LinkId, origin: PeerId, direct: bool, payload: &[u8], now: Time) -> Result<(), DecodeError> {
        let frame = tick_frame::decode(payload, self.config.limits.members)?;
        if direct {
            let rtt = self.rtt(link);
            self.clock.sample(frame.header.at, rtt, now);
        }
        if let Some((hash, entries)) = frame.acks
            && hash == self.roster_hash()
        {
            let me = self.me;
            let mine = self.roster.present().iter().filter(|peer| **peer != origin).position(|peer| *peer == me);
            if let Some(acked) = mine.and_then(|index| entries.get(index)) {
                self.acks.learn(origin, *acked);
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
            Received::MissingBaseline(tick) => {
                self.counters.state_packets_undecodable += 1;
                self.want_keyframe(link, origin, tick, now);
            }
        }
        Ok(())
    }

    fn want_keyframe(&mut self, link: LinkId, origin: PeerId, tick: Tick, now: Time) {
        if self.keyframes.asked.get(&origin).is_some_and(|asked| now.since(*asked) < KEYFRAME_RETRY) {
            return;
        }
        self.keyframes.asked.insert(origin, now);
        self.counters.keyframes_wanted += 1;
        self.say_to(link, &Frame::WantKeyframe { origin, tick });
    }

    /// Sends an origin's whole world, as of `tick` if that is at hand, else as new as we have it.
    pub(super) fn send_keyframe(&mut self, link: LinkId, origin: PeerId, tick: Option<Tick>) {
        let (boot, snapshot) = if origin == self.me {
            (self.boot, tick.and_then(|tick| self.author.snapshot(tick)).or_else(|| self.author.newest()))
        } else {
            let Some(replica) = self.replicas.get(&origin) else { return };
            (replica.boot, tick.map_or_else(|| replica.newest(), |tick| replica.snapshot_near(tick)))
        };
        let Some(snapshot) = snapshot else { return };
        let (tick, at) = (snapshot.tick, snapshot.at);
        let bodies = coder::encode(snapshot, None, KEYFRAME_PART_BYTES);
        let Ok(parts) = u16::try_from(bodies.len()) else { return };
        for (part, body) in (0..).zip(bodies) {
            self.say_to(link, &Frame::Keyframe(Keyframe { origin, boot, tick, at, part, parts, body: body.into() }));
        }
    }

    fn hear_keyframe(&mut self, link: LinkId, keyframe: Keyframe, now: Time) {
        let (origin, tick, at) = (keyframe.origin, keyframe.tick, keyframe.at);
        let known_boot = self.roster.get(&origin).map(|member| member.presence.boot);
        let parts = usize::from(keyframe.parts);
        if known_boot != Some(keyframe.boot)
            || parts == 0
            || parts > KEYFRAME_PARTS_MAX
            || keyframe.body.len() > KEYFRAME_PART_BYTES
        {
            return;
        }
        let Some(bodies) = self.keyframes.add(link, &keyframe) else { return };
        match self.assemble_keyframe(&bodies) {
            Ok(records) => {
                let replica = self.replicas.entry(origin).or_insert_with(|| Replica::new(keyframe.boot));
                let changes = replica.adopt_snapshot(Snapshot { tick, at, records });
                let (world, mut around) = self.world(now);
                world.claimed(origin, changes, &mut around);
            }
            Err(error) => {
                self.counters.violations += 1;
                tracing::warn!(target: "peerflock::state", ?origin, %error, "a keyframe that does not decode");
                self.close(link, CloseReason::Violation, now);
            }
        }
    }

    fn assemble_keyframe(&self, bodies: &[Bytes]) -> Result<Vec<std::sync::Arc<Record>>, DecodeError> {
        let mut assembler = Assembler::default();
        for body in bodies {
            for item in coder::decode(body, None, &self.config.registry)?.items {
                assembler.add(item, None, self.config.limits.component_bytes)?;
            }
        }
        let (records, _) = assembler.finish()?;
        let max = self.config.limits.entities_per_origin;
        if records.len() > max { Err(DecodeError::TooLong(max)) } else { Ok(records) }
    }

    pub(super) fn roster_hash(&self) -> u32 {
        acks::roster_hash(self.roster.present().iter())
    }

    // --- who is here ---------------------------------------------------------------------------------------------------

    fn hear_presence(&mut self, link: LinkId, signed: Signed, now: Time) {
        let peer = signed.author;
        let Some(claimed) = signed.peek::<Presence>() else {
            self.counters.violations += 1;
            return;
        };
        if peer == self.me || self.roster.knows_newer(&peer, claimed.boot, claimed.seq) {
            return;
        }
        let Some(presence) = Presence::open(&signed, &self.mesh) else {
            self.counters.forgeries += 1;
            return;
        };
        let former = self.roster.get(&peer).map(|member| member.presence.boot);
        let news = self.roster.learn(peer, presence.clone(), signed.clone(), self.config.limits.members, now);
        match news {
            News::Nothing => return,
            News::Restarted => {
                self.forget_member(peer, now);
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
        if let Some(bytes) = Frame::Presence(signed).encode() {
            let others: Vec<LinkId> = self
                .overlay
                .neighbors()
                .filter(|(other, neighbor)| *other != link && *neighbor != peer)
                .map(|(other, _)| other)
                .collect();
            for other in others {
                self.send_frame(other, bytes.clone());
            }
        }
    }

    fn member_joined(&mut self, peer: PeerId, presence: &Presence, now: Time) {
        let hint = self.hints.remove(&peer).filter(|(boot, _)| *boot == presence.boot).map_or(0, |(_, upto)| upto);
        self.broadcast.listen(peer, presence.boot, presence.messages.max(hint));
        tracing::info!(target: "peerflock::roster", ?peer, name = presence.profile().name, "joined");
        self.event(Event::PeerJoined { peer, profile: presence.profile() });
        self.pace.soon(now);
    }

    /// A member that we took for gone was heard.
    fn member_returned(&mut self, peer: PeerId, now: Time) {
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
        if farewell == Farewell::Left {
            self.book.remove_peer(&peer);
        }
        self.forget_member(peer, now);
        self.event(Event::PeerLeft { peer, farewell });
        if let Some(link) = self.overlay.neighbor(&peer) {
            self.close(link, if farewell == Farewell::Left { CloseReason::Goodbye } else { CloseReason::Silence }, now);
        }
    }

    fn forget_member(&mut self, peer: PeerId, now: Time) {
        self.replicas.remove(&peer);
        self.acks.forget(&peer);
        self.flood.forget(&peer);
        self.private.forget(&peer);
        self.keyframes.asked.remove(&peer);
        self.gaps.retain(|(_, origin), _| *origin != peer);
        let (world, mut around) = self.world(now);
        world.departed(peer, &mut around);
    }

    // --- messages ------------------------------------------------------------------------------------------------------

    fn hear_message(&mut self, link: LinkId, message: Message, now: Time) {
        let author = message.header.author;
        let Some(note) = message.header.peek::<Note>() else {
            self.counters.violations += 1;
            return;
        };
        if author == self.me || message.hops > note.hop_limit {
            return;
        }
        if let Lane::One(to) = note.lane
            && to != self.me
        {
            // Not ours to judge: its reader will check it.
            if message.hops < note.hop_limit {
                self.route(to, &Frame::Message(Message { hops: message.hops + 1, ..message }));
            }
            return;
        }
        let private = note.lane == Lane::One(self.me);
        let near = note.lane == Lane::Near;
        if !private && !self.broadcast.is_new(&author, note.boot, note.seq, near) {
            self.counters.messages_duplicate += 1;
            let direct = self.overlay.get(link).is_some_and(|held| held.peer == Some(author));
            if self.flood.is_redundant(author, link, direct) {
                self.say_to(link, &Frame::Prune { origin: author });
            }
            return;
        }
        let intact = message.body.as_ref().is_none_or(|body| *blake3::hash(body).as_bytes() == note.body_hash);
        if !intact || message.header.open::<Note>(&self.mesh, "message").is_none() {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::message", ?author, ?link, "a message that its author did not sign");
            return;
        }
        if private {
            if self.roster.get(&author).is_none_or(|member| member.presence.boot != note.boot) {
                return;
            }
            let (ready, upto) = self.private.take(author, note.boot, note.seq, message);
            self.counters.messages_first += ready.len() as u64;
            let receipt = Receipt { to: author, boot: note.boot, upto };
            if let Some(signed) = Signed::new(&self.identity, &self.mesh, "receipt", &receipt) {
                self.route(author, &Frame::Receipt(signed));
            }
            return self.deliver(author, ready, now);
        }
        match self.broadcast.take(&author, note.seq, near, message.clone()) {
            Taken::New(ready) => {
                self.counters.messages_first += 1;
                self.flood.heard(&author, now);
                if message.hops < note.hop_limit {
                    let onward = Message { hops: message.hops + 1, ..self.filtered(author, message) };
                    self.forward_message(author, Some(link), onward);
                }
                self.deliver(author, ready, now);
            }
            Taken::Old => self.counters.messages_duplicate += 1,
            Taken::TooFar => {}
        }
    }

    /// The message without its body, if the filter keeps that back: the header alone tells others not to wait for it.
    fn filtered(&self, author: PeerId, message: Message) -> Message {
        let Some(filter) = &self.filter else { return message };
        let passes = match message.body.as_ref().map(|body| codec::decode::<Body>(body)) {
            Some(Ok(Body::App { topic, payload })) => filter(author, Topic(topic), &payload),
            _ => true,
        };
        if passes { message } else { Message { body: None, ..message } }
    }

    fn hear_receipt(&mut self, signed: Signed) {
        let reader = signed.author;
        let Some(receipt) = signed.peek::<Receipt>() else {
            self.counters.violations += 1;
            return;
        };
        if receipt.to != self.me {
            return self.route(receipt.to, &Frame::Receipt(signed));
        }
        if receipt.boot == self.boot && signed.open::<Receipt>(&self.mesh, "receipt").is_some() {
            self.private.receipted(&reader, receipt.upto);
        }
    }

    fn deliver(&mut self, author: PeerId, messages: Vec<Message>, now: Time) {
        for message in messages {
            let private = message.header.peek::<Note>().is_some_and(|note| matches!(note.lane, Lane::One(_)));
            let Some(body) = message.body else { continue };
            let Ok(body) = codec::decode::<Body>(&body) else {
                self.counters.violations += 1;
                continue;
            };
            match body {
                Body::App { topic, payload } => {
                    self.event(Event::Message { from: author, topic: Topic(topic), private, payload });
                }
                // Only what everyone hears can change what everyone must agree on.
                _ if private => self.counters.violations += 1,
                Body::Transfer { entity, number, to, record } => match self.assemble_keyframe(std::slice::from_ref(&record)) {
                    Ok(records) => {
                        if let Some(record) =
                            records.into_iter().find(|record| record.entity == entity && record.number == number)
                        {
                            let (world, mut around) = self.world(now);
                            world.transferred(author, number, to, Record::clone(&record), &mut around);
                        }
                    }
                    Err(_) => self.counters.violations += 1,
                },
                Body::Adopt(adoptions) => {
                    let (world, mut around) = self.world(now);
                    let objections = world.adopted(author, adoptions, &mut around);
                    self.tell_adoptions(objections);
                }
                Body::Farewell => self.depart(author, Farewell::Left, now),
            }
        }
    }
}
