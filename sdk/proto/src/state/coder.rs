//! Snapshots to pieces and back: differences from a baseline, cut so that each piece decodes alone.
//!
//! A piece covers a run of the baseline's records and says of each whether it is unchanged, changed or removed; then it names new
//! ones. Unchanged runs are counted, numbers are Elias-gamma coded: a plain coder, to be replaced behind the same two functions.
//! A record too long for one piece is *split* over several, its long values in parts; it is whole when all pieces are there.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::registry::{FIELDS_MAX, KINDS_MAX, REFS_MAX, Registry, Shape};
use super::snapshot::{Record, Snapshot};
use super::{KindId, Orphan, Value};
use crate::id::{Boot, EntityId, PeerId};
use crate::wire::bits::{BitReader, BitWriter, Mark};
use crate::wire::{DecodeError, codec};

/// Values longer than this travel in parts, in bytes.
const PART_BYTES: usize = 512;
/// Room left at a piece's end for what closes it, in bytes.
const CLOSING_BYTES: usize = 16;
/// Most records in one snapshot, whatever a piece says.
const RECORDS_MAX: usize = 1 << 20;

/// A decoded piece: what it says of the baseline's records from `start` to before `end`, and of new ones.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) items: Vec<Item>,
}

/// What a piece says of one entity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) entity: EntityId,
    pub(crate) said: Said,
    /// Other pieces say more of it.
    pub(crate) split: bool,
    edits: Vec<(KindId, Edit)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Changed,
    Removed,
    /// Given away and got back: some piece says it anew, at another number.
    Replaced,
    New {
        number: u32,
        orphan: Orphan,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Edit {
    Set(Value),
    Unset,
    Part { total: usize, offset: usize, bytes: Bytes },
}

/// `snapshot` as pieces of at most `piece_bytes`, as differences from `baseline`. At least one piece, though it may say nothing.
pub(crate) fn encode(snapshot: &Snapshot, baseline: Option<&Snapshot>, piece_bytes: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(piece_bytes);
    let base: &[Arc<Record>] = baseline.map_or(&[], |baseline| &baseline.records);
    let mut new = Vec::new();
    let mut records = snapshot.records.iter().peekable();
    for (index, old) in base.iter().enumerate() {
        while let Some(record) = records.next_if(|record| record.entity < old.entity) {
            new.push(record);
        }
        match records.next_if(|record| record.entity == old.entity) {
            None => encoder.removed(index, false),
            Some(record) if Arc::ptr_eq(record, old) || record == old => {}
            Some(record) if record.number != old.number || record.orphan != old.orphan => {
                encoder.removed(index, true);
                new.push(record);
            }
            Some(record) => encoder.changed(index, edits(record, Some(old)), Some(old)),
        }
    }
    new.extend(records);
    encoder.base_ends(base.len());
    for record in new {
        encoder.new_record(record);
    }
    encoder.finish()
}

/// What `bytes` say, as differences from `baseline`.
pub(crate) fn decode(bytes: &[u8], baseline: Option<&Snapshot>, registry: &Registry) -> Result<Piece, DecodeError> {
    let base: &[Arc<Record>] = baseline.map_or(&[], |baseline| &baseline.records);
    let mut decoder = Decoder { reader: BitReader::new(bytes), registry, spawners: Vec::new() };
    let start = decoder.reader.below(RECORDS_MAX)?;
    let mut cursor = start;
    let mut items = Vec::new();
    while decoder.reader.bit()? {
        cursor += decoder.reader.below(RECORDS_MAX)?;
        let old = base.get(cursor).ok_or(DecodeError::Malformed)?;
        if decoder.reader.bit()? {
            let said = if decoder.reader.bit()? { Said::Replaced } else { Said::Removed };
            items.push(Item { entity: old.entity, said, split: false, edits: Vec::new() });
        } else {
            let split = decoder.reader.bit()?;
            items.push(Item { entity: old.entity, said: Said::Changed, split, edits: decoder.edits(Some(old))? });
        }
        cursor += 1;
    }
    let end = cursor + decoder.reader.below(RECORDS_MAX)?;
    if start > base.len() || end > base.len() {
        return Err(DecodeError::Malformed);
    }
    while decoder.reader.bit()? {
        let entity = decoder.entity()?;
        let number = decoder.reader.unsigned()?;
        let orphan = if decoder.reader.bit()? { Orphan::Adopt } else { Orphan::Vanish };
        let split = decoder.reader.bit()?;
        items.push(Item { entity, said: Said::New { number, orphan }, split, edits: decoder.edits(None)? });
    }
    decoder.reader.finish()?;
    Ok(Piece { start, end, items })
}

/// The records that `items` make of `baseline`'s, parts put together: for a whole snapshot, or for one piece without its split items.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    records: BTreeMap<EntityId, Record>,
    removed: Vec<EntityId>,
    parts: BTreeMap<(EntityId, KindId), (Vec<u8>, usize)>,
}

