//! One link: how old does state get on its way through us, when the path is lossy, gone for a while, or too slow?
//!
//! Real QUIC with all that the SDK puts around it, on a network in memory, in virtual time. Both ends send 60 datagrams a second, each of
//! which says when it was handed over. What it is older than the path makes it has waited with us, or in a router that we filled.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use peerflock::Conditioner;
use peerflock::test_utils::{BareLink, VirtualNetwork};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{Failure, in_virtual_time};
use crate::report::Report;

const TICKS_PER_SECOND: u64 = 60;
/// QUIC's and UDP's bytes around each datagram, about.
const OVERHEAD_BYTES: usize = 40;
/// What a slow link is given to settle.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Bytes of state a tick.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(16..=1_162))]
    payload: u16,
    /// Part of the packets that is lost, 0 to 1, on the lossy link.
    #[arg(long, default_value_t = 0.05)]
    loss: f64,
    /// Round trip, in milliseconds.
    #[arg(long, default_value_t = 200)]
    rtt_ms: u64,
    /// How long each part takes, in virtual seconds.
    #[arg(long, default_value_t = 30)]
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
        "payload": options.payload, "loss": options.loss, "rtt_ms": options.rtt_ms, "seconds": options.seconds,
        "ticks_per_second": TICKS_PER_SECOND,
    });
    let mut report = Report::new("queue", settings, Some(options.seed.into()));
    let seconds = Duration::from_secs(options.seconds.max(5));
    let one_way = Duration::from_millis(options.rtt_ms) / 2;
    let perfect = Conditioner::with_delay(one_way);
    let lossy = Conditioner { loss: options.loss, ..perfect };

    let mut scene = Scene::new(options, lossy).await;
    let arrived = scene.play(seconds).await;
    let waited = Sorted::new(arrived.iter().map(|state| state.age().saturating_sub(one_way)));
    report.field("queue_age_p50_ms", waited.part(0.5));
    report.field("queue_age_p99_ms", waited.part(0.99));
    report.field("queue_age_max_ms", waited.part(1.0));
    report.field("delivered", arrived.len() as f64 / (seconds.as_secs() * TICKS_PER_SECOND) as f64);

    for outage in [2, 10] {
        let mut scene = Scene::new(options, lossy).await;
        let (fresh, oldest) = scene.outage(Duration::from_secs(outage), one_way).await?;
        report.field(format!("fresh_after_outage_{outage}s_ms"), millis(fresh));
        report.field(format!("oldest_after_outage_{outage}s_ms"), millis(oldest));
    }

    let mut scene = Scene::new(options, perfect).await;
    let on_wide = scene.play(seconds).await;
    let needed = (usize::from(options.payload) + OVERHEAD_BYTES) as u64 * TICKS_PER_SECOND;
    let rate = u32::try_from(needed / 2).ok();
    let mut scene = Scene::new(options, Conditioner { rate_bytes_per_second: rate, queue_bytes: 256 * 1024, ..perfect }).await;
    let on_half = scene.play(SETTLE + seconds).await;
    let (wide, half) = (Sorted::new(ages(&on_wide, Duration::ZERO)), Sorted::new(ages(&on_half, SETTLE)));
    report.field("half_rate_age_over_path_ms", half.mean() - wide.mean());
    report.field("half_rate_age_over_path_p99_ms", half.part(0.99) - wide.part(0.99));
    report.field("half_rate_age_over_path_max_ms", half.part(1.0) - wide.part(1.0));
    let settled = on_half.iter().filter(|state| state.arrived > SETTLE);
    let carried = settled.clone().count() as f64 / (seconds.as_secs() * TICKS_PER_SECOND) as f64;
    report.field("half_rate_delivered", carried);
    let queues = Sorted::new(settled.map(|state| state.age().saturating_sub(one_way)));
    report.field("half_rate_router_queue_mean_ms", queues.mean());
    Ok(report)
}

/// A link between two that play.
struct Scene {
    network: VirtualNetwork,
    ends: (BareLink, BareLink),
    payload: usize,
}

