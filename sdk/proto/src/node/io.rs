//! What goes into a node and what comes out: the whole seam between the protocol and the world.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Refusal;
use crate::admission::RemovalRule;
use crate::config::Profile;
use crate::id::{EntityId, LinkId, PeerId, Tick};
use crate::state::{Change, KindId, Orphan, Value};
use crate::time::MeshTime;

/// What happened, for [`Node::handle`](super::Node::handle).
#[derive(Clone, Debug)]
pub enum Input {
    /// Addresses at which members may be found, from a resolver, a ticket or a user.
    Candidates(Vec<Candidate>),
    /// A dial asked for by [`Output::Dial`] led nowhere.
    DialFailed {
        /// The link that was to be.
        link: LinkId,
    },
    /// A connection stands, encrypted and with both keys proved; admission begins.
    LinkUp {
        /// The link as numbered by [`Output::Dial`] or [`Node::accept`](super::Node::accept).
        link: LinkId,
        /// Whose key the other end proved.
        peer: PeerId,
        /// Where it is.
        address: SocketAddr,
        /// 32 bytes that only the two ends of this connection can know (RFC 9266).
        exporter: [u8; 32],
    },
    /// One frame of the link's stream: reliable, in order.
    Frame {
        /// Whence.
        link: LinkId,
        /// The whole frame, without its length.
        bytes: Bytes,
    },
    /// One datagram: may be lost, doubled or late.
    Datagram {
        /// Whence.
        link: LinkId,
        /// The whole datagram.
        bytes: Bytes,
    },
    /// The connection is gone.
    LinkDown {
        /// Which.
        link: LinkId,
        /// What is known of the reason.
        reason: CloseReason,
    },
    /// What the driver measured of a link.
    LinkStats {
        /// Which.
        link: LinkId,
        /// Smoothed round-trip time.
        rtt: Duration,
        /// Bytes per second that it carries, where it is full; None where it has room.
        limit: Option<u64>,
    },
    /// Somebody at `address` answered [`Output::Probe`]. Where nobody does, nothing need be said.
    Probed {
        /// Where.
        address: SocketAddr,
        /// How long question and answer took.
        rtt: Duration,
    },
    /// The way to a member through the routers between has just been opened: dial it now, whatever failed there before.
    Opened {
        /// Where it is, seen from here.
        address: SocketAddr,
        /// Who.
        peer: PeerId,
    },
    /// Try all known addresses again now, whatever failed there before: the network came back, or a user asks for it.
    Refresh,
    /// The game's tick has ended: apply these changes to the entities we own and flood the delta.
    Commit(Vec<Change>),
    /// Ask the owner of an entity for it; see [`Node::request_ownership`](super::Node::request_ownership).
    RequestOwnership(EntityId),
    /// Answer [`Event::OwnershipRequested`]; see [`Node::answer_request`](super::Node::answer_request).
    AnswerRequest {
        /// Which entity of ours.
        entity: EntityId,
        /// Who asked for it.
        peer: PeerId,
        /// Whether it gets it.
        grant: bool,
    },
    /// Take an entity that everyone may take; see [`Node::seize`](super::Node::seize).
    Seize(EntityId),
    /// Say something; see [`Node::send`](super::Node::send) for a call that tells whether it could be.
    Send {
        /// To whom.
        to: Target,
        /// The channel it is for; the game's own numbering.
        topic: Topic,
        /// What.
        payload: Bytes,
    },
    /// From now on these may remove members; see [`RemovalRule`].
    SetRemovalRule(RemovalRule),
    /// Say something else about ourselves from now on.
    SetProfile(Profile),
    /// The driver's addresses changed.
    SetAddresses(Vec<SocketAddr>),
    /// Say goodbye to everyone and close all links. Drain the outputs, then drop the node.
    Leave,
}

