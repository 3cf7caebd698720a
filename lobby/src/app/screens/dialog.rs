//! Questions in front of everything: opening a room, a password, an invitation, leaving; and in [`house`] what is decided inside.

use std::mem::{Discriminant, discriminant};

use bevy::input_focus::tab_navigation::{TabGroup, TabIndex};
use bevy::input_focus::{AutoFocus, FocusCause, InputFocus};
use bevy::prelude::*;
use bevy::text::{EditableText, TextEdit};
use peerflock_lobby::{RoomInfo, launch, text};

use crate::app::action::Action;
use crate::app::live;
use crate::app::model::{About, Model};
use crate::app::theme::{self, Typefaces, size};
use crate::app::widgets::button::{Face, button};
use crate::app::widgets::field::{self, Field, Masked};
use crate::app::widgets::{column, icon, row, spring};

mod house;

/// Longest password, in characters.
const PASSWORD_CHARACTERS_MAX: usize = 128;
/// Longest invitation, in characters: more than any ticket has.
const INVITE_CHARACTERS_MAX: usize = 2_048;
/// Rooms of earlier days that are offered.
const RECENT_SHOWN: usize = 4;

/// The dialog on screen.
#[derive(Component)]
pub(crate) struct Front {
    about: Option<Discriminant<About>>,
    /// Where the focus was before.
    before: Option<Entity>,
    /// What was wrong when last looked at.
    wrong: Option<String>,
}

/// Opens and closes dialogs. Their fields keep what was typed while the question is the same.
pub(crate) fn draw(
    model: Res<Model>,
    typefaces: Res<Typefaces>,
    mut front: Query<(Entity, &mut Front)>,
    mut fields: Query<(Entity, &Field, &mut EditableText)>,
    focusable: Query<(), With<TabIndex>>,
    parents: Query<&ChildOf>,
    mut focus: ResMut<InputFocus>,
    mut commands: Commands,
) {
    // On the way into an open room there is no question, only something to wait for.
    let wanted = match (&model.dialog, &model.entering) {
        (Some(dialog), _) => Some(Some(discriminant(&dialog.about))),
        (None, Some(_)) => Some(None),
        (None, None) => None,
    };
    let shown = front.single_mut().ok();
    let same = match (&wanted, &shown) {
        (Some(wanted), Some((_, front))) => *wanted == front.about,
        (wanted, shown) => wanted.is_none() && shown.is_none(),
    };
    if let (true, Some((_, mut front))) = (same, front.single_mut().ok()) {
        let wrong = model.dialog.as_ref().and_then(|dialog| dialog.wrong.clone());
        if wrong != front.wrong {
            // The first field, all of it selected: typing again replaces what was wrong.
            let wanted = if wrong.is_some() { fields.iter_mut().find(|(_, field, _)| is_first(**field, &model)) } else { None };
            if let Some((entity, _, mut input)) = wanted {
                input.queue_edit(TextEdit::SelectAll);
                focus.set(entity, FocusCause::Navigated);
            }
            front.wrong = wrong;
        }
    }
    if same {
        return;
    }
    let mut before = focus.get();
    if let Some((entity, front)) = front.iter().next() {
        before = front.before;
        commands.entity(entity).despawn();
        // Back to where it was, unless that is gone, or something new has taken the focus already.
        if focus.get().is_some_and(|focused| parents.iter_ancestors(focused).any(|ancestor| ancestor == entity)) {
            match before.filter(|before| wanted.is_none() && focusable.contains(*before)) {
                Some(before) => focus.set(before, FocusCause::Navigated),
                None => focus.clear(),
            }
        }
    }
    let Some(about) = wanted else { return };
    let wrong = model.dialog.as_ref().and_then(|dialog| dialog.wrong.clone());
    spawn(&mut commands, Front { about, before, wrong }, &model, &typefaces);
}

/// Shows or hides the letters of passwords.
pub(crate) fn peek(model: Res<Model>, fields: Query<(Entity, &Field, Has<Masked>)>, mut commands: Commands) {
    let peek = model.dialog.as_ref().is_some_and(|dialog| dialog.peek);
    for (entity, _, masked) in fields.iter().filter(|(_, field, _)| **field == Field::Password) {
        match (peek, masked) {
            (true, true) => _ = commands.entity(entity).remove::<Masked>(),
            (false, false) => _ = commands.entity(entity).insert(Masked),
            _ => {}
        }
    }
}

