//! `ChildOf`: a component that is nothing but a reference.

use peerflock::{Bytes, EntityId, Shape, Value};

use super::{Arrived, Codec, EncodeError, NameOf};
use crate::engine::{ChildOf, Entity, EntityWorldMut, World};

/// Deepest hierarchy that is followed, in generations. Deeper ones are taken for a cycle, and a cycle hangs a game.
const GENERATIONS_MAX: usize = 256;

pub(crate) struct Parent;

impl Parent {
    /// What says that `parent` is the parent.
    pub(crate) fn value(parent: EntityId) -> Value {
        Value::Bytes { bytes: Bytes::new(), refs: [parent].into() }
    }
}

impl Codec for Parent {
    type Component = ChildOf;
    const SHAPE: Shape = Shape::Bytes;

    fn encode(component: &ChildOf, name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        // A parent that the others do not know is no parent to them.
        Ok(name_of(component.parent()).map(Self::value))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        let [parent] = *arrived.refs else { return };
        if descends(entity.world(), parent, entity.id()) {
            tracing::debug!(entity = %entity.id(), %parent, "a peer made an entity its own ancestor; ignored");
        } else if entity.get::<ChildOf>().is_none_or(|current| current.parent() != parent) {
            entity.insert(ChildOf(parent));
        }
    }
}

/// Whether `entity` is `ancestor` or below it.
fn descends(world: &World, mut entity: Entity, ancestor: Entity) -> bool {
    for _ in 0..GENERATIONS_MAX {
        if entity == ancestor {
            return true;
        }
        let Some(parent) = world.get::<ChildOf>(entity) else { return false };
        entity = parent.parent();
    }
    true
}
