//! Who is here: presence, failure, the mesh clock, capacity.
//!
//! Every member signs what it says of itself; the newest correction wins and is flooded. Alive is who is *heard*: frames that it
//! made, over whatever way. Nobody votes. A member that all stopped hearing is gone for all within a moment; one wrongly taken for
//! gone is back with its next frame.

mod clock;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Duration;

pub(crate) use clock::Clock;

use crate::id::{Boot, LinkId, PeerId};
use crate::node::Farewell;
use crate::state::acks::member_hash;
use crate::time::Time;
use crate::wire::{Presence, Signed};

/// How long a member that is gone is remembered, so that old news does not bring it back.
const REMEMBER: Duration = Duration::from_secs(120);
/// All have heard of a member that joined before that.
pub(crate) const NEWCOMER: Duration = Duration::from_secs(10);
/// Most members that are gone and remembered.
const DEPARTED_MAX: usize = 4_096;

/// The other members, and those who were.
#[derive(Debug)]
pub(crate) struct Roster {
    members: BTreeMap<PeerId, Present>,
    departed: BTreeMap<PeerId, Departed>,
    /// The members and ourselves: kept beside, for those who only ask who is here.
    present: BTreeSet<PeerId>,
    /// A hash of those, kept beside, too: the sum of one of each, so that who comes or goes costs no look at all the others.
    hash: u32,
    me: PeerId,
    /// How many of them come before ourselves.
    rank: usize,
}

#[derive(Debug)]
pub(crate) struct Present {
    pub(crate) presence: Presence,
    pub(crate) signed: Signed,
    /// When it joined, as far as we know.
    since: Time,
    pub(crate) heard: Time,
    /// The links over which this presence came or went: their other ends have it.
    pub(crate) shown: BTreeSet<LinkId>,
    /// The links over which any presence of this life came or went: their other ends know where its messages stand.
    pub(crate) aware: BTreeSet<LinkId>,
}

#[derive(Debug)]
struct Departed {
    presence: Presence,
    signed: Signed,
    since: Time,
    farewell: Farewell,
    at: Time,
}

/// What a presence told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A new member.
    Joined,
    /// A member that was started anew: the old one is gone, the new one here.
    Restarted,
    /// A member that was taken for gone says that it is not.
    Returned,
    /// A known member corrects itself; `profile` where that is part of it.
    Changed { profile: bool },
    /// Nothing new, or no room.
    Nothing,
}

impl Roster {
    pub(crate) fn new(me: PeerId) -> Self {
        let mut roster =
            Self { members: BTreeMap::new(), departed: BTreeMap::new(), present: BTreeSet::new(), hash: 0, me, rank: 0 };
        roster.enter(me);
        roster
    }

    /// All who are here, ourselves included, sorted.
    pub(crate) fn present(&self) -> &BTreeSet<PeerId> {
        &self.present
    }

    /// A hash of all who are here, ourselves included.
    pub(crate) fn hash(&self) -> u32 {
        self.hash
    }

    /// Our own place among all others but `peer`, in their order.
    pub(crate) fn place_beside(&self, peer: &PeerId) -> usize {
        self.rank - usize::from(*peer < self.me && self.present.contains(peer))
    }

    /// The others, sorted, from the one after `peer` on and round: as good as at random, and the same for everyone who asks.
    pub(crate) fn members_after(&self, peer: &PeerId) -> impl Iterator<Item = (&PeerId, &Present)> {
        let after = self.members.range((Bound::Excluded(*peer), Bound::Unbounded));
        after.chain(self.members.range(..*peer))
    }

    /// The other end of `link` has the newest presence of `peer`.
    pub(crate) fn shown(&mut self, peer: &PeerId, link: LinkId) {
        if let Some(member) = self.members.get_mut(peer) {
            member.shown.insert(link);
            member.aware.insert(link);
        }
    }

    /// A link is gone, and with it what was shown over it.
    pub(crate) fn link_down(&mut self, link: LinkId) {
        for member in self.members.values_mut() {
            member.shown.remove(&link);
            member.aware.remove(&link);
        }
    }

