//! What a member says of itself and of the room, in [`Profile::data`](peerflock::Profile): small, versioned, believed
//! only as far as it is decoded.

use std::collections::BTreeMap;

use peerflock::{Bytes, codec};
use serde::{Deserialize, Serialize};

use crate::text;

/// Most players that a room can be opened for.
pub const PLAYERS_MAX: u16 = 64;
/// Colors a member can choose from; what they look like is the program's business.
pub const COLORS: u8 = 8;

/// Entries of metadata on a card.
pub const METADATA_MAX: usize = 6;
/// Longest key of metadata, in bytes.
pub const METADATA_KEY_BYTES_MAX: usize = 16;
/// Longest settings of a room, in bytes of all keys and values.
pub const SETTINGS_BYTES_MAX: usize = 96;
/// Longest version of a game, in bytes.
pub const VERSION_BYTES_MAX: usize = 16;
/// Longest value of metadata, in bytes.
pub const METADATA_VALUE_BYTES_MAX: usize = 32;

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
    /// The claim to a seat; `None` for who only watches, or has not claimed one yet. See [`seats`](crate::seats).
    pub claim: Option<u32>,
    /// Whether the member wants no seat.
    pub watches: bool,
    /// The team; what that means is the game's business.
    pub team: u8,
    /// Whether the member is in the game that the room started.
    pub playing: bool,
    /// The first claim that came too late, if the owner closed the room. All members show it, so it outlives the owner.
    pub closed_from: Option<u32>,
    /// What a game lets its players say of themselves. At most [`METADATA_MAX`] entries.
    pub metadata: BTreeMap<String, String>,
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
    /// Which version of the game; empty says nothing about it.
    pub version: String,
    /// What its owner chose: a map, a mode, whatever the game makes of it. At most [`METADATA_MAX`] entries of [`SETTINGS_BYTES_MAX`] bytes
    /// together; which of them come first by name are kept.
    pub settings: BTreeMap<String, String>,
}

impl Card {
    /// The card as [`Profile::data`](peerflock::Profile).
    pub fn encode(&self) -> Bytes {
        let Self { ready, color, claim, watches, team, playing, closed_from, .. } = *self;
        let (room, metadata) = (self.room.clone(), self.metadata.clone());
        let wire = WireCard::V3 { ready, color, room, claim, watches, team, playing, closed_from, metadata };
        // Facts are cleaned when they are made, so a card is far below every limit; an empty one reads as the default.
        codec::encode(&wire).unwrap_or_default()
    }

    /// The card that `data` holds. What cannot be read, from a later version or from somebody who makes things up, is a
    /// blank card: its member is shown without, not refused.
    pub fn decode(data: &[u8]) -> Self {
        match codec::decode(data) {
            Ok(WireCard::V1 { ready, color, room }) => {
                Self { ready, color: color % COLORS, room: room.map(FirstFacts::facts), ..Self::default() }
            }
            Ok(WireCard::V2 { ready, color, room, claim, watches, team, playing, closed_from, metadata }) => {
                let (color, room, metadata) = (color % COLORS, room.map(FirstFacts::facts), entries(metadata));
                Self { ready, color, room, claim, watches, team, playing, closed_from, metadata }
            }
            Ok(WireCard::V3 { ready, color, room, claim, watches, team, playing, closed_from, metadata }) => {
                let (color, room, metadata) = (color % COLORS, room.map(RoomFacts::cleaned), entries(metadata));
                Self { ready, color, room, claim, watches, team, playing, closed_from, metadata }
            }
            Err(_) => Self::default(),
        }
    }
}

/// An entry of metadata as it may be shown; `None` if it breaks a limit or shows nothing.
pub fn entry(key: &str, value: &str) -> Option<(String, String)> {
    let is_short = key.len() <= METADATA_KEY_BYTES_MAX && value.len() <= METADATA_VALUE_BYTES_MAX;
    let (key, value) = (text::clean_name(key), text::clean_line(value));
    (is_short && !key.is_empty()).then_some((key, value))
}

/// Entries as they may be shown: what breaks a limit is left out.
pub(crate) fn entries(entries: BTreeMap<String, String>) -> BTreeMap<String, String> {
    entries.into_iter().filter_map(|(key, value)| entry(&key, &value)).take(METADATA_MAX).collect()
}

impl RoomFacts {
    /// The setting that is shown in lists: a map or a mode.
    pub const MODE: &str = "mode";

    /// The mode, or nothing.
    pub fn mode(&self) -> &str {
        self.settings.get(Self::MODE).map_or("", String::as_str)
    }

    /// Facts within their limits: a game's name that can be shown, and between 2 and [`PLAYERS_MAX`] players.
    pub fn new(game: &str, players_max: u16, locked: bool) -> Self {
        let (game, players_max) = (text::clean_name(game), players_max.clamp(2, PLAYERS_MAX));
        Self { game, players_max, locked, version: String::new(), settings: BTreeMap::new() }
    }

    /// The same, of this version of the game.
    pub fn version(mut self, version: &str) -> Self {
        self.version = text::clean_name(version);
        self.version.truncate(self.version.floor_char_boundary(VERSION_BYTES_MAX));
        self
    }

