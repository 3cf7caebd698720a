//! What a mesh counts and measures, for graphs, overlays and tests.

use std::net::SocketAddr;
use std::time::Duration;

use peerflock_proto::{Counters, LinkId, PeerId};

use crate::link::{Backlog, LinkHandle, Reading};

/// A stream on which this much waits is behind, in bytes: more than two messages of the largest size.
const BACKLOG_EASED_BYTES: usize = 160 * 1024;
/// A stream of which nothing got away for this long is stuck.
const STUCK: Duration = Duration::from_secs(5);
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
    /// Whether what we send gets through as fast as we send it: the worst of all links.
    pub pressure: Pressure,
    /// Datagrams that QUIC would not take: too long, or on a dying connection.
    pub datagrams_unsent: u64,
    /// Datagrams that were not sent because their link was slower than what we had for it. The next tick supersedes them.
    pub datagrams_skipped: u64,
    /// Frames that were not sent because their link was stuck, and the last one. The protocol repairs what was in them.
    pub frames_dropped: u64,
    /// Links that came up so far.
    pub links_opened: u64,
    /// Links that were cut because the other end was too slow.
    pub links_too_slow: u64,
    /// Ways through routers that were opened to members who could not be dialed.
    pub ways_opened: u64,
    /// Attempts at that which led nowhere.
    pub ways_not_opened: u64,
    /// Packets that those attempts took.
    pub way_packets: u64,
    /// Links that ended, for whatever reason.
    pub links_closed: u64,
    /// UDP packets that left the port, of everything.
    pub packets_sent: u64,
    /// Bytes of those, everything above UDP included.
    pub packet_bytes_sent: u64,
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
    /// Whether a directory carries it, for want of a direct way: then the address is made up, and it carries little.
    pub relayed: bool,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Bytes sent per second of late, everything on the wire above UDP included.
    pub bytes_sent_per_second: f64,
    /// Bytes received per second of late, everything on the wire above UDP included.
    pub bytes_received_per_second: f64,
    /// The part of sent packets that QUIC took for lost of late, 0 to 1. Packets that overtake each other count, too.
    pub loss: f64,
    /// Whether what we send gets through as fast as we send it.
    pub pressure: Pressure,
    /// How long packets stand in queues along the way, in whichever direction.
    pub queueing: Duration,
    /// What we hold the link to, in bytes per second of datagrams, while it carries less than we have for it.
    pub datagram_limit: Option<f64>,
    /// The part of datagram bytes that was not skipped of late, 0 to 1.
    pub datagram_share: f64,
    /// Datagrams skipped so far because the link carries less than we have for it.
    pub datagrams_skipped: u64,
    /// Bytes of datagrams that wait for the socket.
    pub datagram_backlog_bytes: usize,
    /// Bytes that wait to be written on the stream.
    pub stream_backlog_bytes: usize,
    /// How fast they may be written now, in bytes per second.
    pub stream_limit: f64,
}

/// Back-pressure: whether what is sent gets through as fast as it is sent. Ordered, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Pressure {
    /// All of it. Send on.
    #[default]
    Free,
    /// State goes in fewer ticks, or messages wait. Commit less and send fewer messages, or players will see it.
    Eased,
    /// Nothing gets through, and the link is cut unless it is the last one. Messages sent now only wait.
    Stuck,
}

impl Pressure {
    pub(crate) fn of(reading: &Reading, backlog: &Backlog) -> Self {
        if backlog.stuck_for >= STUCK {
            Self::Stuck
        } else if reading.limit.is_some() || backlog.bytes > BACKLOG_EASED_BYTES {
            Self::Eased
        } else {
            Self::Free
        }
    }
}

impl LinkMetrics {
    pub(crate) fn new(info: &peerflock_proto::LinkInfo, traffic: Traffic) -> Self {
        Self {
            link: info.link,
            peer: info.peer,
            address: traffic.address.unwrap_or(info.address),
            relayed: peerflock_proto::is_relay(info.address),
            rtt: info.rtt,
            bytes_sent_per_second: traffic.bytes_sent_per_second,
            bytes_received_per_second: traffic.bytes_received_per_second,
            loss: traffic.loss,
            pressure: traffic.pressure(),
            queueing: traffic.reading.queueing,
            datagram_limit: traffic.reading.limit,
            datagram_share: traffic.reading.share,
            datagrams_skipped: traffic.reading.skipped,
            datagram_backlog_bytes: traffic.datagram_backlog_bytes,
            stream_backlog_bytes: traffic.backlog.bytes,
            stream_limit: traffic.reading.stream_rate,
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
    reading: Reading,
    backlog: Backlog,
    datagram_backlog_bytes: usize,
}

impl Traffic {
    /// Takes in what the link says of itself. Returns the pressure before and now.
    pub(crate) fn look(&mut self, handle: &LinkHandle) -> (Pressure, Pressure) {
        let before = self.pressure();
        (self.reading, self.backlog) = (handle.reading(), handle.backlog());
        self.datagram_backlog_bytes = handle.datagram_backlog_bytes();
        (before, self.pressure())
    }

    pub(crate) fn pressure(&self) -> Pressure {
        Pressure::of(&self.reading, &self.backlog)
    }

    /// Takes in the counters as they are `interval` after the last time. Returns where the other end was, if it has moved.
    pub(crate) fn measure(
        &mut self,
        stats: &quinn::ConnectionStats,
        address: SocketAddr,
        interval: Duration,
    ) -> Option<SocketAddr> {
        let before = self.address.replace(address);
        let first = before.is_none();
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
        before.filter(|before| *before != address)
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
    fn pressure_tells_full_links_from_stuck_ones() {
        let of = |limit, bytes, seconds| {
            let backlog = Backlog { bytes, stuck_for: Duration::from_secs(seconds) };
            Pressure::of(&Reading { limit, ..Reading::default() }, &backlog)
        };
        assert_eq!((of(None, 100_000, 4), of(Some(8_000.0), 0, 0)), (Pressure::Free, Pressure::Eased));
        assert_eq!((of(None, 200_000, 0), of(None, 1, 5)), (Pressure::Eased, Pressure::Stuck));
        assert!(Pressure::Free < Pressure::Eased && Pressure::Eased < Pressure::Stuck);
    }

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
