//! Along which way does an item reach those who subscribed: a tree that everybody computes alike from who is linked to whom.
//!
//! Over the links where those at both ends subscribed, and by the shortest paths between the islands that this leaves. Nobody hands it to
//! more than [`CHILDREN_MAX`] others, so a publisher's load stays as it is however many there are. Where two members see different links
//! for a moment, somebody may get an item twice or not at all: the one is noticed by its number, the other mended by asking.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peerflock_proto::PeerId;

/// Most members that one member hands an item to.
pub(super) const CHILDREN_MAX: usize = 4;

/// Who is linked to whom.
pub(super) type Links = BTreeMap<PeerId, BTreeSet<PeerId>>;

/// To whom each of those who have it hands an item that `root` published. Every subscriber is in it once, also one that no link
/// leads to.
pub(super) fn children(root: PeerId, subscribers: &BTreeSet<PeerId>, links: &Links) -> BTreeMap<PeerId, Vec<PeerId>> {
    let mut tree = Tree { placed: BTreeMap::from([(root, Vec::new())]), fresh: VecDeque::from([root]), links };
    tree.grow(subscribers);
    // Those whom none of those beside them could take, the nearest first: from the nearest who can.
    for peer in by_distance(root, links).into_iter().chain(subscribers.iter().copied()) {
        if subscribers.contains(&peer) && !tree.placed.contains_key(&peer) {
            let giver = tree.nearest_with_room(peer).or_else(|| tree.least_busy());
            tree.place(giver.unwrap_or(root), peer);
            tree.grow(subscribers);
        }
    }
    tree.placed.retain(|_, children| !children.is_empty());
    tree.placed
}

struct Tree<'a> {
    /// Those who get it, with those to whom they hand it.
    placed: BTreeMap<PeerId, Vec<PeerId>>,
    /// Those of them who may hand it to whom they are linked to.
    fresh: VecDeque<PeerId>,
    links: &'a Links,
}

impl Tree<'_> {
    /// Each takes those who subscribed and are linked to it, as many as it may.
    fn grow(&mut self, subscribers: &BTreeSet<PeerId>) {
        while let Some(giver) = self.fresh.pop_front() {
            for peer in self.links.get(&giver).into_iter().flatten() {
                if subscribers.contains(peer) && !self.placed.contains_key(peer) && self.has_room(&giver) {
                    self.place(giver, *peer);
                }
            }
        }
    }

    fn place(&mut self, giver: PeerId, peer: PeerId) {
        self.placed.entry(giver).or_default().push(peer);
        self.placed.insert(peer, Vec::new());
        self.fresh.push_back(peer);
    }

    fn has_room(&self, giver: &PeerId) -> bool {
        self.placed.get(giver).is_some_and(|children| children.len() < CHILDREN_MAX)
    }

    fn nearest_with_room(&self, peer: PeerId) -> Option<PeerId> {
        by_distance(peer, self.links).into_iter().find(|other| self.has_room(other))
    }

    fn least_busy(&self) -> Option<PeerId> {
        self.placed.iter().min_by_key(|(_, children)| children.len()).map(|(peer, _)| *peer)
    }
}

/// All whom links lead to, the nearest first.
fn by_distance(from: PeerId, links: &Links) -> Vec<PeerId> {
    let (mut seen, mut reached) = (BTreeSet::from([from]), vec![from]);
    let mut next = 0;
    while let Some(peer) = reached.get(next).copied() {
        next += 1;
        reached.extend(links.get(&peer).into_iter().flatten().filter(|other| seen.insert(**other)));
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: usize) -> PeerId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        PeerId(bytes)
    }

    fn links(pairs: impl IntoIterator<Item = (usize, usize)>) -> Links {
        let mut links = Links::new();
        for (a, b) in pairs {
            links.entry(peer(a)).or_default().insert(peer(b));
            links.entry(peer(b)).or_default().insert(peer(a));
        }
        links
    }

    /// Every subscriber is reached exactly once, from the root, and nobody is asked for too much.
    fn check(root: usize, subscribers: &[usize], links: &Links) -> BTreeMap<PeerId, Vec<PeerId>> {
        let subscribers: BTreeSet<PeerId> = subscribers.iter().map(|n| peer(*n)).collect();
        let tree = children(peer(root), &subscribers, links);
        let mut reached = BTreeSet::new();
        let mut queue = VecDeque::from([peer(root)]);
        while let Some(giver) = queue.pop_front() {
            let below = tree.get(&giver).map_or(&[][..], Vec::as_slice);
            assert!(below.len() <= CHILDREN_MAX);
            for peer in below {
                assert!(reached.insert(*peer), "{peer} twice");
                queue.push_back(*peer);
            }
        }
        let others = subscribers.into_iter().filter(|subscriber| *subscriber != peer(root));
        assert_eq!(reached, others.collect());
        tree
    }

    #[test]
    fn everyone_is_reached_once_and_nobody_is_overloaded() {
        let star = links((1..200).map(|n| (0, n)));
        check(0, &(0..200).collect::<Vec<_>>(), &star);
        check(7, &(0..200).collect::<Vec<_>>(), &star);
        let ring = links((0..100).map(|n| (n, (n + 1) % 100)));
        let tree = check(0, &(0..100).collect::<Vec<_>>(), &ring);
        assert_eq!(tree[&peer(0)], [peer(1), peer(99)], "along the links");
        check(0, &[3, 50, 98], &ring);
        // Whoever no link leads to is reached all the same: by those who know more.
        check(0, &[3, 500], &ring);
        check(500, &[3, 4], &ring);
    }

    #[test]
    fn those_between_do_not_get_it() {
        let row = links((0..6).map(|n| (n, n + 1)));
        let tree = check(0, &[2, 5], &row);
        assert_eq!(tree, BTreeMap::from([(peer(0), vec![peer(2)]), (peer(2), vec![peer(5)])]));
    }
}
