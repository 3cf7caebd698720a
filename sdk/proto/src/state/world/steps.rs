//! The steps of ownership: what others say of who owns what, and what to make of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Surroundings, World};
use crate::id::{EntityId, OwnershipPolicy, PeerId, Tick};
use crate::node::WorldEvent;
use crate::state::Orphan;
use crate::state::ownership::{Means, NUMBER_MAX, Title, Verdict, part_of};
use crate::state::snapshot::Record;
use crate::wire::{Adoption, Holding, Numbered};

/// Most steps of ownership kept that cannot be taken yet.
const PENDING_MAX: usize = 4_096;
/// An owner is given so long to object when others say that they adopted what is its own.
const OBJECT_WITHIN: Duration = Duration::from_secs(1);
/// Most entities for which that is waited for.
const CONTESTED_MAX: usize = 4_096;

/// A change of owner as somebody announced it.
#[derive(Clone, Debug)]
pub(super) struct Step {
    means: Means,
    record: Option<Arc<Record>>,
}

/// What is to be said to what was heard.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// To everyone: these are ours.
    pub(crate) objections: Vec<Adoption>,
    /// To whoever spoke of them, and to all neighbors: these are gone for good.
    pub(crate) ends: Vec<Holding>,
}

impl World {
    /// The owner says that it gave an entity away.
    pub(crate) fn transferred(&mut self, from: PeerId, number: u32, to: PeerId, record: Record, around: &mut Surroundings<'_>) {
        let entity = record.entity;
        if number > NUMBER_MAX {
            return;
        }
        self.step(entity, number, to, Step { means: Means::Given(from), record: Some(Arc::new(record)) }, around);
    }

    /// A member says that it took a leaver's entities over. Where it was mistaken, what we say against it.
    pub(crate) fn adopted(&mut self, by: PeerId, adoptions: Vec<Adoption>, around: &mut Surroundings<'_>) -> Reply {
        let mut reply = Reply::default();
        for Adoption { entity, number, adopted } in adoptions {
            let title = self.ownership.title(&entity);
            let means = if adopted { Means::Adopted } else { Means::Reclaimed };
            let contested = number > title.number && entity.policy() != OwnershipPolicy::Seize;
            if number > NUMBER_MAX {
                self.foreign_claims += 1;
            } else if title.owner.is_none() && adopted {
                reply.ends.push(self.deny(entity, number));
            } else if by == self.me || !contested || !self.is_mine(&entity, around) {
                self.step(entity, number, by, Step { means, record: None }, around);
            } else if title.resists(&entity, &self.me, &by, adopted) {
                reply.objections.push(self.reclaim(entity, number + 1, around));
            } else {
                let title = Title { number, owner: Some(by), ..self.ownership.after(&entity, number, by, means) };
                self.pass_to(entity, Title { adopted, ..title }, None, around);
            }
        }
        reply
    }

    /// A member says that it takes entities that everyone may take. Of others that is no word of an owner.
    pub(crate) fn seized(&mut self, by: PeerId, seized: Vec<Numbered>, around: &mut Surroundings<'_>) -> Reply {
        let mut reply = Reply::default();
        for Numbered { entity, number } in seized {
            if entity.policy() != OwnershipPolicy::Seize || number >= NUMBER_MAX {
                self.foreign_claims += 1;
            } else if self.ownership.owner(&entity).is_none() {
                reply.ends.push(self.deny(entity, number));
            } else {
                self.step(entity, number, by, Step { means: Means::Seized, record: None }, around);
            }
        }
        reply
    }

    /// A member says that it removed entities of its own.
    pub(crate) fn removed(&mut self, by: PeerId, removed: Vec<Numbered>, around: &mut Surroundings<'_>) {
        for Numbered { entity, number } in removed.into_iter().filter(|removed| removed.number <= NUMBER_MAX) {
            self.step(entity, number, by, Step { means: Means::Removed, record: None }, around);
        }
    }

