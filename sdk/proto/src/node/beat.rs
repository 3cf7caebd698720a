//! The beat: the game's ticks go out, and what time brings is looked after.

use std::time::Duration;

use bytes::Bytes;

use super::{Farewell, Node, Output};
use crate::id::{LinkId, PeerId};
use crate::state::acks::Acked;
use crate::state::ownership::PARTS;
use crate::state::replica::PieceHeader;
use crate::state::snapshot::Snapshot;
use crate::state::{Change, coder, tick_frame};
use crate::time::Time;
use crate::wire::{Adoption, Body, Frame, PAYLOAD_BYTES_MAX, Packet, RELAYED_PAYLOAD_BYTES_MAX};

/// How often a node looks around when nothing happens.
const BEAT: Duration = Duration::from_millis(50);
/// A beat this late means that we ourselves were asleep.
const ASLEEP: Duration = Duration::from_millis(250);
/// How often neighbors are told what messages we have.
const DIGEST_EVERY: Duration = Duration::from_millis(250);
/// How often neighbors compare a part of who owns what.
const COMPARE_EVERY: Duration = Duration::from_millis(250);
/// Most entities in one message of adoption.
const ADOPTIONS_PER_MESSAGE: usize = 500;
/// A gap that a digest shows is pulled if it is still there after so long.
const PULL_AFTER: Duration = Duration::from_millis(100);
/// Most of a packet that acknowledgements may take; in a mesh too large for that they wait for a better coding.
const ACKS_SHARE: usize = 3;

/// When what is due.
#[derive(Debug)]
pub(super) struct Pace {
    next_beat: Time,
    last_frame: Time,
    next_digest: Time,
    next_comparison: Time,
    /// Which part of the titles was compared last.
    part: u8,
    /// Our presence changed and is to be told.
    presence_due: bool,
}

impl Pace {
    pub(super) fn starting(now: Time) -> Self {
        Self { next_beat: now, last_frame: now, next_digest: now, next_comparison: now, part: 0, presence_due: false }
    }

    /// Look around before long: something changed that may want a dial.
    pub(super) fn soon(&mut self, now: Time) {
        self.next_beat = self.next_beat.min(now + Duration::from_millis(5));
    }

    pub(super) fn tell_presence(&mut self, now: Time) {
        self.presence_due = true;
        self.soon(now);
    }
}

impl Node {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next; None after leaving.
    pub fn poll_timeout(&self) -> Option<Time> {
        (!self.left).then_some(self.pace.next_beat)
    }

