//! What a member says to all: numbered, sealed by its author every now and then, and carried along its tree.
//!
//! A signature of 64 bytes to every message would cost a third of a small one. So a **seal** is one signature over all that was said
//! since the last: whoever talks on a beat seals several times a second, and a line of chat carries a seal of its own. Until the
//! seal comes a message is the word of the neighbor that passed it on, who is a member; see `message::Broadcast` for what becomes of it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{Body, DecodeError, codec, varint};
use crate::id::{Boot, Identity, MeshId, PeerId, Signature};

/// One message to all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Counts its author's messages to all from 1.
    pub(crate) seq: u64,
    /// Links travelled so far. Not sealed: it changes on the way; the limit is.
    pub(crate) hops: u8,
    /// Links it may travel.
    pub(crate) hop_limit: u8,
    pub(crate) content: Content,
    pub(crate) seal: Option<Seal>,
}

/// What was said, or where a filter keeps that back its hash, so that nobody waits for what will not come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Content {
    Whole(Bytes),
    Hash([u8; 32]),
}

/// Its author's signature over a message and some before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seal {
    /// How many messages it covers, the one that carries it counted.
    pub(crate) covers: u8,
    pub(crate) signature: Signature,
}

/// The hash of one message, of which seals are made.
pub(crate) type Leaf = [u8; 32];

/// What a message means.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Speech {
    /// For the application.
    App { topic: u16, payload: Bytes },
    /// For the mesh itself.
    Mesh(Body),
}

impl Said {
    pub(crate) fn leaf(&self, mesh: &MeshId, author: &PeerId, boot: Boot) -> Leaf {
        #[cfg(feature = "sim")]
        crate::sim::effort::hashed(self.len());
        let content = match &self.content {
            Content::Whole(bytes) => *blake3::hash(bytes).as_bytes(),
            Content::Hash(hash) => *hash,
        };
        let mut hash = blake3::Hasher::new();
        hash.update(b"peerflock 2 said\0").update(&mesh.0).update(&author.0).update(&boot.0.to_le_bytes());
        hash.update(&self.seq.to_le_bytes()).update(&[self.hop_limit]).update(&content);
        *hash.finalize().as_bytes()
    }

    /// Bytes of content.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Whole(bytes) => bytes.len(),
            Content::Hash(hash) => hash.len(),
        }
    }

    /// The same without what was said.
    pub(crate) fn kept_back(self) -> Self {
        let content = match self.content {
            Content::Whole(bytes) => Content::Hash(*blake3::hash(&bytes).as_bytes()),
            hash @ Content::Hash(_) => hash,
        };
        Self { content, ..self }
    }
}

impl Seal {
    /// Seals the messages that `leaves` are of, the last of them numbered `last`. At most 255 of them.
    pub(crate) fn new(identity: &Identity, mesh: &MeshId, boot: Boot, last: u64, leaves: &[Leaf]) -> Self {
        debug_assert!(leaves.len() <= usize::from(u8::MAX), "seals come often enough");
        let signature = identity.sign(&covered(mesh, &identity.peer_id(), boot, last, leaves));
        Self { covers: leaves.len() as u8, signature }
    }

    /// Whether `author` said all of it.
    pub(crate) fn holds(&self, mesh: &MeshId, author: &PeerId, boot: Boot, last: u64, leaves: &[Leaf]) -> bool {
        author.verifies(&covered(mesh, author, boot, last, leaves), &self.signature)
    }
}

fn covered(mesh: &MeshId, author: &PeerId, boot: Boot, last: u64, leaves: &[Leaf]) -> Vec<u8> {
    let mut covered = Vec::with_capacity(160);
    covered.extend_from_slice(b"peerflock 2 seal\0");
    covered.extend_from_slice(&mesh.0);
    covered.extend_from_slice(&author.0);
    covered.extend_from_slice(&boot.0.to_le_bytes());
    covered.extend_from_slice(&last.to_le_bytes());
    covered.push(leaves.len() as u8);
    covered.extend_from_slice(blake3::hash(leaves.as_flattened()).as_bytes());
    covered
}

impl Speech {
    /// None if it is too long to encode.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        match self {
            Self::Mesh(body) => {
                bytes.put_u8(0);
                bytes.put(codec::encode(body).ok()?);
            }
            Self::App { topic, payload } => {
                bytes.reserve(payload.len() + 3);
                varint::put(&mut bytes, u64::from(*topic) + 1);
                bytes.put_slice(payload);
            }
        }
        Some(bytes.freeze())
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        match varint::get(&mut bytes)? {
            0 => codec::decode(&bytes.copy_to_bytes(bytes.remaining())).map(Self::Mesh),
            topic => {
                let topic = u16::try_from(topic - 1).map_err(|_| DecodeError::Malformed)?;
                Ok(Self::App { topic, payload: bytes })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seq: u64) -> Said {
        Said { seq, hops: 1, hop_limit: 3, content: Content::Whole(Bytes::from_static(b"hello")), seal: None }
    }

    #[test]
    fn a_seal_covers_author_mesh_numbers_limits_and_content() {
        let (identity, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let author = identity.peer_id();
        let leaf = |said: &Said| said.leaf(&mesh, &author, Boot(1));
        let leaves = [leaf(&said(1)), leaf(&said(2))];
        let seal = Seal::new(&identity, &mesh, Boot(1), 2, &leaves);
        assert!(seal.holds(&mesh, &author, Boot(1), 2, &leaves));
        assert!(!seal.holds(&mesh, &author, Boot(2), 2, &leaves));
        assert!(!seal.holds(&mesh, &author, Boot(1), 3, &leaves));
        assert!(!seal.holds(&MeshId::from_name("other"), &author, Boot(1), 2, &leaves));
        assert!(!seal.holds(&mesh, &Identity::from_seed([2; 32]).peer_id(), Boot(1), 2, &leaves));
        for changed in [
            Said { seq: 3, ..said(2) },
            Said { hop_limit: 4, ..said(2) },
            Said { content: Content::Whole(Bytes::from_static(b"Hello")), ..said(2) },
        ] {
            assert!(!seal.holds(&mesh, &author, Boot(1), 2, &[leaves[0], leaf(&changed)]));
        }
        // What is kept back has the same leaf: the seal holds without it.
        assert_eq!(leaf(&said(2).kept_back()), leaves[1]);
    }

    #[test]
    fn speech_survives() {
        for speech in [
            Speech::App { topic: 300, payload: Bytes::from_static(b"x") },
            Speech::App { topic: u16::MAX, payload: Bytes::new() },
            Speech::Mesh(Body::Farewell),
        ] {
            assert_eq!(Speech::decode(speech.encode().unwrap()), Ok(speech));
        }
        assert!(Speech::decode(Bytes::new()).is_err());
        assert!(Speech::decode(Bytes::from_static(&[0, 9])).is_err());
    }
}
