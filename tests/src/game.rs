//! A game as small as can be, and how to play it on the simulator: one component, a place of two integers, and texts on one channel.

use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::Sim;
use peerflock_proto::{
    Change, Config, EntityId, Event, Group, Input, Kind, KindId, NeighborLimits, Orphan, PeerId, Registry, SendError, Shape,
    Target, Topic, Value,
};

/// Where an entity is: two integers that move.
pub const PLACE: KindId = KindId(0);
/// The channel of all texts.
pub const TOPIC: Topic = Topic(Topic::RESERVED);

/// So many seconds.
pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many milliseconds.
pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The game's components: [`PLACE`] alone.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    registry
}

/// The game, with at most so many neighbors each.
pub fn config(neighbors_max: usize) -> Config {
    Config { registry: registry(), neighbors: NeighborLimits::with_max(neighbors_max), ..Config::default() }
}

/// An entity of node `index`, by its number.
pub fn entity(sim: &Sim, index: usize, counter: u32) -> EntityId {
    EntityId { spawner: sim.peer(index), boot: sim.node(index).boot(), counter }
}

/// Node `index` spawns `count` entities, each in a place of its own, and says what is to become of them without it.
pub fn spawn(sim: &mut Sim, index: usize, count: u32, orphan: Orphan) {
    let changes = (0..count).flat_map(|counter| {
        let (entity, value) = (entity(sim, index, counter), Value::fields([counter as i32, index as i32]));
        [Change::Spawn { entity, orphan }, Change::Set { entity, kind: PLACE, value }]
    });
    let changes = changes.collect();
    sim.input(index, Input::Commit(changes));
}

/// Node `index` moves its first entity to `x`.
pub fn step(sim: &mut Sim, index: usize, x: i32) {
    let place = Change::Set { entity: entity(sim, index, 0), kind: PLACE, value: Value::fields([x, index as i32]) };
    sim.input(index, Input::Commit(vec![place]));
}

/// Node `index` says something.
///
/// # Errors
/// As [`Node::send`](peerflock_proto::Node::send).
pub fn send(sim: &mut Sim, index: usize, to: Target, text: &str) -> Result<(), SendError> {
    let payload = Bytes::from(text.to_owned());
    sim.with(index, |node, now| node.send(to, TOPIC, payload, now))
}

/// What a node's application heard since it last asked, and from whom. What else it was told is forgotten.
pub fn heard(sim: &mut Sim, index: usize) -> Vec<(PeerId, String)> {
    sim.take_events(index).into_iter().filter_map(|(_, event)| message(event)).collect()
}

/// Who said what, if somebody did.
pub fn message(event: Event) -> Option<(PeerId, String)> {
    match event {
        Event::Message { from, payload, .. } => Some((from, String::from_utf8_lossy(&payload).into_owned())),
        _ => None,
    }
}

/// How many node `index` takes for members, itself included.
pub fn members(sim: &Sim, index: usize) -> usize {
    sim.node(index).member_count()
}

/// Nodes in a row, each of which can reach the one before and the one after it, and nobody else.
///
/// # Panics
/// When they do not all meet within five seconds.
pub fn row(sim: &mut Sim, count: usize, config: &Config) {
    for index in 0..count {
        sim.add(config.clone(), [7; 32]);
        (0..index.saturating_sub(1)).for_each(|other| sim.cut(index, other));
        if index > 0 {
            sim.introduce(index, index - 1);
        }
    }
    sim.run(seconds(5));
    assert!((0..count).all(|index| members(sim, index) == count), "all met");
}
