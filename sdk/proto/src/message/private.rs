//! Messages to one: routed towards it, repeated until its receipt comes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::id::{Boot, PeerId};
use crate::time::Time;
use crate::wire::Message;

/// A message without a receipt is sent again after so long, wherever the way leads by then: later each time that nothing comes back.
const REPEAT_AFTER: Duration = Duration::from_millis(400);
/// So often that time doubles.
const DOUBLINGS_MAX: u32 = 2;
/// Most bytes on their way to one peer: what is repeated must never fill a link's stream. Always one message at least.
const WINDOW_BYTES: usize = 64 * 1024;
/// Most bytes that wait for one peer's receipts, on their way or not yet.
const BACKLOG_BYTES: usize = 1024 * 1024;
/// Most messages that wait for one peer's receipts, and most received ahead of a missing one.
const BACKLOG: usize = 1_024;
/// Most peers whose numbers are remembered. Whoever has waited for nothing since is forgotten to make room.
const CONVERSATIONS_MAX: usize = 4_096;

/// Both directions of every private conversation.
#[derive(Debug, Default)]
pub(crate) struct Private {
    outgoing: BTreeMap<PeerId, Outgoing>,
    incoming: BTreeMap<PeerId, Incoming>,
    /// The highest number to a peer whose conversation was forgotten: no number is used twice.
    forgotten: u64,
}

/// A message's place in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) seq: u64,
    /// Nothing up to here is owed any more: it arrived, or was given up.
    pub(crate) after: u64,
}

#[derive(Debug, Default)]
struct Outgoing {
    last: u64,
    bytes: usize,
    waiting: VecDeque<Waiting>,
    /// The first so many of them are on their way, and so many bytes.
    flying: usize,
    flying_bytes: usize,
    /// How often something was repeated since the last receipt.
    repeats: u32,
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
    /// The place of the next message to `peer`; None while too much waits for its receipts.
    pub(crate) fn place(&self, peer: &PeerId) -> Option<Place> {
        let first = Place { seq: self.forgotten + 1, after: self.forgotten };
        let Some(outgoing) = self.outgoing.get(peer) else { return Some(first) };
        let after = outgoing.waiting.front().map_or(outgoing.last, |oldest| oldest.seq - 1);
        let room = outgoing.bytes < BACKLOG_BYTES && outgoing.waiting.len() < BACKLOG;
        room.then_some(Place { seq: outgoing.last + 1, after })
    }

    /// Keeps a message until it is receipted. It is given back if it may go at once.
    pub(crate) fn sent(&mut self, peer: PeerId, seq: u64, message: Message, now: Time) -> Option<Message> {
        if self.outgoing.len() >= CONVERSATIONS_MAX
            && !self.outgoing.contains_key(&peer)
            && let Some(idle) = self.outgoing.iter().find(|(_, outgoing)| outgoing.waiting.is_empty()).map(|(idle, _)| *idle)
            && let Some(idle) = self.outgoing.remove(&idle)
        {
            self.forgotten = self.forgotten.max(idle.last);
        }
        let outgoing = self.outgoing.entry(peer).or_default();
        outgoing.last = seq;
        outgoing.bytes += length(&message);
        outgoing.waiting.push_back(Waiting { seq, message, sent: now });
        outgoing.let_go(now).pop()
    }

    /// `peer` has all up to `upto`: what may go now.
    pub(crate) fn receipted(&mut self, peer: &PeerId, upto: u64, now: Time) -> Vec<Message> {
        let Some(outgoing) = self.outgoing.get_mut(peer) else { return Vec::new() };
        while let Some(waiting) = outgoing.waiting.pop_front_if(|waiting| waiting.seq <= upto) {
            let length = length(&waiting.message);
            outgoing.bytes -= length;
            if outgoing.flying > 0 {
                outgoing.flying -= 1;
                outgoing.flying_bytes -= length;
            }
            outgoing.repeats = 0;
        }
        outgoing.let_go(now)
    }

