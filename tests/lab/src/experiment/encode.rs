//! What does a tick cost its origin, in small and in large meshes?
//!
//! "Encode once, whoever listens": one delta, the same bytes for every receiver. So what a tick costs must not grow with the mesh.
//!
//! Each mesh lives in a process of its own, under valgrind where there is one: everybody plays in virtual time, and instructions and
//! allocations are counted only while the origin takes its game's changes in and hands its packets over. Of a debug build the
//! figures are those of a debug build.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::{Sim, remember_signatures};
use peerflock_proto::{Config, Input, LinkId, Node, Output, Time};
use serde_json::{Map, Value, json};

use super::Failure;
use crate::report::{Report, complain};
use crate::scene::Network;
use crate::{bodies, callgrind};

/// Whose ticks are measured: not the first, who opened the mesh, though nobody is special.
const ORIGIN: usize = 1;
/// What the part of a tick that makes bits of values is called.
const ENCODER: &str = "coder::encode";
/// What is counted is called so: `origin_tick`, below.
const TICK: &str = "encode::origin_tick";

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Numbers of peers, each measured in a process of its own.
    #[arg(long, value_name = "PEERS,...", value_delimiter = ',', default_value = "8,64",
        value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: Vec<u16>,
    #[command(flatten)]
    scene: Scene,
}

/// What is played.
#[derive(Args, Clone, Debug)]
struct Scene {
    /// Entities that the origin moves in every tick.
    #[arg(long, default_value_t = 125)]
    entities: u32,
    /// Entities that each of the others moves in every tick.
    #[arg(long, default_value_t = 1)]
    others: u32,
    /// Ticks a second, of everybody.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=240))]
    hz: u32,
    /// Ticks that are measured.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    ticks: u32,
    /// Ticks before those, not measured.
    #[arg(long, default_value_t = 90)]
    warmup: u32,
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    max_neighbors: usize,
    /// Seconds, in virtual time, in which the overlay may find its shape after all have met.
    #[arg(long, default_value_t = 5)]
    settle: u64,
    /// Round trip between any two, in milliseconds; without it, links of 10 to 50 ms one way. The older what all are known to have,
    /// the more there is to say.
    #[arg(long)]
    rtt: Option<u64>,
    /// Part of the datagrams that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One mesh, played in this process.
#[derive(Args, Debug)]
pub(crate) struct One {
    #[arg(long)]
    peers: u16,
    #[command(flatten)]
    scene: Scene,
    /// This process was started by callgrind.
    #[arg(long)]
    counted: bool,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let mut sizes = options.peers.clone();
    sizes.sort_unstable();
    sizes.dedup();
    let counted = callgrind::is_there();
    if !counted {
        complain("no valgrind here, so no instructions and no allocations: install it, or make do with packets and bytes");
    }
    let mut settings = options.scene.settings();
    settings.insert("peers".into(), sizes.clone().into());
    let mut report = Report::new("encode", settings.into(), Some(options.scene.seed));
    report.field("instructions_counted", counted);
    let mut found: Vec<Map<String, Value>> = Vec::new();
    for peers in sizes {
        complain(&format!("{peers} peers"));
        let figures = measured(&options.scene, peers, counted)?;
        figures.iter().for_each(|(name, value)| report.field(format!("{name}_{peers}"), value.clone()));
        found.push(figures);
    }
    for name in ["instructions_per_tick", "encoder_instructions_per_tick", "allocations_per_tick", "made_bytes_per_tick"] {
        if let Some(ratio) = ratio(&found, name) {
            report.field(format!("{name}_ratio"), ratio);
        }
    }
    Ok(report)
}

/// Of the largest mesh to the smallest.
fn ratio(found: &[Map<String, Value>], name: &str) -> Option<f64> {
    let (first, last) = (found.first()?.get(name)?.as_f64()?, found.last()?.get(name)?.as_f64()?);
    (found.len() > 1 && first > 0.0).then(|| last / first)
}

/// One mesh in a process of its own.
fn measured(scene: &Scene, peers: u16, counted: bool) -> Result<Map<String, Value>, Failure> {
    let program = std::env::current_exe().map_err(|source| Failure::Start { program: "the lab".into(), source })?;
    let name = |what| std::env::temp_dir().join(format!("peerflock-lab-encode-{}-{peers}.{what}", std::process::id()));
    let (path, counts) = (name("json"), name("callgrind"));
    let mut child = if counted { callgrind::command(&program, TICK, &counts) } else { std::process::Command::new(&program) };
    child.args(["encode-one", "--peers", &peers.to_string(), "--json"]).arg(&path).args(scene.arguments());
    if counted {
        child.arg("--counted");
    }
    super::finish(child.stdout(Stdio::null()), &format!("a mesh of {peers} peers"))?;
    let text = std::fs::read_to_string(&path).map_err(|source| Failure::Read { path: path.clone(), source })?;
    // It was ours and temporary; a leftover in the temporary folder does no harm.
    let _ = std::fs::remove_file(&path);
    let mut report: Map<String, Value> = serde_json::from_str(&text).map_err(|source| Failure::Parse { path, source })?;
    report.retain(|name, _| name.ends_with("_per_tick") || name == "links");
    if counted {
        let counts = callgrind::counts(&counts, ENCODER)?;
        let per_tick = |count: u64| Value::from(count as f64 / f64::from(scene.ticks));
        report.insert("instructions_per_tick".into(), per_tick(counts.instructions));
        report.insert("encoder_instructions_per_tick".into(), per_tick(counts.of_part));
        report.insert("allocations_per_tick".into(), per_tick(counts.allocations));
    }
    Ok(report)
}

pub(crate) fn run_one(options: &One) -> Result<Report, Failure> {
    remember_signatures();
    let (_, counts) = play(&options.scene, usize::from(options.peers), options.counted)?;
    let mut settings = options.scene.settings();
    settings.insert("peers".into(), options.peers.into());
    let mut report = Report::new("encode one", settings.into(), Some(options.scene.seed));
    let per_tick = |count: u64| count as f64 / f64::from(options.scene.ticks);
    report.field("links", counts.links);
    report.field("packets_per_tick", per_tick(counts.packets));
    report.field("bytes_per_tick", per_tick(counts.bytes));
    report.field("made_bytes_per_tick", per_tick(counts.made_bytes));
    Ok(report)
}

/// What the origin handed to its links in the ticks that are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Handed {
    links: usize,
    /// Datagrams, to all links.
    packets: u64,
    bytes: u64,
    /// Bytes to the link that got most in each tick: what it made, as all get the same, or nothing.
    made_bytes: u64,
}

