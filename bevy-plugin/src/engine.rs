//! Every name of Bevy that this crate uses, in one place: where a new Bevy moves or renames something, it is mended here.

pub(crate) use bevy_app::{App, AppExit, First, FixedLast, Last, Plugin, PreStartup, PreUpdate, TaskPoolPlugin};
pub(crate) use bevy_ecs::change_detection::{DetectChanges, DetectChangesMut, Ref, Tick as ChangeTick};
pub(crate) use bevy_ecs::component::{Component, ComponentId, ComponentMutability, Immutable, Mutable};
pub(crate) use bevy_ecs::entity::{Entity, EntityHashMap, EntityMapper};
pub(crate) use bevy_ecs::hierarchy::{ChildOf, Children};
pub(crate) use bevy_ecs::lifecycle::{HookContext, Remove};
pub(crate) use bevy_ecs::message::{Message, MessageReader, MessageWriter};
pub(crate) use bevy_ecs::observer::On;
pub(crate) use bevy_ecs::query::{Added, Changed, Has, Or, QueryState, With, Without};
pub(crate) use bevy_ecs::resource::Resource;
pub(crate) use bevy_ecs::schedule::common_conditions::{on_message, resource_exists};
pub(crate) use bevy_ecs::schedule::{IntoScheduleConfigs, SystemSet};
pub(crate) use bevy_ecs::system::{Commands, EntityCommands, Local, Query, Res, ResMut, SystemChangeTick};
pub(crate) use bevy_ecs::world::{DeferredWorld, EntityRef, EntityWorldMut, World};
pub(crate) use bevy_time::{TimePlugin, TimeSystems};
pub(crate) use bevy_transform::components::Transform;
