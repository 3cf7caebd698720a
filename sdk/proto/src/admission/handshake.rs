//! SPAKE2 (RFC 9382's idea, the `spake2` crate's transcript) bound to both identities and to the TLS connection.
//!
//! **Why the dialer confirms first**: if the accepter did, a stranger could test one guess against its answer and hang up, and
//! the accepter would never see a failed attempt. In this order every test of a password ends at the accepter as a missing or
//! wrong CONFIRM, and is counted. Both proofs cover all else that their frames say. The `spake2` crate has not been audited; that a share may be a point of small order, which
//! it does not refuse, is checked here.

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use rand_core::{CryptoRng, RngCore};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use zeroize::Zeroizing;

use super::MeshKey;
use crate::id::PeerId;
use crate::wire::WIRE_VERSION;

/// Bytes of one half of the exchange: which side, and a curve point.
const SHARE_BYTES: usize = 33;

/// The two ends of a link, by their roles, and the 32 bytes that only they share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) dialer: PeerId,
    pub(crate) accepter: PeerId,
    pub(crate) exporter: [u8; 32],
}

/// The other end does not know the password, or somebody is between us: one answer for all causes, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end did not prove that it knows the password")]
pub(crate) struct Refused;

/// The dialer's side: made with HELLO, ended by SHARE.
pub(crate) struct Dialer {
    exchange: Exchange,
}

impl Dialer {
    /// Begins; the bytes go into HELLO.
    pub(crate) fn start(key: &MeshKey, ends: Ends, rng: impl RngCore + CryptoRng) -> (Self, Bytes) {
        let (dialer, accepter) = (Identity::new(&ends.dialer.0), Identity::new(&ends.accepter.0));
        let (spake, share) = Spake2::<Ed25519Group>::start_a_with_rng(&Password::new(key.bytes()), &dialer, &accepter, rng);
        let share = Bytes::from(share);
        (Self { exchange: Exchange { spake, ends, mesh: key.mesh().0, ours: share.clone() } }, share)
    }

    /// With SHARE: what proves the password in CONFIRM, and what WELCOME must prove.
    pub(crate) fn confirm(self, theirs: &[u8]) -> Result<(Proof, Proof), Refused> {
        let ours = self.exchange.ours.clone();
        let Proofs { dialer, accepter } = self.exchange.finish(theirs, |theirs| (ours, Bytes::copy_from_slice(theirs)))?;
        Ok((dialer, accepter))
    }
}

/// The accepter's side: made with HELLO.
pub(crate) struct Accepter {
    proofs: Proofs,
}

impl Accepter {
    /// With HELLO: our side, and the bytes that go into SHARE.
    pub(crate) fn answer(
        key: &MeshKey,
        ends: Ends,
        theirs: &[u8],
        rng: impl RngCore + CryptoRng,
    ) -> Result<(Self, Bytes), Refused> {
        let (dialer, accepter) = (Identity::new(&ends.dialer.0), Identity::new(&ends.accepter.0));
        let (spake, share) = Spake2::<Ed25519Group>::start_b_with_rng(&Password::new(key.bytes()), &dialer, &accepter, rng);
        let share = Bytes::from(share);
        let ours = share.clone();
        let exchange = Exchange { spake, ends, mesh: key.mesh().0, ours: share.clone() };
        let proofs = exchange.finish(theirs, |theirs| (Bytes::copy_from_slice(theirs), ours))?;
        Ok((Self { proofs }, share))
    }

    /// What it expects and what it would prove, for who plays one.
    #[cfg(feature = "sim")]
    pub(crate) fn into_proofs(self) -> Proofs {
        self.proofs
    }

    /// With CONFIRM, which says `said`: what proves the password in WELCOME.
    pub(crate) fn verify(self, said: &[u8], tag: [u8; 32]) -> Result<Proof, Refused> {
        self.proofs.dialer.verify(said, tag)?;
        Ok(self.proofs.accepter)
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What lies within is secret.
        f.write_str("Dialer")
    }
}

/// What proves one side's knowledge of the password to the other, who knows it as well.
pub(crate) struct Proof {
    key: Zeroizing<[u8; 32]>,
    transcript: [u8; 32],
}

impl Proof {
    /// The proof for a frame that says `said` beside it.
    pub(crate) fn tag(&self, said: &[u8]) -> [u8; 32] {
        self.hash(said).into()
    }

    /// Compares in constant time.
    pub(crate) fn verify(&self, said: &[u8], tag: [u8; 32]) -> Result<(), Refused> {
        if self.hash(said) == blake3::Hash::from(tag) { Ok(()) } else { Err(Refused) }
    }

