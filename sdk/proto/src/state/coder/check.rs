//! Do two have the same baseline? What a piece says, folded into 16 bits, by whoever wrote it and by whoever reads it.
//!
//! A difference is read into numbers by what it is a difference from. Were that another than the origin's (a false keyframe, a mistake
//! of ours), every tick from then on would be wrong, and nothing would say so. This is no proof against who means it: see `ledger`.

use std::sync::Arc;

use crate::id::Tick;
use crate::state::Value;
use crate::state::snapshot::Record;

/// Records of the baseline that each tick looks at in turn, whether they change or not.
const IN_TURN: usize = 32;
/// Of a value that only serde understands, so many bytes count.
const BYTES_MAX: usize = 32;
const TURN: u32 = 7;
/// An odd number without a pattern (2^32 divided by the golden ratio).
const SPREAD: u32 = 0x9E37_79B1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check(u32);

impl Check {
    /// Of a tick that is a difference from these records: some of them are looked at.
    pub(super) fn of(tick: Tick, baseline: &[Arc<Record>]) -> Self {
        let mut check = Self(baseline.len() as u32);
        let turns = baseline.len().div_ceil(IN_TURN).max(1);
        for record in baseline.chunks(IN_TURN).nth(tick.0 as usize % turns).unwrap_or_default() {
            check.fold(&[record.entity.counter as i32, record.number as i32]);
            for (kind, value) in record.components() {
                check.fold(&[kind.0.into()]);
                match value {
                    Value::Fields(fields) => check.fold(fields),
                    Value::Bytes { bytes, .. } => {
                        check.fold(&[bytes.len() as i32]);
                        bytes.iter().take(BYTES_MAX).for_each(|byte| check.fold(&[(*byte).into()]));
                    }
                }
            }
        }
        check
    }

    #[inline]
    pub(super) fn fold(&mut self, values: &[i32]) {
        for value in values {
            self.0 = self.0.rotate_left(TURN) ^ *value as u32;
        }
    }

    pub(super) fn bits(self) -> u16 {
        ((self.0 ^ self.0 >> 16).wrapping_mul(SPREAD) >> 16) as u16
    }
}
