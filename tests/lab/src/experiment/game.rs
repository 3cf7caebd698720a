//! Several processes of the real game: what does a mesh of players cost, and how old is what they see?
//!
//! Builds the game as players build it, runs it without a window, and passes on its own report with the CPU time of all its processes.
//!
//! With `--entities` it is not the game but the plugin's example `swarm`: so many entities, each moved in every tick, and
//! nothing else, so that bytes and CPU are those of what is replicated. `cargo rivals game` plays the same on other people's stacks.

use std::process::{Command, Stdio};

use clap::Args;
use serde_json::{Value, json};

use super::{Failure, finish};
use crate::report::Report;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Processes, each a player.
    #[arg(long, default_value_t = 4)]
    peers: usize,
    /// How long they play.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Most neighbors of each.
    #[arg(long, conflicts_with = "entities")]
    max_neighbors: Option<usize>,
    /// Not the game, but so many moving entities of all together.
    #[arg(long)]
    entities: Option<u32>,
    /// With --entities: ticks per second, all of them with all entities moved.
    #[arg(long, default_value_t = 60, requires = "entities")]
    hz: u32,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    match options.entities {
        None => play(options),
        Some(entities) => swarm(options, entities),
    }
}

/// The game itself.
fn play(options: &Options) -> Result<Report, Failure> {
    let cargo = cargo();
    finish(Command::new(&cargo).args(["build", "--quiet", "--package", "murmuration"]), "cargo build --package murmuration")?;
    let path = std::env::temp_dir().join(format!("peerflock-lab-game-{}.json", std::process::id()));
    let mut game = Command::new(&cargo);
    game.args(["run", "--quiet", "--package", "murmuration", "--", "--headless", "--peers", &options.peers.to_string()]);
    game.args(["--seconds", &options.seconds.to_string(), "--report"]).arg(&path).env("PEERFLOCK_INTERFACE", "lo");
    if let Some(max) = options.max_neighbors {
        game.args(["--max-neighbors", &max.to_string()]);
    }
    let before = children_cpu_seconds();
    finish(&mut game, "the game")?;
    let cpu = children_cpu_seconds().zip(before).map(|(after, before)| after - before);
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    // It was ours and temporary; a leftover in the temporary folder does no harm.
    let _ = std::fs::remove_file(&path);
    let found: serde_json::Map<String, Value> = serde_json::from_str(&text).map_err(|source| Failure::Parse { path, source })?;

    let settings = json!({ "peers": options.peers, "seconds": options.seconds, "max_neighbors": options.max_neighbors });
    let mut report = Report::new("game", settings, None);
    for (name, value) in found {
        report.field(name, value);
    }
    if let Some(cpu) = cpu {
        report.field("cpu_ms_per_peer_per_second", cpu * 1_000.0 / (options.peers as f64 * options.seconds as f64));
    }
    Ok(report)
}

/// Moving entities and nothing else.
fn swarm(options: &Options, entities: u32) -> Result<Report, Failure> {
    const PROGRAM: &str = "the example swarm";
    let (peers, seconds, hz) = (options.peers.to_string(), options.seconds.to_string(), options.hz.to_string());
    let mut swarm = Command::new(cargo());
    swarm.args(["run", "--quiet", "--package", "bevy_peerflock", "--example", "swarm", "--", "--peers", &peers]);
    swarm.args(["--entities", &entities.to_string(), "--hz", &hz, "--seconds", &seconds]);
    let swarm = swarm.env("PEERFLOCK_INTERFACE", "lo").stderr(Stdio::inherit());
    let output = swarm.output().map_err(|source| Failure::Start { program: PROGRAM.into(), source })?;
    if !output.status.success() {
        return Err(Failure::Ended { program: PROGRAM.into(), status: output.status });
    }
    let found: serde_json::Map<String, Value> =
        serde_json::from_slice(&output.stdout).map_err(|source| Failure::Parse { path: PROGRAM.into(), source })?;

    let settings = json!({ "peers": options.peers, "entities": entities, "hz": options.hz, "seconds": options.seconds });
    let mut report = Report::new("game", settings, None);
    for (name, value) in found {
        report.field(name, value);
    }
    Ok(report)
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".into())
}

/// CPU time of all child processes that ended so far, where the system tells: fields 16 and 17 of `/proc/self/stat` (proc(5)), in
/// ticks of 10 ms.
fn children_cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let (user, system): (f64, f64) = (fields.get(13)?.parse().ok()?, fields.get(14)?.parse().ok()?);
    Some((user + system) / 100.0)
}
