//! C4 and C7: work that the members share.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use peerflock::service::sim::ServiceSim;
use peerflock::service::work::{Board, Done, FunctionId, Outcome, Task, TaskId, WorkError, WorkEvent};
use peerflock::service::{Input, Service, Time};
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Config, Identity, PeerId};

use super::seconds;

const STEP: Duration = Duration::from_millis(10);

/// How a member runs its tasks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Worker {
    capacity: u16,
    /// How long a task takes.
    takes: Duration,
    /// It never comes to an end with one.
    stalls: bool,
    /// It says something else than all honest ones.
    lies: bool,
}

const GOOD: Worker = Worker { capacity: 2, takes: Duration::from_millis(400), stalls: false, lies: false };

/// A mesh on which all work, in virtual time.
struct Crew {
    services: ServiceSim<Board>,
    workers: Vec<Worker>,
    alive: BTreeSet<usize>,
    /// What is being run: until when.
    jobs: BTreeMap<(usize, TaskId), Time>,
    /// Tasks that each has come to the end with, in all.
    ran: Vec<usize>,
    begun: BTreeMap<TaskId, Vec<usize>>,
    finished: BTreeMap<TaskId, Vec<usize>>,
    done: BTreeMap<TaskId, Vec<(Time, Done)>>,
    ended: BTreeMap<TaskId, Vec<WorkError>>,
    odd: Vec<(TaskId, PeerId)>,
    twice: Vec<(TaskId, PeerId)>,
    inputs: BTreeMap<TaskId, u32>,
    submitted: u32,
}

fn function() -> FunctionId {
    FunctionId::named("square")
}

fn right(input: u32) -> Bytes {
    Bytes::copy_from_slice(&(u64::from(input) * u64::from(input)).to_le_bytes())
}

impl Crew {
    fn new(seed: u64, workers: Vec<Worker>) -> Self {
        remember_signatures();
        let options = Options { seed, loss: 0.02, ..Options::default() };
        let mut sim = Sim::mesh(options, workers.len(), &Config::default(), Duration::from_secs(20));
        sim.run(Duration::from_secs(2));
        let count = workers.len();
        let mut crew = Self {
            services: ServiceSim::new(sim),
            workers,
            alive: BTreeSet::new(),
            jobs: BTreeMap::new(),
            ran: vec![0; count],
            begun: BTreeMap::new(),
            finished: BTreeMap::new(),
            done: BTreeMap::new(),
            ended: BTreeMap::new(),
            odd: Vec::new(),
            twice: Vec::new(),
            inputs: BTreeMap::new(),
            submitted: 0,
        };
        (0..count).for_each(|index| crew.start(index));
        crew.run(Duration::from_secs(1));
        crew
    }

    fn start(&mut self, index: usize) {
        let (me, boot) = (self.services.sim.peer(index), self.services.sim.node(index).boot());
        let board = Board::new(me, boot, self.workers[index].capacity, [function()]);
        self.services.start(index, board);
        self.alive.insert(index);
    }

    fn join(&mut self, worker: Worker) -> usize {
        let index = self.services.sim.add(Config::default(), [7; 32]);
        self.services.sim.introduce(index, 0);
        self.workers.push(worker);
        self.ran.push(0);
        // Its node has to be on the network before its board is.
        self.run(Duration::from_secs(1));
        self.start(index);
        index
    }

    fn crash(&mut self, index: usize) {
        self.services.crash(index);
        self.alive.remove(&index);
        self.jobs.retain(|(worker, _), _| *worker != index);
    }

    fn submit(&mut self, index: usize, shape: impl Fn(Task) -> Task) -> TaskId {
        let input = self.submitted;
        self.submitted += 1;
        let task = shape(Task::new("square", input.to_le_bytes().to_vec()));
        let id = self.services.act(index, |board, now| board.submit(task, now)).unwrap();
        self.inputs.insert(id, input);
        id
    }

    fn run(&mut self, time: Duration) {
        let end = self.services.sim.now() + time;
        while self.services.sim.now() < end {
            self.services.run(STEP);
            let now = self.services.sim.now();
            for index in self.alive.clone() {
                for (at, event) in self.services.take_told(index) {
                    self.on(index, at, event);
                }
            }
            let over: Vec<(usize, TaskId)> = self.jobs.iter().filter(|(_, until)| **until <= now).map(|(job, _)| *job).collect();
            for (index, id) in over {
                self.jobs.remove(&(index, id));
                let mut output = right(self.inputs[&id]);
                if self.workers[index].lies {
                    output = Bytes::from_static(b"whatever");
                }
                self.ran[index] += 1;
                self.finished.entry(id).or_default().push(index);
                self.services.act(index, |board, now| board.finish(id, Outcome::Output(output), now));
            }
        }
    }

