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

/// `value` in whole steps, the nearest that `min..=max` has. What is no number counts as 0, or as the end that is nearer to it.
pub fn scalar_within(value: f32, step: f32, min: f32, max: f32) -> i32 {
    let value = if value.is_nan() { 0.0 } else { value };
    // Not `clamp`, which panics where the ends are swapped.
    scalar(value.max(min).min(max), step)
}

/// The value that so many steps mean, never outside of `min..=max`: any integer means one.
pub fn unscalar_within(steps: i32, step: f32, min: f32, max: f32) -> f32 {
    unscalar(steps, step).max(min).min(max)
}

/// A unit quaternion `[x, y, z, w]` as its largest component's index and the other three ("smallest three"; see
/// Glenn Fiedler, *Snapshot Compression*, 2015). What is no rotation becomes the identity.
pub fn quaternion(q: [f32; 4]) -> [i32; 4] {
    smallest_three(q, scale())
}

/// The unit quaternion `[x, y, z, w]` that the four integers mean. Any integers mean one.
pub fn unquaternion(packed: [i32; 4]) -> [f32; 4] {
    of_smallest_three(packed, scale())
}

/// A unit quaternion as [`quaternion`] makes it, in steps so small that the rotation is off by `degrees` at most
/// ([`DEGREES_MIN`] to [`DEGREES_MAX`]).
pub fn quaternion_within(q: [f32; 4], degrees: f32) -> [i32; 4] {
    smallest_three(q, three_steps(degrees))
}

/// What [`quaternion_within`] of the same `degrees` made. Any integers mean a unit quaternion.
pub fn unquaternion_within(packed: [i32; 4], degrees: f32) -> [f32; 4] {
    of_smallest_three(packed, three_steps(degrees))
}

/// An angle in whole steps, from 0 to before a full turn, off by `degrees` at most ([`DEGREES_MIN`] to [`DEGREES_MAX`]). What is
/// no number becomes 0.
pub fn angle_within(radians: f32, degrees: f32) -> i32 {
    let turn = turn_steps(degrees);
    let steps = (f64::from(radians).rem_euclid(std::f64::consts::TAU) / std::f64::consts::TAU * f64::from(turn)).round();
    // `as` saturates, and turns NaN into 0.
    (steps as i32).rem_euclid(turn)
}

/// The angle that [`angle_within`] of the same `degrees` made so many steps of, in radians, from -pi to pi. Any integer means
/// one.
pub fn unangle_within(steps: i32, degrees: f32) -> f32 {
    let turn = turn_steps(degrees);
    let steps = steps.rem_euclid(turn);
    let steps = if 2 * steps > turn { steps - turn } else { steps };
    (f64::from(steps) / f64::from(turn) * std::f64::consts::TAU) as f32
}

/// A direction in space as two integers, off by `degrees` at most ([`DEGREES_MIN`] to [`DEGREES_MAX`]): the octahedron around the
/// origin, unfolded to a square (Cigolle and others, *A Survey of Efficient Representations for Independent Unit Vectors*, 2014).
/// What has no direction becomes that of the z axis.
pub fn direction_within(vector: [f32; 3], degrees: f32) -> [i32; 2] {
    let [x, y, z] = vector.map(f64::from);
    let sum = x.abs() + y.abs() + z.abs();
    if !sum.is_finite() || sum == 0.0 {
        return [0, 0];
    }
    let side = square_steps(degrees);
    let (x, y) = (x / sum, y / sum);
    let (x, y) = if z < 0.0 { ((1.0 - y.abs()).copysign(x), (1.0 - x.abs()).copysign(y)) } else { (x, y) };
    let [mut x, mut y] = [x, y].map(|part| (part * f64::from(side)).round() as i32);
    // Along the square's edges two places mean one direction: always the same one is named.
    if x.abs() == side {
        y = y.abs();
    }
    if y.abs() == side {
        x = x.abs();
    }
    [x, y]
}

/// The unit vector that [`direction_within`] of the same `degrees` made two integers of. Any integers mean one.
pub fn undirection_within(packed: [i32; 2], degrees: f32) -> [f32; 3] {
    let side = square_steps(degrees);
    let [x, y] = packed.map(|part| f64::from(part.clamp(-side, side)) / f64::from(side));
    let z = 1.0 - x.abs() - y.abs();
    let (x, y) = if z < 0.0 { ((1.0 - y.abs()).copysign(x), (1.0 - x.abs()).copysign(y)) } else { (x, y) };
    // At least 1/sqrt(3): the octahedron does not come nearer to the origin.
    let length = (x * x + y * y + z * z).sqrt();
    [x, y, z].map(|c| (c / length) as f32)
}

