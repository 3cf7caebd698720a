//! Which ticks everyone has: acknowledgements, and the baseline that follows from them.
//!
//! Every peer's frames carry one entry per other member, in the order of the sorted roster, so that no identifier need be
//! named; a hash of the roster says which order that is. Where two rosters differ for a moment, the entries are passed over and come again.

use std::collections::BTreeMap;

use crate::id::{PeerId, Tick};
use crate::wire::DecodeError;
use crate::wire::bits::{BitReader, BitWriter};

/// How many ticks back a baseline may lie; snapshots older than this are forgotten everywhere.
pub(crate) const HISTORY_TICKS: u32 = 64;
/// A member that has acknowledged nothing for so many ticks holds nobody back: a neighbor's keyframe will bring it along.
const LAGGARD_TICKS: u32 = 40;
/// Ticks below the newest that one entry covers.
const MASK_BITS: u32 = 24;

/// One origin's ticks that one member has whole: the newest, and which of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    newest: Tick,
    /// Bit `n`: the tick `n` before the newest. Bit 0 is the newest itself.
    mask: u64,
}

impl Acked {
    pub(crate) fn add(&mut self, tick: Tick) {
        if self.mask == 0 || tick > self.newest {
            let shift = tick.0.saturating_sub(self.newest.0);
            self.mask = if self.mask == 0 { 1 } else { self.mask.checked_shl(shift).unwrap_or(0) | 1 };
            self.newest = tick;
        } else if let Some(bit) = 1_u64.checked_shl(self.newest.0 - tick.0) {
            self.mask |= bit;
        }
    }

    fn has(&self, tick: Tick) -> bool {
        let Some(back) = self.newest.0.checked_sub(tick.0) else { return false };
        back < u64::BITS && self.mask >> back & 1 == 1
    }

    fn merge(&mut self, other: Self) {
        for back in (0..u64::BITS).filter(|back| other.mask >> back & 1 == 1) {
            if let Some(tick) = other.newest.0.checked_sub(back) {
                self.add(Tick(tick));
            }
        }
    }

    fn is_laggard(&self, now: Tick) -> bool {
        self.mask == 0 || now.0.saturating_sub(self.newest.0) > LAGGARD_TICKS
    }
}

/// What the other members have of our ticks.
#[derive(Debug, Default)]
pub(crate) struct AckTable {
    members: BTreeMap<PeerId, Acked>,
}

impl AckTable {
    pub(crate) fn learn(&mut self, member: PeerId, acked: Acked) {
        self.members.entry(member).or_default().merge(acked);
    }

    pub(crate) fn forget(&mut self, member: &PeerId) {
        self.members.remove(member);
    }

    /// The newest tick before `now` that all have, laggards apart.
    pub(crate) fn baseline(&self, now: Tick) -> Option<Tick> {
        let mut timely = self.members.values().filter(|acked| !acked.is_laggard(now)).peekable();
        timely.peek()?;
        let timely: Vec<_> = timely.collect();
        let oldest = now.0.saturating_sub(HISTORY_TICKS - 1).max(1);
        (oldest..now.0).rev().map(Tick).find(|tick| timely.iter().all(|acked| acked.has(*tick)))
    }
}

/// A hash of the sorted roster: two members with the same one number the others alike.
pub(crate) fn roster_hash<'a>(members: impl Iterator<Item = &'a PeerId>) -> u32 {
    let mut hash = blake3::Hasher::new();
    for member in members {
        hash.update(&member.0);
    }
    let hash = hash.finalize();
    u32::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1], hash.as_bytes()[2], hash.as_bytes()[3]])
}

/// Writes what we have of each member's ticks, in the roster's order.
pub(crate) fn write(writer: &mut BitWriter, roster_hash: u32, entries: &[Acked]) {
    writer.bits(u64::from(roster_hash), 32);
    writer.unsigned(entries.len() as u32);
    for acked in entries {
        writer.bit(acked.mask != 0);
        if acked.mask != 0 {
            writer.bits(u64::from(acked.newest.0), 32);
            // The usual mask is all ones: one bit says so.
            let mask = acked.mask & ((1 << MASK_BITS) - 1);
            let full = mask == (1 << MASK_BITS) - 1;
            writer.bit(full);
            if !full {
                writer.bits(mask, MASK_BITS);
            }
        }
    }
}

/// Reads what [`write`] wrote.
pub(crate) fn read(reader: &mut BitReader<'_>, entries_max: usize) -> Result<(u32, Vec<Acked>), DecodeError> {
    let hash = reader.bits(32)? as u32;
    let count = reader.below(entries_max + 1)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let mut acked = Acked::default();
        if reader.bit()? {
            acked.newest = Tick(reader.bits(32)? as u32);
            acked.mask = if reader.bit()? { (1 << MASK_BITS) - 1 } else { reader.bits(MASK_BITS)? };
        }
        entries.push(acked);
    }
    Ok((hash, entries))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acked(ticks: &[u32]) -> Acked {
        let mut acked = Acked::default();
        for tick in ticks {
            acked.add(Tick(*tick));
        }
        acked
    }

    #[test]
    fn the_baseline_is_the_newest_tick_that_all_have() {
        let mut table = AckTable::default();
        assert_eq!(table.baseline(Tick(10)), None);
        table.learn(PeerId([1; 32]), acked(&[5, 7, 8]));
        assert_eq!(table.baseline(Tick(10)), Some(Tick(8)));
        table.learn(PeerId([2; 32]), acked(&[9, 7, 5]));
        assert_eq!(table.baseline(Tick(10)), Some(Tick(7)));
        table.learn(PeerId([2; 32]), acked(&[8]));
        assert_eq!(table.baseline(Tick(10)), Some(Tick(8)));
    }

    #[test]
    fn a_laggard_holds_nobody_back() {
        let mut table = AckTable::default();
        table.learn(PeerId([1; 32]), acked(&[100]));
        table.learn(PeerId([2; 32]), acked(&[20]));
        assert_eq!(table.baseline(Tick(101)), Some(Tick(100)));
        table.forget(&PeerId([1; 32]));
        assert_eq!(table.baseline(Tick(101)), None);
    }

    #[test]
    fn entries_survive_the_wire() {
        let entries = [acked(&[3]), Acked::default(), acked(&(100..140).collect::<Vec<_>>())];
        let mut writer = BitWriter::default();
        write(&mut writer, 7, &entries);
        let bytes = writer.finish();
        let (hash, read) = read(&mut BitReader::new(&bytes), 3).unwrap();
        assert_eq!((hash, read.len()), (7, 3));
        assert!(read[0].has(Tick(3)) && !read[0].has(Tick(2)));
        assert_eq!(read[1], Acked::default());
        assert!((116..140).all(|tick| read[2].has(Tick(tick))));
        assert!(super::read(&mut BitReader::new(&bytes), 2).is_err());
    }
}
