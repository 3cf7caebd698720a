//! `cargo lab`: every figure that Peerflock quotes, measured here and now.
//!
//! Alone it lists the experiments and the claim that each proves. Each prints a table for people and, with `--json FILE`, writes
//! one JSON object: the experiment, its options and seed, and its fields. Figures are counts, or ratios within one run:
//! machines differ, and are noisy.

mod experiment;
mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::experiment::{Failure, flood, game, link, queue};
use crate::report::Report;

/// Measures what Peerflock claims.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", version, after_help = "Example: cargo lab game --peers 8 --seconds 20 --json game.json")]
struct Cli {
    #[command(subcommand)]
    experiment: Option<Experiment>,
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// Several processes of the real game on loopback: bytes, CPU, age of state, redundancy.
    Game(game::Options),
    /// The protocol alone in virtual time, everybody sending: copies, bytes and latency of each delivery.
    Flood(flood::Options),
    /// Real sockets on loopback: CPU and memory of a mesh beside a plain full mesh of QUIC connections, in one run.
    Link(link::Options),
    /// One link in virtual time: how old state gets on a lossy one, a slow one, and after outages.
    Queue(queue::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().experiment {
        None => {
            report::say(LIST);
            return ExitCode::SUCCESS;
        }
        Some(Experiment::Game(options)) => game::run(&options).and_then(|report| finish(report, options.json.as_deref())),
        Some(Experiment::Flood(options)) => flood::run(&options).and_then(|report| finish(report, options.json.as_deref())),
        Some(Experiment::Link(options)) => link::run(&options).and_then(|report| finish(report, options.json.as_deref())),
        Some(Experiment::Queue(options)) => queue::run(&options).and_then(|report| finish(report, options.json.as_deref())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn finish(report: Report, json: Option<&std::path::Path>) -> Result<(), Failure> {
    report::say(&report.table());
    if let Some(path) = json {
        std::fs::write(path, report.json()).map_err(|source| Failure::Write { path: path.to_owned(), source })?;
    }
    Ok(())
}

const LIST: &str = "\
Experiments, and what each proves:

  cargo lab game    a real game runs over real QUIC links between real processes: all end with one world, and this is what it
                    costs in bytes and CPU, and how old the state is that players see
  cargo lab flood   when everybody sends on a beat, each hears each once: copies, bytes per byte of payload, latency against
                    the shortest path, in virtual time on links of 10 to 50 ms
  cargo lab link    one packet carries many players' frames: CPU per delivered frame against a plain full mesh of QUIC
                    connections, and memory per neighbor, over real sockets on loopback
  cargo lab queue   fresh state never waits behind stale: its age in our queues at 5 % loss, after outages, and on a link of
                    half the needed rate, over real QUIC in virtual time

Each takes --help, and --json FILE for its figures.";
