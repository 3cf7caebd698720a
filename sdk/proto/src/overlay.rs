//! Who are my neighbors: min, ideal and max, near and drawn by lot, referrals, making room, finding those not yet linked.
//!
//! Up to `max + 1` members the mesh is complete. Beyond that a peer takes anybody below `ideal`, and fills up to `max` with the nearest:
//! it measures a few members drawn at random, then the neighbors of the nearest (see `near`), and one link is kept for a member drawn
//! by lot (see `partner`). Round trips are the same from both ends, and a neighbor is replaced only by one that is nearer by a
//! margin: so replacing comes to an end. A link to be replaced is *retired* first: both ends take their ways elsewhere, and the
//! other end may object if it is its only one.
//!
//! Where everyone is full, a newcomer is put *into* a link: the accepter drops the neighbor that has most other links and refers it to
//! the newcomer, so that nobody ends up with fewer links than before. A link that fell quiet does not count, and goes first.

mod book;
mod link;
mod near;
mod partner;
mod quota;
mod relayed;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) use book::Book;
pub(crate) use link::{Link, Retiring, Stage};
pub(crate) use near::{Near, is_nearer, within};
pub(crate) use partner::Partners;
pub(crate) use quota::Quota;
pub use relayed::{RELAY_IP, is_relay};

use crate::config::NeighborLimits;
use crate::id::{LinkId, PeerId};
use crate::roster::Roster;
use crate::time::Time;

