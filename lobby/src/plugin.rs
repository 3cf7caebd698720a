//! The lobby in a Bevy game: a room as a resource, and what happens in it as messages.

#![allow(elided_lifetimes_in_paths, reason = "the lifetimes of system parameters tell a reader nothing")]

use std::time::{Duration, Instant};

use bevy::prelude::*;
use peerflock::{PeerMeshBuilder, StartingMesh};

use crate::room::{Room, RoomError, RoomEvent, RoomOptions};

/// How long leaving a room may hold up a frame, when the program ends: the time to say goodbye.
const GOODBYE: Duration = Duration::from_millis(500);

/// Keeps [`LobbyRoom`] going, and tells of it in [`LobbyEvent`]s.
///
/// ```no_run
/// use bevy::prelude::*;
/// use peerflock_lobby::{LobbyEvent, LobbyPlugin, LobbyRoom, RoomEvent, RoomOptions};
///
/// fn main() {
///     App::new().add_plugins((DefaultPlugins, LobbyPlugin)).add_systems(Startup, open).add_systems(Update, listen).run();
/// }
///
/// fn open(mut lobby: ResMut<LobbyRoom>) {
///     let mut options = RoomOptions::new("Ada");
///     if let Ok(builder) = options.create("Friday night", Some("hunter2"), "My game", 8) {
///         lobby.enter(builder, options);
///     }
/// }
///
/// fn listen(mut events: MessageReader<LobbyEvent>, mut lobby: ResMut<LobbyRoom>) {
///     for event in events.read() {
///         match event {
///             LobbyEvent::Entered => lobby.room_mut().into_iter().for_each(|room| room.set_ready(true)),
///             LobbyEvent::NotEntered(error) => warn!("{error}"),
///             LobbyEvent::Room(RoomEvent::JoinGame(handover)) => info!("into {} with seed {}", handover.mesh, handover.seed),
///             LobbyEvent::Room(_) => {}
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LobbyPlugin;

/// The room that we are in, or on the way into.
#[derive(Debug, Default, Resource)]
pub struct LobbyRoom {
    entering: Option<(StartingMesh, RoomOptions)>,
    room: Option<Room>,
}

/// What happened to it.
#[derive(Debug, Message)]
pub enum LobbyEvent {
    /// We are in.
    Entered,
    /// We are not, and why; words for the player. Where we were before, we still are.
    NotEntered(RoomError),
    /// Something happened in the room.
    Room(RoomEvent),
}

impl Plugin for LobbyPlugin {
    fn build(&self, app: &mut App) {
        app.init_resource::<LobbyRoom>().add_message::<LobbyEvent>().add_systems(PreUpdate, poll).add_systems(Last, goodbye);
    }
}

impl LobbyRoom {
    /// Begins to enter the room that [`RoomOptions`] made a builder for. What comes of it is told by [`LobbyEvent`]; another one that
    /// was being entered is given up.
    pub fn enter(&mut self, builder: PeerMeshBuilder, options: RoomOptions) {
        self.entering = Some((builder.start_in_background(), options));
    }

    /// Gives up entering, if we do.
    pub fn cancel(&mut self) {
        self.entering = None;
    }

    /// Whether we are on the way into a room.
    pub fn is_entering(&self) -> bool {
        self.entering.is_some()
    }

    /// The room that we are in.
    pub fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    /// The same, to do something in it.
    pub fn room_mut(&mut self) -> Option<&mut Room> {
        self.room.as_mut()
    }

    /// Leaves the room: says goodbye, for half a second at most.
    pub fn leave(&mut self) {
        if let Some(room) = self.room.take() {
            room.leave(GOODBYE);
        }
    }
}

fn poll(mut lobby: ResMut<LobbyRoom>, mut events: MessageWriter<LobbyEvent>) {
    // Nothing is marked as changed while there is nothing to do.
    let outcome = lobby.entering.as_ref().and_then(|(mesh, _)| mesh.try_ready());
    if let Some((outcome, (_, options))) = outcome.and_then(|outcome| Some((outcome, lobby.entering.take()?))) {
        match outcome {
            Ok(mesh) => {
                lobby.leave();
                lobby.room = Some(Room::new(mesh, &options));
                events.write(LobbyEvent::Entered);
            }
            Err(error) => _ = events.write(LobbyEvent::NotEntered(error.into())),
        }
    }
    if lobby.room.is_some()
        && let Some(room) = lobby.bypass_change_detection().room.as_mut()
    {
        let told = room.poll(Instant::now());
        if !told.is_empty() {
            lobby.set_changed();
            events.write_batch(told.into_iter().map(LobbyEvent::Room));
        }
    }
}

/// The program ends: who is in a room says goodbye, or the others must find out by themselves.
fn goodbye(mut exits: MessageReader<AppExit>, mut lobby: ResMut<LobbyRoom>) {
    if exits.read().next().is_some() {
        lobby.leave();
    }
}

#[cfg(test)]
mod tests {
    use peerflock::Interface;

    use super::*;

    #[derive(Resource, Default)]
    struct Told(Vec<String>);

    fn game(options: RoomOptions, builder: PeerMeshBuilder) -> App {
        let mut app = App::new();
        app.add_plugins(LobbyPlugin).init_resource::<Told>().add_systems(
            Update,
            |mut events: MessageReader<LobbyEvent>, mut told: ResMut<Told>| {
                told.0.extend(events.read().map(|event| format!("{event:?}")));
            },
        );
        app.world_mut().resource_mut::<LobbyRoom>().enter(builder.lan(false), options);
        app
    }

    fn until(apps: &mut [&mut App], mut is_so: impl FnMut(&[&mut App]) -> bool) {
        let started = Instant::now();
        while !is_so(apps) {
            assert!(started.elapsed() < Duration::from_secs(20), "it takes too long");
            apps.iter_mut().for_each(|app| app.update());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn told(app: &App, what: &str) -> bool {
        app.world().resource::<Told>().0.iter().any(|told| told.contains(what))
    }

    #[test]
    fn two_games_meet_in_a_room_and_one_is_told_that_the_other_ended() {
        let options = |player| RoomOptions::new(player).on(Some(Interface::Loopback));
        let mut ada = options("Ada");
        let builder = ada.create("plugins", Some("dusk"), "fish", 4).unwrap();
        let mut ada = game(ada, builder);
        until(&mut [&mut ada], |apps| told(apps[0], "Entered"));
        let ticket = ada.world().resource::<LobbyRoom>().room().unwrap().ticket();

        let mut cy = options("Cy");
        let builder = cy.join_by_ticket(&ticket, Some("dawn")).unwrap();
        let mut cy = game(cy, builder);
        until(&mut [&mut cy], |apps| told(apps[0], "NotEntered(WrongPassword"));
        assert!(cy.world().resource::<LobbyRoom>().room().is_none());

        let mut bo = options("Bo");
        let builder = bo.join_by_ticket(&ticket, Some("dusk")).unwrap();
        let mut bo = game(bo, builder);
        until(&mut [&mut ada, &mut bo], |apps| told(apps[0], "Came(\"Bo\")") && told(apps[1], "Seated"));
        bo.world_mut().write_message(AppExit::Success);
        bo.update();
        until(&mut [&mut ada], |apps| told(apps[0], "Went(\"Bo\")"));
    }
}
