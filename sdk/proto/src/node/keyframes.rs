//! Keyframes: an origin's whole world at one tick, from a neighbor that has it, for who cannot follow the differences.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{CloseReason, Node};
use crate::flood::Altered;
use crate::id::{LinkId, PeerId, Tick};
use crate::state::coder::{self, Assembler, Models};
use crate::state::replica::Replica;
use crate::state::snapshot::{Record, Snapshot};
use crate::time::Time;
use crate::wire::{DecodeError, Frame, Keyframe};

/// A keyframe is asked for again after so long.
const KEYFRAME_RETRY: Duration = Duration::from_millis(200);
/// Longest part of a keyframe, in bytes.
const KEYFRAME_PART_BYTES: usize = 16 * 1024;
/// Most parts of a keyframe; 16,384 entities of some 60 bytes take 60.
const KEYFRAME_PARTS_MAX: usize = 1_024;
/// Each neighbor is sent an origin's keyframe this often at most.
const KEYFRAME_EVERY: Duration = Duration::from_millis(100);
/// Streams have this part of a thin line, one in so many.
const STREAM_PART: u64 = 4;
/// Who was asked for a keyframe may take so long to send it.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(10);

/// Keyframes on their way to us.
#[derive(Debug, Default)]
pub(super) struct Keyframes {
    /// By origin: when we last asked.
    asked: BTreeMap<PeerId, Time>,
    /// By neighbor and origin: from when on we serve them again.
    served: BTreeMap<(LinkId, PeerId), Time>,
    parts: BTreeMap<(LinkId, PeerId), (Tick, Vec<Option<Bytes>>)>,
    /// By origin: from which neighbor, and when, its keyframe came last, if not from itself.
    lenders: BTreeMap<PeerId, Altered>,
    /// By origin: whose keyframe was not what the origin had.
    liars: BTreeMap<PeerId, PeerId>,
}

impl Keyframes {
    pub(super) fn link_down(&mut self, link: LinkId) {
        self.parts.retain(|(from, _), _| *from != link);
        self.served.retain(|(to, _), _| *to != link);
        self.lenders.retain(|_, lent| lent.by != link);
    }

