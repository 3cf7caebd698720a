//! What lobbies say to each other to start the game, and what they hand over to it.

use std::collections::BTreeMap;
use std::fmt;

use peerflock::{Bytes, MeshTime, PeerId, Ticket, codec};
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

use crate::card::{self, PLAYERS_MAX};
use crate::text;

/// Longest explanation that a starter may give, in bytes.
const WHY_BYTES_MAX: usize = 256;

/// One step of starting the game. `round` is drawn by the starter, so that answers to an earlier attempt count for nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StartMessage {
    /// "Shall we?"
    Propose {
        /// The attempt.
        round: u64,
    },
    /// The answer, to the starter alone.
    Answer {
        /// The attempt.
        round: u64,
        /// Yes, or why not.
        answer: Answer,
    },
    /// The starter calls it off.
    Off {
        /// The attempt.
        round: u64,
        /// For people to read; may be empty.
        why: String,
        /// Who stopped the countdown, if somebody did.
        by: Option<PeerId>,
    },
    /// All agreed and the game is open.
    Go {
        /// The attempt.
        round: u64,
        /// How to join.
        handover: Handover,
    },
    /// Somebody else's `Go`, said again because that one died over it.
    PassedOn {
        /// The attempt.
        round: u64,
        /// How to join.
        handover: Handover,
    },
    /// All agreed; the starter counts down.
    Count {
        /// The attempt.
        round: u64,
        /// How long it still counts.
        milliseconds: u32,
    },
    /// "Stop the countdown", to the starter alone, who alone decides whether that came in time.
    Cancel {
        /// The attempt.
        round: u64,
    },
    /// "May I come in?", to somebody who plays.
    MayI,
    /// How to join the game that is under way, to who asked.
    Running {
        /// How to join.
        handover: Handover,
    },
}

/// An answer to a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Start it.
    Yes,
    /// This player is not ready.
    NotReady,
    /// This player is in the middle of another start.
    Busy,
}

/// What it takes to join the game from the room: known to the room's members only, as it crosses admitted links only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The name of the game's mesh.
    pub mesh: String,
    /// 32 fresh random bytes, drawn by the starter: the game's password is made of them.
    pub secret: [u8; 32],
    /// The ticket into the game's mesh of somebody who is in it.
    pub ticket: String,
    /// A random number that all have alike, for whatever the game leaves to chance.
    pub seed: u64,
    /// Who had a seat when it began, first come first.
    pub players: Vec<PeerId>,
    /// The room's settings at that moment: map, rules, whatever it says of itself.
    pub settings: BTreeMap<String, String>,
    /// When it begins, on the clock of the room's mesh: all are told at that moment.
    pub begins: MeshTime,
}

/// A hand-over that no honest lobby sends. Nothing was launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the invitation to the game could not be read; let somebody else press Start")]
pub struct BadHandover;

impl StartMessage {
    /// The message as a payload.
    pub fn encode(&self) -> Bytes {
        // All its parts are bounded far below what the codec takes.
        codec::encode(self).unwrap_or_default()
    }

    /// The message in `payload`, if it is one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        match codec::decode(payload).ok()? {
            Self::Off { round, why, by } => {
                let mut why = text::clean_line(&why);
                why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
                Some(Self::Off { round, why, by })
            }
            message => Some(message),
        }
    }
}

impl Handover {
    /// Into the mesh of this name, with this secret, by this ticket. The room adds what it knows: seed, players, settings, moment.
    pub fn new(mesh: impl Into<String>, secret: [u8; 32], ticket: impl Into<String>) -> Self {
        let (mesh, ticket) = (mesh.into(), ticket.into());
        Self { mesh, secret, ticket, seed: 0, players: Vec::new(), settings: BTreeMap::new(), begins: MeshTime::default() }
    }

    /// A name for the game's mesh that no other has: the room's, and four digits.
    pub fn mesh_name(room: &str, digits: u16) -> String {
        let mut room = text::clean_name(room);
        // Room for the space and the digits.
        while room.graphemes(true).count() > text::NAME_GRAPHEMES_MAX - 5 || room.len() > text::NAME_BYTES_MAX - 5 {
            let end = room.grapheme_indices(true).next_back().map_or(0, |(start, _)| start);
            room.truncate(end);
        }
        format!("{} {digits:04x}", room.trim_end()).trim_start().to_owned()
    }

    /// The hand-over, if its parts are what they should be: it comes from another machine and ends up on a command line.
    pub fn checked(mut self) -> Result<Self, BadHandover> {
        let ticket: Ticket = self.ticket.parse().map_err(|_| BadHandover)?;
        let clean = text::clean_name(&self.mesh) == self.mesh && !self.mesh.is_empty();
        if !clean || ticket.name() != self.mesh || self.players.len() > usize::from(PLAYERS_MAX) {
            return Err(BadHandover);
        }
        self.settings = card::entries(self.settings);
        Ok(self)
    }

    /// The game's password: the secret in hexadecimal. Nobody has to type it.
    pub fn password(&self) -> String {
        self.secret.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handover({:?}, secret)", self.mesh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back() {
        let handover = Handover::new("dusk 1a2b", [7; 32], "peerflock1x");
        for message in [
            StartMessage::Propose { round: 3 },
            StartMessage::Answer { round: u64::MAX, answer: Answer::NotReady },
            StartMessage::Off { round: 3, why: "later".into(), by: Some(PeerId([1; 32])) },
            StartMessage::Count { round: 3, milliseconds: 5_000 },
            StartMessage::Cancel { round: 3 },
            StartMessage::MayI,
            StartMessage::Running { handover: handover.clone() },
            StartMessage::Go { round: 3, handover: handover.clone() },
            StartMessage::PassedOn { round: 3, handover },
        ] {
            assert_eq!(StartMessage::decode(&message.encode()), Some(message));
        }
        assert_eq!(StartMessage::decode(&[9, 9, 9]), None);
    }

    #[test]
    fn what_a_starter_writes_is_cleaned() {
        let loud = StartMessage::Off { round: 1, why: "\u{202E}no\n".repeat(1_000), by: None };
        let Some(StartMessage::Off { why, .. }) = StartMessage::decode(&loud.encode()) else { panic!("an Off") };
        assert!(why.starts_with("no no") && why.len() <= WHY_BYTES_MAX);
    }

    #[test]
    fn a_hostile_hand_over_is_refused() {
        for (mesh, ticket) in [("--help", "peerflock1"), ("dusk", "--bots=900"), ("", ""), ("a\nb", "x")] {
            let handover = Handover::new(mesh, [0; 32], ticket);
            assert_eq!(handover.checked(), Err(BadHandover));
        }
    }

    #[test]
    fn every_room_makes_a_name_that_passes_the_check() {
        for room in ["Friday night", "", "x", "a room with a name of 24!", &"👩‍👩‍👧‍👦".repeat(3), &"é".repeat(40)]
        {
            let mesh = Handover::mesh_name(room, 0x1a2b);
            assert_eq!(text::clean_name(&mesh), mesh, "{room}");
            assert!(mesh.ends_with("1a2b"));
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let handover = Handover::new("dusk", [0xab; 32], "");
        assert!(!format!("{handover:?}").contains("171"));
        assert_eq!(handover.password(), "ab".repeat(32));
    }
}
