//! There is one of a shared resource, whoever inserts it, comes or goes.

#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

use std::time::Duration;

use bevy_app::FixedLast;
use bevy_ecs::entity::MapEntities;
use bevy_ecs::prelude::*;
use bevy_ecs::system::RunSystemOnce;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, PartialEq, Resource, Serialize)]
struct Round(u32);

/// Refers to an entity.
#[derive(Debug, Deserialize, MapEntities, PartialEq, Resource, Serialize)]
#[component(map_entities)]
struct Ball(#[entities] Entity);

fn game(app: &mut bevy_app::App) {
    app.replicate_resource::<Round>().replicate_resource::<Ball>();
}

fn round(mesh: &mut TestMesh, peer: usize) -> Option<u32> {
    mesh.app(peer).world().get_resource::<Round>().map(|round| round.0)
}

fn owns(mesh: &mut TestMesh, peer: usize) -> bool {
    mesh.app(peer).world_mut().run_system_once(owns_resource::<Round>).unwrap()
}

fn carriers(mesh: &mut TestMesh, peer: usize) -> usize {
    let world = mesh.app(peer).world_mut();
    world.query_filtered::<(), With<SharedResource<Round>>>().iter(world).count()
}

fn set(mesh: &mut TestMesh, peer: usize, value: u32) {
    mesh.app(peer).world_mut().insert_resource(Round(value));
}

/// Two peers, of which the first shares a round.
fn shared() -> TestMesh {
    let mut mesh = TestMesh::new(2, game);
    set(&mut mesh, 0, 1);
    mesh.until("the other has it", |mesh| round(mesh, 1) == Some(1));
    assert!(owns(&mut mesh, 0) && !owns(&mut mesh, 1));
    mesh
}

#[test]
fn it_is_everybodys_to_read_and_one_ones_to_change() {
    let mut mesh = shared();
    mesh.app(0).world_mut().resource_mut::<Round>().0 = 2;
    mesh.until("the change arrives", |mesh| round(mesh, 1) == Some(2));
    // What another changes is local, and lasts until the owner's next change.
    mesh.app(1).world_mut().resource_mut::<Round>().0 = 99;
    mesh.run_for(Duration::from_millis(300));
    assert_eq!((round(&mut mesh, 0), round(&mut mesh, 1)), (Some(2), Some(99)));
    mesh.app(0).world_mut().resource_mut::<Round>().0 = 3;
    mesh.until("the owner's word counts", |mesh| round(mesh, 1) == Some(3));
    assert_eq!([carriers(&mut mesh, 0), carriers(&mut mesh, 1)], [1, 1]);
    mesh.app(0).world_mut().remove_resource::<Round>();
    mesh.until("it is removed", |mesh| round(mesh, 1).is_none());
    mesh.run_for(Duration::from_millis(300));
    assert_eq!((round(&mut mesh, 0), carriers(&mut mesh, 1)), (None, 0));
}

#[test]
fn who_comes_takes_over_what_is_there() {
    let mut mesh = TestMesh::new(2, |app| {
        game(app);
        // As games do: everybody starts with one.
        app.insert_resource(Round(0));
    });
    mesh.until("one is everybody's", |mesh| owns(mesh, 0) != owns(mesh, 1) && carriers(mesh, 0) == 1 && carriers(mesh, 1) == 1);
    mesh.run_for(Duration::from_millis(500));
    let owner = usize::from(owns(&mut mesh, 1));
    set(&mut mesh, owner, 7);
    mesh.until("the other has it", |mesh| round(mesh, 1 - owner) == Some(7));
    let late = mesh.join();
    mesh.until("who comes has it", |mesh| round(mesh, late) == Some(7));
    mesh.run_for(Duration::from_millis(2_500));
    assert!(!owns(&mut mesh, late) && (0..3).all(|peer| round(&mut mesh, peer) == Some(7) && carriers(&mut mesh, peer) == 1));
}

#[test]
fn who_is_new_looks_around_first() {
    let mut mesh = TestMesh::new(1, game);
    set(&mut mesh, 0, 1);
    mesh.run_for(Duration::from_secs(1));
    assert!(!owns(&mut mesh, 0) && carriers(&mut mesh, 0) == 0, "others may have it, and not be here yet");
    mesh.until("it is nobody else's", |mesh| owns(mesh, 0));
    assert_eq!(round(&mut mesh, 0), Some(1));
}

#[test]
fn two_at_once_end_with_one_of_them() {
    let mut mesh = TestMesh::new(2, game);
    // Long enough in the mesh to insert at once.
    mesh.run_for(Duration::from_millis(2_200));
    for peer in 0..2 {
        set(&mut mesh, peer, 10 + peer as u32);
        // A tick of each, in which neither has heard of the other's.
        mesh.app(peer).world_mut().run_schedule(FixedLast);
        assert!(owns(&mut mesh, peer));
    }
    mesh.until("one owns it", |mesh| owns(mesh, 0) != owns(mesh, 1) && round(mesh, 0) == round(mesh, 1));
    mesh.run_for(Duration::from_millis(300));
    assert!(owns(&mut mesh, 0) != owns(&mut mesh, 1));
    assert_eq!([carriers(&mut mesh, 0), carriers(&mut mesh, 1)], [1, 1]);
    let owner = usize::from(owns(&mut mesh, 1));
    assert_eq!([0, 1].map(|peer| round(&mut mesh, peer)), [Some(10 + owner as u32); 2]);
    set(&mut mesh, owner, 20);
    mesh.until("its word counts", |mesh| round(mesh, 1 - owner) == Some(20));
}

#[test]
fn it_goes_on_when_its_owner_leaves() {
    let mut mesh = shared();
    set(&mut mesh, 0, 5);
    mesh.until("the other has it", |mesh| round(mesh, 1) == Some(5));
    mesh.leave(0);
    mesh.until("the other owns it", |mesh| owns(mesh, 0));
    assert_eq!(round(&mut mesh, 0), Some(5));
    mesh.app(0).world_mut().resource_mut::<Round>().0 += 1;
    let late = mesh.join();
    mesh.until("who comes has it", |mesh| round(mesh, late) == Some(6));
}

#[test]
fn it_passes_on_with_its_entity() {
    let mut mesh = shared();
    let heir = mesh.id(1);
    // Changed behind the owner's back: it starts from what the mesh knows.
    mesh.app(1).world_mut().resource_mut::<Round>().0 = 99;
    let world = mesh.app(0).world_mut();
    let carrier = world.query_filtered::<Entity, With<SharedResource<Round>>>().single(world).unwrap();
    world.commands().entity(carrier).give_to(heir);
    world.flush();
    mesh.until("it is the other's", |mesh| owns(mesh, 1) && !owns(mesh, 0));
    mesh.run_for(Duration::from_millis(200));
    assert_eq!((round(&mut mesh, 0), round(&mut mesh, 1)), (Some(1), Some(1)));
    mesh.app(1).world_mut().resource_mut::<Round>().0 = 2;
    mesh.until("the new owner's word counts", |mesh| round(mesh, 0) == Some(2));
}

#[test]
fn who_leaves_the_mesh_keeps_what_it_has() {
    let mut mesh = shared();
    for peer in [1, 0] {
        mesh.app(peer).world_mut().commands().leave_mesh();
        mesh.app(peer).world_mut().flush();
        mesh.run_for(Duration::from_millis(50));
        assert_eq!((round(&mut mesh, peer), carriers(&mut mesh, peer)), (Some(1), 0));
    }
}

#[test]
fn entities_in_it_are_translated() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn(Replicated).id();
    mesh.app(0).world_mut().insert_resource(Ball(here));
    let there = mesh.until_seen(0, here, 1);
    mesh.until("it means the same entity", |mesh| mesh.app(1).world().get_resource::<Ball>() == Some(&Ball(there)));
}
