//! How fast bulk streams may go on one link: as fast as it carries beside the game, without a queue that the game's state would stand in.
//!
//! State yields to a queue of 60 ms (see [`meter`](super::meter)); bulk yields long before, to a few milliseconds, so that the game does
//! not notice it. The rate rises while no queue comes of it, at first in large steps, then in small ones; as soon as a queue stands, or
//! more is lost than arrives, it falls below what the line was just seen to carry, less what the game sent meanwhile. In the manner of
//! LEDBAT (RFC 6817), with delivery rates (BBR) in place of a window.

use std::time::{Duration, Instant};

/// A queue that makes bulk slower, beyond a part of the path itself.
const QUEUE: Duration = Duration::from_millis(4);
const QUEUE_PART: u32 = 16;
/// A queue that makes bulk slower at once, without waiting for the end of an interval.
const QUEUE_HIGH: Duration = Duration::from_millis(10);
/// So many round trips in a row must show it.
const RECENT: usize = 4;
/// An interval is a round trip and so much, and has so many round trips in it.
const INTERVAL: Duration = Duration::from_millis(50);
const SAMPLES_MIN: u32 = 4;
/// Bytes per second at first, at the least, and at the most.
const START: f64 = 64.0 * 1_024.0;
const MIN: f64 = 8.0 * 1_024.0;
const MAX: f64 = 64.0 * 1_024.0 * 1_024.0;
/// How much faster per interval until the first queue, and after it: the more, the longer none comes of it.
const START_FACTOR: f64 = 1.5;
const CLIMB: f64 = 0.005;
const CLIMBS_MAX: u32 = 6;
/// What to send of what the line carries when a queue stands, and how far to fall at most in one go.
const YIELD: f64 = 0.95;
const FALL: f64 = 0.6;
/// A stream's bytes need so many on the line.
const OVERHEAD: f64 = 1.04;
/// Less than this part of what was sent arrives: the line is full and has no queue.
const ARRIVES: f64 = 0.7;
/// Nothing is heard from the other end for so long: hold back, and try with a piece now and then.
const SILENCE: Duration = Duration::from_millis(300);
/// Time of sending that may be saved up.
const BURST: Duration = Duration::from_millis(3);

/// The rate of one link's bulk streams together.
#[derive(Debug)]
pub(super) struct BulkRate {
    rate: f64,
    starting: bool,
    climbs: u32,
    credit: f64,
    filled: Instant,
    last_ack: Option<Instant>,
    recent: [Duration; RECENT],
    interval: Interval,
    /// Bytes put on the line in the interval before, per second.
    put_before: f64,
    /// A fall shows only after this.
    settled_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Interval {
    since: Option<Instant>,
    samples: u32,
    least: Option<Duration>,
    acked: f64,
    bulk: f64,
    others: f64,
    waited: bool,
}

impl BulkRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: START,
            starting: true,
            climbs: 0,
            credit: 0.0,
            filled: now,
            last_ack: None,
            recent: [Duration::ZERO; RECENT],
            interval: Interval::default(),
            put_before: 0.0,
            settled_at: None,
        }
    }

    /// Bytes per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// The game put so many bytes on the line.
    pub(super) fn others(&mut self, bytes: f64) {
        self.interval.others += bytes;
    }

    /// So many bytes were acknowledged, the newest of them after `round_trip`, which takes `base` where nothing queues.
    pub(super) fn acked(&mut self, bytes: u64, round_trip: Duration, base: Duration, now: Instant) {
        let silent = self.last_ack.is_none_or(|last| now.saturating_duration_since(last) > SILENCE);
        self.last_ack = Some(now);
        if silent || self.interval.since.is_none() {
            self.interval = Interval { since: Some(now), ..Interval::default() };
            self.put_before = 0.0;
        }
        self.recent.rotate_right(1);
        self.recent[0] = round_trip;
        let interval = &mut self.interval;
        interval.acked += bytes as f64;
        interval.samples += 1;
        interval.least = Some(interval.least.map_or(round_trip, |least| least.min(round_trip)));
        let passed = interval.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let settled = self.settled_at.is_none_or(|at| now >= at);
        let stands = self.recent.iter().min().is_some_and(|least| *least > base + QUEUE_HIGH + base / QUEUE_PART);
        let over = passed >= base + INTERVAL && interval.samples >= SAMPLES_MIN;
        if !over && !(stands && settled && passed >= INTERVAL / 2) {
            return;
        }
        let interval = std::mem::replace(&mut self.interval, Interval { since: Some(now), ..Interval::default() });
        let seconds = passed.as_secs_f64();
        let (delivered, others) = (interval.acked / seconds, interval.others / seconds);
        let put = (interval.bulk * OVERHEAD + interval.others) / seconds;
        let lost = delivered < self.put_before * ARRIVES && put < self.put_before * START_FACTOR;
        let queue = interval.least.unwrap_or(base).saturating_sub(base);
        if stands || queue > QUEUE + base / QUEUE_PART || (over && lost && interval.waited) {
            if settled && interval.bulk > 0.0 {
                let carried = (delivered - others) / OVERHEAD * YIELD;
                self.rate = carried.clamp(self.rate * FALL, self.rate * YIELD).max(MIN);
                self.settled_at = Some(now + base + queue);
            }
            (self.starting, self.climbs) = (false, 0);
        } else if interval.waited {
            self.climbs = (self.climbs + 1).min(CLIMBS_MAX);
            let factor = if self.starting { START_FACTOR } else { 1.0 + CLIMB * f64::from(self.climbs) };
            self.rate = (self.rate * factor).min(MAX);
        }
        self.put_before = put;
    }

    /// How long to wait before writing so many bytes. Counts them.
    pub(super) fn wait(&mut self, bytes: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let most = (self.rate * BURST.as_secs_f64()).max(bytes);
        self.credit = (self.credit + passed * self.rate).min(most) - bytes;
        self.interval.bulk += bytes;
        if self.last_ack.is_some_and(|last| now.saturating_duration_since(last) > SILENCE) {
            return SILENCE;
        }
        if self.credit >= 0.0 {
            return Duration::ZERO;
        }
        self.interval.waited = true;
        Duration::from_secs_f64(-self.credit / self.rate)
    }
}
