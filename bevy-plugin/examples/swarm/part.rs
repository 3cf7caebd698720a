//! One process's part in the scene: which bodies are its own, whom it joins, and when what is measured.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bevy::prelude::Resource;
use clap::Args;

/// After what is measured, bodies have so long to come to rest everywhere.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);
/// And then all stay for so long, so that nobody's bodies vanish while another still counts.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// While it is measured, the frames of two processes that were started one after the other fall behind by so many: enough that
/// how unevenly the system wakes them does not matter.
const SWEEPS: f64 = 4.0;
/// But frames are never shorter than this part of a tick.
const FRAME_MIN: f64 = 0.75;

/// Now, on the machine's clock, in microseconds: all processes of a machine read the same one.
pub(crate) fn clock_micros() -> u64 {
    // A clock before 1970 is no worse than any other: only differences count.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

#[derive(Args, Clone, Debug, Resource)]
pub(crate) struct Part {
    /// Entities: this process's own, or with --peers those of all together
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub(crate) entities: u32,
    /// Ticks per second, all of them with all entities moved
    #[arg(long, value_name = "HZ", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=240))]
    pub(crate) hz: u32,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
    /// How long to play before that
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(..=3_600))]
    pub(crate) warm_up: u32,
    /// Where to join: what the first process printed after `join: `
    #[arg(long, value_name = "WHERE")]
    pub(crate) join: Option<String>,
    /// For the launcher: the number of the first of its own bodies.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(crate) first: u32,
    /// For the launcher: how many processes were started before it.
    #[arg(long, hide = true, default_value_t = 0)]
    place: u32,
    /// For the launcher: how many bodies all processes have together.
    #[arg(long, hide = true)]
    total: Option<u32>,
    /// For the launcher: when to begin to measure, on the machine's clock in microseconds.
    #[arg(long, hide = true)]
    begin: Option<u64>,
}

impl Part {
    /// Fixes when to begin, where that was not said.
    pub(crate) fn begun(mut self, within: Duration) -> Self {
        let begin = clock_micros() + (within + Duration::from_secs(self.warm_up.into())).as_micros() as u64;
        self.begin.get_or_insert(begin);
        self
    }

    /// The part of one process of many.
    pub(crate) fn share(&self, place: u32, first: u32, entities: u32) -> Self {
        Self { place, entities, first, total: Some(self.entities), ..self.clone() }
    }

    /// The same part, played with those who are there.
    pub(crate) fn joining(&self, join: Option<String>) -> Self {
        Self { join, ..self.clone() }
    }

    /// The same as a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let numbers = [
            ("--entities", Some(self.entities.into())),
            ("--hz", Some(self.hz.into())),
            ("--seconds", Some(self.seconds.into())),
            ("--warm-up", Some(self.warm_up.into())),
            ("--first", Some(self.first.into())),
            ("--place", Some(self.place.into())),
            ("--total", self.total.map(u64::from)),
            ("--begin", self.begin),
        ];
        let numbers = numbers.into_iter().filter_map(|(name, number)| Some([name.to_owned(), number?.to_string()]));
        let join = self.join.iter().map(|place| ["--join".to_owned(), place.clone()]);
        numbers.chain(join).flatten().collect()
    }

    /// From one frame to the next: a tick, less a little that is another for each process, so that they meet each other's frames
    /// at every phase alike. Were all of one length, how old state is would be drawn by lot at the start.
    pub(crate) fn frame(&self) -> Duration {
        let ticks = f64::from(self.hz * self.seconds);
        Duration::from_secs_f64((1.0 - SWEEPS * f64::from(self.place) / ticks).max(FRAME_MIN) / f64::from(self.hz))
    }

    /// When to begin to measure, on the machine's clock in microseconds.
    pub(crate) fn begin_micros(&self) -> u64 {
        self.begin.unwrap_or_default()
    }

    /// When to end.
    pub(crate) fn end_micros(&self) -> u64 {
        self.begin_micros() + u64::from(self.seconds) * 1_000_000
    }

    /// Whether the bodies are to rest.
    pub(crate) fn is_over(&self) -> bool {
        clock_micros() >= self.end_micros()
    }

    /// How many bodies there are that others move, as far as is known.
    pub(crate) fn others(&self) -> Option<u32> {
        Some(self.total?.saturating_sub(self.entities))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        part: Part,
    }

    fn parsed(arguments: impl IntoIterator<Item = String>) -> Part {
        Program::try_parse_from(std::iter::once("program".to_owned()).chain(arguments))
            .expect("arguments that are understood")
            .part
    }

    #[test]
    fn a_part_survives_the_command_line() {
        let whole = parsed(["--entities", "100", "--seconds", "3"].map(str::to_owned)).begun(Duration::from_secs(1));
        let part = whole.share(2, 50, 25).joining(Some("there".into()));
        assert_eq!(format!("{:?}", parsed(part.arguments())), format!("{part:?}"));
        assert_eq!((part.others(), whole.others()), (Some(75), None));
    }

    #[test]
    fn frames_of_two_processes_fall_behind_by_a_whole_number() {
        let part = parsed([]);
        let frames = |place| 10.0 / part.share(place, 0, 0).frame().as_secs_f64();
        assert!((frames(0) - 600.0).abs() < 0.01 && (frames(3) - 612.0).abs() < 0.5, "{} {}", frames(0), frames(3));
    }
}
