//! Values to bytes and back. The only place that names bincode, so that another codec (postcard) is one file's change.
//!
//! Limits are on: no value is longer than [`VALUE_BYTES_MAX`] as bytes, lengths that are claimed but not there take no memory, values are
//! nested at most 64 deep, and bytes after the value are refused.

mod frugal;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::frugal::Frugal;
use super::DecodeError;

/// Longest encoded value, in bytes.
pub const VALUE_BYTES_MAX: usize = 96 * 1024;

/// The value cannot be encoded: it is too long, or its `Serialize` failed. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be encoded ({0}); make it smaller than {VALUE_BYTES_MAX} bytes")]
pub struct EncodeError(String);

/// `value` as bytes: little endian, variable-length integers.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, EncodeError> {
    let bytes = bincode::serde::encode_to_vec(value, configuration()).map_err(|error| EncodeError(error.to_string()))?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(EncodeError(format!("{} bytes", bytes.len())));
    }
    Ok(bytes.into())
}

/// The value that `bytes` encode, all of them.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(DecodeError::TooLong(VALUE_BYTES_MAX));
    }
    let (Frugal(value), read) = bincode::serde::decode_from_slice(bytes, configuration()).map_err(|_| DecodeError::Malformed)?;
    if read == bytes.len() { Ok(value) } else { Err(DecodeError::Trailing) }
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<VALUE_BYTES_MAX>()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn golden_bytes() {
        // Changing what these bytes are is changing the protocol: raise WIRE_VERSION with it.
        let value = (7_u8, 300_u32, -1_i64, "ab", Some(true), [1_u16, 2]);
        assert_eq!(&encode(&value).unwrap()[..], [7, 251, 44, 1, 1, 2, b'a', b'b', 1, 1, 1, 2]);
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // 4 GiB of elements claimed in nine bytes.
        assert_eq!(decode::<Vec<u64>>(&[253, 0, 0, 0, 0, 1, 0, 0, 0]), Err(DecodeError::Malformed));
        assert_eq!(decode::<String>(&[252, 255, 255, 255, 255]), Err(DecodeError::Malformed));
    }

    #[test]
    fn what_holds_itself_ends_before_the_stack_does() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Tree(Vec<Self>);
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        enum List {
            End,
            More(Box<Self>),
        }
        let mut bytes = vec![1; VALUE_BYTES_MAX];
        bytes.push(0);
        bytes.remove(0);
        assert_eq!(decode::<Tree>(&bytes), Err(DecodeError::Malformed));
        assert_eq!(decode::<List>(&bytes), Err(DecodeError::Malformed));
        assert_eq!(decode::<Option<Box<Tree>>>(&[1, 1, 1, 0]), Ok(Some(Box::new(Tree(vec![Tree(vec![Tree(vec![])])])))));
        assert_eq!(decode::<List>(&[1, 1, 0]), Ok(List::More(Box::new(List::More(Box::new(List::End))))));
    }

    #[test]
    fn a_sequence_of_nothing_does_not_go_round_for_ever() {
        assert_eq!(decode::<Vec<()>>(&[253, 0, 0, 0, 0, 1, 0, 0, 0]), Err(DecodeError::Malformed));
        assert_eq!(decode::<Vec<()>>(&[3]), Ok(vec![(); 3]));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert_eq!(decode::<u8>(&[1, 2]), Err(DecodeError::Trailing));
    }

    #[test]
    fn what_is_too_long_is_not_sent() {
        assert!(encode(&vec![0_u8; VALUE_BYTES_MAX]).is_err());
    }
}
