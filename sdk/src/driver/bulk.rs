//! The side doors of all links: who is at the other end of which, and who takes in the streams that come through them.

use std::collections::BTreeMap;
use std::sync::Mutex;

use peerflock_proto::{LinkId, PeerId};
use tokio::sync::mpsc;

use crate::link::{BulkPort, BulkReader, BulkWriter};
use crate::sync::lock;

/// Streams that wait to be taken in; more are refused.
const WAITING_MAX: usize = 64;

/// A stream that a neighbor opened.
#[derive(Debug)]
pub(crate) struct BulkStream {
    pub(crate) peer: PeerId,
    pub(crate) writer: BulkWriter,
    pub(crate) reader: BulkReader,
}

/// The side doors of one mesh.
#[derive(Debug, Default)]
pub(crate) struct BulkDoors(Mutex<Doors>);

#[derive(Debug, Default)]
struct Doors {
    ports: BTreeMap<LinkId, (PeerId, BulkPort)>,
    taker: Option<mpsc::Sender<BulkStream>>,
}

impl BulkDoors {
    /// From now on neighbors may open streams, which come to whoever asked. None if somebody has.
    pub(crate) fn open(&self) -> Option<mpsc::Receiver<BulkStream>> {
        let mut doors = lock(&self.0);
        if doors.taker.as_ref().is_some_and(|taker| !taker.is_closed()) {
            return None;
        }
        let (taker, taken) = mpsc::channel(WAITING_MAX);
        doors.taker = Some(taker);
        doors.ports.values().for_each(|(_, port)| port.set_open(true));
        Some(taken)
    }

    /// From now on they may not.
    pub(crate) fn close(&self) {
        let mut doors = lock(&self.0);
        doors.taker = None;
        doors.ports.values().for_each(|(_, port)| port.set_open(false));
    }

    /// The way to a neighbor, if there is one.
    pub(crate) fn port(&self, peer: &PeerId) -> Option<BulkPort> {
        let doors = lock(&self.0);
        doors.ports.values().rfind(|(other, port)| other == peer && !port.is_closed()).map(|(_, port)| port.clone())
    }

    /// A link was admitted.
    pub(super) fn admitted(&self, link: LinkId, peer: PeerId, port: BulkPort) {
        let mut doors = lock(&self.0);
        doors.ports.retain(|_, (_, port)| !port.is_closed());
        if doors.taker.is_some() {
            port.set_open(true);
        }
        doors.ports.insert(link, (peer, port));
    }

    /// A neighbor opened a stream. Dropping it refuses.
    pub(super) fn incoming(&self, link: LinkId, (send, receive): (quinn::SendStream, quinn::RecvStream)) {
        let doors = lock(&self.0);
        if let Some((taker, (peer, port))) = doors.taker.as_ref().zip(doors.ports.get(&link)) {
            let (writer, reader) = port.stream(send, receive);
            // Where too many wait already, this one is refused.
            _ = taker.try_send(BulkStream { peer: *peer, writer, reader });
        }
    }
}