/// One datagram that came to the second end.
#[derive(Clone, Copy, Debug)]
struct State {
    sent: Duration,
    arrived: Duration,
}

impl State {
    fn age(&self) -> Duration {
        self.arrived.saturating_sub(self.sent)
    }
}

impl Scene {
    async fn new(options: &Options, conditioner: Conditioner) -> Self {
        let network = VirtualNetwork::new(options.seed.into(), conditioner);
        let ends = BareLink::pair(&network, options.seed).await;
        Self { network, ends, payload: options.payload.into() }
    }

    /// What arrives while both send for so long, and in the second after.
    async fn play(&mut self, length: Duration) -> Vec<State> {
        let (started, mut arrived) = (Instant::now(), Vec::new());
        let mut ticks = interval(Duration::from_secs(1) / TICKS_PER_SECOND as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (here, there) = &mut self.ends;
        let note = |datagram: Bytes, arrived: &mut Vec<State>| {
            if let Some(stamp) = datagram.first_chunk() {
                let sent = Duration::from_micros(u64::from_le_bytes(*stamp));
                arrived.push(State { sent, arrived: started.elapsed() });
            }
        };
        while started.elapsed() < length {
            tokio::select! {
                biased;
                Some(datagram) = there.receive() => note(datagram, &mut arrived),
                _ = ticks.tick() => {
                    let mut datagram = (started.elapsed().as_micros() as u64).to_le_bytes().to_vec();
                    datagram.resize(self.payload, 0);
                    here.send(datagram.into());
                    there.send(vec![0; self.payload].into());
                }
            }
        }
        while let Ok(Some(datagram)) = timeout(Duration::from_secs(1), there.receive()).await {
            note(datagram, &mut arrived);
        }
        arrived
    }

    /// After the network is back, how long until state arrives that is not older than the path makes it, the path not counted; and how
    /// old the oldest is that arrives from then on, beyond the path.
    async fn outage(&mut self, length: Duration, one_way: Duration) -> Result<(Duration, Duration), Failure> {
        let before = Duration::from_secs(3);
        let (network, address) = (self.network.clone(), self.ends.0.address());
        let cable = tokio::spawn(async move {
            sleep(before).await;
            network.unplug(address);
            sleep(length).await;
            network.plug(address);
        });
        let back = before + length;
        let arrived = self.play(back + Duration::from_secs(5)).await;
        cable.await.map_err(|error| Failure::Unmet(error.to_string()))?;
        let tick = Duration::from_secs(1) / TICKS_PER_SECOND as u32;
        let after: Vec<State> = arrived.into_iter().filter(|state| state.arrived > back).collect();
        let fresh = after.iter().find(|state| state.age() <= one_way + tick);
        let fresh = fresh.ok_or_else(|| Failure::Unmet("the link did not survive the outage".into()))?;
        let oldest = after.iter().map(State::age).max().unwrap_or_default();
        Ok((fresh.arrived.saturating_sub(back + one_way), oldest.saturating_sub(one_way)))
    }
}

/// How old the newest state is that the receiver has, looked at every millisecond after `from`.
fn ages(states: &[State], from: Duration) -> impl Iterator<Item = Duration> + '_ {
    let (mut next, mut newest) = (0, None::<Duration>);
    let last = states.last().map_or(Duration::ZERO, |state| state.sent);
    (0..last.as_millis() as u64).map(Duration::from_millis).filter_map(move |now| {
        while let Some(state) = states.get(next).filter(|state| state.arrived <= now) {
            newest = newest.max(Some(state.sent));
            next += 1;
        }
        newest.filter(|_| now > from).map(|newest| now.saturating_sub(newest))
    })
}

struct Sorted(Vec<Duration>);

impl Sorted {
    fn new(times: impl Iterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.collect();
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds; 0.5 is the median.
    fn part(&self, part: f64) -> f64 {
        self.0.get((self.0.len().saturating_sub(1) as f64 * part) as usize).copied().map_or(0.0, millis)
    }

    fn mean(&self) -> f64 {
        millis(self.0.iter().sum::<Duration>()) / self.0.len().max(1) as f64
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
