//! What a member says of itself and of the room, in [`Profile::data`](peerflock::Profile): small, versioned, believed
//! only as far as it is decoded.

use peerflock::{Bytes, codec};
use serde::{Deserialize, Serialize};

use crate::text;

/// Most players that a room can be opened for.
pub const PLAYERS_MAX: u16 = 64;
/// Colors a member can choose from; what they look like is the program's business.
pub const COLORS: u8 = 8;

/// A member's card: every member shows its own, and reads everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Card {
    /// Ready to start.
    pub ready: bool,
    /// Which of the [`COLORS`].
    pub color: u8,
    /// What the member knows of the room; `None` while it has not learned it. A room's facts live on the cards of all its
    /// members, so they outlive whoever opened it.
    pub room: Option<RoomFacts>,
}

/// What a room is about: the same for all who are in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomFacts {
    /// The game that is played from here.
    pub game: String,
    /// How many players it is for.
    pub players_max: u16,
    /// Whether it takes a password.
    pub locked: bool,
}

impl Card {
    /// The card as [`Profile::data`](peerflock::Profile).
    pub fn encode(&self) -> Bytes {
        let wire = WireCard::V1 { ready: self.ready, color: self.color, room: self.room.clone() };
        // Facts are cleaned when they are made, so a card is far below every limit; an empty one reads as the default.
        codec::encode(&wire).unwrap_or_default()
    }

    /// The card that `data` holds. What cannot be read, from a later version or from somebody who makes things up, is a
    /// blank card: its member is shown without, not refused.
    pub fn decode(data: &[u8]) -> Self {
        match codec::decode(data) {
            Ok(WireCard::V1 { ready, color, room }) => Self { ready, color: color % COLORS, room: room.map(RoomFacts::cleaned) },
            Err(_) => Self::default(),
        }
    }
}

impl RoomFacts {
    /// Facts within their limits: a game's name that can be shown, and between 2 and [`PLAYERS_MAX`] players.
    pub fn new(game: &str, players_max: u16, locked: bool) -> Self {
        Self { game: text::clean_name(game), players_max: players_max.clamp(2, PLAYERS_MAX), locked }
    }

    fn cleaned(self) -> Self {
        Self::new(&self.game, self.players_max, self.locked)
    }
}

/// The card as it crosses the wire. New fields come as a new variant, so that old lobbies see a blank card, not a wrong one.
#[derive(Serialize, Deserialize)]
enum WireCard {
    V1 { ready: bool, color: u8, room: Option<RoomFacts> },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back() {
        let card = Card { ready: true, color: 5, room: Some(RoomFacts::new("Murmuration", 8, true)) };
        assert_eq!(Card::decode(&card.encode()), card);
        assert!(card.encode().len() < 64, "a card rides in every introduction");
    }

    #[test]
    fn golden_bytes() {
        let card = Card { ready: true, color: 3, room: Some(RoomFacts::new("fish", 4, false)) };
        assert_eq!(&card.encode()[..], [0, 1, 3, 1, 4, b'f', b'i', b's', b'h', 4, 0]);
    }

    #[test]
    fn nonsense_is_a_blank_card() {
        for data in [&[][..], &[9; 40], &[0], &[0, 2, 0, 0], &[1, 1, 1, 0]] {
            assert_eq!(Card::decode(data), Card::default(), "{data:?}");
        }
    }

    #[test]
    fn a_stranger_cannot_show_what_we_would_not() {
        let boast = WireCard::V1 {
            ready: false,
            color: 200,
            room: Some(RoomFacts { game: "\u{202E}x\n".repeat(30), players_max: 60_000, locked: false }),
        };
        let card = Card::decode(&codec::encode(&boast).unwrap());
        let facts = card.room.unwrap();
        assert_eq!((card.color, facts.players_max), (200 % COLORS, PLAYERS_MAX));
        assert!(facts.game.starts_with("x x x") && facts.game.len() <= text::NAME_BYTES_MAX);
    }
}