    /// What is due to be sent again to those who are here.
    pub(crate) fn due(&mut self, is_here: impl Fn(&PeerId) -> bool, now: Time) -> Vec<(PeerId, Message)> {
        let mut due = Vec::new();
        for (peer, outgoing) in self.outgoing.iter_mut().filter(|(peer, _)| is_here(peer)) {
            let patience = REPEAT_AFTER * (1 << outgoing.repeats.min(DOUBLINGS_MAX));
            let before = due.len();
            let flying = outgoing.waiting.iter_mut().take(outgoing.flying);
            for waiting in flying.filter(|waiting| now.since(waiting.sent) >= patience) {
                waiting.sent = now;
                due.push((*peer, waiting.message.clone()));
            }
            outgoing.repeats += u32::from(due.len() > before);
        }
        due
    }

    /// A message for us arrived: what is to be delivered now, in order, and up to where a receipt is to go.
    pub(crate) fn take(&mut self, from: PeerId, boot: Boot, place: Place, message: Message) -> (Vec<Message>, u64) {
        if self.incoming.len() >= CONVERSATIONS_MAX
            && !self.incoming.contains_key(&from)
            && let Some(idle) = self.incoming.iter().find(|(_, incoming)| incoming.ahead.is_empty()).map(|(idle, _)| *idle)
        {
            self.incoming.remove(&idle);
        }
        let fresh = || Incoming { boot, delivered: 0, ahead: BTreeMap::new() };
        let incoming = self.incoming.entry(from).or_insert_with(fresh);
        if incoming.boot != boot {
            *incoming = fresh();
        }
        let Place { seq, after } = place;
        let after = after.min(seq.saturating_sub(1));
        let mut ready = Vec::new();
        if after > incoming.delivered {
            // Nobody will send what is missing any more. What came of it is delivered all the same.
            let rest = incoming.ahead.split_off(&(after + 1));
            ready.extend(std::mem::replace(&mut incoming.ahead, rest).into_values());
            incoming.delivered = after;
        }
        if seq > incoming.delivered && (incoming.ahead.len() < BACKLOG || seq == incoming.delivered + 1) {
            incoming.ahead.insert(seq, message);
        }
        while let Some(next) = incoming.delivered.checked_add(1)
            && let Some(message) = incoming.ahead.remove(&next)
        {
            incoming.delivered = next;
            ready.push(message);
        }
        (ready, incoming.delivered)
    }

    /// `peer` was started anew, or is gone for good: nothing is owed to it. The numbers stay: it may only have seemed so.
    pub(crate) fn give_up(&mut self, peer: &PeerId) {
        if let Some(outgoing) = self.outgoing.get_mut(peer) {
            *outgoing = Outgoing { last: outgoing.last, ..Outgoing::default() };
        }
    }
}

impl Outgoing {
    /// What fits the window, oldest first.
    fn let_go(&mut self, now: Time) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(waiting) = self.waiting.get_mut(self.flying) {
            let bytes = self.flying_bytes + length(&waiting.message);
            if self.flying > 0 && bytes > WINDOW_BYTES {
                break;
            }
            waiting.sent = now;
            messages.push(waiting.message.clone());
            self.flying += 1;
            self.flying_bytes = bytes;
        }
        messages
    }
}

