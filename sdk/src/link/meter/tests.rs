use std::collections::BTreeMap;

use super::*;
use crate::conditioner::{Conditioner, Line, Path};

const TICK: Duration = Duration::from_micros(16_667);

/// One that sends a datagram of 1,000 bytes per tick and origin over a path, and is told at once, on a way back of 50 ms,
/// what arrived. Virtual milliseconds after which each was sent, and how old it arrived.
struct Scene {
    meter: Meter,
    path: Path,
    line: Line,
    start: Instant,
    virtual_start: tokio::time::Instant,
    ticks: u32,
    acks: BTreeMap<(Instant, u32), Instant>,
}

const BACK: Duration = Duration::from_millis(50);

impl Scene {
    fn new() -> Self {
        let virtual_start = tokio::time::Instant::now();
        let start = virtual_start.into_std();
        let (path, line) = (Path::new(1, "there"), Line::default());
        Self { meter: Meter::new(1, start), path, line, start, virtual_start, ticks: 0, acks: BTreeMap::new() }
    }

    /// For each datagram offered, how long it was under way, if it arrived; `None` where it was skipped or lost.
    fn run(&mut self, conditioner: &Conditioner, seconds: u32, origins: u32) -> Vec<Option<Duration>> {
        let mut outcomes = Vec::new();
        for _ in 0..seconds * 60 {
            for origin in 0..origins {
                let since = TICK * self.ticks + Duration::from_millis(2) * origin;
                let now = self.start + since;
                while let Some(entry) = self.acks.first_entry().filter(|entry| entry.key().0 <= now) {
                    let ((at, _), sent) = entry.remove_entry();
                    let in_flight = self.acks.len() as u64 * 1_030;
                    self.meter.acked(1_030, in_flight, at - sent, at);
                }
                let arrived = self.meter.admits(1_000, now).then(|| {
                    let virtual_now = self.virtual_start + since;
                    self.path.pass(conditioner, &mut self.line, 1_000, virtual_now).next().map(|at| at - virtual_now)
                });
                let arrived = arrived.flatten();
                if let Some(under_way) = arrived {
                    self.acks.insert((now + under_way + BACK, self.ticks * origins + origin), now);
                }
                outcomes.push(arrived);
            }
            self.ticks += 1;
        }
        outcomes
    }
}

fn percentile(outcomes: &[Option<Duration>], part: f64) -> Duration {
    let mut arrived: Vec<Duration> = outcomes.iter().flatten().copied().collect();
    arrived.sort_unstable();
    arrived[((arrived.len() - 1) as f64 * part) as usize]
}

const PATH: Conditioner = Conditioner::with_delay(Duration::from_millis(50));

#[test]
fn half_the_needed_rate_makes_half_the_state_not_old_state() {
    let mut scene = Scene::new();
    let half = Conditioner { rate_bytes_per_second: Some(30_000), ..PATH };
    scene.run(&half, 5, 1);
    let outcomes = scene.run(&half, 30, 1);
    let (median, late, worst) = (percentile(&outcomes, 0.5), percentile(&outcomes, 0.95), percentile(&outcomes, 1.0));
    // 50 ms of path, 33 ms for the line to carry a datagram, and what stands in the queue.
    assert!(median < Duration::from_millis(175) && late < Duration::from_millis(250), "{median:?} {late:?}");
    assert!(worst < Duration::from_millis(400), "{worst:?}");
    let arrived = outcomes.iter().flatten().count();
    assert!(arrived > outcomes.len() * 2 / 5, "and the line is used: {arrived} of {}", outcomes.len());
    let longest = outcomes.chunk_by(|a, b| a.is_some() == b.is_some()).filter(|run| run[0].is_none()).map(<[_]>::len).max();
    assert!(longest <= Some(7), "never long without any: {longest:?}");
    // The line is as it was: so is the game, soon.
    scene.run(&PATH, 10, 1);
    assert_eq!(scene.meter.reading().limit, None);
    assert!(scene.run(&PATH, 1, 1).iter().all(Option::is_some));
}

#[test]
fn nothing_is_skipped_where_there_is_no_line() {
    let mut scene = Scene::new();
    scene.meter.set_boundless();
    scene.run(&Conditioner { rate_bytes_per_second: Some(30_000), ..PATH }, 5, 1);
    scene.meter.reset();
    scene.run(&Conditioner { rate_bytes_per_second: Some(30_000), ..PATH }, 5, 1);
    assert_eq!(scene.meter.reading().skipped, 0);
}

#[test]
fn origins_that_always_come_one_after_the_other_share() {
    let mut scene = Scene::new();
    let half = Conditioner { rate_bytes_per_second: Some(60_000), ..PATH };
    let outcomes = scene.run(&half, 30, 2);
    let of = |origin: usize| outcomes.iter().skip(origin).step_by(2).flatten().count();
    let (first, second) = (of(0), of(1));
    assert!(first.min(second) * 3 >= first.max(second), "{first} {second}");
}

#[test]
fn loss_jitter_and_reordering_are_no_queue() {
    for bad in [
        Conditioner { loss: 0.3, ..PATH },
        Conditioner { bursts: 0.01, ..PATH },
        Conditioner { jitter: Duration::from_millis(60), reordering: 0.1, loss: 0.05, ..PATH },
    ] {
        let mut scene = Scene::new();
        scene.run(&bad, 60, 1);
        assert_eq!(scene.meter.reading().skipped, 0, "{bad:?}");
    }
}

#[test]
fn after_an_outage_all_goes_on_at_once() {
    for outage in [2, 10] {
        let mut scene = Scene::new();
        scene.run(&PATH, 5, 1);
        scene.run(&Conditioner { loss: 1.0, ..PATH }, outage, 1);
        assert!(scene.run(&PATH, 5, 1).iter().all(Option::is_some));
        assert_eq!(scene.meter.reading().skipped, 0);
    }
}

#[test]
fn a_longer_path_is_not_a_queue_for_long() {
    let mut scene = Scene::new();
    scene.run(&PATH, 10, 1);
    let longer = Conditioner::with_delay(Duration::from_millis(200));
    scene.run(&longer, 4, 1);
    assert_eq!(scene.meter.reading().limit, None);
    assert!(scene.run(&longer, 10, 1).iter().all(Option::is_some));
    // Nor is a shorter one again.
    assert!(scene.run(&PATH, 10, 1).iter().all(Option::is_some));
}

#[test]
fn streams_speed_up_on_a_free_link_and_slow_down_before_a_queue() {
    let mut scene = Scene::new();
    let mut wait = Duration::ZERO;
    for _ in 0..20 {
        let now = scene.start + TICK * scene.ticks;
        wait = scene.meter.stream_wait(64 * 1_024, now);
        scene.run(&PATH, 1, 1);
    }
    assert!(scene.meter.reading().stream_rate > 4.0 * streams::START && wait < Duration::from_secs(1), "{wait:?}");
    scene.run(&Conditioner { rate_bytes_per_second: Some(30_000), ..PATH }, 5, 1);
    assert!(scene.meter.reading().stream_rate <= 30_000.0 * 0.3_f64.max(streams::MIN / 30_000.0));
}
