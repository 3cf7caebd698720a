//! One record: what changed of it since the baseline, or all of it where it is new. Each decision is written once, for both ways.

use std::sync::Arc;

use bytes::Bytes;

use super::check::Check;
use super::models::{BlockOdds, Common, MOVED, Models, SIGNS, SIZES};
use super::number::Number;
use super::predict::{motion, rotation};
use super::range::{Bits, Decoder, Encoder};
use super::{BLOCK, Basis, Checkpoint};
use crate::id::{Boot, EntityId, PeerId, Tick};
use crate::state::registry::{FIELDS_MAX, Fields, KINDS_MAX, REFS_MAX, Registry, Shape};
use crate::state::snapshot::Record;
use crate::state::{Group, KindId, Orphan, Value};
use crate::wire::{DecodeError, codec};

/// Values longer than this travel in parts, in bytes.
const PART_BYTES: usize = 512;
/// Most edits of one record: each component once, a long one in many parts.
const EDITS_MAX: u32 = KINDS_MAX as u32 * 256;
/// No entity changes hands so often: numbered so, it is gone.
const GONE: u32 = u32::MAX;
/// Bits of a component's number.
const KIND_BITS: u32 = 8;

/// What a piece says of one entity where that is more than other numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    pub(crate) entity: EntityId,
    pub(crate) said: Said,
    /// Other pieces say more of it.
    pub(crate) split: bool,
    pub(super) edits: Vec<(KindId, Edit)>,
}

impl Item {
    /// How much it takes to keep it, in records.
    pub(crate) fn weight(&self) -> usize {
        1 + self.edits.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Changed,
    /// Given away and got back: some piece says it anew, at another number.
    Replaced,
    New {
        number: u32,
        orphan: Orphan,
    },
    /// It was told of, is not in the baseline, and is no more.
    Gone,
}

/// What becomes of one component.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    Set(Value),
    Unset,
    Part { total: usize, offset: usize, bytes: Bytes },
}

/// Whether the same components are in both, and none that changed is too long: then only numbers need be said.
pub(super) fn is_plain(record: &Record, old: &Record) -> bool {
    record.components().len() == old.components().len()
        && record
            .components()
            .iter()
            .zip(old.components())
            .all(|((kind, value), (old_kind, old_value))| kind == old_kind && (!is_long(value) || value == old_value))
}

/// The most bytes that a plain change of `record` takes.
pub(super) fn longest(record: &Record) -> usize {
    let value = |value: &Value| match value {
        Value::Fields(fields) => 8 + 12 * fields.len(),
        Value::Bytes { bytes, refs } if !is_long(value) => 16 + bytes.len() + 64 * refs.len(),
        Value::Bytes { .. } => 2,
    };
    8 + record.components().iter().map(|(_, component)| value(component)).sum::<usize>()
}

