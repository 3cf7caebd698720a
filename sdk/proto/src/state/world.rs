//! The world that all members share: every owner's claims, seen through who owns what.
//!
//! Only what an entity's owner claims is shown; the rest is dropped and counted. A leaver's entities vanish or wait as orphans
//! until the member that scores highest adopts them; if it does not, the next one does, and so on.

mod orphans;
mod steps;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use steps::Reply;
use steps::Step;

use super::author::Author;
use super::ownership::{Means, NUMBER_MAX, Ownership, Title};
use super::replica::{ClaimChange, Replica};
use super::snapshot::Record;
use super::{Change, KindId, Registry};
use crate::config::{Config, Limits};
use crate::id::{EntityId, OwnershipPolicy, PeerId, Tick};
use crate::node::WorldEvent;
use crate::time::{MeshTime, Time};
use crate::wire::Numbered;

/// Most titles remembered as they were before a claim changed them, and how long: after that the claim was proved.
const REPLACED_MAX: usize = 4_096;
const REPLACED: Duration = Duration::from_secs(3);

/// What is shown, whose it is, and what is in between.
#[derive(Debug)]
pub(crate) struct World {
    me: PeerId,
    /// Whether we adopt what leavers leave, and what says where things are.
    willing: bool,
    nearest_by: Option<KindId>,
    shown: BTreeMap<EntityId, Shown>,
    ownership: Ownership,
    /// Steps that wait for one before them, or for the owner's leaving.
    pending: BTreeMap<(EntityId, u32, PeerId), Step>,
    /// Entities that somebody says it adopted though their owner is here, and since when.
    contested: BTreeMap<EntityId, Time>,
    /// Entities of members who left, and since when.
    orphans: BTreeMap<EntityId, Time>,
    events: Vec<WorldEvent>,
    /// What we removed, and removed again because somebody had not heard of it.
    insisted: Vec<Numbered>,
    /// Titles that claims changed of late, as they were before, and whose claims: those claims may yet turn out to be forged.
    replaced: VecDeque<Replaced>,
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

/// A title that a claim changed.
#[derive(Debug)]
struct Replaced {
    at: Time,
    by: PeerId,
    entity: EntityId,
    before: Title,
    /// The number that the claim gave it.
    number: u32,
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
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) given: Vec<Given>,
    pub(crate) removed: Vec<Numbered>,
}

/// An entity that we gave away.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) entity: EntityId,
    pub(crate) number: u32,
    pub(crate) to: PeerId,
    pub(crate) record: Arc<Record>,
}

impl World {
    pub(crate) fn new(me: PeerId, config: &Config) -> Self {
        Self {
            me,
            willing: config.adopts,
            nearest_by: config.nearest_by,
            shown: BTreeMap::new(),
            ownership: Ownership::default(),
            pending: BTreeMap::new(),
            contested: BTreeMap::new(),
            orphans: BTreeMap::new(),
            events: Vec::new(),
            insisted: Vec::new(),
            replaced: VecDeque::new(),
            foreign_claims: 0,
        }
    }

    pub(crate) fn take_events(&mut self) -> Vec<WorldEvent> {
        std::mem::take(&mut self.events)
    }

    /// What others are to be told to be gone, once more.
    pub(crate) fn take_insisted(&mut self) -> Vec<Numbered> {
        std::mem::take(&mut self.insisted)
    }

