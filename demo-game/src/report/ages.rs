//! How old state was: many ages, kept as counts, so that those of many processes add up.

use serde::{Deserialize, Serialize};

/// Width of a class, in ticks.
const CLASS: f64 = 0.1;
/// Most classes: the last holds whatever is older.
const CLASSES_MAX: usize = 2_000;

/// Counts of ages, by classes of a tenth of a tick.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Ages(Vec<u64>);

impl Ages {
    /// Counts an age, in ticks.
    pub(crate) fn add(&mut self, ticks: f64) {
        self.add_many((ticks / CLASS) as usize, 1);
    }

    /// Counts all ages that `other` counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (class, count) in other.0.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add_many(class, *count);
        }
    }

    /// The age that so much of all ages do not exceed, in ticks, to a tenth; none of none.
    pub(crate) fn quantile(&self, part: f64) -> Option<f64> {
        let wanted = (self.0.iter().sum::<u64>() as f64 * part).ceil().max(1.0) as u64;
        let mut sum = 0;
        let class = self.0.iter().position(|count| {
            sum += count;
            sum >= wanted
        })?;
        Some(((class + 1) as f64 * CLASS * 10.0).round() / 10.0)
    }

    fn add_many(&mut self, class: usize, count: u64) {
        let class = class.min(CLASSES_MAX - 1);
        if self.0.len() <= class {
            self.0.resize(class + 1, 0);
        }
        self.0[class] += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds_to_a_tenth() {
        let mut ages = Ages::default();
        assert_eq!(ages.quantile(0.99), None);
        for hundredth in 0..1_000 {
            ages.add(f64::from(hundredth) / 100.0);
        }
        assert_eq!(ages.quantile(0.5), Some(5.0));
        assert_eq!(ages.quantile(0.99), Some(9.9));
        assert_eq!(ages.quantile(1.0), Some(10.0));
        let mut both = Ages::default();
        both.merge(&ages);
        both.merge(&ages);
        assert_eq!(both.quantile(0.5), Some(5.0));
    }

    #[test]
    fn what_is_very_old_or_no_number_does_no_harm() {
        let mut ages = Ages::default();
        for age in [f64::NAN, -1.0, 1e300] {
            ages.add(age);
        }
        assert_eq!(ages.quantile(1.0), Some(CLASSES_MAX as f64 * CLASS));
    }
}