/// The smallest error of a rotation that can be asked for, in degrees: where single precision ends.
pub const DEGREES_MIN: f32 = 0.001;
/// The largest.
pub const DEGREES_MAX: f32 = 10.0;

/// Steps per unit of one of the smaller three. Half a step off in each of three equal ones, the fourth is off by three halves:
/// twice the root of 12 halves squared, as an angle; and a fifth more where two are about equal and rounded twice.
fn three_steps(degrees: f32) -> f64 {
    (1.2 * 2.0 * 3.0_f64.sqrt() / radians(degrees)).ceil()
}

/// Steps of a full turn.
fn turn_steps(degrees: f32) -> i32 {
    (std::f64::consts::PI / radians(degrees)).ceil() as i32
}

/// Steps from the middle of the unfolded octahedron to its edge. Half a step off in both ways is worst amid a face, which is
/// nearest to the origin.
fn square_steps(degrees: f32) -> i32 {
    (4.5_f64.sqrt() / radians(degrees).sin()).ceil() as i32
}

fn radians(degrees: f32) -> f64 {
    let degrees = if degrees.is_nan() { DEGREES_MIN } else { degrees };
    f64::from(degrees.clamp(DEGREES_MIN, DEGREES_MAX)).to_radians()
}

fn smallest_three(q: [f32; 4], scale: f64) -> [i32; 4] {
    let Some(mut packed) = pack(q, scale) else { return [3, 0, 0, 0] };
    // Where two components are about equal, which one is the larger may be another question after rounding: go on to where it is
    // not, so that a rotation read back is the same integers again.
    for _ in 0..SETTLING_MAX {
        match pack(of_smallest_three(packed, scale), scale) {
            Some(again) if again != packed => packed = again,
            _ => break,
        }
    }
    packed
}

/// Most attempts at integers that are themselves again.
const SETTLING_MAX: usize = 4;

/// None where it is no rotation.
fn pack(q: [f32; 4], scale: f64) -> Option<[i32; 4]> {
    let length = q.iter().map(|c| f64::from(*c) * f64::from(*c)).sum::<f64>().sqrt();
    if !length.is_finite() || length < 1e-6 {
        return None;
    }
    let steps = q.map(|c| (f64::from(c) / length * scale).round() as i32);
    // Of several that are equal in steps it is the first: after rounding, they are equal again.
    let mut largest = 0;
    for index in 1..4 {
        if steps[index].abs() > steps[largest].abs() {
            largest = index;
        }
    }
    let sign = if steps[largest] < 0 { -1 } else { 1 };
    let mut packed = [largest as i32, 0, 0, 0];
    let others = (0..4).filter(|index| *index != largest);
    for (slot, index) in packed[1..].iter_mut().zip(others) {
        *slot = sign * steps[index];
    }
    Some(packed)
}

fn of_smallest_three(packed: [i32; 4], scale: f64) -> [f32; 4] {
    let largest = packed[0].clamp(0, 3) as usize;
    let limit = (scale / std::f64::consts::SQRT_2).ceil() as i32;
    let mut q = [0.0_f64; 4];
    let others = (0..4).filter(|index| *index != largest);
    for (slot, index) in packed[1..].iter().zip(others) {
        q[index] = f64::from((*slot).clamp(-limit, limit)) / scale;
    }
    let rest: f64 = q.iter().map(|c| c * c).sum();
    q[largest] = (1.0 - rest).max(0.0).sqrt();
    let length = q.iter().map(|c| c * c).sum::<f64>().sqrt().max(1e-9);
    q.map(|c| (c / length) as f32)
}

