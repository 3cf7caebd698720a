//! The experiments, one file each, and how they fail.

pub(crate) mod age;
pub(crate) mod auth;
pub(crate) mod chat;
pub(crate) mod churn;
pub(crate) mod codec;
pub(crate) mod content;
pub(crate) mod crash;
pub(crate) mod encode;
pub(crate) mod flood;
pub(crate) mod game;
pub(crate) mod islands;
pub(crate) mod link;
pub(crate) mod nat;
pub(crate) mod ownership;
pub(crate) mod queue;
pub(crate) mod resolvers;
pub(crate) mod rest;
pub(crate) mod rooms;
pub(crate) mod starve;
mod sweep;

use std::path::PathBuf;
use std::process::Command;

/// Why an experiment has no figures. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot start {program}: {source}; run the lab through `cargo lab`, inside the project")]
    Start { program: String, source: std::io::Error },
    #[error("{program} ended with {status}; run it alone to see why")]
    Ended { program: String, status: std::process::ExitStatus },
    #[error("cannot read the report {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}; choose another place")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the report {path} is no JSON object: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{0}; nothing was measured, try again or with other options")]
    Unmet(String),
}

/// Runs what waits for tokio's clock, which stands still while anything is to be done.
pub(crate) fn in_virtual_time<T>(measuring: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.map_err(|error| Failure::Unmet(format!("no runtime: {error}")))?.block_on(measuring)
}

/// Runs a program to its end.
pub(crate) fn finish(command: &mut Command, program: &str) -> Result<(), Failure> {
    let status = command.status().map_err(|source| Failure::Start { program: program.into(), source })?;
    if status.success() { Ok(()) } else { Err(Failure::Ended { program: program.into(), status }) }
}
