//! What a mesh counts and measures, for graphs, overlays and tests.

use std::net::SocketAddr;
use std::time::Duration;

use peerflock_proto::{Counters, LinkId, PeerId};

/// How much the newest measurement weighs against those before it.
const SMOOTHING: f64 = 0.25;

/// A peer's figures at one moment, from [`PeerMesh::metrics`](crate::PeerMesh::metrics). Counters run from its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metrics {
    /// What the protocol counted.
    pub counters: Counters,
    /// The links to neighbors.
    pub links: Vec<LinkMetrics>,
    /// A hash of the shared world (entities, owners, values): equal on all members whose worlds are equal.
    pub state_hash: [u8; 32],
    /// Entities in the shared world.
    pub entity_count: usize,
    /// Events that fell out because the program did not take them.
    pub events_dropped: u64,
    /// Datagrams that QUIC would not take: too long, or on a dying connection.
    pub datagrams_unsent: u64,
    /// Packets that came to the port without being part of any connection, or opening one: garbage.
    pub packets_ignored: u64,
    /// Packets that asked which versions of QUIC we speak, as [pings](crate::resolve) do, and were told.
    pub probes_answered: u64,
    /// Requests for a connection that were ignored because there were too many.
    pub knocks_ignored: u64,
}

/// One link to a neighbor.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LinkMetrics {
    /// The node's number for it.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// Where.
    pub address: SocketAddr,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Bytes sent per second of late, everything on the wire above UDP included.
    pub bytes_sent_per_second: f64,
    /// Bytes received per second of late, everything on the wire above UDP included.
    pub bytes_received_per_second: f64,
    /// The part of sent packets that QUIC took for lost of late, 0 to 1. Packets that overtake each other count, too.
    pub loss: f64,
}

impl LinkMetrics {
    pub(crate) fn new(info: &peerflock_proto::LinkInfo, traffic: Traffic) -> Self {
        Self {
            link: info.link,
            peer: info.peer,
            address: traffic.address.unwrap_or(info.address),
            rtt: info.rtt,
            bytes_sent_per_second: traffic.bytes_sent_per_second,
            bytes_received_per_second: traffic.bytes_received_per_second,
            loss: traffic.loss,
        }
    }
}

/// What one link carries, from QUIC's own counters, looked at in regular intervals.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    address: Option<SocketAddr>,
    bytes_sent: u64,
    bytes_received: u64,
    packets_sent: u64,
    packets_lost: u64,
    bytes_sent_per_second: f64,
    bytes_received_per_second: f64,
    loss: f64,
}

impl Traffic {
    /// Takes in the counters as they are `interval` after the last time.
    pub(crate) fn measure(&mut self, stats: &quinn::ConnectionStats, address: SocketAddr, interval: Duration) {
        let first = self.address.is_none();
        self.address = Some(address);
        let smooth = |smoothed: &mut f64, newest: f64| {
            *smoothed = if first { newest } else { *smoothed + SMOOTHING * (newest - *smoothed) };
        };
        let sent = advance(&mut self.bytes_sent, stats.udp_tx.bytes);
        let received = advance(&mut self.bytes_received, stats.udp_rx.bytes);
        smooth(&mut self.bytes_sent_per_second, sent as f64 / interval.as_secs_f64());
        smooth(&mut self.bytes_received_per_second, received as f64 / interval.as_secs_f64());
        let packets = advance(&mut self.packets_sent, stats.path.sent_packets);
        let lost = advance(&mut self.packets_lost, stats.path.lost_packets);
        if packets > 0 {
            smooth(&mut self.loss, (lost as f64 / packets as f64).min(1.0));
        }
    }
}

/// Moves a counter on and says by how much.
fn advance(counter: &mut u64, to: u64) -> u64 {
    to.saturating_sub(std::mem::replace(counter, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_follow_the_counters() {
        let (mut traffic, mut stats) = (Traffic::default(), quinn::ConnectionStats::default());
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for round in 1..=40 {
            stats.udp_tx.bytes = round * 600;
            stats.path.sent_packets = round * 20;
            stats.path.lost_packets = round;
            traffic.measure(&stats, address, Duration::from_millis(500));
        }
        assert!((traffic.bytes_sent_per_second - 1_200.0).abs() < 1e-6);
        assert!((traffic.loss - 0.05).abs() < 1e-9);
        for _ in 0..40 {
            traffic.measure(&stats, address, Duration::from_millis(500));
        }
        assert!(traffic.bytes_sent_per_second < 1.0, "silence shows");
    }
}