    fn on(&mut self, index: usize, at: Time, event: WorkEvent) {
        let worker = self.workers[index];
        match event {
            WorkEvent::Run { task, input, .. } => {
                assert_eq!(input[..], self.inputs[&task].to_le_bytes());
                self.begun.entry(task).or_default().push(index);
                let until = if worker.stalls { Time(u64::MAX) } else { at + worker.takes };
                self.jobs.insert((index, task), until);
            }
            WorkEvent::Cancel(task) => _ = self.jobs.remove(&(index, task)),
            WorkEvent::Done(done) => self.done.entry(done.task).or_default().push((at, done)),
            WorkEvent::Ended { task, error } => self.ended.entry(task).or_default().push(error),
            WorkEvent::Odd { task, peer } => self.odd.push((task, peer)),
            WorkEvent::Twice { task, peer } => self.twice.push((task, peer)),
        }
    }

    /// Runs until all these are done, at the longest for so long.
    fn finish(&mut self, tasks: &[TaskId], limit: Duration, hint: &str) {
        let end = self.services.sim.now() + limit;
        while self.services.sim.now() < end && !tasks.iter().all(|task| self.done.contains_key(task)) {
            self.run(STEP * 5);
        }
        let missing = tasks.iter().filter(|task| !self.done.contains_key(task)).count();
        assert_eq!(missing, 0, "{hint}: of {} tasks after {limit:?}; ended: {:?}", tasks.len(), self.ended.values().next());
    }

    /// Each of these came to one result, the right one.
    fn assert_once_and_right(&self, tasks: &[TaskId], hint: &str) {
        for task in tasks {
            let done = &self.done[task];
            assert_eq!(done.len(), 1, "{hint}: {task:?} is told once");
            assert_eq!(done[0].1.output, right(self.inputs[task]), "{hint}: {task:?} is right");
            assert!(!self.ended.contains_key(task), "{hint}: {task:?} both came to a result and did not");
        }
    }
}

#[test]
fn c4_1_whoever_dies_any_other_can_submit() {
    for seed in 1..=3 {
        let mut crew = Crew::new(seed, vec![GOOD; 7]);
        // The first one, who opened the mesh, too.
        for victim in [0, 3, 6, 1, 2] {
            let submitter = *crew.alive.iter().rev().find(|index| **index != victim).unwrap();
            let tasks: Vec<TaskId> = (0..12).map(|_| crew.submit(submitter, |task| task.within(seconds(60)))).collect();
            crew.run(Duration::from_millis(200));
            crew.crash(victim);
            let hint = format!("seed {seed}, {victim} died");
            crew.finish(&tasks, seconds(20), &hint);
            crew.assert_once_and_right(&tasks, &hint);
        }
    }
}

#[test]
fn c4_2_slow_members_do_not_cost_the_deadline_and_a_missed_one_is_told() {
    for seed in 1..=3 {
        // Two of eight take everything on and never finish anything, without being dead; their leases are longer than the deadline.
        let mut workers = vec![GOOD; 8];
        workers[2].stalls = true;
        workers[5].stalls = true;
        let mut crew = Crew::new(seed, workers);
        let shape = |task: Task| task.within(seconds(12)).lease(seconds(60));
        let tasks: Vec<TaskId> = (0..60).map(|_| crew.submit(0, shape)).collect();
        crew.run(seconds(13));
        let in_time = tasks.iter().filter(|task| crew.done.contains_key(task)).count();
        assert_eq!(in_time, tasks.len(), "seed {seed}: all by the deadline");
        // Nobody offers that one.
        let lost = Task::new("cube", Vec::new()).within(seconds(3));
        let lost = crew.services.act(0, |board, now| board.submit(lost, now)).unwrap();
        crew.run(seconds(4));
        assert_eq!(crew.ended.get(&lost), Some(&vec![WorkError::Missed]), "seed {seed}");
        assert_eq!(crew.services.service(0).open_tasks(), 0, "seed {seed}: nothing is left over");
    }
}

