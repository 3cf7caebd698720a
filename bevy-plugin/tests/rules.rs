//! The game's rules: what a peer says of its own things is shown as far as the rules let it.

use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Clone, Component, Debug, Deserialize, PartialEq, Serialize)]
struct Place(f32);

/// Never further than this at once.
const REACH: f32 = 10.0;
/// Nobody is there.
const NOWHERE: f32 = 1_000.0;

fn rule(change: Proposed<'_, Place>) -> Verdict<Place> {
    let Some(old) = change.old else { return Verdict::Accept };
    let way = change.new.0 - old.0;
    if change.new.0 >= NOWHERE {
        Verdict::Reject
    } else if way.abs() > REACH {
        Verdict::Clamp(Place(old.0 + REACH.copysign(way)))
    } else {
        Verdict::Accept
    }
}

fn place(mesh: &mut TestMesh, peer: usize, entity: Entity) -> f32 {
    mesh.app(peer).world().get::<Place>(entity).map_or(f32::NAN, |place| place.0)
}

fn broken(mesh: &mut TestMesh, peer: usize) -> Vec<RuleBroken> {
    mesh.app(peer).world_mut().resource_mut::<Messages<RuleBroken>>().drain().collect()
}

#[test]
fn a_move_against_the_rules_is_shortened_or_refused_by_those_who_see_it() {
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Place>().validate::<Place>(rule);
    });
    let here = mesh.app(0).world_mut().spawn((Replicated, Place(0.0))).id();
    let there = mesh.until_seen(0, here, 1);
    mesh.app(0).world_mut().get_mut::<Place>(here).unwrap().0 = 7.0;
    mesh.until("what is within the rules arrives", |mesh| place(mesh, 1, there) == 7.0);
    assert_eq!(broken(&mut mesh, 1).len(), 0);

    mesh.app(0).world_mut().get_mut::<Place>(here).unwrap().0 = 50.0;
    mesh.until("the rest of the way is not shown", |mesh| place(mesh, 1, there) == 17.0);
    let told = broken(&mut mesh, 1);
    assert!(
        told.iter().all(|told| told.entity == there && !told.rejected && told.owner.is_some()) && !told.is_empty(),
        "{told:?}"
    );

    mesh.app(0).world_mut().get_mut::<Place>(here).unwrap().0 = NOWHERE;
    mesh.until("it is refused", |mesh| broken(mesh, 1).iter().any(|told| told.rejected));
    assert_eq!(place(&mut mesh, 1, there), 17.0);
    assert_eq!(place(&mut mesh, 0, here), NOWHERE, "its owner sees what it likes");
    assert_eq!(broken(&mut mesh, 0).len(), 0, "and is not asked");
}

#[test]
fn what_is_no_number_is_not_shown_without_any_rule() {
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Place>();
    });
    let here = mesh.app(0).world_mut().spawn((Replicated, Place(1.0))).id();
    let there = mesh.until_seen(0, here, 1);
    for bad in [f32::NAN, f32::INFINITY] {
        mesh.app(0).world_mut().get_mut::<Place>(here).unwrap().0 = bad;
        (0..60).for_each(|_| mesh.step());
        assert_eq!(place(&mut mesh, 1, there), 1.0);
    }
    mesh.app(0).world_mut().get_mut::<Place>(here).unwrap().0 = 2.0;
    mesh.until("the next number arrives", |mesh| place(mesh, 1, there) == 2.0);
}
