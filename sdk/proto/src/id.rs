//! Who and which: the names of peers, meshes, links and entities.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Who a peer is: its Ed25519 public key (RFC 8032), 32 bytes.
///
/// Whoever holds the matching [`Identity`] *is* the peer: the link proves it with TLS, a relayed frame with a signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// Whether `signature` over `message` was made by this peer. A key that is no curve point verifies nothing.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        Verifier::new(self).verifies(message, signature)
    }

    /// The first four bytes in hexadecimal: enough for people and logs, never for a decision.
    pub fn short(&self) -> String {
        hex(&self.0[..4])
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for PeerId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        unhex(text).map(Self)
    }
}

/// A peer's key made ready: for whoever checks many of its signatures.
#[derive(Clone, Debug)]
pub(crate) struct Verifier {
    peer: PeerId,
    /// None where it is no curve point.
    key: Option<VerifyingKey>,
}

impl Verifier {
    pub(crate) fn new(peer: &PeerId) -> Self {
        Self { peer: *peer, key: VerifyingKey::from_bytes(&peer.0).ok() }
    }

    /// Whose it is.
    pub(crate) fn peer(&self) -> &PeerId {
        &self.peer
    }

    /// Whether `signature` over `message` was made by the peer.
    pub(crate) fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let check = || {
            let key = self.key.as_ref();
            key.is_some_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.0)).is_ok())
        };
        #[cfg(feature = "sim")]
        return crate::sim::checked_once(&self.peer, message, signature, check);
        #[cfg(not(feature = "sim"))]
        check()
    }
}

/// The text is no identifier: 64 hexadecimal digits were expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: 64 hexadecimal digits expected")]
pub struct ParseIdError;

/// A peer's secret: the 32-byte Ed25519 seed behind its [`PeerId`]. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct Identity(SigningKey);

impl Identity {
    /// The identity made from 32 secret bytes: the same bytes, the same peer.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        seed.zeroize();
        Self(key)
    }

    /// The secret itself, for storing it or handing it to a TLS library. Keep it out of logs.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    /// 32 bytes that only we and `other` can make up: X25519 (RFC 7748) of the two Ed25519 keys, which are Montgomery keys, too (as in
    /// age and libsodium; <https://eprint.iacr.org/2021/509> says why one key may do both). Derive keys from them together with
    /// both names, for one use each. None where `other` is no curve point, or one that makes the same of everybody's key.
    pub fn agree(&self, other: &PeerId) -> Option<Zeroizing<[u8; 32]>> {
        let theirs = VerifyingKey::from_bytes(&other.0).ok().filter(|key| !key.is_weak())?;
        // Clamped: what is not of prime order in a bad key falls away, and tells nothing of ours.
        Some(Zeroizing::new(theirs.to_montgomery().mul_clamped(self.0.to_scalar_bytes()).to_bytes()))
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        #[cfg(feature = "sim")]
        crate::sim::effort::signed();
        Signature(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?}, secret)", self.peer_id())
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}..)", hex(&self.0[..4]))
    }
}

/// Which mesh: a hash of its name, so that the name itself never crosses the wire before admission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId(pub [u8; 32]);

impl MeshId {
    /// The mesh that everyone who says `name` means.
    pub fn from_name(name: &str) -> Self {
        Self(blake3::derive_key("peerflock 1 mesh-id", name.as_bytes()))
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..4]))
    }
}

impl FromStr for MeshId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        unhex(text).map(Self)
    }
}

/// One start of one peer: drawn at random when a node is made, so that a restarted peer is never taken for its past.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Boot(pub u32);

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// One connection to one other process, numbered by the node that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Which entity: who spawned it, in which of its lives, and as its how-manieth. The spawner need not be the owner.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityId {
    /// The peer that spawned it.
    pub spawner: PeerId,
    /// The spawner's start in which it did.
    pub boot: Boot,
    /// Counts the spawner's entities from 0, below [`EntityId::COUNT_MAX`]; the two bits above that are the [`OwnershipPolicy`].
    pub counter: u32,
}

impl EntityId {
    /// So many entities of one policy can one start of one peer name.
    pub const COUNT_MAX: u32 = 1 << 30;

