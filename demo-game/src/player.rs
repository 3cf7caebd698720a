//! The player's own process: it brings the bots along, and ends when its time is up.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::chat::Feed;
use crate::cli::Cli;
use crate::ending;
use crate::launcher::Company;
use crate::settings::Settings;

/// What a window and a terminal share.
pub(crate) struct PlayerPlugin {
    bots: usize,
    seconds: Option<f64>,
    quiet: bool,
    print_ticket: bool,
}

impl PlayerPlugin {
    /// `quiet`: the bots may not write on the terminal.
    pub(crate) fn new(cli: &Cli, quiet: bool) -> Self {
        Self { bots: cli.processes() - 1, seconds: cli.seconds, quiet, print_ticket: cli.print_ticket }
    }
}

impl Plugin for PlayerPlugin {
    fn build(&self, app: &mut App) {
        app.insert_resource(Wanted { bots: self.bots, quiet: self.quiet, print_ticket: self.print_ticket })
            .add_systems(Update, bring_company.run_if(resource_added::<MeshHandle>));
        if let Some(seconds) = self.seconds {
            app.insert_resource(TimeUp(Timer::from_seconds(seconds as f32, TimerMode::Once))).add_systems(Update, end);
        }
    }
}

#[derive(Resource)]
struct Wanted {
    bots: usize,
    quiet: bool,
    print_ticket: bool,
}

/// The bots; they end with it.
#[derive(Resource)]
struct Bots(#[allow(dead_code, reason = "held for its end")] Company);

#[derive(Resource)]
struct TimeUp(Timer);

fn bring_company(
    mut commands: Commands,
    time: Res<Time>,
    wanted: Res<Wanted>,
    mesh: Res<MeshHandle>,
    settings: Res<Settings>,
    mut feed: ResMut<Feed>,
) {
    if wanted.print_ticket {
        // A launcher that does not read any more has its ticket, or does not want it.
        _ = ending::print(&format!("ticket: {}", mesh.ticket()));
    }
    if !wanted.quiet {
        ending::say(&format!("others join with --join {}", mesh.ticket()));
    }
    let (company, trouble) = Company::start(wanted.bots, &settings, &mesh.ticket().to_string(), wanted.quiet);
    if let Some(error) = trouble {
        feed.notice(time.elapsed_secs_f64(), format!("A bot could not be started: {error}"), None);
    }
    commands.insert_resource(Bots(company));
}

fn end(time: Res<Time<Real>>, mut up: ResMut<TimeUp>, mut exit: MessageWriter<AppExit>) {
    if up.0.tick(time.delta()).just_finished() {
        exit.write(AppExit::Success);
    }
}
