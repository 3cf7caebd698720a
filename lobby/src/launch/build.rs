//! Building the game with the cargo that started us.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::output::Output;
use super::{Game, LaunchError, last_words};
use crate::text;

/// A build on its way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Build {
    child: Child,
    output: Output,
    told: String,
}

/// How a build goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It works; the compiler's latest words, if they are new.
    Working(Option<String>),
    /// The program is there.
    Done,
    /// It is not, and why.
    Failed(String),
}

impl Build {
    pub(super) fn start(game: Game, cargo: &Path, manifest: &Path) -> Result<Self, LaunchError> {
        let spawn = || {
            let (output, for_out, for_err) = Output::create()?;
            let child = Command::new(cargo)
                .args(["build", "--package", game.program, "--color=never"])
                .current_dir(manifest)
                .stdin(Stdio::null())
                .stdout(for_out)
                .stderr(for_err)
                .spawn()?;
            Ok(Self { child, output, told: String::new() })
        };
        spawn().map_err(|source| LaunchError::Spawn { path: cargo.to_owned(), source })
    }

    pub(super) fn poll(&mut self) -> State {
        match self.child.try_wait() {
            Ok(None) => {
                let words = self.output.text().lines().last().map(text::clean_line).unwrap_or_default();
                if words.is_empty() || words == self.told {
                    return State::Working(None);
                }
                self.told.clone_from(&words);
                State::Working(Some(words))
            }
            Ok(Some(status)) if status.success() => State::Done,
            Ok(Some(_)) => {
                let why = last_words(&self.output.text()).unwrap_or_else(|| "cargo said nothing".to_owned());
                State::Failed(format!("The game could not be built: {why}"))
            }
            Err(error) => State::Failed(format!("The game could not be built: {error}")),
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}
