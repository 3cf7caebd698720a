//! What a lobby shows of the meshes around: rooms where players gather, and games that are under way.

use std::time::Duration;

use peerflock::directory::DirectoryAddress;
use peerflock::resolve::{Browser, Interface, ResolveError};
use peerflock::{FoundMesh, MeshId};
use serde::Serialize;

use crate::{launch, text};

mod filter;

pub use filter::{Filter, in_order, quick_match};

/// What a room's listing says after the game's name, so that rooms and games can be told apart in any list of meshes.
const GATHERING: &str = " lobby";

/// A line of the list: one mesh, cleaned for show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RoomInfo {
    /// What it is called.
    pub name: String,
    /// The game that is played, or will be.
    pub game: String,
    /// Which version of the game; empty where nothing is said about it.
    pub version: String,
    /// What of the game: a map or a mode; empty where nothing is said about it.
    pub mode: String,
    /// Whether players gather or play.
    pub stage: Stage,
    /// How many are in it.
    pub players: usize,
    /// How many may be; 0 says nothing about it.
    pub players_max: usize,
    /// Whether a password is needed.
    pub locked: bool,
    /// The time to its nearest member and back in milliseconds, once measured.
    #[serde(rename = "round_trip_ms", serialize_with = "milliseconds")]
    pub round_trip: Option<Duration>,
    /// Which mesh it is.
    #[serde(serialize_with = "text_form")]
    pub mesh: MeshId,
}

/// How far a mesh's players are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// A room: they meet, talk, and start the game together.
    Gathering,
    /// A game: they play.
    Playing,
}

impl RoomInfo {
    /// What there is to show of a mesh that was found.
    pub fn of(found: &FoundMesh) -> Self {
        let (game, stage) = match found.game.strip_suffix(GATHERING) {
            Some(game) => (game, Stage::Gathering),
            None => (found.game.as_str(), Stage::Playing),
        };
        let shown = |text: &str, otherwise: &str| {
            let text = text::clean_name(text);
            if text.is_empty() { otherwise.to_owned() } else { text }
        };
        Self {
            name: shown(&found.name, "(no name)"),
            game: shown(game, "(unknown)"),
            version: text::clean_name(&found.version),
            mode: text::clean_name(&found.mode),
            stage,
            players: found.players,
            players_max: found.players_max,
            locked: found.locked,
            round_trip: found.round_trip,
            mesh: found.mesh,
        }
    }

    /// Whether every seat is taken, as far as is known.
    pub fn is_full(&self) -> bool {
        self.players_max > 0 && self.players >= self.players_max
    }
}

/// Looks for rooms and games on the local network, and at `directories` for those of the games that this lobby knows. `interface` is the
/// network to use; `None` for what `PEERFLOCK_INTERFACE` says, or all.
///
/// # Errors
/// See [`BrowserBuilder::start`](peerflock::resolve::BrowserBuilder::start).
pub fn browser(interface: Option<Interface>, directories: &[DirectoryAddress]) -> Result<Browser, ResolveError> {
    let mut builder = Browser::builder(interface.unwrap_or_else(Interface::from_environment));
    for game in launch::GAMES {
        builder = builder.game(game.name).game(listed_game(game.name, Stage::Gathering));
    }
    directories.iter().cloned().fold(builder, |builder, directory| builder.directory(directory)).start()
}

/// What a mesh's listing calls its game.
pub fn listed_game(game: &str, stage: Stage) -> String {
    match stage {
        Stage::Gathering => format!("{game}{GATHERING}"),
        Stage::Playing => game.to_owned(),
    }
}

/// A round-trip time in as many digits as a player wants to read.
pub fn round_trip_words(round_trip: Option<Duration>) -> String {
    match round_trip {
        None => "...".to_owned(),
        Some(round_trip) if round_trip < Duration::from_millis(1) => "< 1 ms".to_owned(),
        Some(round_trip) => format!("{} ms", round_trip.as_millis()),
    }
}

fn milliseconds<S: serde::Serializer>(round_trip: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Microseconds are noise, and three digits after the point are what JSON readers expect of them.
    round_trip.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3).serialize(serializer)
}

fn text_form<S: serde::Serializer>(mesh: &MeshId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(mesh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_and_games_are_told_apart() {
        let listed = listed_game("Murmuration", Stage::Gathering);
        assert_eq!(listed.strip_suffix(GATHERING), Some("Murmuration"));
        assert_eq!(listed_game("Murmuration", Stage::Playing), "Murmuration");
    }

    #[test]
    fn round_trips_are_short_to_read() {
        assert_eq!(round_trip_words(None), "...");
        assert_eq!(round_trip_words(Some(Duration::from_micros(300))), "< 1 ms");
        assert_eq!(round_trip_words(Some(Duration::from_micros(23_900))), "23 ms");
    }
}
