//! Remote movement is shown between what is known, later than it was, smoothly, and never beyond.

#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

use bevy_app::{FixedUpdate, Update};
use bevy_ecs::prelude::*;
use bevy_peerflock::InterpolationDelay;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use bevy_transform::components::Transform;
use glam::Vec3;

/// Where the remote entity was shown, frame by frame.
#[derive(Default, Resource)]
struct Shown(Vec<f32>);

/// One unit a tick.
fn game(app: &mut bevy_app::App) {
    app.replicate::<Transform>().init_resource::<Shown>();
    app.add_systems(FixedUpdate, |mut mine: Query<&mut Transform, With<Mine>>| {
        mine.iter_mut().for_each(|mut transform| transform.translation.x += 1.0);
    });
    app.add_systems(Update, |remote: Query<&Transform, Without<Mine>>, mut shown: ResMut<Shown>| {
        shown.0.extend(remote.iter().map(|transform| transform.translation.x));
    });
}

fn between_ticks(shown: &[f32]) -> usize {
    shown.iter().filter(|x| x.fract() > 0.05 && x.fract() < 0.95).count()
}

#[test]
fn movement_is_shown_between_ticks_and_never_beyond() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Transform::default())).id();
    mesh.until_seen(0, here, 1);
    mesh.run_for(std::time::Duration::from_secs(1));
    mesh.app(1).world_mut().resource_mut::<Shown>().0.clear();
    let mut behind = Vec::new();
    for _ in 0..200 {
        mesh.step();
        let newest = mesh.app(0).world().get::<Transform>(here).unwrap().translation.x;
        let shown = *mesh.app(1).world().resource::<Shown>().0.last().unwrap();
        assert!(shown <= newest, "shown where it has not been yet");
        behind.push(newest - shown);
    }
    let shown = &mesh.app(1).world().resource::<Shown>().0;
    assert!(shown.windows(2).all(|pair| pair[1] >= pair[0] - 1e-3), "it never goes back");
    assert!(between_ticks(shown) > shown.len() / 3, "most frames fall between ticks: {}", between_ticks(shown));
    let average = behind.iter().sum::<f32>() / behind.len() as f32;
    // A tick is 16 ms: less than a quarter of a second behind, and not without a buffer either.
    assert!((0.5..16.0).contains(&average), "{average} ticks behind");
}

#[test]
fn without_interpolation_it_is_where_it_was_last_heard_of() {
    let mut mesh = TestMesh::new(2, |app| {
        game(app);
        app.add_observer(|added: On<Add, Owner>, mut commands: Commands| {
            commands.entity(added.entity).insert(NoInterpolation);
        });
    });
    let here = mesh.app(0).world_mut().spawn((Replicated, Transform::default())).id();
    mesh.until_seen(0, here, 1);
    mesh.run_for(std::time::Duration::from_millis(500));
    let shown = &mesh.app(1).world().resource::<Shown>().0;
    assert!(shown.iter().any(|x| *x > 5.0));
    assert_eq!(between_ticks(shown), 0);
}

#[test]
fn a_jump_is_shown_as_one() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Transform::default())).id();
    mesh.until_seen(0, here, 1);
    mesh.run_for(std::time::Duration::from_millis(300));
    mesh.app(0).world_mut().get_mut::<Transform>(here).unwrap().translation.x += 10_000.0;
    mesh.run_for(std::time::Duration::from_millis(600));
    let shown = &mesh.app(1).world().resource::<Shown>().0;
    assert!(shown.iter().any(|x| *x >= 10_000.0));
    assert!(shown.iter().all(|x| *x < 1_000.0 || *x >= 10_000.0), "it slid");
}

#[test]
fn a_short_jump_is_shown_as_one_if_its_owner_says_so() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Transform::default())).id();
    mesh.until_seen(0, here, 1);
    for round in 1..=3 {
        mesh.run_for(std::time::Duration::from_millis(300));
        let far = Transform::from_xyz(300.0 * round as f32, 0.0, 0.0);
        mesh.app(0).world_mut().commands().entity(here).teleport(far);
        mesh.app(0).world_mut().flush();
        mesh.run_for(std::time::Duration::from_millis(300));
    }
    let shown = &mesh.app(1).world().resource::<Shown>().0;
    let leaps: Vec<_> = shown.windows(2).filter(|pair| pair[1] - pair[0] > 100.0).collect();
    assert_eq!(leaps.len(), 3, "each was one leap: {leaps:?}");
    let between = |x: &f32| (100.0..300.0).contains(x) || (400.0..600.0).contains(x);
    assert!(!shown.iter().any(between), "it glided");
}

#[derive(Component, Quantized)]
struct Velocity(#[quantized(step = 0.01)] Vec3);

/// Two values that lie side by side, ten ticks apart, of what went round in between.
#[test]
fn a_velocity_that_is_shared_shows_the_way() {
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Transform>().replicate_quantized::<Velocity>().interpolate_with(|velocity: &Velocity| velocity.0);
        app.insert_resource(Interpolation {
            delay: InterpolationDelay::Fixed(std::time::Duration::from_millis(300)),
            ..Default::default()
        });
        app.init_resource::<Height>().add_systems(
            Update,
            |remote: Query<&Transform, Without<Mine>>, mut height: ResMut<Height>| {
                height.0 = remote.iter().map(|transform| transform.translation.y).fold(height.0, f32::max);
            },
        );
    });
    let thrown = |x: f32, up: f32| (Transform::from_xyz(x, 0.0, 0.0), Velocity(Vec3::new(10.0, up, 0.0)));
    let here = mesh.app(0).world_mut().spawn((Replicated, thrown(0.0, 0.0))).id();
    mesh.until_seen(0, here, 1);
    for step in 1..20 {
        mesh.run_for(std::time::Duration::from_millis(90));
        // Up whenever it is seen, and down before that: the ground is never passed, the way between is a hop.
        let up = if step % 2 == 0 { 40.0 } else { -40.0 };
        mesh.app(0).world_mut().entity_mut(here).insert(thrown(step as f32, up));
    }
    mesh.run_for(std::time::Duration::from_millis(400));
    let height = mesh.app(1).world().resource::<Height>().0;
    assert!(height > 0.3, "only {height} high: straight from place to place");
}

#[derive(Default, Resource)]
struct Height(f32);
