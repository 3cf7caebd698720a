//! Who are my neighbors: min, ideal and max, referrals, making room, finding those not yet linked.
//!
//! Up to `max + 1` members the mesh is complete. Beyond that a peer looks for links below `ideal` and accepts them up to `max`.
//! Where everyone is full, a newcomer is put *into* a link: the accepter drops the neighbor that has most other links and refers it to
//! the newcomer, so that nobody ends up with fewer links than before.

mod book;
mod link;

use std::collections::BTreeMap;

pub(crate) use book::Book;
pub(crate) use link::{Link, Stage};

use crate::config::NeighborLimits;
use crate::id::{LinkId, PeerId};
use crate::roster::Roster;

/// The links, whatever their stage.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) limits: NeighborLimits,
    links: BTreeMap<LinkId, Link>,
    next: u64,
}

/// Which of two links between the same two peers stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// There is only one.
    Only,
    /// The new one; this old one goes.
    New(LinkId),
    /// The old one.
    Old,
}

impl Overlay {
    pub(crate) fn new(limits: NeighborLimits) -> Self {
        Self { limits, links: BTreeMap::new(), next: 1 }
    }

    pub(crate) fn open(&mut self, link: Link) -> LinkId {
        let id = LinkId(self.next);
        self.next += 1;
        self.links.insert(id, link);
        id
    }

    pub(crate) fn close(&mut self, link: LinkId) -> Option<Link> {
        self.links.remove(&link)
    }

    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.links.get(&link)
    }

    pub(crate) fn get_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().map(|(id, link)| (*id, link))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.values_mut()
    }

    /// The links to admitted members, with the member at the other end.
    pub(crate) fn neighbors(&self) -> impl Iterator<Item = (LinkId, PeerId)> {
        self.iter().filter(|(_, link)| link.is_member()).filter_map(|(id, link)| Some((id, link.peer?)))
    }

    pub(crate) fn neighbor(&self, peer: &PeerId) -> Option<LinkId> {
        self.neighbors().find(|(_, neighbor)| neighbor == peer).map(|(id, _)| id)
    }

    pub(crate) fn strangers(&self) -> usize {
        self.links.values().filter(|link| !link.dialed && !link.is_member()).count()
    }

    /// Of the new link and one that stands to the same peer, both ends keep the one whose dialer has the smaller key: each can
    /// tell alone. Of two with the same dialer the newer one stays: its dialer knows best.
    pub(crate) fn keep(&self, me: &PeerId, new: LinkId) -> Keep {
        let Some((new_dialed, peer)) = self.get(new).and_then(|link| Some((link.dialed, link.peer?))) else { return Keep::Only };
        let Some((old, old_dialed)) = self
            .iter()
            .find(|(id, link)| *id != new && link.is_member() && link.peer == Some(peer))
            .map(|(id, link)| (id, link.dialed))
        else {
            return Keep::Only;
        };
        let smaller_dialed_new = new_dialed == (*me < peer);
        if old_dialed == new_dialed || smaller_dialed_new { Keep::New(old) } else { Keep::Old }
    }

    /// How many links to have, among so many members.
    pub(crate) fn goal(&self, members: usize) -> usize {
        let others = members.saturating_sub(1);
        if others <= self.limits.max { others } else { self.limits.ideal }
    }

    /// The neighbor that can best do without us: the one with most other links, and at least two of them.
    pub(crate) fn dispensable(&self, roster: &Roster, newcomer: &PeerId) -> Option<LinkId> {
        self.neighbors()
            .filter(|(_, peer)| peer != newcomer)
            .filter_map(|(id, peer)| Some((roster.get(&peer)?.presence.neighbors.len(), id)))
            .filter(|(links, _)| *links >= 2)
            .max()
            .map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::time::Time;

    const SMALL: PeerId = PeerId([1; 32]);
    const LARGE: PeerId = PeerId([2; 32]);

    fn with_links(me: &PeerId, peer: PeerId, old_dialed: bool, new_dialed: bool) -> Keep {
        let mut overlay = Overlay::new(NeighborLimits::default());
        let mut open = |dialed, stage| {
            let mut link = Link::new(SocketAddr::from(([127, 0, 0, 1], 1)), dialed, None, Time(0));
            link.peer = Some(peer);
            link.stage = stage;
            overlay.open(link)
        };
        open(old_dialed, Stage::Member);
        let new = open(new_dialed, Stage::AwaitHello);
        overlay.keep(me, new)
    }

    #[test]
    fn both_ends_keep_the_same_of_two_links() {
        let old = LinkId(1);
        // The link that SMALL dialed is the old one, then the new one; each seen from both ends.
        assert_eq!((with_links(&SMALL, LARGE, true, false), with_links(&LARGE, SMALL, false, true)), (Keep::Old, Keep::Old));
        assert_eq!(
            (with_links(&SMALL, LARGE, false, true), with_links(&LARGE, SMALL, true, false)),
            (Keep::New(old), Keep::New(old))
        );
        // The same dialer twice.
        assert_eq!(
            (with_links(&SMALL, LARGE, true, true), with_links(&LARGE, SMALL, false, false)),
            (Keep::New(old), Keep::New(old))
        );
    }

    #[test]
    fn small_meshes_are_complete() {
        let overlay = Overlay::new(NeighborLimits::new(2, 3, 7));
        assert_eq!((overlay.goal(1), overlay.goal(8), overlay.goal(9)), (0, 7, 3));
    }
}
