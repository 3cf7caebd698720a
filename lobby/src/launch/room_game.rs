//! The game of a room: opened or joined as the room says, and the room told how it goes.

use peerflock::Interface;
use peerflock::directory::DirectoryAddress;

use super::{Launch, LaunchEvent, Order, game};
use crate::room::{Room, RoomEvent};
use crate::start::Handover;

/// The game's process as a room needs it. One for each room.
#[derive(Debug)]
pub struct RoomGame {
    player: String,
    interface: Option<Interface>,
    directories: Vec<DirectoryAddress>,
    launch: Option<Launch>,
    /// What the room waits for, until the game is open.
    promised: Option<Handover>,
}

impl RoomGame {
    /// None yet, for a player of this name.
    pub fn new(player: &str, interface: Option<Interface>) -> Self {
        Self { player: player.to_owned(), interface, directories: Vec::new(), launch: None, promised: None }
    }

    /// The same, with directories at which players across the internet find each other.
    pub fn at(mut self, directories: &[DirectoryAddress]) -> Self {
        self.directories = directories.to_vec();
        self
    }

    /// Whether it is on its way, or under way.
    pub fn is_on(&self) -> bool {
        self.launch.is_some()
    }

    /// Opens the game that [`RoomEvent::OpenGame`] asks for, in a mesh of its own with a fresh secret.
    ///
    /// # Errors
    /// Why not, in words for the player. The room was told.
    pub fn open(&mut self, room: &mut Room) -> Result<(), String> {
        let opened = Self::fresh(room).and_then(|handover| {
            let order =
                Order::open(&self.player, &handover.mesh, handover.password(), self.interface.clone()).at(&self.directories);
            self.launch = Some(start(room, order)?);
            self.promised = Some(handover);
            Ok(())
        });
        opened.inspect_err(|why| _ = room.game_failed(why))
    }

    /// Joins the game that [`RoomEvent::JoinGame`] brought.
    ///
    /// # Errors
    /// Why not, in words for the player.
    pub fn join(&mut self, room: &mut Room, handover: &Handover) -> Result<(), String> {
        let order = Order::join(&self.player, handover, self.interface.clone()).watching(room.watches()).at(&self.directories);
        self.launch = Some(start(room, order).inspect_err(|_| room.game_over())?);
        Ok(())
    }

    /// What happened to the game since the last call, and what came of it in the room.
    pub fn poll(&mut self, mut room: Option<&mut Room>) -> (Vec<LaunchEvent>, Vec<RoomEvent>) {
        let events = self.launch.as_mut().map(Launch::poll).unwrap_or_default();
        let mut told = Vec::new();
        for event in &events {
            match (event, &mut room) {
                (LaunchEvent::Ticket(ticket), Some(room)) => match self.promised.take() {
                    Some(handover) => told.extend(room.game_opened(Handover { ticket: ticket.to_string(), ..handover })),
                    None => room.game_ticket(ticket),
                },
                (LaunchEvent::Ended, Some(room)) => {
                    told.extend(room.game_failed("The game was closed before it was open"));
                    room.game_over();
                }
                (LaunchEvent::Failed(why) | LaunchEvent::Refused(why), Some(room)) => {
                    told.extend(room.game_failed(why));
                    room.game_over();
                }
                _ => {}
            }
            if matches!(event, LaunchEvent::Ended | LaunchEvent::Failed(_) | LaunchEvent::Refused(_)) {
                (self.launch, self.promised) = (None, None);
            }
        }
        (events, told)
    }

    fn fresh(room: &Room) -> Result<Handover, String> {
        let (mut secret, mut digits) = ([0; 32], [0; 2]);
        let random = getrandom::fill(&mut secret).and_then(|()| getrandom::fill(&mut digits));
        random.map_err(|error| format!("This system gives no random numbers: {error}"))?;
        Ok(Handover::new(Handover::mesh_name(room.name(), u16::from_le_bytes(digits)), secret, ""))
    }
}

fn start(room: &Room, order: Order) -> Result<Launch, String> {
    let name = room.facts().map(|facts| facts.game.clone()).unwrap_or_default();
    let game = game(&name).ok_or_else(|| format!("This lobby cannot start {name:?}."))?;
    Launch::start(game, order).map_err(|error| error.to_string())
}
