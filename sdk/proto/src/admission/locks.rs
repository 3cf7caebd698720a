//! One lock after another: what opens the mesh now, what opened it before, and who may still come in with that.
//!
//! Whoever is removed still knows the password, and could come back under another name. So with a removal the mesh gets another lock: 32 random
//! bytes that all members but the removed are told, each in a letter of its own. A member that was away when that happened knocks with the
//! lock it knows; it is let in if the letter that waits for it exists, and reads it.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MeshKey;
use crate::id::{MeshId, PeerId};

/// Former locks that are remembered, for members who missed the change.
const FORMER_MAX: usize = 8;

/// Which lock: how many there were before, and by which record it came.
///
/// Where two halves of a mesh each get a new lock while they are apart, both count the same; the smaller record is the one that all keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockId {
    pub(crate) epoch: u32,
    /// The first bytes of the record's hash; 0 for the lock that the mesh began with.
    pub(crate) record: u64,
}

impl LockId {
    /// Whatever opens the mesh now: said by a newcomer, who was told a password or a ticket and nothing else.
    pub(crate) const NEWEST: Self = Self { epoch: u32::MAX, record: 0 };

    /// Whether everyone who knows both keeps this one.
    pub(crate) fn replaces(self, other: Self) -> bool {
        (self.epoch, other.record) > (other.epoch, self.record)
    }
}

/// With which key to answer one who knocks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Knock<'a> {
    /// This one.
    With(&'a MeshKey, LockId),
    /// With none: it names a lock that we do not know. Ours is older, or of another half of the mesh.
    Unknown,
}

/// The locks of the mesh, the present one and those before it.
pub(crate) struct Locks {
    current: Lock,
    /// Newest first.
    former: VecDeque<Lock>,
    /// Those to whom the present lock was told when it came.
    told: BTreeSet<u64>,
}

struct Lock {
    id: LockId,
    key: MeshKey,
    /// What the key is made of, where the mesh chose that itself.
    secret: Option<Zeroizing<[u8; 32]>>,
}

impl Locks {
    pub(crate) fn new(key: MeshKey) -> Self {
        let current = Lock { id: LockId::default(), key, secret: None };
        Self { current, former: VecDeque::new(), told: BTreeSet::new() }
    }

    pub(crate) fn mesh(&self) -> MeshId {
        self.current.key.mesh()
    }

    pub(crate) fn id(&self) -> LockId {
        self.current.id
    }

    /// What a ticket must hold to open the mesh, if it is another than at our start.
    pub(crate) fn secret(&self) -> Option<&Zeroizing<[u8; 32]>> {
        self.current.secret.as_ref()
    }

    /// A newcomer came in, and is told which lock that was.
    pub(crate) fn called(&mut self, id: LockId) {
        self.current.id = id;
    }

    /// Whether that member was told of the present lock, or nobody had to be.
    pub(crate) fn was_told(&self, peer: &PeerId) -> bool {
        self.told.contains(&short(peer))
    }

    /// Those who were told.
    pub(crate) fn tell(&mut self, told: impl IntoIterator<Item = u64>) {
        self.told = told.into_iter().collect();
    }

    /// The key for one who knocks and names a lock.
    pub(crate) fn answer(&self, peer: &PeerId, named: LockId) -> Knock<'_> {
        if named == LockId::NEWEST || named == self.current.id {
            return Knock::With(&self.current.key, self.current.id);
        }
        match self.former.iter().find(|lock| lock.id == named) {
            Some(lock) if self.was_told(peer) => Knock::With(&lock.key, lock.id),
            // It is told nothing but what any stranger is: that it does not know the password.
            Some(_) => Knock::With(&self.current.key, self.current.id),
            None => Knock::Unknown,
        }
    }

    /// The key with which to knock at `peer`, which did not know `misses` newer ones: an older one only for a member who may come in with it.
    pub(crate) fn knock(&self, peer: &PeerId, misses: usize) -> (&MeshKey, LockId) {
        let former = misses.checked_sub(1).and_then(|index| self.former.get(index)).filter(|_| self.was_told(peer));
        let lock = former.unwrap_or(&self.current);
        (&lock.key, lock.id)
    }

    /// How many locks there are to try.
    pub(crate) fn len(&self) -> usize {
        1 + self.former.len()
    }

    /// The mesh has another lock.
    pub(crate) fn change(&mut self, id: LockId, secret: Zeroizing<[u8; 32]>) {
        let key = MeshKey::from_secret(self.mesh(), *secret);
        let former = std::mem::replace(&mut self.current, Lock { id, key, secret: Some(secret) });
        self.former.push_front(former);
        self.former.truncate(FORMER_MAX);
    }

    /// Proves to the other end of a link that we have the present lock: `exporter` makes the proof of no use anywhere else.
    pub(crate) fn prove(&self, prover: &PeerId, exporter: &[u8; 32]) -> [u8; 32] {
        self.current.tag(prover, exporter).into()
    }

    /// Whether that is `prover`'s proof that it has the present lock. In constant time.
    pub(crate) fn is_proof(&self, prover: &PeerId, exporter: &[u8; 32], proof: [u8; 32]) -> bool {
        self.current.tag(prover, exporter) == blake3::Hash::from(proof)
    }
}

