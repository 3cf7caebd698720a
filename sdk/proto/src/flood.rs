//! How does a frame reach everyone once: trees of first arrivals.
//!
//! A new origin's frames go over every link. Where a frame comes a second time, the receiver asks that neighbor to leave this
//! origin out (*prune*); what is left is a tree of first arrivals per origin (Plumtree; Leitão, Pereira, Rodrigues, 2007). Where
//! an origin falls silent or the link of its tree breaks, the receiver asks again (*graft*). And nobody forwards to a neighbor what that
//! neighbor, by its own presence, has from the origin itself: so in a complete mesh every frame goes one hop, once.

mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use window::Window;

use crate::id::{Boot, LinkId, PeerId};
use crate::time::Time;

/// An origin silent for so long may have lost its tree: ask all neighbors for it again.
const GRAFT_AFTER: Duration = Duration::from_millis(250);

/// What each link carries, by origin.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    origins: BTreeMap<PeerId, Origin>,
    /// Neighbors that asked us to leave an origin out.
    pruned: BTreeSet<(LinkId, PeerId)>,
    /// Neighbors that we asked to.
    lazy: BTreeSet<(LinkId, PeerId)>,
}

#[derive(Debug)]
struct Origin {
    boot: Boot,
    window: Window,
    /// The link on which its frames come first.
    parent: Option<LinkId>,
    heard: Time,
    grafted: Time,
}

/// What to make of a frame that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Apply and forward it.
    First,
    /// It was here before.
    Duplicate,
    /// It was here before, and will be again: ask the link's neighbor to leave the origin out.
    Redundant,
}

impl Flood {
    /// Whether the frame is new, without taking it in: to be asked before its proof is checked.
    pub(crate) fn is_new(&self, origin: &PeerId, boot: Boot, seq: u64) -> bool {
        self.origins.get(origin).is_none_or(|known| known.boot != boot || !known.window.contains(seq))
    }

    /// Takes a frame in that came over `link`, `direct` if its origin is the neighbor there.
    pub(crate) fn arrived(&mut self, origin: PeerId, boot: Boot, seq: u64, link: LinkId, direct: bool, now: Time) -> Arrival {
        let fresh = || Origin { boot, window: Window::new(), parent: None, heard: now, grafted: now };
        let known = self.origins.entry(origin).or_insert_with(fresh);
        if known.boot != boot {
            *known = fresh();
        }
        if known.window.insert(seq) {
            known.heard = now;
            known.parent = Some(link);
            return Arrival::First;
        }
        if self.is_redundant(origin, link, direct) { Arrival::Redundant } else { Arrival::Duplicate }
    }

    /// Whether a second copy came by a way that the origin's tree can do without. True once: then ask that neighbor to leave it out.
    pub(crate) fn is_redundant(&mut self, origin: PeerId, link: LinkId, direct: bool) -> bool {
        let parent = self.origins.get(&origin).and_then(|known| known.parent);
        !direct && parent.is_some_and(|parent| parent != link) && self.lazy.insert((link, origin))
    }

    /// A message of the origin's came: it is not silent, whatever its frames do.
    pub(crate) fn heard(&mut self, origin: &PeerId, now: Time) {
        if let Some(known) = self.origins.get_mut(origin) {
            known.heard = now;
        }
    }

    /// Whether an origin's frames are to go over `link`.
    pub(crate) fn is_eager(&self, link: LinkId, origin: &PeerId) -> bool {
        !self.pruned.contains(&(link, *origin))
    }

    /// The link over which an origin's frames come first, which is the way to send something back to it.
    pub(crate) fn parent(&self, origin: &PeerId) -> Option<LinkId> {
        self.origins.get(origin).and_then(|known| known.parent)
    }

    pub(crate) fn prune(&mut self, link: LinkId, origin: PeerId) {
        self.pruned.insert((link, origin));
    }

    pub(crate) fn graft(&mut self, link: LinkId, origin: PeerId) {
        self.pruned.remove(&(link, origin));
    }

