//! What an origin is taken to say of each entity: its newest claim, whichever tick that came in.

use std::sync::Arc;

use crate::id::{EntityId, Tick};
use crate::state::snapshot::{Record, Snapshot};
use crate::time::MeshTime;

/// A claim that changed: from what, to what, as of when. None: the entity is not there.
#[derive(Debug)]
pub(crate) struct ClaimChange {
    pub(crate) entity: EntityId,
    pub(crate) new: Option<Arc<Record>>,
    /// The number at which the origin held it before, if it did.
    pub(crate) old_number: Option<u32>,
    pub(crate) tick: Tick,
    pub(crate) at: MeshTime,
}

/// One origin's claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// By entity.
    sorted: Vec<Claim>,
    /// The newest whole tick that was claimed: no claim is older.
    floor: Tick,
    /// The records that the claims are exactly, if they are those of one tick.
    exact: Option<Arc<Vec<Arc<Record>>>>,
}

#[derive(Debug)]
struct Claim {
    tick: Tick,
    record: Arc<Record>,
}

/// What a tick says that does not say all.
#[derive(Debug)]
pub(super) struct News {
    pub(super) said: Vec<Arc<Record>>,
    pub(super) gone: Vec<EntityId>,
}

/// When something was claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) tick: Tick,
    pub(super) at: MeshTime,
}

impl Moment {
    fn change(self, entity: EntityId, new: Option<Arc<Record>>, old_number: Option<u32>) -> ClaimChange {
        ClaimChange { entity, new, old_number, tick: self.tick, at: self.at }
    }
}

impl Claims {
    pub(super) fn get(&self, entity: &EntityId) -> Option<&Arc<Record>> {
        self.find(entity, 0).ok().map(|index| &self.sorted[index].record)
    }

    pub(super) fn len(&self) -> usize {
        self.sorted.len()
    }

    pub(super) fn floor(&self) -> Tick {
        self.floor
    }

    #[cfg(test)]
    pub(super) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.sorted.iter().map(|claim| &claim.record)
    }

    /// Whatever comes next is newer than what is left.
    pub(super) fn age(&mut self) {
        self.sorted.iter_mut().for_each(|claim| claim.tick = Tick(0));
        (self.floor, self.exact) = (Tick(0), None);
    }

    /// The claims of a tick that leaves what it does not say as it is.
    pub(super) fn some(&mut self, moment: Moment, news: News, changes: &mut Vec<ClaimChange>) {
        self.floor = moment.tick;
        let mut place = 0;
        for record in news.said {
            place = self.one(moment, record.entity, Some(record), place, changes);
        }
        for entity in news.gone {
            place = self.one(moment, entity, None, place, changes);
        }
        self.exact = None;
    }

    /// The claims of a whole tick that is newer than all whole ones before.
    pub(super) fn all(&mut self, moment: Moment, records: &Arc<Vec<Arc<Record>>>, changes: &mut Vec<ClaimChange>) {
        self.floor = moment.tick;
        if self.exact.as_ref().is_some_and(|claimed| Arc::ptr_eq(claimed, records)) {
            return;
        }
        // Mostly the same entities are there as before.
        let mut same = 0;
        let mut exact = true;
        for (claim, record) in self.sorted.iter_mut().zip(records.iter()) {
            if !Arc::ptr_eq(&claim.record, record) && claim.record.entity != record.entity {
                break;
            }
            exact &= claim.update(moment, record, changes);
            same += 1;
        }
        if same < self.sorted.len() || same < records.len() {
            let mut olds = self.sorted.split_off(same).into_iter().peekable();
            for record in &records[same..] {
                while let Some(old) = olds.next_if(|old| old.record.entity < record.entity) {
                    exact &= self.keep_or_end(moment, old, changes);
                }
                match olds.next_if(|old| old.record.entity == record.entity) {
                    Some(mut old) => {
                        exact &= old.update(moment, record, changes);
                        self.sorted.push(old);
                    }
                    None => {
                        self.sorted.push(Claim { tick: moment.tick, record: record.clone() });
                        changes.push(moment.change(record.entity, Some(record.clone()), None));
                    }
                }
            }
            for old in olds {
                exact &= self.keep_or_end(moment, old, changes);
            }
        }
        self.exact = exact.then(|| records.clone());
    }

    /// A claim on what a whole tick no longer has: ends, unless it is newer.
    fn keep_or_end(&mut self, moment: Moment, old: Claim, changes: &mut Vec<ClaimChange>) -> bool {
        if old.tick > moment.tick {
            self.sorted.push(old);
            return false;
        }
        changes.push(moment.change(old.record.entity, None, Some(old.record.number)));
        true
    }

    /// One claim of a tick that is not whole. `place`: about where it stands; where the next one stands then.
    pub(super) fn one(
        &mut self,
        moment: Moment,
        entity: EntityId,
        new: Option<Arc<Record>>,
        place: usize,
        changes: &mut Vec<ClaimChange>,
    ) -> usize {
        self.exact = None;
        match (self.find(&entity, place), new) {
            (Ok(index), Some(record)) => {
                if moment.tick >= self.floor {
                    self.sorted[index].update(moment, &record, changes);
                }
                index + 1
            }
            (Ok(index), None) => {
                let old = &self.sorted[index];
                if moment.tick >= old.tick.max(self.floor) {
                    changes.push(moment.change(entity, None, Some(old.record.number)));
                    self.sorted.remove(index);
                }
                index
            }
            // What a newer tick no longer has is gone, whatever an older one says.
            (Err(index), Some(record)) if moment.tick >= self.floor => {
                self.sorted.insert(index, Claim { tick: moment.tick, record: record.clone() });
                changes.push(moment.change(entity, Some(record), None));
                index + 1
            }
            (Err(index), _) => index,
        }
    }

    /// Where an entity's claim is, or belongs; `place`: where it probably is.
    fn find(&self, entity: &EntityId, place: usize) -> Result<usize, usize> {
        if self.sorted.get(place).is_some_and(|claim| claim.record.entity == *entity) {
            return Ok(place);
        }
        self.sorted.binary_search_by_key(entity, |claim| claim.record.entity)
    }

    /// What is as it is claimed is one with the claim: ticks that build on different ones have the same records, and are soon compared.
    pub(super) fn share(&self, snapshot: &mut Snapshot) {
        if let Some(claimed) = self.exact.as_ref().filter(|claimed| claimed.len() == snapshot.records.len()) {
            let mut pairs = snapshot.records.iter().zip(claimed.iter());
            if pairs.all(|(one, other)| Arc::ptr_eq(one, other) || (one.entity == other.entity && one.is_like(other))) {
                snapshot.records = claimed.clone();
                return;
            }
        }
        let Some(records) = Arc::get_mut(&mut snapshot.records) else { return };
        for (record, Claim { record: claimed, .. }) in records.iter_mut().zip(&self.sorted) {
            if !Arc::ptr_eq(record, claimed) && record.entity == claimed.entity && record.is_like(claimed) {
                *record = claimed.clone();
            }
        }
    }
}

impl Claim {
    /// Whether the claim is this record now; it stays what it is where it is newer.
    fn update(&mut self, moment: Moment, record: &Arc<Record>, changes: &mut Vec<ClaimChange>) -> bool {
        if self.tick > moment.tick {
            return false;
        }
        self.tick = moment.tick;
        if !Arc::ptr_eq(&self.record, record) {
            if !self.record.is_like(record) {
                changes.push(moment.change(record.entity, Some(record.clone()), Some(self.record.number)));
            }
            self.record = record.clone();
        }
        true
    }
}
