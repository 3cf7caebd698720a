//! Many resolvers at once, on loopback: what one of them does wrong is no one else's trouble.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use peerflock::resolve::{Answer, Found, Registration, ResolveError};
use peerflock::{PeerId, PeerMesh, PeerMeshBuilder, Resolver, StartError};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(15);

/// A list that answers as a test wants it.
struct List<F>(&'static str, F);

impl<F: Fn(usize) -> Result<Vec<Found>, ResolveError> + Send + Sync + 'static> List<F> {
    fn counted(name: &'static str, answer: F) -> Counted<F> {
        Counted { list: Self(name, answer), asked: Arc::default() }
    }
}

struct Counted<F> {
    list: List<F>,
    asked: Arc<AtomicUsize>,
}

impl<F: Fn(usize) -> Result<Vec<Found>, ResolveError> + Send + Sync + 'static> Resolver for Counted<F> {
    fn name(&self) -> String {
        self.list.0.into()
    }

    fn register<'a>(&'a self, _: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(async { Ok(Duration::from_secs(60)) })
    }

    fn resolve<'a>(&'a self, _: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(async { (self.list.1)(self.asked.fetch_add(1, Ordering::Relaxed)) })
    }

    fn knows_password(&self) -> bool {
        true
    }
}

/// One that never answers.
struct Hung;

impl Resolver for Hung {
    fn name(&self) -> String {
        "hung".into()
    }

    fn register<'a>(&'a self, _: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(std::future::pending())
    }

    fn resolve<'a>(&'a self, _: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(std::future::pending())
    }
}

fn builder(name: &str) -> PeerMeshBuilder {
    PeerMesh::named(name).password("hunter2").loopback_only().lan(false)
}

async fn until(what: &str, mut look: impl FnMut() -> bool) {
    let started = Instant::now();
    while !look() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn dead_foreign_and_hostile_addresses_delay_joining_by_less_than_five_seconds_and_learn_nothing() {
    let host = builder("poisoned").start().await.unwrap();
    // Foreign: the same name with another password, and another mesh. Dead: sockets that only listen, and record what they hear.
    let foreign = PeerMesh::named("poisoned").password("hunter3").loopback_only().lan(false).start().await.unwrap();
    let other = PeerMesh::named("elsewhere").loopback_only().lan(false).start().await.unwrap();
    let mut dead = Vec::new();
    for _ in 0..40 {
        dead.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    // Hostile: answers everything with noise.
    let noise = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let hostile = noise.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 2_048];
        while let Ok((length, from)) = noise.recv_from(&mut packet).await {
            packet[..length].reverse();
            _ = noise.send_to(&packet[..length], from).await;
        }
    });
    let good = host.local_addresses()[0];
    let mut poison: Vec<Found> = dead.iter().map(|socket| Found::at(socket.local_addr().unwrap())).collect();
    // A wrong key behind a right address, too.
    poison.push(Found::peer(PeerId([7; 32]), vec![good]));
    for address in [foreign.local_addresses()[0], other.local_addresses()[0], hostile, "127.0.0.1:1".parse().unwrap()] {
        poison.push(Found::at(address));
    }
    let started = Instant::now();
    let joined = builder("poisoned")
        .resolver(List::counted("poisoned", move |_| Ok(poison.clone())))
        .resolver(List::counted("honest", move |_| Ok(vec![Found::at(good)])))
        .require_members(true)
        .start()
        .await
        .expect("the good one is found among the bad ones");
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    until("both are here", || joined.members().len() == 2 && host.members().len() == 2).await;
    assert_eq!((foreign.members().len(), other.members().len()), (1, 1));
    // Who only listens heard nothing of the mesh.
    let mut packets = 0;
    for socket in dead {
        let mut packet = [0; 2_048];
        while let Ok(Ok(length)) = timeout(Duration::from_millis(1), socket.recv(&mut packet)).await {
            packets += 1;
            for word in ["poisoned", "hunter2"] {
                assert!(!packet[..length].windows(word.len()).any(|window| window == word.as_bytes()), "{word} was sent");
            }
        }
    }
    assert!(packets > 0, "the dead ones were tried");
}

#[tokio::test]
async fn one_that_fails_hangs_or_panics_stops_no_other_and_is_used_again_when_it_is_back() {
    let host = builder("failing").start().await.unwrap();
    let good = host.local_addresses()[0];
    // Fails twice, then works.
    let flaky = List::counted("flaky", move |asked| match asked {
        0 | 1 => Err(ResolveError::Other("it is on fire: put it out".into())),
        _ => Ok(vec![Found::at(good)]),
    });
    let asked = flaky.asked.clone();
    let joiner = builder("failing")
        .resolver(Hung)
        .resolver(List::counted("panics", |_| panic!("a resolver's own bug")))
        .resolver(flaky)
        .start()
        .await
        .unwrap();
    let report = |name| joiner.resolvers().into_iter().find(|report| report.name == name);
    until("joined", || joiner.members().len() == 2).await;
    assert!(asked.load(Ordering::Relaxed) >= 3);
    assert_eq!(report("flaky").unwrap().failure, None);
    until("the hung one is told of", || report("hung").is_some_and(|hung| hung.failure.unwrap().contains("no answer"))).await;
}

#[tokio::test]
async fn nobody_there_is_a_reason_with_steps_within_fifteen_seconds() {
    let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let started = Instant::now();
    let error = builder("nobody")
        .join_address(nobody)
        .resolver(List::counted("burning", |_| Err(ResolveError::Other("it is on fire: put it out".into()))))
        .resolver(List::counted("empty", |_| Ok(vec![])))
        .start()
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(matches!(error, StartError::NobodyThere { tried: 1, .. }), "{error:?}");
    let text = error.to_string();
    for part in ["1 addresses", "burning: looking for others: it is on fire", "empty named 0"] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn whom_we_met_we_find_without_anybody_telling_us() {
    let folder = std::env::temp_dir().join(format!("peerflock-met-{}", std::process::id()));
    _ = std::fs::remove_dir_all(&folder);
    let book = folder.join("met.json");
    let host = builder("again").start().await.unwrap();
    let first = builder("again").address_book(&book).join(host.ticket()).start().await.unwrap();
    assert_eq!(first.members().len(), 2);
    first.leave().await;
    let second = builder("again").address_book(&book).start().await.unwrap();
    assert_eq!(second.members().len(), 2, "found at the first start from the book alone");
    // A book whose every address is dead delays, but does not keep anybody from playing.
    host.leave().await;
    second.leave().await;
    // What starting takes by itself, stretching the password first of all.
    let started = Instant::now();
    drop(builder("again").start().await.unwrap());
    let alone = started.elapsed();
    let started = Instant::now();
    let third = builder("again").address_book(&book).start().await.unwrap();
    assert_eq!(third.members().len(), 1);
    assert!(started.elapsed() < alone + Duration::from_secs(5), "{:?}, without the book {alone:?}", started.elapsed());
    std::fs::remove_dir_all(&folder).unwrap();
}
