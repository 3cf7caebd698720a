//! The way between two places: curved as the places around them say, and never beyond what they say.
//!
//! A cubic Hermite curve. Where a velocity is known it is taken at its word; else it is that of the parabola through three places
//! (nonuniform Catmull-Rom), as far as these go about the same way: at a sharp turn, a start or a stop the way is straight.

use glam::Vec3;

/// From one place to the next, in so many seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg {
    pub(super) way: Vec3,
    pub(super) seconds: f64,
}

impl Leg {
    pub(super) fn velocity(&self) -> Vec3 {
        self.way / self.seconds as f32
    }

    /// The velocity at the end of this leg, where the next one begins.
    pub(super) fn velocity_before(&self, next: &Self) -> Vec3 {
        let (here, there) = (self.velocity(), next.velocity());
        let part = (self.seconds / (self.seconds + next.seconds)) as f32;
        here.lerp(there, part)
    }

    /// The velocity at the end of this leg, by what it changed from `before`, where nothing is known of what comes.
    pub(super) fn velocity_after(&self, before: &Self) -> Vec3 {
        let (was, is) = (before.velocity(), self.velocity());
        let part = (self.seconds / (before.seconds + self.seconds)) as f32;
        is + (is - was) * part * alike(was, is)
    }

    /// A velocity at one of this leg's ends, no wilder than the leg itself: along it, it is neither backwards nor more than three
    /// times as fast, which would overshoot; across it, it is no more than as fast. What bends away from `neighbor` too sharply
    /// is straight.
    pub(super) fn tamed(&self, velocity: Vec3, neighbor: &Self) -> Vec3 {
        let straight = self.velocity();
        let speed = straight.length();
        if speed <= f32::EPSILON {
            return Vec3::ZERO;
        }
        let velocity = straight.lerp(velocity, alike(straight, neighbor.velocity()));
        let ahead = straight / speed;
        let along = velocity.dot(ahead);
        let across = (velocity - ahead * along).clamp_length_max(speed);
        ahead * along.clamp(0.0, 3.0 * speed) + across
    }

    /// How far along it is after a `part` of the leg's time, with these velocities at its ends.
    pub(super) fn at(&self, part: f32, [start, end]: [Vec3; 2]) -> Vec3 {
        let (square, seconds) = (part * part, self.seconds as f32);
        let cube = square * part;
        self.way * (3.0 * square - 2.0 * cube) + start * seconds * (cube - 2.0 * square + part) + end * seconds * (cube - square)
    }
}

/// 1 for what goes about the same way, within an eighth of a turn; 0 from a quarter of a turn on.
fn alike(a: Vec3, b: Vec3) -> f32 {
    let lengths = a.length() * b.length();
    if lengths <= f32::EPSILON { 0.0 } else { (a.dot(b) / lengths * std::f32::consts::SQRT_2).clamp(0.0, 1.0) }
}
