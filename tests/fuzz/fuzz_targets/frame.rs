//! Any bytes on a link give a frame, a parcel or an error. See `peerflock_tests::fuzzing::frame`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_tests::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::once(&fuzzing::frame::TARGET, bytes));
