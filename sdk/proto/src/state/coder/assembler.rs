//! What items make of a baseline, parts put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::record::{Edit, Item, Said};
use crate::config::Limits;
use crate::id::EntityId;
use crate::state::registry::REFS_MAX;
use crate::state::snapshot::{Record, Snapshot};
use crate::state::{KindId, Value};
use crate::wire::{DecodeError, codec};

/// The records that items make of a baseline's: of a whole snapshot, or of one piece without its split items.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    records: BTreeMap<EntityId, Record>,
    parts: BTreeMap<(EntityId, KindId), Parts>,
}

/// What is there of one long value.
#[derive(Debug, Default)]
struct Parts {
    total: usize,
    got: usize,
    parts: Vec<(usize, Bytes)>,
}

impl Assembler {
    /// Adds what one item says. Items of one entity may come in any order of pieces.
    pub(crate) fn add(&mut self, item: Item, baseline: Option<&Snapshot>, limits: &Limits) -> Result<(), DecodeError> {
        if self.records.len() > limits.entities_per_origin {
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        let record = match item.said {
            Said::Replaced | Said::Gone => return Ok(()),
            Said::Changed => {
                let old = baseline.and_then(|baseline| baseline.get(&item.entity)).ok_or(DecodeError::Malformed)?;
                self.records.entry(item.entity).or_insert_with(|| Record::clone(old))
            }
            Said::New { number, orphan } => {
                self.records.entry(item.entity).or_insert_with(|| Record::new(item.entity, number, orphan))
            }
        };
        for (kind, edit) in item.edits {
            match edit {
                Edit::Set(value) => record.set(kind, value),
                Edit::Unset => record.unset(kind),
                Edit::Part { total, offset, bytes } => {
                    // The blob holds a value of at most so many bytes and its references.
                    if total > limits.component_bytes + 64 * REFS_MAX {
                        return Err(DecodeError::TooLong(limits.component_bytes));
                    }
                    // Room is made once all of it is there: a total costs nothing to say.
                    let parts = self.parts.entry((item.entity, kind)).or_default();
                    parts.got += bytes.len();
                    if bytes.is_empty() || parts.got > total || (parts.total != total && parts.total > 0) {
                        return Err(DecodeError::Malformed);
                    }
                    parts.total = total;
                    parts.parts.push((offset, bytes));
                }
            }
        }
        Ok(())
    }

    /// The changed and new records, sorted. Fails if a value's parts are not all there.
    pub(crate) fn finish(mut self) -> Result<Vec<Arc<Record>>, DecodeError> {
        for ((entity, kind), Parts { total, got, parts }) in self.parts {
            if got != total {
                return Err(DecodeError::Malformed);
            }
            let mut blob = vec![0; total];
            for (offset, bytes) in parts {
                let place = offset.checked_add(bytes.len()).and_then(|end| blob.get_mut(offset..end));
                place.ok_or(DecodeError::Malformed)?.copy_from_slice(&bytes);
            }
            let (bytes, refs): (Bytes, Vec<EntityId>) = codec::decode(&blob)?;
            if let Some(record) = self.records.get_mut(&entity) {
                record.set(kind, Value::Bytes { bytes, refs: refs.into() });
            }
        }
        Ok(self.records.into_values().map(Arc::new).collect())
    }
}
