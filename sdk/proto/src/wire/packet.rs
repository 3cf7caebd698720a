//! Packets: one origin's piece of one tick, passed on by relays as it is; and manifests, which prove many packets at once.
//!
//! A signature to every packet would cost each receiver more than all the rest. So a **manifest** is one signature over the hashes of
//! all packets of the last two quarters of a second: each packet is in two of them. Until it comes a packet is the word of the neighbor
//! that passed it on, who is a member; see `flood::Ledger` for what becomes of it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Boot, Identity, MeshId, PeerId, Signature, Verifier};

/// One packet, an item of a parcel. Whose it is the parcel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Counts the origin's packets.
    pub(crate) seq: u32,
    /// Links it may travel.
    pub(crate) hop_limit: u8,
    /// Links travelled so far.
    pub(crate) hops: u8,
    /// Whether others may pass it on: a manifest will prove it. False where nobody relays: the link proves its own end, and
    /// neither hops nor limit cross the wire.
    pub(crate) relayed: bool,
    pub(crate) payload: Bytes,
}

/// The hash of one packet, of which manifests are made. Eight bytes are enough: who alters a packet has a second, not years, to find
/// another with the same hash, and knows neither the packet nor its number before.
pub(crate) type PacketLeaf = [u8; LEAF_BYTES];

pub(crate) const LEAF_BYTES: usize = 8;

/// The limit of a packet that nobody relays.
pub(crate) const UNRELAYED_HOP_LIMIT: u8 = 1;

/// Most packets in one manifest.
pub(crate) const MANIFEST_MAX: usize = 128;

/// The key of an origin's leaves: none is worth anything for another origin, boot or mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafKey([u8; 32]);

impl LeafKey {
    pub(crate) fn new(mesh: &MeshId, origin: &PeerId, boot: Boot) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 2 packet");
        hash.update(&mesh.0).update(&origin.0).update(&boot.0.to_le_bytes());
        Self(*hash.finalize().as_bytes())
    }
}

impl Packet {
    /// Covers everything that must not change on the way.
    pub(crate) fn leaf(&self, key: &LeafKey) -> PacketLeaf {
        #[cfg(feature = "sim")]
        crate::sim::effort::hashed(self.payload.len());
        let mut hash = blake3::Hasher::new_keyed(&key.0);
        hash.update(&self.seq.to_le_bytes()).update(&[self.hop_limit]).update(&self.payload);
        let mut leaf = [0; LEAF_BYTES];
        hash.finalize_xof().fill(&mut leaf);
        leaf
    }
}

/// An origin's signature over many of its packets, an item of a parcel. Whose it is the parcel says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The number of the first packet. The others follow it without a gap.
    pub(crate) first: u32,
    /// Links it may travel.
    pub(crate) hop_limit: u8,
    /// Links travelled so far. Not signed: it changes on the way.
    pub(crate) hops: u8,
    /// Of each packet. At least one, at most [`MANIFEST_MAX`].
    pub(crate) leaves: Vec<PacketLeaf>,
    pub(crate) signature: Signature,
}

impl Manifest {
    pub(crate) fn new(
        identity: &Identity,
        mesh: &MeshId,
        boot: Boot,
        first: u32,
        hop_limit: u8,
        leaves: Vec<PacketLeaf>,
    ) -> Self {
        let signature = identity.sign(&covered(mesh, &identity.peer_id(), boot, first, hop_limit, &leaves));
        Self { first, hop_limit, hops: 0, leaves, signature }
    }

    /// Whether `origin` says so.
    pub(crate) fn holds(&self, mesh: &MeshId, origin: &Verifier, boot: Boot) -> bool {
        origin.verifies(&covered(mesh, origin.peer(), boot, self.first, self.hop_limit, &self.leaves), &self.signature)
    }

    /// The number of the last packet.
    pub(crate) fn last(&self) -> u32 {
        self.first.saturating_add(self.leaves.len().saturating_sub(1) as u32)
    }

