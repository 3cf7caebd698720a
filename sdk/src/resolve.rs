//! How peers find a mesh: on the local network, by ticket or link or address, by whom they met before, by a directory.
//!
//! | resolver | what a player needs | how it works |
//! | --- | --- | --- |
//! | local network | nothing | mDNS: a few members announce the mesh, everybody listens |
//! | ticket | a short text or a link | [`Ticket`]: mesh, addresses, key and, where there is one, the secret |
//! | address | `192.0.2.7:4433` | [`join_address`](crate::PeerMeshBuilder::join_address): dialed until somebody answers |
//! | address book | to have played before | [`AddressBook`]: a small file of who was met where |
//! | directory | its address | [`directory`](crate::directory): a small service that anyone can run |
//! | DHT | nothing | BitTorrent's Mainline DHT, with the cargo feature `dht` |
//! | your own | | anything that is a [`Resolver`] |
//!
//! All of them are asked at once, and what they say is merged. One that fails holds up nobody, and is used again when it is back;
//! [`PeerMesh::resolvers`](crate::PeerMesh::resolvers) tells how each fares. They only ever say where somebody *may* be. Who it is,
//! the link proves; whether both may play together, the admission handshake decides; and neither the mesh's name nor anything of its
//! password is sent before the link is encrypted and the other end has shown its key.
//!
//! A lobby wants to see all meshes, not join one: [`Browser`] keeps looking, [`browse`] looks once. On the local network all meshes can
//! be seen; beyond it those that want to be, by [`Listing::public`], at the directories and in the DHT of their members. Their round-trip times
//! come from a question that every QUIC endpoint answers without keeping anything: which versions it speaks (RFC 9000,
//! section 6). So a mesh is measured before it is joined, and never notices more than a packet.
//!
//! All of them keep to one network [`Interface`] where that is set; tests and experiments set loopback.

mod address_book;
mod announcer;
mod browser;
#[cfg(feature = "dht")]
mod dht;
pub(crate) mod hub;
mod interface;
pub(crate) mod lan;
mod listing;
mod merge;
mod ping;
mod pinger;
pub(crate) mod public;
mod rendezvous;
mod resolver;
mod sighting;
pub(crate) mod ticket;
pub(crate) mod told;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use address_book::AddressBook;
pub(crate) use address_book::write as write_whole;
pub use browser::{Browser, BrowserBuilder, FoundMesh, browse};
#[cfg(feature = "dht")]
pub use dht::{Dht, DhtOptions};
pub use hub::{CALL_DEADLINE, ResolverReport};
pub use interface::{INTERFACE_VARIABLE, Interface};
pub use listing::Listing;
pub use ping::ping;
pub use rendezvous::{Rendezvous, SEAL_BYTES};
pub use resolver::{Answer, Found, Registration, Resolver};
pub use ticket::{ParseTicketError, Ticket};

/// Why nothing could be looked for, or nobody told of us. Each is tried again by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The operating system would not have it.
    #[error("looking for meshes on the local network is not possible here: {0}. Join by address or ticket instead")]
    Lan(String),
    /// A thread or socket could not be made.
    #[error("the operating system refused a thread or a socket: {0}. Close other programs and try again")]
    Io(#[from] std::io::Error),
    /// A resolver did not answer in time.
    #[error("no answer within {deadline} s; check the connection and that the service runs", deadline = CALL_DEADLINE.as_secs())]
    Silent,
    /// A service could not be reached.
    #[error("{address} cannot be reached: {why}. Check the address, the connection, and that the service runs")]
    Unreachable {
        /// Where it should be.
        address: SocketAddr,
        /// What the network says.
        why: String,
    },
    /// A service would not do it.
    #[error("{by} refused: {why}")]
    Refused {
        /// Who.
        by: String,
        /// Why, and what to do.
        why: String,
    },
    /// A file can be neither read nor written.
    #[error("{path} can be neither read nor written: {source}. Check its owner and its rights, or move it away")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Something else, in words for the player.
    #[error("{0}")]
    Other(String),
}

/// At most `bytes_max` bytes of `text`, never half a character.
pub(crate) fn cut(mut text: String, bytes_max: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes_max));
    text
}
