//! What was weak in WCF Peer Channel, this project's ancestor, and is not here: one test or more for each weakness, named after it.
//! Each would fail on Peer Channel's design. Numbers are those of our list of its known weaknesses; 7 to 18 and 32 on are about
//! discovery, admission and its platform, which other tests cover.

mod catching_up;
mod forging;
mod links;
mod sdk;
mod speaking;

use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::Sim;
use peerflock_proto::{
    Change, Config, EntityId, Event, Group, Input, Kind, KindId, NeighborLimits, Orphan, PeerId, Registry, SendError, Shape,
    Target, Value,
};
use peerflock_tests::wiretap::TOPIC;

const PLACE: KindId = KindId(0);

fn config(neighbors_max: usize) -> Config {
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    Config { registry, neighbors: NeighborLimits::with_max(neighbors_max), ..Config::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn send(sim: &mut Sim, index: usize, to: Target, text: &str) -> Result<(), SendError> {
    let payload = Bytes::from(text.to_owned());
    sim.with(index, |node, now| node.send(to, TOPIC, payload, now))
}

/// What a node's application heard since it last asked, and from whom.
fn heard(sim: &mut Sim, index: usize) -> Vec<(PeerId, String)> {
    sim.take_events(index).into_iter().filter_map(|(_, event)| message(event)).collect()
}

fn message(event: Event) -> Option<(PeerId, String)> {
    match event {
        Event::Message { from, payload, .. } => Some((from, String::from_utf8_lossy(&payload).into_owned())),
        _ => None,
    }
}

fn members(sim: &Sim, index: usize) -> usize {
    sim.node(index).members(sim.now()).len()
}

/// Node `index` spawns `count` entities that outlive it.
fn spawn(sim: &mut Sim, index: usize, count: u32) {
    let (spawner, boot) = (sim.peer(index), sim.node(index).boot());
    let changes = (0..count).flat_map(|counter| {
        let entity = EntityId { spawner, boot, counter };
        let value = Value::fields([counter as i32, index as i32]);
        [Change::Spawn { entity, orphan: Orphan::Adopt }, Change::Set { entity, kind: PLACE, value }]
    });
    sim.input(index, Input::Commit(changes.collect()));
}

/// Nodes in a row, each of which can reach the one before and the one after it, and nobody else.
fn row(sim: &mut Sim, count: usize, config: &Config) {
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
