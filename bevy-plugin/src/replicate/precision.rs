//! How precisely a field crosses the mesh: what `#[quantized(..)]` says, as types.
//!
//! A game says it in attributes and meets these names only in error messages, or where it implements [`Quantized`] by hand:
//!
//! ```
//! use bevy_peerflock::precision::{Precision, Stepped};
//!
//! const CENTIMETERS: Stepped = Stepped::within(0.01, -50.0, 50.0);
//! let mut steps = [0];
//! CENTIMETERS.quantize(&1.2345_f32, &mut steps);
//! assert_eq!(steps, [123]);
//! let back: f32 = CENTIMETERS.restore(&steps);
//! assert_eq!(back, 1.23);
//! ```

use glam::{Quat, Vec2, Vec3, Vec3A, Vec4};
use peerflock::quantize::{
    self, DEGREES_MAX, DEGREES_MIN, angle_within, direction_within, quaternion_within, scalar_within, unangle_within,
    undirection_within, unquaternion_within, unscalar_within,
};
use peerflock::{FIELDS_MAX, GROUP_MAX, Group};

use super::Quantized;

/// A way in which a `T` becomes integers and comes back.
#[diagnostic::on_unimplemented(
    message = "a `{T}` cannot cross the mesh as `{Self}`",
    note = "`step` is for f32 and glam's vectors of it, `range` alone for integers, `degrees` for `Quat`, `angle` for f32, `direction` for Vec2 and \
            Vec3, `choice` for integers; without an attribute the field's type has to be `Quantized`"
)]
pub trait Precision<T> {
    /// What integers it becomes.
    const GROUPS: &'static [Group];

    /// Writes the integers; there is a place for each.
    fn quantize(&self, value: &T, fields: &mut [i32]);

    /// What any integers mean.
    fn restore(&self, fields: &[i32]) -> T;

    /// Adds what peers have to agree on, besides the groups.
    fn describe(_text: &mut String) {}
}

/// As the type does by itself.
#[derive(Clone, Copy, Debug)]
pub struct Natural;

impl<T: Quantized> Precision<T> for Natural {
    const GROUPS: &'static [Group] = T::GROUPS;

    fn quantize(&self, value: &T, fields: &mut [i32]) {
        value.quantize(fields);
    }

    fn restore(&self, fields: &[i32]) -> T {
        T::restore(fields)
    }

    fn describe(text: &mut String) {
        T::describe(text);
    }
}

/// Numbers in steps, off by half a step at most: `step = 0.01`, and perhaps `range = -50.0..=50.0`.
///
/// What is out of the range is sent as its nearest end, and whatever comes from others is within it. What is no number is sent as
/// 0, or as the end nearest to it.
#[derive(Clone, Copy, Debug)]
pub struct Stepped {
    step: f32,
    min: f32,
    max: f32,
}

impl Stepped {
    /// In steps of `step`, as far as an integer of 32 bits reaches.
    ///
    /// # Panics
    /// If it is not above 0. In a constant, as derived, the compiler says so.
    pub const fn new(step: f32) -> Self {
        Self::within(step, f32::MIN, f32::MAX)
    }

    /// In steps of `step` from `min` to `max`.
    ///
    /// # Panics
    /// If `step` is not above 0, or `min` is not below `max`. In a constant, as derived, the compiler says so.
    pub const fn within(step: f32, min: f32, max: f32) -> Self {
        assert!(
            step > 0.0 && step.is_finite(),
            "`step` is the distance of two values next to each other, above 0: `step = 0.01`"
        );
        assert!(
            min < max && min.is_finite() && max.is_finite(),
            "`range` goes from the smaller to the larger: `range = -50.0..=50.0`"
        );
        Self { step, min, max }
    }
}

impl<T: Scalars> Precision<T> for Stepped {
    const GROUPS: &'static [Group] = &[Group::Motion(T::COUNT)];

    fn quantize(&self, value: &T, fields: &mut [i32]) {
        value.each(|place, value| {
            if let Some(field) = fields.get_mut(place) {
                *field = scalar_within(value, self.step, self.min, self.max);
            }
        });
    }

