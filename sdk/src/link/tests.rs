//! Links end to end: two real QUIC endpoints on a network in memory, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{CloseReason, Identity, LinkId, PeerId, wire};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{LinkEndpoint, LinkEvent, LinkHandle, Taken};
use crate::conditioner::Conditioner;
use crate::test_utils::{BareLink, VirtualNetwork};

const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));
const LOSSY: Conditioner = Conditioner {
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(5),
    loss: 0.05,
    duplicates: 0.01,
    reordering: 0.02,
    ..LAN
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
        let endpoint = LinkEndpoint::open(&identity, Some(socket), None, None, Some([seed; 32]), seed.into(), told).unwrap();
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
async fn opened(conditioner: Conditioner) -> (VirtualNetwork, (End, LinkHandle), (End, LinkHandle)) {
    let (network, (a, at_a), (mut b, at_b)) = linked(conditioner).await;
    at_a.send_frame(Bytes::from_static(b"let me in")).unwrap();
    assert_eq!(b.frame().await, "let me in");
    (network, (a, at_a), (b, at_b))
}

async fn linked(conditioner: Conditioner) -> (VirtualNetwork, (End, LinkHandle), (End, LinkHandle)) {
    let network = VirtualNetwork::new(7, conditioner);
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
    let (_network, (mut a, at_a), (mut b, _at_b)) = linked(LAN).await;
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
    network.set_conditioner(Conditioner { loss: 0.3, ..LOSSY });
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
    network.set_conditioner(LAN);
    assert!(matches!(b.down().await, CloseReason::Goodbye | CloseReason::Silence), "the code itself may be lost");
}

#[tokio::test(start_paused = true)]
async fn a_close_before_the_first_frame_arrives_too() {
    let (_network, (mut a, _at_a), (_b, at_b)) = linked(LAN).await;
    at_b.close(CloseReason::Full);
    assert_eq!(a.down().await, CloseReason::Full);
}

#[tokio::test(start_paused = true)]
async fn a_tick_of_datagrams_leaves_whole_and_a_longer_one_than_fits_not_at_all() {
    let (_network, (_a, at_a), (mut b, _at_b)) = opened(LAN).await;
    for n in 0..20 {
        assert_eq!(at_a.send_datagram(Bytes::from(vec![n; wire::DATAGRAM_BYTES_MAX])), Taken::Sent);
    }
    assert_eq!(at_a.send_datagram(Bytes::from(vec![0; wire::DATAGRAM_BYTES_MAX + 1])), Taken::Refused);
    for n in 0..20 {
        match b.next().await {
            LinkEvent::Datagram { bytes, .. } => assert_eq!(bytes, vec![n; wire::DATAGRAM_BYTES_MAX]),
            event => panic!("{event:?}"),
        }
    }
}

/// 60 Hz of 1,000 bytes both ways for so long. What came to the second end: when, in milliseconds from the start, and how old.
async fn played(network: &VirtualNetwork, link: &mut (BareLink, BareLink), seconds: u64) -> Vec<(u64, u64)> {
    let (started, mut arrived) = (Instant::now(), Vec::new());
    let mut tick = tokio::time::interval(Duration::from_millis(16));
    let (a, b) = link;
    while started.elapsed() < Duration::from_secs(seconds) {
        tokio::select! {
            biased;
            Some(datagram) = b.receive() => {
                let now = started.elapsed().as_millis() as u64;
                let sent = u64::from_le_bytes(*datagram.first_chunk().unwrap());
                // What is from before the start does not count.
                if sent < u64::MAX {
                    arrived.push((now, now - sent.min(now)));
                }
            }
            _ = tick.tick() => {
                let stamp = started.elapsed().as_millis() as u64;
                let mut datagram = stamp.to_le_bytes().to_vec();
                datagram.resize(1_000, 0);
                a.send(datagram.into());
                b.send(vec![0; 1_000].into());
                assert!(a.waiting_bytes() <= 2_100, "one tick at most waits: {}", a.waiting_bytes());
            }
        }
    }
    // The network is empty again before the next clock starts.
    _ = timeout(Duration::from_secs(2), async { while b.receive().await.is_some() {} }).await;
    assert!(network.stats().sent > 0);
    arrived
}

#[tokio::test(start_paused = true)]
async fn datagrams_never_wait_under_loss_and_are_fresh_at_once_after_outages() {
    let lossy = Conditioner { loss: 0.05, ..Conditioner::with_delay(Duration::from_millis(100)) };
    let network = VirtualNetwork::new(7, lossy);
    let mut link = BareLink::pair(&network, 1).await;
    let address = link.0.address();
    for outage in [0, 2, 10] {
        let network_out = network.clone();
        let cable = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(3)).await;
            network_out.unplug(address);
            tokio::time::sleep(Duration::from_secs(outage)).await;
            network_out.plug(address);
        });
        let arrived = played(&network, &mut link, outage + 6).await;
        cable.await.unwrap();
        assert!(arrived.iter().all(|(_, age)| (100..=101).contains(age)), "{:?}", arrived.iter().max_by_key(|(_, age)| age));
        let back = arrived.iter().find(|(at, _)| *at > (3 + outage) * 1_000 + 1).unwrap().0 - (3 + outage) * 1_000;
        assert!(back <= 100 + 100, "back after {back} ms, 100 of them path");
        let lost = 1.0 - arrived.len() as f64 / (6_000.0 / 16.0);
        assert!((0.0..0.12).contains(&lost), "{lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_of_half_the_rate_gets_less_state_not_older_state() {
    let path = Conditioner::with_delay(Duration::from_millis(30));
    let network = VirtualNetwork::new(7, Conditioner { rate_bytes_per_second: Some(32_000), ..path });
    let mut link = BareLink::pair(&network, 1).await;
    let arrived = played(&network, &mut link, 20).await;
    let late: Vec<u64> = arrived.iter().filter(|(at, _)| *at > 3_000).map(|(_, age)| *age).collect();
    assert!(late.iter().all(|age| *age <= 30 + 200), "{:?}", late.iter().max());
    let mean = late.iter().sum::<u64>() as f64 / late.len() as f64;
    assert!(mean < 30.0 + 110.0, "{mean}");
    assert!(link.0.limit().is_some());
    assert!(late.len() > 17 * 60 / 4, "the line is used: {}", late.len());
    // Once it is wide again, all goes again.
    network.set_conditioner(path);
    played(&network, &mut link, 8).await;
    assert_eq!(link.0.limit(), None);
    assert!(played(&network, &mut link, 2).await.len() >= 120);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_does_not_delay_state() {
    let path = Conditioner { rate_bytes_per_second: Some(200_000), ..Conditioner::with_delay(Duration::from_millis(30)) };
    let network = VirtualNetwork::new(7, path);
    let mut link = BareLink::pair(&network, 1).await;
    played(&network, &mut link, 2).await;
    // What is left of the line beside the game carries it in 6 seconds at the least.
    for _ in 0..12 {
        assert!(link.0.send_frame(Bytes::from(vec![0; 64 * 1_024])));
    }
    let arrived = played(&network, &mut link, 10).await;
    let mut ages: Vec<u64> = arrived.iter().map(|(_, age)| *age).collect();
    ages.sort_unstable();
    let (median, worst) = (ages[ages.len() / 2], ages[ages.len() - 1]);
    assert!(median <= 30 + 60 && worst <= 30 + 200, "{median} {worst}");
    assert!(arrived.len() > 500, "{}", arrived.len());
}

#[tokio::test(start_paused = true)]
async fn a_link_survives_that_its_dialer_moves() {
    let network = VirtualNetwork::new(7, LAN);
    let mut link = BareLink::pair(&network, 1).await;
    let before = played(&network, &mut link, 2).await.len();
    let old = link.0.address();
    assert_ne!(link.0.rebind(&network).unwrap(), old);
    network.unplug(old);
    let after = played(&network, &mut link, 2).await;
    assert!(after.len() + 2 >= before && after.iter().all(|(_, age)| *age <= 12), "{} of {before}", after.len());
    // And the other way: the accepter knows where to send.
    link.1.send(Bytes::from_static(b"found you"));
    while link.0.receive().await.unwrap() != "found you" {}
}

#[tokio::test(start_paused = true)]
async fn only_the_expected_peer_will_do() {
    let network = VirtualNetwork::new(7, LAN);
    let (mut a, b) = (End::open(&network, 1), End::open(&network, 2));
    let mut b = b;
    a.dial(b.address, Some(PeerId([9; 32])));
    let waiting = tokio::spawn(async move { _ = b.next().await });
    assert!(matches!(a.next().await, LinkEvent::DialFailed { link: LinkId(1) }));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_noticed_in_time() {
    let network = VirtualNetwork::new(7, LAN);
    let mut a = End::open(&network, 1);
    let started = Instant::now();
    a.dial("198.18.255.255:4433".parse().unwrap(), None);
    assert!(matches!(a.next().await, LinkEvent::DialFailed { .. }));
    assert!(started.elapsed() <= Duration::from_millis(5_500), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_too_slow() {
    let (_network, (_a, at_a), (b, at_b)) = linked(LAN).await;
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
    let (_network, (mut a, at_a), (b, _at_b)) = opened(LAN).await;
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
    let (network, (a, at_a), (mut b, _at_b)) = linked(LAN).await;
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
        let endpoint = LinkEndpoint::open(&identity, None, bind, None, None, seed.into(), told).unwrap();
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

#[tokio::test]
async fn no_datagram_is_lost_to_our_own_bursts_with_64_neighbors() {
    const NEIGHBORS: usize = 64;
    const TICKS: usize = 60;
    let open = |seed: u8, told| {
        let identity = Identity::from_seed([seed; 32]);
        let bind = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        LinkEndpoint::open(&identity, None, bind, None, None, seed.into(), told).unwrap()
    };
    let (told, mut events) = mpsc::channel(256);
    let hub = open(0, told);
    tokio::spawn(hub.doorkeeper());
    let address = hub.local_address().unwrap();
    let (mut around, mut handles) = (Vec::new(), Vec::new());
    // How many of the datagrams came in, at the hub.
    let (links, mut linked) = mpsc::channel(NEIGHBORS);
    let at_hub = tokio::spawn(async move {
        let (mut frames, mut datagrams) = (0, 0);
        while datagrams < NEIGHBORS * TICKS {
            match events.recv().await.unwrap() {
                LinkEvent::Knock { incoming } => drop(tokio::spawn(hub.accept(LinkId(frames as u64), *incoming))),
                LinkEvent::Up { handle, .. } => links.send(handle).await.unwrap(),
                LinkEvent::Frame { handled, .. } => {
                    frames += 1;
                    handled.into_iter().for_each(|handled| _ = handled.send(()));
                }
                LinkEvent::Datagram { .. } => datagrams += 1,
                event => panic!("{event:?}"),
            }
        }
        datagrams
    });
    for n in 1..=NEIGHBORS {
        let (told, mut events) = mpsc::channel(256);
        let endpoint = open(n as u8, told);
        tokio::spawn(endpoint.dial(LinkId(1), address, None));
        let Some(LinkEvent::Up { handle, .. }) = events.recv().await else { panic!("no link") };
        handle.send_frame(Bytes::from_static(b"hello")).unwrap();
        around.push((endpoint, handle, events));
    }
    while handles.len() < NEIGHBORS {
        handles.push(linked.recv().await.unwrap());
    }
    let mut readers = Vec::new();
    let mut neighbors = Vec::new();
    for (endpoint, handle, mut events) in around {
        neighbors.push(handle);
        readers.push(tokio::spawn(async move {
            for _ in 0..TICKS {
                assert!(matches!(events.recv().await, Some(LinkEvent::Datagram { .. })));
            }
            drop(endpoint);
        }));
    }
    // Everybody at the very same moment, each tick: the hub to all, all to the hub.
    let mut ticks = tokio::time::interval(Duration::from_millis(16));
    for _ in 0..TICKS {
        ticks.tick().await;
        for handle in handles.iter().chain(&neighbors) {
            assert_eq!(handle.send_datagram(Bytes::from(vec![0; 1_000])), Taken::Sent);
        }
    }
    let all = async {
        assert_eq!(at_hub.await.unwrap(), NEIGHBORS * TICKS);
        for reader in readers {
            reader.await.unwrap();
        }
    };
    timeout(Duration::from_secs(20), all).await.expect("every single one arrived");
}