/// Steps per unit of a [`quaternion`]: the three smaller components lie within `1/sqrt(2)` of zero.
fn scale() -> f64 {
    f64::from((1_i32 << (QUATERNION_BITS - 1)) - 1) * std::f64::consts::SQRT_2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What single precision itself is off by, in degrees.
    const SINGLE: f64 = 2e-5;

    fn quaternions() -> impl Strategy<Value = [f32; 4]> {
        prop::array::uniform4(-1.0_f32..1.0).prop_filter("a rotation", |q| q.iter().map(|c| c * c).sum::<f32>() > 0.01)
    }

    /// By how many degrees two rotations differ.
    fn turned(a: [f32; 4], b: [f32; 4]) -> f64 {
        let unit = |q: [f32; 4]| {
            let length = q.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>().sqrt();
            q.map(|c| f64::from(c) / length)
        };
        let (a, b) = (unit(a), unit(b));
        let sign = if a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
        // The chord, which is exact where the cosine is not.
        let chord = a.iter().zip(b).map(|(a, b)| (a - sign * b).powi(2)).sum::<f64>().sqrt();
        (4.0 * (chord / 2.0).min(1.0).asin()).to_degrees()
    }

    #[test]
    fn what_is_no_number_does_no_harm() {
        assert_eq!(scalar_within(f32::NAN, 0.5, 2.0, 4.0), 4);
        assert_eq!(scalar_within(f32::INFINITY, 0.5, 2.0, 4.0), 8);
        assert_eq!(unscalar_within(7, 0.5, 4.0, 2.0), 2.0, "ends the wrong way round");
        assert_eq!(angle_within(f32::NAN, 1.0), 0);
        assert_eq!(angle_within(f32::NEG_INFINITY, f32::NAN), 0);
        assert_eq!(direction_within([f32::NAN, 0.0, 1.0], 1.0), [0, 0]);
        assert_eq!(undirection_within(direction_within([0.0; 3], 1.0), 1.0), [0.0, 0.0, 1.0]);
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
        fn ranges_hold_whatever_comes(value in any::<f32>(), steps in any::<i32>(), min in -100.0_f32..0.0, wide in 0.0_f32..100.0) {
            let (step, max) = (0.03, min + wide);
            let back = unscalar_within(scalar_within(value, step, min, max), step, min, max);
            prop_assert!((min..=max).contains(&back));
            if (min..=max).contains(&value) {
                prop_assert!((back - value).abs() <= step * 0.501, "{value} {back}");
            }
            prop_assert!((min..=max).contains(&unscalar_within(steps, step, min, max)), "hostile");
        }

        #[test]
        fn rotations_keep_the_promised_error(q in quaternions(), degrees in 0.001_f32..10.0) {
            let packed = quaternion_within(q, degrees);
            let back = unquaternion_within(packed, degrees);
            prop_assert!(turned(q, back) <= f64::from(degrees) + SINGLE, "off by {} of {degrees}", turned(q, back));
            prop_assert_eq!(quaternion_within(back, degrees), packed, "creeps");
        }

        #[test]
        fn what_is_about_equal_does_not_creep(signs in any::<[bool; 4]>(), off in any::<[i8; 4]>(), degrees in 0.001_f32..10.0, none in 0..6_usize) {
            let mut q = [0.0_f32; 4];
            for index in 0..4 {
                let size = 0.5 + f32::from(off[index]) * degrees * 1e-4;
                q[index] = if index == none { 0.0 } else if signs[index] { size } else { -size };
            }
            let packed = quaternion_within(q, degrees);
            prop_assert_eq!(quaternion_within(unquaternion_within(packed, degrees), degrees), packed);
            prop_assert_eq!(quaternion(unquaternion(quaternion(q))), quaternion(q));
        }

        #[test]
        fn angles_keep_the_promised_error(radians in -20.0_f32..20.0, degrees in 0.001_f32..10.0, steps in any::<i32>()) {
            let packed = angle_within(radians, degrees);
            let back = unangle_within(packed, degrees);
            let apart = (f64::from(radians) - f64::from(back)).rem_euclid(std::f64::consts::TAU);
            let apart = apart.min(std::f64::consts::TAU - apart).to_degrees();
            prop_assert!(apart <= f64::from(degrees) + SINGLE, "off by {apart} of {degrees}");
            prop_assert_eq!(angle_within(back, degrees), packed, "creeps");
            prop_assert!(unangle_within(steps, degrees).abs() <= std::f32::consts::PI, "hostile");
        }

        #[test]
        fn directions_keep_the_promised_error(v in any::<[i8; 3]>(), degrees in 0.001_f32..10.0, packed in any::<[i32; 2]>()) {
            prop_assume!(v != [0; 3]);
            let v = v.map(|c| f32::from(c) * 0.37);
            let there = direction_within(v, degrees);
            let back = undirection_within(there, degrees);
            let cross = |a: [f64; 3], b: [f64; 3]| [0, 1, 2].map(|i| a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3]);
            let (a, b) = (v.map(f64::from), back.map(f64::from));
            let dot: f64 = (0..3).map(|i| a[i] * b[i]).sum();
            let apart = cross(a, b).iter().map(|c| c * c).sum::<f64>().sqrt().atan2(dot).to_degrees();
            prop_assert!(apart <= f64::from(degrees) + SINGLE, "off by {apart} of {degrees}");
            prop_assert_eq!(direction_within(back, degrees), there, "creeps");
            let length: f32 = undirection_within(packed, degrees).iter().map(|c| c * c).sum();
            prop_assert!((length - 1.0).abs() < 1e-5, "hostile");
        }

        #[test]
        fn any_integers_restore_to_a_unit_quaternion(packed in any::<[i32; 4]>()) {
            let length: f32 = unquaternion(packed).iter().map(|c| c * c).sum();
            prop_assert!((length - 1.0).abs() < 1e-4);
        }
    }
}
