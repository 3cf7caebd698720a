//! What becomes of a leaver's entities: some vanish, the others wait for the one of those who stay that is to have them.
//!
//! All rank the members for an orphan alike. The first has its turn at once, the second half a second later, and so on: one that is
//! not willing, or is gone itself, is passed over by that. Nearest first, if the game says where things are ([`Config::nearest_by`]): a
//! member is where its own entities are that go with it. Then, and otherwise, in the order of a hash over member and entity.
//!
//! [`Config::nearest_by`]: crate::Config::nearest_by

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Shown, Surroundings, World};
use crate::id::{EntityId, PeerId};
use crate::state::ownership::{Means, score};
use crate::state::snapshot::{Record, Snapshot};
use crate::state::{KindId, Orphan, Value};
use crate::time::{Time, micros};
use crate::wire::Adoption;

/// How long the first in rank for an orphan is waited for before the second takes it, and so on.
const ADOPTION_TURN: Duration = Duration::from_millis(500);
/// An entity that its new owner has not claimed for so long is not looked after by it.
const CLAIM_PATIENCE: Duration = Duration::from_secs(5);
/// So many integers of a component say where something is.
const PLACE_FIELDS: usize = 3;
/// Of one member, so many entities at most tell where it is.
const PLACES_MAX: usize = 4;

/// Where something is.
type Place = [i32; PLACE_FIELDS];

impl World {
    /// A member is gone: its entities vanish or become orphans.
    pub(crate) fn departed(&mut self, peer: PeerId, around: &mut Surroundings<'_>) {
        let theirs: Vec<EntityId> =
            self.shown.iter().filter(|(_, shown)| shown.owner == peer).map(|(entity, _)| *entity).collect();
        for entity in theirs {
            self.orphaned(entity, around.now);
        }
        // Adoptions that were announced before we knew.
        let waiting: Vec<_> =
            self.pending.keys().filter(|(entity, ..)| self.ownership.owner(entity) == Some(peer)).copied().collect();
        for key in waiting {
            if let Some(step) = self.pending.remove(&key) {
                self.step(key.0, key.1, key.2, step, around);
            }
        }
    }

    /// Entities whose new owner has long had the time to claim them, and did not: it does not know of them, and somebody is to take
    /// them over. Had it removed them, it would have said so.
    pub(crate) fn drop_unclaimed(&mut self, around: &Surroundings<'_>) {
        let overdue = |entity: &EntityId, shown: &Shown| {
            if shown.unclaimed.is_none_or(|since| around.now.since(since) < CLAIM_PATIENCE) {
                return false;
            }
            // What we did not hear its owner say, we do not know.
            around.replicas.get(&shown.owner).is_some_and(|replica| {
                let fresh = |whole: &Arc<Snapshot>| around.mesh_now.0.saturating_sub(whole.at.0) < micros(CLAIM_PATIENCE) / 2;
                replica.newest().is_some_and(fresh) && replica.claim(entity).is_none()
            })
        };
        let unclaimed: Vec<EntityId> =
            self.shown.iter().filter(|(entity, shown)| overdue(entity, shown)).map(|(entity, _)| *entity).collect();
        for entity in unclaimed.into_iter().filter(|entity| !self.orphans.contains_key(entity)).collect::<Vec<_>>() {
            self.orphaned(entity, around.now);
        }
    }

    /// An entity has no owner any more that looks after it.
    fn orphaned(&mut self, entity: EntityId, now: Time) {
        match self.shown.get(&entity).map(|shown| shown.record.orphan) {
            Some(Orphan::Adopt) => {
                self.orphans.insert(entity, now);
            }
            Some(Orphan::Vanish) => self.vanish(&entity),
            None => {}
        }
    }

    /// A member whom we took for gone is here again: what we adopted from it is to be given back.
    pub(crate) fn returned(&mut self, peer: PeerId, now: Time) -> Vec<EntityId> {
        for shown in self.shown.values_mut().filter(|shown| shown.owner == peer) {
            shown.unclaimed = Some(now);
        }
        self.orphans.retain(|entity, _| self.shown.get(entity).is_none_or(|shown| shown.owner != peer));
        self.ownership
            .titles()
            .filter(|(_, title)| title.owner == Some(self.me) && title.previous == Some(peer) && title.adopted)
            .map(|(entity, _)| *entity)
            .collect()
    }

    /// Adopts the orphans whose turn it is for us to take; what others are to be told.
    pub(crate) fn adopt_orphans(&mut self, around: &mut Surroundings<'_>) -> Vec<Adoption> {
        if self.orphans.is_empty() || !self.willing {
            return Vec::new();
        }
        let places = self.places();
        let due = |(entity, since): &(&EntityId, &Time)| {
            let place = self.nearest_by.and_then(|kind| place(&self.shown.get(entity)?.record, kind));
            let key = |peer: &PeerId| (distance(place, places.get(peer)), Reverse(score(entity, peer)));
            let mine = key(&self.me);
            let rank = around.present.iter().filter(|peer| key(peer) < mine).count() as u32;
            around.now.since(**since) >= ADOPTION_TURN.saturating_mul(rank)
        };
        let due: Vec<EntityId> = self.orphans.iter().filter(due).map(|(entity, _)| *entity).collect();
        let mut adoptions = Vec::new();
        for entity in due {
            let number = self.ownership.title(&entity).number + 1;
            self.pass_to(entity, self.ownership.after(&entity, number, self.me, Means::Adopted), None, around);
            adoptions.push(Adoption { entity, number, adopted: true });
        }
        adoptions
    }

    /// Where the members are, of those that have something of their own that is somewhere.
    fn places(&self) -> BTreeMap<PeerId, Vec<Place>> {
        let mut places: BTreeMap<PeerId, Vec<Place>> = BTreeMap::new();
        let Some(kind) = self.nearest_by else { return places };
        for shown in self.shown.values().filter(|shown| shown.record.orphan == Orphan::Vanish) {
            if let Some(place) = place(&shown.record, kind) {
                let theirs = places.entry(shown.owner).or_default();
                if theirs.len() < PLACES_MAX {
                    theirs.push(place);
                }
            }
        }
        places
    }

    pub(crate) fn has_orphans(&self) -> bool {
        !self.orphans.is_empty()
    }
}

fn place(record: &Record, kind: KindId) -> Option<Place> {
    match record.get(kind)? {
        Value::Fields(fields) => {
            let mut place = Place::default();
            place.iter_mut().zip(fields).for_each(|(to, from)| *to = *from);
            Some(place)
        }
        Value::Bytes { .. } => None,
    }
}

/// How far it is from there to the nearest of these, squared; beyond everything where that cannot be said.
fn distance(from: Option<Place>, to: Option<&Vec<Place>>) -> u128 {
    let squared = |from: &Place, to: &Place| from.iter().zip(to).map(|(from, to)| u128::from(from.abs_diff(*to)).pow(2)).sum();
    let nearest = from.zip(to).and_then(|(from, to)| to.iter().map(|to| squared(&from, to)).min());
    nearest.unwrap_or(u128::MAX)
}
