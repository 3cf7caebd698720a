//! Jumps that are no movement, however short they are: their owner says so.

use peerflock::{Group, Shape, Value};

use crate::engine::{Component, EntityCommands, EntityWorldMut, Transform};
use crate::replicate::{Arrived, Codec, EncodeError, NameOf};

/// Moves entities without showing the way.
pub trait TeleportCommandsExt {
    /// Puts an own entity there, and the others see it vanish here and appear there, instead of gliding over.
    ///
    /// What is further than [`Interpolation::snap_distance`](crate::Interpolation::snap_distance) is shown as a jump anyway.
    fn teleport(&mut self, to: Transform) -> &mut Self;
}

impl TeleportCommandsExt for EntityCommands<'_> {
    fn teleport(&mut self, to: Transform) -> &mut Self {
        // An entity despawned meanwhile has no place.
        self.queue_silenced(move |mut entity: EntityWorldMut<'_>| {
            let jumps = entity.get::<Jumps>().map_or(0, |jumps| jumps.count);
            entity.insert((to, Jumps { count: jumps.wrapping_add(1), heard: false }));
        })
    }
}

/// How often an entity was teleported; the count's changes are what counts.
#[derive(Component)]
pub(crate) struct Jumps {
    count: u8,
    /// The next place that comes is at the end of one.
    heard: bool,
}

impl Jumps {
    /// Whether the place that came is at the end of a jump.
    pub(crate) fn ends_here(entity: &mut EntityWorldMut<'_>) -> bool {
        entity.get_mut::<Self>().is_some_and(|mut jumps| std::mem::take(&mut jumps.heard))
    }
}

impl Codec for Jumps {
    type Component = Self;
    const SHAPE: Shape = Shape::Fields(&[Group::Choice]);

    fn encode(component: &Self, _name_of: NameOf<'_>) -> Result<Option<Value>, EncodeError> {
        Ok(Some(Value::fields([i32::from(component.count)])))
    }

    fn apply(entity: &mut EntityWorldMut<'_>, arrived: Arrived<'_>) {
        let Value::Fields(fields) = arrived.value else { return };
        // Any integer is a count: only that it is another matters.
        let count = fields.first().map_or(0, |count| count.to_le_bytes()[0]);
        // In the same tick as the place that it belongs to, and before it, in the order of their names; or before, where places
        // go out every few ticks.
        if entity.get::<Self>().is_none_or(|jumps| jumps.count != count) {
            entity.insert(Self { count, heard: true });
        }
    }
}
