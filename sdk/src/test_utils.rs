//! A network in memory, under the real QUIC stack, for tests in virtual time.
//!
//! Every socket gets an address of its own in 198.18.0.0/15 (RFC 2544: for tests). Packets wait, get lost, doubled and
//! overtake each other as a [`Conditioner`] says, with chances drawn from the seed for each pair of sockets by itself, so that
//! traffic of one pair never changes the luck of another. Under tokio's paused clock on one thread, with
//! [`PeerMeshBuilder::seed`](crate::PeerMeshBuilder::seed) and fixed identities, the same seed gives the same run.
//!
//! ```
//! use peerflock::PeerMesh;
//! use peerflock::Conditioner;
//! use peerflock::test_utils::VirtualNetwork;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), peerflock::StartError> {
//! let network = VirtualNetwork::new(7, Conditioner { loss: 0.05, ..Conditioner::default() });
//! let mesh = PeerMesh::named("test").lan(false).socket(network.socket()).seed([7; 32]).start().await?;
//! assert_eq!(mesh.members().len(), 1);
//! # Ok(()) }
//! ```

mod bare_link;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

pub use bare_link::BareLink;

use crate::conditioner::{Conditioner, Line, Path, hash};

/// The port of all sockets.
const PORT: u16 = 4_433;
/// Packets that wait at one socket; more are lost, as at a real one.
const QUEUE_PACKETS_MAX: usize = 4_096;

/// What a network has carried so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkStats {
    /// Packets that somebody sent.
    pub sent: u64,
    /// Packets that arrived, copies too.
    pub delivered: u64,
    /// Packets lost by chance, by an unplugged socket, or by a full one.
    pub lost: u64,
    /// A hash of when, whence, where to and how long, over all packets sent: equal for equal runs.
    pub trace: u64,
}

/// A network in memory. Clones are the same network.
#[derive(Clone, Debug)]
pub struct VirtualNetwork {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    seed: u64,
    conditioner: Conditioner,
    conditioners: BTreeMap<(SocketAddr, SocketAddr), Conditioner>,
    paths: BTreeMap<(SocketAddr, SocketAddr), (Path, Line)>,
    inboxes: BTreeMap<SocketAddr, Inbox>,
    unplugged: BTreeSet<SocketAddr>,
    origin: Option<Instant>,
    packets: u64,
    stats: NetworkStats,
}

#[derive(Debug, Default)]
struct Inbox {
    waiting: BinaryHeap<Reverse<Packet>>,
    reader: Option<Waker>,
}

