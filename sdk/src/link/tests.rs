//! Links end to end: two real QUIC endpoints on a network in memory, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{CloseReason, Identity, LinkId, PeerId, wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{LinkEndpoint, LinkEvent, LinkHandle};
use crate::test_utils::{LinkModel, VirtualNetwork};

const LOSSY: LinkModel = LinkModel {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(5),
    loss: 0.05,
    duplicates: 0.01,
    reordering: 0.02,
};

struct End {
    endpoint: LinkEndpoint,
    events: mpsc::Receiver<LinkEvent>,
    address: SocketAddr,
    peer: PeerId,
}

impl End {
    fn open(network: &VirtualNetwork, seed: u8) -> Self {
        let identity = Identity::from_seed([seed; 32]);
        let (told, events) = mpsc::channel(256);
        let socket = network.socket();
        let address = socket.address();
        let endpoint = LinkEndpoint::open(&identity, Some(socket), None, Some([seed; 32]), seed.into(), told).unwrap();
        tokio::spawn(endpoint.doorkeeper());
        Self { endpoint, events, address, peer: identity.peer_id() }
    }

    fn dial(&self, address: SocketAddr, expect: Option<PeerId>) {
        tokio::spawn(self.endpoint.dial(LinkId(1), address, expect));
    }

    /// Lets in whoever knocks, and returns the next event that is something else.
    async fn next(&mut self) -> LinkEvent {
        loop {
            match timeout(Duration::from_secs(20), self.events.recv()).await.unwrap().unwrap() {
                LinkEvent::Knock { incoming } => drop(tokio::spawn(self.endpoint.accept(LinkId(2), *incoming))),
                LinkEvent::Frame { link, bytes, handled } => {
                    // As the driver does once the node has seen it.
                    handled.into_iter().for_each(|handled| _ = handled.send(()));
                    return LinkEvent::Frame { link, bytes, handled: None };
                }
                event => return event,
            }
        }
    }

    async fn up(&mut self) -> (PeerId, SocketAddr, [u8; 32], LinkHandle) {
        match self.next().await {
            LinkEvent::Up { peer, address, exporter, handle, .. } => (peer, address, exporter, handle),
            event => panic!("no link: {event:?}"),
        }
    }

    async fn frame(&mut self) -> Bytes {
        match self.next().await {
            LinkEvent::Frame { bytes, .. } => bytes,
            event => panic!("no frame: {event:?}"),
        }
    }

    async fn down(&mut self) -> CloseReason {
        loop {
            match self.next().await {
                LinkEvent::Down { reason, .. } => return reason,
                LinkEvent::Frame { .. } | LinkEvent::Datagram { .. } => {}
                event => panic!("still there: {event:?}"),
            }
        }
    }
}

/// A link that has carried its first frame, as the admission handshake sees to.
async fn opened(model: LinkModel) -> (VirtualNetwork, (End, LinkHandle), (End, LinkHandle)) {
    let (network, (a, at_a), (mut b, at_b)) = linked(model).await;
    at_a.send_frame(Bytes::from_static(b"let me in")).unwrap();
    assert_eq!(b.frame().await, "let me in");
    (network, (a, at_a), (b, at_b))
}

async fn linked(model: LinkModel) -> (VirtualNetwork, (End, LinkHandle), (End, LinkHandle)) {
    let network = VirtualNetwork::new(7, model);
    let (mut a, mut b) = (End::open(&network, 1), End::open(&network, 2));
    a.dial(b.address, Some(b.peer));
    let ((peer, address, exporter, at_a), (back, from, same, at_b)) = tokio::join!(a.up(), b.up());
    assert_eq!((peer, address, back, from), (b.peer, b.address, a.peer, a.address), "both keys are proved, both places known");
    assert_eq!(exporter, same, "both ends derive the same bytes");
    (network, (a, at_a), (b, at_b))
}

