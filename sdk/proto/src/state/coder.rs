//! Snapshots to pieces and back: differences from a baseline, cut so that each piece decodes alone.
//!
//! A piece covers a run of the baseline's records and says of each whether it is unchanged, changed or removed; then it names new
//! ones. A changed integer is expected to go on as it moved from an older tick, the *reference*, to the baseline, and what is left
//! is coded by odds that depend on how fast it moved. All of that is known to whoever has the two ticks, and the odds come with
//! the baseline. A record too long for one piece is *split* over several, its long values in parts; it is whole when all pieces are there.
//!
//! The method is that of Fabian Giesen's coder for Glenn Fiedler's networked physics data (2015), made generic: here it knows of a game
//! what its registry says, and learns the rest.

mod assembler;
mod check;
mod models;
mod number;
mod predict;
mod range;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

pub(crate) use self::assembler::Assembler;
use self::check::Check;
use self::models::BlockOdds;
pub(crate) use self::models::Models;
use self::range::{Decoder, Encoder, Place};
use self::record::{Coder, edits, is_plain, longest};
pub(crate) use self::record::{Edit, Item, Said};
use super::KindId;
use super::registry::{Fields, Registry};
use super::snapshot::{Record, Snapshot};
use crate::id::{EntityId, Tick};
use crate::wire::{DecodeError, varint};

/// The level of all pieces so far; others are left for coders that take longer and say it in less.
const LEVEL: u8 = 0;
/// Longest head of a piece, in bytes.
const HEAD_BYTES_MAX: usize = 13;
/// What one decision takes at most, in bytes.
const DECISION_BYTES: usize = 2;
/// And of who somebody is: key, boot, counter, number.
const NAME_BYTES: usize = 80;
/// Records looked at together: where none of them changed, one decision says so.
const BLOCK: usize = 32;
/// Most records in one snapshot, whatever a piece says.
const RECORDS_MAX: usize = 1 << 20;

/// What a tick is a difference from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Basis<'a> {
    pub(crate) baseline: &'a Snapshot,
    /// An older tick: where what moves came from.
    pub(crate) reference: Option<&'a Snapshot>,
}

/// A decoded piece: what it says of the baseline's records from `start` to before `end`, and of new ones.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Those of the baseline that are otherwise now, and where they stand there.
    pub(crate) changed: Vec<(usize, Arc<Record>)>,
    /// Those of the baseline that are gone, in its order.
    pub(crate) removed: Vec<EntityId>,
    /// Those that some piece says anew, at another number; those of which components came or went; those that are new.
    pub(crate) items: Vec<Item>,
    /// What the coder has learned now: counts for the tick if this is its first piece.
    pub(crate) models: Models,
    /// What it comes to; another than the sender's where the two baselines differ.
    pub(crate) check: u16,
}

/// A piece as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    /// What it comes to, for its header.
    pub(crate) check: u16,
}

/// `snapshot` as pieces of at most `piece_bytes`, and what the coder has learned by it. At least one piece, though it may say nothing.
pub(crate) fn encode(
    snapshot: &Snapshot,
    basis: Option<Basis<'_>>,
    registry: &Registry,
    piece_bytes: usize,
) -> (Vec<Body>, Models) {
    let mut writer = Writer::new(snapshot.tick, basis, registry, piece_bytes);
    let base: &[Arc<Record>] = basis.map_or(&[], |basis| &basis.baseline.records);
    let mut new = Vec::new();
    let mut records = snapshot.records.iter().peekable();
    let mut places = [None; BLOCK];
    for (block, olds) in base.chunks(BLOCK).enumerate() {
        let mut any = false;
        for (old, slot) in olds.iter().zip(&mut places) {
            if let Some(record) = records.next_if(|record| Arc::ptr_eq(record, old)) {
                *slot = Some((Some(record), true));
                continue;
            }
            while let Some(record) = records.next_if(|record| record.entity < old.entity) {
                new.push(record);
            }
            let record = records.next_if(|record| record.entity == old.entity);
            let unchanged = record.is_some_and(|record| record.is_like(old));
            any |= !unchanged;
            *slot = Some((record, unchanged));
        }
        writer.block(block * BLOCK, any);
        if !any {
            continue;
        }
        for ((old, index), (record, unchanged)) in olds.iter().zip(block * BLOCK..).zip(places.iter().flatten()) {
            match record {
                _ if *unchanged => writer.unchanged(index),
                None => writer.removed(index, false),
                Some(record) if record.number != old.number || record.orphan != old.orphan => {
                    writer.removed(index, true);
                    new.push(record);
                }
                Some(record) if is_plain(record, old) => writer.changed(index, record),
                Some(record) => writer.edited(index, &edits(record, Some(old))),
            }
        }
    }
    new.extend(records);
    writer.base_ends(base.len());
    for record in new {
        writer.new_record(record);
    }
    for entity in &snapshot.gone {
        writer.gone(*entity);
    }
    writer.finish()
}

