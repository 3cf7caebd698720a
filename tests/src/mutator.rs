//! A seeded mutator of bytes, of nothing but the standard library: what a fuzzer does without looking at what it covers.

/// Values that decoders trip over: the ends of ranges, and how the codec writes long lengths.
const NASTY: [&[u8]; 12] = [
    &[0],
    &[1],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff; 8],
    // 4 GiB as the codec's length, as one of eight bytes, and as a LEB128 number.
    &[252, 0xff, 0xff, 0xff, 0xff],
    &[253, 0, 0, 0, 0, 1, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[251, 0xff, 0xff],
];

/// Longest input that it makes, in bytes.
pub const LENGTH_MAX: usize = 4_096;

/// The same seed, the same mutations.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator with this luck.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `limit`; 0 where that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        // SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.state;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((drawn ^ (drawn >> 31)) >> 11) as usize % limit.max(1)
    }

    /// One of the corpus, changed in a few places.
    pub fn next(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus.get(self.below(corpus.len())).cloned().unwrap_or_default();
        // Mostly one change or two: what is changed a lot stops at the first byte of every decoder.
        for _ in 0..1 << self.below(4) {
            self.change(&mut bytes, corpus);
        }
        bytes.truncate(LENGTH_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = self.below(bytes.len() + 1);
        let here = place.min(bytes.len().saturating_sub(1));
        let length = 1 + self.below(16).min(self.below(bytes.len() + 1));
        match self.below(9) {
            0 | 1 => {
                let bit = self.below(8);
                bytes.get_mut(here).into_iter().for_each(|byte| *byte ^= 1 << bit);
            }
            2 => {
                let step = 1 + self.below(16) as u8;
                let more = self.below(2) == 0;
                let moved = |byte: u8| if more { byte.wrapping_add(step) } else { byte.wrapping_sub(step) };
                bytes.get_mut(here).into_iter().for_each(|byte| *byte = moved(*byte));
            }
            3 => {
                let random = self.below(256) as u8;
                bytes.get_mut(here).into_iter().for_each(|byte| *byte = random);
            }
            4 => {
                let nasty = NASTY[self.below(NASTY.len())];
                let end = if self.below(2) == 0 { place } else { (place + nasty.len()).min(bytes.len()) };
                bytes.splice(place..end, nasty.iter().copied());
            }
            5 => {
                bytes.drain(here..(here + length).min(bytes.len()));
            }
            6 => {
                let again = bytes[here..(here + length).min(bytes.len())].to_vec();
                bytes.splice(place..place, again);
            }
            7 => bytes.truncate(place),
            _ => {
                // The rest of another.
                let other = corpus.get(self.below(corpus.len())).map_or(&[][..], Vec::as_slice);
                let from = self.below(other.len() + 1);
                bytes.truncate(place);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_and_hardly_anything_twice() {
        let corpus: Vec<Vec<u8>> = vec![(0..60).collect(), (100..200).collect()];
        let made = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..1_000).map(|_| mutator.next(&corpus)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(1).into_iter().collect::<BTreeSet<_>>().len() > 700);
        assert!(Mutator::new(1).next(&[]).len() <= LENGTH_MAX);
    }
}