#[tokio::test(start_paused = true)]
async fn frames_of_members_arrive_whole_and_in_order_under_loss() {
    let (_network, (mut a, at_a), (mut b, at_b)) = linked(LOSSY).await;
    // The first frame opens the stream, before admission.
    at_a.send_frame(Bytes::from_static(b"let me in")).unwrap();
    assert_eq!(b.frame().await, "let me in");
    at_b.send_frame(Bytes::from_static(b"welcome")).unwrap();
    assert_eq!(a.frame().await, "welcome");
    at_a.admit();
    at_b.admit();
    for length in [0, 1, 1_200, wire::FRAME_BYTES_MAX] {
        at_a.send_frame(Bytes::from(vec![7; length])).unwrap();
        at_b.send_frame(Bytes::from(vec![8; length])).unwrap();
    }
    for length in [0, 1, 1_200, wire::FRAME_BYTES_MAX] {
        assert_eq!(b.frame().await, vec![7; length]);
        assert_eq!(a.frame().await, vec![8; length]);
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_with_long_frames_are_shown_the_door() {
    let (_network, (mut a, at_a), (mut b, _at_b)) = linked(LinkModel::default()).await;
    at_a.send_frame(Bytes::from(vec![0; wire::ADMISSION_FRAME_BYTES_MAX])).unwrap();
    assert_eq!(b.frame().await.len(), wire::ADMISSION_FRAME_BYTES_MAX);
    at_a.send_frame(Bytes::from(vec![0; wire::ADMISSION_FRAME_BYTES_MAX + 1])).unwrap();
    assert_eq!(b.down().await, CloseReason::Violation);
    assert_eq!(a.down().await, CloseReason::Violation);
}

#[tokio::test(start_paused = true)]
async fn closing_says_everything_that_was_said_before() {
    let (network, (_a, at_a), (mut b, at_b)) = linked(LOSSY).await;
    at_a.admit();
    at_b.admit();
    network.set_model(LinkModel { loss: 0.3, ..LOSSY });
    let frame = Bytes::from(vec![9; 1_000]);
    for _ in 0..10 {
        at_a.send_frame(frame.clone()).unwrap();
    }
    at_a.close(CloseReason::Goodbye);
    at_a.send_frame(Bytes::from_static(b"too late")).unwrap();
    drop(at_a);
    for _ in 0..10 {
        assert_eq!(b.frame().await, frame);
    }
    network.set_model(LinkModel::default());
    assert!(matches!(b.down().await, CloseReason::Goodbye | CloseReason::Silence), "the code itself may be lost");
}

#[tokio::test(start_paused = true)]
async fn a_close_before_the_first_frame_arrives_too() {
    let (_network, (mut a, _at_a), (_b, at_b)) = linked(LinkModel::default()).await;
    at_b.close(CloseReason::Full);
    assert_eq!(a.down().await, CloseReason::Full);
}

#[tokio::test(start_paused = true)]
async fn a_tick_of_datagrams_leaves_whole_and_a_longer_one_than_fits_not_at_all() {
    let (_network, (_a, at_a), (mut b, _at_b)) = opened(LinkModel::default()).await;
    for n in 0..20 {
        assert!(at_a.send_datagram(Bytes::from(vec![n; wire::DATAGRAM_BYTES_MAX])));
    }
    assert!(!at_a.send_datagram(Bytes::from(vec![0; wire::DATAGRAM_BYTES_MAX + 1])));
    for n in 0..20 {
        match b.next().await {
            LinkEvent::Datagram { bytes, .. } => assert_eq!(bytes, vec![n; wire::DATAGRAM_BYTES_MAX]),
            event => panic!("{event:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn datagrams_stay_fresh_under_loss_and_after_an_outage() {
    let (network, (a, at_a), (mut b, _at_b)) = opened(LOSSY).await;
    let started = Instant::now();
    // 60 Hz for ten seconds, two of them without any network. Each datagram says when it left.
    let sender = tokio::spawn(async move {
        for _ in 0..600 {
            let stamp = started.elapsed().as_millis() as u64;
            let mut datagram = stamp.to_le_bytes().to_vec();
            datagram.resize(1_000, 0);
            at_a.send_datagram(datagram.into());
            tokio::time::sleep(Duration::from_millis(16)).await;
        }
        at_a.close(CloseReason::Goodbye);
    });
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(4)).await;
        network.unplug(a.address);
        tokio::time::sleep(Duration::from_secs(2)).await;
        network.plug(a.address);
        std::future::pending::<()>().await;
    });
    let (mut ages, mut silence, mut last) = (Vec::new(), 0, 0);
    while let LinkEvent::Datagram { bytes, .. } = b.next().await {
        let now = started.elapsed().as_millis() as u64;
        ages.push(now - u64::from_le_bytes(*bytes.first_chunk().unwrap()));
        silence = silence.max(now - last);
        last = now;
    }
    sender.await.unwrap();
    assert!(ages.len() > 420, "about 475 of 600 arrive: {}", ages.len());
    // 20 ms one way, 5 ms jitter, 50 ms for those that were overtaken: nothing ever waited behind anything.
    assert!(ages.iter().all(|age| *age <= 80), "{:?}", ages.iter().max());
    assert!((2_000..2_300).contains(&silence), "back at once after the outage: {silence} ms");
}

#[tokio::test(start_paused = true)]
async fn only_the_expected_peer_will_do() {
    let network = VirtualNetwork::new(7, LinkModel::default());
    let (mut a, b) = (End::open(&network, 1), End::open(&network, 2));
    let mut b = b;
    a.dial(b.address, Some(PeerId([9; 32])));
    let waiting = tokio::spawn(async move { _ = b.next().await });
    assert!(matches!(a.next().await, LinkEvent::DialFailed { link: LinkId(1) }));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_noticed_in_time() {
    let network = VirtualNetwork::new(7, LinkModel::default());
    let mut a = End::open(&network, 1);
    let started = Instant::now();
    a.dial("198.18.255.255:4433".parse().unwrap(), None);
    assert!(matches!(a.next().await, LinkEvent::DialFailed { .. }));
    assert!(started.elapsed() <= Duration::from_millis(5_500), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_too_slow() {
    let (_network, (_a, at_a), (b, at_b)) = linked(LinkModel::default()).await;
    at_a.admit();
    at_b.admit();
    let frame = Bytes::from(vec![0; 60_000]);
    // Nobody takes what arrives at `b`: first its channel fills, then QUIC's window, then our queue.
    let mut refused = false;
    for _ in 0..1_000 {
        refused = at_a.send_frame(frame.clone()).is_err();
        if refused {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(refused);
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn closing_does_not_wait_forever_for_a_peer_that_stops_reading() {
    let (_network, (mut a, at_a), (b, _at_b)) = opened(LinkModel::default()).await;
    // `b` takes one frame from the stream, hands it to a driver that never answers, and reads no further.
    while at_a.send_frame(Bytes::from(vec![0; 500])).is_ok() {
        tokio::task::yield_now().await;
    }
    let asked = Instant::now();
    at_a.close(CloseReason::Pruned);
    assert_eq!(a.down().await, CloseReason::Pruned);
    assert!(asked.elapsed() < Duration::from_millis(1_200), "{:?}", asked.elapsed());
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn garbage_does_nothing_but_count() {
    let (network, (a, at_a), (mut b, _at_b)) = linked(LinkModel::default()).await;
    let before = network.stats().sent;
    for n in 0..=255_u8 {
        network.inject(a.address, b.address, &[n & 0x3f; 100]);
        network.inject(a.address, b.address, &[n | 0x80; 30]);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(b.endpoint.counters().ignored(), 512);
    assert!(network.stats().sent - before <= 512 + 8, "hardly a packet in answer");
    at_a.send_frame(Bytes::from_static(b"still here")).unwrap();
    assert_eq!(b.frame().await, "still here");
}

#[tokio::test(start_paused = true)]
async fn both_dialing_at_once_makes_two_links() {
    let network = VirtualNetwork::new(7, LOSSY);
    let (mut a, mut b) = (End::open(&network, 1), End::open(&network, 2));
    a.dial(b.address, None);
    b.dial(a.address, None);
    // The handles are held: dropping them would close nothing, but a link without one is of no use.
    let mut handles = Vec::new();
    for _ in 0..2 {
        let ((peer, .., at_a), (back, .., at_b)) = tokio::join!(a.up(), b.up());
        assert_eq!((peer, back), (b.peer, a.peer));
        handles.push((at_a, at_b));
    }
}

#[tokio::test]
async fn it_works_on_a_real_socket() {
    let open = |seed: u8| {
        let (told, events) = mpsc::channel(256);
        let identity = Identity::from_seed([seed; 32]);
        let bind = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let endpoint = LinkEndpoint::open(&identity, None, bind, None, seed.into(), told).unwrap();
        tokio::spawn(endpoint.doorkeeper());
        let address = endpoint.local_address().unwrap();
        End { endpoint, events, address, peer: identity.peer_id() }
    };
    let (mut a, mut b) = (open(1), open(2));
    a.dial(b.address, Some(b.peer));
    let ((.., at_a), (.., at_b)) = tokio::join!(a.up(), b.up());
    at_a.send_frame(Bytes::from_static(b"hello")).unwrap();
    assert_eq!(b.frame().await, "hello");
    assert!(crate::resolve::ping(b.address, Duration::from_secs(1)).await.unwrap() < Duration::from_secs(1));
    assert_eq!(b.endpoint.counters().probes(), 1);
    at_b.close(CloseReason::Pruned);
    assert_eq!(a.down().await, CloseReason::Pruned);
}
