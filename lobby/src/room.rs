//! A room: a mesh like any other, in which players meet before they play. It outlives whoever opened it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use peerflock::{Event, Listing, Member, PeerId, PeerMesh, Profile, Target, Ticket};

use crate::browse::{self, Stage};
use crate::card::{COLORS, Card, RoomFacts};
use crate::chat::{self, Chat, Heard, SayError, Speaker};
use crate::start::{self, Handover, StartAction, StartMessage, Starting, WhyNot};
use crate::text;

mod options;

pub use options::{RoomError, RoomOptions};

/// Members who show up this soon after we joined others were there before us: nobody is told that they came.
const GREETING_GRACE: Duration = Duration::from_millis(1_500);
/// What to call somebody who gave no name.
const NAMELESS: &str = "somebody";

/// A room that we are in. [`poll`](Self::poll) it a few times a second; everything else returns at once.
#[derive(Debug)]
pub struct Room {
    mesh: PeerMesh,
    player: String,
    card: Card,
    chat: Chat,
    starting: Starting,
    /// Who is here, as last told: kept so that a farewell has a name.
    known: BTreeMap<PeerId, (String, Card)>,
    /// Until when whoever shows up was there before us.
    greeting_until: Instant,
}

/// Somebody in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomMember {
    /// Whose key.
    pub peer: PeerId,
    /// What to call them: clean, and told apart where two chose the same.
    pub name: String,
    /// Ready to start.
    pub ready: bool,
    /// Which of the [`COLORS`].
    pub color: u8,
    /// Whether that is ourselves.
    pub me: bool,
    /// The round-trip time, where a link of ours goes straight to them.
    pub round_trip: Option<Duration>,
}

/// What happened in the room.
#[derive(Clone, Debug, PartialEq)]
pub enum RoomEvent {
    /// Somebody came.
    Came(String),
    /// Somebody went.
    Went(String),
    /// The log has new lines at its end.
    Chat,
    /// Somebody changed name, color or readiness, or the room's facts became known.
    Changed,
    /// All agreed and we are the starter: open the game, then tell [`Room::game_opened`] or [`Room::game_failed`].
    OpenGame,
    /// All agreed and the game is open: join it.
    JoinGame(Handover),
    /// All agreed; this one's game is opening.
    GameOpening(String),
    /// The game does not start; words for the player.
    GameOff(String),
}

impl Room {
    /// The room that `mesh`, started with [`RoomOptions`], is.
    pub fn new(mesh: PeerMesh, options: &RoomOptions) -> Self {
        let card = Card { ready: false, color: mesh.id().0[0] % COLORS, room: options.facts() };
        let now = Instant::now();
        let alone = mesh.members().len() < 2;
        let room = Self {
            player: options.player_name(),
            card,
            chat: Chat::default(),
            starting: Starting::new(mesh.id()),
            known: BTreeMap::new(),
            greeting_until: if alone { now } else { now + GREETING_GRACE },
            mesh,
        };
        room.show_card();
        room
    }

    /// The room's name.
    pub fn name(&self) -> &str {
        self.mesh.name()
    }

    /// What the room is about; `None` for the moment between joining by ticket and hearing of it.
    pub fn facts(&self) -> Option<&RoomFacts> {
        self.card.room.as_ref()
    }

    /// An invitation, to be passed on. Somebody who has it still needs the password, if there is one.
    pub fn ticket(&self) -> Ticket {
        self.mesh.ticket()
    }

    /// The mesh underneath.
    pub fn mesh(&self) -> &PeerMesh {
        &self.mesh
    }

    /// Who is here: ourselves first, then the others by name.
    pub fn members(&self) -> Vec<RoomMember> {
        let mut members: Vec<RoomMember> = self.mesh.members().into_iter().map(|member| self.member(member)).collect();
        members.sort_by(|left, right| (!left.me, &left.name, left.peer).cmp(&(!right.me, &right.name, right.peer)));
        for index in 0..members.len() {
            let name = &members[index].name;
            if members.iter().filter(|other| other.name == *name).count() > 1 && !members[index].me {
                members[index].name = format!("{name} {}", &members[index].peer.short());
            }
        }
        members
    }

