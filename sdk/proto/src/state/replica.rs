//! What another member says of the entities that it owns: its claims, put together from pieces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::acks::{Acked, HISTORY_TICKS};
use super::coder::{self, Assembler, Item, Piece};
use super::registry::Registry;
use super::snapshot::{Record, Snapshot};
use crate::id::{Boot, EntityId, Tick};
use crate::time::MeshTime;
use crate::wire::DecodeError;

/// Ticks whose pieces are collected at once; the oldest is given up for a newer.
const ASSEMBLIES_MAX: usize = 4;
/// Ticks of which none became whole before a neighbor is asked for one: pieces that get lost again and again would keep us from
/// ever learning what was removed, and the origin from a baseline.
const STARVED_TICKS: u32 = 10;
/// Most pieces of one tick.
pub(crate) const PIECES_MAX: usize = 4_096;

/// Which piece of which tick, and what it is a difference from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceHeader {
    pub(crate) tick: Tick,
    pub(crate) at: MeshTime,
    pub(crate) piece: usize,
    pub(crate) pieces: usize,
    pub(crate) baseline: Option<Tick>,
}

/// A claim that changed: from what, to what, as of when. None: the entity is not there.
#[derive(Debug)]
pub(crate) struct ClaimChange {
    pub(crate) entity: EntityId,
    pub(crate) new: Option<Arc<Record>>,
    /// The number at which the origin held it before, if it did.
    pub(crate) old_number: Option<u32>,
    pub(crate) tick: Tick,
    pub(crate) at: MeshTime,
}

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Received {
    /// These claims changed.
    Claims(Vec<ClaimChange>),
    /// It is a difference from a tick that we do not have: ask a neighbor for a keyframe.
    MissingBaseline(Tick),
}

/// One origin's claims.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) boot: Boot,
    claims: BTreeMap<EntityId, Claim>,
    /// Whole ticks, ascending.
    history: VecDeque<Arc<Snapshot>>,
    assemblies: BTreeMap<Tick, Assembly>,
    acked: Acked,
    /// The tick of the first piece.
    first_heard: Option<Tick>,
}

#[derive(Debug)]
struct Claim {
    tick: Tick,
    record: Arc<Record>,
}

#[derive(Debug)]
struct Assembly {
    got: Vec<bool>,
    items: Vec<Item>,
}

impl Replica {
    pub(crate) fn new(boot: Boot) -> Self {
        Self {
            boot,
            claims: BTreeMap::new(),
            history: VecDeque::new(),
            assemblies: BTreeMap::new(),
            acked: Acked::default(),
            first_heard: None,
        }
    }

    pub(crate) fn acked(&self) -> Acked {
        self.acked
    }

    pub(crate) fn claim(&self, entity: &EntityId) -> Option<&Arc<Record>> {
        self.claims.get(entity).map(|claim| &claim.record)
    }

    /// Whether ticks come, up to `tick`, but none has been whole for long.
    pub(crate) fn is_starved(&self, tick: Tick) -> bool {
        let since = self.history.back().map_or(self.first_heard, |newest| Some(newest.tick));
        since.is_some_and(|since| tick.0.saturating_sub(since.0) >= STARVED_TICKS)
    }

    /// The whole tick `tick`, else the newest whole one.
    pub(crate) fn snapshot_near(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        self.history.iter().find(|snapshot| snapshot.tick == tick).or_else(|| self.history.back())
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.back()
    }

