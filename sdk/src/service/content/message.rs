//! What members tell each other about contents. The bytes themselves go over the links' bulk streams (see `exchange`).

use std::fmt;

use bytes::Bytes;
use peerflock_proto::wire::codec;
use peerflock_proto::{Identity, PeerId, Signature};
use serde::{Deserialize, Serialize};

use super::seal::Seal;
use super::tree::{CONTENT_BYTES_MAX, ContentId};

/// Longest name of a content, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest note on a content, in bytes.
pub const NOTE_BYTES_MAX: usize = 1_024;
/// Most members to whom a content may be sealed.
pub const READERS_MAX: usize = 256;
/// Most groups told of in one message.
pub(super) const GAINED_MAX: usize = 2_048;
/// Most contents named in one message.
pub(super) const NAMED_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// There is a content to be had.
    Offer(SignedOffer),
    /// What the sender has of a content, and whether it wants the rest.
    Holds { id: ContentId, have: Bytes, wants: bool },
    /// What it has beside.
    Gained { id: ContentId, groups: Vec<u32> },
    /// The sender has these as a whole.
    Whole(Vec<ContentId>),
    /// The sender can reach nobody who has it but through us: we are asked to fetch it, too.
    Carry { id: ContentId, hops: u8 },
    /// The sender has nothing to do with it any more.
    Gone(ContentId),
    /// The sender has just come, and knows of nothing.
    Hello,
}

impl Message {
    pub(super) fn encode(&self) -> Option<Bytes> {
        codec::encode(self).ok()
    }

    /// `None` for what is no message, or is larger than one may be.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let message: Self = codec::decode(bytes).ok()?;
        let fits = match &message {
            Self::Offer(_) | Self::Hello => true,
            Self::Holds { id, have, .. } => id.len <= CONTENT_BYTES_MAX && have.len() == id.groups().div_ceil(8) as usize,
            Self::Gained { id, groups } => id.len <= CONTENT_BYTES_MAX && groups.len() <= GAINED_MAX,
            Self::Whole(ids) => ids.len() <= NAMED_MAX && ids.iter().all(|id| id.len <= CONTENT_BYTES_MAX),
            Self::Carry { id, .. } | Self::Gone(id) => id.len <= CONTENT_BYTES_MAX,
        };
        fits.then_some(message)
    }
}

/// An offer with its source's signature: whoever passes it on cannot alter it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SignedOffer {
    body: Bytes,
    signature: Bytes,
}

#[derive(Serialize, Deserialize)]
struct Body {
    source: PeerId,
    id: ContentId,
    name: String,
    note: Bytes,
    seals: Vec<Seal>,
}

/// A content that a member shares.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Offer {
    /// Who shares it: proved by its signature, whoever passed the offer on.
    pub source: PeerId,
    /// Which.
    pub id: ContentId,
    /// What it is called there. It comes from somebody else: do not take it for a path.
    pub name: String,
    /// What its source says of it: anything.
    pub note: Bytes,
    pub(super) seals: Vec<Seal>,
}

impl Offer {
    /// Who can read it; everybody if that is nobody.
    pub fn readers(&self) -> impl Iterator<Item = PeerId> {
        self.seals.iter().map(|seal| seal.reader)
    }

    pub(super) fn new(source: PeerId, id: ContentId, name: String, note: Bytes, seals: Vec<Seal>) -> Self {
        Self { source, id, name, note, seals }
    }

    /// `None` if something of it is too long.
    pub(super) fn sign(&self, identity: &Identity) -> Option<SignedOffer> {
        let Self { source, id, name, note, seals } = self.clone();
        let body = codec::encode(&Body { source, id, name, note, seals }).ok()?;
        let signature = Bytes::copy_from_slice(&identity.sign(&signed(&body)).0);
        let offer = SignedOffer { body, signature };
        offer.verify().is_some().then_some(offer)
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({:?} {:?} by {:?}, {} readers)", self.name, self.id, self.source, self.seals.len())
    }
}

impl SignedOffer {
    /// The offer, if it is its source's own and within limits.
    pub(super) fn verify(&self) -> Option<Offer> {
        let Body { source, id, name, note, seals } = codec::decode(&self.body).ok()?;
        let fits = id.len <= CONTENT_BYTES_MAX
            && name.len() <= NAME_BYTES_MAX
            && note.len() <= NOTE_BYTES_MAX
            && seals.len() <= READERS_MAX;
        let signature = Signature(<[u8; 64]>::try_from(&self.signature[..]).ok()?);
        (fits && source.verifies(&signed(&self.body), &signature)).then_some(Offer { source, id, name, note, seals })
    }

    pub(super) fn len(&self) -> usize {
        self.body.len() + self.signature.len()
    }
}

impl fmt::Debug for SignedOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedOffer({} bytes)", self.len())
    }
}

/// What an offer's signature covers: nothing else that is signed looks like it.
fn signed(body: &[u8]) -> [u8; 32] {
    blake3::derive_key("peerflock 1 content offer", body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(identity: &Identity) -> Offer {
        Offer::new(identity.peer_id(), ContentId::of(b"map"), "map".into(), Bytes::new(), Vec::new())
    }

    #[test]
    fn offers_are_their_sources_own() {
        let identity = Identity::from_seed([1; 32]);
        let signed = offer(&identity).sign(&identity).unwrap();
        assert_eq!(signed.verify(), Some(offer(&identity)));
        for place in 0..signed.body.len() {
            let mut body = signed.body.to_vec();
            body[place] ^= 1;
            assert_eq!(SignedOffer { body: body.into(), ..signed.clone() }.verify(), None, "byte {place}");
        }
        assert!(offer(&identity).sign(&Identity::from_seed([2; 32])).is_none(), "somebody else's name");
        let long = Offer { name: "n".repeat(NAME_BYTES_MAX + 1), ..offer(&identity) };
        assert!(long.sign(&identity).is_none());
    }

    #[test]
    fn golden_bytes() {
        let id = ContentId { root: [7; 32], len: 40_000 };
        let message = Message::Holds { id, have: Bytes::from_static(&[5]), wants: true };
        let mut expected = vec![1];
        expected.extend([7; 32]);
        expected.extend([251, 64, 156, 1, 5, 1]);
        assert_eq!(&message.encode().unwrap()[..], expected);
        assert_eq!(Message::decode(&expected), Some(message));
        let many = Message::Holds { id, have: Bytes::from_static(&[5, 0]), wants: true };
        assert_eq!(Message::decode(&many.encode().unwrap()), None, "so many groups there are not");
    }
}