/// What `bytes` say of the tick `tick`. `news_max`: most new records that a piece may name.
pub(crate) fn decode(
    bytes: &[u8],
    tick: Tick,
    basis: Option<Basis<'_>>,
    registry: &Registry,
    news_max: usize,
) -> Result<Piece, DecodeError> {
    let base: &[Arc<Record>] = basis.map_or(&[], |basis| &basis.baseline.records);
    let (head, body) = Head::read(bytes, base.len())?;
    if head.end > base.len() || head.start > head.end || head.news > news_max.min(RECORDS_MAX) {
        return Err(DecodeError::Malformed);
    }
    let mut coder = Coder::new(Decoder::new(body), tick, basis, registry);
    let (mut changed, mut removed, mut items) = (Vec::new(), Vec::new(), Vec::new());
    let mut index = head.start;
    while index < head.end {
        if (index == head.start || index.is_multiple_of(BLOCK)) && !coder.block(index, false) {
            index = (index / BLOCK * BLOCK + BLOCK).min(head.end);
            continue;
        }
        if coder.is_changed(index, false) {
            let old = &base[index];
            if coder.is_edited(false) {
                if coder.remains(false) {
                    let (split, edits) = coder.read_edits(Some(old))?;
                    items.push(Item { entity: old.entity, said: Said::Changed, split, edits });
                } else if coder.is_replaced(false) {
                    items.push(Item { entity: old.entity, said: Said::Replaced, split: false, edits: Vec::new() });
                } else {
                    removed.push(old.entity);
                }
            } else {
                changed.push((index, Arc::new(coder.read_change(index)?)));
            }
        }
        coder.check()?;
        index += 1;
    }
    for _ in 0..head.news {
        items.push(coder.read_new()?);
        coder.check()?;
    }
    let check = coder.check_bits();
    Ok(Piece { start: head.start, end: head.end, changed, removed, items, models: coder.into_models(), check })
}

/// What stands before a piece's decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    start: usize,
    end: usize,
    news: usize,
}

impl Head {
    /// Bits of the first byte: the level, and whether all of the baseline is covered, and nothing is new.
    const LEVEL_MASK: u8 = 3;
    const ALL: u8 = 4;
    const NO_NEWS: u8 = 8;

    fn write(&self, base: usize) -> BytesMut {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES_MAX);
        let (all, no_news) = (self.start == 0 && self.end == base, self.news == 0);
        bytes.extend_from_slice(&[LEVEL | if all { Self::ALL } else { 0 } | if no_news { Self::NO_NEWS } else { 0 }]);
        if !all {
            varint::put(&mut bytes, self.start as u64);
            varint::put(&mut bytes, (self.end - self.start) as u64);
        }
        if !no_news {
            varint::put(&mut bytes, self.news as u64);
        }
        bytes
    }

    fn read(bytes: &[u8], base: usize) -> Result<(Self, &[u8]), DecodeError> {
        let (first, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
        if first & Self::LEVEL_MASK != LEVEL || *first >= Self::NO_NEWS << 1 {
            return Err(DecodeError::Malformed);
        }
        let mut rest = Rest(rest);
        let mut head = Self { start: 0, end: base, news: 0 };
        if first & Self::ALL == 0 {
            head.start = rest.count()?;
            head.end = head.start + rest.count()?;
        }
        if first & Self::NO_NEWS == 0 {
            head.news = rest.count()?;
        }
        Ok((head, rest.0))
    }
}

