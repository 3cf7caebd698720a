//! One link and how far it has come.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::admission::{Accepter, Confirmed, Dialer};
use crate::id::PeerId;
use crate::time::Time;

/// A connection to one other process.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    pub(crate) dialed: bool,
    /// Who must be there, where that is known before.
    pub(crate) expect: Option<PeerId>,
    /// Whose key was proved there.
    pub(crate) peer: Option<PeerId>,
    /// What only the two ends of the connection know.
    pub(crate) exporter: [u8; 32],
    pub(crate) stage: Stage,
    pub(crate) opened: Time,
    /// When something last came from there.
    pub(crate) heard: Time,
    pub(crate) rtt: Option<Duration>,
}

/// How far a link has come.
pub(crate) enum Stage {
    /// We dialed; no connection yet. Or it was accepted, and no key proved yet.
    Connecting,
    /// Accepted: HELLO is to come.
    AwaitHello,
    /// Dialed: HELLO was sent, SHARE is to come.
    AwaitShare(Box<Dialer>),
    /// Accepted: SHARE was sent, CONFIRM is to come.
    AwaitConfirm(Box<Accepter>),
    /// Dialed: CONFIRM was sent, WELCOME is to come.
    AwaitWelcome(Confirmed),
    /// Both ends are members.
    Member,
}

impl Link {
    pub(crate) fn new(address: SocketAddr, dialed: bool, expect: Option<PeerId>, now: Time) -> Self {
        Self {
            address,
            dialed,
            expect,
            peer: None,
            exporter: [0; 32],
            stage: Stage::Connecting,
            opened: now,
            heard: now,
            rtt: None,
        }
    }

    pub(crate) fn is_member(&self) -> bool {
        matches!(self.stage, Stage::Member)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?} at {}, {:?})", self.peer, self.address, self.stage)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies within is secret.
        f.write_str(match self {
            Self::Connecting => "Connecting",
            Self::AwaitHello => "AwaitHello",
            Self::AwaitShare(_) => "AwaitShare",
            Self::AwaitConfirm(_) => "AwaitConfirm",
            Self::AwaitWelcome(_) => "AwaitWelcome",
            Self::Member => "Member",
        })
    }
}
