//! One content: what is here, what each neighbor has, and what to ask whom for next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{PeerId, Time};

use super::super::Progress;
use super::super::groups::Groups;
use super::super::message::Message;
use super::super::tree::ContentId;
use super::reveal::Reveals;

/// Neighbors that may have something to say about one content.
const PEERS_MAX: usize = 64;
/// Whoever sent something wrong is remembered; past so many, the content is nobody's friend and is not asked for again.
const BLAMED_MAX: usize = 256;
/// So long a neighbor's answers are to be asked for ahead of the round trip: what is more only waits there, while somebody else could
/// have begun to pass it on.
const AHEAD: Duration = Duration::from_millis(50);
/// What the round trip counts for before it is known, and at most.
const ROUND_TRIP_START: Duration = Duration::from_millis(150);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// Groups asked of one neighbor ahead.
const AHEAD_GROUPS: (usize, usize) = (2, 32);
/// Bytes per second of a neighbor that has not sent anything yet.
const RATE_START: f64 = 64.0 * 1_024.0;
/// Groups looked at to find the rarest.
const SCAN: u32 = 4_096;
/// A neighbor that failed is left alone for so long.
const COOL: Duration = Duration::from_secs(5);
/// What is asked of one neighbor for so long is asked of another one, too, when nothing else is left.
const SLOW: Duration = Duration::from_secs(1);

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// The leaves of the tree.
    Leaves,
    /// One group.
    Group(u32),
}

/// What one is to a content.
#[derive(Debug)]
enum Role {
    /// It is ours: we let it out so that it spreads.
    Source(Reveals),
    /// We want it, or have it as others do.
    Member,
    /// Others want it. So many further members may be asked to do the same.
    Carrier { hops: u8, wanted: Time },
}

#[derive(Debug)]
pub(in super::super) struct Entry {
    id: ContentId,
    role: Role,
    have: Groups,
    proved: bool,
    told_whole: bool,
    pub(super) peers: BTreeMap<PeerId, Peer>,
    /// How many neighbors have each group.
    pub(super) copies: Vec<u16>,
    asked: BTreeMap<u32, Asked>,
    leaves_asked: Option<PeerId>,
    blamed: BTreeSet<PeerId>,
    gained: Vec<u32>,
    served: u64,
    /// Where to begin to look for the rarest group: another place each time.
    dice: u64,
    /// Since when no neighbor has anything, and whom we asked for a way.
    pub(super) alone_since: Option<Time>,
    pub(super) ways_asked: BTreeMap<PeerId, Time>,
}

#[derive(Debug)]
struct Asked {
    peer: PeerId,
    at: Time,
    second: Option<PeerId>,
}

/// What a neighbor has to do with a content.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) have: Groups,
    pub(super) wants: bool,
    /// When it last had something new.
    pub(super) gained_at: Time,
    asked: BTreeSet<u32>,
    rate: f64,
    round_trip: Duration,
    last: Time,
    cool_until: Time,
}

impl Entry {
    fn new(id: ContentId, me: &PeerId, role: Role, have: Groups, proved: bool) -> Self {
        let seed = blake3::Hasher::new().update(&id.root).update(&me.0).finalize();
        Self {
            id,
            role,
            proved,
            told_whole: false,
            peers: BTreeMap::new(),
            copies: vec![0; have.len() as usize],
            have,
            asked: BTreeMap::new(),
            leaves_asked: None,
            blamed: BTreeSet::new(),
            gained: Vec::new(),
            served: 0,
            dice: seed.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
            alone_since: None,
            ways_asked: BTreeMap::new(),
        }
    }

    /// Of a content that we share.
    pub(super) fn source(id: ContentId, me: &PeerId) -> Self {
        let role = Role::Source(Reveals::new(&id));
        let mut entry = Self::new(id, me, role, Groups::all(id.groups()), true);
        entry.told_whole = true;
        entry
    }

