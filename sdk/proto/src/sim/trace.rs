//! What was sent, when and by whom, as one hash.

use crate::time::Time;

/// Records hashed at once: long stretches are hashed several times as fast as short ones.
const STRETCH_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Trace {
    hasher: blake3::Hasher,
    recent: Vec<u8>,
}

impl Trace {
    pub(super) fn record(&mut self, now: Time, index: usize, bytes: &[u8]) {
        self.recent.extend_from_slice(&now.0.to_le_bytes());
        self.recent.extend_from_slice(&(index as u64).to_le_bytes());
        self.recent.extend_from_slice(bytes);
        if self.recent.len() >= STRETCH_BYTES {
            self.hasher.update(&self.recent);
            self.recent.clear();
        }
    }

    pub(super) fn hash(&self) -> [u8; 32] {
        *self.hasher.clone().update(&self.recent).finalize().as_bytes()
    }
}