    /// Looks after what time brings. Calling it early does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.left || now < self.pace.next_beat {
            return;
        }
        let late = now.since(self.pace.next_beat);
        if late >= ASLEEP {
            self.roster.forgive(late);
            for link in self.overlay.iter_mut() {
                link.heard = link.heard + late;
                link.opened = link.opened + late;
            }
        }
        self.pace.next_beat = now + BEAT;
        self.tend_neighbors(now);
        for peer in self.roster.silent(self.config.member_silence, now) {
            self.depart(peer, Farewell::Lost, now);
        }
        for peer in self.roster.forget_old(now) {
            self.broadcast.forget(&peer);
        }
        self.adopt_orphans(now);
        if now.since(self.pace.last_frame) >= self.config.heartbeat && self.overlay.neighbors().next().is_some() {
            self.send_tick(now);
        }
        for (link, origin) in self.flood.silent(now) {
            self.say_to(link, &Frame::Graft { origin });
        }
        if self.pace.presence_due && self.presence_is_due(now) {
            self.pace.presence_due = false;
            self.tell_presence(now);
        }
        self.pass_on_presence();
        self.repair_messages(now);
        self.compare_holdings(now);
        self.report_world();
    }

    /// The game's tick: its changes, then everything of ours to everyone.
    pub(super) fn commit(&mut self, changes: Vec<Change>, now: Time) {
        self.apply_changes(changes, now);
        self.send_tick(now);
    }

    pub(super) fn apply_changes(&mut self, changes: Vec<Change>, now: Time) {
        let (registry, limits) = (self.config.registry.clone(), self.config.limits);
        let (world, mut around) = self.world(now);
        for given in world.commit(changes, &registry, &limits, &mut around) {
            let snapshot = Snapshot { tick: crate::id::Tick(0), at: crate::time::MeshTime(0), records: vec![given.record] };
            // One record, one part: components are bounded well below a message.
            let record = coder::encode(&snapshot, None, crate::wire::FRAME_BYTES_MAX).swap_remove(0);
            self.tell_everyone(&Body::Transfer {
                entity: given.entity,
                number: given.number,
                to: given.to,
                record: record.into(),
            });
        }
    }

    /// Ends our tick and sends it: one delta, the same bytes for every receiver.
    fn send_tick(&mut self, now: Time) {
        self.pace.last_frame = now;
        let at = self.mesh_now(now);
        let snapshot = self.author.end_tick(at, now);
        let links: Vec<LinkId> =
            self.overlay.neighbors().filter(|(link, _)| self.flood.is_eager(*link, &self.me)).map(|(link, _)| link).collect();
        if links.is_empty() || self.config.hop_limit == 0 {
            return;
        }
        self.counters.state_frames_made += 1;
        let baseline = self.acks.baseline(snapshot.tick).and_then(|tick| self.author.snapshot(tick)).cloned();
        // Where some members are not our neighbors, others must pass this on, and it must prove itself.
        let relayed = self.overlay.neighbors().count() + 1 < self.roster.present().len();
        let room = if relayed { RELAYED_PAYLOAD_BYTES_MAX } else { PAYLOAD_BYTES_MAX };
        let acks = self.own_acks();
        let hash = self.roster_hash();
        let ack_bytes = tick_frame::encode(header(&snapshot, 0, 1, None), Some((hash, &acks)), &[]).len();
        let acks = (ack_bytes <= room / ACKS_SHARE).then_some((hash, &acks[..]));
        let head = tick_frame::HEADER_BYTES_MAX + acks.map_or(0, |_| ack_bytes);
        let bodies = coder::encode(&snapshot, baseline.as_deref(), room - head);
        let pieces = bodies.len();
        for (piece, body) in bodies.iter().enumerate() {
            let header = header(&snapshot, piece, pieces, baseline.as_deref());
            let payload = tick_frame::encode(header, acks.filter(|_| piece == 0), body);
            self.packet_seq = self.packet_seq.wrapping_add(1);
            let mut packet = Packet {
                origin: None,
                boot: self.boot,
                seq: self.packet_seq,
                hop_limit: self.config.hop_limit,
                hops: 0,
                proof: None,
                payload: payload.into(),
            };
            if relayed {
                packet.prove(&self.identity, &self.mesh);
            }
            let bytes = packet.encode();
            for link in &links {
                self.send_datagram(*link, bytes.clone());
            }
        }
    }

    pub(super) fn send_datagram(&mut self, link: LinkId, bytes: Bytes) {
        self.counters.datagrams_sent += 1;
        self.counters.datagram_bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Datagram { link, bytes });
    }

    /// What we have of each other member's ticks, in the roster's order.
    fn own_acks(&self) -> Vec<Acked> {
        let others = self.roster.present().iter().filter(|peer| **peer != self.me);
        others.map(|peer| self.replicas.get(peer).map(|replica| replica.acked()).unwrap_or_default()).collect()
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
    pub(super) fn tell_adoptions(&mut self, adoptions: Vec<Adoption>) {
        for chunk in adoptions.chunks(ADOPTIONS_PER_MESSAGE) {
            self.tell_everyone(&Body::Adopt(chunk.to_vec()));
        }
    }

    /// Neighbors compare what they know of who owns what, a part at a time.
    fn compare_holdings(&mut self, now: Time) {
        if now < self.pace.next_comparison {
            return;
        }
        self.pace.next_comparison = now + COMPARE_EVERY;
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

    fn repair_messages(&mut self, now: Time) {
        if now >= self.pace.next_digest {
            self.pace.next_digest = now + DIGEST_EVERY;
            let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).collect();
            for link in links {
                let digest = self.broadcast.digest(link);
                if !digest.is_empty() {
                    self.say_to(link, &Frame::Digest(digest));
                }
            }
        }
        let broadcast = &self.broadcast;
        self.gaps.retain(|_, (entry, _)| broadcast.missing(entry).is_some());
        let due: Vec<(LinkId, PeerId)> =
            self.gaps.iter().filter(|(_, (_, since))| now.since(*since) >= PULL_AFTER).map(|(key, _)| *key).collect();
        for key in due {
            let Some((entry, since)) = self.gaps.get_mut(&key) else { continue };
            *since = now;
            if let Some(pull) = self.broadcast.missing(entry) {
                self.counters.messages_pulled += 1;
                self.say_to(key.0, &Frame::Pull(pull));
            }
        }
        for (peer, message) in self.private.due(now) {
            self.route(peer, &Frame::Message(message));
        }
    }
}

fn header(snapshot: &Snapshot, piece: usize, pieces: usize, baseline: Option<&Snapshot>) -> PieceHeader {
    PieceHeader { tick: snapshot.tick, at: snapshot.at, piece, pieces, baseline: baseline.map(|baseline| baseline.tick) }
}
