//! Which changes to tell first, where not all of them may be told at once.
//!
//! A tick that tells only some of what changed is the baseline with those put in: what it does not tell is in it as all have it, though
//! ticks on their way may say newer. So it never says more than there is room for, however old the baseline is. What is told is told
//! again in its turn until the baseline has it.
//!
//! Each entity that is not in the baseline as it is gains credit from when it was last told, the faster the more it weighs, and the
//! richest go first. So what weighs ten times as much is told ten times as often, and nothing waits for ever. What is new or
//! changed hands comes before what merely moved. Who is gone is named for as long as a baseline may be without knowing of that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Value;
use super::acks::HISTORY_TICKS;
use super::snapshot::Record;
use crate::id::{EntityId, Tick};
use crate::time::Time;

/// The weight of an entity of which nobody said otherwise.
const WEIGHT: u16 = 100;
/// Entities that appear or change hands weigh so many times as much.
const NEWS: u64 = 16;
/// Bytes that a change takes before that is measured, times 256.
const COST_START: u64 = 24 << 8;
/// How much the last tick weighs in what a change takes: one part in so many.
const COST_SMOOTHING: u64 = 8;
/// Who waits longer gains no more, in microseconds: credit stays far from overflowing.
const WAIT_MAX: u128 = 60_000_000;

/// Who waits, and how much each weighs.
#[derive(Debug)]
pub(crate) struct Backlog {
    /// Of those that do not weigh what all do.
    weights: BTreeMap<EntityId, u16>,
    /// When those that are not in the baseline as they are were last told, or, at first, seen to have changed.
    told: BTreeMap<EntityId, Time>,
    /// What each of the last ticks told, and when that was told before.
    last: VecDeque<(Tick, Vec<(EntityId, Time)>)>,
    /// Who was told of while a baseline was without it, and since which tick it is gone, if it is.
    announced: BTreeMap<EntityId, Option<Tick>>,
    /// Bytes that a change takes of late, times 256.
    cost: u64,
    /// Changes in the tick that was chosen last.
    chosen: u64,
}

impl Default for Backlog {
    fn default() -> Self {
        Self {
            weights: BTreeMap::new(),
            told: BTreeMap::new(),
            last: VecDeque::new(),
            announced: BTreeMap::new(),
            cost: COST_START,
            chosen: 0,
        }
    }
}

/// What one tick tells.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The baseline with what is told put in.
    pub(crate) records: Vec<Arc<Record>>,
    /// Whether all that is there is in them as it is.
    pub(crate) whole: bool,
    /// Who was told of, and is neither there any more nor in the baseline.
    pub(crate) gone: Vec<EntityId>,
}

/// An entity that is not in the baseline as it is.
struct Candidate<'a> {
    credit: u64,
    is_new: bool,
    record: &'a Arc<Record>,
    /// Bytes that telling it takes, about, times 256.
    cost: u64,
}

impl Backlog {
    /// How much an entity weighs from now on; 0 is as 1.
    pub(crate) fn weigh(&mut self, entity: EntityId, weight: u16) {
        if weight == WEIGHT {
            self.weights.remove(&entity)
        } else {
            self.weights.insert(entity, weight)
        };
    }

    /// An entity is no more, from the tick after `tick` on.
    pub(crate) fn gone(&mut self, entity: &EntityId, tick: Tick) {
        self.weights.remove(entity);
        self.told.remove(entity);
        if let Some(since) = self.announced.get_mut(entity) {
            *since = Some(tick);
        }
    }

    /// All is told.
    pub(crate) fn clear(&mut self, tick: Tick) {
        self.told.clear();
        self.last.clear();
        self.chosen = 0;
        self.forget_gone(tick);
    }

