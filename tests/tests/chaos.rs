//! Everything at once, from a seed: meshes of random shape in which players move, speak, hand things over, leave, crash, stop and
//! come back, over links that lose, double and reorder. Afterwards nothing may be lost, doubled, or seen differently by anyone.
//!
//! A failure prints its seed with all options; add that line to `regressions.txt`, which is replayed for ever. `PEERFLOCK_CHAOS_SEEDS=1000..2000`
//! tries other seeds than the usual few.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{
    Change, Config, EntityId, Event, Group, Input, Kind, KindId, NeighborLimits, Orphan, PeerId, Registry, Shape, Target, Time,
    Topic, Value, WorldEvent,
};
use peerflock_tests::seeds::{Dice, asked, regressions};

const PLACE: KindId = KindId(0);
/// Steps of 50 ms between the last deed and the end of one that is doomed.
const SETTLING_STEPS: u32 = 30;
/// Steps for which all must see one another for a removal to be sure to be known to all: longer than it takes to notice that somebody
/// is cut off.
const REMOVAL_STEPS: u32 = 45;
const REGRESSIONS: &str = include_str!("../regressions.txt");

#[test]
fn nothing_is_lost_whatever_happens() {
    for seed in asked("PEERFLOCK_CHAOS_SEEDS", 1..9) {
        Chaos::new(seed).run();
    }
}

#[test]
fn what_failed_once_is_tried_for_ever() {
    regressions(REGRESSIONS).for_each(|seed| Chaos::new(seed).run());
}

#[derive(Clone, Copy, Debug)]
enum Doom {
    Crash,
    Leave,
    Pause(Duration),
}

/// What is to be of an entity in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    Removed,
    /// Its owner removed it while others took that owner for gone, or it was known only to one that crashed: all must agree, on
    /// whatever.
    Either,
}

