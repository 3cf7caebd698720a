//! Figures of several seeds, and how late things were.

use std::time::Duration;

/// Which way a figure should go: so that the worst of several can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
}

/// One figure of one run; None where what was waited for never came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) value: Option<f64>,
    pub(crate) better: Better,
}

impl Figure {
    pub(crate) fn less(name: &'static str, value: f64) -> Self {
        Self { name, value: Some(value), better: Better::Less }
    }

    pub(crate) fn more(name: &'static str, value: f64) -> Self {
        Self { name, value: Some(value), better: Better::More }
    }

    /// A figure that may never have come about.
    pub(crate) fn soon(name: &'static str, value: Option<f64>) -> Self {
        Self { name, value, better: Better::Less }
    }
}

/// The same figure of several runs: its mean and its worst. None if it is missing in any.
pub(crate) fn mean_and_worst(figures: &[Figure]) -> Option<(f64, f64)> {
    let values: Vec<f64> = figures.iter().map(|figure| figure.value).collect::<Option<_>>()?;
    let better = figures.first()?.better;
    let worst = values.iter().copied().reduce(|one, other| match better {
        Better::Less => one.max(other),
        Better::More => one.min(other),
    })?;
    Some((values.iter().sum::<f64>() / values.len() as f64, worst))
}

/// Latencies, counted in steps: millions of them in little memory.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    /// How many took at most so many steps, and more than one step less.
    counts: Vec<u64>,
    count: u64,
    sum: Duration,
}

const STEP: Duration = Duration::from_micros(100);

impl Latencies {
    pub(crate) fn add(&mut self, latency: Duration) {
        let step = latency.as_micros().div_ceil(STEP.as_micros()) as usize;
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
        self.count += 1;
        self.sum += latency;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn mean_ms(&self) -> f64 {
        millis(self.sum) / self.count.max(1) as f64
    }

    /// The latency that `part` of all do not exceed, to a step.
    pub(crate) fn percentile_ms(&self, part: f64) -> f64 {
        let rank = (self.count as f64 * part).ceil() as u64;
        let mut below = 0;
        let step = self.counts.iter().position(|count| {
            below += count;
            below >= rank
        });
        step.unwrap_or(0) as f64 * millis(STEP)
    }

    /// How many took at most `limit`, which is a whole number of steps.
    pub(crate) fn within(&self, limit: Duration) -> u64 {
        self.counts.iter().take((limit.as_micros() / STEP.as_micros()) as usize + 1).sum()
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

pub(crate) fn part(count: u64, of: u64) -> f64 {
    count as f64 / of.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_counted_to_a_step() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.add(Duration::from_millis(ms)));
        assert_eq!((latencies.count(), latencies.mean_ms()), (100, 50.5));
        assert!((latencies.percentile_ms(0.99) - 99.0).abs() < 1e-9);
        assert_eq!(latencies.within(Duration::from_millis(50)), 50);
        latencies.add(Duration::from_micros(50_001));
        assert_eq!(latencies.within(Duration::from_millis(50)), 50);
        assert_eq!(Latencies::default().percentile_ms(0.99), 0.0);
    }

    #[test]
    fn the_worst_is_told_by_what_is_better() {
        let less = [Figure::less("a", 1.0), Figure::less("a", 3.0)];
        let more = [Figure::more("b", 1.0), Figure::more("b", 3.0)];
        assert_eq!((mean_and_worst(&less), mean_and_worst(&more)), (Some((2.0, 3.0)), Some((2.0, 1.0))));
        assert_eq!(mean_and_worst(&[Figure::less("c", 1.0), Figure::soon("c", None)]), None);
    }
}
