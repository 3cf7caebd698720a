//! The fuzz targets under a seeded mutator, with every test run: 100,000 inputs each, none of which panics or takes more memory than it
//! may. `PEERFLOCK_FUZZ_ROUNDS` and `PEERFLOCK_FUZZ_SEED` try others.

use std::path::{Path, PathBuf};

use peerflock_tests::fuzzing::{TARGETS, Target};
use peerflock_tests::mutator::Mutator;

const ROUNDS: u64 = 100_000;
const SEED: u64 = 1;
/// Most memory that one input may take at any time, in bytes.
const PEAK_BYTES_MAX: u64 = 1024 * 1024;
/// So many inputs meet the same node before a new one takes its place: what piles up is found, and what is broken does not stay so.
const SAME_NODE: u64 = 250;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Where cargo-fuzz looks for a target's inputs.
fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

/// The seeds of a target, and what was found for it before.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    // The same order everywhere.
    files.sort();
    (target.seeds)().into_iter().chain(files.into_iter().filter_map(|path| std::fs::read(path).ok())).collect()
}

fn mutate(name: &str) {
    let target = TARGETS.into_iter().find(|target| target.name == name).expect("one of the six");
    let (rounds, seed) = (setting("PEERFLOCK_FUZZ_ROUNDS", ROUNDS), setting("PEERFLOCK_FUZZ_SEED", SEED));
    let (corpus, mut mutator) = (corpus(&target), Mutator::new(seed));
    assert!(!corpus.is_empty());
    let mut run = (target.start)();
    let mut peak = 0;
    for round in 0..rounds {
        if round % SAME_NODE == 0 {
            run = (target.start)();
        }
        let untouched = corpus.get(round as usize).cloned();
        let bytes = untouched.unwrap_or_else(|| mutator.next(&corpus));
        // If it panics, this tells which input it was.
        let shown = Shown { name, seed, round, bytes: &bytes };
        let taken = allocation_counter::measure(|| run(&bytes));
        std::mem::forget(shown);
        peak = peak.max(taken.bytes_max);
        assert!(taken.bytes_max <= PEAK_BYTES_MAX, "{name}, seed {seed}, round {round}: {} bytes for {bytes:?}", taken.bytes_max);
    }
    #[allow(clippy::print_stdout, reason = "who runs it with --nocapture wants to see how far it went")]
    {
        println!("{name}: {rounds} rounds from seed {seed}, {} inputs to begin with, at most {peak} bytes for one", corpus.len());
    }
}

/// Shows what went wrong when it is dropped, which it only is by a panic.
struct Shown<'a> {
    name: &'a str,
    seed: u64,
    round: u64,
    bytes: &'a [u8],
}

impl Drop for Shown<'_> {
    #[allow(clippy::print_stderr, reason = "the input that panicked, beside the panic")]
    fn drop(&mut self) {
        eprintln!("{}, seed {}, round {}: {:?}", self.name, self.seed, self.round, self.bytes);
    }
}

/// Once the wire format has changed: `PEERFLOCK_FUZZ_WRITE=1` writes the seeds for cargo-fuzz to begin with.
#[test]
fn each_target_has_seeds() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        if setting("PEERFLOCK_FUZZ_WRITE", 0) == 1 {
            std::fs::create_dir_all(folder(&target)).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                std::fs::write(folder(&target).join(format!("seed-{number:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn mutated_frames_and_parcels() {
    mutate("frame");
}

#[test]
fn mutated_admissions() {
    mutate("admission");
}

#[test]
fn mutated_sequences_of_operations_of_a_node() {
    mutate("node");
}

#[test]
fn mutated_records_of_peers_and_tickets() {
    mutate("record");
}

#[test]
fn mutated_components() {
    mutate("component");
}

#[test]
fn mutated_keyframes() {
    mutate("keyframe");
}
