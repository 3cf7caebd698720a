//! The state machine of topics: what was published goes down a tree of those who subscribed, and who lacks something asks.
//!
//! Everybody says to all what they are interested in, and neighbors in the mesh tell newcomers what the others are. What is published
//! is signed, and handed on along a tree that all compute alike (see `tree`). Whoever notices a gap, came late, or has heard nothing
//! for a while asks one of those who may have more: any subscriber or publisher, not only who published it.

mod past;
mod table;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Node, PeerId, Target, Topic};

use super::interests::Interests;
use super::message::{ITEM_BYTES_MAX, Item, Message, PATTERNS_MAX, PUBLISHED_MAX, StreamId};
use super::name::{Pattern, TopicName};
use super::store::{Begin, Store};
use super::tree::{self, Links};
use super::{PublishError, SubscribeError, SubscribeOptions, TopicCounters};
use crate::codec;
use crate::service::signer::Signer;
use crate::service::{Input, Output, Service, Time};

/// What changes within this time is told together.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(20);
/// Bytes of one answer, and of one part of a table.
const ANSWER_BYTES: usize = 48 * 1024;
/// How often to ask, and compare, at first; ever less often while nothing is new.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LAST: Duration = Duration::from_secs(30);
/// How soon to ask when there is a reason, so that one question does for several.
const ASK_SOON: Duration = Duration::from_millis(40);
/// How soon to ask somebody else for the same.
const ASK_AGAIN: Duration = Duration::from_millis(400);
/// So long after the answers came, a stream that nobody told of is a new one.
const ANSWERS_SETTLE: Duration = Duration::from_millis(300);
/// Nobody is so far ahead of what is known: an honest publisher counts on from there.
const ORDER_STEP_MAX: u64 = 1 << 32;
/// Orders at or past this are nobody's: counting from there would come to an end.
const ORDER_MAX: u64 = u64::MAX / 2;
/// Trees that are remembered.
const TREES_MAX: usize = 1_024;

/// What the engine tells: something published, for one subscription.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// Which.
    pub(super) subscription: u64,
    /// What.
    pub(super) item: Arc<Item>,
    /// Whether it may be older than the subscription.
    pub(super) retained: bool,
}

/// One member's part in the topics of a mesh, without I/O. [`Topics`](super::Topics) runs one on a real mesh.
#[derive(Debug)]
pub struct Engine {
    me: Signer,
    members: BTreeSet<PeerId>,
    links: Links,
    interests: Interests,
    version: u64,
    store: Store,
    wishes: BTreeMap<u64, Wish>,
    wishes_made: u64,
    /// What we publish: number and order of the last item.
    own: BTreeMap<TopicName, (u64, u64)>,
    /// Our children in the trees that we know.
    trees: BTreeMap<(PeerId, TopicName), Vec<PeerId>>,
    outputs: VecDeque<Output<Delivered>>,
    counters: TopicCounters,

    announce_at: Option<Time>,
    greeted: bool,
    hello: Pace,
    compare: Pace,
    ask: Pace,
    /// Who knows more than we do, as far as we can tell.
    ahead: Option<PeerId>,
    /// Whom to compare interests with, and when: newcomers that may have come as a part of a mesh.
    to_help: BTreeMap<PeerId, Time>,
    asked: BTreeMap<PeerId, Time>,
    /// Those of the last ones asked who have not answered, and how many have.
    awaited: BTreeSet<PeerId>,
    answers: usize,
    answered: BTreeMap<PeerId, Time>,
    tabled: BTreeMap<PeerId, Time>,
}

#[derive(Debug)]
struct Wish {
    pattern: Pattern,
    options: SubscribeOptions,
    since: Time,
    /// Since when we have what was there before.
    synced: Option<Time>,
}

/// Something that is done again and again, less often each time.
#[derive(Debug, Default)]
struct Pace {
    at: Option<Time>,
    wait: Duration,
    round: usize,
}

