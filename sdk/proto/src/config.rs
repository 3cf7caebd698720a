//! Every limit and every pace, with its name, unit and default.

use std::time::Duration;

use bytes::Bytes;

use crate::admission::{Membership, RemovalRule};
use crate::state::{KindId, Registry};

/// What one node of a mesh is told at its start. All members should agree on `registry`; the rest is each peer's own.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many links to hold.
    pub neighbors: NeighborLimits,
    /// What this peer says of itself to all members.
    pub profile: Profile,
    /// The components that the game replicates. Members with another registry are refused, with an error that says so.
    pub registry: Registry,
    /// Where other members can reach this peer; told to members only. The driver knows its sockets.
    pub addresses: Vec<std::net::SocketAddr>,
    /// How far a frame may travel, in links. 0 keeps everything at home. Default 16.
    pub hop_limit: u8,
    /// How often to say that we are still here when the game commits nothing and nothing is said. Default 100 ms; in a mesh of
    /// more than 25 members 4 ms for each of them.
    pub heartbeat: Duration,
    /// A link that stayed silent this long is dead and is closed. Each carries something with every beat of 50 ms, and is gone
    /// around after some 120 ms of silence. Default 1 s.
    pub link_silence: Duration,
    /// A member whom nobody has heard for this long is gone. Longer than `link_silence`, or relayed members would go first.
    /// Default 1.5 s; four heartbeats where that is longer.
    pub member_silence: Duration,
    /// Most bytes per second of our own state for each neighbor; what does not fit waits, by its weight ([`Change::Weigh`]).
    /// Lines that carry less are noticed by themselves. Default: as many as there are.
    ///
    /// [`Change::Weigh`]: crate::state::Change::Weigh
    pub state_rate: Option<u32>,
    /// When all of our neighbors fall silent at once, two at the least, it is we who are cut off, or the whole mesh is: no link is
    /// closed and nobody is gone for as long as that lasts, but no longer than this. Default 15 s; zero for never.
    pub outage_max: Duration,
    /// Whether this peer adopts what leavers leave behind. If not, the next in rank does, half a second later. Default true.
    pub adopts: bool,
    /// The component that says where things are, by its first three integers: with it, a leaver's entities go to whoever is nearest,
    /// and a member is where its own entities are that vanish with it. Without it, and for members that are nowhere, a hash decides. All
    /// members should say the same. Default none.
    pub nearest_by: Option<KindId>,
    /// Who may remove members: the same for all. Default nobody.
    pub removal: RemovalRule,
    /// Where members show certificates, whose those are and our own. All members have the same authority. Default none.
    pub membership: Option<Membership>,
    /// Whether our address is told to nobody: others reach us through those whom we dial ourselves, and we dial only whom our own program
    /// names. Default false.
    pub relay_only: bool,
    /// Sizes and counts that nothing may exceed.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            neighbors: NeighborLimits::default(),
            profile: Profile::default(),
            registry: Registry::default(),
            addresses: Vec::new(),
            hop_limit: 16,
            heartbeat: Duration::from_millis(100),
            link_silence: Duration::from_secs(1),
            member_silence: Duration::from_millis(1_500),
            state_rate: None,
            outage_max: Duration::from_secs(15),
            adopts: true,
            nearest_by: None,
            removal: RemovalRule::Nobody,
            membership: None,
            relay_only: false,
            limits: Limits::default(),
        }
    }
}

/// How many neighbors a peer holds: it looks for anybody below `ideal`, for the nearest up to `max`, and never holds more.
///
/// Up to `max + 1` members everybody is linked to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighborLimits {
    /// Below this, a neighbor that is full itself makes room for us. Default 2.
    pub min: usize,
    /// Below this we look for more. Default 3.
    pub ideal: usize,
    /// Never more than this. Default 7.
    pub max: usize,
}

impl NeighborLimits {
    /// No peer holds more neighbors than this, whatever it is told.
    pub const MAX: usize = 64;

    /// Limits in their order: `1 <= min <= ideal <= max`; values out of order are moved to fit.
    pub fn new(min: usize, ideal: usize, max: usize) -> Self {
        let min = min.clamp(1, Self::MAX);
        let ideal = ideal.clamp(min, Self::MAX);
        Self { min, ideal, max: max.clamp(ideal, Self::MAX) }
    }

    /// The defaults under another `max`: `min` and `ideal` are lowered where they exceed it.
    pub fn with_max(max: usize) -> Self {
        let (max, default) = (max.clamp(1, Self::MAX), Self::default());
        Self { min: default.min.min(max), ideal: default.ideal.min(max), max }
    }
}

impl Default for NeighborLimits {
    fn default() -> Self {
        Self { min: 2, ideal: 3, max: 7 }
    }
}

/// What a peer says of itself to all members: shown to players, proved by nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What to call the player, cut to [`Profile::NAME_BYTES_MAX`].
    pub name: String,
    /// The game's own facts about the player (color, team, ready), cut to [`Profile::DATA_BYTES_MAX`].
    pub data: Bytes,
}

impl Profile {
    /// The longest name, in bytes of UTF-8.
    pub const NAME_BYTES_MAX: usize = 64;
    /// The most data, in bytes.
    pub const DATA_BYTES_MAX: usize = 512;

    /// A profile with only a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), data: Bytes::new() }.cut()
    }

    /// The same profile within its limits.
    pub fn cut(mut self) -> Self {
        while self.name.len() > Self::NAME_BYTES_MAX {
            self.name.pop();
        }
        self.data.truncate(Self::DATA_BYTES_MAX);
        self
    }
}

/// What nothing may exceed, whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most members in the mesh; a newcomer to a full mesh is told so. Default 1,000.
    pub members: usize,
    /// Most live entities that one origin owns. Default 16,384.
    pub entities_per_origin: usize,
    /// Longest component value, in bytes. Default 4 KiB.
    pub component_bytes: usize,
    /// Longest message payload, in bytes. Default 64 KiB.
    pub message_bytes: usize,
    /// Messages kept for members that missed them, in bytes of payload per origin; all origins together never take more than 16
    /// times as much. Default 1 MiB.
    pub message_cache_bytes: usize,
    /// Messages received ahead of a missing one, per origin. Default 1,024.
    pub messages_ahead: usize,
    /// Wrong passwords from one address before it is locked out. Default 5.
    pub guesses: u32,
    /// Strangers in the middle of admission at once. Default 64.
    pub strangers: usize,
    /// Members behind one public address (of IPv6 one network of 64 bits). Those of a LAN and of this machine are not counted. Default 8.
    pub members_per_address: usize,
    /// Bytes per second that may come over one link, whoever said them; twice as many for a moment. Default 32 MiB.
    pub link_bytes_per_second: u32,
    /// Bytes per second of one member's own state and messages, as its neighbors let them in; twice as many for a moment. Half of it is what
    /// it may say to all: [`SendError::TooFast`](crate::SendError::TooFast). All members should say the same. Default 8 MiB.
    pub origin_bytes_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 1_000,
            entities_per_origin: 16_384,
            component_bytes: 4 * 1024,
            message_bytes: 64 * 1024,
            message_cache_bytes: 1024 * 1024,
            messages_ahead: 1_024,
            guesses: 5,
            strangers: 64,
            members_per_address: 8,
            link_bytes_per_second: 32 * 1024 * 1024,
            origin_bytes_per_second: 8 * 1024 * 1024,
        }
    }
}
