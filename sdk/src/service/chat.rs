//! Chat: what people say to each other, to all, in channels, to their team, or to one.
//!
//! ```no_run
//! use peerflock::PeerMesh;
//! use peerflock::service::chat::{Chat, ChatEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("party").start().await?;
//! let chat = Chat::join(&mesh)?;
//! chat.say("hello, everybody")?;
//! while let Some(event) = chat.next().await {
//!     if let ChatEvent::Said(line) = event {
//!         println!("{}: {}", line.author, line.text);
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - Everyone who stays gets each line once, in its author's order. [`lines`](Chat::lines) are the last [`HISTORY_LINES_MAX`] of a
//!   channel, in an order that is the same for all who have the same lines.
//! - Who comes late is told the last lines of each channel by a neighbor, any of them, and compares with others. Each line carries
//!   its author's signature (Ed25519 over the mesh and all that the line says), so whoever passes it on can leave lines out, but can
//!   neither change nor invent one. [`evidence`](Chat::evidence) is such a line as bytes, for somebody who was not there.
//! - Only its author edits or deletes a line. What was deleted is kept by nobody who runs this code, and not passed on.
//! - What is said to one, or to a team, is sealed end to end to each reader, proved by the mesh, and in nobody's history.
//! - Text is cleaned where it arrives ([`text`]): one line, no controls, nothing that turns the direction of text around, no towers of
//!   accents, at most [`text::CHAT_GRAPHEMES_MAX`] letters.
//! - Each listener holds each author to a pace ([`pace`]) and mutes who floods for a while. [`mute`](Chat::mute) is for the rest.
//! - Whoever moderates can slow all down: [`set_slow_mode`](Chat::set_slow_mode). Who that is, the game says.
//!
//! Nobody has a say over others' lines, and who runs other code may keep what was deleted.

mod engine;
mod line;
mod log;
pub mod pace;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

pub use engine::{CHANNELS_MAX, Engine, SLOW_MODE_MAX, TEAM_MEMBERS_MAX, TYPING_EVERY, TYPING_SHOWN};
#[cfg(feature = "test-utils")]
pub use line::lawless_line;
pub use line::{Evidence, MENTIONS_MAX};
use peerflock_proto::{Boot, PeerId};
use serde::{Deserialize, Serialize};

use super::queue::Queue;
pub use super::topics::TopicName as ChannelName;
use super::{ServiceError, ServiceHandle, start};
use crate::peer_mesh::PeerMesh;

/// Lines kept of each channel; older ones are forgotten.
pub const HISTORY_LINES_MAX: usize = 200;
/// Events that wait for their reader; past it the oldest is dropped.
pub const EVENTS_MAX: usize = 1_024;
/// The channel that everybody is in.
pub const MAIN: &str = "all";

/// The chat of a mesh. Cheap to clone, usable from any thread, with or without an async runtime.
#[derive(Clone, Debug)]
pub struct Chat {
    service: ServiceHandle<Engine>,
    events: Arc<Queue<ChatEvent>>,
}

/// Which line, for good: whoever edits it, it stays this one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LineId {
    /// Where it was said.
    pub channel: ChannelName,
    /// By whom.
    pub author: PeerId,
    /// In which of the author's lives.
    pub boot: Boot,
    /// Counts that one's lines in the channel from 1.
    pub number: u64,
}

/// A line as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChatLine {
    /// Which; none for what was said to few: that cannot be edited.
    pub id: Option<LineId>,
    /// By whom: proved.
    pub author: PeerId,
    /// To whom.
    pub audience: Audience,
    /// What: clean, never empty.
    pub text: String,
    /// Whether its author changed it.
    pub edited: bool,
    /// Whom it is meant for in particular.
    pub mentions: Vec<PeerId>,
}

/// To whom a line was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// To all who read a channel.
    Channel(ChannelName),
    /// To a team, of this number. Who is in it, the author decided.
    Team(u8),
    /// To one, this one: ourselves, or whom we said it to.
    One(PeerId),
}

