//! Components follow their owner: changed, added, removed; and what others do to them does not last.

use bevy_ecs::prelude::*;
use bevy_peerflock::Group;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
struct Health(u32);

/// Neither `Clone` nor mutable: both work.
#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
#[component(immutable)]
struct Title(String);

#[derive(Component, Debug, PartialEq)]
struct Speed(i32, i32);

impl Quantized for Speed {
    const GROUPS: &'static [Group] = &[Group::Motion(2)];

    fn quantize(&self, fields: &mut [i32]) {
        fields.copy_from_slice(&[self.0, self.1]);
    }

    fn restore(fields: &[i32]) -> Self {
        Self(fields[0], fields[1])
    }
}

fn two_with_one_entity() -> (TestMesh, Entity, Entity) {
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Health>().replicate::<Title>().replicate_quantized::<Speed>();
    });
    let here = mesh.app(0).world_mut().spawn((Replicated, Health(7))).id();
    let there = mesh.until_seen(0, here, 1);
    (mesh, here, there)
}

#[test]
fn changes_arrive() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(0).world_mut().get_mut::<Health>(here).unwrap().0 = 8;
    mesh.until("the change arrives", |mesh| mesh.app(1).world().get::<Health>(there) == Some(&Health(8)));
    mesh.app(0).world_mut().entity_mut(here).insert(Health(9));
    mesh.until("the replacement arrives", |mesh| mesh.app(1).world().get::<Health>(there) == Some(&Health(9)));
}

#[test]
fn immutable_and_quantized_components_arrive() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(0).world_mut().entity_mut(here).insert((Title("Dr.".into()), Speed(-3, i32::MAX)));
    mesh.until("both arrive", |mesh| {
        let there = mesh.app(1).world().entity(there);
        there.get::<Title>() == Some(&Title("Dr.".into())) && there.get::<Speed>() == Some(&Speed(-3, i32::MAX))
    });
    mesh.app(0).world_mut().entity_mut(here).insert((Title("Prof.".into()), Speed(0, 0)));
    mesh.until("both change", |mesh| {
        let there = mesh.app(1).world().entity(there);
        there.get::<Title>() == Some(&Title("Prof.".into())) && there.get::<Speed>() == Some(&Speed(0, 0))
    });
}

#[test]
fn removals_arrive_also_when_frames_are_many_and_ticks_are_few() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(0).world_mut().entity_mut(here).insert(Title("Dr.".into()));
    mesh.until("the title arrives", |mesh| mesh.app(1).world().get::<Title>(there).is_some());
    // Frames of this test are a quarter of a tick long: Bevy has forgotten the removal when the tick ends.
    mesh.app(0).world_mut().entity_mut(here).remove::<Title>();
    mesh.until("the title is gone", |mesh| mesh.app(1).world().get::<Title>(there).is_none());
    assert!(mesh.app(1).world().get::<Health>(there).is_some());
}

#[test]
fn removed_and_inserted_within_a_tick_is_changed() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(0).world_mut().entity_mut(here).remove::<Health>().insert(Health(1));
    mesh.until("the change arrives", |mesh| mesh.app(1).world().get::<Health>(there) == Some(&Health(1)));
}

#[test]
fn what_others_do_is_local_and_does_not_last() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(1).world_mut().get_mut::<Health>(there).unwrap().0 = 1_000;
    mesh.run_for(std::time::Duration::from_millis(300));
    assert_eq!(mesh.app(0).world().get::<Health>(here), Some(&Health(7)), "only the owner's changes count");

    mesh.app(0).world_mut().get_mut::<Health>(here).unwrap().0 = 6;
    mesh.until("the owner's word comes", |mesh| mesh.app(1).world().get::<Health>(there) == Some(&Health(6)));
}

#[test]
fn despawned_by_another_it_comes_back_with_the_next_change() {
    let (mut mesh, here, there) = two_with_one_entity();
    mesh.app(1).world_mut().despawn(there);
    mesh.run_for(std::time::Duration::from_millis(200));
    assert!(mesh.app(0).world().get_entity(here).is_ok(), "only the owner can despawn it for all");
    mesh.app(0).world_mut().entity_mut(here).insert(Title("Dr.".into()));
    mesh.until("it is back", |mesh| {
        let Some(again) = mesh.seen(0, here, 1) else { return false };
        let Ok(again) = mesh.app(1).world().get_entity(again) else { return false };
        again.get::<Health>() == Some(&Health(7)) && again.get::<Title>().is_some() && again.contains::<Owner>()
    });
}

#[test]
fn what_is_too_long_is_an_event_and_harms_nothing_else() {
    let (mut mesh, here, there) = two_with_one_entity();
    let mut cursor = mesh.app(0).world().resource::<Messages<MeshEvent>>().get_cursor_current();
    mesh.app(0).world_mut().entity_mut(here).insert((Title("x".repeat(5_000)), Health(3)));
    mesh.until("the rest arrives", |mesh| mesh.app(1).world().get::<Health>(there) == Some(&Health(3)));
    assert!(mesh.app(1).world().get::<Title>(there).is_none());
    let events = mesh.app(0).world().resource::<Messages<MeshEvent>>();
    let failed = cursor.read(events).any(|event| matches!(event, MeshEvent::EncodeFailed { entity, .. } if *entity == here));
    assert!(failed);
}
