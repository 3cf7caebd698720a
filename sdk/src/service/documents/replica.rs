//! One member's copy of a document: edited, compared, merged, compacted. No bytes from others bring it down or fill the memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use yrs::updates::decoder::Decode;
use yrs::{ClientID, Doc, Options, ReadTxn, StateVector, Transact, Transaction, TransactionMut, Update};

use super::EditError;
use super::scan::{WRITER_MAX, scan};

/// Longest document, in bytes as it is kept, without what was deleted.
pub const DOCUMENT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Shared texts, lists and maps inside others, in one document.
pub const NESTED_MAX: usize = 1_000;
/// Programs that ever wrote to a document: each start of one counts.
pub const WRITERS_MAX: usize = 2_048;
/// Changes are put together with the rest when there are so many bytes of them, or as many as the rest.
const LOG_BYTES_MIN: usize = 64 * 1024;

/// A copy of a document.
pub struct Replica {
    doc: Doc,
    writer: u64,
    /// All up to some change, in one piece, and the changes since: what `doc` is made from again if something goes wrong.
    base: Bytes,
    log: Vec<Bytes>,
    log_bytes: usize,
    nested: usize,
    version: Version,
}

/// What a copy has in it. Equal versions are equal documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// How many changes of each writer.
    pub(super) clocks: BTreeMap<u64, u32>,
    /// Of those, and of what was deleted.
    pub(super) hash: [u8; 16],
}

/// Why an update was not taken. The copy is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is none, or of a sort that is not taken.
    #[error("it is no update of a document, or holds what no document may hold")]
    Malformed,
    /// It builds on changes that are not here.
    #[error("it builds on changes that are not here yet")]
    Missing,
    /// The document would be too long, too deep or have too many writers.
    #[error("the document would exceed its limits")]
    TooLong,
}

impl Replica {
    /// An empty document. No two copies in the world may have the same `writer`, of which 53 bits count.
    pub fn new(writer: u64) -> Self {
        let writer = writer & WRITER_MAX;
        let mut replica = Self {
            doc: empty(writer),
            writer,
            base: Bytes::from_static(&[0, 0]),
            log: Vec::new(),
            log_bytes: 0,
            nested: 0,
            version: Version::default(),
        };
        replica.version = replica.look();
        replica
    }

    /// What [`encode`](Self::encode) gave.
    ///
    /// # Errors
    /// When it is something else.
    pub fn load(writer: u64, bytes: &[u8]) -> Result<Self, Refusal> {
        let mut replica = Self::new(writer);
        replica.take(bytes)?;
        Ok(replica)
    }

