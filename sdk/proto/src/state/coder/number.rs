//! Numbers near zero: what is left of a value after its prediction.

use super::range::{Bits, Odds};

/// Magnitudes from this power of two on share their odds.
const CLASSES: usize = 16;
/// Classes whose leading bits are learned apart.
const LEADING: usize = 6;

/// The odds of one sort of signed number: is it zero, how many bits it has, and the first two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    zero: Odds,
    classes: [Odds; CLASSES],
    leading: [[Odds; 3]; LEADING],
}

impl Number {
    pub(super) const NEW: Self = Self { zero: Odds::EVEN, classes: [Odds::EVEN; CLASSES], leading: [[Odds::EVEN; 3]; LEADING] };

    /// Codes any number; its sign has odds of its own.
    #[inline]
    pub(super) fn signed<B: Bits>(&mut self, bits: &mut B, sign: &mut Odds, value: i32) -> i32 {
        let size = value.unsigned_abs();
        if !bits.bit(&mut self.zero, size != 0) {
            return 0;
        }
        let negative = bits.bit(sign, value < 0);
        let size = self.size(bits, size);
        if negative { (size as i32).wrapping_neg() } else { size as i32 }
    }

    /// Codes a count.
    pub(super) fn unsigned<B: Bits>(&mut self, bits: &mut B, value: u32) -> u32 {
        if bits.bit(&mut self.zero, value != 0) { self.size(bits, value) } else { 0 }
    }

    /// Codes a magnitude of at least 1: its highest bit's place, the two bits below that, and the rest as it is.
    #[inline]
    fn size<B: Bits>(&mut self, bits: &mut B, size: u32) -> u32 {
        let highest = if B::DECODES { 0 } else { size.max(1).ilog2() };
        let mut class = 0;
        while class < 31 && bits.bit(&mut self.classes[(class as usize).min(CLASSES - 1)], highest > class) {
            class += 1;
        }
        if class == 0 {
            return 1;
        }
        let odds = &mut self.leading[(class as usize - 1).min(LEADING - 1)];
        let first = bits.bit(&mut odds[0], size >> (class - 1) & 1 == 1);
        let mut read = 2 | u32::from(first);
        if class >= 2 {
            let second = bits.bit(&mut odds[1 + usize::from(first)], size >> (class - 2) & 1 == 1);
            read = read << 1 | u32::from(second);
            let rest = class - 2;
            read = if rest > 0 { read << rest | bits.raw(size, rest) } else { read };
        }
        read
    }

    pub(super) fn odds_mut(&mut self) -> impl Iterator<Item = &mut Odds> {
        std::iter::once(&mut self.zero).chain(&mut self.classes).chain(self.leading.iter_mut().flatten())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::range::{Decoder, Encoder};
    use super::*;

    fn code(bits: &mut impl Bits, values: &[(i32, u32)]) -> Vec<(i32, u32)> {
        let (mut signed, mut unsigned, mut sign) = (Number::NEW, Number::NEW, Odds::EVEN);
        values.iter().map(|(a, b)| (signed.signed(bits, &mut sign, *a), unsigned.unsigned(bits, *b))).collect()
    }

    proptest! {
        #[test]
        fn numbers_survive(values in prop::collection::vec((any::<i32>(), any::<u32>()), 0..50)) {
            let mut encoder = Encoder::new(0);
            code(&mut encoder, &values);
            prop_assert_eq!(code(&mut Decoder::new(&encoder.finish()), &values), values);
        }
    }

    #[test]
    fn the_ends_of_the_range_survive() {
        let values = [(i32::MIN, u32::MAX), (i32::MAX, 0), (0, 1), (-1, 2), (1, 3)];
        let mut encoder = Encoder::new(0);
        code(&mut encoder, &values);
        assert_eq!(code(&mut Decoder::new(&encoder.finish()), &values), values);
    }
}
