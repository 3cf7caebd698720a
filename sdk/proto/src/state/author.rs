//! The entities we own ourselves, tick by tick.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Registry;
use super::acks::HISTORY_TICKS;
use super::backlog::{Backlog, Choice};
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
    /// What to tell first where there is no room for all.
    backlog: Backlog,
    /// Whether the last tick told all.
    told_all: bool,
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
            backlog: Backlog::default(),
            told_all: true,
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
        if self.ghosts.contains_key(entity) {
            return false;
        }
        self.backlog.gone(entity, self.tick);
        self.records.remove(entity).is_some()
    }

    /// How much an entity weighs from now on, where not all may be told at once.
    pub(crate) fn weigh(&mut self, entity: EntityId, weight: u16) {
        if self.records.contains_key(&entity) {
            self.backlog.weigh(entity, weight);
        }
    }

    /// Whether the last tick said all.
    pub(crate) fn has_told_all(&self) -> bool {
        self.told_all
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
        self.next_tick(now);
        let untouched = self.newest().filter(|_| !self.touched).map(|newest| newest.records.clone());
        let records = untouched.unwrap_or_else(|| Arc::new(self.records.values().cloned().collect()));
        self.backlog.clear(self.tick);
        (self.touched, self.told_all) = (false, true);
        self.snapshot_of(records, at)
    }

    /// Ends the tick where there is not room for all that changed since `baseline`, but for about so many `bytes` of it.
    pub(crate) fn end_tick_within(&mut self, bytes: usize, baseline: Option<&Snapshot>, at: MeshTime, now: Time) -> Snapshot {
        self.next_tick(now);
        let old = baseline.map_or(&[][..], |baseline| &baseline.records);
        let tick = self.tick;
        let Choice { records, whole, gone } = self.backlog.choose(&self.records, old, (tick, bytes), now);
        // What is one with the baseline is soon seen to be.
        let same = |baseline: &&Snapshot| baseline.records.iter().zip(&records).all(|(one, other)| Arc::ptr_eq(one, other));
        let same = baseline.filter(|baseline| baseline.records.len() == records.len()).filter(same);
        let records = same.map_or_else(|| Arc::new(records), |baseline| baseline.records.clone());
        (self.touched, self.told_all) = (true, whole && gone.is_empty());
        let partial = !self.told_all;
        Snapshot { partial, gone, ..self.snapshot_of(records, at) }
    }

    /// Says which of the last ticks were lost.
    pub(crate) fn lost(&mut self, is_lost: impl Fn(Tick) -> bool) {
        self.backlog.lost(is_lost);
    }

    fn next_tick(&mut self, now: Time) {
        self.ghosts.retain(|entity, until| {
            let stays = *until > now;
            if !stays {
                self.records.remove(entity);
                self.backlog.gone(entity, self.tick);
                self.touched = true;
            }
            stays
        });
        self.tick = Tick(self.tick.0 + 1);
    }

    fn snapshot_of(&self, records: Arc<Vec<Arc<Record>>>, at: MeshTime) -> Snapshot {
        let models = self.newest().map_or_else(|| self.untaught.clone(), |newest| newest.models.clone());
        Snapshot::whole(self.tick, at, records, models)
    }

    /// How many bytes the last tick took.
    pub(crate) fn took(&mut self, bytes: usize) {
        self.backlog.took(bytes);
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
        Snapshot::whole(Tick(0), MeshTime(0), Arc::new(vec![record]), self.untaught.clone())
    }

    pub(crate) fn snapshot(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        self.history.iter().rev().find(|snapshot| snapshot.tick == tick)
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.back()
    }
}
