//! Which sequence numbers were seen: the highest, and a fixed number below it.

/// Sequence numbers below the highest that are told apart; older ones count as seen.
pub(crate) const WINDOW: u64 = 1_024;

/// A sliding window over one origin's sequence numbers (as in RFC 4303, appendix A2).
#[derive(Clone, Debug)]
pub(crate) struct Window {
    highest: Option<u64>,
    seen: [u64; (WINDOW / 64) as usize],
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { highest: None, seen: [0; (WINDOW / 64) as usize] }
    }

    pub(crate) fn contains(&self, seq: u64) -> bool {
        let Some(highest) = self.highest else { return false };
        seq <= highest && (highest - seq >= WINDOW || self.seen[Self::word(seq)] & Self::bit(seq) != 0)
    }

    /// Marks `seq` as seen; whether it was new. What lies below the window never is.
    pub(crate) fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        match self.highest {
            Some(highest) if seq > highest => {
                if seq - highest >= WINDOW {
                    self.seen = [0; (WINDOW / 64) as usize];
                } else {
                    for skipped in highest + 1..seq {
                        self.seen[Self::word(skipped)] &= !Self::bit(skipped);
                    }
                }
                self.highest = Some(seq);
            }
            None => self.highest = Some(seq),
            Some(_) => {}
        }
        self.seen[Self::word(seq)] |= Self::bit(seq);
        true
    }

    fn word(seq: u64) -> usize {
        (seq % WINDOW / 64) as usize
    }

    fn bit(seq: u64) -> u64 {
        1 << (seq % 64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in prop::collection::vec((any::<bool>(), 0_u64..3_000), 1..200)) {
            let (mut window, mut set, mut highest) = (Window::new(), BTreeSet::new(), 0_u64);
            for (ahead, step) in steps {
                let seq = if ahead { highest + step } else { highest.saturating_sub(step) };
                let old = !set.is_empty() && seq + WINDOW <= highest;
                prop_assert_eq!(window.insert(seq), !old && set.insert(seq));
                highest = highest.max(seq);
            }
        }
    }
}
