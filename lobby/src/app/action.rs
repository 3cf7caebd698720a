//! What a player can do here.

use bevy::prelude::*;
use bevy::ui::{InteractionDisabled, Pressed};
use bevy::ui_widgets::{Activate, Button};
use peerflock::MeshId;

/// Something the player asked for, with mouse or keyboard.
#[derive(Clone, Copy, Debug, Message, PartialEq, Eq)]
pub(crate) enum Action {
    /// Begin to open a room.
    OpenRoom,
    /// Begin to join by invitation.
    UseInvite,
    /// Enter this mesh: a room, or a game that is under way.
    Enter(MeshId),
    /// Do what the dialog is for.
    Submit,
    /// Close the dialog, or give up what is under way.
    Cancel,
    /// One seat more.
    MoreSeats,
    /// One seat fewer.
    FewerSeats,
    /// Show or hide the password.
    Peek,
    /// Say what was typed.
    Say,
    /// Ready, or not any more.
    ToggleReady,
    /// Ask everyone to start the game.
    StartGame,
    /// Copy the room's invitation.
    CopyInvite,
    /// Ask whether to leave the room.
    AskToLeave,
    /// Take the notice away.
    Dismiss,
}

/// On a button: what pressing it does. On a text field: what Enter in it does.
#[derive(Component, Clone, Copy)]
pub(crate) struct Does(pub(crate) Action);

/// A button that was pressed and let go within one frame, which the widget itself takes for neither: a quick tap on a slow
/// machine must not be lost.
pub(crate) fn on_quick_click(
    click: On<Pointer<Click>>,
    buttons: Query<&Does, (With<Button>, Without<Pressed>, Without<InteractionDisabled>)>,
    mut actions: MessageWriter<Action>,
    mut commands: Commands,
) {
    if let Ok(does) = buttons.get(click.entity) {
        actions.write(does.0);
        commands.entity(click.entity).remove::<Pressed>();
    }
}

/// A pressed button's action becomes a message.
pub(crate) fn on_activate(activate: On<Activate>, buttons: Query<&Does>, mut actions: MessageWriter<Action>) {
    if let Ok(does) = buttons.get(activate.entity) {
        actions.write(does.0);
    }
}