    /// What was said and what happened.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Whether we are ready.
    pub fn is_ready(&self) -> bool {
        self.card.ready
    }

    /// Whether a start of the game is being agreed or under way.
    pub fn is_starting(&self) -> bool {
        self.starting.is_under_way()
    }

    /// Says that we are ready, or not.
    pub fn set_ready(&mut self, ready: bool) {
        if self.card.ready != ready {
            self.card.ready = ready;
            self.show_card();
        }
    }

    /// Says `line` to everyone.
    ///
    /// # Errors
    /// See [`SayError`]. Nothing was said then.
    pub fn say(&mut self, line: &str, now: Instant) -> Result<(), SayError> {
        let payload = self.chat.say(line, now)?;
        // Ourselves included: our line takes its place in the log where the mesh puts it.
        self.mesh.send(Target::AllAndMe, chat::TOPIC, payload)?;
        Ok(())
    }

    /// Asks everyone whether to start the game; `round` is a fresh random number. What comes of it arrives from
    /// [`poll`](Self::poll).
    pub fn start_game(&mut self, round: u64, now: Instant) -> Vec<RoomEvent> {
        let members = self.members();
        let others: Vec<(PeerId, bool)> = members.iter().filter(|member| !member.me).map(|m| (m.peer, m.ready)).collect();
        let actions = self.starting.propose(round, &others, now);
        self.act(actions)
    }

    /// The game that [`RoomEvent::OpenGame`] asked for is open.
    pub fn game_opened(&mut self, handover: Handover) -> Vec<RoomEvent> {
        let actions = self.starting.opened(handover);
        self.set_ready(false);
        self.act(actions)
    }

    /// The game that [`RoomEvent::OpenGame`] asked for did not open.
    pub fn game_failed(&mut self, why: &str) -> Vec<RoomEvent> {
        let actions = self.starting.failed(why);
        self.act(actions)
    }

