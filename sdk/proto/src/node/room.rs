//! Room for neighbors: who gets it, which link makes it, and how a link is given up without a gap.

use std::net::SocketAddr;
use std::time::Duration;

use super::{CloseReason, Node};
use crate::id::{LinkId, PeerId};
use crate::overlay::{Link, Retiring, is_nearer, within};
use crate::roster::Present;
use crate::time::Time;
use crate::wire::{Frame, REFERRALS_MAX, Referral};

/// A link that is about to go stays for so long, and for two round trips: the other ways have taken over by then.
const RETIREMENT: Duration = Duration::from_millis(300);
/// A neighbor that said that it would close the link, and did not for so long, changed its mind.
const RETIREMENT_MAX: Duration = Duration::from_secs(3);
/// A neighbor that objected to its link's end is not asked again for so long.
const NEEDED: Duration = Duration::from_secs(10);

/// Whether there is room for another neighbor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Now,
    /// As soon as one that retires has gone.
    Soon,
    Never,
}

impl Node {
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
        self.retire(worst, Some(peer), now);
        Room::Soon
    }

    /// Drops the neighbor that can best do without us and refers it to the newcomer. False if all need us.
    pub(super) fn make_room(&mut self, newcomer: PeerId, address: SocketAddr, links_min: usize, now: Time) -> bool {
        let Some(link) = self.overlay.dispensable(&self.roster, &newcomer, links_min) else { return false };
        if !self.overlay.iter().any(|(_, held)| held.peer == Some(newcomer) && held.hidden) {
            self.say_to(link, &Frame::Refer(vec![Referral { address, peer: newcomer }]));
        }
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

    pub(super) fn partner(&mut self, now: Time) -> Option<PeerId> {
        if !self.overlay.is_choosy(self.roster.present().len()) {
            return None;
        }
        self.neighborhood.partners.mine(&self.me, self.roster.present(), self.roster.hash(), now)
    }

    /// A link will be closed, in favor of a better one or because nobody needs it; until then both ends find other ways.
    fn retire(&mut self, link: LinkId, newcomer: Option<PeerId>, now: Time) {
        let wait = RETIREMENT.max(self.rtt(link) * 2);
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.retiring = Some(Retiring { until: now + wait, ours: true });
        tracing::debug!(target: "peerflock::overlay", ?link, peer = ?held.peer, rtt = ?held.rtt, ?newcomer, "retires");
        self.say_to(link, &Frame::Retire);
        self.take_other_ways(link, now);
    }

    /// Gives up a relayed link whose ends hear each other through members.
    pub(super) fn retire_relay(&mut self, now: Time) {
        if let Some(link) = self.overlay.spare_relay(&self.me, &self.roster, now) {
            self.retire(link, None, now);
        }
    }

    /// The neighbor wants to close the link.
    pub(super) fn hear_retire(&mut self, link: LinkId, now: Time) {
        let counted = self.overlay.get(link).is_some_and(|held| held.retiring.is_none());
        let others = self.overlay.reliable(now).saturating_sub(usize::from(counted));
        let relayed = self.overlay.get(link).is_some_and(Link::is_relayed);
        if others < self.overlay.limits.min && !relayed || !self.overlay.is_spare(link, &self.roster, now) {
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

    pub(super) fn end_retirements(&mut self, now: Time) {
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
}
