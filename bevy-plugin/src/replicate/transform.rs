//! The `Transform`: translation, rotation and scale apart, shown one jitter buffer later.

use std::marker::PhantomData;

use peerflock::{Fields, Group, Shape, Value};

use super::precision::{Parts, PartsMut, Precision, Rotation, Stepped, rotation, unrotation};
use super::rules::judged;
use super::{Arrived, Codec, EncodeError, NameOf, Quantized};
use crate::engine::{EntityWorldMut, Transform};
use crate::interpolate::{Jumps, NoInterpolation, Samples};

/// One step of a translation: 1/256 of a unit. Where a unit is a meter that is 4 mm over 16,000 km, where it is a pixel it is
/// well below what one sees.
pub const TRANSLATION_STEP: f32 = 1.0 / 256.0;

/// One step of a scale: 1/1024.
pub const SCALE_STEP: f32 = 1.0 / 1024.0;

/// How precisely a game's `Transform`s cross the mesh, where the default does not fit its world. Register it with
/// [`Replication::transform`](crate::Replication::transform).
///
/// ```
/// use bevy_peerflock::TransformPrecision;
///
/// /// A world of kilometers, seen from above.
/// struct Planets;
///
/// impl TransformPrecision for Planets {
///     const TRANSLATION_STEP: f32 = 100.0;
///     const ROTATION_DEGREES: Option<f32> = Some(1.0);
/// }
/// ```
pub trait TransformPrecision: 'static {
    /// One step of a translation, in units. Default [`TRANSLATION_STEP`](crate::TRANSLATION_STEP).
    const TRANSLATION_STEP: f32 = TRANSLATION_STEP;
    /// Most that a rotation is off by, in degrees, from 0.001 to 10. Default none: about 0.1, as in a few bits less.
    const ROTATION_DEGREES: Option<f32> = None;
    /// One step of a scale. Default [`SCALE_STEP`](crate::SCALE_STEP).
    const SCALE_STEP: f32 = SCALE_STEP;
}

/// The default precision of a `Transform`.
pub(crate) struct Fine;

impl TransformPrecision for Fine {}

/// A [`TransformPrecision`], checked while the game is compiled.
struct Steps<P>(PhantomData<P>);

impl<P: TransformPrecision> Steps<P> {
    const TRANSLATION: Stepped = Stepped::new(P::TRANSLATION_STEP);
    const SCALE: Stepped = Stepped::new(P::SCALE_STEP);
    const ROTATION: Option<Rotation> = match P::ROTATION_DEGREES {
        Some(degrees) => Some(Rotation::new(degrees)),
        None => None,
    };

    fn quantize(transform: &Transform, fields: &mut [i32]) {
        let mut parts = PartsMut::new(fields);
        Self::TRANSLATION.quantize(&transform.translation, parts.next(&[Group::Motion(3)]));
        match Self::ROTATION {
            Some(precision) => precision.quantize(&transform.rotation, parts.next(&[Group::Rotation])),
            None => rotation(transform.rotation, parts.next(&[Group::Rotation])),
        }
        Self::SCALE.quantize(&transform.scale, parts.next(&[Group::Motion(3)]));
    }

    fn restore(fields: &[i32]) -> Transform {
        let mut parts = Parts::new(fields);
        Transform {
            translation: Self::TRANSLATION.restore(parts.next(&[Group::Motion(3)])),
            rotation: match Self::ROTATION {
                Some(precision) => precision.restore(parts.next(&[Group::Rotation])),
                None => unrotation(parts.next(&[Group::Rotation])),
            },
            scale: Self::SCALE.restore(parts.next(&[Group::Motion(3)])),
        }
    }
}

/// Translation in steps of [`TRANSLATION_STEP`], rotation as its smallest three at 0.1 degree, scale in steps of
/// [`SCALE_STEP`]. What is no number arrives as 0, what is no rotation as none.
impl Quantized for Transform {
    const GROUPS: &'static [Group] = &[Group::Motion(3), Group::Rotation, Group::Motion(3)];

