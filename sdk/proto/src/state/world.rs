//! The world that all members share: every owner's claims, seen through who owns what.
//!
//! Only what an entity's owner claims is shown; the rest is dropped and counted. A leaver's entities vanish or wait as orphans
//! until the member that scores highest adopts them; if it does not, the next one does, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::author::Author;
use super::ownership::{Ownership, score};
use super::replica::{ClaimChange, Replica};
use super::snapshot::Record;
use super::{Change, Orphan, Registry};
use crate::config::Limits;
use crate::id::{EntityId, PeerId, Tick};
use crate::node::WorldEvent;
use crate::time::{MeshTime, Time};
use crate::wire::{Adoption, Holding};

/// How long the first in rank for an orphan is waited for before the second takes it, and so on.
const ADOPTION_TURN: Duration = Duration::from_millis(500);
/// Most steps of ownership kept that cannot be taken yet.
const PENDING_MAX: usize = 4_096;

/// What is shown, whose it is, and what is in between.
#[derive(Debug)]
pub(crate) struct World {
    me: PeerId,
    shown: BTreeMap<EntityId, Shown>,
    ownership: Ownership,
    /// Steps that wait for one before them, or for the owner's leaving.
    pending: BTreeMap<(EntityId, u32, PeerId), Step>,
    /// Entities of members who left, and since when.
    orphans: BTreeMap<EntityId, Time>,
    events: Vec<WorldEvent>,
    /// Claims about entities that their origin does not own.
    pub(crate) foreign_claims: u64,
}

#[derive(Debug)]
struct Shown {
    owner: PeerId,
    record: Arc<Record>,
    tick: Tick,
}

/// A change of owner as somebody announced it.
#[derive(Clone, Debug)]
struct Step {
    from: PeerId,
    adopted: bool,
    record: Option<Arc<Record>>,
}

/// The parts of a node that the world looks at and writes to.
pub(crate) struct Surroundings<'a> {
    pub(crate) author: &'a mut Author,
    pub(crate) replicas: &'a BTreeMap<PeerId, Replica>,
    /// Who is here, ourselves included.
    pub(crate) present: &'a BTreeSet<PeerId>,
    pub(crate) now: Time,
    pub(crate) mesh_now: MeshTime,
}

/// What a commit asks others to be told.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) entity: EntityId,
    pub(crate) number: u32,
    pub(crate) to: PeerId,
    pub(crate) record: Arc<Record>,
}

