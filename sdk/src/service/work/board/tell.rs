//! What the board says to others: tasks of ours, what we do about those of all, results, what we can run.

use peerflock_proto::{PeerId, Target, Time};

use super::super::TaskId;
use super::super::message::{IDS_MAX, Message, POSTED_BYTES_MAX};
use super::{Board, Does};
use crate::service::Output;

impl Board {
    /// Tells a result to its submitter, if that one is here.
    pub(super) fn deliver(&mut self, id: &TaskId) {
        if self.present.contains(&id.submitter)
            && let Some(outcome) = self.kept.send(id)
        {
            self.say(Target::One(id.submitter), &Message::Result { task: *id, outcome });
        }
    }

    pub(super) fn say(&mut self, to: Target, message: &Message) {
        if let Some(payload) = message.encode() {
            self.outputs.push_back(Output::Send { to, payload });
        }
    }

    /// Tells what we do, all that is new at once.
    pub(super) fn flush(&mut self) {
        let Does { runs, finished, gave_up } = std::mem::take(&mut self.does);
        self.say_does(Target::All, &runs, &finished, &gave_up);
    }

    fn say_does(&mut self, to: Target, runs: &[TaskId], finished: &[TaskId], gave_up: &[TaskId]) {
        let rounds = [runs, finished, gave_up].map(|ids| ids.len().div_ceil(IDS_MAX)).into_iter().max().unwrap_or_default();
        for round in 0..rounds {
            let part = |ids: &[TaskId]| ids.chunks(IDS_MAX).nth(round).unwrap_or_default().to_vec();
            self.say(to, &Message::Does { runs: part(runs), finished: part(finished), gave_up: part(gave_up) });
        }
    }

    /// Tells tasks of ours.
    pub(super) fn say_posted(&mut self, to: Target, numbers: &[u32], now: Time) {
        let (me, boot) = (self.me, self.boot);
        let (mut tasks, mut bytes) = (Vec::new(), 0);
        for &number in numbers {
            let Some(task) = self.tasks.get(&TaskId { submitter: me, boot, number }) else { continue };
            let posted = task.posted(number, now);
            bytes += posted.cost();
            tasks.push(posted);
            if bytes >= POSTED_BYTES_MAX {
                self.say(to, &Message::Posted { boot, tasks: std::mem::take(&mut tasks) });
                bytes = 0;
            }
        }
        if !tasks.is_empty() {
            self.say(to, &Message::Posted { boot, tasks });
        }
    }

    /// Tells what we can run.
    pub(super) fn say_able(&mut self, to: Target, asks: bool) {
        let functions = self.functions.iter().copied().collect();
        self.say(to, &Message::Able { boot: self.boot, capacity: self.capacity, functions, asks });
    }

    /// Tells somebody who has just come, or has missed something, all that concerns it.
    pub(super) fn greet(&mut self, peer: PeerId, now: Time) {
        let to = Target::One(peer);
        self.say_able(to, false);
        let ours = self.tasks.keys().filter(|id| id.submitter == self.me).map(|id| id.number).collect::<Vec<_>>();
        self.say_posted(to, &ours, now);
        let closed: Vec<u32> = self.own.numbers().filter(|number| ours.binary_search(number).is_err()).collect();
        for numbers in closed.chunks(IDS_MAX) {
            self.say(to, &Message::Closed { boot: self.boot, numbers: numbers.to_vec() });
        }
        let runs: Vec<TaskId> = self.running.keys().copied().collect();
        let finished: Vec<TaskId> = self.kept.ids().copied().collect();
        self.say_does(to, &runs, &finished, &[]);
        finished.iter().filter(|id| id.submitter == peer).for_each(|id| self.deliver(id));
    }
}