/// Whether this is the field that an answer that was wrong leads back to.
fn is_first(field: Field, model: &Model) -> bool {
    match model.dialog.as_ref().map(|dialog| &dialog.about) {
        Some(About::OpenRoom { .. }) => field == Field::RoomName,
        Some(About::Invite) => field == Field::Invite,
        Some(About::Password { .. } | About::InvitePassword { .. }) => field == Field::Password,
        Some(About::Member { .. }) => field == Field::Whisper,
        Some(About::Leave | About::Share { .. } | About::Door | About::Settings) | None => false,
    }
}

fn spawn(commands: &mut Commands<'_, '_>, front: Front, model: &Model, typefaces: &Typefaces) {
    let veil = Node {
        position_type: PositionType::Absolute,
        width: percent(100),
        height: percent(100),
        align_items: AlignItems::Center,
        justify_content: JustifyContent::Center,
        ..default()
    };
    commands.spawn((front, veil, BackgroundColor(theme::VEIL), GlobalZIndex(10), TabGroup::modal())).with_children(|veil| {
        veil.spawn((
            Node {
                width: px(520),
                max_width: percent(92),
                padding: px(28).all(),
                border: px(1).all(),
                border_radius: BorderRadius::all(theme::ROUND),
                ..column(16.0)
            },
            BackgroundColor(theme::DIALOG),
            BorderColor::all(theme::EDGE),
            BoxShadow::new(Color::BLACK.with_alpha(0.5), px(0), px(12), px(0), px(40)),
        ))
        .with_children(|card| match model.dialog.as_ref().map(|dialog| &dialog.about) {
            Some(About::OpenRoom { .. }) => open_room(card, model, typefaces),
            Some(About::Password { found }) => {
                let info = RoomInfo::of(found);
                password(card, &info.name, Some(&info), typefaces);
            }
            Some(About::InvitePassword { ticket }) => password(card, &text::clean_name(ticket.name()), None, typefaces),
            Some(About::Invite) => invite(card, model, typefaces),
            Some(About::Leave) => leave(card, model),
            Some(About::Share { ticket, code }) => house::share(card, ticket, code.as_ref()),
            Some(About::Member { peer }) => house::member(card, model, *peer, typefaces),
            Some(About::Door) => house::door(card),
            Some(About::Settings) => house::settings(card, model),
            None => waiting(card, model),
        });
    });
}

fn open_room(card: &mut ChildSpawnerCommands<'_>, model: &Model, typefaces: &Typefaces) {
    card.spawn(theme::heading("Open a room", size::TITLE));
    card.spawn(theme::words(
        format!("Others on this network will see it and can join for a round of {}.", launch::GAMES[0].name),
        size::BODY,
        theme::QUIET,
    ));
    let name = format!("{}'s room", model.player);
    let setup = |field, label, placeholder, value, characters_max, focus| field::Setup {
        field,
        label,
        placeholder,
        value,
        characters_max,
        enter: Action::Submit,
        focus,
    };
    let names = text::NAME_GRAPHEMES_MAX;
    card.spawn((Node { column_gap: px(14), ..default() }, Pickable::IGNORE)).with_children(|line| {
        let room = setup(Field::RoomName, "Room", "A name for the room", text::clean_name(&name), names, true);
        field::spawn(line, room, typefaces);
        field::spawn(line, setup(Field::Nickname, "You are", "Your name", model.player.clone(), names, false), typefaces);
    });
    card.spawn((Node { column_gap: px(14), align_items: AlignItems::FlexEnd, ..default() }, Pickable::IGNORE)).with_children(
        |line| {
            let password =
                setup(Field::Password, "Password", "None: anybody may come in", String::new(), PASSWORD_CHARACTERS_MAX, false);
            field::spawn(line, password, typefaces);
            line.spawn(peek_button());
        },
    );
    card.spawn((
        row(12.0),
        Pickable::IGNORE,
        children![
            theme::words("Players", size::BODY, theme::QUIET),
            spring(),
            button("-", Face::Plain, Action::FewerSeats),
            (
                Node { width: px(110), justify_content: JustifyContent::Center, ..default() },
                Pickable::IGNORE,
                children![(
                    theme::heading("", size::BODY),
                    live::text(|model| match model.dialog.as_ref().map(|dialog| &dialog.about) {
                        Some(About::OpenRoom { seats }) => format!("up to {seats}"),
                        _ => String::new(),
                    })
                )]
            ),
            button("+", Face::Plain, Action::MoreSeats),
        ],
    ));
    card.spawn(wrong());
    card.spawn(answers("Cancel", "Open the room", "Opening..."));
}

