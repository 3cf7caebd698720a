//! Along which way does an item reach those who subscribed: a tree that everybody computes alike from who is linked to whom.
//!
//! Over the shortest paths, each subscriber gets it from the last one before it on the path; nobody hands it to more than
//! [`CHILDREN_MAX`] others, so a publisher's load stays as it is however many there are. Where two members see different links for a
//! moment, somebody may get an item twice or not at all: the one is noticed by its number, the other mended by asking.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peerflock_proto::PeerId;

/// Most members that one member hands an item to.
pub(super) const CHILDREN_MAX: usize = 4;

/// Who is linked to whom.
pub(super) type Links = BTreeMap<PeerId, BTreeSet<PeerId>>;

/// To whom each of those who have it hands an item that `root` published. Every subscriber is in it once, also one that no link
/// leads to.
pub(super) fn children(root: PeerId, subscribers: &BTreeSet<PeerId>, links: &Links) -> BTreeMap<PeerId, Vec<PeerId>> {
    // The last one who has it on the shortest path, and in which order they are reached.
    let mut above = BTreeMap::from([(root, root)]);
    let mut queue = VecDeque::from([root]);
    let mut order = Vec::new();
    while let Some(peer) = queue.pop_front() {
        let has_it = peer == root || subscribers.contains(&peer);
        if has_it && peer != root {
            order.push((peer, above[&peer]));
        }
        let giver = if has_it { peer } else { above[&peer] };
        for next in links.get(&peer).into_iter().flatten() {
            if !above.contains_key(next) {
                above.insert(*next, giver);
                queue.push_back(*next);
            }
        }
    }
    order.extend(subscribers.iter().filter(|peer| !above.contains_key(peer)).map(|peer| (*peer, root)));
    let mut children: BTreeMap<PeerId, Vec<PeerId>> = BTreeMap::new();
    for (peer, wanted) in order {
        let mut giver = wanted;
        while children.get(&giver).is_some_and(|children| children.len() >= CHILDREN_MAX) {
            // One of those below it, who is least busy. It has some, or it would not be full.
            let below = children[&giver].iter().min_by_key(|below| (children.get(below).map_or(0, Vec::len), **below));
            let Some(below) = below else { break };
            giver = *below;
        }
        children.entry(giver).or_default().push(peer);
    }
    children
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
