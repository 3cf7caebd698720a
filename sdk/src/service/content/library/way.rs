//! Ways to a content that no neighbor has: who is between us and somebody who does is asked to fetch it, too, and to pass it on.
//!
//! Every member says whom it is linked to, so that all know the way: to the nearest holder by the fewest links. Who is asked may have a
//! neighbor with the content, or asks the next one in turn. What is fetched for others is bounded by [`Quotas`](super::super::Quotas) and
//! forgotten when nobody wants it any more.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use peerflock_proto::{PeerId, Target, Time};

use super::super::message::Message;
use super::super::tree::ContentId;
use super::entry::Entry;
use super::{Library, Told};
use crate::service::Output;

/// So many members in a row may carry a content that they do not want.
pub(super) const HOPS_MAX: u8 = 6;
/// How long no neighbor has anything before others are asked.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait for somebody who was asked.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

impl Library {
    /// If no neighbor has anything of a content, somebody on the way to it is asked to.
    pub(super) fn find_way(&mut self, id: ContentId, now: Time) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if !entry.is_alone() {
            entry.alone_since = None;
            return;
        }
        let since = *entry.alone_since.get_or_insert(now);
        entry.ways_asked.retain(|_, at| now.since(*at) < ANSWER_WITHIN);
        let hops = entry.hops();
        // One at a time: each that is asked fetches all of it.
        if now.since(since) < PATIENCE || hops == 0 || !entry.ways_asked.is_empty() {
            return;
        }
        let avoid: BTreeSet<PeerId> = entry.peers.keys().copied().collect();
        let Some(first) = self.first_step(&id, &avoid).or_else(|| self.first_step(&id, &BTreeSet::new())) else { return };
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.ways_asked.insert(first, now);
        }
        self.say(Target::One(first), &Message::Carry { id, hops: hops - 1 });
        // Whether it did it before or not: now it knows of us.
        self.show(id, first);
    }

    /// The neighbor by whom the way to a holder is the shortest.
    fn first_step(&self, id: &ContentId, avoid: &BTreeSet<PeerId>) -> Option<PeerId> {
        let mut holders: BTreeSet<PeerId> =
            self.whole.iter().filter(|(_, whole)| whole.contains(id)).map(|(peer, _)| *peer).collect();
        holders.extend(self.known_offer(id).map(|offer| offer.source));
        let links: BTreeMap<PeerId, &[PeerId]> =
            self.members.iter().map(|member| (member.peer, member.neighbors.as_slice())).collect();
        let mut seen = BTreeSet::from([self.me]);
        let mut next: VecDeque<(PeerId, PeerId)> =
            self.neighbors.iter().filter(|peer| !avoid.contains(peer)).map(|peer| (*peer, *peer)).collect();
        while let Some((peer, first)) = next.pop_front() {
            if !seen.insert(peer) {
                continue;
            }
            if holders.contains(&peer) {
                return Some(first);
            }
            let links = links.get(&peer).copied().unwrap_or_default();
            next.extend(links.iter().map(|further| (*further, first)));
        }
        None
    }

    /// Somebody asks us to fetch a content for it.
    pub(super) fn on_carry(&mut self, from: PeerId, id: ContentId, hops: u8, now: Time) {
        if self.entries.contains_key(&id) {
            return self.show(id, from);
        }
        let carried: u64 = self.entries.iter().filter(|(_, entry)| entry.is_carried()).map(|(id, _)| id.len).sum();
        if !self.has_place() || carried.saturating_add(id.len) > self.quotas.carry_bytes {
            return;
        }
        self.outputs.push_back(Output::Tell(Told::Carry(id)));
        self.insert(id, Entry::carry(id, &self.me, hops.min(HOPS_MAX), now), now);
    }
}
