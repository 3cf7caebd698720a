//! # Meet before you play
//!
//! A room is a [`PeerMesh`](peerflock::PeerMesh) like any other: players find it on the local network or by ticket, see each
//! other, talk, and start the game together. No server keeps it; it outlives whoever opened it.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use peerflock_lobby::{Room, RoomEvent, RoomOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = RoomOptions::new("Ada");
//! let mesh = options.create("Friday night", Some("hunter2"), "Murmuration", 8)?.start_in_background().wait()?;
//! let mut room = Room::new(mesh, &options);
//! room.say("hello").ok();
//! loop {
//!     for event in room.poll(Instant::now()) {
//!         if let RoomEvent::Came(name) = event {
//!             println!("{name} is here; we are {}", room.members().len());
//!         }
//!     }
//!     std::thread::sleep(Duration::from_millis(50));
//! }
//! # }
//! ```
//!
//! # The parts
//! - [`Room`] is the place: members with name, color, readiness and round trip; chat; starting the game. [`RoomOptions`]
//!   opens or joins one, [`RoomError`] says in a player's words why not.
//! - [`LobbyPlugin`] keeps a room going in a Bevy game; [`LobbyRoom`] is the resource, [`LobbyEvent`] the messages.
//! - [`RoomInfo`] is a line of the list: what a [`Browser`](peerflock::resolve::Browser) found, cleaned for show.
//! - [`chat`] is what is shown of the talk, which the mesh's own [chat](peerflock::service::chat) carries: bounded, cleaned by
//!   [`text`], each sender held to a pace, the last lines passed on to who comes late.
//! - [`seats`] are the rules by which all know alike who plays, who watches, and whose room it is.
//! - [`start`] is how all who are present agree to start, without network or clock; [`launch`] runs the game's process.
//! - [`card`] is what members say of themselves.
//!
//! # How a game starts
//! Somebody presses Start. Every lobby whose player is ready agrees by itself. When all have, it counts down for five seconds, in
//! which anybody can stop it. Then the starter draws a fresh
//! 32-byte secret, opens the game's own mesh with it, and sends the room the secret and a ticket; each lobby then launches its
//! game into that mesh, at the same moment of the room's clock, with the same seed, players and settings. Who comes later is let in by
//! one who plays. Nobody outside of the room can follow, and the room stays open behind the game.
//!
//! # Limits
//! Nobody in a room is trusted with more than a seat. Text is cleaned where it arrives, history, names and rates are bounded
//! by named constants, and what a member writes never becomes a program to run: games are launched from a
//! [list](launch::GAMES) of known ones.

pub mod browse;
pub mod card;
pub mod chat;
mod invite;
pub mod launch;
mod plugin;
mod room;
pub mod seats;
pub mod settings;
pub mod start;

pub use browse::{Filter, RoomInfo, Stage};
pub use card::{Card, RoomFacts};
pub use chat::SayError;
pub use invite::QrSquare;
pub use launch::{Launch, LaunchEvent, RoomGame};
pub use peerflock::service::chat::text;
pub use plugin::{LobbyEvent, LobbyPlugin, LobbyRoom};
pub use room::{Room, RoomError, RoomEvent, RoomMember, RoomOptions, WATCHERS_MAX};
pub use settings::{Recent, Settings};
pub use start::Handover;

/// Compiles what the book says.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../docs/lobby.md")]
    mod lobby {}
}
