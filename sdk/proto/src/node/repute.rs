//! What neighbors did that members do not do: lies passed on, floods, words that contradict each other; and what it costs them.
//!
//! Whoever passes on an altered packet may have had it from somebody else and could not know. So the first time only what comes by that
//! link is held back until its origin proves it, and passed on no more. An honest neighbor finds the lie by the same proof at about the same
//! time, and does the same to the one it had it from: from then on nothing altered comes from it. What still does is its own, or that of
//! yet another liar behind it; the third time the link ends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CloseReason, Node};
use crate::flood::{Altered, Slot};
use crate::id::{Boot, LinkId, PeerId};
use crate::time::Time;
use crate::wire::{Frame, Manifest};

/// A neighbor has so long to find a lie by itself, from when we found it: manifests get lost and are asked for.
const GRACE: Duration = Duration::from_secs(1);
/// So often may a neighbor pass on a lie after that, in a while.
const STRIKES_MAX: u32 = 3;
const STRIKES_FORGOTTEN: Duration = Duration::from_secs(600);
/// One lie, found packet by packet, is one.
const STRIKE_EVERY: Duration = Duration::from_millis(200);
/// Whose link ended for it does not come back for so long.
const BANISHED: Duration = Duration::from_secs(300);
/// Most neighbors and former ones that are remembered.
const KNOWN_MAX: usize = 1_024;
/// Most proofs that an origin contradicted itself that are kept for newcomers.
const EVIDENCE_MAX: usize = 16;
/// A link over which too much comes for so long ends.
const EXCESS_MAX: Duration = Duration::from_secs(2);

/// What is remembered of neighbors.
#[derive(Debug, Default)]
pub(super) struct Repute {
    records: BTreeMap<PeerId, Record>,
    /// Proofs that an origin contradicted itself, as they are passed on.
    evidence: BTreeMap<PeerId, Frame>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// Since when what it passes on is held back.
    parole: Option<Time>,
    strikes: u32,
    struck: Time,
    banished: Option<Time>,
}

impl Repute {
    /// Whether what that neighbor passes on is held back until it is proved.
    pub(super) fn is_on_parole(&self, peer: &PeerId, now: Time) -> bool {
        let since = self.records.get(peer).and_then(|record| record.parole);
        since.is_some_and(|since| now.since(since) < STRIKES_FORGOTTEN)
    }

    /// Whether a link to it is to be none.
    pub(super) fn is_banished(&self, peer: &PeerId, now: Time) -> bool {
        let banished = self.records.get(peer).and_then(|record| record.banished);
        banished.is_some_and(|banished| now.since(banished) < BANISHED)
    }

    fn record(&mut self, peer: PeerId) -> &mut Record {
        if self.records.len() >= KNOWN_MAX && !self.records.contains_key(&peer) {
            self.records.pop_first();
        }
        self.records.entry(peer).or_default()
    }
}

/// What a lie costs the neighbor that passed it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    Nothing,
    Parole,
    Link,
}

impl Record {
    /// A lie is found now that came at `came`.
    fn lied(&mut self, came: Time, now: Time) -> Cost {
        match self.parole {
            Some(since) if now.since(since) < STRIKES_FORGOTTEN => {
                if came < since + GRACE || now.since(self.struck) < STRIKE_EVERY {
                    return Cost::Nothing;
                }
                (self.strikes, self.struck) = (self.strikes + 1, now);
                if self.strikes < STRIKES_MAX {
                    return Cost::Nothing;
                }
                *self = Self { banished: Some(now), ..Self::default() };
                Cost::Link
            }
            _ => {
                *self = Self { parole: Some(now), ..Self::default() };
                Cost::Parole
            }
        }
    }
}

impl Node {
    /// A packet that came by a link is not what its origin sent.
    pub(super) fn note_lie(&mut self, altered: Altered, now: Time) {
        let Some(peer) = self.overlay.get(altered.by).and_then(|held| held.peer) else { return };
        match self.repute.record(peer).lied(altered.at, now) {
            Cost::Nothing => {}
            Cost::Parole => {
                tracing::warn!(target: "peerflock::flood", ?peer, "what this neighbor passes on is held back until it is proved");
                // Whatever has its way over it takes another.
                let Some(port) = self.flood.port_of(altered.by) else { return };
                for slot in self.flood.fed_by(port) {
                    self.go_round(slot, altered.by, now);
                }
            }
            Cost::Link => self.banish(peer, "passed on what others did not say, again and again", now),
        }
    }

