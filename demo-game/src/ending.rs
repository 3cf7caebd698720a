//! How the program ends: with which exit code, and with what said about it.
//!
//! 0: all went well. 1: it did not. 2: the mesh would not have us, or the command line made no sense.

use std::io::{self, Write};
use std::process::ExitCode;

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

/// The exit code where the game itself has nothing to complain about but did not go well.
pub(crate) const FAILED: u8 = 1;
/// The exit code where the mesh would not have us.
pub(crate) const NOT_ADMITTED: u8 = 2;

/// Ends the app where the mesh cannot be started, and says why.
pub(crate) struct Ending;

impl Plugin for Ending {
    fn build(&self, app: &mut App) {
        app.add_systems(PreUpdate, end_without_mesh);
    }
}

/// The exit code that an app's end means.
pub(crate) fn code(exit: &AppExit) -> ExitCode {
    match exit {
        AppExit::Success => ExitCode::SUCCESS,
        AppExit::Error(code) => code.get().into(),
    }
}

/// Says what went wrong, on standard error, and makes it an exit code.
pub(crate) fn fail(message: &str) -> ExitCode {
    say(message);
    FAILED.into()
}

/// Says something to whoever started the program, on standard error.
pub(crate) fn say(message: &str) {
    // If nobody listens, there is nobody to tell that either.
    _ = writeln!(io::stderr().lock(), "murmuration: {message}");
}

/// Writes a line on standard output; an error where nobody reads it any more.
pub(crate) fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

fn end_without_mesh(mut events: MessageReader<MeshEvent>, mut exit: MessageWriter<AppExit>) {
    for event in events.read() {
        if let MeshEvent::Failed(error) = event {
            say(&format!("could not join the mesh: {error}"));
            exit.write(AppExit::from_code(NOT_ADMITTED));
        }
    }
}
