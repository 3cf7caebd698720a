//! Which groups of a content somebody has: a bit for each.

use bytes::Bytes;

/// A set of groups of one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Groups {
    words: Vec<u64>,
    len: u32,
    count: u32,
}

impl Groups {
    /// None of so many.
    pub(super) fn none(len: u32) -> Self {
        Self { words: vec![0; len.div_ceil(64) as usize], len, count: 0 }
    }

    /// All of so many.
    pub(super) fn all(len: u32) -> Self {
        let mut groups = Self::none(len);
        (0..len).for_each(|group| _ = groups.insert(group));
        groups
    }

    /// What [`bytes`](Self::bytes) made of so many groups. None if it was something else.
    pub(super) fn from_bytes(len: u32, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        let mut groups = Self::none(len);
        for group in 0..len {
            if bytes[group as usize / 8] >> (group % 8) & 1 == 1 {
                groups.insert(group);
            }
        }
        Some(groups)
    }

    pub(super) fn bytes(&self) -> Bytes {
        let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(self.len.div_ceil(8) as usize).collect()
    }

    /// Adds a group; whether it was missing. One that there is not is never missing.
    pub(super) fn insert(&mut self, group: u32) -> bool {
        let is_new = group < self.len && !self.contains(group);
        if is_new {
            self.words[group as usize / 64] |= 1 << (group % 64);
            self.count += 1;
        }
        is_new
    }

    pub(super) fn contains(&self, group: u32) -> bool {
        group < self.len && self.words[group as usize / 64] >> (group % 64) & 1 == 1
    }

    /// How many there are in it.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// How many there could be.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn is_all(&self) -> bool {
        self.count == self.len
    }

    /// Whether `other` has one that is not in this one.
    pub(super) fn lacks_of(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(ours, theirs)| theirs & !ours != 0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.len).filter(|group| self.contains(*group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        for len in [1, 7, 8, 9, 64, 65, 1_000] {
            let mut groups = Groups::none(len);
            (0..len).step_by(3).for_each(|group| assert!(groups.insert(group) && !groups.insert(group)));
            assert!(!groups.insert(len) && !groups.contains(len));
            assert_eq!(Groups::from_bytes(len, &groups.bytes()), Some(groups.clone()));
            assert_eq!((groups.count() as usize, Groups::all(len).is_all()), (groups.iter().count(), true));
            assert_eq!(Groups::from_bytes(len + 8, &groups.bytes()), None);
            assert!(groups.lacks_of(&Groups::all(len)) != (len == 1) && !Groups::all(len).lacks_of(&groups));
            // Bits past the end are nobody's.
            let past = vec![255; len.div_ceil(8) as usize];
            assert_eq!(Groups::from_bytes(len, &past), Some(Groups::all(len)));
        }
    }
}
