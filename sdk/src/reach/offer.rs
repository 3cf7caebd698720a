//! What two that want a link tell each other. Over the mesh its author signs it; by a courier it is sealed.

use std::net::{IpAddr, SocketAddr};

use peerflock_proto::RELAY_IP;
use peerflock_proto::wire::codec;
use serde::{Deserialize, Serialize};

/// Most addresses of each sort.
pub(super) const ADDRESSES_MAX: usize = 8;
/// The longest offer, in bytes.
pub(super) const OFFER_BYTES_MAX: usize = 1_024;

/// Where I may be, and how to know me there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// Which attempt this is about. Whoever begins chooses it.
    pub(super) attempt: u64,
    /// Whether it answers an offer.
    pub(super) answer: bool,
    /// Of both ends together the key of the attempt.
    pub(super) token: [u8; 16],
    /// Whether the router gives each way another port. None where we do not know.
    pub(super) hard: Option<bool>,
    /// Addresses of the machine itself.
    pub(super) inner: Vec<SocketAddr>,
    /// Where others see us, and what a router promised us.
    pub(super) outer: Vec<SocketAddr>,
}

impl Offer {
    pub(super) fn encode(&self) -> Vec<u8> {
        // It is shorter than any limit of the codec.
        codec::encode(self).map(|bytes| bytes.to_vec()).unwrap_or_default()
    }

    /// The offer that `bytes` are, within its limits: nowhere to send to that is no address of one machine.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > OFFER_BYTES_MAX {
            return None;
        }
        let offer: Self = codec::decode(bytes).ok()?;
        let fits = offer.inner.len() <= ADDRESSES_MAX && offer.outer.len() <= ADDRESSES_MAX;
        let sane = offer.inner.iter().chain(&offer.outer).all(|address| address.port() != 0 && is_of_one(address.ip()));
        (fits && sane).then_some(offer)
    }
}

fn is_of_one(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast && ip.to_canonical() != RELAY_IP
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> Offer {
        let outer = vec!["192.0.2.7:4433".parse().unwrap(), "[2001:db8::1]:7".parse().unwrap()];
        Offer { attempt: 7, answer: true, token: [3; 16], hard: Some(true), inner: vec!["10.0.0.2:9".parse().unwrap()], outer }
    }

    #[test]
    fn offers_survive_and_nonsense_does_not() {
        let bytes = offer().encode();
        assert_eq!(Offer::decode(&bytes), Some(offer()));
        for length in 0..bytes.len() {
            assert_eq!(Offer::decode(&bytes[..length]), None);
        }
        for at in 0..bytes.len() {
            for byte in 0..=255 {
                let mut altered = bytes.clone();
                altered[at] = byte;
                if let Some(offer) = Offer::decode(&altered) {
                    assert!(offer.inner.len() <= ADDRESSES_MAX && offer.outer.len() <= ADDRESSES_MAX);
                }
            }
        }
        for nowhere in ["0.0.0.0:7", "224.0.0.251:5353", "255.255.255.255:7", "10.0.0.1:0", "[ff02::fb]:5353", "192.0.0.8:1"] {
            let bad = Offer { inner: vec![nowhere.parse().unwrap()], ..offer() };
            assert_eq!(Offer::decode(&bad.encode()), None, "{nowhere}");
        }
        let many = Offer { outer: vec!["10.0.0.2:9".parse().unwrap(); ADDRESSES_MAX + 1], ..offer() };
        assert_eq!(Offer::decode(&many.encode()), None);
    }
}
