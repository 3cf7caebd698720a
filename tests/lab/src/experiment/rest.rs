//! A large world in which nothing moves: what does it cost to keep it, and how soon does a newcomer have it?
//!
//! One peer owns all entities, the others watch, nobody touches anything. The same mesh with an empty world lives beside it, by turns
//! with it and in the same process, so that what differs is the world's. CPU time is that of the simulated nodes and of the
//! simulator itself, without sockets and encryption. Links carry any number of bytes at once: on a real one a newcomer waits for
//! its bytes, too.

use std::time::Duration;

use clap::Args;
use peerflock_proto::Config;
use peerflock_proto::sim::Sim;
use serde_json::json;

use super::Failure;
use crate::bodies;
use crate::report::Report;
use crate::scene::{Network, SECRET, bytes_sent};
use crate::stats::{Figure, millis};
use crate::usage::CpuClock;

/// In which all must have the world, the newcomer too.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at whether they have.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What the spawning left behind is gone after so long.
const CALM: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: u16,
    /// Entities, all of one peer.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    entities: u32,
    /// Round trip between any two, in milliseconds.
    #[arg(long, default_value_t = 50)]
    rtt: u64,
    /// Virtual seconds that are measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "peers": options.peers, "entities": options.entities, "rtt_ms": options.rtt, "seconds": options.seconds,
    });
    options.network.each_seed("rest", settings, |seed| measure(options, seed))
}

fn measure(options: &Options, seed: u64) -> Result<Vec<Figure>, Failure> {
    let peers = usize::from(options.peers);
    let simulator = options.network.simulator_with_rtt(seed, options.rtt);
    let mut full = options.network.meet(simulator, &config(options), peers)?;
    let mut empty = options.network.meet(simulator, &config(options), peers)?;
    bodies::spawn(&mut full, 0, options.entities);
    let spawned = all_see(&mut full, options.entities);
    let spawned = spawned.ok_or_else(|| Failure::Unmet("the peers did not all see the world, however long".into()))?;
    let (mut with, mut without) = (Cost::default(), Cost::default());
    full.run(CALM);
    empty.run(CALM);
    for _ in 0..options.seconds {
        with.second(&mut full);
        without.second(&mut empty);
    }
    let seconds = f64::from(options.seconds);
    let links = (0..peers).map(|index| full.node(index).links().len()).sum::<usize>() as f64 / 2.0;
    let on_link = |cost: &Cost| cost.bytes as f64 / links / seconds;
    // Part of a core, in percent.
    let of_core = |cost: &Cost| cost.cpu.map(|cpu| cpu.as_secs_f64() / seconds * 100.0);
    let (with_cpu, without_cpu) = (of_core(&with), of_core(&without));
    let extra = with_cpu.zip(without_cpu).map(|(with, without)| with - without);
    let each = |cpu: Option<f64>| cpu.map(|cpu| cpu / peers as f64);

    let before = bytes_sent(&full);
    let newcomer = full.add(config(options), SECRET);
    full.introduce(newcomer, peers - 1);
    let joined = all_see(&mut full, options.entities);
    let beside = joined.map_or(0.0, |joined| joined.as_secs_f64()) * with.bytes as f64 / seconds;
    Ok(vec![
        Figure::less("bytes_per_second_per_link", on_link(&with)),
        Figure::less("bytes_per_second_per_link_empty", on_link(&without)),
        Figure::less("bytes_per_second_per_link_extra", on_link(&with) - on_link(&without)),
        Figure::soon("cpu_percent_per_node", each(with_cpu)),
        Figure::soon("cpu_percent_per_node_empty", each(without_cpu)),
        Figure::soon("cpu_percent_per_node_extra", each(extra)),
        // Were it all one node's.
        Figure::soon("cpu_percent_extra_of_all_nodes", extra),
        Figure::less("spawned_everywhere_ms", millis(spawned)),
        Figure::soon("newcomer_sees_all_ms", joined.map(millis)),
        Figure::less("newcomer_bytes_per_entity", ((bytes_sent(&full) - before) as f64 - beside) / f64::from(options.entities)),
    ])
}

fn config(options: &Options) -> Config {
    let mut config = Config { registry: bodies::registry(), ..options.network.config() };
    config.limits.entities_per_origin = config.limits.entities_per_origin.max(options.entities as usize);
    config
}

/// How long after now everybody sees one world with so many entities. None: not within all patience.
fn all_see(sim: &mut Sim, entities: u32) -> Option<Duration> {
    let start = sim.now();
    while sim.now().since(start) < PATIENCE {
        sim.run(LOOK_EVERY);
        let all_there = (0..sim.len()).all(|index| sim.node(index).entity_count() == entities as usize);
        // Comparing large worlds takes time: only where none lacks any.
        if all_there && sim.converged() {
            return Some(sim.now().since(start));
        }
    }
    None
}

/// What a mesh costs in all.
#[derive(Debug)]
struct Cost {
    bytes: u64,
    /// None where the system does not tell.
    cpu: Option<Duration>,
}

impl Default for Cost {
    fn default() -> Self {
        Self { bytes: 0, cpu: Some(Duration::ZERO) }
    }
}

impl Cost {
    /// One more virtual second.
    fn second(&mut self, sim: &mut Sim) {
        let (bytes, clock) = (bytes_sent(sim), CpuClock::start());
        sim.run(Duration::from_secs(1));
        self.cpu = self.cpu.zip(clock.spent()).map(|(cpu, spent)| cpu + spent);
        self.bytes += bytes_sent(sim) - bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(entities: u32) -> Options {
        let network = Network { max_neighbors: 7, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 2 };
        Options { peers: 3, entities, rtt: 50, seconds: 5, network }
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        figures.iter().find(|figure| figure.name == name).unwrap().value.unwrap()
    }

    #[test]
    fn a_newcomer_gets_all_and_nothing_comes_before_its_way() {
        let found = measure(&options(300), 2).unwrap();
        // A handshake and one way, at least.
        assert!((75.0..5_000.0).contains(&value(&found, "newcomer_sees_all_ms")), "{found:?}");
        assert!(value(&found, "spawned_everywhere_ms") >= 25.0, "{found:?}");
        assert!(value(&found, "newcomer_bytes_per_entity") > 4.0, "{found:?}");
        assert!(value(&found, "bytes_per_second_per_link_empty") > 0.0, "{found:?}");
    }

    #[test]
    fn what_is_touched_does_not_rest() {
        let options = options(300);
        let mut sim = options.network.meet(options.network.simulator(2), &config(&options), 3).unwrap();
        bodies::spawn(&mut sim, 0, 300);
        assert!(all_see(&mut sim, 300).is_some());
        sim.run(CALM);
        let mut resting = Cost::default();
        resting.second(&mut sim);
        let changes = bodies::moved(&sim, 0, 300, 1.0);
        sim.input(0, peerflock_proto::Input::Commit(changes));
        let mut touched = Cost::default();
        touched.second(&mut sim);
        assert!(touched.bytes > resting.bytes + 300, "{touched:?} {resting:?}");
    }

    #[test]
    fn more_entities_than_the_default_limit_are_let_in() {
        assert_eq!(config(&options(50_000)).limits.entities_per_origin, 50_000);
        assert!(config(&options(5)).limits.entities_per_origin > 5);
    }
}
