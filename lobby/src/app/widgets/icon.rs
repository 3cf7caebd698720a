//! Small pictures made of shapes: no font has to have them.

use bevy::prelude::*;
use bevy::ui::UiTransform;

use crate::app::live::{self, LiveColor};
use crate::app::model::Model;
use crate::app::theme;

/// A padlock: locked or open.
pub(crate) fn lock(locked: bool) -> impl Bundle {
    let (color, lean) = if locked { (theme::SUN, 4.0) } else { (theme::FAINT, 12.0) };
    (
        Node { width: px(24), height: px(22), flex_shrink: 0.0, ..default() },
        Pickable::IGNORE,
        children![
            (
                Node {
                    position_type: PositionType::Absolute,
                    left: px(lean),
                    top: px(1),
                    width: px(10),
                    height: px(12),
                    border: px(2.2).all(),
                    border_radius: BorderRadius::top(px(5)),
                    ..default()
                },
                BorderColor::all(color),
                Pickable::IGNORE,
            ),
            (
                Node {
                    position_type: PositionType::Absolute,
                    left: px(1),
                    top: px(10),
                    width: px(16),
                    height: px(11),
                    border_radius: BorderRadius::all(px(3)),
                    ..default()
                },
                BackgroundColor(color),
                Pickable::IGNORE,
            ),
            (
                Node {
                    position_type: PositionType::Absolute,
                    left: px(8),
                    top: px(13),
                    width: px(2.5),
                    height: px(5),
                    border_radius: BorderRadius::MAX,
                    ..default()
                },
                BackgroundColor(theme::DIALOG),
                Pickable::IGNORE,
            ),
        ],
    )
}

/// A heart: lit while this says so.
pub(crate) fn heart(lit: impl Fn(&Model) -> bool + Send + Sync + Clone + 'static) -> impl Bundle {
    // Two rounded squares and one on its corner.
    let part = move |left: f32, top: f32, turn: f32, round: f32| {
        let lit = lit.clone();
        (
            Node {
                position_type: PositionType::Absolute,
                left: px(left),
                top: px(top),
                width: px(9),
                height: px(9),
                border_radius: BorderRadius::all(px(round)),
                ..default()
            },
            UiTransform::from_rotation(Rot2::degrees(turn)),
            BackgroundColor(theme::FAINT),
            live::color(move |model| if lit(model) { theme::SUN } else { theme::UNLIT }),
            Pickable::IGNORE,
        )
    };
    (
        Node { width: px(18), height: px(17), flex_shrink: 0.0, ..default() },
        Pickable::IGNORE,
        children![part(1.4, 1.2, 0.0, 4.5), part(7.6, 1.2, 0.0, 4.5), part(4.5, 4.3, 45.0, 0.0)],
    )
}

/// Three bars that say how near somebody is: all lit below 60 ms, one above 150 ms.
pub(crate) fn bars(round_trip: impl Fn(&Model) -> Option<std::time::Duration> + Send + Sync + Clone + 'static) -> impl Bundle {
    let bar = move |height: f32, lit_below_ms: u128| {
        let round_trip = round_trip.clone();
        (
            Node { width: px(5), height: px(height), border_radius: BorderRadius::all(px(1.5)), ..default() },
            BackgroundColor(theme::FAINT),
            Pickable::IGNORE,
            lit(move |model| round_trip(model).map(|time| time.as_millis()), lit_below_ms),
        )
    };
    (
        Node { align_items: AlignItems::FlexEnd, column_gap: px(3), ..default() },
        Pickable::IGNORE,
        children![bar(6.0, u128::MAX), bar(11.0, 150), bar(16.0, 60)],
    )
}

fn lit(milliseconds: impl Fn(&Model) -> Option<u128> + Send + Sync + 'static, below: u128) -> LiveColor {
    live::color(move |model| match milliseconds(model) {
        Some(time) if time < below => match time {
            0..60 => theme::GOOD,
            60..150 => theme::SUN,
            _ => theme::ALARM,
        },
        _ => theme::FAINT.with_alpha(0.45),
    })
}

/// A starling from afar: two wings, each an arc. `span` is its width in pixels.
pub(crate) fn bird(span: f32, color: Color) -> impl Bundle {
    let wing = move |left: f32, lean: f32| {
        (
            Node {
                position_type: PositionType::Absolute,
                left: px(left),
                top: px(span * 0.1),
                width: px(span * 0.54),
                height: px(span * 0.6),
                // Only the top has an edge: it thins out towards both ends.
                border: UiRect::top(px((span * 0.16).max(1.8))),
                border_radius: BorderRadius::MAX,
                ..default()
            },
            UiTransform::from_rotation(Rot2::degrees(lean)),
            BorderColor::all(color),
            Pickable::IGNORE,
        )
    };
    (
        Node { width: px(span), height: px(span * 0.5), flex_shrink: 0.0, ..default() },
        Pickable::IGNORE,
        children![wing(-span * 0.02, -12.0), wing(span * 0.48, 12.0)],
    )
}