impl Assembler {
    /// Adds what one item says. Items of one entity may come in any order of pieces.
    pub(crate) fn add(&mut self, item: Item, baseline: Option<&Snapshot>, component_bytes_max: usize) -> Result<(), DecodeError> {
        let record = match item.said {
            Said::Removed => {
                self.removed.push(item.entity);
                return Ok(());
            }
            Said::Replaced => return Ok(()),
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
                    // The blob holds a value of at most `component_bytes_max` and its references.
                    if total > component_bytes_max + 64 * REFS_MAX {
                        return Err(DecodeError::TooLong(component_bytes_max));
                    }
                    let (blob, got) = self.parts.entry((item.entity, kind)).or_insert_with(|| (vec![0; total], 0));
                    let place = blob.get_mut(offset..offset + bytes.len()).ok_or(DecodeError::Malformed)?;
                    place.copy_from_slice(&bytes);
                    *got += bytes.len();
                }
            }
        }
        Ok(())
    }

    /// The changed and new records, and the removed entities. Fails if a value's parts are not all there.
    pub(crate) fn finish(mut self) -> Result<(Vec<Arc<Record>>, Vec<EntityId>), DecodeError> {
        for ((entity, kind), (blob, got)) in self.parts {
            if got != blob.len() {
                return Err(DecodeError::Malformed);
            }
            let (bytes, refs): (Bytes, Vec<EntityId>) = codec::decode(&blob)?;
            if let Some(record) = self.records.get_mut(&entity) {
                record.set(kind, Value::Bytes { bytes, refs: refs.into() });
            }
        }
        Ok((self.records.into_values().map(Arc::new).collect(), self.removed))
    }
}

fn edits(record: &Record, old: Option<&Record>) -> Vec<(KindId, Edit)> {
    let mut edits = Vec::new();
    for (kind, value) in record.components() {
        if old.and_then(|old| old.get(*kind)) == Some(value) {
            continue;
        }
        match value {
            Value::Bytes { bytes, refs } if bytes.len() + 40 * refs.len() > PART_BYTES => {
                // The registry's limits on bytes and references keep the blob well within the codec's.
                let blob = codec::encode(&(bytes, &refs[..])).unwrap_or_default();
                let parts = (0..blob.len()).step_by(PART_BYTES).map(|offset| {
                    let end = (offset + PART_BYTES).min(blob.len());
                    (*kind, Edit::Part { total: blob.len(), offset, bytes: blob.slice(offset..end) })
                });
                edits.extend(parts);
            }
            _ => edits.push((*kind, Edit::Set(value.clone()))),
        }
    }
    let gone = old.iter().flat_map(|old| old.components()).filter(|(kind, _)| record.get(*kind).is_none());
    edits.extend(gone.map(|(kind, _)| (*kind, Edit::Unset)));
    edits
}

struct Encoder {
    piece_bytes: usize,
    pieces: Vec<Vec<u8>>,
    writer: BitWriter,
    /// The baseline record after the last one that the piece mentions.
    cursor: usize,
    in_base: bool,
    /// The spawners that the piece has named.
    spawners: Vec<(PeerId, Boot)>,
    /// Whether the piece says anything yet.
    empty: bool,
}

impl Encoder {
    fn new(piece_bytes: usize) -> Self {
        let mut encoder = Self {
            piece_bytes,
            pieces: Vec::new(),
            writer: BitWriter::default(),
            cursor: 0,
            in_base: true,
            spawners: Vec::new(),
            empty: true,
        };
        encoder.writer.unsigned(0);
        encoder
    }

    fn removed(&mut self, index: usize, replaced: bool) {
        let written = self.try_item(|encoder| {
            encoder.base_item(index);
            encoder.writer.bit(true);
            encoder.writer.bit(replaced);
            encoder.cursor = index + 1;
        });
        if !written {
            self.next_piece(index);
            self.base_item(index);
            self.writer.bit(true);
            self.writer.bit(replaced);
            self.cursor = index + 1;
        }
    }

