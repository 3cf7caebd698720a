//! The room's game: agreed, counted down, handed over, begun by all at the same moment, joined late, and come back from.

use std::time::{Duration, Instant};

use peerflock::{MeshTime, PeerId, Ticket};

use super::{Room, RoomEvent};
use crate::seats::NoSeat;
use crate::start::{self, Handover, StartAction, WhyNot};

/// How long after the hand-over all begin, on the room's clock: long enough for it to reach everybody.
const BEGINS_AFTER: Duration = Duration::from_millis(600);
/// Nobody waits longer than this for that moment, whatever a clock says.
const WAITS_MAX: Duration = Duration::from_secs(3);

impl Room {
    /// Asks everyone whether to start the game; `round` is a fresh random number. What comes of it arrives from
    /// [`poll`](Self::poll).
    pub fn start_game(&mut self, round: u64, now: Instant) -> Vec<RoomEvent> {
        if self.card.watches || matches!(self.seat(), Err(NoSeat::Taken | NoSeat::Closed)) {
            return vec![RoomEvent::NoSeat(self.no_seat_words())];
        }
        // Who watches is not asked; who has just come and not sat down yet is.
        let seated = self.seated();
        let stands = |peer: &PeerId| self.known.get(peer).is_none_or(|(_, card)| card.claim.is_none() && !card.watches);
        let members = self.members();
        let players = members.iter().filter(|member| !member.me && (seated.contains(&member.peer) || stands(&member.peer)));
        let others: Vec<(PeerId, bool)> = players.map(|member| (member.peer, member.ready)).collect();
        let actions = self.starting.propose(round, &others, now);
        self.act(actions)
    }

    /// Stops the countdown, for all. They are told who did it. Once the countdown is over, nothing happens.
    pub fn cancel_start(&mut self) -> Vec<RoomEvent> {
        let actions = self.starting.cancel();
        self.act(actions)
    }

    /// How long it still counts down; `None` while it does not.
    pub fn countdown(&self, now: Instant) -> Option<Duration> {
        self.starting.counts_until().map(|until| until.saturating_duration_since(now))
    }

    /// The game that [`RoomEvent::OpenGame`] asked for is open. Of `handover` the mesh, the secret and the ticket are yours to say; the
    /// room adds the rest.
    pub fn game_opened(&mut self, handover: Handover) -> Vec<RoomEvent> {
        let settings = self.card.room.as_ref().map(|facts| facts.settings.clone()).unwrap_or_default();
        let begins = MeshTime(self.mesh.now().0.saturating_add(BEGINS_AFTER.as_micros() as u64));
        let handover = Handover { players: self.seated(), settings, begins, ..handover };
        let actions = self.starting.opened(handover);
        let told = actions.iter().find_map(|action| match action {
            StartAction::Send(_, start::StartMessage::Go { handover, .. }) => Some(handover.clone()),
            _ => None,
        });
        self.due = told.map(|handover| (handover, Instant::now() + WAITS_MAX, true));
        self.enter_game();
        self.act(actions)
    }

    /// The game that [`RoomEvent::OpenGame`] asked for did not open.
    pub fn game_failed(&mut self, why: &str) -> Vec<RoomEvent> {
        let actions = self.starting.failed(why);
        self.act(actions)
    }

    /// Our own game has this ticket: who comes later can join by it, though whoever opened the game may be gone.
    pub fn game_ticket(&mut self, ticket: &Ticket) {
        self.starting.ticket(&ticket.to_string());
    }

    /// Whether others play the room's game, and we could [join](Self::join_running) it.
    pub fn can_join_running(&self) -> bool {
        !self.card.playing && self.known.values().any(|(_, card)| card.playing)
    }

    /// Asks one of those who play how to join the game that is under way; [`RoomEvent::JoinGame`] is the answer. Asked again, it is the
    /// next one's turn.
    pub fn join_running(&mut self) -> Vec<RoomEvent> {
        let playing: Vec<PeerId> = self.known.iter().filter(|(_, (_, card))| card.playing).map(|(peer, _)| *peer).collect();
        if playing.is_empty() || self.card.playing {
            return Vec::new();
        }
        let whom = playing[self.asked % playing.len()];
        self.asked = self.asked.wrapping_add(1);
        let actions = self.starting.knock(whom);
        self.act(actions)
    }

    /// The game is over for us, whatever ended it: we are back in the room.
    pub fn game_over(&mut self) {
        self.starting.game_over();
        self.due = None;
        if self.card.playing {
            self.card.playing = false;
            self.show_card();
        }
    }

    /// Tells of the game when the moment has come that was agreed for all.
    pub(super) fn begin_together(&mut self, now: Instant, events: &mut Vec<RoomEvent>) {
        let at = self.mesh.now();
        if let Some((handover, _, ours)) = self.due.take_if(|(handover, latest, _)| at >= handover.begins || now >= *latest) {
            events.push(if ours { RoomEvent::GameBegins(handover) } else { RoomEvent::JoinGame(handover) });
        }
    }

    fn enter_game(&mut self) {
        (self.card.ready, self.card.playing) = (false, true);
        self.show_card();
    }

    /// Does what starting the game asks for, and tells the rest.
    pub(super) fn act(&mut self, actions: Vec<StartAction>) -> Vec<RoomEvent> {
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
                    self.due = Some((handover, Instant::now() + WAITS_MAX, false));
                    self.enter_game();
                }
                StartAction::Waiting(starter) => events.push(RoomEvent::GameOpening(self.name_of(starter))),
                StartAction::Counting(until) => events.push(RoomEvent::Countdown(until)),
                StartAction::Off(why) => events.push(RoomEvent::GameOff(self.words(&why))),
            }
        }
        events
    }

    /// Why the game does not start, with names.
    fn words(&self, why: &WhyNot) -> String {
        let names = |peers: &[PeerId]| peers.iter().map(|peer| self.name_of(*peer)).collect::<Vec<_>>().join(", ");
        match why {
            WhyNot::NotReady(peers) => format!("Not ready yet: {}. The game starts when everybody is.", names(peers)),
            WhyNot::Silent(peers) => format!("No answer from {}. Try again in a moment.", names(peers)),
            WhyNot::Canceled(peer) if *peer == self.mesh.id() => "You stopped the countdown.".into(),
            WhyNot::Canceled(peer) => format!("{} stopped the countdown.", self.name_of(*peer)),
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
