//! What a content is, and how each part of it is proved: by the tree of BLAKE3.
//!
//! A content's name is its BLAKE3 hash, the same that any other program computes, and its length. It is cut into groups of 16 to
//! 256 KiB, each of which is a subtree of the hash's tree. Whoever has the subtrees' hashes, the *leaves*, can check that they make up
//! the root, and from then on each group alone, whoever it comes from, in any order: a wrong one is found out before it is stored, and
//! with it who sent it.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::str::FromStr;

use blake3::Hasher;
use blake3::hazmat::{HasherExt, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// The smallest and the largest group, in bytes.
const GROUP_BYTES: [u64; 2] = [16 * 1024, 256 * 1024];
/// Groups grow as long as there are more of them than this.
const GROUPS: u64 = 1_024;
/// Longest content, in bytes. Its leaves take 8 MiB.
pub const CONTENT_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Bytes of a leaf.
pub(super) const LEAF_BYTES: usize = 32;

/// Which content: its BLAKE3 hash, and its length in bytes. As text: 64 hexadecimal digits, a hyphen, the length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentId {
    /// The hash, as `b3sum` shows it.
    pub root: [u8; 32],
    /// The length.
    pub len: u64,
}

impl ContentId {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { root: *blake3::hash(bytes).as_bytes(), len: bytes.len() as u64 }
    }

    /// Bytes of each group but the last.
    pub(super) fn group_bytes(&self) -> u64 {
        let [least, most] = GROUP_BYTES;
        (self.len / GROUPS).checked_next_power_of_two().unwrap_or(most).clamp(least, most)
    }

    /// How many groups there are: one at the least.
    pub(super) fn groups(&self) -> u32 {
        // Contents are shorter than what would not fit.
        u32::try_from(self.len.div_ceil(self.group_bytes()).max(1)).unwrap_or(u32::MAX)
    }

    /// Where a group is.
    pub(super) fn range(&self, group: u32) -> Range<u64> {
        let start = (u64::from(group) * self.group_bytes()).min(self.len);
        start..(start + self.group_bytes()).min(self.len)
    }

    /// How long a group is: at most 256 KiB.
    pub(super) fn group_len(&self, group: u32) -> usize {
        let range = self.range(group);
        (range.end - range.start) as usize
    }

    /// The leaf that these bytes make, as that group.
    fn leaf(&self, group: u32, bytes: &[u8]) -> [u8; LEAF_BYTES] {
        if self.groups() == 1 {
            return *blake3::hash(bytes).as_bytes();
        }
        Hasher::new().set_input_offset(self.range(group).start).update(bytes).finalize_non_root()
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", blake3::Hash::from_bytes(self.root).to_hex(), self.len)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", &blake3::Hash::from_bytes(self.root).to_hex()[..8], self.len)
    }
}

/// The text is no content's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a content: 64 hexadecimal digits, a hyphen and the length expected")]
pub struct ParseContentIdError;

impl FromStr for ContentId {
    type Err = ParseContentIdError;

    fn from_str(text: &str) -> Result<Self, ParseContentIdError> {
        let (root, len) = text.split_once('-').ok_or(ParseContentIdError)?;
        let root = blake3::Hash::from_hex(root).map_err(|_| ParseContentIdError)?;
        Ok(Self { root: *root.as_bytes(), len: len.parse().map_err(|_| ParseContentIdError)? })
    }
}

/// The leaves of a content: proved to make up its root.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Leaves {
    id: ContentId,
    leaves: Vec<[u8; LEAF_BYTES]>,
}

impl Leaves {
    /// These, if they are the content's.
    pub(super) fn prove(id: ContentId, bytes: &[u8]) -> Option<Self> {
        let (leaves, rest) = bytes.as_chunks::<LEAF_BYTES>();
        let right = rest.is_empty() && leaves.len() == id.groups() as usize && id.len <= CONTENT_BYTES_MAX;
        (right && root(&id, leaves) == id.root).then(|| Self { id, leaves: leaves.to_vec() })
    }

    /// Reads a content of that length through, and finds out what it is.
    pub(super) fn read(source: &mut impl Read, len: u64) -> io::Result<Self> {
        if len > CONTENT_BYTES_MAX {
            return Err(io::Error::other(format!("{len} bytes, where a content holds at most {CONTENT_BYTES_MAX}")));
        }
        let mut id = ContentId { root: [0; 32], len };
        let mut buffer = vec![0; id.group_bytes().min(len) as usize];
        let mut leaves = Vec::with_capacity(id.groups() as usize);
        for group in 0..id.groups() {
            let bytes = &mut buffer[..id.group_len(group)];
            source.read_exact(bytes)?;
            leaves.push(id.leaf(group, bytes));
        }
        id.root = root(&id, &leaves);
        Ok(Self { id, leaves })
    }