#[test]
fn c4_3_a_dead_workers_task_is_taken_over_soon_and_its_result_is_taken_once() {
    for seed in 1..=5 {
        let slow = Worker { takes: seconds(2), ..GOOD };
        let mut crew = Crew::new(seed, vec![slow; 6]);
        let task = crew.submit(0, |task| task.within(seconds(60)));
        // Wherever it is run, that one dies in the middle; the submitter, of whom it is, lives.
        let mut takeovers = 0;
        for _ in 0..3 {
            let worker = loop {
                crew.run(STEP);
                if let Some(worker) = crew.jobs.keys().find(|(_, id)| *id == task).map(|(worker, _)| *worker) {
                    break worker;
                }
            };
            if worker == 0 {
                break;
            }
            crew.run(seconds(1));
            crew.crash(worker);
            let died = crew.services.sim.now();
            while !crew.jobs.keys().any(|(_, id)| *id == task) {
                crew.run(STEP);
                let waited = crew.services.sim.now().since(died);
                assert!(waited < seconds(4), "seed {seed}: nobody took over for {waited:?}");
            }
            takeovers += 1;
        }
        let hint = format!("seed {seed}, {takeovers} taken over");
        crew.finish(&[task], seconds(10), &hint);
        crew.run(seconds(2));
        crew.assert_once_and_right(&[task], &hint);
    }
}

#[test]
fn c4_3_a_stalled_workers_task_is_taken_over_when_its_lease_is_over() {
    let mut crew = Crew::new(1, [vec![GOOD], vec![Worker { stalls: true, ..GOOD }; 4], vec![GOOD]].concat());
    let tasks: Vec<TaskId> = (0..8).map(|_| crew.submit(0, |task| task.within(seconds(300)).lease(seconds(3)))).collect();
    crew.finish(&tasks, seconds(60), "four of six stall");
    crew.assert_once_and_right(&tasks, "four of six stall");
}

#[test]
fn c4_4_one_liar_of_three_changes_nothing_and_is_named() {
    for seed in 1..=3 {
        let mut workers = vec![GOOD; 6];
        workers[4].lies = true;
        let mut crew = Crew::new(seed, workers);
        let tasks: Vec<TaskId> = (0..40).map(|_| crew.submit(1, |task| task.within(seconds(120)).copies(3))).collect();
        let hint = format!("seed {seed}");
        crew.finish(&tasks, seconds(60), &hint);
        crew.run(seconds(3));
        crew.assert_once_and_right(&tasks, &hint);
        let liar = crew.services.sim.peer(4);
        let lied: BTreeSet<TaskId> = crew.finished.iter().filter(|(_, by)| by.contains(&4)).map(|(task, _)| *task).collect();
        let mut named: BTreeMap<TaskId, BTreeSet<PeerId>> = BTreeMap::new();
        for done in crew.done.values() {
            named.entry(done[0].1.task).or_default().extend(done[0].1.odd.iter().copied());
        }
        crew.odd.iter().for_each(|(task, peer)| _ = named.entry(*task).or_default().insert(*peer));
        named.retain(|_, odd| !odd.is_empty());
        assert!(named.values().all(|odd| odd.iter().all(|peer| *peer == liar)), "{hint}: nobody else is");
        assert!(lied.len() > 5, "{hint}: it had its chances: {}", lied.len());
        assert_eq!(named.len(), lied.len(), "{hint}: each time");
    }
}

#[test]
fn c4_5_results_of_strangers_and_forged_ones_are_ignored() {
    let mut crew = Crew::new(1, vec![Worker { takes: seconds(2), ..GOOD }; 4]);
    let task = crew.submit(0, |task| task.within(seconds(30)));
    crew.run(Duration::from_millis(500));
    // What a member would say, byte by byte; that a member's words are its own is the mesh's business, in `weaknesses/forging.rs`.
    let mut forged = vec![3];
    forged.extend(task.submitter.0);
    let boot = task.boot.0.to_le_bytes();
    forged.extend([252, boot[0], boot[1], boot[2], boot[3], u8::try_from(task.number).unwrap(), 0, 1, b'x']);
    let payload = Bytes::from(forged);
    let stranger = Identity::from_seed([99; 32]).peer_id();
    for from in [stranger, crew.services.sim.peer(0)] {
        crew.services.act(0, |board, now| board.handle(Input::Message { from, payload: &payload }, now));
    }
    crew.finish(&[task], seconds(10), "forged");
    crew.assert_once_and_right(&[task], "forged");
    // The same words from a member count: they were well formed.
    let member = crew.services.sim.peer(2);
    crew.services.act(0, |board, now| board.handle(Input::Message { from: member, payload: &payload }, now));
    crew.run(STEP);
    assert!(crew.odd.contains(&(task, member)) || crew.finished[&task].contains(&2), "{:?}", crew.odd);
}

