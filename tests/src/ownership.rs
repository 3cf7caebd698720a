//! Who owns what, whatever happens: small meshes in virtual time in which players spawn, give, ask, grant, refuse, seize and remove
//! at random, often the same thing at the same time, while links lose, the mesh falls apart and heals, and peers come, leave and die.
//!
//! One seed is one story of a few seconds; [`tell`] plays it and says what was wrong at its end: with owners, with entities that are
//! lost, doubled, or back from the dead, and with questions that nobody answered.

mod fates;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fates::Fates;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{
    Change, Config, EntityId, Event, Group, Input, Kind, KindId, NeighborLimits, Orphan, OwnershipPolicy, PeerId, Registry,
    Shape, Value, WorldEvent,
};

use crate::seeds::Dice;

const PLACE: KindId = KindId(0);
/// The game's tick.
const STEP: Duration = Duration::from_millis(50);
/// Steps in which things happen.
const STEPS: u32 = 120;
/// Most entities that one peer spawns.
const SPAWNS_MAX: u32 = 3;
/// All is to be as it should so long after everything was mended, at the latest.
const SETTLED_WITHIN: Duration = Duration::from_secs(40);
/// And stay so.
const SETTLED_FOR: Duration = Duration::from_secs(8);

/// How a story ended.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Entities that were spawned.
    pub spawned: usize,
    /// Changes of owner that some peer was told of.
    pub moves: usize,
    /// Entities that are missing somewhere and that nobody removed.
    pub lost: usize,
    /// Entities of which two peers think that they own them, or nobody does.
    pub doubled: usize,
    /// Entities that were removed, and are there.
    pub zombies: usize,
    /// Questions without an answer.
    pub unanswered: usize,
    /// Peers whose world, or whose members, are not those of the others.
    pub differing: usize,
    /// What was wrong, for whoever has to find out why; with the seed and its options. Empty: nothing.
    pub wrong: Vec<String>,
}

/// Plays the story of a seed.
pub fn tell(seed: u64) -> Ending {
    remember_signatures();
    Story::new(seed).run()
}

