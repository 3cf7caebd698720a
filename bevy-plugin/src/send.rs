//! From the ECS to the mesh: what the game did to its own entities in this fixed tick.

use std::any::type_name;

use peerflock::{Change, EntityId, KindId, Orphan, PeerId, PeerMesh};

use crate::engine::{
    ChangeTick, Changed, Children, Commands, DetectChanges, Entity, EntityHashMap, Local, MessageWriter, On, Query, QueryState,
    Ref, Remove, Res, ResMut, Resource, SystemChangeTick, SystemSet, With, Without, World,
};
use crate::entities::{Held, Known, MeshEntities};
use crate::ownership::{Adoptable, Giving, MeshEntity, Mine, Owner, OwnershipChanged, OwnershipPolicy, Replicated};
use crate::plugin::MeshHandle;
use crate::presence::MeshEvent;
use crate::replicate::{Codec, Gate, KindTable, Kinds, Parent, Sending};

/// The order in which a tick is put together.
#[derive(Clone, Debug, Eq, Hash, PartialEq, SystemSet)]
pub(crate) enum Steps {
    /// Resources get an entity to live on.
    Claim,
    /// New entities get their numbers.
    Announce,
    /// Changed resources are encoded.
    Fill,
    /// Changed components are encoded, type by type.
    Collect,
    /// What was removed, despawned and given away follows; then the tick is over.
    Commit,
}

/// What this tick will say.
#[derive(Default, Resource)]
pub(crate) struct Outbox {
    changes: Vec<Change>,
    removed: Vec<(Entity, KindId)>,
    despawned: Vec<EntityId>,
    /// Entities whose components, up to this change tick, are what the mesh knows already.
    known_until: EntityHashMap<ChangeTick>,
}

impl Outbox {
    /// All components of `entity` are now as the mesh knows them; what changes from the next change tick on is news.
    pub(crate) fn is_known(&mut self, entity: Entity, until: ChangeTick) {
        self.known_until.insert(entity, until);
    }

    /// An own entity lost a component. Whether it stays so shows at the end of the tick.
    pub(crate) fn is_removed(&mut self, entity: Entity, kind: KindId) {
        self.removed.push((entity, kind));
    }

    /// How much an own entity matters beside the others.
    pub(crate) fn weigh(&mut self, entity: EntityId, weight: u16) {
        self.changes.push(Change::Weigh { entity, weight });
    }

