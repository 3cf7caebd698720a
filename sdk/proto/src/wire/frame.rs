//! Frames: what members and strangers say on a link's stream.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DecodeError, FRAME_BYTES_MAX, Manifest, Said, WIRE_VERSION, codec};
use crate::admission::{Certificate, LockId, Proof, Revocations};
use crate::config::{NeighborLimits, Profile};
use crate::id::{Boot, EntityId, Identity, MeshId, PeerId, Signature, Tick};
use crate::node::Refusal;
use crate::time::MeshTime;

/// Most addresses one peer announces.
pub(crate) const ADDRESSES_MAX: usize = 8;
/// Most neighbors one peer announces.
pub(crate) const NEIGHBORS_MAX: usize = NeighborLimits::MAX;
/// Most members named to one who is turned away or welcomed.
pub(crate) const REFERRALS_MAX: usize = 6;

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Frame {
    /// Dialer: my half of the key exchange, and of which lock I have the key.
    Hello { lock: LockId, share: Bytes },
    /// Accepter: mine.
    Share { share: Bytes },
    /// Dialer: I know the password.
    Confirm(Confirm),
    /// Accepter: I know it too, and this is my verdict.
    Welcome(Welcome),
    /// Others to link to.
    Refer(Vec<Referral>),
    /// Flooded, the newest of each author wins: what a member says of itself.
    Presence(Signed),
    /// What a member says to those near it, or to one.
    Message(Message),
    /// Routed back to the author of messages to one: they arrived.
    Receipt(Signed),
    /// What a member says to all, where that is too long for a datagram.
    Said { author: PeerId, boot: Boot, repair: bool, said: Said },
    /// To a newcomer: how far the messages of each author are here.
    Standing(Vec<Standing>),
    /// That author's messages up to `upto` are no longer kept here.
    Gone(Standing),
    /// In datagrams these numbers stand for these origins from now on.
    Aliases(Vec<Alias>),
    /// These numbers of yours are known here.
    AliasesKnown(Vec<u32>),
    /// Do not pass these origins' packets and messages on to me: I have them from elsewhere.
    Prune(Vec<PeerId>),
    /// Pass them on to me again.
    Graft(Vec<PeerId>),
    /// How long what origins say takes to get here, by my numbers from `first` on; see `flood::Age`.
    Ages { first: u32, ages: Bytes },
    /// Entities whose owner is not their spawner, and entities that are gone for good.
    Holdings(Vec<Holding>),
    /// A hash of one part of what I know of who owns what: tell me yours if it differs.
    HoldingsHash { part: u8, hash: [u8; 16] },
    /// Send me that origin's world, at `tick` if you have it, else the newest you have.
    WantKeyframe { origin: PeerId, tick: Tick },
    /// The manifest that covers this packet of that origin did not reach me: send it again, and those after it.
    WantProof { origin: PeerId, seq: u32 },
    /// An origin's whole world at one tick, a part of it.
    Keyframe(Keyframe),
    /// I am about to close this link: take your ways elsewhere, as I do.
    Retire,
    /// Do not: I cannot do without it.
    Stay,
    /// The members that I know, and which of their presences: tell me those that you know better.
    Roster(Vec<Known>),
    /// Flooded: a member wants another one removed.
    Vote(Signed),
    /// Flooded: members were removed, and the mesh has another lock. `letter`: that lock, where the record holds none for the reader.
    Removal { record: Signed, letter: Option<Bytes> },
    /// Flooded: an origin signed two things of which one is a lie.
    Evidence { origin: PeerId, boot: Boot, one: Manifest, other: Manifest },
    /// Flooded: the authority takes certificates back.
    Revocations(Revocations),
    /// From these public addresses passwords were guessed here until they were locked out.
    Guessed(Vec<IpAddr>),
    /// I have that lock: a proof that is of no use on another link.
    Lock { lock: LockId, proof: [u8; 32] },
    /// These members said something new of late: tell me if you know it better, or ask for it with [`Known::UNKNOWN`] as the number.
    News(Vec<Known>),
}

/// How well a member is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The first eight bytes of its key.
    pub(crate) peer: u64,
    pub(crate) boot: Boot,
    pub(crate) seq: u32,
}

impl Known {
    /// The number of no presence: whoever says it has none of that life, and asks for one.
    pub(crate) const UNKNOWN: u32 = 0;

    pub(crate) fn new(peer: &PeerId, boot: Boot, seq: u32) -> Self {
        let start = peer.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { peer: start, boot, seq }
    }
}