/// What is to be done, from [`Node::poll_output`](super::Node::poll_output).
#[derive(Clone, Debug)]
pub enum Output {
    /// Connect to `address`; answer with [`Input::LinkUp`] or [`Input::DialFailed`] under the same link.
    Dial {
        /// The number the link will have.
        link: LinkId,
        /// Where to.
        address: SocketAddr,
        /// Whose key must be found there, where it is known.
        expect: Option<PeerId>,
    },
    /// Find out how far `address` is without connecting, and answer with [`Input::Probed`]. A member is there, as it says itself.
    Probe {
        /// Where.
        address: SocketAddr,
    },
    /// Send a frame on the link's stream, reliable and in order.
    Frame {
        /// On which link.
        link: LinkId,
        /// The frame, without its length. At most [`wire::FRAME_BYTES_MAX`](crate::wire::FRAME_BYTES_MAX).
        bytes: Bytes,
    },
    /// Send a datagram, unreliably, and let it replace older ones still waiting.
    Datagram {
        /// On which link.
        link: LinkId,
        /// At most [`wire::DATAGRAM_BYTES_MAX`](crate::wire::DATAGRAM_BYTES_MAX).
        bytes: Bytes,
    },
    /// The other end is admitted: raise its limits from a stranger's to a member's.
    Admitted {
        /// Which link.
        link: LinkId,
    },
    /// Close the connection, after what was sent on it before. No `LinkDown` need follow.
    Close {
        /// Which link.
        link: LinkId,
        /// What to tell the other end.
        reason: CloseReason,
    },
    /// Something the application wants to know.
    Event(Event),
}

/// A place where a member may be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where.
    pub address: SocketAddr,
    /// Who is said to be there.
    pub peer: Option<PeerId>,
}

/// What the application learns.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The first member admitted us (or we it): we are in a mesh.
    Joined,
    /// A member refused us, or was refused by us, for a reason that a user can mend.
    Refused {
        /// Where.
        address: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
    /// A member is here.
    PeerJoined {
        /// Who.
        peer: PeerId,
        /// What it says of itself.
        profile: Profile,
    },
    /// A member says something else about itself.
    PeerChanged {
        /// Who.
        peer: PeerId,
        /// What it says now.
        profile: Profile,
    },
    /// A member is gone.
    PeerLeft {
        /// Who.
        peer: PeerId,
        /// How.
        farewell: Farewell,
    },
    /// Somebody said something.
    Message {
        /// Who: proved.
        from: PeerId,
        /// On which channel.
        topic: Topic,
        /// Whether it was for us alone.
        private: bool,
        /// What.
        payload: Bytes,
    },
    /// An entity changed. Ours are reported only where somebody else changed them.
    World(WorldEvent),
    /// Somebody asks for an entity of ours, whose policy is to ask the game: answer with [`Input::AnswerRequest`] within
    /// [`ANSWER_WITHIN`](super::ANSWER_WITHIN).
    OwnershipRequested {
        /// Which.
        entity: EntityId,
        /// Who.
        peer: PeerId,
    },
    /// Members were removed, or the mesh got another lock for another reason: tickets made before open it no longer.
    LockChanged {
        /// Who did it.
        by: PeerId,
    },
    /// We were removed. The mesh goes on without us, and this node is at its end.
    WeWereRemoved {
        /// Who did it.
        by: PeerId,
    },
    /// An entity that we asked for is not to be ours.
    OwnershipRefused {
        /// Which.
        entity: EntityId,
        /// Why.
        refusal: Refusal,
    },
}

/// How a member went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// It said goodbye.
    Left,
    /// It fell silent.
    Lost,
    /// It was removed.
    Removed,
}

/// A change in the world that all members share.
#[derive(Clone, Debug, PartialEq)]
pub enum WorldEvent {
    /// An entity is here; its components follow in the same batch of events.
    Appeared {
        /// Which.
        entity: EntityId,
        /// Whose.
        owner: PeerId,
        /// What becomes of it when the owner goes.
        orphan: Orphan,
    },
    /// A component has this value now.
    Set {
        /// Of which entity.
        entity: EntityId,
        /// Which component.
        kind: KindId,
        /// Its value.
        value: Value,
        /// The owner's tick that says so.
        tick: Tick,
        /// When the owner ended that tick.
        at: MeshTime,
    },
    /// A component is gone.
    Unset {
        /// Of which entity.
        entity: EntityId,
        /// Which component.
        kind: KindId,
    },
    /// The entity belongs to somebody else now: handed over, seized, or adopted from a leaver. `owner` may be ourselves.
    Owner {
        /// Which.
        entity: EntityId,
        /// Whose it is.
        owner: PeerId,
    },
    /// The entity is gone.
    Vanished {
        /// Which.
        entity: EntityId,
    },
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every other member.
    All,
    /// One member.
    One(PeerId),
    /// Every member, ourselves included: own messages come back in the order that everybody sees them.
    AllAndMe,
    /// Members at most this many links away. 0 stays home: only we ourselves hear it.
    Hops(u8),
}

