//! Buttons: what they look like at rest, under the pointer, pressed, focused and disabled.

use bevy::input_focus::tab_navigation::TabIndex;
use bevy::input_focus::{InputFocus, InputFocusVisible};
use bevy::picking::hover::Hovered;
use bevy::prelude::*;
use bevy::ui::{InteractionDisabled, Pressed};
use bevy::ui_widgets;

use crate::app::action::{Action, Does};
use crate::app::theme::{self, size};

/// How much a button asks to be pressed.
#[derive(Component, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// The one thing to do here.
    Sun,
    /// One of the things that can be done.
    Plain,
    /// A line of a list.
    Row,
    /// Nothing but what is on it.
    Bare,
}

/// On the words of a button, so that they change with its face.
#[derive(Component)]
pub(crate) struct Caption;

/// A button with words on it.
pub(crate) fn button(caption: &str, face: Face, action: Action) -> impl Bundle {
    (
        bare(
            face,
            action,
            Node {
                min_height: px(48),
                padding: UiRect::axes(px(20), px(8)),
                justify_content: JustifyContent::Center,
                ..super::row(10.0)
            },
        ),
        children![(Text::new(caption), theme::bold(size::BODY), TextColor(theme::TEXT), Caption, Pickable::IGNORE)],
    )
}

/// A button without anything on it yet.
pub(crate) fn bare(face: Face, action: Action, node: Node) -> impl Bundle {
    (
        Node { border: px(1.5).all(), border_radius: BorderRadius::all(theme::ROUND_INNER), ..node },
        ui_widgets::Button,
        face,
        Does(action),
        Hovered::default(),
        TabIndex(0),
        BackgroundColor(Color::NONE),
        BorderColor::all(Color::NONE),
        Outline { width: px(2.5), offset: px(2), color: Color::NONE },
    )
}

/// Gives every button the look of its state.
pub(crate) fn paint(
    focus: Res<InputFocus>,
    focus_visible: Res<InputFocusVisible>,
    mut buttons: Query<(
        Entity,
        &Face,
        &Hovered,
        Has<Pressed>,
        Has<InteractionDisabled>,
        &mut BackgroundColor,
        &mut BorderColor,
        &mut Outline,
        Option<&Children>,
    )>,
    mut captions: Query<&mut TextColor, With<Caption>>,
) {
    for (entity, face, hovered, pressed, disabled, mut background, mut border, mut outline, children) in &mut buttons {
        let (fill, edge, words) = match (face, disabled, pressed, hovered.get()) {
            (Face::Bare, _, _, false) => (Color::NONE, Color::NONE, theme::TEXT),
            (Face::Bare, ..) => (theme::ROW_HOVERED, Color::NONE, theme::SUN),
            (Face::Row, true, ..) => (theme::ROW, Color::NONE, theme::FAINT),
            (_, true, ..) => (theme::ROW, theme::EDGE, theme::FAINT),
            (Face::Sun, _, true, _) => (Color::srgb(0.90, 0.58, 0.31), Color::NONE, theme::ON_SUN),
            (Face::Sun, _, _, true) => (Color::srgb(1.0, 0.79, 0.54), Color::NONE, theme::ON_SUN),
            (Face::Sun, ..) => (theme::SUN, Color::NONE, theme::ON_SUN),
            (Face::Plain, _, true, _) => (theme::ROW, theme::SUN, theme::SUN),
            (Face::Plain, _, _, true) => (theme::ROW_HOVERED, theme::SUN.with_alpha(0.7), theme::TEXT),
            (Face::Plain, ..) => (theme::ROW, theme::SUN.with_alpha(0.35), theme::TEXT),
            (Face::Row, _, true, _) => (theme::ROW_HOVERED, theme::SUN, theme::SUN),
            (Face::Row, _, _, true) => (theme::ROW_HOVERED, theme::SUN.with_alpha(0.45), theme::SUN),
            (Face::Row, ..) => (theme::ROW, Color::NONE, theme::SUN),
        };
        background.set_if_neq(BackgroundColor(fill));
        border.set_if_neq(BorderColor::all(edge));
        let focused = focus_visible.0 && focus.get() == Some(entity);
        let ring = if focused { theme::TEXT } else { Color::NONE };
        if outline.color != ring {
            outline.color = ring;
        }
        for child in children.into_iter().flatten() {
            if let Ok(mut color) = captions.get_mut(*child) {
                color.set_if_neq(TextColor(words));
            }
        }
    }
}
