//! Entities pass from peer to peer, with all they have, and nothing is said twice.

#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

use bevy_app::Update;
use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use bevy_transform::components::Transform;
use serde::{Deserialize, Serialize};

#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
struct Health(u32);

/// How often a component of another peer changed here.
#[derive(Default, Resource)]
struct Heard(usize);

fn game(app: &mut bevy_app::App) {
    app.replicate::<Health>().replicate::<Transform>().init_resource::<Heard>().add_systems(
        Update,
        |changed: Query<(), (Changed<Health>, Without<Mine>)>, mut heard: ResMut<Heard>| {
            heard.0 += changed.iter().count();
        },
    );
}

fn give(mesh: &mut TestMesh, from: usize, entity: Entity, to: usize) {
    let heir = mesh.id(to);
    mesh.app(from).world_mut().commands().entity(entity).give_to(heir);
    mesh.app(from).world_mut().flush();
}

fn is_whose(mesh: &mut TestMesh, entities: [Entity; 2], owner: usize) -> bool {
    let id = mesh.id(owner);
    (0..2).all(|peer| {
        let entity = mesh.app(peer).world().entity(entities[peer]);
        entity.get::<Owner>() == Some(&Owner(id)) && entity.contains::<Mine>() == (peer == owner)
    })
}

#[test]
fn it_passes_back_and_forth() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(0), Transform::default())).id();
    let there = mesh.until_seen(0, here, 1);
    let entities = [here, there];
    for round in 1..=6 {
        let (from, to) = ((round as usize + 1) % 2, round as usize % 2);
        give(&mut mesh, from, entities[from], to);
        mesh.until("it is the other's", |mesh| is_whose(mesh, entities, to));
        // What the new owner does counts, what the old one does does not.
        mesh.app(to).world_mut().get_mut::<Health>(entities[to]).unwrap().0 = round;
        mesh.app(to).world_mut().get_mut::<Transform>(entities[to]).unwrap().translation.x = round as f32;
        mesh.until("the new owner is heard", |mesh| {
            let seen = mesh.app(from).world().entity(entities[from]);
            seen.get::<Health>() == Some(&Health(round)) && seen.get::<Transform>().unwrap().translation.x == round as f32
        });
    }
    let heard: usize = (0..2).map(|peer| mesh.app(peer).world().resource::<Heard>().0).sum();
    assert!(heard <= 1 + 6, "once for the spawn, once a round, but it was {heard} times");
}

#[test]
fn who_gets_it_goes_on_from_what_the_owner_last_said() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(1), Transform::default())).id();
    let there = mesh.until_seen(0, here, 1);
    // What the heir did to it while it was not its own is forgotten; what the owner did in the very last tick is not.
    mesh.app(1).world_mut().get_mut::<Health>(there).unwrap().0 = 1_000;
    mesh.app(1).world_mut().entity_mut(there).remove::<Transform>();
    mesh.app(0).world_mut().get_mut::<Transform>(here).unwrap().translation.x = 42.0;
    give(&mut mesh, 0, here, 1);
    mesh.until("it is the other's", |mesh| is_whose(mesh, [here, there], 1));
    assert_eq!(mesh.app(1).world().get::<Health>(there), Some(&Health(1)));
    assert_eq!(mesh.app(1).world().get::<Transform>(there).unwrap().translation.x, 42.0);
    mesh.run_for(std::time::Duration::from_millis(300));
    assert_eq!(mesh.app(0).world().get::<Health>(here), Some(&Health(1)));
}

#[test]
fn what_an_observer_does_to_a_new_own_entity_is_heard() {
    let mut mesh = TestMesh::new(2, |app| {
        game(app);
        app.add_observer(|added: On<Add, Mine>, mut healths: Query<&mut Health>| {
            if let Ok(mut health) = healths.get_mut(added.entity) {
                health.0 += 10;
            }
        });
    });
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(1))).id();
    let there = mesh.until_seen(0, here, 1);
    assert_eq!(mesh.app(1).world().get::<Health>(there), Some(&Health(11)));
    give(&mut mesh, 0, here, 1);
    mesh.until("the observer is heard", |mesh| mesh.app(0).world().get::<Health>(here) == Some(&Health(21)));
}

#[test]
fn giving_to_nobody_is_an_event_and_changes_nothing() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(1))).id();
    let there = mesh.until_seen(0, here, 1);
    let mut cursor = mesh.app(0).world().resource::<Messages<MeshEvent>>().get_cursor_current();
    mesh.app(0).world_mut().commands().entity(here).give_to(PeerId([7; 32]));
    mesh.app(0).world_mut().flush();
    let mut failed = false;
    mesh.until("the giver is told", |mesh| {
        let events = mesh.app(0).world().resource::<Messages<MeshEvent>>();
        failed |= cursor.read(events).any(|event| matches!(event, MeshEvent::TransferFailed { entity, .. } if *entity == here));
        failed
    });
    // And only the owner can give.
    give(&mut mesh, 1, there, 0);
    mesh.run_for(std::time::Duration::from_millis(200));
    assert!(is_whose(&mut mesh, [here, there], 0));
}

#[test]
fn a_flock_passes_in_one_tick() {
    let mut mesh = TestMesh::new(2, game);
    let birds: Vec<_> = (0..100).map(|n| mesh.app(0).world_mut().spawn((Replicated, Health(n))).id()).collect();
    for bird in &birds {
        mesh.until_seen(0, *bird, 1);
    }
    for bird in &birds {
        give(&mut mesh, 0, *bird, 1);
    }
    mesh.until("all are the other's", |mesh| {
        let world = mesh.app(1).world_mut();
        world.query_filtered::<(), With<Mine>>().iter(world).count() == birds.len()
    });
    let world = mesh.app(0).world_mut();
    assert_eq!(world.query_filtered::<(), (With<Replicated>, With<Mine>)>().iter(world).count(), 0);
}
