//! What a player can do here.

use bevy::prelude::*;
use bevy::ui::{InteractionDisabled, Pressed};
use bevy::ui_widgets::{Activate, Button};
use peerflock::{MeshId, PeerId};

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
    /// Walk into the best room there is, or open one.
    QuickMatch,
    /// Show this room first from now on, or no longer.
    Favorite(MeshId),
    /// See only rooms with a free seat, or all.
    OnlyFree,
    /// See only rooms without a password, or all.
    OnlyOpen,
    /// See only rooms in which players gather, or games as well.
    OnlyGathering,
    /// Back into the room with this place among those where we were.
    ComeBack(usize),
    /// Show the room's invitation.
    Share,
    /// Copy the room's invitation.
    CopyInvite,
    /// See what can be done about a member.
    Member(PeerId),
    /// Stop hearing this member, or hear it again.
    Mute(PeerId),
    /// Remove this member from the room.
    Remove(PeerId),
    /// Say something to this member alone.
    Whisper(PeerId),
    /// See what the owner can decide.
    Door,
    /// Close the room to those who come, or open it.
    ToggleClosed,
    /// Slow all talk in the room down, or no longer.
    ToggleSlow,
    /// Open the settings.
    Settings,
    /// Take this color.
    Color(u8),
    /// Be the same player the next time, or another one.
    ToggleIdentity,
    /// Ask whether to leave the room.
    AskToLeave,
    /// Take the notice away.
    Dismiss,
}

/// On a button: what pressing it does. On a text field: what Enter in it does.
#[derive(Component, Clone, Copy)]
pub(crate) struct Does(pub(crate) Action);

/// A pressed button's action becomes a message.
pub(crate) fn on_activate(activate: On<Activate>, buttons: Query<&Does>, mut actions: MessageWriter<Action>) {
    if let Ok(does) = buttons.get(activate.entity) {
        actions.write(does.0);
    }
}

/// A button that was reached, pressed and let go within one frame: a tap on a screen, or a mouse on a slow machine. The widget
/// sees the press only and would stay pressed for good.
pub(crate) fn on_tap(
    mouse: Res<ButtonInput<MouseButton>>,
    touches: Res<Touches>,
    pressed: Query<(Entity, &Does), (With<Button>, With<Pressed>, Without<InteractionDisabled>)>,
    mut actions: MessageWriter<Action>,
    mut commands: Commands,
) {
    if mouse.get_pressed().next().is_some() || touches.iter().next().is_some() {
        return;
    }
    for (button, does) in &pressed {
        commands.entity(button).remove::<Pressed>();
        actions.write(does.0);
    }
}
