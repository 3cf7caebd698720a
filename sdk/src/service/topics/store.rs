//! What was published, as far as it came here: in order, each item once, the newest kept for those who come late.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerflock_proto::Time;

use super::message::{HEADS_MAX, Item, StreamId};
use super::name::{Pattern, TopicName};

/// Items of a topic that are kept for those who come late.
pub const HISTORY_ITEMS_MAX: usize = 64;
/// Bytes of a topic that are kept.
pub const HISTORY_BYTES_MAX: usize = 256 * 1024;
/// Bytes that are kept of all topics together; those that were silent longest go first.
pub const STORE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Streams, of one publisher on one topic each, that are followed at the same time; the one silent longest is forgotten.
pub const STREAMS_MAX: usize = 4_096;
/// Items that wait for one before them, of a stream.
const AHEAD_MAX: usize = 64;
/// How long a missing item is asked for before those behind it go on.
const GAP_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Store {
    streams: BTreeMap<StreamId, Stream>,
    histories: BTreeMap<TopicName, History>,
    bytes: usize,
    /// Counts what was taken in: what has the smallest is oldest.
    clock: u64,
}

#[derive(Debug)]
struct Stream {
    /// The number of the next item; none before it is known where to begin.
    next: Option<u64>,
    /// Those that came before their turn.
    ahead: BTreeMap<u64, Item>,
    /// Since when something waits.
    waiting_since: Time,
    touched: u64,
}

#[derive(Debug, Default)]
struct History {
    /// In their publishers' order.
    items: VecDeque<Item>,
    bytes: usize,
    touched: u64,
}

/// Where to begin with a stream of which nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At its beginning: it is newer than our subscription.
    First,
    /// Not before an answer came, or nobody gives one: with the oldest that is here then.
    Later,
}

impl Store {
    /// Takes an item in. What is to be told now, in order.
    pub(super) fn take(&mut self, item: Item, begin: Begin, now: Time) -> Vec<Item> {
        self.clock += 1;
        let clock = self.clock;
        if !self.streams.contains_key(&item.stream) {
            self.make_room();
            let next = (begin == Begin::First).then_some(1);
            let stream = Stream { next, ahead: BTreeMap::new(), waiting_since: now, touched: clock };
            self.streams.insert(item.stream.clone(), stream);
        }
        let Some(stream) = self.streams.get_mut(&item.stream) else { return Vec::new() };
        stream.touched = clock;
        let is_next = stream.next == Some(item.seq);
        if stream.next.is_some_and(|next| item.seq < next)
            || stream.ahead.contains_key(&item.seq)
            || (stream.ahead.len() >= AHEAD_MAX && !is_next)
        {
            return Vec::new();
        }
        if stream.ahead.is_empty() {
            stream.waiting_since = now;
        }
        stream.ahead.insert(item.seq, item);
        let ready = stream.ready();
        self.keep(&ready);
        ready
    }

    /// Whether an item has not been here before.
    pub(super) fn is_new(&self, item: &Item) -> bool {
        self.streams
            .get(&item.stream)
            .is_none_or(|stream| stream.next.is_none_or(|next| item.seq >= next) && !stream.ahead.contains_key(&item.seq))
    }

    /// Goes on where nobody answers, or, `answered`, with what an answer brought for streams without a beginning. What is to be told.
    pub(super) fn settle(&mut self, answered: bool, now: Time) -> Vec<Item> {
        let mut told = Vec::new();
        for stream in self.streams.values_mut().filter(|stream| !stream.ahead.is_empty()) {
            if now.since(stream.waiting_since) >= GAP_PATIENCE || (answered && stream.next.is_none()) {
                stream.next = stream.ahead.keys().next().copied();
                told.extend(stream.ready());
                stream.waiting_since = now;
            }
        }
        self.keep(&told);
        told.sort_by(in_order);
        told
    }

    /// When something that waits goes on without what is missing.
    pub(super) fn settles_at(&self) -> Option<Time> {
        let waiting = self.streams.values().filter(|stream| !stream.ahead.is_empty());
        waiting.map(|stream| stream.waiting_since + GAP_PATIENCE).min()
    }

    /// Streams in which something is missing.
    pub(super) fn gaps(&self) -> impl Iterator<Item = &StreamId> {
        self.streams.iter().filter(|(_, stream)| !stream.ahead.is_empty()).map(|(id, _)| id)
    }

