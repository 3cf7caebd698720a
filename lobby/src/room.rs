//! A room: a mesh like any other, in which players meet before they play. It outlives whoever opened it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use peerflock::service::chat as talk;
use peerflock::{Event, Member, PeerId, PeerMesh, Profile, RemovalError, Ticket};

use crate::card::{self, COLORS, Card, RoomFacts};
use crate::chat::Chat;
use crate::seats::{self, NoSeat};
use crate::start::{self, Handover, StartMessage, Starting};
use crate::text;

mod game;
mod options;
mod sitting;
mod talking;

pub use options::{RoomError, RoomOptions, WATCHERS_MAX};

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
    /// The mesh's chat; `None` if the mesh was left before we could join it.
    talk: Option<talk::Chat>,
    /// When we claimed a seat, and what became of it, once told.
    claimed_at: Option<Instant>,
    seat_told: Option<bool>,
    owner: Option<PeerId>,
    starting: Starting,
    /// The game that all were told of and that has not begun yet, until when at the latest, and whether we opened it.
    due: Option<(Handover, Instant, bool)>,
    /// What comes of what we did, to be told at the next poll.
    told: Vec<RoomEvent>,
    /// How many sit, as the network was last told.
    listed: usize,
    /// How often we asked to be let into the game that is under way.
    asked: usize,
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
    /// Whether this one has a seat; who has none watches.
    pub seated: bool,
    /// Whether the room is this one's: who may [remove](Room::remove) others and [close](Room::close) it.
    pub owner: bool,
    /// The team.
    pub team: u8,
    /// Whether this one is in the game that the room started.
    pub playing: bool,
    /// What the game lets its players say of themselves.
    pub metadata: BTreeMap<String, String>,
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
    /// The log has new lines at its end, or lines of it were changed.
    Chat,
    /// We have a seat.
    Seated,
    /// We have no seat, and why; words for the player. We are still in the room, to watch, or until a seat is free.
    NoSeat(String),
    /// We were removed from the room, by this one. All that is left to do is to [leave](Room::leave) it.
    Removed(String),
    /// Somebody changed name, color or readiness, or the room's facts became known.
    Changed,
    /// All agreed, and the game starts when this moment has come, unless somebody stops it: see [`Room::cancel_start`].
    Countdown(Instant),
    /// The countdown is over and we are the starter: open the game, then tell [`Room::game_opened`] or [`Room::game_failed`].
    OpenGame,
    /// The game is open: join it. All are told at the same moment of the room's clock.
    JoinGame(Handover),
    /// The game that we opened begins: the others join it at this moment.
    GameBegins(Handover),
    /// All agreed; this one's game is opening.
    GameOpening(String),
    /// The game does not start; words for the player.
    GameOff(String),
}