    fn restore(&self, fields: &[i32]) -> T {
        T::made(|place| unscalar_within(at(fields, place), self.step, self.min, self.max))
    }
}

/// A few numbers of single precision that change together.
#[diagnostic::on_unimplemented(
    message = "a `{Self}` has no `step`",
    note = "`step` is for f32 and glam's vectors of it; integers take `range = 0..=100` alone, `Quat` takes `degrees = 0.1`"
)]
pub trait Scalars {
    /// How many.
    const COUNT: u8;
    /// Hands over each, with its place.
    fn each(&self, each: impl FnMut(usize, f32));
    /// Made of the number at each place.
    fn made(number: impl FnMut(usize) -> f32) -> Self;
}

impl Scalars for f32 {
    const COUNT: u8 = 1;

    fn each(&self, mut each: impl FnMut(usize, Self)) {
        each(0, *self);
    }

    fn made(mut number: impl FnMut(usize) -> Self) -> Self {
        number(0)
    }
}

macro_rules! vectors {
    ($($vector:ty: $count:literal),*) => {$(
        impl Scalars for $vector {
            const COUNT: u8 = $count;

            fn each(&self, mut each: impl FnMut(usize, f32)) {
                self.to_array().into_iter().enumerate().for_each(|(place, value)| each(place, value));
            }

            fn made(number: impl FnMut(usize) -> f32) -> Self {
                Self::from_array(std::array::from_fn(number))
            }
        }
    )*};
}

vectors!(Vec2: 2, Vec3: 3, Vec3A: 3, Vec4: 4);

/// A whole number in a range: `range = 0..=100`. What is out of it is sent as its nearest end.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    min: i64,
    max: i64,
}

impl Within {
    /// From `min` to `max`.
    ///
    /// # Panics
    /// If `min` is not below `max`, or they are further apart than 32 bits count. In a constant, as derived, the compiler says
    /// so.
    pub const fn new(min: i64, max: i64) -> Self {
        assert!(min < max, "`range` goes from the smaller to the larger: `range = 0..=100`");
        assert!(max as i128 - min as i128 <= u32::MAX as i128, "a range of integers has at most 2^32 of them");
        Self { min, max }
    }
}

impl<T: Whole> Precision<T> for Within {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, value: &T, fields: &mut [i32]) {
        if let Some(field) = fields.first_mut() {
            // Fits: that the ends do was asked when this was made.
            *field = ((value.to_whole().clamp(self.min, self.max) - self.min) as u32).cast_signed();
        }
    }

    fn restore(&self, fields: &[i32]) -> T {
        T::of_whole((self.min + i64::from(at(fields, 0).cast_unsigned())).min(self.max))
    }
}

/// A whole number.
#[diagnostic::on_unimplemented(
    message = "a `{Self}` is no whole number",
    note = "`range` alone and `choice` are for integers; for f32 and glam's vectors say a step, too: `step = 0.01, range = -10.0..=10.0`"
)]
pub trait Whole {
    /// As one of 64 bits, or the nearest that these have.
    fn to_whole(&self) -> i64;
    /// Of one of 64 bits, or the nearest to it.
    fn of_whole(whole: i64) -> Self;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl Whole for $integer {
            fn to_whole(&self) -> i64 {
                i64::try_from(*self).unwrap_or(i64::MAX)
            }

            fn of_whole(whole: i64) -> Self {
                Self::try_from(whole).unwrap_or(if whole < 0 { Self::MIN } else { Self::MAX })
            }
        }
    )*};
}

integers!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);

/// A number that stands for something, as an enum does: `choice`. It is expected to stay what it is, not to count on.
#[derive(Clone, Copy, Debug)]
pub struct Choice;

impl<T: Whole> Precision<T> for Choice {
    const GROUPS: &'static [Group] = &[Group::Choice];

    fn quantize(&self, value: &T, fields: &mut [i32]) {
        if let Some(field) = fields.first_mut() {
            *field = i32::of_whole(value.to_whole());
        }
    }

    fn restore(&self, fields: &[i32]) -> T {
        T::of_whole(at(fields, 0).into())
    }
}

/// A rotation that is off by so many degrees at most, as its smallest three: `degrees = 0.1`. What is no rotation is sent as
/// none.
#[derive(Clone, Copy, Debug)]
pub struct Rotation(f32);

