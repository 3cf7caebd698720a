//! Packets: one origin's piece of one tick, in one datagram, passed on by relays as it is.
//!
//! ```text
//! version u8 | flags u8 | hops u8 | hop limit u8 | boot u32 | seq u32 | origin 32 B? | signature 64 B? | payload
//! ```
//! On the origin's own link the origin is left out (the link proves it), and so is the signature where nobody relays.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{DATAGRAM_BYTES_MAX, DecodeError, WIRE_VERSION};
use crate::id::{Boot, Identity, MeshId, PeerId, Signature};

const FIXED_BYTES: usize = 12;
const FLAG_ORIGIN: u8 = 1;
const FLAG_PROOF: u8 = 2;

/// Most payload of a packet that nobody relays, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - FIXED_BYTES;
/// Most payload of a packet that carries its origin and proof, in bytes.
pub(crate) const RELAYED_PAYLOAD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 32 - 64;

/// One packet as it lies in a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Who made it; None on the origin's own link.
    pub(crate) origin: Option<PeerId>,
    pub(crate) boot: Boot,
    /// Counts the origin's packets.
    pub(crate) seq: u32,
    /// Links it may travel.
    pub(crate) hop_limit: u8,
    /// Links travelled so far.
    pub(crate) hops: u8,
    pub(crate) proof: Option<Proof>,
    pub(crate) payload: Bytes,
}

/// The origin's signature over everything that must not change on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof(Signature);

impl Packet {
    /// Adds the origin's proof, so that others can pass the packet on.
    pub(crate) fn prove(&mut self, identity: &Identity, mesh: &MeshId) {
        self.proof = Some(Proof(identity.sign(&self.covered(mesh, &identity.peer_id()))));
    }

    /// Whether `origin` made the packet as it is.
    pub(crate) fn is_proved(&self, mesh: &MeshId, origin: &PeerId) -> bool {
        self.proof.is_some_and(|proof| origin.verifies(&self.covered(mesh, origin), &proof.0))
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(DATAGRAM_BYTES_MAX);
        bytes.put_u8(WIRE_VERSION);
        let flags = if self.origin.is_some() { FLAG_ORIGIN } else { 0 } | if self.proof.is_some() { FLAG_PROOF } else { 0 };
        bytes.put_u8(flags);
        bytes.put_u8(self.hops);
        bytes.put_u8(self.hop_limit);
        bytes.put_u32_le(self.boot.0);
        bytes.put_u32_le(self.seq);
        if let Some(origin) = self.origin {
            bytes.put_slice(&origin.0);
        }
        if let Some(proof) = self.proof {
            bytes.put_slice(&proof.0.0);
        }
        bytes.put_slice(&self.payload);
        debug_assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "payloads are cut to fit");
        bytes.freeze()
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, DecodeError> {
        if bytes.len() > DATAGRAM_BYTES_MAX {
            return Err(DecodeError::TooLong(DATAGRAM_BYTES_MAX));
        }
        let version = *bytes.first().ok_or(DecodeError::Malformed)?;
        if version != WIRE_VERSION {
            return Err(DecodeError::Version(version));
        }
        let flags = *bytes.get(1).ok_or(DecodeError::Malformed)?;
        let (has_origin, has_proof) = (flags & FLAG_ORIGIN != 0, flags & FLAG_PROOF != 0);
        let header = FIXED_BYTES + if has_origin { 32 } else { 0 } + if has_proof { 64 } else { 0 };
        if flags & !(FLAG_ORIGIN | FLAG_PROOF) != 0 || bytes.len() < header {
            return Err(DecodeError::Malformed);
        }
        bytes.advance(2);
        let hops = bytes.get_u8();
        let hop_limit = bytes.get_u8();
        let boot = Boot(bytes.get_u32_le());
        let seq = bytes.get_u32_le();
        let origin = has_origin.then(|| {
            let mut key = [0; 32];
            bytes.copy_to_slice(&mut key);
            PeerId(key)
        });
        let proof = has_proof.then(|| {
            let mut signature = [0; 64];
            bytes.copy_to_slice(&mut signature);
            Proof(Signature(signature))
        });
        Ok(Self { origin, boot, seq, hop_limit, hops, proof, payload: bytes })
    }

    fn covered(&self, mesh: &MeshId, origin: &PeerId) -> Vec<u8> {
        let mut covered = Vec::with_capacity(160);
        covered.extend_from_slice(b"peerflock 1 packet\0");
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(&origin.0);
        covered.extend_from_slice(&self.boot.0.to_le_bytes());
        covered.extend_from_slice(&self.seq.to_le_bytes());
        covered.push(self.hop_limit);
        covered.extend_from_slice(blake3::hash(&self.payload).as_bytes());
        covered
    }
}

/// Decodes a packet and forgets it: the way in for fuzzers.
pub fn decode_packet(bytes: &[u8]) -> Result<(), DecodeError> {
    Packet::decode(Bytes::copy_from_slice(bytes)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet() -> Packet {
        Packet { origin: None, boot: Boot(1), seq: 2, hop_limit: 3, hops: 0, proof: None, payload: Bytes::from_static(b"state") }
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(&packet().encode()[..], [1, 0, 0, 3, 1, 0, 0, 0, 2, 0, 0, 0, b's', b't', b'a', b't', b'e']);
    }

    #[test]
    fn the_proof_covers_everything_but_the_hops() {
        let (identity, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let mut proved = packet();
        proved.prove(&identity, &mesh);
        let origin = identity.peer_id();
        let holds = |change: &dyn Fn(&mut Packet)| {
            let mut changed = proved.clone();
            change(&mut changed);
            changed.is_proved(&mesh, &origin)
        };
        assert!(holds(&|p| p.hops += 1));
        assert!(!holds(&|p| p.hop_limit += 1));
        assert!(!holds(&|p| p.seq += 1));
        assert!(!holds(&|p| p.boot.0 += 1));
        assert!(!holds(&|p| p.payload = Bytes::from_static(b"State")));
        assert!(!holds(&|p| p.proof = None));
        assert!(!proved.is_proved(&MeshId::from_name("other"), &origin));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_packet_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let [version, flags, ..] = &mut bytes[..] {
                *version = WIRE_VERSION;
                *flags &= 3;
            }
            if let Ok(packet) = Packet::decode(Bytes::from(bytes.clone())) {
                prop_assert_eq!(&packet.encode()[..], &bytes[..]);
            }
        }
    }
}
