//! Real sockets on loopback: what does a mesh cost beside a plain full mesh of QUIC connections that carries the same?
//!
//! One process, one thread, everybody in it. First the mesh as games use it: each peer commits one changed value per tick, which
//! everybody gets, over at most so many neighbors. Then plain quinn: everybody is linked to everybody, one datagram per tick and pair.
//! CPU time is the process's, kernel included, over the same number of seconds; a frame is one tick of one peer at one other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock::test_utils::plain_endpoint;
use peerflock::{Change, Kind, Metrics, NeighborLimits, Orphan, PeerMesh, Registry, Shape, Value};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::Failure;
use crate::report::Report;

/// How long the peers may take to find each other.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most peers where memory is measured: a link takes the same in a larger mesh.
const PEERS_FOR_MEMORY_MAX: usize = 16;
/// What is under way when the time is up may still arrive.
const AFTERWARDS: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(2..=256))]
    peers: u16,
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    max_neighbors: usize,
    /// Ticks a second.
    #[arg(long, default_value_t = 60)]
    hz: u32,
    /// Bytes that change in each tick of each peer.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// How long each of the two is measured.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Leave out the plain full mesh.
    #[arg(long)]
    alone: bool,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unmet(format!("no runtime: {error}")))?;
    runtime.block_on(async {
        let ours = mesh(options).await?;
        let plain = if options.alone { None } else { Some(plain(options).await?) };
        let settings = json!({
            "peers": options.peers, "max_neighbors": options.max_neighbors, "hz": options.hz, "payload": options.payload,
            "seconds": options.seconds,
        });
        let mut report = Report::new("link", settings, None);
        let cost = |run: &Run| run.cpu.as_secs_f64() * 1e6 / run.delivered.max(1) as f64;
        report.field("cpu_us_per_frame", cost(&ours));
        report.field("delivered", ours.delivered as f64 / ours.due.max(1) as f64);
        report.field("ticks_kept", ours.ticks_kept);
        report.field("cores_used", ours.cpu.as_secs_f64() / ours.lasted.as_secs_f64());
        report.field("neighbors_mean", ours.links as f64 / f64::from(options.peers));
        report.field("datagrams_per_frame", ours.datagrams as f64 / ours.delivered.max(1) as f64);
        let packets_per_frame = |run: &Run| run.packets as f64 / run.delivered.max(1) as f64;
        let bytes_per_frame = |run: &Run| run.bytes as f64 / run.delivered.max(1) as f64;
        report.field("packets_per_frame", packets_per_frame(&ours));
        report.field("bytes_per_frame", bytes_per_frame(&ours));
        report.field("datagrams_skipped", ours.skipped);
        if let Some(memory) = ours.memory_per_link {
            report.field("memory_bytes_per_neighbor", memory);
        }
        if let Some(plain) = plain {
            report.field("plain_cpu_us_per_frame", cost(&plain));
            report.field("plain_delivered", plain.delivered as f64 / plain.due.max(1) as f64);
            report.field("plain_ticks_kept", plain.ticks_kept);
            report.field("plain_packets_per_frame", packets_per_frame(&plain));
            report.field("plain_bytes_per_frame", bytes_per_frame(&plain));
            report.field("ratio", cost(&ours) / cost(&plain));
        }
        Ok(report)
    })
}

/// What one of the two took.
#[derive(Debug, Default)]
struct Run {
    cpu: Duration,
    lasted: Duration,
    delivered: u64,
    /// What should have been delivered.
    due: u64,
    /// The part of ticks that were not late by more than a tick's length: less, and the machine is too slow for the scene.
    ticks_kept: f64,
    /// Ends of links.
    links: usize,
    /// Datagrams that were handed to links.
    datagrams: u64,
    /// UDP packets that left, with all that QUIC adds, and their bytes above UDP.
    packets: u64,
    bytes: u64,
    skipped: u64,
    memory_per_link: Option<f64>,
}

/// What one more link takes at each of its ends: of two meshes of the same peers, one has few links and one has many. What a peer and
/// what a member takes is the same in both.
async fn memory_per_link(options: &Options) -> Result<Option<f64>, Failure> {
    let peers = usize::from(options.peers).min(PEERS_FOR_MEMORY_MAX);
    let (few, many) = (NeighborLimits::default().ideal, peers - 1);
    if many <= few {
        return Ok(None);
    }
    let (mut held, mut measured) = (Vec::new(), Vec::new());
    for max in [few, many] {
        let before = resident_bytes();
        let meshes = gathered(options, peers, max).await?;
        everybody(&meshes, options.hz, Duration::from_secs(1), |player: &Arc<Player>| player.tick()).await;
        measured.push((resident_bytes().zip(before).map(|(now, before)| now.saturating_sub(before)), links(&meshes)));
        held.push(meshes);
    }
    let &[(few_bytes, few), (many_bytes, many)] = &measured[..] else { return Ok(None) };
    drop(held);
    sleep(Duration::from_secs(2)).await;
    let bytes = many_bytes.zip(few_bytes).map(|(many, few)| many.saturating_sub(few) as f64);
    Ok(bytes.map(|bytes| bytes / many.saturating_sub(few).max(1) as f64))
}