    /// What to tell in a tick of about `bytes` that is a difference from `baseline`; both are sorted.
    pub(crate) fn choose(
        &mut self,
        live: &BTreeMap<EntityId, Arc<Record>>,
        baseline: &[Arc<Record>],
        (tick, bytes): (Tick, usize),
        now: Time,
    ) -> Choice {
        let mut candidates = self.candidates(live, baseline, now);
        candidates.sort_unstable_by_key(|candidate| (std::cmp::Reverse(candidate.credit), candidate.record.entity));
        let room = (bytes as u64) << 8;
        let mut spent = 0;
        let told = candidates.iter().take_while(|candidate| {
            let fits = spent == 0 || spent + candidate.cost <= room;
            spent += candidate.cost;
            fits
        });
        let told: BTreeMap<EntityId, bool> = told.map(|candidate| (candidate.record.entity, candidate.is_new)).collect();
        self.chosen = told.len() as u64;
        let whole = told.len() == candidates.len();
        let mut before = Vec::with_capacity(told.len());
        for (entity, is_new) in &told {
            // Whoever only began to wait now comes before.
            before.extend(self.told.insert(*entity, now + Duration::from_micros(1)).map(|before| (*entity, before)));
            if *is_new {
                self.announced.insert(*entity, None);
            }
        }
        self.last.push_back((tick, before));
        if self.last.len() > HISTORY_TICKS as usize {
            self.last.pop_front();
        }
        // What is not in the baseline and not told is not there yet; what is in it and not told is as it was.
        let mut records = Vec::with_capacity(live.len());
        let mut olds = baseline.iter().peekable();
        for (entity, record) in live {
            while olds.next_if(|old| old.entity < *entity).is_some() {}
            match olds.next_if(|old| old.entity == *entity) {
                _ if told.contains_key(entity) => records.push(record.clone()),
                Some(old) => records.push(old.clone()),
                None => {}
            }
        }
        self.forget_gone(tick);
        let is_known = |entity: &EntityId| baseline.binary_search_by_key(entity, |record| record.entity).is_ok();
        let gone = self.announced.iter().filter(|(entity, since)| since.is_some() && !is_known(entity));
        Choice { records, whole, gone: gone.map(|(entity, _)| *entity).collect() }
    }

    /// Ticks were lost: what only they told waits as if they had not.
    pub(crate) fn lost(&mut self, is_lost: impl Fn(Tick) -> bool) {
        let Self { last, told, .. } = self;
        last.retain(|(tick, entities)| {
            let lost = is_lost(*tick);
            for (entity, before) in entities.iter().filter(|_| lost) {
                if let Some(since) = told.get_mut(entity) {
                    *since = (*since).min(*before);
                }
            }
            !lost
        });
    }

    /// Every baseline to come knows that they are gone.
    fn forget_gone(&mut self, tick: Tick) {
        self.announced.retain(|_, since| since.is_none_or(|since| tick.0.saturating_sub(since.0) <= HISTORY_TICKS));
    }

    /// How many bytes the tick that was chosen last took.
    pub(crate) fn took(&mut self, bytes: usize) {
        if let Some(each) = ((bytes as u64) << 8).checked_div(self.chosen) {
            self.cost = (self.cost * (COST_SMOOTHING - 1) + each) / COST_SMOOTHING;
        }
    }

    fn candidates<'a>(
        &mut self,
        live: &'a BTreeMap<EntityId, Arc<Record>>,
        baseline: &[Arc<Record>],
        now: Time,
    ) -> Vec<Candidate<'a>> {
        let mut candidates = Vec::new();
        let mut olds = baseline.iter().peekable();
        for (entity, record) in live {
            while olds.next_if(|old| old.entity < *entity).is_some() {}
            let old = olds.next_if(|old| old.entity == *entity);
            if old.is_some_and(|old| Arc::ptr_eq(old, record) || old.is_like(record)) {
                self.told.remove(entity);
                continue;
            }
            let since = *self.told.entry(*entity).or_insert(now);
            let wait = now.since(since).as_micros().min(WAIT_MAX) as u64 + 1;
            let weight = u64::from(self.weights.get(entity).copied().unwrap_or(WEIGHT)).max(1);
            let is_news = old.is_none_or(|old| old.number != record.number);
            let credit = wait * weight * if is_news { NEWS } else { 1 };
            candidates.push(Candidate {
                credit,
                is_new: old.is_none(),
                record,
                cost: self.cost.max(bytes_as_they_are(record, old) << 8),
            });
        }
        candidates
    }
}

/// Bytes that only serde understands: they go as they are.
fn bytes_as_they_are(record: &Record, old: Option<&Arc<Record>>) -> u64 {
    let components = record.components().iter();
    let changed = components.filter(|(kind, value)| old.is_none_or(|old| old.get(*kind) != Some(value)));
    changed.map(|(_, value)| if let Value::Bytes { bytes, .. } = value { bytes.len() as u64 } else { 0 }).sum()
}

#[cfg(test)]
mod tests {
    use super::super::{KindId, Orphan};
    use super::*;
    use crate::id::{Boot, PeerId};

    const ROOM: usize = 240;

    fn record(counter: u32, place: i32) -> Arc<Record> {
        let entity = EntityId { spawner: PeerId([1; 32]), boot: Boot(7), counter };
        let mut record = Record::new(entity, 0, Orphan::Vanish);
        record.set(KindId(0), Value::fields([place]));
        Arc::new(record)
    }

    fn live(records: &[Arc<Record>]) -> BTreeMap<EntityId, Arc<Record>> {
        records.iter().map(|record| (record.entity, record.clone())).collect()
    }

