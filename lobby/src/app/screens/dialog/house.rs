//! What is in front of a room: its invitation, somebody in it, its door; and the player's own settings.

use bevy::input_focus::AutoFocus;
use bevy::prelude::*;
use peerflock::{PeerId, Ticket};
use peerflock_lobby::card::COLORS;
use peerflock_lobby::{QrSquare, text};

use super::wrong;
use crate::app::action::Action;
use crate::app::live;
use crate::app::model::Model;
use crate::app::theme::{self, Typefaces, size};
use crate::app::widgets::button::{self, Caption, Face, button};
use crate::app::widgets::field::{self, Field};
use crate::app::widgets::{icon, row, spring};

/// How wide the code is with its margin, in pixels: large enough for a camera across a table.
const CODE: f32 = 330.0;

/// The room's invitation.
pub(super) fn share(card: &mut ChildSpawnerCommands<'_>, ticket: &Ticket, code: Option<&QrSquare>) {
    card.spawn(theme::heading("Invite somebody", size::TITLE));
    let also = if ticket.needs_password() { " Your friend needs the password, too." } else { "" };
    let how = format!("Copy the invitation and send it, or let a camera read it. It works while you are here.{also}");
    card.spawn(theme::words(how, size::BODY, theme::QUIET));
    match code {
        Some(code) => {
            card.spawn((Node { justify_content: JustifyContent::Center, ..default() }, Pickable::IGNORE))
                .with_children(|middle| square(middle, code));
        }
        None => _ = card.spawn(theme::words("It is too long for a code that a camera could read.", size::SMALL, theme::FAINT)),
    }
    card.spawn((
        row(12.0),
        Pickable::IGNORE,
        children![
            spring(),
            button("Close", Face::Plain, Action::Cancel),
            (button("Copy invitation", Face::Sun, Action::CopyInvite), AutoFocus),
        ],
    ));
}

/// The code, dark on light with its margin: each run of dark modules in a line is one rectangle.
fn square(parent: &mut ChildSpawnerCommands<'_>, code: &QrSquare) {
    let module = CODE / (code.side + 2 * QrSquare::MARGIN) as f32;
    let at = |modules: usize| px(modules as f32 * module);
    parent
        .spawn((
            Node { width: px(CODE), height: px(CODE), border_radius: BorderRadius::all(px(6)), ..default() },
            BackgroundColor(Color::WHITE),
            Pickable::IGNORE,
        ))
        .with_children(|page| {
            for y in 0..code.side {
                let mut x = 0;
                while x < code.side {
                    let run = (x..code.side).take_while(|x| code.is_dark(*x, y)).count();
                    if run > 0 {
                        let node = Node {
                            position_type: PositionType::Absolute,
                            left: at(x + QrSquare::MARGIN),
                            top: at(y + QrSquare::MARGIN),
                            width: at(run),
                            // A hair more, so that no light shows between lines.
                            height: px(module + 0.4),
                            ..default()
                        };
                        page.spawn((node, BackgroundColor(Color::BLACK), Pickable::IGNORE));
                    }
                    x += run.max(1);
                }
            }
        });
}

/// Somebody in the room.
pub(super) fn member(card: &mut ChildSpawnerCommands<'_>, model: &Model, peer: PeerId, typefaces: &Typefaces) {
    let Some(member) = model.member(peer) else {
        card.spawn(theme::words("This one has left.", size::BODY, theme::QUIET));
        card.spawn((row(12.0), Pickable::IGNORE, children![spring(), button("Close", Face::Plain, Action::Cancel)]));
        return;
    };
    let (name, color) = (member.name.clone(), member.color);
    let ours = model.visit.as_ref().is_some_and(|visit| visit.members.iter().any(|member| member.me && member.owner));
    let muted = model.visit.as_ref().is_some_and(|visit| visit.muted.contains(&peer));
    card.spawn((
        row(14.0),
        Pickable::IGNORE,
        children![icon::bird(40.0, theme::member(color)), (theme::heading(name, size::TITLE), TextLayout::no_wrap())],
    ));
    card.spawn(theme::words(format!("Known by the key {}.", peer.short()), size::SMALL, theme::FAINT));
    card.spawn((Node { column_gap: px(12), align_items: AlignItems::FlexEnd, ..default() }, Pickable::IGNORE)).with_children(
        |line| {
            let setup = field::Setup {
                field: Field::Whisper,
                label: "Say something that nobody else can read",
                placeholder: "Whisper",
                value: String::new(),
                characters_max: text::CHAT_GRAPHEMES_MAX,
                enter: Action::Whisper(peer),
                focus: true,
            };
            field::spawn(line, setup, typefaces);
            line.spawn(button("Whisper", Face::Plain, Action::Whisper(peer)));
        },
    );
    card.spawn(wrong());
    card.spawn((row(12.0), Pickable::IGNORE)).with_children(|line| {
        line.spawn(button(if muted { "Hear again" } else { "Mute" }, Face::Plain, Action::Mute(peer)));
        if ours {
            line.spawn(button("Remove from room", Face::Plain, Action::Remove(peer)));
        }
        line.spawn(spring());
        line.spawn(button("Close", Face::Sun, Action::Cancel));
    });
}

