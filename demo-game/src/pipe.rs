//! What the launcher and the processes it started tell each other: lines of JSON, orders down, news up.
//!
//! The pipe down is also the leash: when it closes, because the launcher ended in whatever way, the child ends, too.

use std::io::{self, BufRead, BufReader, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::report::PeerReport;
use crate::settings::Settings;

/// Longest line, in bytes: a report of a large mesh stays far below it.
const LINE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// From the launcher.
#[derive(Deserialize, Serialize)]
pub(crate) enum Order {
    /// Who to be. The first order, given once.
    Begin(Box<Settings>),
    /// All have met: begin to measure.
    Play {
        /// How many chat lines to say.
        chat: u32,
        /// How long the play will last.
        seconds: f64,
    },
    /// Stand still.
    Quiet,
    /// Say what you measured.
    Report,
}

/// To the launcher.
#[derive(Deserialize, Serialize)]
pub(crate) enum News {
    /// The mesh stands.
    Ready {
        /// Our public key.
        peer: String,
        /// An invitation to it.
        ticket: String,
    },
    /// What we see, a few times a second.
    Status {
        /// Members, ourselves included.
        members: usize,
        /// Birds, everybody's.
        birds: usize,
        /// The name and birds of who leads.
        ahead: Option<(String, usize)>,
    },
    /// What we measured.
    Report(Box<PeerReport>),
}

/// Writes `message` as one line.
pub(crate) fn write(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads messages, one a line; ends with the pipe, or with a line that is none.
pub(crate) fn read<M: DeserializeOwned>(from: impl Read) -> impl Iterator<Item = M> {
    let mut lines = BufReader::new(from);
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).ok()?;
        serde_json::from_slice(&line).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_pipe_and_rubbish_ends_it() {
        let mut pipe = Vec::new();
        write(&mut pipe, &Order::Play { chat: 3, seconds: 1.5 }).unwrap();
        write(&mut pipe, &Order::Quiet).unwrap();
        pipe.extend(b"rubbish\n{\"Quiet\":null}\n");
        let orders: Vec<Order> = read(&pipe[..]).collect();
        assert!(matches!(orders[..], [Order::Play { chat: 3, seconds: 1.5 }, Order::Quiet]));
    }
}
