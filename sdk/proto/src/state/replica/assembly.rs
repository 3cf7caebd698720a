//! A tick that comes in pieces, until it is whole.

use std::sync::Arc;

use super::PieceHeader;
use crate::id::{EntityId, Tick};
use crate::state::coder::{Item, Models, Piece};
use crate::state::snapshot::Record;
use crate::wire::DecodeError;

/// The pieces of a tick that is not whole yet.
#[derive(Debug)]
pub(super) struct Assembly {
    /// What all of them are differences from: baseline and reference.
    pub(super) bases: (Option<Tick>, Option<Tick>),
    pub(super) got: Vec<bool>,
    pub(super) changed: Vec<(usize, Arc<Record>)>,
    pub(super) removed: Vec<EntityId>,
    pub(super) items: Vec<Item>,
    pub(super) models: Option<Models>,
}

impl Assembly {
    pub(super) fn of(header: &PieceHeader) -> Self {
        Self {
            bases: (header.baseline, header.reference),
            got: vec![false; header.pieces],
            changed: Vec::new(),
            removed: Vec::new(),
            items: Vec::new(),
            models: None,
        }
    }

    /// Adds a piece; false if it was there.
    pub(super) fn add(&mut self, header: &PieceHeader, piece: Piece) -> Result<bool, DecodeError> {
        if self.bases != (header.baseline, header.reference) || self.got.len() != header.pieces {
            return Err(DecodeError::Malformed);
        }
        let number = header.piece;
        let got = self.got.get_mut(number).ok_or(DecodeError::Malformed)?;
        if std::mem::replace(got, true) {
            return Ok(false);
        }
        self.changed.extend(piece.changed);
        self.removed.extend(piece.removed);
        self.items.extend(piece.items);
        if number == 0 {
            self.models = Some(piece.models);
        }
        Ok(true)
    }

    /// Whether every piece is there.
    pub(super) fn is_whole(&self) -> bool {
        self.got.iter().all(|got| *got)
    }

    /// How many records it says something of, about.
    pub(super) fn len(&self) -> usize {
        self.changed.len() + self.removed.len() + self.items.iter().map(Item::weight).sum::<usize>()
    }
}
