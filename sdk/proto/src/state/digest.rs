//! A hash of an origin's world at one of its ticks, told by the origin itself now and then: what others were lent of it by a neighbor
//! is checked against that. The checks of single pieces (`coder/check`) tell mistakes; this tells lies.

use std::sync::Arc;

use super::snapshot::{Record, Snapshot};
use super::{Orphan, Value};
use crate::id::EntityId;

/// Nobody finds another world with the same one.
pub(crate) const DIGEST_BYTES: usize = 16;

/// BLAKE3 over a snapshot, cut short.
pub(crate) type StateDigest = [u8; DIGEST_BYTES];

/// Hashed at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// Makes digests, and keeps the costly half for as long as the records stay the same.
#[derive(Debug, Default)]
pub(crate) struct Digester {
    newest: Option<(Arc<Vec<Arc<Record>>>, blake3::Hash)>,
}

impl Digester {
    pub(crate) fn digest(&mut self, snapshot: &Snapshot) -> StateDigest {
        let records = match &self.newest {
            Some((records, hash)) if Arc::ptr_eq(records, &snapshot.records) => *hash,
            _ => {
                let hash = hash(&snapshot.records);
                self.newest = Some((snapshot.records.clone(), hash));
                hash
            }
        };
        let mut hasher = blake3::Hasher::new_derive_key("peerflock 1 state digest");
        hasher.update(&snapshot.tick.0.to_le_bytes());
        hasher.update(&snapshot.at.0.to_le_bytes());
        hasher.update(&[snapshot.partial.into()]);
        hasher.update(records.as_bytes());
        hasher.update(&snapshot.models.to_bytes());
        let mut digest = [0; DIGEST_BYTES];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

fn hash(records: &[Arc<Record>]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut bytes = Vec::with_capacity(CHUNK_BYTES + 1_024);
    for record in records {
        put_entity(&mut bytes, &record.entity);
        put(&mut bytes, record.number);
        bytes.push(match record.orphan {
            Orphan::Vanish => 0,
            Orphan::Adopt => 1,
        });
        put(&mut bytes, record.components().len() as u32);
        for (kind, value) in record.components() {
            put(&mut bytes, kind.0.into());
            match value {
                Value::Fields(fields) => {
                    bytes.push(0);
                    put(&mut bytes, fields.len() as u32);
                    fields.iter().for_each(|field| put(&mut bytes, *field as u32));
                }
                Value::Bytes { bytes: content, refs } => {
                    bytes.push(1);
                    put(&mut bytes, content.len() as u32);
                    bytes.extend_from_slice(content);
                    put(&mut bytes, refs.len() as u32);
                    refs.iter().for_each(|entity| put_entity(&mut bytes, entity));
                }
            }
        }
        if bytes.len() >= CHUNK_BYTES {
            hasher.update(&bytes);
            bytes.clear();
        }
    }
    hasher.update(&bytes);
    hasher.finalize()
}

fn put(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_entity(bytes: &mut Vec<u8>, entity: &EntityId) {
    bytes.extend_from_slice(&entity.spawner.0);
    bytes.extend_from_slice(&entity.boot.0.to_le_bytes());
    put(bytes, entity.counter);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Boot, PeerId, Tick};
    use crate::state::{KindId, Registry, coder::Models};
    use crate::time::MeshTime;

    fn record(counter: u32, value: Value) -> Record {
        let entity = EntityId { spawner: PeerId([1; 32]), boot: Boot(7), counter };
        let mut record = Record::new(entity, 0, Orphan::Vanish);
        record.set(KindId(0), value);
        record
    }

    fn snapshot(records: Vec<Record>) -> Snapshot {
        let records = Arc::new(records.into_iter().map(Arc::new).collect());
        Snapshot::whole(Tick(5), MeshTime(64), records, Arc::new(Models::new(&Registry::default())))
    }

    #[test]
    fn whatever_is_another_has_another_digest() {
        let truth = || vec![record(1, Value::fields([1, 2])), record(2, Value::bytes(b"ab".as_slice()))];
        let of = |snapshot: &Snapshot| Digester::default().digest(snapshot);
        let mut seen = vec![of(&snapshot(truth()))];
        assert_eq!(seen[0], of(&snapshot(truth())));
        let changes: [fn(&mut Vec<Record>); 10] = [
            |records| records[0].set(KindId(0), Value::fields([1, 3])),
            |records| records[0].set(KindId(0), Value::fields([1, 2, 0])),
            |records| records[1].set(KindId(0), Value::bytes(b"abc".as_slice())),
            |records| records[0].set(KindId(1), Value::fields([0])),
            |records| records[0].number += 1,
            |records| records[0].orphan = Orphan::Adopt,
            |records| records[0].entity.counter = 0,
            |records| records[0].entity.boot = Boot(8),
            |records| records[0].entity.spawner = PeerId([2; 32]),
            |records| _ = records.pop(),
        ];
        for change in changes {
            let mut records = truth();
            change(&mut records);
            seen.push(of(&snapshot(records)));
        }
        let changes: [fn(&mut Snapshot); 3] = [|one| one.tick.0 += 1, |one| one.at.0 += 64, |one| one.partial = true];
        for change in changes {
            let mut other = snapshot(truth());
            change(&mut other);
            seen.push(of(&other));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn what_is_kept_of_the_last_one_says_nothing_of_others() {
        let mut digester = Digester::default();
        let (one, other) = (snapshot(vec![record(1, Value::fields([1]))]), snapshot(vec![record(1, Value::fields([2]))]));
        let later = Snapshot { tick: Tick(6), ..one.clone() };
        for snapshot in [&one, &other, &one, &later] {
            assert_eq!(digester.digest(snapshot), Digester::default().digest(snapshot));
        }
    }
}
