//! Who is near: round trips measured to members that are not our neighbors, and whom to ask next.
//!
//! A question costs a packet each way, so there are few: a handful of members drawn at random at the start, then rounds of referrals
//! (the neighbors of the nearest), ever more seldom once they bring nothing better.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::id::PeerId;
use crate::time::Time;

/// Members asked how far they are in the first round.
pub(crate) const SAMPLE: usize = 20;
/// Members asked in each later round.
pub(crate) const REFERRED: usize = 10;
/// Time between rounds while they bring something; doubled by each that did not.
const ROUND_EVERY: Duration = Duration::from_millis(500);
/// Most doublings: 16 s between rounds that bring nothing.
const DOUBLINGS_MAX: u32 = 5;
/// A measurement older than this is made again before it is believed.
const FRESH: Duration = Duration::from_secs(120);
/// A question without an answer for so long was lost, or nobody is there.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);
/// Most measurements kept: as many as there can be members in any sensible mesh. Beyond it the oldest goes.
const MEASURED_MAX: usize = 1_024;
/// Wait after a member had no room for us; doubled by each further time.
const REFUSED: Duration = Duration::from_secs(1);
const REFUSED_DOUBLINGS_MAX: u32 = 5;

/// A neighbor must be nearer than another by a fifth and by this much to take its place: else two that are alike take turns.
const MARGIN: Duration = Duration::from_millis(3);

/// What was measured, what was asked, and when to ask again.
#[derive(Debug, Default)]
pub(crate) struct Near {
    measured: BTreeMap<PeerId, Measured>,
    asked: BTreeMap<SocketAddr, (PeerId, Time)>,
    next_round: Time,
    rounds: u32,
    /// Rounds in a row that brought nothing.
    idle: u32,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    address: SocketAddr,
    rtt: Duration,
    at: Time,
    refusals: u32,
    not_before: Time,
}

/// Whether a neighbor at `rtt` is so much nearer than one that costs `cost` that it should take its place.
pub(crate) fn is_nearer(rtt: Duration, cost: Duration) -> bool {
    rtt <= within(cost)
}

/// How near a newcomer must be to take the place of a neighbor that costs `cost`.
pub(crate) fn within(cost: Duration) -> Duration {
    (cost * 4 / 5).min(cost.saturating_sub(MARGIN))
}

impl Near {
    /// How many members to ask now. Zero when it is not yet time; else the next round is a while from now.
    pub(crate) fn round(&mut self, now: Time) -> usize {
        if now < self.next_round {
            return 0;
        }
        self.asked.retain(|_, (_, at)| now.since(*at) < ANSWER_DEADLINE);
        self.next_round = now + ROUND_EVERY.saturating_mul(1 << self.idle.min(DOUBLINGS_MAX));
        self.rounds += 1;
        self.idle += 1;
        if self.rounds == 1 { SAMPLE } else { REFERRED }
    }

    /// Something changed, so that the next rounds may bring something.
    pub(crate) fn stir(&mut self, now: Time) {
        self.idle = 0;
        self.next_round = self.next_round.min(now + ROUND_EVERY);
    }

    /// Asks anew, from the start.
    pub(crate) fn refresh(&mut self, now: Time) {
        *self = Self { next_round: now, ..Self::default() };
    }

    pub(crate) fn asking(&mut self, peer: PeerId, address: SocketAddr, now: Time) {
        self.asked.insert(address, (peer, now));
    }

    /// An answer came. None if we did not ask there.
    pub(crate) fn answered(&mut self, address: SocketAddr, rtt: Duration, now: Time) -> Option<PeerId> {
        let (peer, _) = self.asked.remove(&address)?;
        self.learn(peer, address, rtt, now);
        Some(peer)
    }

    /// `peer` is `rtt` away, as a question or a link told.
    pub(crate) fn learn(&mut self, peer: PeerId, address: SocketAddr, rtt: Duration, now: Time) {
        let fresh = Measured { address, rtt, at: now, refusals: 0, not_before: now };
        let measured = self.measured.entry(peer).or_insert(fresh);
        *measured = Measured { refusals: measured.refusals, not_before: measured.not_before, ..fresh };
        if self.measured.len() > MEASURED_MAX {
            let oldest = self.measured.iter().min_by_key(|(_, measured)| measured.at).map(|(peer, _)| *peer);
            oldest.map(|peer| self.measured.remove(&peer));
        }
    }

