//! What is always on the window: the score, the clock, what happens, and which keys there are.

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::chat::{Feed, Line};
use crate::look::{FAINT, Fonts, INK, flock_color, panel};
use crate::players::{Player, Players};
use crate::round::Round;
use crate::settings::Settings;

mod podium;

/// Most players on the scoreboard; we are always among them.
const ROWS_MAX: usize = 10;
/// How often the scoreboard is written anew, in seconds.
const WRITE_EVERY: f32 = 0.2;
/// How long a notice is shown, in seconds, the time it fades included.
const NOTICE_SECONDS: f64 = 5.0;
/// Most notices at once.
const NOTICES_MAX: usize = 4;
const HINT: &str = "Mouse, WASD or a finger to steer   ·   Enter to chat   ·   F3 shows the mesh   ·   Esc twice leaves";
const WATCHING: &str =
    "You watch   ·   Tab follows the next flock   ·   Enter to chat   ·   F3 shows the mesh   ·   Esc twice leaves";

pub(crate) fn plugin(app: &mut App) {
    app.add_systems(Startup, hang).add_systems(Update, (write_scores, tell_time, show_notices, podium::show));
}

#[derive(Component)]
struct Scores;

#[derive(Component)]
struct Clock;

#[derive(Component)]
struct Caption;

/// Below it notices appear.
#[derive(Component)]
struct Notices;

/// When it happened, in seconds on the program's clock.
#[derive(Component)]
struct Notice(f64);

fn hang(mut commands: Commands, fonts: Res<Fonts>, settings: Res<Settings>) {
    let hint = if settings.watch { WATCHING } else { HINT };
    let corner = Node { position_type: PositionType::Absolute, ..default() };
    commands.spawn((
        panel(Node {
            left: px(16),
            top: px(16),
            width: px(212),
            padding: UiRect::axes(px(7), px(7)),
            flex_direction: FlexDirection::Column,
            row_gap: px(3),
            ..corner.clone()
        }),
        Scores,
    ));
    commands.spawn((
        Node {
            top: px(10),
            width: percent(100),
            flex_direction: FlexDirection::Column,
            align_items: AlignItems::Center,
            ..corner.clone()
        },
        Notices,
        Pickable::IGNORE,
        children![(fonts.text("", 13.0, FAINT), Caption), (fonts.bold("", 34.0, INK), Clock)],
    ));
    commands.spawn((
        Node { bottom: px(10), width: percent(100), justify_content: JustifyContent::Center, ..corner },
        Pickable::IGNORE,
        children![fonts.text(hint, 12.5, FAINT)],
    ));
}

fn write_scores(
    mut commands: Commands,
    time: Res<Time>,
    mut since: Local<f32>,
    fonts: Res<Fonts>,
    players: Res<Players>,
    mesh: Option<Res<MeshHandle>>,
    board: Single<Entity, With<Scores>>,
) {
    *since += time.delta_secs();
    if *since < WRITE_EVERY {
        return;
    }
    *since = 0.0;
    let ranking = players.ranking();
    let most = ranking.first().map_or(1, |first| first.birds).max(1);
    let (shown, hidden) = ranking.split_at(ranking.len().min(ROWS_MAX));
    commands.entity(*board).despawn_related::<Children>().with_children(|board| {
        if mesh.is_none() {
            board.spawn(fonts.text("Looking for others …", 14.0, FAINT));
        }
        for player in shown {
            score(board, &fonts, player, most);
        }
        if let Some(me) = hidden.iter().find(|player| player.me) {
            score(board, &fonts, me, most);
        }
        if !hidden.is_empty() {
            board.spawn(fonts.text(format!("and {} more", hidden.len()), 12.0, FAINT));
        }
    });
}

