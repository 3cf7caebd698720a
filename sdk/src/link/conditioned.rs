//! A socket whose packets fare as a [`Conditioner`] says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::conditioner::{Conditioner, Line, Path};

/// Packets on their way at once; more are lost.
const PACKETS_MAX: usize = 16 * 1024;
/// Destinations with luck of their own; when there are more, all begin anew.
const PATHS_MAX: usize = 4_096;

/// Lets packets out later, twice or never. What comes in comes in.
pub(super) struct ConditionedSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    conditioner: Conditioner,
    ways: Mutex<Ways>,
    later: mpsc::Sender<Packet>,
}

#[derive(Debug, Default)]
struct Ways {
    line: Line,
    paths: BTreeMap<SocketAddr, Path>,
    packets: u64,
}

/// Ordered by when it goes, then by when it was sent.
#[derive(Debug)]
struct Packet {
    due: Instant,
    number: u64,
    to: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl ConditionedSocket {
    /// Around `inner`. Spawns a task on tokio's runtime, which ends with the socket, once the last packet is on its way.
    pub(super) fn new(inner: Arc<dyn AsyncUdpSocket>, conditioner: Conditioner) -> Self {
        let (later, packets) = mpsc::channel(PACKETS_MAX);
        tokio::spawn(carry(inner.clone(), packets));
        Self { inner, conditioner, ways: Mutex::default(), later }
    }
}

impl fmt::Debug for ConditionedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConditionedSocket")
            .field("inner", &self.inner)
            .field("conditioner", &self.conditioner)
            .finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for ConditionedSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.inner.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let now = Instant::now();
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let Ways { line, paths, packets } = &mut *ways;
        let to = transmit.destination;
        if paths.len() >= PATHS_MAX && !paths.contains_key(&to) {
            paths.clear();
        }
        let path = paths.entry(to).or_insert_with(|| Path::new(self.conditioner.seed, &to.to_string()));
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(segment) {
            for due in path.pass(&self.conditioner, line, bytes.len(), now) {
                *packets += 1;
                let packet = Packet { due, number: *packets, to, ecn: transmit.ecn, bytes: bytes.to_vec() };
                // With so many on their way, one more is lost, as on any network.
                _ = self.later.try_send(packet);
            }
        }
        Ok(())
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

/// Sends each packet when it is due.
async fn carry(socket: Arc<dyn AsyncUdpSocket>, mut packets: mpsc::Receiver<Packet>) {
    let mut waiting: BinaryHeap<Reverse<Packet>> = BinaryHeap::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let due = waiting.peek().map(|Reverse(packet)| packet.due);
        tokio::select! {
            biased;
            packet = packets.recv(), if open && waiting.len() < PACKETS_MAX => match packet {
                Some(packet) => waiting.push(Reverse(packet)),
                None => open = false,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some(Reverse(packet)) = waiting.pop() {
                    send(&socket, &packet).await;
                }
            }
        }
    }
}

async fn send(socket: &Arc<dyn AsyncUdpSocket>, packet: &Packet) {
    let transmit =
        Transmit { destination: packet.to, ecn: packet.ecn, contents: &packet.bytes, segment_size: None, src_ip: None };
    let mut poller: Option<Pin<Box<dyn UdpPoller>>> = None;
    while let Err(error) = socket.try_send(&transmit) {
        if error.kind() != io::ErrorKind::WouldBlock {
            return;
        }
        let poller = poller.get_or_insert_with(|| socket.clone().create_io_poller());
        if std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.is_err() {
            return;
        }
    }
}

impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Packet {}

impl PartialOrd for Packet {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packet {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_utils::VirtualNetwork;

    #[tokio::test(start_paused = true)]
    async fn packets_leave_late_in_order_of_their_arrival_and_after_the_socket() {
        let network = VirtualNetwork::new(1, Conditioner::default());
        let (a, b) = (network.socket(), network.socket());
        let conditioner = Conditioner { delay: Duration::from_millis(30), loss: 0.25, ..Conditioner::default() };
        let socket = ConditionedSocket::new(a, conditioner);
        let contents = vec![7; 200 * 100];
        let transmit =
            Transmit { destination: b.address(), ecn: None, contents: &contents, segment_size: Some(100), src_ip: None };
        socket.try_send(&transmit).unwrap();
        drop(socket);
        tokio::time::sleep(Duration::from_millis(29)).await;
        assert_eq!(network.stats().sent, 0);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let sent = network.stats().sent;
        assert!((130..170).contains(&sent), "about 150 of 200: {sent}");
    }
}