impl Pace {
    /// Not later than this, and then often.
    fn by(&mut self, at: Time) {
        self.at = Some(self.at.map_or(at, |due| due.min(at)));
        self.wait = LOOK_FIRST;
    }

    fn is_due(&self, now: Time) -> bool {
        self.at.is_some_and(|at| at <= now)
    }

    fn done(&mut self, now: Time) {
        self.at = Some(now + self.wait);
        self.wait = (self.wait * 2).clamp(LOOK_FIRST, LOOK_LAST);
        self.round = self.round.wrapping_add(1);
    }
}

impl Engine {
    /// The part of the member that `node` is.
    pub fn new(node: &Node) -> Self {
        Self {
            me: Signer::of(node),
            members: BTreeSet::new(),
            links: Links::new(),
            interests: Interests::default(),
            version: 0,
            store: Store::default(),
            wishes: BTreeMap::new(),
            wishes_made: 0,
            own: BTreeMap::new(),
            trees: BTreeMap::new(),
            outputs: VecDeque::new(),
            counters: TopicCounters::default(),
            announce_at: None,
            greeted: false,
            hello: Pace::default(),
            compare: Pace::default(),
            ask: Pace::default(),
            ahead: None,
            to_help: BTreeMap::new(),
            asked: BTreeMap::new(),
            awaited: BTreeSet::new(),
            answers: 0,
            answered: BTreeMap::new(),
            tabled: BTreeMap::new(),
        }
    }

    /// Publishes on a topic.
    ///
    /// # Errors
    /// When it is too long, or on too many topics. Nothing was published then.
    pub fn publish(&mut self, topic: &TopicName, payload: Bytes, now: Time) -> Result<(), PublishError> {
        if payload.len() > ITEM_BYTES_MAX {
            return Err(PublishError::TooLong { len: payload.len() });
        }
        if !self.own.contains_key(topic) {
            if self.own.len() >= PUBLISHED_MAX {
                return Err(PublishError::TooManyTopics);
            }
            self.announce_at.get_or_insert(now + ANNOUNCE_AFTER);
        }
        let (seq, order) = self.own.entry(topic.clone()).or_default();
        *seq += 1;
        *order = self.store.order(topic).unwrap_or_default().max(*order).saturating_add(1);
        let (seq, order) = (*seq, *order);
        let stream = StreamId { topic: topic.clone(), publisher: self.me.peer, boot: self.me.boot };
        let item = Item::new(&self.me.identity, &self.me.mesh, stream, seq, order, payload);
        self.counters.published += 1;
        self.hand_on(&item);
        let ready = self.store.take(item, Begin::First, now);
        self.deliver(ready, false);
        Ok(())
    }

    /// Subscribes; the number by which it is told of.
    ///
    /// # Errors
    /// When there are too many subscriptions.
    pub fn subscribe(&mut self, pattern: Pattern, options: SubscribeOptions, now: Time) -> Result<u64, SubscribeError> {
        if !self.patterns().contains(&pattern) && self.patterns().len() >= PATTERNS_MAX {
            return Err(SubscribeError::TooMany);
        }
        self.wishes_made += 1;
        let id = self.wishes_made;
        let here = self.store.last(&pattern, usize::from(options.history));
        // Somebody who asked for the same has what there is.
        let same = self.wishes.values().filter(|wish| wish.pattern == pattern && wish.options.history >= options.history);
        let synced = same.filter_map(|wish| wish.synced).min();
        self.wishes.insert(id, Wish { pattern, options, since: now, synced });
        for item in here {
            self.tell(id, &Arc::new(item), true);
        }
        self.announce_at.get_or_insert(now + ANNOUNCE_AFTER);
        if synced.is_none() {
            self.ask.by(now + ASK_SOON);
        }
        Ok(id)
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, id: u64, now: Time) {
        if self.wishes.remove(&id).is_some() {
            let (wishes, own) = (&self.wishes, &self.own);
            self.store.retain(|topic| own.contains_key(topic) || wishes.values().any(|wish| wish.pattern.matches(topic)));
            self.announce_at.get_or_insert(now + ANNOUNCE_AFTER);
        }
    }

