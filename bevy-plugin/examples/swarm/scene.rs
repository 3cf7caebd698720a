//! The scene: what moves where, the same on every stack that plays it.
//!
//! Everything follows from a body's number and the time that its owner has played, so that no stack has an easier path than
//! another. When the play is over, all bodies go to a place of rest that is known beforehand: there everybody can see whether
//! all worlds became one.

use std::f64::consts::TAU;
use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::prelude::*;
use serde::{Deserialize, Serialize};

use super::part::{Part, clock_micros};

/// Bodies spin about changing axes on circles and figure-eights; every fourth turns back sharply now and then.
const KINDS: u32 = 4;
/// The world is so wide, in units.
const WIDTH: f64 = 80.0;
/// How often a body's health changes, in seconds.
const HEALTH_EVERY: f64 = 10.0;
/// Health at rest: this and the body's number, so that it tells which body rests where.
const HEALTH_AT_REST: u32 = 1_000_000;
/// How far from its place of rest a body may be shown, in units and in radians: a little more than the steps in which places and
/// rotations travel.
const REST_UNITS: f32 = 0.01;
const REST_RADIANS: f32 = 0.01;

/// A small component that seldom changes.
#[derive(Clone, Copy, Component, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Health(u32);

/// On one body of each owner: when its owner's newest tick was, in microseconds of the clock that all processes of a machine
/// share, cut to 32 bits.
#[derive(Clone, Copy, Component, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Stamp(u32);

impl Stamp {
    fn now() -> Self {
        Self(clock_micros() as u32)
    }

    /// How long ago it was made. A clock that was set back makes it no age of an hour.
    pub(crate) fn age(self) -> Duration {
        Duration::from_micros(u64::try_from(Self::now().0.wrapping_sub(self.0).cast_signed()).unwrap_or(0))
    }
}

/// A body that this process moves, by its number in the whole scene. Stays here.
#[derive(Clone, Copy, Component, Debug)]
pub(crate) struct Body(u32);

/// Fixed ticks that this process has played.
#[derive(Debug, Default, Resource)]
pub(crate) struct Ticks(pub(crate) u64);

/// An app without a window that runs about as many frames a second as fixed ticks, with this process's part of the bodies in it;
/// `shared` is what makes the stack replicate an entity.
pub(crate) fn app(part: &Part, shared: impl Bundle + Clone) -> App {
    let mut app = App::new();
    let (first, end) = (part.first, part.first + part.entities);
    app.add_plugins((MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(part.frame())), TransformPlugin))
        .insert_resource(Time::<Fixed>::from_hz(f64::from(part.hz)))
        .insert_resource(part.clone())
        .init_resource::<Ticks>()
        .add_systems(Startup, move |mut commands: Commands| {
            for number in first..end {
                let mut body = commands.spawn((shared.clone(), Body(number), pose(number, 0.0), health(number, 0.0)));
                if number == first {
                    body.insert(Stamp::now());
                }
            }
        })
        .add_systems(FixedUpdate, play);
    app
}

/// Which body it is, if it is at its place of rest.
pub(crate) fn resting(transform: &Transform, health: Health) -> Option<u32> {
    let number = health.0.checked_sub(HEALTH_AT_REST)?;
    let rest = rest(number);
    let near = transform.translation.distance(rest.translation) <= REST_UNITS
        && transform.rotation.angle_between(rest.rotation) <= REST_RADIANS;
    near.then_some(number)
}

fn play(
    part: Res<Part>,
    mut ticks: ResMut<Ticks>,
    mut bodies: Query<(&Body, &mut Transform, &mut Health)>,
    mut stamps: Query<&mut Stamp, With<Body>>,
) {
    ticks.0 += 1;
    let seconds = ticks.0 as f64 / f64::from(part.hz);
    let over = part.is_over();
    for (Body(number), mut transform, mut health) in &mut bodies {
        if over {
            transform.set_if_neq(rest(*number));
            health.set_if_neq(Health(HEALTH_AT_REST + number));
        } else {
            *transform = pose(*number, seconds);
            health.set_if_neq(self::health(*number, seconds));
        }
    }
    stamps.iter_mut().for_each(|mut stamp| *stamp = Stamp::now());
}

