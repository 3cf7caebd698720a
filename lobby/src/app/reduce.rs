//! What the player's actions do to the model.

use std::time::Instant;

use bevy::clipboard::Clipboard;
use bevy::prelude::*;
use bevy::text::EditableText;
use peerflock::{FoundMesh, MeshId, PeerMeshBuilder, Ticket};
use peerflock_lobby::browse::quick_match;
use peerflock_lobby::card::PLAYERS_MAX;
use peerflock_lobby::launch::{self, Order};
use peerflock_lobby::{QrSquare, RoomError, RoomInfo, RoomOptions, Stage, text};

use super::action::Action;
use super::model::{About, Entering, Model};
use super::update;
use super::widgets::field::{self, Field};

type Fields<'w, 's> = Query<'w, 's, (&'static Field, &'static mut EditableText)>;

mod house;

/// What is typed into the search is looked for at once.
pub(crate) fn search(mut model: ResMut<Model>, fields: Query<(&Field, &EditableText), Changed<EditableText>>) {
    for (field, input) in &fields {
        let typed = input.value().to_string();
        if *field == Field::Search && model.filter.search != typed {
            model.filter.search = typed;
        }
    }
}

/// Does what was asked for.
pub(crate) fn act(
    mut actions: MessageReader<Action>,
    mut model: ResMut<Model>,
    mut fields: Fields<'_, '_>,
    mut clipboard: ResMut<Clipboard>,
) {
    for action in actions.read() {
        if let Some(name) = field::value(Field::Player, &fields) {
            let name = text::clean_name(&name);
            if !name.is_empty() && name != model.player {
                model.settings.player.clone_from(&name);
                model.player = name;
                model.remember();
            }
        }
        match *action {
            Action::OpenRoom => model.ask(About::open_room(), None),
            Action::UseInvite => model.ask(About::Invite, None),
            Action::Enter(mesh) => enter(&mut model, mesh),
            Action::Submit => submit(&mut model, &mut fields),
            Action::Cancel => {
                model.entering = None;
                model.dialog = None;
            }
            Action::MoreSeats => seats(&mut model, 1),
            Action::FewerSeats => seats(&mut model, -1),
            Action::Peek => {
                if let Some(dialog) = &mut model.dialog {
                    dialog.peek = !dialog.peek;
                }
            }
            Action::Say => say(&mut model, &mut fields),
            Action::ToggleReady => {
                if let Some(visit) = &mut model.visit {
                    visit.room.set_ready(!visit.room.is_ready());
                    visit.members = visit.room.members();
                }
            }
            Action::StartGame => start_game(&mut model),
            Action::QuickMatch => quick(&mut model),
            Action::Favorite(mesh) => favorite(&mut model, mesh),
            Action::OnlyFree => model.filter.free = !model.filter.free,
            Action::OnlyOpen => model.filter.open = !model.filter.open,
            Action::OnlyGathering => model.filter.gathering = !model.filter.gathering,
            Action::ComeBack(index) => come_back(&mut model, index),
            Action::Share => share(&mut model),
            Action::CopyInvite => copy_invite(&mut model, &mut clipboard),
            Action::Member(peer) => model.ask(About::Member { peer }, None),
            Action::Door => model.ask(About::Door, None),
            Action::Settings => model.ask(About::Settings, None),
            Action::Mute(_) | Action::Remove(_) | Action::Whisper(_) | Action::ToggleClosed | Action::ToggleSlow => {
                house::act(&mut model, *action, &fields);
            }
            Action::Color(_) | Action::ToggleIdentity => house::personal(&mut model, *action),
            Action::AskToLeave => model.ask(About::Leave, None),
            Action::Dismiss => model.notice = None,
        }
    }
}

/// Enters a mesh on the list, or asks for what is missing.
fn enter(model: &mut Model, mesh: MeshId) {
    if model.entering.is_some() {
        return;
    }
    let Some((found, info)) = model.found.iter().find(|(found, _)| found.mesh == mesh).cloned() else { return };
    if info.stage == Stage::Playing && model.play.is_some() {
        model.tell("You are in a game already. Leave that one first.", true);
    } else if info.stage == Stage::Playing && launch::game(&info.game).is_none() {
        model.tell(format!("{} is played there, which this lobby cannot start.", info.game), true);
    } else if found.locked {
        model.ask(About::Password { found: Box::new(found) }, None);
    } else if info.stage == Stage::Playing {
        join_game(model, &found, None);
    } else {
        let mut options = options(model);
        options.watch = info.is_full();
        let builder = options.join(&found, None);
        begin(model, info.name, builder, options, None);
    }
}

