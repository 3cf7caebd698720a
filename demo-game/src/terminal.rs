//! The game where there is no window: in the terminal, live, or as plain lines where standard output is no terminal.

use std::io::{IsTerminal, stdin, stdout};
use std::process::ExitCode;
use std::time::Duration;

use bevy::app::ScheduleRunnerPlugin;
use bevy::prelude::*;
use bevy_peerflock::prelude::*;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::DefaultTerminal;

use crate::bot::BotPlugin;
use crate::chat::{Feed, Say};
use crate::cli::Cli;
use crate::ending::{self, Ending};
use crate::game::{GamePlugin, Steer};
use crate::player::PlayerPlugin;
use crate::players::Players;
use crate::round::Round;
use crate::world::{Bird, CHAT_BYTES_MAX, Leader, clean};

mod draw;

/// Frames per second of the game.
const FRAME: Duration = Duration::from_millis(16);
/// How often the terminal is drawn, in seconds: more would only cost a slow connection.
const DRAW_EVERY: f32 = 0.1;
/// How often the mesh is asked how it is, in seconds.
const MEASURE_EVERY: f32 = 0.5;
/// How often a plain line is written, in seconds.
const LINE_EVERY: f32 = 5.0;

/// Plays in the terminal. `why` there is no window, if there was to be one.
pub(crate) fn play(cli: &Cli, why: Option<&str>) -> ExitCode {
    let live = stdout().is_terminal() && stdin().is_terminal();
    if let Some(why) = why {
        let how = if live { "in the terminal" } else { "as plain lines" };
        ending::say(&format!("no window, because {why}; playing {how} instead"));
    }
    let mut app = App::new();
    app.add_plugins(MinimalPlugins.set(ScheduleRunnerPlugin::run_loop(FRAME))).add_plugins((
        GamePlugin(cli.settings()),
        PlayerPlugin::new(cli, live),
        Ending,
    ));
    let mut terminal = if live { ratatui::try_init().ok() } else { None };
    if let (Some(terminal), Some(why)) = (&mut terminal, why) {
        // What cannot be cleared will be drawn over. The words before are on the other screen now: say them again.
        _ = terminal.clear();
        app.world_mut().resource_mut::<Feed>().notice(0.0, format!("No window, because {why}"), None);
    }
    // Without keys there is nobody to steer.
    if cli.autopilot || terminal.is_none() {
        app.add_plugins(BotPlugin { talks: false });
    }
    let restore = terminal.is_some();
    match terminal {
        Some(terminal) => app
            .insert_non_send(Screen(terminal))
            .init_resource::<Typing>()
            .init_resource::<Inviting>()
            .init_resource::<draw::Measures>()
            .add_systems(PreUpdate, obey_keys)
            .add_systems(Update, (measure.run_if(resource_exists::<MeshHandle>), show).chain()),
        None => app.add_systems(Update, write_lines),
    };
    let exit = app.run();
    if restore {
        ratatui::restore();
    }
    ending::code(&exit)
}

/// The terminal, put back as it was when the program ends or panics.
struct Screen(DefaultTerminal);

/// What is being typed, while something is.
#[derive(Debug, Default, Resource)]
struct Typing(Option<String>);

/// Whether the invitation is shown, alone, so that it can be copied.
#[derive(Debug, Default, Resource)]
struct Inviting(bool);

fn obey_keys(
    mut typing: ResMut<Typing>,
    mut inviting: ResMut<Inviting>,
    mut steer: ResMut<Steer>,
    mut say: MessageWriter<Say>,
    mut exit: MessageWriter<AppExit>,
) {
    // What cannot be asked has no keys.
    while event::poll(Duration::ZERO).unwrap_or(false) {
        let Ok(Event::Key(key)) = event::read() else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            exit.write(AppExit::Success);
        } else if typing.0.is_some() {
            edit(&mut typing, key, &mut say);
        } else {
            match key.code {
                KeyCode::Left | KeyCode::Char('a') => *steer = Steer::Along(Vec2::NEG_X),
                KeyCode::Right | KeyCode::Char('d') => *steer = Steer::Along(Vec2::X),
                KeyCode::Up | KeyCode::Char('w') => *steer = Steer::Along(Vec2::Y),
                KeyCode::Down | KeyCode::Char('s') => *steer = Steer::Along(Vec2::NEG_Y),
                KeyCode::Char(' ') => *steer = Steer::Straight,
                KeyCode::Enter => typing.0 = Some(String::new()),
                KeyCode::Char('i') => inviting.0 = !inviting.0,
                KeyCode::Char('q') | KeyCode::Esc => _ = exit.write(AppExit::Success),
                _ => {}
            }
        }
    }
}