    /// The others, sorted.
    pub(crate) fn members(&self) -> impl Iterator<Item = (&PeerId, &Present)> {
        self.members.iter()
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Present> {
        self.members.get(peer)
    }

    /// The member whose key starts like that.
    pub(crate) fn starting_with(&self, start: u64) -> Option<(&PeerId, &Present)> {
        let mut first = [0; 32];
        first[..8].copy_from_slice(&start.to_le_bytes());
        self.members.range(PeerId(first)..).next().filter(|(peer, _)| peer.0[..8] == first[..8])
    }

    /// Whether `peer` would have its own presence beaten by what is known: to be asked before the signature is checked.
    pub(crate) fn knows_newer(&self, peer: &PeerId, boot: Boot, seq: u32) -> bool {
        let known = self.members.get(peer).map(|member| &member.presence);
        let known = known.or_else(|| self.departed.get(peer).map(|departed| &departed.presence));
        if self.departed.get(peer).is_some_and(|gone| gone.presence.boot == boot && gone.farewell != Farewell::Lost) {
            return true;
        }
        known.is_some_and(|known| known.boot == boot && known.seq >= seq)
    }

    /// Takes in a presence whose signature was checked. A former boot's presence cannot be told from a later one's by its number;
    /// it is refused while the later one is here.
    pub(crate) fn learn(&mut self, peer: PeerId, presence: Presence, signed: Signed, members_max: usize, now: Time) -> News {
        if self.knows_newer(&peer, presence.boot, presence.seq) {
            return News::Nothing;
        }
        let news = match self.members.get(&peer) {
            Some(known) if known.presence.boot == presence.boot => {
                News::Changed { profile: known.presence.profile() != presence.profile() }
            }
            Some(_) => News::Restarted,
            None if self.present.len() >= members_max => return News::Nothing,
            None if self.departed.get(&peer).is_some_and(|gone| gone.presence.boot == presence.boot) => News::Returned,
            None => News::Joined,
        };
        let departed = self.departed.remove(&peer);
        let (since, heard, aware) = match (news, self.members.remove(&peer), departed) {
            (News::Changed { .. }, Some(known), _) => (known.since, known.heard, known.aware),
            (News::Returned, _, Some(departed)) => (departed.since, now, BTreeSet::new()),
            _ => (now, now, BTreeSet::new()),
        };
        self.enter(peer);
        self.members.insert(peer, Present { presence, signed, since, heard, shown: BTreeSet::new(), aware });
        news
    }

    /// A frame that `peer` made arrived. True if that brings a member back that was taken for gone.
    pub(crate) fn heard(&mut self, peer: &PeerId, boot: Boot, now: Time) -> bool {
        if let Some(member) = self.members.get_mut(peer) {
            if member.presence.boot == boot {
                member.heard = now;
            }
            return false;
        }
        if self.departed.get(peer).is_none_or(|departed| departed.presence.boot != boot || departed.farewell != Farewell::Lost) {
            return false;
        }
        if let Some(Departed { presence, signed, since, .. }) = self.departed.remove(peer) {
            self.enter(*peer);
            let (shown, aware) = (BTreeSet::new(), BTreeSet::new());
            self.members.insert(*peer, Present { presence, signed, since, heard: now, shown, aware });
        }
        true
    }

    /// Whether a peer is here, or gone without a word: it may only be out of our hearing.
    pub(crate) fn may_be_here(&self, peer: &PeerId) -> bool {
        self.present.contains(peer) || self.departed.get(peer).is_some_and(|departed| departed.farewell == Farewell::Lost)
    }

    /// All who are here, and those who are gone without a word.
    pub(crate) fn present_or_lost(&self) -> impl Iterator<Item = PeerId> {
        let lost = self.departed.iter().filter(|(_, departed)| departed.farewell == Farewell::Lost);
        self.present.iter().copied().chain(lost.map(|(peer, _)| *peer))
    }

    /// Whether a member joined so lately that others may still have to hear of it.
    pub(crate) fn is_newcomer(&self, peer: &PeerId, now: Time) -> bool {
        self.members.get(peer).is_some_and(|member| now.since(member.since) < NEWCOMER)
    }

    /// A member is gone. False if it was not here.
    pub(crate) fn depart(&mut self, peer: &PeerId, farewell: Farewell, now: Time) -> bool {
        let Some(Present { presence, signed, since, .. }) = self.members.remove(peer) else { return false };
        if self.present.remove(peer) {
            self.hash = self.hash.wrapping_sub(member_hash(peer));
            self.rank -= usize::from(*peer < self.me);
        }
        self.departed.insert(*peer, Departed { presence, signed, since, farewell, at: now });
        true
    }

    fn enter(&mut self, peer: PeerId) {
        if self.present.insert(peer) {
            self.hash = self.hash.wrapping_add(member_hash(&peer));
            self.rank += usize::from(peer < self.me);
        }
    }

    /// Members that nobody heard for longer than each is given, `least` or more, where only silence after `since` counts.
    pub(crate) fn silent(&self, least: Duration, patience: impl Fn(&PeerId) -> Duration, since: Time, now: Time) -> Vec<PeerId> {
        let is_silent = |(peer, member): &(&PeerId, &Present)| {
            let silence = now.since(member.heard.max(since));
            silence >= least && silence >= patience(peer)
        };
        self.members.iter().filter(is_silent).map(|(peer, _)| *peer).collect()
    }

    /// We ourselves were not listening for `absence`: that is nobody else's silence.
    pub(crate) fn forgive(&mut self, absence: Duration) {
        for member in self.members.values_mut() {
            member.heard = member.heard + absence;
        }
    }

    /// Forgets those who have been gone for long, and those who are too many, and says who they were: others remember them, too.
    pub(crate) fn forget_old(&mut self, now: Time) -> Vec<PeerId> {
        let old = self.departed.extract_if(.., |_, departed| now.since(departed.at) >= REMEMBER);
        let mut forgotten: Vec<PeerId> = old.map(|(peer, _)| peer).collect();
        while self.departed.len() > DEPARTED_MAX
            && let Some((peer, _)) = self.departed.pop_first()
        {
            forgotten.push(peer);
        }
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;
    use crate::id::{Identity, MeshId};

    fn learn(roster: &mut Roster, boot: u32, seq: u32, name: &str, now: Time) -> (PeerId, News) {
        let identity = Identity::from_seed([1; 32]);
        let presence = Presence::new(Boot(boot), seq, Profile::named(name), &[], vec![], 0, Duration::ZERO, 0, None);
        let signed = presence.sign(&identity, &MeshId::from_name("test")).unwrap();
        (identity.peer_id(), roster.learn(identity.peer_id(), presence, signed, 10, now))
    }

    #[test]
    fn old_news_brings_nobody_back_but_a_frame_does() {
        let mut roster = Roster::new(PeerId([0; 32]));
        let (peer, news) = learn(&mut roster, 1, 1, "ann", Time(0));
        assert_eq!(news, News::Joined);
        assert_eq!(learn(&mut roster, 1, 2, "ann", Time(0)).1, News::Changed { profile: false });
        assert_eq!(learn(&mut roster, 1, 3, "Ann", Time(0)).1, News::Changed { profile: true });
        let silence = Duration::from_secs(1);
        assert_eq!(roster.silent(silence, |_| silence, Time(0), Time(999_999)), []);
        assert_eq!(roster.silent(silence, |_| silence, Time(1), Time(1_000_000)), []);
        assert_eq!(roster.silent(silence, |_| silence, Time(0), Time(1_000_000)), [peer]);
        assert!(roster.depart(&peer, Farewell::Lost, Time(1_000_000)));
        assert_eq!(learn(&mut roster, 1, 3, "Ann", Time(1_000_001)).1, News::Nothing);
        assert!(roster.heard(&peer, Boot(1), Time(1_000_002)));
        assert!(roster.present().contains(&peer));
        roster.depart(&peer, Farewell::Lost, Time(1_000_003));
        assert_eq!(learn(&mut roster, 1, 4, "Ann", Time(1_000_004)).1, News::Returned);
    }

    #[test]
    fn what_is_kept_beside_is_what_a_look_at_all_finds() {
        let me = PeerId([5; 32]);
        let mut roster = Roster::new(me);
        let mut learned = Vec::new();
        for seed in 0..40 {
            let identity = Identity::from_seed([seed; 32]);
            let presence = Presence::new(Boot(1), 1, Profile::default(), &[], vec![], 0, Duration::ZERO, 0, None);
            let signed = presence.sign(&identity, &MeshId::from_name("test")).unwrap();
            roster.learn(identity.peer_id(), presence, signed, 99, Time(0));
            learned.push(identity.peer_id());
            if seed % 3 == 0 {
                roster.depart(&learned[usize::from(seed) / 2], Farewell::Lost, Time(1));
            }
            if seed % 7 == 0 {
                roster.heard(&learned[usize::from(seed) / 3], Boot(1), Time(2));
            }
            let sum = roster.present().iter().fold(0_u32, |sum, peer| sum.wrapping_add(member_hash(peer)));
            assert_eq!(roster.hash(), sum);
            for peer in learned.iter().chain([&PeerId([0; 32])]) {
                let place = roster.present().iter().filter(|other| *other != peer).position(|other| *other == me);
                assert_eq!(Some(roster.place_beside(peer)), place);
            }
        }
        assert!((10..40).contains(&roster.present().len()));
    }

    #[test]
    fn who_said_goodbye_comes_back_only_by_starting_anew() {
        let mut roster = Roster::new(PeerId([0; 32]));
        let (peer, _) = learn(&mut roster, 1, 1, "ann", Time(0));
        roster.depart(&peer, Farewell::Left, Time(1));
        assert!(!roster.heard(&peer, Boot(1), Time(2)));
        assert_eq!(learn(&mut roster, 1, 2, "ann", Time(2)).1, News::Nothing);
        assert_eq!(learn(&mut roster, 2, 1, "ann", Time(3)).1, News::Joined);
        assert_eq!(learn(&mut roster, 3, 1, "ann", Time(4)).1, News::Restarted);
    }
}
