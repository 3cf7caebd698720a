//! Everything at once, from a seed: meshes of random shape in which players move, speak, hand things over, leave, crash, stop and
//! come back, over links that lose, double and reorder. Afterwards nothing may be lost, doubled, or seen differently by anyone.
//!
//! A failure prints its seed with all options; add that line to `regressions.txt`, which is replayed for ever. `PEERFLOCK_CHAOS_SEEDS=1000..2000`
//! tries other seeds than the usual few.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::{Options, Sim};
use peerflock_proto::{
    Change, Config, EntityId, Event, Input, Kind, KindId, NeighborLimits, Orphan, PeerId, Registry, Shape, Target, Topic, Value,
    WorldEvent,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

const PLACE: KindId = KindId(0);
const REGRESSIONS: &str = include_str!("regressions.txt");

#[test]
fn nothing_is_lost_whatever_happens() {
    for seed in seeds() {
        Chaos::new(seed).run();
    }
}

#[test]
fn what_failed_once_is_tried_for_ever() {
    let lines = REGRESSIONS.lines().filter(|line| !line.trim_start().starts_with('#') && !line.trim().is_empty());
    for seed in
        lines.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("a line starts with its seed"))
    {
        Chaos::new(seed).run();
    }
}

fn seeds() -> Range<u64> {
    let usual = 1..25;
    let Ok(asked) = std::env::var("PEERFLOCK_CHAOS_SEEDS") else { return usual };
    let (from, to) = asked.split_once("..").expect("PEERFLOCK_CHAOS_SEEDS is FROM..TO");
    from.parse().expect("a number")..to.parse().expect("a number")
}