fn edit(typing: &mut Typing, key: KeyEvent, say: &mut MessageWriter<Say>) {
    let Some(text) = &mut typing.0 else { return };
    match key.code {
        KeyCode::Enter => say.write_batch(typing.0.take().map(Say)).for_each(drop),
        KeyCode::Esc => typing.0 = None,
        KeyCode::Backspace => _ = text.pop(),
        KeyCode::Char(letter) if text.len() < CHAT_BYTES_MAX => text.push(letter),
        _ => {}
    }
}

fn measure(time: Res<Time>, mut since: Local<f32>, mesh: Res<MeshHandle>, mut measures: ResMut<draw::Measures>) {
    *since += time.delta_secs();
    if *since >= MEASURE_EVERY || measures.0.is_none() {
        *since = 0.0;
        measures.0 = Some((mesh.members(), mesh.metrics()));
    }
}

fn show(
    time: Res<Time>,
    mut since: Local<f32>,
    mut screen: NonSendMut<Screen>,
    players: Res<Players>,
    round: Res<Round>,
    feed: Res<Feed>,
    typing: Res<Typing>,
    inviting: Res<Inviting>,
    mesh: Option<Res<MeshHandle>>,
    measures: Res<draw::Measures>,
    birds: Query<(&Owner, &Transform, Has<Leader>), Or<(With<Bird>, With<Leader>)>>,
    mut exit: MessageWriter<AppExit>,
) {
    *since += time.delta_secs();
    if *since < DRAW_EVERY {
        return;
    }
    *since = 0.0;
    let ticket = mesh.filter(|_| inviting.0).map(|mesh| mesh.ticket().to_string());
    let sky = birds
        .iter()
        .map(|(owner, transform, leads)| draw::Dot {
            place: transform.translation.truncate(),
            color: players.get(owner.0).map_or(0, |player| player.color),
            leads,
        })
        .collect();
    let view =
        draw::View { players: &players, round: &round, feed: &feed, typing: typing.0.as_deref(), measures: &measures, sky };
    let drawn = screen.0.draw(|frame| match &ticket {
        Some(ticket) => draw::invitation(frame, ticket),
        None => draw::draw(frame, &view),
    });
    // A terminal that cannot be written to is gone.
    if drawn.is_err() {
        exit.write(AppExit::Success);
    }
}

/// What happens, in plain lines, and now and then how it stands.
fn write_lines(
    time: Res<Time>,
    mut since: Local<f32>,
    mut known: Local<u64>,
    players: Res<Players>,
    round: Res<Round>,
    feed: Res<Feed>,
    mut exit: MessageWriter<AppExit>,
) {
    let fresh = (feed.count - *known).min(feed.iter().len() as u64) as usize;
    *known = feed.count;
    let mut lines: Vec<String> = feed
        .iter()
        .rev()
        .take(fresh)
        .rev()
        .map(|line| match &line.speaker {
            Some(speaker) => format!("{}: {}", speaker.name, line.text),
            None => line.text.clone(),
        })
        .collect();
    *since += time.delta_secs();
    if *since >= LINE_EVERY {
        *since = 0.0;
        let scores: Vec<String> =
            players.ranking().iter().map(|player| format!("{} {}", clean(&player.name, 24), player.birds)).collect();
        lines.push(match scores.len() {
            0 => "looking for others".into(),
            _ => format!("round {}, {} left: {}", round.number, round.clock(), scores.join(", ")),
        });
    }
    if lines.iter().any(|line| ending::print(line).is_err()) {
        exit.write(AppExit::Success);
    }
}