    fn changed(&mut self, index: usize, edits: Vec<(KindId, Edit)>, old: Option<&Record>) {
        self.split_item(index, &edits, old, |encoder, split| {
            encoder.base_item(index);
            encoder.writer.bit(false);
            encoder.writer.bit(split);
            encoder.cursor = index + 1;
        });
    }

    /// No more is said of the baseline: the rest of its `length` records is unchanged.
    fn base_ends(&mut self, length: usize) {
        self.close_base(length);
    }

    fn new_record(&mut self, record: &Record) {
        let cursor = self.cursor;
        self.split_item(cursor, &edits(record, None), None, |encoder, split| {
            encoder.writer.bit(true);
            encoder.entity(&record.entity);
            encoder.writer.unsigned(record.number);
            encoder.writer.bit(record.orphan == Orphan::Adopt);
            encoder.writer.bit(split);
        });
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        self.writer.bit(false);
        self.pieces.push(self.writer.finish());
        self.pieces
    }

    /// Writes an item and its edits, over as many pieces as it takes.
    fn split_item(&mut self, index: usize, edits: &[(KindId, Edit)], old: Option<&Record>, head: impl Fn(&mut Self, bool)) {
        let has_parts = edits.iter().any(|(_, edit)| matches!(edit, Edit::Part { .. }));
        let whole = |encoder: &mut Self| {
            head(encoder, has_parts);
            encoder.edits(edits, old);
        };
        if self.try_item(whole) {
            return;
        }
        if !self.empty {
            self.next_piece(index);
            if self.try_item(whole) {
                return;
            }
        }
        let mut rest = edits;
        while !rest.is_empty() {
            // At least one edit goes into each piece: none is longer than a part and its head, which any piece holds.
            let mut count = rest.len();
            while count > 1
                && !self.try_item(|encoder| {
                    head(encoder, true);
                    encoder.edits(&rest[..count], old);
                })
            {
                count /= 2;
            }
            if count == 1 {
                head(self, true);
                self.edits(&rest[..1], old);
                self.empty = false;
            }
            rest = &rest[count..];
            if !rest.is_empty() {
                self.next_piece(index);
            }
        }
    }

    /// Writes an item; takes it back and returns false if the piece gets too long by it.
    fn try_item(&mut self, write: impl FnOnce(&mut Self)) -> bool {
        let (mark, cursor, spawners): (Mark, usize, usize) = (self.writer.mark(), self.cursor, self.spawners.len());
        write(self);
        if self.writer.len() + CLOSING_BYTES <= self.piece_bytes {
            self.empty = false;
            return true;
        }
        self.writer.rewind(mark);
        self.cursor = cursor;
        self.spawners.truncate(spawners);
        false
    }

    fn next_piece(&mut self, start: usize) {
        if self.in_base {
            // What lies between the last mention and the next piece's start is unchanged. A split record counts for both.
            self.writer.bit(false);
            self.writer.unsigned(start.saturating_sub(self.cursor) as u32);
        }
        self.writer.bit(false);
        let piece = std::mem::take(&mut self.writer).finish();
        self.pieces.push(piece);
        self.spawners.clear();
        self.empty = true;
        self.cursor = start;
        self.writer.unsigned(start as u32);
        if !self.in_base {
            self.writer.bit(false);
            self.writer.unsigned(0);
        }
    }

    fn close_base(&mut self, length: usize) {
        self.writer.bit(false);
        self.writer.unsigned(length.saturating_sub(self.cursor) as u32);
        self.cursor = length;
        self.in_base = false;
    }

    fn base_item(&mut self, index: usize) {
        self.writer.bit(true);
        self.writer.unsigned((index - self.cursor) as u32);
    }

