//! What was said: reliable, once, in its sender's order, to everyone, to those near, or to one.
//!
//! A message to all goes in a datagram if it fits one. A lost datagram is missed at the next on the link and sent again; where a relay
//! dies with a message on it, the neighbors' digests show the gap, and it is pulled from whoever has it (see `flood`). Messages to one
//! ride the links' streams, and are repeated until their receipt comes back. What is on its way to one is bounded, so that no stream
//! fills with it; the rest waits, up to a limit that the sender is told of.

mod broadcast;
mod letter;
mod private;

pub(crate) use broadcast::{Broadcast, Taken};
pub(crate) use letter::Letters;
pub(crate) use private::{Place, Private};

use crate::id::PeerId;

/// Why a message was not sent. Nothing was sent, nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No other member is here to hear it; wait for one to join.
    #[error("nobody else is here to hear it; wait until somebody joins")]
    NobodyThere,
    /// That peer is no member (any more).
    #[error("{0:?} is not in the mesh; look at the members")]
    UnknownPeer(PeerId),
    /// Of the peers that a message was for, these are no members (any more).
    #[error("{0:?} are not in the mesh; look at the members")]
    UnknownPeers(Vec<PeerId>),
    /// The payload is too long; cut it.
    #[error("{len} bytes, where a message holds at most {max}; cut it into several")]
    TooLong {
        /// How long it was, in bytes.
        len: usize,
        /// How long it may be, in bytes.
        max: usize,
    },
    /// Too much is on its way to that peer already; wait for it to catch up.
    #[error("{0:?} has not yet received what was sent before; wait and send again")]
    Backlog(PeerId),
    /// More than a member may say to all ([`Limits::origin_bytes_per_second`](crate::Limits::origin_bytes_per_second)); wait a moment.
    #[error("more was said to all than a member may in so short a time; wait a moment and send again, or send less")]
    TooFast,
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}
