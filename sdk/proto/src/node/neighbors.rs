//! Who our neighbors are to be: whom to ask how far it is, whom to dial, which link makes room for a better one, and which have died.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;

use super::{CloseReason, Node, Output};
use crate::flood::PortSet;
use crate::id::{LinkId, PeerId};
use crate::overlay::{Link, Near, Partners, Retiring, is_nearer, within};
use crate::roster::Present;
use crate::time::Time;
use crate::wire::{Frame, Known, Presence, REFERRALS_MAX, Referral};

/// Whoever takes longer from connection to membership is no member.
const ADMISSION_DEADLINE: Duration = Duration::from_secs(5);
/// Most dials at once while all is well.
const DIALS_MAX: usize = 8;
/// Members dialed at once when many neighbors fell quiet: so many that some live though four of five died.
const PASSIVE_VIEW: usize = 20;
/// Most dials at once whatever happens.
const EMERGENCY_DIALS_MAX: usize = 3 * PASSIVE_VIEW;
/// After that long without enough neighbors the next ones are dialed.
const EMERGENCY_EVERY: Duration = Duration::from_millis(250);
/// How often to look whether somebody is to be dialed when nothing happened.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Neighbors exchanged for nearer ones at the same time.
const EXCHANGES_MAX: usize = 2;
/// The nearest whose neighbors are asked how far they are.
const REFERRING: usize = 3;
/// A link that is about to go stays for so long, and for two round trips: the other ways have taken over by then.
const RETIREMENT: Duration = Duration::from_millis(300);
/// A neighbor that said that it would close the link, and did not for so long, changed its mind.
const RETIREMENT_MAX: Duration = Duration::from_secs(3);
/// A newcomer that was promised room waits for it so long.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// A neighbor that objected to its link's end is not asked again for so long.
const NEEDED: Duration = Duration::from_secs(10);
/// The partner drawn by lot is dialed that often by the smaller key, and by the larger if that brings nothing.
const PARTNER_EVERY: Duration = Duration::from_secs(1);
const PARTNER_PATIENCE: Duration = Duration::from_secs(4);
/// Time between two corrections of our presence, times the root of the number of members: 0.5 s at 16, 2 s at 256, 4 s at 1,000.
const PRESENCE_EVERY: Duration = Duration::from_millis(125);
/// News of members are passed on that often: some neighbors have them from elsewhere by then.
const NEWS_EVERY: Duration = Duration::from_millis(40);
/// Neighbors that have that member's frames from elsewhere, and thus its news as a rule, are told them after so long all the same.
const NEWS_PATIENCE: Duration = Duration::from_millis(600);
/// How often first copies lose half of their weight.
const FIRSTS_HALVED: Duration = Duration::from_secs(1);

/// What choosing neighbors needs to remember.
#[derive(Debug, Default)]
pub(super) struct Neighborhood {
    pub(super) near: Near,
    partners: Partners,
    /// Whom we were last to have as a partner, and when it is worth a dial.
    partner_due: (Option<PeerId>, Time),
    next_look: Time,
    next_emergency: Time,
    next_aging: Time,
    next_presence: Time,
    /// Members whose newest presence is to be passed on, and since when we have it.
    news: BTreeMap<PeerId, Time>,
    next_news: Time,
}

/// Whether there is room for another neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// As soon as one that retires has gone.
    Soon,
    Never,
}

impl Neighborhood {
    /// Something changed: look soon.
    pub(super) fn look(&mut self, now: Time) {
        self.next_look = self.next_look.min(now);
    }

    /// The presence of `peer` is news for others.
    pub(super) fn tell(&mut self, peer: PeerId, now: Time) {
        self.news.insert(peer, now);
    }
}

