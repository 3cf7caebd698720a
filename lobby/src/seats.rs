//! Who has a seat, and who owns the room: rules over what members show of themselves, which all compute alike.
//!
//! Whoever wants a seat claims one with a number above all that it has seen. The smallest claims have the seats, and where two
//! claimed at the same moment with the same number, the smaller identifier. So nobody hands out seats, those who sat stay, and once
//! everybody sees everybody's card all agree, whoever came at the same time. The room belongs to the first claim that is still here:
//! when the owner leaves, everybody knows the next one at once.
//!
//! Claims are taken at their word. Who runs a program that lies can sit down before others; the owner can remove it.

use peerflock::PeerId;

/// How long after its claim a newcomer waits until it believes in its seat: those who claimed at the same moment have been heard.
pub const SETTLES_AFTER: std::time::Duration = std::time::Duration::from_millis(1_500);

/// A member's wish for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Who.
    pub peer: PeerId,
    /// Its claim; `None` for who only watches, or has not claimed yet.
    pub claim: Option<u32>,
}

/// Why somebody has no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// It watches, or has not claimed one.
    Watches,
    /// The room was closed before.
    Closed,
    /// All seats went to earlier claims.
    Taken,
}

/// The members with a seat, first claim first. `closed_from` is the first claim that came too late for a closed room.
pub fn seated(wishes: &[Wish], seats: usize, closed_from: Option<u32>) -> Vec<PeerId> {
    let in_time = |claim: &u32| closed_from.is_none_or(|from| *claim < from);
    let claims = wishes.iter().filter_map(|wish| Some((wish.claim.filter(in_time)?, wish.peer)));
    let mut claims: Vec<(u32, PeerId)> = claims.collect();
    claims.sort();
    claims.into_iter().take(seats).map(|(_, peer)| peer).collect()
}

/// Whether this member has a seat, or why not.
pub fn seat(peer: PeerId, wishes: &[Wish], seats: usize, closed_from: Option<u32>) -> Result<usize, NoSeat> {
    let claim = wishes.iter().find(|wish| wish.peer == peer).and_then(|wish| wish.claim).ok_or(NoSeat::Watches)?;
    if closed_from.is_some_and(|from| claim >= from) {
        return Err(NoSeat::Closed);
    }
    seated(wishes, seats, closed_from).iter().position(|seated| *seated == peer).ok_or(NoSeat::Taken)
}

/// Who owns the room: the first claim that is here.
pub fn owner(wishes: &[Wish]) -> Option<PeerId> {
    wishes.iter().filter_map(|wish| Some((wish.claim?, wish.peer))).min().map(|(_, peer)| peer)
}

