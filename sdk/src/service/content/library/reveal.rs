//! How a source lets its content out: each neighbor is shown other groups, so that it sends little more than one copy, and what one got
//! the others get from it. (In BitTorrent, super-seeding: BEP 16.)
//!
//! A neighbor has a few groups before it that nobody else was shown; more follow as it says that it has them. When all are out, those of
//! neighbors who get no further are shown to others. A neighbor that gets nothing any more, as there is nobody else it could get it from,
//! is shown whatever it lacks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{PeerId, Time};

use super::super::groups::Groups;
use super::super::tree::ContentId;
use super::entry::Peer;

/// Groups that a neighbor may have before it: a part of all, within these, and bytes of them, so that what it is slow to take is little.
const BEFORE_PART: u32 = 32;
const BEFORE: (u32, u32) = (4, 32);
const BEFORE_BYTES: u64 = 2 * 1024 * 1024;
/// A group that was shown is shown to somebody else, too, when who was shown it has not had any of its own for so long; or when nobody has
/// it after much longer, whatever else comes there.
const LOST_AFTER: Duration = Duration::from_secs(3);
const LOST_ANYHOW: Duration = Duration::from_secs(30);
/// A neighbor that has had nothing new for so long gets nothing from others.
const LONELY_AFTER: Duration = Duration::from_secs(1);

/// What a source has shown to whom.
#[derive(Debug)]
pub(super) struct Reveals {
    to: BTreeMap<PeerId, Shown>,
    /// When each group was last shown to anybody who is still here.
    shown_at: Vec<Option<Time>>,
    /// Groups before this one have been shown.
    next: u32,
    /// Groups that a neighbor may have before it.
    before: u32,
}

#[derive(Debug)]
struct Shown {
    groups: Groups,
    /// When it was last heard to have one of them, or was shown the first.
    moved_at: Time,
    /// How many of them it does not have yet.
    before: u32,
    lonely: bool,
}

impl Shown {
    /// Whether it does not get any further with what it was shown.
    fn is_stuck(&self, now: Time) -> bool {
        self.before > 0 && now.since(self.moved_at) > LOST_AFTER
    }
}

impl Reveals {
    pub(super) fn new(id: &ContentId) -> Self {
        let groups = id.groups();
        let bytes = u32::try_from(BEFORE_BYTES / id.group_bytes()).unwrap_or(BEFORE.1);
        let before = (groups / BEFORE_PART).min(bytes).clamp(BEFORE.0, BEFORE.1);
        Self { to: BTreeMap::new(), shown_at: vec![None; groups as usize], next: 0, before }
    }

    /// What a neighbor may take us to have.
    pub(super) fn shown(&self, peer: &PeerId, groups: u32) -> Bytes {
        self.to.get(peer).map_or_else(|| Groups::none(groups).bytes(), |shown| shown.groups.bytes())
    }

    pub(super) fn is_shown(&self, peer: &PeerId, group: u32) -> bool {
        self.to.get(peer).is_some_and(|shown| shown.groups.contains(group))
    }

    /// A neighbor has these, and no others.
    pub(super) fn holds(&mut self, peer: &PeerId, have: &Groups) {
        if let Some(shown) = self.to.get_mut(peer) {
            shown.before = shown.groups.iter().filter(|group| !have.contains(*group)).count() as u32;
        }
    }

    /// A neighbor has these beside.
    pub(super) fn has(&mut self, peer: &PeerId, groups: impl Iterator<Item = u32>, now: Time) {
        let Some(shown) = self.to.get_mut(peer) else { return };
        for group in groups {
            if shown.groups.contains(group) {
                shown.before = shown.before.saturating_sub(1);
                shown.moved_at = now;
            } else {
                // It got that from somebody else.
                shown.lonely = false;
            }
        }
    }

    pub(super) fn gone(&mut self, peer: &PeerId) {
        if let Some(shown) = self.to.remove(peer) {
            for group in shown.groups.iter() {
                self.shown_at[group as usize] = None;
                self.next = self.next.min(group);
            }
        }
    }