    fn edits(&mut self, edits: &[(KindId, Edit)], old: Option<&Record>) {
        self.writer.unsigned(edits.len() as u32);
        for (kind, edit) in edits {
            self.writer.bits(u64::from(kind.0), 8);
            match edit {
                Edit::Set(Value::Fields(fields)) => {
                    self.writer.bits(0, 2);
                    let old = match old.and_then(|old| old.get(*kind)) {
                        Some(Value::Fields(old)) => Some(old),
                        _ => None,
                    };
                    for (index, field) in fields.iter().enumerate() {
                        let before = old.and_then(|old| old.get(index)).copied().unwrap_or(0);
                        self.writer.bit(*field != before);
                        if *field != before {
                            self.writer.signed(field.wrapping_sub(before));
                        }
                    }
                }
                Edit::Set(Value::Bytes { bytes, refs }) => {
                    self.writer.bits(1, 2);
                    self.writer.unsigned(refs.len() as u32);
                    for entity in refs.iter() {
                        self.entity(entity);
                    }
                    self.writer.unsigned(bytes.len() as u32);
                    self.writer.bytes(bytes);
                }
                Edit::Unset => self.writer.bits(2, 2),
                Edit::Part { total, offset, bytes } => {
                    self.writer.bits(3, 2);
                    self.writer.unsigned(*total as u32);
                    self.writer.unsigned(*offset as u32);
                    self.writer.unsigned(bytes.len() as u32);
                    self.writer.bytes(bytes);
                }
            }
        }
    }

    fn entity(&mut self, entity: &EntityId) {
        let spawner = (entity.spawner, entity.boot);
        let index = self.spawners.iter().position(|known| *known == spawner).unwrap_or(self.spawners.len());
        self.writer.unsigned(index as u32);
        if index == self.spawners.len() {
            self.spawners.push(spawner);
            self.writer.bytes(&entity.spawner.0);
            self.writer.bits(u64::from(entity.boot.0), 32);
        }
        self.writer.unsigned(entity.counter);
    }
}

struct Decoder<'a> {
    reader: BitReader<'a>,
    registry: &'a Registry,
    spawners: Vec<(PeerId, Boot)>,
}