/// Into the best room there is, or into one of our own.
fn quick(model: &mut Model) {
    let game = launch::GAMES[0];
    let best = quick_match(model.found.iter().map(|(_, info)| info), game.name, "").map(|info| info.mesh);
    match best {
        Some(mesh) => enter(model, mesh),
        None => {
            let (name, mut options) = (text::clean_name(&format!("{}'s room", model.player)), options(model));
            let builder = options.create(&name, None, game.name, About::SEATS);
            begin(model, name, builder, options, None);
        }
    }
}

fn favorite(model: &mut Model, mesh: MeshId) {
    if let Some(name) = model.info(mesh).map(|info| info.name.clone()) {
        model.settings.toggle_favorite(&name);
        model.remember();
    }
}

/// Back to where we were, by the invitation that was kept.
fn come_back(model: &mut Model, index: usize) {
    let Some(recent) = model.settings.recent.get(index) else { return };
    // Whom the list shows, the list knows better: the invitation may be old.
    if let Some((found, _)) = model.found.iter().find(|(_, info)| info.name == recent.name && info.stage == Stage::Gathering) {
        let mesh = found.mesh;
        model.dialog = None;
        return enter(model, mesh);
    }
    let Ok(ticket) = recent.ticket.parse::<Ticket>() else { return };
    if ticket.needs_password() {
        return model.ask(About::InvitePassword { ticket }, None);
    }
    let mut options = options(model);
    let builder = options.join_by_ticket(&ticket, None);
    begin(model, text::clean_name(ticket.name()), builder, options, None);
}

/// Does what the dialog is for.
fn submit(model: &mut Model, fields: &mut Fields) {
    if model.entering.is_some() {
        return;
    }
    take_nickname(model, fields);
    let Some(about) = model.dialog.as_ref().map(|dialog| dialog.about.clone()) else { return };
    let typed = |field| field::value(field, fields).unwrap_or_default();
    let password = typed(Field::Password);
    let mut options = options(model);
    match &about {
        About::OpenRoom { seats } => {
            let name = typed(Field::RoomName);
            if let Some((_, info)) = model.found.iter().find(|(_, info)| info.name == text::clean_name(&name)) {
                let wrong = format!("{} is open already. Join it from the list, or choose another name.", info.name);
                return model.ask(about, Some(wrong));
            }
            let builder = options.create(&name, Some(&password), launch::GAMES[0].name, *seats);
            begin(model, text::clean_name(&name), builder, options, Some(about));
        }
        About::Password { found } if RoomInfo::of(found).stage == Stage::Playing => {
            if password.is_empty() {
                return model.ask(about, Some(RoomError::PasswordNeeded.to_string()));
            }
            model.dialog = None;
            join_game(model, found, Some(password));
        }
        About::Password { found } => {
            options.watch = RoomInfo::of(found).is_full();
            let builder = options.join(found, Some(&password));
            begin(model, RoomInfo::of(found).name, builder, options, Some(about.clone()));
        }
        About::InvitePassword { ticket } => {
            let builder = options.join_by_ticket(ticket, Some(&password));
            begin(model, text::clean_name(ticket.name()), builder, options, Some(about.clone()));
        }
        About::Invite => match typed(Field::Invite).trim().parse::<Ticket>() {
            Ok(ticket) if ticket.needs_password() => model.ask(About::InvitePassword { ticket }, None),
            Ok(ticket) => {
                let builder = options.join_by_ticket(&ticket, None);
                begin(model, text::clean_name(ticket.name()), builder, options, None);
            }
            Err(_) => {
                let wrong = "That is no invitation. It begins with peerflock1; paste all of it.";
                model.ask(about, Some(wrong.into()));
            }
        },
        About::Leave => {
            model.dialog = None;
            if let Some(visit) = model.visit.take() {
                visit.room.leave(update::GOODBYE);
            }
        }
        About::Share { .. } | About::Member { .. } | About::Door | About::Settings => model.dialog = None,
    }
}

