//! Property: whatever happens to whom at what moment, every entity ends with exactly one owner, all see the same, nothing is lost that
//! nobody removed, and nothing is back that was. The stories are in `peerflock_tests::ownership`.
//!
//! A failure prints its seed, its options and the story; add the seed to `ownership_regressions.txt`, which is replayed for ever.
//! `PEERFLOCK_OWNERSHIP_SEEDS=1000..6000` tries others than the usual ones.

use peerflock_tests::ownership::tell;
use peerflock_tests::seeds::{asked, regressions};

const REGRESSIONS: &str = include_str!("../ownership_regressions.txt");

#[test]
fn every_entity_ends_with_one_owner_whatever_happens() {
    check(asked("PEERFLOCK_OWNERSHIP_SEEDS", 1..151));
}

#[test]
fn what_failed_once_is_tried_for_ever() {
    check(regressions(REGRESSIONS));
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let [one, other] = [(); 2].map(|()| format!("{:?}", tell(11)));
    assert_eq!(one, other);
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
