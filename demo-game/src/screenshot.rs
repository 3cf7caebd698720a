//! A picture of the window, taken when there is something to be seen.

use std::path::PathBuf;

use bevy::prelude::*;
use bevy::render::view::screenshot::{Screenshot, ScreenshotCaptured, save_to_disk};

use crate::ending;
use crate::players::Players;

/// How long to wait for all to meet, in seconds; then the picture shows who is there.
const MEET_SECONDS: f64 = 30.0;
/// How long the picture may take, in seconds.
const TAKE_SECONDS: f64 = 20.0;

/// Takes it, and ends the game.
pub(crate) struct ScreenshotPlugin {
    pub(crate) file: PathBuf,
    /// Seconds since all met.
    pub(crate) after: f64,
    /// How many are to meet.
    pub(crate) players: usize,
}

impl Plugin for ScreenshotPlugin {
    fn build(&self, app: &mut App) {
        let plan = Plan { file: self.file.clone(), after: self.after, players: self.players, met: None, taken: None };
        app.insert_resource(plan).add_systems(Update, take);
    }
}

#[derive(Resource)]
struct Plan {
    file: PathBuf,
    after: f64,
    players: usize,
    /// When all had met, in seconds on the program's clock.
    met: Option<f64>,
    /// When the picture was asked for.
    taken: Option<f64>,
}

fn take(
    mut commands: Commands,
    time: Res<Time<Real>>,
    players: Res<Players>,
    mut plan: ResMut<Plan>,
    mut exit: MessageWriter<AppExit>,
) {
    let now = time.elapsed_secs_f64();
    if plan.met.is_none() && (players.len() >= plan.players || now > MEET_SECONDS) {
        plan.met = Some(now);
    }
    match (plan.met, plan.taken) {
        (Some(met), None) if now - met >= plan.after => {
            plan.taken = Some(now);
            let file = plan.file.clone();
            let mut save = save_to_disk(file.clone());
            commands.spawn(Screenshot::primary_window()).observe(
                move |picture: On<ScreenshotCaptured>, mut exit: MessageWriter<AppExit>| {
                    save(picture);
                    // Saving reports its failures to the log only; whether there is a picture is what counts.
                    if file.is_file() {
                        exit.write(AppExit::Success);
                    } else {
                        ending::say(&format!("cannot write {}", file.display()));
                        exit.write(AppExit::from_code(ending::FAILED));
                    }
                },
            );
        }
        (_, Some(taken)) if now - taken > TAKE_SECONDS => {
            ending::say("the window gave no picture of itself");
            exit.write(AppExit::from_code(ending::FAILED));
        }
        _ => {}
    }
}