    /// The same, with these settings; what breaks a limit is left out.
    pub fn settings(mut self, settings: BTreeMap<String, String>) -> Self {
        let mut bytes = 0;
        let fits = |key: &String, value: &mut String| {
            bytes += key.len() + value.len();
            bytes <= SETTINGS_BYTES_MAX
        };
        self.settings = entries(settings);
        self.settings.retain(fits);
        self
    }

    fn cleaned(self) -> Self {
        Self::new(&self.game, self.players_max, self.locked).version(&self.version).settings(self.settings)
    }
}

/// The card as it crosses the wire. New fields come as a new variant, so that old lobbies see a blank card, not a wrong one.
#[derive(Serialize, Deserialize)]
enum WireCard {
    V1 {
        ready: bool,
        color: u8,
        room: Option<FirstFacts>,
    },
    V2 {
        ready: bool,
        color: u8,
        room: Option<FirstFacts>,
        claim: Option<u32>,
        watches: bool,
        team: u8,
        playing: bool,
        closed_from: Option<u32>,
        metadata: BTreeMap<String, String>,
    },
    /// With versions and settings of rooms.
    V3 {
        ready: bool,
        color: u8,
        room: Option<RoomFacts>,
        claim: Option<u32>,
        watches: bool,
        team: u8,
        playing: bool,
        closed_from: Option<u32>,
        metadata: BTreeMap<String, String>,
    },
}

/// A room's facts before they had versions and settings.
#[derive(Serialize, Deserialize)]
struct FirstFacts {
    game: String,
    players_max: u16,
    locked: bool,
}

impl FirstFacts {
    fn facts(self) -> RoomFacts {
        RoomFacts::new(&self.game, self.players_max, self.locked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_comes_back() {
        let room = Some(RoomFacts::new("Murmuration", 8, true));
        let card = Card { ready: true, color: 5, room, claim: Some(7), team: 2, playing: true, ..Card::default() };
        assert_eq!(Card::decode(&card.encode()), card);
        assert!(card.encode().len() < 64, "a card rides in every introduction");
    }

    #[test]
    fn golden_bytes() {
        let card = Card { ready: true, color: 3, room: Some(RoomFacts::new("fish", 4, false)), ..Card::default() };
        let old = [0, 1, 3, 1, 4, b'f', b'i', b's', b'h', 4, 0];
        assert_eq!(Card::decode(&old), card, "who has an earlier lobby is shown with what it says");
        let card = Card { claim: Some(9), team: 2, closed_from: Some(5), ..card };
        let old = [1, 1, 3, 1, 4, b'f', b'i', b's', b'h', 4, 0, 1, 9, 0, 2, 0, 1, 5, 0];
        assert_eq!(Card::decode(&old), card);
        assert_eq!(&card.encode()[..], [2, 1, 3, 1, 4, b'f', b'i', b's', b'h', 4, 0, 0, 0, 1, 9, 0, 2, 0, 1, 5, 0]);
    }

    #[test]
    fn nonsense_is_a_blank_card() {
        for data in [&[][..], &[9; 40], &[0], &[0, 2, 0, 0], &[1, 1, 1, 0]] {
            assert_eq!(Card::decode(data), Card::default(), "{data:?}");
        }
    }

    #[test]
    fn metadata_has_limits_and_the_largest_card_fits() {
        let long = |n: usize| ("k".repeat(METADATA_KEY_BYTES_MAX - 1) + &n.to_string(), "v".repeat(METADATA_VALUE_BYTES_MAX));
        let metadata: BTreeMap<String, String> = (0..METADATA_MAX).map(long).collect();
        let settings = (0..9).map(|n| (n.to_string(), "s".repeat(SETTINGS_BYTES_MAX / 3 - 1))).collect();
        let facts = RoomFacts::new(&"x".repeat(24), PLAYERS_MAX, true).version(&"v".repeat(99)).settings(settings);
        assert_eq!((facts.settings.len(), facts.version.len()), (3, VERSION_BYTES_MAX));
        let card = Card { room: Some(facts), claim: Some(u32::MAX), closed_from: Some(u32::MAX), metadata, ..Card::default() };
        assert!(card.encode().len() <= peerflock::Profile::DATA_BYTES_MAX, "{}", card.encode().len());
        assert_eq!(Card::decode(&card.encode()), card);
        let many = Card { metadata: (0..9).map(|n| (n.to_string(), "\u{202E}x".into())).collect(), ..Card::default() };
        let read = Card::decode(&many.encode()).metadata;
        assert_eq!((read.len(), read["0"].as_str()), (METADATA_MAX, "x"));
        assert_eq!((entry("", "x"), entry("k", &"v".repeat(33))), (None, None));
    }

    #[test]
    fn a_stranger_cannot_show_what_we_would_not() {
        let boast = WireCard::V1 {
            ready: false,
            color: 200,
            room: Some(FirstFacts { game: "\u{202E}x\n".repeat(30), players_max: 60_000, locked: false }),
        };
        let card = Card::decode(&codec::encode(&boast).unwrap());
        let facts = card.room.unwrap();
        assert_eq!((card.color, facts.players_max), (200 % COLORS, PLAYERS_MAX));
        assert!(facts.game.starts_with("x x x") && facts.game.len() <= text::NAME_BYTES_MAX);
    }
}
