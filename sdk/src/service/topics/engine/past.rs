//! The past, and what was lost: who comes late or lacks something asks one of those who may have it, another one each time.

use std::collections::BTreeMap;
use std::time::Duration;

use peerflock_proto::{PeerId, Target};

use super::{ANSWER_BYTES, ASK_AGAIN, ASK_SOON, Engine};
use crate::service::Time;
use crate::service::topics::message::{Ask, HEADS_MAX, Item, Message, PATTERNS_MAX, Record, StreamId};
use crate::service::topics::name::Pattern;
use crate::service::topics::store::Begin;

/// Nobody is answered more often than this.
const ANSWER_EVERY: Duration = Duration::from_millis(100);
/// Who got no answer for so long has nothing to wait for.
const LATE_FOR: Duration = Duration::from_secs(2);
/// Somebody whom we asked may answer for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Those asked at once by one who comes late, besides publishers; and with those; and by one who lacks something.
const ASKED_LATE: usize = 4;
const ASKED_LATE_MAX: usize = 16;
const ASKED_FOR_GAPS: usize = 2;

impl Engine {
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
    pub(super) fn ask(&mut self, now: Time) {
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
        let start = holders.partition_point(|peer| *peer <= self.me.peer) + self.ask.round;
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

    pub(super) fn hear_ask(&mut self, from: PeerId, ask: &Ask, now: Time) {
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
            self.wants(&stream.topic) && stream.publisher != self.me.peer && ours.get(stream).is_none_or(|ours| upto > ours)
        };
        if ask.heads.iter().any(is_more) {
            self.ahead = Some(from);
            self.ask.by(now + ASK_SOON);
        }
    }

    pub(super) fn hear_answer(&mut self, from: PeerId, items: Vec<Item>, more: bool, now: Time) {
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
}
