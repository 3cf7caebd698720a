//! Whose is it: every entity's owner, known to all, changed only by numbered steps.
//!
//! An entity starts with its spawner, at number 0. Each transfer, proved by the owner, and each adoption of a leaver's entity
//! counts one up, and the higher number wins. Two adoptions may meet at one number where members saw different rosters for a
//! moment: then the peer that scores higher for the entity wins (rendezvous hashing; Thaler and Ravishankar, 1998), which all compute alike.

use std::collections::BTreeMap;

use crate::id::{EntityId, PeerId};

/// Most entities remembered that are not with their spawner, or gone for good; beyond them the lowest-numbered go first.
const TITLES_MAX: usize = 65_536;

/// Who owns what. An entity without a title is its spawner's, at number 0.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    titles: BTreeMap<EntityId, Title>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Title {
    pub(crate) number: u32,
    /// None: the entity is gone for good.
    pub(crate) owner: Option<PeerId>,
    /// The owner at the number before.
    pub(crate) previous: Option<PeerId>,
}

impl Ownership {
    pub(crate) fn title(&self, entity: &EntityId) -> Title {
        let spawned = Title { number: 0, owner: Some(entity.spawner), previous: None };
        self.titles.get(entity).copied().unwrap_or(spawned)
    }

    pub(crate) fn owner(&self, entity: &EntityId) -> Option<PeerId> {
        self.title(entity).owner
    }

    /// All titles that differ from "its spawner's", for a newcomer.
    pub(crate) fn titles(&self) -> impl Iterator<Item = (&EntityId, &Title)> {
        self.titles.iter()
    }

    /// Whether a step to `number` and `owner`, away from `previous`, takes precedence over what is known.
    pub(crate) fn yields_to(&self, entity: &EntityId, number: u32, owner: &PeerId, previous: &PeerId) -> bool {
        let title = self.title(entity);
        let Some(current) = title.owner else { return false };
        if number == title.number && title.previous == Some(*previous) {
            return score(entity, owner) > score(entity, &current);
        }
        // Back to its owner is always safe: a peer taken for dead gets its entities back, whatever was missed meanwhile.
        (number == title.number + 1 && current == *previous) || (number > title.number && current == *owner)
    }

    pub(crate) fn set(&mut self, entity: EntityId, number: u32, owner: Option<PeerId>) {
        let previous = self.owner(&entity);
        self.titles.insert(entity, Title { number, owner, previous });
        if self.titles.len() > TITLES_MAX {
            self.titles.pop_first();
        }
    }

    /// The entity is gone for good. Nothing need be remembered of one that never left its spawner: only that could bring it back.
    pub(crate) fn bury(&mut self, entity: EntityId) {
        let number = self.title(&entity).number;
        if number > 0 {
            self.set(entity, number, None);
        }
    }
}

/// How well `peer` suits `entity`: the one who scores highest adopts it.
pub(crate) fn score(entity: &EntityId, peer: &PeerId) -> (u64, PeerId) {
    let mut hash = blake3::Hasher::new_derive_key("peerflock 1 rendezvous");
    hash.update(&entity.spawner.0).update(&entity.boot.0.to_le_bytes()).update(&entity.counter.to_le_bytes()).update(&peer.0);
    let mut bytes = [0; 8];
    hash.finalize_xof().fill(&mut bytes);
    (u64::from_le_bytes(bytes), *peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Boot;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    const C: PeerId = PeerId([3; 32]);
    const ENTITY: EntityId = EntityId { spawner: A, boot: Boot(1), counter: 7 };

    #[test]
    fn only_the_owner_gives_away_and_one_step_at_a_time() {
        let mut ownership = Ownership::default();
        assert!(ownership.yields_to(&ENTITY, 1, &B, &A));
        assert!(!ownership.yields_to(&ENTITY, 1, &B, &C));
        assert!(!ownership.yields_to(&ENTITY, 2, &B, &A));
        ownership.set(ENTITY, 1, Some(B));
        assert_eq!(ownership.owner(&ENTITY), Some(B));
        assert!(!ownership.yields_to(&ENTITY, 1, &A, &B));
        assert!(ownership.yields_to(&ENTITY, 2, &A, &B));
        assert!(ownership.yields_to(&ENTITY, 4, &B, &C), "back to the owner itself");
    }

    #[test]
    fn two_at_one_number_end_with_one_owner() {
        let end = |first: PeerId, second: PeerId| {
            let mut ownership = Ownership::default();
            ownership.set(ENTITY, 1, Some(first));
            if ownership.yields_to(&ENTITY, 1, &second, &A) {
                ownership.set(ENTITY, 1, Some(second));
            }
            ownership.owner(&ENTITY)
        };
        assert_eq!(end(B, C), end(C, B));
    }

    #[test]
    fn what_is_gone_for_good_stays_gone() {
        let mut ownership = Ownership::default();
        ownership.set(ENTITY, 1, Some(B));
        ownership.bury(ENTITY);
        assert_eq!(ownership.owner(&ENTITY), None);
        assert!(!ownership.yields_to(&ENTITY, 2, &C, &B));
    }
}
