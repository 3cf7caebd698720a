//! Messages arrive once, in order, at those they are for.

#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

use bevy_app::Update;
use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Shout(String);

#[derive(Debug, Deserialize, Serialize)]
struct Number(u32);

/// All that was heard, and from whom, and whether in private.
#[derive(Debug, Default, PartialEq, Resource)]
struct Heard(Vec<(PeerId, bool, String)>);

fn game(app: &mut bevy_app::App) {
    app.add_mesh_message::<Shout>().add_mesh_message::<Number>().init_resource::<Heard>().add_systems(
        Update,
        |mut shouts: MessageReader<FromMesh<Shout>>, mut numbers: MessageReader<FromMesh<Number>>, mut heard: ResMut<Heard>| {
            heard.0.extend(shouts.read().map(|shout| (shout.from, shout.private, shout.message.0.clone())));
            heard.0.extend(numbers.read().map(|number| (number.from, number.private, number.message.0.to_string())));
        },
    );
}

fn say<M: Send + Sync + 'static>(mesh: &mut TestMesh, peer: usize, message: ToMesh<M>) {
    mesh.app(peer).world_mut().write_message(message);
}

fn heard(mesh: &mut TestMesh, peer: usize) -> Vec<(PeerId, bool, String)> {
    mesh.app(peer).world().resource::<Heard>().0.clone()
}

#[test]
fn to_all_and_to_one() {
    let mut mesh = TestMesh::new(3, game);
    let [first, second, third] = [0, 1, 2].map(|peer| mesh.id(peer));
    say(&mut mesh, 0, ToMesh::all(Shout("to all".into())));
    say(&mut mesh, 1, ToMesh::to(third, Shout("to the third".into())));
    say(&mut mesh, 2, ToMesh::all_and_me(Number(7)));
    mesh.until("everybody has heard", |mesh| (0..3).map(|peer| heard(mesh, peer).len()).sum::<usize>() >= 6);
    mesh.run_for(std::time::Duration::from_millis(300));
    let said = |from: PeerId, private: bool, what: &str| (from, private, what.to_owned());
    let sorted = |mut heard: Vec<(PeerId, bool, String)>| {
        heard.sort();
        heard
    };
    assert_eq!(heard(&mut mesh, 0), [said(third, false, "7")]);
    assert_eq!(sorted(heard(&mut mesh, 1)), sorted(vec![said(first, false, "to all"), said(third, false, "7")]));
    let third_heard = vec![said(first, false, "to all"), said(second, true, "to the third"), said(third, false, "7")];
    assert_eq!(sorted(heard(&mut mesh, 2)), sorted(third_heard));
}

#[test]
fn in_order_and_once() {
    let mut mesh = TestMesh::new(2, game);
    let from = mesh.id(0);
    for n in 0..500 {
        say(&mut mesh, 0, ToMesh::all(Number(n)));
        if n % 50 == 0 {
            mesh.step();
        }
    }
    mesh.until("all are heard", |mesh| heard(mesh, 1).len() >= 500);
    mesh.run_for(std::time::Duration::from_millis(200));
    assert_eq!(heard(&mut mesh, 1), (0..500).map(|n| (from, false, n.to_string())).collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_sent_is_an_event() {
    let mut mesh = TestMesh::new(1, game);
    let mut cursor = mesh.app(0).world().resource::<Messages<MeshEvent>>().get_cursor_current();
    say(&mut mesh, 0, ToMesh::all(Shout("anybody?".into())));
    say(&mut mesh, 0, ToMesh::to(PeerId([7; 32]), Number(1)));
    say(&mut mesh, 0, ToMesh::all_and_me(Shout("x".repeat(1 << 20))));
    mesh.step();
    let events = mesh.app(0).world().resource::<Messages<MeshEvent>>();
    let failed = cursor.read(events).filter(|event| matches!(event, MeshEvent::SendFailed { .. })).count();
    assert_eq!(failed, 3);
    assert!(heard(&mut mesh, 0).is_empty());
}