/// A dialer's proof, and what the accepter needs to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Confirm {
    pub(crate) tag: [u8; 32],
    pub(crate) boot: Boot,
    /// How many links it holds.
    pub(crate) links: u16,
    /// What it replicates.
    pub(crate) registry: [u8; 16],
    /// Where the mesh has an authority.
    pub(crate) certificate: Option<Certificate>,
    /// Its address is to be told to nobody.
    pub(crate) hidden: bool,
}

/// The verdict over a dialer that proved the password, and what it needs to know as a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) tag: [u8; 32],
    pub(crate) boot: Boot,
    pub(crate) verdict: Verdict,
    /// To one that is admitted, where the mesh has an authority.
    pub(crate) certificate: Option<Certificate>,
    /// The lock that the dialer opened.
    pub(crate) lock: LockId,
    pub(crate) mesh_time: MeshTime,
    /// Where the dialer seems to be, seen from here.
    pub(crate) observed: SocketAddr,
    /// Others to try.
    pub(crate) referrals: Vec<Referral>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Verdict {
    Admitted,
    Full,
    MeshFull,
    Duplicate,
    Registry,
    Removed,
    Crowded,
    Certificate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Referral {
    pub(crate) address: SocketAddr,
    pub(crate) peer: PeerId,
}

/// What a member says of itself; `seq` counts its corrections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Presence {
    pub(crate) boot: Boot,
    pub(crate) seq: u32,
    name: String,
    data: Bytes,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) neighbors: Vec<PeerId>,
    /// Links it may still accept.
    pub(crate) free: u16,
    /// Where there are none: who is nearer than this, in microseconds of round trip, is accepted all the same.
    pub(crate) within: u32,
    /// Where the mesh has an authority.
    pub(crate) certificate: Option<Certificate>,
    /// Messages it has sent to everyone so far: who learns of it by this presence hears those after.
    pub(crate) messages: u64,
}

impl Presence {
    pub(crate) fn new(
        boot: Boot,
        seq: u32,
        profile: Profile,
        addresses: &[SocketAddr],
        mut neighbors: Vec<PeerId>,
        free: usize,
        within: Duration,
        messages: u64,
        certificate: Option<Certificate>,
    ) -> Self {
        let Profile { name, data } = profile.cut();
        let addresses = addresses.iter().take(ADDRESSES_MAX).copied().collect();
        neighbors.truncate(NEIGHBORS_MAX);
        neighbors.sort_unstable();
        let free = u16::try_from(free).unwrap_or(u16::MAX);
        let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
        Self { boot, seq, name, data, addresses, neighbors, free, within, certificate, messages }
    }

    /// The presence that `signed` holds, if its author signed it and it keeps the limits.
    pub(crate) fn open(signed: &Signed, mesh: &MeshId) -> Option<Self> {
        let presence: Self = signed.open(mesh, "presence")?;
        let fits = presence.addresses.len() <= ADDRESSES_MAX
            && presence.neighbors.len() <= NEIGHBORS_MAX
            && presence.name.len() <= Profile::NAME_BYTES_MAX
            && presence.data.len() <= Profile::DATA_BYTES_MAX
            && presence.neighbors.is_sorted();
        fits.then_some(presence)
    }

    pub(crate) fn sign(&self, identity: &Identity, mesh: &MeshId) -> Option<Signed> {
        Signed::new(identity, mesh, "presence", self)
    }

    pub(crate) fn profile(&self) -> Profile {
        Profile { name: self.name.clone(), data: self.data.clone() }
    }

    /// Whether it has room for one at this round trip, as far as it said.
    pub(crate) fn welcomes(&self, rtt: Duration) -> bool {
        self.free > 0 || rtt.as_micros() <= u128::from(self.within)
    }

    pub(crate) fn is_linked_to(&self, peer: &PeerId) -> bool {
        self.neighbors.binary_search(peer).is_ok()
    }
}

/// A message on its way: a header that its author signed, and the body that the header's hash covers.
///
/// Where a filter keeps the body back, the header travels on alone, so that nobody waits for what will not come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Message {
    pub(crate) header: Signed,
    /// Links travelled so far. Not signed: it changes on the way; the limit is.
    pub(crate) hops: u8,
    pub(crate) body: Option<Bytes>,
}

/// The signed part of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) boot: Boot,
    pub(crate) lane: Lane,
    /// Counts from 1 in each lane.
    pub(crate) seq: u64,
    pub(crate) hop_limit: u8,
    pub(crate) body_hash: [u8; 32],
}

