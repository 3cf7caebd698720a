//! What games replicate, and values under the general codec. See `peerflock_tests::fuzzing::component`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::component::TARGET, bytes));
