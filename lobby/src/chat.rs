//! Talking: lines that everyone in the room sees once, in their sender's order, and the last of them kept.
//!
//! The mesh carries the lines; this room of the house decides what of them is shown. Every lobby decides for itself, so
//! nobody has to be trusted: text is cleaned on arrival ([`text::clean_line`]), and whoever floods is held back by each
//! listener alone ([`flood`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use peerflock::{Bytes, PeerId, Topic, codec};
use serde::{Deserialize, Serialize};

use crate::text;

pub mod flood;

use flood::Bucket;

/// The channel that chat is on: one of those that the SDK keeps for services ([`Topic::RESERVED`]).
pub const TOPIC: Topic = Topic(1);
/// Lines kept; older ones are forgotten.
pub const HISTORY_LINES_MAX: usize = 200;
/// Senders watched at once. More than a room holds, so it only bounds what a stream of newcomers can leave behind.
const SENDERS_MAX: usize = 512;

/// What was said, and what happened, in order.
#[derive(Debug, Default)]
pub struct Chat {
    lines: VecDeque<Line>,
    next: u64,
    own: Bucket,
    senders: BTreeMap<PeerId, Sender>,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Counts up from 0 over the life of this log, so that a view can tell which lines are new.
    pub number: u64,
    /// Who said it; `None` for a notice of the room's.
    pub speaker: Option<Speaker>,
    /// What: clean, never empty.
    pub text: String,
}

/// Who said a line, as they were called then: a line keeps its name when its speaker leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Whose key it was: proved by the mesh.
    pub peer: PeerId,
    /// The name they went by.
    pub name: String,
    /// The color they had.
    pub color: u8,
    /// Whether that is ourselves.
    pub me: bool,
}

/// Why a line was not sent. Nothing was said; the text is still the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SayError {
    /// Nothing visible is in it.
    #[error("there is nothing to say yet; type something first")]
    Empty,
    /// Too many lines in too short a time.
    #[error("that was fast; wait a second before the next line")]
    TooFast,
    /// The mesh would not take it.
    #[error("the line could not be sent: {0}")]
    Mesh(#[from] peerflock::SendError),
}

/// What became of a line that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is the last line of the log now.
    Line,
    /// Its sender floods: held back. `first` says that this is where the flood began.
    HeldBack {
        /// Whether the line before it was still let through.
        first: bool,
    },
    /// Nothing in it can be shown.
    Nothing,
}

#[derive(Debug, Default)]
struct Sender {
    bucket: Bucket,
    flooding: bool,
}

/// A line on the wire. New kinds (edits, mentions, whispers) come as new variants, which older lobbies do not show.
#[derive(Serialize, Deserialize)]
enum WireLine {
    Said { text: String },
}

impl Chat {
    /// The lines kept, oldest first; at most [`HISTORY_LINES_MAX`].
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = &Line> + ExactSizeIterator {
        self.lines.iter()
    }

    /// The payload that says `raw`, to be sent to everyone on [`TOPIC`]; or why not.
    pub fn say(&mut self, raw: &str, now: Instant) -> Result<Bytes, SayError> {
        let text = text::clean_line(raw);
        if text.is_empty() {
            return Err(SayError::Empty);
        }
        if !self.own.take(&flood::OWN, now) {
            return Err(SayError::TooFast);
        }
        // A clean line is at most `CHAT_BYTES_MAX` long, far below what the codec takes.
        Ok(codec::encode(&WireLine::Said { text }).unwrap_or_default())
    }

    /// A payload on [`TOPIC`] from `speaker`, ourselves included: what we say comes back like everything else.
    pub fn hear(&mut self, speaker: Speaker, payload: &[u8], now: Instant) -> Heard {
        if let Some(heard) = self.hold_back(&speaker, now) {
            return heard;
        }
        let Ok(WireLine::Said { text }) = codec::decode(payload) else {
            return Heard::Nothing;
        };
        let text = text::clean_line(&text);
        if text.is_empty() {
            return Heard::Nothing;
        }
        self.push(Some(speaker), text);
        Heard::Line
    }

    /// Adds a line of the room's own: somebody came, the game began.
    pub fn note(&mut self, notice: impl Into<String>) {
        self.push(None, notice.into());
    }

    /// Forgets what is known of a sender who is gone.
    pub fn forget(&mut self, peer: PeerId) {
        self.senders.remove(&peer);
    }

