//! The one picture that all birds are cut out of: a starling in several beats of its wings, dark with a bright rim that takes
//! its flock's color, and a soft light for leaders.

use bevy::math::{Rect, Vec2};

use crate::canvas::Canvas;

/// Width of a cell, in pixels.
const CELL: usize = 64;
/// Pictures of one beat.
const FRAMES: usize = 8;
/// A soft light.
pub(super) const GLOW: Rect = cell(0, 2);

/// A starling at this part of its wings' beat, 0 to 1.
pub(super) fn bird(beat: f32) -> Rect {
    cell(frame(beat), 0)
}

/// A leader, more colorful, at this part of its wings' beat, 0 to 1.
pub(super) fn leader(beat: f32) -> Rect {
    cell(frame(beat), 1)
}

/// The whole picture.
pub(super) fn paint() -> Canvas {
    // White where nothing is to be seen, so that no dark edge shows where pixels mix.
    let mut canvas = Canvas::new(CELL * FRAMES, CELL * 4, [1.0, 1.0, 1.0, 0.0]);
    for frame in 0..FRAMES {
        let phase = frame as f32 / FRAMES as f32 * std::f32::consts::TAU;
        // Seen from above, a wing that is up or down is short.
        let (span, sweep) = (0.60 + 0.40 * phase.cos(), 0.22 + 0.16 * phase.sin());
        let origin = Vec2::new((frame * CELL) as f32, 0.0);
        starling(&mut canvas, origin, span, sweep, [0.15, 2.1]);
        starling(&mut canvas, origin + Vec2::new(0.0, CELL as f32), span, sweep, [0.62, 2.0]);
    }
    let middle = Vec2::new(CELL as f32 / 2.0, CELL as f32 * 2.5);
    canvas.cover(middle - CELL as f32 / 2.0, middle + CELL as f32 / 2.0, [1.0; 4], |point| {
        let soft = (1.0 - point.distance(middle) / (CELL as f32 / 2.0 - 1.0)).max(0.0);
        soft * soft * (0.3 + 0.7 * soft)
    });
    canvas
}

/// A starling flying to the right. `shades`: how bright it is within, and how wide its rim is in pixels.
fn starling(canvas: &mut Canvas, origin: Vec2, span: f32, sweep: f32, shades: [f32; 2]) {
    let [within, rim] = shades;
    let middle = origin + Vec2::splat(CELL as f32 / 2.0);
    let high = origin + CELL as f32;
    let outline = |point: Vec2| -> f32 {
        // Both wings are alike.
        let p = Vec2::new(point.x - middle.x, (point.y - middle.y).abs());
        body(p).min(wing(p, span, sweep))
    };
    canvas.cover(origin, high, [1.0, 1.0, 1.0, 1.0], |point| rim * 0.5 + 0.5 - outline(point));
    canvas.cover(origin, high, [within, within, within * 1.1, 1.0], |point| 0.5 - rim * 0.5 - outline(point));
}

/// How far outside the body a point is, in pixels: a drop, a pointed beak, a short tail.
fn body(p: Vec2) -> f32 {
    let trunk = segment(p, Vec2::new(-7.0, 0.0), Vec2::new(7.0, 0.0), [3.6, 4.3]);
    let beak = segment(p, Vec2::new(9.0, 0.0), Vec2::new(18.0, 0.0), [2.9, 0.2]);
    let tail = segment(p, Vec2::new(-8.0, 0.0), Vec2::new(-17.0, 1.6), [2.6, 2.2]);
    trunk.min(beak).min(tail)
}

/// How far outside a wing a point is, in pixels: broad at the shoulder, pointed at the tip, swept back.
fn wing(p: Vec2, span: f32, sweep: f32) -> f32 {
    let reach = 25.0 * span;
    let hand = Vec2::new(5.0 - reach * 0.10, reach * 0.5);
    let tip = Vec2::new(hand.x - reach * (sweep + 0.25), reach);
    segment(p, Vec2::new(3.0, 1.0), hand, [5.2, 4.3]).min(segment(p, hand, tip, [4.2, 0.5]))
}

/// How far a point is outside a line that grows thinner, in pixels.
fn segment(p: Vec2, from: Vec2, to: Vec2, radii: [f32; 2]) -> f32 {
    let along = ((p - from).dot(to - from) / (to - from).length_squared()).clamp(0.0, 1.0);
    p.distance(from + (to - from) * along) - (radii[0] + (radii[1] - radii[0]) * along)
}

fn frame(beat: f32) -> usize {
    (beat * FRAMES as f32) as usize % FRAMES
}

const fn cell(column: usize, row: usize) -> Rect {
    let (x, y) = (column as f32 / FRAMES as f32, row as f32 / 4.0);
    Rect { min: Vec2::new(x, y), max: Vec2::new(x + 1.0 / FRAMES as f32, y + 0.25) }
}