struct Story {
    dice: Dice,
    sim: Sim,
    options: Options,
    config: Config,
    step: u32,
    alive: Vec<usize>,
    /// When the mesh is whole again, and when who is paused goes on.
    parted_until: u32,
    paused: BTreeMap<usize, u32>,
    spawned: BTreeMap<usize, u32>,
    /// What each game was told: entities and their owners.
    views: BTreeMap<usize, BTreeMap<EntityId, PeerId>>,
    /// What is asked of each game.
    questions: Vec<(usize, EntityId, PeerId)>,
    /// Who waits for an answer.
    asked: BTreeSet<(usize, EntityId)>,
    fates: Fates,
    moves: usize,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut registry = Registry::default();
        registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(3)]) });
        let count = 3 + (dice.any() % 4) as usize;
        let max = 2 + (dice.any() % 4) as usize;
        let nearest_by = dice.one_in(2).then_some(PLACE);
        let config = Config { registry, neighbors: NeighborLimits::with_max(max), nearest_by, ..Config::default() };
        let options = Options {
            seed,
            loss: f64::from(dice.any() % 5) * 0.05,
            duplicates: f64::from(dice.any() % 3) * 0.02,
            jitter: Duration::from_millis(u64::from(dice.any() % 60)),
            ..Options::default()
        };
        let sim = Sim::mesh(options, count, &config, Duration::from_secs(20));
        Self {
            dice,
            sim,
            options,
            config,
            step: 0,
            alive: (0..count).collect(),
            parted_until: 0,
            paused: BTreeMap::new(),
            spawned: BTreeMap::new(),
            views: BTreeMap::new(),
            questions: Vec::new(),
            asked: BTreeSet::new(),
            fates: Fates::default(),
            moves: 0,
        }
    }

    fn run(mut self) -> Ending {
        while self.step < STEPS {
            self.step += 1;
            self.paused.retain(|_, until| *until > self.step);
            if self.parted_until == self.step {
                self.sim.heal();
            }
            self.listen();
            self.disturb();
            for index in self.alive.clone() {
                if !self.paused.contains_key(&index) {
                    self.play(index);
                }
            }
            self.sim.run(STEP);
        }
        self.sim.heal();
        let mut settled = Duration::ZERO;
        let mut waited = Duration::ZERO;
        while settled < SETTLED_FOR && waited < SETTLED_WITHIN {
            self.sim.run(Duration::from_secs(1));
            waited += Duration::from_secs(1);
            self.listen();
            settled = if self.ending().wrong.is_empty() { settled + Duration::from_secs(1) } else { Duration::ZERO };
        }
        self.ending()
    }

    // --- what happens --------------------------------------------------------------------------------------------------

    fn disturb(&mut self) {
        if !self.dice.one_in(14) {
            return;
        }
        let victim = self.dice.one_of(&self.alive);
        match self.dice.below(8) {
            0 | 1 if self.step >= self.parted_until => {
                // In two, for long enough to be noticed or not.
                let side: BTreeSet<usize> = self.alive.iter().copied().filter(|_| self.dice.one_in(2)).collect();
                for one in 0..self.sim.len() {
                    for other in 0..one {
                        if side.contains(&one) != side.contains(&other) {
                            self.sim.cut(one, other);
                        }
                    }
                }
                self.parted_until = self.step + 10 + self.dice.below(70) as u32;
            }
            2 | 3 if self.alive.len() > 2 => {
                self.alive.retain(|index| *index != victim);
                self.paused.remove(&victim);
                if self.dice.one_in(2) {
                    self.sim.input(victim, Input::Leave);
                    self.sim.run(Duration::from_millis(1));
                }
                self.sim.crash(victim);
                self.listen();
                self.views.remove(&victim);
                self.asked.retain(|(index, _)| *index != victim);
                let who = self.sim.peer(victim);
                self.fates.dies(who, self.step, |entity| self.views.values().any(|view| view.contains_key(entity)));
            }
            4 if self.sim.len() < 8 => {
                let late = self.sim.add(self.config.clone(), [7; 32]);
                // On nobody's side: it meets both, as far as they let it.
                for index in 0..late {
                    self.sim.introduce(late, index);
                }
                self.alive.push(late);
            }
            5 if !self.paused.contains_key(&victim) => {
                let steps = 2 + self.dice.below(60) as u32;
                self.sim.pause(victim, STEP * steps);
                self.paused.insert(victim, self.step + steps);
            }
            _ => self.brawl(),
        }
    }

    /// All want the same thing at the same time.
    fn brawl(&mut self) {
        let index = self.dice.one_of(&self.alive);
        let all: Vec<EntityId> = self.view(index).keys().copied().collect();
        if all.is_empty() {
            return;
        }
        let entity = self.dice.one_of(&all);
        for index in self.alive.clone() {
            if !self.paused.contains_key(&index) {
                self.want(index, entity);
            }
        }
    }

    /// What a player does in a step.
    fn play(&mut self, index: usize) {
        self.answer(index);
        let me = self.sim.peer(index);
        let (own, others): (Vec<_>, Vec<_>) = self.view(index).iter().map(|(e, o)| (*e, *o)).partition(|(_, owner)| *owner == me);
        let mut changes: Vec<Change> = own.iter().map(|(entity, _)| self.moved(*entity)).collect();
        match self.dice.below(12) {
            0 | 1 if *self.spawned.get(&index).unwrap_or(&0) < SPAWNS_MAX => changes.extend(self.spawn(index)),
            2 if !own.is_empty() => {
                let (entity, to) = (own[self.dice.below(own.len())].0, self.dice.one_of(&self.alive));
                let heir = self.sim.peer(to);
                if to != index && self.sim.node(index).members(self.sim.now()).iter().any(|member| member.peer == heir) {
                    let step = self.step;
                    self.fates.note(entity, format!("{step}: {index} gives it to {to}"));
                    changes.push(Change::Transfer { entity, to: heir });
                }
            }
            3 if !own.is_empty() && self.dice.one_in(3) => {
                let entity = own[self.dice.below(own.len())].0;
                let others = self.alive.iter().filter(|other| **other != index);
                let contested = others
                    .copied()
                    .any(|other| self.views.get(&other).is_some_and(|view| view.get(&entity) == Some(&self.sim.peer(other))));
                self.fates.removed(entity, me, contested, self.step);
                self.views.entry(index).or_default().remove(&entity);
                changes.push(Change::Despawn { entity });
            }
            4 | 5 if !others.is_empty() => {
                let entity = others[self.dice.below(others.len())].0;
                self.want(index, entity);
            }
            _ => {}
        }
        self.sim.input(index, Input::Commit(changes));
    }

    fn spawn(&mut self, index: usize) -> Vec<Change> {
        let count = self.spawned.get(&index).copied().unwrap_or(0);
        self.spawned.insert(index, count + 1);
        let policies = [OwnershipPolicy::Ask, OwnershipPolicy::Grant, OwnershipPolicy::Refuse, OwnershipPolicy::Seize];
        // Half of them may be seized: there is the most to go wrong.
        let policy = if self.dice.one_in(3) { OwnershipPolicy::Seize } else { policies[self.dice.below(4)] };
        let entity = EntityId::new(self.sim.peer(index), self.sim.node(index).boot(), count, policy);
        let orphan = if self.dice.one_in(5) { Orphan::Vanish } else { Orphan::Adopt };
        self.fates.spawned(entity, orphan, self.step);
        let me = self.sim.peer(index);
        self.views.entry(index).or_default().insert(entity, me);
        vec![Change::Spawn { entity, orphan }, self.moved(entity)]
    }

    fn moved(&mut self, entity: EntityId) -> Change {
        let place = [(); 3].map(|()| self.dice.any() as i32 % 1_000);
        Change::Set { entity, kind: PLACE, value: Value::fields(place) }
    }

    /// A player wants something, and does what its policy lets it do.
    fn want(&mut self, index: usize, entity: EntityId) {
        let me = self.sim.peer(index);
        if self.view(index).get(&entity).is_none_or(|owner| *owner == me) {
            return;
        }
        if entity.policy() == OwnershipPolicy::Seize && !self.dice.one_in(4) {
            let step = self.step;
            self.fates.note(entity, format!("{step}: {index} seizes it"));
            let _ = self.sim.with(index, |node, now| node.seize(entity, now));
        } else if self.sim.with(index, |node, now| node.request_ownership(entity, now)).is_ok() {
            let step = self.step;
            self.fates.note(entity, format!("{step}: {index} asks for it"));
            self.asked.insert((index, entity));
        }
    }

    fn answer(&mut self, index: usize) {
        let (mine, others) = std::mem::take(&mut self.questions).into_iter().partition(|(asked, ..)| *asked == index);
        self.questions = others;
        for (_, entity, peer) in mine {
            let answer = self.dice.below(3);
            if answer == 2 {
                // No answer at all.
                continue;
            }
            self.sim.input(index, Input::AnswerRequest { entity, peer, grant: answer == 1 });
            self.listen();
        }
    }

    /// Takes in what the games were told.
    fn listen(&mut self) {
        for index in 0..self.sim.len() {
            for (at, event) in self.sim.take_events(index) {
                match event {
                    Event::World(WorldEvent::Owner { entity, owner } | WorldEvent::Appeared { entity, owner, .. }) => {
                        let me = self.sim.peer(index);
                        let before = self.views.entry(index).or_default().insert(entity, owner);
                        let from = before.filter(|before| *before == me && owner != me);
                        let whose = (0..self.sim.len()).find(|index| self.sim.peer(*index) == owner);
                        self.fates.note(entity, format!("{at:?}: for {index} it is {whose:?}'s"));
                        self.fates.owned(entity, owner, from, self.step);
                        self.moves += 1;
                        if owner == me {
                            self.asked.remove(&(index, entity));
                        }
                    }
                    Event::World(WorldEvent::Vanished { entity }) => {
                        self.views.entry(index).or_default().remove(&entity);
                        self.fates.note(entity, format!("{at:?}: for {index} it is gone"));
                    }
                    Event::OwnershipRequested { entity, peer } => {
                        self.questions.push((index, entity, peer));
                    }
                    Event::OwnershipRefused { entity, refusal } => {
                        self.asked.remove(&(index, entity));
                        self.fates.note(entity, format!("{at:?}: {index} is refused: {refusal:?}"));
                    }
                    _ => {}
                }
            }
        }
        self.views.retain(|index, _| self.alive.contains(index));
    }

    // --- how it ends ---------------------------------------------------------------------------------------------------

    fn ending(&self) -> Ending {
        let mut ending = Ending { spawned: self.fates.len(), moves: self.moves, ..Ending::default() };
        let empty = BTreeMap::new();
        let views: BTreeMap<usize, &BTreeMap<EntityId, PeerId>> =
            self.alive.iter().map(|index| (*index, self.views.get(index).unwrap_or(&empty))).collect();
        for entity in self.fates.all() {
            let there = views.values().filter(|view| view.contains_key(entity)).count();
            let owners = views.iter().filter(|(index, view)| view.get(entity) == Some(&self.sim.peer(**index))).count();
            let wrong = if self.fates.must_be_there(entity) && there < views.len() {
                ending.lost += 1;
                format!("lost, {there} of {} have it", views.len())
            } else if self.fates.must_be_gone(entity) && there > 0 {
                ending.zombies += 1;
                format!("removed, and {there} of {} have it", views.len())
            } else if there > 0 && (owners != 1 || there < views.len()) {
                ending.doubled += 1;
                format!("{owners} owners, {there} of {} have it", views.len())
            } else {
                continue;
            };
            ending.wrong.push(format!("{entity}: {wrong}\n{}", self.fates.story(entity)));
        }
        for (index, view) in &views {
            let members = self.sim.node(*index).members(self.sim.now()).len();
            let same = view.len() == self.sim.node(*index).entity_count() && Some(view) == views.values().next();
            if members != self.alive.len() || !same {
                ending.differing += 1;
                ending.wrong.push(format!("peer {index} sees {members} of {}, and {} entities", self.alive.len(), view.len()));
            }
        }
        if ending.differing == 0 && !self.sim.converged() {
            ending.differing += 1;
            ending.wrong.push("the worlds differ in their values".into());
            for index in &self.alive {
                let node = self.sim.node(*index);
                let links: Vec<PeerId> = node.links().into_iter().map(|link| link.peer).collect();
                ending.wrong.push(format!("peer {index}, {:?}, is linked to {links:?}", node.peer_id()));
            }
        }
        ending.unanswered = self.asked.len();
        ending.wrong.extend(self.asked.iter().map(|(index, entity)| format!("{index} was never told what came of {entity}")));
        if !ending.wrong.is_empty() {
            let neighbors = self.config.neighbors.max;
            let peers = self.sim.len();
            ending
                .wrong
                .push(format!("{:?}, neighbors {neighbors}, peers {peers}, nearest {:?}", self.options, self.config.nearest_by));
        }
        ending
    }

    fn view(&mut self, index: usize) -> &BTreeMap<EntityId, PeerId> {
        self.views.entry(index).or_default()
    }
}