    /// The name of a new entity: the spawner's `count`-th, from 0. Counts beyond [`COUNT_MAX`](Self::COUNT_MAX) begin again.
    pub fn new(spawner: PeerId, boot: Boot, count: u32, policy: OwnershipPolicy) -> Self {
        let policy = match policy {
            OwnershipPolicy::Ask => 0,
            OwnershipPolicy::Refuse => 1,
            OwnershipPolicy::Grant => 2,
            OwnershipPolicy::Seize => 3,
        };
        Self { spawner, boot, counter: count % Self::COUNT_MAX + policy * Self::COUNT_MAX }
    }

    /// How others may become its owner: the same for all who know its name, and for ever.
    pub fn policy(&self) -> OwnershipPolicy {
        match self.counter / Self::COUNT_MAX {
            0 => OwnershipPolicy::Ask,
            1 => OwnershipPolicy::Refuse,
            2 => OwnershipPolicy::Grant,
            _ => OwnershipPolicy::Seize,
        }
    }
}

/// How others may become the owner of an entity. Chosen by its spawner, and a part of its name: nobody can change it later, all who
/// hear of the entity know it, and everything that its owner signs covers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnershipPolicy {
    /// The owner's game is asked, and grants or refuses.
    #[default]
    Ask,
    /// Nobody: requests are refused, without asking the game. The owner may still give it away.
    Refuse,
    /// Whoever asks: the owner hands it over to the first, without asking the game.
    Grant,
    /// Whoever takes it, at once and without asking; requests are granted as well. For what passes from hand to hand faster than a
    /// question and its answer take: a ball.
    Seize,
}

/// What tells nearly all apart: keys are random, so that their first bytes are enough.
impl Hash for EntityId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let start = self.spawner.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        state.write_u64(start);
        state.write_u64(u64::from(self.boot.0) << 32 | u64::from(self.counter));
    }
}

/// By counter first: that is where most differ, so that it is soon found out.
impl Ord for EntityId {
    fn cmp(&self, other: &Self) -> Ordering {
        let rest = || self.boot.cmp(&other.boot).then_with(|| self.spawner.cmp(&other.spawner));
        self.counter.cmp(&other.counter).then_with(rest)
    }
}

impl PartialOrd for EntityId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = match self.policy() {
            OwnershipPolicy::Ask => "",
            OwnershipPolicy::Refuse => "r",
            OwnershipPolicy::Grant => "g",
            OwnershipPolicy::Seize => "s",
        };
        write!(f, "{}/{:?}/{policy}{}", self.spawner.short(), self.boot, self.counter % Self::COUNT_MAX)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts one origin's state frames: its game's fixed ticks, from 1. Ticks of two origins do not compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u32);

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<[u8; 32], ParseIdError> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return Err(ParseIdError);
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |ascii: u8| char::from(ascii).to_digit(16).ok_or(ParseIdError);
        *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_text() {
        let id = Identity::from_seed([7; 32]).peer_id();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("é".repeat(32).parse::<PeerId>(), Err(ParseIdError));
    }

    #[test]
    fn an_entitys_name_keeps_its_policy() {
        let all = [OwnershipPolicy::Ask, OwnershipPolicy::Refuse, OwnershipPolicy::Grant, OwnershipPolicy::Seize];
        for (policy, shown) in all.into_iter().zip(["5", "r5", "g5", "s5"]) {
            let id = |count| EntityId::new(PeerId([1; 32]), Boot(2), count, policy);
            assert_eq!(id(5).policy(), policy);
            assert_eq!(id(5).to_string(), format!("01010101/00000002/{shown}"));
            assert_eq!((id(EntityId::COUNT_MAX - 1).policy(), id(EntityId::COUNT_MAX)), (policy, id(0)));
        }
        assert_eq!(EntityId::new(PeerId([1; 32]), Boot(2), 7, OwnershipPolicy::Ask).counter, 7);
    }

    #[test]
    fn only_the_holder_of_the_seed_signs() {
        let (ours, theirs) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = ours.sign(b"tick 7");
        assert!(ours.peer_id().verifies(b"tick 7", &signature));
        assert!(!ours.peer_id().verifies(b"tick 8", &signature));
        assert!(!theirs.peer_id().verifies(b"tick 7", &signature));
    }

    #[test]
    fn secrets_are_not_printed() {
        let identity = Identity::from_seed([0xab; 32]);
        assert!(!format!("{identity:?}").contains("abab"));
    }
}
