//! How old state was: many ages, kept as counts, so that those of many processes add up.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Width of a class.
const CLASS: Duration = Duration::from_micros(100);
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
        let class = u32::try_from(age.as_micros() / CLASS.as_micros()).map_or(CLASS_MAX, |class| class.min(CLASS_MAX));
        *self.classes.entry(class).or_default() += 1;
        self.sum_ms += age.as_secs_f64() * 1_000.0;
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
        Some(f64::from(class + 1) * CLASS.as_secs_f64() * 1_000.0)
    }

    /// Their mean, in milliseconds.
    pub(crate) fn mean_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum_ms / self.count() as f64)
    }

    fn count(&self) -> u64 {
        self.classes.values().sum()
    }
}