    /// A neighbor says who owns what, where that differs from what we think. Further on is believed, but not that somebody
    /// adopted what its owner still holds; then, if that owner is ourselves, what we say against it.
    pub(crate) fn learn(&mut self, holdings: Vec<Holding>, around: &mut Surroundings<'_>) -> Reply {
        let mut reply = Reply::default();
        for holding in holdings {
            let (entity, number, adopted) = (holding.entity, holding.number, holding.adopted);
            let (title, told) = (self.ownership.title(&entity), Title::from(holding));
            if number > NUMBER_MAX {
                continue;
            }
            if (number, told.owner) == (title.number, title.owner) {
                if title.adopted && !adopted {
                    self.ownership.set(entity, told);
                }
                continue;
            }
            if told.owner == Some(self.me) && self.ownership.is_removed_by_us(&entity) {
                self.insist(entity, number);
                continue;
            }
            if entity.policy() == OwnershipPolicy::Seize {
                if told.beats(&title, &entity) {
                    self.enter(entity, told, around);
                } else if title.owner.is_none() {
                    reply.ends.push(self.deny(entity, number));
                }
                continue;
            }
            // What was only taken over for one that seemed gone does not outlive its end, whatever the numbers.
            match (title.owner, told.owner) {
                (None, Some(_)) if adopted => {
                    reply.ends.push(self.deny(entity, number));
                    continue;
                }
                (Some(_), None) if title.adopted => {
                    self.enter(entity, Title { number: number.max(title.number), ..told }, around);
                    continue;
                }
                _ => {}
            }
            if !told.beats(&title, &entity) {
                continue;
            }
            if self.is_mine(&entity, around) {
                // What was given on, we gave on.
                let objects = told.owner.is_none_or(|owner| {
                    number > title.number && (title.adopted || adopted) && title.resists(&entity, &self.me, &owner, adopted)
                });
                if objects {
                    reply.objections.push(self.reclaim(entity, number + 1, around));
                    continue;
                }
            } else if adopted && self.may_object(&entity, &told, around) {
                continue;
            }
            self.enter(entity, told, around);
        }
        reply
    }

    /// One part of what is known of who owns what, or all of it.
    pub(crate) fn holdings(&self, part: Option<u8>) -> Vec<Holding> {
        self.ownership
            .titles()
            .filter(|(entity, _)| part.is_none_or(|part| part_of(entity) == part))
            .map(|(entity, title)| holding(entity, title))
            .collect()
    }

    pub(crate) fn part_hash(&self, part: u8) -> [u8; 16] {
        self.ownership.part_hash(part)
    }

    /// Takes an entity that everyone may take, and that is here. What others are to be told.
    pub(crate) fn seize(&mut self, entity: EntityId, around: &mut Surroundings<'_>) -> Numbered {
        let number = self.ownership.title(&entity).number + 1;
        self.pass_to(entity, self.ownership.after(&entity, number, self.me, Means::Seized), None, around);
        Numbered { entity, number }
    }

    /// Removes an entity of ours. What others are to be told, if any of them could have it otherwise.
    pub(super) fn remove(&mut self, entity: EntityId, around: &mut Surroundings<'_>) -> Option<Numbered> {
        let adoptable = around.author.records().get(&entity).is_some_and(|record| record.orphan == Orphan::Adopt);
        if !around.author.remove(&entity) {
            return None;
        }
        let number = self.ownership.title(&entity).number + 1;
        self.ownership.remove(entity, number, self.me);
        // The game knows.
        self.shown.remove(&entity);
        let known_to_be_others = number > 1 || adoptable || entity.policy() == OwnershipPolicy::Seize;
        known_to_be_others.then_some(Numbered { entity, number })
    }

    /// Whether an owner who is here still has to say what it thinks of somebody's having adopted its entity. It is given the time to
    /// hear of it, and not more: it may know better, and think that it is not the owner.
    fn may_object(&mut self, entity: &EntityId, told: &Title, around: &Surroundings<'_>) -> bool {
        let title = self.ownership.title(entity);
        let (Some(holder), Some(owner)) = (title.owner, told.owner) else { return false };
        let objects =
            around.present.contains(&holder) && self.shown.contains_key(entity) && title.resists(entity, &holder, &owner, true);
        if !objects || (self.contested.len() >= CONTESTED_MAX && !self.contested.contains_key(entity)) {
            return false;
        }
        let since = *self.contested.entry(*entity).or_insert(around.now);
        around.now.since(since) < OBJECT_WITHIN
    }

    /// Takes a title over as a neighbor has it.
    fn enter(&mut self, entity: EntityId, title: Title, around: &mut Surroundings<'_>) {
        if title.owner.is_some() {
            return self.pass_to(entity, title, None, around);
        }
        self.contested.remove(&entity);
        self.ownership.set(entity, title);
        around.author.remove(&entity);
        self.vanish(&entity);
    }

    /// Somebody gave us, or gave back to us, what we had removed already.
    fn insist(&mut self, entity: EntityId, number: u32) {
        let title = self.ownership.title(&entity);
        let ended = Title::ended(&entity, number.max(title.number) + 1, Some(self.me));
        self.ownership.set(entity, ended);
        self.ownership.tell_end(entity, ended.number);
        self.vanish(&entity);
        self.insisted.push(Numbered { entity, number: ended.number });
    }

