//! Each way to find others: how soon is there a first link, among two and among many, after a restart, and beside a poisoned one?
//!
//! Real sockets on loopback, all in one process. The DHT has a test of its own (`sdk/tests/dht.rs`): its fifty machines are not players.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use peerflock::directory::{DirectoryAddress, DirectoryOptions, DirectoryService};
use peerflock::resolve::{Answer, Found, Registration};
use peerflock::{PeerMesh, PeerMeshBuilder, Resolver};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Failure;
use crate::report::Report;

/// In which everybody must have met.
const PATIENCE: Duration = Duration::from_secs(30);
/// Sockets that never answer, for the poisoned one.
const DEAD: usize = 50;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers of the larger mesh.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(2..=60))]
    peers: u16,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unmet(format!("no runtime: {error}")))?;
    let mut report = Report::new("resolvers", json!({"peers": options.peers}), None);
    runtime.block_on(async {
        let many = usize::from(options.peers);
        let service = service("127.0.0.1:0").await?;
        let (place, address) = (service.local_address(), service.address("127.0.0.1"));
        let directory = move |builder: PeerMeshBuilder| builder.directory(address.clone());
        let lan = |builder: PeerMeshBuilder| builder.lan(true);
        for peers in [2, many] {
            report.field(format!("lan_{peers}_peers_ms"), together(&format!("lan {peers}"), peers, &lan).await?);
            report
                .field(format!("directory_{peers}_peers_ms"), together(&format!("directory {peers}"), peers, &directory).await?);
            report.field(format!("ticket_{peers}_peers_ms"), invited(peers).await?);
        }
        report.field("poisoned_ms", poisoned().await?);
        outage(&mut report, service, place).await
    })?;
    Ok(report)
}

/// All start at the same moment: until each has a neighbor, in milliseconds.
async fn together(name: &str, peers: usize, how: &impl Fn(PeerMeshBuilder) -> PeerMeshBuilder) -> Result<Value, Failure> {
    let started = Instant::now();
    let starting: Vec<_> = (0..peers).map(|_| tokio::spawn(how(builder(name)).start())).collect();
    let mut meshes = Vec::new();
    for mesh in starting {
        meshes.push(joined(mesh.await)?);
    }
    until(started, "a neighbor for each", || meshes.iter().all(linked)).await
}

/// One is there, the others come with its ticket.
async fn invited(peers: usize) -> Result<Value, Failure> {
    let host = started(builder("ticket")).await?;
    let begun = Instant::now();
    let starting: Vec<_> = (1..peers).map(|_| tokio::spawn(builder("ticket").join(host.ticket()).start())).collect();
    let mut meshes = Vec::new();
    for mesh in starting {
        meshes.push(joined(mesh.await)?);
    }
    until(begun, "a neighbor for each", || meshes.iter().all(linked)).await
}

/// Dead addresses from one resolver, a good one from another.
async fn poisoned() -> Result<Value, Failure> {
    struct Names(Vec<SocketAddr>);
    impl Resolver for Names {
        fn name(&self) -> String {
            "names".into()
        }
        fn register<'a>(&'a self, _: &'a Registration) -> Answer<'a, Duration> {
            Box::pin(async { Ok(Duration::from_secs(60)) })
        }
        fn resolve<'a>(&'a self, _: &'a Registration) -> Answer<'a, Vec<Found>> {
            Box::pin(async { Ok(self.0.iter().map(|address| Found::at(*address)).collect()) })
        }
    }
    let host = started(builder("poisoned")).await?;
    let dead: Vec<_> = (0..DEAD).filter_map(|_| std::net::UdpSocket::bind("127.0.0.1:0").ok()).collect();
    let addresses = dead.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let begun = Instant::now();
    let joiner = builder("poisoned").resolver(Names(addresses)).resolver(Names(host.local_addresses())).require_members(true);
    let joiner = started(joiner).await?;
    until(begun, "a link beside the dead", || linked(&joiner)).await
}

/// The directory ends under two who play, and comes back with nothing.
async fn outage(report: &mut Report, service: DirectoryService, place: SocketAddr) -> Result<(), Failure> {
    let address = DirectoryAddress::new("127.0.0.1", place.port());
    let [one, two] = [
        started(builder("outage").directory(address.clone())).await?,
        started(builder("outage").directory(address.clone())).await?,
    ];
    until(Instant::now(), "two", || one.members().len() == 2 && two.members().len() == 2).await?;
    drop(service);
    sleep(Duration::from_secs(3)).await;
    report.field("members_while_it_is_down", one.members().len().min(two.members().len()));
    let again = self::service(&place.to_string()).await?;
    let begun = Instant::now();
    report.field("filled_again_after_ms", until(begun, "two entries", || again.stats().entries >= 2).await?);
    let begun = Instant::now();
    let three = started(builder("outage").directory(address)).await?;
    report.field("newcomer_after_it_ms", until(begun, "a third", || linked(&three)).await?);
    Ok(())
}

/// With a secret: to stretch a password takes longer than to find anybody, and is not what is measured here.
fn builder(name: &str) -> PeerMeshBuilder {
    PeerMesh::named(format!("resolvers {name} {}", std::process::id())).secret([7; 32]).loopback_only().lan(false)
}

fn linked(mesh: &PeerMesh) -> bool {
    mesh.members().iter().any(|member| member.linked)
}

async fn service(listen: &str) -> Result<DirectoryService, Failure> {
    let listen = listen.parse().map_err(|error| Failure::Unmet(format!("{listen}: {error}")))?;
    let options = DirectoryOptions { listen, ..DirectoryOptions::default() };
    DirectoryService::start(options).await.map_err(|error| Failure::Unmet(error.to_string()))
}

async fn started(builder: PeerMeshBuilder) -> Result<PeerMesh, Failure> {
    builder.start().await.map_err(|error| Failure::Unmet(error.to_string()))
}

fn joined(mesh: Result<Result<PeerMesh, peerflock::StartError>, tokio::task::JoinError>) -> Result<PeerMesh, Failure> {
    let started = mesh.map_err(|error| Failure::Unmet(error.to_string()))?;
    started.map_err(|error| Failure::Unmet(error.to_string()))
}

async fn until(since: Instant, what: &str, mut look: impl FnMut() -> bool) -> Result<Value, Failure> {
    while !look() {
        if since.elapsed() > PATIENCE {
            return Err(Failure::Unmet(format!("{what}: not within {} s", PATIENCE.as_secs())));
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(json!(since.elapsed().as_millis() as u64))
}
