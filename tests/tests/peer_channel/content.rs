//! C2.9 and C6: content, over real QUIC in virtual time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use peerflock::service::content::{Content, ContentEvent, ContentId, FetchError, Offer, Quotas, Share, Transfer};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, Event, Identity, PeerId, PeerMesh, PeerMeshBuilder};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// One MiB a second, each way between each two.
const LINE: Conditioner = Conditioner {
    rate_bytes_per_second: Some(1024 * 1024),
    queue_bytes: 256 * 1024,
    ..Conditioner::with_delay(Duration::from_millis(10))
};

fn builder(network: &VirtualNetwork, n: u8, max_neighbors: usize) -> PeerMeshBuilder {
    PeerMesh::named("content")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .max_neighbors(max_neighbors)
        .lan(false)
        .socket(network.socket())
}

/// A member, and what it was told.
struct Member {
    mesh: PeerMesh,
    content: Content,
}

impl Member {
    fn join(mesh: PeerMesh) -> Self {
        let content = Content::join(&mesh, Quotas::default()).unwrap();
        Self { mesh, content }
    }

    /// The offer of this content, once it is here.
    async fn offer(&self, id: ContentId) -> Offer {
        let waiting = async {
            loop {
                if let Some(offer) = self.content.offers().into_iter().find(|offer| offer.id == id) {
                    break offer;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(10), waiting).await.expect("it is offered within ten seconds")
    }

    /// Whom this one has found out.
    async fn corrupt(&self) -> Vec<PeerId> {
        let mut peers = Vec::new();
        while let Ok(Some(event)) = timeout(Duration::from_millis(1), self.content.next_event()).await {
            if let ContentEvent::Corrupt { peer, .. } = event {
                peers.push(peer);
            }
        }
        peers
    }
}

/// `count` members who have met.
async fn gather(network: &VirtualNetwork, count: u8, max_neighbors: usize) -> Vec<Member> {
    let first = builder(network, 1, max_neighbors).start().await.unwrap();
    let door = first.local_addresses()[0];
    let mut starting = JoinSet::new();
    for n in 2..=count {
        let builder = builder(network, n, max_neighbors).join_address(door);
        starting.spawn(async move { (n, builder.start().await.unwrap()) });
    }
    let mut meshes = BTreeMap::from([(1, first)]);
    meshes.extend(starting.join_all().await);
    let started = Instant::now();
    while meshes.values().any(|mesh| mesh.members().len() < usize::from(count)) {
        assert!(started.elapsed() < Duration::from_secs(20), "they do not meet");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(2)).await;
    meshes.into_values().map(Member::join).collect()
}

/// Bytes without a pattern.
fn photo(len: usize, seed: u8) -> Bytes {
    let mut bytes = vec![0; len];
    let mut reader = blake3_like(seed);
    bytes.iter_mut().for_each(|byte| *byte = reader());
    bytes.into()
}

/// A stream of bytes that depends on a seed only.
fn blake3_like(seed: u8) -> impl FnMut() -> u8 {
    let mut state = u64::from(seed) * 2 + 1;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    }
}

async fn all_done(transfers: &[Transfer], bytes: &Bytes, limit: Duration) {
    for (index, transfer) in transfers.iter().enumerate() {
        let done = timeout(limit, transfer.done()).await;
        let done = done.unwrap_or_else(|_| panic!("{index} has {:?} after {limit:?}", transfer.progress()));
        assert!(done.unwrap() == *bytes, "{index} has other bytes");
    }
}

/// A folder of its own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("peerflock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn c2_9_a_photo_of_a_hundred_messages_arrives_at_all_though_its_sharer_leaves() {
    let network = VirtualNetwork::new(1, Conditioner { loss: 0.01, ..LINE });
    let mut members = gather(&network, 6, 7).await;
    let bytes = photo(100 * 64 * 1024, 1);
    let sharer = members.remove(0);
    let id = sharer.content.share(Share::bytes("beach.jpg", bytes.clone())).await.unwrap().id;
    let mut transfers = Vec::new();
    for member in &members {
        let offer = member.offer(id).await;
        assert_eq!((offer.name.as_str(), offer.source), ("beach.jpg", sharer.mesh.id()));
        transfers.push(member.content.fetch_bytes(id).unwrap());
    }
    // As soon as what it gave is one copy, it is gone without a word.
    while sharer.content.progress(&id).unwrap().served < id.len * 105 / 100 {
        sleep(Duration::from_millis(20)).await;
        if transfers.iter().all(|transfer| transfer.progress().complete) {
            break;
        }
    }
    let left_at: Vec<bool> = transfers.iter().map(|transfer| transfer.progress().complete).collect();
    assert!(!left_at.iter().all(|complete| *complete) || sharer.content.progress(&id).unwrap().served < id.len * 3 / 2);
    network.unplug(sharer.mesh.local_addresses()[0]);
    all_done(&transfers, &bytes, Duration::from_secs(120)).await;
}

#[tokio::test(start_paused = true)]
async fn c6_1_a_flipped_bit_is_refused_and_its_sender_named() {
    let network = VirtualNetwork::new(2, LINE);
    let members = gather(&network, 5, 7).await;
    let folder = Folder::new("c6-1");
    let bytes = photo(2 * 1024 * 1024, 2);
    let path = folder.0.join("song");
    std::fs::write(&path, &bytes).unwrap();
    let id = members[0].content.share(Share::bytes("song", bytes.clone())).await.unwrap().id;
    // A member that has it, too, and whose every byte is bent after it was read and found right.
    members[1].offer(id).await;
    assert_eq!(members[1].content.share(Share::file(&path)).await.unwrap().id, id);
    std::fs::write(&path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>()).unwrap();
    let transfers: Vec<Transfer> = members[2..].iter().map(|member| member.content.fetch_bytes(id).unwrap()).collect();
    all_done(&transfers, &bytes, Duration::from_secs(60)).await;
    let liar = members[1].mesh.id();
    let mut found = 0;
    for member in &members[2..] {
        let corrupt = member.corrupt().await;
        assert!(corrupt.iter().all(|peer| *peer == liar), "nobody else is named: {corrupt:?}");
        assert!(corrupt.len() <= 1, "it is not asked again");
        found += corrupt.len();
        // The offer is the source's, whoever passed it on.
        assert_eq!(member.offer(id).await.source, members[0].mesh.id());
    }
    assert!(found > 0, "somebody asked it");
}

