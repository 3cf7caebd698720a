//! A flock of the lab's own: bodies on smooth ways that turn, tumble and rest, quantized as a game would.

use peerflock_proto::quantize::{quaternion, scalar};

use crate::dice::Dice;

const FRAMES: usize = 1_200;
const STEP: f32 = 1.0 / 256.0;
/// A bird rests on average once in so many frames, and so long.
const REST_EVERY: f64 = 600.0;
const REST_FRAMES: u32 = 90;

struct Bird {
    place: [f32; 3],
    heading: f32,
    climb: f32,
    speed: f32,
    turn: f32,
    roll: f32,
    resting: u32,
}

/// Frames of so many birds, 60 a second: for each the rotation, the place, and whether it rests.
pub(crate) fn frames(birds: usize, seed: u64) -> Vec<Vec<i32>> {
    let mut dice = Dice::new(seed);
    let mut flock: Vec<Bird> = (0..birds).map(|_| hatch(&mut dice)).collect();
    (0..FRAMES).map(|_| flock.iter_mut().flat_map(|bird| fly(bird, &mut dice)).collect()).collect()
}

fn hatch(dice: &mut Dice) -> Bird {
    let mut within = |size: f64| ((dice.unit() - 0.5) * size) as f32;
    Bird {
        place: [within(200.0), within(200.0), within(40.0)],
        heading: within(std::f64::consts::TAU),
        climb: 0.0,
        speed: 8.0 + within(4.0),
        turn: 0.0,
        roll: 0.0,
        resting: 0,
    }
}

fn fly(bird: &mut Bird, dice: &mut Dice) -> [i32; 8] {
    const SECONDS: f32 = 1.0 / 60.0;
    bird.resting = bird.resting.saturating_sub(1);
    if bird.resting == 0 {
        if dice.falls(1.0 / REST_EVERY) {
            bird.resting = REST_FRAMES;
        }
        // Now and then it chooses another turn, and leans into it by and by; far out it turns back.
        if dice.falls(1.0 / 40.0) {
            bird.turn = ((dice.unit() - 0.5) * 4.0) as f32;
            bird.climb = ((dice.unit() - 0.5) * 1.0) as f32 - bird.place[2] * 0.02;
        }
        let homeward = (-bird.place[1]).atan2(-bird.place[0]);
        if bird.place[0].hypot(bird.place[1]) > 150.0 {
            bird.turn = (homeward - bird.heading).sin() * 2.0;
        }
        bird.roll += (bird.turn * 0.4 - bird.roll) * 0.1;
        bird.heading += bird.turn * SECONDS;
        let level = bird.speed * bird.climb.cos();
        let step = [level * bird.heading.cos(), level * bird.heading.sin(), bird.speed * bird.climb.sin()];
        for (place, step) in bird.place.iter_mut().zip(step) {
            *place += step * SECONDS;
        }
    }
    let (roll, heading) = ((bird.roll / 2.0).sin_cos(), (bird.heading / 2.0).sin_cos());
    let [largest, a, b, c] = quaternion([roll.0 * heading.1, roll.0 * heading.0, roll.1 * heading.0, roll.1 * heading.1]);
    let [x, y, z] = bird.place.map(|place| scalar(place, STEP));
    [largest, a, b, c, x, y, z, i32::from(bird.resting > 0)]
}