    pub(super) fn forget(&mut self, origin: &PeerId) {
        self.asked.remove(origin);
        self.served.retain(|(_, of), _| of != origin);
        self.parts.retain(|(_, of), _| of != origin);
        self.lenders.remove(origin);
        self.liars.remove(origin);
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
    pub(super) fn want_keyframe(&mut self, link: LinkId, origin: PeerId, tick: Tick, now: Time) {
        if self.keyframes.asked.get(&origin).is_some_and(|asked| now.since(*asked) < KEYFRAME_RETRY) {
            return;
        }
        self.keyframes.asked.insert(origin, now);
        self.counters.keyframes_wanted += 1;
        let link = self.overlay.neighbor(&origin).filter(|_| self.keyframes.liars.contains_key(&origin)).unwrap_or(link);
        let link = if self.lies_of(&origin, link) { self.others(&origin).next().unwrap_or(link) } else { link };
        self.say_to(link, &Frame::WantKeyframe { origin, tick });
    }

    /// What a neighbor said of an origin's world was not so: the next is asked of somebody else. `proved`: it is the origin itself that
    /// said so; a neighbor that passed that on may have altered it, to have another suspected.
    pub(super) fn distrust_keyframe(&mut self, origin: PeerId, proved: bool, now: Time) {
        let Some(lent) = self.keyframes.lenders.remove(&origin) else { return };
        let Some(lender) = self.overlay.get(lent.by).and_then(|held| held.peer) else { return };
        tracing::warn!(target: "peerflock::state", ?origin, ?lender, "a keyframe that was not what its origin had");
        self.counters.forgeries += 1;
        self.keyframes.asked.remove(&origin);
        self.keyframes.liars.insert(origin, lender);
        if proved {
            self.note_lie(lent, now);
        }
    }

    /// Whether what comes by a link of an origin's world is not asked for: it was wrong before, and there are others to ask.
    fn lies_of(&self, origin: &PeerId, link: LinkId) -> bool {
        let peer = self.overlay.get(link).and_then(|held| held.peer);
        peer.is_some() && self.keyframes.liars.get(origin) == peer.as_ref() && self.others(origin).next().is_some()
    }

    /// The links to those who did not lie about an origin.
    fn others(&self, origin: &PeerId) -> impl Iterator<Item = LinkId> {
        let liar = self.keyframes.liars.get(origin);
        self.overlay.neighbors().filter(move |(_, peer)| Some(peer) != liar).map(|(link, _)| link)
    }

    /// A neighbor asks for an origin's world.
    pub(super) fn hear_want_keyframe(&mut self, link: LinkId, origin: PeerId, tick: Tick, now: Time) {
        let key = (link, origin);
        let known = origin == self.me || self.replicas.contains_key(&origin);
        if known && self.keyframes.served.get(&key).is_none_or(|due| now >= *due) {
            let bytes = self.send_keyframe(link, origin, Some(tick));
            // On a thin line it takes its time; another one behind it would only stand in the way.
            let limit = self.flood.port_of(link).and_then(|port| self.flood.port(port)?.limit);
            let takes =
                limit.map(|limit| Duration::from_secs(STREAM_PART * bytes as u64) / limit.clamp(1, u32::MAX.into()) as u32);
            self.keyframes.served.insert(key, now + takes.unwrap_or_default().clamp(KEYFRAME_EVERY, KEYFRAME_PATIENCE));
        }
    }

    /// Sends an origin's whole world, as of `tick` if that is at hand, else as new as we have it. How many bytes that were.
    pub(super) fn send_keyframe(&mut self, link: LinkId, origin: PeerId, tick: Option<Tick>) -> usize {
        let (boot, snapshot) = if origin == self.me {
            (self.boot, tick.and_then(|tick| self.author.snapshot(tick)).or_else(|| self.author.newest()))
        } else {
            let Some(replica) = self.replicas.get(&origin) else { return 0 };
            (replica.boot, tick.map_or_else(|| replica.newest(), |tick| replica.snapshot_near(tick)))
        };
        let Some(snapshot) = snapshot else { return 0 };
        let (tick, at, partial) = (snapshot.tick, snapshot.at, snapshot.partial);
        let learned = snapshot.models.to_bytes();
        let learned = learned.chunks(KEYFRAME_PART_BYTES).map(Bytes::copy_from_slice);
        let (bodies, _) = coder::encode(snapshot, None, &self.config.registry, KEYFRAME_PART_BYTES);
        let (Ok(models), Ok(records)) = (u16::try_from(learned.len()), u16::try_from(bodies.len())) else { return 0 };
        let Some(parts) = models.checked_add(records) else { return 0 };
        let bodies: Vec<Bytes> = learned.chain(bodies.into_iter().map(|body| body.bytes.into())).collect();
        let bytes = bodies.iter().map(Bytes::len).sum();
        for (part, body) in (0..).zip(bodies) {
            self.say_to(link, &Frame::Keyframe(Keyframe { origin, boot, tick, at, partial, part, parts, models, body }));
        }
        bytes
    }

    pub(super) fn hear_keyframe(&mut self, link: LinkId, keyframe: Keyframe, now: Time) {
        let Keyframe { origin, tick, at, partial, .. } = keyframe;
        let known_boot = self.roster.get(&origin).map(|member| member.presence.boot);
        let parts = usize::from(keyframe.parts);
        // Unasked, only from a new neighbor or of a member new to us.
        let asked = self.keyframes.asked.get(&origin).is_some_and(|asked| now.since(*asked) < KEYFRAME_PATIENCE)
            || self.overlay.get(link).is_some_and(|link| now.since(link.opened) < KEYFRAME_PATIENCE);
        if !asked && self.replicas.get(&origin).is_some_and(|replica| replica.newest().is_some()) {
            return;
        }
        if known_boot != Some(keyframe.boot)
            || parts == 0
            || parts > KEYFRAME_PARTS_MAX
            || keyframe.body.len() > KEYFRAME_PART_BYTES
            || self.lies_of(&origin, link)
        {
            return;
        }
        let Some(bodies) = self.keyframes.add(link, &keyframe) else { return };
        let Some((learned, bodies)) = bodies.split_at_checked(keyframe.models.into()) else { return };
        let models = Models::from_bytes(&learned.concat(), &self.config.registry);
        match models.and_then(|models| Ok((models, self.assemble_records(bodies)?))) {
            Ok((models, records)) => {
                let replica = self.replicas.entry(origin).or_insert_with(|| Replica::new(keyframe.boot));
                let (records, models) = (Arc::new(records), Arc::new(models));
                let own = self.overlay.neighbor(&origin) == Some(link);
                if own {
                    self.keyframes.lenders.remove(&origin);
                } else {
                    self.keyframes.lenders.insert(origin, Altered { by: link, at: now });
                }
                let changes = replica.adopt_keyframe(Snapshot { partial, ..Snapshot::whole(tick, at, records, models) }, own);
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

    /// The records that were told whole.
    pub(super) fn assemble_records(&self, bodies: &[Bytes]) -> Result<Vec<Arc<Record>>, DecodeError> {
        let max = self.config.limits.entities_per_origin;
        let mut assembler = Assembler::default();
        for body in bodies {
            for item in coder::decode(body, Tick(0), None, &self.config.registry, max)?.items {
                assembler.add(item, None, &self.config.limits)?;
            }
        }
        let records = assembler.finish()?;
        if records.len() > max { Err(DecodeError::TooLong(max)) } else { Ok(records) }
    }
}
