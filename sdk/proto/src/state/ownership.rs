//! Whose is it: every entity's owner, known to all, changed only by numbered steps.
//!
//! An entity starts with its spawner, at number 0. Each transfer, proved by the owner, each adoption of a leaver's entity and each
//! removal counts one up, and the higher number wins. Two adoptions may meet at one number where members saw different rosters for a
//! moment: then the peer that scores higher for the entity wins (rendezvous hashing; Thaler and Ravishankar, 1998), which all compute alike.
//!
//! What may be seized is simpler: whoever says so at a higher number has it, at the same number who scores higher, and once it is
//! removed it is removed, whatever else is said. The order in which such news arrives makes no difference (a last-writer-wins register).

mod graves;

use std::collections::BTreeMap;

use graves::Graves;

use crate::id::{EntityId, OwnershipPolicy, PeerId};

/// Most entities remembered that are not with their spawner, or gone for good; beyond them the lowest-numbered go first.
const TITLES_MAX: usize = 65_536;
/// No entity changes hands more often: so that nobody can count one up to where it could never be taken back. The end of what may be
/// seized has this number: nothing comes after it.
pub(crate) const NUMBER_MAX: u32 = u32::MAX / 2;

/// Who owns what. An entity without a title is its spawner's, at number 0.
#[derive(Debug, Default)]
pub(crate) struct Ownership {
    titles: BTreeMap<EntityId, Title>,
    /// What its spawner removed while nobody else had ever owned it: gone at number 1, and no neighbor need be told.
    graves: Graves,
    /// What we removed ourselves: it is never to be ours again.
    removed: Graves,
}

/// Who owns an entity, and how that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Title {
    pub(crate) number: u32,
    /// None: the entity is gone for good.
    pub(crate) owner: Option<PeerId>,
    /// The owner at the number before; where it is adopted, the last who had it by gift: it may come back and take it back.
    pub(crate) previous: Option<PeerId>,
    /// The owner, or one who gave it to it, took it over from a member that seemed gone.
    pub(crate) adopted: bool,
}

/// How an owner came to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// It was given the entity by this peer, which signed that.
    Given(PeerId),
    /// It says that it took over the entity of a member that is gone, or that it goes on holding one that it had so.
    Adopted,
    /// It says that the entity is its own and that it takes it back.
    Reclaimed,
    /// It says that it takes the entity, as everyone may take it.
    Seized,
    /// It does not own the entity from now on: it removed it.
    Removed,
}

/// What to make of a step of ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Take,
    /// It may become true: once a step before it arrives, or once the owner turns out to be gone.
    Wait,
    Refuse,
}

impl Ownership {
    pub(crate) fn title(&self, entity: &EntityId) -> Title {
        let untold = || if self.graves.has(entity) { Title::ended(entity, 1, Some(entity.spawner)) } else { spawned(entity) };
        self.titles.get(entity).copied().unwrap_or_else(untold)
    }

    pub(crate) fn owner(&self, entity: &EntityId) -> Option<PeerId> {
        self.title(entity).owner
    }

    /// All titles that differ from "its spawner's" and from "removed by it before anybody else had it".
    pub(crate) fn titles(&self) -> impl Iterator<Item = (&EntityId, &Title)> {
        self.titles.iter()
    }

