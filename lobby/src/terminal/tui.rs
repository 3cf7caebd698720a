//! The whole lobby in a terminal: the list of rooms, and a room with its people, its talk and its game.

mod draw;
mod state;

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{self, Event};
use peerflock_lobby::Settings;

use self::state::Lobby;
use super::{Trouble, list};
use crate::cli::Common;

/// How often it is drawn while nobody types.
const FRAME: Duration = Duration::from_millis(80);

/// Until `q` or Ctrl+C.
pub(super) fn run(common: &Common, settings: Settings) -> Result<(), Trouble> {
    let mut lobby =
        Lobby::new(common.name(), common.interface.clone(), common.directories.clone(), settings, list::browser(common)?);
    let mut terminal = ratatui::try_init().map_err(Trouble::failed)?;
    let outcome = turn(&mut terminal, &mut lobby);
    ratatui::restore();
    lobby.leave();
    outcome.map_err(Trouble::failed)
}

fn turn(terminal: &mut ratatui::DefaultTerminal, lobby: &mut Lobby) -> io::Result<()> {
    while !lobby.is_done() {
        lobby.pass(Instant::now());
        terminal.draw(|frame| draw::draw(frame, lobby))?;
        let mut patience = FRAME;
        // All that was typed or pasted since, and then the next picture.
        while event::poll(patience)? {
            if let Event::Key(key) = event::read()? {
                lobby.press(key);
            }
            patience = Duration::ZERO;
        }
    }
    Ok(())
}
