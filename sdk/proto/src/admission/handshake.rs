//! SPAKE2 (RFC 9382's idea, the `spake2` crate's transcript) bound to both identities and to the TLS connection.
//!
//! **Why the dialer confirms first**: if the accepter did, a stranger could test one guess against its answer and hang up, and
//! the accepter would never see a failed attempt. In this order every test of a password ends at the accepter as a missing or
//! wrong CONFIRM, and is counted. The `spake2` crate has not been audited; that a share may be a point of small order, which
//! it does not refuse, is checked here.

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use rand_core::{CryptoRng, RngCore};
use spake2::{Ed25519Group, Identity, Password, Spake2};

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

    /// With SHARE: our CONFIRM, and what WELCOME must prove.
    pub(crate) fn confirm(self, theirs: &[u8]) -> Result<([u8; 32], Confirmed), Refused> {
        let ours = self.exchange.ours.clone();
        let tags = self.exchange.finish(theirs, |theirs| (ours, Bytes::copy_from_slice(theirs)))?;
        Ok((tags.dialer.into(), Confirmed { expected: tags.accepter }))
    }
}

/// The accepter's side: made with HELLO.
pub(crate) struct Accepter {
    /// What CONFIRM must prove.
    expected: Confirmed,
    tag: [u8; 32],
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
        let tags = exchange.finish(theirs, |theirs| (Bytes::copy_from_slice(theirs), ours))?;
        Ok((Self { expected: Confirmed { expected: tags.dialer }, tag: tags.accepter.into() }, share))
    }

    /// With CONFIRM: the tag that goes into WELCOME.
    pub(crate) fn verify(self, tag: [u8; 32]) -> Result<[u8; 32], Refused> {
        self.expected.verify(tag)?;
        Ok(self.tag)
    }
}

/// What the other end's tag must be.
pub(crate) struct Confirmed {
    expected: blake3::Hash,
}

impl Confirmed {
    /// Compares in constant time.
    pub(crate) fn verify(&self, tag: [u8; 32]) -> Result<(), Refused> {
        if self.expected == blake3::Hash::from(tag) { Ok(()) } else { Err(Refused) }
    }
}

struct Tags {
    dialer: blake3::Hash,
    accepter: blake3::Hash,
}

struct Exchange {
    spake: Spake2<Ed25519Group>,
    ends: Ends,
    mesh: [u8; 32],
    ours: Bytes,
}

impl Exchange {
    fn finish(self, theirs: &[u8], in_order: impl FnOnce(&[u8]) -> (Bytes, Bytes)) -> Result<Tags, Refused> {
        let point: &[u8; 32] = theirs.get(1..).and_then(|point| point.try_into().ok()).ok_or(Refused)?;
        if VerifyingKey::from_bytes(point).map_or(true, |point| point.is_weak()) {
            return Err(Refused);
        }
        let (dialer_share, accepter_share) = in_order(theirs);
        let shared = zeroize::Zeroizing::new(self.spake.finish(theirs).map_err(|_| Refused)?);
        debug_assert_eq!((dialer_share.len(), accepter_share.len()), (SHARE_BYTES, SHARE_BYTES));

        // Every field has a fixed width, so the transcript needs no lengths.
        let mut transcript = blake3::Hasher::new_derive_key("peerflock 1 admission");
        transcript.update(&[WIRE_VERSION]).update(&self.mesh).update(&self.ends.dialer.0).update(&self.ends.accepter.0);
        transcript.update(&dialer_share).update(&accepter_share).update(&self.ends.exporter);
        let transcript = *transcript.finalize().as_bytes();

        let tag = |context: &str| {
            let mut material = zeroize::Zeroizing::new(shared.to_vec());
            material.extend_from_slice(&transcript);
            let key = zeroize::Zeroizing::new(blake3::derive_key(context, &material));
            blake3::keyed_hash(&key, &transcript)
        };
        Ok(Tags { dialer: tag("peerflock 1 confirm A"), accepter: tag("peerflock 1 confirm B") })
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
        let (confirm, expected) = a.confirm(&passed_on(1, &share)).map_err(|_| "dialer, at SHARE")?;
        let welcome = b.verify(passed_on(2, &confirm).try_into().unwrap()).map_err(|_| "accepter, at CONFIRM")?;
        expected.verify(passed_on(3, &welcome).try_into().unwrap()).map_err(|_| "dialer, at WELCOME")
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
