//! The pictures below the horizon: hazy hills, a lake that keeps the light, and the dark bank where the reeds stand.

use bevy::math::Vec2;

use crate::canvas::{Canvas, Paint, fractal, gradient, noise};
use crate::dice::Dice;
use crate::world::VIEW;

/// How much of the view is land and lake, in world units from below.
pub(super) const HEIGHT: f32 = 340.0;
/// How much of it is the bank in front, in world units from below.
pub(super) const BANK_HEIGHT: f32 = 240.0;
/// The color of that bank.
pub(super) const BANK: [u8; 3] = [14, 11, 24];
/// Width of the pictures, in pixels; they are wider than the view.
const WIDTH: usize = 1920;
/// Pixels per world unit.
const SCALE: f32 = WIDTH as f32 / (VIEW.x * super::BEYOND);

/// One range of hills.
struct Ridge {
    /// Above the horizon, in world units.
    height: f32,
    /// How far it goes up and down, in world units.
    relief: f32,
    /// How wide its features are, in world units.
    width: f32,
    seed: u32,
    color: [u8; 3],
    /// Trees per 1,000 world units.
    trees: f32,
}

/// From far to near, the haze less and less.
const RIDGES: [Ridge; 4] = [
    Ridge { height: 52.0, relief: 46.0, width: 520.0, seed: 5, color: [188, 104, 112], trees: 0.0 },
    Ridge { height: 32.0, relief: 34.0, width: 360.0, seed: 23, color: [140, 78, 104], trees: 0.0 },
    Ridge { height: 16.0, relief: 20.0, width: 240.0, seed: 41, color: [92, 56, 88], trees: 26.0 },
    Ridge { height: 4.0, relief: 9.0, width: 300.0, seed: 77, color: [56, 38, 68], trees: 60.0 },
];

/// The lake from the far shore (0) to the near one (1).
const LAKE: [(f32, [u8; 3]); 4] = [(0.0, [236, 142, 104]), (0.22, [196, 98, 110]), (0.6, [110, 64, 112]), (1.0, [52, 42, 86])];

/// Hills and lake.
pub(super) fn paint(horizon: f32) -> Canvas {
    let height = (HEIGHT * SCALE) as usize;
    let shore = (HEIGHT - (horizon + VIEW.y / 2.0)) * SCALE;
    let mut canvas = Canvas::new(WIDTH, height, [0.4, 0.25, 0.3, 0.0]);
    for ridge in &RIDGES {
        range(&mut canvas, ridge, shore);
    }
    lake(&mut canvas, shore);
    canvas
}

/// The light of the sun on the water: short bright strokes, fewer to the sides.
pub(super) fn glitter() -> Canvas {
    let mut canvas = Canvas::new(420, 190, [1.0, 1.0, 1.0, 0.0]);
    let mut dice = Dice::new(71);
    for _ in 0..330 {
        let depth = dice.unit().powf(1.35);
        let spread = 26.0 + 120.0 * depth;
        let across = (dice.unit() + dice.unit() + dice.unit() - 1.5) / 1.5;
        let middle = Vec2::new(210.0 + across * spread, 4.0 + depth * 178.0);
        let half = Vec2::new(dice.between(4.0, 11.0) * (0.5 + depth), 0.0);
        let strength = (1.0 - across.abs()) * dice.between(0.25, 0.9) * (1.0 - depth * 0.6);
        canvas.stroke(middle - half, middle + half, [1.1 + depth, 1.1 + depth], [1.0, 1.0, 1.0, strength]);
    }
    canvas
}

/// The bank in front: grass, reeds, and an old tree on the right.
pub(super) fn bank() -> Canvas {
    let [r, g, b] = BANK.map(|channel| f32::from(channel) / 255.0);
    let dark: Paint = [r, g, b, 1.0];
    let height = BANK_HEIGHT * SCALE;
    let mut canvas = Canvas::new(WIDTH, height as usize, [r, g, b, 0.0]);
    // Low in the middle, where the eye goes out onto the water.
    let ground = |x: f32| {
        let side = (x / WIDTH as f32 - 0.5).abs() * 2.0;
        height - SCALE * (16.0 + 46.0 * side.powi(3) + 9.0 * fractal(Vec2::new(x / 190.0, 0.5), 3, 9))
    };
    canvas.cover(Vec2::ZERO, Vec2::new(WIDTH as f32, height), dark, |point| point.y - ground(point.x) + 0.5);
    let mut dice = Dice::new(4);
    for _ in 0..950 {
        let x = dice.unit() * WIDTH as f32;
        let tall = SCALE * dice.between(8.0, 26.0) * (0.55 + 0.6 * noise(Vec2::new(x / 60.0, 3.0), 8).abs());
        let root = Vec2::new(x, ground(x) + 2.0);
        canvas.stroke(root, root + Vec2::new(dice.between(-0.35, 0.35) * tall, -tall), [1.3, 0.4], dark);
    }
    for _ in 0..85 {
        let side = if dice.unit() < 0.6 { dice.between(0.14, 0.36) } else { dice.between(0.62, 0.74) };
        reed(&mut canvas, &mut dice, side * WIDTH as f32, &ground, dark);
    }
    let foot = Vec2::new(0.795 * WIDTH as f32, ground(0.795 * WIDTH as f32) + 4.0);
    branch(&mut canvas, &mut dice, foot, Vec2::new(-0.10, -1.0).normalize() * 40.0 * SCALE, 8.5 * SCALE, dark);
    canvas
}