/// A channel for messages. Numbers below [`Topic::RESERVED`] belong to the SDK's own services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u16);

impl Topic {
    /// The first number that is free for games.
    pub const RESERVED: u16 = 256;
}

/// Why a link closed, as the other end can be told. Numbers are the QUIC application error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The other end left the mesh, in order.
    #[error("the other end left the mesh")]
    Goodbye,
    /// The password (or ticket) is not this mesh's, or the handshake was tampered with: deliberately one reason for all.
    #[error("the password does not open this mesh; ask whoever invited you for the right one, and check upper and lower case")]
    Refused,
    /// Too many wrong passwords from this address.
    #[error("too many wrong passwords from this address; wait a minute, then try again with the right one")]
    LockedOut,
    /// The other end speaks another version of the protocol.
    #[error("the other end speaks another version of Peerflock; update both sides to the same release")]
    Version,
    /// The other end replicates other components: another game, or another version of it.
    #[error("the other end runs another game or another version of it (its replicated components differ); update both sides")]
    Registry,
    /// The other end holds all the neighbors it may; it named others to try.
    #[error("the other end has no room for another neighbor; it named others to try")]
    Full,
    /// The mesh holds all the members it may.
    #[error("the mesh is full; wait until somebody leaves")]
    MeshFull,
    /// The same two peers hold another link, which stays.
    #[error("another link between the same two peers stays instead")]
    Duplicate,
    /// A peer dialed itself.
    #[error("that is this very peer; dial somebody else")]
    SelfLink,
    /// A link no longer needed: its end makes room for a newcomer.
    #[error("the link made room for a newcomer")]
    Pruned,
    /// Admission took too long.
    #[error("the handshake took too long; check the connection and try again")]
    Deadline,
    /// What came over the link was no protocol of ours.
    #[error("the other end broke the protocol")]
    Violation,
    /// Nothing was heard for too long.
    #[error("the other end fell silent")]
    Silence,
    /// The connection failed below us.
    #[error("the connection failed")]
    Transport,
    /// The other end could not keep up with what it must receive reliably.
    #[error("the other end could not keep up")]
    TooSlow,
    /// The other end was removed from the mesh.
    #[error("the members of this mesh removed us; ask them, or join another one")]
    Removed,
    /// The mesh has another lock than the other end knows.
    #[error("the mesh has another lock than this one; ask a member for a new ticket")]
    OtherLock,
    /// As many members as may be are behind the same public address.
    #[error("too many players are behind one internet address here; ask a member to raise `members_per_address`")]
    Crowded,
    /// One of the two shows no certificate of the mesh's authority, or one that ended or was taken back.
    #[error(
        "no certificate of this mesh's authority that holds; ask whoever runs the mesh for one, and check this machine's date"
    )]
    Certificate,
}

impl CloseReason {
    const ALL: [Self; 19] = [
        Self::Goodbye,
        Self::Refused,
        Self::LockedOut,
        Self::Version,
        Self::Registry,
        Self::Full,
        Self::MeshFull,
        Self::Duplicate,
        Self::SelfLink,
        Self::Pruned,
        Self::Deadline,
        Self::Violation,
        Self::Silence,
        Self::Transport,
        Self::TooSlow,
        Self::Removed,
        Self::OtherLock,
        Self::Crowded,
        Self::Certificate,
    ];

    /// The QUIC application error code that says this.
    pub fn code(self) -> u32 {
        // Every reason is in the list: a test sees to it.
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or(0) as u32
    }

    /// What a QUIC application error code says; unknown ones are violations.
    pub fn from_code(code: u64) -> Self {
        usize::try_from(code).ok().and_then(|index| Self::ALL.get(index).copied()).unwrap_or(Self::Violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_codes_survive_the_wire() {
        for (code, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.code() as usize, code);
            assert_eq!(CloseReason::from_code(code as u64), reason);
        }
        assert_eq!(CloseReason::from_code(u64::MAX), CloseReason::Violation);
    }
}
