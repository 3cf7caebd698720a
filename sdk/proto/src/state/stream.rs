//! One origin's ticks through the coder and back, for measuring it: the coder and the receiver that games use, and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Group;
use super::acks::HISTORY_TICKS;
use super::coder::{self, Basis, Body, Models};
use super::registry::{Kind, KindId, Orphan, Registry, Shape, Value};
use super::replica::{PieceHeader, Replica};
use super::snapshot::{Record, Snapshot};
use crate::config::Limits;
use crate::id::{Boot, EntityId, PeerId, Tick};
use crate::time::MeshTime;
use crate::wire::{DecodeError, PAYLOAD_BYTES_MAX};

/// A part of a tick, with a check of its baseline that crosses the wire in the packet's header.
#[derive(Clone, Debug)]
pub struct Piece(Body);

impl Piece {
    /// How long what the coder made is, in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }
}

/// The ticks of an origin whose entities have one component each.
#[derive(Debug)]
pub struct Sender {
    registry: Registry,
    fields: usize,
    history: VecDeque<Snapshot>,
}

/// Which ticks one is a difference from: the baseline, and an older one, the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bases {
    /// What everyone has.
    pub baseline: Option<Tick>,
    /// From where what moves came to the baseline.
    pub reference: Option<Tick>,
}

impl Sender {
    /// Of entities with a component of these groups of integers.
    pub fn new(groups: &'static [Group]) -> Self {
        let shape = Shape::Fields(groups);
        Self { registry: registry(groups), fields: shape.fields(), history: VecDeque::new() }
    }

    /// The game's part: what all entities are now, one after the other. What is as it was in the tick before is not touched.
    pub fn set(&mut self, tick: Tick, integers: &[i32]) {
        let last = self.history.back();
        let record = |(index, fields): (usize, &[i32])| {
            let old = last.and_then(|last| last.records.get(index));
            let value = Value::fields(fields);
            if let Some(old) = old.filter(|old| old.get(KindId(0)) == Some(&value)) {
                return old.clone();
            }
            let entity = EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter: index as u32 };
            let mut record = Record::new(entity, 0, Orphan::Adopt);
            record.set(KindId(0), value);
            Arc::new(record)
        };
        let records = Arc::new(integers.chunks_exact(self.fields).enumerate().map(record).collect());
        let models = last.map_or_else(|| Arc::new(Models::new(&self.registry)), |last| last.models.clone());
        self.history.push_back(Snapshot::whole(tick, MeshTime(0), records, models));
        if self.history.len() > HISTORY_TICKS as usize {
            self.history.pop_front();
        }
    }

    /// The pieces of the tick that was set last.
    pub fn encode(&mut self, bases: Bases) -> Vec<Piece> {
        let Some(mut tick) = self.history.pop_back() else { return Vec::new() };
        let known = |tick: Option<Tick>| tick.and_then(|tick| self.history.iter().rev().find(|known| known.tick == tick));
        let basis = known(bases.baseline).map(|baseline| Basis { baseline, reference: known(bases.reference) });
        let (pieces, models) = coder::encode(&tick, basis, &self.registry, PAYLOAD_BYTES_MAX);
        tick.models = Arc::new(models);
        self.history.push_back(tick);
        pieces.into_iter().map(Piece).collect()
    }
}

/// Somebody who hears those ticks.
#[derive(Debug)]
pub struct Receiver {
    registry: Registry,
    limits: Limits,
    replica: Replica,
}

impl Receiver {
    /// Of entities with a component of these groups of integers.
    pub fn new(groups: &'static [Group]) -> Self {
        Self { registry: registry(groups), limits: Limits::default(), replica: Replica::new(Boot(1)) }
    }

    /// Takes all pieces of a tick in.
    ///
    /// # Errors
    /// If they are not pieces of such a tick.
    pub fn decode(&mut self, tick: Tick, bases: Bases, pieces: &[Piece]) -> Result<(), DecodeError> {
        for (piece, Piece(body)) in pieces.iter().enumerate() {
            let Bases { baseline, reference } = bases;
            let header = PieceHeader {
                tick,
                at: MeshTime(0),
                piece,
                pieces: pieces.len(),
                baseline,
                reference,
                partial: false,
                check: body.check,
                digest: None,
            };
            self.replica.receive(header, &body.bytes, &self.registry, &self.limits)?;
        }
        Ok(())
    }

    /// The newest whole tick, and what all entities are in it.
    pub fn newest(&self) -> Option<(Tick, Vec<i32>)> {
        let newest = self.replica.newest()?;
        let values = newest.records.iter().filter_map(|record| record.get(KindId(0)));
        let integers = values.flat_map(|value| match value {
            Value::Fields(fields) => fields.to_vec(),
            Value::Bytes { .. } => Vec::new(),
        });
        Some((newest.tick, integers.collect()))
    }
}

fn registry(groups: &'static [Group]) -> Registry {
    let mut registry = Registry::default();
    registry.register(Kind { name: "component".into(), shape: Shape::Fields(groups) });
    registry
}
