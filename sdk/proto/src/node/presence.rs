//! What members say of themselves goes round: each once over each link, and seldom.

use std::collections::BTreeMap;
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
/// Neighbors that have that member's frames from elsewhere, and thus its news as a rule, are told after so long that we have them.
const NEWS_PATIENCE: Duration = Duration::from_millis(600);
/// Most members named in one frame of news.
const NEWS_PER_FRAME: usize = 500;

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
        self.neighborhood.asked.retain(|_, at| now.since(*at) < NEWS_PATIENCE);
        let mut overdue = BTreeMap::<LinkId, Vec<Known>>::new();
        for (peer, late) in news {
            if !late {
                self.show_presence(peer);
            } else if let Some(Present { presence, .. }) = self.roster.get(&peer) {
                // They have it from elsewhere, as a rule: that we have it says enough.
                let known = Known::new(&peer, presence.boot, presence.seq);
                for link in self.without_news(&peer) {
                    overdue.entry(link).or_default().push(known);
                }
            }
        }
        for (link, known) in overdue {
            self.tell_news(link, &known);
        }
    }

    /// Passes on the newest presence of one member along its tree.
    pub(super) fn show_presence(&mut self, peer: PeerId) {
        let tree = self.flood.slot(&peer).map(|slot| self.flood.targets(slot, None, PortSet::default()));
        let is_next = |link: &LinkId| self.flood.port_of(*link).is_none_or(|port| tree.is_none_or(|tree| tree.contains(port)));
        let links: Vec<LinkId> = self.without_news(&peer).into_iter().filter(is_next).collect();
        self.send_presence(&peer, &links);
    }

    /// The links whose other ends are not known to have the newest presence of a member.
    fn without_news(&self, peer: &PeerId) -> Vec<LinkId> {
        let Some(member) = self.roster.get(peer) else { return Vec::new() };
        let lacks = |(link, neighbor): &(LinkId, PeerId)| neighbor != peer && !member.shown.contains(link);
        self.overlay.neighbors().filter(lacks).map(|(link, _)| link).collect()
    }

    /// Sends the newest presence of a member over some links.
    fn send_presence(&mut self, peer: &PeerId, links: &[LinkId]) {
        let Some(member) = self.roster.get(peer).filter(|_| !links.is_empty()) else { return };
        let Some(bytes) = Frame::Presence(member.signed.clone()).encode() else { return };
        let unaware: Vec<LinkId> = links.iter().copied().filter(|link| !member.aware.contains(link)).collect();
        // Of an old member, all that are told of a change know already where it stands.
        let is_newcomer = !unaware.is_empty() && self.roster.is_newcomer(peer, self.now);
        let standing = if is_newcomer { self.standing(peer) } else { None };
        for link in links {
            self.roster.shown(peer, *link);
            if let Some(standing) = standing.as_ref().filter(|_| unaware.contains(link)) {
                self.send_frame(*link, standing.clone());
            }
            self.send_frame(*link, bytes.clone());
        }
    }

    fn tell_news(&mut self, link: LinkId, known: &[Known]) {
        for known in known.chunks(NEWS_PER_FRAME) {
            self.say_to(link, &Frame::News(known.to_vec()));
        }
    }

    /// A neighbor says which presences came to it of late: what it knows better is asked for, what we know better it is told.
    pub(super) fn hear_news(&mut self, link: LinkId, mut news: Vec<Known>, now: Time) {
        news.truncate(self.config.limits.members);
        let mut wanted = Vec::new();
        for theirs in news {
            let asks = theirs.seq == Known::UNKNOWN;
            let found = self.roster.starting_with(theirs.peer).map(|(peer, member)| (*peer, &member.presence, &member.shown));
            match found {
                Some((peer, ..)) if asks => self.send_presence(&peer, &[link]),
                Some((peer, ours, _)) if (ours.boot, ours.seq) == (theirs.boot, theirs.seq) => self.roster.shown(&peer, link),
                Some((peer, ours, shown)) if ours.boot == theirs.boot && ours.seq > theirs.seq => {
                    if !shown.contains(&link) {
                        self.send_presence(&peer, &[link]);
                    }
                }
                _ if asks || theirs.peer == Known::new(&self.me, self.boot, 0).peer => {}
                // Several say so at about the same time: one of them is enough.
                _ => {
                    let asked = &mut self.neighborhood.asked;
                    let is_due = asked.get(&theirs.peer).is_none_or(|at| now.since(*at) >= NEWS_PATIENCE);
                    if is_due && asked.len() < self.config.limits.members {
                        asked.insert(theirs.peer, now);
                        wanted.push(Known { seq: Known::UNKNOWN, ..theirs });
                    }
                }
            }
        }
        self.tell_news(link, &wanted);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Profile};
    use crate::id::Boot;
    use crate::node::{Event, Input};
    use crate::sim::{Options, Sim};

    #[test]
    fn what_a_tree_does_not_bring_is_asked_for() {
        let mut sim = Sim::mesh(Options::default(), 3, &Config::default(), Duration::from_secs(5));
        sim.run(Duration::from_secs(3));
        // Its own link does not bring it, and in a mesh where all are linked nobody else does: but they say that they have it.
        sim.cut(1, 2);
        sim.take_events(2);
        sim.input(1, Input::SetProfile(Profile::named("another")));
        sim.run(NEWS_EVERY + NEWS_PATIENCE + Duration::from_millis(300));
        let changed =
            |(_, event): &(Time, Event)| matches!(event, Event::PeerChanged { profile, .. } if profile.name == "another");
        assert_eq!(sim.take_events(2).iter().filter(|event| changed(event)).count(), 1);
        let link = sim.node(0).links()[0].link;
        let mut hear = |news: &[Known]| {
            let frames = sim.frames;
            sim.with(0, |node, now| node.hear_news(link, news.to_vec(), now));
            sim.frames - frames
        };
        let stranger = Known { peer: 7, boot: Boot(1), seq: 3 };
        assert_eq!(hear(&[Known { seq: Known::UNKNOWN, ..stranger }]), 0, "nobody has it");
        assert_eq!((hear(&[stranger, stranger]), hear(&[stranger])), (1, 0), "one is asked, once");
    }
}
