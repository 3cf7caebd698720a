//! Keys that mean the same everywhere: Enter in a field, and Esc. The arrows are in [`focus`](super::focus).

use bevy::input::keyboard::{Key, KeyboardInput};
use bevy::input_focus::{FocusCause, FocusedInput, InputFocus, InputFocusVisible};
use bevy::prelude::*;
use bevy::text::{EditableText, TextEdit};

use super::action::{Action, Does};
use super::model::Model;
use super::widgets::field::Field;

/// Enter in a field does what the field is for.
pub(crate) fn enter(
    keys: Res<ButtonInput<KeyCode>>,
    focus: Res<InputFocus>,
    fields: Query<(&EditableText, &Does)>,
    mut actions: MessageWriter<Action>,
) {
    if (keys.just_pressed(KeyCode::Enter) || keys.just_pressed(KeyCode::NumpadEnter))
        && let Some((input, does)) = focus.get().and_then(|focused| fields.get(focused).ok())
        && !input.is_composing()
    {
        actions.write(does.0);
    }
}

/// A space or a Backspace with Shift held is one like any other, though the text widget does not think so.
pub(crate) fn shifted(key: On<FocusedInput<KeyboardInput>>, keys: Res<ButtonInput<Key>>, mut fields: Query<&mut EditableText>) {
    let Ok(mut input) = fields.get_mut(key.focused_entity) else { return };
    let only_shift =
        keys.pressed(Key::Shift) && ![Key::Control, Key::Alt, Key::Super].into_iter().any(|other| keys.pressed(other));
    if only_shift && key.input.state.is_pressed() && !input.is_composing() {
        match key.input.logical_key {
            Key::Space => input.queue_edit(TextEdit::Insert(" ".into())),
            Key::Backspace => input.queue_edit(TextEdit::Backspace),
            _ => {}
        }
    }
}

/// Esc goes one step back.
pub(crate) fn escape(keys: Res<ButtonInput<KeyCode>>, model: Res<Model>, mut actions: MessageWriter<Action>) {
    if keys.just_pressed(KeyCode::Escape) {
        if model.dialog.is_some() || model.entering.is_some() {
            actions.write(Action::Cancel);
        } else if model.notice.is_some() {
            actions.write(Action::Dismiss);
        } else if model.visit.is_some() {
            actions.write(Action::AskToLeave);
        }
    }
}

/// Who has clicked something in a room goes on typing: the chat has the focus again. Who uses the keyboard stays where they are.
pub(crate) fn back_to_chat(
    mut actions: MessageReader<Action>,
    visible: Res<InputFocusVisible>,
    fields: Query<(Entity, &Field)>,
    mut focus: ResMut<InputFocus>,
) {
    let clicked = [Action::ToggleReady, Action::StartGame, Action::Say, Action::Dismiss];
    if actions.read().filter(|action| clicked.contains(action)).count() > 0
        && !visible.0
        && let Some((line, _)) = fields.iter().find(|(_, field)| **field == Field::Line)
    {
        focus.set(line, FocusCause::Navigated);
    }
}
