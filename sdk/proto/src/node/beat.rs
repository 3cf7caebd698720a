//! The beat: the game's ticks go out, and what time brings is looked after.

use std::sync::Arc;
use std::time::Duration;

use super::admit::HOLDINGS_PER_FRAME;
use super::budget::TickSize;
use super::{Farewell, Node};
use crate::flood::{Kept, Slot};
use crate::id::{LinkId, PeerId, Tick};
use crate::state::acks::{self, AckList};
use crate::state::coder::Basis;
use crate::state::ownership::PARTS;
use crate::state::replica::PieceHeader;
use crate::state::snapshot::Snapshot;
use crate::state::world::Reply;
use crate::state::{Change, coder, tick_frame};
use crate::time::Time;
use crate::wire::{Adoption, Body, Frame, Item, PAYLOAD_BYTES_MAX, Packet, RELAYED_PAYLOAD_BYTES_MAX, UNRELAYED_HOP_LIMIT};

/// How often a node looks around when nothing happens.
const BEAT: Duration = Duration::from_millis(50);
/// Where something changed that may want a dial, it does so this soon. A look costs time for each member.
const SOON: Duration = Duration::from_millis(5);
const SOON_PER_MEMBER: Duration = Duration::from_micros(50);
/// A beat this late means that we ourselves were asleep.
const ASLEEP: Duration = Duration::from_millis(250);
/// How often to look for shorter ways.
const IMPROVE_EVERY: Duration = Duration::from_millis(500);
/// In a mesh of many members each is heard of more seldom, and missed later: the time between signs of life for each member.
const HEARTBEAT_PER_MEMBER: Duration = Duration::from_millis(4);
/// A tick that is lost is not sent again. Whoever has nothing to say says that, reliably, with every so manieth sign of life.
const IDLE_TICKS: u32 = 4;
/// So often we say what a tick of ours was as a whole: until then, who was lent our world takes a neighbor's word for it.
const DIGEST_EVERY: Duration = Duration::from_millis(500);
/// Signs of life come so much more often while somebody may not have our world as it is: the last tick before a pause may be lost.
const UNCONFIRMED_PART: u32 = 3;
/// So many signs of life may be missing.
const SILENT_HEARTBEATS: u32 = 4;
/// We look so many times for who fell silent in the time that anyone may be: it is a look at all members.
const SILENCE_PARTS: u32 = 32;
/// How often neighbors compare a part of who owns what.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// With a tick of the game they do so early, so that there is nothing left for the next beat, which would need a packet of its own.
const COMPARE_EARLY: Duration = BEAT;
/// Most entities in one message about who owns what.
pub(super) const STEPS_PER_MESSAGE: usize = 500;

/// When what is due.
#[derive(Debug)]
pub(super) struct Pace {
    next_beat: Time,
    last_frame: Time,
    /// When we last said something to all: a sign of life, too.
    pub(super) last_said: Time,
    /// Signs of life since the last one that is repaired.
    idle: u32,
    next_improvement: Time,
    next_comparison: Time,
    /// When we look next whether members fell silent.
    next_roll: Time,
    /// Which part of the titles was compared last.
    part: u8,
    /// Our presence changed and is to be told.
    presence_due: bool,
    /// Beats so far.
    beats: usize,
    /// Whether everyone was known to have our world as it is, and when we look next: it is a look at all members.
    confirmed: bool,
    next_confirmation: Time,
    /// When we say next what a tick of ours was as a whole.
    next_digest: Time,
}

impl Pace {
    pub(super) fn starting(now: Time) -> Self {
        Self {
            next_beat: now,
            last_frame: now,
            last_said: Time(0),
            idle: 0,
            next_improvement: now,
            next_comparison: now,
            next_roll: now,
            part: 0,
            presence_due: false,
            beats: 0,
            confirmed: false,
            next_confirmation: now,
            next_digest: now,
        }
    }

    /// Look around before long: something changed that may want a dial.
    pub(super) fn soon(&mut self, now: Time) {
        self.next_beat = self.next_beat.min(now + SOON);
    }

    /// The same where it is one of `members` that changed: among many somebody always does.
    pub(super) fn soon_among(&mut self, members: usize, now: Time) {
        let members = u32::try_from(members).unwrap_or(u32::MAX);
        self.next_beat = self.next_beat.min(now + SOON.max((SOON_PER_MEMBER * members).min(BEAT)));
    }

