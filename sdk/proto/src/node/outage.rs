//! When nobody is heard at all: then it is we who are cut off, or the whole mesh is, and nobody is gone for that.
//!
//! That several neighbors fall silent at the same moment has two causes: they died together, or what lies between us and all of them
//! failed (the access point starts anew, the cable is out). We cannot tell which, so we prepare for both: others are dialed, as after
//! deaths, and links and members are held for a while, as after an outage. Whoever hears anybody at all does not wait: to those the
//! silent ones are gone, and what they owned is adopted. Of a single neighbor that falls silent we think that it died.

use std::time::Duration;

use super::Node;
use crate::time::Time;

/// Nothing came over any link for so long: we hear nobody. Each link carries something with every beat of 50 ms.
const DEAF_AFTER: Duration = Duration::from_millis(400);
/// After so long the neighbors do not keep any more what proves the last packets before.
const PROOFS_LOST_AFTER: Duration = Duration::from_secs(1);
/// Fewer neighbors than this may well have died together.
const NEIGHBORS_MIN: usize = 2;

/// Whether anybody is heard.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// When somebody was last heard, while we hear nobody.
    deaf_since: Option<Time>,
    /// When we began to hear again: who was silent before was perhaps only out of our hearing.
    again: Time,
}

impl Hearing {
    /// From when on the silence counts of one who was last heard at `heard`.
    pub(super) fn silent_since(&self, heard: Time) -> Time {
        heard.max(self.again)
    }

    /// When we began to hear again, after we heard nobody.
    pub(super) fn again(&self) -> Time {
        self.again
    }

    /// We ourselves were not listening for `absence`.
    pub(super) fn forgive(&mut self, absence: Duration) {
        self.deaf_since = self.deaf_since.map(|since| since + absence);
    }
}

impl Node {
    /// Whether nobody is heard, so that silence says nothing about anyone: links and members are held, for at most
    /// [`Config::outage_max`](crate::Config::outage_max).
    pub fn is_cut_off(&self, now: Time) -> bool {
        self.hearing.deaf_since.is_some_and(|since| now.since(since) < self.config.outage_max)
    }

    /// Notices that nobody is heard any more, or somebody again.
    pub(super) fn listen(&mut self, now: Time) {
        let neighbors = || self.overlay.iter().filter(|(_, link)| link.is_member());
        let newest = neighbors().map(|(_, link)| link.heard).max();
        match self.hearing.deaf_since {
            None => {
                let silent = newest.filter(|newest| now.since(*newest) >= DEAF_AFTER);
                if let Some(newest) = silent.filter(|_| neighbors().count() >= NEIGHBORS_MIN) {
                    tracing::info!(target: "peerflock::overlay", "nobody is heard");
                    self.hearing.deaf_since = Some(newest);
                }
            }
            Some(since) if newest.is_some_and(|newest| newest > since) => {
                tracing::info!(target: "peerflock::overlay", after = ?now.since(since), "somebody is heard again");
                self.hearing = Hearing { deaf_since: None, again: now };
                self.forgive_origins(now.since(since), now);
                // Whatever failed meanwhile failed for that.
                self.book.retry_all(now);
                self.neighborhood.look(now);
            }
            Some(_) => {}
        }
    }

    /// That origins were silent in an outage is nobody's fault. What came before it and was to be proved in it will not be proved any
    /// more: that is nobody's fault either, but it cannot be built upon.
    fn forgive_origins(&mut self, absence: Duration, now: Time) {
        let mut undone = Vec::new();
        for (slot, origin) in self.flood.origins_mut() {
            origin.forgive(now);
            if absence < PROOFS_LOST_AFTER {
                origin.ledger.forgive(absence);
            } else if let Some(from) = origin.ledger.abandon() {
                undone.push((slot, origin.peer, from));
            }
        }
        for (slot, peer, from) in undone {
            self.undo_state(slot, peer, from, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::Config;
    use crate::sim::{Options, Sim};

    #[test]
    fn who_hears_nobody_holds_on_for_so_long_and_no_longer() {
        let config = Config { outage_max: Duration::from_secs(4), ..Config::default() };
        let mut sim = Sim::mesh(Options::default(), 4, &config, Duration::from_secs(5));
        sim.run(Duration::from_secs(1));
        (1..4).for_each(|index| sim.crash(index));
        sim.run(Duration::from_millis(3_800));
        assert_eq!((sim.node(0).member_count(), sim.node(0).is_cut_off(sim.now())), (4, true));
        sim.run(Duration::from_millis(500));
        assert_eq!((sim.node(0).member_count(), sim.node(0).is_cut_off(sim.now())), (1, false));
        // Who hears one of two knows that the other is gone.
        let mut sim = Sim::mesh(Options::default(), 3, &config, Duration::from_secs(5));
        sim.run(Duration::from_secs(1));
        sim.crash(2);
        sim.run(Duration::from_secs(2));
        assert_eq!(sim.node(0).member_count(), 2);
        assert!(!sim.node(0).is_cut_off(sim.now()));
    }
}
