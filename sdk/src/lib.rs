//! # Peerflock: serverless multiplayer, the players are the network
//!
//! No server, no account, no port to open, no host whose leaving ends the game. Every peer floods what it owns, once a tick,
//! to a handful of neighbors; everyone ends up with everyone's world.
//!
//! ```no_run
//! use peerflock::{Event, PeerMesh, Target, Topic};
//!
//! const CHAT: Topic = Topic(Topic::RESERVED);
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("dusk").password("hunter2").player("Ada").start().await?;
//! println!("others can join with {}", mesh.ticket());
//! while let Some(event) = mesh.next_event().await {
//!     match event {
//!         Event::PeerJoined { peer, profile } => {
//!             println!("{} is here", profile.name);
//!             mesh.send(Target::One(peer), CHAT, "hello")?;
//!         }
//!         Event::Message { from, payload, .. } => println!("{from}: {}", String::from_utf8_lossy(&payload)),
//!         Event::PeerLeft { peer, .. } => println!("{peer} is gone"),
//!         _ => {}
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! Whoever starts the same with the same password joins; who is first opens the mesh, and may leave it like anybody else.
//!
//! # The parts
//! - [`PeerMesh`] is the handle: who is here, what is said, what the world looks like. [`PeerMesh::named`] begins a
//!   [`PeerMeshBuilder`], which [starts](PeerMeshBuilder::start) it in a tokio runtime, or
//!   [in the background](PeerMeshBuilder::start_in_background) of a program that has none.
//! - [`Event`] is what happens: members come and go, messages arrive, the [world changes](WorldEvent).
//! - [`resolve`] is how peers find each other: local network, [`Ticket`], address. A [`Browser`](resolve::Browser) lists what
//!   there is to join.
//! - [`identity`] keeps who a player is from one start to the next.
//! - [`Metrics`] tells what it costs and how it goes.
//! - [`conditioner`] makes a bad network out of a good one, to see how a game fares there.
//!
//! # The world
//! A world is made of entities with components. Each entity has one owner, and only its owner changes it:
//!
//! ```no_run
//! use peerflock::{Change, Group, Kind, Orphan, PeerMesh, Shape, Value};
//!
//! # async fn play() -> Result<(), peerflock::StartError> {
//! let mut builder = PeerMesh::named("dusk").loopback_only();
//! let position = builder.registry_mut().register(Kind { name: "position".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
//! let mesh = builder.start().await?;
//!
//! let bird = mesh.spawn();
//! mesh.commit(vec![
//!     Change::Spawn { entity: bird, orphan: Orphan::Adopt },
//!     Change::Set { entity: bird, kind: position, value: Value::fields([3, 4]) },
//! ]);
//! for tick in 0.. {
//!     mesh.commit(vec![Change::Set { entity: bird, kind: position, value: Value::fields([3 + tick, 4]) }]);
//!     for event in mesh.try_events() {
//!         // Draw what the others did.
//!     }
//!     tokio::time::sleep(std::time::Duration::from_millis(16)).await;
//! }
//! # Ok(()) }
//! ```
//!
//! [`commit`](PeerMesh::commit) ends a tick: what changed goes out once, in the same bytes for everybody, unreliably; the next
//! tick supersedes what is lost. When an owner leaves, its entities vanish with it or are adopted by one of those who stay
//! ([`Orphan`]), by a rule that all compute alike.
//!
//! # What is said
//! [`send`](PeerMesh::send) says something to all, to those near, or to one. Everyone who stays gets what is said to all, and whom it
//! is for what is said to one: once, in its sender's order, whatever is lost and whoever of those between dies. Messages of up to some
//! 1,000 bytes travel beside the state and as fast; longer ones take what is left of a line.
//!
//! # Services
//! What takes part in a mesh beside the game and keeps out of its events is a [`service`]: a state machine with a channel of its
//! own, as many of them on one mesh as are wanted, in programs with or without async.
//!
//! # Bad lines
//! State never waits: a link that carries less than there is for it gets fewer ticks, not older ones, and
//! [`pressure`](PeerMesh::pressure) says so. A neighbor that falls quiet is gone around within some 120 ms; one that is silent for a
//! second is given up, a member after one and a half. After sleep, or on another network, [`rebind`](PeerMesh::rebind) and
//! [`refresh`](PeerMesh::refresh) bring a mesh back at once.
//!
//! # What crosses the network
//! One UDP port per peer carries QUIC connections to a handful of neighbors: all other members up to eight, beyond that the nearest
//! and one drawn by lot, and what the others say is relayed. Both ends show a bare Ed25519 key; then the password is proved,
//! without showing it, inside the encrypted connection. A stranger who does not know it gets a refusal and nothing else. It
//! separates inside from outside, not one member from another: who is inside sees the others' addresses.
//!
//! # Limits
//! Whatever can grow has a limit with a name, in [`Limits`] or in the module where it grows: links, members, entities, bytes
//! that wait for a slow neighbor, events that wait for a slow game.

pub mod conditioner;
pub mod directory;
mod driver;
pub mod identity;
mod link;
mod metrics;
mod peer_mesh;
mod reach;
pub mod resolve;
pub mod service;
mod sync;
#[cfg(any(test, feature = "test-utils"))]
pub mod test_utils;
mod unix_time;

pub use bytes::Bytes;
pub use conditioner::{Conditioner, ParseConditionerError};
pub use metrics::{LinkMetrics, Metrics, Pressure};
pub use peer_mesh::{PeerMesh, PeerMeshBuilder, StartError, StartingMesh};
pub use peerflock_proto::state::{FIELDS_MAX, GROUP_MAX, REFS_MAX};
pub use peerflock_proto::wire::codec;
pub use peerflock_proto::{
    Boot, Certificate, Change, CloseReason, Counters, EntityId, Event, Farewell, Fields, Group, Identity, Kind, KindId, Limits,
    LinkId, Member, MeshId, MeshTime, NeighborLimits, Orphan, OwnershipError, OwnershipPolicy, ParseCertificateError, PeerId,
    Profile, Refusal, Registry, RemovalError, RemovalRule, Revocations, SendError, Shape, Target, Tick, Topic, Value, WorldEvent,
    quantize,
};
pub use reach::doctor;
pub use resolve::{FoundMesh, Interface, Listing, ParseTicketError, Resolver, Ticket};

/// The examples of the book that need no Bevy.
#[cfg(all(doctest, feature = "documents"))]
mod book {
    #[doc = include_str!("../../docs/topics.md")]
    struct Topics;
    #[doc = include_str!("../../docs/documents.md")]
    struct Documents;
    #[doc = include_str!("../../docs/content.md")]
    struct Content;
    #[doc = include_str!("../../docs/work.md")]
    struct Work;
}
