//! A node among a member and strangers who say anything. See `peerflock_tests::fuzzing::node`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::node::TARGET, bytes));
