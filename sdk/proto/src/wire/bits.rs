//! Bit streams for state: written least significant bit first, read back by a reader that never runs past its end.

use super::DecodeError;

/// Collects bits into bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used in the last byte, 1 to 8; 0 when there is none.
    used: u32,
}

impl BitWriter {
    /// The low `count` bits of `value`.
    pub(crate) fn bits(&mut self, value: u64, count: u32) {
        let (mut value, mut left) = (value, count);
        while left > 0 {
            if self.used == 0 || self.used == 8 {
                self.bytes.push(0);
                self.used = 0;
            }
            let taken = left.min(8 - self.used);
            let low = value & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (low as u8) << self.used;
            }
            self.used += taken;
            value >>= taken;
            left -= taken;
        }
    }

    pub(crate) fn bit(&mut self, bit: bool) {
        if self.used == 0 || self.used == 8 {
            self.bytes.push(0);
            self.used = 0;
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.used;
        }
        self.used += 1;
    }

    /// An unsigned number, small ones short (Elias gamma of `value + 1`): 0 costs one bit.
    pub(crate) fn unsigned(&mut self, value: u32) {
        let value = u64::from(value) + 1;
        let width = 64 - value.leading_zeros();
        for _ in 1..width {
            self.bit(false);
        }
        self.bit(true);
        self.bits(value, width - 1);
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads what a [`BitWriter`] wrote.
#[derive(Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    pub(crate) fn bit(&mut self) -> Result<bool, DecodeError> {
        let byte = self.bytes.get(self.position / 8).ok_or(DecodeError::Malformed)?;
        let bit = byte >> (self.position % 8) & 1 == 1;
        self.position += 1;
        Ok(bit)
    }

    pub(crate) fn bits(&mut self, count: u32) -> Result<u64, DecodeError> {
        let (mut value, mut got) = (0, 0);
        while got < count {
            let byte = self.bytes.get(self.position / 8).ok_or(DecodeError::Malformed)?;
            let used = (self.position % 8) as u32;
            let taken = (count - got).min(8 - used);
            value |= (u64::from(*byte >> used) & ((1 << taken) - 1)) << got;
            self.position += taken as usize;
            got += taken;
        }
        Ok(value)
    }

    pub(crate) fn unsigned(&mut self) -> Result<u32, DecodeError> {
        let mut width = 0;
        while !self.bit()? {
            width += 1;
            if width > 32 {
                return Err(DecodeError::Malformed);
            }
        }
        let value = (1_u64 << width | self.bits(width)?) - 1;
        u32::try_from(value).map_err(|_| DecodeError::Malformed)
    }

    /// An unsigned number that must be less than `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> Result<usize, DecodeError> {
        let value = self.unsigned()? as usize;
        if value < limit { Ok(value) } else { Err(DecodeError::Malformed) }
    }

    /// The whole bytes after the one that was read last.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes.get(self.position.div_ceil(8)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive(numbers in prop::collection::vec((any::<u32>(), any::<u64>(), 0..=64_u32, any::<bool>()), 0..20)) {
            let mut writer = BitWriter::default();
            for (unsigned, bits, count, bit) in &numbers {
                writer.unsigned(*unsigned);
                writer.bits(*bits, *count);
                writer.bit(*bit);
            }
            let bytes = [writer.finish(), vec![7]].concat();
            let mut reader = BitReader::new(&bytes);
            for (unsigned, bits, count, bit) in numbers {
                prop_assert_eq!(reader.unsigned(), Ok(unsigned));
                prop_assert_eq!(reader.bits(count), Ok(if count == 0 { 0 } else { bits << (64 - count) >> (64 - count) }));
                prop_assert_eq!(reader.bit(), Ok(bit));
            }
            prop_assert_eq!(reader.rest(), [7]);
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = BitReader::new(&bytes);
            while reader.unsigned().is_ok() {}
            prop_assert!(reader.bits(64).is_err());
        }
    }
}
