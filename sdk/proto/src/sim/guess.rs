//! What somebody who would like to know the password can compute from what was said: the real code of the handshake, for tests that
//! play that somebody.

use bytes::Bytes;
use rand_core::{CryptoRng, RngCore};

use crate::admission::handshake::{Ends, Proofs};
use crate::admission::{Accepter, Dialer, LockId, MeshKey};
use crate::id::{Boot, MeshId, PeerId};
use crate::wire::{ADMISSION_FRAME_BYTES_MAX, Confirm, Frame};

/// The two ends of a connection as one of them, or somebody in between, sees it.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Whose mesh it is.
    pub mesh: MeshId,
    /// Who dialed.
    pub dialer: PeerId,
    /// Who accepted.
    pub accepter: PeerId,
    /// What TLS gives to both ends of this connection.
    pub exporter: [u8; 32],
}

impl View {
    fn ends(&self) -> Ends {
        Ends { dialer: self.dialer, accepter: self.accepter, exporter: self.exporter }
    }
}

/// What SPAKE2 takes for the password: what a word of a dictionary comes to once it is stretched.
pub fn password(key: &MeshKey) -> [u8; 32] {
    *key.bytes()
}

/// The half of the exchange that HELLO or SHARE carries.
pub fn share(frame: &[u8]) -> Option<Bytes> {
    match Frame::decode(frame, ADMISSION_FRAME_BYTES_MAX) {
        Ok(Frame::Hello { share, .. } | Frame::Share { share }) => Some(share),
        _ => None,
    }
}

/// A HELLO that carries this half.
pub fn hello(share: Bytes) -> Option<Bytes> {
    Frame::Hello { lock: LockId::NEWEST, share }.encode()
}

/// A SHARE that carries this half.
pub fn answer(share: Bytes) -> Option<Bytes> {
    Frame::Share { share }.encode()
}

/// A dialer that takes some key for the right one.
#[derive(Debug)]
pub struct Dialing(Dialer);

impl Dialing {
    /// Begins; its half of the exchange.
    pub fn start(view: &View, key: &MeshKey, rng: impl RngCore + CryptoRng) -> (Self, Bytes) {
        let (dialer, share) = Dialer::start(key, view.ends(), rng);
        (Self(dialer), share)
    }

    /// With the other half: what it expects of the frames.
    pub fn expects(self, theirs: &[u8]) -> Option<Expected> {
        let (dialer, accepter) = self.0.confirm(theirs).ok()?;
        Some(Expected(Proofs { dialer, accepter }))
    }
}

/// An accepter that takes `key` for the right one: its half, and what it expects of the frames.
pub fn accept(view: &View, key: &MeshKey, theirs: &[u8], rng: impl RngCore + CryptoRng) -> Option<(Bytes, Expected)> {
    let (accepter, share) = Accepter::answer(key, view.ends(), theirs, rng).ok()?;
    Some((share, Expected(accepter.into_proofs())))
}

/// What CONFIRM and WELCOME must prove, if what somebody takes for the shared secret is it.
#[derive(Debug)]
pub struct Expected(Proofs);

impl Expected {
    /// From the output of SPAKE2 and both its halves.
    pub fn new(view: &View, shared: &[u8], dialer_share: &[u8], accepter_share: &[u8]) -> Self {
        Self(Proofs::new(shared, &view.mesh.0, &view.ends(), dialer_share, accepter_share))
    }

    /// A CONFIRM that proves what the dialer takes for the password.
    pub fn confirm(&self, boot: Boot, registry: [u8; 16]) -> Option<Bytes> {
        let confirm = Confirm { tag: [0; 32], boot, links: 0, registry, certificate: None, hidden: false };
        Frame::Confirm(confirm).proved(&self.0.dialer).encode()
    }

    /// Whether a recorded frame is a CONFIRM or a WELCOME, and proves just that: then the guess was right.
    pub fn proves(&self, frame: &[u8]) -> bool {
        let Ok(frame) = Frame::decode(frame, ADMISSION_FRAME_BYTES_MAX) else { return false };
        match &frame {
            Frame::Confirm(Confirm { tag, .. }) => self.0.dialer.verify(&frame.unproved(), *tag).is_ok(),
            Frame::Welcome(welcome) => self.0.accepter.verify(&frame.unproved(), welcome.tag).is_ok(),
            _ => false,
        }
    }
}