#[tokio::test(start_paused = true)]
async fn c6_2_who_is_no_reader_passes_on_what_it_cannot_read() {
    let network = VirtualNetwork::new(3, LINE);
    let members = gather(&network, 3, 7).await;
    let secret = Bytes::from(b"nobody else may read this. ".repeat(20_000));
    let reader = members[2].mesh.id();
    let share = Share::bytes("diary", secret.clone()).readers([reader]);
    let offer = members[0].content.share(share).await.unwrap();
    members[1].offer(offer.id).await;
    assert_eq!(members[1].content.fetch_bytes(offer.id).unwrap_err(), FetchError::NotAReader);
    let carried = members[1].content.mirror(offer.id).unwrap().done().await.unwrap();
    assert!(!carried.windows(16).any(|window| window == &secret[..16]), "not a word of it");
    // The source leaves: all that the reader gets comes through who cannot read it.
    let source = members[0].mesh.clone();
    source.leave().await;
    let read = members[2].content.fetch_bytes(offer.id).unwrap();
    all_done(&[read], &secret, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn c6_3_the_source_sends_little_more_than_one_copy_however_many_want_it() {
    for count in [4, 12] {
        let network = VirtualNetwork::new(4, LINE);
        let members = gather(&network, count, 7).await;
        let bytes = photo(4 * 1024 * 1024, 4);
        let id = members[0].content.share(Share::bytes("map", bytes.clone())).await.unwrap().id;
        let mut transfers = Vec::new();
        for member in &members[1..] {
            member.offer(id).await;
            transfers.push(member.content.fetch_bytes(id).unwrap());
        }
        all_done(&transfers, &bytes, Duration::from_secs(120)).await;
        let copies = members[0].content.progress(&id).unwrap().served as f64 / id.len as f64;
        assert!(copies <= 1.5, "{count} members: the source sent {copies:.2} copies");
    }
}

#[tokio::test(start_paused = true)]
async fn c6_4_who_comes_late_or_was_interrupted_gets_all_of_it() {
    let network = VirtualNetwork::new(5, LINE);
    let mut members = gather(&network, 3, 7).await;
    let folder = Folder::new("c6-4");
    let path = folder.0.join("film");
    let bytes = photo(6 * 1024 * 1024, 5);
    let id = members[0].content.share(Share::bytes("film", bytes.clone())).await.unwrap().id;
    members[1].offer(id).await;
    let first = members[1].content.fetch_file(id, &path).await.unwrap();
    while first.progress().have < id.len / 2 {
        sleep(Duration::from_millis(20)).await;
    }
    // It stops in the middle, and its program with it.
    let interrupted = members.remove(1);
    drop(interrupted.content);
    interrupted.mesh.leave().await;
    assert_eq!(first.done().await.unwrap_err(), FetchError::Closed);
    assert!(!path.exists());
    let door = members[0].mesh.local_addresses()[0];
    // Meanwhile another one got it, and the source is gone.
    members[1].offer(id).await;
    let second = members[1].content.fetch_bytes(id).unwrap();
    all_done(&[second], &bytes, Duration::from_secs(60)).await;
    let back = Member::join(builder(&network, 9, 7).join_address(door).start().await.unwrap());
    let source = members.remove(0);
    source.mesh.leave().await;
    // Who comes after that still hears of it, from who has it.
    back.offer(id).await;
    let again = back.content.fetch_file(id, &path).await.unwrap();
    let had = again.progress().have;
    assert!(had >= id.len / 4, "what was there is gone on with: {had}");
    timeout(Duration::from_secs(60), again.done()).await.unwrap().unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
    // A third one, who comes when all is over.
    let door = back.mesh.local_addresses()[0];
    let late = Member::join(builder(&network, 10, 7).join_address(door).start().await.unwrap());
    late.offer(id).await;
    let late = late.content.fetch_bytes(id).unwrap();
    all_done(&[late], &bytes, Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn who_has_no_neighbor_with_it_gets_it_over_one_that_does_not_want_it() {
    let network = VirtualNetwork::new(6, LINE);
    let members = gather(&network, 12, 3).await;
    let links = |member: &Member| -> Vec<PeerId> {
        member.mesh.members().into_iter().filter(|other| other.linked).map(|other| other.peer).collect()
    };
    let near = links(&members[0]);
    let far = members[1..].iter().find(|member| !near.contains(&member.mesh.id())).expect("not all are neighbors of the first");
    let bytes = photo(1024 * 1024, 6);
    let id = members[0].content.share(Share::bytes("mod", bytes.clone())).await.unwrap().id;
    far.offer(id).await;
    let transfer = far.content.fetch_bytes(id).unwrap();
    all_done(&[transfer], &bytes, Duration::from_secs(60)).await;
    let carried = members.iter().filter(|member| member.content.progress(&id).is_some()).count();
    assert!((3..=6).contains(&carried), "the two of them and those between: {carried}");
    // The mesh's own traffic went on.
    assert!(members.iter().all(|member| member.mesh.try_events().iter().all(|event| !matches!(event, Event::PeerLeft { .. }))));
}
