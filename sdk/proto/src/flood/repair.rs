//! Which messages are missing, and when to ask for them.
//!
//! Most of what is lost comes again by itself: the next parcel on the link shows the gap, and the neighbor that sent it is asked. What
//! does not, because the tree has a hole further up or its relay died, is pulled from a neighbor that has it, after a wait that
//! leaves the first way its time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PortSet, Slot};
use crate::time::Time;

/// What the first way is given beyond a round trip, before a missing message is pulled.
const SLACK: Duration = Duration::from_millis(10);
/// Longest such wait, and the one where there is no first way.
const WAIT_MAX: Duration = Duration::from_millis(120);
const WAIT_MIN: Duration = Duration::from_millis(15);

/// The authors of whom something is missing.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    holes: BTreeMap<Slot, Hole>,
}

#[derive(Debug)]
struct Hole {
    due: Time,
    /// Who was asked already.
    asked: PortSet,
}

impl Repairs {
    /// Something of an author's is missing. `rtt` is the round trip to the neighbor that should have sent it, if there is one.
    pub(crate) fn note(&mut self, slot: Slot, rtt: Option<Duration>, now: Time) {
        let due = now + rtt.map_or(WAIT_MIN, |rtt| (rtt / 2 + SLACK).min(WAIT_MAX));
        self.holes.entry(slot).or_insert_with(|| Hole { due, asked: PortSet::default() });
    }

    /// Nothing is missing any more.
    pub(crate) fn mended(&mut self, slot: Slot) {
        self.holes.remove(&slot);
    }

    /// Those whose wait is over.
    pub(crate) fn due(&self, now: Time) -> Vec<Slot> {
        self.holes.iter().filter(|(_, hole)| hole.due <= now).map(|(slot, _)| *slot).collect()
    }

    /// When the next wait is over.
    pub(crate) fn next(&self) -> Option<Time> {
        self.holes.values().map(|hole| hole.due).min()
    }

    /// Whom we asked already; when all were, it begins anew.
    pub(crate) fn asked(&self, slot: Slot) -> PortSet {
        self.holes.get(&slot).map(|hole| hole.asked).unwrap_or_default()
    }

    /// We asked these, and look again at `due`.
    pub(crate) fn look_again(&mut self, slot: Slot, asked: PortSet, due: Time) {
        if let Some(hole) = self.holes.get_mut(&slot) {
            *hole = Hole { due, asked };
        }
    }
}