/// The name in the dialog is the player's from now on, as if it had been typed in the corner.
fn take_nickname(model: &mut Model, fields: &mut Fields) {
    let name = field::value(Field::Nickname, fields).map(|name| text::clean_name(&name)).unwrap_or_default();
    if name.is_empty() {
        return;
    }
    if let Some((_, mut corner)) = fields.iter_mut().find(|(field, _)| **field == Field::Player) {
        corner.editor_mut().set_text(&name);
    }
    model.settings.player.clone_from(&name);
    model.player = name;
    model.remember();
}

/// Begins to enter; `again` is the question to come back to when the answer was wrong.
fn begin(
    model: &mut Model,
    name: String,
    builder: Result<PeerMeshBuilder, RoomError>,
    options: RoomOptions,
    again: Option<About>,
) {
    match builder {
        Ok(builder) => {
            if let Some(dialog) = &mut model.dialog {
                dialog.wrong = None;
            }
            model.notice = None;
            model.entering = Some(Entering { name, mesh: builder.start_in_background(), options, again });
        }
        Err(error) => match again {
            Some(about) => model.ask(about, Some(error.to_string())),
            None => model.tell(error.to_string(), true),
        },
    }
}

/// Goes straight into a game that is under way.
fn join_game(model: &mut Model, found: &FoundMesh, password: Option<String>) {
    let order = Order {
        player: model.player.clone(),
        mesh: found.name.clone(),
        password,
        ticket: None,
        interface: model.interface.clone(),
        watch: false,
        directories: model.directories.clone(),
    };
    let again = found.locked.then(|| About::Password { found: Box::new(found.clone()) });
    update::play(model, order, None, again);
}

fn options(model: &Model) -> RoomOptions {
    let mut options = RoomOptions::new(model.player.clone()).on(model.interface.clone());
    options.directories.clone_from(&model.directories);
    options.color = model.settings.color;
    options.identity = model.settings.keep_identity.then(|| model.settings.identity());
    options
}

fn seats(model: &mut Model, more: i32) {
    if let Some(dialog) = &mut model.dialog
        && let About::OpenRoom { seats } = &mut dialog.about
    {
        *seats = seats.saturating_add_signed(more as i16).clamp(2, PLAYERS_MAX);
    }
}

fn say(model: &mut Model, fields: &mut Fields<'_, '_>) {
    let Some(visit) = &mut model.visit else { return };
    let Some((_, mut input)) = fields.iter_mut().find(|(field, _)| **field == Field::Line) else { return };
    let line = input.value().to_string();
    if line.trim().is_empty() {
        return;
    }
    match visit.room.say(&line) {
        Ok(()) => input.clear(),
        // What was typed stays, to be sent again.
        Err(error) => model.tell(capitalized(&error.to_string()), true),
    }
}

/// An invitation as it is now: tickets name addresses, and those change.
fn share(model: &mut Model) {
    let Some(visit) = &model.visit else { return };
    let ticket = visit.room.ticket();
    let code = QrSquare::of(&ticket);
    model.ask(About::Share { ticket, code }, None);
}

fn copy_invite(model: &mut Model, clipboard: &mut Clipboard) {
    let Some(room) = model.visit.as_ref().map(|visit| &visit.room) else { return };
    let also = if room.facts().is_some_and(|facts| facts.locked) { " Your friend needs the password, too." } else { "" };
    match clipboard.set_text(room.ticket().to_string()) {
        Ok(()) => {
            model.dialog = None;
            model.tell(format!("Invitation copied. It works while you are here.{also}"), false);
        }
        Err(_) => model.tell("This system has no clipboard to copy to.", true),
    }
}

fn start_game(model: &mut Model) {
    let mut round = [0; 8];
    if let Err(error) = getrandom::fill(&mut round) {
        return model.tell(format!("This system gives no random numbers: {error}"), true);
    }
    if model.play.is_some() {
        return;
    }
    let (counting, follows) = (model.countdown().is_some(), model.can_follow());
    let Some(visit) = &mut model.visit else { return };
    let events = if counting {
        visit.room.cancel_start()
    } else if follows {
        visit.room.join_running()
    } else {
        visit.room.start_game(u64::from_le_bytes(round), Instant::now())
    };
    update::follow(model, events);
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect::<String>() + ".")
}
