//! A node whose links a test holds in its own hands: it says what comes over them, and sees what goes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Candidate, CloseReason, Identity, Input, LinkId, MeshId, MeshKey, Node, Output, PeerId, Time};

use super::config;

/// The node, and what time it is for it.
pub(crate) struct Hand {
    pub(crate) node: Node,
    pub(crate) now: Time,
}

/// What a node did with something that it was told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Did {
    /// The frames that it sent, over whatever link.
    pub(crate) frames: Vec<Bytes>,
    /// Whom it dials: under which number, and where.
    pub(crate) dials: Vec<(LinkId, SocketAddr)>,
    /// The links that it closed, and why.
    pub(crate) closed: Vec<(LinkId, CloseReason)>,
    /// Whether it let somebody in.
    pub(crate) admitted: bool,
}

pub(crate) fn mesh() -> MeshId {
    MeshId::from_name("attacks")
}

/// The key that a password makes. The real one costs a tenth of a second each, which would only make the attacker slower.
pub(crate) fn key(password: &str) -> MeshKey {
    let mut secret = [0; 32];
    for (place, byte) in password.bytes().enumerate() {
        secret[place % 32] ^= byte.rotate_left((place / 32) as u32);
    }
    MeshKey::from_secret(mesh(), secret)
}

pub(crate) fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

impl Hand {
    /// A node alone in its mesh. The same seed is the same peer.
    pub(crate) fn new(seed: u8, password: &str) -> Self {
        let now = Time(1_000_000);
        let mut node = Node::new(config(), Identity::from_seed([seed; 32]), key(password), [seed; 32], now);
        while node.poll_output().is_some() {}
        Self { node, now }
    }

    pub(crate) fn peer(&self) -> PeerId {
        self.node.peer_id()
    }

    /// Somebody connects, with a proved key: the link, or why it is not listened to.
    pub(crate) fn knocked(&mut self, from: SocketAddr, peer: PeerId, exporter: [u8; 32]) -> Result<LinkId, CloseReason> {
        let link = self.node.accept(from, self.now)?;
        let did = self.handle(Input::LinkUp { link, peer, address: from, exporter });
        match did.closed[..] {
            [(_, reason), ..] => Err(reason),
            [] => Ok(link),
        }
    }

    /// The node learns an address and dials it at once.
    pub(crate) fn dial(&mut self, to: SocketAddr) -> LinkId {
        let mut did = self.handle(Input::Candidates(vec![Candidate { address: to, peer: None }]));
        for _ in 0..100 {
            if let Some((link, _)) = did.dials.iter().find(|(_, address)| *address == to) {
                return *link;
            }
            did = self.pass(Duration::from_millis(10));
        }
        panic!("it does not dial {to}");
    }

    /// A connection that was dialed stands; what the node says first.
    pub(crate) fn up(&mut self, link: LinkId, at: SocketAddr, peer: PeerId, exporter: [u8; 32]) -> Did {
        self.handle(Input::LinkUp { link, peer, address: at, exporter })
    }

    pub(crate) fn hear(&mut self, link: LinkId, bytes: impl Into<Bytes>) -> Did {
        self.handle(Input::Frame { link, bytes: bytes.into() })
    }

    pub(crate) fn handle(&mut self, input: Input) -> Did {
        self.node.handle(input, self.now);
        self.drain()
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, time: Duration) -> Did {
        let (end, mut did) = (self.now + time, Did::default());
        while let Some(due) = self.node.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.node.handle_timeout(self.now);
            let more = self.drain();
            did.frames.extend(more.frames);
            did.dials.extend(more.dials);
            did.closed.extend(more.closed);
            did.admitted |= more.admitted;
        }
        self.now = end;
        did
    }

    fn drain(&mut self) -> Did {
        let mut did = Did::default();
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Frame { bytes, .. } => did.frames.push(bytes),
                Output::Dial { link, address, .. } => did.dials.push((link, address)),
                Output::Close { link, reason } => did.closed.push((link, reason)),
                Output::Admitted { .. } => did.admitted = true,
                Output::Datagram { .. } | Output::Probe { .. } | Output::Event(_) => {}
            }
        }
        did
    }
}
