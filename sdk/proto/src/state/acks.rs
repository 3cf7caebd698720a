//! Which ticks everyone has: acknowledgements, and the baseline that follows from them.
//!
//! Every peer's frames carry entries for the other members, in the order of the sorted roster, so that no identifier need be
//! named; a hash of the roster says which order that is. Where two rosters differ for a moment, the entries are passed over and come again.
//! In a mesh of many, each frame carries some of them in turn: what that costs each tick does not grow with the mesh, up to a point.

use std::collections::BTreeMap;

use crate::id::{PeerId, Tick};
use crate::wire::DecodeError;
use crate::wire::bits::{BitReader, BitWriter};

/// How many ticks back a baseline may lie; snapshots older than this are forgotten everywhere.
pub(crate) const HISTORY_TICKS: u32 = 64;
/// A member that has acknowledged nothing for so many ticks holds nobody back: a neighbor's keyframe will bring it along.
const LAGGARD_TICKS: u32 = 40;
/// For so many ticks after nobody had anything, those who have nothing yet are waited for: their acknowledgements are under way.
const REGAINED_TICKS: u32 = 16;
/// So far back lies what a tick that says only some of what moves is measured by, at most.
const FAR_TICKS: u32 = 20;
/// A tick that so many later ones overtook is lost.
const OVERTAKEN: u32 = 2;
/// Ticks that one entry covers: the newest and those before it.
const MASK_BITS: u32 = 16;
/// Bits of an entry's newest tick: its owner knows the rest.
const TICK_BITS: u32 = 8;
/// Entries that each frame has room for.
const TURN_MIN: usize = 12;
/// In so many frames everyone has its turn, however many there are.
const TURNS_MAX: usize = 8;
/// Bits of the roster's hash that cross the wire.
const HASH_BITS: u32 = 16;
/// What of the hash crosses the wire.
pub(crate) const HASH_MASK: u32 = (1 << HASH_BITS) - 1;

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
    /// When the first of them had something of ours again, after an outage in which all fell behind.
    regained: Option<Tick>,
}

impl AckTable {
    /// What a member has, learned when our newest tick was `now`.
    pub(crate) fn learn(&mut self, member: PeerId, acked: Acked, now: Tick) {
        let nobody = !self.members.is_empty() && self.members.values().all(|acked| acked.is_laggard(now));
        let entry = self.members.entry(member).or_default();
        entry.merge(acked);
        if nobody && !entry.is_laggard(now) {
            self.regained = Some(now);
        }
    }

    pub(crate) fn forget(&mut self, member: &PeerId) {
        self.members.remove(member);
    }

    /// Whether most of those who ought to have a tick by now have not.
    pub(crate) fn is_lost(&self, tick: Tick, now: Tick) -> bool {
        let late = |acked: &&Acked| !acked.is_laggard(now) && acked.newest.0 >= tick.0 + OVERTAKEN;
        let (have, lack): (Vec<&Acked>, Vec<&Acked>) = self.members.values().filter(late).partition(|acked| acked.has(tick));
        lack.len() > have.len()
    }

    /// The tick to look back to from `baseline` where a tick says only some of what moves: one so long ago that most moved since.
    pub(crate) fn far_reference(&self, baseline: Tick, now: Tick, floor: Tick) -> Option<Tick> {
        let timely: Vec<_> = self.members.values().filter(|acked| !acked.is_laggard(now) && acked.newest >= baseline).collect();
        let oldest = baseline.0.saturating_sub(FAR_TICKS).max(floor.0).max(1);
        (oldest..baseline.0).map(Tick).find(|tick| timely.iter().all(|acked| acked.has(*tick)))
    }