/// Where a body is after so many seconds.
fn pose(number: u32, seconds: f64) -> Transform {
    let lot = |salt: u32| lot(number, salt);
    let radius = 2.0 + 10.0 * lot(0);
    let pace = (2.0 + 8.0 * lot(1)) / radius;
    let angle = TAU * lot(2) + pace * if number.is_multiple_of(KINDS) { zigzag(seconds, 1.0 + 3.0 * lot(3)) } else { seconds };
    let (sin, cos) = angle.sin_cos();
    // Some run a figure-eight, the others a circle; all rise and fall on the way.
    let (x, y) = if number % KINDS == 1 { (sin, sin * cos) } else { (sin, cos) };
    let path = Vec3::new(x as f32, y as f32, (0.15 * (3.0 * angle).sin()) as f32) * radius as f32;
    let tilt = Quat::from_rotation_x(turn(TAU * lot(4))) * Quat::from_rotation_y(turn(TAU * lot(5)));
    let center = [6, 7, 8].map(|salt| ((lot(salt) - 0.5) * WIDTH) as f32);
    let spin = 0.5 + 2.5 * lot(9);
    let rotation =
        Quat::from_rotation_y(turn(TAU * lot(10) + 0.37 * spin * seconds)) * Quat::from_rotation_x(turn(spin * seconds));
    Transform::from_translation(Vec3::from(center) + tilt * path).with_rotation(rotation)
}

fn health(number: u32, seconds: f64) -> Health {
    Health(100 - (seconds / HEALTH_EVERY + lot(number, 11)) as u32 % 100)
}

fn rest(number: u32) -> Transform {
    Transform::from_xyz(number as f32 / 4.0, 1.0, -1.0)
}

/// Runs on for `turn` seconds, then back for as long, and so on.
fn zigzag(seconds: f64, turn: f64) -> f64 {
    let phase = seconds.rem_euclid(2.0 * turn);
    if phase < turn { phase } else { 2.0 * turn - phase }
}

/// An angle as what is left of it after whole turns: before it loses its digits.
fn turn(angle: f64) -> f32 {
    angle.rem_euclid(TAU) as f32
}

/// A number from 0 to 1 that looks drawn by lot, always the same (`SplitMix64`'s mix).
fn lot(number: u32, salt: u32) -> f64 {
    let mut bits = ((u64::from(number) << 32) | u64::from(salt)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: f64 = 1.0 / 60.0;

    #[test]
    fn every_body_moves_and_turns_in_every_tick_and_never_jumps() {
        for number in 0..200 {
            // A body that turns back stands still for a tick, at most.
            let (mut still, mut furthest) = (0, 0.0_f32);
            for tick in 0..600 {
                let (before, after) = (pose(number, f64::from(tick) * TICK), pose(number, f64::from(tick + 1) * TICK));
                let distance = before.translation.distance(after.translation);
                still += u32::from(distance < 0.01);
                furthest = furthest.max(distance);
                assert!(before.rotation.angle_between(after.rotation) > 0.001, "body {number} does not turn");
            }
            assert!(still < 100, "body {number} stands still in {still} of 600 ticks");
            assert!(furthest < 0.4, "body {number} jumps by {furthest}");
        }
    }

    #[test]
    fn some_turn_sharply_and_most_do_not() {
        let sharp = |number: u32| {
            (0..600).any(|tick| {
                let place = |tick: u32| pose(number, f64::from(tick) * TICK).translation;
                let (before, after) = (place(tick + 1) - place(tick), place(tick + 2) - place(tick + 1));
                before.normalize_or_zero().dot(after.normalize_or_zero()) < 0.0
            })
        };
        assert_eq!((0..40).filter(|number| sharp(*number)).count(), 10);
    }

    #[test]
    fn health_changes_seldom() {
        let changes = |number| {
            (0..1_200).filter(move |tick| health(number, f64::from(*tick) * TICK) != health(number, f64::from(tick + 1) * TICK))
        };
        assert!((0..100).all(|number| changes(number).count() == 2));
    }

    #[test]
    fn a_body_rests_at_its_own_place_only() {
        let health = |number| Health(HEALTH_AT_REST + number);
        assert_eq!(resting(&rest(7), health(7)), Some(7));
        assert_eq!(resting(&rest(7), health(8)), None);
        assert_eq!(resting(&rest(7), self::health(7, 0.0)), None);
        assert_eq!(resting(&rest(7).with_rotation(Quat::from_rotation_x(0.1)), health(7)), None);
    }
}
