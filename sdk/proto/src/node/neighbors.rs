//! Who our neighbors are to be: whom to ask how far it is, whom to dial, which link makes room for a better one, and which have died.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand_core::RngCore;

use super::{CloseReason, Node, Output};
use crate::id::{LinkId, PeerId};
use crate::overlay::{Link, Near, Partners, is_nearer, is_relay};
use crate::time::{Time, micros};
use crate::wire::Frame;

/// Whoever takes longer from connection to membership is no member.
const ADMISSION_DEADLINE: Duration = Duration::from_secs(5);
/// Most dials at once while all is well.
const DIALS_MAX: usize = 8;
/// Most dials at once while we are alone: however many addresses are dead or foreign, those that are good are among the first.
const ALONE_DIALS_MAX: usize = 64;
/// Members dialed at once when many neighbors fell quiet: so many that some live though four of five died.
const PASSIVE_VIEW: usize = 20;
/// Most dials at once whatever happens.
const EMERGENCY_DIALS_MAX: usize = 3 * PASSIVE_VIEW;
/// After that long without enough neighbors the next ones are dialed.
const EMERGENCY_EVERY: Duration = Duration::from_millis(250);
/// So often they are; what lasts longer is no crash but an outage, and is waited for with fewer dials, more seldom.
const EMERGENCY_ROUNDS: u32 = 4;
const OUTAGE_DIALS: usize = 8;
const OUTAGE_EVERY: Duration = Duration::from_secs(1);
/// How often to look whether somebody is to be dialed when nothing happened.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Neighbors exchanged for nearer ones at the same time.
const EXCHANGES_MAX: usize = 2;
/// The nearest whose neighbors are asked how far they are.
const REFERRING: usize = 3;
/// A newcomer that was promised room waits for it so long.
const ROOM_PATIENCE: Duration = Duration::from_secs(2);
/// The partner drawn by lot is dialed that often by the smaller key, and by the larger if that brings nothing.
const PARTNER_EVERY: Duration = Duration::from_secs(1);
const PARTNER_PATIENCE: Duration = Duration::from_secs(4);
/// How often first copies lose half of their weight.
const FIRSTS_HALVED: Duration = Duration::from_secs(1);

