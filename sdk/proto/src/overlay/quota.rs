//! How much may come over a link: a bucket of bytes that fills at a rate.

use std::time::Duration;

use crate::time::Time;

/// The bucket holds what comes in so long at the full rate.
const BURST: Duration = Duration::from_secs(2);

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    /// Bytes taken and not yet made up for.
    taken: u64,
    at: Time,
    /// Since when it has been overfull, on and off.
    over: Option<Time>,
}

impl Quota {
    pub(crate) fn new(now: Time) -> Self {
        Self { taken: 0, at: now, over: None }
    }

    /// Takes `bytes` out at `rate` bytes a second, if there are so many. Something always fits an empty bucket's place.
    pub(crate) fn take(&mut self, bytes: usize, rate: u32, now: Time) -> bool {
        let rate = u64::from(rate);
        let refilled = rate.saturating_mul(now.since(self.at).as_micros() as u64) / 1_000_000;
        if refilled > 0 {
            (self.taken, self.at) = (self.taken.saturating_sub(refilled), now);
        }
        let room = rate * BURST.as_secs();
        if self.taken == 0 {
            self.over = None;
        }
        if self.taken.saturating_add(bytes as u64) > room {
            self.over.get_or_insert(now);
            return false;
        }
        self.taken += bytes as u64;
        true
    }

    /// For how long too much has come: since the bucket was last empty enough.
    pub(crate) fn excess(&self, now: Time) -> Duration {
        self.over.map(|over| now.since(over)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offers `per_tick` bytes 100 times a second for a while; how many were taken, and for how long there was too much at the end.
    fn offer(per_tick: usize, seconds: u64) -> (u64, Duration) {
        let mut quota = Quota::new(Time(0));
        let mut taken = 0;
        let mut now = Time(0);
        for _ in 0..100 * seconds {
            now = now + Duration::from_millis(10);
            taken += if quota.take(per_tick, 100_000, now) { per_tick as u64 } else { 0 };
        }
        (taken, quota.excess(now))
    }

    #[test]
    fn what_is_within_the_rate_passes_and_ten_times_as_much_does_not() {
        assert_eq!(offer(990, 20), (20 * 99_000, Duration::ZERO));
        let (taken, excess) = offer(10_000, 20);
        assert!((2_000_000..2_300_000).contains(&taken), "{taken}");
        assert!(excess > Duration::from_secs(19), "{excess:?}");
    }

    #[test]
    fn a_burst_is_forgiven() {
        let mut quota = Quota::new(Time(0));
        assert!(quota.take(200_000, 100_000, Time(0)) && !quota.take(1, 100_000, Time(0)));
        let later = Time(3_000_000);
        assert!(quota.take(1, 100_000, later));
        assert_eq!(quota.excess(later), Duration::ZERO);
    }
}