/// The claim of somebody who sees these now.
pub fn next_claim(wishes: &[Wish]) -> u32 {
    wishes.iter().filter_map(|wish| wish.claim).max().map_or(1, |last| last.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SEATS: usize = 8;

    /// Repeatable numbers; not for anything but tests.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }

    /// Everybody's view of the cards, while they travel.
    struct Room {
        views: Vec<Vec<Wish>>,
        /// When, to whom, which card.
        travelling: Vec<(u64, usize, Wish)>,
    }

    impl Room {
        /// `seated` members who know each other, and `coming` ones who know those.
        fn new(seated: usize, coming: usize, dice: &mut Dice) -> Self {
            let peer = |dice: &mut Dice, n: usize| {
                let mut id = [n as u8; 32];
                id[..8].copy_from_slice(&dice.below(1 << 31).to_le_bytes());
                PeerId(id)
            };
            let cards: Vec<Wish> = (0..seated).map(|n| Wish { peer: peer(dice, n), claim: Some(n as u32 + 1) }).collect();
            let mut views = vec![cards; seated + coming];
            for (n, view) in views.iter_mut().enumerate().skip(seated) {
                view.push(Wish { peer: peer(dice, n), claim: None });
            }
            Self { views, travelling: Vec::new() }
        }

        fn me(&self, index: usize) -> PeerId {
            self.views[index].last().unwrap().peer
        }

        /// Who comes claims at `at`, with what it sees then; the others see it up to half a second later, each in its time.
        fn claim(&mut self, index: usize, at: u64, dice: &mut Dice) {
            let (me, claim) = (self.me(index), next_claim(&self.views[index]));
            let wish = Wish { peer: me, claim: Some(claim) };
            *self.views[index].iter_mut().find(|wish| wish.peer == me).unwrap() = wish;
            let others = (0..self.views.len()).filter(|other| *other != index);
            let sent: Vec<_> = others.map(|other| (at + 1 + dice.below(500), other, wish)).collect();
            self.travelling.extend(sent);
        }

        fn arrive(&mut self, until: u64) {
            self.travelling.sort_by_key(|(at, ..)| *at);
            let later = self.travelling.iter().position(|(at, ..)| *at > until).unwrap_or(self.travelling.len());
            for (_, to, wish) in self.travelling.drain(..later) {
                match self.views[to].iter_mut().find(|known| known.peer == wish.peer) {
                    Some(known) => *known = wish,
                    None => self.views[to].insert(0, wish),
                }
            }
        }
    }

    /// Eight for the last three seats, a thousand times: three sit, five know why not, all agree who, and who sat stays.
    #[test]
    fn eight_join_the_last_three_seats_at_once() {
        let mut winners = BTreeSet::new();
        for seed in 0..1_000 {
            let mut dice = Dice(seed);
            let mut room = Room::new(5, 8, &mut dice);
            let incumbents: Vec<PeerId> = room.views[0].iter().map(|wish| wish.peer).collect();
            let mut moments: Vec<(u64, usize)> = (5..13).map(|index| (dice.below(300), index)).collect();
            moments.sort();
            let newcomers: Vec<PeerId> = (5..13).map(|index| room.me(index)).collect();
            for (at, index) in moments {
                room.arrive(at);
                room.claim(index, at, &mut dice);
            }
            room.arrive(u64::MAX);
            let agreed = seated(&room.views[0], SEATS, None);
            assert_eq!(agreed.len(), SEATS, "seed {seed}");
            assert_eq!(agreed[..5], incumbents, "seed {seed}: who sat stays");
            for (index, view) in room.views.iter().enumerate() {
                assert_eq!(seated(view, SEATS, None), agreed, "seed {seed}, view of {index}");
                assert_eq!(owner(view), Some(incumbents[0]), "seed {seed}");
            }
            let outcomes: Vec<_> = (5..13).map(|index| seat(newcomers[index - 5], &room.views[index], SEATS, None)).collect();
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3, "seed {seed}: {outcomes:?}");
            assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(NoSeat::Taken)).count(), 5, "seed {seed}: {outcomes:?}");
            winners.extend(outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_ok()).map(|(index, _)| index));
        }
        assert_eq!(winners.len(), 8, "whoever it is that came first, it is not always the same");
    }

    #[test]
    fn a_seat_that_is_left_goes_to_the_next_claim_and_the_room_to_the_next_owner() {
        let peer = |n: u8| PeerId([n; 32]);
        let wish = |n: u8, claim: u32| Wish { peer: peer(n), claim: Some(claim) };
        let mut wishes = vec![wish(3, 1), wish(1, 2), wish(2, 3), Wish { peer: peer(9), claim: None }];
        assert_eq!((seated(&wishes, 2, None), owner(&wishes)), (vec![peer(3), peer(1)], Some(peer(3))));
        assert_eq!(seat(peer(2), &wishes, 2, None), Err(NoSeat::Taken));
        assert_eq!(seat(peer(9), &wishes, 2, None), Err(NoSeat::Watches));
        wishes.remove(0);
        assert_eq!((seated(&wishes, 2, None), owner(&wishes)), (vec![peer(1), peer(2)], Some(peer(1))));
        assert_eq!(next_claim(&wishes), 4);
        wishes.push(wish(4, 4));
        assert_eq!(seat(peer(4), &wishes, 9, Some(4)), Err(NoSeat::Closed));
        assert_eq!(seat(peer(4), &wishes, 9, Some(5)), Ok(2));
    }
}
