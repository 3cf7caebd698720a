//! A socket that spreads bursts: a tick for dozens of neighbors does not overflow the first queue on its way.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use super::socket::packets;

/// Packets that may leave at once: what small home routers are known to queue.
const BURST_PACKETS: f64 = 64.0;
/// How fast they may leave after that: the rest of a tick of 16 ms takes 256 more.
const PACKETS_PER_MS: f64 = 16.0;
/// When to look again: tokio's own grain.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Lets packets out no faster than a burst and a rate; whoever sends more is told to wait, which QUIC does for us.
pub(super) struct PacedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    packets: f64,
    filled: Instant,
}

impl PacedSocket {
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Self {
        Self { inner, bucket: Mutex::new(Bucket { packets: BURST_PACKETS, filled: Instant::now() }) }
    }

    /// Takes out so many packets, or says that there is no room now. One transmission may overdraw: it cannot be cut.
    fn takes(&self, packets: usize) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let passed = now.saturating_duration_since(bucket.filled);
        bucket.packets = (bucket.packets + passed.as_secs_f64() * 1_000.0 * PACKETS_PER_MS).min(BURST_PACKETS);
        bucket.filled = now;
        let takes = bucket.packets > 0.0;
        if takes {
            bucket.packets -= packets as f64;
        }
        takes
    }

    /// What was taken out did not leave.
    fn give_back(&self, packets: usize) {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).packets += packets as f64;
    }

    fn is_empty(&self) -> bool {
        let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = Instant::now().saturating_duration_since(bucket.filled);
        bucket.packets + passed.as_secs_f64() * 1_000.0 * PACKETS_PER_MS <= 0.0
    }
}

impl fmt::Debug for PacedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacedSocket").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for PacedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let inner = self.inner.clone().create_io_poller();
        Box::pin(PacedPoller { inner, socket: self, timer: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let packets = packets(transmit);
        if !self.takes(packets) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.inner.try_send(transmit).inspect_err(|_| self.give_back(packets))
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(cx, bufs, meta)
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

#[derive(Debug)]
struct PacedPoller {
    inner: Pin<Box<dyn UdpPoller>>,
    socket: Arc<PacedSocket>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl UdpPoller for PacedPoller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.socket.is_empty() {
            let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LOOK_AGAIN)));
            ready!(timer.as_mut().poll(cx));
            this.timer = None;
        }
        this.inner.as_mut().poll_writable(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditioner::Conditioner;
    use crate::test_utils::VirtualNetwork;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_spread_over_the_tick() {
        let network = VirtualNetwork::new(1, Conditioner::default());
        let (a, b) = (network.socket(), network.socket());
        let socket = Arc::new(PacedSocket::new(a));
        let mut poller = socket.clone().create_io_poller();
        let transmit = Transmit { destination: b.address(), ecn: None, contents: b"tick", segment_size: None, src_ip: None };
        let started = Instant::now();
        let mut at_once = 0;
        for _ in 0..200 {
            while socket.try_send(&transmit).is_err() {
                std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
            }
            at_once += u32::from(started.elapsed() == Duration::ZERO);
        }
        assert_eq!(at_once, 64);
        let (took, whole) = (started.elapsed(), Duration::from_millis((200 - 64) / 16));
        assert!(took >= whole && took <= whole + Duration::from_millis(3), "{took:?}");
        assert_eq!(network.stats().sent, 200);
    }
}
