//! A line far too thin for its world: who is seen how late, when the sender must choose what to say?
//!
//! Two real meshes over real QUIC, in virtual time. One moves all of its entities in every tick; after it was seen whole, the line between
//! them becomes thin. A few entities, those near the other player, say, weigh more. What is measured is how old each entity is
//! for the other player, by the mesh clock, in every frame.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use peerflock::test_utils::VirtualNetwork;
use peerflock::{
    Change, Conditioner, EntityId, Event, Identity, KindId, MeshTime, Orphan, PeerMesh, PeerMeshBuilder, Value, WorldEvent,
};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Failure, in_virtual_time};
use crate::bodies;
use crate::report::Report;
use crate::stats::Latencies;

const TICK: Duration = Duration::from_millis(16);
const TRANSFORM: KindId = KindId(0);
/// Until all of the world must have been seen over a good line.
const MEETING: Duration = Duration::from_secs(5);
/// After which worlds that are not equal never will be.
const GIVE_UP: Duration = Duration::from_secs(60);
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Entities that all move in every tick.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    entities: u32,
    /// How many of them matter more.
    #[arg(long, default_value_t = 100)]
    near: u32,
    /// How much those weigh, beside 100 of the others.
    #[arg(long, default_value_t = 1_000)]
    weight: u16,
    /// What the line carries from then on, in bytes of UDP payload a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2_000..))]
    rate: u32,
    /// Round trip, in milliseconds.
    #[arg(long, default_value_t = 50)]
    rtt: u64,
    /// Virtual seconds after the line became thin that are not measured.
    #[arg(long, default_value_t = 12)]
    settle: u64,
    /// Virtual seconds that are measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u8,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    in_virtual_time(measure(options))
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "entities": options.entities, "near": options.near, "weight": options.weight, "rate_bytes_per_second": options.rate, "rtt_ms": options.rtt,
        "settle": options.settle, "seconds": options.seconds,
    });
    let mut report = Report::new("starve", settings, Some(options.seed.into()));
    let wide = Conditioner::with_delay(Duration::from_millis(options.rtt) / 2);
    let network = VirtualNetwork::new(options.seed.into(), wide);
    let mover = start(builder(&network, 1)).await?;
    let watcher = start(builder(&network, 2).join(mover.ticket())).await?;
    let bodies: Vec<EntityId> = (0..options.entities).map(|_| mover.spawn()).collect();
    mover.commit(bodies.iter().map(|&entity| Change::Spawn { entity, orphan: Orphan::Vanish }).collect());
    let near = &bodies[..bodies.len().min(options.near as usize)];
    mover.commit(near.iter().map(|&entity| Change::Weigh { entity, weight: options.weight }).collect());

    let begin = Instant::now();
    let thin = begin + MEETING;
    let measured = thin + Duration::from_secs(options.settle);
    let end = measured + Duration::from_secs(options.seconds);
    let mut seen: BTreeMap<EntityId, MeshTime> = BTreeMap::new();
    let (mut near_ages, mut far_ages) = (Latencies::default(), Latencies::default());
    let (mut queued, mut updates, mut is_thin) = (0.0_f64, 0_u64, false);
    let mut sent_before = network.stats().sent;
    while Instant::now() < end {
        sleep_until(Instant::now() + TICK).await;
        let now = Instant::now();
        if now >= thin && !is_thin {
            if seen.len() < bodies.len() {
                return Err(Failure::Unmet(format!(
                    "only {} of {} entities were seen over a good line",
                    seen.len(),
                    bodies.len()
                )));
            }
            is_thin = true;
            network.set_conditioner(Conditioner { rate_bytes_per_second: Some(options.rate), queue_bytes: 256 * 1_024, ..wide });
        }
        let seconds = (now - begin).as_secs_f32();
        let moved = (0..).zip(&bodies).map(|(body, &entity)| {
            let value = Value::fields(bodies::transform(body, seconds));
            Change::Set { entity, kind: TRANSFORM, value }
        });
        mover.commit(moved.collect());
        watcher.commit(Vec::new());
        for event in watcher.try_events() {
            if let Event::World(WorldEvent::Set { entity, at, .. }) = event {
                updates += u64::from(now >= measured);
                let newest = seen.entry(entity).or_insert(at);
                *newest = at.max(*newest);
            }
        }
        if now < measured {
            sent_before = network.stats().sent;
            continue;
        }
        let time = watcher.now();
        for (index, entity) in bodies.iter().enumerate() {
            let age = seen.get(entity).map_or(Duration::MAX, |at| time.since(*at));
            if index < near.len() { near_ages.add(age) } else { far_ages.add(age) }
        }
        let standing = mover.metrics().links.iter().map(|link| link.queueing.as_secs_f64() * 1_000.0).fold(0.0, f64::max);
        queued = queued.max(standing);
    }
    for (name, ages) in [("near", &near_ages), ("far", &far_ages)] {
        report.field(format!("{name}_age_mean_ms"), ages.mean_ms());
        report.field(format!("{name}_age_p99_ms"), ages.percentile_ms(0.99));
        report.field(format!("{name}_age_max_ms"), ages.percentile_ms(1.0));
    }
    report.field("updates_per_second", updates as f64 / options.seconds.max(1) as f64);
    report.field("packets_per_second", (network.stats().sent - sent_before) as f64 / options.seconds.max(1) as f64);
    report.field("queue_max_ms", queued);
    // Then all is still: what is seen must become what is.
    let still = Instant::now();
    let differ = || watcher.metrics().state_hash != mover.metrics().state_hash;
    while differ() && still.elapsed() < GIVE_UP {
        sleep(TICK).await;
        mover.commit(Vec::new());
        watcher.commit(Vec::new());
    }
    report.field("equal_after_ms", (!differ()).then(|| still.elapsed().as_secs_f64() * 1_000.0));
    Ok(report)
}

fn builder(network: &VirtualNetwork, n: u8) -> PeerMeshBuilder {
    PeerMesh::named("starve")
        .secret([42; 32])
        .identity(Identity::from_seed([n; 32]))
        .seed([n; 32])
        .registry(bodies::registry())
        .lan(false)
        .socket(network.socket())
}

async fn start(builder: PeerMeshBuilder) -> Result<PeerMesh, Failure> {
    builder.start().await.map_err(|error| Failure::Unmet(error.to_string()))
}