    /// The two newest ticks before `now` that all have, laggards apart: who has nothing from `floor` on is one, as what is older is
    /// forgotten elsewhere.
    pub(crate) fn baselines(&self, now: Tick, floor: Tick) -> (Option<Tick>, Option<Tick>) {
        let oldest = now.0.saturating_sub(HISTORY_TICKS - 1).max(floor.0).max(1);
        let is_timely = |acked: &&Acked| !acked.is_laggard(now) && acked.newest.0 >= oldest;
        let timely: Vec<_> = self.members.values().filter(is_timely).collect();
        let awaited = self.regained.is_some_and(|since| now.0.saturating_sub(since.0) <= REGAINED_TICKS);
        if timely.is_empty() || (awaited && timely.len() < self.members.len()) {
            return (None, None);
        }
        let mut common = (oldest..now.0).rev().map(Tick).filter(|tick| timely.iter().all(|acked| acked.has(*tick)));
        (common.next(), common.next())
    }
}

/// Which members' turn it is at a tick, of so many others.
pub(crate) fn turn(tick: Tick, others: usize) -> std::ops::Range<usize> {
    let length = TURN_MIN.max(others.div_ceil(TURNS_MAX));
    let start = tick.0 as usize % others.div_ceil(length).max(1) * length;
    start..(start + length).min(others)
}

/// What one member adds to the hash of a roster: two rosters of the same sum number the others alike.
pub(crate) fn member_hash(member: &PeerId) -> u32 {
    blake3::hash(&member.0).as_bytes().first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// What one frame says of some members, in the roster's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AckList {
    pub(crate) roster_hash: u32,
    /// The place of the first of them.
    pub(crate) start: usize,
    pub(crate) entries: Vec<Entry>,
}

/// One member's ticks as they cross the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    newest: u8,
    mask: u16,
}

impl From<Acked> for Entry {
    fn from(acked: Acked) -> Self {
        Self { newest: acked.newest.0 as u8, mask: acked.mask as u16 }
    }
}

impl Entry {
    /// What it says to the member that it is of, which is at `tick`.
    pub(crate) fn acked(self, tick: Tick) -> Acked {
        let back = (tick.0 as u8).wrapping_sub(self.newest);
        match tick.0.checked_sub(back.into()) {
            Some(newest) => Acked { newest: Tick(newest), mask: self.mask.into() },
            None => Acked::default(),
        }
    }
}

/// Writes what we have of members' ticks.
pub(crate) fn write(writer: &mut BitWriter, list: &AckList) {
    writer.bits(list.roster_hash.into(), HASH_BITS);
    writer.unsigned(list.start as u32);
    writer.unsigned(list.entries.len() as u32);
    // The usual mask is all ones: one bit says so for all, else one for each.
    let whole = list.entries.iter().all(|entry| entry.mask == u16::MAX);
    writer.bit(whole);
    for entry in &list.entries {
        if !whole {
            writer.bit(entry.mask != 0);
        }
        if entry.mask != 0 {
            writer.bits(entry.newest.into(), TICK_BITS);
        }
        if !whole && entry.mask != 0 {
            writer.bit(entry.mask == u16::MAX);
            if entry.mask != u16::MAX {
                writer.bits(entry.mask.into(), MASK_BITS);
            }
        }
    }
}

