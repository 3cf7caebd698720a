//! How peers find a mesh: by address, by ticket, on the local network.
//!
//! | resolver | what a player needs | how it works |
//! | --- | --- | --- |
//! | static address | `192.0.2.7:4433` | [`join_address`](crate::PeerMeshBuilder::join_address): dialed until somebody answers |
//! | ticket | a short text | [`Ticket`]: mesh, addresses, key and, where there is one, the secret |
//! | local network | nothing | mDNS: every member announces the mesh, everybody listens |
//!
//! Resolvers only ever say where somebody *may* be. Who it is, the link proves; whether both may play together, the
//! admission handshake decides.
//!
//! A lobby wants to see all meshes, not join one: [`Browser`] keeps looking, [`browse`] looks once. Their round-trip times
//! come from a question that every QUIC endpoint answers without keeping anything: which versions it speaks (RFC 9000,
//! section 6). So a mesh is measured before it is joined, and never notices more than a packet.
//!
//! All of them keep to one network [`Interface`] where that is set; tests and experiments set loopback.

pub(crate) mod address;
mod browser;
mod interface;
pub(crate) mod lan;
mod ping;
mod sighting;
pub(crate) mod ticket;

pub use browser::{Browser, FoundMesh, browse};
pub use interface::{INTERFACE_VARIABLE, Interface};
pub use ping::ping;
pub use ticket::{ParseTicketError, Ticket};

/// What resolvers tell strangers about a mesh, so that a lobby can list it. Anybody on the network can read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Which game is played, cut to [`Listing::GAME_BYTES_MAX`].
    pub game: String,
    /// How many may play. 0 says nothing about it.
    pub players_max: usize,
    /// Whether a password or a ticket is needed. Set by itself when the mesh has one.
    pub locked: bool,
}

impl Listing {
    /// The longest name of a game, in bytes of UTF-8.
    pub const GAME_BYTES_MAX: usize = 64;

    /// A listing of `game`.
    pub fn new(game: impl Into<String>) -> Self {
        Self { game: cut(game.into(), Self::GAME_BYTES_MAX), ..Self::default() }
    }

    /// The same listing with room for `players_max`.
    pub fn players_max(mut self, players_max: usize) -> Self {
        self.players_max = players_max;
        self
    }
}

/// Why nothing could be looked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The operating system would not have it.
    #[error("looking for meshes on the local network is not possible here: {0}. Join by address or ticket instead")]
    Lan(String),
    /// A thread or socket could not be made.
    #[error("the operating system refused a thread or a socket: {0}. Close other programs and try again")]
    Io(#[from] std::io::Error),
}

/// At most `bytes_max` bytes of `text`, never half a character.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
