//! The state machine of topics: what was published goes down a tree of those who subscribed, and who lacks something asks.
//!
//! Everybody says to all what they are interested in, and neighbors in the mesh tell newcomers what the others are. What is published
//! is signed, and handed on along a tree that all compute alike (see `tree`). Whoever notices a gap, came late, or has heard nothing
//! for a while asks one of those who may have more: any subscriber or publisher, not only who published it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Boot, Identity, MeshId, Node, PeerId, Target, Topic};

use super::interests::Interests;
use super::message::{Ask, HEADS_MAX, ITEM_BYTES_MAX, Item, Message, PATTERNS_MAX, PUBLISHED_MAX, Record, StreamId};
use super::name::{Pattern, TopicName};
use super::store::{Begin, Store};
use super::tree::{self, Links};
use super::{PublishError, SubscribeError, SubscribeOptions, TopicCounters};
use crate::codec;
use crate::service::{Input, Members, Output, Service, Time};

/// What changes within this time is told together.
const ANNOUNCE_AFTER: Duration = Duration::from_millis(20);
/// Bytes of one answer, and of one part of a table.
const ANSWER_BYTES: usize = 48 * 1024;
/// Nobody is answered more often than this.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// Nobody is told all interests more often than this.
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// So many tell a newcomer what the others are interested in.
const HELPERS: usize = 2;
/// How long to wait for a newcomer's own first word.
const HELP_AFTER: Duration = Duration::from_millis(300);
/// How often to ask, and compare, at first; ever less often while nothing is new.
const LOOK_FIRST: Duration = Duration::from_secs(1);
const LOOK_LAST: Duration = Duration::from_secs(30);
/// How soon to ask when there is a reason, so that one question does for several.
const ASK_SOON: Duration = Duration::from_millis(40);
/// How soon to ask somebody else for the same.
const ASK_AGAIN: Duration = Duration::from_millis(400);
/// Who got no answer for so long has nothing to wait for.
const LATE_FOR: Duration = Duration::from_secs(2);
/// So long after the answers came, a stream that nobody told of is a new one.
const ANSWERS_SETTLE: Duration = Duration::from_millis(300);
/// Somebody whom we asked may answer for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Those asked at once by one who comes late, besides publishers; and with those; and by one who lacks something.
const ASKED_LATE: usize = 4;
const ASKED_LATE_MAX: usize = 16;
const ASKED_FOR_GAPS: usize = 2;
/// Nobody is so far ahead of what is known: an honest publisher counts on from there.
const ORDER_STEP_MAX: u64 = 1 << 32;
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
    identity: Identity,
    me: PeerId,
    mesh: MeshId,
    boot: Boot,
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
        let (identity, me) = (node.identity().clone(), node.peer_id());
        Self {
            identity,
            me,
            mesh: node.mesh_id(),
            boot: node.boot(),
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
        *order = self.store.order(topic).max(*order).saturating_add(1);
        let (seq, order) = (*seq, *order);
        let stream = StreamId { topic: topic.clone(), publisher: self.me, boot: self.boot };
        let item = Item::new(&self.identity, &self.mesh, stream, seq, order, payload);
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
        if !self.wants(&item.stream.topic) || item.stream.publisher == self.me {
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
        let near = item.order <= self.store.order(&item.stream.topic).saturating_add(ORDER_STEP_MAX);
        let genuine = near && item.is_genuine(&self.mesh);
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
            let children = tree::children(key.0, &subscribers, &self.links).remove(&self.me).unwrap_or_default();
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

    // --- asking --------------------------------------------------------------------------------------------------------

    fn wanted(&self) -> Vec<(Pattern, u16)> {
        let mut wanted = BTreeMap::new();
        for wish in self.wishes.values() {
            let history = if wish.synced.is_some() { wish.options.history.max(1) } else { wish.options.history };
            let most: &mut u16 = wanted.entry(wish.pattern.clone()).or_default();
            *most = history.max(*most);
        }
        wanted.into_iter().collect()
    }

    /// Asks some of those who may have what we lack.
    fn ask(&mut self, now: Time) {
        self.ask.done(now);
        if self.wishes.is_empty() {
            self.ask.at = None;
            return;
        }
        if self.answers > 0 {
            // The others had their time.
            self.all_answered(now);
        }
        let patterns: Vec<Pattern> = self.patterns().into_iter().cloned().collect();
        let holders: Vec<PeerId> = self.interests.holders(&patterns).into_iter().filter(|peer| self.is_other(peer)).collect();
        let has_gaps = self.store.gaps().next().is_some();
        let is_late = self.wishes.values().any(|wish| wish.synced.is_none());
        // Publishers first: each of them has at least its own.
        let mut first: Vec<PeerId> = self.store.gaps().map(|stream| stream.publisher).collect();
        let mut count = if has_gaps { ASKED_FOR_GAPS } else { 1 };
        if is_late {
            let publishes = |record: &&Record| record.publishes.iter().any(|topic| self.wants(topic));
            first.extend(self.interests.all().filter(publishes).map(|record| record.peer).take(ASKED_LATE_MAX - ASKED_LATE));
            count = ASKED_LATE_MAX.min(first.len() + ASKED_LATE);
        }
        first.retain(|peer| self.is_other(peer));
        // Another one each time, and each of us another one.
        let start = holders.partition_point(|peer| *peer <= self.me) + self.ask.round;
        let around = (0..holders.len()).map(|step| holders[(start + step) % holders.len()]);
        let mut asked = Vec::new();
        for peer in self.ahead.take().into_iter().chain(first).chain(around) {
            if asked.len() < count && !asked.contains(&peer) {
                asked.push(peer);
            }
        }
        if is_late || has_gaps {
            self.ask.at = Some(now + ASK_AGAIN);
        }
        let patience = if holders.is_empty() { ASK_AGAIN } else { LATE_FOR };
        for wish in self.wishes.values_mut() {
            // Nobody has anything, or nobody says so.
            if wish.synced.is_none() && now.since(wish.since) >= patience {
                wish.synced = Some(now);
            }
        }
        (self.awaited, self.answers) = (asked.iter().copied().collect(), 0);
        asked.into_iter().for_each(|peer| self.ask_one(peer, now));
    }

    fn ask_one(&mut self, peer: PeerId, now: Time) {
        let wanted = self.wanted();
        let heads = self.store.heads(&wanted);
        self.asked.insert(peer, now);
        self.say(Target::One(peer), &Message::Ask(Ask { wanted, heads }));
    }

    fn hear_ask(&mut self, from: PeerId, ask: &Ask, now: Time) {
        if ask.wanted.len() > PATTERNS_MAX
            || ask.heads.len() > HEADS_MAX
            || self.answered.get(&from).is_some_and(|last| now.since(*last) < ANSWER_EVERY)
        {
            return;
        }
        self.answered.insert(from, now);
        let (items, more) = self.store.lacking(&ask.wanted, &ask.heads, ANSWER_BYTES);
        self.say(Target::One(from), &Message::Answer { items, more });
        let ours: BTreeMap<StreamId, u64> = self.store.heads(&self.wanted()).into_iter().collect();
        let is_more = |(stream, upto): &(StreamId, u64)| {
            self.wants(&stream.topic) && stream.publisher != self.me && ours.get(stream).is_none_or(|ours| upto > ours)
        };
        if ask.heads.iter().any(is_more) {
            self.ahead = Some(from);
            self.ask.by(now + ASK_SOON);
        }
    }

    fn hear_answer(&mut self, from: PeerId, items: Vec<Item>, more: bool, now: Time) {
        if self.asked.get(&from).is_none_or(|asked| now.since(*asked) > ANSWER_WITHIN) {
            return;
        }
        for item in items {
            if self.wants(&item.stream.topic) && self.store.is_new(&item) && self.is_genuine(&item) {
                self.counters.pulled += 1;
                let ready = self.store.take(item, Begin::Later, now);
                self.deliver(ready, false);
            }
        }
        if more {
            return self.ask_one_soon(from, now);
        }
        self.answers += 1;
        self.awaited.remove(&from);
        if self.awaited.is_empty() {
            self.all_answered(now);
        }
    }

    /// What there is to be had from before is here.
    fn all_answered(&mut self, now: Time) {
        self.answers = 0;
        let begun = self.store.settle(true, now);
        self.deliver(begun, true);
        for wish in self.wishes.values_mut().filter(|wish| now.since(wish.since) >= ASK_SOON) {
            wish.synced.get_or_insert(now);
        }
    }

    fn ask_one_soon(&mut self, peer: PeerId, now: Time) {
        self.ahead = Some(peer);
        self.ask.by(now + ANSWER_EVERY);
    }

    // --- interests -----------------------------------------------------------------------------------------------------

    fn hear_members(&mut self, members: &Members, now: Time) {
        self.members = members.all.iter().map(|member| member.peer).collect();
        self.links = Links::new();
        for member in &members.all {
            for neighbor in member.neighbors.iter().filter(|neighbor| self.members.contains(neighbor)) {
                self.links.entry(member.peer).or_default().insert(*neighbor);
                self.links.entry(*neighbor).or_default().insert(member.peer);
            }
        }
        self.trees.clear();
        let known: Vec<PeerId> = self.interests.all().map(|record| record.peer).collect();
        for peer in known.iter().filter(|peer| !self.members.contains(peer) || members.left.contains(peer)) {
            if *peer != self.me {
                self.interests.forget(peer);
            }
        }
        let is_here = |peer: &PeerId| self.members.contains(peer);
        self.to_help.retain(|peer, _| is_here(peer));
        for times in [&mut self.asked, &mut self.answered, &mut self.tabled] {
            times.retain(|peer, _| is_here(peer));
        }
        for peer in &members.joined {
            if !known.is_empty() && self.is_helper(peer) {
                self.to_help.insert(*peer, now + HELP_AFTER);
            }
        }
        if self.members.len() > 1 {
            if !self.greeted {
                self.greet(now);
            }
            if !self.wishes.is_empty() && !members.joined.is_empty() {
                self.ask.by(now + LOOK_FIRST);
            }
        }
    }

    /// Tells all that we are here, and asks what the others are interested in.
    fn greet(&mut self, now: Time) {
        self.greeted = true;
        self.announce(true);
        self.hello.by(now + LOOK_FIRST);
        self.compare.by(now + LOOK_FIRST);
    }

    fn announce(&mut self, new: bool) {
        self.announce_at = None;
        self.version = self.version.saturating_add(1);
        let patterns = self.patterns().into_iter().cloned().collect();
        let publishes = self.own.keys().cloned().collect();
        let record = Record::new(&self.identity, &self.mesh, self.version, patterns, publishes);
        if self.interests.take(record.clone(), &self.mesh) {
            self.trees.clear();
        }
        if self.members.len() > 1 {
            self.say(Target::All, &Message::Hello { record, new });
        }
    }

    fn hear_hello(&mut self, from: PeerId, record: Record, new: bool, now: Time) {
        if record.peer != from {
            return;
        }
        self.hear_record(record, now);
        if new && self.is_helper(&from) {
            self.tell_table(from, now);
        }
    }

    fn hear_record(&mut self, record: Record, now: Time) -> bool {
        if record.peer == self.me {
            // From an earlier life of ours: what we say now must count.
            if record.version >= self.version && self.interests.get(&self.me) != Some(&record) && record.is_genuine(&self.mesh) {
                self.version = record.version;
                self.announce_at.get_or_insert(now + ANNOUNCE_AFTER);
            }
            return false;
        }
        let overlaps = |pattern: &Pattern| self.wishes.values().any(|wish| wish.pattern.overlaps(pattern));
        let concerns_us = record.patterns.iter().any(overlaps) || record.publishes.iter().any(|topic| self.wants(topic));
        let news = self.interests.take(record, &self.mesh);
        if news {
            self.trees.clear();
            if concerns_us {
                self.ask.by(now + ASK_AGAIN);
            }
        }
        news
    }

    /// Whether it is for us to tell a newcomer what the others are interested in: for few of those who can, always the same.
    fn is_helper(&self, newcomer: &PeerId) -> bool {
        let rank = |peer: &PeerId| *blake3::hash(&[newcomer.0, peer.0].concat()).as_bytes();
        let ours = rank(&self.me);
        let others = self.interests.all().map(|record| record.peer).filter(|peer| peer != newcomer && *peer != self.me);
        others.filter(|peer| rank(peer) < ours).count() < HELPERS
    }

    fn tell_table(&mut self, to: PeerId, now: Time) {
        if self.tabled.get(&to).is_some_and(|last| now.since(*last) < TABLE_EVERY) {
            return;
        }
        self.tabled.insert(to, now);
        let chunks = Interests::chunks(self.interests.all(), ANSWER_BYTES);
        let complete = chunks.len() == 1;
        for records in chunks {
            self.say(Target::One(to), &Message::Table { records, complete });
        }
    }

    fn hear_table(&mut self, from: PeerId, records: Vec<Record>, complete: bool, now: Time) {
        let theirs: BTreeMap<PeerId, u64> = records.iter().map(|record| (record.peer, record.version)).collect();
        let mut news = false;
        for record in records {
            if self.members.contains(&record.peer) {
                news |= self.hear_record(record, now);
            }
        }
        if news {
            self.compare.by(now + LOOK_FIRST);
        }
        if complete {
            let lacks = |record: &&Record| theirs.get(&record.peer).is_none_or(|version| record.version > *version);
            for records in Interests::chunks(self.interests.all().filter(lacks), ANSWER_BYTES) {
                self.say(Target::One(from), &Message::Table { records, complete: false });
            }
        }
    }

    /// Compares what we know of the others' interests with somebody, another one each time.
    fn compare(&mut self, now: Time) {
        self.compare.done(now);
        let others: Vec<PeerId> = self.interests.all().map(|record| record.peer).filter(|peer| self.is_other(peer)).collect();
        if !others.is_empty() {
            let start = others.partition_point(|peer| *peer <= self.me) + self.compare.round;
            self.say(Target::One(others[start % others.len()]), &Message::Digest(self.interests.hash()));
        }
    }

    fn is_other(&self, peer: &PeerId) -> bool {
        *peer != self.me && self.members.contains(peer)
    }

    fn say(&mut self, to: Target, message: &Message) {
        // What cannot be encoded would be too long: limits above prevent it.
        if let Ok(payload) = codec::encode(message) {
            self.outputs.push_back(Output::Send { to, payload });
        }
    }

    fn hear(&mut self, from: PeerId, payload: &Bytes, now: Time) {
        match codec::decode(payload) {
            _ if from == self.me => {}
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
            if self.interests.all().any(|record| record.peer != self.me) {
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