/// What the owner decides.
pub(super) fn door(card: &mut ChildSpawnerCommands<'_>) {
    card.spawn(theme::heading("Your room's door", size::TITLE));
    card.spawn(theme::words(
        "Closed, it lets people in to watch, and gives no more seats. When you leave, the room goes to who has been here longest.",
        size::BODY,
        theme::QUIET,
    ));
    card.spawn(switch("Closed to newcomers", Action::ToggleClosed, |model| {
        model.visit.as_ref().is_some_and(|visit| visit.room.is_closed())
    }));
    card.spawn(switch("One line each in ten seconds", Action::ToggleSlow, |model| {
        model.visit.as_ref().is_some_and(|visit| visit.room.slow_mode().is_some())
    }));
    card.spawn((row(12.0), Pickable::IGNORE, children![spring(), (button("Done", Face::Sun, Action::Cancel), AutoFocus)]));
}

/// The player's own settings.
pub(super) fn settings(card: &mut ChildSpawnerCommands<'_>, model: &Model) {
    card.spawn(theme::heading("Settings", size::TITLE));
    card.spawn(theme::words(
        format!("You are {}. The field in the corner of the list changes that.", model.player),
        size::BODY,
        theme::QUIET,
    ));
    card.spawn(theme::words("Your color, where it is free; pressed again, any.", size::SMALL, theme::QUIET));
    card.spawn((row(8.0), Pickable::IGNORE)).with_children(|line| {
        for color in 0..COLORS {
            line.spawn(swatch(color));
        }
    });
    card.spawn(switch("The same player next time", Action::ToggleIdentity, |model| model.settings.keep_identity));
    card.spawn(theme::words(
        "Others then know you by the same key, and those who muted you still do. Otherwise you are somebody new at each start.",
        size::SMALL,
        theme::FAINT,
    ));
    card.spawn((row(12.0), Pickable::IGNORE, children![spring(), (button("Done", Face::Sun, Action::Cancel), AutoFocus)]));
}

fn swatch(color: u8) -> impl Bundle {
    (
        button::bare(
            Face::Bare,
            Action::Color(color),
            Node { width: px(48), height: px(48), justify_content: JustifyContent::Center, ..row(0.0) },
        ),
        children![(
            Node { width: px(34), height: px(34), border: px(3).all(), border_radius: BorderRadius::MAX, ..default() },
            BackgroundColor(theme::member(color)),
            live::edge(move |model| if model.settings.color == Some(color) { theme::TEXT } else { Color::NONE }),
            Pickable::IGNORE,
        )],
    )
}

/// Something that is on or off.
fn switch(caption: &'static str, action: Action, is_on: fn(&Model) -> bool) -> impl Bundle {
    (
        button::bare(Face::Plain, action, Node { min_height: px(48), padding: UiRect::axes(px(16), px(8)), ..row(12.0) }),
        children![
            (
                Node { width: px(14), height: px(14), border_radius: BorderRadius::MAX, ..default() },
                BackgroundColor(theme::FAINT),
                live::color(move |model| if is_on(model) { theme::GOOD } else { theme::FAINT }),
                Pickable::IGNORE,
            ),
            (Text::new(caption), theme::bold(size::BODY), TextColor(theme::TEXT), Caption, Pickable::IGNORE),
            spring(),
            (
                theme::words("", size::BODY, theme::QUIET),
                live::text(move |model| if is_on(model) { "yes".into() } else { "no".into() }),
            ),
        ],
    )
}
