//! Who is here, and what happens to the mesh as a whole.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use peerflock::{CloseReason, Farewell, PeerId, Profile, StartError, Target};

use crate::engine::{Entity, Message, Resource};
use crate::messages::MessageError;
use crate::replicate::EncodeError;

/// Others came, went, or said something else about themselves.
#[derive(Clone, Debug, Message, PartialEq)]
pub enum PeerEvent {
    /// A peer is here. Its entities follow at once.
    Joined {
        /// Who.
        peer: PeerId,
        /// What it says of itself.
        profile: Profile,
    },
    /// A peer says something else about itself.
    Changed {
        /// Who.
        peer: PeerId,
        /// What it says now.
        profile: Profile,
    },
    /// A peer is gone. What it leaves behind vanishes, or is adopted where it is [`Adoptable`](crate::Adoptable).
    Left {
        /// Who.
        peer: PeerId,
        /// Whether it said goodbye or fell silent.
        farewell: Farewell,
    },
}

impl PeerEvent {
    /// Who joined, if that is what happened.
    pub fn joined(&self) -> Option<PeerId> {
        if let Self::Joined { peer, .. } = self { Some(*peer) } else { None }
    }

    /// Who left, if that is what happened.
    pub fn left(&self) -> Option<PeerId> {
        if let Self::Left { peer, .. } = self { Some(*peer) } else { None }
    }
}

/// What happens to the mesh, or to what we tell it.
#[derive(Clone, Debug, Message)]
pub enum MeshEvent {
    /// The mesh stands: [`MeshHandle`](crate::MeshHandle) is there, own entities are being announced.
    Ready,
    /// The mesh could not be started; the error says what to do. Start another with
    /// [`start_mesh`](crate::MeshCommandsExt::start_mesh).
    Failed(Arc<StartError>),
    /// A member refused us, for a reason that a user can mend. The mesh goes on trying elsewhere.
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// Members were removed, and the mesh has another lock: tickets made before open it no longer.
    LockChanged {
        /// Who did it.
        by: PeerId,
    },
    /// We were removed from the mesh; it goes on without us.
    Removed {
        /// Who did it.
        by: PeerId,
    },
    /// The mesh was left.
    Left,
    /// A message could not be sent to anybody.
    SendFailed {
        /// The message's type.
        message: &'static str,
        /// To whom it was to go.
        to: Target,
        /// Why not.
        error: MessageError,
    },
    /// An entity could not be given to a peer that is not here; it stays ours.
    TransferFailed {
        /// Which.
        entity: Entity,
        /// Whose it was to be.
        to: PeerId,
    },
    /// A component could not be sent: the others keep seeing what it was before.
    EncodeFailed {
        /// Of which entity.
        entity: Entity,
        /// The component's type.
        component: &'static str,
        /// Why not.
        error: EncodeError,
    },
}

/// The other members and what they say of themselves, as of this frame.
///
/// The same as [`PeerMesh::members`](peerflock::PeerMesh::members), without us and without asking the mesh: for systems that
/// look up names in every frame.
#[derive(Clone, Debug, Default, Resource)]
pub struct Peers(BTreeMap<PeerId, Profile>);

impl Peers {
    /// What `peer` says of itself, if it is here.
    pub fn get(&self, peer: PeerId) -> Option<&Profile> {
        self.0.get(&peer)
    }

    /// Everybody but us, in the order of their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Profile)> {
        self.0.iter().map(|(peer, profile)| (*peer, profile))
    }

    /// How many others there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether we are alone.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, peer: PeerId, profile: Profile) {
        self.0.insert(peer, profile);
    }

    pub(crate) fn remove(&mut self, peer: PeerId) {
        self.0.remove(&peer);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
