//! What members say of themselves, and tickets. See `peerflock_tests::fuzzing::record`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::record::TARGET, bytes));
