//! The world that all members share: every owner's claims, seen through who owns what.
//!
//! Only what an entity's owner claims is shown; the rest is dropped and counted. A leaver's entities vanish or wait as orphans
//! until the member that scores highest adopts them; if it does not, the next one does, and so on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::author::Author;
use super::ownership::{Means, Ownership, Title, Verdict, part_of, score};
use super::replica::{ClaimChange, Replica};
use super::snapshot::{Record, Snapshot};
use super::{Change, Orphan, Registry};
use crate::config::Limits;
use crate::id::{EntityId, PeerId, Tick};
use crate::node::WorldEvent;
use crate::time::{MeshTime, Time, micros};
use crate::wire::{Adoption, Holding};

/// How long the first in rank for an orphan is waited for before the second takes it, and so on.
const ADOPTION_TURN: Duration = Duration::from_millis(500);
/// An entity that its new owner has not claimed for so long was removed by it at once, before anybody saw.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// No entity changes hands more often: so that nobody can count one up to where it could never be taken back.
const NUMBER_MAX: u32 = u32::MAX / 2;
/// Most steps of ownership kept that cannot be taken yet.
const PENDING_MAX: usize = 4_096;
/// Most titles remembered as they were before a claim changed them, and how long: after that the claim was proved.
const REPLACED_MAX: usize = 4_096;
const REPLACED: Duration = Duration::from_secs(3);

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
    /// Titles that claims changed of late, as they were before, and whose claims: those claims may yet turn out to be forged.
    replaced: VecDeque<(Time, PeerId, EntityId, Title)>,
    /// Claims about entities that their origin does not own.
    pub(crate) foreign_claims: u64,
}

#[derive(Debug)]
struct Shown {
    owner: PeerId,
    record: Arc<Record>,
    tick: Tick,
    /// Since when its owner, who is another, ought to claim it and does not.
    unclaimed: Option<Time>,
}

/// A change of owner as somebody announced it.
#[derive(Clone, Debug)]
struct Step {
    means: Means,
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
            replaced: VecDeque::new(),
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
                Change::Weigh { entity, weight } => around.author.weigh(entity, weight),
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
                        self.ownership.set(entity, self.ownership.after(&entity, number, to, Means::Given(self.me)));
                        self.show(entity, to, record.clone(), around.author.tick(), around.mesh_now, true);
                        if let Some(shown) = self.shown.get_mut(&entity) {
                            shown.unclaimed = Some(around.now);
                        }
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
    pub(crate) fn claimed(&mut self, origin: PeerId, changes: Vec<ClaimChange>, around: &mut Surroundings<'_>) {
        for change in changes {
            let title = self.ownership.title(&change.entity);
            if let Some(record) = &change.new
                && (title.owner, title.previous) == (Some(self.me), Some(origin))
                && !around.author.records().contains_key(&change.entity)
            {
                // A neighbor told us that this is ours, and whoever gave it is one of whom we only hear now: it still claims it for a
                // moment, so that we have it from there if its word itself never reaches us.
                self.pass_to(change.entity, title, Some(record.clone()), around);
                continue;
            }
            if title.owner != Some(origin) {
                self.foreign_claims += 1;
                continue;
            }
            match change.new {
                // Ahead where it took its own back before we heard of anybody else: it never ceased to be its own.
                Some(record) if record.number >= title.number && record.number <= NUMBER_MAX => {
                    if record.number > title.number {
                        self.note_replaced(origin, change.entity, title, around.now);
                        self.ownership.set(change.entity, Title { number: record.number, ..title });
                    }
                    self.orphans.remove(&change.entity);
                    self.show(change.entity, origin, record, change.tick, change.at, false);
                }
                // What is removed is the entity as this owner held it; not what it once held, gave away and was given again.
                None => {
                    let held = change.old_number == Some(title.number);
                    if held
                        && self.shown.get(&change.entity).is_some_and(|shown| shown.owner == origin && change.tick >= shown.tick)
                    {
                        self.vanish(&change.entity);
                        self.note_replaced(origin, change.entity, title, around.now);
                        self.ownership.bury(change.entity);
                    }
                }
                // Behind the news.
                Some(_) => {}
            }
        }
    }

    fn note_replaced(&mut self, origin: PeerId, entity: EntityId, title: Title, now: Time) {
        while self.replaced.pop_front_if(|(at, ..)| now.since(*at) > REPLACED).is_some() {}
        if self.replaced.len() >= REPLACED_MAX {
            self.replaced.pop_front();
        }
        self.replaced.push_back((now, origin, entity, title));
    }

