//! Bad networks on purpose: delay, jitter, loss, bursts, duplicates, reordering, a slow line, outages.
//!
//! A game that was only ever played on one desk meets the internet at its first party. With a [`Conditioner`] every packet
//! that a peer sends fares as on a worse network, in development as in tests. It works on what *leaves* a peer: give it to
//! all peers and each link has it once in each direction. Everything drawn follows from its seed, one series per destination.
//!
//! ```
//! use peerflock::Conditioner;
//!
//! let bad_evening: Conditioner = "delay=20ms,jitter=10ms,loss=5%,rate=2Mbit,queue=64kB".parse()?;
//! assert_eq!(bad_evening, Conditioner {
//!     delay: std::time::Duration::from_millis(20),
//!     jitter: std::time::Duration::from_millis(10),
//!     loss: 0.05,
//!     rate_bytes_per_second: Some(250_000),
//!     queue_bytes: 64_000,
//!     ..Conditioner::default()
//! });
//! # Ok::<(), peerflock::ParseConditionerError>(())
//! ```
//!
//! The same text in the environment variable `PEERFLOCK_CONDITIONER` conditions a program that was not told otherwise.
//!
//! | key | value | meaning |
//! | --- | --- | --- |
//! | `delay`, `jitter` | `50ms`, `1s` | one way at the least; what is added at most |
//! | `loss`, `duplicates`, `reordering` | `5%`, `0.05` | part of packets, each by itself |
//! | `bursts`, `burst` | `0.5%`, `6..40` | part of packets at which a burst of losses begins; how many packets it takes |
//! | `rate`, `queue` | `1Mbit`, `250kB` | per second, to all destinations together; what may wait for it |
//! | `outage` | `2s/30s` | nothing passes for the last 2 of every 30 seconds |
//! | `seed` | `7` | other luck |

mod path;

use std::str::FromStr;
use std::time::Duration;

#[cfg(any(test, feature = "test-utils"))]
pub(crate) use path::hash;
pub(crate) use path::{Chance, Line, Path};

/// Names the environment variable that conditions a program which was not told otherwise.
pub(crate) const ENVIRONMENT: &str = "PEERFLOCK_CONDITIONER";

/// What happens to packets on their way. By default nothing: they arrive at once. See the [module](self) for its text form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditioner {
    /// The time one way at the least.
    pub delay: Duration,
    /// What is added at most, evenly drawn for every packet. More than the time between packets reorders them.
    pub jitter: Duration,
    /// The part of packets that is lost, each by itself, 0 to 1.
    pub loss: f64,
    /// The part of packets at which a burst of losses begins, 0 to 1: the bad state of Gilbert's channel (Bell System Technical
    /// Journal 39, 1960), with its length drawn from [`burst_packets`](Self::burst_packets).
    pub bursts: f64,
    /// How many packets in a row a burst takes, least and most, evenly drawn. By default 6 to 40.
    pub burst_packets: (u16, u16),
    /// The part of packets that comes twice, 0 to 1.
    pub duplicates: f64,
    /// The part of packets that waits up to 50 ms longer, so that others overtake it, 0 to 1.
    pub reordering: f64,
    /// What the line carries, in bytes of UDP payload per second. `None` is any amount.
    pub rate_bytes_per_second: Option<u32>,
    /// What may wait for the line, in bytes, as in a router; what comes on top is lost. By default 64 KiB.
    pub queue_bytes: u32,
    /// How long nothing passes at the end of each [`outage_every`](Self::outage_every).
    pub outage: Duration,
    /// How often there is an outage; zero is never.
    pub outage_every: Duration,
    /// What all luck follows from.
    pub seed: u64,
}

impl Conditioner {
    /// A perfect network with this much delay one way.
    pub const fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            bursts: 0.0,
            burst_packets: (6, 40),
            duplicates: 0.0,
            reordering: 0.0,
            rate_bytes_per_second: None,
            queue_bytes: 64 * 1024,
            outage: Duration::ZERO,
            outage_every: Duration::ZERO,
            seed: 0,
        }
    }

    /// What the environment asks for, if anything.
    pub(crate) fn from_environment() -> Result<Option<Self>, ParseConditionerError> {
        match std::env::var(ENVIRONMENT) {
            Ok(text) if !text.trim().is_empty() => text.parse().map(Some),
            _ => Ok(None),
        }
    }
}

impl Default for Conditioner {
    fn default() -> Self {
        Self::with_delay(Duration::ZERO)
    }
}

