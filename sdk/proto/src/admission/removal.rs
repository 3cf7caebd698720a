//! Who may remove a member, and the record that says that it was done.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::LockId;
use super::locks::short;
use crate::id::{MeshId, PeerId};
use crate::wire::Signed;

/// Who may remove members: the game's rule, the same for all members. What is done against it, nobody follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RemovalRule {
    /// Nobody.
    #[default]
    Nobody,
    /// Each of these: whoever owns the room, say.
    By(BTreeSet<PeerId>),
    /// More than half of all members, by [`Node::vote`](crate::Node::vote).
    Majority,
}

/// A member wants another one removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vote {
    pub(crate) against: PeerId,
    /// Votes end with the lock.
    pub(crate) lock: LockId,
}

/// The mesh has another lock, and who is removed by that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Removal {
    /// The lock before.
    pub(crate) after: LockId,
    pub(crate) removed: Vec<PeerId>,
    /// Where the rule asks for them.
    pub(crate) votes: Vec<Signed>,
    /// The new lock for each who may know it: the beginning of its key, and a letter.
    pub(crate) letters: Vec<(u64, Bytes)>,
}

impl Vote {
    pub(crate) fn open(signed: &Signed, mesh: &MeshId) -> Option<Self> {
        signed.open(mesh, "vote")
    }
}

impl Removal {
    /// The most members that one record may remove.
    pub(crate) const REMOVED_MAX: usize = 64;
    /// What letters of it are written for.
    pub(crate) const CONTEXT: &[u8] = b"peerflock 1 lock";

    /// The record, if its author signed it and the rule lets it.
    pub(crate) fn open(signed: &Signed, mesh: &MeshId, rule: &RemovalRule, present: usize) -> Option<Self> {
        let removal: Self = signed.open(mesh, "removal")?;
        let fits = removal.removed.len() <= Self::REMOVED_MAX && !removal.removed.contains(&signed.author);
        (fits && removal.is_allowed(&signed.author, mesh, rule, present)).then_some(removal)
    }

    pub(crate) fn letter_for(&self, peer: &PeerId) -> Option<&Bytes> {
        self.letters.iter().find(|(reader, _)| *reader == short(peer)).map(|(_, letter)| letter)
    }

    /// The lock that it makes.
    pub(crate) fn lock(signed: &Signed, after: LockId) -> LockId {
        LockId { epoch: after.epoch.saturating_add(1), record: signed.hash() }
    }

    /// `present`: how many members we know, so that nobody makes a majority small by leaving members out.
    fn is_allowed(&self, author: &PeerId, mesh: &MeshId, rule: &RemovalRule, present: usize) -> bool {
        match rule {
            RemovalRule::Nobody => false,
            RemovalRule::By(peers) => peers.contains(author),
            RemovalRule::Majority => {
                let all = present.max(self.letters.len() + self.removed.len());
                // Each is looked at once, however many are removed: that is what takes the time.
                let open = |vote: &Signed| {
                    Vote::open(vote, mesh).filter(|open| open.lock == self.after).map(|open| (open.against, vote.author))
                };
                let votes: BTreeSet<(PeerId, PeerId)> = self.votes.iter().take(all).filter_map(open).collect();
                let against = |removed: &PeerId| votes.iter().filter(|(against, _)| against == removed).count();
                // Nobody decided on another lock for its own sake.
                !self.removed.is_empty() && self.removed.iter().all(|removed| against(removed) * 2 > all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    fn mesh() -> MeshId {
        MeshId::from_name("test")
    }

    fn identity(number: u8) -> Identity {
        Identity::from_seed([number; 32])
    }

    fn record(author: u8, votes: &[(u8, u8, LockId)]) -> Signed {
        let votes = votes
            .iter()
            .map(|(voter, against, lock)| {
                let vote = Vote { against: identity(*against).peer_id(), lock: *lock };
                Signed::new(&identity(*voter), &mesh(), "vote", &vote).unwrap()
            })
            .collect();
        signed(author, Removal { after: LockId::default(), removed: vec![identity(9).peer_id()], votes, letters: vec![] })
    }

    fn signed(author: u8, removal: Removal) -> Signed {
        Signed::new(&identity(author), &mesh(), "removal", &removal).unwrap()
    }

    fn allows(rule: &RemovalRule, signed: &Signed, present: usize) -> bool {
        Removal::open(signed, &mesh(), rule, present).is_some()
    }

    #[test]
    fn the_rule_decides() {
        let owner = RemovalRule::By([identity(1).peer_id()].into());
        assert!(allows(&owner, &record(1, &[]), 5) && !allows(&owner, &record(2, &[]), 5));
        assert!(!allows(&RemovalRule::Nobody, &record(1, &[]), 5));
        let now = LockId::default();
        let (three, four) = ([1, 2, 3].map(|voter| (voter, 9, now)), [1, 2, 3, 4].map(|voter| (voter, 9, now)));
        let majority = |votes: &[_], present| allows(&RemovalRule::Majority, &record(1, votes), present);
        assert!(majority(&three, 5) && !majority(&three, 6) && majority(&four, 7));
        assert!(!majority(&[(1, 9, now); 5], 5), "one voice each");
        assert!(!majority(&[(1, 8, now), (2, 8, now), (3, 8, now)], 5), "against another");
        let old = LockId { epoch: 7, record: 0 };
        assert!(!majority(&[(1, 9, old), (2, 9, old), (3, 9, old)], 5), "of another time");
        let nobody = signed(1, Removal { after: now, removed: vec![], votes: vec![], letters: vec![] });
        assert!(!allows(&RemovalRule::Majority, &nobody, 5), "nobody voted for another lock");
    }

    #[test]
    fn nobody_signs_for_another() {
        let rule = RemovalRule::By([identity(1).peer_id()].into());
        let mut signed = record(2, &[]);
        signed.author = identity(1).peer_id();
        assert!(!allows(&rule, &signed, 5));
        assert!(Removal::open(&record(1, &[]), &MeshId::from_name("other"), &rule, 5).is_none());
    }
}
