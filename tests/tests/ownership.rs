//! Property: whatever happens to whom at what moment, every entity ends with exactly one owner, all see the same, nothing is lost that
//! nobody removed, and nothing is back that was. The stories are in `peerflock_tests::ownership`.
//!
//! A failure prints its seed, its options and the story; add the seed to `ownership_regressions.txt`, which is replayed for ever.
//! `PEERFLOCK_OWNERSHIP_SEEDS=1000..6000` tries others than the usual ones.

use std::ops::Range;

use peerflock_tests::ownership::tell;

const REGRESSIONS: &str = include_str!("../ownership_regressions.txt");

#[test]
fn every_entity_ends_with_one_owner_whatever_happens() {
    check(seeds());
}

#[test]
fn what_failed_once_is_tried_for_ever() {
    let lines = REGRESSIONS.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    check(
        lines.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("a line starts with its seed")),
    );
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let [one, other] = [(); 2].map(|()| format!("{:?}", tell(11)));
    assert_eq!(one, other);
}

#[allow(clippy::disallowed_methods, reason = "which seeds a test tries is no setting of the protocol")]
fn seeds() -> Range<u64> {
    let usual = 1..151;
    let Ok(asked) = std::env::var("PEERFLOCK_OWNERSHIP_SEEDS") else { return usual };
    let (from, to) = asked.split_once("..").expect("PEERFLOCK_OWNERSHIP_SEEDS is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

fn check(seeds: impl Iterator<Item = u64>) {
    let mut failed = Vec::new();
    let mut first = None;
    for seed in seeds {
        let ending = tell(seed);
        if !ending.wrong.is_empty() {
            failed.push(seed);
            first.get_or_insert_with(|| (seed, ending.wrong.join("\n")));
        }
    }
    if let Some((seed, story)) = first {
        panic!("seeds {failed:?} failed; the first of them, {seed}:\n{story}");
    }
}