    /// Somebody has an entity at `number` that is gone for good: what it is to be told.
    fn deny(&mut self, entity: EntityId, number: u32) -> Holding {
        self.ownership.tell_end(entity, number);
        holding(&entity, &self.ownership.title(&entity))
    }

    pub(super) fn step(&mut self, entity: EntityId, number: u32, to: PeerId, step: Step, around: &mut Surroundings<'_>) {
        let title = self.ownership.title(&entity);
        if to == self.me && step.means != Means::Removed && self.ownership.is_removed_by_us(&entity) {
            if number > title.number {
                self.insist(entity, number);
            }
            return;
        }
        let orphaned = self.orphans.contains_key(&entity);
        let gone = |peer: &PeerId| orphaned || !around.present.contains(peer);
        let verdict = self.ownership.judge(&entity, number, &to, step.means, gone);
        let known_without_record = title.owner == Some(to)
            && step.record.is_some()
            && if to == self.me {
                number <= title.number && !around.author.records().contains_key(&entity)
            } else {
                number == title.number && !self.shown.contains_key(&entity)
            };
        if known_without_record {
            // A neighbor's word was faster than the owner's, which brings the entity itself.
            self.pass_to(entity, title, step.record, around);
        } else if verdict == Verdict::Take {
            let title = self.ownership.after(&entity, number, to, step.means);
            match step.means {
                Means::Removed => self.enter(entity, title, around),
                _ => self.pass_to(entity, title, step.record, around),
            }
            // One that waited for this one.
            let next = self.pending.range((entity, number + 1, PeerId([0; 32]))..=(entity, number + 1, PeerId([255; 32]))).next();
            if let Some(key) = next.map(|(key, _)| *key)
                && let Some(step) = self.pending.remove(&key)
            {
                self.step(key.0, key.1, key.2, step, around);
            }
        } else if verdict == Verdict::Wait {
            self.pending.insert((entity, number, to), step);
            if self.pending.len() > PENDING_MAX {
                self.pending.pop_first();
            }
        }
    }

    pub(super) fn pass_to(&mut self, entity: EntityId, title: Title, record: Option<Arc<Record>>, around: &mut Surroundings<'_>) {
        let Some(owner) = title.owner else { return };
        self.contested.remove(&entity);
        self.ownership.set(entity, title);
        self.orphans.remove(&entity);
        let claim =
            around.replicas.get(&owner).and_then(|replica| replica.claim(&entity)).filter(|claim| claim.number == title.number);
        let claimed = claim.is_some();
        let known = claim
            .cloned()
            .or(record)
            .or_else(|| self.shown.get(&entity).map(|shown| shown.record.clone()))
            // Ours now, and never shown: whoever had it last still claims it for a moment.
            .or_else(|| {
                around.replicas.values().filter(|_| owner == self.me).find_map(|replica| replica.claim(&entity)).cloned()
            });
        let Some(known) = known else { return };
        let mut record = Record::clone(&known);
        record.number = title.number;
        if owner == self.me {
            around.author.take(record.clone());
        } else {
            around.author.give(&entity, around.now);
        }
        // A tick of another owner's clock says nothing about this one's.
        self.show(entity, owner, Arc::new(record), Tick(0), around.mesh_now, false);
        if let Some(shown) = self.shown.get_mut(&entity) {
            shown.unclaimed = (owner != self.me && !claimed).then_some(around.now);
        }
        self.events.push(WorldEvent::Owner { entity, owner });
        if !around.present.contains(&owner) {
            self.orphans.insert(entity, around.now);
        }
    }

    /// Says, at a higher number, that an entity of ours is still ours.
    fn reclaim(&mut self, entity: EntityId, number: u32, around: &mut Surroundings<'_>) -> Adoption {
        let title = self.ownership.title(&entity);
        if let Some(record) = around.author.record_mut(&entity) {
            record.number = number;
        }
        self.ownership.set(entity, Title { number, ..title });
        if let Some(record) = around.author.records().get(&entity).cloned() {
            self.show(entity, self.me, record, around.author.tick(), around.mesh_now, true);
        }
        Adoption { entity, number, adopted: title.adopted }
    }

    fn is_mine(&self, entity: &EntityId, around: &mut Surroundings<'_>) -> bool {
        self.ownership.owner(entity) == Some(self.me) && around.author.record_mut(entity).is_some()
    }
}

fn holding(entity: &EntityId, title: &Title) -> Holding {
    let Title { number, owner, previous, adopted } = *title;
    Holding { entity: *entity, number, owner, previous, adopted }
}

impl From<Holding> for Title {
    fn from(Holding { number, owner, previous, adopted, .. }: Holding) -> Self {
        Self { number, owner, previous, adopted }
    }
}