/// Reads what [`write`] wrote.
pub(crate) fn read(reader: &mut BitReader<'_>, members_max: usize) -> Result<AckList, DecodeError> {
    let roster_hash = reader.bits(HASH_BITS)? as u32;
    let start = reader.below(members_max + 1)?;
    let count = reader.below(members_max + 1)?;
    let whole = reader.bit()?;
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let mut entry = Entry::default();
        if whole || reader.bit()? {
            entry.newest = reader.bits(TICK_BITS)? as u8;
            entry.mask = if whole || reader.bit()? { u16::MAX } else { reader.bits(MASK_BITS)? as u16 };
        }
        entries.push(entry);
    }
    Ok(AckList { roster_hash, start, entries })
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
    fn baselines_are_the_newest_ticks_that_all_have() {
        let mut table = AckTable::default();
        assert_eq!(table.baselines(Tick(10), Tick(0)), (None, None));
        table.learn(PeerId([1; 32]), acked(&[5, 7, 8]), Tick(9));
        assert_eq!(table.baselines(Tick(10), Tick(0)), (Some(Tick(8)), Some(Tick(7))));
        table.learn(PeerId([2; 32]), acked(&[9, 7, 5]), Tick(9));
        assert_eq!(table.baselines(Tick(10), Tick(0)), (Some(Tick(7)), Some(Tick(5))));
        table.learn(PeerId([2; 32]), acked(&[8]), Tick(9));
        assert_eq!(table.baselines(Tick(10), Tick(0)), (Some(Tick(8)), Some(Tick(7))));
    }

    #[test]
    fn a_laggard_holds_nobody_back() {
        let mut table = AckTable::default();
        table.learn(PeerId([1; 32]), acked(&[100]), Tick(100));
        table.learn(PeerId([2; 32]), acked(&[20]), Tick(100));
        assert_eq!(table.baselines(Tick(101), Tick(0)), (Some(Tick(100)), None));
        // What is older than the floor, others have forgotten.
        table.learn(PeerId([3; 32]), acked(&[90]), Tick(100));
        assert_eq!(table.baselines(Tick(101), Tick(0)), (None, None), "they have nothing in common");
        assert_eq!(table.baselines(Tick(101), Tick(91)), (Some(Tick(100)), None));
        table.forget(&PeerId([3; 32]));
        table.forget(&PeerId([1; 32]));
        assert_eq!(table.baselines(Tick(101), Tick(0)), (None, None));
    }

    #[test]
    fn after_an_outage_all_are_waited_for_a_while() {
        let mut table = AckTable::default();
        table.learn(PeerId([1; 32]), acked(&[20]), Tick(20));
        table.learn(PeerId([2; 32]), acked(&[20]), Tick(20));
        table.learn(PeerId([1; 32]), acked(&[100]), Tick(100));
        assert_eq!(table.baselines(Tick(101), Tick(0)), (None, None), "the other was only not as fast");
        table.learn(PeerId([2; 32]), acked(&[100]), Tick(101));
        assert_eq!(table.baselines(Tick(102), Tick(0)), (Some(Tick(100)), None));
        table.learn(PeerId([1; 32]), acked(&[180]), Tick(180));
        assert_eq!(table.baselines(Tick(180 + REGAINED_TICKS), Tick(0)), (None, None));
        assert_eq!(table.baselines(Tick(181 + REGAINED_TICKS), Tick(0)), (Some(Tick(180)), None), "but not forever");
    }

    #[test]
    fn entries_survive_the_wire() {
        let all = [acked(&[3]), Acked::default(), acked(&(300..340).collect::<Vec<_>>())];
        let list = AckList { roster_hash: 7, start: 2, entries: all.map(Entry::from).to_vec() };
        let mut writer = BitWriter::default();
        write(&mut writer, &list);
        let bytes = writer.finish();
        let back = read(&mut BitReader::new(&bytes), 3).unwrap();
        assert_eq!(back, list);
        let first = back.entries[0].acked(Tick(100));
        assert!(first.has(Tick(3)) && !first.has(Tick(2)));
        assert_eq!(back.entries[1].acked(Tick(1)).mask, 0);
        let third = back.entries[2].acked(Tick(400));
        assert!((324..340).all(|tick| third.has(Tick(tick))) && !third.has(Tick(340)) && !third.has(Tick(323)));
        assert!(read(&mut BitReader::new(&bytes), 2).is_err());
        // Where nothing is missing, nothing is said of it: four bytes, and one for each.
        let entries = vec![Entry { newest: 9, mask: u16::MAX }; 7];
        let list = AckList { roster_hash: 7, start: 0, entries };
        let mut writer = BitWriter::default();
        write(&mut writer, &list);
        let bytes = writer.finish();
        assert_eq!((bytes.len(), read(&mut BitReader::new(&bytes), 7)), (11, Ok(list)));
    }

    #[test]
    fn everyone_has_its_turn() {
        for others in [0, 1, 12, 13, 63, 255, 999] {
            let mut heard = vec![false; others];
            for tick in 100..100 + TURNS_MAX as u32 {
                let turn = turn(Tick(tick), others);
                assert!(turn.len() <= TURN_MIN.max(others / TURNS_MAX + 1));
                heard[turn].fill(true);
            }
            assert!(heard.iter().all(|heard| *heard), "{others}");
        }
    }
}