impl Rotation {
    /// Off by `degrees` at most, 0.001 to 10.
    ///
    /// # Panics
    /// If it is out of these bounds. In a constant, as derived, the compiler says so.
    pub const fn new(degrees: f32) -> Self {
        check(degrees);
        Self(degrees)
    }
}

impl Precision<Quat> for Rotation {
    const GROUPS: &'static [Group] = &[Group::Rotation];

    fn quantize(&self, value: &Quat, fields: &mut [i32]) {
        put(fields, quaternion_within(value.to_array(), self.0));
    }

    fn restore(&self, fields: &[i32]) -> Quat {
        Quat::from_array(unquaternion_within([0, 1, 2, 3].map(|place| at(fields, place)), self.0))
    }
}

/// An angle in radians, whatever number of turns: `angle`, or `angle, degrees = 0.5`. It arrives between -pi and pi.
#[derive(Clone, Copy, Debug)]
pub struct Angle(f32);

impl Angle {
    /// Off by 0.1 degrees at most.
    pub const DEFAULT: Self = Self(0.1);

    /// Off by `degrees` at most, 0.001 to 10.
    ///
    /// # Panics
    /// If it is out of these bounds. In a constant, as derived, the compiler says so.
    pub const fn new(degrees: f32) -> Self {
        check(degrees);
        Self(degrees)
    }
}

impl Precision<f32> for Angle {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, value: &f32, fields: &mut [i32]) {
        put(fields, [angle_within(*value, self.0)]);
    }

    fn restore(&self, fields: &[i32]) -> f32 {
        unangle_within(at(fields, 0), self.0)
    }
}

/// Where to, not how far: `direction`, or `direction, degrees = 0.5`. It arrives one unit long; what has no direction arrives as
/// that of the x axis in the plane, of the z axis in space.
#[derive(Clone, Copy, Debug)]
pub struct Direction(f32);

impl Direction {
    /// Off by 0.1 degrees at most.
    pub const DEFAULT: Self = Self(0.1);

    /// Off by `degrees` at most, 0.001 to 10.
    ///
    /// # Panics
    /// If it is out of these bounds. In a constant, as derived, the compiler says so.
    pub const fn new(degrees: f32) -> Self {
        check(degrees);
        Self(degrees)
    }
}

impl Precision<Vec2> for Direction {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, value: &Vec2, fields: &mut [i32]) {
        put(fields, [angle_within(value.y.atan2(value.x), self.0)]);
    }

    fn restore(&self, fields: &[i32]) -> Vec2 {
        Vec2::from_angle(unangle_within(at(fields, 0), self.0))
    }
}

impl Precision<Vec3> for Direction {
    const GROUPS: &'static [Group] = &[Group::Motion(2)];

    fn quantize(&self, value: &Vec3, fields: &mut [i32]) {
        put(fields, direction_within(value.to_array(), self.0));
    }

    fn restore(&self, fields: &[i32]) -> Vec3 {
        Vec3::from_array(undirection_within([at(fields, 0), at(fields, 1)], self.0))
    }
}

impl Precision<Vec3A> for Direction {
    const GROUPS: &'static [Group] = <Self as Precision<Vec3>>::GROUPS;

    fn quantize(&self, value: &Vec3A, fields: &mut [i32]) {
        Precision::<Vec3>::quantize(self, &(*value).into(), fields);
    }

    fn restore(&self, fields: &[i32]) -> Vec3A {
        Precision::<Vec3>::restore(self, fields).into()
    }
}

/// The groups of several fields, put together while the game is compiled.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    groups: [Group; FIELDS_MAX],
    count: usize,
}

impl Groups {
    /// One after the other.
    ///
    /// # Panics
    /// With more than [`FIELDS_MAX`] integers. In a constant, as derived, the compiler says so.
    pub const fn join(parts: &[&[Group]]) -> Self {
        let mut all = Self { groups: [Group::Choice; FIELDS_MAX], count: 0 };
        let mut part = 0;
        while part < parts.len() {
            all.append(parts[part]);
            part += 1;
        }
        all
    }

