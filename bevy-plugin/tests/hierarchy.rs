//! Parents and references mean the same entity everywhere, whatever it is called here and there.

use bevy_ecs::entity::MapEntities;
use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Component, Deserialize, MapEntities, Serialize)]
#[component(map_entities)]
struct Friends(#[entities] Vec<Entity>);

fn game(app: &mut bevy_app::App) {
    app.replicate::<Friends>();
    // Same indices here and there would hide that nothing was translated.
    let mut filler = app.world_mut().spawn_empty();
    filler.world_scope(|world| {
        static CALLS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        for _ in 0..CALLS.fetch_add(3, std::sync::atomic::Ordering::Relaxed) {
            world.spawn_empty();
        }
    });
}

fn parent(mesh: &mut TestMesh, peer: usize, entity: Entity) -> Option<Entity> {
    mesh.app(peer).world().get::<ChildOf>(entity).map(ChildOf::parent)
}

#[test]
fn children_arrive_as_children_and_change_parents() {
    let mut mesh = TestMesh::new(2, game);
    let world = mesh.app(0).world_mut();
    let [mother, father] = [(); 2].map(|()| world.spawn(Replicated).id());
    let child = world.spawn((Replicated, ChildOf(mother))).id();
    let [mother_there, father_there, child_there] = [mother, father, child].map(|entity| mesh.until_seen(0, entity, 1));
    assert_eq!(parent(&mut mesh, 1, child_there), Some(mother_there));

    mesh.app(0).world_mut().entity_mut(child).insert(ChildOf(father));
    mesh.until("it has another parent", |mesh| parent(mesh, 1, child_there) == Some(father_there));
    mesh.app(0).world_mut().entity_mut(child).remove::<ChildOf>();
    mesh.until("it has none", |mesh| parent(mesh, 1, child_there).is_none());
}

#[test]
fn a_parent_shared_later_becomes_the_parent_later() {
    let mut mesh = TestMesh::new(2, game);
    let world = mesh.app(0).world_mut();
    let mother = world.spawn_empty().id();
    let child = world.spawn((Replicated, ChildOf(mother))).id();
    let child_there = mesh.until_seen(0, child, 1);
    assert_eq!(parent(&mut mesh, 1, child_there), None);
    mesh.app(0).world_mut().entity_mut(mother).insert(Replicated);
    let mother_there = mesh.until_seen(0, mother, 1);
    mesh.until("it has its parent", |mesh| parent(mesh, 1, child_there) == Some(mother_there));
}

#[test]
fn a_vanishing_parent_takes_along_only_what_is_its_owners() {
    let mut mesh = TestMesh::new(2, game);
    let parent = mesh.app(0).world_mut().spawn(Replicated).id();
    let parent_there = mesh.until_seen(0, parent, 1);
    // A hat of ours, a local sprite, and the owner's own child.
    let hat = mesh.app(1).world_mut().spawn((Replicated, ChildOf(parent_there))).id();
    let sprite = mesh.app(1).world_mut().spawn(ChildOf(parent_there)).id();
    let child = mesh.app(0).world_mut().spawn((Replicated, ChildOf(parent))).id();
    let child_there = mesh.until_seen(0, child, 1);
    mesh.until_seen(1, hat, 0);

    mesh.app(0).world_mut().despawn(parent);
    mesh.until("the parent is gone", |mesh| mesh.app(1).world().get_entity(parent_there).is_err());
    mesh.until("its owner's child too", |mesh| mesh.app(1).world().get_entity(child_there).is_err());
    let world = mesh.app(1).world();
    assert!(world.get_entity(sprite).is_err());
    assert!(world.get_entity(hat).is_ok() && world.get::<ChildOf>(hat).is_none());
    // There, the hat went with its parent; what the mesh says next brings it back.
    mesh.app(1).world_mut().entity_mut(hat).insert(Friends(Vec::new()));
    mesh.until("the hat is seen", |mesh| {
        let Some(hat) = mesh.seen(1, hat, 0) else { return false };
        mesh.app(0).world().get::<Friends>(hat).is_some()
    });
}

#[test]
fn references_mean_the_same_entity() {
    let mut mesh = TestMesh::new(2, game);
    let world = mesh.app(0).world_mut();
    // The one that refers comes first: its friend is not known yet when it arrives.
    let unshared = world.spawn_empty().id();
    let lonely = world.spawn((Replicated, Friends(Vec::new()))).id();
    let friend = world.spawn(Replicated).id();
    world.get_mut::<Friends>(lonely).unwrap().0 = vec![friend, lonely, unshared, friend];
    let [lonely_there, friend_there] = [lonely, friend].map(|entity| mesh.until_seen(0, entity, 1));
    let friends = &mesh.app(1).world().get::<Friends>(lonely_there).unwrap().0;
    assert_eq!(friends, &[friend_there, lonely_there, Entity::PLACEHOLDER, friend_there]);

    // And across owners: a third peer's reference to the first one's entity.
    let third = mesh.join();
    let friend_third = mesh.until_seen(0, friend, third);
    let fan = mesh.app(third).world_mut().spawn((Replicated, Friends(vec![friend_third]))).id();
    for (peer, expected) in [(0, friend), (1, friend_there)] {
        let fan = mesh.until_seen(third, fan, peer);
        assert_eq!(mesh.app(peer).world().get::<Friends>(fan).unwrap().0, [expected]);
    }
}
