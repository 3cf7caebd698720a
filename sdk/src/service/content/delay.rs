//! How much later than at best things come over a stream: what stands in queues on the way here, and only on that way.

use std::time::Duration;

use tokio::time::Instant;

/// The best is that of so many windows, each so long: clocks drift apart, and ways change.
const WINDOWS: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);
/// How often to report, the least of two such times each: until a report comes, whoever sends goes on too fast; and what is late once only
/// waited for a processor.
const REPORT_EVERY: Duration = Duration::from_millis(15);
/// What clocks and reports count in.
const UNIT: Duration = Duration::from_micros(100);

/// The delays on one stream.
#[derive(Debug)]
pub(super) struct Delays {
    origin: Instant,
    bests: [Option<i32>; WINDOWS],
    window: Instant,
    /// The least since the last report, and between the two before.
    least: Option<i32>,
    least_before: Option<i32>,
    reported: Instant,
}

impl Delays {
    pub(super) fn new(now: Instant) -> Self {
        Self { origin: now, bests: [None; WINDOWS], window: now, least: None, least_before: None, reported: now }
    }

    /// Something came that was sent at `stamp` on the sender's clock, whatever that counts from. What to report, if it is time to.
    pub(super) fn note(&mut self, stamp: u32, now: Instant) -> Option<u16> {
        // Both clocks go round; how far apart they are is what counts.
        let delay = clock(self.origin, now).wrapping_sub(stamp).cast_signed();
        if now.duration_since(self.window) >= WINDOW {
            self.window = now;
            self.bests.rotate_right(1);
            self.bests[0] = None;
        }
        let best = self.bests[0].map_or(delay, |best| best.min(delay));
        self.bests[0] = Some(best);
        let least = self.least.map_or(delay, |least| least.min(delay));
        self.least = Some(least);
        if now.duration_since(self.reported) < REPORT_EVERY {
            return None;
        }
        self.reported = now;
        self.least = None;
        let least = self.least_before.replace(least).map_or(least, |before| before.min(least));
        let base = self.bests.iter().flatten().min().copied().unwrap_or(least);
        Some(u16::try_from(least.saturating_sub(base)).unwrap_or(u16::MAX))
    }
}

/// A clock that counts from `origin`.
pub(super) fn clock(origin: Instant, now: Instant) -> u32 {
    // It goes round after five days.
    (now.duration_since(origin).as_micros() / UNIT.as_micros()) as u32
}

/// What a report says.
pub(super) fn queue(report: u16) -> Duration {
    UNIT * u32::from(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_shows_and_what_is_far_does_not() {
        let start = Instant::now();
        let mut delays = Delays::new(start);
        let mut reports = Vec::new();
        for millisecond in 0..400_u64 {
            // 30 ms of way, and a queue of 7 ms in the second half. The sender's clock goes round in between.
            let late = if millisecond < 200 { 30 } else { 37 };
            let now = start + Duration::from_millis(millisecond + late);
            let stamp = (millisecond as u32 * 10).wrapping_sub(2_500);
            reports.extend(delays.note(stamp, now));
        }
        assert_eq!(reports[0], 0);
        assert_eq!(queue(*reports.last().unwrap()), Duration::from_millis(7));
    }
}
