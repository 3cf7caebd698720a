//! Everybody moves all of its entities all the time: how old is what a player sees, on links that lose packets?
//!
//! In every frame of its own each peer looks at every entity of the others: the age of its state is the time since its owner ended the
//! tick that says so. The owner's clock tells both, so that no two clocks are compared. When all stop, all must soon see one world.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::Sim;
use peerflock_proto::{Config, EntityId, Event, Input, MeshTime, PeerId, WorldEvent};
use serde_json::json;

use super::Failure;
use crate::bodies;
use crate::report::Report;
use crate::scene::Network;
use crate::stats::{Figure, Latencies, millis};

/// After which worlds that are not equal never will be.
const GIVE_UP: Duration = Duration::from_secs(60);
/// How often it is looked at whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: u16,
    /// Entities that each moves in every tick.
    #[arg(long, default_value_t = 125)]
    entities: u32,
    /// Ticks a second, of everybody.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=240))]
    hz: u32,
    /// Round trip between any two, in milliseconds.
    #[arg(long, default_value_t = 100)]
    rtt: u64,
    /// Virtual seconds that are measured.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Virtual seconds before those, not measured.
    #[arg(long, default_value_t = 2)]
    warmup: u32,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "peers": options.peers, "entities_each": options.entities, "hz": options.hz, "rtt_ms": options.rtt,
        "seconds": options.seconds, "warmup": options.warmup,
    });
    options.network.each_seed("age", settings, |seed| measure(options, seed))
}

fn measure(options: &Options, seed: u64) -> Result<Vec<Figure>, Failure> {
    let config = Config { registry: bodies::registry(), ..options.network.config() };
    let simulator = options.network.simulator_with_rtt(seed, options.rtt);
    let peers = usize::from(options.peers);
    let mut sim = options.network.meet(simulator, &config, peers)?;
    (0..peers).for_each(|index| bodies::spawn(&mut sim, index, options.entities));
    let mut views: Vec<View> = (0..peers).map(|_| View::default()).collect();
    let indices: BTreeMap<PeerId, usize> = (0..peers).map(|index| (sim.peer(index), index)).collect();
    let tick = Duration::from_secs(1) / options.hz;
    let (warmup, ticks) = (options.warmup * options.hz, (options.warmup + options.seconds) * options.hz);
    let (start, mut ages) = (sim.now(), Latencies::default());
    let mut before = Troubles::default();
    for number in 1..=ticks {
        if number == warmup + 1 {
            before = Troubles::of(&sim);
        }
        let seconds = number as f32 / options.hz as f32;
        for (index, view) in views.iter_mut().enumerate() {
            let phase = start + tick * number + tick * index as u32 / peers as u32;
            sim.run(phase.since(sim.now()));
            view.hear(sim.take_events(index));
            if number > warmup {
                view.ages(&sim, &indices, |age| ages.add(age));
            }
            let changes = bodies::moved(&sim, index, options.entities, seconds);
            sim.input(index, Input::Commit(changes));
        }
    }
    let troubles = Troubles::of(&sim);
    let due = u64::from(ticks - warmup) * (peers * (peers - 1)) as u64 * u64::from(options.entities);
    let equal = equal_after(&mut sim, peers * options.entities as usize);
    Ok(vec![
        Figure::less("age_p50_ms", ages.percentile_ms(0.5)),
        Figure::less("age_p99_ms", ages.percentile_ms(0.99)),
        Figure::less("age_p999_ms", ages.percentile_ms(0.999)),
        Figure::less("age_max_ms", ages.percentile_ms(1.0)),
        Figure::less("age_p99_limit_ms", options.rtt as f64 + 3.0 * millis(tick)),
        Figure::more("seen", ages.count() as f64 / due.max(1) as f64),
        Figure::more("worlds_equal", f64::from(u8::from(equal.is_some()))),
        Figure::soon("equal_after_ms", equal.map(millis)),
        Figure::less("keyframes_wanted", (troubles.keyframes - before.keyframes) as f64),
        Figure::less("undecodable_packets", (troubles.undecodable - before.undecodable) as f64),
    ])
}

