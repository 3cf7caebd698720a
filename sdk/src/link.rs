//! The links of a mesh, over QUIC: the only room that touches a socket.
//!
//! One UDP socket dials and accepts. A link is one connection: TLS 1.3 with raw public keys both ways ([`tls`]), one stream
//! for frames ([`connection`]), unreliable datagrams beside it that nothing holds back ([`congestion`]). What the link cannot
//! take is skipped, never queued ([`meter`]); bursts are spread ([`paced`]). What is large and can wait takes what is left ([`bulk`]).
//! Beside QUIC go only small packets that find ways through routers ([`probe`]). Who may knock is the gate's business ([`gate`]),
//! who may come in the protocol's.

mod bulk;
mod bulk_rate;
mod conditioned;
mod congestion;
mod connection;
mod endpoint;
pub(crate) mod gate;
mod ids;
mod meter;
mod outbox;
mod paced;
pub(crate) mod probe;
mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::net::SocketAddr;

use bytes::Bytes;
use peerflock_proto::{CloseReason, LinkId, PeerId};
use tokio::sync::oneshot;

pub(crate) use bulk::{BulkPort, BulkReader, BulkWriter, Ended};
pub(crate) use connection::{LinkHandle, Taken};
#[cfg(any(test, feature = "test-utils"))]
pub(crate) use endpoint::plain;
pub(crate) use endpoint::{LinkEndpoint, OpenError};
pub(crate) use meter::Reading;
pub(crate) use outbox::Backlog;
pub(crate) use socket::SocketCounters;

/// What a link tells the driver.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// Somebody whom the gate let through asks for a connection. Dropping it refuses.
    Knock { incoming: Box<quinn::Incoming> },
    /// The connection stands and both keys are proved.
    Up { link: LinkId, peer: PeerId, address: SocketAddr, exporter: [u8; 32], handle: LinkHandle },
    /// Dialing led nowhere.
    DialFailed { link: LinkId },
    /// One frame. `handled` wants to know when the node has seen it.
    Frame { link: LinkId, bytes: Bytes, handled: Option<oneshot::Sender<()>> },
    /// One datagram.
    Datagram { link: LinkId, bytes: Bytes },
    /// The other end opened a bulk stream.
    Bulk { link: LinkId, stream: Box<(quinn::SendStream, quinn::RecvStream)> },
    /// The connection is gone.
    Down { link: LinkId, reason: CloseReason },
}

/// An address as everybody else writes it: a socket for both families shows IPv4 inside IPv6.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
