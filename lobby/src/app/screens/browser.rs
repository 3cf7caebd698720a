//! The list of rooms and games around.

use bevy::input_focus::{FocusCause, InputFocus};
use bevy::prelude::*;
use peerflock::MeshId;
use peerflock::resolve::Interface;
use peerflock_lobby::browse::round_trip_words;
use peerflock_lobby::{RoomInfo, Stage, launch, text};

use crate::app::action::Action;
use crate::app::live;
use crate::app::model::{Model, way_in};
use crate::app::theme::{self, Typefaces, size};
use crate::app::widgets::button::{self, Caption, Face, button};
use crate::app::widgets::field::{self, Field};
use crate::app::widgets::{column, icon, panel, row, scroll, spring};

/// The list itself.
#[derive(Component, Default)]
pub(crate) struct List {
    shows: Vec<Fixed>,
}

/// A line of it.
#[derive(Component)]
pub(crate) struct Entry(pub(crate) MeshId);

/// What of a line cannot change without drawing it anew.
#[derive(Clone, PartialEq, Eq)]
struct Fixed {
    mesh: MeshId,
    name: String,
    game: String,
    mode: String,
    stage: Stage,
    locked: bool,
}

pub(crate) fn spawn(stage: &mut ChildSpawnerCommands<'_>, model: &Model, typefaces: &Typefaces) {
    stage.spawn(super::frame()).with_children(|frame| {
        frame.spawn((row(12.0), Pickable::IGNORE)).with_children(|top| {
            top.spawn(super::brand());
            top.spawn(spring());
            top.spawn(theme::words("You are", size::BODY, theme::QUIET));
            top.spawn((Node { width: px(250), ..default() }, Pickable::IGNORE)).with_children(|corner| {
                let setup = field::Setup {
                    field: Field::Player,
                    label: "",
                    placeholder: "Your name",
                    value: model.player.clone(),
                    characters_max: text::NAME_GRAPHEMES_MAX,
                    enter: Action::Dismiss,
                    focus: false,
                };
                field::spawn(corner, setup, typefaces);
            });
            top.spawn(button("Settings", Face::Plain, Action::Settings));
        });
        frame.spawn(super::notice());
        let board = Node { flex_grow: 1.0, min_height: px(0), padding: UiRect::axes(px(22), px(18)), ..column(10.0) };
        frame.spawn(panel(board)).with_children(|board| {
            board.spawn(head());
            board.spawn((row(10.0), Pickable::IGNORE)).with_children(|sieve| {
                let setup = field::Setup {
                    field: Field::Search,
                    label: "",
                    placeholder: "Search for a room, a game or a mode",
                    value: model.filter.search.clone(),
                    characters_max: text::NAME_GRAPHEMES_MAX,
                    enter: Action::Dismiss,
                    focus: false,
                };
                field::spawn(sieve, setup, typefaces);
                sieve.spawn(chip("Free seat", Action::OnlyFree, |model| model.filter.free));
                sieve.spawn(chip("No password", Action::OnlyOpen, |model| model.filter.open));
                sieve.spawn(chip("Not playing", Action::OnlyGathering, |model| model.filter.gathering));
            });
            board.spawn(column_names());
            scroll::spawn(board, 8.0, |list| _ = list.insert((List::default(), live::shown(|model| !model.shown().is_empty()))));
            board.spawn(nothing_here());
            board.spawn(foot());
        });
    });
}

/// Draws lines anew where rooms came, went or changed; everything else in a line is live.
pub(crate) fn draw(
    model: Res<Model>,
    list: Option<Single<(Entity, &mut List, Option<&Children>)>>,
    entries: Query<&Entry>,
    mut focus: ResMut<InputFocus>,
    mut commands: Commands,
) {
    let Some(list) = list else { return };
    let (entity, mut list, children) = list.into_inner();
    let shows: Vec<Fixed> = model.shown().into_iter().map(Fixed::of).collect();
    if shows == list.shows {
        return;
    }
    let focused = focus.get().and_then(|entity| entries.get(entity).ok()).map(|entry| entry.0);
    let mut old: Vec<(Fixed, Entity)> =
        std::mem::take(&mut list.shows).into_iter().zip(children.into_iter().flatten().copied()).collect();
    let mut lines = Vec::with_capacity(shows.len());
    for fixed in &shows {
        // Whoever is about to click on a line must not have it replaced under the pointer because of another one.
        let kept = old.iter().position(|(shown, _)| shown == fixed).map(|index| old.swap_remove(index).1);
        let line = kept.unwrap_or_else(|| commands.spawn(entry(fixed)).id());
        if focused == Some(fixed.mesh) && kept.is_none() {
            focus.set(line, FocusCause::Navigated);
        }
        lines.push(line);
    }
    for (_, gone) in old {
        if focus.get() == Some(gone) {
            focus.clear();
        }
        commands.entity(gone).despawn();
    }
    commands.entity(entity).replace_children(&lines);
    list.shows = shows;
}