fn range(canvas: &mut Canvas, ridge: &Ridge, shore: f32) {
    let paint = [0, 1, 2].map(|channel| f32::from(ridge.color[channel]) / 255.0);
    let paint = [paint[0], paint[1], paint[2], 1.0];
    let width = ridge.width * SCALE;
    let edge =
        |x: f32| shore - SCALE * (ridge.height + ridge.relief * fractal(Vec2::new(x / width, 0.3), 4, ridge.seed)).max(0.0);
    canvas.cover(Vec2::ZERO, Vec2::new(WIDTH as f32, shore), paint, |point| point.y - edge(point.x) + 0.5);
    let mut dice = Dice::new(ridge.seed.into());
    for _ in 0..(ridge.trees * VIEW.x * super::BEYOND / 1_000.0) as usize {
        let x = dice.unit() * WIDTH as f32;
        // Trees like company.
        if noise(Vec2::new(x / 90.0, 7.0), ridge.seed) < -0.1 {
            continue;
        }
        let size = SCALE * dice.between(3.5, 8.5) * if ridge.trees > 40.0 { 1.35 } else { 0.8 };
        let foot = Vec2::new(x, edge(x) + 1.0);
        if dice.unit() < 0.25 {
            canvas.disk(foot - Vec2::Y * size * 1.3, Vec2::new(size * 0.34, size * 1.6), 1.0, paint);
        } else {
            for _ in 0..4 {
                let at = foot + Vec2::new(dice.between(-0.6, 0.6), dice.between(-1.35, -0.3)) * size;
                canvas.disk(at, Vec2::splat(size * dice.between(0.4, 0.72)), 1.0, paint);
            }
        }
    }
}

fn lake(canvas: &mut Canvas, shore: f32) {
    let (width, height) = (WIDTH as f32, canvas.height as f32);
    let rows: Vec<[f32; 3]> =
        (0..canvas.height).map(|row| gradient(&LAKE, ((row as f32 - shore) / (height - shore)).clamp(0.0, 1.0))).collect();
    let mirrored = RIDGES[RIDGES.len() - 1].color.map(|channel| f32::from(channel) / 255.0);
    for (row, color) in rows.iter().enumerate().skip(shore as usize) {
        let y = row as f32;
        let depth = (y - shore) / (height - shore);
        let near = (0.04 + depth).recip();
        // Ripples are longer and fainter the farther away they are.
        for (paint, part) in [([1.0, 0.80, 0.66], 0.17), ([0.16, 0.10, 0.24], 0.20)] {
            if paint[0] > 0.5 {
                canvas.cover(Vec2::new(0.0, y), Vec2::new(width, y + 1.0), [color[0], color[1], color[2], 1.0], |_| 1.0);
            }
            canvas.cover(Vec2::new(0.0, y), Vec2::new(width, y + 1.0), [paint[0], paint[1], paint[2], 1.0], |point| {
                let ripple = noise(
                    Vec2::new(point.x * 0.008 * (1.0 + near * 0.25) + 40.0 * paint[0], (y - shore) * (0.16 + near * 0.03)),
                    31,
                );
                ((ripple - 0.35) * 2.5).clamp(0.0, 1.0) * part * (0.25 + depth)
            });
        }
        // The near shore's reflection.
        canvas.cover(Vec2::new(0.0, y), Vec2::new(width, y + 1.0), [mirrored[0], mirrored[1], mirrored[2], 1.0], |point| {
            let hill = 9.0 + 7.0 * fractal(Vec2::new(point.x / 150.0, y / 5.0), 2, 77);
            ((hill - (y - shore)) / 5.0).clamp(0.0, 1.0) * 0.75
        });
    }
}

fn reed(canvas: &mut Canvas, dice: &mut Dice, x: f32, ground: &impl Fn(f32) -> f32, paint: Paint) {
    let x = x + dice.between(-60.0, 60.0);
    let tall = SCALE * dice.between(34.0, 78.0);
    let root = Vec2::new(x, ground(x) + 2.0);
    let tip = root + Vec2::new(dice.between(-0.14, 0.2) * tall, -tall);
    canvas.stroke(root, tip, [1.2, 0.7], paint);
    let along = (tip - root).normalize_or(Vec2::NEG_Y);
    canvas.stroke(tip - along * 9.0 * SCALE, tip + along * 2.0, [2.6, 2.2], paint);
}

/// A branch and all that grows from it.
fn branch(canvas: &mut Canvas, dice: &mut Dice, from: Vec2, along: Vec2, thick: f32, paint: Paint) {
    let to = from + along;
    canvas.stroke(from, to, [thick, thick * 0.72], paint);
    if thick < 0.55 {
        return;
    }
    let turn = dice.between(0.22, 0.5);
    for (angle, length, girth) in [(turn, 0.82, 0.70), (-turn * dice.between(0.7, 1.3), 0.80, 0.66)] {
        let bent = Vec2::from_angle(angle + dice.between(-0.12, 0.12)).rotate(along) * length;
        // Twigs reach for the light.
        branch(canvas, dice, to, bent + Vec2::NEG_Y * along.length() * 0.05, thick * girth, paint);
    }
    if dice.unit() < 0.45 {
        let twig = Vec2::from_angle(dice.between(-1.0, 1.0)).rotate(along) * 0.55;
        branch(canvas, dice, from + along * 0.6, twig, thick * 0.42, paint);
    }
}
