//! How and when a registered component is sent.

use std::any::TypeId;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transform::TransformPrecision;
use super::{Integers, Overwrite, Plain, Quantized, Smooth, register};
use crate::engine::{App, Component, Entity, EntityHashMap, Resource, Transform};
use crate::resources;

/// How a component is shared, and when it is sent: for [`replicate_with`](crate::ReplicateAppExt::replicate_with).
///
/// ```
/// # use bevy_app::App;
/// # use bevy_ecs::prelude::*;
/// # use bevy_peerflock::prelude::*;
/// # #[derive(Component, serde::Serialize, serde::Deserialize)]
/// # struct Score(u32);
/// # #[derive(Component, serde::Serialize, serde::Deserialize)]
/// # struct Costume(u8);
/// # #[derive(Component, Quantized)]
/// # struct Ammunition(u16);
/// # let mut app = App::new();
/// app.replicate_with(Replication::component::<Score>().every(30))
///     .replicate_with(Replication::component::<Costume>().once())
///     .replicate_with(Replication::quantized::<Ammunition>().every(6));
/// ```
///
/// Without another word a component is sent in each tick in which it changed. There is no way to send what did not change: state
/// that was lost on the way is in the next tick anyway, until everyone has it.
#[derive(Clone, Copy)]
#[must_use = "give it to `App::replicate_with`"]
pub struct Replication {
    register: fn(&mut App, Sending),
    sending: Sending,
}

impl Replication {
    /// Whole, as serde writes it; a `Transform` as [`replicate`](crate::ReplicateAppExt::replicate) shares it.
    pub const fn component<T>() -> Self
    where
        T: Component + Serialize + DeserializeOwned,
        T::Mutability: Overwrite<T>,
    {
        Self::new(|app, sending| {
            if TypeId::of::<T>() == TypeId::of::<Transform>() {
                register::<Smooth>(app, sending);
            } else {
                register::<Plain<T>>(app, sending);
            }
        })
    }

    /// As integers, as differences: see [`Quantized`].
    pub const fn quantized<T>() -> Self
    where
        T: Component + Quantized,
        T::Mutability: Overwrite<T>,
    {
        Self::new(register::<Integers<T>>)
    }

    /// The `Transform`, in steps that fit the game's world.
    pub const fn transform<P: TransformPrecision>() -> Self {
        Self::new(register::<Smooth<P>>)
    }

    /// A resource: see [`replicate_resource`](crate::ReplicateAppExt::replicate_resource).
    pub const fn resource<R: Resource + Serialize + DeserializeOwned>() -> Self {
        Self::new(resources::register::<R>)
    }

    /// At most once in so many ticks. The last value of several is always sent, at most so many ticks later.
    ///
    /// The entities of one peer take turns, so that ticks stay about as large as one another. 0 and 1 are each tick.
    pub const fn every(self, ticks: u32) -> Self {
        Self { sending: Sending::Every(if ticks == 0 { 1 } else { ticks }), ..self }
    }

    /// With the entity's spawn, or when it gets the component later, and no more: what is changed after that stays here, until
    /// the entity passes to another owner, who gets it as it is then.
    pub const fn once(self) -> Self {
        Self { sending: Sending::Once, ..self }
    }

    const fn new(register: fn(&mut App, Sending)) -> Self {
        Self { register, sending: Sending::OnChange }
    }

    pub(super) fn apply(self, app: &mut App) {
        (self.register)(app, self.sending);
    }
}

impl fmt::Debug for Replication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication").field("sending", &self.sending).finish_non_exhaustive()
    }
}

/// When a component is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sending {
    /// In each tick in which it changed.
    #[default]
    OnChange,
    /// At most once in so many ticks.
    Every(u32),
    /// When it is there, and no more.
    Once,
}

/// Which entities' values of one component have to wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    tick: u64,
    shut: EntityHashMap<Shut>,
    due: Vec<Entity>,
}

#[derive(Debug)]
struct Shut {
    until: u64,
    /// Something changed since.
    waiting: bool,
}

impl Gate {
    /// A new tick.
    pub(crate) fn tick(&mut self) {
        self.tick += 1;
    }

    /// Whether a value that changed goes out in this tick; if not, its turn comes. `added`: the component itself is new.
    pub(crate) fn lets_through(&mut self, sending: Sending, entity: Entity, added: bool) -> bool {
        let Sending::Every(_) = sending else { return sending == Sending::OnChange || added };
        if let Some(shut) = self.shut.get_mut(&entity).filter(|shut| shut.until > self.tick) {
            shut.waiting = true;
            return false;
        }
        self.note_sent(sending, entity);
        true
    }

    /// A value went out in this tick.
    pub(crate) fn note_sent(&mut self, sending: Sending, entity: Entity) {
        let Sending::Every(ticks) = sending else { return };
        let ticks = u64::from(ticks);
        // The first pause is longer by a part that differs from entity to entity: what was spawned together takes turns from then
        // on.
        let pause = if self.shut.contains_key(&entity) { ticks } else { ticks + u64::from(entity.index_u32()) % ticks };
        self.shut.insert(entity, Shut { until: self.tick + pause, waiting: false });
    }

    /// Those that waited and whose turn it is.
    pub(crate) fn due(&mut self, sending: Sending) -> impl Iterator<Item = Entity> {
        self.due.clear();
        let Sending::Every(ticks) = sending else { return self.due.drain(..) };
        self.shut.retain(|entity, shut| {
            if shut.until > self.tick {
                return true;
            }
            if shut.waiting {
                self.due.push(*entity);
                *shut = Shut { until: self.tick + u64::from(ticks), waiting: false };
                return true;
            }
            false
        });
        self.due.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity() -> Entity {
        Entity::from_raw_u32(5).unwrap()
    }

    /// The ticks, out of a hundred, in which something goes out that changes in the ticks of `changes`.
    fn sent(sending: Sending, changes: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut gate = Gate::default();
        let mut sent = Vec::new();
        for tick in 1..=100 {
            gate.tick();
            if changes(tick) && gate.lets_through(sending, entity(), tick == 1) {
                sent.push(tick);
            }
            sent.extend(gate.due(sending).map(|_| tick));
        }
        sent
    }

    #[test]
    fn what_changes_all_the_time_goes_out_every_so_many_ticks() {
        let ticks = sent(Sending::Every(7), |_| true);
        assert!(ticks.windows(2).all(|pair| pair[1] - pair[0] >= 7), "{ticks:?}");
        assert!(ticks.windows(2).skip(1).all(|pair| pair[1] - pair[0] == 7), "{ticks:?}");
    }

    #[test]
    fn the_last_value_goes_out_too() {
        let ticks = sent(Sending::Every(7), |tick| tick == 1 || (50..=53).contains(&tick));
        assert_eq!(ticks[..2], [1, 50]);
        assert!(ticks.len() == 3 && ticks[2] > 53 && ticks[2] <= 50 + 2 * 7, "{ticks:?}");
        assert_eq!(sent(Sending::Every(7), |tick| tick == 50), [50]);
    }

    #[test]
    fn on_change_is_on_change_and_once_is_once() {
        assert_eq!(sent(Sending::OnChange, |tick| tick % 10 == 0).len(), 10);
        assert_eq!(sent(Sending::Once, |_| true), [1]);
    }

    #[test]
    fn those_that_rest_take_no_memory() {
        let mut gate = Gate::default();
        gate.tick();
        assert!(gate.lets_through(Sending::Every(3), entity(), false));
        for _ in 0..10 {
            gate.tick();
            assert_eq!(gate.due(Sending::Every(3)).count(), 0);
        }
        assert!(gate.shut.is_empty());
    }
}