/// One row: a bar as long as the flock is large, the name, the birds.
fn score(board: &mut ChildSpawnerCommands, fonts: &Fonts, player: &Player, most: usize) {
    let color = flock_color(player.color);
    let length = 100.0 * player.birds as f32 / most as f32;
    let stars = match player.wins {
        0 => String::new(),
        wins @ 1..=3 => format!(" {}", "★".repeat(wins.into())),
        wins => format!(" ★{wins}"),
    };
    let name = format!("{}{stars}", player.name);
    board
        .spawn((
            Node {
                height: px(27),
                padding: UiRect::axes(px(9), px(0)),
                align_items: AlignItems::Center,
                justify_content: JustifyContent::SpaceBetween,
                border_radius: BorderRadius::all(px(6)),
                overflow: Overflow::clip(),
                ..default()
            },
            BackgroundColor(Color::srgba(1.0, 1.0, 1.0, if player.me { 0.10 } else { 0.0 })),
        ))
        .with_children(|row| {
            row.spawn((
                Node {
                    position_type: PositionType::Absolute,
                    left: px(0),
                    top: px(0),
                    bottom: px(0),
                    width: percent(length),
                    border_radius: BorderRadius::all(px(6)),
                    ..default()
                },
                BackgroundColor(color.with_alpha(0.22)),
            ));
            row.spawn((
                Node {
                    position_type: PositionType::Absolute,
                    left: px(0),
                    top: px(5),
                    bottom: px(5),
                    width: px(3),
                    border_radius: BorderRadius::all(px(2)),
                    ..default()
                },
                BackgroundColor(color),
            ));
            row.spawn(Node { align_items: AlignItems::Center, column_gap: px(6), ..default() }).with_children(|names| {
                if player.me {
                    names.spawn(fonts.bold(name, 14.5, INK));
                } else {
                    names.spawn(fonts.text(name, 14.5, INK));
                }
                if player.bot {
                    names.spawn(fonts.text("bot", 10.5, FAINT));
                }
            });
            row.spawn(fonts.bold(player.birds.to_string(), 14.5, INK));
        });
}

fn tell_time(
    round: Res<Round>,
    mut clock: Single<&mut Text, (With<Clock>, Without<Caption>)>,
    mut caption: Single<&mut Text, (With<Caption>, Without<Clock>)>,
) {
    let (title, time) = if round.rests() {
        (format!("Round {} begins in", round.number + 1), format!("0:{:02}", (round.length - round.elapsed).ceil() as u32))
    } else {
        (format!("Round {}", round.number), round.clock())
    };
    clock.set_if_neq(Text(time));
    caption.set_if_neq(Text(title));
}

fn show_notices(
    mut commands: Commands,
    time: Res<Time>,
    mut known: Local<u64>,
    fonts: Res<Fonts>,
    feed: Res<Feed>,
    place: Single<Entity, With<Notices>>,
    mut shown: Query<(Entity, &Notice, &Children, &mut BackgroundColor)>,
    mut colors: Query<&mut TextColor>,
) {
    let now = time.elapsed_secs_f64();
    for (entity, notice, children, mut background) in &mut shown {
        let left = NOTICE_SECONDS - (now - notice.0);
        if left <= 0.0 {
            commands.entity(entity).despawn();
            continue;
        }
        let visible = left.min(1.0) as f32;
        background.0.set_alpha(0.5 * visible);
        for child in children {
            if let Ok(mut color) = colors.get_mut(*child) {
                color.0.set_alpha(visible);
            }
        }
    }
    let fresh = (feed.count - *known).min(NOTICES_MAX as u64) as usize;
    *known = feed.count;
    for Line { at, text, color, .. } in feed.iter().rev().take(fresh).rev().filter(|line| line.speaker.is_none()) {
        let ink = color.map_or(INK, flock_color);
        if let Some((oldest, ..)) = shown.iter().nth(NOTICES_MAX - 1) {
            commands.entity(oldest).try_despawn();
        }
        commands.entity(*place).with_child((
            Notice(*at),
            Node {
                margin: px(3).top(),
                padding: UiRect::axes(px(12), px(4)),
                border_radius: BorderRadius::all(px(12)),
                ..default()
            },
            BackgroundColor(Color::srgba(0.045, 0.045, 0.115, 0.5)),
            Pickable::IGNORE,
            children![fonts.text(text.clone(), 13.5, ink)],
        ));
    }
}
