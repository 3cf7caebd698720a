//! What WCF Peer Channel was made for, each scenario as checks that a user could run, by their numbers: C1 publish and subscribe, C2
//! collaboration, C4 and C7 shared work, C5 games, C6 content, X what cuts across them. In virtual time where the protocol or a service alone can show it, with
//! real QUIC on a network in memory or on loopback where it cannot.

mod c1_publish;
mod c2_documents;
mod c2_together;
mod c5_play;
mod content;
mod hostile;
mod work;
mod x_across;

use std::time::Duration;

use bytes::Bytes;
use peerflock::service::Service;
use peerflock::service::sim::ServiceSim;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{
    Change, Config, EntityId, Event, Group, Input, Kind, KindId, NeighborLimits, Node, Orphan, PeerId, Registry, SendError,
    Shape, Target, Value,
};
use peerflock_tests::wiretap::TOPIC;

const PLACE: KindId = KindId(0);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn config(neighbors_max: usize) -> Config {
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    Config { registry, neighbors: NeighborLimits::with_max(neighbors_max), ..Config::default() }
}

/// A mesh of `count` nodes with up to seven neighbors each, and a service on each of them.
fn services<S: Service>(options: Options, count: usize, service: impl Fn(&Node) -> S) -> ServiceSim<S> {
    remember_signatures();
    let mut sim = Sim::mesh(options, count, &config(7), seconds(30));
    sim.run(seconds(3));
    let mut services = ServiceSim::new(sim);
    for index in 0..count {
        let service = service(services.sim.node(index));
        services.start(index, service);
    }
    services
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
    sim.node(index).member_count()
}

fn entity(sim: &Sim, index: usize, counter: u32) -> EntityId {
    EntityId { spawner: sim.peer(index), boot: sim.node(index).boot(), counter }
}

/// Node `index` spawns `count` entities that outlive it.
fn spawn(sim: &mut Sim, index: usize, count: u32) {
    let changes = (0..count).flat_map(|counter| {
        let entity = entity(sim, index, counter);
        let value = Value::fields([counter as i32, index as i32]);
        [Change::Spawn { entity, orphan: Orphan::Adopt }, Change::Set { entity, kind: PLACE, value }]
    });
    let changes = changes.collect();
    sim.input(index, Input::Commit(changes));
}

/// Each of the first `players` moves its first entity to `value`.
fn step(sim: &mut Sim, players: usize, value: i32) {
    for index in 0..players {
        let place = Change::Set { entity: entity(sim, index, 0), kind: PLACE, value: Value::fields([value, index as i32]) };
        sim.input(index, Input::Commit(vec![place]));
    }
}

/// So many ticks of play, of 16 ms each.
fn play(sim: &mut Sim, players: usize, first: i32, ticks: i32) {
    for tick in 0..ticks {
        step(sim, players, first + tick);
        sim.run(millis(16));
    }
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
