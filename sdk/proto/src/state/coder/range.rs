//! The range coder: decisions of two ways, each with the odds that were learned for it, in little more than their entropy.
//!
//! A binary range coder with carry propagation (G. N. N. Martin, *Range encoding*, 1979; the byte-wise form is that of LZMA). Integers
//! only, so that all machines agree. Whatever codes with it is written once, for both ways: see [`Bits`].

/// The chance that a decision falls one way, as learned so far.
///
/// The mean of a fast and a slow estimate: the one follows a change, the other settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Odds {
    fast: u16,
    slow: u16,
}

/// Chances have so many bits.
const CHANCE_BITS: u32 = 12;
const FAST_RATE: u32 = 4;
const SLOW_RATE: u32 = 7;
/// Most bytes of zeros that an encoder leaves away at the end.
const UNSAID_BYTES: usize = 5;
/// Below this, a byte is settled.
const RANGE_MIN: u32 = 1 << 24;

impl Odds {
    /// Nothing is known.
    pub(super) const EVEN: Self = Self { fast: 1 << 15, slow: 1 << 15 };

    /// The chance of `false`.
    #[inline(always)]
    fn chance(self) -> u32 {
        // Neither estimate reaches an end: what is below one step of its rate stays. So neither way is ever less likely than 4 in 4,096.
        (u32::from(self.fast) + u32::from(self.slow)) >> (17 - CHANCE_BITS)
    }

    #[inline(always)]
    fn learn(&mut self, bit: bool) {
        if bit {
            self.fast -= self.fast >> FAST_RATE;
            self.slow -= self.slow >> SLOW_RATE;
        } else {
            self.fast += (u16::MAX - self.fast) >> FAST_RATE;
            self.slow += (u16::MAX - self.slow) >> SLOW_RATE;
        }
    }

    pub(super) fn parts(self) -> [u16; 2] {
        [self.fast, self.slow]
    }

    /// None if nothing can be learned that gives these.
    pub(super) fn from_parts([fast, slow]: [u16; 2]) -> Option<Self> {
        let within = |part: u16, rate: u32| part >> rate > 0 && (u16::MAX - part) >> rate > 0;
        (within(fast, FAST_RATE - 1) && within(slow, SLOW_RATE - 1)).then_some(Self { fast, slow })
    }
}

/// Either end of the coder. Encoding, a method writes what it is given and returns it; decoding, it returns what was
/// written, whatever it is given. So what is coded by these methods is decoded by the same lines.
pub(super) trait Bits {
    /// Whether what methods are given counts for nothing.
    const DECODES: bool;

    /// One decision.
    fn bit(&mut self, odds: &mut Odds, bit: bool) -> bool;

    /// The low `count` bits of `value`, at most 32, all alike in chance.
    fn raw(&mut self, value: u32, count: u32) -> u32;

    /// Whether more was read than can have been written.
    fn is_beyond_end(&self) -> bool;
}

/// Writes.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    bytes: Vec<u8>,
    low: u64,
    range: u32,
    /// The last byte, which a carry may still reach; none before the first.
    last: Option<u8>,
    /// Bytes of all ones after it, which a carry would run through.
    ones: usize,
}

/// How far an [`Encoder`] was: to go back there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    length: usize,
    low: u64,
    range: u32,
    last: Option<u8>,
    ones: usize,
}

impl Encoder {
    /// With room for so many bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), low: 0, range: u32::MAX, last: None, ones: 0 }
    }

    /// How many bytes there would be at most if this were the end.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() + self.ones + 5
    }

    pub(super) fn place(&self) -> Place {
        Place { length: self.bytes.len(), low: self.low, range: self.range, last: self.last, ones: self.ones }
    }

    /// Takes back everything since `place`.
    pub(super) fn go_back(&mut self, place: Place) {
        self.bytes.truncate(place.length);
        (self.low, self.range, self.last, self.ones) = (place.low, place.range, place.last, place.ones);
    }

    /// The bytes, as few as tell the last decision; a decoder takes zeros for the rest.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let end = self.low + u64::from(self.range) - 1;
        let shortest = |bits: u32| (self.low + (1_u64 << bits) - 1) >> bits << bits;
        self.low = (0..32).rev().map(shortest).find(|value| *value <= end).unwrap_or(self.low);
        for _ in 0..5 {
            self.shift();
        }
        for _ in 0..UNSAID_BYTES {
            if self.bytes.last() == Some(&0) {
                self.bytes.pop();
            }
        }
        self.bytes
    }

    #[inline]
    fn shift(&mut self) {
        let carry = (self.low >> 32) as u8;
        if carry != 0 || (self.low as u32) < 0xff00_0000 {
            if let Some(last) = self.last {
                self.bytes.push(last.wrapping_add(carry));
            }
            for _ in 0..self.ones {
                self.bytes.push(0xff_u8.wrapping_add(carry));
            }
            self.ones = 0;
            self.last = Some((self.low >> 24) as u8);
        } else {
            self.ones += 1;
        }
        self.low = (self.low & 0x00ff_ffff) << 8;
    }

    #[inline(always)]
    fn settle(&mut self) {
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.shift();
        }
    }
}