    /// A link is gone: the grafts to send.
    pub(crate) fn link_down(&mut self, link: LinkId, now: Time) -> Vec<(LinkId, PeerId)> {
        self.pruned.retain(|(pruned, _)| *pruned != link);
        self.lazy.retain(|(lazy, _)| *lazy != link);
        let mut orphaned = Vec::new();
        for (peer, origin) in &mut self.origins {
            if origin.parent == Some(link) {
                origin.parent = None;
                origin.grafted = now;
                orphaned.push(*peer);
            }
        }
        self.take_lazy(&orphaned)
    }

    /// The grafts to send for origins that fell silent.
    pub(crate) fn silent(&mut self, now: Time) -> Vec<(LinkId, PeerId)> {
        let mut silent = Vec::new();
        for (peer, origin) in &mut self.origins {
            if now.since(origin.heard) >= GRAFT_AFTER && now.since(origin.grafted) >= GRAFT_AFTER {
                origin.grafted = now;
                silent.push(*peer);
            }
        }
        self.take_lazy(&silent)
    }

    pub(crate) fn forget(&mut self, origin: &PeerId) {
        self.origins.remove(origin);
        self.pruned.retain(|(_, pruned)| pruned != origin);
        self.lazy.retain(|(_, lazy)| lazy != origin);
    }

    fn take_lazy(&mut self, origins: &[PeerId]) -> Vec<(LinkId, PeerId)> {
        let grafts: Vec<_> = self.lazy.iter().filter(|(_, origin)| origins.contains(origin)).copied().collect();
        for graft in &grafts {
            self.lazy.remove(graft);
        }
        grafts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: PeerId = PeerId([1; 32]);
    const BOOT: Boot = Boot(1);

    fn flood() -> Flood {
        let mut flood = Flood::default();
        assert_eq!(flood.arrived(ORIGIN, BOOT, 1, LinkId(1), false, Time(0)), Arrival::First);
        flood
    }

    #[test]
    fn a_second_way_is_pruned_once_and_never_the_first() {
        let mut flood = flood();
        assert_eq!(flood.arrived(ORIGIN, BOOT, 1, LinkId(2), false, Time(0)), Arrival::Redundant);
        assert_eq!(flood.arrived(ORIGIN, BOOT, 1, LinkId(2), false, Time(0)), Arrival::Duplicate);
        assert_eq!(flood.arrived(ORIGIN, BOOT, 1, LinkId(1), false, Time(0)), Arrival::Duplicate);
        assert_eq!(flood.arrived(ORIGIN, BOOT, 1, LinkId(3), true, Time(0)), Arrival::Duplicate);
    }

    #[test]
    fn a_broken_tree_is_grafted() {
        let mut flood = flood();
        flood.arrived(ORIGIN, BOOT, 1, LinkId(2), false, Time(0));
        assert_eq!(flood.link_down(LinkId(1), Time(0)), [(LinkId(2), ORIGIN)]);
        assert_eq!(flood.link_down(LinkId(1), Time(0)), []);
    }

    #[test]
    fn a_silent_origin_is_grafted_once_a_while() {
        let mut flood = flood();
        flood.arrived(ORIGIN, BOOT, 1, LinkId(2), false, Time(0));
        let (soon, later) = (Time(0) + Duration::from_millis(100), Time(0) + Duration::from_millis(300));
        assert_eq!(flood.silent(soon), []);
        assert_eq!(flood.silent(later), [(LinkId(2), ORIGIN)]);
        assert_eq!(flood.silent(later), []);
    }

    #[test]
    fn a_restarted_origin_starts_afresh() {
        let mut flood = flood();
        assert!(!flood.is_new(&ORIGIN, BOOT, 1));
        assert!(flood.is_new(&ORIGIN, Boot(2), 1));
        assert_eq!(flood.arrived(ORIGIN, Boot(2), 1, LinkId(1), false, Time(0)), Arrival::First);
    }
}