/// A mesh of so many, each with so many neighbors at most, in which all see all.
async fn gathered(options: &Options, peers: usize, max_neighbors: usize) -> Result<Vec<Arc<Player>>, Failure> {
    let name = format!("lab-link-{}-{max_neighbors}", std::process::id());
    let mut meshes: Vec<(PeerMesh, _)> = Vec::new();
    for n in 0..peers {
        let mut registry = Registry::default();
        let kind = registry.register(Kind { name: "frame".into(), shape: Shape::Bytes });
        let mut builder = PeerMesh::named(&name)
            .secret([7; 32])
            .loopback_only()
            .lan(false)
            .neighbors(NeighborLimits::with_max(max_neighbors))
            .registry(registry);
        // Any three that are there: the first alone would soon be full.
        for known in (0..3).map(|k| (n * 7 + k * 13) % n.max(1)).filter(|known| *known < n) {
            builder = builder.join(meshes[known].0.ticket());
        }
        meshes.push((builder.start().await.map_err(|error| Failure::Unmet(error.to_string()))?, kind));
    }
    let deadline = Instant::now() + PATIENCE;
    while meshes.iter().any(|(mesh, _)| mesh.members().len() < peers) {
        if Instant::now() > deadline {
            return Err(Failure::Unmet(format!("the peers did not all meet within {PATIENCE:?}")));
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(meshes.into_iter().map(|(mesh, kind)| Player::new(mesh, kind, options.payload)).collect())
}

/// Ends of links.
fn links(meshes: &[Arc<Player>]) -> usize {
    meshes.iter().map(|player| player.mesh.metrics().links.len()).sum()
}

/// The mesh as games use it.
async fn mesh(options: &Options) -> Result<Run, Failure> {
    let memory_per_link = memory_per_link(options).await?;
    let meshes = gathered(options, options.peers.into(), options.max_neighbors).await?;
    let play = |length| everybody(&meshes, options.hz, length, |player: &Arc<Player>| player.tick());
    play(Duration::from_secs(2)).await;
    let links = links(&meshes);

    let totals = || meshes.iter().fold(Totals::default(), |totals, player| totals.and(&player.mesh.metrics()));
    let (before, cpu, started) = (totals(), cpu_time(), Instant::now());
    let ticks_kept = play(Duration::from_secs(options.seconds)).await;
    sleep(AFTERWARDS).await;
    let (after, lasted) = (totals(), started.elapsed());
    let cpu = cpu_time().saturating_sub(cpu);
    let skipped = meshes.iter().map(|player| player.mesh.metrics().datagrams_skipped).sum();
    for player in &meshes {
        player.mesh.leave_now(Duration::ZERO);
    }
    sleep(Duration::from_secs(2)).await;
    let due = (after.made - before.made) * (u64::from(options.peers) - 1);
    let (delivered, datagrams) = (after.first - before.first, after.datagrams - before.datagrams);
    let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
    Ok(Run { cpu, lasted, delivered, due, ticks_kept, links, datagrams, packets, bytes, skipped, memory_per_link })
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    made: u64,
    first: u64,
    datagrams: u64,
    packets: u64,
    bytes: u64,
}

impl Totals {
    fn and(self, metrics: &Metrics) -> Self {
        let counters = &metrics.counters;
        Self {
            made: self.made + counters.state_frames_made,
            first: self.first + counters.state_packets_first,
            datagrams: self.datagrams + counters.datagrams_sent,
            packets: self.packets + metrics.packets_sent,
            bytes: self.bytes + metrics.packet_bytes_sent,
        }
    }
}

/// One peer, with one entity of one value.
struct Player {
    mesh: PeerMesh,
    kind: peerflock::KindId,
    entity: peerflock::EntityId,
    ticks: AtomicU64,
    payload: usize,
}

impl Player {
    fn new(mesh: PeerMesh, kind: peerflock::KindId, payload: usize) -> Arc<Self> {
        let entity = mesh.spawn();
        mesh.commit(vec![Change::Spawn { entity, orphan: Orphan::Vanish }]);
        Arc::new(Self { mesh, kind, entity, ticks: AtomicU64::new(0), payload })
    }

    fn tick(&self) {
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        // Bytes that nothing makes shorter.
        let value = noise(tick ^ u64::from(self.entity.counter) << 32 ^ u64::from(self.mesh.id().0[0]) << 40, self.payload);
        self.mesh.commit(vec![Change::Set { entity: self.entity, kind: self.kind, value: Value::bytes(value) }]);
        // As a game does, which draws them.
        drop(self.mesh.try_events());
    }
}

/// Everybody linked to everybody by plain QUIC.
async fn plain(options: &Options) -> Result<Run, Failure> {
    let unmet = |error: String| Failure::Unmet(format!("the plain full mesh: {error}"));
    let (received, mut readers) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    let mut ends: Vec<(quinn::Endpoint, quinn::ClientConfig, SocketAddr)> = Vec::new();
    for _ in 0..options.peers {
        let (endpoint, client) = plain_endpoint((Ipv4Addr::LOCALHOST, 0).into()).map_err(|error| unmet(error.to_string()))?;
        let address = endpoint.local_addr().map_err(|error| unmet(error.to_string()))?;
        ends.push((endpoint, client, address));
    }
    let mut links: Vec<Vec<quinn::Connection>> = vec![Vec::new(); ends.len()];
    for (one, (endpoint, client, _)) in ends.iter().enumerate() {
        for (other, (accepter, _, address)) in ends.iter().enumerate().take(one) {
            let connecting = endpoint.connect_with(client.clone(), *address, "peer").map_err(|error| unmet(error.to_string()))?;
            let accepted = async { accepter.accept().await.ok_or("closed")?.await.map_err(|_| "refused") };
            let (here, there) = tokio::join!(connecting, accepted);
            links[one].push(here.map_err(|error| unmet(error.to_string()))?);
            links[other].push(there.map_err(|error| unmet(error.into()))?);
        }
    }
    for link in links.iter().flatten() {
        let (link, received) = (link.clone(), received.clone());
        readers.spawn(async move {
            while link.read_datagram().await.is_ok() {
                received.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let count = links.iter().map(Vec::len).sum();
    let sent = Arc::new(AtomicU64::new(0));
    let links: Vec<Arc<Vec<quinn::Connection>>> = links.into_iter().map(Arc::new).collect();
    let every_end: Vec<quinn::Connection> = links.iter().flat_map(|links| links.iter().cloned()).collect();
    let payload = Bytes::from(noise(1, options.payload));
    let tick = {
        let sent = sent.clone();
        move |links: &Arc<Vec<quinn::Connection>>| {
            let taken = links.iter().filter(|link| link.send_datagram(payload.clone()).is_ok()).count();
            sent.fetch_add(taken as u64, Ordering::Relaxed);
        }
    };
    let play = |length| everybody(&links, options.hz, length, tick.clone());
    play(Duration::from_secs(1)).await;
    let counts = || {
        let udp = every_end.iter().map(|link| link.stats().udp_tx);
        let (packets, bytes) = udp.fold((0, 0), |(packets, bytes), udp| (packets + udp.datagrams, bytes + udp.bytes));
        (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed), packets, bytes)
    };
    let (before, cpu, started) = (counts(), cpu_time(), Instant::now());
    let ticks_kept = play(Duration::from_secs(options.seconds)).await;
    sleep(AFTERWARDS).await;
    let (after, lasted) = (counts(), started.elapsed());
    let cpu = cpu_time().saturating_sub(cpu);
    let (due, delivered) = (after.0 - before.0, after.1 - before.1);
    let (packets, bytes) = (after.2 - before.2, after.3 - before.3);
    Ok(Run { cpu, lasted, delivered, due, ticks_kept, links: count, packets, bytes, ..Run::default() })
}

/// Lets everybody do something per tick, each at its own phase. Returns the part of ticks that were not late.
async fn everybody<T: Clone + Send + 'static>(
    who: &[T],
    hz: u32,
    length: Duration,
    tick: impl Fn(&T) + Clone + Send + 'static,
) -> f64 {
    let period = Duration::from_secs(1) / hz.max(1);
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for (index, who) in who.iter().enumerate() {
        let (who, tick) = (who.clone(), tick.clone());
        let phase = period.mul_f64(index as f64 * 0.618_034 % 1.0);
        tasks.spawn(async move {
            let mut ticks = interval_at(started + phase, period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut kept, mut all) = (0_u64, 0_u64);
            while started.elapsed() < length {
                let due = ticks.tick().await;
                all += 1;
                kept += u64::from(due.elapsed() < period);
                tick(&who);
            }
            (kept, all)
        });
    }
    let counts = tasks.join_all().await;
    let (kept, all) = counts.into_iter().fold((0, 0), |(kept, all), (more_kept, more)| (kept + more_kept, all + more));
    kept as f64 / all.max(1) as f64
}

/// The process's CPU time so far, all threads, kernel included.
#[cfg(unix)]
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Elsewhere nobody says.
#[cfg(not(unix))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

/// Memory that the process really holds, where the system says: the second field of `/proc/self/statm` (proc(5)), in pages of 4 KiB.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096)
}

/// Bytes that look random (`SplitMix64`).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}
