//! A headless swarm: entities on curved paths, each moved by its owner, seen by everybody; and what that costs.
//!
//! `swarm --peers 4 --entities 200` runs four processes in one mesh, with 50 entities each, and prints what they measured as one
//! line of JSON. By hand: start one, then others with `--join` and what the first one printed; each prints what itself found.
//!
//! The scene and its measuring know nothing of the stack that carries them (`swarm/`): all that is ours is in this file.
#![allow(elided_lifetimes_in_paths, reason = "systems are written as games write them")]

#[path = "swarm/ages.rs"]
pub(crate) mod ages;
#[path = "swarm/cpu.rs"]
pub(crate) mod cpu;
#[path = "swarm/fleet.rs"]
pub(crate) mod fleet;
#[path = "swarm/measure.rs"]
pub(crate) mod measure;
#[path = "swarm/part.rs"]
pub(crate) mod part;
#[path = "swarm/scene.rs"]
pub(crate) mod scene;
#[path = "swarm/wire.rs"]
pub(crate) mod wire;

use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bevy::prelude::*;
use bevy_peerflock::peerflock::{ParseTicketError, StartError};
use bevy_peerflock::prelude::*;
use clap::Parser;

use self::fleet::FleetError;
use self::measure::{Watched, announce, complain, say};
use self::part::Part;
use self::scene::{Health, Stamp};

/// What the mesh is called.
const MESH: &str = "swarm";

/// Entities on curved paths in a mesh without a server, measured: bytes, CPU, age of state, updates that arrived.
#[derive(Clone, Debug, Parser)]
#[command(name = "swarm", after_help = "Example: swarm --peers 4 --entities 200 --hz 60")]
pub(crate) struct Options {
    #[command(flatten)]
    part: Part,
    /// Run so many processes in one mesh, and add up what they find
    #[arg(long, value_name = "N", conflicts_with = "join", value_parser = clap::value_parser!(u32).range(2..=64))]
    peers: Option<u32>,
    /// For itself: it is in a network namespace of its own.
    #[arg(long, hide = true)]
    isolated: bool,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwarmError {
    /// Where to join is neither an address nor a ticket.
    #[error("--join: {0}; give what the first process printed after `join: `, or an address with its port")]
    Join(#[from] ParseTicketError),
    /// The run failed.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.peers {
        Some(peers) => run_many(&options, peers),
        None => play(&options.part),
    };
    done.unwrap_or_else(|error| {
        complain(&error.to_string());
        ExitCode::FAILURE
    })
}

/// Plays one part in a mesh.
pub(crate) fn play(part: &Part) -> Result<ExitCode, SwarmError> {
    let part = part.clone().begun(Duration::ZERO);
    // Who was invited need not look around.
    let mesh = PeerMesh::named(MESH).lan(false);
    let mesh = match &part.join {
        None => mesh,
        Some(place) => match place.parse() {
            Ok(address) => mesh.join_address(address),
            Err(_) => mesh.join(place.parse()?),
        },
    };
    let exit = scene::app(&part, Replicated)
        .add_plugins((PeerflockPlugin::new(mesh), measure::plugin))
        .replicate::<Transform>()
        .replicate::<Health>()
        .replicate::<Stamp>()
        .add_systems(Update, (invite, show_as_it_arrives))
        .run();
    Ok(if exit.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a mesh of processes, in a network namespace of its own where possible.
fn run_many(options: &Options, peers: u32) -> Result<ExitCode, SwarmError> {
    if !options.isolated {
        let arguments: Vec<String> = std::env::args().skip(1).chain(["--isolated".into()]).collect();
        if let Some(mut command) = fleet::isolated(&arguments) {
            let status = command.stdin(Stdio::null()).status().map_err(FleetError::from)?;
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }
    let mut figures = fleet::run(&[], &fleet::shares(&options.part, peers))?;
    let counted = if options.isolated { "a network namespace of its own" } else { "all traffic on loopback" };
    figures.insert("bytes_counted_in".into(), counted.into());
    say(&serde_json::Value::Object(figures).to_string());
    Ok(ExitCode::SUCCESS)
}

/// Tells how to join, or why there is no mesh.
fn invite(mut events: MessageReader<MeshEvent>, mesh: Option<Res<MeshHandle>>, mut exit: MessageWriter<AppExit>) {
    for event in events.read() {
        match event {
            MeshEvent::Ready => mesh.iter().for_each(|mesh| announce(&mesh.ticket().to_string())),
            MeshEvent::Failed(error) => {
                complain(&Arc::<StartError>::clone(error).to_string());
                exit.write(AppExit::error());
            }
            _ => {}
        }
    }
}

/// What is counted is what arrived.
fn show_as_it_arrives(mut commands: Commands, new: Query<Entity, Added<Watched>>) {
    new.iter().for_each(|body| _ = commands.entity(body).insert(NoInterpolation));
}
