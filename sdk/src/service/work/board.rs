//! The board: what one member knows of all work, and what it does about it. A state machine without I/O.

mod kept;
mod own;
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use peerflock_proto::{Boot, PeerId, Target, Time, Topic};

use super::message::{FUNCTIONS_MAX, Message, Outcome, Posted};
use super::task::Open;
use super::{FunctionId, KEEP, OUTPUT_BYTES_MAX, SubmitError, TASK_BYTES_MAX, TASKS_MAX, Task, TaskId, WorkEvent};
use crate::service::{Input, Members, Output, Service};
use kept::Kept;
use own::Own;

/// How often to look around while there is anything to be done.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often to try again what could not be sent.
const OWED_EVERY: Duration = Duration::from_secs(1);
/// Tasks of all submitters together, and bytes of their inputs.
const ALL_TASKS_MAX: usize = 4 * TASKS_MAX;
const ALL_BYTES_MAX: usize = 4 * TASK_BYTES_MAX;
/// Words about tasks of which we have not heard, remembered for when we do.
const EARLY_MAX: usize = 1_024;
/// Longest reason of a failure, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// What one member knows of all work. [`Work`](super::Work) runs it on a mesh; tests run it in virtual time.
#[derive(Debug)]
pub struct Board {
    me: PeerId,
    boot: Boot,
    capacity: u16,
    functions: BTreeSet<FunctionId>,
    /// Who can run what, ourselves included. `epoch` counts its changes.
    workers: BTreeMap<PeerId, Worker>,
    epoch: u64,
    present: BTreeSet<PeerId>,
    /// Whom we told all that concerns it, in which of its lives and when.
    greeted: BTreeMap<PeerId, (Boot, Time)>,
    tasks: BTreeMap<TaskId, Open>,
    /// How many tasks, and bytes of them, each submitter has open.
    held: BTreeMap<PeerId, (usize, usize)>,
    own: Own,
    /// What we run, and when we last said so.
    running: BTreeMap<TaskId, Time>,
    kept: Kept,
    /// Who is to be told all again, as something was not sent.
    owed: BTreeSet<PeerId>,
    owed_at: Time,
    /// What others did about tasks that we have not heard of yet, oldest first.
    early: VecDeque<(TaskId, PeerId, Deed)>,
    does: Does,
    look_at: Option<Time>,
    outputs: VecDeque<Output<WorkEvent>>,
}

#[derive(Debug)]
struct Worker {
    capacity: u16,
    functions: BTreeSet<FunctionId>,
}

/// What a member did about a task.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Runs,
    Finished,
    GaveUp,
}

#[derive(Debug, Default)]
struct Does {
    runs: Vec<TaskId>,
    finished: Vec<TaskId>,
    gave_up: Vec<TaskId>,
}

impl Board {
    /// Of the member `me`, in that start of it, which runs at most `capacity` of these functions at a time; none if that is 0.
    pub fn new(me: PeerId, boot: Boot, capacity: u16, functions: impl IntoIterator<Item = FunctionId>) -> Self {
        let functions: BTreeSet<FunctionId> = functions.into_iter().take(FUNCTIONS_MAX).collect();
        let mut board = Self {
            me,
            boot,
            capacity,
            functions: functions.clone(),
            workers: BTreeMap::new(),
            epoch: 0,
            present: BTreeSet::from([me]),
            greeted: BTreeMap::new(),
            tasks: BTreeMap::new(),
            held: BTreeMap::new(),
            own: Own::default(),
            running: BTreeMap::new(),
            kept: Kept::default(),
            owed: BTreeSet::new(),
            owed_at: Time::default(),
            early: VecDeque::new(),
            does: Does::default(),
            look_at: None,
            outputs: VecDeque::new(),
        };
        board.note_worker(me, Worker { capacity, functions });
        board
    }

