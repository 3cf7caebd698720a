//! The state machine of chat: lines go to all as messages of the mesh, and who comes late, or finds that something is missing,
//! compares what it has with somebody else and asks for the rest.
//!
//! The mesh brings each line once and in its author's order to all who stay. What is left to do here is the past: a newcomer asks a
//! neighbor, then compares with two others; who sees somebody come compares too, because that may be half a mesh with a past of its
//! own. Lines are taken in by whoever passes them on, since their authors signed them.

mod past;
mod slow;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use past::{ASK_AGAIN, TRIES_MAX};
use peerflock_proto::{Node, PeerId, SendError, Target, Topic};
pub use slow::SLOW_MODE_MAX;
use slow::Slow;

use super::line::{Evidence, MENTIONS_MAX, Message, Private, Signed};
use super::log::{Log, Taken};
use super::pace::{self, Bucket};
use super::{Audience, ChannelName, ChatCounters, ChatEvent, ChatLine, LineId, SayError, main_channel, text};
use crate::codec;
use crate::service::signer::Signer;
use crate::service::{Input, Output, Service, Time};

/// Channels kept besides the main one; the one in which nothing was said for longest makes room for another.
pub const CHANNELS_MAX: usize = 16;
/// Most members of a team.
pub const TEAM_MEMBERS_MAX: usize = 64;
/// How often it is told that somebody is typing, at most.
pub const TYPING_EVERY: Duration = Duration::from_secs(3);
/// How long somebody counts as typing who said so once.
pub const TYPING_SHOWN: Duration = Duration::from_secs(5);
/// Nobody is so far ahead of what is known: an honest author counts on from there.
const ORDER_STEP_MAX: u64 = 1 << 32;
/// Lines that the mesh would not take yet; a line to a team counts as often as that has members, and is taken whole.
const UNSENT_MAX: usize = 64;
/// How soon to offer them again.
const SEND_AGAIN: Duration = Duration::from_millis(200);
/// People muted at once.
const MUTED_MAX: usize = 1_024;

/// One member's part in the chat of a mesh, without I/O. [`Chat`](super::Chat) runs one on a real mesh.
#[derive(Debug)]
pub struct Engine {
    me: Signer,
    /// Everybody but ourselves, and whether we are linked.
    others: BTreeMap<PeerId, bool>,
    logs: BTreeMap<ChannelName, Channel>,
    /// Counts what was said in any channel, to know which was silent for longest.
    turn: u64,
    own: Bucket,
    slow: Slow,
    /// The last number of ours in each channel that we said something in.
    numbers: BTreeMap<ChannelName, u64>,
    speakers: BTreeMap<PeerId, Speaker>,
    muted: BTreeSet<PeerId>,
    typed_at: Option<Time>,
    unsent: VecDeque<(Target, Bytes)>,
    send_again_at: Option<Time>,
    outputs: VecDeque<Output<ChatEvent>>,
    counters: ChatCounters,

    /// Whether we have what there was before we came, as far as anybody can tell us.
    synced: bool,
    begun: bool,
    tries: u32,
    ask_at: Option<Time>,
    /// When to compare, and with whom; none for a neighbor.
    compare: BTreeMap<Time, Option<PeerId>>,
    asked: BTreeMap<PeerId, Time>,
}

/// A channel's log.
#[derive(Debug, Default)]
struct Channel {
    log: Log,
    turn: u64,
}

/// What we know of somebody who speaks; forgotten when that one leaves.
#[derive(Debug, Default)]
struct Speaker {
    bucket: Bucket,
    slow: slow::Known,
    /// Lines over the pace, since the last pause.
    over: u32,
    muted_until: Option<Time>,
    answers: Bucket,
    typing: Option<(Time, ChannelName)>,
}

impl Engine {
    /// The part of the member that `node` is.
    pub fn new(node: &Node) -> Self {
        Self {
            me: Signer::of(node),
            others: BTreeMap::new(),
            logs: BTreeMap::new(),
            turn: 0,
            own: Bucket::default(),
            slow: Slow::default(),
            numbers: BTreeMap::new(),
            speakers: BTreeMap::new(),
            muted: BTreeSet::new(),
            typed_at: None,
            unsent: VecDeque::new(),
            send_again_at: None,
            outputs: VecDeque::new(),
            counters: ChatCounters::default(),
            synced: false,
            begun: false,
            tries: 0,
            ask_at: None,
            compare: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// Says something in a channel.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn say(&mut self, channel: &ChannelName, raw: &str, mentions: &[PeerId], now: Time) -> Result<LineId, SayError> {
        let text = self.clean(raw)?;
        if mentions.len() > MENTIONS_MAX {
            return Err(SayError::TooManyMentions);
        }
        if !self.numbers.contains_key(channel) && self.numbers.len() > CHANNELS_MAX {
            return Err(SayError::TooManyChannels);
        }
        self.may_speak(now)?;
        self.pay(now)?;
        self.note_spoken(now);
        let number = self.numbers.entry(channel.clone()).or_default();
        *number += 1;
        let id = LineId { channel: channel.clone(), author: self.me.peer, boot: self.me.boot, number: *number };
        let order = self.order(channel) + 1;
        self.speak(Signed::new(&self.me.identity, &self.me.mesh, id.clone(), order, 0, Some(text), mentions.to_vec()));
        Ok(id)
    }

    /// Says something to one.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn whisper(&mut self, to: PeerId, raw: &str, now: Time) -> Result<(), SayError> {
        self.say_to_few(None, Audience::One(to), &[to], raw, now)
    }