    /// A link ends, and does not come back soon.
    pub(super) fn banish(&mut self, peer: PeerId, why: &str, now: Time) {
        tracing::warn!(target: "peerflock::overlay", ?peer, why, "a neighbor is dropped");
        self.repute.record(peer).banished = Some(now);
        self.counters.neighbors_banished += 1;
        if let Some(link) = self.overlay.neighbor(&peer) {
            self.close(link, CloseReason::Violation, now);
        }
    }

    // --- quotas --------------------------------------------------------------------------------------------------------

    /// Whether bytes that came over a link are to be looked at; a link over which too much comes for too long ends. `own`: of what its
    /// other end says itself.
    pub(super) fn within_quota(&mut self, link: LinkId, bytes: usize, own: bool, now: Time) -> bool {
        let limits = self.config.limits;
        let Some(held) = self.overlay.get_mut(link) else { return false };
        let (quota, rate) = if own {
            (&mut held.own_quota, limits.origin_bytes_per_second)
        } else {
            (&mut held.quota, limits.link_bytes_per_second)
        };
        if quota.take(bytes, rate, now) {
            return true;
        }
        self.counters.over_quota += 1;
        if quota.excess(now) >= EXCESS_MAX
            && let Some(peer) = held.peer
        {
            self.banish(peer, "sent more than a member may, for too long", now);
        }
        false
    }

    // --- contradictions ------------------------------------------------------------------------------------------------

    /// An origin signed two different things for the same packet: who has both has it proved, and everybody is told.
    pub(super) fn expose(&mut self, slot: Slot, one: Manifest, other: Manifest, now: Time) {
        let Some((origin, boot)) = self.flood.origin(slot).map(|origin| (origin.peer, origin.boot)) else { return };
        self.hear_evidence(None, origin, boot, one, other, now);
    }

    pub(super) fn hear_evidence(
        &mut self,
        from: Option<LinkId>,
        origin: PeerId,
        boot: Boot,
        one: Manifest,
        other: Manifest,
        now: Time,
    ) {
        if origin == self.me || self.removals.is_removed(&origin) {
            return;
        }
        let verifier = crate::id::Verifier::new(&origin);
        let signed = |manifest: &Manifest| manifest.is_sound() && manifest.holds(&self.mesh, &verifier, boot);
        if !one.contradicts(&other) || !signed(&one) || !signed(&other) {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::flood", ?origin, ?from, "evidence that proves nothing");
            return;
        }
        tracing::warn!(target: "peerflock::flood", ?origin, "a member said different things to different neighbors, and is out");
        self.counters.equivocations += 1;
        let evidence = Frame::Evidence { origin, boot, one, other };
        self.pass_to_all(from, &evidence);
        if self.repute.evidence.len() >= EVIDENCE_MAX {
            self.repute.evidence.pop_first();
        }
        self.repute.evidence.insert(origin, evidence);
        self.shut_out(origin, None, now);
    }

    /// What a newcomer must know of those who are out.
    pub(super) fn tell_evidence(&mut self, link: LinkId) {
        let evidence: Vec<Frame> = self.repute.evidence.values().cloned().collect();
        evidence.iter().for_each(|evidence| self.say_to(link, evidence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time(1_000_000 + millis * 1_000)
    }

    #[test]
    fn who_could_not_know_keeps_its_link_and_who_could_does_not() {
        let mut record = Record::default();
        assert_eq!(record.lied(at(0), at(200)), Cost::Parole);
        // All that was under way before it could know.
        for came in (0..1_200).step_by(100) {
            assert_eq!(record.lied(at(came), at(came + 200)), Cost::Nothing);
        }
        assert_eq!(record.strikes, 0);
        assert_eq!([1_300, 1_310, 1_600].map(|came| record.lied(at(came), at(came + 200))), [Cost::Nothing; 3]);
        assert_eq!(record.strikes, 2, "two lies, the one of them found twice");
        assert_eq!(record.lied(at(1_900), at(2_100)), Cost::Link);
    }

    #[test]
    fn lies_are_forgotten_in_time() {
        let mut record = Record::default();
        assert_eq!(record.lied(at(0), at(200)), Cost::Parole);
        let later = 200 + STRIKES_FORGOTTEN.as_millis() as u64;
        assert_eq!(record.lied(at(later), at(later)), Cost::Parole);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut repute = Repute::default();
        for number in 0..2 * KNOWN_MAX as u32 {
            let mut peer = [0; 32];
            peer[..4].copy_from_slice(&number.to_be_bytes());
            repute.record(PeerId(peer)).lied(at(0), at(0));
        }
        assert_eq!(repute.records.len(), KNOWN_MAX);
    }
}
