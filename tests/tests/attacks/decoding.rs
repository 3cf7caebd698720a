//! Bytes that are no value, or claim to be more than they are.

use std::time::{Duration, Instant};

use bytes::Bytes;
use peerflock_proto::sim::samples::{self, Sample};
use peerflock_proto::wire::{self, DecodeError, codec};
use peerflock_proto::{Input, quantize};
use peerflock_tests::fuzzing::node::Scene;
use serde::Deserialize;

/// Most memory that one input may take, in bytes.
const PEAK_BYTES_MAX: u64 = 1024 * 1024;

#[test]
fn every_sort_of_frame_with_a_byte_appended_is_refused() {
    for (sort, bytes) in samples::frames() {
        assert_eq!(wire::fuzz_frame(&bytes), Ok(()), "{sort}");
        for extra in 0..=u8::MAX {
            let longer = [&bytes[..], &[extra]].concat();
            assert_eq!(wire::fuzz_frame(&longer), Err(DecodeError::Trailing), "{sort}");
        }
    }
}

/// A member that sends one is cut off, and costs the process nothing else.
#[test]
fn a_member_that_sends_a_frame_with_a_trailing_byte_is_cut_off() {
    for (sort, bytes) in samples::frames() {
        let mut scene = Scene::new();
        let links = scene.node(0).links();
        let longer = Bytes::from([&bytes[..], &[0]].concat());
        scene.hear(|link| Input::Frame { link, bytes: longer });
        assert_eq!((links.len(), scene.node(0).links().len()), (1, 0), "{sort}");
        assert_eq!(scene.node(0).counters().violations, 1, "{sort}");
    }
}

/// Whatever is last in a parcel ends where it says. (A packet of state does not say: it is what is left, and its origin's proof covers it.)
#[test]
fn every_sort_of_item_with_a_byte_appended_is_refused() {
    for (sort, bytes) in samples::parcels() {
        assert_eq!(wire::fuzz_parcel(&bytes), Ok(()), "{sort}");
        // As the tag of another item: none begins so.
        let longer = [&bytes[..], &[0xff]].concat();
        assert_eq!(wire::fuzz_parcel(&longer).is_err(), sort != "State", "{sort}");
    }
}

#[test]
fn everything_cut_short_is_refused() {
    for (sort, bytes) in samples::frames() {
        for length in 0..bytes.len() {
            assert!(wire::fuzz_frame(&bytes[..length]).is_err(), "{sort} of {length} bytes");
        }
    }
    for (sort, bytes) in samples::bodies() {
        for length in 0..bytes.len() {
            assert!(!samples::is_body(&bytes[..length]), "{sort} of {length} bytes");
        }
    }
}

/// Wherever a length may stand it is replaced by 4 GiB, in all the ways in which the codecs write one.
#[test]
fn lengths_of_four_gib_take_no_memory_and_no_time() {
    let lengths: [&[u8]; 4] =
        [&[252, 255, 255, 255, 255], &[253, 0, 0, 0, 0, 1, 0, 0, 0], &[255, 255, 255, 255, 15], &[128, 128, 128, 128, 16]];
    let frame = |bytes: &[u8]| wire::fuzz_frame(bytes).is_ok();
    let parcel = |bytes: &[u8]| wire::fuzz_parcel(bytes).is_ok();
    let decoders: [(Vec<Sample>, &dyn Fn(&[u8]) -> bool); 3] =
        [(samples::frames(), &frame), (samples::parcels(), &parcel), (samples::bodies(), &samples::is_body)];
    for (samples, decode) in decoders {
        for (sort, bytes) in samples {
            for place in 0..bytes.len() {
                for length in lengths {
                    let claiming = [&bytes[..place], length, &bytes[place + 1..]].concat();
                    let started = Instant::now();
                    let taken = allocation_counter::measure(|| _ = decode(&claiming));
                    assert!(taken.bytes_max <= PEAK_BYTES_MAX / 8, "{sort} at {place}: {} bytes", taken.bytes_max);
                    assert!(started.elapsed() < Duration::from_secs(1), "{sort} at {place}");
                }
            }
        }
    }
}

