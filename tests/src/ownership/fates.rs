//! What ought to become of each entity, by what was done to it: to be compared with what became of it.

use std::collections::{BTreeMap, BTreeSet};

use peerflock_proto::{EntityId, Orphan, OwnershipPolicy, PeerId};

/// Steps after which what a peer did is known to another if it is ever to be: the peer may die then.
const KNOWN_AFTER: u32 = 40;

/// All entities that ever were.
#[derive(Debug, Default)]
pub(super) struct Fates {
    entities: BTreeMap<EntityId, Life>,
    dead: BTreeSet<PeerId>,
}

#[derive(Debug)]
struct Life {
    orphan: Orphan,
    end: End,
    /// Who has it by right: its spawner, or whom it was given by that. None: that one died.
    right: Option<PeerId>,
    /// Whether that ever was another than the spawner.
    passed: bool,
    /// Everyone who was ever taken for its owner.
    owners: BTreeSet<PeerId>,
    /// When something last happened to it that others must hear of.
    last: u32,
    story: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// None: it is to be there.
    None,
    /// It was removed by this peer: nobody is to see it ever again.
    Removed(PeerId),
    /// It was removed by one who had taken it over while its owner was only away; or whoever knew of it died with that: all must
    /// agree, on whatever.
    Either,
}

impl Fates {
    pub(super) fn len(&self) -> usize {
        self.entities.len()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &EntityId> {
        self.entities.keys()
    }

    pub(super) fn spawned(&mut self, entity: EntityId, orphan: Orphan, step: u32) {
        let owners = BTreeSet::from([entity.spawner]);
        let story = vec![format!("{step}: spawned, {orphan:?}")];
        self.entities.insert(
            entity,
            Life { orphan, end: End::None, right: Some(entity.spawner), passed: false, owners, last: step, story },
        );
    }

    /// It is `owner`'s, as somebody was told. `from`: that one had it so far.
    pub(super) fn owned(&mut self, entity: EntityId, owner: PeerId, from: Option<PeerId>, step: u32) {
        let dead = self.dead.contains(&owner);
        let Some(life) = self.entities.get_mut(&entity) else { return };
        life.owners.insert(owner);
        if from.is_some() && life.right == from {
            // By right, and gave it away: nothing else makes another the owner for it.
            life.right = (!dead).then_some(owner);
            life.passed = true;
            life.last = step;
        }
    }

    /// `contested`: somebody else thinks that it owns it as well, out of reach. Then only who is sure to be in the right ends it: its
    /// spawner, that never gave it away, or who removes what may be seized.
    pub(super) fn removed(&mut self, entity: EntityId, by: PeerId, contested: bool, step: u32) {
        let Some(life) = self.entities.get_mut(&entity) else { return };
        let sure = !contested || !life.passed;
        let by_right = entity.policy() == OwnershipPolicy::Seize || (sure && life.right.is_none_or(|right| right == by));
        life.end = match life.end {
            End::Removed(_) => life.end,
            _ if by_right => End::Removed(by),
            _ => End::Either,
        };
        life.last = step;
        life.story.push(format!("{step}: {by:?} removes it, {}", if by_right { "by right" } else { "while its owner is away" }));
    }

    /// A peer is no more. `is_known` tells what those who live have.
    pub(super) fn dies(&mut self, peer: PeerId, step: u32, is_known: impl Fn(&EntityId) -> bool) {
        self.dead.insert(peer);
        for (entity, life) in &mut self.entities {
            if life.owners.contains(&peer) {
                life.story.push(format!("{step}: {peer:?} dies"));
            }
            if life.right == Some(peer) {
                life.right = None;
            }
            life.end = match life.end {
                // Whoever knew of it died.
                End::None if !is_known(entity) => End::Either,
                End::Removed(by) if by == peer && (is_known(entity) || step - life.last < KNOWN_AFTER) => End::Either,
                end => end,
            };
        }
    }

    pub(super) fn must_be_there(&self, entity: &EntityId) -> bool {
        self.entities.get(entity).is_some_and(|life| {
            // What goes with its owner may have gone with one who seemed to be gone.
            let alone = life.owners.len() == 1 && life.owners.is_disjoint(&self.dead);
            let stays = life.orphan == Orphan::Adopt || alone;
            life.end == End::None && stays
        })
    }

    pub(super) fn must_be_gone(&self, entity: &EntityId) -> bool {
        self.entities.get(entity).is_some_and(|life| {
            let removed = matches!(life.end, End::Removed(_));
            removed || (life.orphan == Orphan::Vanish && life.owners.is_subset(&self.dead))
        })
    }

    pub(super) fn note(&mut self, entity: EntityId, what: String) {
        if let Some(life) = self.entities.get_mut(&entity) {
            life.story.push(what);
        }
    }

    pub(super) fn story(&self, entity: &EntityId) -> String {
        self.entities.get(entity).map_or(String::new(), |life| format!("  {:?} {}", life.end, life.story.join("\n  ")))
    }
}
