//! Moving the focus up, down, left and right over what can be pressed: with the arrow keys, and with whatever else writes [`Step`], a
//! gamepad for one. Tab walks in reading order beside it.

use bevy::input_focus::directional_navigation::{AutoNavigationConfig, FocusableArea};
use bevy::input_focus::navigator::find_best_candidate;
use bevy::input_focus::tab_navigation::TabIndex;
use bevy::input_focus::{FocusCause, InputFocus, InputFocusVisible};
use bevy::math::CompassOctant;
use bevy::prelude::*;
use bevy::text::EditableText;
use bevy::ui::{InteractionDisabled, UiGlobalTransform};
use bevy::ui_widgets::ScrollIntoView;

use super::screens::dialog::Front;

/// One step of the focus.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
pub(crate) struct Step(pub(crate) CompassOctant);

/// The arrow keys are steps. In a field, left and right are the cursor's.
pub(crate) fn arrows(
    keys: Res<ButtonInput<KeyCode>>,
    focus: Res<InputFocus>,
    fields: Query<&EditableText>,
    mut steps: MessageWriter<Step>,
) {
    let typing = focus.get().and_then(|focused| fields.get(focused).ok());
    let sideways = typing.is_none();
    for (key, direction, allowed) in [
        (KeyCode::ArrowUp, CompassOctant::North, true),
        (KeyCode::ArrowDown, CompassOctant::South, true),
        (KeyCode::ArrowLeft, CompassOctant::West, sideways),
        (KeyCode::ArrowRight, CompassOctant::East, sideways),
    ] {
        if keys.just_pressed(key) && allowed && !typing.is_some_and(EditableText::is_composing) {
            steps.write(Step(direction));
        }
    }
}

/// Takes the steps: to the nearest in that direction, among what is in front.
pub(crate) fn step(
    mut steps: MessageReader<Step>,
    fronts: Query<Entity, With<Front>>,
    parents: Query<&ChildOf>,
    places: Query<
        (Entity, &ComputedNode, &UiGlobalTransform, &InheritedVisibility),
        (With<TabIndex>, Without<InteractionDisabled>),
    >,
    mut focus: ResMut<InputFocus>,
    mut visible: ResMut<InputFocusVisible>,
    mut commands: Commands,
) {
    for Step(direction) in steps.read().copied() {
        let front = fronts.iter().next();
        let is_in_front = |entity| front.is_none_or(|front| parents.iter_ancestors(entity).any(|ancestor| ancestor == front));
        let areas: Vec<FocusableArea> = places
            .iter()
            .filter(|(entity, node, _, shown)| shown.get() && !node.is_empty() && is_in_front(*entity))
            .map(|(entity, node, transform, _)| {
                let scale = node.inverse_scale_factor();
                FocusableArea { entity, position: transform.translation * scale, size: node.size() * scale }
            })
            .collect();
        let next = match areas.iter().find(|area| Some(area.entity) == focus.get()) {
            Some(here) => find_best_candidate(here, direction, &areas, &AutoNavigationConfig::default()),
            // From nowhere: to what is highest, then leftmost.
            None => areas
                .iter()
                .min_by(|one, other| {
                    (one.position.y, one.position.x)
                        .partial_cmp(&(other.position.y, other.position.x))
                        .unwrap_or(std::cmp::Ordering::Equal)
                })
                .map(|area| area.entity),
        };
        if let Some(next) = next {
            focus.set(next, FocusCause::Navigated);
            visible.0 = true;
            commands.trigger(ScrollIntoView { entity: next });
        }
    }
}