    /// How often each of 100 is told in so many ticks in which all move, and the baseline is two ticks old.
    fn told(backlog: &mut Backlog, ticks: i32) -> Vec<u32> {
        let mut ends: Vec<Vec<Arc<Record>>> = vec![(0..100).map(|n| record(n, 0)).collect()];
        let mut told = vec![0; 100];
        for tick in 1..=ticks {
            let all: Vec<_> = (0..100).map(|n| record(n, tick)).collect();
            let baseline = &ends[ends.len().saturating_sub(2)];
            let choice = backlog.choose(&live(&all), baseline, (Tick(tick as u32), ROOM), Time(tick as u64 * 16_000));
            assert!(!choice.whole);
            for (index, record) in choice.records.iter().enumerate() {
                told[index] += u32::from(record.get(KindId(0)) == Some(&Value::fields([tick])));
            }
            backlog.took(ROOM);
            ends.push(choice.records);
        }
        told
    }

    #[test]
    fn all_have_their_turn_and_what_weighs_more_has_it_more_often() {
        let mut backlog = Backlog::default();
        let even = told(&mut backlog, 200);
        assert_eq!(even.iter().sum::<u32>(), 200 * 10, "24 bytes each, at first and ever after");
        assert!(even.iter().all(|count| (19..=21).contains(count)), "{even:?}");
        for counter in 0..5 {
            backlog.weigh(record(counter, 0).entity, 1_000);
        }
        let uneven = told(&mut backlog, 1_000);
        let (near, far) = (uneven[..5].iter().sum::<u32>() / 5, uneven[5..].iter().sum::<u32>() / 95);
        assert!((8..=12).contains(&(near / far)), "{near} beside {far}");
        assert!(uneven[5..].iter().all(|count| *count > 0));
    }

    #[test]
    fn who_was_told_of_and_is_gone_before_a_baseline_knew_is_named() {
        let mut backlog = Backlog::default();
        let all: Vec<_> = (0..100).map(|n| record(n, 0)).collect();
        let first = backlog.choose(&live(&all), &[], (Tick(1), ROOM), Time(0));
        assert_eq!((first.records.len(), first.whole, first.gone.len()), (10, false, 0));
        let second = backlog.choose(&live(&all), &[], (Tick(2), ROOM), Time(16_000));
        assert!(second.records.iter().all(|record| !first.records.contains(record)), "each has its turn, acknowledged or not");
        // One that was told, and one that was not.
        for index in [99, 5] {
            backlog.gone(&all[index].entity, Tick(2));
        }
        let fewer = live(&[&all[..5], &all[6..99]].concat());
        let third = backlog.choose(&fewer, &[], (Tick(3), ROOM), Time(32_000));
        assert_eq!(third.gone, [all[5].entity]);
        let fourth = backlog.choose(&fewer, &first.records, (Tick(4), ROOM), Time(48_000));
        assert!(fourth.gone.is_empty(), "the difference says it");
        let fifth = backlog.choose(&fewer, &second.records, (Tick(5), ROOM), Time(64_000));
        assert_eq!(fifth.gone, [all[5].entity]);
        let last = backlog.choose(&fewer, &second.records, (Tick(3 + HISTORY_TICKS), ROOM), Time(80_000));
        assert!(last.gone.is_empty(), "nobody builds on what is so old");
    }

    #[test]
    fn what_only_a_lost_tick_told_is_told_again_before_its_turn() {
        let mut backlog = Backlog::default();
        let (old, all): (Vec<_>, Vec<_>) = (0..100).map(|n| (record(n, 0), record(n, 1))).unzip();
        let mut choose = |tick: u32, lost: &[u32]| {
            backlog.lost(|tick| lost.contains(&tick.0));
            let choice = backlog.choose(&live(&all), &old, (Tick(tick), ROOM), Time(u64::from(tick) * 16_000));
            let told = choice.records.iter().filter(|record| record.get(KindId(0)) == Some(&Value::fields([1])));
            told.map(|record| record.entity.counter).collect::<Vec<_>>()
        };
        let first = choose(1, &[]);
        let second = choose(2, &[]);
        assert!(second.iter().all(|told| !first.contains(told)));
        assert_eq!(choose(3, &[1]), first);
        assert!(choose(4, &[]).iter().all(|told| !first.contains(told) && !second.contains(told)));
    }

    #[test]
    fn when_all_is_told_and_acknowledged_nothing_is_left() {
        let mut backlog = Backlog::default();
        let all: Vec<_> = (0..100).map(|n| record(n, 1)).collect();
        let mut baseline: Vec<_> = (0..101).map(|n| record(n, 0)).collect();
        for tick in 0..20 {
            let choice = backlog.choose(&live(&all), &baseline, (Tick(tick), ROOM), Time(u64::from(tick) * 16_000));
            assert_eq!(choice.whole, tick >= 9, "tick {tick}");
            baseline = choice.records;
        }
        assert_eq!((baseline, backlog.told.len()), (all, 0));
    }
}
