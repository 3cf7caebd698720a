//! The pictures above the horizon.

use bevy::math::Vec2;

use crate::canvas::{Canvas, Paint, fractal, gradient};
use crate::sky::HORIZON;
use crate::world::VIEW;

/// Pixels of the heaven: gradients need no more.
const SIZE: [usize; 2] = [960, 540];

/// The highest of the sky's colors when a round begins, and when it ends.
pub(super) const DUSK_TOP: [u8; 3] = [26, 36, 82];
pub(super) const NIGHT_TOP: [u8; 3] = [8, 13, 36];

/// Sky colors when a round begins, from the horizon (0) up (1).
const DUSK: [(f32, [u8; 3]); 8] = [
    (0.00, [255, 206, 130]),
    (0.07, [255, 178, 104]),
    (0.19, [244, 132, 96]),
    (0.32, [212, 98, 112]),
    (0.47, [150, 76, 128]),
    (0.63, [94, 66, 130]),
    (0.81, [52, 54, 112]),
    (1.00, DUSK_TOP),
];

/// Sky colors when it ends.
const NIGHT: [(f32, [u8; 3]); 7] = [
    (0.00, [206, 104, 84]),
    (0.08, [164, 78, 92]),
    (0.20, [112, 60, 98]),
    (0.36, [70, 48, 94]),
    (0.56, [38, 36, 80]),
    (0.78, [18, 24, 58]),
    (1.00, NIGHT_TOP),
];

/// The sky while the sun is still there.
pub(super) fn dusk() -> Canvas {
    heaven(&DUSK, [255, 176, 138], [98, 52, 108], 0.8)
}

/// The sky after it has gone.
pub(super) fn night() -> Canvas {
    heaven(&NIGHT, [190, 104, 110], [26, 24, 56], 0.5)
}

/// A soft light, brightest in the middle.
pub(super) fn glow() -> Canvas {
    let mut canvas = Canvas::new(256, 256, [1.0; 4]);
    canvas.fill(|point| {
        let distance = point.distance(Vec2::splat(128.0)) / 128.0;
        let soft = (1.0 - distance).max(0.0);
        [1.0, 1.0, 1.0, soft * soft * (0.45 + 0.55 * soft * soft)]
    });
    canvas
}

/// The sun: a disk with a bright edge to its halo.
pub(super) fn sun() -> Canvas {
    let mut canvas = Canvas::new(256, 256, [1.0; 4]);
    canvas.fill(|point| {
        let distance = point.distance(Vec2::splat(128.0));
        let disk = (50.0 - distance).clamp(0.0, 1.5) / 1.5;
        let halo = (1.0 - (distance - 46.0).max(0.0) / 80.0).max(0.0).powi(3) * 0.5;
        [1.0, 1.0, 1.0, disk.max(halo)]
    });
    canvas
}

/// A gradient with streaks of cloud: lit from below near the horizon, dark against the light above.
fn heaven(stops: &[(f32, [u8; 3])], lit: [u8; 3], dark: [u8; 3], opacity: f32) -> Canvas {
    let [width, height] = SIZE;
    let unit = |color: [u8; 3]| color.map(|channel| f32::from(channel) / 255.0);
    let (lit, dark) = (unit(lit), unit(dark));
    let horizon = height as f32 * (0.5 - HORIZON / VIEW.y);
    let row_heights = (0..height).map(|row| ((horizon - row as f32) / horizon).clamp(0.0, 1.0));
    let rows: Vec<[f32; 3]> = row_heights.map(|up| gradient(stops, up)).collect();
    let mut canvas = Canvas::new(width, height, [0.0, 0.0, 0.0, 1.0]);
    canvas.fill(|point| {
        let up = ((horizon - point.y) / horizon).clamp(0.0, 1.0);
        let sky = rows[point.y as usize];
        // Clouds lie flatter towards the horizon.
        let flat = 0.35 + up;
        let at = Vec2::new(point.x / 300.0, (horizon - point.y) / (52.0 * flat));
        let streak = fractal(at + Vec2::splat(fractal(at * 0.7, 2, 91) * 0.7), 4, 17);
        let band = (1.0 - ((up - 0.34) / 0.40).powi(2)).max(0.0);
        let cloud = ((streak + 0.03) * 2.9).clamp(0.0, 1.0) * band * opacity;
        let light = (1.0 - up * 2.1).clamp(0.0, 1.0);
        let mut paint: Paint = [0.0, 0.0, 0.0, 1.0];
        for channel in 0..3 {
            let color = dark[channel] + (lit[channel] - dark[channel]) * light;
            paint[channel] = sky[channel] + (color - sky[channel]) * cloud * (0.55 + 0.3 * light);
        }
        paint
    });
    canvas
}