impl Node {
    /// What time brings: links that end, room that came free, questions to ask, and neighbors to look for.
    pub(super) fn tend_neighbors(&mut self, now: Time) {
        self.close_dead_links(now);
        self.end_retirements(now);
        self.serve_waiting(now);
        if now.since(self.neighborhood.next_aging) >= FIRSTS_HALVED {
            self.neighborhood.next_aging = now;
            self.overlay.iter_mut().for_each(Link::age_firsts);
        }
        let emergency = self.is_emergency(now);
        if emergency && now >= self.neighborhood.next_emergency {
            self.neighborhood.next_emergency = now + EMERGENCY_EVERY;
            self.dial_passive_view(now);
        }
        if now < self.neighborhood.next_look {
            return;
        }
        self.neighborhood.next_look = now + LOOK_EVERY;
        self.dial_due(now);
        if !emergency && self.overlay.is_choosy(self.roster.present().len()) {
            self.ask_around(now);
            self.dial_partner(now);
            self.dial_nearer(now);
        }
    }

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
        for link in unaware {
            self.roster.shown(&peer, link);
            self.send_frame(link, bytes.clone());
        }
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
        let mut better = Vec::new();
        let mut same = Vec::new();
        for (peer, member) in self.roster.members() {
            let Presence { boot, seq, .. } = member.presence;
            let ours = Known::new(peer, boot, seq);
            let theirs = known.binary_search_by_key(&ours.peer, |known| known.peer).ok().and_then(|index| known.get(index));
            match theirs {
                Some(theirs) if theirs.boot == boot && theirs.seq > seq => {}
                Some(theirs) if *theirs == ours => same.push(*peer),
                _ => better.push((*peer, member.signed.clone())),
            }
        }
        for (peer, signed) in better {
            self.roster.shown(&peer, link);
            self.say_to(link, &Frame::Presence(signed));
        }
        for peer in same {
            self.roster.shown(&peer, link);
        }
    }

    /// Somebody answered a question for its distance.
    pub(super) fn probed(&mut self, address: SocketAddr, rtt: Duration, now: Time) {
        if let Some(peer) = self.neighborhood.near.answered(address, rtt, now) {
            tracing::trace!(target: "peerflock::overlay", ?peer, %address, ?rtt, "measured");
            self.neighborhood.look(now);
            self.pace.soon(now);
        }
    }

    /// Everything is worth another try, now.
    pub(super) fn refresh(&mut self, now: Time) {
        tracing::debug!(target: "peerflock::overlay", links = self.overlay.neighbors().count(), "refresh");
        self.book.retry_all(now);
        self.neighborhood.near.refresh(now);
        self.neighborhood.look(now);
        // Neighbors hear from us at once, and we from those that live: what they answer is how we tell.
        let links: Vec<LinkId> = self.overlay.neighbors().map(|(link, _)| link).collect();
        for link in links {
            self.say_to(link, &Frame::Roster(self.known_members()));
        }
        self.pace.soon(now);
    }

    // --- room ----------------------------------------------------------------------------------------------------------

    /// Whether there is room for `peer` at the other end of `link`, which says that it has `its_links` others. Makes room where `peer`
    /// needs it, or is nearer than another. `ahead` others wait for the room that will come.
    pub(super) fn room(&mut self, link: LinkId, peer: PeerId, its_links: usize, ahead: usize, now: Time) -> Room {
        let members = self.roster.present().len();
        let stranger = !self.roster.present().contains(&peer);
        let limits = self.overlay.limits;
        let partner = self.partner(now);
        let needs_any = stranger || its_links < limits.min;
        // Its place is kept for whoever is drawn by lot, unless somebody is in need.
        let kept = partner.is_some_and(|partner| partner != peer && self.overlay.neighbor(&partner).is_none());
        let below_ideal = its_links < limits.ideal && limits.ideal < limits.max;
        let max = limits.max - usize::from(kept && !needs_any && !below_ideal);
        if self.overlay.occupied() < max {
            return Room::Now;
        }
        // For comfort alone nobody is given up who may only be slow for once.
        let need = needs_any || below_ideal || self.is_emergency(now) || self.overlay.reliable(now) < limits.ideal;
        if let Some(quiet) = self.overlay.quietest(now).filter(|_| need) {
            self.close(quiet, CloseReason::Silence, now);
            return Room::Now;
        }
        if self.overlay.retiring() > ahead {
            return Room::Soon;
        }
        let Some((address, rtt)) = self.overlay.get(link).map(|held| (held.address, held.rtt)) else { return Room::Never };
        if needs_any && self.make_room(peer, address, 2, now) {
            return Room::Now;
        }
        if below_ideal && self.make_room(peer, address, limits.ideal + 1, now) {
            return Room::Now;
        }
        if !self.overlay.is_choosy(members) {
            return Room::Never;
        }
        let rtt = rtt.or_else(|| self.neighborhood.near.rtt(&peer));
        let nearer = |cost| partner == Some(peer) || rtt.is_some_and(|rtt| is_nearer(rtt, cost));
        let replaceable = self.overlay.replaceable(&self.roster, partner, now);
        let mut candidates = replaceable.into_iter().take_while(|(cost, _)| nearer(*cost));
        let Some((_, worst)) = candidates.find(|(_, worst)| self.overlay.is_spare(*worst, &self.roster, now)) else {
            return Room::Never;
        };
        self.retire(worst, peer, now);
        Room::Soon
    }

    /// Drops the neighbor that can best do without us and refers it to the newcomer. False if all need us.
    pub(super) fn make_room(&mut self, newcomer: PeerId, address: SocketAddr, links_min: usize, now: Time) -> bool {
        let Some(link) = self.overlay.dispensable(&self.roster, &newcomer, links_min) else { return false };
        self.say_to(link, &Frame::Refer(vec![Referral { address, peer: newcomer }]));
        self.close(link, CloseReason::Pruned, now);
        true
    }

    /// Members to try instead of us: those with room first, from a place on that differs from one who asks to the next.
    pub(super) fn referrals(&self, asker: &PeerId) -> Vec<Referral> {
        let referral = |(peer, member): (&PeerId, &Present)| {
            member.presence.addresses.first().map(|address| Referral { address: *address, peer: *peer })
        };
        let with_room = self.roster.members_after(asker).filter(|(_, member)| member.presence.free > 0);
        let others = self.roster.members_after(asker).filter(|(_, member)| member.presence.free == 0);
        with_room.chain(others).filter_map(referral).take(REFERRALS_MAX).collect()
    }

    /// How near one must be to be welcome though all places are taken.
    pub(super) fn welcome_within(&self, now: Time) -> Duration {
        if !self.overlay.is_choosy(self.roster.present().len()) {
            return Duration::ZERO;
        }
        let replaceable = self.overlay.replaceable(&self.roster, self.neighborhood.partners.known(), now);
        replaceable.first().map_or(Duration::ZERO, |(cost, _)| within(*cost))
    }

    /// How many more neighbors there is room for, the one drawn by lot left out.
    pub(super) fn free_places(&self) -> usize {
        let partner = self.neighborhood.partners.known().filter(|_| self.overlay.is_choosy(self.roster.present().len()));
        let kept = partner.is_some_and(|partner| self.overlay.neighbor(&partner).is_none());
        self.overlay.limits.max.saturating_sub(self.overlay.occupied() + usize::from(kept))
    }

    fn partner(&mut self, now: Time) -> Option<PeerId> {
        if !self.overlay.is_choosy(self.roster.present().len()) {
            return None;
        }
        self.neighborhood.partners.mine(&self.me, self.roster.present(), self.roster.hash(), now)
    }

    // --- links that go -------------------------------------------------------------------------------------------------

    /// A link will be closed in favor of a better one; until then both ends find other ways.
    fn retire(&mut self, link: LinkId, newcomer: PeerId, now: Time) {
        let wait = RETIREMENT.max(self.rtt(link) * 2);
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.retiring = Some(Retiring { until: now + wait, ours: true });
        tracing::debug!(target: "peerflock::overlay", ?link, peer = ?held.peer, rtt = ?held.rtt, ?newcomer, "retires");
        self.say_to(link, &Frame::Retire);
        self.take_other_ways(link, now);
    }

    /// The neighbor wants to close the link.
    pub(super) fn hear_retire(&mut self, link: LinkId, now: Time) {
        let counted = self.overlay.get(link).is_some_and(|held| held.retiring.is_none());
        let others = self.overlay.reliable(now).saturating_sub(usize::from(counted));
        if others < self.overlay.limits.min || !self.overlay.is_spare(link, &self.roster, now) {
            return self.say_to(link, &Frame::Stay);
        }
        if let Some(held) = self.overlay.get_mut(link) {
            held.retiring = Some(Retiring { until: now + RETIREMENT_MAX, ours: false });
        }
        self.take_other_ways(link, now);
    }

    /// The neighbor cannot do without the link.
    pub(super) fn hear_stay(&mut self, link: LinkId, now: Time) {
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.needed_until = now + NEEDED;
        if held.retiring.take().is_some_and(|retiring| retiring.ours) {
            tracing::debug!(target: "peerflock::overlay", ?link, peer = ?held.peer, "stays");
            self.pace.soon(now);
        }
    }

    /// What comes over `link` is asked for elsewhere.
    fn take_other_ways(&mut self, link: LinkId, now: Time) {
        if let Some(port) = self.flood.port_of(link) {
            let requests = self.flood.go_around(port, now);
            self.graft(requests);
        }
    }

    fn end_retirements(&mut self, now: Time) {
        let over = |held: &Link| held.retiring.filter(|retiring| retiring.until <= now);
        let over: Vec<(LinkId, bool)> = self.overlay.iter().filter_map(|(link, held)| Some((link, over(held)?.ours))).collect();
        for (link, ours) in over {
            if ours {
                self.close(link, CloseReason::Pruned, now);
            } else if let Some(held) = self.overlay.get_mut(link) {
                held.retiring = None;
            }
        }
    }

    fn close_dead_links(&mut self, now: Time) {
        let silence = self.config.link_silence;
        let dead: Vec<(LinkId, CloseReason)> = self
            .overlay
            .iter()
            .filter_map(|(link, held)| {
                if held.is_member() {
                    (now.since(held.heard) >= silence).then_some((link, CloseReason::Silence))
                } else if held.is_waiting() {
                    (now.since(held.heard) >= ROOM_PATIENCE).then_some((link, CloseReason::Full))
                } else {
                    (now.since(held.opened) >= ADMISSION_DEADLINE).then_some((link, CloseReason::Deadline))
                }
            })
            .collect();
        for (link, reason) in dead {
            self.close(link, reason, now);
        }
    }

    // --- links to come -------------------------------------------------------------------------------------------------

    /// Half of our neighbors or more fell quiet at once: that is no accident.
    fn is_emergency(&self, now: Time) -> bool {
        let quiet = self.overlay.quiet(now);
        quiet >= 2 && 2 * quiet >= self.overlay.neighbors().count()
    }

    /// Dials members at random, many at once: most of them may be dead.
    fn dial_passive_view(&mut self, now: Time) {
        let room = EMERGENCY_DIALS_MAX.saturating_sub(self.overlay.dialing()).min(PASSIVE_VIEW);
        let mut view: Vec<(u32, PeerId, SocketAddr)> = Vec::new();
        for (peer, member) in self.roster.members() {
            if let Some(address) = member.presence.addresses.first()
                && !self.overlay.knows(peer)
            {
                view.push((self.rng.next_u32(), *peer, *address));
            }
        }
        view.sort_unstable();
        view.truncate(room);
        let quiet = self.overlay.quiet(now);
        tracing::debug!(target: "peerflock::overlay", quiet, dials = view.len(), "many neighbors fell quiet");
        for (_, peer, address) in view {
            self.dial(address, Some(peer), now);
        }
    }

    /// Dials members while there are fewer links than ideal, and addresses where somebody else may be.
    fn dial_due(&mut self, now: Time) {
        let members = self.roster.present().len();
        let mut dialing = self.overlay.dialing();
        let reliable = self.overlay.reliable(now);
        let mut wanted = self.overlay.goal(members).saturating_sub(reliable + dialing.min(DIALS_MAX));
        let mut due: Vec<_> = self
            .book
            .due(now)
            .filter_map(|(address, peer, failures)| {
                let member = peer.and_then(|peer| self.roster.get(&peer));
                if wanted == 0 && member.is_some() {
                    return None;
                }
                // Those with room first: the full ones would have to turn a neighbor away.
                Some((member.map_or(0, |member| member.presence.free) == 0, failures, address, peer, member.is_some()))
            })
            .collect();
        due.sort_unstable();
        for (.., address, peer, member) in due {
            if dialing >= DIALS_MAX {
                break;
            }
            let linked = peer.is_some_and(|peer| peer == self.me || self.overlay.knows(&peer));
            let known_address = self.overlay.iter().any(|(_, link)| link.address == address);
            if linked || known_address || (member && wanted == 0) {
                continue;
            }
            if member {
                wanted -= 1;
            }
            dialing += 1;
            self.dial(address, peer, now);
        }
    }

    /// Asks members how far they are: some at random, later the neighbors of the nearest.
    fn ask_around(&mut self, now: Time) {
        let count = self.neighborhood.near.round(now);
        if count == 0 {
            return;
        }
        let near = &self.neighborhood.near;
        let worth = |peer: &PeerId| {
            let address = *self.roster.get(peer)?.presence.addresses.first()?;
            let unknown = near.is_unknown(peer, &address, now) && self.overlay.neighbor(peer).is_none();
            (unknown && *peer != self.me).then_some((*peer, address))
        };
        let mut asked: Vec<(PeerId, SocketAddr)> = Vec::new();
        let mut nearest: Vec<(Duration, PeerId)> = self
            .overlay
            .iter()
            .filter_map(|(_, link)| Some((link.rtt?, link.peer?)))
            .chain(near.nearest(now).into_iter().map(|(rtt, peer, _)| (rtt, peer)))
            .collect();
        nearest.sort_unstable();
        nearest.dedup_by_key(|(_, peer)| *peer);
        let referred = nearest.iter().take(REFERRING).filter_map(|(_, peer)| self.roster.get(peer));
        for peer in referred.flat_map(|member| &member.presence.neighbors) {
            if asked.iter().all(|(known, _)| known != peer) {
                asked.extend(worth(peer));
            }
        }
        // The rest at random, half of all at the least: who is near may be nobody's neighbor yet.
        asked.truncate(count / 2);
        let mut others: Vec<(u32, (PeerId, SocketAddr))> = Vec::new();
        for (peer, member) in self.roster.members() {
            if let Some(found) = worth(peer).filter(|found| !asked.contains(found)) {
                // Those with room before the full ones.
                others.push((self.rng.next_u32() >> u32::from(member.presence.free > 0), found));
            }
        }
        others.sort_unstable();
        asked.extend(others.into_iter().map(|(_, found)| found).take(count - asked.len()));
        for (peer, address) in asked {
            self.neighborhood.near.asking(peer, address, now);
            self.outputs.push_back(Output::Probe { address });
        }
    }

    /// Dials the member drawn by lot, the smaller key first.
    fn dial_partner(&mut self, now: Time) {
        let Some(partner) = self.partner(now) else { return };
        if self.neighborhood.partner_due.0 != Some(partner) {
            let patience = if self.me < partner { Duration::ZERO } else { PARTNER_PATIENCE };
            self.neighborhood.partner_due = (Some(partner), now + patience);
        }
        if now < self.neighborhood.partner_due.1 || self.overlay.knows(&partner) {
            return;
        }
        let address = self.roster.get(&partner).and_then(|member| member.presence.addresses.first().copied());
        if let Some(address) = address {
            let wait = if self.me < partner { PARTNER_EVERY } else { PARTNER_PATIENCE };
            self.neighborhood.partner_due.1 = now + wait;
            self.dial(address, Some(partner), now);
        }
    }

    /// Dials members that are nearer than neighbors that we have, or near where we have room.
    fn dial_nearer(&mut self, now: Time) {
        let partner = self.partner(now);
        if self.overlay.reliable(now) < self.overlay.limits.ideal {
            return;
        }
        let others = |link: &Link| (link.is_member() && link.retiring.is_none()) || link.dialed;
        let taken = self.overlay.iter().filter(|(_, link)| others(link) && (partner.is_none() || link.peer != partner)).count();
        let mut free = self.overlay.limits.max.saturating_sub(taken + usize::from(partner.is_some()));
        let mut costs = self.overlay.replaceable(&self.roster, partner, now).into_iter().map(|(cost, _)| cost);
        let under_way = self.overlay.dialing() + self.overlay.retiring();
        let mut dials = Vec::new();
        for (rtt, peer, address) in self.neighborhood.near.nearest(now) {
            if dials.len() + under_way >= EXCHANGES_MAX {
                break;
            }
            let Some(member) = self.roster.get(&peer) else { continue };
            if Some(peer) == partner || self.overlay.knows(&peer) || !member.presence.welcomes(rtt) {
                continue;
            }
            if free > 0 {
                free -= 1;
            } else if !costs.next().is_some_and(|cost| is_nearer(rtt, cost)) {
                break;
            }
            dials.push((address, peer));
        }
        for (address, peer) in dials {
            self.dial(address, Some(peer), now);
        }
    }

    fn dial(&mut self, address: SocketAddr, expect: Option<PeerId>, now: Time) {
        self.book.trying(address, now);
        let link = self.overlay.open(Link::new(address, true, expect, now));
        tracing::debug!(target: "peerflock::overlay", ?link, %address, ?expect, "dials");
        self.outputs.push_back(Output::Dial { link, address, expect });
    }
}
