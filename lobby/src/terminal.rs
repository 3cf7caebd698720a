//! The lobby without a window: commands for people at a terminal, and for scripts.

mod list;
mod print;
mod reach;
mod stay;
mod tui;

use std::process::ExitCode;
use std::time::Duration;

use peerflock::directory::DirectoryOptions;
use peerflock_lobby::{Filter, RoomError, Settings};

use crate::cli::{Command, Common};

/// How long to look around where nobody said.
const LOOK: Duration = Duration::from_secs(2);

/// Does what the command line says.
pub(crate) fn run(command: Command, common: &Common) -> ExitCode {
    let outcome = match command {
        Command::List { json, seconds, which } => list::once(common, seconds, json, &which.filter()),
        Command::Watch { json, seconds, which } => list::again(common, seconds, json, &which.filter()),
        Command::Create { name, password, players, mode, stay } => {
            stay::create(common, &name, password.as_deref(), players, mode.as_deref(), &stay)
        }
        Command::Join { room, password, stay } => stay::join(common, &room, password.as_deref(), &stay),
        Command::Quick { stay } => stay::quick(common, &stay),
        Command::Say { room, line, password, json } => stay::say(common, &room, password.as_deref(), line, json),
        Command::Doctor { directory, member, json } => reach::doctor(common, directory, member, json),
        Command::Directory { listen, http, data, host, private, seconds } => {
            let options = DirectoryOptions { listen, http, data, refers: !private, ..DirectoryOptions::default() };
            reach::directory(options, &host, seconds)
        }
    };
    ended(outcome)
}

/// No window: says so, and lists what there is. Without a window there is no `picture` of it either, which is a failure.
pub(crate) fn instead_of_window(why: &str, picture: bool, common: &Common) -> ExitCode {
    if picture {
        print::error(&format!("{why}, so there is no window to take a picture of. Start an X server, Xvfb for one."));
        return ExitCode::FAILURE;
    }
    print::error(&format!(
        "{why}, so there is no window. This is what there is; `--tui` is the whole lobby in a terminal, `--help` tells the rest."
    ));
    ended(list::once(common, LOOK, false, &Filter::default()))
}

/// The whole lobby in the terminal.
pub(crate) fn lobby(common: &Common, settings: Settings) -> ExitCode {
    ended(tui::run(common, settings))
}

fn ended(outcome: Result<(), Trouble>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            print::error(&trouble.text);
            ExitCode::from(trouble.code)
        }
    }
}

/// What went wrong, and the exit code that says so.
#[derive(Debug)]
struct Trouble {
    text: String,
    code: u8,
}

impl Trouble {
    /// Something failed.
    fn failed(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: 1 }
    }
}

impl From<RoomError> for Trouble {
    fn from(error: RoomError) -> Self {
        let refused = matches!(
            error,
            RoomError::WrongPassword(_)
                | RoomError::PasswordNeeded
                | RoomError::LockedOut(_)
                | RoomError::Full(_)
                | RoomError::OtherVersion(_)
        );
        // The player's words first, then what the mesh said.
        let details = std::error::Error::source(&error).map(|source| format!("\n  ({source})")).unwrap_or_default();
        Self { text: format!("{error}{details}"), code: if refused { 2 } else { 1 } }
    }
}
