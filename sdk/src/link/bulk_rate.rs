//! How fast bulk streams may go on one link: as fast as it carries beside the game, without a queue that the game's state would stand in.
//!
//! State yields to a queue of 60 ms (see [`meter`](super::meter)); bulk yields long before, to a few milliseconds, so that the game does
//! not notice it. Round trips do not tell which way a queue stands, and where both ends send, each would yield to the other's: so whoever
//! receives measures how much later than at best things come ([`BulkPort::report`](super::BulkPort::report)), as in LEDBAT (RFC 6817).
//! The rate rises while no queue is reported, at first in large steps, then in small ones; as soon as one is, it falls below what the line
//! was just seen to carry, less what the game sent meanwhile.

use std::time::{Duration, Instant};

use super::meter::{CLIMBS_MAX, QUEUE_HIGH};

/// A queue that makes bulk slower.
const QUEUE: Duration = Duration::from_millis(2);
/// On a thin line a single packet is a queue: so many bytes are none, as far as they take no longer than this.
const PACKET_BYTES: f64 = 1_500.0;
const PACKET_MAX: Duration = Duration::from_millis(10);
/// Bytes per second at first, at the least, and at the most.
const START: f64 = 256.0 * 1_024.0;
const MIN: f64 = 8.0 * 1_024.0;
const MAX: f64 = 64.0 * 1_024.0 * 1_024.0;
/// How much faster in a step until the first queue; after it, up to near where the last one was; and from there on, the more, the longer
/// none comes of it.
const START_FACTOR: f64 = 1.3;
const BACK_FACTOR: f64 = 1.08;
const NEAR: f64 = 0.94;
const CLIMB: f64 = 0.004;
/// A step takes a round trip, and so much for a report to be made.
const STEP: Duration = Duration::from_millis(40);
/// What to send of what the line carries when a queue stands; less, so that it is gone in about so long.
const YIELD: f64 = 0.95;
const DRAIN: Duration = Duration::from_millis(200);
/// How far to fall at most in one go.
const FALL: f64 = 0.6;
/// A stream's bytes need so many on the line.
const OVERHEAD: f64 = 1.05;
/// Deliveries are counted for so long.
const COUNT: Duration = Duration::from_millis(100);
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
    /// Where the last queue was met.
    ceiling: f64,
    credit: f64,
    filled: Instant,
    last_ack: Option<Instant>,
    base: Duration,
    round_trip_queue: Duration,
    /// What was acknowledged, and what others sent, since when.
    acked: f64,
    others: f64,
    counted: Instant,
    /// Bytes per second for bulk, as delivered of late.
    carried: f64,
    /// Whether the rate held anything back since the last step.
    waited: bool,
    /// What was taken back last shows only after this, and what was added.
    fallen_until: Instant,
    raised_until: Instant,
}

