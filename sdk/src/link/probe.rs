//! What goes through the socket beside QUIC: questions where one seems to be, and probes that open the way through routers.
//!
//! These packets have QUIC's fixed bit clear (RFC 9000, section 17), so that none is taken for the other. "Where am I" is answered here,
//! as STUN (RFC 8489) would, by no more bytes than were asked with and so many times a second; all else is passed on. The router of some
//! players gives each way a port of its own: then the way that opens may be one of many more sockets, and what goes there leaves by it.
//! Where none opens, a directory passes on packets between the two ([`relay`]).

mod packet;
mod relay;
mod socket;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use peerflock_proto::PeerId;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::packet::{Nonce, PACKET_BYTES_MAX, Packet};
pub(crate) use self::packet::{Token, answer_to, question, read_answer};
pub(crate) use self::relay::Carrier;
use self::relay::Relays;
pub(super) use self::socket::ProbeSocket;
use self::socket::{inward, transmit};
use super::canonical;
use super::gate::Bucket;
use crate::reach::Post;

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
    Told { nonce: Nonce, by: SocketAddr, at: SocketAddr },
    /// A probe.
    Probe { from: SocketAddr, via: Via, bytes: Bytes },
    /// An offer from a member, or from one by a courier.
    Letter { from: PeerId, bytes: Bytes, by: Post },
    /// A courier can reach one who may be no member yet.
    Found { peer: PeerId, by: Post },
    /// The router lets others in at `at`, or does not.
    Mapped { at: Option<SocketAddr> },
    /// A directory carries a link to that one, whose other end is to be dialed at `at`.
    Relayed { peer: PeerId, at: SocketAddr },
}

/// The side door of the socket: what is not QUIC goes in and out here.
pub(crate) struct SideDoor {
    state: Mutex<State>,
    arrived: Notify,
    /// What our questions are known by.
    nonce: Nonce,
}

#[derive(Default)]
struct State {
    main: Option<Arc<dyn AsyncUdpSocket>>,
    inbox: VecDeque<Arrived>,
    answers: Option<Bucket>,
    extras: Vec<Extra>,
    ways: Vec<Way>,
    relays: Relays,
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
        let nonce: Nonce = crate::identity::random().first_chunk().copied().unwrap_or_default();
        Arc::new(Self { state: Mutex::default(), arrived: Notify::new(), nonce })
    }

    /// What answers to our questions must carry.
    pub(crate) fn nonce(&self) -> Nonce {
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
        self.send(via, to, &Packet::Probe(payload).bytes());
    }

    /// Asks whoever is at `to` where we seem to be.
    pub(crate) fn ask(&self, to: SocketAddr) {
        self.send(Via::Main, to, &Packet::Ask { nonce: self.nonce }.bytes());
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
        match Packet::read(packet) {
            Some(Packet::Ask { nonce }) => self.answer(nonce, from),
            Some(Packet::Told { nonce, at }) => self.post(Arrived::Told { nonce, by: from, at }),
            Some(Packet::Probe(payload)) => self.post(Arrived::Probe { from, via, bytes: Bytes::copy_from_slice(payload) }),
            Some(Packet::Relay { token, payload }) => self.take_relayed(token, from, payload),
            None => {}
        }
    }

    fn answer(&self, nonce: Nonce, to: SocketAddr) {
        let now = Instant::now();
        let may = {
            let answers = &mut self.state().answers;
            answers.get_or_insert_with(|| Bucket::full(ANSWERS_BURST, now)).take(ANSWERS_PER_SECOND, ANSWERS_BURST, now)
        };
        if may {
            self.send(Via::Main, to, &Packet::Told { nonce, at: to }.bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SideDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SideDoor").finish_non_exhaustive()
    }
}

/// A socket at `address` that answers questions beside what QUIC does with it, and its side door.
pub(crate) fn answering(address: SocketAddr) -> io::Result<(Arc<dyn AsyncUdpSocket>, Arc<SideDoor>)> {
    let door = SideDoor::new();
    Ok((Arc::new(ProbeSocket::new(super::socket::open(Some(address))?, door.clone())), door))
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::time::Duration;

    use quinn::udp::RecvMeta;
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
        let probe = Packet::Probe(&[9; 3]).bytes();
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
        let question = |n| Packet::Ask { nonce: [n; 8] }.bytes();
        let answer = |n, at| Packet::Told { nonce: [n; 8], at }.bytes();
        assert!(answer(0, six).len() <= question(0).len());
        assert_eq!(read_answer(&answer(3, six), [3; 8]), Some(six));
        assert_eq!(read_answer(&answer(3, six), [4; 8]), None);
        assert_eq!(read_answer(&answer_to(&question(5), here).unwrap(), [5; 8]), Some(here));
        for packet in [question(1), answer(2, here), Packet::Probe(b"").bytes()] {
            for length in 0..packet.len() {
                door.take(&packet[..length], here, Via::Main);
                answer_to(&packet[..length], here);
                read_answer(&packet[..length], [2; 8]);
            }
        }
        for _ in 0..2 * ARRIVED_MAX {
            door.take(&Packet::Probe(&[0]).bytes(), here, Via::Main);
        }
        assert_eq!(door.state().inbox.len(), ARRIVED_MAX);
    }
}
