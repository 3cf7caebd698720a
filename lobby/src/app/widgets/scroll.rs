//! Lists that scroll, with a bar beside them when there is more than fits.

use bevy::ecs::relationship::RelatedSpawnerCommands;
use bevy::picking::hover::Hovered;
use bevy::prelude::*;
use bevy::ui_widgets::{ControlOrientation, ScrollArea, Scrollbar, ScrollbarDragState, ScrollbarThumb};

use crate::app::theme;

/// Room for the ring around what has the focus, in pixels.
const RING: f32 = 5.0;
/// How wide a bar is, in pixels.
const BAR: f32 = 8.0;

/// On a list whose newest line is its last: it stays in view until the player scrolls away from it.
#[derive(Component, Default)]
pub(crate) struct StickToEnd {
    height: f32,
}

/// Adds a scrolling column below `parent`; `fill` sets up the column itself.
pub(crate) fn spawn(parent: &mut RelatedSpawnerCommands<'_, ChildOf>, gap: f32, fill: impl FnOnce(&mut EntityCommands<'_>)) {
    parent
        .spawn((
            Node {
                flex_grow: 1.0,
                min_height: px(0),
                // What is in the list lines up with what is above it; ring and bar are in the margin.
                margin: UiRect::new(px(-RING), px(-RING - BAR), px(0), px(0)),
                ..default()
            },
            Pickable::IGNORE,
        ))
        .with_children(|frame| {
            let mut list = frame.spawn((
                Node {
                    flex_grow: 1.0,
                    width: px(0),
                    overflow: Overflow::scroll_y(),
                    padding: px(RING).all(),
                    ..super::column(gap)
                },
                ScrollArea,
            ));
            fill(&mut list);
            let target = list.id();
            frame.spawn((
                Node { width: px(BAR), ..default() },
                Scrollbar { orientation: ControlOrientation::Vertical, target, min_thumb_length: 32.0 },
                children![(
                    Hovered::default(),
                    BackgroundColor(theme::EDGE),
                    ScrollbarThumb { border_radius: BorderRadius::all(px(4)), border: UiRect::ZERO },
                )],
            ));
        });
}

/// Keeps the end of a list in view where it was in view before the list grew.
pub(crate) fn stick(mut lists: Query<(&mut StickToEnd, &mut ScrollPosition, &ComputedNode)>) {
    for (mut stick, mut position, node) in &mut lists {
        let scale = node.inverse_scale_factor();
        let (visible, height) = (node.size().y * scale, node.content_size().y * scale);
        let end = |height: f32| (height - visible).max(0.0);
        let was_at_end = position.y >= end(stick.height) - 2.0;
        if height != stick.height {
            if was_at_end {
                position.y = end(height);
            }
            stick.height = height;
        }
    }
}

/// A bar is there only where there is something to scroll, and lights up under the pointer.
pub(crate) fn paint(
    bars: Query<(&Scrollbar, &Children)>,
    lists: Query<&ComputedNode, With<ScrollArea>>,
    mut thumbs: Query<(&mut BackgroundColor, &Hovered, &ScrollbarDragState), With<ScrollbarThumb>>,
) {
    for (bar, children) in &bars {
        let needed = lists.get(bar.target).is_ok_and(|list| list.content_size().y > list.size().y + 1.0);
        for child in children {
            if let Ok((mut background, hovered, drag)) = thumbs.get_mut(*child) {
                let color = match (needed, hovered.get() || drag.dragging) {
                    (false, _) => Color::NONE,
                    (true, true) => theme::SUN,
                    (true, false) => theme::FAINT.with_alpha(0.6),
                };
                background.set_if_neq(BackgroundColor(color));
            }
        }
    }
}
