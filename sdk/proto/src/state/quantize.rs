//! From floating point to the integers that cross the wire, and back.
//!
//! What is quantized once is quantized for good: `quantize(restore(q)) == q`, so values do not creep as entities change hands.

/// Bits of one of the three smaller components of a unit quaternion: an error of at most 0.0007 in each, about 0.1 degree.
pub const QUATERNION_BITS: u32 = 11;

/// `value` in whole steps. What is no number becomes 0; what is too large for the step stays at the end of the range.
pub fn scalar(value: f32, step: f32) -> i32 {
    // `as` saturates, and turns NaN into 0.
    (f64::from(value) / f64::from(step)).round() as i32
}

/// The value that so many steps mean.
pub fn unscalar(steps: i32, step: f32) -> f32 {
    (f64::from(steps) * f64::from(step)) as f32
}

/// A unit quaternion `[x, y, z, w]` as its largest component's index and the other three ("smallest three"; see
/// Glenn Fiedler, *Snapshot Compression*, 2015). What is no rotation becomes the identity.
pub fn quaternion(q: [f32; 4]) -> [i32; 4] {
    let length = q.iter().map(|c| f64::from(*c) * f64::from(*c)).sum::<f64>().sqrt();
    if !length.is_finite() || length < 1e-6 {
        return [3, 0, 0, 0];
    }
    let q = q.map(|c| f64::from(c) / length);
    let mut largest = 0;
    for (index, component) in q.iter().enumerate() {
        // A clear lead is asked for, so that a quaternion restored from the wire picks the same component again.
        if component.abs() > q[largest].abs() + 1e-9 {
            largest = index;
        }
    }
    let sign = if q[largest] < 0.0 { -1.0 } else { 1.0 };
    let mut packed = [largest as i32, 0, 0, 0];
    let others = (0..4).filter(|index| *index != largest);
    for (slot, index) in packed[1..].iter_mut().zip(others) {
        *slot = (sign * q[index] * scale()).round() as i32;
    }
    packed
}

/// The unit quaternion `[x, y, z, w]` that the four integers mean. Any integers mean one.
pub fn unquaternion(packed: [i32; 4]) -> [f32; 4] {
    let largest = packed[0].clamp(0, 3) as usize;
    let limit = scale().round() as i32;
    let mut q = [0.0_f64; 4];
    let others = (0..4).filter(|index| *index != largest);
    for (slot, index) in packed[1..].iter().zip(others) {
        q[index] = f64::from((*slot).clamp(-limit, limit)) / scale();
    }
    let rest: f64 = q.iter().map(|c| c * c).sum();
    q[largest] = (1.0 - rest).max(0.0).sqrt();
    let length = q.iter().map(|c| c * c).sum::<f64>().sqrt().max(1e-9);
    q.map(|c| (c / length) as f32)
}

/// Steps per unit: the three smaller components lie within `1/sqrt(2)` of zero.
fn scale() -> f64 {
    f64::from((1_i32 << (QUATERNION_BITS - 1)) - 1) * std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_number_does_no_harm() {
        assert_eq!(scalar(f32::NAN, 0.01), 0);
        assert_eq!(scalar(f32::INFINITY, 0.01), i32::MAX);
        assert_eq!(quaternion([f32::NAN; 4]), [3, 0, 0, 0]);
        assert_eq!(quaternion([0.0; 4]), [3, 0, 0, 0]);
    }

    proptest! {
        #[test]
        fn scalars_stay_within_half_a_step_and_do_not_creep(value in -10_000.0_f32..10_000.0) {
            let step = 1.0 / 256.0;
            let steps = scalar(value, step);
            prop_assert!((unscalar(steps, step) - value).abs() <= step / 2.0 + value.abs() * f32::EPSILON);
            prop_assert_eq!(scalar(unscalar(steps, step), step), steps);
        }

        #[test]
        fn rotations_stay_close(x in -1.0_f32..1.0, y in -1.0_f32..1.0, z in -1.0_f32..1.0, w in -1.0_f32..1.0) {
            prop_assume!(x * x + y * y + z * z + w * w > 0.01);
            let back = unquaternion(quaternion([x, y, z, w]));
            let length = (x * x + y * y + z * z + w * w).sqrt();
            let cosine: f32 = [x, y, z, w].iter().zip(back).map(|(a, b)| a / length * b).sum();
            prop_assert!(cosine.abs() > 0.99999, "{cosine}");
        }

        #[test]
        fn any_integers_restore_to_a_unit_quaternion(packed in any::<[i32; 4]>()) {
            let length: f32 = unquaternion(packed).iter().map(|c| c * c).sum();
            prop_assert!((length - 1.0).abs() < 1e-4);
        }
    }
}
