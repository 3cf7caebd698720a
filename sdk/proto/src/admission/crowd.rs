//! How many members came from one public address: many identities are cheap for who knows the password, addresses less so.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::address::{is_public, network};
use crate::id::PeerId;
use crate::time::Time;

/// Who came so long ago is counted no more.
const REMEMBER: Duration = Duration::from_secs(3_600);
/// Most addresses remembered.
const ADDRESSES_MAX: usize = 1_024;

/// Who was admitted from which public address, by this peer.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    members: BTreeMap<IpAddr, BTreeMap<PeerId, Time>>,
}

impl Crowd {
    /// Whether one more may come from there.
    pub(crate) fn has_room(&mut self, address: IpAddr, peer: &PeerId, max: usize, now: Time) -> bool {
        let Some(members) = self.members.get_mut(&network(address)) else { return true };
        members.retain(|_, since| now.since(*since) < REMEMBER);
        members.len() < max || members.contains_key(peer)
    }

    /// A member came from there.
    pub(crate) fn enter(&mut self, address: IpAddr, peer: PeerId, now: Time) {
        if !is_public(address) {
            return;
        }
        if self.members.len() >= ADDRESSES_MAX && !self.members.contains_key(&network(address)) {
            self.members.pop_first();
        }
        self.members.entry(network(address)).or_default().insert(peer, now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn peer(number: u8) -> PeerId {
        PeerId([number; 32])
    }

    fn admitted(addresses: impl Fn(u8) -> IpAddr) -> usize {
        let mut crowd = Crowd::default();
        let admitted = (0..100).filter(|number| {
            let address = addresses(*number);
            let room = crowd.has_room(address, &peer(*number), 8, Time(u64::from(*number)));
            if room {
                crowd.enter(address, peer(*number), Time(u64::from(*number)));
            }
            room
        });
        admitted.count()
    }

    #[test]
    fn one_public_address_holds_no_crowd_and_a_lan_does() {
        assert_eq!(admitted(|_| IpAddr::from([203, 0, 113, 7])), 8);
        assert_eq!(admitted(|n| IpAddr::from([0x2001, 0xdb8, 1, 2, 0, 0, 0, u16::from(n)])), 8, "one network");
        assert_eq!(admitted(|n| IpAddr::from([0x2001, 0xdb8, 1, u16::from(n), 0, 0, 0, 1])), 100);
        for local in [[127, 0, 0, 1], [192, 168, 1, 9], [10, 0, 0, 1], [169, 254, 0, 1], [100, 64, 0, 1]] {
            assert_eq!(admitted(|_| IpAddr::from(local)), 100, "{local:?}");
        }
        assert_eq!(admitted(|_| IpAddr::from(Ipv6Addr::LOCALHOST)), 100);
    }

    #[test]
    fn who_is_in_stays_in_and_time_makes_room() {
        let (mut crowd, address) = (Crowd::default(), IpAddr::from([203, 0, 113, 7]));
        (0..8).for_each(|number| crowd.enter(address, peer(number), Time(0)));
        assert!(crowd.has_room(address, &peer(3), 8, Time(1)));
        assert!(!crowd.has_room(address, &peer(9), 8, Time(1)));
        assert!(crowd.has_room(address, &peer(9), 8, Time(0) + REMEMBER));
    }
}
