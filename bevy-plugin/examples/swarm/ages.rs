//! How old state was: many ages, kept as counts, so that those of many processes add up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Classes in a millisecond.
const CLASSES_PER_MS: u32 = 10;
/// The last class holds whatever is older: a minute.
const CLASS_MAX: u32 = 600_000;

/// Counts of ages, by classes of a tenth of a millisecond.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Ages {
    classes: BTreeMap<u32, u64>,
    sum_ms: f64,
}

impl Ages {
    /// Counts an age.
    pub(crate) fn add(&mut self, age: Duration) {
        let ms = age.as_secs_f64() * 1_000.0;
        *self.classes.entry(((ms * f64::from(CLASSES_PER_MS)) as u32).min(CLASS_MAX)).or_default() += 1;
        self.sum_ms += ms;
    }

    /// Counts all ages that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.classes.iter().for_each(|(class, count)| *self.classes.entry(*class).or_default() += count);
        self.sum_ms += other.sum_ms;
    }

    /// The age that so much of all do not exceed, in milliseconds; none of none.
    pub(crate) fn quantile_ms(&self, part: f64) -> Option<f64> {
        let wanted = (self.count() as f64 * part).ceil().max(1.0) as u64;
        let mut sum = 0;
        let (class, _) = self.classes.iter().find(|(_, count)| {
            sum += **count;
            sum >= wanted
        })?;
        Some(f64::from(class + 1) / f64::from(CLASSES_PER_MS))
    }

    /// Their mean, in milliseconds.
    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum_ms / self.count() as f64)
    }

    fn count(&self) -> u64 {
        self.classes.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_of_many_processes_add_up() {
        let mut ages = Ages::default();
        assert_eq!((ages.quantile_ms(0.5), ages.mean_ms()), (None, None));
        (0..100).for_each(|ms| ages.add(Duration::from_millis(ms)));
        let mut both = Ages::default();
        both.merge(&ages);
        both.merge(&ages);
        assert_eq!((both.quantile_ms(0.5), both.quantile_ms(0.99), both.quantile_ms(1.0)), (Some(49.1), Some(98.1), Some(99.1)));
        assert!((both.mean_ms().expect("a mean") - 49.5).abs() < 1e-9);
    }

    #[test]
    fn what_is_very_old_takes_no_more_room() {
        let mut ages = Ages::default();
        (0..1_000).for_each(|day| ages.add(Duration::from_secs(100_000 * (day + 1))));
        assert_eq!(ages.classes.len(), 1);
    }
}
