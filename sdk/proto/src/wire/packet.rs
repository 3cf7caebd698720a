//! Packets: one origin's piece of one tick, passed on by relays as it is.

use bytes::Bytes;

use crate::id::{Boot, Identity, MeshId, PeerId, Signature};

/// One packet, an item of a parcel. Whose it is the parcel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// Counts the origin's packets.
    pub(crate) seq: u32,
    /// Links it may travel.
    pub(crate) hop_limit: u8,
    /// Links travelled so far.
    pub(crate) hops: u8,
    /// None where nobody relays: the link proves its own end.
    pub(crate) proof: Option<Signature>,
    pub(crate) payload: Bytes,
}

impl Packet {
    /// Adds the origin's signature over everything that must not change on the way, so that others can pass the packet on.
    pub(crate) fn prove(&mut self, identity: &Identity, mesh: &MeshId, boot: Boot) {
        self.proof = Some(identity.sign(&self.covered(mesh, &identity.peer_id(), boot)));
    }

    /// Whether `origin` made the packet as it is.
    pub(crate) fn is_proved(&self, mesh: &MeshId, origin: &PeerId, boot: Boot) -> bool {
        self.proof.is_some_and(|proof| origin.verifies(&self.covered(mesh, origin, boot), &proof))
    }

    fn covered(&self, mesh: &MeshId, origin: &PeerId, boot: Boot) -> Vec<u8> {
        let mut covered = Vec::with_capacity(160);
        covered.extend_from_slice(b"peerflock 2 packet\0");
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(&origin.0);
        covered.extend_from_slice(&boot.0.to_le_bytes());
        covered.extend_from_slice(&self.seq.to_le_bytes());
        covered.push(self.hop_limit);
        covered.extend_from_slice(blake3::hash(&self.payload).as_bytes());
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_covers_everything_but_the_hops() {
        let (identity, mesh) = (Identity::from_seed([1; 32]), MeshId::from_name("test"));
        let mut proved = Packet { seq: 2, hop_limit: 3, hops: 0, proof: None, payload: Bytes::from_static(b"state") };
        proved.prove(&identity, &mesh, Boot(1));
        let origin = identity.peer_id();
        let holds = |change: &dyn Fn(&mut Packet)| {
            let mut changed = proved.clone();
            change(&mut changed);
            changed.is_proved(&mesh, &origin, Boot(1))
        };
        assert!(holds(&|p| p.hops += 1));
        assert!(!holds(&|p| p.hop_limit += 1));
        assert!(!holds(&|p| p.seq += 1));
        assert!(!holds(&|p| p.payload = Bytes::from_static(b"State")));
        assert!(!holds(&|p| p.proof = None));
        assert!(!proved.is_proved(&mesh, &origin, Boot(2)));
        assert!(!proved.is_proved(&MeshId::from_name("other"), &origin, Boot(1)));
    }
}
