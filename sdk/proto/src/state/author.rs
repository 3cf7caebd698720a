//! The entities we own ourselves, tick by tick.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Registry;
use super::acks::HISTORY_TICKS;
use super::coder::Models;
use super::replica::SLACK_TICKS;
use super::snapshot::{Record, Snapshot};
use crate::id::{EntityId, Tick};
use crate::time::{MeshTime, Time};

/// An entity given away stays in our frames for so long, unchanged: time for the news of the transfer to arrive before the
/// entity seems to be gone.
const GHOST: Duration = Duration::from_secs(2);

/// Our own records and their recent past.
#[derive(Debug)]
pub(crate) struct Author {
    records: BTreeMap<EntityId, Arc<Record>>,
    /// Given away, and until when it is still shown.
    ghosts: BTreeMap<EntityId, Time>,
    history: VecDeque<Arc<Snapshot>>,
    tick: Tick,
    /// Whether any record changed since the last tick.
    touched: bool,
    /// No tick builds on an older one: those who hear us forget them.
    floor: Tick,
    untaught: Arc<Models>,
}

impl Author {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            records: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            history: VecDeque::new(),
            tick: Tick(0),
            touched: false,
            floor: Tick(0),
            untaught: Arc::new(Models::new(registry)),
        }
    }

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
        self.touched = true;
        self.records.get_mut(entity).map(Arc::make_mut)
    }

    /// Takes an entity as ours: spawned, received or adopted.
    pub(crate) fn take(&mut self, record: Record) {
        self.touched = true;
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

    /// Removes an entity for good. Whether it was ours; what was given away goes when its time is up.
    pub(crate) fn remove(&mut self, entity: &EntityId) -> bool {
        self.touched = true;
        !self.ghosts.contains_key(entity) && self.records.remove(entity).is_some()
    }

    /// The oldest tick that the next one may build on.
    pub(crate) fn floor(&self) -> Tick {
        self.floor
    }

    /// A tick builds on this one, and on none older.
    pub(crate) fn builds_on(&mut self, oldest: Tick) {
        self.floor = self.floor.max(Tick(oldest.0.saturating_sub(SLACK_TICKS)));
    }

    /// Ends the tick: its snapshot, with all that the coder has learned before it.
    pub(crate) fn end_tick(&mut self, at: MeshTime, now: Time) -> Snapshot {
        self.ghosts.retain(|entity, until| {
            let stays = *until > now;
            if !stays {
                self.records.remove(entity);
                self.touched = true;
            }
            stays
        });
        self.tick = Tick(self.tick.0 + 1);
        let untouched = self.newest().filter(|_| !self.touched).map(|newest| newest.records.clone());
        let records = untouched.unwrap_or_else(|| Arc::new(self.records.values().cloned().collect()));
        self.touched = false;
        let models = self.newest().map_or_else(|| self.untaught.clone(), |newest| newest.models.clone());
        Snapshot { tick: self.tick, at, records, models }
    }

    /// Keeps a tick, with what the coder learned by it, as a baseline to come.
    pub(crate) fn keep(&mut self, snapshot: Snapshot) {
        self.history.push_back(Arc::new(snapshot));
        while self.history.len() > HISTORY_TICKS as usize {
            self.history.pop_front();
        }
    }

    /// One record by itself, to be told whole.
    pub(crate) fn alone(&self, record: Arc<Record>) -> Snapshot {
        Snapshot { tick: Tick(0), at: MeshTime(0), records: Arc::new(vec![record]), models: self.untaught.clone() }
    }

    pub(crate) fn snapshot(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        self.history.iter().rev().find(|snapshot| snapshot.tick == tick)
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.back()
    }
}
