//! What is random in the lab.

/// The lab's own randomness, from a seed: `SplitMix64` (Steele, Lea, Flood, 2014).
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether what has this chance comes about.
    pub(crate) fn falls(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// Takes `count` of `from` out of it, at random.
    pub(crate) fn draw(&mut self, from: &mut Vec<usize>, count: usize) -> Vec<usize> {
        let count = count.min(from.len());
        (0..count).map(|_| from.remove((self.roll() % from.len() as u64) as usize)).collect()
    }
}
