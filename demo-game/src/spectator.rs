//! A spectator's eye: over the whole sky, or with one flock after the other.

use bevy::input_focus::InputFocus;
use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::players::Players;

/// How much nearer a flock is than the whole sky.
const NEAR: f32 = 0.5;
/// How fast the eye moves: what is left of the way after a second.
const LAG: f32 = 0.02;

/// Whom the eye follows; nobody: it sees the whole sky.
#[derive(Default, Resource)]
struct Follows(Option<PeerId>);

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Follows>().add_systems(Update, (choose, follow).chain());
}

fn choose(keys: Res<ButtonInput<KeyCode>>, focus: Res<InputFocus>, players: Res<Players>, mut follows: ResMut<Follows>) {
    if focus.get().is_none() && keys.just_pressed(KeyCode::Tab) {
        follows.0 = next(&players, follows.0);
    }
}

/// The flock after this one, largest first; after the last one, nobody.
fn next(players: &Players, now: Option<PeerId>) -> Option<PeerId> {
    let flocks: Vec<PeerId> = players.ranking().iter().filter(|player| player.birds > 0).map(|player| player.peer).collect();
    let index = now.and_then(|now| flocks.iter().position(|peer| *peer == now)).map_or(0, |index| index + 1);
    flocks.get(index).copied()
}

fn follow(
    time: Res<Time>,
    follows: Res<Follows>,
    players: Res<Players>,
    camera: Single<(&mut Transform, &mut Projection), With<Camera2d>>,
) {
    let (mut eye, mut projection) = camera.into_inner();
    // Who has left, or leads nothing any more, is not followed.
    let flock = follows.0.and_then(|peer| players.get(peer)).and_then(|player| player.middle.or(player.leader));
    let (place, scale) = flock.map_or((Vec2::ZERO, 1.0), |middle| (middle, NEAR));
    let share = 1.0 - LAG.powf(time.delta_secs());
    let moved = eye.translation.truncate().lerp(place, share);
    eye.translation = moved.extend(eye.translation.z);
    if let Projection::Orthographic(projection) = &mut *projection {
        projection.scale += (scale - projection.scale) * share;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eye_goes_from_flock_to_flock_and_back_to_all() {
        let players = Players::with_birds(&[4, 9, 0]);
        let peer = |n: u8| Some(PeerId([n; 32]));
        assert_eq!(next(&players, None), peer(1));
        assert_eq!(next(&players, peer(1)), peer(0));
        assert_eq!(next(&players, peer(0)), None, "who leads no bird is not looked at");
        assert_eq!(next(&players, peer(7)), peer(1), "after one who has left it begins anew");
    }
}
