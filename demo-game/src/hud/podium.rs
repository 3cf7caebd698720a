//! The podium: while a round rests, the three largest flocks stand in the middle of the sky.

use bevy::prelude::*;

use crate::look::{FAINT, Fonts, INK, flock_color, panel};
use crate::players::{Player, Players};
use crate::round::{REST_SECONDS, Round};

/// By then the last birds that were on their way have arrived, in seconds.
const SETTLED: f32 = 0.7;
/// From left to right: which place, and how high one stands there, in pixels.
const STEPS: [(usize, f32); 3] = [(2, 62.0), (1, 96.0), (3, 40.0)];

/// Of all of it.
#[derive(Component)]
pub(super) struct Podium;

pub(super) fn show(
    mut commands: Commands,
    round: Res<Round>,
    players: Res<Players>,
    fonts: Res<Fonts>,
    podium: Query<Entity, With<Podium>>,
) {
    let since = round.elapsed - (round.length - REST_SECONDS as f32);
    match (since > SETTLED, podium.iter().next()) {
        (true, None) if players.len() > 1 => {
            let node = Node {
                position_type: PositionType::Absolute,
                top: percent(20),
                width: percent(100),
                justify_content: JustifyContent::Center,
                ..default()
            };
            commands.spawn((Podium, node, Pickable::IGNORE)).with_children(|sky| build(sky, &fonts, &round, &players));
        }
        (false, Some(podium)) => commands.entity(podium).despawn(),
        _ => {}
    }
}

fn build(sky: &mut ChildSpawnerCommands, fonts: &Fonts, round: &Round, players: &Players) {
    let column = Node { flex_direction: FlexDirection::Column, align_items: AlignItems::Center, ..default() };
    let (title, color) = match players.winner() {
        Some(winner) if winner.me => ("You lead the largest flock".to_owned(), flock_color(winner.color)),
        Some(winner) => (format!("{} leads the largest flock", winner.name), flock_color(winner.color)),
        None => ("A draw".to_owned(), INK),
    };
    sky.spawn(panel(Node { padding: UiRect::new(px(34), px(34), px(14), px(0)), row_gap: px(2), ..column })).with_children(
        |panel| {
            panel.spawn(fonts.text(format!("Round {} is over", round.number), 15.0, FAINT));
            panel.spawn(fonts.bold(title, 32.0, color));
            let ranking = players.ranking();
            panel
                .spawn((
                    Node { column_gap: px(10), align_items: AlignItems::FlexEnd, margin: px(14).top(), ..default() },
                    Pickable::IGNORE,
                ))
                .with_children(|steps| {
                    for (place, height) in STEPS {
                        // Who leads no bird has no place to stand.
                        if let Some(player) = ranking.get(place - 1).filter(|player| player.birds > 0) {
                            step(steps, fonts, player, rank(&ranking, player), height);
                        }
                    }
                });
        },
    );
}

/// The place of a flock: equal ones share it.
fn rank(ranking: &[&Player], player: &Player) -> usize {
    1 + ranking.iter().filter(|other| other.birds > player.birds).count()
}

fn step(steps: &mut ChildSpawnerCommands, fonts: &Fonts, player: &Player, place: usize, height: f32) {
    let color = flock_color(player.color);
    let column = Node {
        width: px(132),
        flex_direction: FlexDirection::Column,
        align_items: AlignItems::Center,
        row_gap: px(3),
        ..default()
    };
    steps.spawn((column, Pickable::IGNORE)).with_children(|step| {
        let name = if player.me { "You".to_owned() } else { player.name.clone() };
        step.spawn((fonts.bold(name, 16.0, color), TextLayout::no_wrap()));
        step.spawn(fonts.text(
            if player.birds == 1 { "1 bird".to_owned() } else { format!("{} birds", player.birds) },
            13.5,
            INK,
        ));
        step.spawn((
            Node {
                width: percent(100),
                height: px(height),
                padding: px(6).top(),
                justify_content: JustifyContent::Center,
                border: px(3).top(),
                border_radius: BorderRadius::top(px(6)),
                ..default()
            },
            BackgroundColor(color.with_alpha(0.22)),
            BorderColor::all(color),
            children![fonts.bold(place.to_string(), 26.0, INK)],
        ));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_flocks_share_a_place() {
        let players = Players::with_birds(&[5, 9, 9, 2]);
        let ranking = players.ranking();
        let places: Vec<usize> = ranking.iter().map(|player| rank(&ranking, player)).collect();
        assert_eq!(places, [1, 1, 3, 4]);
    }
}