    /// Edits it; what the others need to do the same, if anything changed.
    ///
    /// # Errors
    /// When the document would exceed its limits, or holds what the others would not take. It is as it was then.
    pub fn edit<R>(&mut self, edit: impl FnOnce(&mut TransactionMut<'_>) -> R) -> Result<(R, Option<Bytes>), EditError> {
        let mut txn = self.doc.transact_mut();
        let result = edit(&mut txn);
        txn.commit();
        let update = Bytes::from(txn.encode_update_v1());
        drop(txn);
        let version = self.look();
        if version == self.version {
            return Ok((result, None));
        }
        match scan(&update) {
            Ok(found) => {
                self.keep(update.clone(), found.nested);
                self.version = version;
            }
            Err(_) => {
                self.restore();
                return Err(EditError::Unsupported);
            }
        }
        if self.is_too_long() {
            self.log.pop();
            self.restore();
            return Err(EditError::TooLong);
        }
        Ok((result, Some(update)))
    }

    /// Looks at it.
    pub fn read<R>(&self, read: impl FnOnce(&Transaction<'_>) -> R) -> R {
        read(&self.doc.transact())
    }

    /// Merges what others did; whether anything was new.
    ///
    /// # Errors
    /// When it cannot be. The document is as it was then.
    pub fn take(&mut self, update: &[u8]) -> Result<bool, Refusal> {
        let found = scan(update).map_err(|_| Refusal::Malformed)?;
        if update.len() > DOCUMENT_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let doc = &self.doc;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            let update = Update::decode_v1(update).map_err(|_| Refusal::Malformed)?;
            let mut txn = doc.transact_mut();
            let here = txn.state_vector();
            if update.state_vector_lower().iter().any(|(writer, from)| *from > here.get(writer)) {
                return Err(Refusal::Missing);
            }
            txn.apply_update(update).map_err(|_| Refusal::Malformed)?;
            txn.commit();
            if txn.has_missing_updates() { Err(Refusal::Missing) } else { Ok(()) }
        }));
        let applied = applied.unwrap_or_else(|_| {
            tracing::warn!(target: "peerflock::documents", "an update on which the library failed");
            Err(Refusal::Malformed)
        });
        if let Err(refusal) = applied {
            self.restore();
            return Err(refusal);
        }
        let version = self.look();
        if version == self.version {
            return Ok(false);
        }
        self.keep(Bytes::copy_from_slice(update), found.nested);
        self.version = version;
        if self.is_too_long() {
            self.log.pop();
            self.restore();
            return Err(Refusal::TooLong);
        }
        Ok(true)
    }

    /// What one lacks who has this.
    pub fn since(&self, theirs: &Version) -> Bytes {
        let mut vector = StateVector::default();
        for (writer, clock) in &theirs.clocks {
            vector.set_max(ClientID::new(*writer & WRITER_MAX), *clock);
        }
        self.doc.transact().encode_diff_v1(&vector).into()
    }

    /// All of it, without what was deleted.
    pub fn encode(&self) -> Bytes {
        self.doc.transact().encode_state_as_update_v1(&StateVector::default()).into()
    }

    /// What it has in it.
    pub fn version(&self) -> &Version {
        &self.version
    }

    fn keep(&mut self, update: Bytes, nested: usize) {
        self.nested += nested;
        self.log_bytes += update.len();
        self.log.push(update);
    }

    /// Puts base and changes together where that pays, and says whether the document is within its limits. If it is not, the last
    /// change is still the last of the log.
    fn is_too_long(&mut self) -> bool {
        let within = self.base.len() + self.log_bytes <= DOCUMENT_BYTES_MAX && self.nested <= NESTED_MAX;
        if self.version.clocks.len() > WRITERS_MAX {
            return true;
        }
        if within && self.log_bytes <= LOG_BYTES_MIN.max(self.base.len()) {
            return false;
        }
        let all = self.encode();
        let nested = scan(&all).map_or(usize::MAX, |found| found.nested);
        if all.len() > DOCUMENT_BYTES_MAX || nested > NESTED_MAX {
            return true;
        }
        (self.base, self.nested, self.log_bytes) = (all, nested, 0);
        self.log.clear();
        false
    }

    /// Makes the document anew from what is known to be good.
    fn restore(&mut self) {
        self.doc = empty(self.writer);
        self.log_bytes = self.log.iter().map(Bytes::len).sum();
        {
            let mut txn = self.doc.transact_mut();
            for update in std::iter::once(&self.base).chain(&self.log) {
                if let Ok(update) = Update::decode_v1(update) {
                    // It was applied once: it can be again.
                    _ = txn.apply_update(update);
                }
            }
        }
        self.nested = scan(&self.encode()).map_or(NESTED_MAX, |found| found.nested);
        self.version = self.look();
    }

    fn look(&self) -> Version {
        let txn = self.doc.transact();
        let snapshot = txn.snapshot();
        let clocks: BTreeMap<u64, u32> =
            snapshot.state_map.iter().filter(|(_, clock)| **clock > 0).map(|(writer, clock)| (writer.get(), *clock)).collect();
        let mut hash = blake3::Hasher::new();
        for (writer, clock) in &clocks {
            hash.update(&writer.to_le_bytes()).update(&clock.to_le_bytes());
        }
        let mut deleted: BTreeMap<u64, Vec<(u32, u32)>> = BTreeMap::new();
        for (writer, ranges) in snapshot.delete_set.iter() {
            deleted.entry(writer.get()).or_default().extend(ranges.iter().map(|range| (range.start, range.end)));
        }
        for (writer, mut ranges) in deleted {
            ranges.sort_unstable();
            hash.update(&writer.to_le_bytes());
            let mut ranges = ranges.into_iter().filter(|(start, end)| start < end);
            let mut open = ranges.next();
            // However a copy came to know of it, adjacent ranges are one.
            while let Some((start, end)) = open {
                open = ranges.next();
                match &mut open {
                    Some(next) if next.0 <= end => *next = (start, end.max(next.1)),
                    _ => drop(hash.update(&start.to_le_bytes()).update(&end.to_le_bytes())),
                }
            }
        }
        Version { clocks, hash: hash.finalize().as_bytes().first_chunk().copied().unwrap_or_default() }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("writer", &self.writer)
            .field("bytes", &(self.base.len() + self.log_bytes))
            .finish_non_exhaustive()
    }
}

impl Version {
    /// Whether there are changes in here that `other` does not have.
    pub(super) fn is_ahead_of(&self, other: &Self) -> bool {
        self.clocks.iter().any(|(writer, clock)| other.clocks.get(writer).is_none_or(|theirs| clock > theirs))
    }
}

/// The same options for all: who writes is all that differs.
fn empty(writer: u64) -> Doc {
    Doc::with_options(Options::with_guid_and_client_id("document".into(), ClientID::new(writer)))
}

#[cfg(test)]
#[path = "replica_tests.rs"]
mod tests;
