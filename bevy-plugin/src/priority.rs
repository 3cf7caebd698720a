//! What others should see soon, where a line is too thin for all: the game says it, or the distance to the other players does.

use crate::engine::{
    Added, App, Changed, Component, Entity, EntityHashMap, FixedLast, IntoScheduleConfigs, Local, Or, Query, Res, ResMut,
    Resource, Transform, With, Without,
};
use crate::ownership::{MeshEntity, Mine};
use crate::send::{Outbox, Steps};

/// How much it matters that others see an entity of ours soon, beside the rest: what has ten times as much is told ten times as often
/// on a line that cannot take all. 100 is what all have; where there is room for everything it changes nothing.
///
/// ```
/// # use bevy_ecs::prelude::*;
/// # use bevy_peerflock::prelude::*;
/// fn spawn(mut commands: Commands) {
///     commands.spawn((Replicated, SendPriority(1_000)));
/// }
/// # bevy_ecs::system::assert_is_system(spawn);
/// ```
#[derive(Clone, Copy, Component, Debug, Eq, PartialEq)]
pub struct SendPriority(pub u16);

impl Default for SendPriority {
    fn default() -> Self {
        Self(100)
    }
}

/// Put on a player's camera or avatar, which has to be [replicated](crate::Replicated) with its `Transform` and this component: from there
/// the player sees the world. See [`PriorityAppExt::prioritize_by_distance`].
#[derive(Clone, Copy, Component, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Viewpoint;

/// Lets the distance decide.
pub trait PriorityAppExt {
    /// What is within `near` units of another player's [`Viewpoint`] has a [`SendPriority`] of 2,000; beyond, it falls with the distance,
    /// to 100. Entities with a `SendPriority` of their own keep it.
    fn prioritize_by_distance(&mut self, near: f32) -> &mut Self;
}

impl PriorityAppExt for App {
    fn prioritize_by_distance(&mut self, near: f32) -> &mut Self {
        crate::ReplicateAppExt::replicate::<Viewpoint>(self);
        self.insert_resource(Near(near.max(f32::MIN_POSITIVE))).add_systems(FixedLast, by_distance.in_set(Steps::Collect))
    }
}

const NEAREST: f32 = 2_000.0;
const FARTHEST: f32 = 100.0;
/// The distances are looked at every so many ticks.
const EVERY: u32 = 10;

#[derive(Resource)]
struct Near(f32);

type OfOurs = (With<Mine>, Or<(Changed<SendPriority>, Added<Mine>, Added<MeshEntity>)>);

/// Says which of our entities the game gave another priority.
pub(crate) fn by_hand(changed: Query<'_, '_, (&MeshEntity, &SendPriority), OfOurs>, mut outbox: ResMut<'_, Outbox>) {
    for (entity, priority) in &changed {
        outbox.weigh(entity.0, priority.0);
    }
}

fn by_distance(
    near: Res<'_, Near>,
    eyes: Query<'_, '_, &Transform, (With<Viewpoint>, Without<Mine>)>,
    ours: Query<'_, '_, (Entity, &MeshEntity, &Transform), (With<Mine>, Without<SendPriority>)>,
    mut said: Local<'_, EntityHashMap<u16>>,
    mut ticks: Local<'_, u32>,
    mut outbox: ResMut<'_, Outbox>,
) {
    *ticks = ticks.wrapping_add(1);
    if !ticks.is_multiple_of(EVERY) {
        return;
    }
    said.retain(|entity, _| ours.contains(*entity));
    for (entity, id, place) in &ours {
        let nearest = eyes.iter().map(|eye| eye.translation.distance_squared(place.translation)).fold(f32::INFINITY, f32::min);
        let weight = weight(nearest.sqrt(), near.0);
        let before = said.get(&entity).copied().unwrap_or(FARTHEST as u16);
        // What hardly changed is not worth a word, but within what all have.
        if weight.abs_diff(before) > before / 4 {
            said.insert(entity, weight);
            outbox.weigh(id.0, weight);
        }
    }
}

fn weight(distance: f32, near: f32) -> u16 {
    (NEAREST * near / distance.max(near)).clamp(FARTHEST, NEAREST) as u16
}

#[cfg(test)]
mod tests {
    use peerflock::{Boot, Change, EntityId, PeerId};

    use super::*;
    use crate::engine::World;

    fn said(world: &mut World) -> Vec<(u32, u16)> {
        let weights = world.resource_mut::<Outbox>().take_for_test().into_iter().map(|change| match change {
            Change::Weigh { entity, weight } => (entity.counter, weight),
            other => panic!("{other:?}"),
        });
        weights.collect()
    }

    fn id(counter: u32) -> MeshEntity {
        MeshEntity(EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter })
    }

    #[test]
    fn what_is_near_another_player_weighs_more_and_news_is_said_once() {
        assert_eq!(
            [0.0, 10.0, 20.0, 100.0, 1_000.0, f32::INFINITY].map(|far| weight(far, 10.0)),
            [2_000, 2_000, 1_000, 200, 100, 100]
        );
        let mut app = App::new();
        app.init_resource::<Outbox>().insert_resource(Near(10.0)).add_systems(FixedLast, (by_hand, by_distance));
        let world = app.world_mut();
        world.spawn((Viewpoint, Transform::from_xyz(0.0, 0.0, 0.0)));
        world.spawn((id(1), Mine::new(), Transform::from_xyz(5.0, 0.0, 0.0)));
        let far = world.spawn((id(2), Mine::new(), Transform::from_xyz(5_000.0, 0.0, 0.0))).id();
        world.spawn((id(3), Mine::new(), Transform::default(), SendPriority(7)));
        let ticks = |world: &mut World| (0..EVERY).for_each(|_| world.run_schedule(FixedLast));
        ticks(world);
        assert_eq!(said(world), [(3, 7), (1, 2_000)]);
        ticks(world);
        assert_eq!(said(world), [], "nothing changed");
        world.entity_mut(far).insert(Transform::from_xyz(0.0, 20.0, 0.0));
        ticks(world);
        assert_eq!(said(world), [(2, 1_000)]);
    }
}
