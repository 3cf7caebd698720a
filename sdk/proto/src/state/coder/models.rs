//! What the coder has learned of a game: the odds of every decision, for each group of numbers that is registered.
//!
//! They are part of a tick, as its values are: a difference from a tick starts from what was learned up to that tick, and what it
//! teaches belongs to the tick that it makes. So nothing depends on a packet that may be lost.

use std::sync::Arc;

use super::number::Number;
use super::range::Odds;
use crate::state::Registry;
use crate::wire::DecodeError;

/// Sorts of numbers in one group, by how large they are expected to be; the last one is of those not expected at all.
pub(super) const SIZES: usize = 16;
/// Contexts of "did this entity change".
pub(super) const CHANGED: usize = 32;
/// Contexts of "did this group change".
pub(super) const MOVED: usize = 8;

/// What was learned of a whole game. Groups that are not touched are shared between ticks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Models {
    pub(super) common: Common,
    groups: Vec<Arc<GroupModels>>,
}

/// Of blocks of records: whether anything in them changed.
pub(super) type BlockOdds = [Odds; 2];

/// What does not belong to one component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub(super) block: BlockOdds,
    pub(super) changed: [Odds; CHANGED],
    /// Is it an ordinary change; does it remain; is it the same owner's.
    pub(super) kind_of_change: [Odds; 3],
    /// Lengths, counts of references, numbers of ownership, steps between counters of entities.
    pub(super) counts: [Number; 4],
    pub(super) counter_sign: Odds,
}

/// What was learned of one group of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupModels {
    pub(super) moved: [Odds; MOVED],
    pub(super) sizes: [Number; SIZES],
    pub(super) signs: [Odds; SIGNS],
    /// The largest component of a rotation is another: whether, and which.
    pub(super) turned: [Odds; 4],
}

/// Signs have odds by place, up to so many places.
pub(super) const SIGNS: usize = 8;

impl Models {
    /// Before anything was learned.
    pub(crate) fn new(registry: &Registry) -> Self {
        let group = GroupModels {
            moved: [Odds::EVEN; MOVED],
            sizes: [Number::NEW; SIZES],
            signs: [Odds::EVEN; SIGNS],
            turned: [Odds::EVEN; 4],
        };
        let common = Common {
            block: [Odds::EVEN; 2],
            changed: [Odds::EVEN; CHANGED],
            kind_of_change: [Odds::EVEN; 3],
            counts: [Number::NEW; 4],
            counter_sign: Odds::EVEN,
        };
        let untouched = Arc::new(group);
        Self { common, groups: (0..registry.group_count()).map(|_| untouched.clone()).collect() }
    }

    /// The group numbered so by the registry, to be learned from.
    #[inline]
    pub(super) fn group(&mut self, index: usize) -> &mut GroupModels {
        Arc::make_mut(&mut self.groups[index])
    }

    /// As bytes, for a neighbor's keyframe: all odds that are not even, in order, with the count of those that are between.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut copy = self.clone();
        let (mut bytes, mut even) = (Vec::new(), 0_u16);
        copy.for_each(|odds| {
            if *odds == Odds::EVEN && even < u16::MAX {
                even += 1;
            } else {
                bytes.extend_from_slice(&even.to_le_bytes());
                odds.parts().iter().for_each(|part| bytes.extend_from_slice(&part.to_le_bytes()));
                even = 0;
            }
        });
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote, for the same registry.
    pub(crate) fn from_bytes(bytes: &[u8], registry: &Registry) -> Result<Self, DecodeError> {
        let (entries, rest) = bytes.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(DecodeError::Malformed);
        }
        let mut models = Self::new(registry);
        let mut entries = entries.iter();
        let read = |entry: &[u8; 6]| {
            let part = |index: usize| u16::from_le_bytes([entry[index], entry[index + 1]]);
            (part(0), Odds::from_parts([part(2), part(4)]))
        };
        if entries.clone().any(|entry| read(entry).1.is_none()) {
            return Err(DecodeError::Malformed);
        }
        let read = |entry: &[u8; 6]| (read(entry).0, read(entry).1.unwrap_or(Odds::EVEN));
        let mut next = entries.next().map(read);
        let default = models.groups.first().cloned();
        models.for_each(|odds| {
            if let Some((even, value)) = &mut next {
                if *even == 0 {
                    *odds = *value;
                    next = entries.next().map(read);
                } else {
                    *even -= 1;
                }
            }
        });
        // What nothing was learned of is shared again.
        if let Some(default) = default {
            for group in models.groups.iter_mut().filter(|group| **group == default) {
                *group = default.clone();
            }
        }
        if next.is_some() { Err(DecodeError::Malformed) } else { Ok(models) }
    }

    fn for_each(&mut self, mut visit: impl FnMut(&mut Odds)) {
        let Common { block, changed, kind_of_change, counts, counter_sign } = &mut self.common;
        block.iter_mut().chain(changed).chain(kind_of_change).for_each(&mut visit);
        counts.iter_mut().flat_map(Number::odds_mut).for_each(&mut visit);
        visit(counter_sign);
        for group in &mut self.groups {
            let GroupModels { moved, sizes, signs, turned } = Arc::make_mut(group);
            moved.iter_mut().chain(signs).chain(turned).for_each(&mut visit);
            sizes.iter_mut().flat_map(Number::odds_mut).for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::range::{Bits, Encoder};
    use super::*;
    use crate::state::{Group, Kind, Shape};

    #[test]
    fn what_was_learned_survives_a_keyframe() {
        let mut registry = Registry::default();
        registry.register(Kind { name: "a".into(), shape: Shape::Fields(&[Group::Motion(3), Group::Rotation]) });
        registry.register(Kind { name: "b".into(), shape: Shape::Bytes });
        let mut models = Models::new(&registry);
        assert!(models.to_bytes().is_empty());
        let mut encoder = Encoder::new(0);
        for step in 0..40_i32 {
            encoder.bit(&mut models.common.changed[step as usize % CHANGED], step % 3 == 0);
            let group = models.group(1);
            group.sizes[3].signed(&mut encoder, &mut group.signs[1], step * step - 200);
        }
        let bytes = models.to_bytes();
        assert_eq!(Models::from_bytes(&bytes, &registry), Ok(models));
        assert!(Models::from_bytes(&bytes[1..], &registry).is_err());
        let mut beyond = bytes;
        beyond.extend([255; 6]);
        assert!(Models::from_bytes(&beyond, &registry).is_err());
    }
}
