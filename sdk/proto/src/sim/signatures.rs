//! Each signature checked once, however many nodes of the thread get it: most of what a simulated mesh costs is a hundred nodes
//! checking the same one.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use crate::id::{PeerId, Signature};

/// Most verdicts kept; the oldest go first.
const KNOWN_MAX: usize = 65_536;

thread_local! {
    static KNOWN: RefCell<Known> = const { RefCell::new(Known::NOTHING) };
}

#[derive(Debug)]
struct Known {
    remembers: bool,
    /// By the first half of the signature, which no two have in common by chance.
    verdicts: BTreeMap<[u8; 32], Verdict>,
    order: VecDeque<[u8; 32]>,
    checks: SignatureChecks,
}

/// What was checked, whole: comparing it is cheaper than any hash.
#[derive(Debug)]
struct Verdict {
    peer: PeerId,
    message: Box<[u8]>,
    signature: Signature,
    good: bool,
}

impl Known {
    const NOTHING: Self = Self {
        remembers: false,
        verdicts: BTreeMap::new(),
        order: VecDeque::new(),
        checks: SignatureChecks { asked: 0, made: 0 },
    };
}

/// How many signatures the nodes of this thread asked to have checked, and how many were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignatureChecks {
    /// As many as would be checked by as many real peers.
    pub asked: u64,
    /// Fewer, where verdicts are remembered.
    pub made: u64,
}

/// From now on this thread checks no signature twice. For tests of behavior; what measures cost must do without, or add what was
/// not checked: see [`signature_checks`].
pub fn remember_signatures() {
    KNOWN.with_borrow_mut(|known| known.remembers = true);
}

/// The checks of this thread so far.
pub fn signature_checks() -> SignatureChecks {
    KNOWN.with_borrow(|known| known.checks)
}

pub(crate) fn checked_once(peer: &PeerId, message: &[u8], signature: &Signature, check: impl FnOnce() -> bool) -> bool {
    KNOWN.with_borrow_mut(|known| {
        known.checks.asked += 1;
        if !known.remembers {
            known.checks.made += 1;
            return check();
        }
        let mut key = [0; 32];
        key.copy_from_slice(&signature.0[..32]);
        let known_one = known.verdicts.get(&key);
        if let Some(known) = known_one.filter(|known| known.is_of(peer, message, signature)) {
            return known.good;
        }
        let is_new = known_one.is_none();
        known.checks.made += 1;
        let good = check();
        known.verdicts.insert(key, Verdict { peer: *peer, message: message.into(), signature: *signature, good });
        if is_new {
            known.order.push_back(key);
        }
        if known.order.len() > KNOWN_MAX
            && let Some(oldest) = known.order.pop_front()
        {
            known.verdicts.remove(&oldest);
        }
        good
    })
}

impl Verdict {
    fn is_of(&self, peer: &PeerId, message: &[u8], signature: &Signature) -> bool {
        self.signature == *signature && self.peer == *peer && *self.message == *message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    #[test]
    fn a_verdict_is_remembered_for_what_it_was_about() {
        remember_signatures();
        let identity = Identity::from_seed([1; 32]);
        let (peer, signature) = (identity.peer_id(), Signature([7; 64]));
        let before = signature_checks();
        assert!(checked_once(&peer, b"one", &signature, || true));
        assert!(checked_once(&peer, b"one", &signature, || unreachable!("remembered")));
        assert!(!checked_once(&peer, b"other", &signature, || false));
        let after = signature_checks();
        assert_eq!((after.asked - before.asked, after.made - before.made), (3, 2));
    }
}
