//! A task as one member sees it: who is at it, who should be, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{PeerId, Time};

use super::message::{Outcome, Posted};
use super::rank::distance;
use super::{COPIES_MAX, Done, FAILURES_MAX, FunctionId, SPECULATE_PART, STAGGER, TaskId, WorkError};

/// What everybody knows of a task.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) function: FunctionId,
    pub(super) input: Bytes,
    pub(super) copies: u8,
    pub(super) lease: Duration,
    pub(super) deadline: Time,
    speculate_at: Time,
    /// Who has taken it.
    claims: BTreeMap<PeerId, Claim>,
    /// Since when so many places as now are free.
    free: (usize, Time),
    /// Those who can run it, the best lot first, as of that epoch.
    order: (u64, Vec<PeerId>),
}

#[derive(Debug)]
struct Claim {
    /// The last word of it.
    heard: Time,
    finished: bool,
}

impl Open {
    pub(super) fn new(posted: Posted, now: Time) -> Self {
        let left = Duration::from_millis(posted.left_ms.into());
        Self {
            function: posted.function,
            input: posted.input,
            copies: posted.copies.min(COPIES_MAX),
            lease: Duration::from_millis(posted.lease_ms.into()),
            deadline: now + left,
            speculate_at: now + left.mul_f64(SPECULATE_PART),
            claims: BTreeMap::new(),
            free: (0, now),
            order: (0, Vec::new()),
        }
    }

    /// The same task as told to others.
    pub(super) fn posted(&self, number: u32, now: Time) -> Posted {
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        Posted {
            number,
            function: self.function,
            input: self.input.clone(),
            copies: self.copies,
            lease_ms: millis(self.lease),
            left_ms: millis(self.deadline.since(now)),
        }
    }

    /// Somebody is at it.
    pub(super) fn claim(&mut self, peer: PeerId, now: Time) {
        self.claims.entry(peer).or_insert(Claim { heard: now, finished: false }).heard = now;
    }

    pub(super) fn finished(&mut self, peer: PeerId, now: Time) {
        self.claims.insert(peer, Claim { heard: now, finished: true });
    }

    /// Somebody has given it up: it cannot, so it will not be asked again before all others were.
    pub(super) fn gave_up(&mut self, peer: PeerId) {
        if let Some(claim) = self.claims.get_mut(&peer) {
            claim.heard = Time::default();
        }
    }

    /// Somebody is gone: what it was at is free at once.
    pub(super) fn gone(&mut self, peer: &PeerId) {
        if self.claims.get(peer).is_some_and(|claim| !claim.finished) {
            self.claims.remove(peer);
        }
    }

    fn holds(&self, claim: &Claim, now: Time) -> bool {
        claim.finished || (claim.heard > Time::default() && now < claim.heard + self.lease)
    }

    /// How many members are to be at it, or have been.
    fn wanted(&self, now: Time) -> usize {
        let unfinished = self.claims.values().filter(|claim| claim.finished).count() < usize::from(self.copies);
        usize::from(self.copies) + usize::from(unfinished && now >= self.speculate_at)
    }

    /// Our place among those who may take it, from 0, if a place is free; and from when on we may. `able` are those who can run it;
    /// they change with `epoch` only.
    pub(super) fn turn(
        &mut self,
        id: &TaskId,
        me: &PeerId,
        epoch: u64,
        able: impl Iterator<Item = (PeerId, u16)>,
        now: Time,
    ) -> Option<(usize, Time)> {
        let held = self.claims.values().filter(|claim| self.holds(claim, now)).count();
        let free = self.wanted(now).saturating_sub(held);
        if free != self.free.0 {
            self.free = (free, now);
        }
        if free == 0 {
            return None;
        }
        if self.order.0 != epoch {
            let mut order: Vec<_> = able.map(|(peer, capacity)| distance(id, &peer, capacity)).collect();
            order.sort_unstable();
            self.order = (epoch, order.into_iter().map(|(_, peer)| peer).collect());
        }
        let order = &self.order.1;
        if order.iter().all(|peer| self.claims.contains_key(peer)) {
            // All have tried: those who could not, or fell silent, may try again.
            let lapsed: Vec<PeerId> =
                self.claims.iter().filter(|(_, claim)| !self.holds(claim, now)).map(|(peer, _)| *peer).collect();
            lapsed.iter().for_each(|peer| _ = self.claims.remove(peer));
        }
        if self.claims.contains_key(me) {
            return None;
        }
        let place = order.iter().position(|peer| peer == me)?;
        let before = order[..place].iter().filter(|peer| !self.claims.contains_key(peer)).count();
        let wait = STAGGER * u32::try_from((before + 1).saturating_sub(free)).unwrap_or(u32::MAX);
        Some((before, self.free.1 + wait))
    }

    /// Whether more are at it than need be, and we are the one who should stop.
    pub(super) fn is_superfluous(&self, id: &TaskId, me: &PeerId, capacity: impl Fn(&PeerId) -> u16, now: Time) -> bool {
        let held: Vec<&PeerId> = self.claims.iter().filter(|(_, claim)| self.holds(claim, now)).map(|(peer, _)| peer).collect();
        let running = |peer: &&PeerId| self.claims.get(peer).is_some_and(|claim| !claim.finished);
        let far = |peer: &PeerId| distance(id, peer, capacity(peer));
        held.len() > self.wanted(now) && held.into_iter().filter(running).max_by_key(|peer| far(peer)) == Some(me)
    }
}

