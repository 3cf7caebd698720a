//! What another member says of the entities that it owns: its claims, put together from pieces.

mod assembly;
mod claims;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use self::assembly::Assembly;
pub(crate) use self::claims::ClaimChange;
use self::claims::{Claims, Moment, News};
use super::acks::{Acked, HISTORY_TICKS};
use super::coder::{self, Assembler, Basis, Item, Piece, Said};
use super::digest::{Digester, StateDigest};
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
/// Ticks kept before the oldest that the origin still builds on: for what comes late.
pub(crate) const SLACK_TICKS: u32 = 24;
/// So many pieces far older than a keyframe that was lent: then it is the keyframe that is wrong.
const ANCIENT_MAX: u8 = 8;
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
    /// Where what moves came from; an older tick than the baseline.
    pub(crate) reference: Option<Tick>,
    /// What it does not say is as in the baseline only as far as no other tick says newer.
    pub(crate) partial: bool,
    /// What the piece comes to where the baseline is what it was for the origin; nothing without a baseline.
    pub(crate) check: u16,
    /// What the origin says that the baseline is, now and then.
    pub(crate) digest: Option<StateDigest>,
}

/// What became of a piece.
#[derive(Debug)]
pub(crate) enum Received {
    /// These claims changed.
    Claims(Vec<ClaimChange>),
    /// It is a difference from this tick, on which nothing can be built here: ask a neighbor for a keyframe.
    NoBaseline { tick: Tick, fault: Fault },
}

/// What is wrong with a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// We do not have it.
    Missing,
    /// We have it, but not as its origin has it: all kept ticks are forgotten.
    Differs,
    /// The same, and it is a neighbor's keyframe that was not what its origin had.
    Lent,
}

/// One origin's claims.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) boot: Boot,
    claims: Claims,
    /// Whole ticks, ascending.
    history: VecDeque<Arc<Snapshot>>,
    assemblies: BTreeMap<Tick, Assembly>,
    acked: Acked,
    /// The tick of the first piece.
    first_heard: Option<Tick>,
    /// What we have is built on a neighbor's keyframe of this tick, and the origin has not confirmed it yet.
    lent: Option<Tick>,
    /// Pieces in a row that were far older than what was lent.
    ancient: u8,
}

impl Replica {
    pub(crate) fn new(boot: Boot) -> Self {
        Self {
            boot,
            claims: Claims::default(),
            history: VecDeque::new(),
            assemblies: BTreeMap::new(),
            acked: Acked::default(),
            first_heard: None,
            lent: None,
            ancient: 0,
        }
    }

    pub(crate) fn acked(&self) -> Acked {
        self.acked
    }

    pub(crate) fn claim(&self, entity: &EntityId) -> Option<&Arc<Record>> {
        self.claims.get(entity)
    }

    /// Whether ticks come, up to `tick`, but none has been whole for long.
    pub(crate) fn is_starved(&self, tick: Tick) -> bool {
        let since = self.history.back().map_or(self.first_heard, |newest| Some(newest.tick));
        since.is_some_and(|since| tick.0.saturating_sub(since.0) >= STARVED_TICKS)
    }

    /// The whole tick `tick`, else the newest whole one.
    pub(crate) fn snapshot_near(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        self.snapshot(tick).or_else(|| self.history.back())
    }

    pub(crate) fn newest(&self) -> Option<&Arc<Snapshot>> {
        self.history.back()
    }

