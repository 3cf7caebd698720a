//! Which seeds a test tries, and the luck that comes of one.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

/// Repeatable luck: the same seed, the same choices.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The luck of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn any(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `limit`.
    ///
    /// # Panics
    /// When there is none.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.next_u32() as usize % limit
    }

    /// Whether it is this time, of so many.
    pub fn one_in(&mut self, chances: u32) -> bool {
        self.0.next_u32().is_multiple_of(chances)
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// The seeds of a file of what failed once: each line begins with one, but for comments.
///
/// # Panics
/// When a line does not.
pub fn regressions(text: &str) -> impl Iterator<Item = u64> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().next().and_then(|seed| seed.parse().ok()).expect("a line starts with its seed"))
}

/// The seeds that somebody asks for in an environment variable, as `1000..2000`; else the usual ones.
///
/// # Panics
/// When the variable says anything else.
#[allow(clippy::disallowed_methods, reason = "which seeds a test tries is no setting of the protocol")]
pub fn asked(variable: &str, usual: Range<u64>) -> Range<u64> {
    let Ok(asked) = std::env::var(variable) else { return usual };
    let (from, to) = asked.split_once("..").unwrap_or_else(|| panic!("{variable} is FROM..TO"));
    from.parse().expect("a number")..to.parse().expect("a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_seeds() {
        assert_eq!(regressions("# 1 one\n\n 2 loss 3: why\n4\n").collect::<Vec<_>>(), [2, 4]);
    }
}
