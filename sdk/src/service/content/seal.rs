//! Content that only some can read: encrypted as a whole, its key sealed to each reader.
//!
//! The key is drawn anew for each content, so that a counter will do as a nonce. Segments of 64 KiB are encrypted by ChaCha20-Poly1305
//! (RFC 8439; from ring, which QUIC brings), and the last one says that it is: cutting, swapping or repeating segments is found out
//! (the STREAM construction, Hoang, Reyhanitabar, Rogaway and Vizár 2015). The key goes to each reader by what the reader's identity and
//! one drawn for that one seal [agree](Identity::agree) on.
//!
//! What everybody passes on is the encrypted content: its hash, its length and who may read it are no secret, its bytes are.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;
use peerflock_proto::{Identity, PeerId};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a segment before it is encrypted.
const SEGMENT_BYTES: usize = 64 * 1024;
/// What encryption adds to each.
const TAG_BYTES: usize = 16;
/// What a sealed key is, in bytes.
const SEALED_BYTES: usize = 32 + TAG_BYTES;

/// The key of one content.
#[derive(Clone)]
pub(super) struct ContentKey(Zeroizing<[u8; 32]>);

/// The key of a content, for one reader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) reader: PeerId,
    /// The public half of the pair drawn for it.
    drawn: PeerId,
    key: Bytes,
}

impl ContentKey {
    /// The key that these random bytes are.
    pub(super) fn new(random: [u8; 32]) -> Self {
        Self(Zeroizing::new(random))
    }

    /// Sealed to a reader, with random bytes that are used for nothing else. None where the reader's key is no curve point.
    pub(super) fn seal(&self, reader: PeerId, random: [u8; 32]) -> Option<Seal> {
        let drawn = Identity::from_seed(random);
        let shared = drawn.agree(&reader)?;
        let mut key = self.0.to_vec();
        let secret = shared_key(&drawn.peer_id(), &reader, &shared);
        secret.seal_in_place_append_tag(nonce(0, true), Aad::empty(), &mut key).ok()?;
        Some(Seal { reader, drawn: drawn.peer_id(), key: key.into() })
    }

    fn cipher(&self) -> LessSafeKey {
        cipher(&self.0)
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(secret)")
    }
}

impl Seal {
    /// The key, if the seal is for `identity` and whole.
    pub(super) fn open(&self, identity: &Identity) -> Option<ContentKey> {
        if self.reader != identity.peer_id() || self.key.len() != SEALED_BYTES {
            return None;
        }
        let shared = identity.agree(&self.drawn)?;
        let mut key = Zeroizing::new(self.key.to_vec());
        let secret = shared_key(&self.drawn, &self.reader, &shared);
        let opened = secret.open_in_place(nonce(0, true), Aad::empty(), &mut key).ok()?;
        Some(ContentKey::new(<[u8; 32]>::try_from(&*opened).ok()?))
    }
}

/// Encrypts all of `source`.
pub(super) fn encrypt(key: &ContentKey, source: &mut impl Read, sink: &mut impl Write) -> io::Result<()> {
    let cipher = key.cipher();
    segments(source, SEGMENT_BYTES, |number, last, segment| {
        let sealed = cipher.seal_in_place_append_tag(nonce(number, last), Aad::empty(), segment);
        sealed.map_err(|_| io::Error::other("encryption failed"))?;
        sink.write_all(segment)
    })
}

/// Decrypts all of `source`. What has come out before an error is right, but not all.
pub(super) fn decrypt(key: &ContentKey, source: &mut impl Read, sink: &mut impl Write) -> io::Result<()> {
    let cipher = key.cipher();
    segments(source, SEGMENT_BYTES + TAG_BYTES, |number, last, segment| {
        let opened = cipher.open_in_place(nonce(number, last), Aad::empty(), segment);
        sink.write_all(opened.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "encrypted by another key, or spoiled"))?)
    })
}

/// Goes through `source` in segments of so many bytes; the last one is shorter, or empty.
fn segments(
    source: &mut impl Read,
    bytes: usize,
    mut each: impl FnMut(u64, bool, &mut Vec<u8>) -> io::Result<()>,
) -> io::Result<()> {
    for number in 0.. {
        let mut segment = Vec::with_capacity(bytes + TAG_BYTES);
        source.by_ref().take(bytes as u64).read_to_end(&mut segment)?;
        let last = segment.len() < bytes;
        each(number, last, &mut segment)?;
        if last {
            break;
        }
    }
    Ok(())
}

fn shared_key(drawn: &PeerId, reader: &PeerId, shared: &[u8; 32]) -> LessSafeKey {
    let mut hasher = blake3::Hasher::new_derive_key("peerflock 1 content key seal");
    hasher.update(&drawn.0).update(&reader.0).update(shared);
    cipher(hasher.finalize().as_bytes())
}

fn cipher(key: &[u8; 32]) -> LessSafeKey {
    // 32 bytes are what this algorithm takes: it cannot fail.
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of 32 bytes"))
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encrypted(key: &ContentKey, bytes: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        encrypt(key, &mut &bytes[..], &mut sealed).unwrap();
        sealed
    }

    fn decrypted(key: &ContentKey, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decrypt(key, &mut &sealed[..], &mut bytes).map(|()| bytes)
    }

    #[test]
    fn readers_read_and_nobody_else() {
        let (reader, other) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let key = ContentKey::new([7; 32]);
        let seal = key.seal(reader.peer_id(), [8; 32]).unwrap();
        for len in [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES] {
            let bytes = vec![0x55; len];
            let sealed = encrypted(&key, &bytes);
            assert!(len < 100 || !sealed.windows(8).any(|window| window == [0x55; 8]), "not to be seen");
            assert_eq!(decrypted(&seal.open(&reader).unwrap(), &sealed).unwrap(), bytes);
            assert!(decrypted(&ContentKey::new([9; 32]), &sealed).is_err());
        }
        assert!(seal.open(&other).is_none());
        assert!(Seal { reader: other.peer_id(), ..seal.clone() }.open(&other).is_none(), "renamed");
        let mut bent = seal;
        bent.key = bent.key.iter().map(|byte| byte ^ 1).collect();
        assert!(bent.open(&reader).is_none());
    }

    #[test]
    fn segments_cannot_be_cut_swapped_or_repeated() {
        let key = ContentKey::new([7; 32]);
        let sealed = encrypted(&key, &vec![1; 3 * SEGMENT_BYTES + 5]);
        let whole = SEGMENT_BYTES + TAG_BYTES;
        assert!(decrypted(&key, &sealed[..2 * whole]).is_err(), "cut at a segment");
        assert!(decrypted(&key, &sealed[..whole + 9]).is_err(), "cut within one");
        let swapped = [&sealed[whole..2 * whole], &sealed[..whole], &sealed[2 * whole..]].concat();
        assert!(decrypted(&key, &swapped).is_err());
        assert!(decrypted(&key, &[&sealed[..whole], &sealed[..]].concat()).is_err());
        assert!(decrypted(&key, b"").is_err(), "nothing is not an empty content");
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let key = ContentKey::new([7; 32]);
        // The neutral element, and what is no point at all.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        assert!(key.seal(PeerId(neutral), [8; 32]).is_none());
        assert!(key.seal(PeerId([2; 32]), [8; 32]).is_none());
        let reader = Identity::from_seed([1; 32]);
        let seal = key.seal(reader.peer_id(), [8; 32]).unwrap();
        assert!(Seal { drawn: PeerId(neutral), ..seal }.open(&reader).is_none());
    }
}
