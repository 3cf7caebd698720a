//! Letters: what only one member can read, whoever passes it on.
//!
//! The key is made from what the two identities [agree](Identity::agree) on, one for each direction, and seals with XChaCha20-Poly1305
//! under a random nonce. Who wrote it is proved by the key, and once more by the signature around it. Whoever steals an identity can
//! read what was sent to it: an identity that lives as long as its program forgets.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::id::{Identity, PeerId};

/// What a letter begins with. With the tag at its end it is 40 bytes longer than what it says.
const NONCE_BYTES: usize = 24;
/// Most correspondents whose keys are kept made up.
const KEYS_MAX: usize = 1_024;

/// The keys shared with those we write to and hear from.
#[derive(Default)]
pub(crate) struct Letters {
    shared: BTreeMap<PeerId, Zeroizing<[u8; 32]>>,
}

impl Letters {
    /// A letter to `reader` that says `text`. It opens only with the same `context`. None to one whose key is no point of use.
    pub(crate) fn seal(
        &mut self,
        identity: &Identity,
        reader: &PeerId,
        context: &[u8],
        text: &[u8],
        mut rng: impl RngCore + CryptoRng,
    ) -> Option<Bytes> {
        let mut nonce = XNonce::default();
        rng.fill_bytes(&mut nonce);
        let sealed = self.cipher(identity, reader, true)?.encrypt(&nonce, Payload { msg: text, aad: context }).ok()?;
        let mut letter = BytesMut::with_capacity(NONCE_BYTES + sealed.len());
        letter.extend_from_slice(&nonce);
        letter.extend_from_slice(&sealed);
        Some(letter.freeze())
    }

    /// What a letter of `author` to us says, if it is one.
    pub(crate) fn open(&mut self, identity: &Identity, author: &PeerId, context: &[u8], letter: &[u8]) -> Option<Bytes> {
        let (nonce, sealed) = letter.split_at_checked(NONCE_BYTES)?;
        let text = Payload { msg: sealed, aad: context };
        self.cipher(identity, author, false)?.decrypt(XNonce::from_slice(nonce), text).ok().map(Bytes::from)
    }

    /// `ours`: for what we write; else for what `other` does.
    fn cipher(&mut self, identity: &Identity, other: &PeerId, ours: bool) -> Option<XChaCha20Poly1305> {
        if !self.shared.contains_key(other) {
            let shared = identity.agree(other)?;
            if self.shared.len() >= KEYS_MAX {
                // Any will do: it is made up again when it is needed.
                self.shared.pop_first();
            }
            self.shared.insert(*other, shared);
        }
        let me = identity.peer_id();
        let (author, reader) = if ours { (&me, other) } else { (other, &me) };
        let mut material = Zeroizing::new([0; 96]);
        material[..32].copy_from_slice(self.shared.get(other)?.as_slice());
        material[32..64].copy_from_slice(&author.0);
        material[64..].copy_from_slice(&reader.0);
        let key = Zeroizing::new(blake3::derive_key("peerflock 1 letter", &*material));
        Some(XChaCha20Poly1305::new(chacha20poly1305::Key::from_slice(&*key)))
    }
}

impl std::fmt::Debug for Letters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letters").field("correspondents", &self.shared.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn only_its_reader_opens_a_letter_and_only_as_it_was_written() {
        let [ann, bob, eve] = [1, 2, 3].map(|seed| Identity::from_seed([seed; 32]));
        let (mut ours, mut theirs, mut hers) = (Letters::default(), Letters::default(), Letters::default());
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let letter = ours.seal(&ann, &bob.peer_id(), b"7", b"hello", &mut rng).unwrap();
        assert_eq!(letter.len(), 5 + 40);
        assert!(!letter.windows(5).any(|window| window == b"hello"));
        assert_eq!(theirs.open(&bob, &ann.peer_id(), b"7", &letter).as_deref(), Some(&b"hello"[..]));
        assert_eq!(theirs.open(&bob, &ann.peer_id(), b"8", &letter), None, "another place");
        assert_eq!(theirs.open(&bob, &eve.peer_id(), b"7", &letter), None, "another author");
        assert_eq!(hers.open(&eve, &ann.peer_id(), b"7", &letter), None, "another reader");
        assert_eq!(ours.open(&ann, &bob.peer_id(), b"7", &letter), None, "sent back");
        for bit in 0..letter.len() * 8 {
            let mut altered = letter.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(theirs.open(&bob, &ann.peer_id(), b"7", &altered), None, "bit {bit}");
        }
        for length in 0..letter.len() {
            assert_eq!(theirs.open(&bob, &ann.peer_id(), b"7", &letter[..length]), None, "cut to {length}");
        }
        let again = ours.seal(&ann, &bob.peer_id(), b"7", b"hello", &mut rng).unwrap();
        assert_ne!(again, letter, "nobody can tell that the same was said twice");
    }

    #[test]
    fn nobody_writes_to_a_key_that_keeps_no_secret() {
        let mut weak = [0; 32];
        weak[0] = 1;
        let rng = ChaCha20Rng::from_seed([4; 32]);
        assert_eq!(Letters::default().seal(&Identity::from_seed([1; 32]), &PeerId(weak), b"", b"x", rng), None);
    }

    #[test]
    fn keys_kept_are_bounded() {
        let (me, mut letters) = (Identity::from_seed([1; 32]), Letters::default());
        for number in 0..KEYS_MAX as u32 + 10 {
            let mut seed = [9; 32];
            seed[..4].copy_from_slice(&number.to_le_bytes());
            letters.open(&me, &Identity::from_seed(seed).peer_id(), b"", &[0; 40]);
        }
        assert_eq!(letters.shared.len(), KEYS_MAX);
    }
}
