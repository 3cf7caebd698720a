//! Components as quantized integers: sent as differences, a few bits each.

use std::marker::PhantomData;

use peerflock::quantize::{quaternion, scalar, unquaternion, unscalar};
use peerflock::{Fields, Group, Shape, Value};

use super::{Arrived, Codec, EncodeError, NameOf, Overwrite};
use crate::engine::{Component, EntityWorldMut, Transform};
use crate::interpolate::{NoInterpolation, Samples};

/// A component made of numbers that need not be exact: it travels as integers, as differences from what all peers have.
///
/// Register it with [`replicate_quantized`](crate::ReplicateAppExt::replicate_quantized). Quantizing must not creep:
/// `quantize(restore(fields))` gives `fields` again.
pub trait Quantized: Component {
    /// Its integers, group by group, at most [`FIELDS_MAX`](peerflock::FIELDS_MAX) in all: what kind of numbers they are tells the coder what to expect of them.
    const GROUPS: &'static [Group];

    /// Writes the integers; `fields` has a place for each. Whatever the numbers are, NaN included, this must
    /// not panic; [`peerflock::quantize`] does not.
    fn quantize(&self, fields: &mut [i32]);

    /// What the integers mean. They come from other peers: any integers mean something.
    fn restore(fields: &[i32]) -> Self;
}

/// One step of a translation: 1/256 of a unit. Where a unit is a meter that is 4 mm over 16,000 km, where it is a pixel it is
/// well below what one sees.
pub const TRANSLATION_STEP: f32 = 1.0 / 256.0;

/// One step of a scale: 1/1024.
pub const SCALE_STEP: f32 = 1.0 / 1024.0;

/// Translation in steps of [`TRANSLATION_STEP`], rotation as its smallest three at 0.1 degree, scale in steps of
/// [`SCALE_STEP`]. What is no number arrives as 0, what is no rotation as none.
impl Quantized for Transform {
    const GROUPS: &'static [Group] = &[Group::Motion(3), Group::Rotation, Group::Motion(3)];

    fn quantize(&self, fields: &mut [i32]) {
        let translation = self.translation.to_array().map(|value| scalar(value, TRANSLATION_STEP));
        let rotation = quaternion(self.rotation.to_array());
        let scale = self.scale.to_array().map(|value| scalar(value, SCALE_STEP));
        for (field, value) in fields.iter_mut().zip(translation.into_iter().chain(rotation).chain(scale)) {
            *field = value;
        }
    }

    fn restore(fields: &[i32]) -> Self {
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let scalars = |from: usize, step: f32| [0, 1, 2].map(|index| unscalar(field(from + index), step)).into();
        let [x, y, z, w] = unquaternion([3, 4, 5, 6].map(field));
        let mut transform = Self::from_translation(scalars(0, TRANSLATION_STEP)).with_scale(scalars(7, SCALE_STEP));
        (transform.rotation.x, transform.rotation.y, transform.rotation.z, transform.rotation.w) = (x, y, z, w);
        transform
    }
}

/// A quantized component, shown as it arrives.
pub(crate) struct Integers<T>(PhantomData<fn() -> T>);

impl<T> Codec for Integers<T>
where
    T: Quantized,
    T::Mutability: Overwrite<T>,
{
    type Component = T;
    const SHAPE: Shape = Shape::Fields(T::GROUPS);

    fn encode(component: &T, _name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        let mut fields = Fields::from_elem(0, Self::SHAPE.fields());
        component.quantize(&mut fields);
        Ok(Some(Value::Fields(fields)))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        if let Value::Fields(fields) = arrived.value {
            T::Mutability::overwrite(entity, T::restore(fields));
        }
    }
}

/// The `Transform`: quantized, and shown one jitter buffer later.
pub(crate) struct Smooth;

impl Codec for Smooth {
    type Component = Transform;
    const SHAPE: Shape = <Integers<Transform> as Codec>::SHAPE;
    const SMOOTH: bool = true;

    fn encode(component: &Transform, name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        Integers::<Transform>::encode(component, name_of)
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        let shown = entity.get::<Transform>().copied();
        let (Value::Fields(fields), Some(moment), Some(shown), false) =
            (arrived.value, arrived.moment, shown, entity.contains::<NoInterpolation>())
        else {
            // At once: the first value, a game that wants it so, or an entity that became ours.
            entity.remove::<Samples>();
            return Integers::<Transform>::apply(entity, arrived);
        };
        let sample = Transform::restore(fields);
        if let Some(mut samples) = entity.get_mut::<Samples>() {
            samples.push(moment, sample);
        } else {
            entity.insert(Samples::from(shown, moment, sample));
        }
    }

    fn remove(entity: &mut EntityWorldMut<'_>) {
        entity.remove::<(Transform, Samples)>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(transform: &Transform) -> Transform {
        let mut fields = [0; 10];
        transform.quantize(&mut fields);
        let back = Transform::restore(&fields);
        let mut again = [0; 10];
        back.quantize(&mut again);
        assert_eq!(fields, again, "quantizing creeps");
        back
    }

    #[test]
    fn a_transform_survives_within_its_steps() {
        let mut transform = Transform::from_xyz(-1234.567, 0.001, 98.7);
        transform.rotate_z(1.234);
        transform.scale *= 2.5;
        let back = round_trip(&transform);
        assert!((back.translation - transform.translation).abs().max_element() <= TRANSLATION_STEP);
        assert!(back.rotation.angle_between(transform.rotation) < 0.003);
        assert!((back.scale - transform.scale).abs().max_element() <= SCALE_STEP);
    }

    #[test]
    fn what_is_no_number_arrives_as_none() {
        let back =
            round_trip(&Transform::from_xyz(f32::NAN, f32::INFINITY, 1.0).with_rotation(Transform::IDENTITY.rotation * f32::NAN));
        assert!(back.translation.is_finite() && back.rotation.is_normalized());
        assert_eq!(back.translation.x, 0.0);
        assert_eq!(back.translation.z, 1.0);
    }

    #[test]
    fn any_integers_mean_some_transform() {
        assert!(Transform::restore(&[i32::MIN; 10]).is_finite());
        assert!(Transform::restore(&[]).is_finite());
    }
}
