//! Who owns what after whatever happened: thousands of short stories in which small meshes fall apart and heal while players give,
//! ask, grant, refuse, seize and remove, often the same thing at the same time, and peers come, leave, stop and die.
//!
//! The stories are those that the tests tell ([`peerflock_tests::ownership`]); a seed that fails here fails there.

use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use peerflock_tests::ownership::{Ending, tell};
use serde_json::json;

use super::Failure;
use crate::report::Report;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How many stories to play.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seeds: u64,
    /// The seed of the first of them.
    #[arg(long, default_value_t = 1)]
    first_seed: u64,
    /// Stories played at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let endings = play(options);
    let sum = |of: fn(&Ending) -> usize| endings.iter().map(|(_, ending)| of(ending)).sum::<usize>();
    let mut failed: Vec<u64> = endings.iter().filter(|(_, ending)| !ending.wrong.is_empty()).map(|(seed, _)| *seed).collect();
    failed.sort_unstable();
    let settings = json!({ "seeds": options.seeds, "first_seed": options.first_seed });
    let mut report = Report::new("ownership", settings, None);
    report.field("seeds", options.seeds);
    report.field("owners_ok", endings.len() - failed.len());
    report.field("lost", sum(|ending| ending.lost));
    report.field("doubled", sum(|ending| ending.doubled));
    report.field("resurrected", sum(|ending| ending.zombies));
    report.field("unanswered", sum(|ending| ending.unanswered));
    report.field("differing", sum(|ending| ending.differing));
    report.field("entities", sum(|ending| ending.spawned));
    report.field("changes_of_owner_seen", sum(|ending| ending.moves));
    report.field("failed_seeds", failed);
    Ok(report)
}

/// Plays all of them, a few at once.
fn play(options: &Options) -> Vec<(u64, Ending)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut endings = Vec::new();
        loop {
            let count = next.fetch_add(1, Ordering::Relaxed);
            if count >= options.seeds {
                return endings;
            }
            let seed = options.first_seed.wrapping_add(count);
            endings.push((seed, tell(seed)));
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads).map(|_| scope.spawn(work)).collect();
        // Whoever panicked has said why; its stories are missing, and so fail.
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_stories_end_well() {
        let report = run(&Options { seeds: 3, first_seed: 1, threads: 2 }).unwrap();
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["owners_ok"], &json["lost"], &json["doubled"]), (&3.into(), &0.into(), &0.into()));
        assert!(json["entities"].as_u64().is_some_and(|entities| entities > 10));
    }
}