/// What makes `record` of `old`, component by component.
pub(super) fn edits(record: &Record, old: Option<&Record>) -> Vec<(KindId, Edit)> {
    let mut edits = Vec::new();
    for (kind, value) in record.components() {
        if old.and_then(|old| old.get(*kind)) == Some(value) {
            continue;
        }
        match value {
            Value::Bytes { bytes, refs } if is_long(value) => {
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

fn is_long(value: &Value) -> bool {
    matches!(value, Value::Bytes { bytes, refs } if bytes.len() + 40 * refs.len() > PART_BYTES)
}

/// Codes records, one after the other, as they stand in the baseline; then new ones.
pub(super) struct Coder<'a, B> {
    pub(super) bits: B,
    models: Models,
    registry: &'a Registry,
    baseline: &'a [Arc<Record>],
    reference: &'a [Arc<Record>],
    /// How far it is from the baseline to the tick, in the time from the reference to the baseline; 16 bits after the point.
    ahead: i64,
    /// The first of the block's records, and where each came from.
    block: usize,
    origins: [Option<&'a Record>; BLOCK],
    /// Which of the last records changed, the last one lowest.
    recent: u8,
    /// Where the game's first choice stands.
    choice: Option<(KindId, usize)>,
    /// The spawners that the piece has named.
    spawners: Vec<(PeerId, Boot)>,
    /// The counter of the new record before this one, and its integers: the next one may be like it.
    counter: u32,
    likes: Vec<(KindId, Fields)>,
    /// What changed, folded.
    check: Check,
}

impl<'a, B: Bits> Coder<'a, B> {
    pub(super) fn new(bits: B, tick: Tick, basis: Option<Basis<'a>>, registry: &'a Registry) -> Self {
        let (mut baseline, mut reference): (&[_], &[_]) = (&[], &[]);
        let mut ahead = 0;
        if let Some(basis) = basis {
            baseline = &basis.baseline.records;
            if let Some(older) = basis.reference {
                reference = &older.records;
                let (to, from) = (
                    i64::from(tick.0) - i64::from(basis.baseline.tick.0),
                    i64::from(basis.baseline.tick.0) - i64::from(older.tick.0),
                );
                // Neither is ever so far: the replica sees to it.
                ahead = (to.clamp(0, 1 << 12) << 16) / from.max(1);
            }
        }
        Self {
            bits,
            models: basis.map_or_else(|| Models::new(registry), |basis| Models::clone(&basis.baseline.models)),
            registry,
            baseline,
            reference,
            ahead,
            block: 0,
            origins: [None; BLOCK],
            recent: 0,
            choice: registry.choice(),
            spawners: Vec::new(),
            counter: 0,
            likes: Vec::new(),
            check: Check::of(tick, baseline),
        }
    }

    /// What all that was said so far comes to.
    pub(super) fn check_bits(&self) -> u16 {
        self.check.bits()
    }

    /// Whether anything changed in the rest of a block.
    pub(super) fn block(&mut self, index: usize, any: bool) -> bool {
        self.block = index / BLOCK * BLOCK;
        let (baseline, reference) = (self.baseline, self.reference);
        let records = &baseline[index..(self.block + BLOCK).min(baseline.len())];
        // Mostly they stand where they stood.
        let mut cursor = match reference.get(index) {
            Some(older) if older.entity == baseline[index].entity => index,
            _ => reference.partition_point(|older| older.entity < baseline[index].entity),
        };
        let mut moved = false;
        for (record, place) in records.iter().zip(index % BLOCK..) {
            if reference.get(cursor).is_some_and(|older| Arc::ptr_eq(older, record)) {
                self.origins[place] = Some(record);
                cursor += 1;
                continue;
            }
            while reference.get(cursor).is_some_and(|older| older.entity < record.entity) {
                cursor += 1;
            }
            let older = reference.get(cursor).filter(|older| older.entity == record.entity);
            cursor += usize::from(older.is_some());
            // Where it did not move, where it came from is where it is.
            let still = older.is_some_and(|older| older.is_like(record));
            moved |= older.is_some() && !still;
            self.origins[place] = older.map(|older| if still { &**record } else { &**older });
        }
        self.bits.bit(&mut self.models.common.block[usize::from(moved)], any)
    }

    /// Whether the record changed.
    pub(super) fn is_changed(&mut self, index: usize, changed: bool) -> bool {
        let record = &self.baseline[index];
        let moved = self.origins[index - self.block].is_some_and(|older| !std::ptr::eq(older, &**record));
        let choice = self.choice(record);
        let context = usize::from(moved) | usize::from(choice) << 1 | usize::from(self.recent & 7) << 2;
        let changed = self.bits.bit(&mut self.models.common.changed[context], changed);
        self.recent = self.recent << 1 | u8::from(changed);
        changed
    }

    /// Whether more is said than other numbers.
    pub(super) fn is_edited(&mut self, edited: bool) -> bool {
        self.bits.bit(&mut self.models.common.kind_of_change[0], edited)
    }

    /// Whether a record of which more is said stays.
    pub(super) fn remains(&mut self, remains: bool) -> bool {
        self.bits.bit(&mut self.models.common.kind_of_change[1], remains)
    }

    /// Whether one that does not stay is said anew.
    pub(super) fn is_replaced(&mut self, replaced: bool) -> bool {
        self.bits.bit(&mut self.models.common.kind_of_change[2], replaced)
    }

    /// Whether the piece has said so much at all.
    pub(super) fn check(&self) -> Result<(), DecodeError> {
        if self.bits.is_beyond_end() { Err(DecodeError::Malformed) } else { Ok(()) }
    }

    pub(super) fn block_odds(&self) -> BlockOdds {
        self.models.common.block
    }

    pub(super) fn set_block_odds(&mut self, odds: BlockOdds) {
        self.models.common.block = odds;
    }

    pub(super) fn into_parts(self) -> (B, Models) {
        (self.bits, self.models)
    }

    /// The first choice that a record holds, as far as one bit tells.
    #[inline]
    fn choice(&self, record: &Record) -> bool {
        let Some((kind, place)) = self.choice else { return false };
        match record.get(kind) {
            Some(Value::Fields(fields)) => fields.get(place).is_some_and(|value| value & 1 == 1),
            _ => false,
        }
    }

    /// All of a record's components, from the baseline's values to those of `record`; `take` gets them as they are now.
    #[inline]
    fn change(&mut self, index: usize, record: Option<&Record>, mut take: impl FnMut(KindId, Value)) -> Result<(), DecodeError> {
        let old: &'a Record = &self.baseline[index];
        let older = self.origins[index - self.block];
        let mut earlier = false;
        for (place, (kind, value)) in old.components().iter().enumerate() {
            // A plain change has the same components in the same places.
            let same = |record: &'_ Record| record.components().get(place).is_some_and(|(other, _)| other == kind);
            let new = record.filter(|record| same(record)).map(|record| &record.components()[place].1);
            let first = self.registry.first_group(*kind);
            match (value, self.registry.kind(*kind).map(|kind| kind.shape)) {
                (Value::Fields(fields), Some(Shape::Fields(groups))) => {
                    let mut now = match new {
                        Some(Value::Fields(now)) => now.clone(),
                        _ => fields.clone(),
                    };
                    let older = match older {
                        Some(older) if same(older) => Some(&older.components()[place].1),
                        Some(older) => older.get(*kind),
                        None => None,
                    };
                    let older = match older {
                        Some(Value::Fields(older)) => Some(older),
                        _ => None,
                    };
                    let mut start = 0;
                    let mut changed = false;
                    for (group, number) in groups.iter().zip(first..) {
                        let range = start..start + group.len();
                        start = range.end;
                        let older = older.map(|older| &older[range.clone()]);
                        changed |= self.group(number, *group, &fields[range.clone()], older, &mut now[range], earlier | changed);
                    }
                    earlier |= changed;
                    if B::DECODES {
                        take(*kind, Value::Fields(now));
                    }
                }
                (Value::Bytes { .. }, Some(Shape::Bytes)) => {
                    let context = usize::from(earlier);
                    let changed = self.bits.bit(&mut self.models.group(first).moved[context], new != Some(value));
                    earlier |= changed;
                    let now = if changed { self.blob(new)? } else { value.clone() };
                    if B::DECODES {
                        take(*kind, now);
                    }
                }
                // The registry saw to it when the value came.
                _ => return Err(DecodeError::Malformed),
            }
        }
        Ok(())
    }

    /// One group of integers; whether it changed.
    #[inline]
    fn group(&mut self, number: usize, group: Group, old: &[i32], older: Option<&[i32]>, now: &mut [i32], earlier: bool) -> bool {
        let models = self.models.group(number);
        let moved = older.is_some_and(|older| older != old);
        let context = (usize::from(moved) | usize::from(earlier) << 1 | usize::from(older.is_none()) << 2) % MOVED;
        if !self.bits.bit(&mut models.moved[context], *now != *old) {
            return false;
        }
        match group {
            Group::Motion(_) => motion(&mut self.bits, models, old, older, now, self.ahead),
            Group::Rotation => rotation(&mut self.bits, models, old, older, now, self.ahead),
            Group::Choice => {
                let context = old[0].clamp(0, SIGNS as i32 - 1) as usize;
                let step = now[0].wrapping_sub(old[0]);
                let step = models.sizes[context].signed(&mut self.bits, &mut models.signs[context], step);
                now[0] = old[0].wrapping_add(step);
            }
        }
        self.check.fold(now);
        true
    }

    /// Integers of which nothing is known but what a like value was.
    fn fresh(&mut self, kind: KindId, groups: &[Group], like: &[i32], now: &mut [i32]) {
        let first = self.registry.first_group(kind);
        let mut start = 0;
        for (group, number) in groups.iter().zip(first..) {
            let models = self.models.group(number);
            for (place, value) in now.iter_mut().enumerate().skip(start).take(group.len()) {
                let like = like.get(place).copied().unwrap_or_default();
                let sign = &mut models.signs[(place - start) % SIGNS];
                let step = models.sizes[SIZES - 1].signed(&mut self.bits, sign, value.wrapping_sub(like));
                *value = like.wrapping_add(step);
            }
            start += group.len();
        }
        self.check.fold(now);
    }

    /// Bytes and whom they refer to, at most [`PART_BYTES`].
    fn blob(&mut self, new: Option<&Value>) -> Result<Value, DecodeError> {
        let (bytes, refs): (&[u8], &[EntityId]) = match new {
            Some(Value::Bytes { bytes, refs }) => (bytes, refs),
            _ => (&[], &[]),
        };
        let count = self.count(1, refs.len() as u32, REFS_MAX as u32)?;
        let refs = (0..count as usize).map(|index| self.entity(refs.get(index))).collect::<Result<Vec<_>, _>>()?;
        let bytes = self.bytes(bytes)?;
        Ok(Value::Bytes { bytes, refs: refs.into() })
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Bytes, DecodeError> {
        let length = self.count(0, bytes.len() as u32, PART_BYTES as u32)? as usize;
        let read: Vec<u8> =
            (0..length).map(|index| self.bits.raw(bytes.get(index).copied().unwrap_or_default().into(), 8) as u8).collect();
        Ok(read.into())
    }

    fn count(&mut self, which: usize, count: u32, most: u32) -> Result<u32, DecodeError> {
        let counts: &mut [Number; 4] = &mut self.models.common.counts;
        let count = counts[which].unsigned(&mut self.bits, count);
        if count <= most { Ok(count) } else { Err(DecodeError::Malformed) }
    }

    /// An entity: its spawner, by number if the piece has named it before, and its counter, as the step from the last one's.
    fn entity(&mut self, entity: Option<&EntityId>) -> Result<EntityId, DecodeError> {
        let unknown = EntityId { spawner: PeerId([0; 32]), boot: Boot(0), counter: 0 };
        let entity = entity.copied().unwrap_or(unknown);
        let spawner = (entity.spawner, entity.boot);
        let index = self.spawners.iter().position(|known| *known == spawner).unwrap_or(self.spawners.len());
        let index = self.count(1, index as u32, self.spawners.len() as u32)? as usize;
        if index == self.spawners.len() {
            let mut key = [0; 32];
            for (read, byte) in key.iter_mut().zip(entity.spawner.0) {
                *read = self.bits.raw(byte.into(), 8) as u8;
            }
            let boot = self.bits.raw(entity.boot.0, 32);
            self.spawners.push((PeerId(key), Boot(boot)));
        }
        let (spawner, boot) = self.spawners[index];
        let Common { counts, counter_sign, .. } = &mut self.models.common;
        let step = entity.counter.wrapping_sub(self.counter) as i32;
        let step = counts[3].signed(&mut self.bits, counter_sign, step);
        self.counter = self.counter.wrapping_add(step as u32);
        Ok(EntityId { spawner, boot, counter: self.counter })
    }

    /// Who a new record is, whose, and whether other pieces say more of it.
    fn title(&mut self, record: Option<&Record>, split: bool) -> Result<(EntityId, u32, Orphan, bool), DecodeError> {
        let entity = self.entity(record.map(|record| &record.entity))?;
        let number = self.count(2, record.map_or(0, |record| record.number), u32::MAX)?;
        // Two bits at least for every record, whatever was learned: so that few bytes are few records.
        let adopt = self.bits.raw(u32::from(record.is_some_and(|record| record.orphan == Orphan::Adopt)), 1) == 1;
        let split = self.bits.raw(u32::from(split), 1) == 1;
        Ok((entity, number, if adopt { Orphan::Adopt } else { Orphan::Vanish }, split))
    }

    fn edit_list(&mut self, edits: &[(KindId, Edit)], old: Option<&Record>) -> Result<Vec<(KindId, Edit)>, DecodeError> {
        let count = self.count(1, edits.len() as u32, EDITS_MAX)? as usize;
        let mut read = Vec::new();
        for index in 0..count {
            let edit = self.edit(edits.get(index), old)?;
            self.check()?;
            if B::DECODES {
                read.push(edit);
            }
        }
        Ok(read)
    }

    fn edit(&mut self, edit: Option<&(KindId, Edit)>, old: Option<&Record>) -> Result<(KindId, Edit), DecodeError> {
        let kind = KindId(self.bits.raw(edit.map_or(0, |(kind, _)| kind.0.into()), KIND_BITS) as u8);
        let edit = edit.map(|(_, edit)| edit);
        let sort = match edit {
            Some(Edit::Unset) => 1,
            Some(Edit::Part { .. }) => 2,
            Some(Edit::Set(_)) | None => 0,
        };
        let shape = self.registry.kind(kind).ok_or(DecodeError::Malformed)?.shape;
        let read = match (self.bits.raw(sort, 2), shape) {
            (0, Shape::Fields(groups)) => {
                let count = shape.fields();
                debug_assert!(count <= FIELDS_MAX, "the registry sees to it");
                let mut now = match edit {
                    Some(Edit::Set(Value::Fields(fields))) => fields.clone(),
                    _ => Fields::from_elem(0, count),
                };
                let like = match old.and_then(|old| old.get(kind)) {
                    Some(Value::Fields(fields)) => fields.clone(),
                    _ => self.likes.iter().find(|(other, _)| *other == kind).map(|(_, like)| like.clone()).unwrap_or_default(),
                };
                self.fresh(kind, groups, &like, &mut now);
                if old.is_none() {
                    self.likes.retain(|(other, _)| *other != kind);
                    self.likes.push((kind, now.clone()));
                }
                Edit::Set(Value::Fields(now))
            }
            (0, Shape::Bytes) => {
                let new = match edit {
                    Some(Edit::Set(value)) => Some(value),
                    _ => None,
                };
                Edit::Set(self.blob(new)?)
            }
            (1, _) => Edit::Unset,
            (2, Shape::Bytes) => {
                let (total, offset, bytes) = match edit {
                    Some(Edit::Part { total, offset, bytes }) => (*total as u32, *offset as u32, bytes.clone()),
                    _ => (0, 0, Bytes::new()),
                };
                let total = self.count(0, total, u32::MAX)? as usize;
                let offset = self.count(0, offset, u32::MAX)? as usize;
                Edit::Part { total, offset, bytes: self.bytes(&bytes)? }
            }
            _ => return Err(DecodeError::Malformed),
        };
        Ok((kind, read))
    }
}

// Encoding, what comes back is what was given, and fails only where decoding would: where the registry did not see to it.
impl Coder<'_, Encoder> {
    pub(super) fn write_change(&mut self, index: usize, record: &Record) {
        let written = self.change(index, Some(record), |_, _| {});
        debug_assert!(written.is_ok(), "a value unlike its registered shape");
    }

    pub(super) fn write_edits(&mut self, split: bool, edits: &[(KindId, Edit)], old: Option<&Record>) {
        self.bits.raw(u32::from(split), 1);
        let written = self.edit_list(edits, old);
        debug_assert!(written.is_ok(), "a value unlike its registered shape");
    }

    pub(super) fn write_new(&mut self, record: &Record, split: bool, edits: &[(KindId, Edit)]) {
        let written = self.title(Some(record), split).and_then(|_| self.edit_list(edits, None));
        debug_assert!(written.is_ok(), "a value unlike its registered shape");
    }

    pub(super) fn write_gone(&mut self, entity: EntityId) {
        let record = Record::new(entity, GONE, Orphan::Vanish);
        self.write_new(&record, false, &[]);
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            place: self.bits.place(),
            models: self.models.clone(),
            spawners: self.spawners.len(),
            counter: self.counter,
            likes: self.likes.clone(),
            recent: self.recent,
            check: self.check,
        }
    }

    pub(super) fn go_back(&mut self, checkpoint: Checkpoint) {
        self.bits.go_back(checkpoint.place);
        self.models = checkpoint.models;
        self.spawners.truncate(checkpoint.spawners);
        (self.counter, self.likes) = (checkpoint.counter, checkpoint.likes);
        (self.recent, self.check) = (checkpoint.recent, checkpoint.check);
    }
}

impl Coder<'_, Decoder<'_>> {
    pub(super) fn read_change(&mut self, index: usize) -> Result<Record, DecodeError> {
        let old = &self.baseline[index];
        let mut record = Record::new(old.entity, old.number, old.orphan);
        self.change(index, None, |kind, value| record.push(kind, value))?;
        Ok(record)
    }

    pub(super) fn read_edits(&mut self, old: Option<&Record>) -> Result<(bool, Vec<(KindId, Edit)>), DecodeError> {
        let split = self.bits.raw(0, 1) == 1;
        Ok((split, self.edit_list(&[], old)?))
    }

    pub(super) fn read_new(&mut self) -> Result<Item, DecodeError> {
        let (entity, number, orphan, split) = self.title(None, false)?;
        let said = if number == GONE { Said::Gone } else { Said::New { number, orphan } };
        Ok(Item { entity, said, split, edits: self.edit_list(&[], None)? })
    }

    pub(super) fn into_models(self) -> Models {
        self.models
    }
}