    /// Takes a piece in.
    pub(crate) fn receive(
        &mut self,
        header: PieceHeader,
        body: &[u8],
        registry: &Registry,
        limits: &crate::config::Limits,
    ) -> Result<Received, DecodeError> {
        self.first_heard.get_or_insert(header.tick);
        let baseline = match header.baseline {
            None => None,
            Some(tick) => match self.history.iter().find(|snapshot| snapshot.tick == tick) {
                Some(snapshot) => Some(snapshot.clone()),
                None => return Ok(Received::MissingBaseline(tick)),
            },
        };
        if self.history.iter().any(|snapshot| snapshot.tick == header.tick) || self.is_ancient(header.tick) {
            return Ok(Received::Claims(Vec::new()));
        }
        let piece = coder::decode(body, baseline.as_deref(), registry)?;
        if header.pieces == 1 {
            return self.complete(header, piece.items, baseline.as_deref(), limits);
        }
        let changes = self.apply_piece(header, &piece, baseline.as_deref(), limits)?;
        if !self.assemblies.contains_key(&header.tick) && self.assemblies.len() >= ASSEMBLIES_MAX {
            if self.assemblies.first_key_value().is_some_and(|(oldest, _)| *oldest > header.tick) {
                return Ok(Received::Claims(changes));
            }
            self.assemblies.pop_first();
        }
        let assembly =
            self.assemblies.entry(header.tick).or_insert_with(|| Assembly { got: vec![false; header.pieces], items: Vec::new() });
        match assembly.got.get_mut(header.piece) {
            Some(got) if !*got => *got = true,
            Some(_) => return Ok(Received::Claims(changes)),
            None => return Err(DecodeError::Malformed),
        }
        assembly.items.extend(piece.items);
        if assembly.items.len() > 2 * limits.entities_per_origin {
            self.assemblies.remove(&header.tick);
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        if !assembly.got.iter().all(|got| *got) {
            return Ok(Received::Claims(changes));
        }
        let items = self.assemblies.remove(&header.tick).map(|assembly| assembly.items).unwrap_or_default();
        let Received::Claims(completed) = self.complete(header, items, baseline.as_deref(), limits)? else {
            return Ok(Received::Claims(changes));
        };
        Ok(Received::Claims(changes.into_iter().chain(completed).collect()))
    }

    /// A piece of a tick that is not whole yet: what it says counts at once, but for records that it says only a part of.
    fn apply_piece(
        &mut self,
        header: PieceHeader,
        piece: &Piece,
        baseline: Option<&Snapshot>,
        limits: &crate::config::Limits,
    ) -> Result<Vec<ClaimChange>, DecodeError> {
        let mut assembler = Assembler::default();
        for item in piece.items.iter().filter(|item| !item.split) {
            assembler.add(item.clone(), baseline, limits.component_bytes)?;
        }
        let (records, removed) = assembler.finish()?;
        let mentioned: BTreeSet<EntityId> = piece.items.iter().map(|item| item.entity).collect();
        let base: &[Arc<Record>] = baseline.map_or(&[], |baseline| &baseline.records);
        let unchanged = base[piece.start.min(base.len())..piece.end.min(base.len())]
            .iter()
            .filter(|record| !mentioned.contains(&record.entity))
            .cloned();
        let mut changes = Vec::new();
        for record in unchanged.chain(records) {
            self.claim_at(header, record.entity, Some(record), &mut changes);
        }
        for entity in removed {
            self.claim_at(header, entity, None, &mut changes);
        }
        Ok(changes)
    }

    /// A whole tick: a baseline for those to come, and the claims if none newer is there.
    fn complete(
        &mut self,
        header: PieceHeader,
        items: Vec<Item>,
        baseline: Option<&Snapshot>,
        limits: &crate::config::Limits,
    ) -> Result<Received, DecodeError> {
        let mut assembler = Assembler::default();
        for item in items {
            assembler.add(item, baseline, limits.component_bytes)?;
        }
        let (changed, mut removed) = assembler.finish()?;
        removed.sort_unstable();
        let base: &[Arc<Record>] = baseline.map_or(&[], |baseline| &baseline.records);
        let records = merge(base, changed, &removed);
        if records.len() > limits.entities_per_origin {
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        Ok(Received::Claims(self.adopt_snapshot(Snapshot { tick: header.tick, at: header.at, records })))
    }

    /// Forgets all ticks from `from` on, which somebody altered: what changes for it.
    pub(crate) fn undo(&mut self, from: Tick) -> Vec<ClaimChange> {
        self.history.retain(|snapshot| snapshot.tick < from);
        self.assemblies.clear();
        self.first_heard = None;
        self.acked = Acked::default();
        self.history.iter().for_each(|snapshot| self.acked.add(snapshot.tick));
        // Whatever comes next is newer than what is left.
        self.claims.values_mut().for_each(|claim| claim.tick = Tick(0));
        self.history.pop_back().map(|newest| self.adopt_snapshot(Snapshot::clone(&newest))).unwrap_or_default()
    }

    /// Takes a whole snapshot in: from its pieces, or from a neighbor's keyframe.
    pub(crate) fn adopt_snapshot(&mut self, snapshot: Snapshot) -> Vec<ClaimChange> {
        if self.is_ancient(snapshot.tick) {
            return Vec::new();
        }
        let Err(position) = self.history.binary_search_by_key(&snapshot.tick, |known| known.tick) else { return Vec::new() };
        self.acked.add(snapshot.tick);
        let snapshot = Arc::new(snapshot);
        self.history.insert(position, snapshot.clone());
        let newest = self.history.back().map_or(snapshot.tick, |newest| newest.tick);
        while self.history.front().is_some_and(|oldest| newest.0 - oldest.tick.0 >= HISTORY_TICKS) {
            self.history.pop_front();
        }
        self.assemblies.retain(|tick, _| *tick > snapshot.tick);

        let header = PieceHeader { tick: snapshot.tick, at: snapshot.at, piece: 0, pieces: 1, baseline: None };
        let mut changes = Vec::new();
        for record in &snapshot.records {
            self.claim_at(header, record.entity, Some(record.clone()), &mut changes);
        }
        if self.claims.len() > snapshot.records.len() {
            let gone: Vec<EntityId> = self
                .claims
                .iter()
                .filter(|(entity, claim)| claim.tick < snapshot.tick && snapshot.get(entity).is_none())
                .map(|(entity, _)| *entity)
                .collect();
            for entity in gone {
                self.claim_at(header, entity, None, &mut changes);
            }
        }
        changes
    }

    fn claim_at(&mut self, header: PieceHeader, entity: EntityId, new: Option<Arc<Record>>, changes: &mut Vec<ClaimChange>) {
        let newest_whole = self.history.back().map_or(Tick(0), |newest| newest.tick);
        let old = self.claims.get_mut(&entity);
        // What a newer tick no longer has is gone, whatever an older one says.
        if old.as_ref().map_or(newest_whole, |old| old.tick) > header.tick {
            return;
        }
        let old_number = old.as_ref().map(|old| old.record.number);
        let differs = match (&old, &new) {
            (Some(old), Some(new)) => !Arc::ptr_eq(&old.record, new) && old.record != *new,
            (old, new) => old.is_some() != new.is_some(),
        };
        match (old, &new) {
            (Some(old), Some(record)) => *old = Claim { tick: header.tick, record: record.clone() },
            (None, Some(record)) => {
                self.claims.insert(entity, Claim { tick: header.tick, record: record.clone() });
            }
            (_, None) => {
                self.claims.remove(&entity);
            }
        }
        if differs {
            changes.push(ClaimChange { entity, new, old_number, tick: header.tick, at: header.at });
        }
    }

    /// Older than anything kept: neither a baseline nor news.
    fn is_ancient(&self, tick: Tick) -> bool {
        self.history.back().is_some_and(|newest| newest.tick.0.saturating_sub(tick.0) >= HISTORY_TICKS)
    }
}

/// The baseline's records with the changed ones put in and the removed ones left out. All three are sorted.
fn merge(base: &[Arc<Record>], changed: Vec<Arc<Record>>, removed: &[EntityId]) -> Vec<Arc<Record>> {
    let mut records = Vec::with_capacity(base.len() + changed.len());
    let mut changed = changed.into_iter().peekable();
    for old in base {
        while let Some(record) = changed.next_if(|record| record.entity < old.entity) {
            records.push(record);
        }
        match changed.next_if(|record| record.entity == old.entity) {
            Some(record) => records.push(record),
            None if removed.binary_search(&old.entity).is_ok() => {}
            None => records.push(old.clone()),
        }
    }
    records.extend(changed);
    records
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, KindId, Orphan, Shape, Value};
    use super::*;
    use crate::config::Limits;
    use crate::id::PeerId;

    fn registry() -> Registry {
        let mut registry = Registry::default();
        registry.register(Kind { name: "place".into(), shape: Shape::Fields(1) });
        registry
    }

    fn entity(counter: u32) -> EntityId {
        EntityId { spawner: PeerId([1; 32]), boot: Boot(7), counter }
    }

    fn snapshot(tick: u32, places: &[(u32, i32)]) -> Snapshot {
        let record = |(counter, place): &(u32, i32)| {
            let mut record = Record::new(entity(*counter), 0, Orphan::Vanish);
            record.set(KindId(0), Value::fields([*place]));
            Arc::new(record)
        };
        Snapshot { tick: Tick(tick), at: MeshTime(0), records: places.iter().map(record).collect() }
    }

    fn header(tick: u32, piece: usize, pieces: usize, baseline: Option<u32>) -> PieceHeader {
        PieceHeader { tick: Tick(tick), at: MeshTime(0), piece, pieces, baseline: baseline.map(Tick) }
    }

    fn claims(received: Received) -> Vec<(u32, bool)> {
        match received {
            Received::Claims(changes) => changes.iter().map(|change| (change.entity.counter, change.new.is_some())).collect(),
            Received::MissingBaseline(tick) => panic!("{tick:?} is missing"),
        }
    }

    #[test]
    fn deltas_follow_one_another_and_old_ones_change_nothing() {
        let (registry, limits) = (registry(), Limits::default());
        let mut replica = Replica::new(Boot(7));
        let (first, second, third) =
            (snapshot(1, &[(1, 10), (2, 20)]), snapshot(2, &[(1, 11), (2, 20)]), snapshot(3, &[(2, 20), (3, 30)]));
        let full = &coder::encode(&first, None, 1_000)[0];
        assert_eq!(claims(replica.receive(header(1, 0, 1, None), full, &registry, &limits).unwrap()), [(1, true), (2, true)]);
        let delta = &coder::encode(&third, Some(&first), 1_000)[0];
        assert_eq!(
            claims(replica.receive(header(3, 0, 1, Some(1)), delta, &registry, &limits).unwrap()),
            [(3, true), (1, false)]
        );
        // Late: a baseline to come, but not what is shown.
        let late = &coder::encode(&second, Some(&first), 1_000)[0];
        assert_eq!(claims(replica.receive(header(2, 0, 1, Some(1)), late, &registry, &limits).unwrap()), []);
        assert_eq!(replica.claims.len(), 2);
        assert!(matches!(
            replica.receive(header(9, 0, 1, Some(8)), late, &registry, &limits),
            Ok(Received::MissingBaseline(Tick(8)))
        ));
    }

    #[test]
    fn a_piece_counts_before_its_tick_is_whole() {
        let (registry, limits) = (registry(), Limits::default());
        let mut replica = Replica::new(Boot(7));
        let first: Vec<_> = (0..100).map(|n| (n, 0)).collect();
        let second: Vec<_> = (0..100).map(|n| (n, 1_000_000)).collect();
        let (first, second) = (snapshot(1, &first), snapshot(2, &second));
        replica.adopt_snapshot(first.clone());
        let pieces = coder::encode(&second, Some(&first), 200);
        assert!(pieces.len() > 2);
        let receive = |replica: &mut Replica, piece: usize| {
            let header = header(2, piece, pieces.len(), Some(1));
            claims(replica.receive(header, &pieces[piece], &registry, &limits).unwrap()).len()
        };
        let first_piece = receive(&mut replica, 0);
        assert!(first_piece > 10 && first_piece < 100);
        let rest: usize = (1..pieces.len()).map(|piece| receive(&mut replica, piece)).sum();
        assert_eq!(first_piece + rest, 100);
        assert_eq!(replica.newest().unwrap().records, second.records);
    }

    #[test]
    fn one_to_whom_no_tick_comes_whole_starves_until_one_does() {
        let (registry, limits) = (registry(), Limits::default());
        let mut replica = Replica::new(Boot(7));
        assert!(!replica.is_starved(Tick(1_000)), "who never heard anything does not know what it misses");
        let places: Vec<_> = (0..100).map(|n| (n, 1_000_000)).collect();
        let pieces = coder::encode(&snapshot(5, &places), None, 200);
        assert!(pieces.len() > 2);
        for tick in 5..5 + STARVED_TICKS {
            replica.receive(header(tick, 0, pieces.len(), None), &pieces[0], &registry, &limits).unwrap();
            assert!(!replica.is_starved(Tick(tick)));
        }
        let starved = 5 + STARVED_TICKS;
        replica.receive(header(starved, 0, pieces.len(), None), &pieces[0], &registry, &limits).unwrap();
        assert!(replica.is_starved(Tick(starved)));
        replica.adopt_snapshot(snapshot(starved, &places));
        assert!(!replica.is_starved(Tick(starved)));
        assert!(!replica.is_starved(Tick(starved + STARVED_TICKS - 1)));
        assert!(replica.is_starved(Tick(starved + STARVED_TICKS)));
    }
}
