//! The game itself, without a face: what a window, a terminal and a bot have in common.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::round::Round;
use crate::settings::Settings;
use crate::world::{Bird, ChatLine, Leader, Pulse};
use crate::{chat, flock, players, trade};

/// Plays the game by these settings.
pub(crate) struct GamePlugin(pub(crate) Settings);

impl Plugin for GamePlugin {
    fn build(&self, app: &mut App) {
        app.add_plugins(PeerflockPlugin::new(self.0.builder()))
            .replicate::<Transform>()
            .replicate::<Bird>()
            .replicate::<Leader>()
            .replicate_quantized::<Pulse>()
            .add_mesh_message::<ChatLine>()
            .insert_resource(Time::<Fixed>::from_hz(self.0.tick_rate))
            .insert_resource(Round::first(self.0.round_seconds))
            .insert_resource(self.0.clone())
            .init_resource::<players::Players>()
            .init_resource::<Quiet>()
            .init_resource::<Steer>();
        app.configure_sets(FixedUpdate, Playing.run_if(resource_exists::<MeshHandle>).run_if(|quiet: Res<Quiet>| !quiet.0))
            .add_systems(
                PreUpdate,
                (tell_time, players::count).run_if(resource_exists::<MeshHandle>).after(PeerflockSystems::Interpolate),
            )
            .add_plugins((flock::plugin, trade::plugin, chat::plugin));
    }
}

/// In `FixedUpdate`: what moves and changes the world, while it may be changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, SystemSet)]
pub(crate) struct Playing;

/// Whether everything stands still, so that all peers can be compared.
#[derive(Debug, Default, Resource)]
pub(crate) struct Quiet(pub(crate) bool);

/// Where our leader is to fly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Resource)]
pub(crate) enum Steer {
    /// As before.
    #[default]
    Straight,
    /// In a direction.
    Along(Vec2),
    /// To a place in the world.
    To(Vec2),
}

fn tell_time(mesh: Res<MeshHandle>, settings: Res<Settings>, mut round: ResMut<Round>) {
    *round = Round::at(mesh.now(), settings.round_seconds);
}
