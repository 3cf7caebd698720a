//! What was said in the room.

use bevy::prelude::*;
use peerflock_lobby::chat::Line;

use crate::app::model::Model;
use crate::app::theme::{self, size};

/// The log on screen.
#[derive(Component, Default)]
pub(crate) struct Log {
    /// The numbers of the lines that it shows, oldest first; its children are in the same order.
    shows: std::ops::Range<u64>,
    /// How many lines had been changed when it was drawn.
    changes: u64,
}

/// Adds new lines and takes forgotten ones away.
pub(crate) fn draw(model: Res<Model>, log: Option<Single<(Entity, &mut Log, Option<&Children>)>>, mut commands: Commands) {
    let (Some(log), Some(visit)) = (log, &model.visit) else { return };
    let (entity, mut log, children) = log.into_inner();
    if visit.room.chat().changes() != log.changes {
        // Lines that are shown were changed or deleted: all anew, at the next frame.
        (log.shows, log.changes) = (0..0, visit.room.chat().changes());
        commands.entity(entity).despawn_related::<Children>();
        return;
    }
    let lines = visit.room.chat().lines();
    let first = visit.room.chat().lines().next().map_or(log.shows.end, |line| line.number);
    let forgotten = usize::try_from(first.saturating_sub(log.shows.start)).unwrap_or(usize::MAX);
    for line in children.into_iter().flatten().take(forgotten) {
        commands.entity(*line).despawn();
    }
    let end = log.shows.end;
    for line in lines.filter(|line| line.number >= end) {
        commands.spawn((entry(line), ChildOf(entity)));
        log.shows.end = line.number + 1;
    }
    log.shows.start = first;
}

fn entry(line: &Line) -> impl Bundle {
    let (who, color, what, shade) = match &line.speaker {
        Some(speaker) => (format!("{}  ", speaker.name), theme::member(speaker.color), line.text.clone(), theme::TEXT),
        None => (String::new(), theme::QUIET, line.text.clone(), theme::FAINT),
    };
    (
        Text::new(who),
        theme::bold(size::BODY),
        TextColor(color),
        TextLayout::linebreak(LineBreak::WordOrCharacter),
        // Long words wrap at the panel's edge instead of widening it.
        Node { max_width: percent(100), flex_shrink: 0.0, ..default() },
        Pickable::IGNORE,
        children![(TextSpan::new(what), theme::type_of(size::BODY), TextColor(shade))],
    )
}