    /// Whether it has as many leaves as one may have: where it did not come in a parcel, which knows no other.
    pub(crate) fn is_sound(&self) -> bool {
        (1..=MANIFEST_MAX).contains(&self.leaves.len()) && self.first.checked_add(self.leaves.len() as u32).is_some()
    }

    /// Whether one of the two is a lie: they say different things of the same packet.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        let (first, last) = (self.first.max(other.first), self.last().min(other.last()));
        (first..=last).any(|seq| matches!((self.leaf(seq), other.leaf(seq)), (Some(one), Some(other)) if one != other))
    }

    /// The hash of a packet that it covers.
    pub(crate) fn leaf(&self, seq: u32) -> Option<&PacketLeaf> {
        self.leaves.get(seq.checked_sub(self.first)? as usize)
    }
}

fn covered(mesh: &MeshId, origin: &PeerId, boot: Boot, first: u32, hop_limit: u8, leaves: &[PacketLeaf]) -> Vec<u8> {
    let mut covered = Vec::with_capacity(160);
    covered.extend_from_slice(b"peerflock 2 manifest\0");
    covered.extend_from_slice(&mesh.0);
    covered.extend_from_slice(&origin.0);
    covered.extend_from_slice(&boot.0.to_le_bytes());
    covered.extend_from_slice(&first.to_le_bytes());
    covered.push(hop_limit);
    covered.extend_from_slice(blake3::hash(leaves.as_flattened()).as_bytes());
    covered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_covers_everything_but_the_hops() {
        let (origin, mesh) = (PeerId([1; 32]), MeshId::from_name("test"));
        let packet = Packet { seq: 2, hop_limit: 3, hops: 0, relayed: true, payload: Bytes::from_static(b"state") };
        let key = LeafKey::new(&mesh, &origin, Boot(1));
        let leaf = packet.leaf(&key);
        let same = |change: &dyn Fn(&mut Packet)| {
            let mut changed = packet.clone();
            change(&mut changed);
            changed.leaf(&key) == leaf
        };
        assert!(same(&|p| p.hops += 1));
        assert!(!same(&|p| p.hop_limit += 1));
        assert!(!same(&|p| p.seq += 1));
        assert!(!same(&|p| p.payload = Bytes::from_static(b"State")));
        for other in [
            LeafKey::new(&mesh, &origin, Boot(2)),
            LeafKey::new(&mesh, &PeerId([2; 32]), Boot(1)),
            LeafKey::new(&MeshId::from_name("other"), &origin, Boot(1)),
        ] {
            assert_ne!(packet.leaf(&other), leaf);
        }
    }

    #[test]
    fn a_manifest_covers_everything_but_the_hops() {
        let (identity, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let manifest = Manifest::new(&identity, &mesh, Boot(1), 5, 3, vec![[1; LEAF_BYTES], [2; LEAF_BYTES]]);
        let origin = Verifier::new(&identity.peer_id());
        let holds = |change: &dyn Fn(&mut Manifest)| {
            let mut changed = manifest.clone();
            change(&mut changed);
            changed.holds(&mesh, &origin, Boot(1))
        };
        assert!(holds(&|m| m.hops += 1));
        assert!(!holds(&|m| m.hop_limit += 1));
        assert!(!holds(&|m| m.first += 1));
        assert!(!holds(&|m| m.leaves[1][7] += 1));
        assert!(!holds(&|m| m.leaves.truncate(1)));
        assert!(!manifest.holds(&mesh, &origin, Boot(2)));
        assert!(!manifest.holds(&MeshId::from_name("other"), &origin, Boot(1)));
        assert_eq!(
            (manifest.last(), manifest.leaf(6), manifest.leaf(4), manifest.leaf(7)),
            (6, Some(&[2; LEAF_BYTES]), None, None)
        );
    }
}
