//! What came before, and what came while one was away: in Peer Channel nobody ever learned of it.

use peerflock_proto::sim::{Options, Sim};
use peerflock_proto::{Input, Orphan, Target};
use peerflock_tests::game::{config, heard, members, millis, seconds, send, spawn};

/// 2: no catching up for those who came late or came back. Here a newcomer sees the world as it is, and one who was cut off hears what was
/// said meanwhile, in order.
#[test]
fn weakness_02_late_and_returning_members_catch_up() {
    let mut sim = Sim::mesh(Options::default(), 5, &config(7), seconds(5));
    (0..5).for_each(|index| spawn(&mut sim, index, 20, Orphan::Adopt));
    sim.run(seconds(1));
    let late = sim.add(config(7), [7; 32]);
    sim.introduce(late, 3);
    sim.run(seconds(2));
    assert_eq!(sim.node(late).entity_count(), 100);
    assert!(sim.converged());

    let away = 4;
    (0..6).filter(|index| *index != away).for_each(|index| sim.cut(index, away));
    sim.run(seconds(4));
    assert_eq!(members(&sim, 0), 5, "it is taken for gone");
    (0..6).for_each(|index| drop(heard(&mut sim, index)));
    let mut said = Vec::new();
    for text in 0..10 {
        send(&mut sim, 0, Target::All, &text.to_string()).unwrap();
        said.push((sim.peer(0), text.to_string()));
        sim.run(millis(100));
    }
    spawn(&mut sim, late, 5, Orphan::Adopt);
    sim.heal();
    sim.run(seconds(20));
    assert_eq!(members(&sim, away), 6);
    assert_eq!(heard(&mut sim, away), said);
    assert_eq!(sim.node(away).entity_count(), 105);
    assert!(sim.converged());
}

/// 3: shared data ended with whoever had it. Here it is handed on: from an author to those it met, from them to those who never met it.
#[test]
fn weakness_03_shared_data_outlives_its_author_and_all_who_met_it() {
    let mut sim = Sim::mesh(Options::default(), 1, &config(7), seconds(1));
    spawn(&mut sim, 0, 10, Orphan::Adopt);
    for generation in 1..5 {
        let newcomer = sim.add(config(7), [7; 32]);
        sim.introduce(newcomer, generation - 1);
        sim.run(seconds(3));
        // One by good-bye, the next without a word.
        if generation % 2 == 0 {
            sim.input(generation - 1, Input::Leave);
        }
        sim.crash(generation - 1);
        sim.run(seconds(4));
        assert_eq!(members(&sim, newcomer), 1);
        assert_eq!(sim.node(newcomer).entity_count(), 10, "generation {generation}");
    }
    let value = |event: &peerflock_proto::Event| match event {
        peerflock_proto::Event::World(peerflock_proto::WorldEvent::Set { entity, value, .. }) => {
            Some((entity.counter, value.clone()))
        }
        _ => None,
    };
    let seen: std::collections::BTreeMap<_, _> = sim.take_events(4).iter().filter_map(|(_, event)| value(event)).collect();
    let spawned = (0..10).map(|counter| (counter, peerflock_proto::Value::fields([counter as i32, 0])));
    assert!(seen.into_iter().eq(spawned), "with the values that the first one gave them");
}
