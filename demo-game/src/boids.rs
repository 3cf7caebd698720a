//! How birds fly together: pure arithmetic, no engine, no mesh.
//!
//! Craig Reynolds' three rules (*Flocks, Herds, and Schools*, 1987), each bird minding its seven nearest, as starlings do
//! (Ballerini et al., *Interaction ruling animal collective behavior depends on topological rather than metric distance*,
//! 2008), and a fourth: follow the leader. The same input gives the same output, whatever the machine's mood.

use bevy::math::{Rect, Vec2};

mod grid;

pub(crate) use grid::Grid;

/// How many of its nearest a bird minds.
pub(crate) const NEIGHBORS: usize = 7;
/// How far a bird sees others, in world units.
pub(crate) const SIGHT: f32 = 70.0;

/// Slowest and fastest a bird flies, in world units per second.
const SPEED_MIN: f32 = 130.0;
const SPEED_MAX: f32 = 390.0;
/// The speed it likes.
pub(crate) const SPEED_CRUISE: f32 = 240.0;
/// The most a bird can change its velocity, in world units per second per second.
const EFFORT_MAX: f32 = 900.0;
/// Nearer than this is too near, in world units.
const ELBOW_ROOM: f32 = 25.0;
/// Birds this far from the leader's wake, in world units, make for it with all they have.
const FAR: f32 = 210.0;
/// How far behind its leader a flock begins, in world units.
const WAKE: f32 = 40.0;
/// How far ahead birds see their leader go, in seconds: without it they would lag behind by as much.
const FORESIGHT: f32 = 0.42;
/// How far outside the bounds a bird may ever be found, in world units.
const OUTSIDE_MAX: f32 = 120.0;

/// One bird.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Boid {
    /// Where it is.
    pub(crate) position: Vec2,
    /// Where it is going, in units per second.
    pub(crate) velocity: Vec2,
    /// Its place in the train behind the leader: 0 right behind, 1 at the tail.
    pub(crate) trail: f32,
}

/// Moves all birds of one flock by `dt` seconds; `time` is any clock that runs on, for the wind.
pub(crate) fn step(flock: &mut [Boid], leader: Option<Boid>, bounds: Rect, time: f32, dt: f32) {
    let before: Vec<Boid> = flock.to_vec();
    let grid = Grid::new(bounds, SIGHT, before.iter().map(|boid| boid.position));
    for (index, boid) in flock.iter_mut().enumerate() {
        let nearest = grid.nearest::<NEIGHBORS>(boid.position, SIGHT, |other| (other != index).then(|| before[other].position));
        let mut effort = company(boid, nearest.iter().map(|other| before[other]));
        effort += leader.map_or(Vec2::ZERO, |leader| follow(boid, leader, flock_radius(before.len())));
        effort += wind(boid.position, time) + stay_inside(boid.position, bounds);
        boid.velocity = (boid.velocity + effort.clamp_length_max(EFFORT_MAX) * dt).clamp_length(SPEED_MIN, SPEED_MAX);
        boid.position += boid.velocity * dt;
        keep_sane(boid, bounds);
    }
}

/// Flies a leader towards `target` (nowhere in particular: straight on) for `dt` seconds: nimble, and never still.
pub(crate) fn lead(leader: &mut Boid, target: Option<Vec2>, bounds: Rect, dt: f32) {
    /// How fast a leader turns, in radians per second.
    const TURN: f32 = 4.2;
    /// Within this distance of its target a leader slows down, in world units.
    const NEAR: f32 = 160.0;
    let inside = bounds.inflate(-30.0);
    let wanted = target.map_or(leader.position + leader.velocity, |target| target.clamp(inside.min, inside.max));
    let way = wanted - leader.position;
    let heading = leader.velocity.normalize_or(Vec2::X);
    let turn = heading.angle_to((way + stay_inside(leader.position, bounds)).normalize_or(heading)).clamp(-TURN * dt, TURN * dt);
    let eagerness = (way.length() / NEAR).clamp(0.0, 1.0);
    let speed = leader.velocity.length();
    let speed = speed + (SPEED_MIN + 20.0 + (SPEED_CRUISE - 5.0 - SPEED_MIN) * eagerness - speed) * (3.0 * dt).min(1.0);
    leader.velocity = Vec2::from_angle(turn).rotate(heading) * speed;
    leader.position += leader.velocity * dt;
    keep_sane(leader, bounds);
}

/// How wide a flock of so many birds is, in world units from its middle.
fn flock_radius(birds: usize) -> f32 {
    ELBOW_ROOM * 0.62 * (birds as f32).sqrt()
}

/// Not too near, the same way, together: what a bird's neighbors make it do.
fn company(boid: &Boid, neighbors: impl Iterator<Item = Boid>) -> Vec2 {
    let (mut apart, mut velocity, mut middle, mut count) = (Vec2::ZERO, Vec2::ZERO, Vec2::ZERO, 0.0);
    for other in neighbors {
        let away = boid.position - other.position;
        let distance = away.length();
        if distance < ELBOW_ROOM {
            // Two birds in the very same place part, too: each in a direction of its own.
            apart += away.try_normalize().unwrap_or_else(|| boid.velocity.perp().normalize_or(Vec2::Y))
                * (1.0 - distance / ELBOW_ROOM);
        }
        velocity += other.velocity;
        middle += other.position;
        count += 1.0;
    }
    if count == 0.0 {
        return Vec2::ZERO;
    }
    apart * 640.0 + (velocity / count - boid.velocity) * 2.3 + (middle / count - boid.position) * 1.5
}

