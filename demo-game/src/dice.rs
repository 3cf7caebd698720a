//! Chance that can be repeated: the same seed, the same throws.

/// A small generator of numbers (`SplitMix64`, Steele et al. 2014): good for birds and pictures, not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The same seed, the same throws.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below 2^64.
    pub(crate) fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to 1, without 1.
    pub(crate) fn unit(&mut self) -> f32 {
        // 24 bits are what a float of that size tells apart.
        (self.throw() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A number from `low` up to `high`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// One of `items`; none of none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get((self.throw() % items.len().max(1) as u64) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_and_within_bounds() {
        let (mut one, mut two) = (Dice::new(7), Dice::new(7));
        for _ in 0..1_000 {
            let thrown = one.between(-2.0, 3.0);
            assert_eq!(thrown, two.between(-2.0, 3.0));
            assert!((-2.0..3.0).contains(&thrown));
        }
        assert_ne!(Dice::new(1).throw(), Dice::new(2).throw());
        assert_eq!(one.pick::<u8>(&[]), None);
    }
}
