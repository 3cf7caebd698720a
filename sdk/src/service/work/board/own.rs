//! Our own tasks: what their results lead to.

use std::collections::BTreeMap;

use peerflock_proto::{PeerId, Target, Time};

use super::super::message::{IDS_MAX, Message, Outcome};
use super::super::task::{Verdict, Votes};
use super::super::{TASKS_MAX, TaskId, WorkError, WorkEvent};
use super::Board;
use crate::service::Output;

/// Closed tasks remembered, to notice results that come twice.
const REMEMBERED_MAX: usize = 2 * TASKS_MAX;

/// What we know of tasks of ours, open ones and those of late.
#[derive(Debug, Default)]
pub(super) struct Own {
    next: u32,
    votes: BTreeMap<u32, Known>,
    /// Those that nobody has been told of yet.
    pub(super) to_post: Vec<u32>,
}

#[derive(Debug)]
struct Known {
    votes: Votes,
    copies: u8,
    until: Time,
}

impl Own {
    /// The number of a new task, remembered until then.
    pub(super) fn number(&mut self, until: Time) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.votes.insert(number, Known { votes: Votes::default(), copies: 0, until });
        while self.votes.len() > REMEMBERED_MAX {
            self.votes.pop_first();
        }
        number
    }

    pub(super) fn forget(&mut self, now: Time) {
        self.votes.retain(|_, known| now < known.until);
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.votes.keys().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }
}

impl Board {
    /// A member's result of a task of ours.
    pub(super) fn count(&mut self, id: TaskId, peer: PeerId, outcome: &Outcome, now: Time) {
        let open = self.tasks.get(&id).map(|task| task.copies);
        if open.is_none() && peer != self.me {
            // It would keep its result for us else.
            self.say(Target::One(peer), &Message::Closed { boot: self.boot, numbers: vec![id.number] });
        }
        let Some(known) = self.own.votes.get_mut(&id.number) else { return };
        known.copies = open.unwrap_or(known.copies);
        let copies = known.copies;
        let verdict = known.votes.count(id, peer, outcome, copies);
        if open.is_none() && !known.votes.is_done() {
            // It ended without a result, and its submitter knows.
            return;
        }
        match verdict {
            Verdict::Wait => {}
            Verdict::Done(done) => self.outputs.push_back(Output::Tell(WorkEvent::Done(done))),
            Verdict::Ended(error) => return self.end(id, error),
            Verdict::Doubt => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.copies += 1;
                    self.say_posted(Target::All, &[id.number], now);
                }
            }
            Verdict::Odd => self.outputs.push_back(Output::Tell(WorkEvent::Odd { task: id, peer })),
            Verdict::Twice => self.outputs.push_back(Output::Tell(WorkEvent::Twice { task: id, peer })),
        }
        let complete = self.own.votes.get(&id.number).is_some_and(|known| known.votes.is_complete(copies));
        if complete && open.is_some() {
            self.close_own(id);
        }
    }

    /// The time of a task of ours is over.
    pub(super) fn miss(&mut self, id: TaskId) {
        let done = self.own.votes.get(&id.number).is_some_and(|known| known.votes.is_done());
        if done { self.close_own(id) } else { self.end(id, WorkError::Missed) }
    }

    fn end(&mut self, id: TaskId, error: WorkError) {
        self.outputs.push_back(Output::Tell(WorkEvent::Ended { task: id, error }));
        self.close_own(id);
    }

    fn close_own(&mut self, id: TaskId) {
        self.close(&id);
        // Tasks that end together are told together, as far as one message holds them.
        let boot = self.boot;
        if let Some(Output::Send { to: Target::All, payload }) = self.outputs.back()
            && let Some(Message::Closed { mut numbers, .. }) = Message::decode(payload)
            && numbers.len() < IDS_MAX
        {
            self.outputs.pop_back();
            numbers.push(id.number);
            return self.say(Target::All, &Message::Closed { boot, numbers });
        }
        self.say(Target::All, &Message::Closed { boot, numbers: vec![id.number] });
    }
}