    fn snapshot(&self, tick: Tick) -> Option<&Arc<Snapshot>> {
        let back = self.history.back()?.tick.0.checked_sub(tick.0)?;
        // Where no tick was lost it stands here. Each look at another is a walk through memory.
        let place = self.history.len().checked_sub(1)?.checked_sub(back as usize);
        if let Some(snapshot) = place.and_then(|place| self.history.get(place)).filter(|snapshot| snapshot.tick == tick) {
            return Some(snapshot);
        }
        let place = self.history.binary_search_by_key(&tick, |snapshot| snapshot.tick).ok()?;
        self.history.get(place)
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
        let is_far = |from: Tick, to: Tick| to.0.saturating_sub(from.0) >= HISTORY_TICKS;
        if header.baseline.is_some_and(|baseline| {
            is_far(baseline, header.tick) || header.reference.is_some_and(|reference| is_far(reference, baseline))
        }) {
            return Err(DecodeError::Malformed);
        }
        if self.is_ancient(header.tick) {
            self.ancient = self.ancient.saturating_add(1);
            return Ok(if self.lent.is_some() && self.ancient >= ANCIENT_MAX {
                self.forget_ticks();
                Received::NoBaseline { tick: header.tick, fault: Fault::Lent }
            } else {
                Received::Claims(Vec::new())
            });
        }
        self.ancient = 0;
        if self.snapshot(header.tick).is_some() {
            return Ok(Received::Claims(Vec::new()));
        }
        let known = |tick: Option<Tick>| tick.map(|tick| self.snapshot(tick).cloned().ok_or(tick)).transpose();
        let (baseline, reference) = match (known(header.baseline), known(header.reference)) {
            (Ok(baseline), Ok(reference)) => (baseline, reference),
            (Err(tick), _) => return Ok(Received::NoBaseline { tick, fault: Fault::Missing }),
            // The origin will know before long that we have the one without the other.
            (_, Err(_)) => return Ok(Received::Claims(Vec::new())),
        };
        if let (Some(lent), Some(digest), Some(baseline)) = (self.lent, header.digest, &baseline) {
            if Digester::default().digest(baseline) != digest {
                let tick = baseline.tick;
                self.forget_ticks();
                return Ok(Received::NoBaseline { tick, fault: Fault::Lent });
            }
            // What is older may be built on something else.
            self.lent = self.lent.filter(|_| baseline.tick < lent);
        }
        if let Some(baseline) = header.baseline {
            self.forget_before(header.reference.unwrap_or(baseline).min(baseline));
        }
        let baseline = baseline.as_deref();
        let basis = baseline.map(|baseline| Basis { baseline, reference: reference.as_deref() });
        let piece = coder::decode(body, header.tick, basis, registry, limits.entities_per_origin);
        if let Some(tick) = header.baseline
            && piece.as_ref().map_or(true, |piece| piece.check != header.check)
        {
            self.forget_ticks();
            return Ok(Received::NoBaseline { tick, fault: Fault::Differs });
        }
        let piece = piece?;
        if header.pieces == 1 {
            let Piece { changed, removed, items, models, .. } = piece;
            let bases = (header.baseline, header.reference);
            let assembly = Assembly { bases, got: Vec::new(), changed, removed, items, models: Some(models) };
            return self.complete(header, assembly, baseline, limits).map(Received::Claims);
        }
        if self.claims.len() + piece.items.len() > 2 * limits.entities_per_origin {
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        let mut changes = self.apply_piece(header, &piece, baseline, limits)?;
        if !self.assemblies.contains_key(&header.tick) && self.assemblies.len() >= ASSEMBLIES_MAX {
            if self.assemblies.first_key_value().is_some_and(|(oldest, _)| *oldest > header.tick) {
                return Ok(Received::Claims(changes));
            }
            self.assemblies.pop_first();
        }
        let assembly = self.assemblies.entry(header.tick).or_insert_with(|| Assembly::of(&header));
        if !assembly.add(&header, piece)? {
            return Ok(Received::Claims(changes));
        }
        if assembly.len() > 2 * limits.entities_per_origin {
            self.assemblies.remove(&header.tick);
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        if assembly.is_whole()
            && let Some(assembly) = self.assemblies.remove(&header.tick)
        {
            changes.extend(self.complete(header, assembly, baseline, limits)?);
        }
        Ok(Received::Claims(changes))
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
            assembler.add(item.clone(), baseline, limits)?;
        }
        let mut records = assembler.finish()?;
        let spoken_of: BTreeSet<EntityId> = piece.items.iter().map(|item| item.entity).collect();
        let base: &[Arc<Record>] = baseline.map_or(&[], |baseline| &baseline.records);
        let (mut changed, mut removed) = (piece.changed.iter().peekable(), piece.removed.iter().peekable());
        for (index, old) in base.iter().enumerate().take(piece.end).skip(piece.start) {
            if let Some((_, record)) = changed.next_if(|(changed, _)| *changed == index) {
                records.push(record.clone());
            } else if removed.next_if(|entity| **entity == old.entity).is_none()
                && !header.partial
                && !spoken_of.contains(&old.entity)
            {
                records.push(old.clone());
            }
        }
        let moment = Moment { tick: header.tick, at: header.at };
        let mut changes = Vec::new();
        let mut place = 0;
        for record in records {
            place = self.claims.one(moment, record.entity, Some(record), place, &mut changes);
        }
        for entity in piece.removed.iter().copied().chain(gone(&piece.items)) {
            place = self.claims.one(moment, entity, None, place, &mut changes);
        }
        Ok(changes)
    }

    /// A whole tick: a baseline for those to come, and the claims if none newer is there.
    fn complete(
        &mut self,
        header: PieceHeader,
        assembly: Assembly,
        baseline: Option<&Snapshot>,
        limits: &crate::config::Limits,
    ) -> Result<Vec<ClaimChange>, DecodeError> {
        let Assembly { changed, mut removed, items, models, .. } = assembly;
        let base = baseline.map(|baseline| &baseline.records);
        let mut news = header.partial.then(|| News {
            said: changed.iter().map(|(_, record)| record.clone()).collect(),
            gone: removed.iter().copied().chain(gone(&items)).collect(),
        });
        let records = if !removed.is_empty() || !items.is_empty() {
            let mut assembler = Assembler::default();
            for item in items {
                assembler.add(item, baseline, limits)?;
            }
            let anew = assembler.finish()?;
            if let Some(news) = &mut news {
                news.said.extend(anew.iter().cloned());
            }
            let mut changed: Vec<_> = changed.into_iter().map(|(_, record)| record).chain(anew).collect();
            changed.sort_by_key(|record| record.entity);
            removed.sort_unstable();
            Arc::new(merge(base.map_or(&[], |base| base), changed, &removed))
        } else if changed.is_empty() {
            base.cloned().unwrap_or_default()
        } else {
            // The same entities: what changed takes its place.
            let mut records = base.map(|base| Vec::clone(base)).unwrap_or_default();
            for (index, record) in changed {
                *records.get_mut(index).ok_or(DecodeError::Malformed)? = record;
            }
            Arc::new(records)
        };
        if records.len() > limits.entities_per_origin {
            return Err(DecodeError::TooLong(limits.entities_per_origin));
        }
        // Pieces that overlap may name one twice.
        if !records.is_sorted_by(|one, other| one.entity < other.entity) {
            return Err(DecodeError::Malformed);
        }
        let models = Arc::new(models.ok_or(DecodeError::Malformed)?);
        let snapshot = Snapshot::whole(header.tick, header.at, records, models);
        Ok(self.adopt(Snapshot { partial: header.partial, ..snapshot }, news))
    }

    /// Forgets all ticks from `from` on, which somebody altered: what changes for it.
    pub(crate) fn undo(&mut self, from: Tick) -> Vec<ClaimChange> {
        self.history.retain(|snapshot| snapshot.tick < from);
        self.assemblies.clear();
        self.first_heard = None;
        self.acked = Acked::default();
        self.history.iter().for_each(|snapshot| self.acked.add(snapshot.tick));
        self.claims.age();
        self.history.pop_back().map(|newest| self.adopt_snapshot(Snapshot::clone(&newest))).unwrap_or_default()
    }

    /// Nothing can be built on what we have.
    fn forget_ticks(&mut self) {
        self.history.clear();
        self.assemblies.clear();
        (self.first_heard, self.acked) = (None, Acked::default());
        (self.lent, self.ancient) = (None, 0);
    }

    /// Takes a keyframe in. `own`: the origin sent it itself, else it counts until the origin says otherwise.
    pub(crate) fn adopt_keyframe(&mut self, snapshot: Snapshot, own: bool) -> Vec<ClaimChange> {
        if !own {
            self.lent = self.lent.max(Some(snapshot.tick));
        } else if self.lent.is_some() {
            self.forget_ticks();
        }
        self.adopt_snapshot(snapshot)
    }

    /// Takes a whole snapshot in.
    fn adopt_snapshot(&mut self, snapshot: Snapshot) -> Vec<ClaimChange> {
        let news = snapshot.partial.then(|| News { said: snapshot.records.to_vec(), gone: Vec::new() });
        self.adopt(snapshot, news)
    }

    /// The same; `news`: what it says, where it leaves others as they are.
    fn adopt(&mut self, mut snapshot: Snapshot, news: Option<News>) -> Vec<ClaimChange> {
        if self.is_ancient(snapshot.tick) {
            return Vec::new();
        }
        let Err(position) = self.history.binary_search_by_key(&snapshot.tick, |known| known.tick) else { return Vec::new() };
        self.acked.add(snapshot.tick);
        self.claims.share(&mut snapshot);
        let (moment, records) = (Moment { tick: snapshot.tick, at: snapshot.at }, snapshot.records.clone());
        self.history.insert(position, Arc::new(snapshot));
        let newest = self.history.back().map_or(moment.tick, |newest| newest.tick);
        while self.history.front().is_some_and(|oldest| newest.0 - oldest.tick.0 >= HISTORY_TICKS) {
            self.history.pop_front();
        }
        self.assemblies.retain(|tick, _| *tick > moment.tick);
        if moment.tick < self.claims.floor() {
            return Vec::new();
        }
        let mut changes = Vec::new();
        match news {
            Some(news) => self.claims.some(moment, news, &mut changes),
            None => self.claims.all(moment, &records, &mut changes),
        }
        changes
    }

    /// Forgets ticks so long before `oldest`, the oldest that the origin still builds on, that nothing late builds on them either.
    fn forget_before(&mut self, oldest: Tick) {
        while self.history.front().is_some_and(|first| oldest.0.saturating_sub(first.tick.0) > SLACK_TICKS) {
            self.history.pop_front();
        }
    }

    /// Older than anything kept: neither a baseline nor news.
    fn is_ancient(&self, tick: Tick) -> bool {
        self.history.back().is_some_and(|newest| newest.tick.0.saturating_sub(tick.0) >= HISTORY_TICKS)
    }
}

/// Those that items say are gone.
fn gone(items: &[Item]) -> impl Iterator<Item = EntityId> {
    items.iter().filter(|item| item.said == Said::Gone).map(|item| item.entity)
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
mod tests;
