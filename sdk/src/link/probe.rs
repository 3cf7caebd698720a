//! What goes through the socket beside QUIC: questions where one seems to be, and probes that open the way through routers.
//!
//! These packets have QUIC's fixed bit clear (RFC 9000, section 17), so that none is taken for the other. "Where am I" is answered here,
//! as STUN (RFC 8489) would, by no more bytes than were asked with and so many times a second; all else is passed on. The router of some
//! players gives each way a port of its own: then the way that opens may be one of many more sockets, and what goes there leaves by it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use peerflock_proto::PeerId;

use super::canonical;
use super::gate::Bucket;
use crate::reach::Post;

/// What all of these packets begin with: the fixed bit is clear, and nobody else's protocol begins like that.
const MAGIC: [u8; 4] = [0x21, b'p', b'f', 1];
/// Sort of a packet: where am I?
const ASK: u8 = 1;
/// Sort of a packet: there.
const TOLD: u8 = 2;
/// Sort of a packet: something for whoever tries to get through.
const PROBE: u8 = 3;
/// How long a question is: as long as the longest answer, so that asking in another's name sends it no more than that.
const ASK_BYTES: usize = MAGIC.len() + 1 + NONCE_BYTES + 19;
const NONCE_BYTES: usize = 8;
/// The longest of these packets, in bytes.
const PACKET_BYTES_MAX: usize = 256;
/// Questions answered per second, and at once.
const ANSWERS_PER_SECOND: f64 = 128.0;
const ANSWERS_BURST: f64 = 256.0;
/// Packets that wait for whoever tries to get through; the oldest fall out.
const ARRIVED_MAX: usize = 1_024;
/// More sockets that carry a link each.
const WAYS_MAX: usize = 16;

/// By which socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Via {
    /// The one that serves everybody.
    Main,
    /// One of those opened for one attempt.
    Extra(u64),
}

/// What came beside QUIC.
#[derive(Clone, Debug)]
pub(crate) enum Arrived {
    /// An answer: at `at` we were seen from `by`.
    Told { nonce: [u8; NONCE_BYTES], by: SocketAddr, at: SocketAddr },
    /// A probe.
    Probe { from: SocketAddr, via: Via, bytes: Bytes },
    /// An offer from a member, or from one by a courier.
    Letter { from: PeerId, bytes: Bytes, by: Post },
    /// A courier can reach one who may be no member yet.
    Found { peer: PeerId, by: Post },
}

/// The side door of the socket: what is not QUIC goes in and out here.
pub(crate) struct SideDoor {
    state: Mutex<State>,
    arrived: Notify,
    /// What our questions are known by.
    nonce: [u8; NONCE_BYTES],
}

#[derive(Default)]
struct State {
    main: Option<Arc<dyn AsyncUdpSocket>>,
    inbox: VecDeque<Arrived>,
    answers: Option<Bucket>,
    extras: Vec<Extra>,
    ways: Vec<Way>,
    reader: Option<Waker>,
    next: u64,
}

/// A socket opened to find a way.
struct Extra {
    id: u64,
    /// Sends at once: the runtime's own would first want to be told that it can.
    socket: Arc<std::net::UdpSocket>,
    reader: AbortHandle,
}

/// A socket that carries what goes to one address.
struct Way {
    to: SocketAddr,
    receives: Arc<dyn AsyncUdpSocket>,
    sends: Arc<std::net::UdpSocket>,
}

impl SideDoor {
    pub(super) fn new() -> Arc<Self> {
        let nonce = *crate::identity::random().first_chunk().unwrap_or(&[0; NONCE_BYTES]);
        Arc::new(Self { state: Mutex::default(), arrived: Notify::new(), nonce })
    }

    /// What answers to our questions must carry.
    pub(crate) fn nonce(&self) -> [u8; NONCE_BYTES] {
        self.nonce
    }

    /// Hands in what came another way than by a packet of its own.
    pub(crate) fn post(&self, arrived: Arrived) {
        let mut state = self.state();
        if state.inbox.len() >= ARRIVED_MAX {
            state.inbox.pop_front();
        }
        state.inbox.push_back(arrived);
        drop(state);
        self.arrived.notify_one();
    }

    /// Waits for what comes next.
    pub(crate) async fn next(&self) -> Arrived {
        loop {
            let arrived = self.arrived.notified();
            if let Some(packet) = self.state().inbox.pop_front() {
                return packet;
            }
            arrived.await;
        }
    }

