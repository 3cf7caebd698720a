//! How much a directory takes, from all, from one mesh and from one network.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use crate::link::gate::{Bucket, network};

/// Networks remembered; beyond it those are forgotten whose budget is full again.
const NETWORKS_MAX: usize = 16_384;

/// Counts and rates that nothing at a directory may exceed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DirectoryLimits {
    /// Entries, over all meshes. 65,536 by default, some 50 MB.
    pub entries: usize,
    /// Entries of one mesh. 256 by default: enough to find the others.
    pub entries_of_mesh: usize,
    /// Entries of one network, an IPv4 address or an IPv6 /64. 64 by default.
    pub entries_of_network: usize,
    /// Players connected at once. 16,384 by default.
    pub connections: usize,
    /// Of them from one network. 64 by default.
    pub connections_of_network: usize,
    /// Requests per second from one network; ten times as many may come at once. 20 by default.
    pub requests_per_second: f64,
    /// Pairs of players for whom packets are relayed at once, since they find no way to each other. 256 by default; 0 relays for nobody.
    pub relays: usize,
    /// Of them with an end in one network. 8 by default.
    pub relays_of_network: usize,
    /// Bytes per second that are relayed for one pair, each way. 12,000 by default: a small game, and no more.
    pub relay_bytes_per_second: u32,
    /// How many of them may come at once: connecting takes some. 65,536 by default.
    pub relay_burst_bytes: u32,
    /// How long an entry lasts unless it is renewed. 60 s by default.
    pub lifetime: Duration,
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            entries: 65_536,
            entries_of_mesh: 256,
            entries_of_network: 64,
            connections: 16_384,
            connections_of_network: 64,
            requests_per_second: 20.0,
            relays: 256,
            relays_of_network: 8,
            relay_bytes_per_second: 12_000,
            relay_burst_bytes: 65_536,
            lifetime: Duration::from_secs(60),
        }
    }
}

/// Who asked how often.
#[derive(Debug, Default)]
pub(super) struct Rates(BTreeMap<IpAddr, Bucket>);

impl Rates {
    /// Whether one more request from there is answered. Counts it.
    pub(super) fn admits(&mut self, from: IpAddr, limits: &DirectoryLimits, now: Instant) -> bool {
        let (rate, burst) = (limits.requests_per_second, 10.0 * limits.requests_per_second);
        let from = network(from);
        if !self.0.contains_key(&from) && self.0.len() >= NETWORKS_MAX {
            self.0.retain(|_, bucket| now.duration_since(bucket.filled()) < Duration::from_secs(10));
            if self.0.len() >= NETWORKS_MAX {
                return false;
            }
        }
        self.0.entry(from).or_insert_with(|| Bucket::full(burst, now)).take(rate, burst, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_has_its_budget_and_memory_is_bounded() {
        let (mut rates, limits, now) = (Rates::default(), DirectoryLimits::default(), Instant::now());
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        assert_eq!((0..1_000).filter(|_| rates.admits(ip(1), &limits, now)).count(), 200);
        assert!(rates.admits(ip(2), &limits, now));
        assert!(rates.admits(ip(1), &limits, now + Duration::from_secs(1)));
        for n in 0..2 * NETWORKS_MAX as u32 {
            rates.admits(ip(n), &limits, now);
        }
        assert!(rates.0.len() <= NETWORKS_MAX);
        assert!(rates.admits(ip(u32::MAX), &limits, now + Duration::from_secs(20)));
    }
}
