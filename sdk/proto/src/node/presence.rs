//! What members say of themselves goes round: each once over each link, and seldom.

use std::time::Duration;

use bytes::Bytes;

use super::Node;
use crate::flood::PortSet;
use crate::id::{LinkId, PeerId};
use crate::roster::Present;
use crate::time::Time;
use crate::wire::{Frame, Known, Presence};

/// Time between two corrections of our presence, times the root of the number of members: 0.5 s at 16, 2 s at 256, 4 s at 1,000.
const PRESENCE_EVERY: Duration = Duration::from_millis(125);
/// News of members are passed on that often: some neighbors have them from elsewhere by then.
const NEWS_EVERY: Duration = Duration::from_millis(40);
/// Neighbors that have that member's frames from elsewhere, and thus its news as a rule, are told them after so long all the same.
const NEWS_PATIENCE: Duration = Duration::from_millis(600);

impl Node {
    /// Whether presence is to be told now, and from when on again.
    pub(super) fn presence_is_due(&mut self, now: Time) -> bool {
        if now < self.neighborhood.next_presence {
            return false;
        }
        let members = self.roster.present().len() as f32;
        self.neighborhood.next_presence = now + PRESENCE_EVERY.mul_f32(members.sqrt());
        true
    }

    /// Passes on what members said of themselves, to neighbors that are not known to have it: along the member's tree first.
    pub(super) fn pass_on_presence(&mut self, now: Time) {
        if now < self.neighborhood.next_news || self.neighborhood.news.is_empty() {
            return;
        }
        self.neighborhood.next_news = now + NEWS_EVERY;
        let news: Vec<(PeerId, bool)> =
            self.neighborhood.news.iter().map(|(peer, since)| (*peer, now.since(*since) >= NEWS_PATIENCE)).collect();
        self.neighborhood.news.retain(|_, since| now.since(*since) < NEWS_PATIENCE);
        for (peer, overdue) in news {
            self.show_presence(peer, overdue);
        }
    }

    /// Passes on the newest presence of one member, along its tree or to everyone.
    pub(super) fn show_presence(&mut self, peer: PeerId, everyone: bool) {
        let Some(member) = self.roster.get(&peer) else { return };
        let tree = self.flood.slot(&peer).map(|slot| self.flood.targets(slot, None, PortSet::default()));
        let unaware: Vec<LinkId> = self
            .overlay
            .neighbors()
            .filter(|(link, neighbor)| *neighbor != peer && !member.shown.contains(link))
            .filter(|(link, _)| {
                everyone || self.flood.port_of(*link).is_none_or(|port| tree.is_none_or(|tree| tree.contains(port)))
            })
            .map(|(link, _)| link)
            .collect();
        if unaware.is_empty() {
            return;
        }
        let Some(bytes) = Frame::Presence(member.signed.clone()).encode() else { return };
        // Of an old member, all that are told of a change know already where it stands.
        let standing = if self.roster.is_newcomer(&peer, self.now) { self.standing(&peer) } else { None };
        for link in unaware {
            self.roster.shown(&peer, link);
            if let Some(standing) = &standing {
                self.send_frame(link, standing.clone());
            }
            self.send_frame(link, bytes.clone());
        }
    }

    /// Tells one who has not heard of a member where to begin to listen to it.
    fn standing(&self, peer: &PeerId) -> Option<Bytes> {
        let standing = self.broadcast.standing(self.flood.slot(peer)?, self.roster.is_newcomer(peer, self.now))?;
        Frame::Standing(vec![standing]).encode()
    }

    /// The members that we know, for a neighbor to compare with its own.
    pub(super) fn known_members(&self) -> Vec<Known> {
        let known = |(peer, member): (&PeerId, &Present)| Known::new(peer, member.presence.boot, member.presence.seq);
        let me = Known::new(&self.me, self.boot, self.presence_seq);
        self.roster.members().map(known).chain([me]).collect()
    }

    /// A neighbor says whom it knows: it is told what we know better.
    pub(super) fn hear_known(&mut self, link: LinkId, mut known: Vec<Known>, now: Time) {
        known.truncate(self.config.limits.members);
        known.sort_unstable_by_key(|known| known.peer);
        let me = Known::new(&self.me, self.boot, self.presence_seq);
        let knows_me = known.binary_search_by_key(&me.peer, |known| known.peer).ok().and_then(|index| known.get(index));
        if knows_me.is_none_or(|known| known.boot != self.boot)
            && let Some(presence) = self.presence(now)
        {
            self.say_to(link, &Frame::Presence(presence));
        }
        let (mut better, mut unknown) = (Vec::new(), Vec::new());
        let mut same = Vec::new();
        for (peer, member) in self.roster.members() {
            let Presence { boot, seq, .. } = member.presence;
            let ours = Known::new(peer, boot, seq);
            let theirs = known.binary_search_by_key(&ours.peer, |known| known.peer).ok().and_then(|index| known.get(index));
            if theirs.is_none_or(|theirs| theirs.boot != boot) {
                unknown.push(*peer);
            }
            match theirs {
                Some(theirs) if theirs.boot == boot && theirs.seq > seq => {}
                Some(theirs) if *theirs == ours => same.push(*peer),
                _ => better.push((*peer, member.signed.clone())),
            }
        }
        for standing in unknown.iter().filter_map(|peer| self.standing(peer)).collect::<Vec<_>>() {
            self.send_frame(link, standing);
        }
        for (peer, signed) in better {
            self.roster.shown(&peer, link);
            self.say_to(link, &Frame::Presence(signed));
        }
        for peer in same {
            self.roster.shown(&peer, link);
        }
    }
}
