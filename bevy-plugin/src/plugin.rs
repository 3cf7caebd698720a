//! The plugin: starts the mesh, runs the plugin's systems in their places, says goodbye at the end.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use peerflock::{PeerMesh, PeerMeshBuilder, StartingMesh};

use crate::engine::{
    App, AppExit, Commands, First, FixedLast, IntoScheduleConfigs, Last, Plugin, PreStartup, PreUpdate, Resource, SystemSet,
    TimePlugin, TimeSystems, World, on_message, resource_exists,
};
use crate::entities::{MeshEntities, despawn};
use crate::interpolate::{Interpolation, Jumps, Playbacks, interpolate};
use crate::ownership::{Giving, MeshEntity, Mine, Owner, OwnershipChanged, OwnershipRefused, OwnershipRequested};
use crate::presence::{MeshEvent, PeerEvent, Peers};
use crate::priority::by_hand;
use crate::replicate::{Kinds, Parent, Sending, register};
use crate::send::{self, Outbox, Steps};
use crate::{messages, receive};

/// How long the program's end waits for the goodbye to be out.
const GOODBYE: Duration = Duration::from_millis(500);

/// Puts the app into a mesh.
///
/// Needs the time plugin that `DefaultPlugins` and `MinimalPlugins` bring.
#[derive(Clone, Debug)]
pub struct PeerflockPlugin {
    builder: Option<PeerMeshBuilder>,
}

impl PeerflockPlugin {
    /// Starts this mesh with the app, in the background. [`MeshEvent::Ready`] or [`MeshEvent::Failed`] tells how it went.
    pub fn new(builder: impl Into<PeerMeshBuilder>) -> Self {
        Self { builder: Some(builder.into()) }
    }

    /// Starts none: the game does when it knows which, with [`start_mesh`](MeshCommandsExt::start_mesh).
    pub const fn manual() -> Self {
        Self { builder: None }
    }
}

impl Plugin for PeerflockPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<MeshEntities>()
            .init_resource::<Peers>()
            .init_resource::<Outbox>()
            .init_resource::<Playbacks>()
            .init_resource::<Interpolation>()
            .init_resource::<messages::Topics>()
            .insert_resource(Planned(self.builder.clone()))
            .add_message::<PeerEvent>()
            .add_message::<MeshEvent>()
            .add_message::<OwnershipRequested>()
            .add_message::<OwnershipRefused>()
            .add_message::<OwnershipChanged>();
        register::<Parent>(app, Sending::OnChange);
        register::<Jumps>(app, Sending::OnChange);

        let here = resource_exists::<MeshHandle>;
        app.configure_sets(First, PeerflockSystems::Receive.after(TimeSystems))
            .configure_sets(PreUpdate, PeerflockSystems::Interpolate.run_if(here))
            .configure_sets(FixedLast, PeerflockSystems::Send.run_if(here))
            .configure_sets(
                FixedLast,
                (Steps::Claim, Steps::Announce, Steps::Fill, Steps::Collect, Steps::Commit)
                    .chain()
                    .in_set(PeerflockSystems::Send),
            )
            .configure_sets(Last, PeerflockSystems::SendMessages);
        app.add_systems(PreStartup, start_planned)
            .add_systems(First, (look_for_start, receive::receive.run_if(here)).chain().in_set(PeerflockSystems::Receive))
            .add_systems(PreUpdate, interpolate.in_set(PeerflockSystems::Interpolate))
            .add_systems(
                FixedLast,
                (send::announce.in_set(Steps::Announce), by_hand.in_set(Steps::Collect), send::commit.in_set(Steps::Commit)),
            )
            .add_systems(Last, say_goodbye.run_if(on_message::<AppExit>).after(PeerflockSystems::SendMessages));
        app.add_observer(send::note_despawn);
    }

    fn finish(&self, app: &mut App) {
        if !app.is_plugin_added::<TimePlugin>() {
            tracing::error!(
                "PeerflockPlugin sends at the end of fixed ticks, and without TimePlugin there are none: add it, or MinimalPlugins"
            );
        }
    }
}

