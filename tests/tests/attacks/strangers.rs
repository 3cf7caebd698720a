//! Strangers on real QUIC, in virtual time, who say nothing, or as little, or as much as they can; and a member that does not listen.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock::test_utils::{VirtualNetwork, stranger};
use peerflock::{Conditioner, Identity, PeerMesh, PeerMeshBuilder};
use peerflock_tests::game::{millis, seconds};
use quinn::{Connection, Endpoint};
use tokio::time::{Instant, sleep, timeout};

const LAN: Conditioner = Conditioner::with_delay(Duration::from_millis(10));
/// Strangers at the door at once.
const STRANGERS: usize = 64;
/// What each may make us hold before it is admitted, in bytes.
const STRANGER_BYTES_MAX: u64 = 64 * 1024;
/// What a handshake may take.
const DEADLINE: Duration = Duration::from_secs(5);

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("attacks")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .lan(false)
        .socket(network.socket())
}

async fn door(network: &VirtualNetwork) -> (PeerMesh, SocketAddr) {
    let mesh = builder(network, 1).start().await.expect("it starts");
    let address = mesh.local_addresses()[0];
    (mesh, address)
}

/// Connections of strangers, each with a key and an address of its own, and what keeps them.
async fn knock(network: &VirtualNetwork, at: SocketAddr, count: usize) -> Vec<(Endpoint, Connection)> {
    let mut strangers = Vec::new();
    for _ in 0..count {
        strangers.push(stranger(network, at).await.expect("the door answers"));
    }
    strangers
}

/// The first frame of a stream, one byte after the other, with so much time between: until the other end has enough.
async fn dribble(connection: &Connection, pause: Duration) {
    let Ok((mut send, _receive)) = connection.open_bi().await else { return };
    for byte in [200, 0, 0, 0].into_iter().chain([0; 200]) {
        if send.write_all(&[byte]).await.is_err() {
            return;
        }
        sleep(pause).await;
    }
}

#[tokio::test(start_paused = true)]
async fn slow_loris_of_64_connections_is_gone_after_five_seconds() {
    for dribbles in [false, true] {
        let network = VirtualNetwork::new(1, LAN);
        let (mesh, at) = door(&network).await;
        let started = Instant::now();
        let strangers = knock(&network, at, STRANGERS).await;
        assert!(started.elapsed() < seconds(4), "all are there before the first must go");
        for (_, connection) in strangers.iter().filter(|_| dribbles) {
            let connection = connection.clone();
            tokio::spawn(async move { dribble(&connection, millis(100)).await });
        }
        assert!(strangers.iter().all(|(_, connection)| connection.close_reason().is_none()));
        // One more is not let in meanwhile, a friend included.
        assert!(!matches!(timeout(seconds(1), stranger(&network, at)).await, Ok(Some(_))));
        let friend = builder(&network, 2).join_address(at).start().await.expect("it starts");
        for (_, connection) in &strangers {
            let last = connection.closed();
            timeout(seconds(20), last).await.expect("it is shown the door");
        }
        let gone = started.elapsed();
        // From the knock of the last.
        assert!(gone <= DEADLINE + seconds(4), "dribbles: {dribbles}: {gone:?}");
        let met = timeout(seconds(30), async {
            while mesh.members().len() < 2 || friend.members().len() < 2 {
                sleep(millis(50)).await;
            }
        });
        met.await.expect("an honest one gets in");
        assert_eq!(mesh.metrics().links.len(), 1);
    }
}

/// What a stranger can make us hold: it sends all that QUIC lets it, on its stream and beside it, and nobody reads.
#[test]
fn before_admission_64_connections_take_at_most_64_kib_each() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    // Connections are dropped out here, too.
    let _inside = runtime.enter();
    let network = VirtualNetwork::new(1, LAN);
    let (_mesh, at) = runtime.block_on(door(&network));
    let grown = |greedy: bool| {
        let (mut taken, mut kept) = (0, None);
        let info = allocation_counter::measure(|| {
            let (strangers, bytes) = runtime.block_on(flood(&network, at, greedy));
            (taken, kept) = (bytes, Some(strangers));
        });
        drop(kept);
        runtime.block_on(sleep(seconds(20)));
        (info.bytes_max, taken)
    };
    // Both ends are here, and what is on its way: theirs are paid for as well.
    let (idle, _) = grown(false);
    let (flooded, taken) = grown(true);
    assert!(taken > 0, "they do send");
    assert!(
        flooded.saturating_sub(idle) <= STRANGERS as u64 * STRANGER_BYTES_MAX,
        "{flooded} bytes beside {idle}, {taken} were sent"
    );
}

/// As many strangers as there may be, and how much of their streams was taken while they waited for the door to read on.
async fn flood(network: &VirtualNetwork, at: SocketAddr, greedy: bool) -> (Vec<(Endpoint, Connection)>, usize) {
    let strangers = knock(network, at, STRANGERS).await;
    let mut taken = 0;
    if greedy {
        let datagram = Bytes::from(vec![7; 1_000]);
        // Before there is a stream, and as fast as QUIC lets them.
        for _ in 0..40 {
            for (_, connection) in &strangers {
                for _ in 0..10 {
                    _ = connection.send_datagram(datagram.clone());
                }
            }
            sleep(millis(20)).await;
        }
    }
    for (_, connection) in strangers.iter().filter(|_| greedy) {
        let Ok((mut send, _receive)) = connection.open_bi().await else { continue };
        // A frame of the longest sort that never ends, and then what else may go.
        let mut bytes = vec![0; 1 << 20];
        bytes[..4].copy_from_slice(&512_u32.to_le_bytes());
        if let Ok(Ok(more)) = timeout(millis(10), send.write(&bytes)).await {
            taken += more;
        }
    }
    sleep(millis(50)).await;
    (strangers, taken)
}

/// A member that takes in hardly anything of what it is sent, and answers all the same: what waits for it is bounded.
#[tokio::test(start_paused = true)]
async fn a_stalled_reader_costs_a_bounded_backlog() {
    let network = VirtualNetwork::new(1, LAN);
    let (mesh, at) = door(&network).await;
    let others = [builder(&network, 2).join_address(at).start().await.expect("it starts")];
    timeout(seconds(10), async {
        while mesh.members().len() < 2 {
            sleep(millis(50)).await;
        }
    })
    .await
    .expect("they meet");
    // Its answers get out, and hardly anything gets in.
    let theirs = others[0].local_addresses()[0];
    network.set_link_conditioner(at, theirs, Conditioner { rate_bytes_per_second: Some(2_000), ..LAN });
    let (mut most, started) = (0, Instant::now());
    while started.elapsed() < seconds(30) {
        // What cannot be taken any more is said to the sender.
        _ = mesh.send(peerflock::Target::All, peerflock::Topic(peerflock::Topic::RESERVED), vec![7; 60_000]);
        sleep(millis(20)).await;
        let links = mesh.metrics().links;
        most = most.max(links.iter().map(|link| link.stream_backlog_bytes + link.datagram_backlog_bytes).sum());
    }
    assert!(most > 64 * 1024, "{most} bytes waited at most: nothing stalled");
    assert!(most <= 4 << 20, "{most} bytes waited");
}