    /// Some of an origin's last claims were forged: its claims change back by `changes`.
    pub(crate) fn undo(&mut self, origin: PeerId, changes: Vec<ClaimChange>, around: &mut Surroundings<'_>) {
        // From the newest to the oldest, so that what each was before all of it stays.
        let (undone, kept) =
            std::mem::take(&mut self.replaced).into_iter().partition::<VecDeque<_>, _>(|(_, by, ..)| *by == origin);
        self.replaced = kept;
        for (_, _, entity, title) in undone.into_iter().rev() {
            self.ownership.set(entity, title);
        }
        self.shown.values_mut().filter(|shown| shown.owner == origin).for_each(|shown| shown.tick = Tick(0));
        for change in changes {
            match change.new {
                Some(_) => self.claimed(origin, vec![change], around),
                // It never was.
                None if self.shown.get(&change.entity).is_some_and(|shown| shown.owner == origin) => self.vanish(&change.entity),
                None => {}
            }
        }
    }

    /// The owner says that it gave an entity away.
    pub(crate) fn transferred(&mut self, from: PeerId, number: u32, to: PeerId, record: Record, around: &mut Surroundings<'_>) {
        let entity = record.entity;
        if number > NUMBER_MAX {
            return;
        }
        self.step(entity, number, to, Step { means: Means::Given(from), record: Some(Arc::new(record)) }, around);
    }

    /// A member says that it took a leaver's entities over. Where it was mistaken and they are ours, what we say against it.
    pub(crate) fn adopted(&mut self, by: PeerId, adoptions: Vec<Adoption>, around: &mut Surroundings<'_>) -> Vec<Adoption> {
        let mut objections = Vec::new();
        for Adoption { entity, number, adopted } in adoptions {
            if number > NUMBER_MAX {
                continue;
            }
            let title = self.ownership.title(&entity);
            let means = if adopted { Means::Adopted } else { Means::Reclaimed };
            if by == self.me || number <= title.number || !self.is_mine(&entity, around) {
                self.step(entity, number, by, Step { means, record: None }, around);
            } else if title.resists(&entity, &self.me, &by, adopted) {
                objections.push(self.reclaim(entity, number + 1, around));
            } else {
                let title = Title { number, owner: Some(by), ..self.ownership.after(&entity, number, by, means) };
                self.pass_to(entity, Title { adopted, ..title }, None, around);
            }
        }
        objections
    }

    /// A neighbor says who owns what, where that differs from what we think. Further on is believed, but not that somebody
    /// adopted what its owner still holds; then, if that owner is ourselves, what we say against it.
    pub(crate) fn learn(&mut self, holdings: Vec<Holding>, around: &mut Surroundings<'_>) -> Vec<Adoption> {
        let mut objections = Vec::new();
        for Holding { entity, number, owner, previous, adopted } in holdings {
            let title = self.ownership.title(&entity);
            if (number, owner) == (title.number, title.owner) || number < title.number || number > NUMBER_MAX {
                continue;
            }
            let ahead = number > title.number;
            if self.is_mine(&entity, around) {
                // Behind us and unlike us: they will learn it from us. What was given on, we gave on.
                let objects = owner.is_none_or(|owner| match (ahead, title.adopted, adopted) {
                    (true, false, false) => false,
                    _ => title.resists(&entity, &self.me, &owner, adopted),
                });
                if objects {
                    if ahead || owner.is_none() || (adopted && !title.adopted) {
                        objections.push(self.reclaim(entity, number + 1, around));
                    }
                    continue;
                }
            } else if !ahead {
                // What its owner removed is removed; of two owners the one who scores higher has it.
                let outranks = |current: PeerId| owner.is_none_or(|owner| score(&entity, &owner) > score(&entity, &current));
                if !title.owner.is_some_and(outranks) {
                    continue;
                }
            } else if let (true, Some(holder), Some(owner)) = (adopted, title.owner, owner)
                && around.present.contains(&holder)
                && self.shown.contains_key(&entity)
                && title.resists(&entity, &holder, &owner, true)
            {
                continue;
            }
            match owner {
                Some(_) => self.pass_to(entity, Title { number, owner, previous, adopted }, None, around),
                None => {
                    self.ownership.set(entity, Title { number, owner, previous, adopted });
                    self.vanish(&entity);
                }
            }
        }
        objections
    }