/// What happened in the chat.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ChatEvent {
    /// Somebody said something just now, ourselves included.
    Said(ChatLine),
    /// This was said before we came, and was passed on to us.
    Earlier(ChatLine),
    /// The author changed a line.
    Edited(ChatLine),
    /// The author deleted a line.
    Deleted(LineId),
    /// Somebody is typing in a channel, for the next [`TYPING_SHOWN`].
    Typing(PeerId, ChannelName),
    /// Somebody writes too fast. What is over the pace is not shown; who goes on is muted for [`pace::FLOOD_MUTE`].
    Flooding(PeerId),
    /// From now on each says one line to all in so much time; none: slow mode is over.
    SlowMode(Option<Duration>),
}

/// Why something was not said, changed or deleted. Nothing happened; the text is still the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// Nothing visible is in it.
    #[error("there is nothing to say yet; type something first")]
    Empty,
    /// Too many lines in too short a time.
    #[error("that was fast; wait a second before the next line")]
    TooFast,
    /// In slow mode each says one line in so much time.
    #[error("slow mode: wait {} s before the next line", wait.as_millis().div_ceil(1_000))]
    SlowMode {
        /// How long until the next.
        wait: Duration,
    },
    /// The word of another counts there.
    #[error("only who moderates the chat sets its pace; ask them")]
    NotModerator,
    /// So many channels and no more.
    #[error("there are {CHANNELS_MAX} channels already; use one of them")]
    TooManyChannels,
    /// So many mentions and no more.
    #[error("a line mentions at most {MENTIONS_MAX} members; write to all of them without naming each")]
    TooManyMentions,
    /// A team of too many.
    #[error("a team has at most {TEAM_MEMBERS_MAX} members; say it to all, or open a channel")]
    TeamTooLarge,
    /// Whom it was for is not here.
    #[error("nobody of those is here now; look at the members again")]
    NotHere,
    /// Only its author changes a line.
    #[error("that line is somebody else's; only who said it can change it")]
    NotYours,
    /// The line is no longer kept.
    #[error("that line is no longer kept; say it anew")]
    Forgotten,
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// What chat has cost and refused here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChatCounters {
    /// Lines taken into the logs.
    pub lines: u64,
    /// Lines that came too fast, or from somebody muted.
    pub held_back: u64,
    /// Lines that their authors did not sign, or that break a limit.
    pub forged: u64,
    /// Messages that made no sense.
    pub malformed: u64,
    /// Questions for history that we asked.
    pub asked: u64,
}

/// Where the engine's events go; gone when the service is over.
struct Ear(Arc<Queue<ChatEvent>>);

impl Chat {
    /// Takes part in the chat of a mesh.
    ///
    /// # Errors
    /// When this was called before and what came of it is still there, or the mesh was left.
    pub fn join(mesh: &PeerMesh) -> Result<Self, ServiceError> {
        let events = Arc::new(Queue::new(EVENTS_MAX));
        let engine = mesh.shared().node(|node, _| Engine::new(node));
        let ear = Ear(events.clone());
        let service = start(mesh, engine, move |event| ear.0.push(event))?;
        Ok(Self { service, events })
    }

