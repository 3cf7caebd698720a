//! A directory and its players, over real sockets on loopback.

use std::time::Duration;

use peerflock::directory::{Directory, DirectoryAddress, DirectoryLimits, DirectoryOptions, DirectoryService, Referral};
use peerflock::{PeerId, PeerMesh, PeerMeshBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

fn options() -> DirectoryOptions {
    DirectoryOptions { listen: "127.0.0.1:0".parse().unwrap(), ..DirectoryOptions::default() }
}

fn builder(name: &str, password: &str) -> PeerMeshBuilder {
    PeerMesh::named(name).password(password).loopback_only().lan(false)
}

async fn within(seconds: u64, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < Duration::from_secs(seconds), "{what}: not within {seconds} s");
        sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

#[tokio::test]
async fn two_that_start_at_the_same_instant_meet_and_others_do_not() {
    let service = DirectoryService::start(options()).await.unwrap();
    let address = service.address("127.0.0.1");
    let started = Instant::now();
    let start = |name: &str, password: &str| builder(name, password).directory(address.clone()).start();
    let (one, two, stranger, elsewhere) =
        tokio::join!(start("dusk", "hunter2"), start("dusk", "hunter2"), start("dusk", "hunter3"), start("dawn", "hunter2"));
    let (one, two, stranger, elsewhere) = (one.unwrap(), two.unwrap(), stranger.unwrap(), elsewhere.unwrap());
    within(5, "met", || one.members().len() == 2 && two.members().len() == 2).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((service.stats().entries, service.stats().meshes), (4, 3), "a mesh is another one with another password");
    assert_eq!((stranger.members().len(), elsewhere.members().len()), (1, 1));
    two.leave().await;
    within(2, "withdrawn", || service.stats().entries == 3).await;
}

#[tokio::test]
async fn play_goes_on_without_it_and_it_fills_again_by_itself() {
    // Entries are renewed every second, so that the test need not wait for long.
    let limits = DirectoryLimits { lifetime: Duration::from_secs(3), ..DirectoryLimits::default() };
    let service = DirectoryService::start(DirectoryOptions { limits, ..options() }).await.unwrap();
    let (place, address) = (service.local_address(), DirectoryAddress::new("127.0.0.1", service.local_address().port()));
    let one = builder("goes-on", "x").directory(address.clone()).start().await.unwrap();
    let two = builder("goes-on", "x").directory(address.clone()).start().await.unwrap();
    within(5, "met", || one.members().len() == 2 && two.members().len() == 2).await;
    // It dies without a word.
    drop(service);
    within(10, "its end is told", || one.resolvers().iter().any(|report| report.failure.is_some())).await;
    assert_eq!((one.members().len(), two.members().len()), (2, 2), "play goes on");
    let again = DirectoryService::start(DirectoryOptions { listen: place, limits, ..options() }).await.unwrap();
    within(25, "it fills again", || again.stats().entries == 2).await;
    within(5, "it works again", || one.resolvers().iter().all(|report| report.failure.is_none())).await;
    let three = builder("goes-on", "x").directory(address).start().await.unwrap();
    within(5, "a third", || three.members().len() == 3).await;
}

#[tokio::test]
async fn it_survives_a_restart_with_its_key_and_its_entries() {
    let folder = std::env::temp_dir().join(format!("peerflock-directory-{}", std::process::id()));
    _ = std::fs::remove_dir_all(&folder);
    let kept = DirectoryOptions { data: Some(folder.clone()), ..options() };
    let service = DirectoryService::start(kept.clone()).await.unwrap();
    let address = service.address("127.0.0.1");
    let mesh = builder("restart", "x").directory(address.clone()).start().await.unwrap();
    within(5, "registered", || service.stats().entries == 1).await;
    service.stop().await.unwrap();
    let again = DirectoryService::start(kept).await.unwrap();
    assert_eq!(again.stats().entries, 1);
    let key = |address: &DirectoryAddress| address.to_string().split_once('#').map(|(_, key)| key.to_owned());
    assert_eq!(key(&again.address("127.0.0.1")), key(&address));
    // What is kept holds neither the mesh's name nor where its players are.
    let entries = std::fs::read(folder.join("entries")).unwrap();
    let port = mesh.local_addresses()[0].port().to_be_bytes();
    assert!(!entries.windows(7).any(|bytes| bytes == b"restart"));
    assert!(!entries.windows(6).any(|bytes| bytes[..4] == [127, 0, 0, 1] && bytes[4..] == port));
    mesh.leave().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn another_key_wrong_places_and_limits_are_told_with_their_reason() {
    let limits = DirectoryLimits { entries_of_mesh: 1, ..DirectoryLimits::default() };
    let service = DirectoryService::start(DirectoryOptions { limits, ..options() }).await.unwrap();
    let port = service.local_address().port();
    let reason = async |address: DirectoryAddress| {
        let mesh = builder("reasons", "x").directory(address).start().await.unwrap();
        let mut failure = None;
        within(10, "a reason", || {
            failure = mesh.resolvers().into_iter().find_map(|report| report.failure);
            failure.is_some()
        })
        .await;
        failure.unwrap_or_default()
    };
    let imposter = reason(DirectoryAddress::new("127.0.0.1", port).key(PeerId([7; 32]))).await;
    assert!(imposter.contains("another key"), "{imposter}");
    let nobody = reason(DirectoryAddress::new("127.0.0.1", 9)).await;
    assert!(nobody.contains("127.0.0.1:9 cannot be reached"), "{nobody}");
    let _first = builder("reasons", "x").directory(service.address("127.0.0.1")).start().await.unwrap();
    within(5, "registered", || service.stats().entries == 1).await;
    let full = reason(service.address("127.0.0.1")).await;
    assert!(full.contains("registering: ") && full.contains("as many entries"), "{full}");
}

#[tokio::test]
async fn who_does_not_want_to_be_named_finds_and_is_not_found() {
    let service = DirectoryService::start(options()).await.unwrap();
    let hidden = Directory::new(service.address("127.0.0.1")).referral(Referral::DoNotShare);
    let hidden = builder("hidden", "x").resolver(hidden).punch(false).start().await.unwrap();
    within(5, "registered", || service.stats().entries == 1).await;
    let open = builder("hidden", "x").directory(service.address("127.0.0.1")).punch(false).start().await.unwrap();
    within(5, "the hidden one finds the other", || open.members().len() == 2 && hidden.members().len() == 2).await;
    assert_eq!(open.resolvers()[0].found, Some(0));
}

#[tokio::test]
async fn its_pages_say_how_it_is() {
    let http = Some("127.0.0.1:0".parse().unwrap());
    let service = DirectoryService::start(DirectoryOptions { http, ..options() }).await.unwrap();
    let _mesh = builder("pages", "x").directory(service.address("127.0.0.1")).start().await.unwrap();
    within(5, "registered", || service.stats().entries == 1).await;
    let get = async |path: &str| {
        let mut stream = tokio::net::TcpStream::connect(service.http_address().unwrap()).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    };
    assert!(get("/health").await.ends_with("well\n"));
    assert!(get("/metrics").await.contains("\npeerflock_directory_entries 1\n"));
}
