//! Names under which members find each other, and seals that only they can open, from the mesh's name and password.
//!
//! Whoever does not know both can neither compute a name nor tell that two of them are of one mesh. Who runs a directory sees names and
//! can *guess* at a password, one stretched guess (Argon2id, 64 MiB) at a time, if it knows what the mesh is called: a short password is
//! not safe from somebody who wants it. A [ticket](super::Ticket)'s secret is.

use std::fmt;

use peerflock_proto::MeshKey;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// What a seal adds, in bytes: a number used once, and the proof.
pub const SEAL_BYTES: usize = NONCE_LEN + 16;

/// What members of one mesh share beside the mesh itself.
#[derive(Clone)]
pub struct Rendezvous {
    find: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
}

impl Rendezvous {
    /// Of the mesh that `key` opens.
    pub fn new(key: &MeshKey) -> Self {
        Self { find: Zeroizing::new(key.derive("rendezvous find")), seal: Zeroizing::new(key.derive("rendezvous seal")) }
    }

    /// The name of the mesh with a `service`, in one `epoch`: nobody else can tell it from any other 32 bytes.
    pub fn topic(&self, service: &str, epoch: u64) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_keyed(&self.find);
        hash.update(&epoch.to_le_bytes()).update(service.as_bytes());
        *hash.finalize().as_bytes()
    }

    /// `plain` as only members can read it, for one `service`.
    pub fn seal(&self, service: &str, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut sealed = [nonce.as_slice(), plain].concat();
        let tag = self
            .cipher()?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(service), &mut sealed[NONCE_LEN..])
            .ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some(sealed)
    }

    /// What a member sealed for that `service`.
    pub fn open(&self, service: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut plain = rest.to_vec();
        let length =
            self.cipher()?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(service), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        // Fails for keys of another length only.
        UnboundKey::new(&CHACHA20_POLY1305, &*self.seal).ok().map(LessSafeKey::new)
    }
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rendezvous(secret)")
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::MeshId;

    use super::*;

    fn of(name: &str, secret: u8) -> Rendezvous {
        Rendezvous::new(&MeshKey::from_secret(MeshId::from_name(name), [secret; 32]))
    }

    #[test]
    fn without_name_and_password_nothing_can_be_found_linked_or_read() {
        let ours = of("dusk", 1);
        assert_eq!(ours.topic("dht", 7), of("dusk", 1).topic("dht", 7));
        // Another password, another name, another day, another service: another name, with nothing in common.
        for other in
            [of("dusk", 2).topic("dht", 7), of("dawn", 1).topic("dht", 7), ours.topic("dht", 8), ours.topic("directory", 7)]
        {
            let same = other.iter().zip(ours.topic("dht", 7)).filter(|(a, b)| **a == *b).count();
            assert!(same < 8, "{same} of 32 bytes are the same");
        }
        let sealed = ours.seal("dht", b"192.0.2.7:4433").unwrap();
        assert_eq!(sealed.len(), b"192.0.2.7:4433".len() + SEAL_BYTES);
        assert!(!sealed.windows(9).any(|window| window == b"192.0.2.7"));
        assert_ne!(ours.seal("dht", b"192.0.2.7:4433").unwrap(), sealed, "two seals of one text have nothing in common");
        assert_eq!(of("dusk", 1).open("dht", &sealed).as_deref(), Some(b"192.0.2.7:4433".as_slice()));
        for stranger in [of("dusk", 2), of("dawn", 1)] {
            assert_eq!(stranger.open("dht", &sealed), None);
        }
        assert_eq!(ours.open("directory", &sealed), None);
    }

    #[test]
    fn what_was_altered_or_cut_is_none() {
        let ours = of("dusk", 1);
        let sealed = ours.seal("x", b"here").unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(ours.open("x", &altered), None, "byte {at}");
            assert_eq!(ours.open("x", &sealed[..at]), None, "cut to {at}");
        }
    }
}
