//! What neighbors tell each other of how far they have the authors' messages, so that holes are noticed further down a tree.
//!
//! With each beat a link carries the four low bits of those authors who moved since what the neighbor was told the time before the last
//! two. Where all talk, that is everybody; where few do among many, it costs what those few cost. Now and then whole numbers of
//! all are told, so that nothing misunderstood stays so.

use super::Node;
use crate::flood::{Kept, PortId, Slot};
use crate::time::Time;
use crate::wire::{DIGEST_MAX, Item, Marks, Whose};

/// Every so manieth digest tells whole numbers, in case low bits were misunderstood.
const WHOLE_EVERY: u32 = 20;
/// Authors who did not move are told of all the same where that costs less than to begin anew after them.
const DIGEST_GAP_MAX: u32 = 8;
/// Most authors in a digest of whole numbers, so that it fits a parcel.
const WHOLE_MAX: usize = 100;

impl Node {
    /// A neighbor says up to where it has each author's messages.
    pub(super) fn hear_digest(&mut self, port: PortId, first: u32, marks: &Marks, now: Time) {
        let count = match marks {
            Marks::Low(marks) => marks.len(),
            Marks::Whole(marks) => marks.len(),
        };
        for index in 0..count {
            let alias = first.saturating_add(index as u32);
            let Some(slot) = self.flood.resolve(port, Whose::Alias(alias)) else { continue };
            let theirs = match marks {
                Marks::Low(marks) => self.broadcast.expand_mark(slot, marks[index]),
                Marks::Whole(marks) => Some(marks[index]),
            };
            let (Some(theirs), Some(ours)) = (theirs, self.broadcast.delivered(slot)) else { continue };
            if let Some(port) = self.flood.port_mut(port) {
                port.has(slot, theirs);
            }
            if theirs > ours {
                self.repairs.note(slot, self.parent_rtt(slot), now);
            }
        }
    }

    /// Tells a neighbor how far we have the authors' messages, of those of whom that is news or may have been lost.
    pub(super) fn tell_digest(&mut self, port: PortId) {
        let version = self.broadcast.version();
        let used = self.flood.slots_used() as u32;
        let Some(held) = self.flood.port_mut(port) else { return };
        let last = &mut held.digest;
        let [told, before, newest] = last.versions;
        if told == version {
            return;
        }
        last.versions = [before, newest, version];
        last.count += 1;
        // At first both ends do not know where the other stands; and nothing misunderstood stays so.
        let whole = last.count <= 2 || last.count % WHOLE_EVERY == 0 || before == version;
        let chunk = if whole { WHOLE_MAX } else { DIGEST_MAX } as u32;
        let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
        if whole {
            runs.extend((0..used).step_by(WHOLE_MAX).map(|first| first..used.min(first + chunk)));
        } else {
            for Slot(slot) in self.broadcast.moved_since(told) {
                match runs.last_mut().filter(|run| slot - run.end <= DIGEST_GAP_MAX && slot - run.start < chunk) {
                    Some(run) => run.end = slot + 1,
                    None => runs.push(slot..slot + 1),
                }
            }
        }
        for run in runs {
            let first = run.start;
            let delivered = run.map(|slot| self.broadcast.delivered(Slot(slot)).unwrap_or(0));
            let marks = if whole {
                Marks::Whole(delivered.collect())
            } else {
                Marks::Low(delivered.map(|upto| upto as u8 & 15).collect())
            };
            let item = Item::Digest { first, marks }.encode();
            if let Some(held) = self.flood.port_mut(port) {
                held.enqueue(item, Kept::Nothing);
            }
        }
    }
}