    pub(super) fn tell_presence(&mut self, now: Time) {
        self.presence_due = true;
        self.soon(now);
    }
}

impl Node {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next; None after leaving.
    pub fn poll_timeout(&self) -> Option<Time> {
        let next = self.next_repair().map_or(self.pace.next_beat, |repair| repair.min(self.pace.next_beat));
        (!self.left).then_some(next)
    }

    /// Looks after what time brings. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.left {
            return;
        }
        self.now = now;
        self.repair(now);
        if now < self.pace.next_beat {
            return;
        }
        let late = now.since(self.pace.next_beat);
        if late >= ASLEEP {
            self.roster.forgive(late);
            self.hearing.forgive(late);
            for link in self.overlay.iter_mut() {
                link.heard = link.heard + late;
                link.opened = link.opened + late;
            }
            for (_, port) in self.flood.ports_mut() {
                port.heard = port.heard + late;
            }
        }
        self.pace.next_beat = now + BEAT;
        self.tend_neighbors(now);
        self.tend_locks(now);
        let (heartbeat, silence) = self.signs_of_life();
        let patience = |peer: &PeerId| {
            let origin = self.flood.slot(peer).and_then(|slot| self.flood.origin(slot));
            origin.map_or(silence, |origin| origin.silence(silence))
        };
        let look = now >= self.pace.next_roll && !self.is_cut_off(now);
        let silent = if look { self.roster.silent(silence, patience, self.hearing.again(), now) } else { Vec::new() };
        if look {
            self.pace.next_roll = now + silence / SILENCE_PARTS;
        }
        for peer in silent {
            self.depart(peer, Farewell::Lost, now);
        }
        for peer in self.roster.forget_old(now) {
            self.private.give_up(&peer);
            if let Some(slot) = self.flood.slot(&peer) {
                self.broadcast.forget(slot);
                self.flood.forget(&peer, now);
            }
        }
        self.adopt_orphans(now);
        self.expire_requests(now);
        if now >= self.pace.next_confirmation {
            self.pace.confirmed = self.is_confirmed();
            self.pace.next_confirmation = now + heartbeat / SILENCE_PARTS;
        }
        let confirmed = self.pace.confirmed;
        let spoke = if confirmed { self.pace.last_frame.max(self.pace.last_said) } else { self.pace.last_frame };
        let hurries = !confirmed && self.state_rate().is_none();
        let pause = if hurries { heartbeat / UNCONFIRMED_PART } else { heartbeat };
        if now.since(spoke) >= pause && self.overlay.neighbors().next().is_some() {
            self.pace.idle = (self.pace.idle + 1) % IDLE_TICKS;
            self.send_tick(true, now);
            if self.pace.idle == 0 {
                self.tell_everyone(Body::Seal);
            }
        }
        self.look_for_ways(now);
        self.seal();
        self.prove();
        self.tend_links(now);
        if self.pace.presence_due && self.presence_is_due(now) {
            self.pace.presence_due = false;
            self.tell_presence(now);
        }
        self.pass_on_presence(now);
        let present = self.roster.present();
        for (peer, message) in self.private.due(|peer| present.contains(peer), now) {
            self.route(peer, &Frame::Message(message));
        }
        self.compare_holdings(now, Duration::ZERO);
        self.report_world();
    }

    /// The game's tick: its changes, then what of ours changed to everyone, as far as there is room.
    pub(super) fn commit(&mut self, changes: Vec<Change>, now: Time) {
        self.apply_changes(changes, now);
        // What goes on the stream shares its packet with the tick.
        self.compare_holdings(now, COMPARE_EARLY);
        self.send_tick(false, now);
    }

    pub(super) fn apply_changes(&mut self, changes: Vec<Change>, now: Time) {
        let (registry, limits) = (self.config.registry.clone(), self.config.limits);
        let (world, mut around) = self.world(now);
        let told = world.commit(changes, &registry, &limits, &mut around);
        self.tell_removed(&told.removed);
        for given in told.given {
            let snapshot = self.author.alone(given.record);
            // One record, one part: components are bounded well below a message.
            let record = coder::encode(&snapshot, None, &registry, crate::wire::FRAME_BYTES_MAX).0.swap_remove(0).bytes;
            self.tell_everyone(Body::Transfer {
                entity: given.entity,
                number: given.number,
                to: given.to,
                record: record.into(),
            });
        }
    }

    /// Ends our tick and sends it: one delta, the same bytes for every receiver. `must`: even if there is room for next to nothing.
    fn send_tick(&mut self, must: bool, now: Time) {
        let size = self.tick_size(must, now);
        if size == TickSize::Later {
            return;
        }
        self.pace.last_frame = now;
        let at = tick_frame::rounded(self.mesh_now(now));
        // Where some members are not our neighbors, others must pass this on, and it must be proved.
        let relayed = self.overlay.neighbors().count() + 1 < self.roster.present().len();
        // What nobody passes on all must have from us, also who has our messages from elsewhere.
        let targets = if relayed { self.targets(Slot::ME, None) } else { self.flood.ports().map(|(id, _)| id).collect() };
        if targets.is_empty() || self.config.hop_limit == 0 {
            let snapshot = self.author.end_tick(at, now);
            return self.author.keep(snapshot);
        }
        self.counters.state_frames_made += 1;
        let (baseline, reference) = self.acks.baselines(Tick(self.author.tick().0 + 1), self.author.floor());
        let reference = match (size, baseline) {
            (TickSize::Bytes(_), Some(baseline)) => {
                self.acks.far_reference(baseline, Tick(self.author.tick().0 + 1), self.author.floor())
            }
            _ => reference,
        };
        if let Some(oldest) = reference.or(baseline) {
            self.author.builds_on(oldest);
        }
        let baseline = baseline.and_then(|tick| self.author.snapshot(tick)).cloned();
        let reference = reference.and_then(|tick| self.author.snapshot(tick)).cloned();
        let mut snapshot = match size {
            TickSize::Bytes(bytes) => {
                let newest = self.author.tick();
                self.author.lost(|tick| self.acks.is_lost(tick, newest));
                self.author.end_tick_within(bytes, baseline.as_deref(), at, now)
            }
            TickSize::Whole | TickSize::Later => self.author.end_tick(at, now),
        };
        let basis = baseline.as_deref().map(|baseline| Basis { baseline, reference: reference.as_deref() });
        let room = if relayed { RELAYED_PAYLOAD_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        let acks = self.own_acks(snapshot.tick);
        let ack_bytes = acks.as_ref().map_or(0, |acks| tick_frame::encode(header(&snapshot, 0, 1, basis), Some(acks), &[]).len());
        let digest = baseline.as_deref().filter(|_| now >= self.pace.next_digest).map(|baseline| {
            self.pace.next_digest = now + DIGEST_EVERY;
            self.digester.digest(baseline)
        });
        let beside = ack_bytes + digest.map_or(0, |digest| digest.len());
        let (bodies, models) =
            coder::encode(&snapshot, basis, &self.config.registry, room - tick_frame::HEADER_BYTES_MAX - beside);
        snapshot.models = Arc::new(models);
        let pieces = bodies.len();
        self.spend(bodies.iter().map(|body| body.bytes.len()).sum::<usize>() + beside, pieces);
        for (piece, body) in bodies.iter().enumerate() {
            let digest = digest.filter(|_| piece == 0);
            let header = PieceHeader { check: body.check, digest, ..header(&snapshot, piece, pieces, basis) };
            let payload = tick_frame::encode(header, acks.as_ref().filter(|_| piece == 0), &body.bytes);
            self.packet_seq = self.packet_seq.wrapping_add(1);
            let hop_limit = if relayed { self.config.hop_limit } else { UNRELAYED_HOP_LIMIT };
            let packet = Packet { seq: self.packet_seq, hop_limit, hops: 0, relayed, payload: payload.into() };
            self.flood.enqueue(targets, Slot::ME, &Kept::Nothing, |whose| Item::State { whose, packet: packet.clone() });
            if relayed {
                self.note_unproved(&packet);
            }
        }
        self.author.keep(snapshot);
        self.prove();
    }

    /// Looks for shorter ways, and for new ones where an origin fell silent.
    fn look_for_ways(&mut self, now: Time) {
        let silent = self.flood.silent(|peer| self.roster.may_be_here(peer), self.pace.beats, now);
        self.pace.beats = self.pace.beats.wrapping_add(1);
        self.graft(silent);
        if now >= self.pace.next_improvement {
            self.pace.next_improvement = now + IMPROVE_EVERY;
            let shorter = self.flood.improve(self.is_complete(), self.roster.present(), now);
            self.graft(shorter);
        }
    }

    /// How often to say that we are still here, and how long others may say nothing: in a large mesh all that adds up.
    fn signs_of_life(&self) -> (Duration, Duration) {
        let members = u32::try_from(self.roster.present().len()).unwrap_or(u32::MAX);
        let heartbeat = self.config.heartbeat.max(HEARTBEAT_PER_MEMBER * members);
        (heartbeat, self.config.member_silence.max(heartbeat * SILENT_HEARTBEATS))
    }

    /// Whether everyone is known to have our world as it is.
    fn is_confirmed(&self) -> bool {
        if !self.author.has_told_all() {
            return false;
        }
        let (baseline, _) = self.acks.baselines(Tick(self.author.tick().0 + 1), self.author.floor());
        let baseline = baseline.and_then(|tick| self.author.snapshot(tick));
        match (baseline, self.author.newest()) {
            (Some(baseline), Some(newest)) => Arc::ptr_eq(&baseline.records, &newest.records),
            (_, newest) => newest.is_none_or(|newest| newest.records.is_empty()),
        }
    }

    /// What we have of other members' ticks, of those whose turn it is; none if that is nothing.
    fn own_acks(&self, tick: Tick) -> Option<AckList> {
        let others: Vec<_> = self.roster.present().iter().filter(|peer| **peer != self.me).collect();
        let turn = acks::turn(tick, others.len());
        let start = turn.start;
        let acked = |peer: &&PeerId| self.replicas.get(*peer).map(|replica| replica.acked()).unwrap_or_default().into();
        let entries: Vec<acks::Entry> = others[turn].iter().map(acked).collect();
        let any = entries.iter().any(|entry| *entry != acks::Entry::default());
        any.then(|| AckList { roster_hash: self.roster_hash(), start, entries })
    }

    fn adopt_orphans(&mut self, now: Time) {
        if !self.world.has_orphans() {
            return;
        }
        let (world, mut around) = self.world(now);
        let adoptions = world.adopt_orphans(&mut around);
        self.tell_adoptions(adoptions);
    }

    /// Tells everyone what we took over, or take back.
    fn tell_adoptions(&mut self, adoptions: Vec<Adoption>) {
        for chunk in adoptions.chunks(STEPS_PER_MESSAGE) {
            self.tell_everyone(Body::Adopt(chunk.to_vec()));
        }
    }

    /// Says what is to be said to what was heard of who owns what.
    pub(super) fn reply(&mut self, reply: Reply) {
        self.tell_adoptions(reply.objections);
        if reply.ends.is_empty() {
            return;
        }
        let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).collect();
        for link in links {
            for ends in reply.ends.chunks(HOLDINGS_PER_FRAME) {
                self.say_to(link, &Frame::Holdings(ends.to_vec()));
            }
        }
    }

    /// Neighbors compare what they know of who owns what, a part at a time, when it is due or so much earlier.
    fn compare_holdings(&mut self, now: Time, early: Duration) {
        if now + early < self.pace.next_comparison {
            return;
        }
        self.pace.next_comparison = self.pace.next_comparison.max(now) + COMPARE_EVERY;
        let (world, around) = self.world(now);
        world.drop_unclaimed(&around);
        self.pace.part = (self.pace.part + 1) % PARTS;
        let (part, hash) = (self.pace.part, self.world.part_hash(self.pace.part));
        let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).collect();
        for link in links {
            self.say_to(link, &Frame::HoldingsHash { part, hash });
        }
    }

    fn tell_presence(&mut self, now: Time) {
        let Some(bytes) = self.presence(now).and_then(|presence| Frame::Presence(presence).encode()) else { return };
        let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).collect();
        for link in links {
            self.send_frame(link, bytes.clone());
        }
    }
}

fn header(snapshot: &Snapshot, piece: usize, pieces: usize, basis: Option<Basis<'_>>) -> PieceHeader {
    let baseline = basis.map(|basis| basis.baseline.tick);
    let reference = basis.and_then(|basis| basis.reference).map(|reference| reference.tick);
    let Snapshot { tick, at, partial, .. } = *snapshot;
    PieceHeader { tick, at, piece, pieces, baseline, reference, partial, check: 0, digest: None }
}
