//! What the terminal's lobby shows, and what keys do to it.

use std::time::{Duration, Instant};

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use peerflock::directory::DirectoryAddress;
use peerflock::resolve::Browser;
use peerflock::{FoundMesh, Interface, PeerMeshBuilder, StartingMesh, Ticket};
use peerflock_lobby::browse::{in_order, quick_match};
use peerflock_lobby::{
    Filter, LaunchEvent, QrSquare, Room, RoomError, RoomEvent, RoomGame, RoomInfo, RoomOptions, Settings, Stage, launch, text,
};
use unicode_segmentation::UnicodeSegmentation;

/// How long leaving a room may take: the time to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);
/// How long a notice stays.
const NOTICE_STAYS: Duration = Duration::from_secs(8);
/// Most that can be typed into one line, in bytes: more than any invitation has.
const TYPED_BYTES_MAX: usize = 4_096;
/// Seats of a room that is opened here.
const SEATS: u16 = 8;

/// Everything.
pub(super) struct Lobby {
    player: String,
    interface: Option<Interface>,
    directories: Vec<DirectoryAddress>,
    pub(super) settings: Settings,
    browser: Browser,
    pub(super) found: Vec<(FoundMesh, RoomInfo)>,
    pub(super) filter: Filter,
    /// The line of the list that keys are about.
    pub(super) chosen: usize,
    pub(super) prompt: Option<Prompt>,
    entering: Option<(StartingMesh, RoomOptions, Option<Ask>)>,
    pub(super) visit: Option<Visit>,
    pub(super) notice: Option<(String, Instant)>,
    done: bool,
}

/// Inside a room.
pub(super) struct Visit {
    pub(super) room: Room,
    pub(super) game: RoomGame,
    /// What is typed, to be said.
    pub(super) line: String,
    pub(super) status: String,
    pub(super) code: Option<QrSquare>,
    remembered: bool,
}

/// A question, and what is typed so far.
pub(super) struct Prompt {
    pub(super) ask: Ask,
    pub(super) typed: String,
    pub(super) wrong: Option<String>,
}

/// What is asked.
#[derive(Clone)]
pub(super) enum Ask {
    /// What to look for.
    Search,
    /// The name of a room to be opened.
    RoomName,
    /// The password for it; empty for none.
    NewPassword { name: String },
    /// An invitation.
    Invite,
    /// The password of a room on the list.
    Password { found: Box<FoundMesh> },
    /// The password of a room that an invitation leads to.
    TicketPassword { ticket: Ticket },
}

impl Ask {
    pub(super) fn is_secret(&self) -> bool {
        matches!(self, Self::NewPassword { .. } | Self::Password { .. } | Self::TicketPassword { .. })
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Search => "Search for a room, a game or a mode".into(),
            Self::RoomName => "A name for your room".into(),
            Self::NewPassword { name } => format!("A password for {name}; leave it empty to let anybody in"),
            Self::Invite => "Paste an invitation".into(),
            Self::Password { found } => format!("The password of {}", RoomInfo::of(found).name),
            Self::TicketPassword { ticket } => format!("The password of {}", text::clean_name(ticket.name())),
        }
    }
}