#[test]
fn a_sequence_of_nothing_claims_what_it_likes() {
    let started = Instant::now();
    for bytes in [&[253, 255, 255, 255, 255, 255, 255, 255, 255][..], &[252, 255, 255, 255, 255]] {
        assert_eq!(codec::decode::<Vec<()>>(bytes), Err(DecodeError::Malformed));
        assert_eq!(codec::decode::<Vec<[u64; 0]>>(bytes), Err(DecodeError::Malformed));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn deep_nesting_ends_before_the_stack_does() {
    #[derive(Debug, Deserialize)]
    struct Tree {
        #[expect(dead_code, reason = "only its depth matters")]
        branches: Vec<Self>,
    }
    #[derive(Debug, Deserialize)]
    enum Wrapped {
        #[expect(dead_code, reason = "only its depth matters")]
        Again(Option<Box<Self>>),
    }
    for byte in [0, 1, 2, 255] {
        let deep = vec![byte; codec::VALUE_BYTES_MAX];
        assert!(codec::decode::<Tree>(&deep).is_err());
        assert!(codec::decode::<Wrapped>(&deep).is_err());
        let deep = &deep[..wire::FRAME_BYTES_MAX - 2];
        for sort in 0..=u8::MAX {
            let frame = [&[wire::WIRE_VERSION, sort], deep].concat();
            assert!(wire::fuzz_frame(&frame).is_err());
        }
    }
    let alternating: Vec<u8> = [0, 1].repeat(codec::VALUE_BYTES_MAX / 2);
    assert!(codec::decode::<Wrapped>(&alternating).is_err());
}

/// Floating point that is no number: going out it becomes an integer in range, and no integer that comes in becomes one.
#[test]
fn nan_and_infinities_do_not_pass_quantization() {
    let bad = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0];
    let (step, min, max, degrees) = (0.01, -100.0, 100.0, 0.1);
    let finite = |what: &str, numbers: &[f32]| assert!(numbers.iter().all(|number| number.is_finite()), "{what}: {numbers:?}");
    for one in bad {
        finite("scalar", &[quantize::unscalar(quantize::scalar(one, step), step)]);
        let within = quantize::unscalar_within(quantize::scalar_within(one, step, min, max), step, min, max);
        assert!((min..=max).contains(&within), "{one}: {within}");
        finite("angle", &[quantize::unangle_within(quantize::angle_within(one, degrees), degrees)]);
        for other in bad {
            let rotation = quantize::unquaternion_within(quantize::quaternion_within([one, other, 1.0, other], degrees), degrees);
            finite("rotation", &rotation);
            finite("rotation", &quantize::unquaternion(quantize::quaternion([other, one, one, other])));
            finite("direction", &quantize::undirection_within(quantize::direction_within([one, other, one], degrees), degrees));
        }
    }
    let edges = [i32::MIN, i32::MIN + 1, -1, 0, 1, 3, 4, i32::MAX - 1, i32::MAX];
    for one in edges {
        finite("scalar", &[quantize::unscalar(one, step)]);
        let within = quantize::unscalar_within(one, step, min, max);
        assert!((min..=max).contains(&within), "{one}: {within}");
        finite("angle", &[quantize::unangle_within(one, degrees)]);
        for other in edges {
            finite("direction", &quantize::undirection_within([one, other], degrees));
            for third in edges {
                let rotation = quantize::unquaternion([one, other, third, other]);
                finite("rotation", &rotation);
                let length: f32 = rotation.iter().map(|part| part * part).sum();
                assert!((length - 1.0).abs() < 0.01, "no rotation: {rotation:?} of {one} {other} {third}");
                finite("rotation", &quantize::unquaternion_within([one, other, third, one], degrees));
            }
        }
    }
}
