//! Who is interested in what, as its members say: known to everybody who runs topics, a few hundred bytes for each.

use std::collections::BTreeMap;

use peerflock_proto::{MeshId, PeerId};

use super::message::Record;
use super::name::{Pattern, TopicName};
use crate::codec;

/// What is known of the others.
#[derive(Debug, Default)]
pub(super) struct Interests {
    records: BTreeMap<PeerId, Record>,
    hash: [u8; 16],
}

impl Interests {
    /// Takes a record in; whether it was new, and its member's own.
    pub(super) fn take(&mut self, record: Record, mesh: &MeshId) -> bool {
        let is_newer = self.records.get(&record.peer).is_none_or(|known| record.version > known.version);
        let news = is_newer && record.is_genuine(mesh);
        if news {
            self.records.insert(record.peer, record);
            self.rehash();
        }
        news
    }

    /// Somebody has gone.
    pub(super) fn forget(&mut self, peer: &PeerId) {
        if self.records.remove(peer).is_some() {
            self.rehash();
        }
    }

    pub(super) fn get(&self, peer: &PeerId) -> Option<&Record> {
        self.records.get(peer)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Equal where the same is known.
    pub(super) fn hash(&self) -> [u8; 16] {
        self.hash
    }

    /// Who subscribed to a topic.
    pub(super) fn subscribers(&self, topic: &TopicName) -> impl Iterator<Item = PeerId> {
        self.all().filter(|record| record.patterns.iter().any(|pattern| pattern.matches(topic))).map(|record| record.peer)
    }

    /// Who may have items on what these are for.
    pub(super) fn holders(&self, patterns: &[Pattern]) -> Vec<PeerId> {
        let holds = |record: &&Record| {
            let overlaps = |pattern: &Pattern| patterns.iter().any(|other| other.overlaps(pattern));
            record.patterns.iter().any(overlaps)
                || record.publishes.iter().any(|topic| patterns.iter().any(|pattern| pattern.matches(topic)))
        };
        self.all().filter(holds).map(|record| record.peer).collect()
    }

    /// All of them in messages that are not too long.
    pub(super) fn chunks<'a>(records: impl Iterator<Item = &'a Record>, bytes_max: usize) -> Vec<Vec<Record>> {
        let (mut chunks, mut room) = (Vec::<Vec<Record>>::new(), 0);
        for record in records {
            let len = codec::encode(record).map_or(usize::MAX, |bytes| bytes.len());
            if len > room {
                chunks.push(Vec::new());
                room = bytes_max;
            }
            room = room.saturating_sub(len);
            chunks.last_mut().into_iter().for_each(|chunk| chunk.push(record.clone()));
        }
        chunks
    }

    fn rehash(&mut self) {
        let mut hash = blake3::Hasher::new();
        for record in self.records.values() {
            hash.update(&record.peer.0).update(&record.version.to_le_bytes());
        }
        self.hash = hash.finalize().as_bytes().first_chunk().copied().unwrap_or_default();
    }
}