    /// Says something to those of a team who are here.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn say_to_team(&mut self, team: u8, members: &[PeerId], raw: &str, now: Time) -> Result<(), SayError> {
        if members.len() > TEAM_MEMBERS_MAX {
            return Err(SayError::TeamTooLarge);
        }
        self.say_to_few(Some(team), Audience::Team(team), members, raw, now)
    }

    /// Changes a line of ours.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn edit(&mut self, id: &LineId, raw: &str, now: Time) -> Result<(), SayError> {
        let text = self.clean(raw)?;
        self.amend(id, Some(text), now)
    }

    /// Deletes a line of ours.
    ///
    /// # Errors
    /// See [`SayError`].
    pub fn delete(&mut self, id: &LineId, now: Time) -> Result<(), SayError> {
        self.amend(id, None, now)
    }

    /// Tells the others that we are typing.
    pub fn typing(&mut self, channel: &ChannelName, now: Time) {
        if self.typed_at.is_none_or(|at| now.since(at) >= TYPING_EVERY) && !self.others.is_empty() {
            self.typed_at = Some(now);
            self.send(Target::All, &Message::Typing(channel.clone()));
        }
    }

    /// Shows nothing more of somebody, or everything again.
    pub fn mute(&mut self, peer: PeerId, muted: bool) {
        if !muted {
            self.muted.remove(&peer);
        } else if self.muted.len() < MUTED_MAX {
            self.muted.insert(peer);
        }
    }

    /// The lines kept of a channel, oldest first, without those of whom we muted.
    pub fn lines(&self, channel: &ChannelName) -> Vec<ChatLine> {
        let lines = self.logs.get(channel).into_iter().flat_map(|channel| channel.log.lines());
        lines.filter(|line| !self.muted.contains(&line.author)).cloned().collect()
    }

    /// The channels in which something was said.
    pub fn channels(&self) -> Vec<ChannelName> {
        self.logs.keys().cloned().collect()
    }

    /// Who is typing in a channel now.
    pub fn who_types(&self, channel: &ChannelName, now: Time) -> Vec<PeerId> {
        let types = |speaker: &Speaker| {
            speaker.typing.as_ref().is_some_and(|(at, where_)| where_ == channel && now.since(*at) < TYPING_SHOWN)
        };
        self.speakers.iter().filter(|(_, speaker)| types(speaker)).map(|(peer, _)| *peer).collect()
    }

    /// A line with its author's signature.
    pub fn evidence(&self, id: &LineId) -> Option<Evidence> {
        self.logs.get(&id.channel)?.log.find(id).and_then(Evidence::of)
    }

    /// What was counted.
    pub fn counters(&self) -> ChatCounters {
        self.counters
    }

    // --- saying --------------------------------------------------------------------------------------------------------

    fn clean(&self, raw: &str) -> Result<String, SayError> {
        let text = text::clean_line(raw);
        if text.is_empty() { Err(SayError::Empty) } else { Ok(text) }
    }

    fn pay(&mut self, now: Time) -> Result<(), SayError> {
        if self.unsent.len() < UNSENT_MAX && self.own.take(&pace::OWN, now) { Ok(()) } else { Err(SayError::TooFast) }
    }

    fn order(&self, channel: &ChannelName) -> u64 {
        self.logs.get(channel).map_or(0, |channel| channel.log.order())
    }

    /// Takes a line of ours into the log, and sends it.
    fn speak(&mut self, line: Signed) {
        self.take(line.clone(), true);
        if !self.others.is_empty() {
            self.send(Target::All, &Message::Said(line));
        }
    }

    fn amend(&mut self, id: &LineId, text: Option<String>, now: Time) -> Result<(), SayError> {
        if id.author != self.me.peer {
            return Err(SayError::NotYours);
        }
        let line = self.logs.get(&id.channel).and_then(|channel| channel.log.find(id));
        let line = line.filter(|line| line.text.is_some()).cloned().ok_or(SayError::Forgotten)?;
        self.pay(now)?;
        let version = line.version.saturating_add(1);
        self.speak(Signed::new(&self.me.identity, &self.me.mesh, line.id, line.order, version, text, line.mentions));
        Ok(())
    }

    fn say_to_few(
        &mut self,
        team: Option<u8>,
        audience: Audience,
        readers: &[PeerId],
        raw: &str,
        now: Time,
    ) -> Result<(), SayError> {
        let text = self.clean(raw)?;
        let readers: BTreeSet<PeerId> = readers.iter().copied().filter(|peer| self.others.contains_key(peer)).collect();
        if readers.is_empty() {
            return Err(SayError::NotHere);
        }
        self.pay(now)?;
        for reader in readers {
            self.send(Target::One(reader), &Message::Private(Private { team, text: text.clone() }));
        }
        self.tell(ChatEvent::Said(ChatLine { id: None, author: self.me.peer, audience, text, edited: false, mentions: vec![] }));
        Ok(())
    }

    fn send(&mut self, to: Target, message: &Message) {
        // What cannot be encoded would be too long: limits above prevent it.
        let Ok(payload) = codec::encode(message) else { return };
        if self.unsent.is_empty() {
            self.outputs.push_back(Output::Send { to, payload });
        } else if self.unsent.len() < UNSENT_MAX + TEAM_MEMBERS_MAX {
            self.unsent.push_back((to, payload));
        }
    }

    fn tell(&mut self, event: ChatEvent) {
        self.outputs.push_back(Output::Tell(event));
    }

    // --- hearing -------------------------------------------------------------------------------------------------------

    fn hear(&mut self, from: PeerId, payload: &Bytes, now: Time) {
        match codec::decode(payload) {
            _ if from == self.me.peer => {}
            Ok(Message::Said(line)) => self.hear_line(from, line, now),
            Ok(Message::Private(line)) => self.hear_private(from, &line, now),
            Ok(Message::Pace { seconds }) => self.hear_pace(from, seconds),
            Ok(Message::AskPace) => self.hear_ask_pace(from, now),
            Ok(Message::Typing(channel)) => self.hear_typing(from, channel, now),
            Ok(Message::Digest(digest)) => self.hear_digest(from, digest, now),
            Ok(Message::Ask { have }) => self.hear_ask(from, have, now),
            Ok(Message::Answer { lines, more, synced }) => self.hear_answer(from, lines, more, synced, now),
            Err(_) => self.counters.malformed += 1,
        }
    }

    fn hear_line(&mut self, from: PeerId, line: Signed, now: Time) {
        if line.id.author != from || !self.is_welcome(from, now) {
            return;
        }
        if line.version == 0 && !self.may_have_spoken(from, now) {
            self.counters.held_back += 1;
            return;
        }
        let near = !self.synced || line.order <= self.order(&line.id.channel).saturating_add(ORDER_STEP_MAX);
        if !near || !line.is_genuine(&self.me.mesh) {
            self.counters.forged += 1;
            return;
        }
        if let Some(speaker) = self.speakers.get_mut(&from) {
            speaker.typing = None;
        }
        let misses_one = line.version == 0 && line.id.number > 1 && {
            let before = LineId { number: line.id.number - 1, ..line.id.clone() };
            self.logs.get(&line.id.channel).is_none_or(|channel| channel.log.find(&before).is_none())
        };
        if misses_one && self.synced {
            self.compare_soon(None, now);
        }
        self.take(line, true);
    }

    fn hear_private(&mut self, from: PeerId, line: &Private, now: Time) {
        if line.text.len() > text::CHAT_BYTES_MAX || !self.is_welcome(from, now) {
            return;
        }
        let text = text::clean_line(&line.text);
        if !text.is_empty() {
            let audience = line.team.map_or(Audience::One(self.me.peer), Audience::Team);
            self.tell(ChatEvent::Said(ChatLine { id: None, author: from, audience, text, edited: false, mentions: vec![] }));
        }
    }

    fn hear_typing(&mut self, from: PeerId, channel: ChannelName, now: Time) {
        let Some(speaker) = self.speaker(from) else { return };
        // Half of what honest ones keep: two may arrive close to each other.
        if speaker.typing.as_ref().is_none_or(|(at, _)| now.since(*at) >= TYPING_EVERY / 2) {
            speaker.typing = Some((now, channel.clone()));
            if !self.is_muted(from, now) {
                self.tell(ChatEvent::Typing(from, channel));
            }
        }
    }

    /// Whether somebody may say one more line here.
    fn is_welcome(&mut self, from: PeerId, now: Time) -> bool {
        if self.is_muted(from, now) {
            self.counters.held_back += 1;
            return false;
        }
        let Some(speaker) = self.speaker(from) else { return false };
        if speaker.bucket.is_full(now) {
            speaker.over = 0;
        }
        if speaker.bucket.take(&pace::OTHERS, now) {
            return true;
        }
        speaker.over += 1;
        let first = speaker.over == 1;
        if speaker.over >= pace::FLOOD_LINES {
            speaker.muted_until = Some(now + pace::FLOOD_MUTE);
        }
        self.counters.held_back += 1;
        if first {
            self.tell(ChatEvent::Flooding(from));
        }
        false
    }

    fn is_muted(&self, peer: PeerId, now: Time) -> bool {
        let floods = |speaker: &Speaker| speaker.muted_until.is_some_and(|until| now < until);
        self.muted.contains(&peer) || self.speakers.get(&peer).is_some_and(floods)
    }

    /// What we know of a member; none of whoever is none.
    fn speaker(&mut self, peer: PeerId) -> Option<&mut Speaker> {
        // The mesh may deliver a line a moment before it tells who came.
        let known = self.others.contains_key(&peer) || self.speakers.len() < 2 * self.others.len() + 16;
        if known { Some(self.speakers.entry(peer).or_default()) } else { None }
    }

    /// Takes a line that is genuine into its log, and tells of it. Whether it is news.
    fn take(&mut self, line: Signed, live: bool) -> bool {
        let (id, deleted) = (line.id.clone(), line.text.is_none());
        self.turn += 1;
        let turn = self.turn;
        if !self.logs.contains_key(&id.channel) {
            self.make_room(&id.channel);
        }
        let channel = self.logs.entry(id.channel.clone()).or_default();
        channel.turn = turn;
        match channel.log.take(line) {
            Taken::Nothing => return false,
            Taken::New(_) if deleted => {}
            Taken::New(shown) => {
                self.counters.lines += 1;
                self.tell(if live { ChatEvent::Said(shown) } else { ChatEvent::Earlier(shown) });
            }
            Taken::Newer(_) if deleted => self.tell(ChatEvent::Deleted(id)),
            Taken::Newer(shown) => self.tell(ChatEvent::Edited(shown)),
        }
        true
    }

    /// Forgets the channel that was silent for longest, if there is no room for this one.
    fn make_room(&mut self, channel: &ChannelName) {
        let main = main_channel();
        let others = self.logs.iter().filter(|(name, _)| **name != main);
        if *channel == main || others.clone().count() < CHANNELS_MAX {
            return;
        }
        if let Some(oldest) = others.min_by_key(|(_, channel)| channel.turn).map(|(name, _)| name.clone()) {
            self.logs.remove(&oldest);
        }
    }

    fn tick(&mut self, now: Time) {
        if self.send_again_at.is_some_and(|at| at <= now) {
            self.send_again_at = None;
            let unsent = std::mem::take(&mut self.unsent);
            self.outputs.extend(unsent.into_iter().map(|(to, payload)| Output::Send { to, payload }));
        }
        if self.ask_at.is_some_and(|at| at <= now) {
            self.ask_at = Some(now + ASK_AGAIN);
            if self.tries >= TRIES_MAX {
                self.synced = true;
                self.ask_at = None;
            } else if let Some(peer) = self.somebody() {
                self.ask(peer, now);
            }
        }
        while let Some((at, with)) = self.compare.first_key_value().map(|(at, with)| (*at, *with)) {
            if at > now {
                break;
            }
            self.compare.remove(&at);
            let with = with.filter(|peer| self.others.contains_key(peer)).or_else(|| self.somebody());
            if let Some(peer) = with {
                // Expected: its question, and our own if it has something we lack.
                let digest = self.digest();
                self.send(Target::One(peer), &Message::Digest(digest));
            }
        }
    }

    fn keep_unsent(&mut self, to: Target, payload: &Bytes, error: &SendError, now: Time) {
        // Whoever is slow will take it later; for nobody else it gets better by waiting.
        if !matches!(error, SendError::Backlog(_)) || self.unsent.len() >= UNSENT_MAX + TEAM_MEMBERS_MAX {
            return;
        }
        self.unsent.push_back((to, payload.clone()));
        self.send_again_at = Some(now + SEND_AGAIN);
    }
}

impl Service for Engine {
    type Event = ChatEvent;
    const TOPIC: Topic = Topic(133);

    fn handle(&mut self, input: Input<'_>, now: Time) {
        match input {
            Input::Members(members) => self.hear_members(members, now),
            Input::Message { from, payload } => self.hear(from, payload, now),
            Input::Unsent { to, payload, error } => self.keep_unsent(to, payload, error, now),
            Input::Timeout => self.tick(now),
        }
    }

    fn poll_output(&mut self) -> Option<Output<ChatEvent>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let compare = self.compare.first_key_value().map(|(at, _)| *at);
        [self.send_again_at, self.ask_at, compare].into_iter().flatten().min()
    }
}