/// What is left to read of a piece.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn count(&mut self) -> Result<usize, DecodeError> {
        let mut head = Bytes::copy_from_slice(&self.0[..self.0.len().min(4)]);
        let before = head.len();
        let value = varint::get(&mut head)?;
        self.0 = &self.0[before - head.len()..];
        usize::try_from(value).ok().filter(|value| *value <= RECORDS_MAX).ok_or(DecodeError::Malformed)
    }
}

/// Writes pieces.
struct Writer<'a> {
    tick: Tick,
    basis: Option<Basis<'a>>,
    registry: &'a Registry,
    piece_bytes: usize,
    pieces: Vec<Body>,
    coder: Coder<'a, Encoder>,
    head: Head,
    /// Whether the block that the last record is in was said to have changes; and what was learned of blocks before that was said.
    in_block: bool,
    before_block: BlockOdds,
    /// The piece says nothing yet.
    empty: bool,
    /// What the first piece taught.
    learned: Option<Models>,
}

/// How far a [`Writer`] was, with what it had learned.
struct Checkpoint {
    place: Place,
    models: Models,
    spawners: usize,
    counter: u32,
    likes: Vec<(KindId, Fields)>,
    recent: u8,
    check: Check,
}

impl<'a> Writer<'a> {
    fn new(tick: Tick, basis: Option<Basis<'a>>, registry: &'a Registry, piece_bytes: usize) -> Self {
        let coder = Coder::new(Encoder::new(piece_bytes), tick, basis, registry);
        let head = Head { start: 0, end: 0, news: 0 };
        let before_block = coder.block_odds();
        Self {
            tick,
            basis,
            registry,
            piece_bytes,
            pieces: Vec::new(),
            coder,
            head,
            in_block: false,
            before_block,
            empty: true,
            learned: None,
        }
    }

    /// A block of the baseline's records begins, with changes or without.
    fn block(&mut self, index: usize, any: bool) {
        self.in_block = false;
        self.make_room(index);
        self.in_block = any;
        self.before_block = self.coder.block_odds();
        self.coder.block(index, any);
        self.head.end = index;
    }

    fn unchanged(&mut self, index: usize) {
        self.make_room(index);
        self.coder.is_changed(index, false);
        self.head.end = index + 1;
    }

    fn removed(&mut self, index: usize, replaced: bool) {
        // Four decisions fit any piece.
        let _ = self.item(index, 4 * DECISION_BYTES, |writer| {
            writer.coder.is_changed(index, true);
            writer.coder.is_edited(true);
            writer.coder.remains(false);
            writer.coder.is_replaced(replaced);
        });
        self.head.end = index + 1;
    }

    fn changed(&mut self, index: usize, record: &Record) {
        let fits = self.item(index, longest(record), |writer| {
            writer.coder.is_changed(index, true);
            writer.coder.is_edited(false);
            writer.coder.write_change(index, record);
        });
        if !fits {
            let old = self.basis.and_then(|basis| basis.baseline.records.get(index)).cloned();
            return self.edited(index, &edits(record, old.as_deref()));
        }
        self.head.end = index + 1;
    }

    fn edited(&mut self, index: usize, edits: &[(KindId, Edit)]) {
        let old = self.basis.and_then(|basis| basis.baseline.records.get(index)).cloned();
        self.split_item(index, edits, |writer, split, edits| {
            writer.coder.is_changed(index, true);
            writer.coder.is_edited(true);
            writer.coder.remains(true);
            writer.coder.write_edits(split, edits, old.as_deref());
            writer.head.end = index + 1;
        });
    }

    /// No more is said of the baseline: the rest of its `length` records is unchanged.
    fn base_ends(&mut self, length: usize) {
        self.head.end = length;
        self.in_block = false;
    }

