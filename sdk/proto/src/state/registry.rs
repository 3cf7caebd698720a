//! What a value means: the components that a game replicates, the same on every member.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::id::{EntityId, PeerId};

/// Most components one game may register.
pub const KINDS_MAX: usize = 256;
/// Most integers one component may have.
pub const FIELDS_MAX: usize = 64;
/// Most integers in one group.
pub const GROUP_MAX: usize = 8;
/// Most entities one component may refer to.
pub const REFS_MAX: usize = 64;

/// The components that a game replicates, in one order on all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    kinds: Vec<Kind>,
    /// Where each kind's groups begin, counted over all kinds.
    first_groups: Vec<usize>,
    groups: usize,
    /// The first kind with a choice among its integers, and where it stands.
    choice: Option<(KindId, usize)>,
}

impl Registry {
    /// Adds a component and returns its number. A name already there keeps its number and its first shape.
    ///
    /// # Panics
    /// With more than [`KINDS_MAX`] components, more than [`FIELDS_MAX`] integers in one, or a group of none or of more than
    /// [`GROUP_MAX`]: a game's programming error, met at its start.
    pub fn register(&mut self, kind: Kind) -> KindId {
        if let Some(index) = self.kinds.iter().position(|known| known.name == kind.name) {
            return KindId(index as u8);
        }
        assert!(self.kinds.len() < KINDS_MAX, "at most {KINDS_MAX} replicated components");
        if let Shape::Fields(groups) = kind.shape {
            assert!(kind.shape.fields() <= FIELDS_MAX, "at most {FIELDS_MAX} fields in a component");
            assert!(groups.iter().all(|group| (1..=GROUP_MAX).contains(&group.len())), "1 to {GROUP_MAX} integers in a group");
        }
        self.first_groups.push(self.groups);
        self.groups += match kind.shape {
            Shape::Fields(groups) => groups.len(),
            Shape::Bytes => 1,
        };
        let id = KindId(self.kinds.len() as u8);
        self.choice = self.choice.or_else(|| kind.shape.choice().map(|place| (id, place)));
        self.kinds.push(kind);
        id
    }

    /// What `kind` means, if it is registered.
    pub fn kind(&self, kind: KindId) -> Option<&Kind> {
        self.kinds.get(usize::from(kind.0))
    }

    /// The number of a registered kind's first group of integers, counted over all kinds.
    pub(crate) fn first_group(&self, kind: KindId) -> usize {
        self.first_groups.get(usize::from(kind.0)).copied().unwrap_or_default()
    }

    /// The first kind with a choice among its integers, and where that stands.
    pub(crate) fn choice(&self) -> Option<(KindId, usize)> {
        self.choice
    }

    /// How many groups there are in all; bytes count as one.
    pub(crate) fn group_count(&self) -> usize {
        self.groups
    }

    /// Whether `value` has the shape that `kind` promises.
    pub fn admits(&self, kind: KindId, value: &Value, component_bytes_max: usize) -> bool {
        match (self.kind(kind).map(|kind| kind.shape), value) {
            (Some(shape @ Shape::Fields(_)), Value::Fields(fields)) => fields.len() == shape.fields(),
            (Some(Shape::Bytes), Value::Bytes { bytes, refs }) => bytes.len() <= component_bytes_max && refs.len() <= REFS_MAX,
            _ => false,
        }
    }

    /// What two members compare before they play together: equal only if they replicate the same components.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 registry");
        for kind in &self.kinds {
            hash.update(&(kind.name.len() as u64).to_le_bytes()).update(kind.name.as_bytes());
            let Shape::Fields(groups) = kind.shape else {
                hash.update(&[0]);
                continue;
            };
            hash.update(&[1]).update(&(groups.len() as u64).to_le_bytes());
            for group in groups {
                hash.update(match group {
                    Group::Motion(_) => b"m",
                    Group::Rotation => b"r",
                    Group::Choice => b"c",
                });
                hash.update(&(group.len() as u64).to_le_bytes());
            }
        }
        let mut fingerprint = [0; 16];
        hash.finalize_xof().fill(&mut fingerprint);
        fingerprint
    }
}

/// A component's number in the [`Registry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KindId(pub u8);

/// A replicated component: its name, the same in all builds of the game, and the shape of its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The name that all members know it by.
    pub name: String,
    /// What its values look like.
    pub shape: Shape,
}

/// What the values of a component look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Quantized integers (see [`quantize`](super::quantize)), group by group; sent as differences from what all have.
    Fields(&'static [Group]),
    /// Bytes that only the game understands, with references to entities set apart; sent whole when they change.
    Bytes,
}

