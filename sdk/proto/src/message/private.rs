//! Messages to one: routed towards it, repeated until its receipt comes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::{Boot, PeerId};
use crate::time::Time;
use crate::wire::Message;

/// A message without a receipt is sent again after so long, wherever the way leads by then.
const REPEAT_AFTER: Duration = Duration::from_millis(400);
/// Most bytes on their way to one peer.
const BACKLOG_BYTES: usize = 1024 * 1024;
/// Most messages on their way to one peer, and most received ahead of a missing one.
const BACKLOG: usize = 1_024;

/// Both directions of every private conversation.
#[derive(Debug, Default)]
pub(crate) struct Private {
    outgoing: BTreeMap<PeerId, Outgoing>,
    incoming: BTreeMap<PeerId, Incoming>,
}

#[derive(Debug, Default)]
struct Outgoing {
    last: u64,
    bytes: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    seq: u64,
    message: Message,
    sent: Time,
}

#[derive(Debug)]
struct Incoming {
    boot: Boot,
    delivered: u64,
    ahead: BTreeMap<u64, Message>,
}

impl Private {
    /// The number of the next message to `peer`; None while too much is on its way.
    pub(crate) fn next_seq(&self, peer: &PeerId) -> Option<u64> {
        let Some(outgoing) = self.outgoing.get(peer) else { return Some(1) };
        (outgoing.bytes < BACKLOG_BYTES && outgoing.waiting.len() < BACKLOG).then_some(outgoing.last + 1)
    }

    /// Keeps a message until it is receipted.
    pub(crate) fn sent(&mut self, peer: PeerId, seq: u64, message: Message, now: Time) {
        let outgoing = self.outgoing.entry(peer).or_default();
        outgoing.last = seq;
        outgoing.bytes += message.body.as_ref().map_or(0, bytes::Bytes::len);
        outgoing.waiting.push_back(Waiting { seq, message, sent: now });
    }

    /// `peer` has all up to `upto`.
    pub(crate) fn receipted(&mut self, peer: &PeerId, upto: u64) {
        let Some(outgoing) = self.outgoing.get_mut(peer) else { return };
        while let Some(waiting) = outgoing.waiting.pop_front_if(|waiting| waiting.seq <= upto) {
            outgoing.bytes -= waiting.message.body.as_ref().map_or(0, bytes::Bytes::len);
        }
    }

    /// What is due to be sent again.
    pub(crate) fn due(&mut self, now: Time) -> Vec<(PeerId, Message)> {
        let mut due = Vec::new();
        for (peer, outgoing) in &mut self.outgoing {
            for waiting in outgoing.waiting.iter_mut().filter(|waiting| now.since(waiting.sent) >= REPEAT_AFTER) {
                waiting.sent = now;
                due.push((*peer, waiting.message.clone()));
            }
        }
        due
    }

    /// A message for us arrived: what is to be delivered now, in order, and up to where a receipt is to go.
    pub(crate) fn take(&mut self, from: PeerId, boot: Boot, seq: u64, message: Message) -> (Vec<Message>, u64) {
        let fresh = || Incoming { boot, delivered: 0, ahead: BTreeMap::new() };
        let incoming = self.incoming.entry(from).or_insert_with(fresh);
        if incoming.boot != boot {
            *incoming = fresh();
        }
        if seq > incoming.delivered && (incoming.ahead.len() < BACKLOG || seq == incoming.delivered + 1) {
            incoming.ahead.insert(seq, message);
        }
        let mut ready = Vec::new();
        while let Some(message) = incoming.ahead.remove(&(incoming.delivered + 1)) {
            incoming.delivered += 1;
            ready.push(message);
        }
        (ready, incoming.delivered)
    }

    /// `peer` was started anew, or is gone for good: nothing is owed to it, and it counts from the beginning.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.outgoing.remove(peer);
        self.incoming.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{Identity, MeshId};
    use crate::wire::Signed;

    const PEER: PeerId = PeerId([1; 32]);

    fn message() -> Message {
        let header = Signed::new(&Identity::from_seed([1; 32]), &MeshId::from_name("test"), "message", &0).unwrap();
        Message { header, hops: 1, body: Some(Bytes::from(vec![0; 1_000])) }
    }

    #[test]
    fn repeated_until_receipted() {
        let mut private = Private::default();
        private.sent(PEER, 1, message(), Time(0));
        private.sent(PEER, 2, message(), Time(0));
        assert_eq!(private.due(Time(1)).len(), 0);
        assert_eq!(private.due(Time(400_000)).len(), 2);
        private.receipted(&PEER, 1);
        assert_eq!(private.due(Time(800_000)).len(), 1);
        assert_eq!(private.next_seq(&PEER), Some(3));
    }

    #[test]
    fn once_and_in_order() {
        let mut private = Private::default();
        let mut take = |seq| {
            let (ready, upto) = private.take(PEER, Boot(1), seq, message());
            (ready.len(), upto)
        };
        assert_eq!(take(2), (0, 0));
        assert_eq!(take(1), (2, 2));
        assert_eq!(take(1), (0, 2));
    }

    #[test]
    fn a_peer_that_does_not_listen_costs_no_more_than_its_backlog() {
        let mut private = Private::default();
        while let Some(seq) = private.next_seq(&PEER) {
            private.sent(PEER, seq, message(), Time(0));
        }
        assert!(private.outgoing[&PEER].bytes <= BACKLOG_BYTES + 1_000);
        private.receipted(&PEER, u64::MAX);
        assert!(private.next_seq(&PEER).is_some());
    }
}
