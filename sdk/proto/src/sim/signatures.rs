//! Each signature checked once, however many nodes of the thread get it: most of what a simulated mesh costs is a hundred nodes
//! checking the same one.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::id::{PeerId, Signature};

/// Most verdicts kept.
const KNOWN_MAX: usize = 65_536;

thread_local! {
    static KNOWN: RefCell<Option<BTreeMap<[u8; 32], bool>>> = const { RefCell::new(None) };
}

/// From now on this thread checks no signature twice. For tests of behavior; what measures cost must do without.
pub fn remember_signatures() {
    KNOWN.with_borrow_mut(|known| *known = Some(known.take().unwrap_or_default()));
}

pub(crate) fn checked_once(peer: &PeerId, message: &[u8], signature: &Signature, check: impl FnOnce() -> bool) -> bool {
    KNOWN.with_borrow_mut(|known| {
        let Some(known) = known else { return check() };
        let key = *blake3::Hasher::new().update(&peer.0).update(&signature.0).update(message).finalize().as_bytes();
        let verdict = *known.entry(key).or_insert_with(check);
        if known.len() > KNOWN_MAX {
            known.pop_first();
        }
        verdict
    })
}
