//! How fast anybody may talk: a few lines at once, then one at a time.

use std::time::Duration;

use peerflock_proto::Time;

/// What we allow ourselves.
pub const OWN: Pace = Pace { burst: 5, refill: Duration::from_millis(1_000) };
/// What we allow each of the others. Looser than [`OWN`], because lines that were sent apart can arrive together.
pub const OTHERS: Pace = Pace { burst: 10, refill: Duration::from_millis(700) };
/// Who is over the pace by so many lines without a pause is muted for [`FLOOD_MUTE`].
pub const FLOOD_LINES: u32 = 20;
/// How long a flooder is muted.
pub const FLOOD_MUTE: Duration = Duration::from_secs(30);

/// So many lines at once, and one more after each `refill`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Lines at once.
    pub burst: u32,
    /// How long until there is one more.
    pub refill: Duration,
}

/// A token bucket: starts full, empties by one a line, refills with time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// When it would be full again; `None` while it is.
    full_at: Option<Time>,
}

impl Bucket {
    /// Takes a line's worth, or says that there is none.
    pub fn take(&mut self, pace: &Pace, now: Time) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + pace.refill;
        if full_at > now + pace.refill * pace.burst {
            return false;
        }
        self.full_at = Some(full_at);
        true
    }

    /// Whether it is full: nothing was taken for long enough.
    pub fn is_full(&self, now: Time) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { burst: 3, refill: Duration::from_secs(1) };

    #[test]
    fn a_burst_then_one_a_refill() {
        let (mut bucket, start) = (Bucket::default(), Time::default());
        let mut allowed = 0;
        for millisecond in 0..10_000 {
            if bucket.take(&PACE, start + Duration::from_millis(millisecond)) {
                allowed += 1;
            }
        }
        assert_eq!(allowed, 3 + 9);
    }

    #[test]
    fn silence_fills_it_but_not_over() {
        let (mut bucket, start) = (Bucket::default(), Time::default());
        while bucket.take(&PACE, start) {}
        assert!(!bucket.is_full(start));
        let later = start + Duration::from_secs(3_600);
        assert!(bucket.is_full(later));
        assert_eq!((0..10).filter(|_| bucket.take(&PACE, later)).count(), 3);
    }

    #[test]
    fn what_we_may_say_others_must_hear() {
        let (mut own, mut others, start) = (Bucket::default(), Bucket::default(), Time::default());
        for millisecond in 0..20_000 {
            let now = start + Duration::from_millis(millisecond);
            assert!(!own.take(&OWN, now) || others.take(&OTHERS, now), "after {millisecond} ms");
        }
    }
}
