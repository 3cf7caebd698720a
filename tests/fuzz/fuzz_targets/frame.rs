//! Any bytes on a link's stream give a frame or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_proto::wire;

fuzz_target!(|bytes: &[u8]| {
    // An error is as good an end as any: what must not happen is a panic, or memory beyond the limits.
    let _ = wire::fuzz_frame(bytes);
});
