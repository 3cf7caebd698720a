//! The Peerflock protocol itself: a mesh of players without a server, as one state machine that touches nothing.
//!
//! Each peer holds a few links, floods what it owns over them once a tick, and everyone ends up with everyone's world. This crate has
//! no socket, clock, thread, async or randomness of the operating system: time comes in as an argument, randomness as a
//! seed, output leaves as a list. So a hundred peers run in one thread in virtual time, and any failure replays from its seed.
//! The crate `peerflock` puts it on QUIC; games use that, or the Bevy plugin above it.
//!
//! # The rooms
//!
//! Each answers one question; [`node`] is the one state machine that they plug into, and [`node::Input`] and [`node::Output`] are
//! the whole seam to the world.
//!
//! | room | it answers |
//! | --- | --- |
//! | [`id`] | who and which: peers, meshes, entities, links |
//! | [`time`] | what time it is, as an argument |
//! | [`config`] | how much, how long, how often: every limit with its name and unit |
//! | [`wire`] | what crosses a link: frames, packets, the codec, the version |
//! | [`admission`] | may this stranger in: the password handshake and the limits on guessing |
//! | `overlay` | who are my neighbors |
//! | `flood` | how does a frame reach everyone once |
//! | `roster` | who is here, and what time is it for all |
//! | [`state`] | what changed: quantized differences, baselines, ownership |
//! | `message` | what was said: reliable, once, in its sender's order |
//!
//! # A tick
//!
//! The game commits its [`Change`]s. The node ends its tick: one snapshot of all it owns, as differences from the newest tick that
//! everyone has acknowledged, cut into packets that decode alone, the same bytes for every receiver. Neighbors check each packet,
//! forward it along its origin's tree, and apply it. What the owner of an entity claims is what the world shows; nobody else's claims count.

pub mod admission;
pub mod config;
mod flood;
pub mod id;
mod message;
pub mod node;
mod overlay;
mod roster;
#[cfg(feature = "sim")]
pub mod sim;
pub mod state;
pub mod time;
pub mod wire;

pub use admission::MeshKey;
pub use config::{Config, Limits, NeighborLimits, Profile};
pub use id::{Boot, EntityId, Identity, LinkId, MeshId, ParseIdError, PeerId, Signature, Tick};
pub use message::SendError;
pub use node::{
    Beacon, Candidate, CloseReason, Counters, Event, Farewell, Filter, Input, LinkInfo, Member, Node, Output, Target, Topic,
    WorldEvent,
};
pub use state::{Change, Kind, KindId, Orphan, Registry, Shape, Value, quantize};
pub use time::{MeshTime, Time};