    /// Submits a task: everyone hears of it, and one [`WorkEvent::Done`] or [`WorkEvent::Ended`] follows.
    ///
    /// # Errors
    /// Nothing changed then.
    pub fn submit(&mut self, task: Task, now: Time) -> Result<TaskId, SubmitError> {
        let len = task.input.len();
        if len > super::INPUT_BYTES_MAX {
            return Err(SubmitError::TooLong { len });
        }
        if !self.has_room(&self.me, len) {
            return Err(SubmitError::Full);
        }
        let within = task.within.min(Task::WITHIN_MAX);
        let id = TaskId { submitter: self.me, boot: self.boot, number: self.own.number(now + within + KEEP) };
        let millis = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        let posted = Posted {
            number: id.number,
            function: task.function,
            input: task.input,
            copies: task.copies.clamp(1, Task::COPIES_MAX),
            lease_ms: millis(task.lease.min(Task::WITHIN_MAX)).max(1),
            left_ms: millis(within),
        };
        self.own.to_post.push(id.number);
        self.open(id, posted, now);
        // What is submitted in one go is told in one go.
        self.look_at = Some(now);
        Ok(id)
    }

    /// A task that we were told to run came to this end. Nothing happens if it was canceled meanwhile.
    pub fn finish(&mut self, id: TaskId, outcome: Outcome, now: Time) {
        if self.running.remove(&id).is_none() {
            return;
        }
        let outcome = match outcome {
            Outcome::Output(output) if output.len() > OUTPUT_BYTES_MAX => {
                Outcome::Failed(format!("{} bytes of output, where {OUTPUT_BYTES_MAX} are the most", output.len()))
            }
            Outcome::Failed(reason) => Outcome::Failed(cut(reason)),
            output => output,
        };
        let failed = matches!(outcome, Outcome::Failed(_));
        if let Some(task) = self.tasks.get_mut(&id) {
            if failed { task.gave_up(self.me) } else { task.finished(self.me, now) }
        }
        if failed {
            self.does.gave_up.push(id);
        } else {
            self.does.finished.push(id);
        }
        if id.submitter == self.me {
            self.count(id, self.me, &outcome, now);
        } else {
            let until = self.tasks.get(&id).map_or(now, |task| task.deadline) + KEEP;
            self.kept.keep(id, outcome, until);
            self.deliver(&id);
        }
        self.look(now);
    }

    /// The function of a task that we run says that it goes on.
    pub fn still_at_it(&mut self, id: TaskId, now: Time) {
        let Some(said) = self.running.get_mut(&id) else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if now >= *said + task.lease / 4 {
            *said = now;
            task.claim(self.me, now);
            self.does.runs.push(id);
            self.flush();
        }
    }

    /// How many tasks are open here, of all submitters.
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// How many tasks we run now.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many others have said that they can run something, and how many places they have together with ours.
    pub fn capacity(&self) -> (usize, usize) {
        let able = self.workers.iter().filter(|(peer, _)| self.present.contains(peer));
        let places = able.clone().map(|(_, worker)| usize::from(worker.capacity)).sum();
        (able.filter(|(peer, _)| **peer != self.me).count(), places)
    }

    fn note_worker(&mut self, peer: PeerId, worker: Worker) {
        self.workers.insert(peer, worker);
        self.epoch += 1;
    }

    fn has_room(&self, submitter: &PeerId, bytes: usize) -> bool {
        let (tasks, held) = self.held.get(submitter).copied().unwrap_or_default();
        let all: usize = self.held.values().map(|(_, bytes)| bytes).sum();
        tasks < TASKS_MAX && held + bytes <= TASK_BYTES_MAX && self.tasks.len() < ALL_TASKS_MAX && all + bytes <= ALL_BYTES_MAX
    }

    fn open(&mut self, id: TaskId, posted: Posted, now: Time) {
        let (tasks, bytes) = self.held.entry(id.submitter).or_default();
        (*tasks, *bytes) = (*tasks + 1, *bytes + posted.input.len());
        self.tasks.insert(id, Open::new(posted, now));
        let early: Vec<_> = self.early.iter().filter(|(early, ..)| *early == id).copied().collect();
        self.early.retain(|(early, ..)| *early != id);
        early.into_iter().for_each(|(id, peer, deed)| self.note(id, peer, deed, now));
    }

    /// A member did something about a task. Its word may come before its submitter's.
    fn note(&mut self, id: TaskId, peer: PeerId, deed: Deed, now: Time) {
        let Some(task) = self.tasks.get_mut(&id) else {
            self.early.push_back((id, peer, deed));
            if self.early.len() > EARLY_MAX {
                self.early.pop_front();
            }
            return;
        };
        match deed {
            Deed::Runs => task.claim(peer, now),
            Deed::Finished => task.finished(peer, now),
            Deed::GaveUp => task.gave_up(peer),
        }
    }

