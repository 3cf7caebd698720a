//! Being in a room from the terminal.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::sleep;
use std::time::{Duration, Instant};

use peerflock::{FoundMesh, PeerMeshBuilder, Ticket};
use peerflock_lobby::browse::quick_match;
use peerflock_lobby::chat::{LineTo, SayError};
use peerflock_lobby::{
    LaunchEvent, QrSquare, Room, RoomError, RoomEvent, RoomFacts, RoomGame, RoomInfo, RoomOptions, Stage, launch, start, text,
};
use serde_json::{Value, json};

use super::{Trouble, list, print};
use crate::cli::{Common, Stay};

/// How long to look for a room by name.
const LOOK_FOR: Duration = Duration::from_secs(4);
/// How often to look whether anything has happened.
const EVERY: Duration = Duration::from_millis(25);
/// How long leaving may take: the time to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long somebody who only has something to say waits for others.
const SAY_PATIENCE: Duration = Duration::from_secs(15);
/// Lines typed ahead of what can be said.
const TYPED_LINES_MAX: usize = 64;

/// Opens a room and stays in it.
pub(super) fn create(
    common: &Common,
    name: &str,
    password: Option<&str>,
    players: u16,
    mode: Option<&str>,
    how: &Stay,
) -> Result<(), Trouble> {
    let mut options = options(common, how);
    options.settings.extend(mode.map(|mode| (RoomFacts::MODE.to_owned(), mode.to_owned())));
    let builder = options.create(name, password, launch::GAMES[0].name, players)?;
    stay(builder, &options, Since::Opening, how, common)
}

/// Joins a room, by its name on the network or by invitation, and stays in it.
pub(super) fn join(common: &Common, room: &str, password: Option<&str>, how: &Stay) -> Result<(), Trouble> {
    let mut options = options(common, how);
    let builder = match room.parse::<Ticket>() {
        Ok(ticket) => options.join_by_ticket(&ticket, password)?,
        Err(_) => options.join(&find(common, room)?, password)?,
    };
    stay(builder, &options, Since::Joining, how, common)
}

/// Joins the best room for the player, or opens one, and stays in it.
pub(super) fn quick(common: &Common, how: &Stay) -> Result<(), Trouble> {
    let browser = list::browser(common)?;
    sleep(super::LOOK);
    let found = browser.snapshot();
    let rooms: Vec<RoomInfo> = found.iter().map(RoomInfo::of).collect();
    let game = launch::GAMES[0].name;
    let best = quick_match(&rooms, game, "").and_then(|best| found.iter().find(|found| found.mesh == best.mesh));
    let mut options = options(common, how);
    match best {
        Some(found) => stay(options.join(found, None)?, &options, Since::Joining, how, common),
        None => {
            let name = format!("{}'s room", common.name());
            stay(options.create(&name, None, game, 8)?, &options, Since::Opening, how, common)
        }
    }
}

/// Says one line in a room, and leaves.
pub(super) fn say(common: &Common, room: &str, password: Option<&str>, line: String, json: bool) -> Result<(), Trouble> {
    let how = Stay { say: vec![line], watch: true, json, ..Stay::default() };
    let mut options = options(common, &how);
    let builder = match room.parse::<Ticket>() {
        Ok(ticket) => options.join_by_ticket(&ticket, password)?,
        Err(_) => options.join(&find(common, room)?, password)?,
    };
    stay(builder, &options, Since::Saying(Instant::now()), &how, common)
}

/// What somebody is in a room for.
#[derive(Clone, Copy)]
enum Since {
    /// It is nobody else's room, as far as is known.
    Opening,
    Joining,
    /// Since then; leaves as soon as all is said.
    Saying(Instant),
}

fn options(common: &Common, how: &Stay) -> RoomOptions {
    let mut options = RoomOptions::new(common.name()).on(common.interface.clone());
    options.directories.clone_from(&common.directories);
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
    how: &'a Stay,
    unsaid: Vec<String>,
    shown: u64,
    game: RoomGame,
}