    /// One part of what is known of who owns what, or all of it.
    pub(crate) fn holdings(&self, part: Option<u8>) -> Vec<Holding> {
        self.ownership
            .titles()
            .filter(|(entity, _)| part.is_none_or(|part| part_of(entity) == part))
            .map(|(entity, title)| Holding {
                entity: *entity,
                number: title.number,
                owner: title.owner,
                previous: title.previous,
                adopted: title.adopted,
            })
            .collect()
    }

    pub(crate) fn part_hash(&self, part: u8) -> [u8; 16] {
        self.ownership.part_hash(part)
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

    /// Entities whose new owner has long had the time to claim them, and did not: it removed them before anybody saw.
    pub(crate) fn drop_unclaimed(&mut self, around: &Surroundings<'_>) {
        let overdue = |entity: &EntityId, shown: &Shown| {
            if shown.unclaimed.is_none_or(|since| around.now.since(since) < CLAIM_PATIENCE) {
                return false;
            }
            // What we did not hear its owner say, we do not know.
            around.replicas.get(&shown.owner).is_some_and(|replica| {
                let fresh = |whole: &Arc<Snapshot>| around.mesh_now.0.saturating_sub(whole.at.0) < micros(CLAIM_PATIENCE) / 2;
                replica.newest().is_some_and(fresh) && replica.claim(entity).is_none()
            })
        };
        let unclaimed: Vec<EntityId> =
            self.shown.iter().filter(|(entity, shown)| overdue(entity, shown)).map(|(entity, _)| *entity).collect();
        for entity in unclaimed.into_iter().filter(|entity| !self.orphans.contains_key(entity)).collect::<Vec<_>>() {
            self.vanish(&entity);
            self.ownership.bury(entity);
        }
    }

    /// A member whom we took for gone is here again: what we adopted from it is to be given back.
    pub(crate) fn returned(&mut self, peer: PeerId, now: Time) -> Vec<EntityId> {
        for shown in self.shown.values_mut().filter(|shown| shown.owner == peer) {
            shown.unclaimed = Some(now);
        }
        self.orphans.retain(|entity, _| self.shown.get(entity).is_none_or(|shown| shown.owner != peer));
        self.ownership
            .titles()
            .filter(|(_, title)| title.owner == Some(self.me) && title.previous == Some(peer) && title.adopted)
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
            let title = self.ownership.title(&entity);
            let number = title.number + 1;
            self.pass_to(entity, self.ownership.after(&entity, number, me, Means::Adopted), None, around);
            adoptions.push(Adoption { entity, number, adopted: true });
        }
        adoptions
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }

    fn step(&mut self, entity: EntityId, number: u32, to: PeerId, step: Step, around: &mut Surroundings<'_>) {
        let title = self.ownership.title(&entity);
        let verdict = self.ownership.judge(&entity, number, &to, step.means, |peer| !around.present.contains(peer));
        let known_without_record = number == title.number
            && title.owner == Some(to)
            && step.record.is_some()
            && if to == self.me { !around.author.records().contains_key(&entity) } else { !self.shown.contains_key(&entity) };
        if known_without_record {
            // A neighbor's word was faster than the owner's, which brings the entity itself.
            self.pass_to(entity, title, step.record, around);
        } else if verdict == Verdict::Take {
            let title = self.ownership.after(&entity, number, to, step.means);
            self.pass_to(entity, title, step.record, around);
            // One that waited for this one.
            let next = self.pending.range((entity, number + 1, PeerId([0; 32]))..=(entity, number + 1, PeerId([255; 32]))).next();
            if let Some(key) = next.map(|(key, _)| *key)
                && let Some(step) = self.pending.remove(&key)
            {
                self.step(key.0, key.1, key.2, step, around);
            }
        } else if verdict == Verdict::Wait {
            self.pending.insert((entity, number, to), step);
            if self.pending.len() > PENDING_MAX {
                self.pending.pop_first();
            }
        }
    }

