//! Who leaves is an event; what it leaves behind vanishes or is adopted, as it was spawned.

use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
struct Number(u32);

fn game(app: &mut bevy_app::App) {
    app.replicate::<Number>();
}

#[test]
fn the_leavers_entities_vanish_or_are_adopted() {
    let mut mesh = TestMesh::new(3, game);
    let first = mesh.id(0);
    let avatar = mesh.app(0).world_mut().spawn((Replicated, Number(0))).id();
    let birds: Vec<_> = (1..=20).map(|n| mesh.app(0).world_mut().spawn((Replicated, Adoptable, Number(n))).id()).collect();
    let avatar_there = mesh.until_seen(0, avatar, 1);
    let birds_there: Vec<_> = birds.iter().map(|bird| mesh.until_seen(0, *bird, 1)).collect();
    for bird in birds {
        mesh.until_seen(0, bird, 2);
    }
    assert!(birds_there.iter().all(|bird| mesh.app(1).world().get::<Adoptable>(*bird).is_some()));
    let mut cursor = mesh.app(1).world().resource::<Messages<PeerEvent>>().get_cursor_current();

    mesh.leave(0);
    let mut left = None;
    mesh.until("the avatar vanishes", |mesh| {
        let events = mesh.app(0).world().resource::<Messages<PeerEvent>>();
        left = left.or_else(|| {
            cursor.read(events).find_map(|event| match event {
                PeerEvent::Left { peer, farewell } => Some((*peer, *farewell)),
                _ => None,
            })
        });
        mesh.app(0).world().get_entity(avatar_there).is_err()
    });
    assert_eq!(left, Some((first, Farewell::Left)));

    // Each bird is one survivor's, and both agree whose.
    mesh.until("every bird is adopted", |mesh| {
        (0..2).all(|peer| {
            let world = mesh.app(peer).world_mut();
            world.query::<&Owner>().iter(world).all(|owner| owner.0 != first)
        })
    });
    mesh.run_for(std::time::Duration::from_millis(500));
    let ids = [mesh.id(0), mesh.id(1)];
    let mut adopted = 0;
    for (peer, id) in ids.iter().enumerate() {
        let world = mesh.app(peer).world_mut();
        let birds: Vec<_> =
            world.query::<(&Number, &Owner, Has<Mine>)>().iter(world).map(|(n, owner, mine)| (n.0, owner.0, mine)).collect();
        assert_eq!(birds.len(), 20);
        assert!(birds.iter().all(|(_, owner, mine)| (owner == id) == *mine));
        adopted += birds.iter().filter(|(.., mine)| *mine).count();
    }
    assert_eq!(adopted, 20);

    // The new owners' word counts.
    for peer in 0..2 {
        let world = mesh.app(peer).world_mut();
        world.query_filtered::<&mut Number, With<Mine>>().iter_mut(world).for_each(|mut number| number.0 += 100);
    }
    mesh.until("all see the change", |mesh| {
        (0..2).all(|peer| {
            let world = mesh.app(peer).world_mut();
            world.query::<&Number>().iter(world).all(|number| number.0 > 100)
        })
    });
}

#[test]
fn who_exits_says_goodbye_before_the_program_ends() {
    let mut mesh = TestMesh::new(2, game);
    let here = mesh.app(0).world_mut().spawn((Replicated, Number(0))).id();
    let there = mesh.until_seen(0, here, 1);
    let mut cursor = mesh.app(1).world().resource::<Messages<PeerEvent>>().get_cursor_current();
    mesh.app(0).world_mut().write_message(bevy_app::AppExit::Success);
    mesh.app(0).update();
    let first = mesh.id(0);
    let goodbye = PeerEvent::Left { peer: first, farewell: Farewell::Left };
    mesh.until("the goodbye is heard", |mesh| {
        let events = mesh.app(1).world().resource::<Messages<PeerEvent>>();
        cursor.read(events).any(|event| *event == goodbye)
    });
    assert!(mesh.app(1).world().get_entity(there).is_err());
}

#[test]
fn a_mesh_left_behind_the_plugins_back_is_left() {
    let mut mesh = TestMesh::new(2, game);
    let theirs = mesh.app(0).world_mut().spawn((Replicated, Number(0))).id();
    let theirs_here = mesh.until_seen(0, theirs, 1);
    mesh.app(1).world().resource::<MeshHandle>().leave_now(std::time::Duration::from_secs(1));
    mesh.until("the plugin notices", |mesh| mesh.app(1).world().get_resource::<MeshHandle>().is_none());
    assert!(mesh.app(1).world().get_entity(theirs_here).is_err());
}

#[test]
fn an_adopted_child_outlives_its_parent_for_everybody() {
    let mut mesh = TestMesh::new(2, game);
    let avatar = mesh.app(0).world_mut().spawn((Replicated, Number(0))).id();
    let child = mesh.app(0).world_mut().spawn((Replicated, Adoptable, Number(1), ChildOf(avatar))).id();
    let avatar_there = mesh.until_seen(0, avatar, 1);
    let child_there = mesh.until_seen(0, child, 1);
    assert_eq!(mesh.app(1).world().get::<ChildOf>(child_there), Some(&ChildOf(avatar_there)));
    mesh.leave(0);
    mesh.until("the child is adopted", |mesh| mesh.app(0).world().get::<Mine>(child_there).is_some());
    assert!(mesh.app(0).world().get_entity(avatar_there).is_err());
    assert!(mesh.app(0).world().get::<ChildOf>(child_there).is_none());
    mesh.run_for(std::time::Duration::from_millis(200));
    // Who comes now hears of no parent.
    let late = mesh.join();
    let child_late = mesh.until_seen(0, child_there, late);
    mesh.run_for(std::time::Duration::from_millis(200));
    assert!(mesh.app(late).world().get::<ChildOf>(child_late).is_none());
}

#[test]
fn after_leaving_the_others_entities_are_gone_and_ours_are_still_ours() {
    let mut mesh = TestMesh::new(2, game);
    let ours = mesh.app(1).world_mut().spawn((Replicated, Number(1))).id();
    let theirs = mesh.app(0).world_mut().spawn((Replicated, Number(2))).id();
    let theirs_here = mesh.until_seen(0, theirs, 1);
    let ours_there = mesh.until_seen(1, ours, 0);
    mesh.app(1).world_mut().commands().leave_mesh();
    mesh.app(1).world_mut().flush();
    let world = mesh.app(1).world();
    assert!(world.get_entity(theirs_here).is_err() && world.get_resource::<MeshHandle>().is_none());
    assert!(world.get::<Mine>(ours).is_some() && world.get::<Owner>(ours).is_none());
    mesh.until("it is gone there", |mesh| mesh.app(0).world().get_entity(ours_there).is_err());

    // And back in, with what we have.
    let ticket = mesh.app(0).world().resource::<MeshHandle>().ticket();
    mesh.app(1).world_mut().commands().start_mesh(PeerMesh::from_ticket(&ticket).loopback_only().lan(false));
    mesh.app(1).world_mut().flush();
    mesh.until("we are back", |mesh| mesh.app(1).world().get_resource::<MeshHandle>().is_some());
    mesh.until_seen(1, ours, 0);
    mesh.until_seen(0, theirs, 1);
}
