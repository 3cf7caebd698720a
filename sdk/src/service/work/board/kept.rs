//! Results whose submitters have not said that they have them.

use std::collections::BTreeMap;

use peerflock_proto::{PeerId, Time};

use super::super::message::Outcome;
use super::super::{KEPT_BYTES_MAX, TaskId};

/// What a result costs beside its bytes.
const OVERHEAD_BYTES: usize = 128;

#[derive(Debug, Default)]
pub(super) struct Kept {
    results: BTreeMap<TaskId, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    outcome: Outcome,
    until: Time,
    /// It was sent to its submitter, who has been here since.
    sent: bool,
}

impl Kept {
    /// Keeps a result until then, or until others need the room: those go first whose time is over first.
    pub(super) fn keep(&mut self, id: TaskId, outcome: Outcome, until: Time) {
        self.forget(&id);
        self.bytes += cost(&outcome);
        self.results.insert(id, Entry { outcome, until, sent: false });
        while self.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = self.results.iter().min_by_key(|(_, entry)| entry.until).map(|(id, _)| *id) else { break };
            self.forget(&oldest);
        }
    }

    pub(super) fn forget(&mut self, id: &TaskId) {
        if let Some(entry) = self.results.remove(id) {
            self.bytes -= cost(&entry.outcome);
        }
    }

    pub(super) fn forget_old(&mut self, now: Time) {
        let old: Vec<TaskId> = self.results.iter().filter(|(_, entry)| now >= entry.until).map(|(id, _)| *id).collect();
        old.iter().for_each(|id| self.forget(id));
    }

    /// A result, if it is here: from now on it counts as sent.
    pub(super) fn send(&mut self, id: &TaskId) -> Option<Outcome> {
        let entry = self.results.get_mut(id)?;
        entry.sent = true;
        Some(entry.outcome.clone())
    }

    /// What was sent to a member may not have come there.
    pub(super) fn unsend(&mut self, submitter: &PeerId) {
        self.results.iter_mut().filter(|(id, _)| id.submitter == *submitter).for_each(|(_, entry)| entry.sent = false);
    }

    /// Whether a result is here and was not sent.
    pub(super) fn is_unsent(&self, id: &TaskId) -> bool {
        self.results.get(id).is_some_and(|entry| !entry.sent)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &TaskId> {
        self.results.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.results.is_empty()
    }
}

fn cost(outcome: &Outcome) -> usize {
    OVERHEAD_BYTES
        + match outcome {
            Outcome::Output(output) => output.len(),
            Outcome::Failed(reason) => reason.len(),
        }
}