    pub(super) fn fetch(id: ContentId, me: &PeerId, have: Groups, proved: bool, now: Time) -> Self {
        let mut entry = Self::new(id, me, Role::Member, have, proved);
        entry.alone_since = Some(now);
        entry
    }

    pub(super) fn carry(id: ContentId, me: &PeerId, hops: u8, now: Time) -> Self {
        let role = Role::Carrier { hops, wanted: now };
        let mut entry = Self::new(id, me, role, Groups::none(id.groups()), false);
        entry.alone_since = Some(now);
        entry
    }

    pub(super) fn is_carried(&self) -> bool {
        matches!(self.role, Role::Carrier { .. })
    }

    /// How far others may be asked to carry it.
    pub(super) fn hops(&self) -> u8 {
        if let Role::Carrier { hops, .. } = self.role { hops } else { super::way::HOPS_MAX }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.proved && self.have.is_all()
    }

    /// Whether it is whole now and was not told to be.
    pub(super) fn becomes_whole(&mut self) -> bool {
        let becomes = self.is_whole() && !self.told_whole;
        self.told_whole |= becomes;
        becomes
    }

    /// Since when no neighbor wants it.
    pub(super) fn unwanted_for(&mut self, now: Time) -> Duration {
        let wanted_now = self.peers.values().any(|peer| peer.wants);
        let Role::Carrier { wanted, .. } = &mut self.role else { return Duration::ZERO };
        if wanted_now {
            *wanted = now;
        }
        now.since(*wanted)
    }

    /// How far it has come.
    pub(in super::super) fn progress(&self) -> Progress {
        let bytes = |groups: u64| (groups * self.id.group_bytes()).min(self.id.len);
        Progress {
            len: self.id.len,
            have: bytes(self.have.count().into()),
            served: self.served,
            elsewhere: bytes(self.copies.iter().filter(|copies| **copies > 0).count() as u64),
            holders: self.peers.values().filter(|peer| peer.have.count() > 0).count(),
            active: self.peers.values().filter(|peer| !peer.asked.is_empty()).count(),
            complete: self.is_whole(),
        }
    }

    /// What is told to all neighbors alike; none if each is told something else.
    pub(super) fn holds_for_all(&self) -> Option<Message> {
        let alike = !matches!(self.role, Role::Source(_));
        alike.then(|| self.holds(self.have.bytes()))
    }

    /// What is told to a neighbor.
    pub(super) fn holds_for(&self, peer: &PeerId) -> Message {
        let have = match &self.role {
            Role::Source(reveals) => reveals.shown(peer, self.id.groups()),
            Role::Member | Role::Carrier { .. } => self.have.bytes(),
        };
        self.holds(have)
    }

    fn holds(&self, have: Bytes) -> Message {
        Message::Holds { id: self.id, have, wants: !self.is_whole() }
    }

