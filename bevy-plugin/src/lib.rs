//! # Peerflock for Bevy: the players are the network
//!
//! Multiplayer without a server: every peer owns some entities, changes only those, and sees everybody's. There is one role,
//! one program, nothing to host, and nobody whose leaving ends the game.
//!
//! ```no_run
//! use bevy::prelude::*;
//! use bevy_peerflock::prelude::*;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Component, Serialize, Deserialize)]
//! struct Health(u32);
//! #[derive(Serialize, Deserialize)]
//! struct Shout(String);
//!
//! fn main() {
//!     App::new()
//!         .add_plugins((DefaultPlugins, PeerflockPlugin::new(PeerMesh::named("my-game").password("hunter2"))))
//!         .replicate::<Transform>()
//!         .replicate::<Health>()
//!         .add_mesh_message::<Shout>()
//!         .add_systems(Startup, spawn_me)
//!         .add_systems(FixedUpdate, move_mine)
//!         .run();
//! }
//!
//! fn spawn_me(mut commands: Commands) {
//!     commands.spawn((Replicated, Transform::default(), Health(100)));
//! }
//!
//! fn move_mine(mut mine: Query<&mut Transform, With<Mine>>) {
//!     mine.iter_mut().for_each(|mut transform| transform.translation.x += 0.1);
//! }
//! ```
//!
//! Start it twice, on one machine or on two of one network: the two find each other, and each sees the other's entity.
//! There are six things to know.
//!
//! # 1. The plugin
//! [`PeerflockPlugin::new`] takes a [`PeerMesh`](peerflock::PeerMesh) builder: a name, a password, and whatever else
//! [it can be told](peerflock::PeerMeshBuilder). The mesh starts in the background; [`MeshEvent::Ready`] says that it stands,
//! [`MeshEvent::Failed`] why not. From then on the resource [`MeshHandle`] is there: who is here, what time it is, an
//! invitation for others. A game that learns only later which mesh to join takes [`PeerflockPlugin::manual`] and
//! [`start_mesh`](MeshCommandsExt::start_mesh).
//!
//! # 2. `replicate`
//! [`App::replicate::<T>()`](ReplicateAppExt::replicate) shares a component that serde can write. All peers must share the same
//! components, or they are no members of the same mesh; a peer of another version is told so.
//!
//! A component is sent when Bevy's change detection says that it changed, at the end of the fixed tick (in `FixedLast`). What
//! is lost on the way is superseded by the next tick, so values skip but never queue up. `Transform` travels in steps of 1/256
//! unit, as differences; other components that change often derive [`Quantized`], which says how precise each field has to be.
//! [`replicate_with`](ReplicateAppExt::replicate_with) sends one every few ticks only, or once;
//! [`replicate_resource`](ReplicateAppExt::replicate_resource) shares a resource. Entities inside a component, in fields
//! marked `#[entities]`, and parents ([`ChildOf`](bevy_ecs::hierarchy::ChildOf)) mean the same entity everywhere. One that is
//! not here yet has an empty entity kept for it; one that is not shared arrives as `Entity::PLACEHOLDER`.
//!
//! # 3. `Replicated`
//! What is spawned with [`Replicated`] appears on every peer, late joiners included, as an entity with the same shared components.
//! Sprites, sounds and the like are each peer's own: add them in a system on `Added<Replicated>`. Despawn it, and it vanishes
//! everywhere. When its owner leaves it vanishes too, unless it was spawned [`Adoptable`]: then one of those who stay takes it over.
//! Spawned with an [`OwnershipPolicy`], it can be asked for, or seized; see [`OwnershipCommandsExt`].
//!
//! # 4. The owner
//! Every shared entity has an [`Owner`], and only the owner's changes count. Our own ones carry [`Mine`]:
//!
//! ```
//! # use bevy_ecs::prelude::*;
//! # use bevy_transform::components::Transform;
//! # use bevy_peerflock::prelude::*;
//! fn move_birds(mut birds: Query<&mut Transform, (With<Replicated>, With<Mine>)>) {
//!     for mut bird in &mut birds {
//!         bird.translation.x += 1.0;
//!     }
//! }
//!
//! fn hand_over(mut commands: Commands, birds: Query<Entity, With<Mine>>, peers: Res<Peers>) {
//!     let Some((somebody, _)) = peers.iter().next() else { return };
//!     for bird in &birds {
//!         commands.entity(bird).give_to(somebody);
//!     }
//! }
//! # bevy_ecs::system::assert_is_system(move_birds);
//! # bevy_ecs::system::assert_is_system(hand_over);
//! ```
//!
//! [`give_to`](OwnershipCommandsExt::give_to) passes an entity on. The new owner goes on from what the mesh last said of it.
//! What a game does to an entity that is *not* its own is local, and lasts until the mesh next says something about it: a
//! changed component is overwritten, a despawned entity comes back.
//!
//! # 5. Messages
//! What happens once is a message: [`add_mesh_message::<M>()`](MeshMessageAppExt::add_mesh_message), then write [`ToMesh`] and
//! read [`FromMesh`] like any other Bevy message. They arrive reliably, once, in their sender's order.
//!
//! ```
//! # use bevy_ecs::prelude::*;
//! # use bevy_peerflock::prelude::*;
//! # #[derive(serde::Serialize, serde::Deserialize)]
//! # struct Shout(String);
//! fn answer(mut heard: MessageReader<FromMesh<Shout>>, mut shouts: MessageWriter<ToMesh<Shout>>) {
//!     for shout in heard.read().filter(|shout| shout.message.0 == "who is there?") {
//!         shouts.write(ToMesh::to(shout.from, Shout("me".into())));
//!     }
//! }
//! # bevy_ecs::system::assert_is_system(answer);
//! ```
//!
//! # 6. Peer events
//! [`PeerEvent`] tells who joins and who leaves, [`MeshEvent`] what happens to the mesh as a whole, failures included. Nothing
//! fails in silence: what could not be sent, and why, is an event.
//!
//! # When what happens
//! | schedule | set | what |
//! | --- | --- | --- |
//! | `First` | [`PeerflockSystems::Receive`] | what the others did is applied; messages and events are written |
//! | `PreUpdate` | [`PeerflockSystems::Interpolate`] | remote transforms move to where they are to be shown |
//! | `FixedLast` | [`PeerflockSystems::Send`] | what changed on our own entities goes out |
//! | `Last` | [`PeerflockSystems::SendMessages`] | messages written in this frame go out; at `AppExit`, goodbye |
//!
//! All components of an entity are there when its first frame's systems run; observers see them come one after the other.
//!
//! # Smooth movement
//! Remote transforms are shown [interpolated](Interpolation), one jitter buffer back: as late as each peer's values need, and
//! never beyond the newest, unless [the game wants that](Interpolation::extrapolation); along curves, by velocities that are
//! estimated or [shared](InterpolationAppExt::interpolate_with). A jump is shown as one where its owner [says
//! so](TeleportCommandsExt::teleport), or where it is long. [`NoInterpolation`] on an entity turns all that off. `Transform` on a
//! remote entity is therefore where the entity is *shown*; when the entity becomes ours, it jumps to where it was last said to
//! be.
//!
//! # What it does not do
//! - No prediction or rollback, no authority over others: each peer is believed about what it owns.
//! - No compression of plain components beyond their encoding: keep what changes often small, or [`Quantized`].
//! - Of all components, only `Transform` is interpolated.
//! - Bevy's states are not shared: share a resource, and follow it.
//!
//! # Testing a game
//! [`test_app`] puts several apps of one mesh into one process.

