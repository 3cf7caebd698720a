//! Components as quantized integers: sent as differences, a few bits each.

use std::marker::PhantomData;

use peerflock::{Fields, Group, Shape, Value};

use super::precision::checked;
use super::rules::judged;
use super::{Arrived, Codec, EncodeError, NameOf, Overwrite};
use crate::engine::{Component, EntityWorldMut};

/// What travels as integers, as differences from what all peers have: numbers that need not be exact, and what changes often, a
/// little at a time.
///
/// Derive it, and say at each field how precise it has to be:
///
/// ```
/// use bevy_ecs::prelude::*;
/// use bevy_peerflock::prelude::*;
/// use glam::{Quat, Vec2, Vec3};
///
/// #[derive(Component, Debug, PartialEq, Quantized)]
/// struct Ship {
///     /// To half a centimeter, and never further out than 500 m.
///     #[quantized(step = 0.01, range = -500.0..=500.0)]
///     position: Vec3,
///     /// Off by a quarter of a degree at most.
///     #[quantized(degrees = 0.25)]
///     heading: Quat,
///     /// A unit vector.
///     #[quantized(direction, degrees = 1.0)]
///     aim: Vec3,
///     /// In radians.
///     #[quantized(angle)]
///     rudder: f32,
///     #[quantized(range = 0..=100)]
///     hull: u8,
///     shield: bool,
///     state: State,
///     target: Option<Vec2>,
/// }
///
/// #[derive(Debug, PartialEq, Quantized)]
/// enum State {
///     Docked,
///     Cruising,
///     Towing { #[quantized(choice)] what: u16 },
/// }
///
/// let ship = Ship {
///     position: Vec3::new(1.0, 20_000.0, f32::NAN),
///     heading: Quat::IDENTITY,
///     aim: Vec3::X,
///     rudder: 0.0,
///     hull: 100,
///     shield: true,
///     state: State::Towing { what: 7 },
///     target: None,
/// };
/// let mut integers = [0; 19];
/// ship.quantize(&mut integers);
/// let arrived = Ship::restore(&integers);
/// assert_eq!(arrived.position, Vec3::new(1.0, 500.0, 0.0));
/// assert_eq!((arrived.state, arrived.hull), (State::Towing { what: 7 }, 100));
/// ```
///
/// | attribute | for | it arrives |
/// | --- | --- | --- |
/// | `step = 0.01` | `f32`, glam's vectors | off by half a step at most |
/// | `step = 0.01, range = -9.0..=9.0` | the same | within the range |
/// | `range = 0..=100` | integers | exactly, within the range |
/// | `choice` | integers | exactly; of a number that stands for something and does not count on |
/// | `degrees = 0.1` | `Quat` | turned by so much from what it was, at most |
/// | `angle`, `angle, degrees = 0.1` | `f32` in radians | from -pi to pi, off by so much at most |
/// | `direction`, `direction, degrees = 0.1` | `Vec2`, `Vec3` | one unit long, off by so much at most |
/// | none | `f32`, glam's vectors | as with `step = 0.00390625` (1/256) |
/// | | `Quat` | off by about 0.1 degree at most |
/// | | integers up to 32 bits, `IVec3` and the like, `bool` | exactly |
/// | | enums, structs, `Option`s, arrays of all these | as they are derived |
///
/// What is out of its range is sent as the nearest end, what is no number as 0 or the end nearest to it, what is no rotation as
/// none; the game's own value stays as it is. What arrives is always within its range, whoever sent it. An enum in a state that
/// there is not is its first.
///
/// All integers of a component together are [`FIELDS_MAX`](peerflock::FIELDS_MAX) at most; an enum has places for the fields of
/// all its variants. Precisions belong to what members compare before they play together, names of fields and variants as well.
///
/// Register a component that is `Quantized` with [`replicate_quantized`](crate::ReplicateAppExt::replicate_quantized).
///
/// # By hand
/// Where the derive does not do. Quantizing must not creep: `quantize(restore(fields))` gives `fields` again, if `quantize` made
/// them. [`precision`](crate::precision) and [`peerflock::quantize`] help.
///
/// # What does not compile
/// ```compile_fail
/// # use bevy_peerflock::prelude::*;
/// #[derive(Quantized)]
/// struct Backwards {
///     #[quantized(step = 0.1, range = 5.0..=-5.0)] // from the smaller to the larger
///     height: f32,
/// }
/// ```
/// ```compile_fail
/// # use bevy_peerflock::prelude::*;
/// #[derive(Quantized)]
/// struct Mixed {
///     #[quantized(angle, step = 0.1)] // an angle has `degrees`
///     heading: f32,
/// }
/// ```
/// ```compile_fail
/// # use bevy_peerflock::prelude::*;
/// #[derive(Quantized)]
/// struct Misspelled {
///     #[quantized(stepp = 0.1)]
///     height: f32,
/// }
/// ```
/// ```compile_fail
/// # use bevy_peerflock::prelude::*;
/// #[derive(Quantized)]
/// struct TooLarge {
///     places: [glam::Vec3; 22], // 66 integers
/// }
/// ```
/// ```compile_fail
/// # use bevy_peerflock::prelude::*;
/// #[derive(Quantized)]
/// struct Unquantized {
///     name: String, // no numbers: `replicate` sends it whole
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not made of integers: it is not `Quantized`",
    note = "derive it with `#[derive(Quantized)]`; what is no number (text, lists, 64 bits without a `range`) belongs into a component of its own that is \
            shared whole, with `replicate`"
)]
pub trait Quantized: Sized {
    /// Its integers, group by group, at most [`FIELDS_MAX`](peerflock::FIELDS_MAX) in all: what kind of numbers they are tells
    /// the coder what to expect of them.
    const GROUPS: &'static [Group];

    /// Writes the integers; `fields` has a place for each. Whatever the numbers are, NaN included, this must
    /// not panic; [`peerflock::quantize`] does not.
    fn quantize(&self, fields: &mut [i32]);

    /// What the integers mean. They come from other peers: any integers mean something.
    fn restore(fields: &[i32]) -> Self;

    /// Adds what peers have to agree on, besides the groups: steps and ranges, say. Who says otherwise is no member of the same
    /// mesh.
    fn describe(_text: &mut String) {}
}

/// A quantized component, shown as it arrives.
pub(crate) struct Integers<T>(PhantomData<fn() -> T>);

impl<T> Codec for Integers<T>
where
    T: Component + Quantized,
    T::Mutability: Overwrite<T>,
{
    type Component = T;
    const SHAPE: Shape = Shape::Fields(checked(T::GROUPS));

    fn describe(text: &mut String) {
        T::describe(text);
    }

    fn encode(component: &T, _name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        let mut fields = Fields::from_elem(0, Self::SHAPE.fields());
        component.quantize(&mut fields);
        Ok(Some(Value::Fields(fields)))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        if let Value::Fields(fields) = arrived.value
            && let Some(component) = judged(entity, T::restore(fields), arrived.at)
        {
            T::Mutability::overwrite(entity, component);
        }
    }
}

#[cfg(test)]
mod tests;