/// What choosing neighbors needs to remember.
#[derive(Debug, Default)]
pub(super) struct Neighborhood {
    pub(super) near: Near,
    pub(super) partners: Partners,
    /// Whom we were last to have as a partner, and when it is worth a dial.
    partner_due: (Option<PeerId>, Time),
    next_look: Time,
    next_emergency: Time,
    /// How often members were dialed at random in a row.
    emergencies: u32,
    next_aging: Time,
    pub(super) next_presence: Time,
    /// Members whose newest presence is to be passed on, and since when we have it.
    pub(super) news: BTreeMap<PeerId, Time>,
    /// Members of whom we asked a neighbor for the newest presence, by the start of their keys, and when.
    pub(super) asked: BTreeMap<u64, Time>,
    pub(super) next_news: Time,
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
        self.listen(now);
        self.close_dead_links(now);
        self.end_retirements(now);
        self.serve_waiting(now);
        if now.since(self.neighborhood.next_aging) >= FIRSTS_HALVED {
            self.neighborhood.next_aging = now;
            self.overlay.iter_mut().for_each(Link::age_firsts);
        }
        let emergency = self.is_emergency(now);
        if emergency && now >= self.neighborhood.next_emergency {
            self.neighborhood.emergencies += 1;
            let crash = self.neighborhood.emergencies <= EMERGENCY_ROUNDS;
            self.neighborhood.next_emergency = now + if crash { EMERGENCY_EVERY } else { OUTAGE_EVERY };
            self.dial_passive_view(if crash { PASSIVE_VIEW } else { OUTAGE_DIALS }, now);
        } else if !emergency && now >= self.neighborhood.next_emergency {
            self.neighborhood.emergencies = 0;
        }
        if now < self.neighborhood.next_look {
            return;
        }
        self.neighborhood.next_look = now + LOOK_EVERY;
        self.dial_due(now);
        self.retire_relay(now);
        if !emergency && self.overlay.is_choosy(self.roster.present().len()) {
            self.ask_around(now);
            self.dial_partner(now);
            self.dial_nearer(now);
        }
    }

    /// Somebody answered a question for its distance.
    pub(super) fn probed(&mut self, address: SocketAddr, rtt: Duration, now: Time) {
        if let Some(peer) = self.neighborhood.near.answered(address, rtt, now) {
            tracing::trace!(target: "peerflock::overlay", ?peer, %address, ?rtt, "measured");
            self.neighborhood.look(now);
            self.pace.soon_among(self.roster.present().len(), now);
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

    fn close_dead_links(&mut self, now: Time) {
        let (silence, cut_off) = (self.config.link_silence, self.is_cut_off(now));
        let dead: Vec<(LinkId, CloseReason)> = self
            .overlay
            .iter()
            .filter_map(|(link, held)| {
                if held.is_member() {
                    let silent = now.since(self.hearing.silent_since(held.heard));
                    (silent >= silence && !cut_off).then_some((link, CloseReason::Silence))
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

    /// Half of our neighbors or more fell quiet at once: that is no accident. Or nobody was heard, and all links are gone since.
    pub(super) fn is_emergency(&self, now: Time) -> bool {
        let (quiet, neighbors) = (self.overlay.quiet(now), self.overlay.neighbors().count());
        quiet >= 2 && 2 * quiet >= neighbors || neighbors == 0 && self.is_cut_off(now)
    }

    /// Links over which nothing came since then are dead: they are held only while nobody is heard.
    pub(super) fn dead_since(&self, now: Time) -> Time {
        Time(now.0.saturating_sub(micros(self.config.link_silence)))
    }

    /// Dials members at random, many at once: most of them may be dead.
    fn dial_passive_view(&mut self, dials_max: usize, now: Time) {
        let room = EMERGENCY_DIALS_MAX.saturating_sub(self.overlay.dialing()).min(dials_max);
        let dead = self.dead_since(now);
        let mut view: Vec<(u32, PeerId, SocketAddr)> = Vec::new();
        for (peer, member) in self.roster.members() {
            if let Some(address) = member.presence.addresses.first()
                && !self.overlay.has(peer, dead)
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
        let dials_max = if members <= 1 { ALONE_DIALS_MAX } else { DIALS_MAX };
        let mut wanted = self.overlay.goal(members).saturating_sub(reliable + dialing.min(DIALS_MAX));
        let mut due: Vec<_> = self
            .book
            .due(now)
            .filter_map(|(address, peer, failures, number)| {
                let member = peer.and_then(|peer| self.roster.get(&peer));
                if wanted == 0 && member.is_some() {
                    return None;
                }
                // Those with room first: the full ones would have to turn a neighbor away.
                let free = member.map_or(0, |member| member.presence.free);
                // Members by their address, as ever; of the others who was told of first.
                let number = if member.is_some() { 0 } else { number };
                Some((free == 0, failures, number, address, peer, member.is_some()))
            })
            .collect();
        due.sort_unstable();
        for (.., address, peer, member) in due {
            if dialing >= dials_max {
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

    /// A way was opened that may close again soon. A direct one is worth a dial though a relayed link is there.
    pub(super) fn opened(&mut self, address: SocketAddr, peer: PeerId, now: Time) {
        let held = self.overlay.neighbor(&peer).and_then(|link| self.overlay.get(link));
        let linked = held.is_some_and(|held| !held.is_relayed() || is_relay(address));
        if !linked && peer != self.me && self.overlay.dialing() < EMERGENCY_DIALS_MAX {
            self.book.add(address, Some(peer), now);
            self.dial(address, Some(peer), now);
        }
    }

    fn dial(&mut self, address: SocketAddr, expect: Option<PeerId>, now: Time) {
        if !self.dials.allows(address.ip(), now) {
            // Each dial would be a guess for whoever listens there.
            return self.book.refused(address, now);
        }
        self.book.trying(address, now);
        let link = self.overlay.open(Link::new(address, true, expect, now));
        tracing::debug!(target: "peerflock::overlay", ?link, %address, ?expect, "dials");
        self.outputs.push_back(Output::Dial { link, address, expect });
    }
}
