//! Two meshes of the same name, each content, and one address handed from one to the other as a resolver would: how soon are they
//! one?
//!
//! Nobody on either island looks for more neighbors: that they merge at all is the point.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::Sim;
use peerflock_proto::{Change, Config, EntityId, Group, Input, Kind, KindId, Orphan, PeerId, Registry, Shape, Time, Value};
use serde_json::json;

use super::Failure;
use crate::report::Report;
use crate::scene::{Network, ROUND, SECRET};
use crate::stats::{Figure, millis};

const PLACE: KindId = KindId(0);
/// In which the peers of an island must have met.
const PATIENCE: Duration = Duration::from_secs(60);
/// After which islands that have not merged never will.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How often it is looked at whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers on each island.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=500))]
    peers: u16,
    /// Entities that each peer owns.
    #[arg(long, default_value_t = 5)]
    entities: u32,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let peers = usize::from(options.peers);
    let settings = json!({ "islands": 2, "peers_each": peers, "entities_each": options.entities });
    options.network.each_seed("islands", settings, |seed| measure(options, seed, peers))
}

fn measure(options: &Options, seed: u64, peers: usize) -> Result<Vec<Figure>, Failure> {
    let mut sim = Sim::new(options.network.simulator(seed));
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    let config = Config { registry, ..options.network.config() };
    for index in 0..2 * peers {
        sim.add(config.clone(), SECRET);
        if index % peers != 0 {
            sim.introduce(index, index - index % peers);
        }
    }
    let deadline = sim.now() + PATIENCE;
    let content = |sim: &Sim| (0..2 * peers).all(|index| sim.node(index).member_count() == peers);
    while !content(&sim) {
        if sim.now() >= deadline {
            return Err(Failure::Unmet(format!(
                "the peers of an island did not meet within {} virtual seconds",
                PATIENCE.as_secs()
            )));
        }
        sim.run(ROUND);
    }
    for index in 0..2 * peers {
        spawn(&mut sim, index, options.entities);
    }
    options.network.settle(&mut sim);
    if !content(&sim) {
        return Err(Failure::Unmet("the islands found each other without help".into()));
    }

    let start = sim.now();
    sim.introduce(peers / 3, peers + peers / 2);
    let everyone: BTreeSet<PeerId> = (0..2 * peers).map(|index| sim.peer(index)).collect();
    let (mut merged, mut equal): (Option<Time>, Option<Time>) = (None, None);
    while (merged.is_none() || equal.is_none()) && sim.now().since(start) < GIVE_UP {
        sim.run(LOOK_EVERY);
        merged = merged.or_else(|| are_one(&sim, &everyone).then_some(sim.now()));
        equal = equal.or_else(|| see_one_world(&sim, options.entities as usize).then_some(sim.now()));
    }
    let took = |at: Option<Time>| at.map(|at| millis(at.since(start)));
    Ok(vec![Figure::soon("merged_ms", took(merged)), Figure::soon("state_equal_ms", took(equal))])
}

/// A peer's entities, all at different places.
fn spawn(sim: &mut Sim, index: usize, count: u32) {
    let (spawner, boot) = (sim.peer(index), sim.node(index).boot());
    let changes = (0..count).flat_map(|counter| {
        let entity = EntityId { spawner, boot, counter };
        let value = Value::fields([counter as i32, index as i32]);
        [Change::Spawn { entity, orphan: Orphan::Vanish }, Change::Set { entity, kind: PLACE, value }]
    });
    sim.input(index, Input::Commit(changes.collect()));
}

/// Everybody's roster is everybody.
fn are_one(sim: &Sim, everyone: &BTreeSet<PeerId>) -> bool {
    (0..sim.len()).all(|index| {
        let node = sim.node(index);
        node.member_count() == everyone.len() && node.members(sim.now()).iter().all(|member| everyone.contains(&member.peer))
    })
}

/// Everybody sees everybody's entities, in the same state.
fn see_one_world(sim: &Sim, entities_each: usize) -> bool {
    let entities = sim.len() * entities_each;
    let all_there = (0..sim.len()).all(|index| sim.node(index).entity_count() == entities);
    all_there && (1..sim.len()).all(|index| sim.node(index).state_hash() == sim.node(0).state_hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn islands_that_share_a_world_are_one_and_others_are_not() {
        let network = Network { max_neighbors: 7, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 1 };
        let options = Options { peers: 2, entities: 2, network };
        let found = measure(&options, 2, 2).unwrap();
        assert!(found.iter().all(|figure| figure.value.is_some_and(|ms| ms > 0.0 && ms < 10_000.0)), "{found:?}");
        let mut apart = Sim::new(options.network.simulator(1));
        for index in 0..2 {
            assert_eq!(apart.add(Config::default(), SECRET), index);
        }
        assert!(see_one_world(&apart, 0) && !see_one_world(&apart, 1));
        assert!(!are_one(&apart, &BTreeSet::from([apart.peer(0), apart.peer(1)])));
    }
}
