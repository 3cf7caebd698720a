//! The only place that writes to the terminal.

use std::io::{self, Write};

/// A line on standard output. A reader who has gone away ends the program quietly, as it does every other.
pub(super) fn line(text: &str) {
    let mut out = io::stdout().lock();
    if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// A line of JSON on standard output.
pub(super) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string(value) {
        Ok(text) => line(&text),
        Err(error) => self::error(&format!("this could not be written as JSON: {error}")),
    }
}

/// What went wrong, on standard error.
pub(super) fn error(text: &str) {
    // Nobody is left to tell if even that cannot be written.
    _ = writeln!(io::stderr().lock(), "{text}");
}
