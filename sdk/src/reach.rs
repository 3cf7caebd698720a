//! Getting through: how two players behind routers come to hold a link, and what to say where they do not.
//!
//! Routers let in what answers to something that went out, and each has its own idea of an answer. So both ends must send at about the
//! same time, to where the other's packets will come from. What that takes:
//!
//! | part | it answers |
//! | --- | --- |
//! | [`run`](self::run) | where do others see us, who is not linked that should be, and when to try (again) |
//! | [`offer`] | what two that want a link tell each other: where they may be; over the mesh, or sealed, by a directory |
//! | [`punch`] | which packets to send when, within a budget, until one comes through from either end |
//! | [`mapping`] | does the router open a port where it is asked to, and which [`gateway`] is it |
//! | [`doctor`] | why can nobody reach me, in words that help a player |
//!
//! Where nothing gets through nothing is lost: floods and messages reach the two by others, and it is tried again later. Two who have no
//! others ask the directory that introduced them to carry their packets, until there is a direct way, or others.

pub mod doctor;
mod gateway;
mod mapping;
mod offer;
mod punch;
mod run;

use std::sync::Arc;

use peerflock_proto::{PeerId, Topic};

pub(crate) use mapping::Mapper;
pub(crate) use run::Reach;

/// The topic of what members tell each other about ways: of the mesh itself, below those of services.
pub(crate) const TOPIC: Topic = Topic(1);

/// Carries an offer to somebody who is no member yet.
pub(crate) trait Courier: Send + Sync + std::fmt::Debug {
    /// Sends `letter`, if that can be. Nobody is told if it cannot.
    fn send(&self, letter: &[u8]);

    /// Asks for packets to and from `peer`, whom it reaches, to be carried. If that can be, [`Arrived::Relayed`](crate::link::probe::Arrived)
    /// tells.
    fn relay(&self, peer: PeerId);
}

/// Somebody who can be told something.
#[derive(Clone, Debug)]
pub(crate) enum Post {
    /// A member, over the mesh.
    Mesh,
    /// By a courier.
    Courier(Arc<dyn Courier>),
}
