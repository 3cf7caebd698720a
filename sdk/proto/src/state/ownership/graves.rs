//! What is gone for good: entities that their spawner removed, so that nobody who was away at the time brings them back.

use std::collections::{BTreeSet, VecDeque};

use crate::id::EntityId;

/// Most of them remembered; beyond them the oldest are forgotten first.
const GRAVES_MAX: usize = 65_536;

/// Entities that are gone, in the order in which they went.
#[derive(Debug, Default)]
pub(super) struct Graves {
    known: BTreeSet<EntityId>,
    /// With those that were taken out again, until there are too many of them.
    order: VecDeque<EntityId>,
}

impl Graves {
    pub(super) fn add(&mut self, entity: EntityId) {
        if !self.known.insert(entity) {
            return;
        }
        self.order.push_back(entity);
        while self.order.len() > GRAVES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, entity: &EntityId) {
        self.known.remove(entity);
    }

    pub(super) fn has(&self, entity: &EntityId) -> bool {
        self.known.contains(entity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Boot, PeerId};

    #[test]
    fn graves_take_no_more_than_their_room_and_the_oldest_go_first() {
        let id = |counter| EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter };
        let mut graves = Graves::default();
        // The newest have the lowest numbers here.
        let all = GRAVES_MAX as u32 + 10;
        (0..all).rev().for_each(|counter| graves.add(id(counter)));
        graves.add(id(0));
        assert_eq!((graves.known.len(), graves.order.len()), (GRAVES_MAX, GRAVES_MAX));
        assert!(graves.has(&id(0)) && !graves.has(&id(all - 1)));
        graves.remove(&id(0));
        assert!(!graves.has(&id(0)));
    }
}
