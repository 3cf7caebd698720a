//! A transform that is no number does no harm anywhere.

use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use bevy_transform::components::Transform;

#[test]
fn what_is_no_number_does_no_harm() {
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Transform>();
    });
    let broken = Transform::from_xyz(f32::NAN, f32::INFINITY, 1.0).with_scale(Transform::IDENTITY.scale * f32::NAN);
    let here = mesh.app(0).world_mut().spawn((Replicated, broken)).id();
    let there = mesh.until_seen(0, here, 1);
    let seen = *mesh.app(1).world().get::<Transform>(there).unwrap();
    assert!(seen.is_finite(), "{seen:?}");
    assert_eq!((seen.translation.x, seen.translation.z), (0.0, 1.0));

    // And it recovers.
    *mesh.app(0).world_mut().get_mut::<Transform>(here).unwrap() = Transform::from_xyz(3.0, 0.0, 0.0);
    mesh.until("it is somewhere again", |mesh| {
        let seen = mesh.app(1).world().get::<Transform>(there).unwrap();
        assert!(seen.is_finite(), "{seen:?}");
        (seen.translation.x, seen.scale.x) == (3.0, 1.0)
    });
}