/// For whom a message is; each lane counts its own messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Lane {
    /// For members within the hop limit: once, in whatever order.
    Near,
    /// For one member: repeated until it says that it has it, in order. Nothing of this lane up to `after` is owed any more.
    One { to: PeerId, after: u64 },
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Body {
    /// For the application.
    App { topic: u16, payload: Bytes },
    /// The author gives an entity away. `record` is the entity as it was, encoded like a keyframe of one.
    Transfer { entity: EntityId, number: u32, to: PeerId, record: Bytes },
    /// The author takes over entities of a member that is gone.
    Adopt(Vec<Adoption>),
    /// The author leaves.
    Farewell,
    /// Nothing: it carries the seal over what was said before.
    Seal,
    /// The author takes entities that everyone may take.
    Seize(Vec<Numbered>),
    /// The author removed entities of its own.
    Remove(Vec<Numbered>),
    /// To one: the author would like to own that entity of yours.
    Request { entity: EntityId },
    /// To one: you do not get that entity, or not from me.
    Refuse { entity: EntityId, refusal: Refusal },
}

/// A step of ownership of the author's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    pub(crate) entity: EntityId,
    pub(crate) number: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Adoption {
    pub(crate) entity: EntityId,
    pub(crate) number: u32,
    /// False: it is the author's own, and taken back.
    pub(crate) adopted: bool,
}

/// Messages to one arrived, all up to `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    /// Whose messages.
    pub(crate) to: PeerId,
    pub(crate) boot: Boot,
    pub(crate) upto: u64,
}

/// How far one author's messages are at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) origin: PeerId,
    pub(crate) boot: Boot,
    pub(crate) upto: u64,
}

/// A small number that stands for an origin on one link, one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Alias {
    pub(crate) number: u32,
    pub(crate) origin: PeerId,
    pub(crate) boot: Boot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holding {
    pub(crate) entity: EntityId,
    pub(crate) number: u32,
    /// None: gone for good.
    pub(crate) owner: Option<PeerId>,
    /// The owner at the number before; where it is adopted, the last who was given it.
    pub(crate) previous: Option<PeerId>,
    /// The owner, or one who gave it to it, took it over.
    pub(crate) adopted: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Keyframe {
    pub(crate) origin: PeerId,
    pub(crate) boot: Boot,
    pub(crate) tick: Tick,
    pub(crate) at: MeshTime,
    /// Who is not in it may be there all the same.
    pub(crate) partial: bool,
    pub(crate) part: u16,
    pub(crate) parts: u16,
    /// So many of the first parts are what the coder has learned; the others are records.
    pub(crate) models: u16,
    pub(crate) body: Bytes,
}

/// A value and its author's signature over it, kept as the bytes that were signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Signed {
    pub(crate) author: PeerId,
    bytes: Bytes,
    signature: Signature,
}

impl Signed {
    /// None if the value is too long to encode.
    pub(crate) fn new<T: Serialize>(identity: &Identity, mesh: &MeshId, what: &str, value: &T) -> Option<Self> {
        Some(Self::of_bytes(identity, mesh, what, codec::encode(value).ok()?))
    }

    pub(crate) fn of_bytes(identity: &Identity, mesh: &MeshId, what: &str, bytes: Bytes) -> Self {
        let signature = identity.sign(&Self::covered(mesh, what, &bytes));
        Self { author: identity.peer_id(), bytes, signature }
    }

    /// What was signed.
    #[cfg(feature = "sim")]
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The value, if it is one and its author signed it as `what` for this mesh.
    pub(crate) fn open<T: serde::de::DeserializeOwned>(&self, mesh: &MeshId, what: &str) -> Option<T> {
        if !self.author.verifies(&Self::covered(mesh, what, &self.bytes), &self.signature) {
            return None;
        }
        codec::decode(&self.bytes).ok()
    }

    /// The value without asking who made it: for what we checked or made ourselves before.
    pub(crate) fn peek<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        codec::decode(&self.bytes).ok()
    }

    /// The beginning of a hash of what was signed.
    pub(crate) fn hash(&self) -> u64 {
        blake3::hash(&self.bytes).as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    fn covered(mesh: &MeshId, what: &str, bytes: &[u8]) -> Vec<u8> {
        let mut covered = Vec::with_capacity(64 + bytes.len());
        covered.extend_from_slice(b"peerflock 2 ");
        covered.extend_from_slice(what.as_bytes());
        covered.push(0);
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(bytes);
        covered
    }
}

impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_chunks::<32>().0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let halves = Vec::<[u8; 32]>::deserialize(deserializer)?;
        let bytes = halves.as_flattened();
        bytes.try_into().map(Self).map_err(|_| serde::de::Error::invalid_length(bytes.len(), &"64 bytes"))
    }
}

