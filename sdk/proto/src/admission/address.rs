//! Whom an address stands for: everybody, one household, or somebody on this network.

use std::net::{IpAddr, Ipv6Addr};

use crate::overlay::RELAY_IP;

/// Whether an address is one of the internet, rather than of a LAN, of this machine, or of a provider's own network.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            // Of no place at all: relayed links end there (RFC 7600).
            let nowhere = IpAddr::V4(ip) == RELAY_IP;
            !(nowhere
                || ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || shared)
        }
        IpAddr::V6(ip) => {
            let local = (ip.segments()[0] & 0xfe00) == 0xfc00 || (ip.segments()[0] & 0xffc0) == 0xfe80;
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || local)
        }
    }
}

/// What one household has, and is counted as one: an IPv4 address, or a whole /64 of IPv6, of which it takes as many as it likes.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        ip => ip,
    }
}
