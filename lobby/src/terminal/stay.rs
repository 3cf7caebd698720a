//! Being in a room from the terminal.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use peerflock::{FoundMesh, PeerMeshBuilder, Ticket};
use peerflock_lobby::chat::{LineTo, SayError};
use peerflock_lobby::launch::{self, Order};
use peerflock_lobby::{Launch, LaunchEvent, Room, RoomError, RoomEvent, RoomInfo, RoomOptions, Stage, text};
use serde_json::{Value, json};

use super::{Trouble, list, print};
use crate::cli::{Common, Stay};

/// How long to look for a room by name.
const LOOK_FOR: Duration = Duration::from_secs(4);
/// How often to look whether anything has happened.
const EVERY: Duration = Duration::from_millis(25);
/// How long leaving may take: the time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// Lines typed ahead of what can be said.
const TYPED_LINES_MAX: usize = 64;

/// Opens a room and stays in it.
pub(super) fn create(common: &Common, name: &str, password: Option<&str>, players: u16, how: &Stay) -> Result<(), Trouble> {
    let mut options = options(common, how);
    let builder = options.create(name, password, launch::GAMES[0].name, players)?;
    stay(builder, &options, true, how, common)
}

/// Joins a room, by its name on the network or by invitation, and stays in it.
pub(super) fn join(common: &Common, room: &str, password: Option<&str>, how: &Stay) -> Result<(), Trouble> {
    let mut options = options(common, how);
    let builder = match room.parse::<Ticket>() {
        Ok(ticket) => options.join_by_ticket(&ticket, password)?,
        Err(_) => options.join(&find(common, room)?, password)?,
    };
    stay(builder, &options, false, how, common)
}

fn options(common: &Common, how: &Stay) -> RoomOptions {
    let mut options = RoomOptions::new(common.player.clone()).on(common.interface.clone());
    options.watch = how.watch;
    options
}

/// The room of this name.
fn find(common: &Common, name: &str) -> Result<FoundMesh, Trouble> {
    let browser = list::browser(common)?;
    let started = Instant::now();
    let called = text::clean_name(name);
    while started.elapsed() < LOOK_FOR {
        let found = browser.snapshot().into_iter().find(|found| found.name == name || RoomInfo::of(found).name == called);
        match found {
            Some(found) if RoomInfo::of(&found).stage == Stage::Playing => {
                return Err(Trouble::failed(format!(
                    "{name:?} is no room but a game that is being played. Join it with the game itself: --mesh {name:?}."
                )));
            }
            Some(found) => return Ok(found),
            None => sleep(EVERY),
        }
    }
    Err(Trouble::failed(format!(
        "No room called {name:?} was found on this network. `cargo lobby -- list` shows what there is; an invitation reaches further."
    )))
}

/// A visit: the room, and what goes with it.
struct Visit<'a> {
    room: Room,
    common: &'a Common,
    how: &'a Stay,
    unsaid: Vec<String>,
    shown: u64,
    game: Option<Launch>,
}

/// `opens`: it is nobody else's room, as far as is known.
fn stay(builder: PeerMeshBuilder, options: &RoomOptions, opens: bool, how: &Stay, common: &Common) -> Result<(), Trouble> {
    let mesh = builder.start_in_background().wait().map_err(RoomError::from)?;
    let mut room = Room::new(mesh, options);
    room.set_ready(how.ready);
    let ticket = room.ticket().to_string();
    let mut visit = Visit { room, common, how, unsaid: how.say.clone(), shown: 0, game: None };
    let name = text::clean_name(visit.room.name());
    let (here, words) = match visit.room.members().len() {
        0 | 1 if opens => ("opened", format!("{name} is open. You are the first; others can come in now.")),
        // Who else is here comes right after the door has opened.
        0 | 1 => ("joined", format!("You are in {name}.")),
        2 => ("joined", format!("You are in {name} with one other.")),
        count => ("joined", format!("You are in {name} with {} others.", count - 1)),
    };
    visit.tell(json!({"event": here, "room": name, "ticket": ticket}), &format!("{words}\nticket: {ticket}"));
    let typed = typed();
    let interrupted = interrupted();
    let started = Instant::now();
    while !interrupted.load(Ordering::Relaxed) && how.seconds.is_none_or(|seconds| started.elapsed() < seconds) {
        let events = visit.room.poll(Instant::now());
        visit.take_in(events)?;
        visit.watch_game()?;
        visit.speak()?;
        match typed.try_recv() {
            Ok(Some(line)) => visit.unsaid.push(line),
            Ok(None) if visit.unsaid.is_empty() => break,
            // Said first, left then.
            Ok(None) => while_unsaid(&mut visit)?,
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => sleep(EVERY),
        }
    }
    visit.room.leave(GOODBYE);
    Ok(())
}

/// What was typed before the end of input is said before we leave.
fn while_unsaid(visit: &mut Visit<'_>) -> Result<(), Trouble> {
    while !visit.unsaid.is_empty() {
        let events = visit.room.poll(Instant::now());
        visit.take_in(events)?;
        visit.speak()?;
        sleep(EVERY);
    }
    Ok(())
}

