//! The past: who comes late asks a neighbor for the last lines, and compares with two more; who sees somebody come compares too,
//! because that may be half a mesh with a past of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use peerflock_proto::{PeerId, Target};

use super::{CHANNELS_MAX, Engine};
use crate::service::chat::HISTORY_LINES_MAX;
use crate::service::chat::line::{Message, Signed};
use crate::service::chat::pace::Pace;
use crate::service::{Members, Time};

/// Bytes of one answer.
const ANSWER_BYTES: usize = 40 * 1024;
/// How often anybody is answered.
pub(super) const ANSWERS: Pace = Pace { burst: 12, refill: Duration::from_millis(400) };
/// Somebody whom we asked may answer for so long.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// When to compare after the answer: what was on its way then has arrived, here or there.
const COMPARE_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Who sees somebody come, or misses a line, compares within this time after a second: not all at once.
const COMPARE_SPREAD_MS: u64 = 1_500;
/// The same one is not asked back more often than this.
const ASK_BACK_EVERY: Duration = Duration::from_secs(2);
/// How soon a newcomer asks, and how soon it asks somebody else if no answer comes.
const ASK_SOON: Duration = Duration::from_millis(50);
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(700);
/// After so many questions without an answer there is nobody who knows more.
pub(super) const TRIES_MAX: u32 = 6;

impl Engine {
    pub(super) fn hear_members(&mut self, members: &Members, now: Time) {
        let neighbors = members.all.iter().find(|member| member.me).map(|member| member.neighbors.as_slice()).unwrap_or_default();
        let others = members.all.iter().filter(|member| !member.me);
        self.others = others.map(|member| (member.peer, neighbors.contains(&member.peer))).collect();
        for gone in &members.left {
            self.speakers.remove(gone);
        }
        self.speakers.retain(|peer, _| self.others.contains_key(peer));
        self.asked.retain(|peer, _| self.others.contains_key(peer));
        self.ask_pace();
        if !self.begun {
            self.begun = true;
            // Who is alone has what there is.
            self.synced = self.others.is_empty();
            self.ask_at = (!self.synced).then_some(now + ASK_SOON);
        } else if let Some(newcomer) = self.by_rank(members.joined.iter().copied()).first() {
            self.compare_soon(Some(*newcomer), now);
        }
    }

    /// Peers in an order of our own, so that not all turn to the same one.
    pub(super) fn by_rank(&self, peers: impl Iterator<Item = PeerId>) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = peers.collect();
        peers.sort_by_cached_key(|peer| *blake3::hash(&[self.me.peer.0, peer.0].concat()).as_bytes());
        peers
    }

    pub(super) fn compare_soon(&mut self, with: Option<PeerId>, now: Time) {
        // One at a time is enough: it compares everything.
        if self.compare.len() <= COMPARE_AFTER.len() {
            let spread = u64::from(self.me.peer.0[7]) * COMPARE_SPREAD_MS / 256;
            self.compare.insert(now + Duration::from_millis(1_000 + spread), with);
        }
    }

    pub(super) fn fingerprints(&self) -> BTreeSet<u64> {
        self.logs.values().flat_map(|channel| channel.log.fingerprints()).collect()
    }

    pub(super) fn digest(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for fingerprint in self.fingerprints() {
            hasher.update(&fingerprint.to_le_bytes());
        }
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Somebody to ask: those we are linked to first, another one each time.
    pub(super) fn somebody(&mut self) -> Option<PeerId> {
        let (linked, others): (Vec<PeerId>, Vec<PeerId>) = self.others.keys().copied().partition(|peer| self.others[peer]);
        let mut order = self.by_rank(linked.into_iter());
        order.extend(self.by_rank(others.into_iter()));
        self.tries = self.tries.saturating_add(1);
        order.get((self.tries as usize - 1) % order.len().max(1)).copied()
    }

    pub(super) fn ask(&mut self, peer: PeerId, now: Time) {
        self.counters.asked += 1;
        self.asked.insert(peer, now);
        let have = self.fingerprints().into_iter().collect();
        self.send(Target::One(peer), &Message::Ask { have });
    }

    pub(super) fn hear_digest(&mut self, from: PeerId, digest: u64, now: Time) {
        if self.synced && digest != self.digest() {
            self.ask_back(from, now);
        }
    }

    pub(super) fn ask_back(&mut self, peer: PeerId, now: Time) {
        if self.asked.get(&peer).is_none_or(|at| now.since(*at) >= ASK_BACK_EVERY) {
            self.ask(peer, now);
        }
    }

    pub(super) fn hear_ask(&mut self, from: PeerId, have: Vec<u64>, now: Time) {
        if have.len() > (CHANNELS_MAX + 1) * HISTORY_LINES_MAX {
            self.counters.malformed += 1;
            return;
        }
        if self.speaker(from).is_none_or(|speaker| !speaker.answers.take(&ANSWERS, now)) {
            return;
        }
        let have: BTreeSet<u64> = have.into_iter().collect();
        let (mut lines, mut bytes, mut more) = (Vec::new(), 0, false);
        for line in self.logs.values().flat_map(|channel| channel.log.lacking(&have)) {
            bytes += line.len();
            if bytes > ANSWER_BYTES {
                more = true;
                break;
            }
            lines.push(line.clone());
        }
        let synced = self.synced;
        self.send(Target::One(from), &Message::Answer { lines, more, synced });
        if synced && have.difference(&self.fingerprints()).next().is_some() {
            self.ask_back(from, now);
        }
    }

    pub(super) fn hear_answer(&mut self, from: PeerId, lines: Vec<Signed>, more: bool, synced: bool, now: Time) {
        if self.asked.get(&from).is_none_or(|at| now.since(*at) > ANSWER_WITHIN) {
            return;
        }
        let mut news = false;
        for line in lines {
            if self.is_muted(line.id.author, now) || self.logs.get(&line.id.channel).is_some_and(|channel| channel.log.has(&line))
            {
                continue;
            }
            if line.is_genuine(&self.me.mesh) {
                news |= self.take(line, false);
            } else {
                self.counters.forged += 1;
            }
        }
        if more && news {
            return self.ask(from, now);
        }
        if synced && !self.synced {
            self.synced = true;
            self.ask_at = None;
            self.compare.extend(COMPARE_AFTER.map(|after| (now + after, None)));
        }
    }
}
