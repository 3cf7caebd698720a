//! References to entities inside components: numbered on the way out, looked up on the way in.
//!
//! On the wire an entity is an index into the value's list of references. It travels disguised as an [`Entity`], so that
//! any `Serialize` writes it; counted down from the end of the index space, where it takes one byte.

use std::sync::Arc;

use peerflock::{EntityId, REFS_MAX};

use super::{EncodeError, NameOf};
use crate::engine::{Entity, EntityMapper};

/// The way out: turns the entities it meets into indices, and remembers whom they mean.
pub(super) struct Recorder<'a> {
    name_of: NameOf<'a>,
    refs: Vec<EntityId>,
    met: bool,
    overflown: bool,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(name_of: NameOf<'a>) -> Self {
        Self { name_of, refs: Vec::new(), met: false, overflown: false }
    }

    /// Whether any entity was met, known to the others or not.
    pub(super) fn met_any(&self) -> bool {
        self.met
    }

    /// Whom the indices mean.
    pub(super) fn into_refs(self) -> Result<Arc<[EntityId]>, EncodeError> {
        if self.overflown { Err(EncodeError::TooManyReferences { max: REFS_MAX }) } else { Ok(self.refs.into()) }
    }
}

impl EntityMapper for Recorder<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        self.met = true;
        let Some(id) = (self.name_of)(source) else { return Entity::PLACEHOLDER };
        let index = self.refs.iter().position(|known| *known == id).unwrap_or(self.refs.len());
        if index == REFS_MAX {
            self.overflown = true;
            return Entity::PLACEHOLDER;
        }
        if index == self.refs.len() {
            self.refs.push(id);
        }
        disguise(index)
    }

    fn set_mapped(&mut self, _source: Entity, _target: Entity) {}
}

/// The way in: turns indices into entities. What is no index of ours means nobody.
pub(super) struct Resolver<'a>(pub(super) &'a [Entity]);

impl EntityMapper for Resolver<'_> {
    fn get_mapped(&mut self, source: Entity) -> Entity {
        self.0.get(reveal(source)).copied().unwrap_or(Entity::PLACEHOLDER)
    }

    fn set_mapped(&mut self, _source: Entity, _target: Entity) {}
}

/// The last index is the placeholder's, before it come ours.
const FIRST: u32 = u32::MAX - 2;

fn disguise(index: usize) -> Entity {
    u32::try_from(index).ok().and_then(|index| Entity::from_raw_u32(FIRST.checked_sub(index)?)).unwrap_or(Entity::PLACEHOLDER)
}

fn reveal(entity: Entity) -> usize {
    // The placeholder itself wraps around to an index that no list has.
    FIRST.wrapping_sub(entity.index_u32()) as usize
}

#[cfg(test)]
mod tests {
    use peerflock::{Boot, PeerId};

    use super::*;

    #[test]
    fn references_survive_the_way_out_and_in() {
        let id = |counter| EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter };
        let entity = |index| Entity::from_raw_u32(index).unwrap();
        let name_of = |entity: Entity| (entity.index_u32() < 100).then(|| id(entity.index_u32()));
        let mut recorder = Recorder::new(&name_of);
        let sent = [7, 8, 7, 500].map(|index| recorder.get_mapped(entity(index)));
        assert!(recorder.met_any());
        assert_eq!(*recorder.into_refs().unwrap(), [id(7), id(8)]);

        let here = [entity(70), entity(80)];
        let received = sent.map(|entity| Resolver(&here).get_mapped(entity));
        assert_eq!(received, [here[0], here[1], here[0], Entity::PLACEHOLDER]);
        assert_eq!(Resolver(&[]).get_mapped(sent[0]), Entity::PLACEHOLDER, "an index beyond the list");
    }

    #[test]
    fn a_reference_takes_one_byte() {
        assert_eq!(peerflock::codec::encode(&disguise(0).to_bits()).unwrap().len(), 1);
        assert_eq!(peerflock::codec::encode(&disguise(REFS_MAX - 1).to_bits()).unwrap().len(), 1);
    }

    #[test]
    fn too_many_references_are_an_error() {
        let name_of = |entity: Entity| Some(EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter: entity.index_u32() });
        let mut recorder = Recorder::new(&name_of);
        for index in 0..=REFS_MAX as u32 {
            recorder.get_mapped(Entity::from_raw_u32(index).unwrap());
        }
        assert!(matches!(recorder.into_refs(), Err(EncodeError::TooManyReferences { .. })));
    }
}