    fn hold_back(&mut self, speaker: &Speaker, now: Instant) -> Option<Heard> {
        if speaker.me {
            return None; // Held to a stricter limit before it was sent.
        }
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&speaker.peer) {
            self.senders.retain(|_, sender| !sender.bucket.is_full(now));
            if self.senders.len() >= SENDERS_MAX {
                return Some(Heard::HeldBack { first: false });
            }
        }
        let sender = self.senders.entry(speaker.peer).or_default();
        let flooding = !sender.bucket.take(&flood::OTHERS, now);
        let first = flooding && !sender.flooding;
        sender.flooding = flooding;
        flooding.then_some(Heard::HeldBack { first })
    }

    fn push(&mut self, speaker: Option<Speaker>, text: String) {
        if self.lines.len() >= HISTORY_LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { number: self.next, speaker, text });
        self.next += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn speaker(number: u8) -> Speaker {
        Speaker { peer: PeerId([number; 32]), name: format!("p{number}"), color: 0, me: false }
    }

    #[test]
    fn a_line_is_cleaned_at_both_ends() {
        let (mut chat, now) = (Chat::default(), Instant::now());
        let payload = chat.say("  hi\u{202E} there\n", now).unwrap();
        assert_eq!(chat.hear(speaker(1), &payload, now), Heard::Line);
        assert_eq!(chat.lines().next().unwrap().text, "hi there");

        // A lobby that does not clean what it sends.
        let raw = codec::encode(&WireLine::Said { text: "\u{202E}boo\n\n\u{1b}[2J".into() }).unwrap();
        assert_eq!(chat.hear(speaker(2), &raw, now), Heard::Line);
        assert_eq!(chat.lines().last().unwrap().text, "boo [2J");
        assert_eq!(chat.say(" \u{200B} ", now), Err(SayError::Empty));
    }

    #[test]
    fn nonsense_shows_nothing() {
        let (mut chat, now) = (Chat::default(), Instant::now());
        let blank = codec::encode(&WireLine::Said { text: "\u{202E}\n".into() }).unwrap();
        for payload in [&[][..], &[7; 9], &[0, 255, 255], &blank] {
            assert_eq!(chat.hear(speaker(1), payload, now), Heard::Nothing);
        }
        assert_eq!(chat.lines().len(), 0);
    }

    #[test]
    fn history_is_bounded_and_numbered() {
        let (mut chat, start) = (Chat::default(), Instant::now());
        for line in 0..HISTORY_LINES_MAX as u32 + 50 {
            let now = start + Duration::from_secs(2) * line;
            let payload = chat.say(&format!("line {line}"), now).unwrap();
            assert_eq!(chat.hear(speaker(1), &payload, now), Heard::Line);
        }
        assert_eq!(chat.lines().len(), HISTORY_LINES_MAX);
        let numbers: Vec<u64> = chat.lines().map(|line| line.number).collect();
        assert_eq!(numbers, (50..HISTORY_LINES_MAX as u64 + 50).collect::<Vec<_>>());
    }

    #[test]
    fn a_flooder_is_held_back_and_others_are_not() {
        let (mut chat, now) = (Chat::default(), Instant::now());
        let payload = codec::encode(&WireLine::Said { text: "spam".into() }).unwrap();
        let heard: Vec<Heard> = (0..100).map(|_| chat.hear(speaker(1), &payload, now)).collect();
        let shown = heard.iter().filter(|heard| **heard == Heard::Line).count();
        assert_eq!(shown, flood::OTHERS.burst as usize);
        assert_eq!(heard.iter().filter(|heard| **heard == Heard::HeldBack { first: true }).count(), 1);
        assert_eq!(chat.hear(speaker(2), &payload, now), Heard::Line);
        assert_eq!(chat.hear(speaker(1), &payload, now + flood::OTHERS.refill), Heard::Line);
    }

    #[test]
    fn we_hold_ourselves_to_less_than_others_allow_us() {
        let (mut chat, mut other, now) = (Chat::default(), Chat::default(), Instant::now());
        let mut sent = 0;
        while let Ok(payload) = chat.say("hi", now) {
            assert_eq!(other.hear(speaker(1), &payload, now), Heard::Line, "what we may say, others must hear");
            sent += 1;
        }
        assert_eq!(sent, flood::OWN.burst);
        assert_eq!(chat.say("hi", now), Err(SayError::TooFast));
    }

    #[test]
    fn newcomers_cannot_fill_our_memory() {
        let (mut chat, now) = (Chat::default(), Instant::now());
        let payload = codec::encode(&WireLine::Said { text: "x".into() }).unwrap();
        for number in 0..2_000_u32 {
            let mut peer = [0; 32];
            peer[..4].copy_from_slice(&number.to_le_bytes());
            chat.hear(Speaker { peer: PeerId(peer), ..speaker(0) }, &payload, now);
        }
        assert!(chat.senders.len() <= SENDERS_MAX);
    }
}
