//! Parts of the window that follow the model by themselves: what they show is a function of it.

use bevy::prelude::*;
use bevy::ui::InteractionDisabled;

use super::model::Model;

type Of<T> = Box<dyn Fn(&Model) -> T + Send + Sync>;

/// The text is what this says.
#[derive(Component)]
pub(crate) struct LiveText(Of<String>);

/// The color of text, or of the background where there is no text, is what this says.
#[derive(Component)]
pub(crate) struct LiveColor(Of<Color>);

/// The color of the edge is what this says.
#[derive(Component)]
#[require(BorderColor)]
pub(crate) struct LiveEdge(Of<Color>);

/// Shown while this says so, and not even there otherwise.
#[derive(Component)]
pub(crate) struct LiveShown(Of<bool>);

/// Can be pressed while this says so.
#[derive(Component)]
pub(crate) struct LiveEnabled(Of<bool>);

pub(crate) fn text(of: impl Fn(&Model) -> String + Send + Sync + 'static) -> LiveText {
    LiveText(Box::new(of))
}

pub(crate) fn color(of: impl Fn(&Model) -> Color + Send + Sync + 'static) -> LiveColor {
    LiveColor(Box::new(of))
}

pub(crate) fn edge(of: impl Fn(&Model) -> Color + Send + Sync + 'static) -> LiveEdge {
    LiveEdge(Box::new(of))
}

pub(crate) fn shown(of: impl Fn(&Model) -> bool + Send + Sync + 'static) -> LiveShown {
    LiveShown(Box::new(of))
}

pub(crate) fn enabled(of: impl Fn(&Model) -> bool + Send + Sync + 'static) -> LiveEnabled {
    LiveEnabled(Box::new(of))
}

/// Brings everything live up to date, touching only what changes.
pub(crate) fn follow(
    model: Res<Model>,
    mut texts: Query<(&LiveText, &mut Text)>,
    mut colors: Query<(&LiveColor, Option<&mut TextColor>, &mut BackgroundColor)>,
    mut edges: Query<(&LiveEdge, &mut BorderColor)>,
    mut shown: Query<(&LiveShown, &mut Node)>,
    enabled: Query<(Entity, &LiveEnabled, Has<InteractionDisabled>)>,
    mut commands: Commands,
) {
    for (live, mut text) in &mut texts {
        let now = live.0(&model);
        if text.0 != now {
            text.0 = now;
        }
    }
    for (live, text, mut background) in &mut colors {
        let now = live.0(&model);
        match text {
            Some(mut text) => _ = text.set_if_neq(TextColor(now)),
            None => _ = background.set_if_neq(BackgroundColor(now)),
        }
    }
    for (live, mut edge) in &mut edges {
        edge.set_if_neq(BorderColor::all(live.0(&model)));
    }
    for (live, mut node) in &mut shown {
        let now = if live.0(&model) { Display::Flex } else { Display::None };
        if node.display != now {
            node.display = now;
        }
    }
    for (entity, live, disabled) in &enabled {
        match (live.0(&model), disabled) {
            (true, true) => _ = commands.entity(entity).remove::<InteractionDisabled>(),
            (false, false) => _ = commands.entity(entity).insert(InteractionDisabled),
            _ => {}
        }
    }
}