    fn pass_to(&mut self, entity: EntityId, title: Title, record: Option<Arc<Record>>, around: &mut Surroundings<'_>) {
        let Some(owner) = title.owner else { return };
        self.ownership.set(entity, title);
        self.orphans.remove(&entity);
        let claim =
            around.replicas.get(&owner).and_then(|replica| replica.claim(&entity)).filter(|claim| claim.number == title.number);
        let claimed = claim.is_some();
        let known = claim
            .cloned()
            .or(record)
            .or_else(|| self.shown.get(&entity).map(|shown| shown.record.clone()))
            // Ours now, and never shown: whoever had it last still claims it for a moment.
            .or_else(|| {
                around.replicas.values().filter(|_| owner == self.me).find_map(|replica| replica.claim(&entity)).cloned()
            });
        let Some(known) = known else { return };
        let mut record = Record::clone(&known);
        record.number = title.number;
        if owner == self.me {
            around.author.take(record.clone());
        } else {
            around.author.give(&entity, around.now);
        }
        // A tick of another owner's clock says nothing about this one's.
        self.show(entity, owner, Arc::new(record), Tick(0), around.mesh_now, false);
        if let Some(shown) = self.shown.get_mut(&entity) {
            shown.unclaimed = (owner != self.me && !claimed).then_some(around.now);
        }
        self.events.push(WorldEvent::Owner { entity, owner });
        if !around.present.contains(&owner) {
            self.orphans.insert(entity, around.now);
        }
    }

    /// Says, at a higher number, that an entity of ours is still ours.
    fn reclaim(&mut self, entity: EntityId, number: u32, around: &mut Surroundings<'_>) -> Adoption {
        let title = self.ownership.title(&entity);
        if let Some(record) = around.author.record_mut(&entity) {
            record.number = number;
        }
        self.ownership.set(entity, Title { number, ..title });
        if let Some(record) = around.author.records().get(&entity).cloned() {
            self.show(entity, self.me, record, around.author.tick(), around.mesh_now, true);
        }
        Adoption { entity, number, adopted: title.adopted }
    }

    fn is_mine(&self, entity: &EntityId, around: &mut Surroundings<'_>) -> bool {
        self.ownership.owner(entity) == Some(self.me) && around.author.record_mut(entity).is_some()
    }

    /// Shows a record, and tells the game what differs, unless the game did it itself.
    fn show(&mut self, entity: EntityId, owner: PeerId, record: Arc<Record>, tick: Tick, at: MeshTime, quiet: bool) {
        let old = self.shown.insert(entity, Shown { owner, record: record.clone(), tick, unclaimed: None });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Boot;

    const ME: PeerId = PeerId([1; 32]);
    const GIVER: PeerId = PeerId([2; 32]);
    const ENTITY: EntityId = EntityId { spawner: GIVER, boot: Boot(1), counter: 7 };

    /// The giver, of whom we only hear now, still has in its frames what a neighbor told us is ours.
    fn hear_giver(world: &mut World, author: &mut Author) {
        let (replicas, present) = (BTreeMap::new(), BTreeSet::from([ME, GIVER]));
        let mut around = Surroundings { author, replicas: &replicas, present: &present, now: Time(0), mesh_now: MeshTime(0) };
        let title = Holding { entity: ENTITY, number: 1, owner: Some(ME), previous: Some(GIVER), adopted: false };
        world.learn(vec![title], &mut around);
        let record = Some(Arc::new(Record::new(ENTITY, 0, Orphan::Adopt)));
        let claim = ClaimChange { entity: ENTITY, new: record, old_number: None, tick: Tick(1), at: MeshTime(0) };
        world.claimed(GIVER, vec![claim], &mut around);
    }

    #[test]
    fn what_was_given_to_us_before_we_heard_of_the_giver_is_ours() {
        let (mut world, mut author) = (World::new(ME), Author::new(&Registry::default()));
        hear_giver(&mut world, &mut author);
        assert_eq!(author.records().get(&ENTITY).map(|record| record.number), Some(1));
        assert!(world.take_events().contains(&WorldEvent::Owner { entity: ENTITY, owner: ME }));
        assert_eq!((world.len(), world.foreign_claims), (1, 0));
    }

    #[test]
    fn what_we_removed_does_not_come_back_from_its_giver() {
        let (mut world, mut author) = (World::new(ME), Author::new(&Registry::default()));
        hear_giver(&mut world, &mut author);
        let (replicas, present) = (BTreeMap::new(), BTreeSet::from([ME, GIVER]));
        let mut around =
            Surroundings { author: &mut author, replicas: &replicas, present: &present, now: Time(0), mesh_now: MeshTime(0) };
        world.commit(vec![Change::Despawn { entity: ENTITY }], &Registry::default(), &Limits::default(), &mut around);
        hear_giver(&mut world, &mut author);
        assert_eq!((world.len(), author.records().len(), world.foreign_claims), (0, 0, 1));
    }
}