fn length(message: &Message) -> usize {
    message.body.as_ref().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{Identity, MeshId};
    use crate::wire::Signed;

    const PEER: PeerId = PeerId([1; 32]);
    const BYTES: usize = 1_000;

    fn message() -> Message {
        let header = Signed::new(&Identity::from_seed([1; 32]), &MeshId::from_name("test"), "message", &0).unwrap();
        Message { header, hops: 1, body: Some(Bytes::from(vec![0; BYTES])) }
    }

    fn send(private: &mut Private, seq: u64) -> bool {
        assert_eq!(private.place(&PEER).map(|place| place.seq), Some(seq));
        private.sent(PEER, seq, message(), Time(0)).is_some()
    }

    fn due(private: &mut Private, at: u64) -> usize {
        private.due(|_| true, Time(at)).len()
    }

    #[test]
    fn repeated_ever_more_seldom_until_receipted() {
        let mut private = Private::default();
        assert!(send(&mut private, 1) && send(&mut private, 2));
        assert_eq!((due(&mut private, 1), due(&mut private, 400_000)), (0, 2));
        assert_eq!((due(&mut private, 800_000), due(&mut private, 1_200_000)), (0, 2));
        private.receipted(&PEER, 1, Time(1_300_000));
        assert_eq!((due(&mut private, 1_500_000), due(&mut private, 1_600_000)), (0, 1));
        assert_eq!(private.place(&PEER), Some(Place { seq: 3, after: 1 }));
    }

    #[test]
    fn what_is_on_its_way_is_bounded_and_receipts_let_more_go() {
        let mut private = Private::default();
        let first = (1..=100).filter(|seq| send(&mut private, *seq)).count();
        assert_eq!(first, WINDOW_BYTES / BYTES);
        assert_eq!(due(&mut private, 400_000), first);
        assert_eq!(private.receipted(&PEER, 10, Time(400_001)).len(), 10);
        assert_eq!(private.receipted(&PEER, first as u64 + 10, Time(400_002)).len(), 100 - first - 10);
        assert_eq!(private.receipted(&PEER, 100, Time(400_003)).len(), 0);
        assert_eq!(due(&mut private, 9_000_000), 0);
    }

    #[test]
    fn nothing_is_repeated_to_one_that_seems_gone_until_it_is_back() {
        let mut private = Private::default();
        send(&mut private, 1);
        assert_eq!(private.due(|_| false, Time(9_000_000)).len(), 0);
        assert_eq!(due(&mut private, 9_000_001), 1);
    }

    #[test]
    fn once_and_in_order() {
        let mut private = Private::default();
        let mut take = |seq| {
            let (ready, upto) = private.take(PEER, Boot(1), Place { seq, after: 0 }, message());
            (ready.len(), upto)
        };
        assert_eq!((take(2), take(1), take(1)), ((0, 0), (2, 2), (0, 2)));
    }

    /// What was given up does not hold up what comes after it, and what was there does not come again.
    #[test]
    fn it_goes_on_after_what_was_given_up() {
        let (mut author, mut reader) = (Private::default(), Private::default());
        let mut take = |place| reader.take(PEER, Boot(1), place, message()).0.len();
        assert!(send(&mut author, 1) && send(&mut author, 2) && send(&mut author, 3));
        assert_eq!(take(Place { seq: 1, after: 0 }), 1);
        author.give_up(&PEER);
        let place = author.place(&PEER).unwrap();
        assert_eq!(place, Place { seq: 4, after: 3 });
        assert_eq!((take(place), take(place), take(Place { seq: 1, after: 0 })), (1, 0, 0));
    }

    #[test]
    fn a_peer_that_does_not_listen_costs_no_more_than_its_backlog() {
        let mut private = Private::default();
        while let Some(place) = private.place(&PEER) {
            private.sent(PEER, place.seq, message(), Time(0));
        }
        assert!(private.outgoing[&PEER].bytes <= BACKLOG_BYTES + BYTES);
        private.receipted(&PEER, u64::MAX, Time(0));
        assert!(private.place(&PEER).is_some());
    }

    /// The one that is forgotten to make room goes on with other numbers: none is taken for one that was there before.
    #[test]
    fn conversations_have_a_limit() {
        let peer = |number: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            PeerId(bytes)
        };
        let mut private = Private::default();
        for number in 0..2 * CONVERSATIONS_MAX as u64 {
            let place = private.place(&peer(number)).unwrap();
            private.sent(peer(number), place.seq, message(), Time(0));
            private.receipted(&peer(number), place.seq, Time(0));
            private.take(peer(number), Boot(1), place, message());
        }
        assert!(private.outgoing.len() <= CONVERSATIONS_MAX && private.incoming.len() <= CONVERSATIONS_MAX);
        assert!(!private.outgoing.contains_key(&peer(0)));
        assert!(private.place(&peer(0)).is_some_and(|place| place.seq > 1 && place.after == place.seq - 1));
    }
}