    fn quantize(&self, fields: &mut [i32]) {
        Steps::<Fine>::quantize(self, fields);
    }

    fn restore(fields: &[i32]) -> Self {
        Steps::<Fine>::restore(fields)
    }
}

/// The `Transform`: quantized, and shown one jitter buffer later.
pub(crate) struct Smooth<P = Fine>(PhantomData<fn() -> P>);

impl<P: TransformPrecision> Codec for Smooth<P> {
    type Component = Transform;
    const SHAPE: Shape = Shape::Fields(Transform::GROUPS);
    const SMOOTH: bool = true;

    fn describe(text: &mut String) {
        let steps = (P::TRANSLATION_STEP, P::ROTATION_DEGREES, P::SCALE_STEP);
        if steps != (TRANSLATION_STEP, None, SCALE_STEP) {
            text.push_str(&format!("{steps:?}"));
        }
    }

    fn encode(component: &Transform, _name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        let mut fields = Fields::from_elem(0, Self::SHAPE.fields());
        Steps::<P>::quantize(component, &mut fields);
        Ok(Some(Value::Fields(fields)))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        let Value::Fields(fields) = arrived.value else { return };
        let Some(sample) = judged(entity, Steps::<P>::restore(fields), arrived.at) else { return };
        let shown = entity.get::<Transform>().copied();
        let (Some(moment), Some(shown), false) = (arrived.moment, shown, entity.contains::<NoInterpolation>()) else {
            // At once: the first value, a game that wants it so, or an entity that became ours.
            entity.remove::<Samples>();
            if let Some(mut current) = entity.get_mut::<Transform>() {
                *current = sample;
            } else {
                entity.insert(sample);
            }
            return;
        };
        let jumped = Jumps::ends_here(entity);
        match entity.get_mut::<Samples>() {
            Some(mut samples) if jumped => samples.jump(moment, sample),
            Some(mut samples) => samples.push(moment, sample),
            None if jumped => {
                let mut samples = Samples::from(shown, moment, shown);
                samples.jump(moment, sample);
                entity.insert(samples);
            }
            None => {
                entity.insert(Samples::from(shown, moment, sample));
            }
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

    #[test]
    fn a_game_says_how_precise_its_world_is() {
        struct Coarse;
        impl TransformPrecision for Coarse {
            const TRANSLATION_STEP: f32 = 10.0;
            const ROTATION_DEGREES: Option<f32> = Some(5.0);
        }
        let transform =
            Transform::from_xyz(104.0, -7.0, 1e9).with_rotation(glam::Quat::from_scaled_axis(glam::Vec3::new(1.0, 0.7, -0.4)));
        let mut fields = [0; 10];
        Steps::<Coarse>::quantize(&transform, &mut fields);
        assert_eq!(fields[..3], [10, -1, 100_000_000]);
        let back = Steps::<Coarse>::restore(&fields);
        let turned = back.rotation.angle_between(transform.rotation).to_degrees();
        assert!((0.05..5.0).contains(&turned), "{turned}");
        let mut text = String::new();
        Smooth::<Coarse>::describe(&mut text);
        assert!(!text.is_empty(), "members of other steps would misread each other");
    }

    #[test]
    fn parts_that_did_not_change_are_the_same_integers_and_in_place() {
        let mut transform = Transform::from_xyz(1.3, 2.7, 3.1).with_rotation(glam::Quat::from_rotation_y(1.0));
        let value = |transform| Smooth::<Fine>::encode(&transform, &|_| None).ok().flatten();
        let (Some(Value::Fields(before)), _) = (value(transform), transform.rotate_x(0.5)) else { panic!("integers") };
        let Some(Value::Fields(after)) = value(transform) else { panic!("integers") };
        // Groups that are the same cost next to nothing (the coder sees to that), and none is on the heap.
        assert_eq!((&before[..3], &before[7..]), (&after[..3], &after[7..]));
        assert_ne!(before[3..7], after[3..7]);
        assert!(!before.spilled());
    }
}
