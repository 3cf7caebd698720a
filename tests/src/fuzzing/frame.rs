//! Any bytes on a link's stream give a frame or an error, and any datagram a parcel or an error.

use peerflock_proto::sim::samples;
use peerflock_proto::wire;

use super::Target;

/// The first byte says which of the two the rest is.
pub const TARGET: Target = Target { name: "frame", seeds, start: || Box::new(run) };

const FRAME: u8 = 0;
const PARCEL: u8 = 1;
const BODY: u8 = 2;

fn seeds() -> Vec<Vec<u8>> {
    let of = |sort: u8, samples: Vec<samples::Sample>| samples.into_iter().map(move |(_, bytes)| [&[sort], &bytes[..]].concat());
    of(FRAME, samples::frames()).chain(of(PARCEL, samples::parcels())).chain(of(BODY, samples::bodies())).collect()
}

fn run(bytes: &[u8]) {
    let Some((sort, bytes)) = bytes.split_first() else { return };
    // An error is as good an end as any: what must not happen is a panic, or memory beyond the limits.
    let _ = match *sort {
        FRAME => wire::fuzz_frame(bytes).is_ok(),
        PARCEL => wire::fuzz_parcel(bytes).is_ok(),
        _ => samples::is_body(bytes),
    };
}