impl Visit<'_> {
    fn take_in(&mut self, events: Vec<RoomEvent>) -> Result<(), Trouble> {
        for event in events {
            match event {
                RoomEvent::Came(name) => self.tell(json!({"event": "came", "name": name}), &format!("{name} came in.")),
                RoomEvent::Went(name) => self.tell(json!({"event": "left", "name": name}), &format!("{name} left.")),
                RoomEvent::Chat => self.show_lines(),
                RoomEvent::Changed => {}
                RoomEvent::Seated => self.tell(json!({"event": "seated"}), "You have a seat."),
                RoomEvent::NoSeat(why) => self.tell(json!({"event": "no_seat", "why": why}), &why),
                RoomEvent::Removed(by) => return Err(Trouble::failed(format!("{by}, whose room this is, removed you from it."))),
                RoomEvent::GameOpening(name) => {
                    self.tell(json!({"event": "game_opening", "by": name}), &format!("{name} is opening the game."));
                }
                RoomEvent::GameOff(why) => self.tell(json!({"event": "game_off", "why": why}), &why),
                RoomEvent::JoinGame(handover) => {
                    let order = Order::join(&self.common.player, &handover, self.common.interface.clone());
                    self.launch(order)?;
                }
                // Only who presses Start opens the game, and there is no such button here.
                RoomEvent::OpenGame => {
                    let events = self.room.game_failed("the terminal cannot open a game");
                    self.take_in(events)?;
                }
            }
        }
        Ok(())
    }

    fn show_lines(&mut self) {
        let lines: Vec<_> = self.room.chat().lines().filter(|line| line.number >= self.shown).cloned().collect();
        for line in lines {
            self.shown = line.number + 1;
            // Lines without a speaker tell who comes and goes, which is told as an event of its own.
            if let Some(speaker) = &line.speaker {
                let event = if line.earlier { "earlier" } else { "said" };
                let to = match line.to {
                    LineTo::All => json!("all"),
                    LineTo::Team(team) => json!({"team": team}),
                    LineTo::One => json!("one"),
                };
                let value = json!({"event": event, "from": speaker.name, "me": speaker.me, "to": to, "text": line.text});
                self.tell(value, &format!("{}: {}", speaker.name, line.text));
            }
        }
    }

    /// Says what is to be said, as soon as somebody is there to hear it and it is not too fast.
    fn speak(&mut self) -> Result<(), Trouble> {
        if self.unsaid.is_empty() || self.room.members().len() < 2 {
            return Ok(());
        }
        match self.room.say(&self.unsaid[0]) {
            Ok(()) | Err(SayError::Empty) => _ = self.unsaid.remove(0),
            Err(SayError::TooFast) => {}
            Err(error) => return Err(Trouble::failed(error)),
        }
        Ok(())
    }

    fn launch(&mut self, order: Order) -> Result<(), Trouble> {
        let name = self.room.facts().map(|facts| facts.game.clone()).unwrap_or_default();
        let game = launch::game(&name).ok_or_else(|| Trouble::failed(format!("this lobby cannot start {name:?}")))?;
        self.game = Some(Launch::start(game, order).map_err(Trouble::failed)?);
        self.tell(json!({"event": "game", "name": game.name}), &format!("{} starts.", game.name));
        Ok(())
    }

    fn watch_game(&mut self) -> Result<(), Trouble> {
        let events = self.game.as_mut().map(Launch::poll).unwrap_or_default();
        for event in events {
            match event {
                LaunchEvent::Building(words) => self.tell(json!({"event": "building", "words": words}), &words),
                LaunchEvent::Started | LaunchEvent::Ticket(_) => {}
                LaunchEvent::Ended => {
                    self.room.game_over();
                    self.tell(json!({"event": "game_over"}), "The game is over.");
                    self.game = None;
                    return Ok(());
                }
                LaunchEvent::Failed(why) | LaunchEvent::Refused(why) => return Err(Trouble::failed(why)),
            }
        }
        Ok(())
    }

    /// Tells what happened, in the form that was asked for.
    fn tell(&self, value: Value, words: &str) {
        if self.how.json { print::json(&value) } else { print::line(words) }
    }
}

/// Becomes true at Ctrl+C, so that we can say goodbye.
fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    // Without a handler Ctrl+C ends us at once, and the others find out by themselves.
    if let Err(error) = ctrlc::set_handler(move || set.store(true, Ordering::Relaxed)) {
        tracing::debug!(%error, "no handler for Ctrl+C");
    }
    flag
}

/// Lines from standard input, then `None` at its end. An input that is empty from the start, such as that of a program in the
/// background, has no end that means anything.
fn typed() -> Receiver<Option<String>> {
    let (sender, receiver) = sync_channel(TYPED_LINES_MAX);
    let read = move || {
        let stdin = std::io::stdin();
        let mut meant = stdin.is_terminal();
        for line in stdin.lock().lines().map_while(Result::ok) {
            meant = true;
            if sender.send(Some(line)).is_err() {
                return;
            }
        }
        if meant {
            _ = sender.send(None);
        }
    };
    // Without a thread nothing can be typed; everything else works.
    _ = std::thread::Builder::new().name("typed".into()).spawn(read);
    receiver
}
