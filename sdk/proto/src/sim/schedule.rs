//! What happens when: arrivals in the order of their times, and the timeout of each node.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

/// Things that will happen, earliest first; of two at the same time, the one that was put in first.
///
/// The heap holds numbers only: what is to happen lies still beside it while the heap reorders itself.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Reverse<(Time, u64, usize)>>,
    items: Vec<Option<T>>,
    free: Vec<usize>,
    next: u64,
}

impl<T> Agenda<T> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), items: Vec::new(), free: Vec::new(), next: 0 }
    }

    pub(super) fn push(&mut self, at: Time, item: T) {
        let place = self.free.pop().unwrap_or(self.items.len());
        if place == self.items.len() {
            self.items.push(None);
        }
        self.items[place] = Some(item);
        self.next += 1;
        self.heap.push(Reverse((at, self.next, place)));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let Reverse((_, _, place)) = self.heap.pop()?;
        self.free.push(place);
        self.items[place].take()
    }
}

/// One time for each of many indices, and which of them is the earliest: a tournament that is played again along one branch
/// whenever a time changes.
#[derive(Debug)]
pub(super) struct Timers {
    /// A complete binary tree: the root at 1, the children of `n` at `2n` and `2n + 1`, the indices in the last row.
    tree: Vec<(Time, usize)>,
    leaves: usize,
}

const NEVER: Time = Time(u64::MAX);

impl Timers {
    pub(super) fn new() -> Self {
        Self { tree: vec![(NEVER, 0); 2], leaves: 1 }
    }

    /// Sets the time of an index; None for never.
    pub(super) fn set(&mut self, index: usize, at: Option<Time>) {
        if index >= self.leaves {
            self.grow(index + 1);
        }
        let at = at.unwrap_or(NEVER);
        let mut place = self.leaves + index;
        if self.tree[place].0 == at {
            return;
        }
        self.tree[place] = (at, index);
        while place > 1 {
            place /= 2;
            let winner = self.tree[2 * place].min(self.tree[2 * place + 1]);
            if self.tree[place] == winner {
                return;
            }
            self.tree[place] = winner;
        }
    }

    /// The earliest time and whose it is; of two at the same time, the smaller index.
    pub(super) fn first(&self) -> Option<(Time, usize)> {
        Some(self.tree[1]).filter(|(at, _)| *at != NEVER)
    }

    fn grow(&mut self, count: usize) {
        let old = std::mem::replace(self, Self { leaves: count.next_power_of_two(), tree: Vec::new() });
        self.tree = vec![(NEVER, 0); 2 * self.leaves];
        for (index, leaf) in self.tree[self.leaves..].iter_mut().enumerate() {
            leaf.1 = index;
        }
        for (at, index) in &old.tree[old.leaves..] {
            self.set(*index, Some(*at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agenda_keeps_the_order_of_what_comes_at_once() {
        let mut agenda = Agenda::new();
        for (at, item) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            agenda.push(Time(at), item);
        }
        assert_eq!((agenda.next_at(), agenda.pop()), (Some(Time(1)), Some("a")));
        agenda.push(Time(5), "e");
        let rest: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!(rest, ["b", "c", "d", "e"]);
        assert_eq!(agenda.next_at(), None);
        assert_eq!(agenda.items.len(), 4, "places are used again");
    }

    #[test]
    fn the_first_timer_is_the_one_that_a_scan_finds() {
        let mut timers = Timers::new();
        let mut plain: Vec<Option<Time>> = Vec::new();
        let mut drawn = 1_u64;
        for step in 0..2_000 {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let index = (drawn >> 40) as usize % (1 + step / 20);
            let at = (drawn >> 33) % 50;
            let at = (at > 5).then_some(Time(at));
            plain.resize(plain.len().max(index + 1), None);
            plain[index] = at;
            timers.set(index, at);
            let found = plain.iter().enumerate().filter_map(|(index, at)| Some(((*at)?, index))).min();
            assert_eq!(timers.first(), found);
        }
    }
}