/// What its submitter knows of a task beside.
#[derive(Debug, Default)]
pub(super) struct Votes {
    results: BTreeMap<PeerId, [u8; 32]>,
    failures: usize,
    accepted: Option<[u8; 32]>,
}

/// What a result leads to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Wait,
    /// It is done.
    Done(Done),
    /// It has failed.
    Ended(WorkError),
    /// One member more is to run it.
    Doubt,
    /// It was done already, and this is another output.
    Odd,
    /// It was done already by as many as should.
    Twice,
}

impl Votes {
    /// A member's result; what it said before counts.
    pub(super) fn count(&mut self, id: TaskId, peer: PeerId, outcome: &Outcome, copies: u8) -> Verdict {
        let output = match outcome {
            Outcome::Output(output) => output,
            Outcome::Failed(reason) => {
                self.failures += 1;
                let over = self.failures >= FAILURES_MAX && self.accepted.is_none();
                return if over { Verdict::Ended(WorkError::Failed(reason.clone())) } else { Verdict::Wait };
            }
        };
        let hash = *blake3::hash(output).as_bytes();
        if self.results.contains_key(&peer) {
            return Verdict::Wait;
        }
        self.results.insert(peer, hash);
        let copies = usize::from(copies);
        match self.accepted {
            Some(accepted) if accepted != hash => return Verdict::Odd,
            Some(_) if self.results.len() > copies => return Verdict::Twice,
            Some(_) => return Verdict::Wait,
            None => {}
        }
        let (by, odd): (Vec<_>, Vec<_>) = self.results.iter().partition(|(_, other)| **other == hash);
        let names = |of: Vec<(&PeerId, &[u8; 32])>| of.into_iter().map(|(peer, _)| *peer).collect();
        if by.len() * 2 > copies {
            let done = Done { task: id, output: output.clone(), by: names(by), odd: names(odd) };
            self.accepted = Some(hash);
            return Verdict::Done(done);
        }
        match self.results.len() >= copies {
            false => Verdict::Wait,
            true if copies < usize::from(COPIES_MAX) => Verdict::Doubt,
            true => Verdict::Ended(WorkError::Disagreement),
        }
    }

    /// Whether all who should have run it were heard.
    pub(super) fn is_complete(&self, copies: u8) -> bool {
        self.accepted.is_some() && self.results.len() >= usize::from(copies)
    }

    pub(super) fn is_done(&self) -> bool {
        self.accepted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::Boot;

    use super::*;

    const ID: TaskId = TaskId { submitter: PeerId([0; 32]), boot: Boot(1), number: 1 };

    fn output(text: &'static str) -> Outcome {
        Outcome::Output(Bytes::from_static(text.as_bytes()))
    }

    fn peer(n: u8) -> PeerId {
        PeerId([n; 32])
    }

    #[test]
    fn more_than_half_must_agree_and_the_odd_one_is_named() {
        let mut votes = Votes::default();
        assert_eq!(votes.count(ID, peer(1), &output("lie"), 3), Verdict::Wait);
        assert_eq!(votes.count(ID, peer(1), &output("true"), 3), Verdict::Wait, "each is heard once");
        assert_eq!(votes.count(ID, peer(2), &output("true"), 3), Verdict::Wait);
        let Verdict::Done(done) = votes.count(ID, peer(3), &output("true"), 3) else { panic!("two of three agree") };
        assert_eq!((done.by, done.odd), (vec![peer(2), peer(3)], vec![peer(1)]));
        assert!(votes.is_complete(3));
        assert_eq!(votes.count(ID, peer(4), &output("true"), 3), Verdict::Twice);
        assert_eq!(votes.count(ID, peer(5), &output("lie"), 3), Verdict::Odd);
    }

    #[test]
    fn doubt_asks_for_more_and_ends() {
        let mut votes = Votes::default();
        assert_eq!(votes.count(ID, peer(1), &output("a"), 2), Verdict::Wait);
        assert_eq!(votes.count(ID, peer(2), &output("b"), 2), Verdict::Doubt);
        let each = (3..=COPIES_MAX).map(|n| {
            let text = Outcome::Output(vec![n].into());
            votes.count(ID, peer(n), &text, n)
        });
        let all: Vec<Verdict> = each.collect();
        assert_eq!(all.last(), Some(&Verdict::Ended(WorkError::Disagreement)));
        assert!(all[..all.len() - 1].iter().all(|verdict| *verdict == Verdict::Doubt));
    }

    #[test]
    fn failures_are_counted() {
        let mut votes = Votes::default();
        let failed = Outcome::Failed("no".into());
        assert_eq!(votes.count(ID, peer(1), &failed, 1), Verdict::Wait);
        assert_eq!(votes.count(ID, peer(1), &failed, 1), Verdict::Wait);
        assert_eq!(votes.count(ID, peer(2), &failed, 1), Verdict::Ended(WorkError::Failed("no".into())));
    }
}
