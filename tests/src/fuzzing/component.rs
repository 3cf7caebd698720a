//! The codecs of what games replicate and say: packets of state on top of ticks that are known, and values under the general codec.

use peerflock_proto::quantize;
use peerflock_proto::sim::fuzz::Story;
use peerflock_proto::wire::codec;

use super::Target;

/// The first byte says which codec the rest is for.
pub const TARGET: Target = Target { name: "component", seeds, start };

const STATE: u8 = 0;
const VALUE: u8 = 1;

/// One of everything that a game's component or message can be made of.
type Value = (Option<String>, Vec<(u8, u64)>, [i32; 3], Result<bool, Vec<Vec<u16>>>, std::collections::BTreeMap<char, f32>);

fn seeds() -> Vec<Vec<u8>> {
    let value: Value = (Some("a".into()), vec![(1, 300)], [1, -2, 3], Err(vec![vec![4]]), [('é', 0.5)].into());
    let value = codec::encode(&value).expect("short").to_vec();
    let packets = Story::default().packets().into_iter().map(|packet| [&[STATE], &packet[..]].concat());
    packets.chain([[&[VALUE], &value[..]].concat(), [&[2], &[255; 16][..]].concat()]).collect()
}

fn start() -> Box<dyn FnMut(&[u8])> {
    let story = Story::default();
    Box::new(move |bytes| {
        let Some((sort, bytes)) = bytes.split_first() else { return };
        match *sort {
            STATE => _ = story.packet(bytes),
            VALUE => value(bytes),
            _ => numbers(bytes),
        }
    })
}

/// What is decoded is what is encoded again.
fn value(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<Value>(bytes) {
        let once = codec::encode(&value).expect("what was decoded from few bytes is short enough");
        let again = codec::decode::<Value>(&once).expect("what was encoded is decoded");
        // Bytes, not values: NaN is a value, too.
        assert_eq!(codec::encode(&again).as_deref(), Ok(&once[..]));
    }
}

/// Whatever integers cross the wire, what the game gets of them are numbers.
fn numbers(bytes: &[u8]) {
    let mut integers = bytes.chunks_exact(4).map(|four| i32::from_le_bytes([four[0], four[1], four[2], four[3]]));
    let mut next = || integers.next().unwrap_or(i32::MIN);
    let packed = [next(), next(), next(), next()];
    let finite = |numbers: &[f32]| assert!(numbers.iter().all(|number| number.is_finite()), "{numbers:?} of {packed:?}");
    finite(&quantize::unquaternion(packed));
    finite(&quantize::unquaternion_within(packed, 0.1));
    finite(&quantize::undirection_within([packed[0], packed[1]], 0.1));
    finite(&[
        quantize::unscalar(packed[0], 0.001),
        quantize::unscalar_within(packed[0], 0.001, -10.0, 10.0),
        quantize::unangle_within(packed[0], 0.1),
    ]);
}
