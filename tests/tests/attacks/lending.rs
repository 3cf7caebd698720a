//! A member that lends a newcomer a world which is not what its owner has.

use std::cell::Cell;
use std::rc::Rc;

use peerflock_proto::sim::forge;
use peerflock_proto::{Change, Config, EntityId, Event, Input, NeighborLimits, Orphan, OwnershipPolicy, Value, WorldEvent};
use peerflock_tests::game::{PLACE, millis, seconds};
use peerflock_tests::wiretap::Wires;

use super::config;

const VICTIM: usize = 0;
const ATTACKER: usize = 1;
const TRUTH: [i32; 2] = [41, 42];
/// What folds into the same check as the truth, at every tick: only the origin's digest tells the one from the other.
const LIE: [i32; 2] = [TRUTH[0] ^ 1, TRUTH[1] ^ 1 << 7];

/// Three in one mesh, of whom the attacker alters the victim's world wherever it passes it on: how often so far.
fn scene() -> (Wires, Config, Rc<Cell<u32>>) {
    let config = Config { neighbors: NeighborLimits::with_max(7), ..config() };
    let mut wires = Wires::new(&[(0, 1), (0, 2), (1, 2)], &config);
    let entity = EntityId::new(wires.peer(VICTIM), wires.node(VICTIM).boot(), 1, OwnershipPolicy::Ask);
    let value = Value::fields(TRUTH);
    let spawn = vec![Change::Spawn { entity, orphan: Orphan::Adopt }, Change::Set { entity, kind: PLACE, value }];
    wires.input(VICTIM, Input::Commit(spawn));
    wires.run(seconds(2));
    let (lies, victim, registry) = (Rc::new(Cell::new(0)), wires.peer(VICTIM), config.registry.clone());
    let told = lies.clone();
    wires.tap(move |passing| {
        if passing.from == ATTACKER && !passing.datagram {
            let lie = |_, value: &Value| (*value == Value::fields(TRUTH)).then(|| Value::fields(LIE));
            if let Some(altered) = forge::alter_keyframe(&passing.bytes, victim, &registry, lie) {
                passing.bytes = altered;
                told.set(told.get() + 1);
            }
        }
    });
    (wires, config, lies)
}

/// What a node was told that the victim's thing is, one after the other.
fn told(wires: &mut Wires, index: usize) -> Vec<Value> {
    let value = |event| match event {
        Event::World(WorldEvent::Set { value, .. }) => Some(value),
        _ => None,
    };
    wires.take_events(index).into_iter().filter_map(value).collect()
}

#[test]
fn a_false_keyframe_lasts_until_its_origin_says_what_it_has() {
    let (mut wires, config, lies) = scene();
    let truth = wires.node(VICTIM).state_hash();
    let newcomer = wires.join(&[ATTACKER, VICTIM, 2], &config, millis(200));
    assert!(lies.get() > 0, "it was lied to");
    wires.run(millis(500));
    let told = told(&mut wires, newcomer);
    assert!(told.contains(&Value::fields(LIE)), "and believed it: {told:?}");
    assert_eq!(told.last(), Some(&Value::fields(TRUTH)), "{told:?}");
    assert_eq!(wires.node(newcomer).state_hash(), truth);
    assert!(wires.node(newcomer).counters().forgeries > 0, "it was found out");
}

#[test]
fn who_hears_the_origin_by_others_only_finds_a_false_keyframe_too() {
    let (mut wires, config, lies) = scene();
    let truth = wires.node(VICTIM).state_hash();
    let newcomer = wires.join(&[ATTACKER, 2], &config, millis(200));
    wires.run(millis(1_000));
    assert!(lies.get() > 0 && told(&mut wires, newcomer).contains(&Value::fields(LIE)), "it was lied to");
    assert_eq!(wires.node(newcomer).state_hash(), truth);
    assert!(wires.node(newcomer).counters().forgeries > 0, "it was found out");
    assert!(wires.link(newcomer, 2).is_some(), "the honest one keeps its link");
}

/// It knows nobody else, so it cannot ask anybody else; but it does not take the lie for the truth either.
#[test]
fn who_knows_only_a_liar_goes_on_asking() {
    let (mut wires, config, lies) = scene();
    let newcomer = wires.join(&[ATTACKER], &config, seconds(3));
    assert!(lies.get() > 1, "{} lies", lies.get());
    assert!(wires.node(newcomer).counters().forgeries > 1, "each was found out");
}