    /// What was counted.
    pub fn counters(&self) -> TopicCounters {
        self.counters
    }

    /// Who subscribed to a topic, as far as is known here, ourselves included.
    pub fn subscribers(&self, topic: &TopicName) -> Vec<PeerId> {
        self.interests.subscribers(topic).collect()
    }

    fn patterns(&self) -> BTreeSet<&Pattern> {
        self.wishes.values().map(|wish| &wish.pattern).collect()
    }

    fn wants(&self, topic: &TopicName) -> bool {
        self.wishes.values().any(|wish| wish.pattern.matches(topic))
    }

    // --- items ---------------------------------------------------------------------------------------------------------

    fn hear_item(&mut self, item: Item, now: Time) {
        if !self.wants(&item.stream.topic) || item.stream.publisher == self.me.peer {
            return;
        }
        if !self.store.is_new(&item) {
            self.counters.duplicates += 1;
            return;
        }
        if !self.is_genuine(&item) {
            return;
        }
        self.hand_on(&item);
        let settled = |wish: &Wish| {
            wish.pattern.matches(&item.stream.topic) && wish.synced.is_some_and(|synced| now.since(synced) >= ANSWERS_SETTLE)
        };
        let begins = self.wishes.values().any(settled);
        let ready = self.store.take(item, if begins { Begin::First } else { Begin::Later }, now);
        self.deliver(ready, false);
        let soon = if self.store.gaps().next().is_some() { ASK_SOON } else { LOOK_FIRST };
        self.ask.by(now + soon);
    }

    fn is_genuine(&mut self, item: &Item) -> bool {
        // Who knows nothing of a topic cannot know how far it has come.
        let known = self.store.order(&item.stream.topic);
        let near = item.order < ORDER_MAX && known.is_none_or(|known| item.order <= known.saturating_add(ORDER_STEP_MAX));
        let genuine = near && item.is_genuine(&self.me.mesh);
        if !genuine {
            self.counters.forged += 1;
        }
        genuine
    }

    /// Gives an item to our children in its publisher's tree.
    fn hand_on(&mut self, item: &Item) {
        let key = (item.stream.publisher, item.stream.topic.clone());
        if !self.trees.contains_key(&key) {
            if self.trees.len() >= TREES_MAX {
                self.trees.clear();
            }
            let subscribers = self.interests.subscribers(&item.stream.topic).filter(|peer| self.members.contains(peer)).collect();
            let children = tree::children(key.0, &subscribers, &self.links).remove(&self.me.peer).unwrap_or_default();
            self.trees.insert(key.clone(), children);
        }
        let children = self.trees.get(&key).cloned().unwrap_or_default();
        if let (false, Ok(payload)) = (children.is_empty(), codec::encode(&Message::Item(item.clone()))) {
            self.counters.handed_on += children.len() as u64;
            let sends = children.into_iter().map(|peer| Output::Send { to: Target::One(peer), payload: payload.clone() });
            self.outputs.extend(sends);
        }
    }

    fn deliver(&mut self, items: Vec<Item>, retained: bool) {
        for item in items {
            let wishes = self.wishes.iter().filter(|(_, wish)| wish.pattern.matches(&item.stream.topic));
            let ids: Vec<u64> = wishes.map(|(id, _)| *id).collect();
            let item = Arc::new(item);
            for id in ids {
                self.tell(id, &item, retained);
            }
        }
    }

    fn tell(&mut self, id: u64, item: &Arc<Item>, retained: bool) {
        let publishers = self.wishes.get(&id).and_then(|wish| wish.options.publishers.as_ref());
        if publishers.is_none_or(|publishers| publishers.contains(&item.stream.publisher)) {
            self.counters.delivered += 1;
            self.outputs.push_back(Output::Tell(Delivered { subscription: id, item: item.clone(), retained }));
        }
    }

