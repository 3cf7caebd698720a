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

/// What was written as a message of this type since the last call.
fn read<M: Message + Clone>(mesh: &mut TestMesh, peer: usize) -> Vec<M> {
    mesh.app(peer).world_mut().resource_mut::<Messages<M>>().drain().collect()
}

fn command(mesh: &mut TestMesh, peer: usize, entity: Entity, command: impl FnOnce(&mut EntityCommands<'_>)) {
    command(&mut mesh.app(peer).world_mut().commands().entity(entity));
    mesh.app(peer).world_mut().flush();
}

#[test]
fn whoever_asks_gets_it_if_the_owners_game_says_so() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(1))).id();
    let there = mesh.until_seen(0, here, 1);
    let (owner, asker) = (mesh.id(0), mesh.id(1));
    for grant in [false, true] {
        command(&mut mesh, 1, there, |entity| {
            entity.request_ownership();
        });
        let mut asked = Vec::new();
        mesh.until("the owner is asked", |mesh| {
            asked.extend(read::<OwnershipRequested>(mesh, 0));
            !asked.is_empty()
        });
        assert_eq!(asked, [OwnershipRequested { entity: here, peer: asker }]);
        command(&mut mesh, 0, here, |entity| {
            entity.answer_request(asker, grant);
        });
        let (mut refused, mut changed) = (Vec::new(), Vec::new());
        mesh.until("there is an answer", |mesh| {
            refused.extend(read::<OwnershipRefused>(mesh, 1));
            changed.extend(read::<OwnershipChanged>(mesh, 1));
            !refused.is_empty() || !changed.is_empty()
        });
        if grant {
            assert_eq!(changed, [OwnershipChanged { entity: there, from: owner, to: asker }]);
            mesh.until("it is the asker's", |mesh| is_whose(mesh, [here, there], 1));
        } else {
            assert_eq!(refused, [OwnershipRefused { entity: there, refusal: Refusal::Refused }]);
        }
    }
}

#[test]
fn the_ball_is_whose_who_seizes_it_and_nothing_else_is() {
    let mut mesh = TestMesh::new(2, game);
    let ball = mesh.app(0).world_mut().spawn((Replicated, OwnershipPolicy::Seize, Health(1))).id();
    let avatar = mesh.app(0).world_mut().spawn((Replicated, Health(2))).id();
    let (ball_there, avatar_there) = (mesh.until_seen(0, ball, 1), mesh.until_seen(0, avatar, 1));
    assert_eq!(mesh.app(1).world().get::<OwnershipPolicy>(ball_there), Some(&OwnershipPolicy::Seize));
    assert_eq!(mesh.app(1).world().get::<OwnershipPolicy>(avatar_there), None);
    for entity in [ball_there, avatar_there] {
        command(&mut mesh, 1, entity, |entity| {
            entity.seize();
        });
    }
    assert_eq!(read::<OwnershipRefused>(&mut mesh, 1), [OwnershipRefused { entity: avatar_there, refusal: Refusal::Refused }]);
    mesh.until("it is the other's", |mesh| is_whose(mesh, [ball, ball_there], 1));
    assert!(is_whose(&mut mesh, [avatar, avatar_there], 0));
    // And back, with what was done to it meanwhile.
    mesh.app(1).world_mut().get_mut::<Health>(ball_there).unwrap().0 = 7;
    mesh.until("its new owner is heard", |mesh| mesh.app(0).world().get::<Health>(ball) == Some(&Health(7)));
    command(&mut mesh, 0, ball, |entity| {
        entity.seize();
    });
    mesh.until("it is back", |mesh| is_whose(mesh, [ball, ball_there], 0));
}
