//! The codec under everything that is not state: what it decodes is what it encodes again, and lengths that are claimed but not
//! there allocate nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peerflock_proto::wire::codec;

/// One of everything that a game's component or message can be made of.
type Value = (Option<String>, Vec<(u8, u64)>, [i32; 3], Result<bool, Vec<Vec<u16>>>, std::collections::BTreeMap<char, f32>);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = codec::decode::<Value>(bytes) {
        let once = codec::encode(&value).expect("what was decoded from few bytes is short enough");
        let again = codec::decode::<Value>(&once).expect("what was encoded is decoded");
        // Bytes, not values: NaN is a value, too.
        assert_eq!(codec::encode(&again).as_deref(), Ok(&once[..]));
    }
});