impl Frame {
    /// The frame as it goes on the stream; None if it is too long to go there.
    pub(crate) fn encode(&self) -> Option<Bytes> {
        let body = codec::encode(self).ok()?;
        let mut bytes = BytesMut::with_capacity(1 + body.len());
        bytes.put_u8(WIRE_VERSION);
        bytes.put(body);
        (bytes.len() <= FRAME_BYTES_MAX).then(|| bytes.freeze())
    }

    /// The frame with its proof of the password, which is of all else that it says.
    pub(crate) fn proved(mut self, proof: &Proof) -> Self {
        let proved = proof.tag(&self.unproved());
        if let Some(tag) = self.tag_mut() {
            *tag = proved;
        }
        self
    }

    /// All that it says beside its proof of the password; nothing where it has none.
    pub(crate) fn unproved(&self) -> Bytes {
        let mut bare = self.clone();
        let Some(tag) = bare.tag_mut() else { return Bytes::new() };
        *tag = [0; 32];
        // What is too long to encode is neither sent nor was it received.
        codec::encode(&bare).unwrap_or_default()
    }

    fn tag_mut(&mut self) -> Option<&mut [u8; 32]> {
        match self {
            Self::Confirm(Confirm { tag, .. }) | Self::Welcome(Welcome { tag, .. }) => Some(tag),
            _ => None,
        }
    }

    /// The frame that `bytes` are, if they are at most `bytes_max` long.
    pub(crate) fn decode(bytes: &[u8], bytes_max: usize) -> Result<Self, DecodeError> {
        if bytes.len() > bytes_max {
            return Err(DecodeError::TooLong(bytes_max));
        }
        match bytes.split_first() {
            Some((&WIRE_VERSION, body)) => codec::decode(body),
            Some((version, _)) => Err(DecodeError::Version(*version)),
            None => Err(DecodeError::Malformed),
        }
    }
}

/// Decodes a frame and forgets it: the way in for fuzzers.
pub fn decode_frame(bytes: &[u8]) -> Result<(), DecodeError> {
    Frame::decode(bytes, FRAME_BYTES_MAX).map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mesh() -> MeshId {
        MeshId::from_name("test")
    }

    #[test]
    fn golden_bytes() {
        let frame = Frame::Gone(Standing { origin: PeerId([9; 32]), boot: Boot(300), upto: 5 });
        let mut expected = vec![WIRE_VERSION, 10];
        expected.extend([9; 32]);
        expected.extend([251, 44, 1, 5]);
        assert_eq!(frame.encode().unwrap()[..], expected);
        assert_eq!(Frame::decode(&expected, FRAME_BYTES_MAX), Ok(frame));
    }

    #[test]
    fn a_signature_covers_author_mesh_sort_and_bytes() {
        let (identity, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signed = Signed::new(&identity, &mesh(), "receipt", &7_u64).unwrap();
        assert_eq!(signed.open::<u64>(&mesh(), "receipt"), Some(7));
        assert_eq!(signed.open::<u64>(&mesh(), "presence"), None);
        assert_eq!(signed.open::<u64>(&MeshId::from_name("other"), "receipt"), None);
        let forged = Signed { author: other.peer_id(), ..signed.clone() };
        assert_eq!(forged.open::<u64>(&mesh(), "receipt"), None);
        let altered = Signed { bytes: Bytes::from_static(&[8]), ..signed };
        assert_eq!(altered.open::<u64>(&mesh(), "receipt"), None);
    }

    #[test]
    fn a_presence_beyond_its_limits_is_refused() {
        let identity = Identity::from_seed([1; 32]);
        let mut presence = Presence::new(Boot(1), 1, Profile::named("ann"), &[], vec![], 3, Duration::ZERO, 0, None);
        assert!(Presence::open(&presence.sign(&identity, &mesh()).unwrap(), &mesh()).is_some());
        presence.addresses = vec![SocketAddr::from(([127, 0, 0, 1], 1)); ADDRESSES_MAX + 1];
        assert!(Presence::open(&presence.sign(&identity, &mesh()).unwrap(), &mesh()).is_none());
    }

    #[test]
    fn another_version_says_so() {
        assert_eq!(Frame::decode(&[WIRE_VERSION + 1, 0], 512), Err(DecodeError::Version(WIRE_VERSION + 1)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_frame_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(first) = bytes.first_mut() {
                *first = WIRE_VERSION;
            }
            if let Ok(frame) = Frame::decode(&bytes, FRAME_BYTES_MAX) {
                let again = frame.encode().expect("what was decoded is short enough");
                prop_assert_eq!(Frame::decode(&again, FRAME_BYTES_MAX), Ok(frame));
            }
        }
    }
}
