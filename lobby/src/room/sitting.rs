//! Sitting down: our claim to a seat, what becomes of it, and keeping up with whose room it is.

use std::time::Instant;

use peerflock::RemovalRule;

use super::{NAMELESS, Room, RoomEvent};
use crate::seats::{self, NoSeat, Wish};

impl Room {
    pub(super) fn wishes(&self) -> Vec<Wish> {
        let others = self.known.iter().map(|(peer, (_, card))| Wish { peer: *peer, claim: card.claim });
        others.chain([Wish { peer: self.mesh.id(), claim: self.card.claim }]).collect()
    }

    pub(super) fn seats(&self) -> usize {
        self.card.room.as_ref().map_or(usize::MAX, |facts| facts.players_max.into())
    }

    pub(super) fn seat(&self) -> Result<usize, NoSeat> {
        seats::seat(self.mesh.id(), &self.wishes(), self.seats(), self.card.closed_from)
    }

    /// Claims a seat once we know who is here, tells what became of it, and keeps up with who owns the room.
    pub(super) fn sit_down(&mut self, now: Instant, events: &mut Vec<RoomEvent>) {
        let all_known = self.mesh.members().iter().all(|member| member.me || self.known.contains_key(&member.peer));
        if !self.card.watches && self.card.claim.is_none() && all_known && self.card.room.is_some() {
            self.card.claim = Some(seats::next_claim(&self.wishes()));
            self.claimed_at = Some(now);
            self.show_card();
        }
        let owner = self.owner();
        if owner != self.owner {
            self.owner = owner;
            self.mesh.set_removal(RemovalRule::By(owner.into_iter().collect()));
            if let Some(talk) = &self.talk {
                talk.set_moderator(owner);
            }
            events.push(RoomEvent::Changed);
        }
        // A closed room stays closed when its owner leaves, and its settings stay: all show what the owner shows.
        if let Some((_, card)) = owner.and_then(|owner| self.known.get(&owner)) {
            let room = card.room.clone().or_else(|| self.card.room.clone());
            if (card.closed_from, &room) != (self.card.closed_from, &self.card.room) {
                (self.card.closed_from, self.card.room) = (card.closed_from, room);
                self.show_card();
                events.push(RoomEvent::Changed);
            }
        }
        let Some(claimed_at) = self.claimed_at else { return };
        let seated = self.seat().is_ok();
        // A first moment's luck is not told: others may have claimed at the same one.
        if self.seat_told != Some(seated) && now >= claimed_at + seats::SETTLES_AFTER {
            self.seat_told = Some(seated);
            events.push(if seated { RoomEvent::Seated } else { RoomEvent::NoSeat(self.no_seat_words()) });
        }
    }

    pub(super) fn no_seat_words(&self) -> String {
        match self.seat() {
            Err(NoSeat::Closed) => "The room was closed before you came. You can watch, and ask its owner to open it.".into(),
            Err(NoSeat::Watches) | Ok(_) => "You watch this room without a seat.".into(),
            Err(NoSeat::Taken) => {
                let last = self.seated().last().map_or_else(|| NAMELESS.to_owned(), |peer| self.name_of(*peer));
                format!(
                    "All {} seats are taken, the last one by {last}, who was there before you. You can watch, and get a seat when \
                         somebody leaves.",
                    self.seats()
                )
            }
        }
    }
}