    /// Takes in what happened since the last call.
    pub fn poll(&mut self, now: Instant) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        for event in self.mesh.try_events() {
            self.hear(event, now, &mut events);
        }
        let actions = self.starting.tick(now);
        events.extend(self.act(actions));
        self.settle(&mut events);
        events
    }

    /// Says goodbye and waits until the others have heard it, or `patience` is over.
    pub fn leave(self, patience: Duration) {
        self.mesh.leave_now(patience);
    }

    fn hear(&mut self, event: Event, now: Instant, events: &mut Vec<RoomEvent>) {
        match event {
            Event::PeerJoined { peer, profile } => {
                let known = read(&profile);
                let name = known.0.clone();
                let is_new = self.known.insert(peer, known).is_none();
                if is_new && now >= self.greeting_until {
                    self.chat.note(format!("{name} came in"));
                    events.extend([RoomEvent::Came(name), RoomEvent::Chat]);
                } else {
                    events.push(RoomEvent::Changed);
                }
                let actions = self.starting.roster_changed(peer, false);
                events.extend(self.act(actions));
            }
            Event::PeerChanged { peer, profile } => {
                self.known.insert(peer, read(&profile));
                events.push(RoomEvent::Changed);
            }
            Event::PeerLeft { peer, .. } => {
                let name = self.known.remove(&peer).map_or_else(|| NAMELESS.to_owned(), |(name, _)| name);
                self.chat.forget(peer);
                self.chat.note(format!("{name} left"));
                events.extend([RoomEvent::Went(name), RoomEvent::Chat]);
                let actions = self.starting.roster_changed(peer, true);
                events.extend(self.act(actions));
            }
            Event::Message { from, topic: chat::TOPIC, payload, .. } => self.hear_line(from, &payload, now, events),
            Event::Message { from, topic: start::TOPIC, payload, .. } if from != self.mesh.id() => {
                if let Some(message) = StartMessage::decode(&payload) {
                    let actions = self.starting.hear(from, message, self.card.ready, now);
                    events.extend(self.act(actions));
                }
            }
            _ => {}
        }
    }

    fn hear_line(&mut self, from: PeerId, payload: &[u8], now: Instant, events: &mut Vec<RoomEvent>) {
        let me = from == self.mesh.id();
        let (name, color) = match self.known.get(&from) {
            Some((name, card)) => (name.clone(), card.color),
            None if me => (self.player.clone(), self.card.color),
            None => (self.name_of(from), 0),
        };
        match self.chat.hear(Speaker { peer: from, name: name.clone(), color, me }, payload, now) {
            Heard::HeldBack { first: true } => self.chat.note(format!("{name} is writing too fast; some lines are not shown")),
            Heard::HeldBack { first: false } | Heard::Nothing => return,
            Heard::Line => {}
        }
        events.push(RoomEvent::Chat);
    }

    /// Does what starting the game asks for, and tells the rest.
    fn act(&mut self, actions: Vec<StartAction>) -> Vec<RoomEvent> {
        let mut events = Vec::new();
        for action in actions {
            match action {
                StartAction::Send(to, message) => {
                    if let Err(error) = self.mesh.send(to, start::TOPIC, message.encode()) {
                        tracing::debug!(%error, "a start message could not be sent");
                    }
                }
                StartAction::Open => events.push(RoomEvent::OpenGame),
                StartAction::Join(handover) => {
                    self.set_ready(false);
                    events.push(RoomEvent::JoinGame(handover));
                }
                StartAction::Waiting(starter) => events.push(RoomEvent::GameOpening(self.name_of(starter))),
                StartAction::Off(why) => events.push(RoomEvent::GameOff(self.words(&why))),
            }
        }
        events
    }

    /// Learns the room's facts from the others if we do not know them, and takes a color that nobody before us has.
    fn settle(&mut self, events: &mut Vec<RoomEvent>) {
        let before = self.card.clone();
        if self.card.room.is_none() {
            self.card.room = self.known.values().find_map(|(_, card)| card.room.clone());
        }
        let me = self.mesh.id();
        if self.known.iter().any(|(peer, (_, card))| *peer < me && card.color == self.card.color) {
            let taken = |color: &u8| self.known.values().any(|(_, card)| card.color == *color);
            self.card.color = (0..COLORS).find(|color| !taken(color)).unwrap_or(self.card.color);
        }
        if self.card != before {
            self.show_card();
            events.push(RoomEvent::Changed);
        }
    }

    /// Shows our card to the members, and the room's facts to the network.
    fn show_card(&self) {
        self.mesh.set_profile(Profile { name: self.player.clone(), data: self.card.encode() });
        if let Some(facts) = &self.card.room {
            let game = browse::listed_game(&facts.game, Stage::Gathering);
            self.mesh.set_listing(Listing::new(game).players_max(facts.players_max.into()));
        }
    }

    fn member(&self, member: Member) -> RoomMember {
        let (name, card) = if member.me { (self.player.clone(), self.card.clone()) } else { read(&member.profile) };
        RoomMember { peer: member.peer, name, ready: card.ready, color: card.color, me: member.me, round_trip: member.rtt }
    }

    fn name_of(&self, peer: PeerId) -> String {
        // The mesh may have a member whose coming we have not been told of yet.
        let known = self.known.get(&peer).map(|(name, _)| name.clone());
        known
            .or_else(|| self.members().into_iter().find(|member| member.peer == peer).map(|member| member.name))
            .unwrap_or_else(|| NAMELESS.to_owned())
    }

    /// Why the game does not start, with names.
    fn words(&self, why: &WhyNot) -> String {
        let names = |peers: &[PeerId]| peers.iter().map(|peer| self.name_of(*peer)).collect::<Vec<_>>().join(", ");
        match why {
            WhyNot::NotReady(peers) => format!("Not ready yet: {}. The game starts when everybody is.", names(peers)),
            WhyNot::Silent(peers) => format!("No answer from {}. Try again in a moment.", names(peers)),
            why => {
                let mut words = why.to_string();
                if let Some(first) = words.get(..1).map(str::to_uppercase) {
                    words.replace_range(..1, &first);
                }
                words + "."
            }
        }
    }
}

/// A member's name and card, as far as they can be shown.
fn read(profile: &Profile) -> (String, Card) {
    let name = text::clean_name(&profile.name);
    (if name.is_empty() { NAMELESS.to_owned() } else { name }, Card::decode(&profile.data))
}

#[cfg(test)]
mod tests;