    #[cfg(test)]
    pub(crate) fn take_for_test(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Forgets what was not sent, with the mesh it was for.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Numbers what was spawned since the last tick, all of it before any reference is encoded, and says all of it.
pub(crate) fn announce(world: &mut World, fresh: &mut QueryState<Entity, (With<Replicated>, With<Mine>, Without<MeshEntity>)>) {
    let fresh: Vec<Entity> = fresh.iter(world).collect();
    if fresh.is_empty() {
        return;
    }
    let mesh = PeerMesh::clone(world.resource::<MeshHandle>());
    let kinds = Kinds::table(world);
    let mut changes = Vec::with_capacity(2 * fresh.len());
    for entity in &fresh {
        // An observer may have despawned it on the way here.
        let Ok(mut here) = world.get_entity_mut(*entity) else { continue };
        let policy = here.get::<OwnershipPolicy>().copied().unwrap_or_default();
        let id = mesh.spawn_with(policy.into());
        let orphan = if here.contains::<Adoptable>() { Orphan::Adopt } else { Orphan::Vanish };
        here.insert((MeshEntity(id), Owner(mesh.id())));
        world.resource_mut::<MeshEntities>().insert(id, Known::new(*entity, mesh.id(), orphan));
        changes.push(Change::Spawn { entity: id, orphan });
    }
    for entity in &fresh {
        let encoded = encode_all(world, &kinds, *entity);
        let Some(id) = world.get::<MeshEntity>(*entity).map(|id| id.0) else { continue };
        changes.extend(encoded.into_iter().map(|held| Change::Set { entity: id, kind: held.kind, value: held.value }));
        changes.extend(adopted_children(world, *entity));
    }
    let now = world.change_tick();
    let mut outbox = world.resource_mut::<Outbox>();
    for entity in fresh {
        outbox.is_known(entity, now);
    }
    outbox.changes.append(&mut changes);
}

/// Encodes what the game changed of one component, as far as its turn has come.
pub(crate) fn collect<C: Codec>(
    changed: Query<'_, '_, (Entity, &MeshEntity, Ref<'_, C::Component>), (With<Mine>, Changed<C::Component>)>,
    ours: Query<'_, '_, (&MeshEntity, &C::Component), With<Mine>>,
    names: Query<'_, '_, &MeshEntity>,
    kinds: Res<'_, Kinds>,
    mut outbox: ResMut<'_, Outbox>,
    mut events: MessageWriter<'_, MeshEvent>,
    ticks: SystemChangeTick,
    mut gate: Local<'_, Gate>,
) {
    let Some((kind, sending)) = kinds.sending_of::<C>() else { return };
    let name_of = |entity| names.get(entity).ok().map(|id| id.0);
    let mut send =
        |outbox: &mut Outbox, entity: Entity, id: &MeshEntity, component: &C::Component| match C::encode(component, &name_of) {
            Ok(Some(value)) => outbox.changes.push(Change::Set { entity: id.0, kind, value }),
            Ok(None) => outbox.changes.push(Change::Unset { entity: id.0, kind }),
            Err(error) => {
                events.write(MeshEvent::EncodeFailed { entity, component: type_name::<C::Component>(), error });
            }
        };
    gate.tick();
    for (entity, id, component) in &changed {
        let known_until = outbox.known_until.get(&entity);
        if known_until.is_some_and(|until| !component.last_changed().is_newer_than(*until, ticks.this_run())) {
            gate.note_sent(sending, entity);
        } else if gate.lets_through(sending, entity, component.is_added()) {
            send(&mut outbox, entity, id, &component);
        }
    }
    for entity in gate.due(sending) {
        // Not so if it was despawned, given away or lost the component while it waited.
        if let Ok((id, component)) = ours.get(entity) {
            send(&mut outbox, entity, id, component);
        }
    }
}

/// Remembers that an own entity lost a component.
pub(crate) fn note_removal<C: Codec>(
    removal: On<'_, '_, Remove, C::Component>,
    ours: Query<'_, '_, (), (With<Mine>, With<MeshEntity>)>,
    kinds: Res<'_, Kinds>,
    mut outbox: ResMut<'_, Outbox>,
) {
    if let (true, Some(kind)) = (ours.contains(removal.entity), kinds.number_of::<C>()) {
        outbox.is_removed(removal.entity, kind);
    }
}

/// Remembers that an own entity was despawned, or is to be shared no longer.
pub(crate) fn note_despawn(
    removal: On<'_, '_, Remove, Replicated>,
    ours: Query<'_, '_, &MeshEntity, With<Mine>>,
    mut entities: ResMut<'_, MeshEntities>,
    mut outbox: ResMut<'_, Outbox>,
    mut commands: Commands<'_, '_>,
) {
    let Ok(id) = ours.get(removal.entity) else { return };
    // What vanishes because the mesh says so was forgotten before it was despawned. What the mesh says from here on of an
    // entity that we ended does not bring it back.
    if entities.remove(id.0).is_some() {
        outbox.despawned.push(id.0);
    }
    commands.entity(removal.entity).try_remove::<(MeshEntity, Owner, Mine, Giving)>();
}

/// Adds what was removed, despawned and given away, and ends the tick.
pub(crate) fn commit(world: &mut World, given: &mut QueryState<(Entity, &MeshEntity, &Giving), With<Mine>>) {
    let mesh = PeerMesh::clone(world.resource::<MeshHandle>());
    let kinds = Kinds::table(world);
    let mut outbox = world.resource_mut::<Outbox>();
    outbox.known_until.clear();
    let removed = std::mem::take(&mut outbox.removed);
    let despawned = std::mem::take(&mut outbox.despawned);
    let changes = std::mem::take(&mut outbox.changes);
    // The next tick will be about as busy as this one.
    outbox.changes.reserve(changes.len());
    let mut changes = changes;
    for (entity, kind) in removed {
        if let (Ok(here), Some(entry)) = (world.get_entity(entity), kinds.get(kind))
            && let Some(id) = here.get::<MeshEntity>()
            && !here.contains_id(entry.component)
        {
            changes.push(Change::Unset { entity: id.0, kind });
        }
    }
    changes.extend(despawned.into_iter().map(|entity| Change::Despawn { entity }));
    let given: Vec<_> = given.iter(world).map(|(entity, id, giving)| (entity, id.0, giving.0)).collect();
    if !given.is_empty() {
        give(world, &mesh, &kinds, given, &mut changes);
    }
    mesh.commit(changes);
}

/// Passes entities on: from here on, what they have here is what the mesh last said of them.
fn give(
    world: &mut World,
    mesh: &PeerMesh,
    kinds: &KindTable,
    given: Vec<(Entity, EntityId, PeerId)>,
    changes: &mut Vec<Change>,
) {
    let members = mesh.members();
    for (entity, id, to) in given {
        // An observer of what happens to one may despawn another.
        let Ok(mut here) = world.get_entity_mut(entity) else { continue };
        here.remove::<Giving>();
        if to == mesh.id() {
            continue;
        }
        if !members.iter().any(|member| member.peer == to) {
            world.write_message(MeshEvent::TransferFailed { entity, to });
            continue;
        }
        let held = encode_all(world, kinds, entity);
        // What waited for its turn, or is said only once, goes along.
        let unsaid = held.iter().filter(|held| kinds.get(held.kind).is_some_and(|entry| entry.sending != Sending::OnChange));
        changes.extend(unsaid.map(|held| Change::Set { entity: id, kind: held.kind, value: held.value.clone() }));
        if let Some(known) = world.resource_mut::<MeshEntities>().get_mut(id) {
            (known.owner, known.held, known.unconfirmed) = (Some(to), held, true);
        }
        changes.push(Change::Transfer { entity: id, to });
        if let Ok(mut here) = world.get_entity_mut(entity) {
            here.remove::<Mine>().insert(Owner(to));
        }
        world.write_message(OwnershipChanged { entity, from: mesh.id(), to });
    }
}

/// All shared components of an entity, as the mesh is to know them.
fn encode_all(world: &mut World, kinds: &KindTable, entity: Entity) -> Vec<Held> {
    let mut held = Vec::new();
    let mut failed = Vec::new();
    let name_of = |entity| world.get::<MeshEntity>(entity).map(|id| id.0);
    let Ok(here) = world.get_entity(entity) else { return held };
    for (kind, entry) in kinds.iter() {
        let Some(ticks) = here.get_change_ticks_by_id(entry.component) else { continue };
        match (entry.encode)(here, &name_of) {
            Ok(Some(value)) => held.push(Held { kind, value, written: ticks.changed }),
            Ok(None) => {}
            Err(error) => failed.push(MeshEvent::EncodeFailed { entity, component: entry.name, error }),
        }
    }
    world.write_message_batch(failed);
    held
}

/// The parent of those own children that the mesh knew before it knew their parent.
fn adopted_children(world: &World, parent: Entity) -> Vec<Change> {
    let Some(kind) = world.resource::<Kinds>().number_of::<Parent>() else { return Vec::new() };
    let Some(parent_id) = world.get::<MeshEntity>(parent) else { return Vec::new() };
    let children = world.get::<Children>(parent).into_iter().flatten();
    children
        .filter(|child| world.get::<Mine>(**child).is_some())
        .filter_map(|child| world.get::<MeshEntity>(*child))
        .map(|child| Change::Set { entity: child.0, kind, value: Parent::value(parent_id.0) })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::engine::{App, Component, FixedLast, IntoScheduleConfigs, Last, Transform};
    use crate::ownership::OwnershipCommandsExt;
    use crate::replicate::ReplicateAppExt;
    use crate::test_app::TestMesh;

    #[derive(Component, Deserialize, Serialize)]
    struct Health(u32);

    /// What was committed, tick by tick where there was anything.
    #[derive(Default, Resource)]
    struct Said(Vec<Vec<Change>>);

    fn record(outbox: Res<'_, Outbox>, mut said: ResMut<'_, Said>) {
        if !outbox.changes.is_empty() {
            said.0.push(outbox.changes.clone());
        }
    }

    fn game(app: &mut App) {
        app.replicate::<Health>().init_resource::<Said>();
        app.add_systems(FixedLast, record.after(Steps::Collect).before(Steps::Commit));
    }

    fn said(mesh: &mut TestMesh, peer: usize) -> Vec<Vec<Change>> {
        std::mem::take(&mut mesh.app(peer).world_mut().resource_mut::<Said>().0)
    }

    #[test]
    fn a_spawn_is_said_once_and_a_change_once() {
        let mut mesh = TestMesh::new(2, game);
        let here = mesh.app(0).world_mut().spawn((Replicated, Health(1))).id();
        mesh.until_seen(0, here, 1);
        mesh.run_for(std::time::Duration::from_millis(100));
        assert!(matches!(&said(&mut mesh, 0)[..], [spawn] if matches!(spawn[..], [Change::Spawn { .. }, Change::Set { .. }])));
        if let Some(mut health) = mesh.app(0).world_mut().get_mut::<Health>(here) {
            health.0 = 2;
        }
        mesh.run_for(std::time::Duration::from_millis(100));
        assert!(matches!(&said(&mut mesh, 0)[..], [change] if matches!(change[..], [Change::Set { .. }])));
        assert!(said(&mut mesh, 1).is_empty(), "what comes from the mesh does not go back to it");
    }

    #[test]
    fn an_untouched_world_says_nothing_and_takes_no_memory() {
        let mut mesh = TestMesh::new(2, |app| {
            game(app);
            app.replicate::<Transform>().replicate_resource::<Score>().insert_resource(Score(1)).init_resource::<Touched>();
            app.add_systems(Last, |changed: Query<'_, '_, (), Changed<Transform>>, mut touched: ResMut<'_, Touched>| {
                touched.0 += changed.iter().count();
            });
        });
        let all: Vec<_> = (0..500)
            .map(|n| mesh.app(0).world_mut().spawn((Replicated, Health(n), Transform::from_xyz(n as f32, 0.0, 0.0))).id())
            .collect();
        mesh.until_seen(0, all[499], 1);
        mesh.until("all rests, the resource as well", |mesh| mesh.app(1).world().resource::<MeshEntities>().len() == 501);
        mesh.run_for(std::time::Duration::from_millis(500));
        for peer in 0..2 {
            said(&mut mesh, peer);
            mesh.app(peer).world_mut().resource_mut::<Touched>().0 = 0;
        }
        mesh.run_for(std::time::Duration::from_millis(300));
        for peer in 0..2 {
            assert_eq!(said(&mut mesh, peer), [] as [Vec<Change>; 0]);
            assert_eq!(mesh.app(peer).world().resource::<Touched>().0, 0, "nothing is written that does not change");
            assert_eq!(mesh.app(peer).world().resource::<Outbox>().changes.capacity(), 0);
        }
        // And of what is touched, only that.
        if let Some(mut transform) = mesh.app(0).world_mut().get_mut::<Transform>(all[7]) {
            transform.translation.y = 1.0;
        }
        mesh.until("it moved", |mesh| mesh.app(1).world().resource::<Touched>().0 > 0);
        assert!(matches!(&said(&mut mesh, 0)[..], [change] if matches!(change[..], [Change::Set { .. }])));
    }

    #[derive(Deserialize, Resource, Serialize)]
    struct Score(u32);

    #[derive(Default, Resource)]
    struct Touched(usize);

    #[test]
    fn what_came_from_the_mesh_is_not_said_again_by_its_new_owner() {
        let mut mesh = TestMesh::new(2, game);
        let here = mesh.app(0).world_mut().spawn((Replicated, Health(1))).id();
        let there = mesh.until_seen(0, here, 1);
        let heir = mesh.id(1);
        // In the tick of its last change, so that the value and the ownership arrive together.
        if let Some(mut health) = mesh.app(0).world_mut().get_mut::<Health>(here) {
            health.0 = 2;
        }
        mesh.app(0).world_mut().commands().entity(here).give_to(heir);
        mesh.app(0).world_mut().flush();
        mesh.until("it is the other's", |mesh| mesh.app(1).world().get::<Mine>(there).is_some());
        mesh.run_for(std::time::Duration::from_millis(100));
        assert_eq!(mesh.app(1).world().get::<Health>(there).map(|health| health.0), Some(2));
        assert!(said(&mut mesh, 1).is_empty());
        // Back again, and again nothing is said twice.
        said(&mut mesh, 0);
        let giver = mesh.id(0);
        mesh.app(1).world_mut().commands().entity(there).give_to(giver);
        mesh.app(1).world_mut().flush();
        mesh.until("it is back", |mesh| mesh.app(0).world().get::<Mine>(here).is_some());
        mesh.run_for(std::time::Duration::from_millis(100));
        assert!(said(&mut mesh, 0).is_empty());
    }
}