    /// Whether `to` owns the entity at `number` by these means, where `gone` tells who is not here.
    pub(crate) fn judge(
        &self,
        entity: &EntityId,
        number: u32,
        to: &PeerId,
        means: Means,
        gone: impl Fn(&PeerId) -> bool,
    ) -> Verdict {
        let title = self.title(entity);
        if entity.policy() == OwnershipPolicy::Seize {
            let takes = means == Means::Removed || Title { number, owner: Some(*to), ..title }.beats(&title, entity);
            return if takes && title.owner.is_some() { Verdict::Take } else { Verdict::Refuse };
        }
        let next = number == title.number + 1;
        let ahead = number > title.number;
        // Back to its owner, or to the one from whom it was taken without being given, is always safe.
        let keeps = ahead && title.owner == Some(*to);
        let reclaims = ahead && title.previous == Some(*to) && (title.adopted || title.owner.is_none());
        // Two at one number.
        let rivals =
            |adopted| number == title.number && Title { number, owner: Some(*to), adopted, ..title }.beats(&title, entity);
        let takes = match means {
            // One that gives away did not remove: what looked like its end was only the end of its part.
            Means::Given(from) => {
                let from_owner = title.owner == Some(from) || (title.owner.is_none() && title.previous == Some(from));
                keeps || (next && from_owner) || (title.previous == Some(from) && rivals(false))
            }
            Means::Reclaimed => keeps || reclaims,
            Means::Seized => return Verdict::Refuse,
            // From whom it was taken, that had it still: no number of those who took it over stands against that.
            Means::Removed => (next && title.owner == Some(*to)) || (title.adopted && title.previous == Some(*to)),
            Means::Adopted => {
                let from_gone = next && title.owner.as_ref().is_some_and(&gone);
                let weaker = ahead && title.owner.is_some_and(|owner| !title.resists(entity, &owner, to, true));
                keeps || reclaims || from_gone || weaker || (title.adopted && rivals(true))
            }
        };
        match (takes, ahead) {
            (true, _) => Verdict::Take,
            (false, true) => Verdict::Wait,
            (false, false) => Verdict::Refuse,
        }
    }

    /// The title after `judge` said that the step is to be taken.
    pub(crate) fn after(&self, entity: &EntityId, number: u32, to: PeerId, means: Means) -> Title {
        let title = self.title(entity);
        let owner = Some(to);
        if means == Means::Removed {
            let previous = if title.adopted { title.previous } else { owner };
            return Title::ended(entity, number.max(title.number), previous);
        }
        if entity.policy() == OwnershipPolicy::Seize {
            return Title { number, owner, previous: title.owner, adopted: false };
        }
        if title.owner == owner {
            return Title { number, owner, ..title };
        }
        if number == title.number
            && let Means::Given(from) = means
        {
            return Title { number, owner, previous: Some(from), adopted: false };
        }
        match means {
            // Whether it was its own to give, or its end is the truth, others will tell.
            Means::Given(_) if title.owner.is_none() => Title { number, owner, previous: title.previous, adopted: true },
            // One that got back what was taken from it gives away its own.
            Means::Given(from) if title.adopted && title.previous != Some(from) => Title { number, owner, ..title },
            Means::Given(from) => Title { number, owner, previous: Some(from), adopted: false },
            _ if title.previous == owner && (title.adopted || title.owner.is_none()) => {
                Title { number, owner, previous: None, adopted: false }
            }
            _ if title.adopted => Title { number, owner, ..title },
            _ => Title { number, owner, previous: title.owner.or(title.previous), adopted: true },
        }
    }

    pub(crate) fn set(&mut self, entity: EntityId, title: Title) {
        self.graves.remove(&entity);
        if title == spawned(&entity) {
            self.titles.remove(&entity);
        } else if title == Title::ended(&entity, 1, Some(entity.spawner)) && !self.titles.contains_key(&entity) {
            self.graves.add(entity);
        } else {
            self.insert(entity, title);
        }
    }

    /// We remove an entity.
    pub(crate) fn remove(&mut self, entity: EntityId, number: u32, me: PeerId) {
        self.removed.add(entity);
        self.set(entity, self.after(&entity, number, me, Means::Removed));
    }

    /// Whether we removed it ourselves.
    pub(crate) fn is_removed_by_us(&self, entity: &EntityId) -> bool {
        self.removed.has(entity)
    }

    /// Neighbors are to be told that the entity is gone at `number`, at least: one of them speaks of it as if it were not.
    pub(crate) fn tell_end(&mut self, entity: EntityId, number: u32) {
        let title = self.title(&entity);
        self.graves.remove(&entity);
        self.insert(entity, Title { number: number.max(title.number), ..title });
    }

    fn insert(&mut self, entity: EntityId, title: Title) {
        self.titles.insert(entity, title);
        if self.titles.len() > TITLES_MAX {
            self.titles.pop_first();
        }
    }

