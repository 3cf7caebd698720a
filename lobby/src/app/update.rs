//! What changes the model: time, the network, the game.

use std::time::{Duration, Instant};

use bevy::prelude::*;
use peerflock_lobby::launch::{self, Order};
use peerflock_lobby::{Handover, Launch, LaunchEvent, Room, RoomError, RoomEvent, RoomInfo};

use super::model::{About, Entering, Model, Play, Visit};

/// How often the list of meshes is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the members' round trips are looked at.
const MEMBERS_EVERY: Duration = Duration::from_millis(500);

/// How long leaving a room may take: the time to say goodbye.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);

/// What is in the air.
pub(crate) fn look(mut model: ResMut<Model>, mut next: Local<Option<Instant>>) {
    let now = Instant::now();
    model.forget_notice(now);
    if next.is_some_and(|next| now < next) {
        return;
    }
    *next = Some(now + LOOK_EVERY);
    let Some(browser) = &model.browser else { return };
    let found = browser.snapshot();
    if !found.iter().eq(model.found.iter().map(|(found, _)| found)) {
        model.found = found.into_iter().map(|found| (found.clone(), RoomInfo::of(&found))).collect();
    }
}

/// Whether the door has opened.
pub(crate) fn enter(mut model: ResMut<Model>) {
    let Some(outcome) = model.entering.as_ref().and_then(|entering| entering.mesh.try_ready()) else { return };
    let Some(Entering { name, options, again, .. }) = model.entering.take() else { return };
    match outcome {
        Ok(mesh) => {
            model.visit = Some(Visit::new(Room::new(mesh, &options)));
            model.dialog = None;
            model.notice = None;
        }
        Err(error) => {
            tracing::debug!(%error, "could not enter {name}");
            let error = RoomError::from(error);
            let about_the_password =
                matches!(error, RoomError::WrongPassword(_) | RoomError::PasswordNeeded | RoomError::LockedOut(_));
            match again {
                // The dialog is still there, or comes back: with what was wrong, to try again.
                Some(about) if about_the_password || matches!(about, About::OpenRoom { .. }) => {
                    model.ask(about, Some(error.to_string()));
                }
                _ => {
                    model.dialog = None;
                    model.tell(error.to_string(), true);
                }
            }
        }
    }
}

/// What happens in the room.
pub(crate) fn converse(mut model: ResMut<Model>, mut next: Local<Option<Instant>>) {
    let now = Instant::now();
    let Some(visit) = &mut model.visit else { return };
    let events = visit.room.poll(now);
    if let (false, Some(facts)) = (visit.remembered, visit.room.facts()) {
        let (game, ticket) = (facts.game.clone(), visit.room.ticket());
        visit.remembered = true;
        model.settings.visited(&game, &ticket);
        model.remember();
    }
    let Some(visit) = &mut model.visit else { return };
    if !events.is_empty() || next.is_none_or(|next| now >= next) {
        *next = Some(now + MEMBERS_EVERY);
        let members = visit.room.members();
        if members != visit.members {
            visit.members = members;
        }
    }
    follow(&mut model, events);
}

/// What comes of events in the room.
pub(crate) fn follow(model: &mut Model, events: Vec<RoomEvent>) {
    for event in events {
        let Some(visit) = &mut model.visit else { return };
        match event {
            RoomEvent::OpenGame => open_game(model),
            RoomEvent::JoinGame(handover) => {
                visit.opening = None;
                let order = Order::join(&model.player, &handover, model.interface.clone())
                    .watching(visit.room.watches())
                    .at(&model.directories);
                play(model, order, None, None);
            }
            RoomEvent::GameOpening(starter) => visit.opening = Some(starter),
            RoomEvent::GameOff(why) => {
                visit.opening = None;
                model.tell(why, true);
            }
            RoomEvent::NoSeat(why) => model.tell(why, true),
            RoomEvent::Removed(by) => {
                if let Some(visit) = model.visit.take() {
                    visit.room.leave(GOODBYE);
                }
                model.tell(format!("{by}, whose room that is, removed you from it."), true);
            }
            RoomEvent::Came(_)
            | RoomEvent::Went(_)
            | RoomEvent::Chat
            | RoomEvent::Changed
            | RoomEvent::Seated
            | RoomEvent::Countdown(_)
            | RoomEvent::GameBegins(_) => {}
        }
    }
}

