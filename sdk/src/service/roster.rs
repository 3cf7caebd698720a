//! Who is here, as a service is told: what came and went since it was told last.

use std::collections::{BTreeMap, BTreeSet};

use peerflock_proto::{Member, PeerId};

use super::Members;

/// What a service was told last.
#[derive(Debug, Default)]
pub(super) struct Roster {
    told: Option<BTreeMap<PeerId, BTreeSet<PeerId>>>,
}

impl Roster {
    /// What to tell of those who are here now, and of who came (true) and went since the last look, in order; none if nothing is new.
    pub(super) fn look(&mut self, all: Vec<Member>, news: &[(PeerId, bool)]) -> Option<Members> {
        let links: BTreeMap<PeerId, BTreeSet<PeerId>> =
            all.iter().map(|member| (member.peer, member.neighbors.iter().copied().collect())).collect();
        let me = all.iter().find(|member| member.me).map(|member| member.peer);
        let mut known: BTreeSet<PeerId> = self.told.iter().flat_map(|told| told.keys().copied()).collect();
        let (mut left, mut joined) = (Vec::new(), BTreeSet::new());
        for (peer, came) in news {
            if *came {
                if known.insert(*peer) {
                    joined.insert(*peer);
                }
            } else if known.remove(peer) && !joined.remove(peer) {
                left.push(*peer);
            }
        }
        // Their events are on the way, or were too many to be kept.
        left.extend(known.iter().filter(|peer| !links.contains_key(peer) && !joined.contains(peer)));
        joined.extend(links.keys().filter(|peer| !known.contains(peer)));
        joined.retain(|peer| links.contains_key(peer) && Some(*peer) != me);
        if left.is_empty() && joined.is_empty() && self.told.as_ref() == Some(&links) {
            return None;
        }
        self.told = Some(links);
        Some(Members { all, left, joined: joined.into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use peerflock_proto::Profile;

    use super::*;

    const fn peer(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    fn all(peers: &[u8]) -> Vec<Member> {
        let member = |n: &u8| Member {
            peer: peer(*n),
            profile: Profile::default(),
            me: *n == 0,
            linked: *n > 0,
            rtt: None,
            neighbors: Vec::new(),
            silent_for: Duration::ZERO,
        };
        peers.iter().map(member).collect()
    }

    fn look(roster: &mut Roster, here: &[u8], news: &[(u8, bool)]) -> Option<(Vec<u8>, Vec<u8>)> {
        let news: Vec<_> = news.iter().map(|(n, came)| (peer(*n), *came)).collect();
        let numbers = |peers: Vec<PeerId>| peers.iter().map(|peer| peer.0[0]).collect();
        roster.look(all(here), &news).map(|members| (numbers(members.left), numbers(members.joined)))
    }

    #[test]
    fn everyone_is_told_of_once() {
        let mut roster = Roster::default();
        assert_eq!(look(&mut roster, &[0, 1], &[]), Some((vec![], vec![1])));
        assert_eq!(look(&mut roster, &[0, 1], &[(1, true)]), None, "its event came late");
        assert_eq!(look(&mut roster, &[0, 1, 2], &[]), Some((vec![], vec![2])));
        assert_eq!(look(&mut roster, &[0, 2], &[(2, true), (1, false)]), Some((vec![1], vec![])));
        assert_eq!(look(&mut roster, &[0, 2], &[(2, false), (2, true)]), Some((vec![2], vec![2])), "started anew");
        assert_eq!(look(&mut roster, &[0, 2], &[(3, true), (3, false)]), None, "here and gone between two looks");
        assert_eq!(look(&mut roster, &[0], &[]), Some((vec![2], vec![])));
        assert_eq!(look(&mut roster, &[0], &[(2, false)]), None);
    }

    #[test]
    fn a_new_link_is_news() {
        let mut roster = Roster::default();
        look(&mut roster, &[0, 1], &[]);
        let mut linked = all(&[0, 1]);
        linked[0].neighbors.push(peer(1));
        assert_eq!(roster.look(linked.clone(), &[]), Some(Members { all: linked.clone(), ..Members::default() }));
        assert_eq!(roster.look(linked, &[]), None);
    }
}