impl Fixed {
    fn of(info: &RoomInfo) -> Self {
        let RoomInfo { mesh, name, game, mode, stage, locked, .. } = info.clone();
        Self { mesh, name, game, mode, stage, locked }
    }
}

fn head() -> impl Bundle {
    (
        row(12.0),
        Pickable::IGNORE,
        children![
            (theme::heading("", size::HEAD), live::text(summary)),
            spring(),
            button("Use an invitation", Face::Plain, Action::UseInvite),
            button("Quick match", Face::Plain, Action::QuickMatch),
            button("Open a room", Face::Sun, Action::OpenRoom),
        ],
    )
}

/// Something of the list that can be left out: lit while it is.
fn chip(caption: &'static str, action: Action, is_on: fn(&Model) -> bool) -> impl Bundle {
    (
        button::bare(
            Face::Plain,
            action,
            Node { min_height: px(48), padding: UiRect::axes(px(14), px(8)), flex_shrink: 0.0, ..row(9.0) },
        ),
        children![
            (
                Node { width: px(12), height: px(12), border_radius: BorderRadius::MAX, ..default() },
                BackgroundColor(theme::FAINT),
                live::color(move |model| if is_on(model) { theme::SUN } else { theme::FAINT.with_alpha(0.5) }),
                Pickable::IGNORE,
            ),
            (
                Text::new(caption),
                theme::bold(size::SMALL),
                TextColor(theme::TEXT),
                Caption,
                TextLayout::no_wrap(),
                Pickable::IGNORE
            ),
        ],
    )
}

fn summary(model: &Model) -> String {
    let players: usize = model.found.iter().map(|(_, info)| info.players).sum();
    let rooms = model.found.iter().filter(|(_, info)| info.stage == Stage::Gathering).count();
    let parts = [(rooms, "room"), (model.found.len() - rooms, "game"), (players, "player")];
    let words: Vec<String> =
        parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| counted(count, what)).collect();
    if words.is_empty() { "Rooms on this network".to_owned() } else { words.join(", ") }
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// The columns of the list: room, game, players, round trip, door.
fn grid() -> Node {
    Node {
        display: Display::Grid,
        grid_template_columns: vec![
            RepeatedGridTrack::px(1, 40.0),
            RepeatedGridTrack::minmax(1, MinTrackSizingFunction::Px(0.0), MaxTrackSizingFunction::Fraction(2.0)),
            RepeatedGridTrack::minmax(1, MinTrackSizingFunction::Px(0.0), MaxTrackSizingFunction::Fraction(1.3)),
            RepeatedGridTrack::px(1, 86.0),
            RepeatedGridTrack::px(1, 108.0),
            RepeatedGridTrack::px(1, 104.0),
            RepeatedGridTrack::px(1, 62.0),
        ],
        align_items: AlignItems::Center,
        column_gap: px(14),
        ..default()
    }
}

fn column_names() -> impl Bundle {
    let name = |name| theme::words(name, size::SMALL, theme::QUIET);
    (
        Node::default(),
        live::shown(|model| !model.shown().is_empty()),
        Pickable::IGNORE,
        children![(
            Node { flex_grow: 1.0, padding: UiRect::axes(px(19.5), px(0)), ..grid() },
            Pickable::IGNORE,
            children![name(""), name("Room"), name("Game"), name("Players"), name("Round trip"), name("Door"), name("")],
        )],
    )
}

