//! What proving and checking who said what takes: how often the nodes of this thread signed and hashed for it, and the same work alone,
//! for who measures what it costs. How often signatures were to be checked: [`signature_checks`](super::signature_checks).

use std::cell::Cell;

use bytes::Bytes;

use crate::id::{Boot, MeshId, PeerId, Signature, Verifier};
use crate::wire::{LeafKey, Packet};

thread_local! {
    static DONE: Cell<Effort> = const { Cell::new(Effort { signatures: 0, hashes: 0, hashed_bytes: 0 }) };
}

/// How much the nodes of this thread did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Signatures made.
    pub signatures: u64,
    /// Hashes of packets and messages that signatures cover.
    pub hashes: u64,
    /// Bytes in those.
    pub hashed_bytes: u64,
}

/// What was done so far.
pub fn effort() -> Effort {
    DONE.get()
}

pub(crate) fn signed() {
    DONE.set(Effort { signatures: DONE.get().signatures + 1, ..DONE.get() });
}

pub(crate) fn hashed(bytes: usize) {
    let done = DONE.get();
    DONE.set(Effort { hashes: done.hashes + 1, hashed_bytes: done.hashed_bytes + bytes as u64, ..done });
}

/// Checks one peer's signatures, as those do who hear much of it.
#[derive(Debug)]
pub struct Checker(Verifier);

impl Checker {
    /// Of this peer.
    pub fn new(peer: &PeerId) -> Self {
        Self(Verifier::new(peer))
    }

    /// Whether the peer signed that.
    pub fn check(&self, message: &[u8], signature: &Signature) -> bool {
        self.0.verifies(message, signature)
    }
}

/// Hashes one origin's packets.
#[derive(Debug)]
pub struct Hasher(LeafKey);

impl Hasher {
    /// Of this origin.
    pub fn new(origin: &PeerId) -> Self {
        Self(LeafKey::new(&MeshId::from_name("effort"), origin, Boot(1)))
    }

    /// Of a packet with this payload.
    pub fn hash(&self, payload: Bytes) -> [u8; 8] {
        Packet { seq: 1, hop_limit: 16, hops: 0, relayed: true, payload }.leaf(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[test]
    fn what_is_done_is_counted() {
        let identity = Identity::from_seed([1; 32]);
        let before = effort();
        let signature = identity.sign(b"so it is");
        assert!(Checker::new(&identity.peer_id()).check(b"so it is", &signature));
        Hasher::new(&identity.peer_id()).hash(Bytes::from_static(&[7; 100]));
        let after = effort();
        assert_eq!((after.signatures - before.signatures, after.hashes - before.hashes), (1, 1));
        assert_eq!(after.hashed_bytes - before.hashed_bytes, 100);
    }
}