impl Decoder<'_> {
    fn edits(&mut self, old: Option<&Record>) -> Result<Vec<(KindId, Edit)>, DecodeError> {
        // One record may hold each component once, a long one in many parts.
        let count = self.reader.below(KINDS_MAX * 256)?;
        let mut edits = Vec::new();
        for _ in 0..count {
            let kind = KindId(self.reader.bits(8)? as u8);
            let shape = self.registry.kind(kind).ok_or(DecodeError::Malformed)?.shape;
            let edit = match (self.reader.bits(2)?, shape) {
                (0, Shape::Fields(count)) => Edit::Set(self.fields(count, old.and_then(|old| old.get(kind)))?),
                (1, Shape::Bytes) => Edit::Set(self.bytes_value()?),
                (2, _) => Edit::Unset,
                (3, Shape::Bytes) => {
                    let (total, offset) = (self.reader.unsigned()? as usize, self.reader.unsigned()? as usize);
                    let length = self.reader.below(PART_BYTES + 1)?;
                    Edit::Part { total, offset, bytes: self.reader.bytes(length)?.into() }
                }
                _ => return Err(DecodeError::Malformed),
            };
            edits.push((kind, edit));
        }
        Ok(edits)
    }

    fn fields(&mut self, count: usize, old: Option<&Value>) -> Result<Value, DecodeError> {
        debug_assert!(count <= FIELDS_MAX, "the registry sees to it");
        let mut fields = match old {
            Some(Value::Fields(old)) if old.len() == count => old.to_vec(),
            _ => vec![0; count],
        };
        for field in &mut fields {
            if self.reader.bit()? {
                *field = field.wrapping_add(self.reader.signed()?);
            }
        }
        Ok(Value::fields(fields))
    }

    fn bytes_value(&mut self) -> Result<Value, DecodeError> {
        let count = self.reader.below(REFS_MAX + 1)?;
        let refs = (0..count).map(|_| self.entity()).collect::<Result<Vec<_>, _>>()?;
        let length = self.reader.below(PART_BYTES + 1)?;
        Ok(Value::Bytes { bytes: self.reader.bytes(length)?.into(), refs: refs.into() })
    }

    fn entity(&mut self) -> Result<EntityId, DecodeError> {
        let index = self.reader.below(self.spawners.len() + 1)?;
        if index == self.spawners.len() {
            let mut key = [0; 32];
            key.copy_from_slice(&self.reader.bytes(32)?);
            self.spawners.push((PeerId(key), Boot(self.reader.bits(32)? as u32)));
        }
        let (spawner, boot) = self.spawners[index];
        Ok(EntityId { spawner, boot, counter: self.reader.unsigned()? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;
    use crate::id::Tick;
    use crate::time::MeshTime;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.register(Kind { name: "place".into(), shape: Shape::Fields(3) });
        registry.register(Kind { name: "text".into(), shape: Shape::Bytes });
        registry
    }

    fn entity(counter: u32) -> EntityId {
        EntityId { spawner: PeerId([(counter % 3) as u8; 32]), boot: Boot(7), counter }
    }

    fn snapshot(records: impl IntoIterator<Item = Record>) -> Snapshot {
        let mut records: Vec<_> = records.into_iter().map(Arc::new).collect();
        records.sort_by_key(|record| record.entity);
        records.dedup_by_key(|record| record.entity);
        Snapshot { tick: Tick(1), at: MeshTime(0), records }
    }

    /// What a receiver with all pieces has, the pieces taken in reverse.
    fn through(new: &Snapshot, baseline: Option<&Snapshot>, piece_bytes: usize) -> Vec<Arc<Record>> {
        let mut assembler = Assembler::default();
        for piece in encode(new, baseline, piece_bytes).iter().rev() {
            assert!(piece.len() <= piece_bytes, "{} bytes", piece.len());
            for item in decode(piece, baseline, &registry()).unwrap().items {
                assembler.add(item, baseline, 4096).unwrap();
            }
        }
        let (changed, removed) = assembler.finish().unwrap();
        let mut records: BTreeMap<_, _> =
            baseline.iter().flat_map(|baseline| &baseline.records).map(|record| (record.entity, record.clone())).collect();
        for entity in removed {
            records.remove(&entity);
        }
        records.extend(changed.into_iter().map(|record| (record.entity, record)));
        records.into_values().collect()
    }

    fn record() -> impl Strategy<Value = Record> {
        let place = prop::option::of(any::<[i32; 3]>());
        let text = prop::option::of((prop::collection::vec(any::<u8>(), 0..2_000), 0_u32..30));
        (0_u32..40, 0_u32..3, any::<bool>(), place, text).prop_map(|(counter, number, adopt, place, text)| {
            let mut record = Record::new(entity(counter), number, if adopt { Orphan::Adopt } else { Orphan::Vanish });
            if let Some(place) = place {
                record.set(KindId(0), Value::fields(place));
            }
            if let Some((text, refs)) = text {
                record.set(KindId(1), Value::Bytes { bytes: text.into(), refs: (0..refs % 4).map(entity).collect() });
            }
            record
        })
    }

    proptest! {
        #[test]
        fn any_change_survives(
            old in prop::collection::vec(record(), 0..20), new in prop::collection::vec(record(), 0..20), kept in any::<u32>(),
        ) {
            let old = snapshot(old);
            let kept = old.records.iter().enumerate().filter(|(index, _)| kept >> index & 1 == 1).map(|(_, record)| Record::clone(record));
            let new = snapshot(kept.chain(new));
            prop_assert_eq!(&through(&new, Some(&old), 1_000), &new.records);
            prop_assert_eq!(&through(&new, None, 1_000), &new.records);
        }

        #[test]
        fn any_bytes_give_a_piece_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let base = snapshot((0..20).map(|counter| Record::new(entity(counter), 0, Orphan::Vanish)));
            if let Ok(piece) = decode(&bytes, Some(&base), &registry()) {
                let mut assembler = Assembler::default();
                for item in piece.items {
                    if assembler.add(item, Some(&base), 4096).is_err() {
                        return Ok(());
                    }
                }
                let _ = assembler.finish();
            }
        }
    }

    #[test]
    fn the_unchanged_costs_nothing() {
        let world = snapshot((0..1_000).map(|counter| Record::new(entity(counter), 0, Orphan::Adopt)));
        let pieces = encode(&world, Some(&world), 1_000);
        assert_eq!(pieces.len(), 1);
        assert!(pieces[0].len() <= 4, "{} bytes", pieces[0].len());
    }

    #[test]
    fn a_lost_piece_spoils_no_other() {
        let mut world = snapshot((0..600).map(|counter| Record::new(entity(counter), 0, Orphan::Adopt)));
        for record in &mut world.records {
            Arc::make_mut(record).set(KindId(0), Value::fields([1, 2, 3]));
        }
        let pieces = encode(&world, None, 500);
        assert!(pieces.len() > 3);
        for piece in pieces {
            let items = decode(&piece, None, &registry()).unwrap().items;
            assert!(!items.is_empty());
            for item in items {
                assert!(!item.split);
                assert_eq!(item.edits, [(KindId(0), Edit::Set(Value::fields([1, 2, 3])))]);
            }
        }
    }
}
