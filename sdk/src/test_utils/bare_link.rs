//! One link without a mesh: what the SDK does for a datagram between the game and the network, and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{CloseReason, Identity, LinkId, wire};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::VirtualNetwork;
use crate::link::{LinkEndpoint, LinkEvent, LinkHandle, Taken};

/// Events that may wait for whoever reads.
const EVENTS_MAX: usize = 4_096;

/// One end of a link on a [`VirtualNetwork`]: real QUIC, real rate adaptation, no protocol on top.
#[derive(Debug)]
pub struct BareLink {
    address: SocketAddr,
    handle: LinkHandle,
    events: mpsc::Receiver<LinkEvent>,
    /// Holds the socket.
    endpoint: LinkEndpoint,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

impl BareLink {
    /// The longest datagram, in bytes.
    pub const DATAGRAM_BYTES_MAX: usize = wire::DATAGRAM_BYTES_MAX;

    /// A link between two new sockets, the first of which dialed.
    ///
    /// # Panics
    /// Where the network is too bad for a handshake within 5 s.
    pub async fn pair(network: &VirtualNetwork, seed: u8) -> (Self, Self) {
        let (dialer, accepter) = (Opening::new(network, seed), Opening::new(network, seed.wrapping_add(1)));
        let to = accepter.address;
        let (dialer, mut accepter) = tokio::join!(dialer.up(Some(to)), accepter.up(None));
        dialer.handle.admit();
        accepter.handle.admit();
        // The first frame opens the stream. A mesh's links carry datagrams only after admission, which needs frames.
        dialer.send_frame(Bytes::from_static(b"hello"));
        while !matches!(accepter.events.recv().await, Some(LinkEvent::Frame { .. }) | None) {}
        (dialer, accepter)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands over a datagram. Returns whether it was sent: not when it is too long, or when the link cannot take it now.
    pub fn send(&self, datagram: Bytes) -> bool {
        self.handle.send_datagram(datagram) == Taken::Sent
    }

    /// Hands over a frame for the stream. Returns whether it was taken: not when too much waits.
    pub fn send_frame(&self, frame: Bytes) -> bool {
        self.handle.send_frame(frame).is_ok()
    }

    /// The next datagram; `None` once the link is down.
    pub async fn receive(&mut self) -> Option<Bytes> {
        loop {
            match self.events.recv().await? {
                LinkEvent::Datagram { bytes, .. } => return Some(bytes),
                LinkEvent::Frame { handled, .. } => handled.into_iter().for_each(|handled| _ = handled.send(())),
                LinkEvent::Down { .. } => return None,
                LinkEvent::Knock { .. } | LinkEvent::Up { .. } | LinkEvent::DialFailed { .. } | LinkEvent::Bulk { .. } => {}
            }
        }
    }

    /// Bytes of datagrams that wait for the socket now.
    pub fn waiting_bytes(&self) -> usize {
        self.handle.datagram_backlog_bytes()
    }

    /// How long packets stand in queues along the way, as the link sees it.
    pub fn queueing(&self) -> Duration {
        self.handle.reading().queueing
    }

    /// What the link is held to, in bytes per second of datagrams, if it is.
    pub fn limit(&self) -> Option<f64> {
        self.handle.reading().limit
    }

    /// Moves to a new socket on the same network. Returns where that is.
    ///
    /// # Errors
    /// When QUIC refuses it.
    pub fn rebind(&mut self, network: &VirtualNetwork) -> std::io::Result<SocketAddr> {
        self.address = self.endpoint.rebind(Some(network.socket()))?;
        Ok(self.address)
    }

    /// Closes the link.
    pub fn close(&self) {
        self.handle.close(CloseReason::Goodbye);
    }
}

struct Opening {
    address: SocketAddr,
    endpoint: LinkEndpoint,
    events: mpsc::Receiver<LinkEvent>,
    tasks: JoinSet<()>,
}

impl Opening {
    fn new(network: &VirtualNetwork, seed: u8) -> Self {
        let socket = network.socket();
        let address = socket.address();
        let (told, events) = mpsc::channel(EVENTS_MAX);
        let identity = Identity::from_seed([seed; 32]);
        let endpoint = LinkEndpoint::open(&identity, Some(socket), None, None, Some([seed; 32]), seed.into(), told)
            .expect("a socket that exists and an identity of our own");
        let mut tasks = JoinSet::new();
        tasks.spawn(endpoint.doorkeeper());
        Self { address, endpoint, events, tasks }
    }

    async fn up(mut self, dial: Option<SocketAddr>) -> BareLink {
        if let Some(address) = dial {
            self.tasks.spawn(self.endpoint.dial(LinkId(1), address, None));
        }
        loop {
            match self.events.recv().await.expect("the endpoint lives") {
                LinkEvent::Knock { incoming } => drop(self.tasks.spawn(self.endpoint.accept(LinkId(2), *incoming))),
                LinkEvent::Up { handle, .. } => {
                    let Self { address, endpoint, events, tasks } = self;
                    return BareLink { address, handle, events, endpoint, _tasks: tasks };
                }
                event => panic!("no link: {event:?}"),
            }
        }
    }
}