/// How the game goes.
pub(crate) fn watch(mut model: ResMut<Model>) {
    let Some(play) = &mut model.play else { return };
    let title = play.launch.game().name;
    for event in play.launch.poll() {
        let Some(play) = &mut model.play else { return };
        match event {
            LaunchEvent::Building(words) => play.status = format!("Building {title}: {words}"),
            LaunchEvent::Started => play.status = format!("{title} is opening..."),
            LaunchEvent::Ticket(ticket) => {
                play.status = format!("{title} is running.");
                if let Some((secret, mesh)) = play.promised.take() {
                    let handover = Handover::new(mesh, secret, ticket.to_string());
                    let events = model.visit.as_mut().map(|visit| visit.room.game_opened(handover)).unwrap_or_default();
                    follow(&mut model, events);
                } else if let Some(visit) = &mut model.visit {
                    visit.room.game_ticket(&ticket);
                }
            }
            LaunchEvent::Ended => {
                back_in_the_room(&mut model);
                broke(&mut model, "The game was closed before it was open");
                model.play = None;
            }
            LaunchEvent::Refused(why) if play.again.is_some() => {
                let again = play.again.take();
                model.play = None;
                // Nobody is asked over what they are doing now.
                match again.filter(|_| model.dialog.is_none() && model.visit.is_none()) {
                    Some(about) => model.ask(about, Some(why + ".")),
                    None => model.tell(format!("{title}: {why}."), true),
                }
            }
            LaunchEvent::Failed(why) | LaunchEvent::Refused(why) => {
                back_in_the_room(&mut model);
                model.play = None;
                broke(&mut model, &why);
                model.tell(format!("{title}: {why}"), true);
            }
        }
    }
}

fn back_in_the_room(model: &mut Model) {
    if let Some(visit) = &mut model.visit {
        visit.room.game_over();
    }
}

/// Starts the game, for the room or straight from the list. `again` is the question to come back to when its mesh would not
/// have us.
pub(crate) fn play(model: &mut Model, order: Order, promised: Option<([u8; 32], String)>, again: Option<About>) {
    let name = match (&model.visit, &order) {
        (Some(visit), _) => visit.room.facts().map(|facts| facts.game.clone()),
        (None, order) => model.found.iter().find(|(found, _)| found.name == order.mesh).map(|(_, info)| info.game.clone()),
    }
    .unwrap_or_default();
    let Some(game) = launch::game(&name) else {
        let why = format!("This lobby cannot start {name:?}; it knows only {}.", launch::GAMES[0].name);
        broke(model, &why);
        return model.tell(why, true);
    };
    match Launch::start(game, order) {
        Ok(launch) => {
            let waits = promised.is_some() || !launch.is_running();
            let status = if waits { format!("{} is opening...", game.name) } else { format!("{} is running.", game.name) };
            model.play = Some(Play { launch, promised, status, again });
        }
        Err(error) => {
            broke(model, &error.to_string());
            model.tell(error.to_string(), true);
        }
    }
}

/// The window closes: who is in a room says goodbye, or the others must find out by themselves.
pub(crate) fn goodbye(mut exits: MessageReader<AppExit>, mut model: ResMut<Model>) {
    if exits.read().next().is_some()
        && let Some(visit) = model.visit.take()
    {
        visit.room.leave(GOODBYE);
    }
}

/// All agreed: the game's mesh is ours to open.
fn open_game(model: &mut Model) {
    let Some(visit) = &model.visit else { return };
    let mut random = [0; 34];
    if let Err(error) = getrandom::fill(&mut random) {
        return broke(model, &format!("This system gives no random numbers: {error}"));
    }
    let (secret, digits) = random.split_at(32);
    // 34 bytes split at 32 are 32 and 2.
    let mesh = Handover::mesh_name(visit.room.name(), u16::from_le_bytes([digits[0], digits[1]]));
    let mut handover = Handover::new(mesh, [0; 32], "");
    handover.secret.copy_from_slice(secret);
    let order = Order::open(&model.player, &handover.mesh, handover.password(), model.interface.clone()).at(&model.directories);
    play(model, order, Some((handover.secret, handover.mesh)), None);
}

/// The game that the room waits for does not open: everybody is free again.
fn broke(model: &mut Model, why: &str) {
    let Some(visit) = &mut model.visit else { return };
    let events = visit.room.game_failed(why);
    follow(model, events);
}
