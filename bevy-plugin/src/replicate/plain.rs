//! Any component that serde can write: sent whole.

use std::any::type_name;
use std::marker::PhantomData;
use std::sync::Arc;

use peerflock::codec;
use peerflock::{Shape, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::finite::is_finite;
use super::refs::{Recorder, Resolver};
use super::rules::judged;
use super::{Arrived, COMPONENT_BYTES_MAX, Codec, EncodeError, NameOf};
use crate::engine::{Component, ComponentMutability, Entity, EntityWorldMut, Immutable, Mutable};

/// How a component's value is replaced: in place where it is mutable, inserted anew (with its hooks) where it is not.
///
/// Implemented for both of Bevy's mutabilities; a bound that generic code repeats as `T::Mutability: Overwrite<T>`.
pub trait Overwrite<T>: ComponentMutability {
    /// Gives `entity` this `value`.
    #[doc(hidden)]
    fn overwrite(entity: &mut EntityWorldMut<'_>, value: T);
}

impl<T: Component<Mutability = Self>> Overwrite<T> for Mutable {
    fn overwrite(entity: &mut EntityWorldMut<'_>, value: T) {
        if let Some(mut current) = entity.get_mut::<T>() {
            *current = value;
        } else {
            entity.insert(value);
        }
    }
}

impl<T: Component<Mutability = Self>> Overwrite<T> for Immutable {
    fn overwrite(entity: &mut EntityWorldMut<'_>, value: T) {
        entity.insert(value);
    }
}

pub(crate) struct Plain<T>(PhantomData<fn() -> T>);

impl<T> Codec for Plain<T>
where
    T: Component + Serialize + DeserializeOwned,
    T::Mutability: Overwrite<T>,
{
    type Component = T;
    const SHAPE: Shape = Shape::Bytes;

    fn encode(component: &T, name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        encode(component, name_of).map(Some)
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        if let Some(component) = decode::<T>(arrived.value, arrived.refs)
            && let Some(component) = judged(entity, component, arrived.at)
        {
            T::Mutability::overwrite(entity, component);
        }
    }
}

/// What serde makes of it, with the entities that it refers to set apart.
pub(crate) fn encode<T>(component: &T, name_of: NameOf<'_>) -> Result<Value, EncodeError>
where
    T: Component + Serialize + DeserializeOwned,
{
    let mut bytes = codec::encode(component).map_err(EncodeError::codec)?;
    // No `Clone` is asked for: what was written is read again, and that copy shows which entities it refers to.
    let mut copy: T = codec::decode(&bytes).map_err(EncodeError::codec)?;
    let mut recorder = Recorder::new(name_of);
    T::map_entities(&mut copy, &mut recorder);
    let refs = if recorder.met_any() {
        bytes = codec::encode(&copy).map_err(EncodeError::codec)?;
        recorder.into_refs()?
    } else {
        Arc::new([])
    };
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(EncodeError::TooLong { bytes: bytes.len() });
    }
    Ok(Value::Bytes { bytes, refs })
}

/// What a value means here, where `refs` are the entities that it refers to. None: nothing.
pub(crate) fn decode<T: Component + Serialize + DeserializeOwned>(value: &Value, refs: &[Entity]) -> Option<T> {
    let Value::Bytes { bytes, .. } = value else { return None };
    match codec::decode::<T>(bytes) {
        Ok(component) if !is_finite(&component) => {
            tracing::debug!(component = type_name::<T>(), "a component with a number that is none; the one before it stays");
            None
        }
        Ok(mut component) => {
            T::map_entities(&mut component, &mut Resolver(refs));
            Some(component)
        }
        Err(error) => {
            tracing::debug!(component = type_name::<T>(), %error, "a component that means nothing; the one before it stays");
            None
        }
    }
}
