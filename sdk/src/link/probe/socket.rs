//! The socket under QUIC, with its side door.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use peerflock_proto::is_relay;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::packet::is_ours;
use super::{SideDoor, Via};
use crate::link::canonical;

/// The socket with its side door: takes out what is ours, and sends by another socket what has a way of its own.
pub(in crate::link) struct ProbeSocket {
    pub(super) main: Arc<dyn AsyncUdpSocket>,
    pub(super) door: Arc<SideDoor>,
}

impl ProbeSocket {
    /// Around `main`, from now on the main one of `door`. What else it had is closed.
    pub(in crate::link) fn new(main: Arc<dyn AsyncUdpSocket>, door: Arc<SideDoor>) -> Self {
        let mut state = door.state();
        state.main = Some(main.clone());
        state.ways.clear();
        for extra in state.extras.drain(..) {
            extra.reader.abort();
        }
        drop(state);
        Self { main, door }
    }

    /// Takes out of a buffer what is ours. Returns how long the rest is.
    pub(super) fn sift(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        // One buffer may hold several packets of `stride` bytes each, the last one shorter.
        let stride = meta.stride.max(1);
        if !buffer.chunks(stride).any(is_ours) {
            return buffer.len();
        }
        let mut kept = 0;
        let mut at = 0;
        while at < buffer.len() {
            let end = (at + stride).min(buffer.len());
            if is_ours(&buffer[at..end]) {
                self.door.take(&buffer[at..end], meta.addr, Via::Main);
            } else {
                buffer.copy_within(at..end, kept);
                kept += end - at;
            }
            at = end;
        }
        kept
    }
}

impl ProbeSocket {
    /// Hands QUIC what came for it by a directory.
    fn relayed(&self, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Option<usize> {
        let mut received = 0;
        for (buffer, meta) in bufs.iter_mut().zip(meta) {
            let Some((at, packet)) = self.door.state().relays.arrived() else { break };
            // No packet of QUIC's is longer than what QUIC reads at once.
            let Some(place) = buffer.get_mut(..packet.len()) else { break };
            place.copy_from_slice(&packet);
            let (addr, len) = (inward(at, self.main.as_ref()), packet.len());
            *meta = RecvMeta { addr, len, stride: len, ecn: None, dst_ip: None };
            received += 1;
        }
        (received > 0).then_some(received)
    }
}

impl fmt::Debug for ProbeSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeSocket").field("main", &self.main).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for ProbeSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.main.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = canonical(transmit.destination);
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if is_relay(to) {
            transmit.contents.chunks(segment).for_each(|contents| self.door.relay(to, contents));
            return Ok(());
        }
        let way = self.door.state().ways.iter().find(|way| way.to == to).map(|way| way.sends.clone());
        let Some(way) = way else { return self.main.try_send(transmit) };
        for contents in transmit.contents.chunks(segment) {
            // Nobody waits for this one to have room: what does not fit is lost, as on the way.
            _ = way.send_to(contents, to);
        }
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let ways: Vec<Arc<dyn AsyncUdpSocket>> = {
            let mut state = self.door.state();
            if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
                state.reader = Some(cx.waker().clone());
            }
            state.ways.iter().map(|way| way.receives.clone()).collect()
        };
        for way in ways {
            if let Poll::Ready(Ok(received)) = way.poll_recv(cx, bufs, meta) {
                for meta in meta.iter_mut().take(received) {
                    meta.addr = inward(meta.addr, self.main.as_ref());
                }
                return Poll::Ready(Ok(received));
            }
        }
        loop {
            if let Some(received) = self.relayed(bufs, meta) {
                return Poll::Ready(Ok(received));
            }
            let mut received = ready!(self.main.poll_recv(cx, bufs, meta))?;
            let mut at = 0;
            while at < received {
                let (Some(buffer), Some(of)) = (bufs.get_mut(at), meta.get_mut(at)) else { break };
                let was = of.len;
                let Some(bytes) = buffer.get_mut(..was) else { break };
                of.len = self.sift(bytes, of);
                if of.len == 0 && was > 0 {
                    received -= 1;
                    bufs.swap(at, received);
                    meta.swap(at, received);
                } else {
                    at += 1;
                }
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.main.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.main.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.main.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.main.may_fragment()
    }
}

pub(super) fn transmit(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
}

/// An address as the main socket writes it: one for both families shows IPv4 inside IPv6.
pub(super) fn inward(address: SocketAddr, main: &dyn AsyncUdpSocket) -> SocketAddr {
    match (address.ip(), main.local_addr()) {
        (IpAddr::V4(ip), Ok(SocketAddr::V6(_))) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}
