//! Messages to everyone: one lane per author, kept for those who missed some.
//!
//! A lane delivers in order, each number once. A message that no seal covers yet is delivered on the word of the neighbor that passed
//! it on: waiting for the seal would cost a conversation on a beat a fifth of a second. When the seal comes and does not hold, somebody
//! on the way lied: all that it covers is in doubt, is fetched again from others, and whatever turns out different is delivered.

use std::collections::{BTreeMap, VecDeque};

use crate::flood::{Slot, Window};
use crate::id::{Boot, Identity, MeshId, PeerId};
use crate::wire::{Leaf, Said, Seal, Standing};

/// Most messages that wait for one seal. Authors seal several times a second, and long before this.
pub(crate) const UNSEALED_MAX: usize = 64;

/// All authors' messages together are kept in the room of so many.
const FULL_CACHES: usize = 16;

/// Nobody ever says so much: larger numbers are lies, and none that we keep overflows when it is counted on.
const SEQ_MAX: u64 = u64::MAX / 2;

/// Every author's lane, ours included.
#[derive(Debug)]
pub(crate) struct Broadcast {
    mesh: MeshId,
    /// By [`Slot`].
    lanes: Vec<Option<Lane>>,
    /// Counts what was delivered: as long as it stays, neighbors have nothing new to learn.
    version: u64,
    /// By [`Slot`]: the version since when it stands where it does.
    since: Vec<u64>,
    cache_bytes_max: usize,
    ahead_max: usize,
}

#[derive(Debug)]
struct Lane {
    author: PeerId,
    boot: Boot,
    /// Where we began to listen.
    began: u64,
    /// The last message under a seal that reaches back to before that.
    unheard: u64,
    /// All up to here were delivered.
    delivered: u64,
    ahead: BTreeMap<u64, Said>,
    /// The newest that were delivered, in a row.
    kept: VecDeque<Said>,
    kept_bytes: usize,
    /// Hashes of what is not sealed yet, and seals that wait for one of those.
    leaves: BTreeMap<u64, Leaf>,
    seals: BTreeMap<u64, Seal>,
    /// What was delivered and then fell into doubt: delivered again only if it turns out different.
    doubted: BTreeMap<u64, Leaf>,
    /// Messages to those near, which have a sequence of their own.
    near: Window,
}

/// What became of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Taken {
    /// New: forward it. These are to be delivered now, in this order.
    New(Vec<Said>),
    /// Known already, or from an author that is not.
    Old,
    /// Too far ahead of what is missing: it will be pulled in its turn.
    TooFar,
    /// A seal does not hold. What it covers will be fetched again.
    Forged,
}

impl Broadcast {
    pub(crate) fn new(mesh: MeshId, cache_bytes_max: usize, ahead_max: usize) -> Self {
        Self { mesh, lanes: Vec::new(), version: 0, since: Vec::new(), cache_bytes_max, ahead_max }
    }

    /// Begins to listen to an author, after its message `delivered`. A lane that is there goes on where it was.
    pub(crate) fn listen(&mut self, slot: Slot, author: PeerId, boot: Boot, delivered: u64) {
        if slot.index() >= self.lanes.len() {
            self.lanes.resize_with(slot.index() + 1, || None);
            self.since.resize(slot.index() + 1, 0);
        }
        let lane = &mut self.lanes[slot.index()];
        if lane.as_ref().is_none_or(|lane| (lane.author, lane.boot) != (author, boot)) {
            *lane = Some(Lane::new(author, boot, delivered.min(SEQ_MAX)));
            self.moved(slot);
        }
    }

