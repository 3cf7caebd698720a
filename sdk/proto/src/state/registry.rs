//! What a value means: the components that a game replicates, the same on every member.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{EntityId, PeerId};

/// Most components one game may register.
pub const KINDS_MAX: usize = 256;
/// Most integers one component may have.
pub const FIELDS_MAX: usize = 64;
/// Most entities one component may refer to.
pub const REFS_MAX: usize = 64;

/// The components that a game replicates, in one order on all members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    kinds: Vec<Kind>,
}

impl Registry {
    /// Adds a component and returns its number. A name already there keeps its number and its first shape.
    ///
    /// # Panics
    /// With more than [`KINDS_MAX`] components, or more than [`FIELDS_MAX`] integers in one: a game's programming error,
    /// met at its start.
    pub fn register(&mut self, kind: Kind) -> KindId {
        if let Some(index) = self.kinds.iter().position(|known| known.name == kind.name) {
            return KindId(index as u8);
        }
        assert!(self.kinds.len() < KINDS_MAX, "at most {KINDS_MAX} replicated components");
        assert!(!matches!(kind.shape, Shape::Fields(n) if n > FIELDS_MAX), "at most {FIELDS_MAX} fields in a component");
        self.kinds.push(kind);
        KindId((self.kinds.len() - 1) as u8)
    }

    /// What `kind` means, if it is registered.
    pub fn kind(&self, kind: KindId) -> Option<&Kind> {
        self.kinds.get(usize::from(kind.0))
    }

    /// Whether `value` has the shape that `kind` promises.
    pub fn admits(&self, kind: KindId, value: &Value, component_bytes_max: usize) -> bool {
        match (self.kind(kind).map(|kind| kind.shape), value) {
            (Some(Shape::Fields(n)), Value::Fields(fields)) => fields.len() == n,
            (Some(Shape::Bytes), Value::Bytes { bytes, refs }) => bytes.len() <= component_bytes_max && refs.len() <= REFS_MAX,
            _ => false,
        }
    }

    /// What two members compare before they play together: equal only if they replicate the same components.
    pub fn fingerprint(&self) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 registry");
        for kind in &self.kinds {
            hash.update(&(kind.name.len() as u64).to_le_bytes()).update(kind.name.as_bytes());
            let shape = match kind.shape {
                Shape::Bytes => 0,
                Shape::Fields(n) => 1 + n as u64,
            };
            hash.update(&shape.to_le_bytes());
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
    /// So many quantized integers, sent as differences (see [`quantize`](super::quantize)).
    Fields(usize),
    /// Bytes that only the game understands, with references to entities set apart; sent whole when they change.
    Bytes,
}

/// A component's value as all members hold it, bit by bit.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// Quantized integers.
    Fields(Arc<[i32]>),
    /// Bytes, and the entities they refer to.
    Bytes {
        /// The game's own encoding, with an index into `refs` wherever it means an entity.
        bytes: Bytes,
        /// The entities meant.
        refs: Arc<[EntityId]>,
    },
}

impl Value {
    /// Plain bytes that refer to no entity.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self::Bytes { bytes: bytes.into(), refs: Arc::new([]) }
    }

    /// Quantized integers.
    pub fn fields(fields: impl Into<Arc<[i32]>>) -> Self {
        Self::Fields(fields.into())
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
        assert_ne!(of(&["a"], Shape::Bytes), of(&["a"], Shape::Fields(1)));
    }
}