    fn new_record(&mut self, record: &Record) {
        let end = self.head.end;
        self.split_item(end, &edits(record, None), |writer, split, edits| {
            writer.coder.write_new(record, split, edits);
            writer.head.news += 1;
        });
    }

    fn gone(&mut self, entity: EntityId) {
        let end = self.head.end;
        // A name fits any piece.
        let _ = self.item(end, NAME_BYTES, |writer| writer.coder.write_gone(entity));
        self.head.news += 1;
    }

    fn finish(mut self) -> (Vec<Body>, Models) {
        let base = self.basis.map_or(0, |basis| basis.baseline.records.len());
        self.head.end = base;
        self.close();
        let models = self.learned.take().unwrap_or_else(|| Models::new(self.registry));
        (self.pieces, models)
    }

    /// Writes an item that takes at most `longest` bytes; false, and nothing, if it is too long for any piece.
    fn item(&mut self, index: usize, longest: usize, write: impl Fn(&mut Self)) -> bool {
        if self.coder.bits.len() + HEAD_BYTES_MAX + longest <= self.piece_bytes {
            write(self);
            self.empty = false;
            return true;
        }
        if self.try_item(&write) {
            return true;
        }
        if !self.empty {
            self.next_piece(index);
        }
        self.try_item(&write)
    }

    /// Writes an item and its edits, over as many pieces as it takes.
    fn split_item(&mut self, index: usize, edits: &[(KindId, Edit)], write: impl Fn(&mut Self, bool, &[(KindId, Edit)])) {
        let has_parts = edits.iter().any(|(_, edit)| matches!(edit, Edit::Part { .. }));
        if self.try_item(|writer| write(writer, has_parts, edits)) {
            return;
        }
        if !self.empty {
            self.next_piece(index);
            if self.try_item(|writer| write(writer, has_parts, edits)) {
                return;
            }
        }
        let mut rest = edits;
        while !rest.is_empty() {
            // At least one edit goes into each piece: none is longer than a part and its head, which any piece holds.
            let mut count = rest.len();
            while count > 1 && !self.try_item(|writer| write(writer, true, &rest[..count])) {
                count /= 2;
            }
            if count == 1 {
                write(self, true, &rest[..1]);
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
        let (checkpoint, head) = (self.coder.checkpoint(), self.head);
        write(self);
        if self.coder.bits.len() + HEAD_BYTES_MAX <= self.piece_bytes {
            self.empty = false;
            return true;
        }
        self.coder.go_back(checkpoint);
        self.head = head;
        false
    }

    /// Sees to it that one more decision fits.
    fn make_room(&mut self, index: usize) {
        if !self.empty && self.coder.bits.len() + HEAD_BYTES_MAX + DECISION_BYTES > self.piece_bytes {
            self.next_piece(index);
        }
    }

    /// Ends the piece before the baseline's record `index`, which the next one begins with.
    fn next_piece(&mut self, index: usize) {
        if self.in_block && index.is_multiple_of(BLOCK) && self.head.end == index {
            // Nobody reads what the piece says of a block of which it says nothing more: nor does anybody learn from it.
            self.coder.set_block_odds(self.before_block);
        }
        // A split record counts for both.
        self.head.end = self.head.end.max(index);
        self.close();
        self.coder = Coder::new(Encoder::new(self.piece_bytes), self.tick, self.basis, self.registry);
        self.head = Head { start: index, end: index, news: 0 };
        self.empty = true;
        if self.in_block {
            self.coder.block(index, true);
        }
    }

    fn close(&mut self) {
        let base = self.basis.map_or(0, |basis| basis.baseline.records.len());
        let coder = std::mem::replace(&mut self.coder, Coder::new(Encoder::new(0), self.tick, self.basis, self.registry));
        let check = coder.check_bits();
        let (encoder, models) = coder.into_parts();
        let mut bytes = Vec::from(self.head.write(base));
        bytes.extend_from_slice(&encoder.finish());
        self.pieces.push(Body { bytes, check });
        self.learned.get_or_insert(models);
    }
}
