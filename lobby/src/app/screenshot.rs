//! A picture of the window, for documentation and tests: of what is really there when it is taken.

use std::path::PathBuf;
use std::time::Duration;

use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};

/// When to take the picture if nothing is said about how long to stay: what is around is found and measured by then.
const PATIENCE: Duration = Duration::from_secs(6);

#[derive(Resource)]
struct Plan {
    picture: Option<PathBuf>,
    at: Duration,
}

/// Takes a picture after `stay` and closes the window; without a picture, only closes it then.
pub(crate) fn plan(app: &mut App, picture: Option<PathBuf>, stay: Option<Duration>) {
    if picture.is_none() && stay.is_none() {
        return;
    }
    app.insert_resource(Plan { picture, at: stay.unwrap_or(PATIENCE) }).add_systems(Update, follow);
}

fn follow(mut plan: ResMut<Plan>, time: Res<Time<Real>>, mut commands: Commands, mut exit: MessageWriter<AppExit>) {
    if time.elapsed() < plan.at {
        return;
    }
    plan.at = Duration::MAX;
    match plan.picture.take() {
        Some(picture) => {
            commands
                .spawn(Screenshot::primary_window())
                .observe(save_to_disk(picture))
                .observe(|_: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| _ = exit.write(AppExit::Success));
        }
        None => _ = exit.write(AppExit::Success),
    }
}
