//! The evening: a sky that darkens while the round runs, a sun that sinks, hills, a lake, and stars.
//!
//! All of it is painted once; a frame only moves and tints a handful of pictures, which software rendering can bear.

use bevy::prelude::*;

use crate::canvas::Canvas;
use crate::dice::Dice;
use crate::round::Round;
use crate::world::VIEW;

mod heaven;
mod land;

/// Where land and sky meet, in world units.
pub(crate) const HORIZON: f32 = -318.0;
/// Where the sun goes down, in world units.
const SUN_X: f32 = 250.0;
/// How high the sun stands when a round begins, and how far below the horizon when it ends, in world units.
const SUN_HIGH: f32 = HORIZON + 112.0;
const SUN_LOW: f32 = HORIZON - 70.0;
/// The picture of the heaven reaches this far beyond the view, in windows of other shapes.
const BEYOND: f32 = 1.5;
/// How many stars come out.
const STARS: usize = 150;

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Startup, paint).add_systems(Update, (darken, twinkle));
}

/// What changes as the evening goes.
#[derive(Clone, Component, Copy, Debug, PartialEq)]
enum Layer {
    Night,
    Glow,
    Sun,
    Glitter,
    Land,
}

#[derive(Component)]
struct Star {
    brightness: f32,
    phase: f32,
}

fn paint(mut commands: Commands, mut images: ResMut<Assets<Image>>) {
    let mut picture = |canvas: Canvas| images.add(canvas.into_image(false));
    let full = Some(Vec2::new(VIEW.x * BEYOND, VIEW.y));
    let sprite = |image: Handle<Image>, size: Option<Vec2>| Sprite { image, custom_size: size, ..default() };

    commands.spawn((sprite(picture(heaven::dusk()), full), Transform::from_xyz(0.0, 0.0, -100.0)));
    commands.spawn((sprite(picture(heaven::night()), full), Transform::from_xyz(0.0, 0.0, -99.0), Layer::Night));
    let glow = picture(heaven::glow());
    commands.spawn((
        sprite(glow.clone(), Some(Vec2::new(1500.0, 1050.0))),
        Transform::from_xyz(SUN_X, HORIZON, -97.0),
        Layer::Glow,
    ));
    commands.spawn((
        sprite(picture(heaven::sun()), Some(Vec2::splat(250.0))),
        Transform::from_xyz(SUN_X, SUN_HIGH, -96.0),
        Layer::Sun,
    ));
    let shore = Vec2::new(VIEW.x * BEYOND, land::HEIGHT);
    let middle = Vec3::new(0.0, -VIEW.y / 2.0 + land::HEIGHT / 2.0, -90.0);
    commands.spawn((sprite(picture(land::paint(HORIZON)), Some(shore)), Transform::from_translation(middle), Layer::Land));
    commands.spawn((
        sprite(picture(land::glitter()), Some(Vec2::new(420.0, 190.0))),
        Transform::from_xyz(SUN_X, HORIZON - 98.0, -89.0),
        Layer::Glitter,
    ));
    commands.spawn((
        sprite(picture(land::bank()), Some(Vec2::new(VIEW.x * BEYOND, land::BANK_HEIGHT))),
        Transform::from_xyz(0.0, -VIEW.y / 2.0 + land::BANK_HEIGHT / 2.0, -80.0),
    ));

    // Windows higher than wide see more of the sky above, and of the bank below.
    let margin = |[r, g, b]: [u8; 3]| Sprite::from_color(Color::srgb_u8(r, g, b), Vec2::new(VIEW.x * BEYOND, VIEW.y));
    commands.spawn((margin(heaven::DUSK_TOP), Transform::from_xyz(0.0, VIEW.y, -100.0)));
    commands.spawn((margin(heaven::NIGHT_TOP), Transform::from_xyz(0.0, VIEW.y, -99.0), Layer::Night));
    commands.spawn((margin(land::BANK), Transform::from_xyz(0.0, -VIEW.y, -79.0)));

    let mut dice = Dice::new(0x57a2);
    for _ in 0..STARS {
        let place = Vec2::new(dice.between(-0.74, 0.74) * VIEW.x, dice.unit().powf(1.5).mul_add(-0.62, 0.5) * VIEW.y);
        let brightness = dice.unit().powi(3) * 0.85 + 0.15;
        commands.spawn((
            sprite(glow.clone(), Some(Vec2::splat(5.0 + 9.0 * brightness))),
            Transform::from_translation(place.extend(-95.0)),
            Star { brightness, phase: dice.between(0.0, 60.0) },
        ));
    }
}

fn darken(round: Res<Round>, mut layers: Query<(&Layer, &mut Sprite, &mut Transform)>) {
    let progress = round.progress();
    let height = SUN_HIGH + (SUN_LOW - SUN_HIGH) * progress;
    // How much of the sun is still to be seen.
    let light = ((height - HORIZON + 60.0) / 120.0).clamp(0.0, 1.0);
    for (layer, mut sprite, mut transform) in &mut layers {
        match layer {
            Layer::Night => sprite.color.set_alpha(smoothstep((progress - 0.08) / 0.92) * 0.96),
            Layer::Glow => {
                sprite.color = Color::srgba(1.0, 0.62 + 0.12 * light, 0.32 + 0.10 * light, 0.28 + 0.42 * light);
                transform.translation.y = height.max(HORIZON - 30.0);
            }
            Layer::Sun => {
                sprite.color = Color::srgb(1.0, 0.80 + 0.14 * light, 0.52 + 0.26 * light);
                transform.translation.y = height;
            }
            Layer::Glitter => sprite.color = Color::srgba(1.0, 0.74, 0.46, 0.12 + 0.68 * light),
            Layer::Land => {
                let shade = 1.0 - 0.52 * smoothstep(progress);
                sprite.color = Color::srgb(shade, shade, (shade * 1.08).min(1.0));
            }
        }
    }
}

fn twinkle(time: Res<Time>, round: Res<Round>, mut stars: Query<(&Star, &mut Sprite)>) {
    for (star, mut sprite) in &mut stars {
        // The brightest come out first.
        let out = smoothstep((round.progress() * 1.5 + star.brightness * 0.9 - 0.80) / 0.8);
        let flicker = 0.82 + 0.18 * (time.elapsed_secs() * (1.0 + star.brightness) + star.phase).sin();
        sprite.color = Color::srgba(0.93, 0.95, 1.0, star.brightness * out * flicker);
    }
}

fn smoothstep(value: f32) -> f32 {
    let part = value.clamp(0.0, 1.0);
    part * part * (3.0 - 2.0 * part)
}
