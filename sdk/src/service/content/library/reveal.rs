//! How a source lets its content out: each neighbor is shown other groups, so that it sends little more than one copy, and what one got
//! the others get from it. (In BitTorrent, super-seeding: BEP 16.)
//!
//! A neighbor has a few groups before it that nobody else was shown; more follow as it says that it has them. When all are out, those that
//! nobody has told of having after a while are shown to others. A neighbor that gets nothing any more, as there is nobody else it could
//! get it from, is shown whatever it lacks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{PeerId, Time};

use super::super::groups::Groups;
use super::entry::Peer;

/// Groups that a neighbor may have before it: a part of all, within these.
const BEFORE_PART: u32 = 32;
const BEFORE: (u32, u32) = (4, 32);
/// A group that was shown and that nobody has after so long is shown to somebody else.
const LOST_AFTER: Duration = Duration::from_secs(3);
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
}

#[derive(Debug)]
struct Shown {
    groups: Groups,
    /// How many of them it does not have yet.
    before: u32,
    lonely: bool,
}

impl Reveals {
    pub(super) fn new(groups: u32) -> Self {
        Self { to: BTreeMap::new(), shown_at: vec![None; groups as usize], next: 0 }
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
    pub(super) fn has(&mut self, peer: &PeerId, groups: impl Iterator<Item = u32>) {
        let Some(shown) = self.to.get_mut(peer) else { return };
        for group in groups {
            if shown.groups.contains(group) {
                shown.before = shown.before.saturating_sub(1);
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
        let most = (groups / BEFORE_PART).clamp(BEFORE.0, BEFORE.1);
        let mut all = Vec::new();
        for (id, peer) in peers.iter().filter(|(_, peer)| peer.wants) {
            let shown = self.to.entry(*id).or_insert_with(|| Shown { groups: Groups::none(groups), before: 0, lonely: false });
            shown.lonely |= now.since(peer.gained_at) > LONELY_AFTER && shown.before == 0;
            let mut more = Vec::new();
            let mut looked = 0;
            while shown.before + (more.len() as u32) < most {
                let is_open = |group: u32| !peer.have.contains(group) && !shown.groups.contains(group);
                let fresh = |group: u32| copies[group as usize] == 0 && self.shown_at[group as usize].is_none();
                while self.next < groups && !fresh(self.next) {
                    self.next += 1;
                }
                let group = if self.next < groups {
                    self.next
                } else {
                    let lost = |group: u32| {
                        copies[group as usize] == 0 && self.shown_at[group as usize].is_some_and(|at| now.since(at) > LOST_AFTER)
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
            shown.before += more.len() as u32;
            if !more.is_empty() {
                all.push((*id, more));
            }
        }
        all
    }
}
