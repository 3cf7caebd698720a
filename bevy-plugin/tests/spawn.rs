//! What one peer spawns appears on the others, with its owner, and goes when it is despawned.

use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use bevy_transform::components::Transform;
use serde::{Deserialize, Serialize};

#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
struct Health(u32);

#[derive(Component, Deserialize, Serialize)]
struct Tag;

fn game(app: &mut bevy_app::App) {
    app.replicate::<Transform>().replicate::<Health>().replicate::<Tag>();
}

#[test]
fn what_is_spawned_appears_with_its_owner() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Transform::from_xyz(1.0, 2.0, 3.0), Health(7), Tag)).id();
    let there = mesh.until_seen(0, here, 1);

    let owner = mesh.id(0);
    let world = mesh.app(1).world();
    assert_eq!(world.get::<Owner>(there), Some(&Owner(owner)));
    assert!(world.get::<Mine>(there).is_none() && world.get::<Replicated>(there).is_some());
    assert!(!world.get::<Owner>(there).unwrap().is_me(world.resource::<MeshHandle>()));
    // All of it at once: nobody sees half an entity.
    assert_eq!(world.get::<Health>(there), Some(&Health(7)));
    assert_eq!(world.get::<Transform>(there).unwrap().translation.to_array(), [1.0, 2.0, 3.0]);
    assert!(world.get::<Tag>(there).is_some());

    let world = mesh.app(0).world();
    assert!(world.get::<Mine>(here).is_some());
    assert!(world.get::<Owner>(here).unwrap().is_me(world.resource::<MeshHandle>()));
}

#[test]
fn what_is_spawned_before_there_is_a_mesh_is_ours_at_once_and_appears_later() {
    let mut mesh = TestMesh::new(2, |app| {
        game(app);
        let early = app.world_mut().spawn((Replicated, Health(1))).id();
        assert!(app.world().get::<Mine>(early).is_some());
    });
    mesh.until("both see both", |mesh| (0..2).all(|peer| mesh.app(peer).world().resource::<MeshEntities>().len() == 2));
}

#[test]
fn what_is_despawned_vanishes() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(7))).id();
    let there = mesh.until_seen(0, here, 1);
    mesh.app(0).world_mut().despawn(here);
    mesh.until("it is gone", |mesh| mesh.app(1).world().get_entity(there).is_err());
    assert!((0..2).all(|peer| mesh.app(peer).world().resource::<MeshEntities>().is_empty()));
}

#[test]
fn what_is_shared_no_longer_vanishes_there_and_stays_here() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(7))).id();
    let there = mesh.until_seen(0, here, 1);
    mesh.app(0).world_mut().entity_mut(here).remove::<Replicated>();
    mesh.until("it is gone", |mesh| mesh.app(1).world().get_entity(there).is_err());
    assert_eq!(mesh.app(0).world().get::<Health>(here), Some(&Health(7)));
    assert!(mesh.app(0).world().get::<Mine>(here).is_none());

    mesh.app(0).world_mut().entity_mut(here).insert(Replicated);
    mesh.until_seen(0, here, 1);
}

#[test]
fn what_is_spawned_and_despawned_within_a_tick_does_no_harm() {
    let mut mesh = TestMesh::new(2, game);
    let world = mesh.app(0).world_mut();
    let gone = world.spawn((Replicated, Health(1))).id();
    world.despawn(gone);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(2))).id();
    mesh.until_seen(0, here, 1);
    assert_eq!(mesh.app(1).world().resource::<MeshEntities>().len(), 1);
}