impl Lock {
    fn tag(&self, prover: &PeerId, exporter: &[u8; 32]) -> blake3::Hash {
        let key = Zeroizing::new(blake3::derive_key("peerflock 1 lock proof", self.key.bytes()));
        blake3::Hasher::new_keyed(&key).update(&prover.0).update(exporter).finalize()
    }
}

/// Enough of a peer's key to find it in a list.
pub(crate) fn short(peer: &PeerId) -> u64 {
    peer.0.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locks").field("id", &self.current.id).field("former", &self.former.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: PeerId = PeerId([1; 32]);
    const EVE: PeerId = PeerId([2; 32]);

    fn id(epoch: u32, record: u64) -> LockId {
        LockId { epoch, record }
    }

    fn changed() -> Locks {
        let mut locks = Locks::new(MeshKey::from_secret(MeshId::from_name("test"), [7; 32]));
        locks.change(id(1, 5), Zeroizing::new([8; 32]));
        locks.tell([short(&ANN)]);
        locks
    }

    fn answered(locks: &Locks, peer: &PeerId, named: LockId) -> Option<LockId> {
        match locks.answer(peer, named) {
            Knock::With(_, id) => Some(id),
            Knock::Unknown => None,
        }
    }

    #[test]
    fn the_old_lock_opens_only_to_whom_a_letter_waits_for() {
        let locks = changed();
        assert_eq!(answered(&locks, &ANN, id(0, 0)), Some(id(0, 0)));
        assert_eq!(answered(&locks, &EVE, id(0, 0)), Some(id(1, 5)), "which it cannot open");
        assert_eq!(answered(&locks, &EVE, LockId::NEWEST), Some(id(1, 5)));
        assert_eq!(answered(&locks, &ANN, id(1, 6)), None);
        assert_eq!(answered(&locks, &ANN, id(2, 6)), None);
        assert_eq!([0, 1, 2].map(|misses| locks.knock(&ANN, misses).1), [id(1, 5), id(0, 0), id(1, 5)]);
        assert_eq!(locks.knock(&EVE, 1).1, id(1, 5), "nobody is let in with what the removed know");
    }

    #[test]
    fn of_two_locks_all_keep_the_same() {
        assert!(id(2, 9).replaces(id(1, 1)) && !id(1, 1).replaces(id(2, 9)));
        assert!(id(1, 1).replaces(id(1, 2)) && !id(1, 2).replaces(id(1, 1)) && !id(1, 1).replaces(id(1, 1)));
    }

    #[test]
    fn a_proof_is_of_one_end_of_one_link_and_one_lock() {
        let (locks, other) = (changed(), Locks::new(MeshKey::from_secret(MeshId::from_name("test"), [7; 32])));
        let proof = locks.prove(&ANN, &[3; 32]);
        assert!(locks.is_proof(&ANN, &[3; 32], proof));
        assert!(!locks.is_proof(&EVE, &[3; 32], proof) && !locks.is_proof(&ANN, &[4; 32], proof));
        assert!(!other.is_proof(&ANN, &[3; 32], proof));
    }

    #[test]
    fn former_locks_are_bounded_and_nothing_is_printed() {
        let mut locks = changed();
        for epoch in 2..100 {
            locks.change(id(epoch, 1), Zeroizing::new([0xab; 32]));
        }
        assert_eq!(locks.len(), 1 + FORMER_MAX);
        assert!(!format!("{locks:?}").contains("171"));
    }
}
