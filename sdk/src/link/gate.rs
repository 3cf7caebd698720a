//! How many strangers may knock: token buckets for all addresses together and for each one.
//!
//! A packet that asks for a connection costs its sender nothing and us a key exchange. Over budget it is ignored: no
//! answer, so no amplification either.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Connections asked for per second that we answer, everybody together.
const ALL_PER_SECOND: f64 = 128.0;
/// How many of them may come at once.
const ALL_BURST: f64 = 512.0;
/// Connections asked for per second and address that we answer. Players behind one router share an address.
const ADDRESS_PER_SECOND: f64 = 8.0;
/// How many of them may come at once.
const ADDRESS_BURST: f64 = 64.0;
/// Proofs of address asked for per second. They cost little, but not nothing.
const PROOFS_PER_SECOND: f64 = 1_024.0;
/// How many of them may come at once.
const PROOFS_BURST: f64 = 1_024.0;
/// Addresses remembered. Past it, only the budget for everybody holds until some are forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// Decides who may knock now.
#[derive(Debug)]
pub(crate) struct Gate {
    all: Bucket,
    proofs: Bucket,
    addresses: BTreeMap<IpAddr, Bucket>,
}

impl Gate {
    pub(crate) fn new(now: Instant) -> Self {
        let full = |tokens| Bucket::full(tokens, now);
        Self { all: full(ALL_BURST), proofs: full(PROOFS_BURST), addresses: BTreeMap::new() }
    }

    /// Whether somebody whose address is not proved may be asked to prove it. Counts it.
    pub(crate) fn asks_for_proof(&mut self, now: Instant) -> bool {
        self.proofs.take(PROOFS_PER_SECOND, PROOFS_BURST, now)
    }

    /// Whether a request for a connection from `address` may be answered. Counts it.
    pub(crate) fn admits(&mut self, address: IpAddr, now: Instant) -> bool {
        // All processes of this machine share the loopback address, and none of them is a stranger's.
        if !address.is_loopback() && !self.address_admits(address, now) {
            return false;
        }
        self.all.take(ALL_PER_SECOND, ALL_BURST, now)
    }

    fn address_admits(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = network(address);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= ADDRESSES_MAX {
            let refilled = Duration::from_secs_f64(ADDRESS_BURST / ADDRESS_PER_SECOND);
            self.addresses.retain(|_, bucket| now.duration_since(bucket.filled) < refilled);
            if self.addresses.len() >= ADDRESSES_MAX {
                return true;
            }
        }
        let bucket = self.addresses.entry(address).or_insert_with(|| Bucket::full(ADDRESS_BURST, now));
        bucket.take(ADDRESS_PER_SECOND, ADDRESS_BURST, now)
    }
}

/// Whose doing an address is: one IPv6 subscriber holds a /64 at the least.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
    }
}

/// Tokens that come at a rate, up to so many.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// With all it can hold.
    pub(crate) fn full(tokens: f64, now: Instant) -> Self {
        Self { tokens, filled: now }
    }

    /// When it was last filled.
    pub(crate) fn filled(&self) -> Instant {
        self.filled
    }

    /// Takes one out, if there is one.
    pub(crate) fn take(&mut self, per_second: f64, burst: f64, now: Instant) -> bool {
        self.take_many(1.0, per_second, burst, now)
    }

    /// Takes so many out, if there are so many.
    pub(crate) fn take_many(&mut self, count: f64, per_second: f64, burst: f64, now: Instant) -> bool {
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * per_second).min(burst);
        self.filled = now;
        if self.tokens < count {
            return false;
        }
        self.tokens -= count;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn one_address_cannot_use_up_everybodys_budget() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let flooder = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));
        let let_in = (0..10_000).filter(|_| gate.admits(flooder, now)).count();
        assert_eq!(let_in, ADDRESS_BURST as usize);
        assert!(gate.admits(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2)), now), "somebody else still gets in");
        assert!(gate.admits(flooder, now + Duration::from_secs(1)), "the budget comes back");
    }

    #[test]
    fn many_addresses_meet_the_budget_for_all_and_bounded_memory() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let let_in = (0..100_000_u32).filter(|n| gate.admits(IpAddr::V4(Ipv4Addr::from(0x0b00_0000 + n)), now)).count();
        assert_eq!(let_in, ALL_BURST as usize);
        assert!(gate.addresses.len() <= ADDRESSES_MAX);
        // Long after, the map makes room again.
        assert!(gate.admits(IpAddr::V4(Ipv4Addr::new(12, 0, 0, 1)), now + Duration::from_secs(60)));
        assert_eq!(gate.addresses.len(), 1);
    }

    #[test]
    fn a_subscribers_many_ipv6_addresses_are_one() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let of = |n| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 2, 0, 0, 0, n));
        assert_eq!((0..1_000).filter(|n| gate.admits(of(*n), now)).count(), ADDRESS_BURST as usize);
    }

    #[test]
    fn neighbors_on_this_machine_share_only_the_budget_for_all() {
        let now = Instant::now();
        let mut gate = Gate::new(now);
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!((0..10_000).filter(|_| gate.admits(loopback, now)).count(), ALL_BURST as usize);
    }
}
