//! Smooth movement: what others move is shown a moment later, between two known places, instead of where it was last heard of.
//!
//! Values arrive at uneven intervals, and some do not arrive. So a remote `Transform` is shown as it was one *jitter buffer* ago,
//! on its owner's own clock: late enough that the next value is there in time, no later. How late that must be is learned from
//! how late values come, peer by peer; an entity whose values come more seldom than its owner's ticks is shown so much later.
//! Between values the way is curved, as the values around them say, or the velocity that the game shares. Nothing is shown beyond
//! the newest value, unless the game wants it so, and then not for long.

mod curve;
mod playback;
mod samples;
mod teleport;

use std::time::Duration;

use glam::Vec3;
use peerflock::MeshTime;

use self::samples::Showing;
use crate::engine::{
    App, Component, DetectChanges, DetectChangesMut, IntoScheduleConfigs, PreUpdate, Query, Ref, Res, ResMut, Resource, Transform,
};
use crate::ownership::Owner;
use crate::plugin::{MeshHandle, PeerflockSystems};

pub(crate) use playback::{Moment, Playbacks};
pub(crate) use samples::Samples;
pub(crate) use teleport::Jumps;
pub use teleport::TeleportCommandsExt;

/// How remote transforms are shown. Change it at any time.
#[derive(Clone, Debug, PartialEq, Resource)]
pub struct Interpolation {
    /// How far behind the newest news. Default: [adaptive](InterpolationDelay::Adaptive), 250 ms at most.
    pub delay: InterpolationDelay,
    /// Further than this, in units of the game, is no movement but a jump, and shown as one. Default 500.
    pub snap_distance: f32,
    /// How long an entity goes on as it moved when its next value is not there in time. Default zero: it waits.
    ///
    /// What stops looks the same as what is late, so that with this everything that stops goes a little too far first, and comes
    /// back within a quarter of a second. For what hardly ever stops: cars, planes, shots.
    pub extrapolation: Duration,
}

impl Default for Interpolation {
    fn default() -> Self {
        Self {
            delay: InterpolationDelay::Adaptive { max: Duration::from_millis(250) },
            snap_distance: 500.0,
            extrapolation: Duration::ZERO,
        }
    }
}

/// How far behind the newest news remote transforms are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterpolationDelay {
    /// As far as each peer's values need to be there in time.
    Adaptive {
        /// But no further than this; what comes even later is shown when it comes.
        max: Duration,
    },
    /// Always so far.
    Fixed(Duration),
}

/// On an entity of another peer: shows its `Transform` as it arrives, not interpolated.
///
/// For what the game smooths itself, or what jumps by nature.
#[derive(Clone, Copy, Component, Debug, Default, PartialEq, Eq)]
pub struct NoInterpolation;

/// Tells the plugin what it cannot see of how things move.
pub trait InterpolationAppExt {
    /// Remote `Transform`s of entities with a `V` are shown moving as it says: `velocity` gives units per second. `V` is shared,
    /// too, or everybody has it anyway.
    ///
    /// Without it velocities are estimated from where the entity was, which is good for all that does not bounce. Of several for
    /// one entity, one counts.
    ///
    /// ```
    /// # use bevy_app::App;
    /// # use bevy_ecs::prelude::*;
    /// # use bevy_peerflock::prelude::*;
    /// # use bevy_transform::components::Transform;
    /// # use glam::Vec3;
    /// #[derive(Component, Quantized)]
    /// struct Velocity(#[quantized(step = 0.05, range = -100.0..=100.0)] Vec3);
    ///
    /// # let mut app = App::new();
    /// app.replicate::<Transform>()
    ///     .replicate_quantized::<Velocity>()
    ///     .interpolate_with(|velocity: &Velocity| velocity.0);
    /// ```
    fn interpolate_with<V: Component>(&mut self, velocity: fn(&V) -> Vec3) -> &mut Self;
}

impl InterpolationAppExt for App {
    fn interpolate_with<V: Component>(&mut self, velocity: fn(&V) -> Vec3) -> &mut Self {
        let know = move |mut remote: Query<'_, '_, (Ref<'_, V>, &mut Samples)>| {
            for (of, mut samples) in &mut remote {
                samples.know_velocity(of.is_changed(), || velocity(&of));
            }
        };
        self.add_systems(PreUpdate, know.before(interpolate).in_set(PeerflockSystems::Interpolate))
    }
}

/// Moves every remote transform to where it is to be shown in this frame.
pub(crate) fn interpolate(
    mesh: Res<'_, MeshHandle>,
    settings: Res<'_, Interpolation>,
    mut playbacks: ResMut<'_, Playbacks>,
    mut remote: Query<'_, '_, (&Owner, &mut Samples, &mut Transform)>,
) {
    let now = seconds(mesh.now());
    playbacks.advance(now, settings.delay);
    let delay_max = match settings.delay {
        InterpolationDelay::Adaptive { max } => max.as_secs_f64(),
        // As late as the game says, and no later.
        InterpolationDelay::Fixed(_) => 0.0,
    };
    let mut shown_now = None;
    for (owner, mut samples, mut transform) in &mut remote {
        if samples.is_settled() {
            continue;
        }
        // Entities of one owner mostly follow one another.
        let moment = match shown_now {
            Some((peer, moment)) if peer == owner.0 => moment,
            _ => playbacks.shown_now(owner.0, now),
        };
        shown_now = Some((owner.0, moment));
        // Unchanged where it is shown standing: its children need not move either.
        let showing = Showing {
            snap_distance: settings.snap_distance,
            beyond: settings.extrapolation.as_secs_f64(),
            extra_max: (delay_max - (now - moment)).max(0.0),
        };
        transform.set_if_neq(samples.shown_at(moment, showing));
    }
}

/// Mesh time in seconds: microseconds for as long as a mesh lives.
pub(crate) fn seconds(at: MeshTime) -> f64 {
    at.0 as f64 / 1e6
}
