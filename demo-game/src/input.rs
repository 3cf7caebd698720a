//! Hands on the starling: mouse, keys or fingers, whichever moved last.

use bevy::input_focus::InputFocus;
use bevy::prelude::*;

use crate::game::Steer;

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(PreUpdate, steer);
}

fn steer(
    keys: Res<ButtonInput<KeyCode>>,
    touches: Res<Touches>,
    focus: Res<InputFocus>,
    mut moved: MessageReader<CursorMoved>,
    camera: Query<(&Camera, &GlobalTransform)>,
    mut steer: ResMut<Steer>,
) {
    let Some((camera, eye)) = camera.iter().next() else { return };
    let place = |at: Vec2| camera.viewport_to_world_2d(eye, at).ok();
    let finger = touches.iter().next().map(|touch| touch.position());
    let cursor = moved.read().last().map(|moved| moved.position);
    if let Some(at) = finger.or(cursor).and_then(place) {
        *steer = Steer::To(at);
    }
    // While somebody types, letters are letters.
    if focus.get().is_some() {
        return;
    }
    let axis = |more: [KeyCode; 2], less: [KeyCode; 2]| {
        f32::from(u8::from(keys.any_pressed(more))) - f32::from(u8::from(keys.any_pressed(less)))
    };
    let direction = Vec2::new(
        axis([KeyCode::KeyD, KeyCode::ArrowRight], [KeyCode::KeyA, KeyCode::ArrowLeft]),
        axis([KeyCode::KeyW, KeyCode::ArrowUp], [KeyCode::KeyS, KeyCode::ArrowDown]),
    );
    if direction != Vec2::ZERO {
        *steer = Steer::Along(direction);
    } else if matches!(*steer, Steer::Along(_)) {
        *steer = Steer::Straight;
    }
}