    /// Sends a probe. It may be lost here as on the way.
    pub(crate) fn probe(&self, via: Via, to: SocketAddr, payload: &[u8]) {
        let packet = [&MAGIC, [PROBE].as_slice(), payload].concat();
        self.send(via, to, &packet);
    }

    /// Asks whoever is at `to` where we seem to be.
    pub(crate) fn ask(&self, to: SocketAddr) {
        self.send(Via::Main, to, &question(self.nonce));
    }

    /// Opens up to `count` sockets beside the main one, for IPv4. They last until [`close_extras`](Self::close_extras).
    pub(crate) fn open_extras(self: &Arc<Self>, count: usize) -> Vec<Via> {
        let bind = match self.main().and_then(|main| main.local_addr().ok()).map(|address| canonical(address).ip()) {
            Some(IpAddr::V4(ip)) => ip,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let mut opened = Vec::new();
        for _ in 0..count {
            // Whatever the system grants will have to do.
            let Ok(via) = self.open_extra(bind) else { break };
            opened.push(via);
        }
        opened
    }

    fn open_extra(self: &Arc<Self>, bind: Ipv4Addr) -> io::Result<Via> {
        let spare = std::net::UdpSocket::bind((bind, 0))?;
        spare.set_nonblocking(true)?;
        let reading = tokio::net::UdpSocket::from_std(spare.try_clone()?)?;
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let door = Arc::downgrade(self);
        let reader = tokio::spawn(async move {
            let mut packet = [0; PACKET_BYTES_MAX];
            while let Ok((length, from)) = reading.recv_from(&mut packet).await {
                let Some(door) = door.upgrade() else { return };
                door.take(packet.get(..length).unwrap_or_default(), from, Via::Extra(id));
            }
        });
        state.extras.push(Extra { id, socket: Arc::new(spare), reader: reader.abort_handle() });
        Ok(Via::Extra(id))
    }

    /// From now on what goes to `to` leaves by that socket, and QUIC listens there.
    pub(crate) fn adopt(&self, via: Via, to: SocketAddr) -> io::Result<()> {
        let Via::Extra(id) = via else { return Ok(()) };
        let mut state = self.state();
        let Some(at) = state.extras.iter().position(|extra| extra.id == id) else { return Ok(()) };
        let extra = state.extras.swap_remove(at);
        extra.reader.abort();
        let receives = TokioRuntime.wrap_udp_socket(extra.socket.try_clone()?)?;
        state.ways.retain(|way| way.to != to);
        if state.ways.len() >= WAYS_MAX {
            state.ways.remove(0);
        }
        state.ways.push(Way { to, receives, sends: extra.socket });
        // Whoever waits for the main socket does not know this one yet.
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    /// Closes sockets that opened no way.
    pub(crate) fn close_extras(&self, which: &[Via]) {
        let mut state = self.state();
        state.extras.retain(|extra| {
            let goes = which.contains(&Via::Extra(extra.id));
            if goes {
                extra.reader.abort();
            }
            !goes
        });
    }

    fn main(&self) -> Option<Arc<dyn AsyncUdpSocket>> {
        self.state().main.clone()
    }

    fn send(&self, via: Via, to: SocketAddr, packet: &[u8]) {
        let (main, extra) = {
            let state = self.state();
            let extra = match via {
                Via::Main => None,
                Via::Extra(id) => state.extras.iter().find(|extra| extra.id == id).map(|extra| extra.socket.clone()),
            };
            (state.main.clone(), extra)
        };
        match (via, extra, main) {
            (Via::Extra(_), Some(extra), _) => _ = extra.send_to(packet, to),
            (Via::Main, _, Some(main)) => _ = main.try_send(&transmit(inward(to, main.as_ref()), packet)),
            _ => {}
        }
    }

    /// Takes in a packet of ours that came by an extra socket, or by the main one.
    fn take(&self, packet: &[u8], from: SocketAddr, via: Via) {
        let from = canonical(from);
        let Some((&sort, payload)) = packet.strip_prefix(&MAGIC).and_then(<[u8]>::split_first) else { return };
        let arrived = match sort {
            ASK if packet.len() == ASK_BYTES => return self.answer(payload, from),
            TOLD => told(payload, from),
            PROBE => Some(Arrived::Probe { from, via, bytes: Bytes::copy_from_slice(payload) }),
            _ => None,
        };
        if let Some(arrived) = arrived {
            self.post(arrived);
        }
    }

    fn answer(&self, question: &[u8], to: SocketAddr) {
        let Some(nonce) = question.first_chunk() else { return };
        let now = Instant::now();
        let may = {
            let answers = &mut self.state().answers;
            answers.get_or_insert_with(|| Bucket::full(ANSWERS_BURST, now)).take(ANSWERS_PER_SECOND, ANSWERS_BURST, now)
        };
        if may {
            self.send(Via::Main, to, &answer(*nonce, to));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket at `address` that answers questions beside what QUIC does with it.
pub(crate) fn answering(address: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
    Ok(Arc::new(ProbeSocket::new(super::socket::open(Some(address))?, SideDoor::new())))
}

/// A question: where am I?
pub(crate) fn question(nonce: [u8; NONCE_BYTES]) -> Vec<u8> {
    let mut packet = [&MAGIC, [ASK].as_slice(), &nonce].concat();
    packet.resize(ASK_BYTES, 0);
    packet
}

/// The answer to a question, for a socket with nothing else to do; none if it is no question.
pub(crate) fn answer_to(packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let (&sort, rest) = packet.strip_prefix(&MAGIC)?.split_first()?;
    let nonce = rest.first_chunk()?;
    (sort == ASK && packet.len() == ASK_BYTES).then(|| answer(*nonce, canonical(from)))
}

/// What an answer says.
pub(crate) fn read_answer(packet: &[u8], nonce: [u8; NONCE_BYTES]) -> Option<SocketAddr> {
    let (&sort, rest) = packet.strip_prefix(&MAGIC)?.split_first()?;
    match told(rest, SocketAddr::from(([0, 0, 0, 0], 0)))? {
        Arrived::Told { nonce: of, at, .. } if sort == TOLD && of == nonce => Some(at),
        _ => None,
    }
}

fn answer(nonce: [u8; NONCE_BYTES], at: SocketAddr) -> Vec<u8> {
    let mut packet = [&MAGIC, [TOLD].as_slice(), &nonce].concat();
    match at.ip() {
        IpAddr::V4(ip) => {
            packet.push(4);
            packet.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            packet.push(6);
            packet.extend(ip.octets());
        }
    }
    packet.extend(at.port().to_be_bytes());
    packet
}

fn told(payload: &[u8], by: SocketAddr) -> Option<Arrived> {
    let (nonce, rest) = payload.split_first_chunk::<NONCE_BYTES>()?;
    let (&family, rest) = rest.split_first()?;
    let (ip, rest) = match family {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        _ => return None,
    };
    let port = u16::from_be_bytes(rest.try_into().ok()?);
    Some(Arrived::Told { nonce: *nonce, by, at: SocketAddr::new(ip.to_canonical(), port) })
}

fn transmit(destination: SocketAddr, contents: &[u8]) -> Transmit<'_> {
    Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None }
}

/// An address as the main socket writes it: one for both families shows IPv4 inside IPv6.
fn inward(address: SocketAddr, main: &dyn AsyncUdpSocket) -> SocketAddr {
    match (address.ip(), main.local_addr()) {
        (IpAddr::V4(ip), Ok(SocketAddr::V6(_))) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        _ => address,
    }
}

/// The socket with its side door: takes out what is ours, and sends by another socket what has a way of its own.
pub(super) struct ProbeSocket {
    main: Arc<dyn AsyncUdpSocket>,
    door: Arc<SideDoor>,
}

impl ProbeSocket {
    /// Around `main`, from now on the main one of `door`. What else it had is closed.
    pub(super) fn new(main: Arc<dyn AsyncUdpSocket>, door: Arc<SideDoor>) -> Self {
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
    fn sift(&self, buffer: &mut [u8], meta: &RecvMeta) -> usize {
        // One buffer may hold several packets of `stride` bytes each, the last one shorter.
        let stride = meta.stride.max(1);
        if !buffer.chunks(stride).any(|packet| packet.starts_with(&MAGIC)) {
            return buffer.len();
        }
        let mut kept = 0;
        let mut at = 0;
        while at < buffer.len() {
            let end = (at + stride).min(buffer.len());
            if buffer[at..end].starts_with(&MAGIC) {
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

impl fmt::Debug for ProbeSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeSocket").field("main", &self.main).finish_non_exhaustive()
    }
}

impl fmt::Debug for SideDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideDoor").finish_non_exhaustive()
    }
}

impl AsyncUdpSocket for ProbeSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.main.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let to = canonical(transmit.destination);
        let way = self.door.state().ways.iter().find(|way| way.to == to).map(|way| way.sends.clone());
        let Some(way) = way else { return self.main.try_send(transmit) };
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::super::socket;
    use super::*;

    fn open() -> (Arc<SideDoor>, ProbeSocket, SocketAddr) {
        let door = SideDoor::new();
        let main = socket::open(Some((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = main.local_addr().unwrap();
        (door.clone(), ProbeSocket::new(main, door), address)
    }

    /// The runtime must be told first that a socket can send.
    async fn writable(socket: &ProbeSocket) {
        let mut poller = socket.main.clone().create_io_poller();
        std::future::poll_fn(|cx| poller.as_mut().poll_writable(cx)).await.unwrap();
    }

    async fn receive(socket: &ProbeSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = [0; 4_096];
        let mut meta = [RecvMeta::default()];
        let mut bufs = [IoSliceMut::new(&mut buffer)];
        std::future::poll_fn(|cx| socket.poll_recv(cx, &mut bufs, &mut meta)).await.unwrap();
        (bufs[0][..meta[0].len].to_vec(), meta[0].addr)
    }

    #[tokio::test]
    async fn questions_are_answered_and_the_rest_is_quics() {
        let ((asking, ours, here), (_answers, theirs, there)) = (open(), open());
        writable(&ours).await;
        writable(&theirs).await;
        asking.ask(there);
        asking.probe(Via::Main, there, b"knock");
        ours.try_send(&transmit(there, b"\x40 quic")).unwrap();
        let (bytes, from) = receive(&theirs).await;
        assert_eq!((bytes.as_slice(), from), (b"\x40 quic".as_slice(), here), "only what is QUIC's is passed on");
        // Our own socket has to be read for the answer to come in.
        assert!(timeout(Duration::from_millis(100), receive(&ours)).await.is_err());
        match asking.next().await {
            Arrived::Told { nonce, by, at } => assert_eq!((nonce, by, at), (asking.nonce(), there, here)),
            other => panic!("{other:?}"),
        }
        match theirs.door.next().await {
            Arrived::Probe { from, via, bytes } => assert_eq!((from, via, &bytes[..]), (here, Via::Main, b"knock".as_slice())),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_adopted_socket_carries_what_goes_there() {
        let ((door, ours, here), (_other, theirs, there)) = (open(), open());
        writable(&theirs).await;
        let extras = door.open_extras(3);
        assert_eq!(extras.len(), 3);
        door.adopt(extras[1], there).unwrap();
        door.close_extras(&extras);
        assert!(door.state().extras.is_empty());
        ours.try_send(&transmit(there, b"\x40 out")).unwrap();
        let (bytes, from) = receive(&theirs).await;
        assert_eq!(bytes, b"\x40 out");
        assert_ne!(from, here, "by the other socket");
        theirs.try_send(&transmit(from, b"\x40 back")).unwrap();
        assert_eq!(receive(&ours).await, (b"\x40 back".to_vec(), there));
    }

    #[test]
    fn packets_among_others_are_taken_out_whatever_their_place() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (door, socket, here) = open();
        let probe = [&MAGIC[..], &[PROBE, 9, 9, 9]].concat();
        let quic = [0x40; 8];
        let meta = |len| RecvMeta { addr: here, len, stride: 8, ecn: None, dst_ip: None };
        for (order, kept) in
            [(vec![&quic[..], &probe, &quic], 16), (vec![&probe[..], &probe], 0), (vec![&quic[..], &quic[..5]], 13)]
        {
            let mut buffer = order.concat();
            let length = buffer.len();
            assert_eq!(socket.sift(&mut buffer, &meta(length)), kept);
            assert!(buffer[..kept].iter().all(|byte| *byte == 0x40));
        }
        assert_eq!(door.state().inbox.len(), 3);
    }

    #[test]
    fn no_bytes_make_trouble_and_no_answer_is_longer_than_its_question() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let (door, _socket, here) = open();
        let six: SocketAddr = "[2001:db8::1]:65535".parse().unwrap();
        assert!(answer([0; 8], six).len() <= ASK_BYTES);
        assert_eq!(read_answer(&answer([3; 8], six), [3; 8]), Some(six));
        assert_eq!(read_answer(&answer([3; 8], six), [4; 8]), None);
        assert_eq!(read_answer(&answer_to(&question([5; 8]), here).unwrap(), [5; 8]), Some(here));
        for packet in [question([1; 8]), answer([2; 8], here), [&MAGIC[..], &[PROBE]].concat()] {
            for length in 0..packet.len() {
                door.take(&packet[..length], here, Via::Main);
                answer_to(&packet[..length], here);
                read_answer(&packet[..length], [2; 8]);
            }
        }
        for _ in 0..2 * ARRIVED_MAX {
            door.take(&[&MAGIC[..], &[PROBE, 0]].concat(), here, Via::Main);
        }
        assert_eq!(door.state().inbox.len(), ARRIVED_MAX);
    }
}
