//! The virtual links: how long each takes, and what is lost on it.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

use super::Options;
use crate::time::micros;

/// The one-way latency of every pair of nodes, computed once.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    /// In microseconds; of each node those to the nodes before it.
    table: Vec<u32>,
}

impl Latencies {
    /// There is one more node, `index`; those before it are in the table.
    pub(super) fn add(&mut self, index: usize, options: &Options) {
        self.table.extend((0..index).map(|other| micros(drawn(options, other, index)) as u32));
    }

    pub(super) fn get(&self, one: usize, other: usize, options: &Options) -> Duration {
        let (less, more) = (one.min(other), one.max(other));
        // A node to itself, or to one that there is not (yet).
        let known = if less == more { None } else { self.table.get(more.saturating_mul(more.wrapping_sub(1)) / 2 + less) };
        known.map_or_else(|| drawn(options, one, other), |known| Duration::from_micros(u64::from(*known)))
    }
}

/// From the seed and the two indices alone, so that the order of calls does not matter.
fn drawn(options: &Options, one: usize, other: usize) -> Duration {
    let pair = ((one.min(other) as u64) << 32) | one.max(other) as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed ^ pair.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    between(options.latency.0, options.latency.1, rng.next_u32())
}

/// One direction of a link: whether it is in a burst of losses.
///
/// Gilbert's model: in a burst everything is lost, between bursts nothing. Each packet may end the burst or begin one, with chances
/// that give [`Options::loss`] over time and bursts of [`Options::burst`] packets on average. (E. N. Gilbert, "Capacity of a
/// burst-noise channel", 1960.)
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channel {
    bad: bool,
}

impl Channel {
    /// Whether the next packet is lost.
    pub(super) fn loses(&mut self, options: &Options, rng: &mut ChaCha8Rng) -> bool {
        if options.burst <= 1.0 || options.loss >= 1.0 {
            return chance(options.loss, rng);
        }
        let ends = 1.0 / options.burst;
        self.bad = if self.bad { !chance(ends, rng) } else { chance(options.loss * ends / (1.0 - options.loss), rng) };
        self.bad
    }
}

pub(super) fn between(least: Duration, most: Duration, drawn: u32) -> Duration {
    let (least, most) = (micros(least), micros(most));
    let span = u128::from(most.saturating_sub(least));
    Duration::from_micros(least + (span * u128::from(drawn) / u128::from(u32::MAX)) as u64)
}

pub(super) fn chance(part: f64, rng: &mut ChaCha8Rng) -> bool {
    part > 0.0 && f64::from(rng.next_u32()) < part * f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_what_is_drawn() {
        let options = Options::default();
        let mut latencies = Latencies::default();
        (0..20).for_each(|index| latencies.add(index, &options));
        for one in 0..25 {
            for other in 0..25 {
                let found = latencies.get(one, other, &options);
                assert_eq!(found, drawn(&options, one, other), "{one} {other}");
                assert!(found >= options.latency.0 && found <= options.latency.1);
            }
        }
        assert_eq!(latencies.get(3, usize::MAX, &options), drawn(&options, 3, usize::MAX));
    }

    #[test]
    fn bursts_are_as_long_and_losses_as_many_as_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for burst in [1.0, 6.0, 40.0] {
            let options = Options { loss: 0.05, burst, ..Options::default() };
            let (mut channel, mut lost, mut bursts, mut before) = (Channel::default(), 0_u32, 0_u32, false);
            let packets = 400_000;
            for _ in 0..packets {
                let now = channel.loses(&options, &mut rng);
                lost += u32::from(now);
                bursts += u32::from(now && !before);
                before = now;
            }
            let part = f64::from(lost) / f64::from(packets);
            assert!((0.043..0.057).contains(&part), "{burst}: {part} lost");
            // Independent losses follow each other by chance, too: 1 / (1 - 0.05) on average.
            let length = f64::from(lost) / f64::from(bursts);
            assert!((length / burst.max(1.0 / 0.95) - 1.0).abs() < 0.15, "{burst}: bursts of {length}");
        }
    }
}
