//! Smooth movement: what others move is shown a moment later, between two known places, instead of where it was last heard of.
//!
//! Values arrive at uneven intervals, and some do not arrive. So a remote `Transform` is shown as it was one *jitter buffer*
//! ago, on its owner's own clock: late enough that the next value is there in time, no later. How late that must be is learned
//! from how late values come, peer by peer. Nothing is ever shown beyond the newest value.

mod playback;
mod samples;

use std::time::Duration;

use peerflock::MeshTime;

use crate::engine::{Component, DetectChangesMut, Query, Res, ResMut, Resource, Transform};
use crate::ownership::Owner;
use crate::plugin::MeshHandle;

pub(crate) use playback::Playbacks;
pub(crate) use samples::Samples;

/// How remote transforms are shown. Change it at any time.
#[derive(Clone, Debug, PartialEq, Resource)]
pub struct Interpolation {
    /// How far behind the newest news. Default: [adaptive](InterpolationDelay::Adaptive), 250 ms at most.
    pub delay: InterpolationDelay,
    /// Further than this, in units of the game, is no movement but a jump, and shown as one. Default 500.
    pub snap_distance: f32,
}

impl Default for Interpolation {
    fn default() -> Self {
        Self { delay: InterpolationDelay::Adaptive { max: Duration::from_millis(250) }, snap_distance: 500.0 }
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

/// Moves every remote transform to where it is to be shown in this frame.
pub(crate) fn interpolate(
    mesh: Res<'_, MeshHandle>,
    settings: Res<'_, Interpolation>,
    mut playbacks: ResMut<'_, Playbacks>,
    mut remote: Query<'_, '_, (&Owner, &mut Samples, &mut Transform)>,
) {
    let now = seconds(mesh.now());
    playbacks.advance(now, settings.delay);
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
        transform.set_if_neq(samples.shown_at(moment, settings.snap_distance));
    }
}

/// Mesh time in seconds: microseconds for as long as a mesh lives.
pub(crate) fn seconds(at: MeshTime) -> f64 {
    at.0 as f64 / 1e6
}