fn play(scene: &Scene, peers: usize, counted: bool) -> Result<(Sim, Handed), Failure> {
    let network = scene.network();
    let config = Config { registry: bodies::registry(), ..network.config() };
    let drawn = || network.simulator(scene.seed);
    let simulator = scene.rtt.map_or_else(drawn, |rtt| network.simulator_with_rtt(scene.seed, rtt));
    let mut sim = network.meet(simulator, &config, peers)?;
    let count = |index| if index == ORIGIN { scene.entities } else { scene.others };
    (0..peers).for_each(|index| bodies::spawn(&mut sim, index, count(index)));
    let mut handed = Handed::default();
    let tick = Duration::from_secs(1) / scene.hz;
    let start = sim.now();
    let mut outputs = Vec::with_capacity(4_096);
    for number in 1..=scene.warmup + scene.ticks {
        let seconds = number as f32 / scene.hz as f32;
        for index in 0..peers {
            let phase = start + tick * number + tick * index as u32 / peers as u32;
            sim.run(phase.since(sim.now()));
            let changes = bodies::moved(&sim, index, count(index), seconds);
            if index != ORIGIN || number <= scene.warmup {
                sim.input(index, Input::Commit(changes));
                continue;
            }
            let commit = Input::Commit(changes);
            let tick = || sim.with(index, |node, now| origin_tick(node, commit, now, &mut outputs));
            if counted {
                callgrind::watched(tick)?;
            } else {
                tick();
            }
            handed.add(&sim, &outputs);
            outputs.drain(..).for_each(|output| sim.perform(index, output));
        }
        (0..peers).for_each(|index| drop(sim.take_events(index)));
    }
    if handed.packets == 0 {
        return Err(Failure::Unmet("the origin sent nothing".into()));
    }
    Ok((sim, handed))
}

