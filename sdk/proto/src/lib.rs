//! The Peerflock protocol itself: a mesh of players without a server, as one state machine that touches nothing.
//!
//! Each peer holds a few links, floods what it owns over them once a tick, and everyone ends up with everyone's world. This crate has
//! no socket, clock, thread, async or randomness of the operating system: time comes in as an argument, randomness as a
//! seed, output leaves as a list. So a thousand peers run in one thread in virtual time, and any failure replays from its seed.
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
//! | [`wire`] | what crosses a link: frames on its stream, numbered parcels in datagrams, the codec, the version |
//! | [`admission`] | may this stranger in: the password handshake and the limits on guessing |
//! | `overlay` | who are my neighbors: the nearest, one by lot, and which of them fell quiet |
//! | `flood` | how does it reach everyone once, by the shortest way, and what is missing |
//! | `roster` | who is here, and what time is it for all |
//! | [`state`] | what changed: quantized differences, baselines, ownership |
//! | `message` | what was said: reliable, once, in its sender's order, sealed by its author |
//!
//! With the feature `sim` there is one more, `sim`: many nodes on virtual links in virtual time.
//!
//! # A tick
//!
//! The game commits its [`Change`]s. The node ends its tick: one snapshot of all it owns, as differences from the newest tick that
//! everyone has acknowledged, cut into packets that decode alone, the same bytes for every receiver. What waits for a neighbor is
//! packed into *parcels*, one datagram each, numbered on that link. Neighbors check each packet, forward it along its origin's tree,
//! packed with what else goes that way, and apply it. What the owner of an entity claims is what the world shows; nobody else's
//! claims count.
//!
//! # A message
//!
//! A message to all takes the same way, in the same parcels, unless it is too long for one; then it goes over the links' streams. It is
//! numbered by its author, and covered by the author's next *seal*: one signature over all since the last, a few times a second. Who
//! sees a gap in a link's parcels asks for what was in them; what a relay took with it shows in the *digests* by which neighbors tell
//! each other, with every beat, how far they have each author's messages, and is pulled from one that has it.
//!
//! # A beat
//!
//! Every 50 ms a node looks around: links that fell quiet are gone around, dead ones closed, silent members let go, neighbors measured,
//! dialed and retired; each link gets its digest if there is news, and an empty parcel if it carried nothing. All of it by
//! [`Node::handle_timeout`], when [`Node::poll_timeout`] says so.

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

pub use admission::{Certificate, Membership, MeshKey, ParseCertificateError, RemovalRule, Revocations};
pub use config::{Config, Limits, NeighborLimits, Profile};
pub use id::{Boot, EntityId, Identity, LinkId, MeshId, OwnershipPolicy, ParseIdError, PeerId, Signature, Tick};
pub use message::SendError;
pub use node::{
    ANSWER_WITHIN, Beacon, Candidate, CloseReason, Counters, Event, Farewell, Filter, Input, LinkInfo, Member, Node, Output,
    OwnershipError, REQUESTS_MAX, Refusal, RemovalError, Target, Topic, WorldEvent,
};
pub use overlay::{RELAY_IP, is_relay};
pub use state::{Change, Fields, Group, Kind, KindId, Orphan, Registry, Shape, Value, quantize};
pub use time::{MeshTime, Time};
