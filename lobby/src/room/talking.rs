//! What is said in the room: to all, to one, to a team, how fast, and what of it is shown.

use std::time::Duration;

use peerflock::PeerId;
use peerflock::service::chat::{self as talk, Audience, ChatEvent, ChatLine};

use super::{Room, RoomEvent};
use crate::chat::{Line, LineTo, SayError, Speaker};

impl Room {
    /// Says `line` to everyone.
    ///
    /// # Errors
    /// See [`SayError`]. Nothing was said then.
    pub fn say(&mut self, line: &str) -> Result<(), SayError> {
        self.talk()?.say(line).map(drop)
    }

    /// Says `line` to one member, sealed.
    ///
    /// # Errors
    /// See [`SayError`]. Nothing was said then.
    pub fn whisper(&mut self, to: PeerId, line: &str) -> Result<(), SayError> {
        self.talk()?.whisper(to, line)
    }

    /// Says `line` to those of our team.
    ///
    /// # Errors
    /// See [`SayError`]. Nothing was said then.
    pub fn say_to_team(&mut self, line: &str) -> Result<(), SayError> {
        let team = self.card.team;
        let mates: Vec<PeerId> = self.known.iter().filter(|(_, (_, card))| card.team == team).map(|(peer, _)| *peer).collect();
        self.talk()?.say_to_team(team, &mates, line)
    }

    /// The chat of the room's mesh, for what is not here: channels, edits, mutes, who is typing.
    ///
    /// # Errors
    /// [`SayError::Closed`] when the mesh was left.
    pub fn talk(&self) -> Result<&talk::Chat, SayError> {
        self.talk.as_ref().ok_or(SayError::Closed)
    }

    /// From now on each may say one line in so much time; `None` lets all talk as fast as they like again. Only the owner can; who owns
    /// the room after us goes on with it.
    ///
    /// # Errors
    /// [`SayError::NotModerator`] if the room is not ours. Nothing changed then.
    pub fn set_slow_mode(&mut self, every: Option<Duration>) -> Result<(), SayError> {
        self.talk()?.set_slow_mode(every)
    }

    /// The time between two lines of each, in slow mode.
    pub fn slow_mode(&self) -> Option<Duration> {
        self.talk.as_ref().and_then(talk::Chat::slow_mode)
    }

    pub(super) fn hear_talk(&mut self, event: ChatEvent, events: &mut Vec<RoomEvent>) {
        match event {
            ChatEvent::Said(line) => self.show(line, false),
            ChatEvent::Earlier(line) => self.show(line, true),
            ChatEvent::Edited(line) => {
                if let Some(id) = &line.id {
                    self.chat.amend(id, Some(line.text.clone()));
                }
            }
            ChatEvent::Deleted(id) => _ = self.chat.amend(&id, None),
            ChatEvent::SlowMode(Some(every)) => {
                self.chat.note(format!("slow mode: each of us says one line in {} s", every.as_secs()));
            }
            ChatEvent::SlowMode(None) => self.chat.note("slow mode is over"),
            ChatEvent::Flooding(peer) => {
                let name = self.name_of(peer);
                self.chat.note(format!("{name} is writing too fast; some lines are not shown"));
            }
            _ => return,
        }
        events.push(RoomEvent::Chat);
    }

    fn show(&mut self, line: ChatLine, earlier: bool) {
        let me = line.author == self.mesh.id();
        let (name, color) = match self.known.get(&line.author) {
            Some((name, card)) => (name.clone(), card.color),
            None if me => (self.player.clone(), self.card.color),
            None => (self.name_of(line.author), 0),
        };
        let to = match line.audience {
            Audience::Channel(_) => LineTo::All,
            Audience::Team(team) => LineTo::Team(team),
            Audience::One(_) => LineTo::One,
        };
        let mentions_me = line.mentions.contains(&self.mesh.id());
        let speaker = Some(Speaker { peer: line.author, name, color, me });
        self.chat.push(Line { number: 0, speaker, text: line.text, id: line.id, to, earlier, edited: line.edited, mentions_me });
    }
}