/// Keeps its place behind the leader: the farther from it, the more it hurries; near it, it does as its neighbors do.
fn follow(boid: &Boid, leader: Boid, radius: f32) -> Vec2 {
    let behind = WAKE + radius * 2.6 * boid.trail.clamp(0.0, 1.0);
    let place = leader.position + leader.velocity * FORESIGHT - leader.velocity.normalize_or(Vec2::X) * behind;
    let way = place - boid.position;
    let distance = way.length();
    let pull = ((distance - radius * 0.35) / FAR).clamp(0.0, 1.0);
    let wanted = way.normalize_or(Vec2::ZERO) * (SPEED_CRUISE + (SPEED_MAX - SPEED_CRUISE) * pull);
    let join = (wanted - boid.velocity) * (3.8 * pull.sqrt());
    join + (leader.velocity - boid.velocity) * (1.1 * (1.0 - pull))
}

/// A slow swirl over the whole sky: it draws a flock out into ribbons and lets it close again.
fn wind(position: Vec2, time: f32) -> Vec2 {
    const WAVE: f32 = 0.013;
    let p = position * WAVE;
    Vec2::new((p.y * 1.3 + time * 0.9).sin() + (p.y * 3.1 - time * 1.7).sin() * 0.5, (p.x * 1.1 - time * 0.8).cos()) * 150.0
}

/// Turns back what nears the edge of the sky, the harder the nearer.
fn stay_inside(position: Vec2, bounds: Rect) -> Vec2 {
    const MARGIN: f32 = 90.0;
    let inside = bounds.inflate(-MARGIN);
    (position.clamp(inside.min, inside.max) - position) * 9.0
}

/// Whatever was fed in, what comes out is a place in the sky and a speed a bird can have.
fn keep_sane(boid: &mut Boid, bounds: Rect) {
    if !boid.position.is_finite() {
        boid.position = bounds.center();
    }
    if !boid.velocity.is_finite() || boid.velocity.length_squared() < 1.0 {
        boid.velocity = Vec2::X * SPEED_CRUISE;
    }
    let outside = bounds.inflate(OUTSIDE_MAX);
    boid.position = boid.position.clamp(outside.min, outside.max);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const BOUNDS: Rect = Rect { min: Vec2::new(-900.0, -300.0), max: Vec2::new(900.0, 500.0) };
    const DT: f32 = 1.0 / 30.0;

    fn scattered(birds: usize, seed: u64) -> Vec<Boid> {
        let mut dice = Dice::new(seed);
        let mut anywhere = || Vec2::new(dice.between(-900.0, 900.0), dice.between(-300.0, 500.0));
        (0..birds).map(|_| Boid { position: anywhere(), velocity: anywhere(), trail: 0.3 }).collect()
    }

    #[test]
    fn whatever_is_fed_in_birds_stay_finite_and_inside() {
        let mut flock = scattered(200, 1);
        flock[0].position = Vec2::NAN;
        flock[1].velocity = Vec2::INFINITY;
        flock[2].velocity = Vec2::ZERO;
        flock[3].position = Vec2::splat(1e30);
        for twin in &mut flock[4..40] {
            twin.position = Vec2::ZERO;
        }
        let mut leader = Boid { position: Vec2::NAN, ..Boid::default() };
        for tick in 0..600 {
            lead(&mut leader, Some(Vec2::new(f32::NAN, 1e9)), BOUNDS, DT);
            step(&mut flock, Some(leader), BOUNDS, tick as f32 * DT, DT);
            for boid in flock.iter().chain([&leader]) {
                assert!(boid.position.is_finite() && boid.velocity.is_finite(), "{boid:?} at tick {tick}");
                assert!(BOUNDS.inflate(OUTSIDE_MAX).contains(boid.position), "{boid:?} at tick {tick}");
            }
        }
    }

    #[test]
    fn the_same_input_flies_the_same() {
        let (mut one, mut two) = (scattered(300, 2), scattered(300, 2));
        for tick in 0..60 {
            step(&mut one, None, BOUNDS, tick as f32 * DT, DT);
            step(&mut two, None, BOUNDS, tick as f32 * DT, DT);
        }
        assert_eq!(one, two);
    }

    #[test]
    fn a_scattered_flock_gathers_behind_its_leader() {
        let mut flock = scattered(60, 3);
        let mut leader = Boid { position: Vec2::ZERO, velocity: Vec2::X * SPEED_CRUISE, trail: 0.0 };
        let spread = |flock: &[Boid], leader: Boid| {
            flock.iter().map(|boid| boid.position.distance(leader.position)).sum::<f32>() / flock.len() as f32
        };
        let before = spread(&flock, leader);
        for tick in 0..300 {
            let target = Vec2::from_angle(tick as f32 * 0.01) * 250.0 + Vec2::Y * 100.0;
            lead(&mut leader, Some(target), BOUNDS, DT);
            step(&mut flock, Some(leader), BOUNDS, tick as f32 * DT, DT);
        }
        let after = spread(&flock, leader);
        assert!(before > 350.0 && after < 200.0, "{before} to {after}");
    }

    #[test]
    fn neighbors_keep_apart() {
        let mut flock = scattered(60, 4);
        let mut leader = Boid { position: Vec2::ZERO, velocity: Vec2::X * SPEED_CRUISE, trail: 0.0 };
        for tick in 0..600 {
            lead(&mut leader, Some(Vec2::from_angle(tick as f32 * 0.012) * 300.0), BOUNDS, DT);
            step(&mut flock, Some(leader), BOUNDS, tick as f32 * DT, DT);
        }
        let nearest = |boid: &Boid| {
            flock
                .iter()
                .filter(|other| *other != boid)
                .map(|other| other.position.distance(boid.position))
                .fold(f32::MAX, f32::min)
        };
        let mean = flock.iter().map(nearest).sum::<f32>() / flock.len() as f32;
        assert!(mean > 6.0, "birds fly {mean} apart: on top of each other");
    }
}