struct Chaos {
    seed: u64,
    rng: ChaCha8Rng,
    sim: Sim,
    options: Options,
    config: Config,
    alive: Vec<usize>,
    /// Who was never paused, cut off or late, and so must have heard everything.
    steady: BTreeSet<usize>,
    owned: BTreeMap<usize, BTreeSet<EntityId>>,
    spawned: BTreeMap<usize, u32>,
    adoptable: i64,
    said: Vec<(usize, String)>,
    heard: BTreeMap<usize, Vec<(PeerId, String)>>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut registry = Registry::default();
        registry.register(Kind { name: "place".into(), shape: Shape::Fields(3) });
        registry.register(Kind { name: "note".into(), shape: Shape::Bytes });
        let max = 3 + (rng.next_u32() % 5) as usize;
        let config = Config { registry, neighbors: NeighborLimits::with_max(max), ..Config::default() };
        let options = Options {
            seed,
            loss: f64::from(rng.next_u32() % 4) * 0.04,
            duplicates: f64::from(rng.next_u32() % 3) * 0.02,
            jitter: Duration::from_millis(u64::from(rng.next_u32() % 40)),
            ..Options::default()
        };
        let count = 3 + (rng.next_u32() % 9) as usize;
        let sim = Sim::mesh(options, count, &config, Duration::from_secs(20));
        let alive: Vec<usize> = (0..count).collect();
        let mut chaos = Self {
            seed,
            rng,
            sim,
            options,
            config,
            steady: alive.iter().copied().collect(),
            alive,
            owned: BTreeMap::new(),
            spawned: BTreeMap::new(),
            adoptable: 0,
            said: Vec::new(),
            heard: BTreeMap::new(),
        };
        chaos.sim.run(Duration::from_secs(2));
        chaos.check(chaos.alive.iter().all(|index| chaos.members(*index) == count), "not all met");
        chaos
    }

    fn run(mut self) {
        for _ in 0..60 {
            self.step();
            self.sim.run(Duration::from_millis(50));
            self.listen();
        }
        self.sim.heal();
        // A pause ends, a dead member is noticed, what it left is adopted, what was missed is repaired.
        self.sim.run(Duration::from_secs(30));
        self.listen();

        let expected = self.alive.len();
        for index in self.alive.clone() {
            self.check(self.members(index) == expected, &format!("node {index} sees {} of {expected}", self.members(index)));
            let entities = self.sim.node(index).entity_count() as i64;
            self.check(entities == self.adoptable, &format!("node {index} sees {entities} of {} entities", self.adoptable));
            let max = self.config.neighbors.max as u64;
            self.check(self.sim.node(index).counters().links_max <= max, "too many links");
            self.check(self.sim.node(index).counters().violations == 0, "an honest node was taken for a dishonest one");
            self.check(self.sim.node(index).counters().forgeries == 0, "an honest node was taken for a forger");
        }
        self.check(self.sim.converged(), "the worlds differ");
        self.check_ownership();
        self.check_messages();
    }

    fn step(&mut self) {
        for index in self.alive.clone() {
            let mut changes = Vec::new();
            for entity in self.owned.get(&index).into_iter().flatten() {
                changes.push(Change::Set {
                    entity: *entity,
                    kind: PLACE,
                    value: Value::fields([self.rng.next_u32() as i32 % 1_000, 1, 2]),
                });
            }
            let spawned = *self.spawned.get(&index).unwrap_or(&0);
            if spawned < 12 && self.one_in(4) {
                let entity = EntityId { spawner: self.sim.peer(index), boot: self.sim.node(index).boot(), counter: spawned };
                self.spawned.insert(index, spawned + 1);
                self.owned.entry(index).or_default().insert(entity);
                self.adoptable += 1;
                changes.push(Change::Spawn { entity, orphan: Orphan::Adopt });
                if self.one_in(3) {
                    let note = vec![7; (self.rng.next_u32() % 3_000) as usize];
                    changes.push(Change::Set { entity, kind: KindId(1), value: Value::bytes(note) });
                }
            }
            if self.one_in(5)
                && let Some(entity) = self.owned.get_mut(&index).and_then(BTreeSet::pop_first)
            {
                let to = self.anyone();
                if to == index || self.one_in(6) {
                    self.adoptable -= 1;
                    changes.push(Change::Despawn { entity });
                } else if self.sim.node(index).members(self.sim.now()).iter().any(|member| member.peer == self.sim.peer(to)) {
                    changes.push(Change::Transfer { entity, to: self.sim.peer(to) });
                } else {
                    self.owned.entry(index).or_default().insert(entity);
                }
            }
            self.sim.input(index, Input::Commit(changes));
            if self.one_in(6) && self.members(index) > 1 {
                let text = format!("{}", self.said.len());
                let payload = Bytes::from(text.clone());
                if self.sim.with(index, |node, now| node.send(Target::All, Topic(300), payload, now)).is_ok() {
                    self.said.push((index, text));
                }
            }
        }
        if self.one_in(12) {
            self.disturb();
        }
    }

    fn disturb(&mut self) {
        let victim = self.anyone();
        match self.below(4) {
            0 if self.alive.len() > 2 => {
                self.alive.retain(|index| *index != victim);
                self.steady.remove(&victim);
                self.owned.remove(&victim);
                if self.one_in(2) {
                    self.sim.input(victim, Input::Leave);
                }
                self.sim.crash(victim);
            }
            1 => {
                let late = self.sim.add(self.config.clone(), [7; 32]);
                let known = self.anyone();
                self.sim.introduce(late, known);
                self.alive.push(late);
            }
            2 => {
                let pause = Duration::from_millis(u64::from(self.rng.next_u32() % 4_000));
                self.steady.remove(&victim);
                self.sim.pause(victim, pause);
            }
            _ => {
                let other = self.anyone();
                if other != victim {
                    self.sim.cut(victim, other);
                }
            }
        }
    }

    /// Takes in what the applications were told; a game follows its own entities by it.
    fn listen(&mut self) {
        for index in 0..self.sim.len() {
            let me = self.sim.peer(index);
            for (_, event) in self.sim.take_events(index) {
                match event {
                    Event::Message { from, payload, .. } => {
                        self.heard.entry(index).or_default().push((from, String::from_utf8_lossy(&payload).into_owned()));
                    }
                    Event::World(WorldEvent::Owner { entity, owner }) => {
                        let mine = self.owned.entry(index).or_default();
                        if owner == me {
                            mine.insert(entity)
                        } else {
                            mine.remove(&entity)
                        };
                    }
                    Event::World(WorldEvent::Vanished { entity }) => {
                        self.owned.entry(index).or_default().remove(&entity);
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_ownership(&self) {
        let mut owners: BTreeMap<EntityId, Vec<usize>> = BTreeMap::new();
        for index in &self.alive {
            for entity in self.owned.get(index).into_iter().flatten() {
                owners.entry(*entity).or_default().push(*index);
            }
        }
        for (entity, owners) in &owners {
            self.check(owners.len() == 1, &format!("{entity} is owned by {owners:?}"));
        }
        self.check(owners.len() as i64 == self.adoptable, &format!("{} owned of {}", owners.len(), self.adoptable));
    }

    fn check_messages(&self) {
        for listener in &self.alive {
            let heard = self.heard.get(listener).map_or(&[][..], Vec::as_slice);
            for author in 0..self.sim.len() {
                let id = self.sim.peer(author);
                let texts: Vec<&String> = heard.iter().filter(|(from, _)| *from == id).map(|(_, text)| text).collect();
                let numbers: Vec<u64> = texts.iter().map(|text| text.parse().expect("we sent numbers")).collect();
                self.check(
                    numbers.is_sorted_by(|a, b| a < b),
                    &format!("node {listener} heard {author} out of order or twice: {numbers:?}"),
                );
                if self.steady.contains(listener) && self.steady.contains(&author) && listener != &author {
                    let said: Vec<&String> = self.said.iter().filter(|(by, _)| *by == author).map(|(_, text)| text).collect();
                    self.check(texts == said, &format!("node {listener} heard {texts:?} of what {author} said: {said:?}"));
                }
            }
        }
    }

    fn members(&self, index: usize) -> usize {
        self.sim.node(index).members(self.sim.now()).len()
    }

    fn anyone(&mut self) -> usize {
        let index = self.below(self.alive.len());
        self.alive[index]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.rng.next_u32() as usize % limit
    }

    fn one_in(&mut self, chances: u32) -> bool {
        self.rng.next_u32().is_multiple_of(chances)
    }

    fn check(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "{what}\nadd to regressions.txt:\n{} {:?} neighbors {:?} peers {}",
            self.seed,
            self.options,
            self.config.neighbors,
            self.sim.len()
        );
    }
}