    /// A hash of one part in [`PARTS`] of the titles, for neighbors to compare.
    pub(crate) fn part_hash(&self, part: u8) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 titles");
        for (entity, title) in self.titles.iter().filter(|(entity, _)| part_of(entity) == part) {
            hash.update(&entity.spawner.0).update(&entity.boot.0.to_le_bytes()).update(&entity.counter.to_le_bytes());
            hash.update(&title.number.to_le_bytes()).update(&title.owner.map_or([0; 32], |owner| owner.0));
            hash.update(&[u8::from(title.adopted)]);
        }
        let mut part_hash = [0; 16];
        hash.finalize_xof().fill(&mut part_hash);
        part_hash
    }
}

fn spawned(entity: &EntityId) -> Title {
    Title { number: 0, owner: Some(entity.spawner), previous: None, adopted: false }
}

impl Title {
    /// Of an entity that is gone for good.
    pub(crate) fn ended(entity: &EntityId, number: u32, previous: Option<PeerId>) -> Self {
        let number = if entity.policy() == OwnershipPolicy::Seize { NUMBER_MAX } else { number };
        Self { number, owner: None, previous, adopted: false }
    }

    /// Whether this is the title and not `other`: the same answer whoever asks, and in whatever order they heard of the two. The
    /// higher number counts. At the same number, what is gone is gone, and who was given it has it rather than who adopted it.
    pub(crate) fn beats(&self, other: &Self, entity: &EntityId) -> bool {
        let rank =
            |title: &Self| (title.number, title.owner.is_none(), !title.adopted, title.owner.map(|owner| score(entity, &owner)));
        rank(self) > rank(other)
    }

    /// Whether `owner`, who holds it, objects when `other` says, at a higher number, that it is its own: two who both believe in
    /// their right come to the same answer, so one of them gives in. Who was given it is in the right against who adopted it;
    /// of two adopters, the one who scores higher.
    pub(crate) fn resists(&self, entity: &EntityId, owner: &PeerId, other: &PeerId, other_adopted: bool) -> bool {
        match (self.adopted, other_adopted) {
            (false, _) => other_adopted || score(entity, owner) > score(entity, other),
            (true, false) => false,
            (true, true) => self.previous != Some(*other) && score(entity, owner) > score(entity, other),
        }
    }
}

/// Into how many parts titles are divided for comparing.
pub(crate) const PARTS: u8 = 8;

/// To which part an entity's title belongs.
pub(crate) fn part_of(entity: &EntityId) -> u8 {
    (entity.counter % u32::from(PARTS)) as u8
}

