//! Unsigned numbers in as few bytes as they need, seven bits a byte, the lowest first (LEB128).

use bytes::{Buf, BufMut, Bytes};

use super::DecodeError;

pub(crate) fn put(bytes: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

/// How many bytes a number takes.
pub(crate) fn len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

pub(crate) fn get(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        if !bytes.has_remaining() {
            return Err(DecodeError::Malformed);
        }
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // One way to say each number, and none to say what does not fit.
            let fits = shift < 63 || byte <= 1;
            return if fits && (byte != 0 || shift == 0) { Ok(value) } else { Err(DecodeError::Malformed) };
        }
    }
    Err(DecodeError::Malformed)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive(value in any::<u64>(), shift in 0_u32..64) {
            let mut bytes = BytesMut::new();
            put(&mut bytes, value >> shift);
            prop_assert_eq!(bytes.len(), len(value >> shift));
            let mut bytes = bytes.freeze();
            prop_assert_eq!(get(&mut bytes), Ok(value >> shift));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn any_bytes_give_a_number_or_an_error(raw in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut bytes = Bytes::from(raw.clone());
            if let Ok(value) = get(&mut bytes) {
                let mut again = BytesMut::new();
                put(&mut again, value);
                prop_assert_eq!(&again[..], &raw[..raw.len() - bytes.len()]);
            }
        }
    }
}