    /// Up to where the streams are here that `wanted` are for; the ones that spoke last, if there are too many.
    pub(super) fn heads(&self, wanted: &[(Pattern, u16)]) -> Vec<(StreamId, u64)> {
        let mut heads: Vec<_> = self
            .streams
            .iter()
            .filter(|(id, _)| wanted.iter().any(|(pattern, _)| pattern.matches(&id.topic)))
            .filter_map(|(id, stream)| stream.next.map(|next| (stream.touched, id, next - 1)))
            .collect();
        heads.sort_unstable_by_key(|(touched, ..)| std::cmp::Reverse(*touched));
        heads.into_iter().take(HEADS_MAX).map(|(_, id, upto)| (id.clone(), upto)).collect()
    }

    /// What one lacks who has `heads`, oldest first, and at most so many bytes of it; whether there is more.
    pub(super) fn lacking(&self, wanted: &[(Pattern, u16)], heads: &[(StreamId, u64)], bytes_max: usize) -> (Vec<Item>, bool) {
        let heads: BTreeMap<&StreamId, u64> = heads.iter().map(|(id, upto)| (id, *upto)).collect();
        let (mut items, mut room) = (Vec::new(), bytes_max);
        for (topic, history) in &self.histories {
            let Some(last) = wanted.iter().filter(|(pattern, _)| pattern.matches(topic)).map(|(_, last)| *last).max() else {
                continue;
            };
            let first = history.items.len().saturating_sub(usize::from(last));
            for (index, item) in history.items.iter().enumerate() {
                let lacks = heads.get(&item.stream).map_or(index >= first, |upto| item.seq > *upto);
                if !lacks {
                    continue;
                }
                let Some(left) = room.checked_sub(item.len()) else { return (items, true) };
                room = left;
                items.push(item.clone());
            }
        }
        (items, false)
    }

    /// The last items of the topics that a pattern is for, oldest first.
    pub(super) fn last(&self, pattern: &Pattern, count: usize) -> Vec<Item> {
        let topics = self.histories.iter().filter(|(topic, _)| pattern.matches(topic));
        topics.flat_map(|(_, history)| history.items.iter().skip(history.items.len().saturating_sub(count)).cloned()).collect()
    }

    /// The latest that is known on a topic; none where nothing is.
    pub(super) fn order(&self, topic: &TopicName) -> Option<u64> {
        self.histories.get(topic).and_then(|history| history.items.back()).map(|item| item.order)
    }

    /// Forgets topics that `keep` does not want any more.
    pub(super) fn retain(&mut self, keep: impl Fn(&TopicName) -> bool) {
        self.streams.retain(|id, _| keep(&id.topic));
        self.histories.retain(|topic, _| keep(topic));
        self.bytes = self.histories.values().map(|history| history.bytes).sum();
    }

    fn keep(&mut self, items: &[Item]) {
        for item in items {
            let history = self.histories.entry(item.stream.topic.clone()).or_default();
            history.touched = self.clock;
            let place = history.items.partition_point(|other| in_order(other, item).is_lt());
            history.items.insert(place, item.clone());
            history.bytes += item.len();
            self.bytes += item.len();
            while history.items.len() > HISTORY_ITEMS_MAX || history.bytes > HISTORY_BYTES_MAX {
                let Some(oldest) = history.items.pop_front() else { break };
                history.bytes -= oldest.len();
                self.bytes -= oldest.len();
            }
        }
        while self.bytes > STORE_BYTES_MAX {
            let oldest = self.histories.iter().min_by_key(|(_, history)| history.touched).map(|(topic, _)| topic.clone());
            let Some(history) = oldest.and_then(|topic| self.histories.remove(&topic)) else { break };
            self.bytes -= history.bytes;
        }
    }

    fn make_room(&mut self) {
        if self.streams.len() >= STREAMS_MAX {
            let oldest = self.streams.iter().min_by_key(|(_, stream)| stream.touched).map(|(id, _)| id.clone());
            oldest.and_then(|id| self.streams.remove(&id));
        }
    }
}

impl Stream {
    /// What follows on what was told.
    fn ready(&mut self) -> Vec<Item> {
        let mut ready = Vec::new();
        while let Some(next) = self.next
            && let Some(item) = self.ahead.remove(&next)
        {
            self.next = Some(next + 1);
            ready.push(item);
        }
        ready
    }
}

