//! The clock that all members share.
//!
//! Every frame says when its origin ended the tick. On a direct link that, half the least round trip later, is the neighbor's time now,
//! or a little before: half of what a queue adds in one way would put us ahead of who sits behind it, and all run after who is ahead.
//! Each peer runs after the neighbor that is furthest ahead: all end up with one time, which never runs backwards.

use std::time::Duration;

use crate::time::{MeshTime, Time, micros};

/// Differences smaller than this are slewed, larger ones jumped over.
const JUMP: u64 = 100_000;
/// Ahead of us by more than ten years: nonsense.
const NONSENSE: u64 = 10 * 365 * 86_400 * 1_000_000;
/// A difference is closed by this fraction with each sample.
const SLEW: u64 = 8;

/// Our reading of the mesh's clock.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Mesh time at our own time 0, wrapping: the mesh may be older than our clock's start, or younger.
    offset: u64,
}

impl Clock {
    /// A mesh opened at `now`.
    pub(crate) fn opened(now: Time) -> Self {
        Self { offset: 0_u64.wrapping_sub(now.0) }
    }

    pub(crate) fn read(&self, now: Time) -> MeshTime {
        MeshTime(now.0.wrapping_add(self.offset))
    }

    /// A neighbor's frame said `at`, and came over a link with this round trip where nothing stands in a queue.
    pub(crate) fn sample(&mut self, at: MeshTime, rtt: Duration, now: Time) {
        let theirs = at.0.saturating_add(micros(rtt) / 2);
        let Some(ahead) = theirs.checked_sub(self.read(now).0) else { return };
        if ahead < NONSENSE {
            self.offset = self.offset.wrapping_add(if ahead >= JUMP { ahead } else { ahead / SLEW });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_become_one_and_none_runs_back() {
        let start = Time(5_000_000);
        let (mut old, mut new) = (Clock::opened(Time(0)), Clock::opened(start));
        let rtt = Duration::from_millis(20);
        for tick in 0..100 {
            let sent = start + Duration::from_millis(16 * tick);
            let arrived = sent + rtt / 2;
            let (before_old, before_new) = (old.read(arrived), new.read(arrived));
            new.sample(old.read(sent), rtt, arrived);
            old.sample(before_new, rtt, arrived + rtt / 2);
            assert!(old.read(arrived) >= before_old && new.read(arrived) >= before_new);
        }
        let now = start + Duration::from_secs(3);
        let apart = old.read(now).0.abs_diff(new.read(now).0);
        assert!(apart < 2_000, "{apart} us");
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut clock = Clock::opened(Time(0));
        clock.sample(MeshTime(u64::MAX), Duration::MAX, Time(7));
        assert_eq!(clock.read(Time(7)), MeshTime(7));
    }
}