    /// Nobody need run it any more, and its result is where it should be.
    fn close(&mut self, id: &TaskId) {
        self.retire(id);
        self.kept.forget(id);
    }

    /// Nobody need run it any more.
    fn retire(&mut self, id: &TaskId) {
        if let Some(task) = self.tasks.remove(id)
            && let Some((tasks, bytes)) = self.held.get_mut(&id.submitter)
        {
            (*tasks, *bytes) = (*tasks - 1, *bytes - task.input.len());
            if *tasks == 0 {
                self.held.remove(&id.submitter);
            }
        }
        if self.running.remove(id).is_some() {
            self.outputs.push_back(Output::Tell(WorkEvent::Cancel(*id)));
        }
    }

    fn on_members(&mut self, members: &Members) {
        for peer in &members.left {
            self.present.remove(peer);
            self.owed.remove(peer);
            self.tasks.values_mut().for_each(|task| task.gone(peer));
            self.kept.unsend(peer);
            self.greeted.remove(peer);
            // What it offers, it says again when it comes back.
            self.epoch += u64::from(self.workers.remove(peer).is_some());
        }
        self.present.extend(members.joined.iter().copied());
        match members.joined[..] {
            [] => {}
            [peer] => self.say_able(Target::One(peer), true),
            [..] => self.say_able(Target::All, true),
        }
    }

    fn on_message(&mut self, from: PeerId, message: Message, now: Time) {
        match message {
            Message::Able { boot, capacity, functions, asks } => {
                self.note_worker(from, Worker { capacity, functions: functions.into_iter().collect() });
                // Whoever was started anew does not know what it wanted before.
                let old = |id: &&TaskId| id.submitter == from && id.boot != boot;
                let old: Vec<TaskId> = self.tasks.keys().chain(self.kept.ids()).filter(old).copied().collect();
                old.iter().for_each(|id| self.close(id));
                // A few bytes must not make us say all that we have again and again.
                let again = |(life, at): &(Boot, Time)| *life == boot && now.since(*at) < OWED_EVERY;
                if asks && self.greeted.get(&from).is_some_and(again) {
                    self.owed.insert(from);
                    self.look_at.get_or_insert(now + LOOK_EVERY);
                } else if asks {
                    self.greeted.insert(from, (boot, now));
                    self.greet(from, now);
                }
            }
            Message::Posted { boot, tasks } => {
                for posted in tasks {
                    let id = TaskId { submitter: from, boot, number: posted.number };
                    if let Some(task) = self.tasks.get_mut(&id) {
                        task.copies = task.copies.max(posted.copies).min(super::COPIES_MAX);
                    } else if self.has_room(&from, posted.input.len()) {
                        self.open(id, posted, now);
                    }
                }
            }
            Message::Does { runs, finished, gave_up } => {
                let deeds = [(runs, Deed::Runs), (finished, Deed::Finished), (gave_up, Deed::GaveUp)];
                for (ids, deed) in deeds {
                    ids.into_iter().for_each(|id| self.note(id, from, deed, now));
                }
            }
            Message::Result { task, outcome } => {
                let fits = matches!(&outcome, Outcome::Output(output) if output.len() <= OUTPUT_BYTES_MAX);
                let outcome = match outcome {
                    Outcome::Failed(reason) => Outcome::Failed(cut(reason)),
                    _ if !fits => return,
                    output => output,
                };
                if task.submitter == self.me && task.boot == self.boot {
                    self.count(task, from, &outcome, now);
                }
            }
            Message::Closed { boot, numbers } => {
                for number in numbers {
                    let id = TaskId { submitter: from, boot, number };
                    // What was done in vain, as in a split, is told all the same.
                    if self.kept.is_unsent(&id) {
                        self.deliver(&id);
                    }
                    self.close(&id);
                }
            }
        }
    }

    /// Looks around: what is over, what is ours to run, what need not be run.
    fn look(&mut self, now: Time) {
        let over: Vec<TaskId> = self.tasks.iter().filter(|(_, task)| now >= task.deadline).map(|(id, _)| *id).collect();
        for id in over {
            if id.submitter == self.me {
                self.miss(id);
            } else {
                self.retire(&id);
            }
        }
        self.kept.forget_old(now);
        self.own.forget(now);
        self.stop_superfluous(now);
        self.take(now);
        if now >= self.owed_at {
            self.owed_at = now + OWED_EVERY;
            for peer in std::mem::take(&mut self.owed) {
                self.greet(peer, now);
            }
        }
        let to_post = std::mem::take(&mut self.own.to_post);
        self.say_posted(Target::All, &to_post, now);
        self.flush();
        let idle = self.tasks.is_empty() && self.kept.is_empty() && self.owed.is_empty() && self.own.is_empty();
        self.look_at = (!idle).then(|| now + LOOK_EVERY);
    }

