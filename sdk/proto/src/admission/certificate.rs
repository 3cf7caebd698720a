//! Meshes whose members hold a certificate of the mesh's own authority: who is a member is decided once, by name, and can be taken back.
//!
//! An authority is an [`Identity`] that someone keeps safe, away from the game; it need never be online. It certifies keys and signs lists of
//! certificates that it revokes. Links prove keys by TLS as in every mesh, so a certificate is no secret, and of no use to anybody but the
//! one whose key it names. X.509 would add encodings and nothing else: there are no names of hosts here, and no chains.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Identity, MeshId, PeerId, Signature, hex};
use crate::wire::codec;

/// Says that an authority takes a peer for a member of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Who is certified.
    pub member: PeerId,
    /// The authority's own number for it, by which it can be revoked.
    pub serial: u64,
    /// When it ends, in seconds since 1970; None for never.
    pub expires: Option<u64>,
    signature: Signature,
}

/// The certificates that an authority takes back. The one with the greatest number counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// Counts the authority's lists.
    pub number: u64,
    serials: BTreeSet<u64>,
    signature: Signature,
}

/// What a member of a mesh with an authority needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Whose certificates count.
    pub authority: PeerId,
    /// Our own.
    pub certificate: Certificate,
    /// What time it was when the node's clock was at zero, in seconds since 1970.
    pub unix_time_at_start: u64,
}

/// The text is no certificate, or no list of revocations. Copy it again, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no certificate and no list of revocations: part of it is missing or mistyped. Copy it again, whole")]
pub struct ParseCertificateError;

impl Certificate {
    /// Certifies `member` for `mesh`.
    pub fn issue(authority: &Identity, mesh: &MeshId, member: PeerId, serial: u64, expires: Option<u64>) -> Self {
        let signature = authority.sign(&Self::covered(mesh, &member, serial, expires));
        Self { member, serial, expires, signature }
    }

    /// Whether `authority` takes `member` for one of `mesh`, at that time in seconds since 1970.
    pub fn holds(&self, authority: &PeerId, mesh: &MeshId, member: &PeerId, unix_time: u64) -> bool {
        self.member == *member
            && self.expires.is_none_or(|expires| unix_time < expires)
            && authority.verifies(&Self::covered(mesh, &self.member, self.serial, self.expires), &self.signature)
    }

    fn covered(mesh: &MeshId, member: &PeerId, serial: u64, expires: Option<u64>) -> Vec<u8> {
        let mut covered = b"peerflock 1 certificate\0".to_vec();
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(&member.0);
        covered.extend_from_slice(&serial.to_le_bytes());
        covered.extend_from_slice(&expires.unwrap_or(u64::MAX).to_le_bytes());
        covered
    }
}

impl Revocations {
    /// Most certificates in one list. Let them end by themselves.
    pub const SERIALS_MAX: usize = 4_096;

    /// Takes certificates back. None if they are too many.
    pub fn issue(authority: &Identity, mesh: &MeshId, number: u64, serials: impl IntoIterator<Item = u64>) -> Option<Self> {
        let serials: BTreeSet<u64> = serials.into_iter().collect();
        let signature = authority.sign(&Self::covered(mesh, number, &serials));
        (serials.len() <= Self::SERIALS_MAX).then_some(Self { number, serials, signature })
    }

    /// Whether `authority` signed it for `mesh`.
    pub fn holds(&self, authority: &PeerId, mesh: &MeshId) -> bool {
        self.serials.len() <= Self::SERIALS_MAX
            && authority.verifies(&Self::covered(mesh, self.number, &self.serials), &self.signature)
    }

    /// Whether it takes that certificate back.
    pub fn revokes(&self, certificate: &Certificate) -> bool {
        self.serials.contains(&certificate.serial)
    }

    fn covered(mesh: &MeshId, number: u64, serials: &BTreeSet<u64>) -> Vec<u8> {
        let mut covered = b"peerflock 1 revocations\0".to_vec();
        covered.extend_from_slice(&mesh.0);
        covered.extend_from_slice(&number.to_le_bytes());
        serials.iter().for_each(|serial| covered.extend_from_slice(&serial.to_le_bytes()));
        covered
    }
}

