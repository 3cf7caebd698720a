//! A game's state on three stacks for Bevy: what do the same moving entities cost in bytes and CPU, and how old is what is seen?
//!
//! The scene of `bevy-plugin/examples/swarm.rs`, its motion and its measuring included, with whatever replicates a component in one
//! line on each stack. Every peer is a process of its own, all on loopback; one stack plays after the other.
#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

mod lightyear;
mod replicon;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bevy::prelude::AppExit;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::report::{Column, Report, say};
use crate::swarm::part::Part;
use crate::swarm::{self, fleet};

/// What is shown, in this order; of the first ones less is better, and they are compared.
const FIGURES: [&str; 16] = [
    "bytes_per_entity_update",
    "bytes_per_update_seen",
    "kilobytes_per_second_per_receiver",
    "cpu_ms_per_second_total",
    "state_age_p50_ms",
    "state_age_p99_ms",
    "state_age_mean_ms",
    "cpu_ms_per_second_others",
    "updates_seen_per_entity_per_second",
    "ticks_per_second",
    "frames_per_second",
    "entities_seen",
    "entities_converged",
    "datagrams_dropped_per_second",
    "processes",
    "processes_failed",
];
const COMPARED: usize = 7;
/// What the column that compares is called.
const RATIO: &str = "ours_over_best_rival";

const NOTES: [&str; 6] = [
    "Peerflock: a mesh of --peers processes, each the owner of its share of the entities, all see all. bevy_replicon and \
     lightyear: a server that owns all entities and --peers clients that see them. What a player's own input takes to the server \
     and back is in no figure.",
    "Each stack replicates Transform by one line and Health by another (and by a third the stamp that ages are measured by), with \
     its defaults otherwise. The rivals send whole floats; Peerflock quantizes by itself (1/256 unit) and encrypts everything, \
     as netcode does.",
    "bytes_per_entity_update: all bytes of UDP payload, both ways, acknowledgements and keep-alives included, over the updates \
     that were due: every tick of every entity at every process that sees it and does not own it. bytes_per_update_seen: over \
     those that were seen, so that nobody wins by sending less.",
    "cpu_ms_per_second_total: of all processes together, the server's too. Everything but the replication (the scene, the \
     measuring, an empty Bevy app) is in it, on each stack the same for each process. cpu_ms_per_second_others: what other programs of the machine used meanwhile; where \
     there was not enough for all, nothing here means much.",
    "state_age: in every frame of every process, how long ago the newest tick that has arrived from each other owner was played. \
     Two loops of 60 Hz that know nothing of each other make 8.3 ms of it in the mean, and one run tells that to about a \
     millisecond. Peerflock shows transforms one jitter \
     buffer later, to show them smoothly, which is not in it; the rivals show them as they arrive.",
    "entities_converged: after the measuring all entities come to rest at known places; the part of them that all processes saw \
     rest there two seconds later. datagrams_dropped_per_second: because a receiver's buffer was full.",
];

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Peers of the mesh, or clients of the server.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(2..=64))]
    peers: u32,
    #[command(flatten)]
    part: Part,
    /// Only these stacks.
    #[arg(long, value_name = "STACK,...", value_delimiter = ',', value_enum, default_values = ["peerflock", "replicon", "lightyear"])]
    only: Vec<Stack>,
    /// Write the figures to this file, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stack {
    Peerflock,
    Replicon,
    Lightyear,
}

impl Stack {
    /// By what it is called on the command line.
    const fn name(self) -> &'static str {
        match self {
            Self::Peerflock => "peerflock",
            Self::Replicon => "replicon",
            Self::Lightyear => "lightyear",
        }
    }

    /// By what it is known. The versions are those of `Cargo.toml`.
    const fn title(self) -> &'static str {
        match self {
            Self::Peerflock => "bevy_peerflock",
            Self::Replicon => "bevy_replicon",
            Self::Lightyear => "lightyear",
        }
    }

    const fn versions(self) -> &'static str {
        match self {
            Self::Peerflock => "bevy_peerflock 0.1.0",
            Self::Replicon => "bevy_replicon 0.44.3 on bevy_replicon_renet 0.20.0 (renet 2.0, netcode)",
            Self::Lightyear => "lightyear 0.30.1 (default features, netcode, udp)",
        }
    }
}

/// All processes of one stack, started and added up by one that has a network namespace for them.
#[derive(Args, Clone, Debug)]
pub(crate) struct FleetOptions {
    #[arg(value_enum)]
    stack: Stack,
    #[arg(long)]
    peers: u32,
    #[command(flatten)]
    part: Part,
}

/// One process of one stack.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlayerOptions {
    #[arg(value_enum)]
    stack: Stack,
    #[command(flatten)]
    part: Part,
}

/// Plays the scene on every stack, one after the other.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let part = &options.part;
    let settings = json!({
        "peers": options.peers, "entities": part.entities, "hz": part.hz, "seconds": part.seconds, "warm_up": part.warm_up,
    });
    let mut notes: Vec<String> = options.only.iter().map(|stack| format!("{}.", stack.versions())).collect();
    notes.push("All on bevy 0.19.1, headless.".into());
    notes.extend(NOTES.map(str::to_owned));
    let mut found = Vec::new();
    for stack in &options.only {
        let (isolated, figures) = fleet_of(*stack, options);
        if !isolated {
            notes.push(format!("{}: no network namespace; all traffic on loopback is counted as its own.", stack.title()));
        }
        let figures = figures.unwrap_or_else(|failure| Map::from_iter([("complaint".to_owned(), failure.into())]));
        if let Some(complaint) = figures.get("complaint").and_then(Value::as_str) {
            notes.push(format!("{} complained: {complaint}", stack.title()));
        }
        found.push((*stack, figures));
    }
    let mut columns: Vec<Column> = found.iter().map(|(stack, figures)| column(*stack, options.peers, figures)).collect();
    columns.extend(ratios(&columns));
    Ok(Report { scene: "game", options: settings, seed: None, columns, notes })
}