    fn hash(&self, said: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(&self.transcript).update(said).finalize()
    }
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// What proves each side.
#[derive(Debug)]
pub(crate) struct Proofs {
    pub(crate) dialer: Proof,
    pub(crate) accepter: Proof,
}

impl Proofs {
    /// Those of two who share `shared`, as the exchange of the two halves has it.
    pub(crate) fn new(shared: &[u8], mesh: &[u8; 32], ends: &Ends, dialer_share: &[u8], accepter_share: &[u8]) -> Self {
        // Every field has a fixed width, so the transcript needs no lengths.
        let mut transcript = blake3::Hasher::new_derive_key("peerflock 1 admission");
        transcript.update(&[WIRE_VERSION]).update(mesh).update(&ends.dialer.0).update(&ends.accepter.0);
        transcript.update(dialer_share).update(accepter_share).update(&ends.exporter);
        let transcript = *transcript.finalize().as_bytes();

        let proof = |context: &str| {
            let mut material = Zeroizing::new(shared.to_vec());
            material.extend_from_slice(&transcript);
            Proof { key: Zeroizing::new(blake3::derive_key(context, &material)), transcript }
        };
        Self { dialer: proof("peerflock 1 confirm A"), accepter: proof("peerflock 1 confirm B") }
    }
}

struct Exchange {
    spake: Spake2<Ed25519Group>,
    ends: Ends,
    mesh: [u8; 32],
    ours: Bytes,
}

impl Exchange {
    fn finish(self, theirs: &[u8], in_order: impl FnOnce(&[u8]) -> (Bytes, Bytes)) -> Result<Proofs, Refused> {
        let point: &[u8; 32] = theirs.get(1..).and_then(|point| point.try_into().ok()).ok_or(Refused)?;
        if VerifyingKey::from_bytes(point).map_or(true, |point| point.is_weak()) {
            return Err(Refused);
        }
        let (dialer_share, accepter_share) = in_order(theirs);
        let shared = Zeroizing::new(self.spake.finish(theirs).map_err(|_| Refused)?);
        debug_assert_eq!((dialer_share.len(), accepter_share.len()), (SHARE_BYTES, SHARE_BYTES));
        Ok(Proofs::new(&shared, &self.mesh, &self.ends, &dialer_share, &accepter_share))
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::id::MeshId;

    fn ends() -> Ends {
        Ends { dialer: PeerId([1; 32]), accepter: PeerId([2; 32]), exporter: [3; 32] }
    }

    fn key(password: u8) -> MeshKey {
        MeshKey::from_secret(MeshId::from_name("test"), [password; 32])
    }

    /// The whole exchange, with each frame changed by `tamper(frame number, bytes)`: who refused, if anyone.
    fn run(
        dialer: (&MeshKey, Ends),
        accepter: (&MeshKey, Ends),
        mut tamper: impl FnMut(usize, &mut [u8]),
    ) -> Result<(), &'static str> {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let mut passed_on = |frame: usize, bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            tamper(frame, &mut bytes);
            bytes
        };
        let (a, hello) = Dialer::start(dialer.0, dialer.1, &mut rng);
        let (b, share) =
            Accepter::answer(accepter.0, accepter.1, &passed_on(0, &hello), &mut rng).map_err(|_| "accepter, at HELLO")?;
        let (ours, theirs) = a.confirm(&passed_on(1, &share)).map_err(|_| "dialer, at SHARE")?;
        let confirm = passed_on(2, &ours.tag(b"confirm"));
        let proof = b.verify(b"confirm", confirm.try_into().unwrap()).map_err(|_| "accepter, at CONFIRM")?;
        let welcome = passed_on(3, &proof.tag(b"welcome"));
        theirs.verify(b"welcome", welcome.try_into().unwrap()).map_err(|_| "dialer, at WELCOME")
    }

    #[test]
    fn who_knows_the_password_is_in() {
        assert_eq!(run((&key(5), ends()), (&key(5), ends()), |_, _| ()), Ok(()));
    }

    #[test]
    fn a_wrong_password_is_found_out_by_the_accepter_first() {
        assert_eq!(run((&key(5), ends()), (&key(6), ends()), |_, _| ()), Err("accepter, at CONFIRM"));
    }

    #[test]
    fn a_splice_of_two_connections_is_refused() {
        let other_exporter = Ends { exporter: [9; 32], ..ends() };
        assert!(run((&key(5), ends()), (&key(5), other_exporter), |_, _| ()).is_err());
        let other_dialer = Ends { dialer: PeerId([9; 32]), ..ends() };
        assert!(run((&key(5), ends()), (&key(5), other_dialer), |_, _| ()).is_err());
        let swapped = Ends { dialer: ends().accepter, accepter: ends().dialer, ..ends() };
        assert!(run((&key(5), ends()), (&key(5), swapped), |_, _| ()).is_err());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for (frame, bits) in [(0, 33 * 8), (1, 33 * 8), (2, 32 * 8), (3, 32 * 8)] {
            for bit in 0..bits {
                let outcome = run((&key(5), ends()), (&key(5), ends()), |at, bytes| {
                    if at == frame {
                        bytes[bit / 8] ^= 1 << (bit % 8);
                    }
                });
                assert!(outcome.is_err(), "bit {bit} of frame {frame}");
            }
        }
    }

    #[test]
    fn a_proof_covers_what_is_said_beside_it() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let (dialer, hello) = Dialer::start(&key(5), ends(), &mut rng);
        let (accepter, share) = Accepter::answer(&key(5), ends(), &hello, &mut rng).unwrap();
        let (ours, _) = dialer.confirm(&share).unwrap();
        assert!(accepter.verify(b"two links", ours.tag(b"no link")).is_err());
    }

    #[test]
    fn points_of_small_order_and_garbage_are_refused() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let mut identity_point = [0; 33];
        identity_point[0] = b'A';
        identity_point[1] = 1;
        for bytes in [&identity_point[..], &[b'A'; 32], &[], &[b'A'; 34]] {
            assert!(Accepter::answer(&key(5), ends(), bytes, &mut rng).is_err());
        }
    }
}