/// Ordered by when it arrives, then by when it was sent.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    number: u64,
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl VirtualNetwork {
    /// A network on which all packets fare as `conditioner` says, each direction of each pair by itself. `seed` is its luck.
    pub fn new(seed: u64, conditioner: Conditioner) -> Self {
        let state = State {
            seed,
            conditioner,
            conditioners: BTreeMap::new(),
            paths: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            unplugged: BTreeSet::new(),
            origin: None,
            packets: 0,
            stats: NetworkStats::default(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A socket at the next free address: 198.18.0.1, then 198.18.0.2 and so on, always port 4433.
    ///
    /// # Panics
    /// With more sockets than addresses, which is past 131,000.
    pub fn socket(&self) -> Arc<VirtualSocket> {
        let mut state = self.state();
        let number =
            u32::try_from(state.inboxes.len() + 1).ok().filter(|number| *number < 1 << 17).expect("a test's few sockets");
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + number);
        let address = SocketAddr::new(IpAddr::V4(ip), PORT);
        state.inboxes.insert(address, Inbox::default());
        drop(state);
        Arc::new(VirtualSocket { address, network: self.clone(), timer: Mutex::default() })
    }

    /// From now on all packets fare so, but those between pairs with a conditioner of their own.
    pub fn set_conditioner(&self, conditioner: Conditioner) {
        self.state().conditioner = conditioner;
    }

    /// From now on packets from one address to the other fare so. The way back is another link.
    pub fn set_link_conditioner(&self, from: SocketAddr, to: SocketAddr, conditioner: Conditioner) {
        self.state().conditioners.insert((from, to), conditioner);
    }

    /// From now on nothing comes from or gets to `address`: its process has crashed, or its cable is out.
    pub fn unplug(&self, address: SocketAddr) {
        self.state().unplugged.insert(address);
    }

    /// The cable is in again.
    pub fn plug(&self, address: SocketAddr) {
        self.state().unplugged.remove(&address);
    }

    /// Sends a packet that no QUIC stack made.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        self.state().send(from, to, bytes);
    }

    /// What was carried so far.
    pub fn stats(&self) -> NetworkStats {
        self.state().stats
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        let origin = *self.origin.get_or_insert(now);
        self.stats.sent += 1;
        let seen = format!("{} {from} {to} {}", now.duration_since(origin).as_micros(), bytes.len());
        self.stats.trace = hash(self.stats.trace, seen.as_bytes());
        let conditioner = *self.conditioners.get(&(from, to)).unwrap_or(&self.conditioner);
        let seed = self.seed;
        let (path, line) =
            self.paths.entry((from, to)).or_insert_with(|| (Path::new(seed, &format!("{from} {to}")), Line::default()));
        let mut arrivals = path.pass(&conditioner, line, bytes.len(), now).peekable();
        if arrivals.peek().is_none() || self.unplugged.contains(&from) {
            self.stats.lost += 1;
            return;
        }
        for due in arrivals {
            self.packets += 1;
            let packet = Packet { due, number: self.packets, from, bytes: bytes.to_vec() };
            match self.inboxes.get_mut(&to).filter(|inbox| inbox.waiting.len() < QUEUE_PACKETS_MAX) {
                Some(inbox) => {
                    inbox.waiting.push(Reverse(packet));
                    if let Some(reader) = inbox.reader.take() {
                        reader.wake();
                    }
                }
                None => self.stats.lost += 1,
            }
        }
    }

    /// The next packet that is due at `address`, or when one will be.
    fn receive(&mut self, address: SocketAddr, reader: &Waker) -> Result<Packet, Option<Instant>> {
        loop {
            let inbox = self.inboxes.entry(address).or_default();
            let due = inbox.waiting.peek().map(|Reverse(packet)| packet.due);
            let Some(Reverse(packet)) = due.filter(|due| *due <= Instant::now()).and_then(|_| inbox.waiting.pop()) else {
                inbox.reader = Some(reader.clone());
                return Err(due);
            };
            if self.unplugged.contains(&address) {
                self.stats.lost += 1;
                continue;
            }
            self.stats.delivered += 1;
            return Ok(packet);
        }
    }
}

/// A plain QUIC endpoint on a real socket, with quinn's own settings and our keys, and how to dial from it: what links of a mesh
/// are to be compared with.
///
/// # Errors
/// When there is no such socket.
pub fn plain_endpoint(address: SocketAddr) -> io::Result<(quinn::Endpoint, quinn::ClientConfig)> {
    let socket = TokioRuntime.wrap_udp_socket(std::net::UdpSocket::bind(address)?)?;
    crate::link::plain(socket).map_err(io::Error::other)
}

/// Somebody with a key and an address of its own who connects to a member and knows nothing else of the protocol; None where the
/// member does not answer. The endpoint holds the socket.
pub async fn stranger(network: &VirtualNetwork, at: SocketAddr) -> Option<(quinn::Endpoint, quinn::Connection)> {
    let (endpoint, config) = crate::link::plain(network.socket()).ok()?;
    let connection = endpoint.connect_with(config, at, "peer").ok()?.await.ok()?;
    Some((endpoint, connection))
}

/// Whether the content of a ticket is none, or is written again just as it was, also as text: the way in for fuzzers, which do not find
/// checksums.
pub fn ticket_survives(content: &[u8]) -> bool {
    let Some(ticket) = crate::Ticket::from_bytes(content) else { return true };
    ticket.to_bytes() == content && ticket.to_string().parse() == Ok(ticket)
}

/// One end of a [`VirtualNetwork`], for [`PeerMeshBuilder::socket`](crate::PeerMeshBuilder::socket).
pub struct VirtualSocket {
    address: SocketAddr,
    network: VirtualNetwork,
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl VirtualSocket {
    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Debug for VirtualSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VirtualSocket({})", self.address)
    }
}

impl AsyncUdpSocket for VirtualSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let mut state = self.network.state();
        transmit.contents.chunks(segment).for_each(|bytes| state.send(self.address, transmit.destination, bytes));
        Ok(())
    }

    fn poll_recv(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>], meta: &mut [RecvMeta]) -> Poll<io::Result<usize>> {
        let mut received = 0;
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let Some((buffer, meta)) = bufs.get_mut(received).zip(meta.get_mut(received)) else {
                return Poll::Ready(Ok(received));
            };
            match self.network.state().receive(self.address, cx.waker()) {
                Ok(packet) => {
                    // A packet too long for the buffer is cut, as the operating system would.
                    let length = packet.bytes.len().min(buffer.len());
                    buffer[..length].copy_from_slice(&packet.bytes[..length]);
                    *meta = RecvMeta::default();
                    (meta.addr, meta.len, meta.stride, meta.dst_ip) = (packet.from, length, length, Some(self.address.ip()));
                    received += 1;
                }
                Err(_) if received > 0 => return Poll::Ready(Ok(received)),
                Err(None) => return Poll::Pending,
                Err(Some(due)) => {
                    let timer = timer.insert(Box::pin(sleep_until(due)));
                    if timer.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));

    async fn receive(socket: &VirtualSocket) -> (Vec<u8>, SocketAddr) {
        std::future::poll_fn(|cx| {
            let (mut buffer, mut meta) = ([0; 64], [RecvMeta::default()]);
            let polled = socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta);
            polled.map(|received| {
                assert_eq!(received.unwrap(), 1);
                (buffer[..meta[0].len].to_vec(), meta[0].addr)
            })
        })
        .await
    }

    async fn arrivals(seed: u64, conditioner: Conditioner) -> (Vec<u8>, Duration, NetworkStats) {
        let network = VirtualNetwork::new(seed, conditioner);
        let (a, b) = (network.socket(), network.socket());
        for n in 0..200 {
            network.inject(a.address(), b.address(), &[n]);
        }
        let (mut arrived, started) = (Vec::new(), Instant::now());
        let mut last = Duration::ZERO;
        while let Ok((bytes, from)) = tokio::time::timeout(Duration::from_secs(1), receive(&b)).await {
            assert_eq!(from, a.address());
            arrived.extend(bytes);
            last = started.elapsed();
        }
        (arrived, last, network.stats())
    }

    #[tokio::test(start_paused = true)]
    async fn a_perfect_network_only_delays() {
        let (arrived, last, stats) = arrivals(1, LAN).await;
        assert_eq!(arrived, (0..200).collect::<Vec<u8>>());
        assert!(last >= Duration::from_millis(10) && last <= Duration::from_millis(12), "{last:?}");
        assert_eq!((stats.sent, stats.delivered, stats.lost), (200, 200, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bad_one_does_all_it_says_and_the_same_again() {
        let bad = Conditioner { jitter: Duration::from_millis(20), loss: 0.2, duplicates: 0.2, reordering: 0.1, ..LAN };
        let (arrived, _, stats) = arrivals(1, bad).await;
        assert!((20..80).contains(&stats.lost), "about 40 of 200: {}", stats.lost);
        assert!(stats.delivered > 200 - stats.lost, "some came twice");
        assert!(!arrived.is_sorted(), "some were overtaken");
        assert_eq!(arrivals(1, bad).await.0, arrived);
        assert_ne!(arrivals(2, bad).await.0, arrived);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_an_unplugged_cable() {
        let network = VirtualNetwork::new(1, LAN);
        let (a, b) = (network.socket(), network.socket());
        network.unplug(b.address());
        network.inject(a.address(), b.address(), b"lost");
        network.inject(b.address(), a.address(), b"lost");
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), receive(&b)).await.is_err());
        network.plug(b.address());
        network.inject(a.address(), b.address(), b"found");
        assert_eq!(receive(&b).await.0, b"found");
    }
}