fn stay(builder: PeerMeshBuilder, options: &RoomOptions, since: Since, how: &Stay, common: &Common) -> Result<(), Trouble> {
    let mesh = builder.start_in_background().wait().map_err(RoomError::from)?;
    let mut room = Room::new(mesh, options);
    room.set_ready(how.ready);
    let ticket = room.ticket().to_string();
    let game = RoomGame::new(common.name(), common.interface.clone()).at(&common.directories);
    let mut visit = Visit { room, how, unsaid: how.say.clone(), shown: 0, game };
    let name = text::clean_name(visit.room.name());
    let (here, words) = match visit.room.members().len() {
        0 | 1 if matches!(since, Since::Opening) => {
            ("opened", format!("{name} is open. You are the first; others can come in now."))
        }
        // Who else is here comes right after the door has opened.
        0 | 1 => ("joined", format!("You are in {name}.")),
        2 => ("joined", format!("You are in {name} with one other.")),
        count => ("joined", format!("You are in {name} with {} others.", count - 1)),
    };
    visit.tell(json!({"event": here, "room": name, "ticket": ticket}), &format!("{words}\nticket: {ticket}"));
    if let Some(code) = how.qr.then(|| QrSquare::of(&visit.room.ticket())).flatten() {
        code.lines().iter().for_each(|line| print::line(line));
    }
    if let Since::Saying(since) = since {
        return visit.say_and_leave(since);
    }
    let typed = typed();
    let interrupted = interrupted();
    let started = Instant::now();
    while !interrupted.load(Ordering::Relaxed) && how.seconds.is_none_or(|seconds| started.elapsed() < seconds) {
        let events = visit.room.poll(Instant::now());
        visit.take_in(events)?;
        visit.watch_game()?;
        visit.start_when_ready()?;
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
                RoomEvent::Changed | RoomEvent::GameBegins(_) => {}
                RoomEvent::Seated => self.tell(json!({"event": "seated"}), "You have a seat."),
                RoomEvent::NoSeat(why) => self.tell(json!({"event": "no_seat", "why": why}), &why),
                RoomEvent::Removed(by) => return Err(Trouble::failed(format!("{by}, whose room this is, removed you from it."))),
                RoomEvent::GameOpening(name) => {
                    self.tell(json!({"event": "game_opening", "by": name}), &format!("{name} is opening the game."));
                }
                RoomEvent::GameOff(why) => self.tell(json!({"event": "game_off", "why": why}), &why),
                RoomEvent::Countdown(_) => {
                    let seconds = start::COUNTDOWN.as_secs();
                    self.tell(
                        json!({"event": "countdown", "seconds": seconds}),
                        &format!("The game starts in {seconds} seconds."),
                    );
                }
                RoomEvent::JoinGame(handover) => {
                    self.game.join(&mut self.room, &handover).map_err(Trouble::failed)?;
                    self.tell_game();
                }
                RoomEvent::OpenGame => {
                    self.game.open(&mut self.room).map_err(Trouble::failed)?;
                    self.tell_game();
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
            Err(SayError::TooFast | SayError::SlowMode { .. }) => {}
            Err(error) => return Err(Trouble::failed(error)),
        }
        Ok(())
    }

    fn tell_game(&self) {
        let name = self.room.facts().map(|facts| facts.game.clone()).unwrap_or_default();
        self.tell(json!({"event": "game", "name": name}), &format!("{name} starts."));
    }

    fn watch_game(&mut self) -> Result<(), Trouble> {
        let (events, told) = self.game.poll(Some(&mut self.room));
        for event in events {
            match event {
                LaunchEvent::Building(words) => self.tell(json!({"event": "building", "words": words}), &words),
                LaunchEvent::Started | LaunchEvent::Ticket(_) => {}
                LaunchEvent::Ended => self.tell(json!({"event": "game_over"}), "The game is over."),
                LaunchEvent::Failed(why) | LaunchEvent::Refused(why) => return Err(Trouble::failed(why)),
            }
        }
        self.take_in(told)
    }

    /// Presses Start once as many others are ready as was said.
    fn start_when_ready(&mut self) -> Result<(), Trouble> {
        let Some(wanted) = self.how.start else { return Ok(()) };
        let others = self.room.members();
        let ready = others.iter().filter(|member| !member.me && member.ready).count();
        let waits = others.iter().any(|member| !member.me && member.seated && !member.ready);
        if ready < wanted || waits || self.room.is_starting() || self.game.is_on() {
            return Ok(());
        }
        let mut round = [0; 8];
        getrandom::fill(&mut round).map_err(Trouble::failed)?;
        let events = self.room.start_game(u64::from_le_bytes(round), Instant::now());
        self.take_in(events)
    }

    /// Says what is to be said as soon as somebody is there, and leaves when it was taken.
    fn say_and_leave(mut self, since: Instant) -> Result<(), Trouble> {
        while !self.unsaid.is_empty() {
            if since.elapsed() > SAY_PATIENCE {
                self.room.leave(GOODBYE);
                return Err(Trouble::failed("Nobody was there to hear it. Try again when somebody is in the room."));
            }
            let events = self.room.poll(Instant::now());
            self.take_in(events)?;
            self.speak()?;
            sleep(EVERY);
        }
        // What was said last is on its way, and comes back to us when it is in the log.
        let said = Instant::now();
        while self.shown == 0 && said.elapsed() < GOODBYE {
            let events = self.room.poll(Instant::now());
            self.take_in(events)?;
            sleep(EVERY);
        }
        self.room.leave(GOODBYE);
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