impl Lobby {
    pub(super) fn new(
        player: &str,
        interface: Option<Interface>,
        directories: Vec<DirectoryAddress>,
        settings: Settings,
        browser: Browser,
    ) -> Self {
        Self {
            player: player.to_owned(),
            interface,
            directories,
            settings,
            browser,
            found: Vec::new(),
            filter: Filter::default(),
            chosen: 0,
            prompt: None,
            entering: None,
            visit: None,
            notice: None,
            done: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn is_entering(&self) -> bool {
        self.entering.is_some()
    }

    /// Says goodbye where somebody would miss us.
    pub(super) fn leave(&mut self) {
        if let Some(visit) = self.visit.take() {
            visit.room.leave(GOODBYE);
        }
    }

    /// The lines of the list, in their order.
    pub(super) fn shown(&self) -> Vec<&RoomInfo> {
        let mut shown: Vec<&RoomInfo> = self.found.iter().map(|(_, info)| info).filter(|info| self.filter.fits(info)).collect();
        in_order(&mut shown, |info| info, &self.settings.favorites);
        shown
    }

    /// Time passes: what is in the air, at the door and in the room.
    pub(super) fn pass(&mut self, now: Instant) {
        self.notice.take_if(|(_, until)| now >= *until);
        self.found = self.browser.snapshot().into_iter().map(|found| (found.clone(), RoomInfo::of(&found))).collect();
        self.chosen = self.chosen.min(self.shown().len().saturating_sub(1));
        self.enter();
        let Some(visit) = &mut self.visit else { return };
        let events = visit.room.poll(now);
        let (launched, told) = visit.game.poll(Some(&mut visit.room));
        if !visit.remembered && visit.room.facts().is_some() {
            visit.remembered = true;
            let game = visit.room.facts().map(|facts| facts.game.clone()).unwrap_or_default();
            self.settings.visited(&game, &visit.room.ticket());
            self.remember();
        }
        for event in launched {
            self.hear_game(event);
        }
        events.into_iter().chain(told).for_each(|event| self.hear(event));
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            self.done = true;
        } else if self.entering.is_some() {
            if key.code == KeyCode::Esc {
                self.entering = None;
            }
        } else if self.prompt.is_some() {
            self.press_in_prompt(key.code);
        } else if self.visit.is_some() {
            self.press_in_room(key.code);
        } else {
            self.press_in_list(key.code);
        }
    }

    fn press_in_list(&mut self, key: KeyCode) {
        let count = self.shown().len().max(1);
        match key {
            KeyCode::Char('q') | KeyCode::Esc if self.filter.is_on() && key == KeyCode::Esc => self.filter = Filter::default(),
            KeyCode::Char('q') | KeyCode::Esc => self.done = true,
            KeyCode::Up => self.chosen = (self.chosen + count - 1) % count,
            KeyCode::Down => self.chosen = (self.chosen + 1) % count,
            KeyCode::Enter => {
                let chosen = self.shown().get(self.chosen).map(|info| info.mesh);
                if let Some(found) = chosen.and_then(|mesh| self.found.iter().find(|(found, _)| found.mesh == mesh)) {
                    let found = found.0.clone();
                    self.join(found);
                }
            }
            KeyCode::Char('n') => {
                let name = text::clean_name(&format!("{}'s room", self.player));
                self.prompt = Some(Prompt { ask: Ask::RoomName, typed: name, wrong: None });
            }
            KeyCode::Char('i') => self.ask(Ask::Invite, None),
            KeyCode::Char('/') => self.ask(Ask::Search, None),
            KeyCode::Char('m') => self.quick(),
            KeyCode::Char('f') => {
                if let Some(name) = self.shown().get(self.chosen).map(|info| info.name.clone()) {
                    self.settings.toggle_favorite(&name);
                    self.remember();
                }
            }
            KeyCode::Char('o') => self.filter.open = !self.filter.open,
            KeyCode::Char('s') => self.filter.free = !self.filter.free,
            _ => {}
        }
    }

    fn press_in_prompt(&mut self, key: KeyCode) {
        let Some(prompt) = &mut self.prompt else { return };
        match key {
            KeyCode::Esc => {
                if matches!(prompt.ask, Ask::Search) {
                    self.filter.search.clear();
                }
                self.prompt = None;
            }
            KeyCode::Enter => {
                let typed = std::mem::take(&mut prompt.typed);
                let ask = prompt.ask.clone();
                self.answer(ask, &typed);
            }
            key => edit(&mut prompt.typed, key),
        }
        // What is looked for is looked for at once.
        if let Some(Prompt { ask: Ask::Search, typed, .. }) = &self.prompt {
            self.filter.search.clone_from(typed);
        }
    }

    fn press_in_room(&mut self, key: KeyCode) {
        let Some(visit) = &mut self.visit else { return };
        match key {
            KeyCode::Esc if visit.code.is_some() => visit.code = None,
            KeyCode::Esc => self.leave(),
            KeyCode::F(2) => visit.room.set_ready(!visit.room.is_ready()),
            KeyCode::F(3) => self.start(),
            KeyCode::F(4) => {
                visit.code = match visit.code.take() {
                    Some(_) => None,
                    None => QrSquare::of(&visit.room.ticket()),
                };
            }
            KeyCode::Enter => {
                let line = visit.line.clone();
                match visit.room.say(&line) {
                    Ok(()) => visit.line.clear(),
                    Err(_) if line.trim().is_empty() => {}
                    // What was typed stays, to be sent again.
                    Err(error) => self.tell(error.to_string()),
                }
            }
            key => edit(&mut visit.line, key),
        }
    }

    fn ask(&mut self, ask: Ask, wrong: Option<String>) {
        self.prompt = Some(Prompt { ask, typed: String::new(), wrong });
    }

    fn tell(&mut self, words: impl Into<String>) {
        self.notice = Some((words.into(), Instant::now() + NOTICE_STAYS));
    }

    fn remember(&self) {
        if let Err(error) = self.settings.save() {
            tracing::warn!(%error, "the settings could not be saved");
        }
    }

    fn answer(&mut self, ask: Ask, typed: &str) {
        self.prompt = None;
        let mut options = self.options();
        match ask.clone() {
            Ask::Search => {}
            Ask::RoomName if text::clean_name(typed).is_empty() => self.ask(ask, Some(RoomError::NoName.to_string())),
            Ask::RoomName => self.ask(Ask::NewPassword { name: text::clean_name(typed) }, None),
            Ask::NewPassword { name } => {
                let builder = options.create(&name, Some(typed), launch::GAMES[0].name, SEATS);
                self.begin(builder, options, None);
            }
            Ask::Invite => match typed.trim().parse::<Ticket>() {
                Ok(ticket) if ticket.needs_password() => self.ask(Ask::TicketPassword { ticket }, None),
                Ok(ticket) => {
                    let builder = options.join_by_ticket(&ticket, None);
                    self.begin(builder, options, None);
                }
                Err(_) => self.ask(ask, Some("That is no invitation. It begins with peerflock1; paste all of it.".into())),
            },
            Ask::Password { found } => {
                options.watch = RoomInfo::of(&found).is_full();
                let builder = options.join(&found, Some(typed));
                self.begin(builder, options, Some(ask));
            }
            Ask::TicketPassword { ticket } => {
                let builder = options.join_by_ticket(&ticket, Some(typed));
                self.begin(builder, options, Some(ask));
            }
        }
    }

    fn join(&mut self, found: FoundMesh) {
        let info = RoomInfo::of(&found);
        if info.stage == Stage::Playing {
            return self.tell("A game is played there. Who is in its room can join it; or start the game itself.");
        }
        if found.locked {
            return self.ask(Ask::Password { found: Box::new(found) }, None);
        }
        let mut options = self.options();
        options.watch = info.is_full();
        let builder = options.join(&found, None);
        self.begin(builder, options, None);
    }

    fn quick(&mut self) {
        let game = launch::GAMES[0].name;
        let best = quick_match(self.found.iter().map(|(_, info)| info), game, "").map(|info| info.mesh);
        match best.and_then(|mesh| self.found.iter().find(|(found, _)| found.mesh == mesh)) {
            Some((found, _)) => self.join(found.clone()),
            None => {
                let mut options = self.options();
                let builder = options.create(&format!("{}'s room", self.player), None, game, SEATS);
                self.begin(builder, options, None);
            }
        }
    }

    fn options(&self) -> RoomOptions {
        let mut options = RoomOptions::new(self.player.clone()).on(self.interface.clone());
        options.directories.clone_from(&self.directories);
        options.color = self.settings.color;
        options.identity = self.settings.keep_identity.then(|| self.settings.identity());
        options
    }

    fn begin(&mut self, builder: Result<PeerMeshBuilder, RoomError>, options: RoomOptions, again: Option<Ask>) {
        match (builder, again) {
            (Ok(builder), again) => self.entering = Some((builder.start_in_background(), options, again)),
            (Err(error), Some(again)) => self.ask(again, Some(error.to_string())),
            (Err(error), None) => self.tell(error.to_string()),
        }
    }

    /// Whether the door has opened.
    fn enter(&mut self) {
        let Some(outcome) = self.entering.as_ref().and_then(|(mesh, ..)| mesh.try_ready()) else { return };
        let Some((_, options, again)) = self.entering.take() else { return };
        match outcome {
            Ok(mesh) => {
                let game = RoomGame::new(&self.player, self.interface.clone()).at(&self.directories);
                let (line, status) = (String::new(), String::new());
                self.visit = Some(Visit { room: Room::new(mesh, &options), game, line, status, code: None, remembered: false });
            }
            Err(error) => {
                let error = RoomError::from(error);
                let again = again.filter(|_| matches!(error, RoomError::WrongPassword(_) | RoomError::LockedOut(_)));
                match again {
                    Some(again) => self.ask(again, Some(error.to_string())),
                    None => self.tell(error.to_string()),
                }
            }
        }
    }

    /// Starts the game, stops the countdown, or goes after those who play.
    fn start(&mut self) {
        let Some(visit) = &mut self.visit else { return };
        let now = Instant::now();
        let events = if visit.game.is_on() {
            Vec::new()
        } else if visit.room.countdown(now).is_some() {
            visit.room.cancel_start()
        } else if visit.room.can_join_running() {
            visit.room.join_running()
        } else {
            let mut round = [0; 8];
            match getrandom::fill(&mut round) {
                Ok(()) => visit.room.start_game(u64::from_le_bytes(round), now),
                Err(error) => return self.tell(format!("This system gives no random numbers: {error}")),
            }
        };
        events.into_iter().for_each(|event| self.hear(event));
    }

    fn hear(&mut self, event: RoomEvent) {
        let Some(visit) = &mut self.visit else { return };
        match event {
            RoomEvent::OpenGame => {
                if let Err(why) = visit.game.open(&mut visit.room) {
                    self.tell(why);
                }
            }
            RoomEvent::JoinGame(handover) => {
                if let Err(why) = visit.game.join(&mut visit.room, &handover) {
                    self.tell(why);
                }
            }
            RoomEvent::GameOpening(name) => visit.status = format!("{name} is opening the game..."),
            RoomEvent::GameOff(why) | RoomEvent::NoSeat(why) => {
                visit.status.clear();
                self.tell(why);
            }
            RoomEvent::Removed(by) => {
                self.leave();
                self.tell(format!("{by}, whose room that is, removed you from it."));
            }
            RoomEvent::Came(_)
            | RoomEvent::Went(_)
            | RoomEvent::Chat
            | RoomEvent::Seated
            | RoomEvent::Changed
            | RoomEvent::Countdown(_)
            | RoomEvent::GameBegins(_) => {}
        }
    }

    fn hear_game(&mut self, event: LaunchEvent) {
        let Some(visit) = &mut self.visit else { return };
        match event {
            LaunchEvent::Building(words) => visit.status = format!("Building the game: {words}"),
            LaunchEvent::Started => visit.status = "The game is opening...".into(),
            LaunchEvent::Ticket(_) => visit.status = "The game is running.".into(),
            LaunchEvent::Ended => visit.status.clear(),
            LaunchEvent::Failed(why) | LaunchEvent::Refused(why) => {
                visit.status.clear();
                self.tell(why);
            }
        }
    }
}

/// What a key does to a line that is typed.
fn edit(line: &mut String, key: KeyCode) {
    match key {
        KeyCode::Char(letter) if text::may_be_typed(letter) && line.len() + letter.len_utf8() <= TYPED_BYTES_MAX => {
            line.push(letter);
        }
        KeyCode::Backspace => {
            let end = line.grapheme_indices(true).next_back().map_or(0, |(start, _)| start);
            line.truncate(end);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
