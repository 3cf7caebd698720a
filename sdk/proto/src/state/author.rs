//! The entities we own ourselves, tick by tick.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::acks::HISTORY_TICKS;
use super::snapshot::{Record, Snapshot};
use crate::id::{EntityId, Tick};
use crate::time::{MeshTime, Time};

/// An entity given away stays in our frames for so long, unchanged: time for the news of the transfer to arrive before the
/// entity seems to be gone.
const GHOST: Duration = Duration::from_secs(2);

/// Our own records and their recent past.
#[derive(Debug, Default)]
pub(crate) struct Author {
    records: BTreeMap<EntityId, Arc<Record>>,
    /// Given away, and until when it is still shown.
    ghosts: BTreeMap<EntityId, Time>,
    history: VecDeque<Arc<Snapshot>>,
    tick: Tick,
}

impl Author {
    pub(crate) fn tick(&self) -> Tick {
        self.tick
    }

    pub(crate) fn records(&self) -> &BTreeMap<EntityId, Arc<Record>> {
        &self.records
    }

    /// The record of an entity that is still ours to change.
    pub(crate) fn record_mut(&mut self, entity: &EntityId) -> Option<&mut Record> {
        if self.ghosts.contains_key(entity) {
            return None;
        }
        self.records.get_mut(entity).map(Arc::make_mut)
    }

    /// Takes an entity as ours: spawned, received or adopted.
    pub(crate) fn take(&mut self, record: Record) {
        self.ghosts.remove(&record.entity);
        self.records.insert(record.entity, Arc::new(record));
    }

    /// Gives an entity away; its last state as ours, which others may still see for a moment.
    pub(crate) fn give(&mut self, entity: &EntityId, now: Time) -> Option<Arc<Record>> {
        if self.ghosts.contains_key(entity) {
            return None;
        }
        let record = self.records.get(entity)?.clone();
        self.ghosts.insert(*entity, now + GHOST);
        Some(record)
    }

    /// Removes an entity for good. Whether it was ours.
    pub(crate) fn remove(&mut self, entity: &EntityId) -> bool {
        self.ghosts.remove(entity).is_none() && self.records.remove(entity).is_some()
    }

    /// Ends the tick: its snapshot, kept as a baseline to come.
    pub(crate) fn end_tick(&mut self, at: MeshTime, now: Time) -> Arc<Snapshot> {
        self.ghosts.retain(|entity, until| {
            let stays = *until > now;
            if !stays {
                self.records.remove(entity);
            }
            stays
        });
        self.tick = Tick(self.tick.0 + 1);
        let snapshot = Arc::new(Snapshot { tick: self.tick, at, records: self.records.values().cloned().collect() });
        self.history.push_back(snapshot.clone());
        while self.history.len() > HISTORY_TICKS as usize {
            self.history.pop_front();
        }
        snapshot
    }

    pub(crate) fn snapshot(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        self.history.iter().rev().find(|snapshot| snapshot.tick == tick)
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.back()
    }
}
