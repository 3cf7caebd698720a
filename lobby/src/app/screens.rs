//! The screens, each drawn anew when the model has moved on to another.

pub(crate) mod browser;
pub(crate) mod chat;
pub(crate) mod dialog;
pub(crate) mod members;
pub(crate) mod room;

use bevy::input_focus::tab_navigation::TabGroup;
use bevy::prelude::*;

use super::action::Action;
use super::live;
use super::model::Model;
use super::theme::{self, Typefaces, size};
use super::widgets::button::{self, Face};
use super::widgets::{icon, row};

/// What all screens are drawn into.
#[derive(Component, Default)]
pub(crate) struct Stage {
    shows: Option<Screen>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Screen {
    Browser,
    Room,
}

/// The stage, with nothing on it.
pub(crate) fn stage() -> impl Bundle {
    (
        Stage::default(),
        Node { position_type: PositionType::Absolute, width: percent(100), height: percent(100), ..default() },
        TabGroup::new(0),
        Pickable::IGNORE,
    )
}

/// Changes the screen when it is time.
pub(crate) fn draw(model: Res<Model>, typefaces: Res<Typefaces>, stage: Single<(Entity, &mut Stage)>, mut commands: Commands) {
    let (entity, mut stage) = stage.into_inner();
    let screen = if model.visit.is_some() { Screen::Room } else { Screen::Browser };
    if stage.shows == Some(screen) {
        return;
    }
    stage.shows = Some(screen);
    commands.entity(entity).despawn_related::<Children>().with_children(|stage| match screen {
        Screen::Browser => browser::spawn(stage, &model, &typefaces),
        Screen::Room => room::spawn(stage, &model, &typefaces),
    });
}

/// A screen's frame: everything is inside of it.
fn frame() -> impl Bundle {
    (
        Node {
            width: percent(100),
            height: percent(100),
            padding: UiRect::axes(px(32), px(24)),
            flex_direction: FlexDirection::Column,
            row_gap: px(18),
            ..default()
        },
        Pickable::IGNORE,
    )
}

/// Where a notice is shown: over the head of the screen, so that nothing moves under the pointer. It can be clicked away.
fn notice() -> impl Bundle {
    (
        Node {
            position_type: PositionType::Absolute,
            left: percent(24),
            right: percent(29),
            top: px(16),
            border_radius: BorderRadius::all(theme::ROUND_INNER),
            ..row(10.0)
        },
        BackgroundColor(theme::DIALOG),
        BoxShadow::new(Color::BLACK.with_alpha(0.5), px(0), px(8), px(0), px(30)),
        GlobalZIndex(5),
        live::shown(|model| model.notice.is_some()),
        children![(
            button::bare(
                Face::Plain,
                Action::Dismiss,
                Node { flex_grow: 1.0, flex_basis: px(0), min_width: px(0), padding: UiRect::axes(px(16), px(10)), ..row(12.0) }
            ),
            children![
                (
                    Node { width: px(10), height: px(10), flex_shrink: 0.0, border_radius: BorderRadius::MAX, ..default() },
                    BackgroundColor(theme::ALARM),
                    live::color(|model| if is_bad(model) { theme::ALARM } else { theme::GOOD }),
                    Pickable::IGNORE,
                ),
                (
                    Text::default(),
                    theme::type_of(size::BODY),
                    TextColor(theme::TEXT),
                    live::text(|model| model.notice.as_ref().map(|notice| notice.text.clone()).unwrap_or_default()),
                    TextLayout::linebreak(LineBreak::WordOrCharacter),
                    Node { flex_grow: 1.0, flex_basis: px(0), min_width: px(0), ..default() },
                    Pickable::IGNORE,
                ),
            ],
        )],
    )
}

fn is_bad(model: &Model) -> bool {
    model.notice.as_ref().is_some_and(|notice| notice.bad)
}

/// The sign over the door.
fn brand() -> impl Bundle {
    (row(12.0), Pickable::IGNORE, children![icon::bird(40.0, theme::SUN), theme::heading("Peerflock", size::TITLE)])
}
