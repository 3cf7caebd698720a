//! Slow mode: one line of each in so many seconds, for as long as whoever moderates says so.
//!
//! The application says who that is, the same for all: the owner of a room, say. That one tells everybody; who comes later asks, and who
//! takes over says again what stands. Everybody keeps to it, and shows of nobody more than it allows.

use std::time::Duration;

use peerflock_proto::{PeerId, Target};

use super::Engine;
use super::past::ANSWERS;
use crate::service::Time;
use crate::service::chat::line::Message;
use crate::service::chat::pace::{Bucket, Pace};
use crate::service::chat::{ChatEvent, SayError};

/// The slowest that slow mode can be.
pub const SLOW_MODE_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Lines of another that may come at once: what was said apart can arrive together, and what stands is heard of later there.
const OTHERS_AT_ONCE: u32 = 2;

/// What stands, and who says so.
#[derive(Debug, Default)]
pub(super) struct Slow {
    moderator: Option<PeerId>,
    /// Seconds between two lines. 0: no slow mode.
    seconds: u16,
    /// Whether whoever moderates was asked what stands.
    asked: bool,
    /// When we said something to all, the last time.
    said_at: Option<Time>,
}

/// What we know of another.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it said last that it shall be, whether or not that counts.
    told: Option<u16>,
    lines: Bucket,
}

impl Engine {
    /// Whose word on slow mode counts: the same for all members, or each shows something else. Nobody's by default.
    pub fn set_moderator(&mut self, moderator: Option<PeerId>) {
        if moderator == self.slow.moderator {
            return;
        }
        (self.slow.moderator, self.slow.asked) = (moderator, false);
        if moderator == Some(self.me.peer) {
            if self.slow.seconds > 0 {
                self.tell_pace(Target::All);
            }
        } else if let Some(told) = moderator.and_then(|peer| self.speakers.get(&peer)).and_then(|known| known.slow.told) {
            self.slow_down(told);
        } else {
            self.ask_pace();
        }
    }

    /// From now on each says one line in so much time to all, in whatever channel; none: as fast as the usual pace.
    ///
    /// # Errors
    /// [`SayError::NotModerator`].
    pub fn set_slow_mode(&mut self, every: Option<Duration>) -> Result<(), SayError> {
        if self.slow.moderator != Some(self.me.peer) {
            return Err(SayError::NotModerator);
        }
        // Rounded up: less than a second is not nothing.
        let seconds = every.map_or(0, |every| every.min(SLOW_MODE_MAX).as_millis().div_ceil(1_000));
        self.slow_down(seconds as u16);
        self.tell_pace(Target::All);
        Ok(())
    }

    /// The time between two lines of each; none without slow mode.
    pub fn slow_mode(&self) -> Option<Duration> {
        (self.slow.seconds > 0).then(|| Duration::from_secs(self.slow.seconds.into()))
    }

    /// Whether we may say a line to all now.
    pub(super) fn may_speak(&self, now: Time) -> Result<(), SayError> {
        let (Some(every), Some(at)) = (self.slow_mode(), self.slow.said_at) else { return Ok(()) };
        let wait = every.saturating_sub(now.since(at));
        if wait.is_zero() { Ok(()) } else { Err(SayError::SlowMode { wait }) }
    }

    pub(super) fn note_spoken(&mut self, now: Time) {
        self.slow.said_at = Some(now);
    }

    /// Whether another may have said one more line to all.
    pub(super) fn may_have_spoken(&mut self, peer: PeerId, now: Time) -> bool {
        let Some(every) = self.slow_mode() else { return true };
        // As much looser than our own as the usual pace of others.
        let pace = Pace { burst: OTHERS_AT_ONCE, refill: every * 7 / 10 };
        self.speakers.get_mut(&peer).is_none_or(|known| known.slow.lines.take(&pace, now))
    }

    pub(super) fn hear_pace(&mut self, from: PeerId, seconds: u16) {
        let seconds = seconds.min(SLOW_MODE_MAX.as_secs() as u16);
        let Some(speaker) = self.speaker(from) else { return };
        speaker.slow.told = Some(seconds);
        if self.slow.moderator == Some(from) {
            self.slow_down(seconds);
        }
    }

    /// Asks whoever moderates what stands, once that one is here.
    pub(super) fn ask_pace(&mut self) {
        if let Some(moderator) = self.slow.moderator.filter(|peer| !self.slow.asked && self.others.contains_key(peer)) {
            self.slow.asked = true;
            self.send(Target::One(moderator), &Message::AskPace);
        }
    }

    pub(super) fn hear_ask_pace(&mut self, from: PeerId, now: Time) {
        let answers = self.slow.moderator == Some(self.me.peer)
            && self.speaker(from).is_some_and(|speaker| speaker.answers.take(&ANSWERS, now));
        if answers {
            self.tell_pace(Target::One(from));
        }
    }

    fn tell_pace(&mut self, to: Target) {
        if !self.others.is_empty() {
            self.send(to, &Message::Pace { seconds: self.slow.seconds });
        }
    }

    fn slow_down(&mut self, seconds: u16) {
        if self.slow.seconds != seconds {
            self.slow.seconds = seconds;
            // What was said at another pace does not count at this one.
            self.speakers.values_mut().for_each(|known| known.slow.lines = Bucket::default());
            self.tell(ChatEvent::SlowMode(self.slow_mode()));
        }
    }
}
