//! Inside a room: who is here, what is said, and the way into the game.

use bevy::prelude::*;
use peerflock_lobby::{launch, text};

use super::{chat, members};
use crate::app::action::Action;
use crate::app::live;
use crate::app::model::Model;
use crate::app::theme::{self, Typefaces, size};
use crate::app::widgets::button::{self, Caption, Face, button};
use crate::app::widgets::field::{self, Field};
use crate::app::widgets::{column, icon, panel, row, scroll, spring};

pub(crate) fn spawn(stage: &mut ChildSpawnerCommands<'_>, model: &Model, typefaces: &Typefaces) {
    let Some(visit) = &model.visit else { return };
    let name = text::clean_name(visit.room.name());
    stage.spawn(super::frame()).with_children(|frame| {
        frame.spawn((row(16.0), Pickable::IGNORE)).with_children(|top| {
            top.spawn(button("Leave", Face::Plain, Action::AskToLeave));
            top.spawn((
                Node { flex_shrink: 1.0, min_width: px(0), overflow: Overflow::clip(), ..default() },
                Pickable::IGNORE,
                children![(theme::heading(name, size::TITLE), TextLayout::no_wrap())],
            ));
            top.spawn((
                Node { column_gap: px(8), ..row(8.0) },
                Pickable::IGNORE,
                live::shown(|model| locked(model) == Some(true)),
                children![icon::lock(true)],
            ));
            top.spawn((theme::words("", size::BODY, theme::QUIET), TextLayout::no_wrap(), live::text(about)));
            top.spawn(spring());
            top.spawn((row(0.0), Pickable::IGNORE, live::shown(owns), children![button("Door", Face::Plain, Action::Door)]));
            top.spawn(button("Invite", Face::Plain, Action::Share));
        });
        frame.spawn(super::notice());
        frame
            .spawn((Node { flex_grow: 1.0, min_height: px(0), column_gap: px(18), ..default() }, Pickable::IGNORE))
            .with_children(|body| {
                side(body);
                talk(body, typefaces);
            });
        frame.spawn(countdown());
    });
}

/// How long it is until the game, large enough to be seen by who has just turned away.
fn countdown() -> impl Bundle {
    (
        Node {
            position_type: PositionType::Absolute,
            left: percent(40),
            right: percent(4),
            top: percent(28),
            align_items: AlignItems::Center,
            ..column(4.0)
        },
        GlobalZIndex(4),
        Pickable::IGNORE,
        live::shown(|model| model.countdown().is_some_and(|seconds| seconds > 0)),
        children![
            (
                Text::default(),
                theme::bold(150.0),
                TextColor(theme::SUN),
                live::text(|model| model.countdown().map(|seconds| seconds.to_string()).unwrap_or_default()),
                Pickable::IGNORE,
            ),
            theme::words("The game starts. Anybody can stop it.", size::BODY, theme::TEXT),
        ],
    )
}

fn owns(model: &Model) -> bool {
    model.visit.as_ref().is_some_and(|visit| visit.members.iter().any(|member| member.me && member.owner))
}

fn locked(model: &Model) -> Option<bool> {
    Some(model.visit.as_ref()?.room.facts()?.locked)
}

fn about(model: &Model) -> String {
    let Some(facts) = model.visit.as_ref().and_then(|visit| visit.room.facts()) else { return String::new() };
    let title = launch::game(&facts.game).map_or_else(|| facts.game.clone(), |game| game.name.to_owned());
    let closed = model.visit.as_ref().is_some_and(|visit| visit.room.is_closed());
    let door = match (closed, facts.locked) {
        (true, _) => "closed to newcomers",
        (false, true) => "locked",
        (false, false) => "open to all",
    };
    let mode = if facts.mode().is_empty() { String::new() } else { format!(", {}", facts.mode()) };
    format!("{title}{mode}, {door}")
}