impl Room {
    /// The room that `mesh`, started with [`RoomOptions`], is.
    pub fn new(mesh: PeerMesh, options: &RoomOptions) -> Self {
        let color = options.color.unwrap_or_else(|| mesh.id().0[0]) % COLORS;
        let room = options.facts();
        let card = Card { color, room, watches: options.watch, ..Card::default() };
        let now = Instant::now();
        let alone = mesh.members().len() < 2;
        let room = Self {
            player: options.player_name(),
            card,
            chat: Chat::default(),
            talk: talk::Chat::join(&mesh).inspect_err(|error| tracing::warn!(%error, "no chat in this room")).ok(),
            claimed_at: None,
            seat_told: None,
            owner: None,
            starting: Starting::new(mesh.id()),
            due: None,
            told: Vec::new(),
            asked: 0,
            listed: 0,
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
        let (seated, owner) = (self.seated(), self.owner());
        for member in &mut members {
            (member.seated, member.owner) = (seated.contains(&member.peer), owner == Some(member.peer));
        }
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

    /// Whether we are here only to watch: by choice, or as no seat was free.
    pub fn watches(&self) -> bool {
        self.card.watches || matches!(self.seat(), Err(NoSeat::Taken | NoSeat::Closed))
    }

    /// Whether a start of the game is being agreed or under way.
    pub fn is_starting(&self) -> bool {
        self.starting.is_under_way()
    }

    /// Says that we are ready, or not. Who takes it back stops the countdown.
    pub fn set_ready(&mut self, ready: bool) {
        if self.card.ready != ready {
            self.card.ready = ready;
            self.show_card();
            if !ready {
                let told = self.cancel_start();
                self.told.extend(told);
            }
        }
    }

    /// Changes something of the room for all: a map, a mode, whatever the game makes of it. An empty value takes the entry away. False
    /// if the room is not ours, or a limit of [`RoomFacts`] is in the way; nothing changed then.
    pub fn set_setting(&mut self, key: &str, value: &str) -> bool {
        let (true, Some(facts), Some((key, value))) =
            (self.owner() == Some(self.mesh.id()), self.card.room.clone(), card::entry(key, value))
        else {
            return false;
        };
        let mut settings = facts.settings.clone();
        if value.is_empty() {
            settings.remove(&key)
        } else {
            settings.insert(key, value)
        };
        let wanted = settings.len();
        let facts = facts.settings(settings);
        if facts.settings.len() != wanted {
            return false;
        }
        self.card.room = Some(facts);
        self.show_card();
        true
    }

    /// Takes this of the [`COLORS`]; one whom others have, too, may move on to another.
    pub fn set_color(&mut self, color: u8) {
        if self.card.color != color % COLORS {
            self.card.color = color % COLORS;
            self.show_card();
        }
    }

    /// Takes a team, of a number that the game gives a meaning.
    pub fn set_team(&mut self, team: u8) {
        if self.card.team != team {
            self.card.team = team;
            self.show_card();
        }
    }

    /// Says something of us to the others: a key and a value, within the limits of [`card`](crate::card). An empty value takes the
    /// entry away. False if a limit is in the way; nothing changed then.
    pub fn set_metadata(&mut self, key: &str, value: &str) -> bool {
        let Some((key, value)) = card::entry(key, value) else { return false };
        if value.is_empty() {
            self.card.metadata.remove(&key);
        } else if self.card.metadata.len() < card::METADATA_MAX || self.card.metadata.contains_key(&key) {
            self.card.metadata.insert(key, value);
        } else {
            return false;
        }
        self.show_card();
        true
    }

    /// Who owns the room: who has been in it for longest of those who play. When that one leaves, it is the next one.
    pub fn owner(&self) -> Option<PeerId> {
        seats::owner(&self.wishes())
    }

    /// Who has a seat, who came first, first.
    pub fn seated(&self) -> Vec<PeerId> {
        seats::seated(&self.wishes(), self.seats(), self.card.closed_from)
    }

    /// Closes the room to those who come from now on, or opens it again. False if it is not ours; nothing changed then. Who comes
    /// nevertheless may watch.
    pub fn close(&mut self, closed: bool) -> bool {
        if self.owner() != Some(self.mesh.id()) {
            return false;
        }
        self.card.closed_from = closed.then(|| seats::next_claim(&self.wishes()));
        self.show_card();
        true
    }

    /// Whether the owner closed the room to those who come.
    pub fn is_closed(&self) -> bool {
        self.card.closed_from.is_some()
    }

    /// Removes somebody for good: what that one knows no longer opens the room, under whatever name. Only the owner can. Invitations
    /// made before no longer work either; [`ticket`](Self::ticket) makes a new one.
    ///
    /// # Errors
    /// See [`RemovalError`]. Nobody was removed then.
    pub fn remove(&mut self, peer: PeerId) -> Result<(), RemovalError> {
        self.mesh.remove(&[peer])
    }

    /// Takes in what happened since the last call.
    pub fn poll(&mut self, now: Instant) -> Vec<RoomEvent> {
        let mut events = std::mem::take(&mut self.told);
        for event in self.mesh.try_events() {
            self.hear(event, now, &mut events);
        }
        while let Some(event) = self.talk.as_ref().and_then(talk::Chat::try_next) {
            self.hear_talk(event, &mut events);
        }
        let actions = self.starting.tick(now);
        events.extend(self.act(actions));
        self.begin_together(now, &mut events);
        self.settle(&mut events);
        self.sit_down(now, &mut events);
        let seated = self.seated().len();
        if seated != self.listed {
            self.listed = seated;
            self.show_listing();
        }
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
                self.chat.note(format!("{name} left"));
                events.extend([RoomEvent::Went(name), RoomEvent::Chat]);
                let actions = self.starting.roster_changed(peer, true);
                events.extend(self.act(actions));
            }
            Event::WeWereRemoved { by } => events.push(RoomEvent::Removed(self.name_of(by))),
            Event::Message { from, topic: start::TOPIC, payload, .. } if from != self.mesh.id() => {
                if let Some(message) = StartMessage::decode(&payload) {
                    let actions = self.starting.hear(from, message, self.card.ready, now);
                    events.extend(self.act(actions));
                }
            }
            _ => {}
        }
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
        self.show_listing();
    }

    fn show_listing(&self) {
        if let Some(facts) = &self.card.room {
            // Who watches is a member like the others, and takes no seat.
            let listing = options::listing(facts).players(self.seated().len()).public(self.mesh.listing().public);
            self.mesh.set_listing(listing);
        }
    }

    fn member(&self, member: Member) -> RoomMember {
        let (name, card) = if member.me { (self.player.clone(), self.card.clone()) } else { read(&member.profile) };
        let Card { ready, color, team, playing, metadata, .. } = card;
        let (peer, me, round_trip) = (member.peer, member.me, member.rtt);
        RoomMember { peer, name, ready, color, me, seated: false, owner: false, team, playing, metadata, round_trip }
    }

    fn name_of(&self, peer: PeerId) -> String {
        // The mesh may have a member whose coming we have not been told of yet.
        let known = self.known.get(&peer).map(|(name, _)| name.clone());
        known
            .or_else(|| self.members().into_iter().find(|member| member.peer == peer).map(|member| member.name))
            .unwrap_or_else(|| NAMELESS.to_owned())
    }
}

/// A member's name and card, as far as they can be shown.
fn read(profile: &Profile) -> (String, Card) {
    let name = text::clean_name(&profile.name);
    (if name.is_empty() { NAMELESS.to_owned() } else { name }, Card::decode(&profile.data))
}

#[cfg(test)]
mod tests;