    /// What was gained and not told yet.
    pub(super) fn take_gained(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.gained)
    }

    /// A neighbor says what it has. Whether it did so for the first time.
    pub(super) fn on_holds(&mut self, from: PeerId, have: Groups, wants: bool, now: Time) -> bool {
        if self.blamed.contains(&from) || (!self.peers.contains_key(&from) && self.peers.len() >= PEERS_MAX) {
            return false;
        }
        let copies = &mut self.copies;
        have.iter().for_each(|group| copies[group as usize] += 1);
        let peer = self.peers.entry(from);
        let is_new = matches!(peer, std::collections::btree_map::Entry::Vacant(_));
        let peer = peer.or_insert_with(|| Peer {
            have: Groups::none(have.len()),
            wants,
            gained_at: now,
            asked: BTreeSet::new(),
            rate: RATE_START,
            round_trip: ROUND_TRIP_START,
            last: now,
            cool_until: Time::default(),
        });
        peer.have.iter().for_each(|group| copies[group as usize] -= 1);
        if let Role::Source(reveals) = &mut self.role {
            reveals.holds(&from, &have);
        }
        (peer.have, peer.wants) = (have, wants);
        is_new
    }

    /// A neighbor has more.
    pub(super) fn on_gained(&mut self, from: &PeerId, groups: &[u32], now: Time) {
        let Some(peer) = self.peers.get_mut(from) else { return };
        for &group in groups {
            if peer.have.insert(group) {
                self.copies[group as usize] += 1;
                peer.gained_at = now;
            }
        }
        peer.wants &= !peer.have.is_all();
        if let Role::Source(reveals) = &mut self.role {
            reveals.has(from, groups.iter().copied(), now);
        }
    }

    /// A neighbor is none any more.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        self.free(peer);
        if let Some(peer) = self.peers.remove(peer) {
            peer.have.iter().for_each(|group| self.copies[group as usize] -= 1);
        }
        if let Role::Source(reveals) = &mut self.role {
            reveals.gone(peer);
        }
    }

    /// Nobody waits any longer for what was asked of it.
    fn free(&mut self, peer: &PeerId) {
        if self.leaves_asked == Some(*peer) {
            self.leaves_asked = None;
        }
        let Some(of) = self.peers.get_mut(peer) else { return };
        for group in std::mem::take(&mut of.asked) {
            match self.asked.get_mut(&group) {
                Some(asked) if asked.second == Some(*peer) => asked.second = None,
                Some(asked) if asked.peer == *peer => match asked.second.take() {
                    Some(second) => asked.peer = second,
                    None => _ = self.asked.remove(&group),
                },
                _ => {}
            }
        }
    }

    pub(super) fn waits_for(&self, peer: &PeerId) -> bool {
        self.leaves_asked == Some(*peer) || self.peers.get(peer).is_some_and(|peer| !peer.asked.is_empty())
    }

    /// What was asked of a neighbor does not come.
    pub(super) fn lose(&mut self, peer: &PeerId, now: Time) {
        if !self.waits_for(peer) {
            return;
        }
        self.free(peer);
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.cool_until = now + COOL;
            peer.rate = RATE_START;
        }
    }

    /// A neighbor sent something that is wrong: it is not asked again, and not given anything.
    pub(super) fn blame(&mut self, peer: &PeerId) {
        self.gone(peer);
        if self.blamed.len() < BLAMED_MAX {
            self.blamed.insert(*peer);
        }
    }

    /// Something came, and is right. A question and its answer take `round_trip` with that neighbor.
    pub(super) fn gain(&mut self, from: &PeerId, part: Part, round_trip: Duration, now: Time) {
        if let Some(peer) = self.peers.get_mut(from) {
            peer.round_trip = round_trip.min(ROUND_TRIP_MAX);
        }
        match part {
            Part::Leaves => {
                (self.proved, self.leaves_asked) = (true, None);
                if let Some(peer) = self.peers.get_mut(from) {
                    peer.last = now;
                }
            }
            Part::Group(group) => {
                if self.have.insert(group) {
                    self.gained.push(group);
                }
                if let Some(asked) = self.asked.remove(&group) {
                    for peer in [Some(asked.peer), asked.second].into_iter().flatten().filter(|peer| peer != from) {
                        // The other one's copy, when it comes, is one too many.
                        self.peers.get_mut(&peer).into_iter().for_each(|peer| _ = peer.asked.remove(&group));
                    }
                }
                if let Some(peer) = self.peers.get_mut(from) {
                    peer.asked.remove(&group);
                    let passed = now.since(peer.last).as_secs_f64().max(0.001);
                    peer.rate += 0.25 * (self.id.group_len(group) as f64 / passed - peer.rate);
                    peer.last = now;
                }
            }
        }
    }

    /// Whether to give a part of it to a neighbor. Counts it.
    pub(super) fn gives(&mut self, peer: &PeerId, part: Part) -> bool {
        let gives = !self.blamed.contains(peer)
            && match part {
                Part::Leaves => self.proved,
                Part::Group(group) => self.have.contains(group) && self.shows(peer, group),
            };
        if let (true, Part::Group(group)) = (gives, part) {
            self.served += self.id.group_len(group) as u64;
        }
        gives
    }

    fn shows(&self, peer: &PeerId, group: u32) -> bool {
        if let Role::Source(reveals) = &self.role { reveals.is_shown(peer, group) } else { true }
    }

    /// What our neighbors may be shown beside, if it is ours.
    pub(super) fn reveal(&mut self, now: Time) -> Vec<(PeerId, Vec<u32>)> {
        let Role::Source(reveals) = &mut self.role else { return Vec::new() };
        reveals.more(&self.peers, &self.copies, now)
    }

    /// Whom to ask for what, now.
    pub(super) fn ask(&mut self, now: Time) -> Vec<(PeerId, Part)> {
        if self.is_whole() {
            return Vec::new();
        }
        let able: Vec<PeerId> = self
            .peers
            .iter()
            .filter(|(_, peer)| {
                now >= peer.cool_until && (self.have.lacks_of(&peer.have) || !self.proved && peer.have.count() > 0)
            })
            .map(|(peer, _)| *peer)
            .collect();
        if !self.proved {
            // Any of them will do, another one each time.
            let chosen = self.roll(able.len().max(1) as u32) as usize;
            if self.leaves_asked.is_none()
                && let Some(peer) = able.get(chosen)
            {
                self.leaves_asked = Some(*peer);
                return vec![(*peer, Part::Leaves)];
            }
            return Vec::new();
        }
        let mut asks = Vec::new();
        for id in able {
            while let Some(group) = self.next(&id, now) {
                asks.push((id, Part::Group(group)));
            }
        }
        asks
    }

    /// The next group to ask a neighbor for, which is noted as asked for.
    fn next(&mut self, from: &PeerId, now: Time) -> Option<u32> {
        let start = self.roll(self.have.len());
        let peer = self.peers.get(from)?;
        let ahead = (peer.rate * (peer.round_trip + AHEAD).as_secs_f64() / self.id.group_bytes() as f64).ceil() as usize;
        if peer.asked.len() >= ahead.clamp(AHEAD_GROUPS.0, AHEAD_GROUPS.1) {
            return None;
        }
        let groups = self.have.len();
        let open = (0..groups.min(SCAN))
            .map(|step| (start + step) % groups)
            .filter(|group| peer.have.contains(*group) && !self.have.contains(*group));
        let mut rarest: Option<(u16, u32)> = None;
        for group in open.clone().filter(|group| !self.asked.contains_key(group)) {
            let copies = self.copies[group as usize];
            if rarest.is_none_or(|(fewest, _)| copies < fewest) {
                rarest = Some((copies, group));
                if copies <= 1 {
                    break;
                }
            }
        }
        let group = match rarest {
            Some((_, group)) => {
                self.asked.insert(group, Asked { peer: *from, at: now, second: None });
                group
            }
            // Everything is on its way. Whoever has nothing to do helps where it takes long.
            None if peer.asked.is_empty() => {
                let slow = |group: &u32| {
                    self.asked
                        .get(group)
                        .is_some_and(|asked| asked.second.is_none() && asked.peer != *from && now.since(asked.at) > SLOW)
                };
                let group = open.filter(slow).min_by_key(|group| self.asked.get(group).map(|asked| asked.at))?;
                self.asked.get_mut(&group)?.second = Some(*from);
                group
            }
            None => return None,
        };
        let peer = self.peers.get_mut(from)?;
        if peer.asked.is_empty() {
            // The time before was no one's fault.
            peer.last = now;
        }
        peer.asked.insert(group);
        Some(group)
    }

    /// Whether no neighbor has anything that is missing here.
    pub(super) fn is_alone(&self) -> bool {
        !self.is_whole() && self.peers.values().all(|peer| peer.have.count() == 0)
    }

    /// A number below `most`.
    fn roll(&mut self, most: u32) -> u32 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.dice >> 32) * u64::from(most)) >> 32) as u32
    }
}