    /// What to show now, to whom.
    pub(super) fn more(&mut self, peers: &BTreeMap<PeerId, Peer>, copies: &[u16], now: Time) -> Vec<(PeerId, Vec<u32>)> {
        let groups = self.shown_at.len() as u32;
        let stuck: Vec<Groups> = self.to.values().filter(|shown| shown.is_stuck(now)).map(|shown| shown.groups.clone()).collect();
        let mut all = Vec::new();
        for (id, peer) in peers.iter().filter(|(_, peer)| peer.wants) {
            let none = || Shown { groups: Groups::none(groups), moved_at: now, before: 0, lonely: false };
            let shown = self.to.entry(*id).or_insert_with(none);
            shown.lonely |= now.since(peer.gained_at) > LONELY_AFTER && shown.before == 0;
            let mut more = Vec::new();
            let mut looked = 0;
            while shown.before + (more.len() as u32) < self.before {
                let is_open = |group: u32| !peer.have.contains(group) && !shown.groups.contains(group);
                let fresh = |group: u32| copies[group as usize] == 0 && self.shown_at[group as usize].is_none();
                while self.next < groups && !fresh(self.next) {
                    self.next += 1;
                }
                let group = if self.next < groups {
                    self.next
                } else {
                    let lost = |group: u32| {
                        let waits = self.shown_at[group as usize].map_or(Duration::ZERO, |at| now.since(at));
                        copies[group as usize] == 0
                            && (waits > LOST_ANYHOW || waits > LOST_AFTER && stuck.iter().any(|shown| shown.contains(group)))
                    };
                    // Nobody else has it, or nobody else gives it.
                    let found = (looked..groups).find(|group| is_open(*group) && (shown.lonely || lost(*group)));
                    let Some(group) = found else { break };
                    looked = group + 1;
                    group
                };
                self.shown_at[group as usize] = Some(now);
                if !is_open(group) {
                    // It has it, and has not told us: then it is not lost.
                    continue;
                }
                shown.groups.insert(group);
                more.push(group);
            }
            if shown.before == 0 {
                shown.moved_at = now;
            }
            shown.before += more.len() as u32;
            if !more.is_empty() {
                all.push((*id, more));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::*;

    const SLOW: PeerId = PeerId([2; 32]);
    const FAST: PeerId = PeerId([3; 32]);
    const STEP: Duration = Duration::from_millis(500);

    /// What a source of 1,024 groups shows two neighbors, one of which takes a group each half second and the other one all at once. Each
    /// passes on what it gets. The slow one stops at `end`; ends when the source has shown nothing for a minute.
    fn shown(end: Duration) -> BTreeMap<PeerId, Vec<u32>> {
        let id = ContentId { root: [7; 32], len: 256 * 1024 * 1024 };
        let mut source = Entry::source(id, &PeerId([1; 32]));
        let mut now = Time::default();
        let mut shown = BTreeMap::from([(SLOW, Vec::new()), (FAST, Vec::new())]);
        [SLOW, FAST].iter().for_each(|peer| _ = source.on_holds(*peer, Groups::none(id.groups()), true, now));
        let (mut waiting, mut quiet) = (std::collections::VecDeque::new(), Duration::ZERO);
        while quiet < Duration::from_secs(60) {
            quiet += STEP;
            for (peer, groups) in source.reveal(now) {
                assert!(groups.len() as u64 * id.group_bytes() <= BEFORE_BYTES, "{groups:?} at once");
                quiet = Duration::ZERO;
                shown.entry(peer).or_default().extend(&groups);
                if peer == SLOW {
                    waiting.extend(groups);
                } else {
                    source.on_gained(&FAST, &groups, now);
                    source.on_gained(&SLOW, &groups, now);
                }
            }
            now = now + STEP;
            let group = if now.since(Time::default()) < end { waiting.pop_front() } else { None };
            for peer in [SLOW, FAST] {
                source.on_gained(&peer, group.as_slice(), now);
            }
        }
        shown
    }

    #[test]
    fn who_is_slow_is_not_helped_as_long_as_it_gets_further() {
        let shown = shown(Duration::MAX);
        let all: BTreeMap<u32, usize> = shown.values().flatten().fold(BTreeMap::new(), |mut all, group| {
            *all.entry(*group).or_default() += 1;
            all
        });
        assert_eq!(all.len(), 1_024, "all of it is out");
        assert!(all.values().all(|times| *times == 1), "none of it twice");
        assert!(shown[&SLOW].len() > 32);
    }

    #[test]
    fn what_somebody_does_not_take_is_shown_to_others() {
        let shown = shown(Duration::from_secs(10));
        let untaken = &shown[&SLOW][20..];
        assert!(!untaken.is_empty() && untaken.iter().all(|group| shown[&FAST].contains(group)), "{untaken:?}");
    }
}