    /// The same, `times` over.
    ///
    /// # Panics
    /// As [`join`](Self::join) does.
    pub const fn repeat(groups: &[Group], times: usize) -> Self {
        let mut all = Self { groups: [Group::Choice; FIELDS_MAX], count: 0 };
        let mut time = 0;
        while time < times {
            all.append(groups);
            time += 1;
        }
        all
    }

    /// As [`Quantized::GROUPS`] has them.
    pub const fn as_slice(&self) -> &[Group] {
        self.groups.split_at(self.count).0
    }

    const fn append(&mut self, groups: &[Group]) {
        let mut index = 0;
        while index < groups.len() {
            assert!(
                self.count < FIELDS_MAX && integers_in(self.as_slice()) + groups[index].len() <= FIELDS_MAX,
                "a component has at most 64 integers (a Vec3 has three, a Quat four): spread them over several components"
            );
            self.groups[self.count] = groups[index];
            self.count += 1;
            index += 1;
        }
    }
}

/// Whether the protocol takes components of these groups; says what to do if not.
pub(crate) const fn checked(groups: &'static [Group]) -> &'static [Group] {
    assert!(
        integers_in(groups) <= FIELDS_MAX,
        "a component has at most 64 integers (a Vec3 has three, a Quat four): spread them over several components"
    );
    let mut index = 0;
    while index < groups.len() {
        assert!(
            groups[index].len() >= 1 && groups[index].len() <= GROUP_MAX,
            "a group has 1 to 8 integers: make several groups of it, or none"
        );
        index += 1;
    }
    groups
}

pub(crate) const fn integers_in(groups: &[Group]) -> usize {
    let (mut count, mut index) = (0, 0);
    while index < groups.len() {
        count += groups[index].len();
        index += 1;
    }
    count
}

/// Integers that are read part by part. Where there are none any more, the parts are empty.
#[derive(Debug)]
pub struct Parts<'a>(&'a [i32]);

impl<'a> Parts<'a> {
    /// From the first.
    pub const fn new(fields: &'a [i32]) -> Self {
        Self(fields)
    }

    /// The next integers, as many as these groups have.
    pub fn next(&mut self, groups: &[Group]) -> &'a [i32] {
        let (here, rest) = self.0.split_at(integers_in(groups).min(self.0.len()));
        self.0 = rest;
        here
    }

    /// The next integer.
    pub fn get(&mut self) -> i32 {
        at(self.next(&[Group::Choice]), 0)
    }
}

/// Integers that are written part by part.
#[derive(Debug)]
pub struct PartsMut<'a>(&'a mut [i32]);

impl<'a> PartsMut<'a> {
    /// From the first.
    pub const fn new(fields: &'a mut [i32]) -> Self {
        Self(fields)
    }

    /// The next integers, as many as these groups have.
    pub fn next(&mut self, groups: &[Group]) -> &'a mut [i32] {
        let fields = std::mem::take(&mut self.0);
        let (here, rest) = fields.split_at_mut(integers_in(groups).min(fields.len()));
        self.0 = rest;
        here
    }

    /// Writes the next integer.
    pub fn set(&mut self, value: i32) {
        put(self.next(&[Group::Choice]), [value]);
    }
}

/// What is at a place, or 0 where nothing is.
pub(super) fn at(fields: &[i32], place: usize) -> i32 {
    fields.get(place).copied().unwrap_or_default()
}

pub(super) fn put<const N: usize>(fields: &mut [i32], values: [i32; N]) {
    fields.iter_mut().zip(values).for_each(|(field, value)| *field = value);
}

const fn check(degrees: f32) {
    assert!(
        degrees >= DEGREES_MIN && degrees <= DEGREES_MAX,
        "`degrees` is the largest error of a rotation, an angle or a direction, from 0.001 to 10: `degrees = 0.1`"
    );
}

/// A rotation as exactly as a `Transform` has it by default.
pub(super) fn rotation(value: Quat, fields: &mut [i32]) {
    put(fields, quantize::quaternion(value.to_array()));
}

/// What [`rotation`] wrote.
pub(super) fn unrotation(fields: &[i32]) -> Quat {
    Quat::from_array(quantize::unquaternion([0, 1, 2, 3].map(|place| at(fields, place))))
}