impl Shape {
    /// How many integers a value has.
    pub fn fields(&self) -> usize {
        match self {
            Self::Fields(groups) => groups.iter().map(Group::len).sum(),
            Self::Bytes => 0,
        }
    }

    fn choice(&self) -> Option<usize> {
        let Self::Fields(groups) = self else { return None };
        let before = groups.iter().take_while(|group| **group != Group::Choice);
        groups.contains(&Group::Choice).then(|| before.map(Group::len).sum())
    }
}

/// Integers of one component that belong together. A group that does not change costs next to nothing, and of what does, the coder
/// learns how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// So many integers, 1 to [`GROUP_MAX`], that move, and move together: a position, a velocity, an angle, a count. They are expected to go on as
    /// they did.
    Motion(u8),
    /// Four integers: a rotation as [`quantize::quaternion`](super::quantize::quaternion) makes them, the index of the largest component and
    /// the other three in steps of any size.
    Rotation,
    /// One integer that stands for something: an enum, a flag. It is expected to stay, and often says whether the entity does.
    Choice,
}

impl Group {
    /// How many integers it has.
    #[expect(clippy::len_without_is_empty, reason = "no group is empty")]
    pub const fn len(&self) -> usize {
        match self {
            Self::Motion(count) => *count as usize,
            Self::Rotation => 4,
            Self::Choice => 1,
        }
    }
}

/// A component's value as all members hold it, bit by bit.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Quantized integers.
    Fields(Fields),
    /// Bytes, and the entities they refer to.
    Bytes {
        /// The game's own encoding, with an index into `refs` wherever it means an entity.
        bytes: Bytes,
        /// The entities meant.
        refs: Arc<[EntityId]>,
    },
}

/// The integers of one value; those of a `Transform` fit in place.
pub type Fields = SmallVec<[i32; 10]>;

impl Value {
    /// Plain bytes that refer to no entity.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes { bytes: bytes.into(), refs: Arc::new([]) }
    }

    /// Quantized integers.
    pub fn fields(fields: impl AsRef<[i32]>) -> Self {
        Self::Fields(Fields::from_slice(fields.as_ref()))
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields(fields) => write!(f, "{fields:?}"),
            Self::Bytes { bytes, refs } => write!(f, "{} bytes, refs {refs:?}", bytes.len()),
        }
    }
}

/// What becomes of an entity whose owner leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Orphan {
    /// It goes with its owner: an avatar, a cursor.
    #[default]
    Vanish,
    /// One of those who stay takes it over, by a rule that all compute alike: a ball, a monster, a bird.
    Adopt,
}

/// What a game does to the entities it owns, committed once a tick.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A new entity, numbered by us.
    Spawn {
        /// Its number; the spawner must be ourselves.
        entity: EntityId,
        /// What becomes of it when we go.
        orphan: Orphan,
    },
    /// A component has this value now.
    Set {
        /// Of which of our entities.
        entity: EntityId,
        /// Which component.
        kind: KindId,
        /// Its value.
        value: Value,
    },
    /// A component is gone.
    Unset {
        /// From which of our entities.
        entity: EntityId,
        /// Which component.
        kind: KindId,
    },
    /// How much it matters that others see the entity's changes soon, beside our other ones: what weighs ten times as much is told ten
    /// times as often where a line cannot take all. 100 until said otherwise.
    Weigh {
        /// Which of our entities.
        entity: EntityId,
        /// Its weight; 0 is as 1.
        weight: u16,
    },
    /// The entity is gone, for everyone, for good.
    Despawn {
        /// Which of our entities.
        entity: EntityId,
    },
    /// The entity is somebody else's from now on.
    Transfer {
        /// Which of our entities.
        entity: EntityId,
        /// Whose it is to be.
        to: PeerId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fingerprint_tells_games_apart() {
        let of = |names: &[&str], shape| {
            let mut registry = Registry::default();
            for name in names {
                registry.register(Kind { name: (*name).into(), shape });
            }
            registry.fingerprint()
        };
        assert_eq!(of(&["a", "b"], Shape::Bytes), of(&["a", "b", "a"], Shape::Bytes));
        assert_ne!(of(&["a", "b"], Shape::Bytes), of(&["b", "a"], Shape::Bytes));
        assert_ne!(of(&["ab"], Shape::Bytes), of(&["a", "b"], Shape::Bytes));
        assert_ne!(of(&["a"], Shape::Bytes), of(&["a"], Shape::Fields(&[Group::Choice])));
        assert_ne!(of(&["a"], Shape::Fields(&[Group::Choice])), of(&["a"], Shape::Fields(&[Group::Motion(1)])));
    }
}