/// How well `peer` suits `entity`: the one who scores highest adopts it.
pub(crate) fn score(entity: &EntityId, peer: &PeerId) -> (u64, PeerId) {
    let mut hash = blake3::Hasher::new_derive_key("peerflock 1 rendezvous");
    hash.update(&entity.spawner.0).update(&entity.boot.0.to_le_bytes()).update(&entity.counter.to_le_bytes()).update(&peer.0);
    let mut bytes = [0; 8];
    hash.finalize_xof().fill(&mut bytes);
    (u64::from_le_bytes(bytes), *peer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Boot;

    const A: PeerId = PeerId([1; 32]);
    const B: PeerId = PeerId([2; 32]);
    const C: PeerId = PeerId([3; 32]);
    const ENTITY: EntityId = EntityId { spawner: A, boot: Boot(1), counter: 7 };

    fn given(ownership: &Ownership, number: u32, to: PeerId, from: PeerId) -> Verdict {
        ownership.judge(&ENTITY, number, &to, Means::Given(from), |_| false)
    }

    fn adopted(ownership: &Ownership, number: u32, by: PeerId, gone: &[PeerId]) -> Verdict {
        ownership.judge(&ENTITY, number, &by, Means::Adopted, |peer| gone.contains(peer))
    }

    fn owned(number: u32, owner: PeerId, previous: PeerId, adopted: bool) -> Ownership {
        let mut ownership = Ownership::default();
        ownership.set(ENTITY, Title { number, owner: Some(owner), previous: Some(previous), adopted });
        ownership
    }

    #[test]
    fn only_the_owner_gives_away_and_one_step_at_a_time() {
        let spawned = Ownership::default();
        assert_eq!(given(&spawned, 1, B, A), Verdict::Take);
        assert_eq!(given(&spawned, 1, B, C), Verdict::Wait);
        assert_eq!(given(&spawned, 2, B, A), Verdict::Wait);
        let passed = owned(1, B, A, false);
        assert_eq!(given(&passed, 1, A, B), Verdict::Refuse);
        assert_eq!(given(&passed, 2, A, B), Verdict::Take);
        assert_eq!(given(&passed, 4, B, C), Verdict::Take, "back to the owner itself");
    }

    #[test]
    fn only_a_leavers_entity_is_adopted_and_one_wrongly_adopted_is_taken_back() {
        let spawned = Ownership::default();
        assert_eq!(adopted(&spawned, 1, B, &[]), Verdict::Wait);
        assert_eq!(adopted(&spawned, 1, B, &[A]), Verdict::Take);
        let taken = owned(1, B, A, true);
        assert_eq!(adopted(&taken, 2, A, &[]), Verdict::Take);
        assert_eq!(adopted(&taken, 2, C, &[]), Verdict::Wait);
        let fairly_given = owned(1, B, A, false);
        assert_eq!(adopted(&fairly_given, 2, A, &[]), Verdict::Wait);
    }

    #[test]
    fn two_at_one_number_end_with_one_owner() {
        let wins = |first: PeerId, second: PeerId| match adopted(&owned(1, first, A, true), 1, second, &[A]) {
            Verdict::Take => second,
            _ => first,
        };
        assert_eq!(wins(B, C), wins(C, B));
    }

    #[test]
    fn what_is_gone_for_good_stays_gone_unless_its_owner_had_given_it_away() {
        let mut ownership = owned(1, B, A, false);
        ownership.set(ENTITY, ownership.after(&ENTITY, 2, B, Means::Removed));
        assert_eq!(ownership.owner(&ENTITY), None);
        assert_eq!(given(&ownership, 3, C, A), Verdict::Wait);
        assert_eq!(adopted(&ownership, 3, C, &[A, B]), Verdict::Wait);
        assert_eq!(given(&ownership, 3, C, B), Verdict::Take);
    }

    fn title(owner: PeerId, previous: Option<PeerId>, adopted: bool) -> Title {
        Title { number: 1, owner: Some(owner), previous, adopted }
    }

    #[test]
    fn of_two_who_believe_in_their_right_exactly_one_gives_in() {
        let flags = [(false, false), (false, true), (true, false), (true, true)];
        for (one, other) in [(A, B), (B, A), (B, C), (C, A)] {
            for (one_adopted, other_adopted) in flags {
                let first = title(one, None, one_adopted).resists(&ENTITY, &one, &other, other_adopted);
                let second = title(other, None, other_adopted).resists(&ENTITY, &other, &one, one_adopted);
                assert_ne!(first, second, "{one:?} adopted {one_adopted}, {other:?} adopted {other_adopted}");
            }
        }
    }

    #[test]
    fn a_gift_is_held_against_adopters_and_an_adopter_gives_in_to_a_gift_and_to_whom_it_adopted_from() {
        for (one, other) in [(A, B), (B, A), (B, C), (C, B)] {
            assert!(title(one, None, false).resists(&ENTITY, &one, &other, true));
            assert!(!title(one, None, true).resists(&ENTITY, &one, &other, false));
            assert!(!title(one, Some(other), true).resists(&ENTITY, &one, &other, true));
        }
    }

    #[test]
    fn a_gift_names_its_giver_but_of_what_was_adopted_still_whoever_may_take_it_back() {
        let gift = Ownership::default().after(&ENTITY, 1, B, Means::Given(A));
        assert_eq!(gift, title(B, Some(A), false));
        let handed_on = owned(1, B, A, true).after(&ENTITY, 2, C, Means::Given(B));
        assert_eq!(handed_on, Title { number: 2, ..title(C, Some(A), true) });
    }

    #[test]
    fn who_got_its_own_back_gives_it_away_by_right_but_who_adopts_what_it_gave_is_an_adopter() {
        let back = owned(1, B, A, true).after(&ENTITY, 2, A, Means::Given(B));
        let mut ownership = Ownership::default();
        ownership.set(ENTITY, back);
        assert_eq!(ownership.after(&ENTITY, 3, C, Means::Given(A)), Title { number: 3, ..title(C, Some(A), false) });
        let again = owned(1, B, A, false).after(&ENTITY, 2, A, Means::Adopted);
        assert_eq!(again, Title { number: 2, ..title(A, Some(B), true) });
    }

    #[test]
    fn what_may_be_seized_comes_to_the_same_whatever_the_order_of_the_news() {
        let ball = EntityId::new(A, Boot(1), 7, OwnershipPolicy::Seize);
        let news = [
            (1, B, Means::Seized),
            (1, C, Means::Seized),
            (2, A, Means::Given(C)),
            (2, B, Means::Adopted),
            (2, C, Means::Seized),
        ];
        let told = |order: &[usize], removed: bool| {
            let mut ownership = Ownership::default();
            for (number, to, means) in order.iter().map(|index| news[*index]) {
                if ownership.judge(&ball, number, &to, means, |_| false) == Verdict::Take {
                    ownership.set(ball, ownership.after(&ball, number, to, means));
                }
                if removed && ownership.judge(&ball, 1, &A, Means::Removed, |_| false) == Verdict::Take {
                    ownership.set(ball, ownership.after(&ball, 1, A, Means::Removed));
                }
            }
            let title = ownership.title(&ball);
            (title.number, title.owner)
        };
        let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 3, 0, 4, 2]];
        for order in orders {
            assert_eq!(told(&order, false), told(&orders[0], false));
            assert_eq!(told(&order, true), (NUMBER_MAX, None), "removed is removed");
        }
        // Where the policy forbids it, nobody takes it.
        assert_eq!(Ownership::default().judge(&ENTITY, 1, &B, Means::Seized, |_| true), Verdict::Refuse);
    }

    #[test]
    fn an_end_is_kept_without_telling_neighbors_until_one_speaks_of_it() {
        let mut ownership = Ownership::default();
        ownership.remove(ENTITY, 1, A);
        assert_eq!((ownership.owner(&ENTITY), ownership.titles().count()), (None, 0));
        assert!(ownership.is_removed_by_us(&ENTITY));
        ownership.tell_end(ENTITY, 4);
        assert_eq!(ownership.titles().map(|(_, title)| (title.number, title.owner)).collect::<Vec<_>>(), [(4, None)]);
    }

    #[test]
    fn an_adoption_names_whom_it_was_taken_from_and_a_second_one_whoever_had_it_fairly() {
        let adoption = Ownership::default().after(&ENTITY, 1, B, Means::Adopted);
        assert_eq!(adoption, title(B, Some(A), true));
        let second = owned(1, B, A, true).after(&ENTITY, 2, C, Means::Adopted);
        assert_eq!(second, Title { number: 2, ..title(C, Some(A), true) });
        let of_a_gift = owned(1, B, A, false).after(&ENTITY, 2, C, Means::Adopted);
        assert_eq!(of_a_gift, Title { number: 2, ..title(C, Some(B), true) });
    }

    #[test]
    fn what_is_taken_back_is_its_owners_as_if_nobody_had_adopted_it() {
        for means in [Means::Reclaimed, Means::Adopted] {
            let back = owned(1, B, A, true).after(&ENTITY, 2, A, means);
            assert_eq!(back, Title { number: 2, ..title(A, None, false) });
        }
    }

    #[test]
    fn a_higher_number_of_the_owner_and_a_rival_at_the_same_number_change_nothing_else() {
        let taken = owned(1, B, A, true);
        assert_eq!(taken.after(&ENTITY, 5, B, Means::Reclaimed), Title { number: 5, ..title(B, Some(A), true) });
        assert_eq!(taken.after(&ENTITY, 1, C, Means::Adopted), title(C, Some(A), true));
    }

    #[test]
    fn titles_take_no_more_than_their_room() {
        let mut ownership = Ownership::default();
        for counter in 0..TITLES_MAX as u32 + 10 {
            ownership.set(EntityId { counter, ..ENTITY }, title(B, Some(A), false));
        }
        assert_eq!(ownership.titles().count(), TITLES_MAX);
    }
}