impl BulkRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: START,
            starting: true,
            climbs: 0,
            ceiling: MAX,
            credit: 0.0,
            filled: now,
            last_ack: None,
            base: Duration::ZERO,
            round_trip_queue: Duration::ZERO,
            acked: 0.0,
            others: 0.0,
            counted: now,
            carried: 0.0,
            waited: false,
            fallen_until: now,
            raised_until: now,
        }
    }

    /// Bytes per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// No more than so much: the line is full of the game.
    pub(super) fn bound(&mut self, most: f64) {
        if self.rate > most {
            (self.rate, self.starting) = (most.max(MIN), false);
            self.ceiling = self.rate;
        }
    }

    /// The game put so many bytes on the line.
    pub(super) fn others(&mut self, bytes: f64) {
        self.others += bytes;
    }

    /// So many bytes were acknowledged, the newest of them after `round_trip`, which takes `base` where nothing queues.
    pub(super) fn acked(&mut self, bytes: u64, round_trip: Duration, base: Duration, now: Instant) {
        self.last_ack = Some(now);
        self.base = base;
        self.round_trip_queue = round_trip.saturating_sub(base);
        self.acked += bytes as f64;
        let passed = now.saturating_duration_since(self.counted);
        if passed >= COUNT {
            self.carried = ((self.acked - self.others) / OVERHEAD / passed.as_secs_f64()).max(0.0);
            (self.acked, self.others, self.counted) = (0.0, 0.0, now);
        }
    }

    /// What we send comes so much later than at best, says the other end.
    pub(super) fn reported(&mut self, queue: Duration, now: Instant) {
        if now < self.fallen_until {
            return;
        }
        // What makes state give way does so for bulk, too, whichever way the queue stands.
        let queue = if self.round_trip_queue > QUEUE_HIGH { queue.max(self.round_trip_queue) } else { queue };
        let packet = Duration::from_secs_f64(PACKET_BYTES / self.rate).min(PACKET_MAX);
        if queue > QUEUE.max(packet) {
            self.ceiling = self.rate;
            let part = YIELD - queue.as_secs_f64() / DRAIN.as_secs_f64();
            self.rate = (self.carried.min(self.rate) * part).max(self.rate * FALL).max(MIN);
            (self.starting, self.climbs) = (false, 0);
            self.fallen_until = now + self.base + STEP + queue;
        } else if self.waited && now >= self.raised_until {
            let factor = if self.starting {
                START_FACTOR
            } else if self.rate * BACK_FACTOR < self.ceiling * NEAR {
                BACK_FACTOR
            } else {
                self.climbs = (self.climbs + 1).min(CLIMBS_MAX);
                1.0 + CLIMB * f64::from(self.climbs)
            };
            self.rate = (self.rate * factor).min(MAX);
            self.ceiling = self.ceiling.max(self.rate);
            self.raised_until = now + self.base + STEP;
            self.waited = false;
        }
    }

    /// How long to wait before writing so many bytes. Counts them.
    pub(super) fn wait(&mut self, bytes: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let most = (self.rate * BURST.as_secs_f64()).max(bytes);
        self.credit = (self.credit + passed * self.rate).min(most) - bytes;
        if self.last_ack.is_some_and(|last| now.saturating_duration_since(last) > SILENCE) {
            return SILENCE;
        }
        if self.credit >= 0.0 {
            return Duration::ZERO;
        }
        self.waited = true;
        Duration::from_secs_f64(-self.credit / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of that many bytes a second, 20 ms long, with what the game sends on it, and a report every 15 ms. The mean rate and the
    /// longest queue after the first five seconds.
    fn settle(line: f64, game: f64, seconds: u32) -> (f64, Duration) {
        let start = Instant::now();
        let mut rate = BulkRate::new(start);
        let (mut queue, mut sent, mut longest) = (0.0_f64, 0.0, 0.0_f64);
        let mut due = start;
        for millisecond in 0..seconds * 1_000 {
            let now = start + Duration::from_millis(millisecond.into());
            let mut put = game / 1_000.0;
            rate.others(put);
            while due <= now {
                due = due.max(now - Duration::from_millis(1)) + rate.wait(1_000.0, now).max(Duration::from_nanos(1));
                put += 1_000.0 * OVERHEAD;
                sent += if millisecond >= 5_000 { 1_000.0 } else { 0.0 };
            }
            let delivered = (queue + put).min(line / 1_000.0);
            queue += put - delivered;
            rate.acked(delivered as u64, Duration::from_millis(20), Duration::from_millis(20), now);
            if millisecond >= 5_000 {
                longest = longest.max(queue / line);
            }
            if millisecond % 15 == 0 {
                rate.reported(Duration::from_secs_f64(queue / line), now);
            }
        }
        (sent / f64::from(seconds - 5), Duration::from_secs_f64(longest))
    }

    #[test]
    fn a_line_is_filled_and_no_queue_stands_in_it() {
        for line in [200_000.0, 1_000_000.0, 8_000_000.0] {
            for game in [0.0, line / 4.0] {
                let (rate, longest) = settle(line, game, 25);
                let part = (rate * OVERHEAD + game) / line;
                assert!(part > 0.9, "{line} with {game}: {part:.2} of it used");
                assert!(longest < Duration::from_millis(15), "{line} with {game}: {longest:?}");
            }
        }
    }

    #[test]
    fn silence_holds_back() {
        let start = Instant::now();
        let mut rate = BulkRate::new(start);
        rate.acked(1_000, Duration::from_millis(20), Duration::from_millis(20), start);
        assert_eq!(rate.wait(1_000.0, start + Duration::from_millis(100)), Duration::ZERO);
        assert_eq!(rate.wait(1_000.0, start + Duration::from_secs(2)), SILENCE);
    }
}