    /// Stops what others are at, too, who drew better lots.
    fn stop_superfluous(&mut self, now: Time) {
        let capacity = |peer: &PeerId| self.workers.get(peer).map_or(1, |worker| worker.capacity);
        let stop: Vec<TaskId> = self
            .running
            .keys()
            .filter(|id| self.tasks.get(id).is_some_and(|task| task.is_superfluous(id, &self.me, capacity, now)))
            .copied()
            .collect();
        for id in stop {
            self.running.remove(&id);
            self.tasks.get_mut(&id).into_iter().for_each(|task| task.gone(&self.me));
            self.does.gave_up.push(id);
            self.outputs.push_back(Output::Tell(WorkEvent::Cancel(id)));
        }
    }

    /// Takes tasks that are ours, as far as we have places.
    fn take(&mut self, now: Time) {
        let places = usize::from(self.capacity).saturating_sub(self.running.len());
        if places == 0 {
            return;
        }
        let mut ours = Vec::new();
        for (id, task) in
            self.tasks.iter_mut().filter(|(id, task)| self.functions.contains(&task.function) && !self.running.contains_key(id))
        {
            let function = task.function;
            let able = self
                .workers
                .iter()
                .filter(|(peer, worker)| self.present.contains(peer) && worker.functions.contains(&function))
                .filter(|(_, worker)| worker.capacity > 0)
                .map(|(peer, worker)| (*peer, worker.capacity));
            if let Some((before, from)) = task.turn(id, &self.me, self.epoch, able, now)
                && from <= now
            {
                ours.push((before, task.deadline, *id));
            }
        }
        ours.sort_unstable();
        for (_, _, id) in ours.into_iter().take(places) {
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            task.claim(self.me, now);
            self.running.insert(id, now);
            self.does.runs.push(id);
            let (function, input) = (task.function, task.input.clone());
            self.outputs.push_back(Output::Tell(WorkEvent::Run { task: id, function, input }));
        }
    }
}

impl Service for Board {
    type Event = WorkEvent;

    const TOPIC: Topic = Topic(131);

    fn handle(&mut self, input: Input<'_>, now: Time) {
        match input {
            Input::Members(members) => self.on_members(members),
            Input::Message { from, payload } => {
                // Nobody else speaks for us, and whoever is gone speaks to nobody.
                if from == self.me || !self.present.contains(&from) {
                    return;
                }
                let Some(message) = Message::decode(payload) else { return };
                self.on_message(from, message, now);
            }
            Input::Unsent { to, .. } => {
                if let Target::One(peer) = to
                    && self.present.contains(&peer)
                {
                    self.owed.insert(peer);
                    self.kept.unsend(&peer);
                    self.look_at.get_or_insert(now + LOOK_EVERY);
                }
                return;
            }
            Input::Timeout => {}
        }
        self.look(now);
    }

    fn poll_output(&mut self) -> Option<Output<WorkEvent>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.look_at
    }
}

/// No longer than a reason may be.
fn cut(mut reason: String) -> String {
    while reason.len() > REASON_BYTES_MAX {
        reason.pop();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_again_and_again_is_told_all_once_a_second() {
        let (me, other, boot) = (PeerId([1; 32]), PeerId([2; 32]), Boot(7));
        let mut board = Board::new(me, boot, 1, []);
        board.handle(Input::Members(&Members { all: Vec::new(), left: Vec::new(), joined: vec![other] }), Time(0));
        let asks = Message::Able { boot, capacity: 1, functions: Vec::new(), asks: true }.encode().unwrap();
        let (mut now, mut told) = (Time(0), 0);
        for _ in 0..1_000 {
            now = now + Duration::from_millis(10);
            board.handle(Input::Message { from: other, payload: &asks }, now);
            board.handle(Input::Timeout, now);
            told += std::iter::from_fn(|| board.poll_output()).filter(|output| matches!(output, Output::Send { .. })).count();
        }
        assert!((10..=25).contains(&told), "{told} times in ten seconds");
    }
}
