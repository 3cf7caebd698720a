//! Who comes late sees everything at once.

use bevy_ecs::prelude::*;
use bevy_peerflock::prelude::*;
use bevy_peerflock::test_app::TestMesh;
use serde::{Deserialize, Serialize};

#[derive(Component, Debug, Deserialize, PartialEq, Serialize)]
struct Number(u32);

#[test]
fn who_comes_late_sees_everything() {
    const ENTITIES: u32 = 300;
    let mut mesh = TestMesh::new(2, |app| {
        app.replicate::<Number>();
    });
    for n in 0..ENTITIES {
        let peer = n as usize % 2;
        mesh.app(peer).world_mut().spawn((Replicated, Number(n)));
    }
    let given = mesh.app(0).world_mut().spawn((Replicated, Number(ENTITIES))).id();
    mesh.until_seen(0, given, 1);
    let heir = mesh.id(1);
    mesh.app(0).world_mut().commands().entity(given).give_to(heir);
    mesh.app(0).world_mut().flush();
    mesh.run_for(std::time::Duration::from_millis(500));

    let late = mesh.join();
    mesh.until("all entities are there", |mesh| mesh.app(late).world().resource::<MeshEntities>().len() == ENTITIES as usize + 1);
    let owners = [mesh.id(0), mesh.id(1)];
    let world = mesh.app(late).world_mut();
    let mut seen: Vec<_> = world.query::<(&Number, &Owner)>().iter(world).map(|(number, owner)| (number.0, owner.0)).collect();
    seen.sort_unstable();
    let mut expected: Vec<_> = (0..ENTITIES).map(|n| (n, owners[n as usize % 2])).collect();
    expected.push((ENTITIES, heir));
    assert_eq!(seen, expected);
}