/// Runs all processes of a stack and prints what they found, for [`run`].
pub(crate) fn run_fleet(options: &FleetOptions) -> Result<(), Failure> {
    let parts = match options.stack {
        Stack::Peerflock => fleet::shares(&options.part, options.peers),
        Stack::Replicon | Stack::Lightyear => served(&options.part, options.peers),
    };
    let figures = fleet::run(&["player", options.stack.name()], &parts).map_err(|error| Failure::Unmet(error.to_string()))?;
    say(&Value::Object(figures).to_string());
    Ok(())
}

/// Is one process of a stack.
pub(crate) fn run_player(options: &PlayerOptions) -> Result<ExitCode, Failure> {
    let part = options.part.clone().begun(Duration::ZERO);
    let exit = match options.stack {
        Stack::Peerflock => return swarm::play(&part).map_err(|error| Failure::Unmet(error.to_string())),
        Stack::Replicon => replicon::play(&part)?,
        Stack::Lightyear => lightyear::play(&part)?,
    };
    Ok(if exit == AppExit::Success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Parts for a server that has all bodies, and for so many clients that have none.
fn served(part: &Part, clients: u32) -> Vec<Part> {
    let part = part.clone().begun(fleet::starting(clients + 1));
    let server = part.share(0, 0, part.entities);
    std::iter::once(server).chain((1..=clients).map(|client| part.share(client, 0, 0))).collect()
}

/// What all processes of a stack came to, or why there is nothing; and whether they had a network of their own.
fn fleet_of(stack: Stack, options: &Options) -> (bool, Result<Map<String, Value>, String>) {
    let peers = options.peers.to_string();
    let mut arguments: Vec<String> = ["fleet", stack.name(), "--peers", &peers].map(str::to_owned).to_vec();
    arguments.extend(options.part.arguments());
    let isolated = fleet::isolated(&arguments);
    let alone = isolated.is_some();
    let plain = || std::env::current_exe().map(|program| with_arguments(Command::new(program), &arguments));
    let output = isolated.map_or_else(plain, Ok).and_then(|mut command| command.output());
    let figures = output.map_err(|error| error.to_string()).and_then(|output| {
        let last = String::from_utf8_lossy(&output.stdout).lines().last().and_then(|line| serde_json::from_str(line).ok());
        last.ok_or_else(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
    });
    (alone, figures)
}

fn with_arguments(mut command: Command, arguments: &[String]) -> Command {
    command.args(arguments);
    command
}

fn column(stack: Stack, peers: u32, figures: &Map<String, Value>) -> Column {
    // What is not there was not found, and is shown so.
    let figure = |name| (name, figures.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN));
    Column { stack: stack.title(), peers: peers as usize, figures: FIGURES.map(figure).to_vec() }
}

/// Ours over the best of the rivals, figure by figure, where both are there.
fn ratios(columns: &[Column]) -> Option<Column> {
    let (ours, rivals): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|column| column.stack == Stack::Peerflock.title());
    let ours = ours.first().filter(|_| !rivals.is_empty())?;
    let figures = ours.figures.iter().enumerate().map(|(row, (name, value))| {
        let best = rivals.iter().map(|column| column.figures[row].1).fold(f64::NAN, f64::min);
        (*name, if row < COMPARED { value / best } else { f64::NAN })
    });
    Some(Column { stack: RATIO, peers: ours.peers, figures: figures.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bytes: f64) -> Map<String, Value> {
        Map::from_iter([("bytes_per_entity_update".to_owned(), bytes.into()), ("processes".to_owned(), 4.into())])
    }

    #[test]
    fn ours_is_compared_with_the_best_rival_that_has_a_figure() {
        let columns = [
            column(Stack::Peerflock, 4, &found(5.0)),
            column(Stack::Replicon, 4, &found(40.0)),
            column(Stack::Lightyear, 4, &Map::new()),
        ];
        let ratios = ratios(&columns).expect("a column of ratios");
        assert_eq!(ratios.figures[0], ("bytes_per_entity_update", 0.125));
        assert!(ratios.figures[1..].iter().all(|(_, ratio)| ratio.is_nan()));
    }

    #[test]
    fn the_versions_shown_are_those_that_are_built() {
        let manifest = include_str!("../Cargo.toml");
        for (dependency, version) in [("bevy_replicon", "0.44.3"), ("bevy_replicon_renet", "0.20.0"), ("lightyear", "0.30.1")] {
            assert!(manifest.contains(&format!("{dependency} = {{ version = \"={version}\"")), "{dependency}");
            assert!([Stack::Replicon, Stack::Lightyear].iter().any(|stack| stack.versions().contains(version)), "{dependency}");
        }
        assert!(manifest.contains("bevy = { version = \"=0.19.1\""));
    }
}