impl Bits for Encoder {
    const DECODES: bool = false;

    #[inline(always)]
    fn bit(&mut self, odds: &mut Odds, bit: bool) -> bool {
        let bound = (self.range >> CHANCE_BITS) * odds.chance();
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        odds.learn(bit);
        self.settle();
        bit
    }

    fn raw(&mut self, value: u32, count: u32) -> u32 {
        if count > 16 {
            let high = self.raw(value >> 16, count - 16);
            return high << 16 | self.raw(value & 0xffff, 16);
        }
        let value = value & ((1 << count) - 1);
        self.range >>= count;
        self.low += u64::from(value) * u64::from(self.range);
        self.settle();
        value
    }

    fn is_beyond_end(&self) -> bool {
        false
    }
}

/// Reads. It never fails: any bytes mean something, and after their end it goes on with zeros.
#[derive(Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    position: usize,
    code: u32,
    range: u32,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let mut decoder = Self { bytes, position: 0, code: 0, range: u32::MAX };
        for _ in 0..4 {
            decoder.code = decoder.code << 8 | decoder.next();
        }
        decoder
    }

    #[inline(always)]
    fn next(&mut self) -> u32 {
        let byte = self.bytes.get(self.position).copied().unwrap_or(0);
        self.position += 1;
        u32::from(byte)
    }

    #[inline(always)]
    fn settle(&mut self) {
        while self.range < RANGE_MIN {
            self.range <<= 8;
            self.code = self.code << 8 | self.next();
        }
    }
}

impl Bits for Decoder<'_> {
    const DECODES: bool = true;

    #[inline(always)]
    fn bit(&mut self, odds: &mut Odds, _bit: bool) -> bool {
        let bound = (self.range >> CHANCE_BITS) * odds.chance();
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        odds.learn(bit);
        self.settle();
        bit
    }

    fn raw(&mut self, _value: u32, count: u32) -> u32 {
        if count > 16 {
            let high = self.raw(0, count - 16);
            return high << 16 | self.raw(0, 16);
        }
        self.range >>= count;
        // Beyond what an encoder writes the quotient may be too large.
        let value = (self.code / self.range).min((1 << count) - 1);
        self.code -= value * self.range;
        self.settle();
        value
    }

    fn is_beyond_end(&self) -> bool {
        self.position > self.bytes.len() + UNSAID_BYTES
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one call codes.
    #[derive(Clone, Debug)]
    enum Call {
        Bit(usize, bool),
        Raw(u32, u32),
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (0..4_usize, prop::bool::weighted(0.02)).prop_map(|(odds, bit)| Call::Bit(odds, bit)),
            (0..4_usize, any::<bool>()).prop_map(|(odds, bit)| Call::Bit(odds, bit)),
            (prop::sample::select(vec![0, u32::MAX]), 0..=32_u32).prop_map(|(value, count)| Call::Raw(value, count)),
            (any::<u32>(), 0..=32_u32).prop_map(|(value, count)| Call::Raw(value, count)),
        ]
    }

    fn code(bits: &mut impl Bits, calls: &[Call]) -> Vec<u32> {
        let mut odds = [Odds::EVEN; 4];
        let one = |call: &Call| match call {
            Call::Bit(index, bit) => u32::from(bits.bit(&mut odds[*index], *bit)),
            Call::Raw(value, count) => bits.raw(*value, *count),
        };
        calls.iter().map(one).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(calls in prop::collection::vec(call(), 0..500)) {
            let mut encoder = Encoder::new(0);
            let written = code(&mut encoder, &calls);
            let bound = encoder.len();
            let bytes = encoder.finish();
            prop_assert!(bytes.len() <= bound);
            let mut decoder = Decoder::new(&bytes);
            prop_assert_eq!(code(&mut decoder, &calls), written);
            prop_assert!(!decoder.is_beyond_end());
        }

        #[test]
        fn one_can_go_back(first in prop::collection::vec(call(), 0..100), second in prop::collection::vec(call(), 0..100)) {
            let mut encoder = Encoder::new(0);
            code(&mut encoder, &first);
            let place = encoder.place();
            code(&mut encoder, &second);
            encoder.go_back(place);
            let mut straight = Encoder::new(0);
            code(&mut straight, &first);
            prop_assert_eq!(encoder.finish(), straight.finish());
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..50), calls in prop::collection::vec(call(), 0..200)) {
            code(&mut Decoder::new(&bytes), &calls);
        }
    }

    #[test]
    fn nothing_is_impossible() {
        for bit in [false, true] {
            let mut odds = Odds::EVEN;
            (0..10_000).for_each(|_| odds.learn(bit));
            assert!((4..=(1 << CHANCE_BITS) - 4).contains(&odds.chance()), "{}", odds.chance());
        }
    }

    #[test]
    fn the_expected_is_cheap() {
        let mut encoder = Encoder::new(0);
        let mut odds = Odds::EVEN;
        for _ in 0..10_000 {
            encoder.bit(&mut odds, false);
        }
        assert!(encoder.finish().len() < 16);
    }
}
