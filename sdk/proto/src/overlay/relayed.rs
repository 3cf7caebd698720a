//! Links that somebody outside of the mesh carries, such as a directory: what two first members have who find no way to each other.
//!
//! Whoever drives the node shows the other end of such a link at an address that no machine has ([`RELAY_IP`]), with a port of its own
//! choice, and sends nothing there. It is a link like any other, but a guest's: a direct one takes its place, it is told to nobody, and
//! it goes as soon as both ends hear each other through members.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The IPv4 dummy address (RFC 7600, section 4.8): no packet ever goes there.
pub const RELAY_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));

/// Whether what is there is the other end of a relayed link.
pub fn is_relay(address: SocketAddr) -> bool {
    address.ip().to_canonical() == RELAY_IP
}