/// The same order for all: what was published knowing another comes after it.
fn in_order(one: &Item, other: &Item) -> std::cmp::Ordering {
    (one.order, &one.stream.publisher, one.stream.boot, one.seq).cmp(&(
        other.order,
        &other.stream.publisher,
        other.stream.boot,
        other.seq,
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerflock_proto::{Boot, PeerId, Signature};

    use super::*;

    fn item(topic: &str, publisher: u8, seq: u64, order: u64, bytes: usize) -> Item {
        let stream = StreamId { topic: topic.parse().unwrap(), publisher: PeerId([publisher; 32]), boot: Boot(1) };
        Item { stream, seq, order, payload: Bytes::from(vec![0; bytes]), signature: Signature([0; 64]) }
    }

    fn seqs(items: &[Item]) -> Vec<u64> {
        items.iter().map(|item| item.seq).collect()
    }

    fn wanted(last: u16) -> Vec<(Pattern, u16)> {
        vec![("**".parse().unwrap(), last)]
    }

    #[test]
    fn each_once_in_order_and_gaps_are_waited_for() {
        let mut store = Store::default();
        let mut take = |seq| seqs(&store.take(item("a", 1, seq, seq, 1), Begin::First, Time(0)));
        assert_eq!(take(1), [1]);
        assert_eq!((take(3), take(3), take(1)), (vec![], vec![], vec![]));
        assert_eq!(take(2), [2, 3]);
        assert!(take(9).is_empty());
        assert_eq!(store.gaps().count(), 1);
        assert!(store.settle(true, Time(0) + Duration::from_secs(2)).is_empty(), "an answer may still be on its way");
        assert_eq!(store.settles_at(), Some(Time(0) + GAP_PATIENCE));
        assert_eq!(seqs(&store.settle(false, Time(0) + GAP_PATIENCE)), [9]);
        assert_eq!(store.gaps().count(), 0);
        assert_eq!(store.heads(&wanted(1))[0].1, 9);
    }

    #[test]
    fn who_comes_late_begins_with_what_an_answer_brings() {
        let mut store = Store::default();
        assert!(store.take(item("a", 1, 12, 12, 1), Begin::Later, Time(0)).is_empty());
        assert!(store.take(item("a", 1, 11, 11, 1), Begin::Later, Time(0)).is_empty());
        assert_eq!(seqs(&store.settle(true, Time(1))), [11, 12]);
        assert!(!store.is_new(&item("a", 1, 10, 10, 1)), "what is older stays away");
        assert_eq!(seqs(&store.take(item("a", 1, 13, 13, 1), Begin::Later, Time(1))), [13]);
    }

    #[test]
    fn one_gets_what_one_lacks() {
        let mut store = Store::default();
        for seq in 1..=5 {
            store.take(item("a", 1, seq, seq * 10, 1), Begin::First, Time(0));
            store.take(item("b", 2, seq, seq, 1), Begin::First, Time(0));
        }
        let of_a = item("a", 1, 1, 1, 1).stream;
        let (items, more) = store.lacking(&wanted(1), &[(of_a, 3)], 10_000);
        assert_eq!((seqs(&items), more), (vec![4, 5, 5], false), "what follows on a head, and the last of what is unknown");
        let (items, more) = store.lacking(&wanted(9), &[], 400);
        assert_eq!((items.len(), more), (2, true));
        assert_eq!(store.lacking(&[("c/*".parse().unwrap(), 9)], &[], 10_000).0, []);
        assert_eq!((store.order(&"a".parse().unwrap()), store.order(&"c".parse().unwrap())), (Some(50), None));
    }

    #[test]
    fn the_last_is_the_last_of_all_publishers() {
        let mut store = Store::default();
        store.take(item("a", 1, 1, 10, 1), Begin::First, Time(0));
        store.take(item("a", 2, 1, 11, 1), Begin::First, Time(0));
        store.take(item("a", 1, 2, 11, 1), Begin::First, Time(0));
        let last = store.last(&"*".parse().unwrap(), 1);
        assert_eq!(last[0].stream.publisher, PeerId([2; 32]));
    }

    #[test]
    fn memory_is_bounded() {
        let mut store = Store::default();
        for n in 1..=300_u64 {
            store.take(item("a", 1, n, n, 20_000), Begin::First, Time(0));
            for topic in 0..4 {
                store.take(item(&format!("t/{n}/{topic}"), 1, 1, 1, 30_000), Begin::First, Time(0));
            }
            // Ahead of something that never comes.
            store.take(item("gap", 1, n + 1, n, 1_000), Begin::First, Time(0));
        }
        assert!(store.histories[&"a".parse().unwrap()].bytes <= HISTORY_BYTES_MAX);
        assert!(store.bytes <= STORE_BYTES_MAX && store.bytes > STORE_BYTES_MAX - 100_000, "{}", store.bytes);
        assert_eq!(store.streams[&item("gap", 1, 1, 1, 1).stream].ahead.len(), AHEAD_MAX);
        for n in 0..STREAMS_MAX {
            store.take(item(&format!("s/{n}"), 1, 1, 1, 1), Begin::First, Time(0));
        }
        assert_eq!(store.streams.len(), STREAMS_MAX);
        store.retain(|_| false);
        assert_eq!((store.bytes, store.histories.len(), store.streams.len()), (0, 0, 0));
    }
}