impl FromStr for Conditioner {
    type Err = ParseConditionerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut conditioner = Self::default();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| ParseConditionerError::NoValue { key: pair.into() })?;
            let (key, value) = (key.trim(), value.trim());
            let wrong = |expected| ParseConditionerError::Value { key: key.into(), value: value.into(), expected };
            match key {
                "delay" => conditioner.delay = duration(value).ok_or_else(|| wrong(DURATION))?,
                "jitter" => conditioner.jitter = duration(value).ok_or_else(|| wrong(DURATION))?,
                "loss" => conditioner.loss = part(value).ok_or_else(|| wrong(PART))?,
                "bursts" => conditioner.bursts = part(value).ok_or_else(|| wrong(PART))?,
                "burst" => conditioner.burst_packets = range(value).ok_or_else(|| wrong(RANGE))?,
                "duplicates" => conditioner.duplicates = part(value).ok_or_else(|| wrong(PART))?,
                "reordering" => conditioner.reordering = part(value).ok_or_else(|| wrong(PART))?,
                "rate" => {
                    let rate = bytes(value).filter(|rate| *rate > 0);
                    conditioner.rate_bytes_per_second = Some(rate.ok_or_else(|| wrong(SIZE))?);
                }
                "queue" => conditioner.queue_bytes = bytes(value).ok_or_else(|| wrong(SIZE))?,
                "outage" => {
                    let (outage, every) = value.split_once('/').ok_or_else(|| wrong(OUTAGE))?;
                    conditioner.outage = duration(outage).ok_or_else(|| wrong(OUTAGE))?;
                    conditioner.outage_every =
                        duration(every).filter(|every| *every >= conditioner.outage).ok_or_else(|| wrong(OUTAGE))?;
                }
                "seed" => conditioner.seed = value.parse().map_err(|_| wrong("a whole number"))?,
                _ => return Err(ParseConditionerError::UnknownKey { key: key.into() }),
            }
        }
        Ok(conditioner)
    }
}

/// Why a text is no [`Conditioner`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseConditionerError {
    /// No such key.
    #[error(
        "a conditioner has no {key:?}: take delay, jitter, loss, bursts, burst, duplicates, reordering, rate, queue, outage or seed"
    )]
    UnknownKey {
        /// What was written.
        key: String,
    },
    /// A key without a value.
    #[error("{key:?} has no value: write key=value, with commas between, as in delay=50ms,loss=5%")]
    NoValue {
        /// What was written.
        key: String,
    },
    /// A value that cannot be.
    #[error("{key}={value} cannot be: {key} is {expected}")]
    Value {
        /// Of which key.
        key: String,
        /// What was written.
        value: String,
        /// What can be.
        expected: &'static str,
    },
}

const DURATION: &str = "a time up to an hour, as 50ms or 1.5s";
const PART: &str = "a part of all packets, as 5% or 0.05";
const RANGE: &str = "packets, least and most, as 6..40";
const SIZE: &str = "an amount, as 64kB, 1Mbit or 5000";
const OUTAGE: &str = "how long, and how often, as 2s/30s";
/// Longer than anybody waits.
const DURATION_MAX_SECONDS: f64 = 3_600.0;

fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = number_and_unit(text)?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        _ => return None,
    };
    (0.0..=DURATION_MAX_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn part(text: &str) -> Option<f64> {
    let (number, unit) = number_and_unit(text)?;
    let part = match unit {
        "%" => number / 100.0,
        "" => number,
        _ => return None,
    };
    (0.0..=1.0).contains(&part).then_some(part)
}

fn bytes(text: &str) -> Option<u32> {
    let (number, unit) = number_and_unit(text)?;
    let bytes = match unit {
        "" | "B" => number,
        "kB" => number * 1e3,
        "MB" => number * 1e6,
        "kbit" => number * 1e3 / 8.0,
        "Mbit" => number * 1e6 / 8.0,
        _ => return None,
    };
    (0.0..=f64::from(u32::MAX)).contains(&bytes).then_some(bytes as u32)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (least, most) = text.split_once("..")?;
    let range: (u16, u16) = (least.parse().ok()?, most.parse().ok()?);
    (1 <= range.0 && range.0 <= range.1).then_some(range)
}

fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_said_is_understood() {
        let text = "delay=50ms, jitter=1.5ms, loss=5%, bursts=0.001, burst=6..12, duplicates=1%, reordering=2%, rate=1Mbit, \
                    queue=64kB, outage=2s/30s, seed=7";
        let expected = Conditioner {
            delay: Duration::from_millis(50),
            jitter: Duration::from_micros(1_500),
            loss: 0.05,
            bursts: 0.001,
            burst_packets: (6, 12),
            duplicates: 0.01,
            reordering: 0.02,
            rate_bytes_per_second: Some(125_000),
            queue_bytes: 64_000,
            outage: Duration::from_secs(2),
            outage_every: Duration::from_secs(30),
            seed: 7,
        };
        assert_eq!(text.parse(), Ok(expected));
        assert_eq!("".parse(), Ok(Conditioner::default()));
    }

    #[test]
    fn whatever_else_is_said_is_answered_with_what_can_be() {
        for (text, hint) in [
            ("dely=50ms", "delay, jitter"),
            ("delay", "key=value"),
            ("delay=50", "50ms or 1.5s"),
            ("delay=2h", "up to an hour"),
            ("delay=99999s", "up to an hour"),
            ("loss=101%", "5% or 0.05"),
            ("loss=-1", "5% or 0.05"),
            ("burst=40..6", "6..40"),
            ("rate=0", "1Mbit"),
            ("rate=1.2.3", "1Mbit"),
            ("queue=1e99", "64kB"),
            ("outage=2s", "2s/30s"),
            ("outage=3s/2s", "2s/30s"),
            ("seed=x", "whole number"),
        ] {
            let said = text.parse::<Conditioner>().unwrap_err().to_string();
            assert!(said.contains(hint), "{text}: {said}");
        }
    }
}