    /// Says something to all.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn say(&self, line: &str) -> Result<LineId, SayError> {
        self.say_in(&main_channel(), line, &[])
    }

    /// Says something in a channel, and names those whom it is meant for in particular.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn say_in(&self, channel: &ChannelName, line: &str, mentions: &[PeerId]) -> Result<LineId, SayError> {
        self.open()?.act(|engine, now| engine.say(channel, line, mentions, now))
    }

    /// Says something to one member.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn whisper(&self, to: PeerId, line: &str) -> Result<(), SayError> {
        self.open()?.act(|engine, now| engine.whisper(to, line, now))
    }

    /// Says something to those of a team: who that is, the caller knows.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn say_to_team(&self, team: u8, members: &[PeerId], line: &str) -> Result<(), SayError> {
        self.open()?.act(|engine, now| engine.say_to_team(team, members, line, now))
    }

    /// Changes a line of ours. Costs as much of our pace as a new one.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn edit(&self, id: &LineId, line: &str) -> Result<(), SayError> {
        self.open()?.act(|engine, now| engine.edit(id, line, now))
    }

    /// Deletes a line of ours. Costs as much of our pace as a new one.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn delete(&self, id: &LineId) -> Result<(), SayError> {
        self.open()?.act(|engine, now| engine.delete(id, now))
    }

    /// Tells the others that we are typing. Call it at each key; it goes out every [`TYPING_EVERY`] at most.
    pub fn typing(&self, channel: &ChannelName) {
        self.service.act(|engine, now| engine.typing(channel, now));
    }

    /// Shows nothing more of somebody, or everything again. Only here: nobody learns of it.
    pub fn mute(&self, peer: PeerId, muted: bool) {
        self.service.act(|engine, _| engine.mute(peer, muted));
    }

    /// Whose word on slow mode counts: the owner of the room, say. All members should say the same; nobody's by default.
    pub fn set_moderator(&self, moderator: Option<PeerId>) {
        self.service.act(|engine, _| engine.set_moderator(moderator));
    }

    /// From now on each says one line to all in so much time, in whole seconds and [`SLOW_MODE_MAX`] at most; none: as fast as the usual
    /// [`pace`]. Who comes later is told, and whoever moderates after us goes on with it. Nobody's lines over it are shown.
    ///
    /// # Errors
    /// [`SayError::NotModerator`], unless [we are the one](Self::set_moderator).
    pub fn set_slow_mode(&self, every: Option<Duration>) -> Result<(), SayError> {
        self.open()?.act(|engine, _| engine.set_slow_mode(every))
    }

    /// The time between two lines of each; none without slow mode.
    pub fn slow_mode(&self) -> Option<Duration> {
        self.service.act(|engine, _| engine.slow_mode())
    }

    /// The lines kept of a channel, oldest first, without those of whom we muted.
    pub fn lines(&self, channel: &ChannelName) -> Vec<ChatLine> {
        self.service.act(|engine, _| engine.lines(channel))
    }

    /// The channels in which something was said.
    pub fn channels(&self) -> Vec<ChannelName> {
        self.service.act(|engine, _| engine.channels())
    }

    /// Who is typing in a channel now.
    pub fn who_types(&self, channel: &ChannelName) -> Vec<PeerId> {
        self.service.act(|engine, now| engine.who_types(channel, now))
    }

    /// A line with its author's signature, to report it to somebody who was not there.
    pub fn evidence(&self, id: &LineId) -> Option<Evidence> {
        self.service.act(|engine, _| engine.evidence(id))
    }

    /// Waits for the next event. None once the mesh is left and everything before is told.
    ///
    /// It is safe to give up waiting; nothing is lost by it.
    pub async fn next(&self) -> Option<ChatEvent> {
        self.events.next().await
    }

    /// The next event, if there is one. Returns at once.
    pub fn try_next(&self) -> Option<ChatEvent> {
        self.events.try_next()
    }

    /// What chat has cost and refused here.
    pub fn counters(&self) -> ChatCounters {
        self.service.act(|engine, _| engine.counters())
    }

    fn open(&self) -> Result<&ServiceHandle<Engine>, SayError> {
        if self.service.is_closed() { Err(SayError::Closed) } else { Ok(&self.service) }
    }
}

/// The channel that everybody is in: [`MAIN`].
pub fn main_channel() -> ChannelName {
    MAIN.parse().expect("a name by its own rules; a test says so")
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_main_channel_has_a_name() {
        assert_eq!(super::main_channel().as_str(), super::MAIN);
    }
}
