//! `cargo rivals`: the lab's scenes on other people's stacks, beside our own, in one program.
//!
//! Alone it lists the scenes and what each compares. Each prints a table with a column for each stack and below it what was
//! counted; with `--json FILE` it writes one JSON object, too. The flood runs in virtual time and follows from the seed: the
//! same options give the same figures, and within one run all stacks have the same links. The game runs in real processes, one
//! stack after the other: compare what stands side by side in one run.

mod flood;
mod game;
mod report;
/// Our own game: the scene that all stacks play.
#[path = "../../../bevy-plugin/examples/swarm.rs"]
#[allow(dead_code, reason = "as a program of its own it has a main function and options that are not needed here")]
mod swarm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::Report;

/// Measures other people's stacks on the scenes that Peerflock is measured on.
#[derive(Debug, Parser)]
#[command(name = "cargo rivals", version, after_help = "Example: cargo rivals flood --peers 16,64 --loss 0.05 --json flood.json")]
struct Cli {
    #[command(subcommand)]
    scene: Option<Scene>,
}

#[derive(Debug, Subcommand)]
enum Scene {
    /// Everybody sends in every round: Peerflock and iroh-gossip, the protocols alone.
    Flood(flood::Options),
    /// Moving entities between real processes: Peerflock and others on Bevy.
    Game(game::Options),
    /// For the game itself: all processes of one stack.
    #[command(hide = true)]
    Fleet(game::FleetOptions),
    /// For the game itself: one of them.
    #[command(hide = true)]
    Player(game::PlayerOptions),
}

/// Why a scene has no figures.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot write {path}: {source}; choose another place")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{0}; nothing was measured, try again with other options")]
    Unmet(String),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().scene {
        None => {
            report::say(LIST);
            return ExitCode::SUCCESS;
        }
        Some(Scene::Flood(options)) => flood::run(&options).and_then(|report| finish(&report, options.json.as_deref())),
        Some(Scene::Game(options)) => game::run(&options).and_then(|report| finish(&report, options.json.as_deref())),
        Some(Scene::Fleet(options)) => game::run_fleet(&options),
        Some(Scene::Player(options)) => {
            return game::run_player(&options).unwrap_or_else(|failure| {
                report::complain(&failure.to_string());
                ExitCode::FAILURE
            });
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn finish(report: &Report, json: Option<&Path>) -> Result<(), Failure> {
    report::say(&report.table());
    if let Some(path) = json {
        std::fs::write(path, report.json()).map_err(|source| Failure::Write { path: path.to_owned(), source })?;
    }
    Ok(())
}

const LIST: &str = "\
Scenes, and what each compares:

  cargo rivals flood    Peerflock and iroh-gossip 0.101 (HyParView and Plumtree), the protocols alone in virtual time: every
                        peer sends one message to all in every round of 50 ms, over the same links of 10 to 50 ms. Copies,
                        bytes per byte of payload, latency of each delivery against the shortest path, for one or
                        several sizes of the mesh
  cargo rivals game     Peerflock's Bevy plugin, bevy_replicon 0.44 on renet and lightyear 0.30 on Bevy 0.19, real processes on
                        loopback: the same moving entities, each component replicated by one line. Bytes for each update of an
                        entity, CPU of all processes, age of what is seen, and how much of it arrived

Each takes --help, and --json FILE for its figures.";