    // --- hearing -------------------------------------------------------------------------------------------------------

    fn is_other(&self, peer: &PeerId) -> bool {
        *peer != self.me.peer && self.members.contains(peer)
    }

    fn say(&mut self, to: Target, message: &Message) {
        // What cannot be encoded would be too long: limits above prevent it.
        if let Ok(payload) = codec::encode(message) {
            self.outputs.push_back(Output::Send { to, payload });
        }
    }

    fn hear(&mut self, from: PeerId, payload: &Bytes, now: Time) {
        match codec::decode(payload) {
            _ if from == self.me.peer => {}
            Ok(Message::Item(item)) => self.hear_item(item, now),
            Ok(Message::Ask(ask)) => self.hear_ask(from, &ask, now),
            Ok(Message::Answer { items, more }) => self.hear_answer(from, items, more, now),
            Ok(Message::Hello { record, new }) => self.hear_hello(from, record, new, now),
            Ok(Message::Table { records, complete }) => self.hear_table(from, records, complete, now),
            Ok(Message::Digest(hash)) => {
                if hash != self.interests.hash() {
                    self.tell_table(from, now);
                }
            }
            Err(_) => self.counters.malformed += 1,
        }
    }

    fn tick(&mut self, now: Time) {
        if self.announce_at.is_some_and(|at| at <= now) {
            self.announce(false);
        }
        if self.hello.is_due(now) {
            self.hello.done(now);
            if self.interests.all().any(|record| record.peer != self.me.peer) {
                self.hello.at = None;
            } else if self.members.len() > 1 {
                self.announce(true);
            }
        }
        let due: Vec<PeerId> = self.to_help.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.to_help.remove(&peer);
            self.say(Target::One(peer), &Message::Digest(self.interests.hash()));
        }
        if self.compare.is_due(now) {
            self.compare(now);
        }
        let late = self.store.settle(false, now);
        self.deliver(late, false);
        if self.ask.is_due(now) {
            self.ask(now);
        }
    }
}

impl Service for Engine {
    type Event = Delivered;
    const TOPIC: Topic = Topic(128);

    fn handle(&mut self, input: Input<'_>, now: Time) {
        match input {
            Input::Members(members) => self.hear_members(members, now),
            Input::Message { from, payload } => self.hear(from, payload, now),
            // Who did not get it will ask.
            Input::Unsent { .. } => {}
            Input::Timeout => self.tick(now),
        }
    }

    fn poll_output(&mut self) -> Option<Output<Delivered>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let times = [self.announce_at, self.hello.at, self.compare.at, self.ask.at, self.store.settles_at()];
        times.into_iter().flatten().chain(self.to_help.values().copied()).min()
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::{Config, Identity, MeshId, MeshKey};

    use super::*;

    fn node(number: u8) -> Node {
        let key = MeshKey::open(MeshId::from_name("topics"));
        Node::new(Config::default(), Identity::from_seed([number; 32]), key, [number; 32], Time(0))
    }

    #[test]
    fn a_topic_that_somebody_drove_far_is_open_to_newcomers_and_none_is_driven_to_its_end() {
        let (mut late, eve) = (Engine::new(&node(1)), Signer::of(&node(2)));
        let item = |seq, order| {
            let stream = StreamId { topic: "a".parse().unwrap(), publisher: eve.peer, boot: eve.boot };
            Item::new(&eve.identity, &eve.mesh, stream, seq, order, Bytes::from_static(b"x"))
        };
        assert!(!late.is_genuine(&item(1, u64::MAX)) && !late.is_genuine(&item(1, ORDER_MAX)));
        let far = item(1, 3 * ORDER_STEP_MAX);
        assert!(late.is_genuine(&far));
        late.store.take(far, Begin::First, Time(0));
        assert!(late.is_genuine(&item(2, 4 * ORDER_STEP_MAX)) && !late.is_genuine(&item(2, 4 * ORDER_STEP_MAX + 1)));
        assert_eq!(late.counters.forged, 3);
    }
}