// The derive names this crate by its name, here as in a game.
extern crate self as bevy_peerflock;

mod engine;
mod entities;
mod interpolate;
mod messages;
mod ownership;
mod plugin;
mod presence;
mod priority;
mod receive;
mod replicate;
mod resources;
mod send;
pub mod test_app;

pub use bevy_peerflock_derive::Quantized;
pub use entities::MeshEntities;
pub use interpolate::{Interpolation, InterpolationAppExt, InterpolationDelay, NoInterpolation, TeleportCommandsExt};
pub use messages::{FromMesh, MeshMessageAppExt, MessageError, ToMesh};
pub use ownership::{
    Adoptable, MeshEntity, Mine, Owner, OwnershipChanged, OwnershipCommandsExt, OwnershipPolicy, OwnershipRefused,
    OwnershipRequested, Replicated,
};
/// The SDK below: the mesh itself, without Bevy.
pub use peerflock;
pub use peerflock::Group;
pub use plugin::{MeshCommandsExt, MeshHandle, PeerflockPlugin, PeerflockSystems};
pub use presence::{MeshEvent, PeerEvent, Peers};
pub use priority::{PriorityAppExt, SendPriority, Viewpoint};
pub use replicate::precision;
pub use replicate::{
    COMPONENT_BYTES_MAX, EncodeError, Overwrite, Proposed, Quantized, ReplicateAppExt, Replication, RuleBroken, SCALE_STEP,
    TRANSLATION_STEP, TransformPrecision, ValidateAppExt, Verdict,
};
pub use resources::{SharedResource, owns_resource};

/// What a game uses every day. No name in here is one of `bevy::prelude`'s.
pub mod prelude {
    pub use peerflock::{EntityId, Farewell, PeerId, PeerMesh, Refusal};

    pub use crate::{
        Adoptable, FromMesh, Interpolation, InterpolationAppExt, MeshCommandsExt, MeshEntities, MeshEntity, MeshEvent,
        MeshHandle, MeshMessageAppExt, Mine, NoInterpolation, Owner, OwnershipChanged, OwnershipCommandsExt, OwnershipPolicy,
        OwnershipRefused, OwnershipRequested, PeerEvent, PeerflockPlugin, PeerflockSystems, Peers, PriorityAppExt, Proposed,
        Quantized, ReplicateAppExt, Replicated, Replication, RuleBroken, SendPriority, SharedResource, TeleportCommandsExt,
        ToMesh, TransformPrecision, ValidateAppExt, Verdict, Viewpoint, owns_resource,
    };
}

/// The README and the book: what they show must compile.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../../README.md")]
    struct Readme;
    #[doc = include_str!("../../docs/quickstart.md")]
    struct Quickstart;
    #[doc = include_str!("../../docs/internet.md")]
    struct PlayingOverTheInternet;
}