    /// Forgets an author's lane for good.
    pub(crate) fn forget(&mut self, slot: Slot) {
        if let Some(lane) = self.lanes.get_mut(slot.index()) {
            *lane = None;
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Authors whose messages are here up to elsewhere since a version.
    pub(crate) fn moved_since(&self, version: u64) -> impl Iterator<Item = Slot> {
        (0..).map(Slot).zip(&self.since).filter(move |(_, since)| **since > version).map(|(slot, _)| slot)
    }

    fn moved(&mut self, slot: Slot) {
        self.version += 1;
        if let Some(since) = self.since.get_mut(slot.index()) {
            *since = self.version;
        }
    }

    /// Up to where an author's messages are here.
    pub(crate) fn delivered(&self, slot: Slot) -> Option<u64> {
        self.lane(slot).map(|lane| lane.delivered)
    }

    /// The whole number that `low` is the low bits of, near where the author stands.
    pub(crate) fn expand(&self, slot: Slot, low: u16) -> Option<u64> {
        let delivered = self.lane(slot)?.delivered;
        delivered.checked_add_signed(i64::from(low.wrapping_sub(delivered as u16) as i16))
    }

    /// The same for the four low bits that a digest tells: neighbors are rather ahead of us than behind.
    pub(crate) fn expand_mark(&self, slot: Slot, low: u8) -> Option<u64> {
        const BEHIND_MAX: u64 = 4;
        let delivered = self.lane(slot)?.delivered;
        let ahead = u64::from(low).wrapping_sub(delivered) & 15;
        if ahead < 16 - BEHIND_MAX { Some(delivered + ahead) } else { (delivered + ahead).checked_sub(16) }
    }

    /// Whether a message is worth looking at.
    pub(crate) fn is_new(&self, slot: Slot, seq: u64) -> bool {
        self.lane(slot).is_some_and(|lane| seq > lane.delivered && !lane.ahead.contains_key(&seq))
    }

    /// Whether a message to those near is new.
    pub(crate) fn is_new_near(&self, slot: Slot, seq: u64) -> bool {
        self.lane(slot).is_some_and(|lane| !lane.near.contains(seq))
    }

    /// Takes in the number of a message to those near; false if it was here before.
    pub(crate) fn take_near(&mut self, slot: Slot, seq: u64) -> bool {
        self.lanes.get_mut(slot.index()).and_then(Option::as_mut).is_some_and(|lane| lane.near.insert(seq))
    }

    /// Takes a message in.
    pub(crate) fn take(&mut self, slot: Slot, said: Said) -> Taken {
        let (mesh, cache_bytes_max, ahead_max) = (self.mesh, self.cache_bytes(), self.ahead_max);
        let Some(lane) = self.lanes.get_mut(slot.index()).and_then(Option::as_mut) else { return Taken::Old };
        let seq = said.seq;
        if seq <= lane.delivered || seq > SEQ_MAX || lane.ahead.contains_key(&seq) {
            return Taken::Old;
        }
        let (next, unsealed) = (seq == lane.delivered + 1, lane.leaves.len());
        let far = lane.ahead.len() >= ahead_max || (said.seal.is_none() && unsealed >= UNSEALED_MAX);
        // What is next may close the gap that the seals wait for; an author who never seals does not go on for ever.
        if (far && !next) || unsealed >= UNSEALED_MAX + ahead_max {
            return Taken::TooFar;
        }
        let leaf = said.leaf(&mesh, &lane.author, lane.boot);
        if let Some(seal) = said.seal {
            // What carries its own seal is either true or nothing.
            if seal.covers == 1 && !seal.holds(&mesh, &lane.author, lane.boot, seq, &[leaf]) {
                return Taken::Forged;
            }
            lane.seals.insert(seq, seal);
        }
        lane.leaves.insert(seq, leaf);
        lane.ahead.insert(seq, said);
        let before = lane.delivered;
        let honest = lane.check_seals(&mesh);
        let ready = lane.deliver(&mesh, cache_bytes_max);
        if lane.delivered != before {
            self.moved(slot);
        }
        if honest { Taken::New(ready) } else { Taken::Forged }
    }

    /// A message came again. False if its seal shows that what is here in its place may be a lie; then that is fetched again.
    ///
    /// Else who ran ahead of an author would be believed for ever: the true message with the seal over it would only come too late.
    pub(crate) fn check_again(&mut self, slot: Slot, said: &Said) -> bool {
        let mesh = self.mesh;
        let Some(lane) = self.lanes.get_mut(slot.index()).and_then(Option::as_mut) else { return true };
        let Some(seal) = said.seal.filter(|_| lane.leaves.contains_key(&said.seq) && !lane.seals.contains_key(&said.seq)) else {
            return true;
        };
        // What carries its own seal is either true or nothing.
        let leaf = || said.leaf(&mesh, &lane.author, lane.boot);
        if seal.covers == 1 && !seal.holds(&mesh, &lane.author, lane.boot, said.seq, &[leaf()]) {
            return true;
        }
        lane.seals.insert(said.seq, seal);
        lane.check_seals(&mesh)
    }

    /// Takes in what we say ourselves, `sealed` together with all since the last seal.
    pub(crate) fn author(&mut self, said: Said, identity: &Identity, sealed: bool) -> Said {
        let (mesh, cache_bytes_max) = (self.mesh, self.cache_bytes());
        let Some(lane) = self.lanes.get_mut(Slot::ME.index()).and_then(Option::as_mut) else { return said };
        lane.leaves.insert(said.seq, said.leaf(&mesh, &lane.author, lane.boot));
        let mut said = said;
        if sealed || lane.leaves.len() >= UNSEALED_MAX / 2 {
            let leaves: Vec<Leaf> = lane.leaves.values().copied().collect();
            said.seal = Some(Seal::new(identity, &mesh, lane.boot, said.seq, &leaves));
            lane.leaves.clear();
        }
        lane.delivered = said.seq;
        lane.keep(said.clone(), cache_bytes_max);
        self.moved(Slot::ME);
        said
    }

    /// How much of what we said is not sealed yet.
    pub(crate) fn unsealed(&self) -> usize {
        self.lane(Slot::ME).map_or(0, |lane| lane.leaves.len())
    }

    /// Messages up to `upto` cannot be had any more: go on after them.
    pub(crate) fn skip(&mut self, slot: Slot, upto: u64) -> Vec<Said> {
        let (mesh, cache_bytes_max) = (self.mesh, self.cache_bytes());
        match self.lanes.get_mut(slot.index()).and_then(Option::as_mut) {
            Some(lane) if upto > lane.delivered && upto <= SEQ_MAX => {
                lane.delivered = upto;
                lane.began = upto;
                lane.ahead = lane.ahead.split_off(&(upto + 1));
                lane.leaves = lane.leaves.split_off(&(upto + 1));
                lane.seals = lane.seals.split_off(&(upto + 1));
                lane.doubted = lane.doubted.split_off(&(upto + 1));
                lane.kept.clear();
                lane.kept_bytes = 0;
                let ready = lane.deliver(&mesh, cache_bytes_max);
                self.moved(slot);
                ready
            }
            _ => Vec::new(),
        }
    }

    /// Where one who hears of the authors from us is to begin to listen: where they are now, or, as we did, where a newcomer began.
    pub(crate) fn standings(&self, is_newcomer: impl Fn(&PeerId) -> bool) -> Vec<Standing> {
        self.lanes.iter().flatten().map(|lane| lane.standing(is_newcomer(&lane.author))).collect()
    }

    /// The same of one.
    pub(crate) fn standing(&self, slot: Slot, is_newcomer: bool) -> Option<Standing> {
        self.lane(slot).map(|lane| lane.standing(is_newcomer))
    }

    /// We join a mesh: whoever is in it hears what we say from here on.
    pub(crate) fn begin(&mut self) {
        if let Some(lane) = self.lanes.get_mut(Slot::ME.index()).and_then(Option::as_mut) {
            lane.began = lane.delivered;
        }
    }

    /// The first missing message of an author whom others have up to `theirs`, and which of those after it are missing, too.
    pub(crate) fn missing(&self, slot: Slot, theirs: u64) -> Option<(u64, u64)> {
        let lane = self.lane(slot)?;
        let base = lane.delivered + 1;
        let mask = (0..u64::from(u64::BITS))
            .filter(|bit| base + bit <= theirs && !lane.ahead.contains_key(&(base + bit)))
            .fold(0, |mask, bit| mask | 1 << bit);
        (mask != 0).then_some((base, mask))
    }

    /// Whether something came ahead of what is missing.
    pub(crate) fn has_gap(&self, slot: Slot) -> bool {
        self.lane(slot).is_some_and(|lane| !lane.ahead.is_empty())
    }

    /// A message that is here, delivered or not; `Err` with the last that is not kept any more if it is older than those that are.
    pub(crate) fn find(&self, slot: Slot, seq: u64) -> Result<Option<&Said>, u64> {
        let Some(lane) = self.lane(slot) else { return Ok(None) };
        if seq > lane.delivered {
            return Ok(lane.ahead.get(&seq));
        }
        let first = lane.kept.front().map_or(lane.delivered + 1, |said| said.seq);
        match seq.checked_sub(first) {
            Some(index) => Ok(lane.kept.get(usize::try_from(index).unwrap_or(usize::MAX))),
            None => Err(first - 1),
        }
    }

    /// What one author's messages may take, in bytes: in a large mesh less.
    fn cache_bytes(&self) -> usize {
        (self.cache_bytes_max.saturating_mul(FULL_CACHES) / self.lanes.len().max(FULL_CACHES)).max(1)
    }

    fn lane(&self, slot: Slot) -> Option<&Lane> {
        self.lanes.get(slot.index())?.as_ref()
    }
}

impl Lane {
    fn new(author: PeerId, boot: Boot, delivered: u64) -> Self {
        Self {
            author,
            boot,
            began: delivered,
            unheard: 0,
            delivered,
            ahead: BTreeMap::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            leaves: BTreeMap::new(),
            seals: BTreeMap::new(),
            doubted: BTreeMap::new(),
            near: Window::new(),
        }
    }

    fn standing(&self, is_newcomer: bool) -> Standing {
        let upto = if is_newcomer { self.began } else { self.delivered };
        Standing { origin: self.author, boot: self.boot, upto }
    }

    /// Checks the seals over what is all here; false if one does not hold.
    fn check_seals(&mut self, mesh: &MeshId) -> bool {
        let mut honest = true;
        let complete: Vec<u64> = self.seals.keys().copied().collect();
        for last in complete {
            let Some(covers) = self.seals.get(&last).map(|seal| u64::from(seal.covers)) else { continue };
            let first = (last + 1).saturating_sub(covers.max(1));
            // It covers what was said before we listened. We cannot check it; nothing that matters to the mesh relies on it.
            if first <= self.began {
                self.seals.remove(&last);
                self.unheard = self.unheard.max(last);
                continue;
            }
            if !(first.max(self.delivered + 1)..=last).all(|seq| self.ahead.contains_key(&seq)) {
                continue;
            }
            let Some(seal) = self.seals.remove(&last) else { continue };
            let leaves: Vec<Leaf> = self.leaves.range(first..=last).map(|(_, leaf)| *leaf).collect();
            if leaves.len() as u64 != covers {
                // Some of it is proved already, and two seals over the same message are no seals: somebody made this one up.
                honest = false;
                if last > self.delivered {
                    self.leaves.remove(&last);
                    self.ahead.remove(&last);
                }
            } else if seal.holds(mesh, &self.author, self.boot, last, &leaves) {
                // What nobody can check any more waits for nothing, either.
                let settled = if first <= self.delivered + 1 { self.unheard.min(first - 1) } else { 0 };
                self.leaves.retain(|seq, _| *seq > settled && !(first..=last).contains(seq));
            } else {
                honest = false;
                self.doubt(mesh, first, last);
            }
        }
        honest
    }

    /// Takes back what cannot be true as a whole.
    fn doubt(&mut self, mesh: &MeshId, first: u64, last: u64) {
        for seq in first..=last {
            self.ahead.remove(&seq);
            self.seals.remove(&seq);
            if let Some(leaf) = self.leaves.remove(&seq)
                && seq <= self.delivered
            {
                self.doubted.insert(seq, leaf);
            }
        }
        while let Some(said) = self.kept.pop_back_if(|said| said.seq >= first) {
            self.kept_bytes -= said.len();
            if said.seq > last {
                // Delivered already, and not in doubt: its turn comes again, but it is not told again.
                self.doubted.insert(said.seq, said.leaf(mesh, &self.author, self.boot));
                self.ahead.insert(said.seq, said);
            }
        }
        self.delivered = self.delivered.min(first - 1);
    }

    fn deliver(&mut self, mesh: &MeshId, cache_bytes_max: usize) -> Vec<Said> {
        let mut ready = Vec::new();
        while let Some(said) = self.ahead.remove(&(self.delivered + 1)) {
            self.delivered += 1;
            let delivered_before = self.doubted.remove(&said.seq);
            if delivered_before.is_none_or(|leaf| leaf != said.leaf(mesh, &self.author, self.boot)) {
                ready.push(said.clone());
            }
            self.keep(said, cache_bytes_max);
        }
        ready
    }

    fn keep(&mut self, said: Said, cache_bytes_max: usize) {
        self.kept_bytes += said.len();
        self.kept.push_back(said);
        while self.kept_bytes > cache_bytes_max || self.kept.len() > cache_bytes_max / 64 {
            let Some(dropped) = self.kept.pop_front() else { break };
            self.kept_bytes -= dropped.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::Content;

    const BOOT: Boot = Boot(1);
    const SLOT: Slot = Slot(1);

    fn identity() -> Identity {
        Identity::from_seed([1; 32])
    }

    fn mesh() -> MeshId {
        MeshId::from_name("test")
    }

    /// An author's messages, numbered from 1, every third with a seal.
    fn spoken(count: u64) -> Vec<Said> {
        let mut author = Broadcast::new(mesh(), 1_000_000, 4);
        author.listen(Slot::ME, identity().peer_id(), BOOT, 0);
        (1..=count)
            .map(|seq| {
                let content = Content::Whole(Bytes::from(vec![seq as u8; 100]));
                author.author(Said { seq, hops: 1, hop_limit: 16, content, seal: None }, &identity(), seq % 3 == 0)
            })
            .collect()
    }

    fn listener(after: u64) -> Broadcast {
        let mut broadcast = Broadcast::new(mesh(), 1_000, 4);
        broadcast.listen(SLOT, identity().peer_id(), BOOT, after);
        broadcast
    }

    fn numbers(taken: Taken) -> Vec<u64> {
        match taken {
            Taken::New(ready) => ready.iter().map(|said| said.seq).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn once_and_in_order() {
        let (mut broadcast, spoken) = (listener(0), spoken(4));
        assert_eq!(numbers(broadcast.take(SLOT, spoken[1].clone())), []);
        assert_eq!(broadcast.take(SLOT, spoken[1].clone()), Taken::Old);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[0].clone())), [1, 2]);
        assert_eq!(broadcast.take(SLOT, spoken[0].clone()), Taken::Old);
        assert!(!broadcast.is_new(SLOT, 2) && broadcast.is_new(SLOT, 3));
        assert_eq!(broadcast.take(Slot(9), spoken[2].clone()), Taken::Old);
    }

    #[test]
    fn what_runs_ahead_takes_no_more_than_its_room() {
        let (mut broadcast, spoken) = (listener(0), spoken(9));
        for said in &spoken[1..5] {
            assert_eq!(numbers(broadcast.take(SLOT, said.clone())), []);
        }
        assert_eq!(broadcast.take(SLOT, spoken[5].clone()), Taken::TooFar);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[0].clone())), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_lie_is_found_out_by_the_seal_and_put_right() {
        let (mut broadcast, spoken) = (listener(0), spoken(6));
        let lie = Said { content: Content::Whole(Bytes::from_static(b"lie")), ..spoken[1].clone() };
        assert_eq!(numbers(broadcast.take(SLOT, spoken[0].clone())), [1]);
        assert_eq!(numbers(broadcast.take(SLOT, lie)), [2]);
        assert_eq!(broadcast.take(SLOT, spoken[2].clone()), Taken::Forged);
        assert_eq!(broadcast.delivered(SLOT), Some(0));
        // Fetched again: what was true is not delivered twice, what was not now is.
        assert_eq!(numbers(broadcast.take(SLOT, spoken[0].clone())), []);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[1].clone())), [2]);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[2].clone())), [3]);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[3].clone())), [4]);
    }

    #[test]
    fn who_runs_ahead_of_an_author_is_found_out_by_the_true_message() {
        let (mut broadcast, spoken) = (listener(0), spoken(6));
        let lie =
            |seq: usize| Said { content: Content::Whole(Bytes::from_static(b"lie")), seal: None, ..spoken[seq - 1].clone() };
        for seq in 1..=4 {
            assert_eq!(numbers(broadcast.take(SLOT, lie(seq))), [seq as u64]);
        }
        assert!(broadcast.check_again(SLOT, &spoken[0]), "no seal, no news");
        assert_eq!(broadcast.take(SLOT, spoken[2].clone()), Taken::Old);
        assert!(!broadcast.check_again(SLOT, &spoken[2]));
        assert_eq!(broadcast.delivered(SLOT), Some(0));
        assert_eq!(numbers(broadcast.take(SLOT, spoken[0].clone())), [1]);
        assert_eq!(numbers(broadcast.take(SLOT, spoken[1].clone())), [2]);
        // The fourth was delivered as a lie, and is not again.
        assert_eq!(numbers(broadcast.take(SLOT, spoken[2].clone())), [3]);
        assert_eq!(broadcast.delivered(SLOT), Some(4));
    }

    #[test]
    fn a_made_up_seal_brings_nothing_a_second_time() {
        let (mut broadcast, spoken) = (listener(0), spoken(6));
        for (said, seq) in spoken.iter().zip(1..) {
            assert_eq!(numbers(broadcast.take(SLOT, said.clone())), [seq]);
        }
        let made_up = Seal { covers: 5, ..spoken[5].seal.unwrap() };
        let next = Said { seq: 7, seal: Some(made_up), ..spoken[0].clone() };
        assert_eq!(broadcast.take(SLOT, next.clone()), Taken::Forged);
        assert_eq!(broadcast.delivered(SLOT), Some(6), "what is proved stays");
        assert_eq!(numbers(broadcast.take(SLOT, Said { seal: None, ..next })), [7]);
    }

    #[test]
    fn numbers_that_nobody_can_have_said_are_no_overflow() {
        let (broadcast, spoken) = (listener(u64::MAX), spoken(3));
        assert_eq!(broadcast.missing(SLOT, u64::MAX), Some((SEQ_MAX + 1, u64::MAX)));
        assert_eq!(broadcast.find(SLOT, SEQ_MAX), Err(SEQ_MAX));
        assert!(broadcast.expand_mark(SLOT, 3).is_some());
        let mut broadcast = listener(0);
        assert_eq!(broadcast.skip(SLOT, u64::MAX), []);
        assert_eq!(broadcast.take(SLOT, Said { seq: u64::MAX, ..spoken[2].clone() }), Taken::Old);
        assert_eq!(broadcast.delivered(SLOT), Some(0));
    }

    #[test]
    fn what_carries_its_own_seal_is_true_or_nothing() {
        let mut author = Broadcast::new(mesh(), 1_000_000, 4);
        author.listen(Slot::ME, identity().peer_id(), BOOT, 0);
        let content = Content::Whole(Bytes::from_static(b"true"));
        let said = author.author(Said { seq: 1, hops: 1, hop_limit: 16, content, seal: None }, &identity(), true);
        let mut broadcast = listener(0);
        let lie = Said { content: Content::Whole(Bytes::from_static(b"lie")), ..said };
        assert_eq!(broadcast.take(SLOT, lie), Taken::Forged);
        assert_eq!(numbers(broadcast.take(SLOT, said.clone())), [1]);
        assert_eq!(broadcast.take(SLOT, said), Taken::Old);
    }

    #[test]
    fn who_comes_in_the_middle_of_a_seal_listens_on() {
        let (mut broadcast, spoken) = (listener(1), spoken(6));
        for (said, seq) in spoken[1..].iter().zip(2..) {
            assert_eq!(numbers(broadcast.take(SLOT, said.clone())), [seq]);
        }
        assert!(broadcast.lanes[SLOT.index()].as_ref().unwrap().leaves.is_empty());
    }

    #[test]
    fn nobody_talks_for_ever_without_a_seal() {
        let mut broadcast = Broadcast::new(mesh(), 1_000, 1_000);
        broadcast.listen(SLOT, identity().peer_id(), BOOT, 0);
        let unsealed = |seq| Said { seq, hops: 1, hop_limit: 16, content: Content::Whole(Bytes::new()), seal: None };
        let mut far = |from: u64, to: u64| {
            (from..to).map(|seq| broadcast.take(SLOT, unsealed(seq))).filter(|taken| *taken == Taken::TooFar).count()
        };
        assert_eq!(far(2, 200), 198 - UNSEALED_MAX);
        let more = 1 + 65..1 + 65 + 1_000 + 200;
        assert_eq!(far(1, 2), 0);
        assert!(far(more.start, more.end) >= 200 - UNSEALED_MAX);
    }

    #[test]
    fn a_gap_is_found_or_skipped() {
        let (mut broadcast, spoken) = (listener(0), spoken(40));
        assert_eq!(broadcast.missing(SLOT, 3), Some((1, 0b111)));
        broadcast.take(SLOT, spoken[1].clone());
        assert_eq!(broadcast.missing(SLOT, 3), Some((1, 0b101)));
        assert!(broadcast.has_gap(SLOT));
        for said in &spoken {
            broadcast.take(SLOT, said.clone());
        }
        assert_eq!(broadcast.missing(SLOT, 40), None);
        assert_eq!(broadcast.find(SLOT, 40), Ok(Some(&spoken[39])));
        // 1,000 bytes of cache.
        let gone = broadcast.find(SLOT, 5).unwrap_err();
        assert!((25..=35).contains(&gone), "{gone}");
        let mut late = listener(0);
        assert_eq!(late.skip(SLOT, gone), []);
        assert_eq!(late.delivered(SLOT), Some(gone));
    }

    #[test]
    fn low_bits_are_told_from_where_the_author_stands() {
        let broadcast = listener(1_000);
        let expand = |seq: u64| broadcast.expand(SLOT, seq as u16);
        assert_eq!((expand(1_001), expand(999), expand(30_000)), (Some(1_001), Some(999), Some(30_000)));
        let mark = |seq: u64| broadcast.expand_mark(SLOT, (seq & 15) as u8);
        assert_eq!((mark(996), mark(1_000), mark(1_011)), (Some(996), Some(1_000), Some(1_011)));
    }
}
