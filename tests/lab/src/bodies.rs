//! Entities in the simulator, with one component like a game's transform: bodies that never stand still, each on a way of its own.

use std::f32::consts::TAU;

use peerflock_proto::quantize::{quaternion, scalar};
use peerflock_proto::sim::Sim;
use peerflock_proto::{Change, EntityId, Group, Input, Kind, KindId, Orphan, Registry, Shape, Value};

const TRANSFORM: KindId = KindId(0);
/// Translation, rotation and scale.
const GROUPS: &[Group] = &[Group::Motion(3), Group::Rotation, Group::Motion(3)];
const STEP: f32 = 1.0 / 256.0;
/// Numbers of the bodies of one peer to those of the next: farther apart than any peer has bodies, or nearly.
const BODIES_OF_A_PEER: u32 = 7_919;

/// A game of nothing but bodies.
pub(crate) fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(Kind { name: "transform".into(), shape: Shape::Fields(GROUPS) });
    registry
}

/// A peer's bodies come into the world, where they are at 0 seconds.
pub(crate) fn spawn(sim: &mut Sim, index: usize, count: u32) {
    let spawns = (0..count).map(|counter| Change::Spawn { entity: entity(sim, index, counter), orphan: Orphan::Adopt });
    let changes = spawns.chain(moved(sim, index, count, 0.0)).collect();
    sim.input(index, Input::Commit(changes));
}

/// A peer's bodies are where they are after so many seconds.
pub(crate) fn moved(sim: &Sim, index: usize, count: u32, seconds: f32) -> Vec<Change> {
    let set = |counter| Change::Set {
        entity: entity(sim, index, counter),
        kind: TRANSFORM,
        value: Value::fields(transform(index as u32 * BODIES_OF_A_PEER + counter, seconds)),
    };
    (0..count).map(set).collect()
}

fn entity(sim: &Sim, index: usize, counter: u32) -> EntityId {
    EntityId { spawner: sim.peer(index), boot: sim.node(index).boot(), counter }
}

/// A circle that is flown now faster and now slower, never slower than a few steps in a frame, up and down, leaning.
pub(crate) fn transform(body: u32, seconds: f32) -> [i32; 10] {
    // Each in 0 to below 1, and far from that of the next body. What a large number times a stride has behind its point is not to be
    // had in 32 bits.
    let part = |stride: f64| (f64::from(body) * stride).fract() as f32;
    let (size, pace, phase, start) = (part(0.618_034), part(0.754_878), part(0.569_84), part(0.381_966));
    let (radius, speed) = (5.0 + 45.0 * size, 4.0 + 8.0 * pace);
    let wobble = 0.3 * (seconds * (1.0 + phase)).sin();
    let heading = TAU * start + speed / radius * (seconds + wobble);
    let (sin, cos) = heading.sin_cos();
    let height = 3.0 * (seconds * (0.5 + pace) + phase * TAU).sin();
    let (roll, yaw) = ((0.4 * wobble).sin_cos(), (heading / 2.0).sin_cos());
    let [largest, a, b, c] = quaternion([roll.0 * yaw.1, roll.0 * yaw.0, roll.1 * yaw.0, roll.1 * yaw.1]);
    let one = scalar(1.0, STEP);
    let [x, y, z] = [radius * cos + 100.0 * phase, radius * sin, height].map(|place| scalar(place, STEP));
    [x, y, z, largest, a, b, c, one, one, one]
}

#[cfg(test)]
mod tests {
    use peerflock_proto::Config;
    use peerflock_proto::sim::Options;

    use super::*;

    #[test]
    fn no_body_ever_stands_still_or_jumps() {
        // The first bodies of many peers, and many of one.
        let bodies = (0..64).map(|peer| peer * BODIES_OF_A_PEER).flat_map(|first| first..first + 20).chain(0..2_000);
        for body in bodies {
            let start = (body % 60) as f32;
            let places: Vec<_> = (0..120).map(|frame| transform(body, start + frame as f32 / 60.0)).collect();
            for three in places.windows(3) {
                assert_ne!(three[0][..3], three[1][..3], "body {body} at {start} s");
                // 12 m/s in the tightest circle bend a step of 1/60 s by 2 of 1/256 m; rounding, by 2 more.
                let bend = |axis: usize| (three[2][axis] - 2 * three[1][axis] + three[0][axis]).abs();
                assert!((0..3).all(|axis| bend(axis) <= 6), "body {body} at {start} s: {three:?}");
            }
        }
    }

    #[test]
    fn what_is_spawned_is_there_and_moves_for_all() {
        let config = Config { registry: registry(), ..Config::default() };
        let mut sim = Sim::mesh(Options::default(), 2, &config, std::time::Duration::from_secs(5));
        spawn(&mut sim, 0, 3);
        sim.run(std::time::Duration::from_secs(1));
        assert_eq!((sim.node(1).entity_count(), sim.converged()), (3, true));
        let before = sim.node(1).state_hash();
        let changes = moved(&sim, 0, 3, 1.0);
        sim.input(0, Input::Commit(changes));
        sim.run(std::time::Duration::from_secs(1));
        assert!(sim.converged() && sim.node(1).state_hash() != before);
    }
}
