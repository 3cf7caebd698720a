//! What members that run chat say to each other. A line carries its author's signature, because others pass it on to those who
//! come late.

use bytes::Bytes;
use peerflock_proto::{Identity, MeshId, PeerId, Signature};
use serde::{Deserialize, Serialize};

use super::{ChannelName, LineId, text};
use crate::codec;

/// Most members that one line mentions.
pub const MENTIONS_MAX: usize = 16;
/// Orders at or past this are nobody's: counting from there would come to an end.
const ORDER_MAX: u64 = u64::MAX / 2;

/// Everything that is said on the channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// A line for everybody, new or in a new version. From its author alone.
    Said(Signed),
    /// A line for the reader alone, or for a team. Sealed to the reader by the mesh, and kept by nobody else.
    Private(Private),
    /// The speaker is typing there.
    Typing(ChannelName),
    /// A hash of all that the speaker has.
    Digest(u64),
    /// What I do not have, please. These I have, by their fingerprints.
    Ask { have: Vec<u64> },
    /// What was asked for, `more` if there is more of it; `synced` if the speaker has what there was before it came.
    Answer { lines: Vec<Signed>, more: bool, synced: bool },
    /// One line of each in so many seconds. Counts from whoever moderates; 0 ends it.
    Pace { seconds: u16 },
    /// What stands, please.
    AskPace,
}

/// One version of a line. Only the last one is kept and passed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Signed {
    pub(super) id: LineId,
    /// Later than everything its author knew in the channel. With the author's key it gives each line its place, alike for all.
    pub(super) order: u64,
    /// 0 as it was said; counts the edits.
    pub(super) version: u32,
    /// None once its author deleted it.
    pub(super) text: Option<String>,
    pub(super) mentions: Vec<PeerId>,
    pub(super) signature: Signature,
}

/// A line for few.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Private {
    /// The team; none for the reader alone.
    pub(super) team: Option<u8>,
    pub(super) text: String,
}

impl Signed {
    pub(super) fn new(
        identity: &Identity,
        mesh: &MeshId,
        id: LineId,
        order: u64,
        version: u32,
        text: Option<String>,
        mentions: Vec<PeerId>,
    ) -> Self {
        let mut line = Self { id, order, version, text, mentions, signature: Signature([0; 64]) };
        line.signature = identity.sign(&line.covered(mesh));
        line
    }

    /// Whether it is within the limits, and its author said so.
    pub(super) fn is_genuine(&self, mesh: &MeshId) -> bool {
        self.id.number > 0
            && self.order < ORDER_MAX
            && self.version < u32::MAX
            && self.text.as_ref().is_none_or(|text| text.len() <= text::CHAT_BYTES_MAX)
            && self.mentions.len() <= MENTIONS_MAX
            && self.id.author.verifies(&self.covered(mesh), &self.signature)
    }

    /// Tells this version of this line from all others.
    pub(super) fn fingerprint(&self) -> u64 {
        let LineId { channel, author, boot, number } = &self.id;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&author.0).update(&boot.0.to_le_bytes()).update(&number.to_le_bytes()).update(&self.version.to_le_bytes());
        hasher.update(channel.as_str().as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Bytes that it takes where it is kept or sent, about.
    pub(super) fn len(&self) -> usize {
        const OVERHEAD: usize = 144;
        OVERHEAD + self.id.channel.as_str().len() + self.text.as_ref().map_or(0, String::len) + 32 * self.mentions.len()
    }

    fn covered(&self, mesh: &MeshId) -> Vec<u8> {
        let LineId { channel, author, boot, number } = &self.id;
        let mut covered = [b"peerflock chat 1 line\0".as_slice(), &mesh.0, &author.0, &boot.0.to_le_bytes()].concat();
        covered.extend(number.to_le_bytes());
        covered.extend(self.order.to_le_bytes());
        covered.extend(self.version.to_le_bytes());
        // No name is that long, and no list of mentions.
        covered.extend([channel.as_str().len() as u8, self.mentions.len() as u8, u8::from(self.text.is_some())]);
        covered.extend(channel.as_str().as_bytes());
        self.mentions.iter().for_each(|peer| covered.extend(peer.0));
        covered.extend(self.text.iter().flat_map(|text| text.as_bytes()));
        covered
    }
}

/// A line of a program that keeps to no pace and cleans nothing, as it would go out: for tests.
#[cfg(feature = "test-utils")]
pub fn lawless_line(node: &peerflock_proto::Node, number: u64, order: u64, text: &str) -> Bytes {
    let id = LineId { channel: super::main_channel(), author: node.peer_id(), boot: node.boot(), number };
    let line = Signed::new(node.identity(), &node.mesh_id(), id, order, 0, Some(text.to_owned()), vec![]);
    codec::encode(&Message::Said(line)).unwrap_or_default()
}

/// A line with its author's signature, as bytes: what to show to somebody who was not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence(pub Bytes);

impl Evidence {
    pub(super) fn of(line: &Signed) -> Option<Self> {
        codec::encode(line).ok().map(Self)
    }

    /// Whose line it is and what it says, as it was said and not cleaned, if that one signed it in this mesh.
    pub fn check(&self, mesh: &MeshId) -> Option<(LineId, Option<String>)> {
        let line: Signed = codec::decode(&self.0).ok()?;
        line.is_genuine(mesh).then_some((line.id, line.text))
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::Boot;

    use super::*;

    #[test]
    fn signatures_cover_everything() {
        let (ann, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let id = LineId { channel: "all".parse().unwrap(), author: ann.peer_id(), boot: Boot(7), number: 3 };
        let bob = Identity::from_seed([2; 32]).peer_id();
        let line = Signed::new(&ann, &mesh, id.clone(), 9, 0, Some("hi".into()), vec![bob]);
        assert!(line.is_genuine(&mesh) && !line.is_genuine(&MeshId::from_name("other")));
        for changed in [
            Signed { order: 8, ..line.clone() },
            Signed { version: 1, ..line.clone() },
            Signed { text: None, ..line.clone() },
            Signed { text: Some("ho".into()), ..line.clone() },
            Signed { mentions: vec![], ..line.clone() },
            Signed { mentions: vec![ann.peer_id()], ..line.clone() },
            Signed { id: LineId { channel: "den".parse().unwrap(), ..id.clone() }, ..line.clone() },
            Signed { id: LineId { author: bob, ..id.clone() }, ..line.clone() },
            Signed { id: LineId { boot: Boot(8), ..id.clone() }, ..line.clone() },
            Signed { id: LineId { number: 4, ..id.clone() }, ..line },
        ] {
            assert!(!changed.is_genuine(&mesh), "{changed:?}");
        }
        let long = Signed::new(&ann, &mesh, id, 9, 0, Some("x".repeat(text::CHAT_BYTES_MAX + 1)), vec![]);
        assert!(!long.is_genuine(&mesh), "its author may sign what it likes; nobody keeps it");
    }
}
