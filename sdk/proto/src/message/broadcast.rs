//! Messages to everyone: one sequence per author, kept for those who missed some.

use std::collections::{BTreeMap, VecDeque};

use crate::flood::Window;
use crate::id::{Boot, LinkId, PeerId};
use crate::wire::{DigestEntry, Message};

/// Most messages sent again on one pull; the rest is pulled again.
const PULL_MAX: usize = 64;

/// Every author's sequence, ours included.
#[derive(Debug)]
pub(crate) struct Broadcast {
    lanes: BTreeMap<PeerId, Lane>,
    /// What each neighbor was last told that we have.
    told: BTreeMap<LinkId, BTreeMap<PeerId, u64>>,
    cache_bytes_max: usize,
    ahead_max: usize,
}

#[derive(Debug)]
struct Lane {
    boot: Boot,
    /// All up to here were delivered.
    delivered: u64,
    ahead: BTreeMap<u64, Message>,
    kept: VecDeque<(u64, Message)>,
    kept_bytes: usize,
    /// Messages to those near, which have a sequence of their own.
    near: Window,
}

/// What became of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// New: forward it. These are to be delivered now, in this order.
    New(Vec<Message>),
    /// Known already, or from an author or boot that is not.
    Old,
    /// Too far ahead of what is missing: it will be pulled in its turn.
    TooFar,
}

impl Broadcast {
    pub(crate) fn new(cache_bytes_max: usize, ahead_max: usize) -> Self {
        Self { lanes: BTreeMap::new(), told: BTreeMap::new(), cache_bytes_max, ahead_max }
    }

    /// Begins to listen to an author, after its message `delivered`. A known boot goes on where it was.
    pub(crate) fn listen(&mut self, author: PeerId, boot: Boot, delivered: u64) {
        if self.lanes.get(&author).is_some_and(|lane| lane.boot == boot) {
            return;
        }
        let lane = Lane { boot, delivered, ahead: BTreeMap::new(), kept: VecDeque::new(), kept_bytes: 0, near: Window::new() };
        self.lanes.insert(author, lane);
        for told in self.told.values_mut() {
            told.remove(&author);
        }
    }

    /// Forgets an author's lane for good.
    pub(crate) fn forget(&mut self, author: &PeerId) {
        self.lanes.remove(author);
    }

    /// Whether a message is worth looking at: a cheap question before its signature is checked.
    pub(crate) fn is_new(&self, author: &PeerId, boot: Boot, seq: u64, near: bool) -> bool {
        self.lanes.get(author).is_some_and(|lane| {
            lane.boot == boot
                && if near { !lane.near.contains(seq) } else { seq > lane.delivered && !lane.ahead.contains_key(&seq) }
        })
    }

    /// Takes in a message whose signature was checked.
    pub(crate) fn take(&mut self, author: &PeerId, seq: u64, near: bool, message: Message) -> Taken {
        let Some(lane) = self.lanes.get_mut(author) else { return Taken::Old };
        if near {
            return if lane.near.insert(seq) { Taken::New(vec![message]) } else { Taken::Old };
        }
        if seq <= lane.delivered || lane.ahead.contains_key(&seq) {
            return Taken::Old;
        }
        if lane.ahead.len() >= self.ahead_max && seq != lane.delivered + 1 {
            return Taken::TooFar;
        }
        lane.ahead.insert(seq, message);
        Taken::New(lane.deliver(self.cache_bytes_max))
    }

    /// Messages up to `upto` cannot be had any more: go on after them.
    pub(crate) fn skip(&mut self, author: &PeerId, boot: Boot, upto: u64) -> Vec<Message> {
        match self.lanes.get_mut(author) {
            Some(lane) if lane.boot == boot && upto > lane.delivered => {
                lane.delivered = upto;
                lane.ahead = lane.ahead.split_off(&(upto + 1));
                lane.deliver(self.cache_bytes_max)
            }
            _ => Vec::new(),
        }
    }

    /// What `link`'s neighbor has not been told yet of what we have.
    pub(crate) fn digest(&mut self, link: LinkId) -> Vec<DigestEntry> {
        let told = self.told.entry(link).or_default();
        let mut entries = Vec::new();
        for (origin, lane) in &self.lanes {
            if told.get(origin) != Some(&lane.delivered) {
                told.insert(*origin, lane.delivered);
                entries.push(DigestEntry { origin: *origin, boot: lane.boot, upto: lane.delivered });
            }
        }
        entries
    }

    pub(crate) fn link_down(&mut self, link: LinkId) {
        self.told.remove(&link);
    }

    /// Of what a neighbor has, what we miss: the pull to send.
    pub(crate) fn missing(&self, theirs: &DigestEntry) -> Option<DigestEntry> {
        let lane = self.lanes.get(&theirs.origin).filter(|lane| lane.boot == theirs.boot)?;
        (lane.delivered < theirs.upto).then_some(DigestEntry { upto: lane.delivered, ..*theirs })
    }