/// What all peers together could not make use of, since the beginning.
#[derive(Clone, Copy, Debug, Default)]
struct Troubles {
    keyframes: u64,
    undecodable: u64,
}

impl Troubles {
    fn of(sim: &Sim) -> Self {
        let counters = (0..sim.len()).map(|index| sim.node(index).counters());
        counters.fold(Self::default(), |sum, counters| Self {
            keyframes: sum.keyframes + counters.keyframes_wanted,
            undecodable: sum.undecodable + counters.state_packets_undecodable,
        })
    }
}

/// How long after now all see one world, with all entities in it. None: never.
fn equal_after(sim: &mut Sim, entities: usize) -> Option<Duration> {
    let start = sim.now();
    loop {
        let all_there = (0..sim.len()).all(|index| sim.node(index).entity_count() == entities);
        if all_there && sim.converged() {
            return Some(sim.now().since(start));
        }
        if sim.now().since(start) >= GIVE_UP {
            return None;
        }
        sim.run(LOOK_EVERY);
    }
}

/// What one peer's game knows of the others' entities: when, by its owner's clock, each was as it is seen.
#[derive(Debug, Default)]
struct View(BTreeMap<EntityId, MeshTime>);

impl View {
    fn hear(&mut self, events: impl IntoIterator<Item = (peerflock_proto::Time, Event)>) {
        for (_, event) in events {
            match event {
                Event::World(WorldEvent::Set { entity, at, .. }) => {
                    let newest = self.0.entry(entity).or_insert(at);
                    *newest = at.max(*newest);
                }
                Event::World(WorldEvent::Vanished { entity }) => drop(self.0.remove(&entity)),
                _ => {}
            }
        }
    }

    /// How old each is now. Who spawned it owns it here.
    fn ages(&self, sim: &Sim, indices: &BTreeMap<PeerId, usize>, mut tell: impl FnMut(Duration)) {
        let mut clock: Option<(PeerId, MeshTime)> = None;
        for (entity, at) in &self.0 {
            // Those of one owner follow each other.
            if clock.is_none_or(|(owner, _)| owner != entity.spawner) {
                let owner = indices.get(&entity.spawner);
                clock = owner.map(|owner| (entity.spawner, sim.node(*owner).mesh_time(sim.now())));
            }
            if let Some((_, now)) = clock {
                tell(now.since(*at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(loss: f64, rtt: u64) -> Options {
        let network = Network { max_neighbors: 7, loss, burst: 1.0, seed: 2, seeds: 1, settle: 2 };
        Options { peers: 4, entities: 5, hz: 60, rtt, seconds: 2, warmup: 1, network }
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        figures.iter().find(|figure| figure.name == name).unwrap().value.unwrap()
    }

    #[test]
    fn state_is_as_old_as_its_way_and_at_most_a_tick_older_where_nothing_is_lost() {
        for rtt in [40, 120] {
            let found = measure(&options(0.0, rtt), 2).unwrap();
            assert_eq!((value(&found, "seen"), value(&found, "worlds_equal")), (1.0, 1.0));
            assert_eq!(value(&found, "keyframes_wanted"), 0.0);
            let (way, tick) = (rtt as f64 / 2.0, 1_000.0 / 60.0);
            // What a packet says of its time is rounded down.
            assert!(value(&found, "age_p50_ms") >= way, "{found:?}");
            assert!(value(&found, "age_max_ms") <= way + tick + 2.0, "{found:?}");
        }
    }

    #[test]
    fn loss_makes_older_and_worlds_are_equal_all_the_same() {
        let (clean, lossy) = (measure(&options(0.0, 50), 2).unwrap(), measure(&options(0.3, 50), 2).unwrap());
        assert!(value(&lossy, "age_p99_ms") > value(&clean, "age_p99_ms") + 10.0, "{lossy:?}");
        assert_eq!(value(&lossy, "worlds_equal"), 1.0);
    }

    #[test]
    fn a_world_that_lacks_something_is_not_equal() {
        let mut sim = Sim::mesh(Default::default(), 2, &Config::default(), Duration::from_secs(5));
        assert_eq!(equal_after(&mut sim, 1), None);
        assert!(equal_after(&mut sim, 0).is_some());
    }
}