/// As letters and digits, to be copied into a file or a chat.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self, f)
    }
}

impl FromStr for Certificate {
    type Err = ParseCertificateError;

    fn from_str(text: &str) -> Result<Self, ParseCertificateError> {
        read_hex(text)
    }
}

/// As letters and digits, to be copied into a file or a chat.
impl fmt::Display for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(self, f)
    }
}

impl FromStr for Revocations {
    type Err = ParseCertificateError;

    fn from_str(text: &str) -> Result<Self, ParseCertificateError> {
        read_hex(text)
    }
}

fn write_hex(value: &impl Serialize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let bytes = codec::encode(value).map_err(|_| fmt::Error)?;
    f.write_str(&hex(&bytes))
}

fn read_hex<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ParseCertificateError> {
    // Chats break lines.
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .take(2 * codec::VALUE_BYTES_MAX)
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let (pairs, rest) = digits.as_deref().unwrap_or_default().as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| high << 4 | low).collect();
    if !rest.is_empty() || bytes.is_empty() {
        return Err(ParseCertificateError);
    }
    codec::decode(&bytes).map_err(|_| ParseCertificateError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh() -> MeshId {
        MeshId::from_name("club")
    }

    fn authority() -> Identity {
        Identity::from_seed([1; 32])
    }

    const ANN: PeerId = PeerId([2; 32]);

    #[test]
    fn a_certificate_is_of_one_member_of_one_mesh_by_one_authority_until_it_ends() {
        let certificate = Certificate::issue(&authority(), &mesh(), ANN, 7, Some(1_000));
        let by = authority().peer_id();
        assert!(certificate.holds(&by, &mesh(), &ANN, 999));
        assert!(!certificate.holds(&by, &mesh(), &ANN, 1_000));
        assert!(!certificate.holds(&by, &mesh(), &PeerId([3; 32]), 0));
        assert!(!certificate.holds(&by, &MeshId::from_name("other"), &ANN, 0));
        assert!(!certificate.holds(&Identity::from_seed([9; 32]).peer_id(), &mesh(), &ANN, 0));
        for changed in [
            Certificate { serial: 8, ..certificate.clone() },
            Certificate { expires: None, ..certificate.clone() },
            Certificate { expires: Some(2_000), ..certificate },
        ] {
            assert!(!changed.holds(&by, &mesh(), &ANN, 0), "{changed:?}");
        }
    }

    #[test]
    fn a_list_takes_back_what_it_names_and_is_its_authoritys() {
        let list = Revocations::issue(&authority(), &mesh(), 3, [7, 9]).unwrap();
        assert!(list.holds(&authority().peer_id(), &mesh()));
        let issue = |serial| Certificate::issue(&authority(), &mesh(), ANN, serial, None);
        assert!(list.revokes(&issue(7)) && !list.revokes(&issue(8)));
        assert!(!Revocations { number: 4, ..list.clone() }.holds(&authority().peer_id(), &mesh()));
        assert!(!list.holds(&ANN, &mesh()) && !list.holds(&authority().peer_id(), &MeshId::from_name("other")));
        assert!(Revocations::issue(&authority(), &mesh(), 1, 0..=Revocations::SERIALS_MAX as u64).is_none());
    }

    #[test]
    fn both_survive_text_and_nonsense_is_neither() {
        let certificate = Certificate::issue(&authority(), &mesh(), ANN, 7, None);
        let text = certificate.to_string();
        let (left, right) = text.split_at(50);
        assert_eq!(format!("{left}\n {right}").parse(), Ok(certificate));
        let list = Revocations::issue(&authority(), &mesh(), 3, 0..Revocations::SERIALS_MAX as u64).unwrap();
        assert_eq!(list.to_string().parse(), Ok(list));
        for nonsense in ["", "7", "hello", &text[2..], &format!("{text}00"), &"f".repeat(1_000_000)] {
            assert_eq!(nonsense.parse::<Certificate>(), Err(ParseCertificateError), "{} letters", nonsense.len());
        }
    }
}
