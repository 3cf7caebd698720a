//! The one UDP socket of a mesh, and what can be counted at it.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};

use super::ids::{CONNECTION_ID_BYTES, ShortIds};

/// The bit that QUIC packets have set (RFC 9000, section 17), since our endpoints do not grease it.
const FIXED_BIT: u8 = 0x40;
/// The bit of packets with a long header: connections being opened.
const LONG_HEADER_BIT: u8 = 0x80;
/// QUIC version 1.
const VERSION_1: [u8; 4] = [0, 0, 0, 1];
/// Shorter requests for a connection, or for our versions, are dropped (RFC 9000, section 14.1).
const INITIAL_BYTES_MIN: usize = 1_200;
/// What may wait in the system for us to read, in bytes: ticks of dozens of neighbors while we are busy. The system may grant
/// less, as Linux does above `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What may wait in the system to leave, in bytes: a burst of ours, no more, or state would grow old there.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Opens a UDP socket for both IPv6 and IPv4 where the system can, bound to `address` or, without one, to any port.
pub(super) fn open(address: Option<SocketAddr>) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    let socket = match address {
        Some(address) => bind(address)?,
        None => bind(SocketAddr::from(([0_u16; 8], 0))).or_else(|_| bind((Ipv4Addr::UNSPECIFIED, 0).into()))?,
    };
    TokioRuntime.wrap_udp_socket(socket)
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Whatever the system grants will have to do.
    _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    socket.bind(&address.into())?;
    let (receive, send) = (socket.recv_buffer_size().unwrap_or(0), socket.send_buffer_size().unwrap_or(0));
    tracing::debug!(target: "peerflock::link", receive_buffer = receive, send_buffer = send, "socket open");
    Ok(socket.into())
}

/// How many packets a transmission is.
pub(super) fn packets(transmit: &Transmit<'_>) -> usize {
    transmit.segment_size.map_or(1, |segment| transmit.contents.len().div_ceil(segment.max(1)))
}

/// What a socket has seen since it was opened.
#[derive(Debug, Default)]
pub(crate) struct SocketCounters {
    ignored: AtomicU64,
    probes: AtomicU64,
    turned_away: AtomicU64,
    sent_packets: AtomicU64,
    sent_bytes: AtomicU64,
}

impl SocketCounters {
    /// Packets that are no part of any connection and open none.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// Requests for a connection that were over budget.
    pub(crate) fn knocks_ignored(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// One more request for a connection was over budget.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Packets that left, and their bytes above UDP.
    pub(crate) fn sent(&self) -> (u64, u64) {
        (self.sent_packets.load(Ordering::Relaxed), self.sent_bytes.load(Ordering::Relaxed))
    }

    /// Packets that asked for our QUIC versions, as a ping does.
    pub(crate) fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }
}

/// Lets all packets through and counts those that QUIC will drop.
pub(super) struct CountingSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    counters: Arc<SocketCounters>,
    ids: ShortIds,
}

impl CountingSocket {
    /// Around `inner`, where the endpoint's connection identifiers are made from `id_key`.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, counters: Arc<SocketCounters>, id_key: u64) -> Self {
        Self { inner, counters, ids: ShortIds::from_key(id_key) }
    }

    fn count(&self, packet: &[u8]) {
        match self.judge(packet) {
            Verdict::Quic => return,
            Verdict::Probe => &self.counters.probes,
            Verdict::Stray => &self.counters.ignored,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    fn judge(&self, packet: &[u8]) -> Verdict {
        let Some((&first, rest)) = packet.split_first() else { return Verdict::Stray };
        if first & LONG_HEADER_BIT != 0 {
            return match rest.first_chunk() {
                Some(&VERSION_1) if first & FIXED_BIT != 0 => Verdict::Quic,
                Some(&VERSION_1) | None => Verdict::Stray,
                Some(_) if packet.len() < INITIAL_BYTES_MIN => Verdict::Stray,
                Some(_) => Verdict::Probe,
            };
        }
        match rest.first_chunk::<CONNECTION_ID_BYTES>() {
            Some(id) if first & FIXED_BIT != 0 && self.ids.is_ours(*id) => Verdict::Quic,
            _ => Verdict::Stray,
        }
    }
}

enum Verdict {
    Quic,
    Probe,
    Stray,
}

impl fmt::Debug for CountingSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountingSocket").field("inner", &self.inner).field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for CountingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)?;
        self.counters.sent_packets.fetch_add(packets(transmit) as u64, Ordering::Relaxed);
        self.counters.sent_bytes.fetch_add(transmit.contents.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, bufs, meta))?;
        for (buffer, meta) in bufs.iter().zip(meta.iter()).take(received) {
            // One buffer may hold several packets of `stride` bytes each, the last one shorter.
            let packets = buffer.get(..meta.len).unwrap_or_default();
            if packets.is_empty() {
                self.count(packets);
            }
            packets.chunks(meta.stride.max(1)).for_each(|packet| self.count(packet));
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use quinn_proto::ConnectionIdGenerator;

    use super::*;

    fn counting() -> CountingSocket {
        CountingSocket::new(open(Some((Ipv4Addr::LOCALHOST, 0).into())).unwrap(), Arc::default(), 7)
    }

    #[tokio::test]
    async fn only_what_quic_drops_is_counted() {
        let socket = counting();
        let own_id = ShortIds::from_key(7).generate_cid();
        let ours = [&[FIXED_BIT], own_id.as_ref(), &[0; 30]].concat();
        let initial = [[LONG_HEADER_BIT | FIXED_BIT].as_slice(), &VERSION_1, &[0; 1_195]].concat();
        socket.count(&ours);
        socket.count(&initial);
        assert_eq!((socket.counters.ignored(), socket.counters.probes()), (0, 0));

        let foreign_id = ShortIds::from_key(8).generate_cid();
        let mut without_fixed_bit = ours;
        without_fixed_bit[0] = 0;
        for stray in [&[], b"hello".as_slice(), &[0xff; 40], &[&[FIXED_BIT], foreign_id.as_ref()].concat(), &without_fixed_bit] {
            socket.count(stray);
        }
        assert_eq!((socket.counters.ignored(), socket.counters.probes()), (5, 0));

        let mut probe = initial;
        probe[1..5].copy_from_slice(&[0x1a; 4]);
        socket.count(&probe);
        assert_eq!((socket.counters.ignored(), socket.counters.probes()), (5, 1));
    }
}
