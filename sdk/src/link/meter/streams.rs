//! How fast to write streams, so that no large message stands before state.

use std::time::{Duration, Instant};

/// Bytes per second before anything is known, at the least, and at the most.
pub(super) const START: f64 = 32.0 * 1_024.0;
pub(super) const MIN: f64 = 4.0 * 1_024.0;
const MAX: f64 = 16.0 * 1_024.0 * 1_024.0;
/// Bytes that may go at once.
const BURST: f64 = 8.0 * 1_024.0;
/// How long writing one piece may take at the present rate, so that a new rate counts soon; and how short and long a piece is.
const PIECE: Duration = Duration::from_millis(50);
const PIECE_BYTES: std::ops::RangeInclusive<usize> = 1_024..=16 * 1_024;

/// What stands in queues along the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Hardly anything.
    None,
    /// Enough to give way.
    Stands,
    /// Far too much.
    Long,
}

/// The rate of one link's streams together, but for bulk.
#[derive(Debug)]
pub(super) struct StreamRate {
    rate: f64,
    credit: f64,
    filled: Instant,
    /// Whether the rate held anything back since it was judged.
    waited: bool,
}

impl StreamRate {
    pub(super) fn new(now: Instant) -> Self {
        Self { rate: START, credit: BURST, filled: now, waited: false }
    }

    /// A new interval begins, and the one before it says nothing.
    pub(super) fn begin(&mut self) {
        self.waited = false;
    }

    /// An interval is over: faster where the rate held something back and nothing stands, slower where something does, and never more
    /// than `most`.
    pub(super) fn judge(&mut self, queue: Queue, most: Option<f64>) {
        match queue {
            Queue::Long => self.rate = MIN,
            Queue::Stands => self.rate /= 2.0,
            Queue::None if self.waited => self.rate *= 2.0,
            Queue::None => {}
        }
        self.begin();
        self.rate = self.rate.min(most.unwrap_or(MAX)).max(MIN);
    }

    /// No faster than that from now on, until it is judged.
    pub(super) fn bound(&mut self, most: f64) {
        self.rate = self.rate.min(most).max(MIN);
    }

    /// How long to wait before writing so many bytes. Counts them.
    pub(super) fn wait(&mut self, bytes: f64, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.credit = (self.credit + passed * self.rate).min(BURST) - bytes;
        if self.credit >= 0.0 {
            return Duration::ZERO;
        }
        self.waited = true;
        Duration::from_secs_f64(-self.credit / self.rate)
    }

    /// Bytes per second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// How many bytes to write in one go.
    pub(super) fn piece(&self) -> usize {
        ((self.rate * PIECE.as_secs_f64()) as usize).clamp(*PIECE_BYTES.start(), *PIECE_BYTES.end())
    }
}