/// All that is counted: the game's changes go in, and what is to be sent comes out. Never part of another function: callgrind
/// begins to count where it begins.
#[inline(never)]
fn origin_tick(node: &mut Node, commit: Input, now: Time, outputs: &mut Vec<Output>) {
    node.handle(commit, now);
    while let Some(output) = node.poll_output() {
        outputs.push(output);
    }
}

impl Handed {
    fn add(&mut self, sim: &Sim, outputs: &[Output]) {
        self.links = sim.node(ORIGIN).links().len();
        let mut to_each: BTreeMap<LinkId, u64> = BTreeMap::new();
        for output in outputs {
            if let Output::Datagram { link, bytes } = output {
                self.packets += 1;
                *to_each.entry(*link).or_default() += bytes.len() as u64;
            }
        }
        self.bytes += to_each.values().sum::<u64>();
        self.made_bytes += to_each.values().max().copied().unwrap_or_default();
    }
}

impl Scene {
    fn network(&self) -> Network {
        let Self { max_neighbors, settle, loss, seed, .. } = *self;
        Network { max_neighbors, loss, burst: 1.0, seed, seeds: 1, settle }
    }

    fn settings(&self) -> Map<String, Value> {
        let settings = json!({
            "entities": self.entities, "others": self.others, "hz": self.hz, "ticks": self.ticks, "warmup": self.warmup,
            "max_neighbors": self.max_neighbors, "settle": self.settle, "rtt": self.rtt, "loss": self.loss,
        });
        settings.as_object().cloned().unwrap_or_default()
    }

    /// The same as options of a command.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let settings = self.settings().into_iter().chain([("seed".into(), self.seed.into())]);
        for (name, value) in settings.filter(|(_, value)| !value.is_null()) {
            arguments.extend([format!("--{}", name.replace('_', "-")), value.to_string()]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        scene: Scene,
    }

    fn scene(line: &[&str]) -> Scene {
        Line::parse_from(["lab", "--settle", "2", "--ticks", "5", "--warmup", "30"].iter().chain(line)).scene
    }

    #[test]
    fn only_ticks_that_are_measured_are_counted_and_they_go_to_every_link() {
        let (_, few) = play(&scene(&[]), 4, false).unwrap();
        assert_eq!((few.links, few.packets % 15, few.bytes), (3, 0, 3 * few.made_bytes));
        let (_, twice) = play(&Scene { ticks: 10, ..scene(&[]) }, 4, false).unwrap();
        assert_eq!(twice.packets, 2 * few.packets);
    }

    #[test]
    fn a_tick_that_is_measured_is_one_like_any_other() {
        let measured = scene(&["--loss", "0.1"]);
        let (one, _) = play(&measured, 3, false).unwrap();
        let (other, _) = play(&Scene { warmup: 34, ticks: 1, ..measured }, 3, false).unwrap();
        assert_eq!(one.trace(), other.trace());
        assert!(one.node(0).entity_count() == 127 && one.node(ORIGIN).counters() == other.node(ORIGIN).counters());
    }

    #[test]
    fn a_process_of_its_own_plays_the_same_scene() {
        let scene = scene(&["--loss", "0.25", "--seed", "9", "--rtt", "70"]);
        let again = Line::parse_from(std::iter::once("lab".to_owned()).chain(scene.arguments())).scene;
        assert_eq!((again.settings(), again.seed), (scene.settings(), 9));
    }

    #[test]
    fn a_ratio_is_that_of_the_last_to_the_first() {
        let of = |count: f64| Map::from_iter([("instructions_per_tick".into(), Value::from(count))]);
        assert_eq!(ratio(&[of(100.0), of(500.0), of(110.0)], "instructions_per_tick"), Some(1.1));
        assert_eq!(ratio(&[of(100.0)], "instructions_per_tick"), None);
        assert_eq!(ratio(&[of(100.0), Map::new()], "instructions_per_tick"), None);
    }
}