fn password(card: &mut ChildSpawnerCommands<'_>, name: &str, info: Option<&RoomInfo>, typefaces: &Typefaces) {
    card.spawn((
        row(12.0),
        Pickable::IGNORE,
        children![icon::lock(true), (theme::heading(name, size::TITLE), TextLayout::no_wrap())],
    ));
    let about = match info {
        Some(info) => {
            format!("{} of {} players are inside. It takes a password.", info.players, info.players_max.max(info.players))
        }
        None => "It takes a password.".to_owned(),
    };
    card.spawn(theme::words(about, size::BODY, theme::QUIET));
    card.spawn((Node { column_gap: px(14), align_items: AlignItems::FlexEnd, ..default() }, Pickable::IGNORE)).with_children(
        |line| {
            let setup = field::Setup {
                field: Field::Password,
                label: "Password",
                placeholder: "Ask whoever invited you",
                value: String::new(),
                characters_max: PASSWORD_CHARACTERS_MAX,
                enter: Action::Submit,
                focus: true,
            };
            field::spawn(line, setup, typefaces);
            line.spawn(peek_button());
        },
    );
    card.spawn(wrong());
    card.spawn(answers("Cancel", "Come in", "Knocking..."));
}

fn invite(card: &mut ChildSpawnerCommands<'_>, model: &Model, typefaces: &Typefaces) {
    card.spawn(theme::heading("Use an invitation", size::TITLE));
    card.spawn(theme::words("Somebody in a room can copy one and send it to you. Paste it here.", size::BODY, theme::QUIET));
    card.spawn((Node::default(), Pickable::IGNORE)).with_children(|line| {
        let setup = field::Setup {
            field: Field::Invite,
            label: "Invitation",
            placeholder: "peerflock1...",
            value: String::new(),
            characters_max: INVITE_CHARACTERS_MAX,
            enter: Action::Submit,
            focus: true,
        };
        field::spawn(line, setup, typefaces);
    });
    if !model.settings.recent.is_empty() {
        card.spawn(theme::words("Or go back to where you were:", size::SMALL, theme::QUIET));
        card.spawn((Node { flex_wrap: FlexWrap::Wrap, row_gap: px(8), ..row(8.0) }, Pickable::IGNORE)).with_children(|places| {
            for (index, recent) in model.settings.recent.iter().take(RECENT_SHOWN).enumerate() {
                places.spawn(button(&recent.name, Face::Plain, Action::ComeBack(index)));
            }
        });
    }
    card.spawn(wrong());
    card.spawn(answers("Cancel", "Come in", "Knocking..."));
}

fn leave(card: &mut ChildSpawnerCommands<'_>, model: &Model) {
    card.spawn(theme::heading("Leave the room?", size::TITLE));
    let alone = model.visit.as_ref().is_none_or(|visit| visit.members.len() < 2);
    let what = if alone {
        "You are the last one here: the room closes with you."
    } else {
        "The room stays open without you. You can come back while somebody is in it."
    };
    card.spawn(theme::words(what, size::BODY, theme::QUIET));
    card.spawn((
        row(12.0),
        Pickable::IGNORE,
        children![
            spring(),
            button("Stay", Face::Plain, Action::Cancel),
            (button("Leave", Face::Sun, Action::Submit), AutoFocus),
        ],
    ));
}

fn waiting(card: &mut ChildSpawnerCommands<'_>, model: &Model) {
    let name = model.entering.as_ref().map(|entering| entering.name.clone()).unwrap_or_default();
    card.spawn(theme::heading(name, size::TITLE));
    card.spawn(theme::words("Knocking at the door...", size::BODY, theme::QUIET));
    card.spawn((row(12.0), Pickable::IGNORE, children![spring(), (button("Cancel", Face::Plain, Action::Cancel), AutoFocus)]));
}

fn peek_button() -> impl Bundle {
    button("Show", Face::Plain, Action::Peek)
}

/// What was wrong with the last answer.
fn wrong() -> impl Bundle {
    (
        theme::words("", size::BODY, theme::ALARM),
        live::text(|model| model.dialog.as_ref().and_then(|dialog| dialog.wrong.clone()).unwrap_or_default()),
        live::shown(|model| model.dialog.as_ref().is_some_and(|dialog| dialog.wrong.is_some())),
    )
}

fn answers(no: &str, yes: &str, busy: &'static str) -> impl Bundle {
    (
        Node { margin: UiRect::top(px(6)), ..row(12.0) },
        Pickable::IGNORE,
        children![
            (theme::words(busy, size::BODY, theme::QUIET), live::shown(|model| model.entering.is_some())),
            spring(),
            button(no, Face::Plain, Action::Cancel),
            (button(yes, Face::Sun, Action::Submit), live::enabled(|model| model.entering.is_none())),
        ],
    )
}