/// When the plugin does what; order a game's systems by these.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, SystemSet)]
pub enum PeerflockSystems {
    /// In `First`: what the others did is applied, messages and peer events are written.
    Receive,
    /// In `PreUpdate`: remote transforms are moved to where they are to be shown.
    Interpolate,
    /// In `FixedLast`: what the game changed on its own entities goes out.
    Send,
    /// In `Last`: the messages written in this frame go out.
    SendMessages,
}

/// The mesh, once it stands: a [`PeerMesh`], by [`Deref`].
#[derive(Clone, Debug, Resource)]
pub struct MeshHandle(PeerMesh);

impl Deref for MeshHandle {
    type Target = PeerMesh;

    fn deref(&self) -> &PeerMesh {
        &self.0
    }
}

/// Starts and leaves meshes while the game runs: from a lobby into a game, and back.
pub trait MeshCommandsExt {
    /// Starts a mesh in the background, in place of the one there is. [`MeshEvent::Ready`] or [`MeshEvent::Failed`] tells how it
    /// went.
    fn start_mesh(&mut self, builder: impl Into<PeerMeshBuilder>);

    /// Leaves the mesh, or gives up starting it: the others' entities vanish here, ours stay and are announced to the next.
    fn leave_mesh(&mut self);
}

impl MeshCommandsExt for Commands<'_, '_> {
    fn start_mesh(&mut self, builder: impl Into<PeerMeshBuilder>) {
        let builder = builder.into();
        self.queue(move |world: &mut World| start(world, builder));
    }

    fn leave_mesh(&mut self) {
        self.queue(leave);
    }
}

/// The mesh to be started with the app.
#[derive(Resource)]
struct Planned(Option<PeerMeshBuilder>);

/// The mesh that is being started.
#[derive(Resource)]
struct Starting(StartingMesh);

/// Leaves the mesh in order when the app ends, however it ends.
#[derive(Resource)]
struct Goodbye(Option<PeerMesh>);

impl Drop for Goodbye {
    fn drop(&mut self) {
        if let Some(mesh) = self.0.take() {
            mesh.leave_now(GOODBYE);
        }
    }
}

fn start_planned(world: &mut World) {
    if let Some(builder) = world.resource_mut::<Planned>().0.take() {
        start(world, builder);
    }
}

fn start(world: &mut World, mut builder: PeerMeshBuilder) {
    leave(world);
    world.resource_mut::<Kinds>().number(builder.registry_mut());
    world.insert_resource(Starting(builder.start_in_background()));
}

/// Looks whether the mesh stands.
fn look_for_start(world: &mut World) {
    let Some(outcome) = world.get_resource::<Starting>().and_then(|starting| starting.0.try_ready()) else { return };
    world.remove_resource::<Starting>();
    match outcome {
        Ok(mesh) => {
            world.insert_resource(Goodbye(Some(mesh.clone())));
            world.insert_resource(MeshHandle(mesh));
            world.write_message(MeshEvent::Ready);
        }
        Err(error) => {
            tracing::warn!("the mesh did not start: {error}");
            world.write_message(MeshEvent::Failed(Arc::new(error)));
        }
    }
}

/// Leaves the mesh, or gives up starting it, and clears up what was of it.
pub(crate) fn leave(world: &mut World) {
    world.remove_resource::<Starting>();
    let Some(MeshHandle(mesh)) = world.remove_resource::<MeshHandle>() else { return };
    if let Some(mut goodbye) = world.get_resource_mut::<Goodbye>() {
        goodbye.0 = None;
    }
    // In the background: the game goes on. Should the system refuse a thread, dropping the handles does the same.
    _ = std::thread::Builder::new().name("peerflock goodbye".into()).spawn(move || mesh.leave_now(GOODBYE));

    world.resource_mut::<Peers>().clear();
    world.resource_mut::<Playbacks>().clear();
    let known: Vec<_> = world.resource_mut::<MeshEntities>().take().collect();
    for known in known {
        if world.get::<Mine>(known.entity).is_none() {
            despawn(world, known.entity);
        } else if let Ok(mut ours) = world.get_entity_mut(known.entity) {
            ours.remove::<(MeshEntity, Owner, Giving)>();
        }
    }
    // Last, with what the clearing up left in it.
    world.resource_mut::<Outbox>().clear();
    world.write_message(MeshEvent::Left);
}

fn say_goodbye(world: &mut World) {
    world.remove_resource::<Goodbye>();
}
