//! Asking for an entity, answering, and taking what everyone may take.
//!
//! A question goes to the owner alone, and so does a refusal. A grant is a transfer like any other, which all hear: nobody owns an
//! entity because somebody said so to it in private.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::WorldEvent;
use super::beat::STEPS_PER_MESSAGE;
use super::{Event, Node};
use crate::id::{EntityId, OwnershipPolicy, PeerId};
use crate::state::Change;
use crate::time::Time;
use crate::wire::{Body, Numbered};

/// An owner may take so long to answer; then whoever asked is told that it did not.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Most entities that one peer may be asking for at once.
pub const REQUESTS_MAX: usize = 256;

/// Why an entity was not asked for, or not taken. Nothing was sent, nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnershipError {
    /// No such entity is here (any more).
    #[error("there is no entity {0} here; it is gone, or not here yet")]
    Unknown(EntityId),
    /// Its policy forbids it.
    #[error("the policy of {0} forbids it; spawn it with another `OwnershipPolicy`, or let its owner give it away")]
    Forbidden(EntityId),
    /// We are asking for too many at once.
    #[error("{REQUESTS_MAX} requests are waiting for their answers; wait for some of them")]
    TooMany,
    /// We own all that one peer may own.
    #[error("this peer owns {0} entities, and no peer may own more; give some away first")]
    Full(usize),
    /// The owner has not yet received what was sent to it before.
    #[error("{0:?} has not yet received what was sent before; wait and ask again")]
    Backlog(PeerId),
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The owner, or the entity's policy, says no.
    Refused,
    /// Somebody else owns it by now: ask that one.
    Moved,
    /// It is gone for good.
    Gone,
    /// The owner is being asked for too much at once: ask again.
    Busy,
    /// No answer came within [`ANSWER_WITHIN`]. Should the owner grant it later all the same, it is ours then.
    NoAnswer,
}

impl From<OwnershipError> for Refusal {
    fn from(error: OwnershipError) -> Self {
        match error {
            OwnershipError::Unknown(_) => Self::Gone,
            OwnershipError::Forbidden(_) => Self::Refused,
            OwnershipError::TooMany | OwnershipError::Full(_) | OwnershipError::Backlog(_) => Self::Busy,
            OwnershipError::Closed => Self::NoAnswer,
        }
    }
}

/// Questions without an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// What we ask for: of whom, and since when.
    asked: BTreeMap<EntityId, (PeerId, Time)>,
    /// Who asks us for what, since when: our game is to say.
    open: BTreeMap<(EntityId, PeerId), Time>,
}

impl Node {
    /// Asks the owner of an entity for it. What comes of it is an event: [`WorldEvent::Owner`] with ourselves as the owner, or
    /// [`Event::OwnershipRefused`]. What is ours already, or asked for already, is not asked for again.
    ///
    /// # Errors
    /// If it cannot be asked for. No event follows then.
    pub fn request_ownership(&mut self, entity: EntityId, now: Time) -> Result<(), OwnershipError> {
        let owner = self.takeable(&entity)?;
        if entity.policy() == OwnershipPolicy::Refuse {
            return Err(OwnershipError::Forbidden(entity));
        }
        if owner == self.me || self.requests.asked.contains_key(&entity) {
            return Ok(());
        }
        if self.requests.asked.len() >= REQUESTS_MAX {
            return Err(OwnershipError::TooMany);
        }
        self.now = now;
        // Of one that just left, whoever adopts it is to be known first.
        if self.roster.present().contains(&owner) {
            let place = self.private.place(&owner).ok_or(OwnershipError::Backlog(owner))?;
            self.say_to_one(owner, place, &Body::Request { entity });
        }
        self.requests.asked.insert(entity, (owner, now));
        Ok(())
    }

    /// Answers whoever asked for an entity of ours ([`Event::OwnershipRequested`]). Nothing happens if nobody waits for that (any more).
    pub fn answer_request(&mut self, entity: EntityId, peer: PeerId, grant: bool, now: Time) {
        if self.requests.open.remove(&(entity, peer)).is_none() {
            return;
        }
        self.now = now;
        if grant {
            self.apply_changes(vec![Change::Transfer { entity, to: peer }], now);
        } else {
            self.refuse_request(peer, entity, Refusal::Refused);
        }
        self.report_world();
    }

