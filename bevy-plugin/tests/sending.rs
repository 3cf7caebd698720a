//! When a component is sent is the game's to say: each change, every few ticks, or once.

#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

use std::time::Duration;

use bevy_app::{FixedUpdate, Update};
use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Clone, Component, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Often(u32);

#[derive(Clone, Component, Debug, Default, PartialEq, Quantized)]
struct Seldom(u32);

#[derive(Clone, Component, Debug, Default, Deserialize, PartialEq, Serialize)]
struct Once(u32);

/// The tick up to which everything changes.
#[derive(Default, Resource)]
struct Until(u32);

/// Which values arrived from others.
#[derive(Default, Resource)]
struct Heard {
    often: Vec<u32>,
    seldom: Vec<u32>,
    once: Vec<u32>,
}

const TICKS: u32 = 8;

fn game(app: &mut bevy_app::App) {
    app.replicate::<Often>()
        .replicate_with(Replication::quantized::<Seldom>().every(TICKS))
        .replicate_with(Replication::component::<Once>().once())
        .init_resource::<Until>()
        .init_resource::<Heard>()
        .add_systems(FixedUpdate, |mut mine: Query<(&mut Often, &mut Seldom, &mut Once), With<Mine>>, until: Res<Until>| {
            for (mut often, mut seldom, mut once) in &mut mine {
                if often.0 < until.0 {
                    often.0 += 1;
                    seldom.0 = often.0;
                    once.0 = often.0;
                }
            }
        })
        .add_systems(
            Update,
            |often: Query<&Often, (Changed<Often>, Without<Mine>)>,
             seldom: Query<&Seldom, (Changed<Seldom>, Without<Mine>)>,
             once: Query<&Once, (Changed<Once>, Without<Mine>)>,
             mut heard: ResMut<Heard>| {
                heard.often.extend(often.iter().map(|value| value.0));
                heard.seldom.extend(seldom.iter().map(|value| value.0));
                heard.once.extend(once.iter().map(|value| value.0));
            },
        );
}

fn moving() -> (TestMesh, Entity, Entity) {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Often::default(), Seldom::default(), Once::default())).id();
    let there = mesh.until_seen(0, here, 1);
    mesh.app(0).world_mut().resource_mut::<Until>().0 = 100;
    (mesh, here, there)
}

#[test]
fn each_is_sent_as_often_as_the_game_said() {
    let (mut mesh, _, there) = moving();
    mesh.until("the last of it arrives", |mesh| mesh.app(1).world().get::<Often>(there) == Some(&Often(100)));
    mesh.until("the last arrives also of what is sent seldom", |mesh| {
        mesh.app(1).world().get::<Seldom>(there) == Some(&Seldom(100))
    });
    mesh.run_for(Duration::from_millis(200));
    let heard = mesh.app(1).world().resource::<Heard>();
    assert!(heard.often.len() > 40, "{:?}", heard.often);
    // Frames may carry several ticks; values may not come closer than they were sent.
    assert!(heard.seldom.len() >= 5 && heard.seldom.len() <= 100 / TICKS as usize + 2, "{:?}", heard.seldom);
    // The last of all is what waited for its turn; those before it went out when they changed or later.
    let apart = heard.seldom.windows(2).rev().skip(1).map(|pair| pair[1] - pair[0]);
    assert!(apart.clone().all(|ticks| ticks >= TICKS || ticks == 0), "{:?}", heard.seldom);
    assert_eq!(heard.once, [0]);
    assert_eq!(mesh.app(1).world().get::<Once>(there), Some(&Once(0)));
}

#[test]
fn what_was_not_said_passes_on_with_the_entity() {
    let (mut mesh, here, there) = moving();
    mesh.until("it has moved", |mesh| mesh.app(0).world().get::<Often>(here).unwrap().0 > 20);
    let heir = mesh.id(1);
    mesh.app(0).world_mut().resource_mut::<Until>().0 = 0;
    mesh.app(0).world_mut().commands().entity(here).give_to(heir);
    mesh.app(0).world_mut().flush();
    mesh.until("it is the other's", |mesh| mesh.app(1).world().get::<Mine>(there).is_some());
    mesh.run_for(Duration::from_millis(100));
    let last = mesh.app(0).world().get::<Often>(here).unwrap().0;
    let world = mesh.app(1).world();
    assert_eq!(world.get::<Often>(there), Some(&Often(last)));
    assert_eq!(world.get::<Seldom>(there), Some(&Seldom(last)));
    assert_eq!(world.get::<Once>(there), Some(&Once(last)));
}

#[test]
fn who_comes_late_gets_what_was_said_last() {
    let (mut mesh, here, there) = moving();
    mesh.until("the last of it arrives", |mesh| mesh.app(1).world().get::<Seldom>(there) == Some(&Seldom(100)));
    let late = mesh.join();
    let there = mesh.until_seen(0, here, late);
    mesh.until("all of it is there", |mesh| {
        let world = mesh.app(late).world();
        (world.get::<Seldom>(there), world.get::<Once>(there)) == (Some(&Seldom(100)), Some(&Once(0)))
    });
}
