//! What the screens are made of.

pub(crate) mod button;
pub(crate) mod field;
pub(crate) mod icon;
pub(crate) mod scroll;

use bevy::prelude::*;

use super::theme;

/// A column of things.
pub(crate) fn column(gap: f32) -> Node {
    Node { flex_direction: FlexDirection::Column, row_gap: px(gap), ..default() }
}

/// A row of things, centered on each other.
pub(crate) fn row(gap: f32) -> Node {
    Node { align_items: AlignItems::Center, column_gap: px(gap), ..default() }
}

/// Takes the room that is left, and pushes its siblings apart.
pub(crate) fn spring() -> impl Bundle {
    (Node { flex_grow: 1.0, ..default() }, Pickable::IGNORE)
}

/// A panel: `node` with a face and an edge.
pub(crate) fn panel(node: Node) -> impl Bundle {
    (
        Node { border: px(1).all(), border_radius: BorderRadius::all(theme::ROUND), ..node },
        BackgroundColor(theme::PANEL),
        BorderColor::all(theme::EDGE),
    )
}