    /// Of which content.
    pub(super) fn id(&self) -> ContentId {
        self.id
    }

    /// Whether these bytes are that group.
    pub(super) fn proves(&self, group: u32, bytes: &[u8]) -> bool {
        bytes.len() == self.id.group_len(group)
            && self.leaves.get(group as usize).is_some_and(|leaf| self.id.leaf(group, bytes) == *leaf)
    }

    /// All of them in a row.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.leaves.as_flattened().to_vec()
    }
}

impl fmt::Debug for Leaves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leaves").field(&self.id).finish()
    }
}

/// The root that these leaves make.
fn root(id: &ContentId, leaves: &[[u8; LEAF_BYTES]]) -> [u8; 32] {
    match leaves {
        [] => [0; 32],
        [only] => *only,
        _ => {
            let (left, right) = halves(id.group_bytes(), id.len, leaves);
            *merge_subtrees_root(&left, &right, Mode::Hash).as_bytes()
        }
    }
}

/// The two subtrees of more than one leaf, that are so many bytes.
fn halves(group_bytes: u64, len: u64, leaves: &[[u8; LEAF_BYTES]]) -> ([u8; 32], [u8; 32]) {
    let left_len = left_subtree_len(len);
    let (left, right) = leaves.split_at((left_len / group_bytes) as usize);
    (subtree(group_bytes, left_len, left), subtree(group_bytes, len - left_len, right))
}

fn subtree(group_bytes: u64, len: u64, leaves: &[[u8; LEAF_BYTES]]) -> [u8; 32] {
    match leaves {
        // The lengths are those of a content, so that neither half is ever empty.
        [] => [0; 32],
        [only] => *only,
        _ => {
            let (left, right) = halves(group_bytes, len, leaves);
            merge_subtrees_non_root(&left, &right, Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        Hasher::new().update(&len.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn the_root_is_what_everybody_computes() {
        for len in [0, 1, 1_024, 16_383, 16_384, 16_385, 32_768, 50_000, 3 * 16_384, 1_000_000, 20_000_000] {
            let bytes = bytes(len);
            let leaves = Leaves::read(&mut &bytes[..], len as u64).unwrap();
            assert_eq!(leaves.id(), ContentId::of(&bytes), "{len} bytes");
            assert_eq!(Leaves::prove(leaves.id(), &leaves.bytes()), Some(leaves.clone()));
            for group in [0, leaves.id().groups() / 2, leaves.id().groups() - 1] {
                let range = leaves.id().range(group);
                let mut part = bytes[range.start as usize..range.end as usize].to_vec();
                assert!(leaves.proves(group, &part), "{len} bytes, group {group}");
                if let Some(byte) = part.last_mut() {
                    *byte ^= 1;
                    assert!(!leaves.proves(group, &part), "a bit is flipped");
                }
            }
        }
    }

    #[test]
    fn only_the_contents_own_leaves_are_taken() {
        let bytes = bytes(200_000);
        let leaves = Leaves::read(&mut &bytes[..], 200_000).unwrap();
        let (id, good) = (leaves.id(), leaves.bytes());
        for place in [0, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 0x80;
            assert_eq!(Leaves::prove(id, &bad), None);
        }
        assert_eq!(Leaves::prove(id, &good[LEAF_BYTES..]), None);
        assert_eq!(Leaves::prove(id, &good[1..]), None);
        assert_eq!(Leaves::prove(ContentId { len: u64::MAX, ..id }, &good), None);
        assert!(!leaves.proves(u32::MAX, b""), "a group that is not there");
    }

    #[test]
    fn names_survive_text() {
        let id = ContentId::of(b"a photo");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("photo-7".parse::<ContentId>(), Err(ParseContentIdError));
    }

    #[test]
    fn groups_are_neither_too_many_nor_too_large() {
        for len in [0, 1, 1 << 20, 16 << 20, 256 << 20, 1 << 30, CONTENT_BYTES_MAX] {
            let id = ContentId { root: [0; 32], len };
            assert!(id.groups() <= 262_144 && (16_384..=262_144).contains(&id.group_bytes()), "{len}: {}", id.groups());
            assert_eq!(id.range(id.groups() - 1).end, len);
        }
    }
}
