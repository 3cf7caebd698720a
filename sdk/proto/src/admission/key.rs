//! The mesh's key: the password, stretched once per process, never per connection.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use unicode_normalization::UnicodeNormalization;
use zeroize::{Zeroize, Zeroizing};

use crate::id::{MeshId, PeerId};

/// What a member must know, made from a password, a ticket's secret, or nothing. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct MeshKey {
    mesh: MeshId,
    key: Zeroizing<[u8; 32]>,
}

impl MeshKey {
    /// Memory that stretching a password takes, in KiB.
    const ARGON2_KIB: u32 = 64 * 1024;
    /// Passes over that memory.
    const ARGON2_PASSES: u32 = 3;

    /// The key of a mesh without a password: whoever knows the name is in.
    pub fn open(mesh: MeshId) -> Self {
        Self { mesh, key: Zeroizing::new(blake3::derive_key("peerflock 1 open mesh", &mesh.0)) }
    }

    /// The key of a mesh whose members show certificates of `authority`: no secret, as those decide.
    pub fn of_authority(mesh: MeshId, authority: &PeerId) -> Self {
        Self { mesh, key: Zeroizing::new(blake3::derive_key("peerflock 1 authority", &[mesh.0, authority.0].concat())) }
    }

    /// The key that `password` makes: Argon2id (RFC 9106) with 64 MiB and 3 passes, so this takes a tenth of a second or so and
    /// belongs on a thread that may wait. Spaces around the password and Unicode's different spellings of one text do not matter.
    ///
    /// The salt is the mesh: a newcomer has nobody to ask for another, and tables made for one mesh are worth nothing on the next.
    pub fn from_password(mesh: MeshId, password: &str) -> Self {
        let mut text: String = password.nfkc().collect();
        let salt = blake3::derive_key("peerflock 1 pw-salt", &mesh.0);
        let mut key = Zeroizing::new([0; 32]);
        // Parameters and lengths are constants within Argon2's limits, so neither step can fail.
        let stretched = Params::new(Self::ARGON2_KIB, Self::ARGON2_PASSES, 1, Some(32)).and_then(|params| {
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                text.trim().as_bytes(),
                &salt[..16],
                &mut *key,
            )
        });
        debug_assert!(stretched.is_ok(), "constant parameters");
        text.zeroize();
        Self { mesh, key }
    }

    /// The key that a ticket's 32 random bytes make: nothing to stretch, nobody guesses them.
    pub fn from_secret(mesh: MeshId, secret: [u8; 32]) -> Self {
        let mut material = [0; 64];
        material[..32].copy_from_slice(&mesh.0);
        material[32..].copy_from_slice(&secret);
        let key = Zeroizing::new(blake3::derive_key("peerflock 1 secret", &material));
        material.zeroize();
        Self { mesh, key }
    }

    /// Which mesh it opens.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// A key of its own for one `purpose`, such as finding each other: whoever has it can neither tell this one nor that of any other
    /// purpose. A constant text of the program's, never input.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 purpose");
        hash.update(&*self.key).update(purpose.as_bytes());
        *hash.finalize().as_bytes()
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.key
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey({:?}, secret)", self.mesh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_opens_its_own_mesh_only() {
        let (one, other) = (MeshId::from_name("one"), MeshId::from_name("other"));
        let key = MeshKey::from_password(one, "hunter2");
        assert_eq!(key.bytes(), MeshKey::from_password(one, " hunter2\n").bytes());
        assert_ne!(key.bytes(), MeshKey::from_password(one, "Hunter2").bytes());
        assert_ne!(key.bytes(), MeshKey::from_password(other, "hunter2").bytes());
        assert_ne!(*key.bytes(), [0; 32]);
        assert_ne!(key.bytes(), MeshKey::open(one).bytes());
        // Two spellings of one text: é as one code point, and as e with an accent.
        assert_eq!(MeshKey::from_password(one, "\u{e9}").bytes(), MeshKey::from_password(one, "e\u{301}").bytes());
    }

    #[test]
    fn each_purpose_and_each_password_has_its_own_key() {
        let mesh = MeshId::from_name("one");
        let key = MeshKey::from_secret(mesh, [1; 32]);
        assert_eq!(key.derive("find"), MeshKey::from_secret(mesh, [1; 32]).derive("find"));
        assert_ne!(key.derive("find"), key.derive("seal"));
        assert_ne!(key.derive("find"), MeshKey::from_secret(mesh, [2; 32]).derive("find"));
        assert_ne!(key.derive("find"), MeshKey::from_secret(MeshId::from_name("two"), [1; 32]).derive("find"));
    }

    #[test]
    fn keys_are_not_printed() {
        let secret = MeshKey::from_secret(MeshId::from_name("one"), [0xab; 32]);
        let bytes: String = secret.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(!format!("{secret:?}").contains(&bytes[..8]));
    }
}