    /// Whose an entity is that is here.
    pub(crate) fn shown_owner(&self, entity: &EntityId) -> Option<PeerId> {
        self.shown.get(entity).map(|shown| shown.owner)
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
    ) -> Told {
        let mut told = Told::default();
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
                    told.removed.extend(self.remove(entity, around));
                    touched.remove(&entity);
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
                        // It seized it before we gave it, and is further on already.
                        let claim = around.replicas.get(&to).and_then(|replica| replica.claim(&entity));
                        if let Some(claim) = claim.filter(|claim| claim.number == number).cloned() {
                            self.show(entity, to, claim, Tick(0), around.mesh_now, false);
                        } else if let Some(shown) = self.shown.get_mut(&entity) {
                            shown.unclaimed = Some(around.now);
                        }
                        self.events.push(WorldEvent::Owner { entity, owner: to });
                        told.given.push(Given { entity, number, to, record });
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
        told
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
                // Ahead where it lost it and got it back before we heard of anybody else. By right or not, others will tell.
                Some(record) if record.number >= title.number && record.number <= NUMBER_MAX => {
                    if record.number > title.number {
                        self.note_replaced(Replaced {
                            at: around.now,
                            by: origin,
                            entity: change.entity,
                            before: title,
                            number: record.number,
                        });
                        let adopted = change.entity.policy() != OwnershipPolicy::Seize;
                        self.ownership.set(change.entity, Title { number: record.number, adopted, ..title });
                    }
                    self.orphans.remove(&change.entity);
                    self.show(change.entity, origin, record, change.tick, change.at, false);
                }
                // What is gone is the entity as this owner held it; not what it once held, gave away and was given again. Whether it is
                // gone for good its owner says in so many words: this may be the end of what it gave to somebody of whom we did not hear.
                None => {
                    let held = change.old_number == Some(title.number);
                    if held
                        && self.shown.get(&change.entity).is_some_and(|shown| shown.owner == origin && change.tick >= shown.tick)
                    {
                        self.vanish(&change.entity);
                    }
                }
                // Behind the news.
                Some(_) => {}
            }
        }
    }

    fn note_replaced(&mut self, replaced: Replaced) {
        while self.replaced.pop_front_if(|older| replaced.at.since(older.at) > REPLACED).is_some() {}
        if self.replaced.len() >= REPLACED_MAX {
            self.replaced.pop_front();
        }
        self.replaced.push_back(replaced);
    }

    /// Some of an origin's last claims were forged: its claims change back by `changes`.
    pub(crate) fn undo(&mut self, origin: PeerId, changes: Vec<ClaimChange>, around: &mut Surroundings<'_>) {
        // From the newest to the oldest, so that what each was before all of it stays.
        let (undone, kept) =
            std::mem::take(&mut self.replaced).into_iter().partition::<VecDeque<_>, _>(|replaced| replaced.by == origin);
        self.replaced = kept;
        for Replaced { entity, before, number, .. } in undone.into_iter().rev() {
            // What was said of it since was said by others, or in so many words.
            let title = self.ownership.title(&entity);
            if (title.owner, title.number) == (Some(origin), number) {
                self.ownership.set(entity, before);
            }
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
    use crate::Orphan;
    use crate::id::Boot;
    use crate::wire::Holding;

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
        let (mut world, mut author) = (World::new(ME, &Config::default()), Author::new(&Registry::default()));
        hear_giver(&mut world, &mut author);
        assert_eq!(author.records().get(&ENTITY).map(|record| record.number), Some(1));
        assert!(world.take_events().contains(&WorldEvent::Owner { entity: ENTITY, owner: ME }));
        assert_eq!((world.len(), world.foreign_claims), (1, 0));
    }

    #[test]
    fn what_we_removed_does_not_come_back_from_its_giver() {
        let (mut world, mut author) = (World::new(ME, &Config::default()), Author::new(&Registry::default()));
        hear_giver(&mut world, &mut author);
        let (replicas, present) = (BTreeMap::new(), BTreeSet::from([ME, GIVER]));
        let mut around =
            Surroundings { author: &mut author, replicas: &replicas, present: &present, now: Time(0), mesh_now: MeshTime(0) };
        world.commit(vec![Change::Despawn { entity: ENTITY }], &Registry::default(), &Limits::default(), &mut around);
        hear_giver(&mut world, &mut author);
        assert_eq!((world.len(), author.records().len(), world.foreign_claims), (0, 0, 1));
    }

    #[test]
    fn what_may_not_be_seized_is_not_and_is_counted() {
        let (mut world, mut author) = (World::new(ME, &Config::default()), Author::new(&Registry::default()));
        let (replicas, present) = (BTreeMap::new(), BTreeSet::from([ME, GIVER]));
        let mut around =
            Surroundings { author: &mut author, replicas: &replicas, present: &present, now: Time(0), mesh_now: MeshTime(0) };
        let mine = |policy| EntityId::new(ME, Boot(1), 1, policy);
        let policies = [OwnershipPolicy::Ask, OwnershipPolicy::Refuse, OwnershipPolicy::Grant, OwnershipPolicy::Seize];
        let spawns = policies.map(|policy| Change::Spawn { entity: mine(policy), orphan: Orphan::Adopt });
        world.commit(spawns.into(), &Registry::default(), &Limits::default(), &mut around);
        for policy in policies {
            world.seized(GIVER, vec![Numbered { entity: mine(policy), number: 1 }], &mut around);
            let owner = if policy == OwnershipPolicy::Seize { GIVER } else { ME };
            assert_eq!(world.shown_owner(&mine(policy)), Some(owner), "{policy:?}");
        }
        assert_eq!(world.foreign_claims, 3);
    }
}
