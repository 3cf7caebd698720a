//! Which entity here is which entity of the mesh, and what the mesh last said of those that are not ours.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use peerflock::{EntityId, KindId, MeshTime, Orphan, PeerId, Value};

use crate::engine::{ChangeTick, ChildOf, Children, Entity, Resource, World};
use crate::ownership::MeshEntity;

/// Most entities kept empty because somebody refers to them before they are here.
const AWAITED_MAX: usize = 4_096;
/// How long such an entity is kept.
const AWAITED_FOR: Duration = Duration::from_secs(10);

/// Finds the entity here by the number that all peers know it by, from a [`MeshEntity`] say.
#[derive(Debug, Default, Resource)]
pub struct MeshEntities {
    known: HashMap<EntityId, Known>,
    /// Entities that somebody refers to, in the order in which their time is up.
    awaited: VecDeque<(MeshTime, EntityId)>,
}

impl MeshEntities {
    /// The entity here that is `id` to the mesh, if there is one.
    pub fn entity(&self, id: EntityId) -> Option<Entity> {
        self.known.get(&id).filter(|known| known.owner.is_some()).map(|known| known.entity)
    }

    /// How many entities the mesh has, as far as the game was told.
    pub fn len(&self) -> usize {
        self.known.values().filter(|known| known.owner.is_some()).count()
    }

    /// Whether the mesh has no entities.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, id: EntityId) -> Option<&Known> {
        self.known.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: EntityId) -> Option<&mut Known> {
        self.known.get_mut(&id)
    }

    pub(crate) fn insert(&mut self, id: EntityId, known: Known) {
        self.known.insert(id, known);
    }

    pub(crate) fn remove(&mut self, id: EntityId) -> Option<Known> {
        self.known.remove(&id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (EntityId, &mut Known)> {
        self.known.iter_mut().map(|(id, known)| (*id, known))
    }

    /// Forgets everything.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Known> + use<> {
        self.awaited.clear();
        std::mem::take(&mut self.known).into_values()
    }
}

/// One entity of the mesh.
#[derive(Debug)]
pub(crate) struct Known {
    /// What it is here. A game may have despawned it behind our back.
    pub(crate) entity: Entity,
    /// Whose it is. None: only referred to so far.
    pub(crate) owner: Option<PeerId>,
    pub(crate) orphan: Orphan,
    /// What the mesh last said of its components, while it is not ours.
    pub(crate) held: Vec<Held>,
    /// We gave it away, and the mesh did not confirm it yet.
    pub(crate) unconfirmed: bool,
}

impl Known {
    pub(crate) fn new(entity: Entity, owner: PeerId, orphan: Orphan) -> Self {
        Self { entity, owner: Some(owner), orphan, held: Vec::new(), unconfirmed: false }
    }

    /// Remembers a value.
    pub(crate) fn hold(&mut self, held: Held) {
        match self.held.iter_mut().find(|older| older.kind == held.kind) {
            Some(older) => *older = held,
            None => self.held.push(held),
        }
    }

    /// Forgets a component.
    pub(crate) fn drop_held(&mut self, kind: KindId) {
        self.held.retain(|held| held.kind != kind);
    }
}

/// A component as the mesh last said it is.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) kind: KindId,
    pub(crate) value: Value,
    /// When it was written to the entity: a component changed at another moment was changed by the game.
    pub(crate) written: ChangeTick,
}

/// The entities here that `refs` mean. One that is not here yet gets an empty entity, to be filled when it comes.
pub(crate) fn resolve(world: &mut World, refs: &[EntityId], now: MeshTime) -> Vec<Entity> {
    refs.iter().map(|id| resolve_one(world, *id, now)).collect()
}

fn resolve_one(world: &mut World, id: EntityId, now: MeshTime) -> Entity {
    let entities = world.resource::<MeshEntities>();
    let known = entities.get(id).map(|known| known.entity);
    let full = entities.awaited.len() >= AWAITED_MAX;
    match known {
        Some(entity) => entity,
        None if full => Entity::PLACEHOLDER,
        None => {
            let entity = world.spawn_empty().id();
            let mut entities = world.resource_mut::<MeshEntities>();
            let known = Known { entity, owner: None, orphan: Orphan::default(), held: Vec::new(), unconfirmed: false };
            entities.insert(id, known);
            entities.awaited.push_back((now, id));
            entity
        }
    }
}

/// Removes the empty entities whose time is up.
pub(crate) fn expire_awaited(world: &mut World, now: MeshTime) {
    loop {
        let mut entities = world.resource_mut::<MeshEntities>();
        let Some((since, id)) = entities.awaited.front().copied() else { return };
        if now.since(since) < AWAITED_FOR {
            return;
        }
        entities.awaited.pop_front();
        if entities.get(id).is_some_and(|known| known.owner.is_none())
            && let Some(known) = entities.remove(id)
        {
            despawn(world, known.entity);
        }
    }
}

/// Despawns an entity with what hangs on it here. Children that the mesh knows have an end of their own: they stay.
pub(crate) fn despawn(world: &mut World, entity: Entity) {
    let children = world.get::<Children>(entity).into_iter().flatten();
    let shared: Vec<Entity> = children.filter(|child| world.get::<MeshEntity>(**child).is_some()).copied().collect();
    for child in shared {
        if let Ok(mut child) = world.get_entity_mut(child) {
            child.remove::<ChildOf>();
        }
    }
    // Gone already if the game, or an observer on the way here, despawned it.
    _ = world.try_despawn(entity);
}

#[cfg(test)]
mod tests {
    use peerflock::Boot;

    use super::*;

    #[test]
    fn an_awaited_entity_is_kept_for_its_time_only() {
        let mut world = World::new();
        world.init_resource::<MeshEntities>();
        let id = EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter: 0 };
        let start = MeshTime(1_000);
        let [entity] = resolve(&mut world, &[id], start)[..] else { panic!("one reference, one entity") };
        assert_eq!(resolve(&mut world, &[id, id], start), [entity, entity], "the same reference means the same entity");
        assert_eq!(world.resource::<MeshEntities>().entity(id), None, "it is not here yet");

        let end = MeshTime(start.0 + AWAITED_FOR.as_micros() as u64);
        expire_awaited(&mut world, MeshTime(end.0 - 1));
        assert!(world.get_entity(entity).is_ok());
        expire_awaited(&mut world, end);
        assert!(world.get_entity(entity).is_err());
        assert_ne!(resolve(&mut world, &[id], end), [entity]);
    }

    #[test]
    fn awaited_entities_are_bounded() {
        let mut world = World::new();
        world.init_resource::<MeshEntities>();
        let id = |counter| EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter };
        let refs: Vec<_> = (0..AWAITED_MAX as u32 + 1).map(id).collect();
        let entities = resolve(&mut world, &refs, MeshTime(0));
        assert_eq!(entities.iter().filter(|entity| **entity == Entity::PLACEHOLDER).count(), 1);
    }
}