    /// Whether `peer` is worth a question: none is under way, and its distance is not known.
    pub(crate) fn is_unknown(&self, peer: &PeerId, address: &SocketAddr, now: Time) -> bool {
        !self.asked.contains_key(address) && self.measured.get(peer).is_none_or(|known| now.since(known.at) >= FRESH)
    }

    pub(crate) fn rtt(&self, peer: &PeerId) -> Option<Duration> {
        self.measured.get(peer).map(|measured| measured.rtt)
    }

    /// Those measured and worth a dial, nearest first.
    pub(crate) fn nearest(&self, now: Time) -> Vec<(Duration, PeerId, SocketAddr)> {
        let due = self.measured.iter().filter(|(_, measured)| measured.not_before <= now);
        let mut nearest: Vec<_> = due.map(|(peer, measured)| (measured.rtt, *peer, measured.address)).collect();
        nearest.sort_unstable();
        nearest
    }

    /// `peer` had no room for us.
    pub(crate) fn refused(&mut self, peer: &PeerId, now: Time) {
        if let Some(measured) = self.measured.get_mut(peer) {
            measured.not_before = now + REFUSED.saturating_mul(1 << measured.refusals.min(REFUSED_DOUBLINGS_MAX));
            measured.refusals += 1;
        }
    }

    /// `peer` took us.
    pub(crate) fn reached(&mut self, peer: &PeerId) {
        if let Some(measured) = self.measured.get_mut(peer) {
            measured.refusals = 0;
        }
    }

    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.measured.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (host >> 8) as u8, host as u8], 1))
    }

    #[test]
    fn rounds_that_bring_nothing_become_seldom() {
        let mut near = Near::default();
        let mut asked = Vec::new();
        for tenths in 0..1_000 {
            let now = Time(tenths * 100_000);
            let count = near.round(now);
            if count > 0 {
                asked.push((tenths, count));
            }
        }
        let first: Vec<_> = asked.iter().take(6).copied().collect();
        assert_eq!(first, [(0, 20), (5, 10), (15, 10), (35, 10), (75, 10), (155, 10)]);
        assert!(asked.len() < 12, "{asked:?}");
        near.stir(Time(100_000_000));
        assert_eq!(near.round(Time(100_500_000)), REFERRED);
    }

    #[test]
    fn only_what_was_asked_is_believed_and_refusals_are_remembered() {
        let (mut near, peer) = (Near::default(), PeerId([1; 32]));
        let rtt = Duration::from_millis(20);
        assert_eq!(near.answered(address(1), rtt, Time(0)), None);
        near.asking(peer, address(1), Time(0));
        assert!(!near.is_unknown(&peer, &address(1), Time(0)));
        assert_eq!(near.answered(address(1), rtt, Time(0)), Some(peer));
        assert_eq!(near.nearest(Time(0)), [(rtt, peer, address(1))]);
        near.refused(&peer, Time(0));
        assert_eq!(near.nearest(Time(999_999)), []);
        assert_eq!(near.nearest(Time(1_000_000)).len(), 1);
    }

    #[test]
    fn it_takes_no_more_than_its_room() {
        let mut near = Near::default();
        for host in 0..2_000_u16 {
            let mut peer = PeerId([0; 32]);
            peer.0[..2].copy_from_slice(&host.to_be_bytes());
            near.learn(peer, address(host), Duration::from_millis(1), Time(u64::from(host)));
        }
        assert_eq!(near.measured.len(), MEASURED_MAX);
    }

    #[test]
    fn two_that_are_alike_do_not_take_turns() {
        let ms = Duration::from_millis;
        assert!(is_nearer(ms(40), ms(50)) && !is_nearer(ms(41), ms(50)));
        assert!(is_nearer(ms(2), ms(5)) && !is_nearer(ms(3), ms(5)), "three milliseconds at the least");
    }
}
