//! Rounds, told from the mesh's clock: everyone knows which round it is, and nobody is in charge of it.

use bevy::prelude::*;
use peerflock::MeshTime;

/// The length of a round unless told otherwise, in seconds, its rest included.
pub(crate) const ROUND_SECONDS: u32 = 90;
/// How much of its end a round rests, in seconds: no bird changes sides, so that all count the same winner.
pub(crate) const REST_SECONDS: u32 = 8;
/// The shortest round, in seconds.
pub(crate) const ROUND_SECONDS_MIN: u32 = 20;

/// Where in which round we are.
#[derive(Clone, Copy, Debug, PartialEq, Resource)]
pub(crate) struct Round {
    /// Counts from 1.
    pub(crate) number: u64,
    /// How long a round lasts, in seconds.
    pub(crate) length: f32,
    /// Since its begin, in seconds.
    pub(crate) elapsed: f32,
}

impl Round {
    /// The round at `time` where each lasts `seconds`.
    pub(crate) fn at(time: MeshTime, seconds: u32) -> Self {
        let length = u64::from(seconds.max(ROUND_SECONDS_MIN)) * 1_000_000;
        Self { number: time.0 / length + 1, length: length as f32 / 1e6, elapsed: (time.0 % length) as f32 / 1e6 }
    }

    /// The first round, before there is a mesh.
    pub(crate) fn first(seconds: u32) -> Self {
        Self::at(MeshTime(0), seconds)
    }

    /// Whether it is decided: no bird changes sides any more.
    pub(crate) fn rests(&self) -> bool {
        self.remaining() <= 0.0
    }

    /// How long birds may still change sides, in seconds; not below 0.
    pub(crate) fn remaining(&self) -> f32 {
        (self.length - REST_SECONDS as f32 - self.elapsed).max(0.0)
    }

    /// How much of the round has gone, 0 to 1.
    pub(crate) fn progress(&self) -> f32 {
        (self.elapsed / self.length).clamp(0.0, 1.0)
    }

    /// The time left as a clock shows it.
    pub(crate) fn clock(&self) -> String {
        let seconds = self.remaining().ceil() as u32;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Round {
        Round::at(MeshTime((seconds * 1e6) as u64), 90)
    }

    #[test]
    fn the_clock_counts_down_rests_and_begins_anew() {
        assert_eq!((at(0.0).number, at(0.0).clock().as_str()), (1, "1:22"));
        assert!(!at(81.9).rests());
        assert_eq!(at(81.9).clock(), "0:01");
        assert!(at(82.0).rests() && at(89.9).rests());
        assert_eq!(at(85.0).clock(), "0:00");
        assert_eq!((at(90.0).number, at(90.0).rests()), (2, false));
        assert!(at(90.0).progress() < 1e-6 && (at(135.0).progress() - 0.5).abs() < 1e-3);
    }

    #[test]
    fn no_time_and_no_length_breaks_it() {
        let late = Round::at(MeshTime(u64::MAX), 0);
        assert!(late.elapsed.is_finite() && late.length > 0.0);
        assert_eq!(late.length, ROUND_SECONDS_MIN as f32);
    }
}