impl World {
    pub(crate) fn new(me: PeerId) -> Self {
        Self {
            me,
            shown: BTreeMap::new(),
            ownership: Ownership::default(),
            pending: BTreeMap::new(),
            orphans: BTreeMap::new(),
            events: Vec::new(),
            foreign_claims: 0,
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<WorldEvent> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn len(&self) -> usize {
        self.shown.len()
    }

    /// A hash of what is shown: equal on two members only if they see the same entities, owners and values.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let mut hash = blake3::Hasher::new();
        for (entity, shown) in &self.shown {
            hash.update(&entity.spawner.0).update(&entity.boot.0.to_le_bytes()).update(&entity.counter.to_le_bytes());
            hash.update(&shown.owner.0).update(&shown.record.number.to_le_bytes());
            for (kind, value) in shown.record.components() {
                hash.update(&[kind.0]);
                match value {
                    super::Value::Fields(fields) => {
                        for field in fields.iter() {
                            hash.update(&field.to_le_bytes());
                        }
                    }
                    super::Value::Bytes { bytes, refs } => {
                        hash.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
                        for entity in refs.iter() {
                            hash.update(&entity.spawner.0).update(&entity.counter.to_le_bytes());
                        }
                    }
                }
            }
        }
        *hash.finalize().as_bytes()
    }

    /// Applies what the game did to its own entities. What is not its own to change is passed over: somebody else was given it
    /// in the meantime, and the game will hear of it.
    pub(crate) fn commit(
        &mut self,
        changes: Vec<Change>,
        registry: &Registry,
        limits: &Limits,
        around: &mut Surroundings<'_>,
    ) -> Vec<Given> {
        let mut given = Vec::new();
        let mut touched = BTreeSet::new();
        for change in changes {
            match change {
                Change::Spawn { entity, orphan } => {
                    let fits = around.author.records().len() < limits.entities_per_origin;
                    if fits && entity.spawner == self.me && !self.shown.contains_key(&entity) {
                        around.author.take(Record::new(entity, 0, orphan));
                        touched.insert(entity);
                    }
                }
                Change::Set { entity, kind, value } => {
                    if registry.admits(kind, &value, limits.component_bytes)
                        && let Some(record) = around.author.record_mut(&entity)
                    {
                        record.set(kind, value);
                        touched.insert(entity);
                    }
                }
                Change::Unset { entity, kind } => {
                    if let Some(record) = around.author.record_mut(&entity) {
                        record.unset(kind);
                        touched.insert(entity);
                    }
                }
                Change::Despawn { entity } => {
                    if around.author.remove(&entity) {
                        self.shown.remove(&entity);
                        self.ownership.bury(entity);
                        touched.remove(&entity);
                    }
                }
                Change::Transfer { entity, to } => {
                    if to == self.me || !around.present.contains(&to) {
                        continue;
                    }
                    if let Some(record) = around.author.give(&entity, around.now) {
                        let number = record.number + 1;
                        let mut record = Record::clone(&record);
                        record.number = number;
                        let record = Arc::new(record);
                        self.ownership.set(entity, number, Some(to));
                        self.show(entity, to, record.clone(), around.author.tick(), around.mesh_now, true);
                        self.events.push(WorldEvent::Owner { entity, owner: to });
                        given.push(Given { entity, number, to, record });
                        touched.remove(&entity);
                    }
                }
            }
        }
        for entity in touched {
            if let Some(record) = around.author.records().get(&entity) {
                let (record, tick) = (record.clone(), around.author.tick());
                self.show(entity, self.me, record, tick, around.mesh_now, true);
            }
        }
        given
    }

    /// An origin's claims changed.
    pub(crate) fn claimed(&mut self, origin: PeerId, changes: Vec<ClaimChange>) {
        for change in changes {
            let title = self.ownership.title(&change.entity);
            if title.owner != Some(origin) {
                self.foreign_claims += 1;
                continue;
            }
            match change.new {
                Some(record) if record.number == title.number => {
                    self.orphans.remove(&change.entity);
                    self.show(change.entity, origin, record, change.tick, change.at, false);
                }
                // Ahead of the news that would make it true, or behind it.
                Some(_) => {}
                None => {
                    if self.shown.get(&change.entity).is_some_and(|shown| shown.owner == origin && change.tick >= shown.tick) {
                        self.vanish(&change.entity);
                        self.ownership.bury(change.entity);
                    }
                }
            }
        }
    }

    /// The owner says that it gave an entity away.
    pub(crate) fn transferred(
        &mut self,
        from: PeerId,
        entity: EntityId,
        number: u32,
        to: PeerId,
        record: Record,
        around: &mut Surroundings<'_>,
    ) {
        let record = Arc::new(record);
        self.step(entity, number, to, Step { from, adopted: false, record: Some(record) }, around);
    }

    /// A member says that it took a leaver's entities over.
    pub(crate) fn adopted(&mut self, by: PeerId, adoptions: Vec<Adoption>, around: &mut Surroundings<'_>) {
        for Adoption { entity, number } in adoptions {
            let title = self.ownership.title(&entity);
            // The owner before the step; where two adopted at once, the one whom both adopted from.
            let from = if number == title.number { title.previous } else { title.owner };
            if let Some(from) = from {
                self.step(entity, number, by, Step { from, adopted: true, record: None }, around);
            }
        }
    }

    /// A neighbor says who owns what. Believed where it is ahead of us and the owner we know is not here to object.
    pub(crate) fn learn(&mut self, holdings: Vec<Holding>, around: &mut Surroundings<'_>) {
        for Holding { entity, number, owner } in holdings {
            let title = self.ownership.title(&entity);
            let objects = title.owner.is_some_and(|owner| around.present.contains(&owner)) && self.shown.contains_key(&entity);
            let tie = number == title.number
                && owner
                    .is_some_and(|owner| title.owner.is_some_and(|current| score(&entity, &owner) > score(&entity, &current)));
            let absent = title.owner.is_some_and(|owner| owner != self.me && !around.present.contains(&owner));
            if (number > title.number && !objects) || (tie && (absent || title.owner == Some(self.me)) && number > 0) {
                match owner {
                    Some(owner) => self.pass_to(entity, number, owner, None, around),
                    None => {
                        self.ownership.set(entity, number, None);
                        around.author.remove(&entity);
                        self.vanish(&entity);
                    }
                }
            }
        }
    }

    /// What a newcomer must know of who owns what.
    pub(crate) fn holdings(&self) -> Vec<Holding> {
        self.ownership
            .titles()
            .map(|(entity, title)| Holding { entity: *entity, number: title.number, owner: title.owner })
            .collect()
    }

    /// A member is gone: its entities vanish or become orphans.
    pub(crate) fn departed(&mut self, peer: PeerId, around: &mut Surroundings<'_>) {
        let theirs: Vec<(EntityId, Orphan)> = self
            .shown
            .iter()
            .filter(|(_, shown)| shown.owner == peer)
            .map(|(entity, shown)| (*entity, shown.record.orphan))
            .collect();
        for (entity, orphan) in theirs {
            match orphan {
                Orphan::Vanish => self.vanish(&entity),
                Orphan::Adopt => {
                    self.orphans.insert(entity, around.now);
                }
            }
        }
        // Adoptions that were announced before we knew.
        let waiting: Vec<_> =
            self.pending.keys().filter(|(entity, ..)| self.ownership.owner(entity) == Some(peer)).copied().collect();
        for key in waiting {
            if let Some(step) = self.pending.remove(&key) {
                self.step(key.0, key.1, key.2, step, around);
            }
        }
    }

    /// A member whom we took for gone is here again: what we adopted from it is to be given back.
    pub(crate) fn returned(&mut self, peer: PeerId) -> Vec<EntityId> {
        self.orphans.retain(|entity, _| self.shown.get(entity).is_none_or(|shown| shown.owner != peer));
        self.ownership
            .titles()
            .filter(|(_, title)| title.owner == Some(self.me) && title.previous == Some(peer))
            .map(|(entity, _)| *entity)
            .collect()
    }

    /// Adopts the orphans whose turn it is for us to take; what others are to be told.
    pub(crate) fn adopt_orphans(&mut self, around: &mut Surroundings<'_>) -> Vec<Adoption> {
        let mut adoptions = Vec::new();
        let me = self.me;
        let due: Vec<EntityId> = self
            .orphans
            .iter()
            .filter(|(entity, since)| {
                let mine = score(entity, &me);
                let rank = around.present.iter().filter(|peer| score(entity, peer) > mine).count() as u32;
                around.now.since(**since) >= ADOPTION_TURN.saturating_mul(rank)
            })
            .map(|(entity, _)| *entity)
            .collect();
        for entity in due {
            let number = self.ownership.title(&entity).number + 1;
            self.pass_to(entity, number, me, None, around);
            adoptions.push(Adoption { entity, number });
        }
        adoptions
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    fn step(&mut self, entity: EntityId, number: u32, to: PeerId, step: Step, around: &mut Surroundings<'_>) {
        let may = !step.adopted || !around.present.contains(&step.from);
        if may && self.ownership.yields_to(&entity, number, &to, &step.from) {
            self.pass_to(entity, number, to, step.record, around);
            // One that waited for this one.
            let next = self.pending.range((entity, number + 1, PeerId([0; 32]))..=(entity, number + 1, PeerId([255; 32]))).next();
            if let Some(key) = next.map(|(key, _)| *key)
                && let Some(step) = self.pending.remove(&key)
            {
                self.step(key.0, key.1, key.2, step, around);
            }
        } else if number > self.ownership.title(&entity).number {
            self.pending.insert((entity, number, to), step);
            if self.pending.len() > PENDING_MAX {
                self.pending.pop_first();
            }
        }
    }

    fn pass_to(
        &mut self,
        entity: EntityId,
        number: u32,
        owner: PeerId,
        record: Option<Arc<Record>>,
        around: &mut Surroundings<'_>,
    ) {
        self.ownership.set(entity, number, Some(owner));
        self.orphans.remove(&entity);
        let claim = around.replicas.get(&owner).and_then(|replica| replica.claim(&entity)).filter(|claim| claim.number == number);
        let known = claim.cloned().or(record).or_else(|| self.shown.get(&entity).map(|shown| shown.record.clone()));
        let Some(known) = known else { return };
        let mut record = Record::clone(&known);
        record.number = number;
        if owner == self.me {
            around.author.take(record.clone());
        } else {
            around.author.give(&entity, around.now);
        }
        // A tick of another owner's clock says nothing about this one's.
        self.show(entity, owner, Arc::new(record), Tick(0), around.mesh_now, false);
        self.events.push(WorldEvent::Owner { entity, owner });
        if !around.present.contains(&owner) {
            self.orphans.insert(entity, around.now);
        }
    }

    /// Shows a record, and tells the game what differs, unless the game did it itself.
    fn show(&mut self, entity: EntityId, owner: PeerId, record: Arc<Record>, tick: Tick, at: MeshTime, quiet: bool) {
        let old = self.shown.insert(entity, Shown { owner, record: record.clone(), tick });
        if quiet {
            return;
        }
        if old.is_none() {
            self.events.push(WorldEvent::Appeared { entity, owner, orphan: record.orphan });
        }
        let old = old.map(|old| old.record);
        for (kind, value) in record.components() {
            if old.as_ref().and_then(|old| old.get(*kind)) != Some(value) {
                self.events.push(WorldEvent::Set { entity, kind: *kind, value: value.clone(), tick, at });
            }
        }
        for (kind, _) in old.iter().flat_map(|old| old.components()) {
            if record.get(*kind).is_none() {
                self.events.push(WorldEvent::Unset { entity, kind: *kind });
            }
        }
    }

    fn vanish(&mut self, entity: &EntityId) {
        self.orphans.remove(entity);
        if self.shown.remove(entity).is_some() {
            self.events.push(WorldEvent::Vanished { entity: *entity });
        }
    }
}