/// Below so many links at most there is nothing to choose: who is there is taken, and stays.
const CHOICE_MIN: usize = 4;
/// A link over which all first copies come is taken for this many percent nearer than it is: less than the margin for replacing it.
const FIRSTS_PERCENT: u32 = 15;
/// Fewer first copies than this say little.
const FIRSTS_MIN: u32 = 100;

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

    /// Links that are taken: neighbors, and those we dialed and told that there is room for them.
    pub(crate) fn occupied(&self) -> usize {
        self.links.values().filter(|link| link.is_member() || matches!(link.stage, Stage::AwaitWelcome(_))).count()
    }

    /// Neighbors that can be relied on: not quiet, not about to go.
    pub(crate) fn reliable(&self, now: Time) -> usize {
        self.links.values().filter(|link| link.is_member() && link.retiring.is_none() && !link.is_quiet(now)).count()
    }

    /// Neighbors that fell quiet.
    pub(crate) fn quiet(&self, now: Time) -> usize {
        self.links.values().filter(|link| link.is_member() && link.is_quiet(now)).count()
    }

    /// The neighbor of whom nothing came for the longest, if that is suspiciously long.
    pub(crate) fn quietest(&self, now: Time) -> Option<LinkId> {
        let quiet = self.iter().filter(|(_, link)| link.is_member() && link.is_quiet(now));
        quiet.min_by_key(|(_, link)| link.heard).map(|(id, _)| id)
    }

    /// Links that are about to go, so that there will be room.
    pub(crate) fn retiring(&self) -> usize {
        self.links.values().filter(|link| link.is_member() && link.retiring.is_some()).count()
    }

    /// Links whose admission waits for room.
    pub(crate) fn waiting(&self) -> Vec<LinkId> {
        self.iter().filter(|(_, link)| link.is_waiting()).map(|(id, _)| id).collect()
    }

    /// Dials under way.
    pub(crate) fn dialing(&self) -> usize {
        self.links.values().filter(|link| link.dialed && !link.is_member()).count()
    }

    /// Whether we are linked to `peer`, or may be soon.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.links.values().any(|link| link.peer == Some(*peer) || link.expect == Some(*peer))
    }

    /// Whether we are linked to `peer` by a link that is not dead since before `dead`, or may be soon.
    pub(crate) fn has(&self, peer: &PeerId, dead: Time) -> bool {
        self.links.values().any(|link| {
            let is_it = link.peer == Some(*peer) || link.expect == Some(*peer);
            is_it && !(link.is_member() && link.heard < dead)
        })
    }

    /// What a neighbor costs: its round trip, a little less where many first copies come over it. None for one that is not measured.
    fn cost(&self, link: &Link) -> Option<Duration> {
        let all: u32 = self.links.values().map(Link::firsts).sum();
        let rtt = link.rtt?;
        let useful = rtt * FIRSTS_PERCENT / 100 * link.firsts() / all.max(FIRSTS_MIN);
        Some(rtt.saturating_sub(useful))
    }

    /// The neighbors that a nearer one may replace, with what they cost, the most costly first: not the one drawn by lot, and none
    /// that cannot do without us.
    pub(crate) fn replaceable(&self, roster: &Roster, partner: Option<PeerId>, now: Time) -> Vec<(Duration, LinkId)> {
        if self.limits.max < CHOICE_MIN {
            return Vec::new();
        }
        let mut replaceable: Vec<_> = self
            .iter()
            .filter(|(_, link)| link.is_member() && link.retiring.is_none() && link.needed_until <= now && link.peer != partner)
            .filter(|(_, link)| {
                let presence = link.peer.and_then(|peer| roster.get(&peer)).map(|member| &member.presence);
                presence.is_some_and(|presence| presence.neighbors.len() > self.limits.min)
            })
            .filter_map(|(id, link)| Some((self.cost(link)?, id)))
            .collect();
        replaceable.sort_unstable_by(|a, b| b.cmp(a));
        replaceable
    }

    /// Whether neighbors are chosen among so many members, rather than all linked.
    pub(crate) fn is_choosy(&self, members: usize) -> bool {
        self.limits.max >= CHOICE_MIN && members > self.limits.max + 1
    }

    /// Whether the neighbor at the other end of `link` can be reached without it and by direct links of ours, by what members say of theirs.
    pub(crate) fn is_spare(&self, link: LinkId, roster: &Roster, now: Time) -> bool {
        let Some(end) = self.get(link).and_then(|link| link.peer) else { return true };
        let others = self.iter().filter(|(id, other)| {
            *id != link && other.is_member() && !other.is_relayed() && other.retiring.is_none() && !other.is_quiet(now)
        });
        let mut next: Vec<PeerId> = others.filter_map(|(_, other)| other.peer).collect();
        let mut seen: BTreeSet<PeerId> = next.iter().copied().collect();
        while let Some(peer) = next.pop() {
            let Some(member) = roster.get(&peer) else { continue };
            if member.presence.is_linked_to(&end) {
                return true;
            }
            next.extend(member.presence.neighbors.iter().filter(|neighbor| seen.insert(**neighbor)));
        }
        false
    }

    /// The links to admitted members, with the member at the other end.
    pub(crate) fn neighbors(&self) -> impl Iterator<Item = (LinkId, PeerId)> {
        self.iter().filter(|(_, link)| link.is_member()).filter_map(|(id, link)| Some((id, link.peer?)))
    }

    pub(crate) fn neighbor(&self, peer: &PeerId) -> Option<LinkId> {
        self.neighbors().find(|(_, neighbor)| neighbor == peer).map(|(id, _)| id)
    }

    /// The relayed link that one end is to give up, since its other end is heard by way of our direct neighbors: the smaller key sees to
    /// it.
    pub(crate) fn spare_relay(&self, me: &PeerId, roster: &Roster, now: Time) -> Option<LinkId> {
        let relays = self.iter().filter(|(_, link)| link.is_member() && link.is_relayed());
        let mut due = relays.filter(|(_, link)| link.retiring.is_none() && link.needed_until <= now && link.is_settled(now));
        due.find(|(id, link)| link.peer.is_some_and(|peer| *me < peer) && self.is_spare(*id, roster, now)).map(|(id, _)| id)
    }

    pub(crate) fn strangers(&self) -> usize {
        self.links.values().filter(|link| !link.dialed && !link.is_member()).count()
    }

    /// Of the new link and one that stands to the same peer, both ends keep the one whose dialer has the smaller key: each can
    /// tell alone. Of two with the same dialer the newer one stays: its dialer knows best. So it does where the old one has been
    /// silent since before `dead`. A direct one stays rather than a relayed one, whoever dialed.
    pub(crate) fn keep(&self, me: &PeerId, new: LinkId, dead: Time) -> Keep {
        let Some((link, peer)) = self.get(new).and_then(|link| Some((link, link.peer?))) else { return Keep::Only };
        let Some((old, held)) = self.iter().find(|(id, link)| *id != new && link.is_member() && link.peer == Some(peer)) else {
            return Keep::Only;
        };
        let better = if link.is_relayed() == held.is_relayed() {
            link.dialed == held.dialed || link.dialed == (*me < peer)
        } else {
            held.is_relayed()
        };
        if better || held.heard < dead { Keep::New(old) } else { Keep::Old }
    }

    /// How many links to have, among so many members.
    pub(crate) fn goal(&self, members: usize) -> usize {
        let others = members.saturating_sub(1);
        if others <= self.limits.max { others } else { self.limits.ideal }
    }

    /// The neighbor that can best do without us: the one with most other links, and at least `links_min` of them.
    pub(crate) fn dispensable(&self, roster: &Roster, newcomer: &PeerId, links_min: usize) -> Option<LinkId> {
        self.neighbors()
            .filter(|(_, peer)| peer != newcomer)
            .filter_map(|(id, peer)| Some((roster.get(&peer)?.presence.neighbors.len(), id)))
            .filter(|(links, _)| *links >= links_min)
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
        overlay.keep(me, new, Time(0))
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
        // The same where the old one is to stay, but is dead.
        let mut overlay = Overlay::new(NeighborLimits::default());
        let mut open = |dialed, stage| {
            let mut link = Link::new(SocketAddr::from(([127, 0, 0, 1], 1)), dialed, None, Time(5));
            (link.peer, link.stage) = (Some(LARGE), stage);
            overlay.open(link)
        };
        open(true, Stage::Member);
        let new = open(false, Stage::AwaitHello);
        assert_eq!((overlay.keep(&SMALL, new, Time(5)), overlay.keep(&SMALL, new, Time(6))), (Keep::Old, Keep::New(old)));
        assert!(overlay.has(&LARGE, Time(5)) && overlay.has(&LARGE, Time(6)), "the new one is under way");
        overlay.close(new);
        assert!(overlay.has(&LARGE, Time(5)) && !overlay.has(&LARGE, Time(6)));
        // The same dialer twice.
        assert_eq!(
            (with_links(&SMALL, LARGE, true, true), with_links(&LARGE, SMALL, false, false)),
            (Keep::New(old), Keep::New(old))
        );
    }

    #[test]
    fn a_direct_link_takes_the_place_of_a_relayed_one_whoever_dialed() {
        for (me, old_dialed, new_dialed) in
            [(SMALL, true, false), (SMALL, true, true), (LARGE, false, true), (LARGE, false, false)]
        {
            let peer = if me == SMALL { LARGE } else { SMALL };
            for relayed_first in [true, false] {
                let mut overlay = Overlay::new(NeighborLimits::default());
                let mut open = |dialed, stage, relayed| {
                    let ip = if relayed { RELAY_IP } else { [127, 0, 0, 1].into() };
                    let mut link = Link::new(SocketAddr::new(ip, 1), dialed, None, Time(0));
                    (link.peer, link.stage) = (Some(peer), stage);
                    overlay.open(link)
                };
                let old = open(old_dialed, Stage::Member, relayed_first);
                let new = open(new_dialed, Stage::AwaitHello, !relayed_first);
                let expected = if relayed_first { Keep::New(old) } else { Keep::Old };
                assert_eq!(overlay.keep(&me, new, Time(0)), expected, "{relayed_first} {old_dialed} {new_dialed}");
                // Of two dead ones that which may live.
                assert_eq!(overlay.keep(&me, new, Time(1)), Keep::New(old));
            }
        }
    }

    #[test]
    fn small_meshes_are_complete() {
        let overlay = Overlay::new(NeighborLimits::new(2, 3, 7));
        assert_eq!((overlay.goal(1), overlay.goal(8), overlay.goal(9)), (0, 7, 3));
    }
}
