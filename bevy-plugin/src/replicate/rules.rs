//! The game's rules for what others say of their things: a move that is too far is shortened or refused, by every receiver for itself.

use std::any::type_name;
use std::sync::Arc;
use std::time::Duration;

use peerflock::MeshTime;

use crate::engine::{App, Component, Entity, EntityWorldMut, Message, Resource};
use crate::ownership::Owner;

/// Sets rules for what arrives from others.
pub trait ValidateAppExt {
    /// Has `rule` look at every `T` that another peer says an entity of its own has, before it is shown. What the rule sees as `old` is what
    /// it let pass last; nothing of what we own is looked at.
    ///
    /// A peer owns what it says, and no rule here changes what others see: each receiver judges for itself, all by the same rule. What
    /// breaks it is told by [`RuleBroken`], and what to do about it is up to the game: a vote to remove that peer, say.
    ///
    /// ```
    /// # use bevy_app::App;
    /// # use bevy_ecs::prelude::*;
    /// # use bevy_peerflock::prelude::*;
    /// # #[derive(Clone, Component, serde::Serialize, serde::Deserialize)]
    /// # struct Place(f32);
    /// # let mut app = App::new();
    /// // Nobody is faster than ten meters a second.
    /// app.replicate::<Place>().validate::<Place>(|change| {
    ///     let Some(old) = change.old else { return Verdict::Accept };
    ///     let (way, reach) = (change.new.0 - old.0, 10.0 * change.elapsed.as_secs_f32());
    ///     if way.abs() <= reach { Verdict::Accept } else { Verdict::Clamp(Place(old.0 + way.clamp(-reach, reach))) }
    /// });
    /// ```
    fn validate<T: Component + Clone>(
        &mut self,
        rule: impl Fn(Proposed<'_, T>) -> Verdict<T> + Send + Sync + 'static,
    ) -> &mut Self;
}

/// A value that another peer says one of its entities has.
#[derive(Clone, Copy, Debug)]
pub struct Proposed<'a, T> {
    /// Which entity.
    pub entity: Entity,
    /// What the rule let pass last; None at first.
    pub old: Option<&'a T>,
    /// What is to be shown now.
    pub new: &'a T,
    /// How much time its owner says lies between the two. A lag, or a jump of its clock, is cut to a second: nobody saves up moves.
    pub elapsed: Duration,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<T> {
    /// Show it.
    Accept,
    /// Show this in its place.
    Clamp(T),
    /// Show what was there before.
    Reject,
}

/// A peer said something against a rule of [`validate`](ValidateAppExt::validate).
#[derive(Clone, Debug, Message)]
pub struct RuleBroken {
    /// Of which entity.
    pub entity: Entity,
    /// Whose it is.
    pub owner: Option<peerflock::PeerId>,
    /// Of which component, by its full path.
    pub component: &'static str,
    /// Whether nothing of it is shown; else something in its place is.
    pub rejected: bool,
}

/// Longest time between two values that counts.
const ELAPSED_MAX: Duration = Duration::from_secs(1);

/// The rule for one component.
#[derive(Resource)]
struct Rule<T: Component>(Check<T>);

type Check<T> = Arc<dyn Fn(&mut EntityWorldMut<'_>, T, MeshTime) -> Option<T> + Send + Sync>;

/// What the rule let pass last, and of when it was.
#[derive(Component)]
struct Passed<T: Component> {
    value: T,
    at: MeshTime,
}

impl ValidateAppExt for App {
    fn validate<T: Component + Clone>(
        &mut self,
        rule: impl Fn(Proposed<'_, T>) -> Verdict<T> + Send + Sync + 'static,
    ) -> &mut Self {
        let check = move |entity: &mut EntityWorldMut<'_>, new: T, at: MeshTime| judge(&rule, entity, new, at);
        self.add_message::<RuleBroken>().insert_resource(Rule::<T>(Arc::new(check)))
    }
}

/// What of a value that arrived is to be shown.
pub(super) fn judged<T: Component>(entity: &mut EntityWorldMut<'_>, new: T, at: Option<MeshTime>) -> Option<T> {
    let rule = entity.world().get_resource::<Rule<T>>().map(|rule| Arc::clone(&rule.0));
    match (rule, at) {
        (Some(rule), Some(at)) => rule(entity, new, at),
        // No rule, or it is ours.
        _ => Some(new),
    }
}

fn judge<T: Component + Clone>(
    rule: &impl Fn(Proposed<'_, T>) -> Verdict<T>,
    entity: &mut EntityWorldMut<'_>,
    new: T,
    at: MeshTime,
) -> Option<T> {
    let passed = entity.get::<Passed<T>>();
    let elapsed = passed.map(|passed| Duration::from_micros(at.0.saturating_sub(passed.at.0)).min(ELAPSED_MAX));
    let proposed = Proposed {
        entity: entity.id(),
        old: passed.map(|passed| &passed.value),
        new: &new,
        elapsed: elapsed.unwrap_or_default(),
    };
    let (value, rejected) = match rule(proposed) {
        Verdict::Accept => (Some(new), None),
        Verdict::Clamp(value) => (Some(value), Some(false)),
        Verdict::Reject => (None, Some(true)),
    };
    if let Some(rejected) = rejected {
        let broken = RuleBroken {
            entity: entity.id(),
            owner: entity.get::<Owner>().map(|owner| owner.0),
            component: type_name::<T>(),
            rejected,
        };
        entity.world_scope(|world| _ = world.write_message(broken));
    }
    if let Some(value) = &value {
        entity.insert(Passed { value: value.clone(), at });
    }
    value
}
