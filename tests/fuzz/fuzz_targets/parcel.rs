//! Any datagram gives a parcel or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_proto::wire;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::fuzz_parcel(bytes);
});
