//! A directory: a small service anyone can run, at which members of a mesh find each other across the internet.
//!
//! It is no game server: it knows nothing of a game, and when it is gone play goes on. It knows a mesh by a name that only who
//! knows its name and password can make, and keeps for each member a sealed note that only such people can read; it learns neither, and
//! nobody else can change or withdraw what one has registered. It tells two that cannot reach each other to try at the same time; and where
//! no way opens, and nobody is there through whom they could hear each other, it relays their packets, which it cannot read. What a mesh
//! tells of itself [publicly](crate::Listing::public) whoever knows the game's name can read, its directory as well.
//!
//! ```no_run
//! use peerflock::PeerMesh;
//! use peerflock::directory::{DirectoryOptions, DirectoryService};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! // Whoever runs it, on a machine that can be reached:
//! let service = DirectoryService::start(DirectoryOptions::default()).await?;
//! println!("players add {}", service.address("directory.example.org"));
//!
//! // Whoever plays:
//! let mesh = PeerMesh::named("dusk").password("hunter2").directory("directory.example.org:4434".parse()?).start().await?;
//! # Ok(()) }
//! ```
//!
//! The program `peerflock-directory` is the same with options on the command line. Players talk to it over QUIC from the very socket on
//! which they play, so that it sees them where other players will. With its key in the address (`host:port#key`) nobody can stand in
//! for it; without, whoever does sees no more than it would.

mod address;
mod client;
mod dial;
mod http;
mod limits;
mod public;
mod relays;
mod service;
mod store;
mod wire;

pub use address::{DirectoryAddress, ParseDirectoryError};
pub use client::Directory;
pub use limits::DirectoryLimits;
pub(crate) use public::Lookout;
pub use service::{DirectoryError, DirectoryOptions, DirectoryService, DirectoryStats};
#[cfg(test)]
pub(crate) use wire::NOTE_BYTES_MAX as PUBLIC_NOTE_BYTES_MAX;
pub use wire::Referral;

/// Where a directory listens unless it is told otherwise.
pub const PORT: u16 = 4_434;