fn entry(fixed: &Fixed) -> impl Bundle {
    let mesh = fixed.mesh;
    let info = move |model: &Model| model.info(mesh).cloned();
    let title = launch::game(&fixed.game).map_or_else(|| fixed.game.clone(), |game| game.name.to_owned());
    let stage = match fixed.stage {
        Stage::Gathering => "in the lobby",
        Stage::Playing => "playing",
    };
    let stage = if fixed.mode.is_empty() { stage.to_owned() } else { format!("{stage}, {}", fixed.mode) };
    (
        Entry(mesh),
        button::bare(
            Face::Row,
            Action::Enter(mesh),
            Node { min_height: px(64), flex_shrink: 0.0, padding: UiRect::axes(px(18), px(6)), ..grid() },
        ),
        live::enabled(move |model| info(model).is_some_and(|info| way_in(&info) != "Full")),
        children![
            star(mesh),
            (
                Node { overflow: Overflow::clip(), ..default() },
                Pickable::IGNORE,
                children![(theme::heading(fixed.name.clone(), 21.0), TextLayout::no_wrap())]
            ),
            (
                Node { overflow: Overflow::clip(), ..column(1.0) },
                Pickable::IGNORE,
                children![
                    (theme::words(title, size::BODY, theme::TEXT), TextLayout::no_wrap()),
                    (
                        theme::words(stage, size::SMALL, if fixed.stage == Stage::Playing { theme::GOOD } else { theme::QUIET }),
                        TextLayout::no_wrap()
                    ),
                ],
            ),
            (
                theme::words("", size::BODY, theme::TEXT),
                live::text(move |model| info(model).map(|info| seats(&info)).unwrap_or_default())
            ),
            (
                row(9.0),
                Pickable::IGNORE,
                children![
                    icon::bars(move |model| info(model)?.round_trip),
                    (
                        theme::words("", size::BODY, theme::TEXT),
                        TextLayout::no_wrap(),
                        live::text(move |model| round_trip_words(info(model).and_then(|info| info.round_trip)))
                    ),
                ],
            ),
            (
                row(8.0),
                Pickable::IGNORE,
                children![
                    icon::lock(fixed.locked),
                    theme::words(
                        if fixed.locked { "locked" } else { "open" },
                        size::BODY,
                        if fixed.locked { theme::SUN } else { theme::QUIET }
                    ),
                ],
            ),
            (
                Text::default(),
                theme::bold(size::BODY),
                TextColor(theme::SUN),
                Caption,
                TextLayout::justify(Justify::Right),
                Pickable::IGNORE,
                live::text(move |model| info(model).map(|info| way_in(&info).to_owned()).unwrap_or_default()),
            ),
        ],
    )
}

/// Lit for favorites; pressing it makes a room one, or no longer.
fn star(mesh: MeshId) -> impl Bundle {
    let is_favorite = move |model: &Model| model.info(mesh).is_some_and(|info| model.settings.favorites.contains(&info.name));
    (
        button::bare(
            Face::Bare,
            Action::Favorite(mesh),
            Node { width: px(36), height: px(36), justify_content: JustifyContent::Center, ..row(0.0) },
        ),
        children![icon::heart(is_favorite)],
    )
}

fn seats(info: &RoomInfo) -> String {
    if info.players_max == 0 { info.players.to_string() } else { format!("{} of {}", info.players, info.players_max) }
}

/// What is there instead of rooms.
fn nothing_here() -> impl Bundle {
    let line = |line| (theme::words("", size::BODY, theme::QUIET), TextLayout::justify(Justify::Center), live::text(line));
    (
        Node { flex_grow: 1.0, align_items: AlignItems::Center, justify_content: JustifyContent::Center, ..column(16.0) },
        live::shown(|model| model.shown().is_empty()),
        Pickable::IGNORE,
        children![
            (
                Node { column_gap: px(14), align_items: AlignItems::FlexEnd, ..default() },
                Pickable::IGNORE,
                children![icon::bird(26.0, theme::FAINT), icon::bird(44.0, theme::SUN), icon::bird(30.0, theme::QUIET)],
            ),
            (
                theme::heading("", size::HEAD),
                live::text(|model| match &model.blind {
                    Some(_) => "The network cannot be looked at from here.".into(),
                    None if !model.found.is_empty() => "No room is like that.".into(),
                    None if model.has_looked() => "No rooms here yet.".into(),
                    None => "Looking around...".into(),
                })
            ),
            line(|model: &Model| match &model.blind {
                Some(why) => format!("{why}\nAn invitation works all the same."),
                None if !model.found.is_empty() => {
                    format!("{} others are there; look for less, or press Quick match.", model.found.len())
                }
                None => "Open one; others on this network will see it.".into(),
            }),
        ],
    )
}

fn foot() -> impl Bundle {
    (
        row(12.0),
        Pickable::IGNORE,
        children![
            theme::words("Arrows and Tab move, Enter joins.", size::SMALL, theme::FAINT),
            spring(),
            (
                theme::words("", size::SMALL, theme::FAINT),
                live::text(|model| {
                    if let Some(play) = &model.play {
                        return play.status.clone();
                    }
                    match model.interface.clone().unwrap_or_else(Interface::from_environment) {
                        Interface::All => "Looking on every network of this machine.".into(),
                        Interface::Loopback => "Looking on this machine only.".into(),
                        Interface::Named(name) => format!("Looking on {name} only."),
                    }
                })
            ),
        ],
    )
}