/// Who is here, and what to do.
fn side(body: &mut ChildSpawnerCommands<'_>) {
    let side = Node { width: px(370), flex_shrink: 0.0, min_height: px(0), padding: px(18).all(), ..column(12.0) };
    body.spawn(panel(side)).with_children(|side| {
        side.spawn((
            row(10.0),
            Pickable::IGNORE,
            children![
                theme::heading("In this room", size::HEAD),
                spring(),
                (theme::words("", size::BODY, theme::QUIET), live::text(seats)),
            ],
        ));
        scroll::spawn(side, 6.0, |list| _ = list.insert(members::List::default()));
        side.spawn((theme::words("", size::SMALL, theme::QUIET), live::text(advice)));
        side.spawn((
            Node { column_gap: px(12), ..default() },
            Pickable::IGNORE,
            children![
                (
                    button::bare(
                        Face::Plain,
                        Action::ToggleReady,
                        Node {
                            flex_grow: 1.0,
                            flex_basis: px(0),
                            min_height: px(52),
                            justify_content: JustifyContent::Center,
                            ..row(10.0)
                        }
                    ),
                    children![
                        (
                            Node { width: px(14), height: px(14), border_radius: BorderRadius::MAX, ..default() },
                            BackgroundColor(theme::FAINT),
                            live::color(|model| if is_ready(model) { theme::GOOD } else { theme::FAINT }),
                            Pickable::IGNORE,
                        ),
                        (
                            Text::new("Ready"),
                            theme::bold(size::BODY),
                            TextColor(theme::TEXT),
                            Caption,
                            live::text(|model| if is_ready(model) { "Ready".into() } else { "Get ready".into() }),
                            Pickable::IGNORE,
                        ),
                    ],
                ),
                (
                    button::bare(
                        Face::Sun,
                        Action::StartGame,
                        Node {
                            flex_grow: 1.0,
                            flex_basis: px(0),
                            min_height: px(52),
                            justify_content: JustifyContent::Center,
                            ..row(10.0)
                        }
                    ),
                    live::enabled(|model| main_words(model).1),
                    children![(
                        Text::new("Start game"),
                        theme::bold(size::BODY),
                        TextColor(theme::ON_SUN),
                        Caption,
                        live::text(|model| main_words(model).0.into()),
                        Pickable::IGNORE
                    )],
                ),
            ],
        ));
    });
}

/// What the main button does now, and whether it can be pressed.
fn main_words(model: &Model) -> (&'static str, bool) {
    if model.countdown().is_some_and(|seconds| seconds > 0) {
        ("Stop", true)
    } else if model.can_follow() {
        ("Join the game", true)
    } else {
        ("Start game", model.why_not_start().is_none())
    }
}

fn is_ready(model: &Model) -> bool {
    model.visit.as_ref().is_some_and(|visit| visit.room.is_ready())
}

fn seats(model: &Model) -> String {
    let Some(visit) = &model.visit else { return String::new() };
    match visit.room.facts() {
        Some(facts) => {
            let seated = visit.members.iter().filter(|member| member.seated).count();
            format!("{seated} of {}", facts.players_max)
        }
        None => visit.members.len().to_string(),
    }
}

/// What is going on, or what to do next.
fn advice(model: &Model) -> String {
    if let Some(play) = &model.play {
        return play.status.clone();
    }
    let Some(visit) = &model.visit else { return String::new() };
    if model.can_follow() {
        return "A game is under way. You can still join it.".into();
    }
    if let Some(starter) = visit.opening.as_ref().filter(|_| model.countdown().is_none_or(|seconds| seconds == 0)) {
        return format!("{starter} is opening the game...");
    }
    match model.why_not_start() {
        Some(why) => why,
        None if visit.members.len() == 1 => "You can start alone, or wait for others to come.".into(),
        None => "The others are ready. Start when you like.".into(),
    }
}

/// What is said.
fn talk(body: &mut ChildSpawnerCommands<'_>, typefaces: &Typefaces) {
    let talk = Node { flex_grow: 1.0, min_width: px(0), min_height: px(0), padding: px(18).all(), ..column(12.0) };
    body.spawn(panel(talk)).with_children(|talk| {
        talk.spawn(theme::heading("Chat", size::HEAD));
        scroll::spawn(talk, 0.0, |list| {
            // The newest line is next to where one types, also while there are few.
            list.insert(scroll::StickToEnd::default()).with_children(|list| {
                list.spawn((Node { flex_grow: 1.0, ..default() }, Pickable::IGNORE));
                list.spawn((
                    theme::words("Nobody has said anything since you came. Say hello.", size::BODY, theme::FAINT),
                    live::shown(|model| model.visit.as_ref().is_some_and(|visit| visit.room.chat().lines().len() == 0)),
                ));
                list.spawn((chat::Log::default(), column(7.0), Pickable::IGNORE));
            });
        });
        talk.spawn((Node { column_gap: px(12), ..default() }, Pickable::IGNORE)).with_children(|line| {
            let setup = field::Setup {
                field: Field::Line,
                label: "",
                placeholder: "Say something to everyone here",
                value: String::new(),
                characters_max: text::CHAT_GRAPHEMES_MAX,
                enter: Action::Say,
                focus: true,
            };
            field::spawn(line, setup, typefaces);
            line.spawn(button("Send", Face::Plain, Action::Say));
        });
    });
}