struct Chaos {
    seed: u64,
    dice: Dice,
    sim: Sim,
    options: Options,
    config: Config,
    alive: Vec<usize>,
    /// Who is about to crash, leave or be paused, and in which step: until then it settles what it did, so that nothing of it is
    /// known to itself alone.
    doomed: BTreeMap<usize, (u32, Doom)>,
    step: u32,
    paused: BTreeMap<usize, Time>,
    /// Who was never paused, cut off or late, and so must have heard everything.
    steady: BTreeSet<usize>,
    /// What each application knows of: entities and their owners.
    views: BTreeMap<usize, BTreeMap<EntityId, PeerId>>,
    spawned: BTreeMap<usize, u32>,
    fates: BTreeMap<EntityId, Fate>,
    /// Removals that may not have become known to all yet.
    removals: Vec<(u32, EntityId)>,
    /// What happened to each entity: for whoever has to find out why.
    stories: BTreeMap<EntityId, Vec<String>>,
    said: Vec<(usize, String)>,
    heard: BTreeMap<usize, Vec<(PeerId, String)>>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        remember_signatures();
        let mut dice = Dice::new(seed);
        let mut registry = Registry::default();
        registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(3)]) });
        registry.register(Kind { name: "note".into(), shape: Shape::Bytes });
        let max = 3 + (dice.any() % 5) as usize;
        let config = Config { registry, neighbors: NeighborLimits::with_max(max), ..Config::default() };
        let options = Options {
            seed,
            loss: f64::from(dice.any() % 4) * 0.04,
            duplicates: f64::from(dice.any() % 3) * 0.02,
            jitter: Duration::from_millis(u64::from(dice.any() % 40)),
            ..Options::default()
        };
        let count = 3 + (dice.any() % 9) as usize;
        let sim = Sim::mesh(options, count, &config, Duration::from_secs(20));
        let alive: Vec<usize> = (0..count).collect();
        let mut chaos = Self {
            seed,
            dice,
            sim,
            options,
            config,
            steady: alive.iter().copied().collect(),
            alive,
            doomed: BTreeMap::new(),
            step: 0,
            paused: BTreeMap::new(),
            views: BTreeMap::new(),
            spawned: BTreeMap::new(),
            fates: BTreeMap::new(),
            removals: Vec::new(),
            stories: BTreeMap::new(),
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
        // Who was cut off in the last steps is noticed only now.
        for _ in 0..REMOVAL_STEPS {
            self.step += 1;
            self.sim.run(Duration::from_millis(50));
            let parted = self.parted();
            self.doubt_removals(&parted);
        }
        // A pause ends, a dead member is noticed, what it left is adopted, what was missed is repaired.
        self.sim.run(Duration::from_secs(30) - Duration::from_millis(50) * REMOVAL_STEPS);
        self.listen();

        let expected = self.alive.len();
        for index in self.alive.clone() {
            self.check(self.members(index) == expected, &format!("node {index} sees {} of {expected}", self.members(index)));
            let max = self.config.neighbors.max as u64;
            self.check(self.sim.node(index).counters().links_max <= max, "too many links");
            self.check(self.sim.node(index).counters().violations == 0, "an honest node was taken for a dishonest one");
            self.check(self.sim.node(index).counters().forgeries == 0, "an honest node was taken for a forger");
        }
        self.check_entities();
        self.check(self.sim.converged(), "the worlds differ");
        self.check_messages();
    }

    fn step(&mut self) {
        self.step += 1;
        self.paused.retain(|_, until| *until > self.sim.now());
        self.fulfil();
        self.watch();
        for index in self.alive.clone() {
            if self.paused.contains_key(&index) {
                continue;
            }
            let changes = self.play(index);
            self.sim.input(index, Input::Commit(changes));
            if self.dice.one_in(6) && self.members(index) > 1 {
                let text = format!("{}", self.said.len());
                let payload = Bytes::from(text.clone());
                if self.sim.with(index, |node, now| node.send(Target::All, Topic(300), payload, now)).is_ok() {
                    self.said.push((index, text));
                }
            }
        }
        if self.dice.one_in(12) {
            self.disturb();
        }
    }

    /// What a player does in a step.
    fn play(&mut self, index: usize) -> Vec<Change> {
        let me = self.sim.peer(index);
        let view = self.views.entry(index).or_default();
        let mut owned: BTreeSet<EntityId> = view.iter().filter(|(_, owner)| **owner == me).map(|(entity, _)| *entity).collect();
        let mut changes = Vec::new();
        for entity in &owned {
            let value = Value::fields([self.dice.any() as i32 % 1_000, 1, 2]);
            changes.push(Change::Set { entity: *entity, kind: PLACE, value });
        }
        if self.doomed.contains_key(&index) {
            return changes;
        }
        let spawned = *self.spawned.get(&index).unwrap_or(&0);
        if spawned < 12 && self.dice.one_in(4) {
            let entity = EntityId { spawner: me, boot: self.sim.node(index).boot(), counter: spawned };
            self.spawned.insert(index, spawned + 1);
            owned.insert(entity);
            self.views.entry(index).or_default().insert(entity, me);
            self.fates.insert(entity, Fate::There);
            self.tell(entity, format!("{index} spawns it"));
            changes.push(Change::Spawn { entity, orphan: Orphan::Adopt });
            if self.dice.one_in(3) {
                let note = vec![7; (self.dice.any() % 3_000) as usize];
                changes.push(Change::Set { entity, kind: KindId(1), value: Value::bytes(note) });
            }
        }
        if self.dice.one_in(5)
            && let Some(entity) = owned.pop_first()
        {
            let to = self.dice.one_of(&self.alive);
            if to == index || self.dice.one_in(6) {
                self.remove(index, entity);
                changes.push(Change::Despawn { entity });
            } else if !self.doomed.contains_key(&to) && !self.paused.contains_key(&to) && self.sees(index, to) {
                self.tell(entity, format!("{index} gives it to {to}"));
                changes.push(Change::Transfer { entity, to: self.sim.peer(to) });
            }
        }
        changes
    }

    fn remove(&mut self, index: usize, entity: EntityId) {
        let me = self.sim.peer(index);
        self.check(
            self.fates.get(&entity) != Some(&Fate::Removed),
            &format!("{entity} is back: {:#?}", self.stories.get(&entity)),
        );
        self.views.entry(index).or_default().remove(&entity);
        let believed = |other: &usize| self.views.get(other).and_then(|view| view.get(&entity)).is_none_or(|owner| *owner == me);
        let sure = self.alive.iter().all(believed);
        self.fates.insert(entity, if sure { Fate::Removed } else { Fate::Either });
        self.removals.push((self.step, entity));
        self.tell(
            entity,
            format!("{index} removes it, {}", if sure { "as its owner" } else { "though others think that it is not its owner" }),
        );
    }

    /// Where some do not see one another, what they do may remain unknown to the others.
    fn watch(&mut self) {
        let parted = self.parted();
        self.doubt_removals(&parted);
        self.steady.retain(|index| !parted.contains(index));
    }

    /// Who does not see everyone, or is not seen by everyone.
    fn parted(&self) -> BTreeSet<usize> {
        let mut parted = BTreeSet::new();
        for one in &self.alive {
            parted.extend(self.alive.iter().filter(|other| !self.sees(*one, **other)).flat_map(|other| [*one, *other]));
        }
        parted
    }

    fn doubt_removals(&mut self, parted: &BTreeSet<usize>) {
        let step = self.step;
        self.removals.retain(|(since, _)| step - since <= REMOVAL_STEPS);
        if !parted.is_empty() {
            for (_, entity) in &self.removals {
                self.fates.insert(*entity, Fate::Either);
            }
        }
    }

    fn disturb(&mut self) {
        let victim = self.dice.one_of(&self.alive);
        match self.dice.below(4) {
            0 if self.alive.len() > 2 => {
                let doom = if self.dice.one_in(2) { Doom::Crash } else { Doom::Leave };
                self.doomed.insert(victim, (self.step + SETTLING_STEPS, doom));
            }
            1 => {
                let late = self.sim.add(self.config.clone(), [7; 32]);
                let known = self.dice.one_of(&self.alive);
                self.sim.introduce(late, known);
                self.alive.push(late);
            }
            2 => {
                let pause = Duration::from_millis(u64::from(self.dice.any() % 4_000));
                self.doomed.insert(victim, (self.step + SETTLING_STEPS, Doom::Pause(pause)));
            }
            _ => {
                let other = self.dice.one_of(&self.alive);
                if other != victim {
                    self.sim.cut(victim, other);
                }
            }
        }
    }

    /// What was to befall somebody befalls it.
    fn fulfil(&mut self) {
        let due: Vec<(usize, Doom)> =
            self.doomed.iter().filter(|(_, (step, _))| *step <= self.step).map(|(index, (_, doom))| (*index, *doom)).collect();
        for (victim, doom) in due {
            self.doomed.remove(&victim);
            self.steady.remove(&victim);
            if let Doom::Pause(pause) = doom {
                self.sim.pause(victim, pause);
                self.paused.insert(victim, self.sim.now() + pause);
            } else if self.alive.len() > 2 {
                self.alive.retain(|index| *index != victim);
                let view = self.views.remove(&victim).unwrap_or_default();
                for entity in view.into_keys() {
                    self.tell(entity, format!("{victim} ends: {doom:?}"));
                    if !self.alive.iter().any(|other| self.views.get(other).is_some_and(|view| view.contains_key(&entity))) {
                        self.fates.insert(entity, Fate::Either);
                    }
                }
                if let Doom::Leave = doom {
                    self.sim.input(victim, Input::Leave);
                }
                self.sim.crash(victim);
            }
        }
    }

    /// Takes in what the applications were told; a game follows its own entities by it.
    fn listen(&mut self) {
        for index in 0..self.sim.len() {
            for (at, event) in self.sim.take_events(index) {
                match event {
                    Event::Message { from, payload, .. } => {
                        self.heard.entry(index).or_default().push((from, String::from_utf8_lossy(&payload).into_owned()));
                    }
                    Event::World(WorldEvent::Owner { entity, owner } | WorldEvent::Appeared { entity, owner, .. }) => {
                        self.views.entry(index).or_default().insert(entity, owner);
                        let whose = (0..self.sim.len()).find(|index| self.sim.peer(*index) == owner);
                        self.stories.entry(entity).or_default().push(format!("{at:?} for {index} it is {whose:?}'s"));
                    }
                    Event::World(WorldEvent::Vanished { entity }) => {
                        self.views.entry(index).or_default().remove(&entity);
                        self.stories.entry(entity).or_default().push(format!("{at:?} for {index} it is gone"));
                    }
                    _ => {}
                }
            }
        }
    }

    fn check_entities(&self) {
        for index in &self.alive {
            let view = self.views.get(index).cloned().unwrap_or_default();
            self.check(self.sim.node(*index).entity_count() == view.len(), "an application and its node do not see the same");
            for (entity, fate) in &self.fates {
                let story = || format!("{entity}: {:#?}", self.stories.get(entity));
                match fate {
                    Fate::There if !view.contains_key(entity) => self.check(false, &format!("node {index} lost {}", story())),
                    Fate::Removed if view.contains_key(entity) => {
                        self.check(false, &format!("node {index} still sees {}", story()));
                    }
                    _ => {}
                }
                for other in &self.alive {
                    let other_view = self.views.get(other).and_then(|view| view.get(entity));
                    self.check(other_view == view.get(entity), &format!("nodes {index} and {other} do not agree on {}", story()));
                }
            }
        }
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

    fn sees(&self, one: usize, other: usize) -> bool {
        let peer = self.sim.peer(other);
        self.sim.node(one).members(self.sim.now()).iter().any(|member| member.peer == peer)
    }

    fn tell(&mut self, entity: EntityId, what: String) {
        self.stories.entry(entity).or_default().push(format!("{:?} {what}", self.sim.now()));
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
