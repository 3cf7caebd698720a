//! How types that everybody uses cross the mesh where no attribute says it better.

use std::marker::PhantomData;

use glam::{IVec2, IVec3, IVec4, Quat, UVec2, UVec3, UVec4, Vec2, Vec3, Vec3A, Vec4};
use peerflock::Group;

use super::precision::{Choice, Groups, Parts, PartsMut, Precision, Stepped, at, put, rotation, unrotation};
use super::{Quantized, TRANSLATION_STEP};

/// What numbers have where nothing is said.
const DEFAULT: Stepped = Stepped::new(TRANSLATION_STEP);

macro_rules! scalars {
    ($($of:ty),*) => {$(
        /// In steps of [`TRANSLATION_STEP`]; `#[quantized(step = .., range = ..)]` says it better.
        impl Quantized for $of {
            const GROUPS: &'static [Group] = <Stepped as Precision<Self>>::GROUPS;

            fn quantize(&self, fields: &mut [i32]) {
                DEFAULT.quantize(self, fields);
            }

            fn restore(fields: &[i32]) -> Self {
                DEFAULT.restore(fields)
            }
        }
    )*};
}

scalars!(f32, Vec2, Vec3, Vec3A, Vec4);

/// To about 0.1 degree, as in a `Transform`; `#[quantized(degrees = ..)]` says it better.
impl Quantized for Quat {
    const GROUPS: &'static [Group] = &[Group::Rotation];

    fn quantize(&self, fields: &mut [i32]) {
        rotation(*self, fields);
    }

    fn restore(fields: &[i32]) -> Self {
        unrotation(fields)
    }
}

macro_rules! small {
    ($($of:ty),*) => {$(
        /// Exactly. Give it a range where it has one: `#[quantized(range = 0..=100)]`.
        impl Quantized for $of {
            const GROUPS: &'static [Group] = &[Group::Motion(1)];

            fn quantize(&self, fields: &mut [i32]) {
                put(fields, [i32::from(*self)]);
            }

            fn restore(fields: &[i32]) -> Self {
                Self::try_from(at(fields, 0).clamp(Self::MIN.into(), Self::MAX.into())).unwrap_or_default()
            }
        }
    )*};
}

small!(u8, i8, u16, i16);

/// Exactly.
impl Quantized for i32 {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, fields: &mut [i32]) {
        put(fields, [*self]);
    }

    fn restore(fields: &[i32]) -> Self {
        at(fields, 0)
    }
}

/// Exactly.
impl Quantized for u32 {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, fields: &mut [i32]) {
        put(fields, [self.cast_signed()]);
    }

    fn restore(fields: &[i32]) -> Self {
        at(fields, 0).cast_unsigned()
    }
}

macro_rules! grids {
    ($($of:ty, $count:literal, $whole:ty);*) => {$(
        /// Exactly.
        impl Quantized for $of {
            const GROUPS: &'static [Group] = &[Group::Motion($count)];

            fn quantize(&self, fields: &mut [i32]) {
                fields.iter_mut().zip(self.to_array()).for_each(|(field, value)| value.quantize(std::slice::from_mut(field)));
            }

            fn restore(fields: &[i32]) -> Self {
                Self::from_array(std::array::from_fn(|place| <$whole>::restore(&[at(fields, place)])))
            }
        }
    )*};
}

grids!(IVec2, 2, i32; IVec3, 3, i32; IVec4, 4, i32; UVec2, 2, u32; UVec3, 3, u32; UVec4, 4, u32);

/// A flag.
impl Quantized for bool {
    const GROUPS: &'static [Group] = &[Group::Choice];

    fn quantize(&self, fields: &mut [i32]) {
        Choice.quantize(&u8::from(*self), fields);
    }

    fn restore(fields: &[i32]) -> Self {
        at(fields, 0) != 0
    }
}

/// Whether it is there, and then what it is.
impl<T: Quantized> Quantized for Option<T> {
    const GROUPS: &'static [Group] = Optional::<T>::ALL.as_slice();

    fn quantize(&self, fields: &mut [i32]) {
        fields.fill(0);
        let mut parts = PartsMut::new(fields);
        parts.set(self.is_some().into());
        if let Some(value) = self {
            value.quantize(parts.next(T::GROUPS));
        }
    }

    fn restore(fields: &[i32]) -> Self {
        let mut parts = Parts::new(fields);
        (parts.get() != 0).then(|| T::restore(parts.next(T::GROUPS)))
    }

    fn describe(text: &mut String) {
        T::describe(text);
    }
}

struct Optional<T>(PhantomData<T>);

impl<T: Quantized> Optional<T> {
    const ALL: &'static Groups = &Groups::join(&[&[Group::Choice], T::GROUPS]);
}

/// Each.
impl<T: Quantized, const N: usize> Quantized for [T; N] {
    const GROUPS: &'static [Group] = Several::<T, N>::ALL.as_slice();

    fn quantize(&self, fields: &mut [i32]) {
        let mut parts = PartsMut::new(fields);
        self.iter().for_each(|value| value.quantize(parts.next(T::GROUPS)));
    }

    fn restore(fields: &[i32]) -> Self {
        let mut parts = Parts::new(fields);
        std::array::from_fn(|_| T::restore(parts.next(T::GROUPS)))
    }

    fn describe(text: &mut String) {
        T::describe(text);
    }
}

struct Several<T, const N: usize>(PhantomData<T>);

impl<T: Quantized, const N: usize> Several<T, N> {
    const ALL: &'static Groups = &Groups::repeat(T::GROUPS, N);
}
