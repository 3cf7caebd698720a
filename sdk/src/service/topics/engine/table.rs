//! Who is here, and what they are interested in: each tells all about itself, few tell a newcomer about the others, and everybody
//! compares with somebody now and then.

use std::collections::BTreeMap;
use std::time::Duration;

use peerflock_proto::{PeerId, Target};

use super::{ANNOUNCE_AFTER, ANSWER_BYTES, ASK_AGAIN, Engine, LOOK_FIRST};
use crate::service::topics::interests::Interests;
use crate::service::topics::message::{Message, Record};
use crate::service::topics::name::Pattern;
use crate::service::topics::tree::Links;
use crate::service::{Members, Time};

/// Nobody is told all interests more often than this.
const TABLE_EVERY: Duration = Duration::from_secs(1);
/// So many tell a newcomer what the others are interested in.
const HELPERS: usize = 2;
/// How long to wait for a newcomer's own first word.
const HELP_AFTER: Duration = Duration::from_millis(300);

impl Engine {
    pub(super) fn hear_members(&mut self, members: &Members, now: Time) {
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
            if *peer != self.me.peer {
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

    pub(super) fn announce(&mut self, new: bool) {
        self.announce_at = None;
        self.version = self.version.saturating_add(1);
        let patterns = self.patterns().into_iter().cloned().collect();
        let publishes = self.own.keys().cloned().collect();
        let record = Record::new(&self.me.identity, &self.me.mesh, self.version, patterns, publishes);
        if self.interests.take(record.clone(), &self.me.mesh) {
            self.trees.clear();
        }
        if self.members.len() > 1 {
            self.say(Target::All, &Message::Hello { record, new });
        }
    }

    pub(super) fn hear_hello(&mut self, from: PeerId, record: Record, new: bool, now: Time) {
        if record.peer != from {
            return;
        }
        self.hear_record(record, now);
        if new && self.is_helper(&from) {
            self.tell_table(from, now);
        }
    }

    fn hear_record(&mut self, record: Record, now: Time) -> bool {
        if record.peer == self.me.peer {
            // From an earlier life of ours: what we say now must count.
            if record.version >= self.version
                && self.interests.get(&self.me.peer) != Some(&record)
                && record.is_genuine(&self.me.mesh)
            {
                self.version = record.version;
                self.announce_at.get_or_insert(now + ANNOUNCE_AFTER);
            }
            return false;
        }
        let overlaps = |pattern: &Pattern| self.wishes.values().any(|wish| wish.pattern.overlaps(pattern));
        let concerns_us = record.patterns.iter().any(overlaps) || record.publishes.iter().any(|topic| self.wants(topic));
        let news = self.interests.take(record, &self.me.mesh);
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
        let ours = rank(&self.me.peer);
        let others = self.interests.all().map(|record| record.peer).filter(|peer| peer != newcomer && *peer != self.me.peer);
        others.filter(|peer| rank(peer) < ours).count() < HELPERS
    }

    pub(super) fn tell_table(&mut self, to: PeerId, now: Time) {
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

    pub(super) fn hear_table(&mut self, from: PeerId, records: Vec<Record>, complete: bool, now: Time) {
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
    pub(super) fn compare(&mut self, now: Time) {
        self.compare.done(now);
        let others: Vec<PeerId> = self.interests.all().map(|record| record.peer).filter(|peer| self.is_other(peer)).collect();
        if !others.is_empty() {
            let start = others.partition_point(|peer| *peer <= self.me.peer) + self.compare.round;
            self.say(Target::One(others[start % others.len()]), &Message::Digest(self.interests.hash()));
        }
    }
}
