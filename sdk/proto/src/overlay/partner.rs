//! One neighbor that is not near: drawn by lot, so that clusters of near peers hang together.
//!
//! All members are paired by rendezvous: each pair draws a number that everyone can compute, and the pairs with the smallest
//! numbers come first. So everyone computes the same pairing from the same roster, both ends know that their link is one not to
//! be given up for a nearer one, and who comes or goes changes only a few pairs.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::PeerId;
use crate::time::Time;

/// While the roster keeps changing the pairing is computed that seldom, times the number of members: it takes the square of it.
const AGAIN: Duration = Duration::from_millis(5);

/// Whose partner is who, for a roster that was last seen.
#[derive(Debug, Default)]
pub(crate) struct Partners {
    /// Of which roster: its hash.
    of: Option<u32>,
    mine: Option<PeerId>,
    /// Not computed again before.
    next: Time,
}

impl Partners {
    /// Our partner among the members, computed anew some time after the roster changed. None for the odd one out.
    pub(crate) fn mine(&mut self, me: &PeerId, members: &BTreeSet<PeerId>, roster_hash: u32, now: Time) -> Option<PeerId> {
        if self.of != Some(roster_hash) && now >= self.next {
            self.of = Some(roster_hash);
            self.next = now + AGAIN * u32::try_from(members.len()).unwrap_or(u32::MAX);
            self.mine = partner(me, members);
        }
        self.mine
    }

    /// As last computed.
    pub(crate) fn known(&self) -> Option<PeerId> {
        self.mine
    }
}

/// Pairs members until our turn came: whoever two draw the smallest number with each other are a pair.
fn partner(me: &PeerId, members: &BTreeSet<PeerId>) -> Option<PeerId> {
    let mut single: Vec<(PeerId, u64)> = members.iter().map(|peer| (*peer, seed(peer))).collect();
    while single.len() > 1 {
        let favorites: Vec<usize> = (0..single.len()).map(|one| favorite(&single, one)).collect();
        let paired = |one: usize| favorites.get(one).is_some_and(|other| favorites.get(*other) == Some(&one));
        if let Some(index) = single.iter().position(|(peer, _)| peer == me)
            && paired(index)
        {
            return favorites.get(index).and_then(|other| single.get(*other)).map(|(peer, _)| *peer);
        }
        let left: Vec<_> = single.iter().enumerate().filter(|(index, _)| !paired(*index)).map(|(_, one)| *one).collect();
        // The smallest number of all is drawn by a pair, so there are fewer each time.
        single = left;
    }
    None
}

fn favorite(single: &[(PeerId, u64)], one: usize) -> usize {
    let seed = single.get(one).map_or(0, |(_, seed)| *seed);
    let others = single.iter().enumerate().filter(|(index, _)| *index != one);
    // Both ends compute the same number; among equals the order of the pair decides, alike for both.
    others.min_by_key(|(index, (_, other))| (lot(seed, *other), one.min(*index), one.max(*index))).map_or(one, |(index, _)| index)
}

fn seed(peer: &PeerId) -> u64 {
    peer.0.as_chunks::<8>().0.first().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The number that two draw: the last step of `SplitMix64` (Steele et al., 2014) over both.
fn lot(one: u64, other: u64) -> u64 {
    let mut z = (one ^ other).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    fn members(count: u8) -> BTreeSet<PeerId> {
        (0..count).map(|number| Identity::from_seed([number; 32]).peer_id()).collect()
    }

    #[test]
    fn everyone_computes_the_same_pairs_and_one_more_changes_few() {
        let before = members(40);
        let pairs =
            |members: &BTreeSet<PeerId>| -> Vec<_> { members.iter().map(|peer| (*peer, partner(peer, members))).collect() };
        let of_before = pairs(&before);
        for (peer, other) in &of_before {
            let other = other.expect("an even number");
            assert_eq!(partner(&other, &before), Some(*peer));
            assert_ne!(other, *peer);
        }
        let after = members(41);
        let of_after = pairs(&after);
        assert_eq!(of_after.iter().filter(|(_, partner)| partner.is_none()).count(), 1, "the odd one out");
        let changed = of_before.iter().filter(|pair| !of_after.contains(pair)).count();
        assert!(changed <= 12, "{changed} of 40 have another partner");
    }

    #[test]
    fn alone_there_is_no_partner() {
        let alone = members(1);
        assert_eq!(partner(alone.first().unwrap(), &alone), None);
    }
}
