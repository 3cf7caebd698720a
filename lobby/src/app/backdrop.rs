//! Behind everything: the sky at dusk, hills, and a few starlings on their way.

use bevy::prelude::*;
use bevy::ui::UiTransform;

use super::theme::ON_SUN;
use super::widgets::icon;

/// How many starlings.
const BIRDS: u32 = 18;

/// One of them.
#[derive(Component)]
pub(crate) struct Bird {
    /// Where on its way it began, in widths of the window.
    offset: f32,
    /// How high it flies, in heights of the window from the top.
    height: f32,
    /// How fast it flies, in widths of the window a second.
    speed: f32,
    /// How far it rises and falls, in heights of the window.
    swing: f32,
}

pub(crate) fn spawn(mut commands: Commands) {
    commands.spawn(Camera2d);
    let all = || Node {
        position_type: PositionType::Absolute,
        width: percent(100),
        height: percent(100),
        overflow: Overflow::clip(),
        ..default()
    };
    let sky = LinearGradient::to_bottom(vec![
        ColorStop::percent(Color::srgb_u8(0x12, 0x17, 0x3c), 0),
        ColorStop::percent(Color::srgb_u8(0x2a, 0x24, 0x5e), 36),
        ColorStop::percent(Color::srgb_u8(0x60, 0x34, 0x74), 62),
        ColorStop::percent(Color::srgb_u8(0xb2, 0x50, 0x6c), 82),
        ColorStop::percent(Color::srgb_u8(0xf4, 0x93, 0x5c), 94),
        ColorStop::percent(Color::srgb_u8(0xff, 0xbc, 0x6c), 100),
    ]);
    commands.spawn((all(), BackgroundGradient::from(sky), GlobalZIndex(-10), Pickable::IGNORE)).with_children(|sky| {
        for number in 0..BIRDS {
            // Golden-ratio steps: spread evenly without a pattern that shows.
            let spread = |factor: f32| (number as f32 * factor).fract();
            let size = 11.0 + 12.0 * spread(0.755);
            sky.spawn((
                Node { position_type: PositionType::Absolute, ..default() },
                UiTransform::default(),
                Bird {
                    offset: spread(0.618_034) * 1.2,
                    height: 0.3 + 0.6 * spread(0.381_966),
                    speed: 0.006 + 0.000_4 * size,
                    swing: 0.015 + 0.02 * spread(0.57),
                },
                Pickable::IGNORE,
                children![icon::bird(size, Color::srgba(0.05, 0.03, 0.14, 0.75))],
            ));
        }
        // Hills: the tops of large circles, left and width in hundredths of the window's width, top in those of its height.
        for (left, width, top) in [(-45.0, 130.0, 94.0), (30.0, 150.0, 96.5)] {
            sky.spawn((
                Node {
                    position_type: PositionType::Absolute,
                    left: vw(left),
                    top: vh(top),
                    width: vw(width),
                    height: vw(width),
                    border_radius: BorderRadius::MAX,
                    ..default()
                },
                BackgroundColor(ON_SUN),
                Pickable::IGNORE,
            ));
        }
    });
}

/// Lets them fly: a way across the window again and again, rising and falling.
pub(crate) fn fly(time: Res<Time>, window: Single<&Window>, scale: Res<UiScale>, mut birds: Query<(&Bird, &mut UiTransform)>) {
    let now = time.elapsed_secs_wrapped();
    let (width, height) = (window.width() / scale.0, window.height() / scale.0);
    for (bird, mut transform) in &mut birds {
        let along = (bird.offset + now * bird.speed).rem_euclid(1.2) - 0.1;
        let swing = bird.swing * (now * 0.35 + bird.offset * 20.0).sin();
        transform.translation = Val2::px(along * width, (bird.height + swing) * height);
    }
}
