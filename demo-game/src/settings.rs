//! What one process of the game is told: by its command line, or by the launcher that started it.

use std::str::FromStr;

use bevy::prelude::*;
use peerflock::{Listing, NeighborLimits, PeerMesh, PeerMeshBuilder, Profile, Ticket};
use serde::{Deserialize, Serialize};

use crate::world::clean;

/// What a bot's profile says beside its name.
pub(crate) const BOT: &[u8] = b"bot";
/// What a spectator's profile says.
pub(crate) const WATCHER: &[u8] = b"watch";
/// How many players a lobby announces room for: a choice of the game's, the mesh itself has room for more.
const PLAYERS_MAX: usize = 32;

/// One player's settings. The password among them is why they have no `Debug`, and reach a child over a pipe and not over its
/// command line, which everybody on the machine can read.
#[derive(Clone, Deserialize, Resource, Serialize)]
pub(crate) struct Settings {
    /// What to call the player.
    pub(crate) name: String,
    /// Whether it is a bot.
    pub(crate) bot: bool,
    /// Whether it only watches: without a leader, without birds.
    #[serde(default)]
    pub(crate) watch: bool,
    /// The mesh to open or to find, where there is no ticket.
    pub(crate) mesh: String,
    /// Opens the mesh.
    pub(crate) password: Option<String>,
    /// An invitation.
    pub(crate) join: Option<String>,
    /// How many links to hold: min, ideal, max.
    pub(crate) neighbors: [usize; 3],
    /// Whether others on the network may join.
    pub(crate) lan: bool,
    /// Whether to look for others, and to let them find us.
    pub(crate) discover: bool,
    /// Where players of all the world find each other.
    #[serde(default)]
    pub(crate) directories: Vec<String>,
    /// The one network to use.
    pub(crate) interface: Option<String>,
    /// How many birds to bring.
    pub(crate) birds: usize,
    /// The seed of what is left to chance.
    pub(crate) seed: u64,
    /// Fixed ticks per second.
    pub(crate) tick_rate: f64,
    /// Seconds per round.
    pub(crate) round_seconds: u32,
    /// Whether the leader carries a [`Pulse`](crate::world::Pulse).
    pub(crate) measured: bool,
}

impl Settings {
    /// The mesh they mean. A ticket that is none was refused when the command line was read, or is the launcher's own.
    pub(crate) fn builder(&self) -> PeerMeshBuilder {
        let ticket = self.join.as_ref().and_then(|ticket| Ticket::from_str(ticket).ok());
        let mut builder = match ticket {
            Some(ticket) => PeerMesh::from_ticket(&ticket),
            None => PeerMesh::named(&self.mesh),
        };
        let [min, ideal, max] = self.neighbors;
        let mut profile = Profile::named(clean(&self.name, Profile::NAME_BYTES_MAX));
        if self.bot {
            profile.data = BOT.into();
        } else if self.watch {
            profile.data = WATCHER.into();
        }
        builder = builder
            .profile(profile)
            .lan(self.discover)
            // Nobody leads what a spectator would adopt.
            .adopts(!self.watch)
            .neighbors(NeighborLimits::new(min, ideal, max))
            .listing(Listing::new("Murmuration").players_max(PLAYERS_MAX));
        if let Some(password) = &self.password {
            builder = builder.password(password);
        }
        // What is none was refused when the command line was read.
        for directory in self.directories.iter().filter_map(|directory| directory.parse().ok()) {
            builder = builder.directory(directory);
        }
        match &self.interface {
            _ if !self.lan => builder.loopback_only(),
            Some(interface) => builder.interface(interface.as_str()),
            None => builder,
        }
    }
}