    /// Takes an entity whose policy is [`OwnershipPolicy::Seize`]: it is ours from now on. Where another does the same at the same
    /// time, all come to the same one of the two, and the other is told by [`WorldEvent::Owner`].
    ///
    /// # Errors
    /// If it cannot be taken.
    pub fn seize(&mut self, entity: EntityId, now: Time) -> Result<(), OwnershipError> {
        let owner = self.takeable(&entity)?;
        if entity.policy() != OwnershipPolicy::Seize {
            return Err(OwnershipError::Forbidden(entity));
        }
        if owner == self.me {
            return Ok(());
        }
        let max = self.config.limits.entities_per_origin;
        if self.author.records().len() >= max {
            return Err(OwnershipError::Full(max));
        }
        self.now = now;
        let (world, mut around) = self.world(now);
        let seized = world.seize(entity, &mut around);
        self.tell_everyone(Body::Seize(vec![seized]));
        self.report_world();
        Ok(())
    }

    /// The owner of an entity that is here.
    fn takeable(&self, entity: &EntityId) -> Result<PeerId, OwnershipError> {
        if self.left {
            return Err(OwnershipError::Closed);
        }
        self.world.shown_owner(entity).ok_or(OwnershipError::Unknown(*entity))
    }

    /// The same for whoever only has inputs: what went wrong is an event, too.
    pub(super) fn try_request(&mut self, entity: EntityId, now: Time) {
        if let Err(error) = self.request_ownership(entity, now) {
            self.event(Event::OwnershipRefused { entity, refusal: error.into() });
        }
    }

    /// Somebody asks us for an entity.
    pub(super) fn hear_request(&mut self, from: PeerId, entity: EntityId, now: Time) {
        let refusal = match self.world.shown_owner(&entity) {
            None => Refusal::Gone,
            Some(owner) if owner != self.me => Refusal::Moved,
            Some(_) => match entity.policy() {
                OwnershipPolicy::Refuse => Refusal::Refused,
                OwnershipPolicy::Grant | OwnershipPolicy::Seize => {
                    return self.apply_changes(vec![Change::Transfer { entity, to: from }], now);
                }
                OwnershipPolicy::Ask if self.requests.open.keys().filter(|(_, by)| *by == from).count() >= REQUESTS_MAX => {
                    Refusal::Busy
                }
                OwnershipPolicy::Ask => {
                    if self.requests.open.insert((entity, from), now).is_none() {
                        self.event(Event::OwnershipRequested { entity, peer: from });
                    }
                    return;
                }
            },
        };
        self.refuse_request(from, entity, refusal);
    }

    /// Somebody whom we asked for an entity says no.
    pub(super) fn hear_refusal(&mut self, from: PeerId, entity: EntityId, refusal: Refusal) {
        if self.requests.asked.get(&entity).is_some_and(|(owner, _)| *owner == from) {
            self.requests.asked.remove(&entity);
            self.event(Event::OwnershipRefused { entity, refusal });
        }
    }

    /// An entity has another owner, or is gone: what that means for who asked for it.
    pub(super) fn settle_requests(&mut self, entity: EntityId, owner: Option<PeerId>) {
        if let Some((asked, _)) = self.requests.asked.get(&entity)
            && owner != Some(*asked)
        {
            self.requests.asked.remove(&entity);
            // Ours is what we wanted.
            if owner != Some(self.me) {
                let refusal = if owner.is_some() { Refusal::Moved } else { Refusal::Gone };
                self.event(Event::OwnershipRefused { entity, refusal });
            }
        }
        if owner != Some(self.me) {
            let all = (entity, PeerId([0; 32]))..=(entity, PeerId([255; 32]));
            let late: Vec<PeerId> = self.requests.open.extract_if(all, |_, _| true).map(|((_, peer), _)| peer).collect();
            let refusal = if owner.is_some() { Refusal::Moved } else { Refusal::Gone };
            for peer in late.into_iter().filter(|peer| owner != Some(*peer)) {
                self.refuse_request(peer, entity, refusal);
            }
        }
    }

    /// Gives up on what took too long.
    pub(super) fn expire_requests(&mut self, now: Time) {
        self.requests.open.retain(|_, since| now.since(*since) < ANSWER_WITHIN);
        let late = self.requests.asked.extract_if(.., |_, (_, since)| now.since(*since) >= ANSWER_WITHIN);
        for (entity, _) in late.collect::<Vec<_>>() {
            self.event(Event::OwnershipRefused { entity, refusal: Refusal::NoAnswer });
        }
    }

    /// Tells everyone what we removed.
    pub(super) fn tell_removed(&mut self, removed: &[Numbered]) {
        for chunk in removed.chunks(STEPS_PER_MESSAGE) {
            self.tell_everyone(Body::Remove(chunk.to_vec()));
        }
    }

    /// Whoever cannot be reached finds out by itself that no answer comes.
    fn refuse_request(&mut self, peer: PeerId, entity: EntityId, refusal: Refusal) {
        if self.roster.present().contains(&peer)
            && let Some(place) = self.private.place(&peer)
        {
            self.say_to_one(peer, place, &Body::Refuse { entity, refusal });
        }
    }
}
