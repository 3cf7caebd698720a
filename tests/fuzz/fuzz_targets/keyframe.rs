//! The records that a neighbor serves. See `peerflock_tests::fuzzing::keyframe`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::keyframe::TARGET, bytes));