#[test]
fn c4_6_a_split_loses_no_result_and_double_work_is_told() {
    let mut doubled = 0;
    for seed in 1..=4 {
        let mut crew = Crew::new(seed, vec![Worker { takes: seconds(3), ..GOOD }; 6]);
        let tasks: Vec<TaskId> = (0..10).map(|_| crew.submit(0, |task| task.within(seconds(120)).lease(seconds(60)))).collect();
        crew.run(seconds(1));
        // The submitter with two others here, three there: who had begun there comes to an end there, and others begin anew here.
        for (here, there) in (0..3).flat_map(|here| (3..6).map(move |there| (here, there))) {
            crew.services.sim.cut(here, there);
        }
        crew.run(seconds(30));
        let hint = format!("seed {seed}");
        crew.assert_once_and_right(&tasks, &hint);
        crew.services.sim.heal();
        (0..6).for_each(|index| crew.services.sim.introduce(index, (index + 3) % 6));
        crew.run(seconds(20));
        crew.assert_once_and_right(&tasks, &hint);
        let both: BTreeSet<TaskId> = crew
            .finished
            .iter()
            .filter(|(_, by)| by.iter().any(|index| *index < 3) && by.iter().any(|index| *index >= 3))
            .map(|(task, _)| *task)
            .collect();
        let told: BTreeSet<TaskId> = crew.twice.iter().map(|(task, _)| *task).collect();
        assert!(both.is_subset(&told), "{hint}: run in both halves {both:?}, told of {told:?}");
        doubled += told.len();
        // Whoever was cut off has nothing left to do or to keep.
        assert!((0..6).all(|index| crew.services.service(index).open_tasks() == 0), "{hint}");
    }
    assert!(doubled > 0, "some were");
}

#[test]
fn c7_1_each_members_share_is_in_proportion_to_its_capacity() {
    for seed in 1..=2 {
        let capacities = [1, 2, 4, 1, 2, 3, 4, 3];
        let workers = capacities.map(|capacity| Worker { capacity, takes: Duration::from_millis(500), ..GOOD });
        let mut crew = Crew::new(seed, workers.to_vec());
        let tasks: Vec<TaskId> = (0..1_000).map(|n| crew.submit(n % 8, |task| task.within(seconds(600)))).collect();
        crew.finish(&tasks, seconds(120), &format!("seed {seed}"));
        let all: usize = crew.ran.iter().sum();
        let places: u16 = capacities.iter().sum();
        for (index, capacity) in capacities.into_iter().enumerate() {
            let fair = all as f64 * f64::from(capacity) / f64::from(places);
            let share = crew.ran[index] as f64 / fair;
            assert!((share - 1.0).abs() < 0.1, "seed {seed}: {index} with {capacity} ran {share:.2} of its share");
        }
        assert!(all < tasks.len() * 102 / 100, "seed {seed}: hardly anything was run twice: {all}");
    }
}

#[test]
fn c7_2_shares_shift_when_members_come_and_go() {
    let mut crew = Crew::new(1, vec![GOOD; 4]);
    let submit = |crew: &mut Crew, count: usize| -> Vec<TaskId> {
        (0..count).map(|n| crew.submit(n % 2, |task| task.within(seconds(600)))).collect()
    };
    let mut tasks = submit(&mut crew, 600);
    crew.run(seconds(5));
    let newcomer = crew.join(GOOD);
    crew.run(seconds(3));
    let before = crew.ran.clone();
    crew.run(seconds(10));
    let ran: Vec<usize> = crew.ran.iter().zip(&before).map(|(now, before)| now - before).collect();
    let mean = ran.iter().sum::<usize>() as f64 / 5.0;
    assert!((ran[newcomer] as f64 / mean - 1.0).abs() < 0.1, "three seconds after it came it has its share: {ran:?}");
    crew.crash(3);
    tasks.extend(submit(&mut crew, 200));
    crew.run(seconds(3));
    let before = crew.ran.clone();
    crew.run(seconds(8));
    let ran: Vec<usize> = crew.ran.iter().zip(&before).map(|(now, before)| now - before).collect();
    let mean = ran.iter().sum::<usize>() as f64 / 4.0;
    for index in [0, 1, 2, newcomer] {
        assert!((ran[index] as f64 / mean - 1.0).abs() < 0.1, "the others have the leaver's share: {ran:?}");
    }
    crew.finish(&tasks, seconds(120), "come and go");
    crew.assert_once_and_right(&tasks, "come and go");
}