    /// The messages after `pull.upto` that are kept, or how far those go that are not.
    pub(crate) fn pulled(&self, pull: &DigestEntry) -> Result<Vec<Message>, u64> {
        let Some(lane) = self.lanes.get(&pull.origin).filter(|lane| lane.boot == pull.boot) else { return Ok(Vec::new()) };
        let first_kept = lane.kept.front().map_or(lane.delivered + 1, |(seq, _)| *seq);
        if pull.upto + 1 < first_kept {
            return Err(first_kept - 1);
        }
        Ok(lane.kept.iter().filter(|(seq, _)| *seq > pull.upto).take(PULL_MAX).map(|(_, message)| message.clone()).collect())
    }
}

impl Lane {
    fn deliver(&mut self, cache_bytes_max: usize) -> Vec<Message> {
        let mut ready = Vec::new();
        while let Some(message) = self.ahead.remove(&(self.delivered + 1)) {
            self.delivered += 1;
            self.kept_bytes += message.body.as_ref().map_or(0, bytes::Bytes::len);
            self.kept.push_back((self.delivered, message.clone()));
            ready.push(message);
        }
        while self.kept_bytes > cache_bytes_max || self.kept.len() > cache_bytes_max / 64 {
            let Some((_, dropped)) = self.kept.pop_front() else { break };
            self.kept_bytes -= dropped.body.as_ref().map_or(0, bytes::Bytes::len);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::{Identity, MeshId};
    use crate::wire::Signed;

    const BOOT: Boot = Boot(1);

    fn author() -> PeerId {
        Identity::from_seed([1; 32]).peer_id()
    }

    fn message(seq: u64) -> Message {
        let header = Signed::new(&Identity::from_seed([1; 32]), &MeshId::from_name("test"), "message", &seq).unwrap();
        Message { header, hops: 1, body: Some(Bytes::from(vec![0; 100])) }
    }

    fn broadcast() -> Broadcast {
        let mut broadcast = Broadcast::new(1_000, 4);
        broadcast.listen(author(), BOOT, 10);
        broadcast
    }

    fn delivered(taken: Taken) -> usize {
        match taken {
            Taken::New(ready) => ready.len(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn once_and_in_order() {
        let mut broadcast = broadcast();
        assert_eq!(broadcast.take(&author(), 10, false, message(10)), Taken::Old);
        assert_eq!(delivered(broadcast.take(&author(), 12, false, message(12))), 0);
        assert_eq!(broadcast.take(&author(), 12, false, message(12)), Taken::Old);
        assert_eq!(delivered(broadcast.take(&author(), 11, false, message(11))), 2);
        assert!(!broadcast.is_new(&author(), BOOT, 12, false));
        assert!(broadcast.is_new(&author(), BOOT, 13, false));
        assert!(!broadcast.is_new(&author(), Boot(2), 13, false));
    }

    #[test]
    fn what_runs_ahead_takes_no_more_than_its_room() {
        let mut broadcast = broadcast();
        for seq in 12..16 {
            delivered(broadcast.take(&author(), seq, false, message(seq)));
        }
        assert_eq!(broadcast.take(&author(), 16, false, message(16)), Taken::TooFar);
        assert_eq!(delivered(broadcast.take(&author(), 11, false, message(11))), 5);
    }

    #[test]
    fn a_gap_is_pulled_from_the_neighbor_or_skipped() {
        let (mut ours, mut theirs) = (broadcast(), broadcast());
        for seq in 11..14 {
            delivered(theirs.take(&author(), seq, false, message(seq)));
        }
        let digest = theirs.digest(LinkId(1));
        assert_eq!(theirs.digest(LinkId(1)), []);
        let pull = ours.missing(&digest[0]).unwrap();
        assert_eq!(pull.upto, 10);
        let got: usize = theirs
            .pulled(&pull)
            .unwrap()
            .into_iter()
            .zip(11..)
            .map(|(m, seq)| delivered(ours.take(&author(), seq, false, m)))
            .sum();
        assert_eq!(got, 3);
        assert_eq!(ours.missing(&digest[0]), None);

        for seq in 14..40 {
            delivered(theirs.take(&author(), seq, false, message(seq)));
        }
        let pull = ours.missing(&theirs.digest(LinkId(1))[0]).unwrap();
        let gone = theirs.pulled(&pull).unwrap_err();
        assert!(gone > 14 && gone < 40);
        assert_eq!(ours.skip(&author(), BOOT, gone), []);
        assert_eq!(ours.lanes[&author()].delivered, gone);
    }

    #[test]
    fn near_ones_wait_for_nobody() {
        let mut broadcast = broadcast();
        assert_eq!(delivered(broadcast.take(&author(), 7, true, message(7))), 1);
        assert_eq!(broadcast.take(&author(), 7, true, message(7)), Taken::Old);
        assert_eq!(delivered(broadcast.take(&author(), 5, true, message(5))), 1);
    }
}
