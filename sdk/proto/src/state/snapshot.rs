//! One origin's world at one tick, and the records that it is made of.

use std::sync::Arc;

use smallvec::SmallVec;

use super::coder::Models;
use super::{KindId, Orphan, Value};
use crate::id::{EntityId, Tick};
use crate::time::MeshTime;

/// An entity as its owner has it. Shared between the snapshots in which it did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) entity: EntityId,
    /// Counts the entity's changes of owner.
    pub(crate) number: u32,
    pub(crate) orphan: Orphan,
    /// Sorted by kind.
    components: SmallVec<[(KindId, Value); 2]>,
}

impl Record {
    pub(crate) fn new(entity: EntityId, number: u32, orphan: Orphan) -> Self {
        Self { entity, number, orphan, components: SmallVec::new() }
    }

    pub(crate) fn components(&self) -> &[(KindId, Value)] {
        &self.components
    }

    pub(crate) fn get(&self, kind: KindId) -> Option<&Value> {
        self.slot(kind).ok().map(|index| &self.components[index].1)
    }

    /// Adds a component numbered higher than all before.
    pub(super) fn push(&mut self, kind: KindId, value: Value) {
        debug_assert!(self.components.last().is_none_or(|(last, _)| *last < kind), "components are sorted");
        self.components.push((kind, value));
    }

    /// Whether everything is the same of two records of one entity.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.number == other.number && self.orphan == other.orphan && self.components == other.components
    }

    pub(crate) fn set(&mut self, kind: KindId, value: Value) {
        match self.slot(kind) {
            Ok(index) => self.components[index].1 = value,
            Err(index) => self.components.insert(index, (kind, value)),
        }
    }

    pub(crate) fn unset(&mut self, kind: KindId) {
        if let Ok(index) = self.slot(kind) {
            self.components.remove(index);
        }
    }

    fn slot(&self, kind: KindId) -> Result<usize, usize> {
        self.components.binary_search_by_key(&kind, |(kind, _)| *kind)
    }
}

/// Everything that one origin owns, at the end of one of its ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) tick: Tick,
    pub(crate) at: MeshTime,
    /// Sorted by entity.
    pub(crate) records: Arc<Vec<Arc<Record>>>,
    /// What the coder had learned by then.
    pub(crate) models: Arc<Models>,
    /// It says only a part of what was: who is not in it may be there all the same.
    pub(crate) partial: bool,
    /// Who is gone without being in the tick that this one is a difference from, where it is partial.
    pub(crate) gone: Vec<EntityId>,
}

impl Snapshot {
    /// One that says all.
    pub(crate) fn whole(tick: Tick, at: MeshTime, records: Arc<Vec<Arc<Record>>>, models: Arc<Models>) -> Self {
        Self { tick, at, records, models, partial: false, gone: Vec::new() }
    }

    pub(crate) fn get(&self, entity: &EntityId) -> Option<&Arc<Record>> {
        self.records.binary_search_by_key(entity, |record| record.entity).ok().map(|index| &self.records[index])
    }
}
