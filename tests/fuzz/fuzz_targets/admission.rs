//! Strangers at the door, and those who are dialed, say anything. See `peerflock_tests::fuzzing::admission`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::admission::TARGET, bytes));
