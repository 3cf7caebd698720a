//! What members that run topics say to each other. Items and interests carry their author's signature, because others pass them on.

use bytes::Bytes;
use peerflock_proto::{Boot, Identity, MeshId, PeerId, Signature};
use serde::{Deserialize, Serialize};

use super::name::{Pattern, TopicName};

/// Most patterns that a member subscribes to.
pub const PATTERNS_MAX: usize = 64;
/// Most topics that a member publishes on.
pub const PUBLISHED_MAX: usize = 256;
/// Longest payload of an item, in bytes.
pub const ITEM_BYTES_MAX: usize = 32 * 1024;
/// Streams whose heads one question can name.
pub(super) const HEADS_MAX: usize = 512;

/// Everything that is said on the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Who speaks is interested in this; `new` if it wants to know what the others are interested in.
    Hello { record: Record, new: bool },
    /// What members are interested in; `complete` if it is all that the speaker knows.
    Table { records: Vec<Record>, complete: bool },
    /// A hash of what members are interested in, as far as the speaker knows.
    Digest([u8; 16]),
    /// Something new, on its way down the tree.
    Item(Item),
    /// What I do not have, please.
    Ask(Ask),
    /// What was asked for; `more` if there is more of it.
    Answer { items: Vec<Item>, more: bool },
}

/// What one member is interested in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) peer: PeerId,
    /// The newest counts.
    pub(super) version: u64,
    pub(super) patterns: Vec<Pattern>,
    pub(super) publishes: Vec<TopicName>,
    pub(super) signature: Signature,
}

/// One thing published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) stream: StreamId,
    /// Counts the stream's items from 1.
    pub(super) seq: u64,
    /// Later than everything its publisher knew on the topic.
    pub(super) order: u64,
    pub(super) payload: Bytes,
    pub(super) signature: Signature,
}

/// What one publisher, in one of its lives, says on one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct StreamId {
    pub(super) topic: TopicName,
    pub(super) publisher: PeerId,
    pub(super) boot: Boot,
}

/// What somebody wants, and has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// For what, and how many of the last items of each topic where nothing is known of a stream.
    pub(super) wanted: Vec<(Pattern, u16)>,
    /// Up to where the streams are here.
    pub(super) heads: Vec<(StreamId, u64)>,
}

impl Record {
    pub(super) fn new(
        identity: &Identity,
        mesh: &MeshId,
        version: u64,
        patterns: Vec<Pattern>,
        publishes: Vec<TopicName>,
    ) -> Self {
        let (peer, signature) = (identity.peer_id(), Signature([0; 64]));
        let mut record = Self { peer, version, patterns, publishes, signature };
        record.signature = identity.sign(&record.covered(mesh));
        record
    }

    /// Whether it is within the limits, and its peer said so.
    pub(super) fn is_genuine(&self, mesh: &MeshId) -> bool {
        self.patterns.len() <= PATTERNS_MAX
            && self.publishes.len() <= PUBLISHED_MAX
            && self.peer.verifies(&self.covered(mesh), &self.signature)
    }

    fn covered(&self, mesh: &MeshId) -> Vec<u8> {
        let mut covered =
            [b"peerflock topics 1 record\0".as_slice(), &mesh.0, &self.peer.0, &self.version.to_le_bytes()].concat();
        let patterns = self.patterns.iter().map(Pattern::as_str);
        for (sort, text) in patterns.map(|text| (1, text)).chain(self.publishes.iter().map(|name| (2, name.as_str()))) {
            // No name has a zero byte in it, nor is one that long.
            covered.extend([sort, text.len() as u8]);
            covered.extend(text.as_bytes());
        }
        covered
    }
}

impl Item {
    pub(super) fn new(identity: &Identity, mesh: &MeshId, stream: StreamId, seq: u64, order: u64, payload: Bytes) -> Self {
        let mut item = Self { stream, seq, order, payload, signature: Signature([0; 64]) };
        item.signature = identity.sign(&item.covered(mesh));
        item
    }

    /// Whether it is within the limits, and its publisher said so.
    pub(super) fn is_genuine(&self, mesh: &MeshId) -> bool {
        self.seq > 0
            && self.seq < u64::MAX
            && self.payload.len() <= ITEM_BYTES_MAX
            && self.stream.publisher.verifies(&self.covered(mesh), &self.signature)
    }

    /// Bytes that it takes where it is kept or sent, about.
    pub(super) fn len(&self) -> usize {
        const OVERHEAD: usize = 160;
        OVERHEAD + self.stream.topic.as_str().len() + self.payload.len()
    }

    fn covered(&self, mesh: &MeshId) -> Vec<u8> {
        let StreamId { topic, publisher, boot } = &self.stream;
        let mut covered = Vec::with_capacity(256);
        covered.extend_from_slice(b"peerflock topics 1 item\0");
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(&publisher.0);
        covered.extend_from_slice(&boot.0.to_le_bytes());
        covered.extend_from_slice(&self.seq.to_le_bytes());
        covered.extend_from_slice(&self.order.to_le_bytes());
        covered.push(topic.as_str().len() as u8);
        covered.extend_from_slice(topic.as_str().as_bytes());
        covered.extend_from_slice(blake3::hash(&self.payload).as_bytes());
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_cover_everything() {
        let (ann, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let stream = StreamId { topic: "a/b".parse().unwrap(), publisher: ann.peer_id(), boot: Boot(7) };
        let item = Item::new(&ann, &mesh, stream.clone(), 3, 9, Bytes::from_static(b"x"));
        assert!(item.is_genuine(&mesh) && !item.is_genuine(&MeshId::from_name("other")));
        let bob = Identity::from_seed([2; 32]).peer_id();
        for changed in [
            Item { seq: 4, ..item.clone() },
            Item { order: 8, ..item.clone() },
            Item { payload: Bytes::from_static(b"y"), ..item.clone() },
            Item { stream: StreamId { topic: "a/c".parse().unwrap(), ..stream.clone() }, ..item.clone() },
            Item { stream: StreamId { boot: Boot(8), ..stream.clone() }, ..item.clone() },
            Item { stream: StreamId { publisher: bob, ..stream }, ..item },
        ] {
            assert!(!changed.is_genuine(&mesh), "{changed:?}");
        }
        let (pattern, topic): (Pattern, TopicName) = ("a/*".parse().unwrap(), "a/b".parse().unwrap());
        let record = Record::new(&ann, &mesh, 1, vec![pattern.clone()], vec![topic.clone()]);
        assert!(record.is_genuine(&mesh) && !record.is_genuine(&MeshId::from_name("other")));
        for changed in [
            Record { peer: bob, ..record.clone() },
            Record { version: 2, ..record.clone() },
            Record { patterns: vec![], ..record.clone() },
            Record { patterns: vec![pattern, topic.into()], publishes: vec![], ..record },
        ] {
            assert!(!changed.is_genuine(&mesh), "{changed:?}");
        }
    }
}
