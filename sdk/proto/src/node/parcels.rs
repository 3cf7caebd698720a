//! What goes in datagrams: packets of state, messages, and what neighbors tell each other to repair them.

use std::time::Duration;

use bytes::Bytes;

use super::{Node, Output};
use crate::flood::{Came, Kept, PortId, PortSet, Request, Slot, Trust};
use crate::id::{LinkId, PeerId};
use crate::time::Time;
use crate::wire::{Alias, Frame, Item, PULL_SPAN, Packet, Said, Standing, Whose, parcel};

/// A link that carried nothing for so long carries an empty parcel with the next beat.
const KEEP_ALIVE: Duration = Duration::from_millis(25);
/// How often neighbors are told how old things are when they get here.
const AGES_EVERY: Duration = Duration::from_secs(1);
/// What a pull is given beyond the round trip before another neighbor is asked.
const PULL_SLACK: Duration = Duration::from_millis(20);
/// Nobody near has what is missing: look again after so long.
const NOBODY_HAS_IT: Duration = Duration::from_millis(50);
/// So many messages pulled in a row, and the neighbor that has them is asked for all that author's.
const PULLED_MAX: u8 = 2;
/// Most origins named in one frame.
const NAMES_PER_FRAME: usize = 500;

impl Node {
    pub(super) fn datagram(&mut self, link: LinkId, bytes: Bytes, now: Time) {
        let Some(held) = self.overlay.get_mut(link) else { return };
        // Datagrams overtake WELCOME: what comes before admission is dropped.
        if !held.is_member() {
            return;
        }
        held.hear(now);
        if !self.within_quota(link, bytes.len(), false, now) {
            return;
        }
        let Some(port) = self.flood.port_of(link) else { return };
        let Ok((number, items)) = parcel::decode(bytes) else {
            self.counters.violations += 1;
            return;
        };
        let Some(held) = self.flood.port_mut(port) else { return };
        held.heard(now);
        if !held.receive(number, now) {
            return;
        }
        self.ask_missing(port, now);
        for item in items {
            // Whatever one item leads to, even the end of the link, the next looks again.
            if self.flood.port_of(link) == Some(port) {
                self.item((link, number), port, item, now);
            }
        }
    }

    fn item(&mut self, came: Came, port: PortId, item: Item, now: Time) {
        match item {
            Item::State { whose, packet } => {
                if let Some(slot) = self.flood.resolve(port, whose) {
                    self.packet(came, port, slot, packet, now);
                }
            }
            Item::Proof { whose, manifest } => {
                if let Some(slot) = self.flood.resolve(port, whose) {
                    self.hear_manifest(port, slot, manifest, came, now);
                }
            }
            Item::Said { whose, said, repair } => {
                if let Some(slot) = self.flood.resolve(port, whose)
                    && let Some(seq) = self.broadcast.expand(slot, said.seq as u16)
                {
                    self.hear_said(port, slot, Said { seq, ..said }, repair, now);
                }
            }
            Item::Missing(numbers) => self.send_again(port, &numbers),
            Item::Digest { first, marks } => self.hear_digest(port, first, &marks, now),
            Item::Pull { whose, base, mask } => {
                if let Some(slot) = self.flood.resolve(port, whose)
                    && let Some(base) = self.broadcast.expand(slot, base)
                {
                    self.serve(came.0, port, slot, base, mask);
                }
            }
        }
    }

    // --- packets of state ----------------------------------------------------------------------------------------------

    fn packet(&mut self, came: Came, port: PortId, slot: Slot, packet: Packet, now: Time) {
        let link = came.0;
        let (Some(origin), Some(neighbor)) = (self.flood.origin(slot), self.flood.port(port)) else { return };
        let (peer, boot, direct) = (origin.peer, origin.boot, origin.peer == neighbor.peer);
        if slot == Slot::ME || packet.hops >= packet.hop_limit || self.removals.is_removed(&peer) {
            return;
        }
        if origin.packets.contains(u64::from(packet.seq)) {
            self.counters.state_packets_duplicate += 1;
            return self.came_again(slot, port, false);
        }
        if direct && !self.within_quota(link, packet.payload.len(), true, now) {
            return;
        }
        // The link proves its own end; for anybody else's packets a manifest must come.
        let shunned = self.flood.origin_mut(slot).is_some_and(|origin| origin.is_shunned(port, now));
        if !direct && (!packet.relayed || shunned) {
            self.counters.violations += u64::from(!packet.relayed);
            return;
        }
        if !direct && self.hears_itself(&peer) {
            return;
        }
        let trust = self.trust(slot, &packet, direct, came, now);
        if matches!(trust, Trust::Altered { .. } | Trust::Refused) {
            return;
        }
        let counts = !matches!(trust, Trust::Held { .. } | Trust::Doubted);
        if counts && self.roster.heard(&peer, boot, now) {
            self.member_returned(peer, now);
        }
        if self.roster.get(&peer).is_none_or(|member| member.presence.boot != boot) {
            return;
        }
        if let Some(origin) = self.flood.origin_mut(slot) {
            origin.note_packet(packet.seq, now);
        }
        self.flood.first(slot, port, false, now);
        self.counters.state_packets_first += 1;
        self.note_first(link);
        if trust != Trust::Doubted {
            self.pass_on_packet(slot, Some(port), &packet);
        }
        if counts && self.apply_state(link, peer, direct, &packet.payload, now).is_err() {
            self.counters.violations += 1;
            tracing::warn!(target: "peerflock::state", origin = ?peer, "state that does not decode");
        }
    }

    /// A packet of another origin goes on along its tree.
    pub(super) fn pass_on_packet(&mut self, slot: Slot, from: Option<PortId>, packet: &Packet) {
        let targets = if packet.relayed { self.targets(slot, from) } else { PortSet::default() };
        if packet.hops + 1 < packet.hop_limit && !targets.is_empty() {
            self.counters.state_packets_forwarded += targets.len() as u64;
            let onward = Packet { hops: packet.hops + 1, ..packet.clone() };
            self.flood.enqueue(targets, slot, &Kept::Nothing, |whose| Item::State { whose, packet: onward.clone() });
        }
    }

    /// Something came over a link that was not here before.
    pub(super) fn note_first(&mut self, link: LinkId) {
        if let Some(held) = self.overlay.get_mut(link) {
            held.note_first();
        }
    }

    /// Something came that was here before.
    pub(super) fn came_again(&mut self, slot: Slot, port: PortId, repair: bool) {
        let of_neighbor = self.flood.origin(slot).map(|origin| origin.peer) == self.flood.port(port).map(|port| port.peer);
        // Where everybody has everything from its origin, that way stays.
        if self.is_complete() && of_neighbor {
            return;
        }
        if let Some((link, origin)) = self.flood.duplicate(slot, port, repair) {
            self.prunes.entry(link).or_default().push(origin);
        }
    }

    /// Whether we have what an origin says from itself, because everybody does: then a neighbor's word for it is not needed, and nothing
    /// would prove it.
    fn hears_itself(&self, origin: &PeerId) -> bool {
        self.is_complete() && self.flood.ports().any(|(_, port)| port.peer == *origin && !port.quiet)
    }

    /// Whether the mesh is so small that everybody is to be linked to everybody.
    pub(super) fn is_complete(&self) -> bool {
        self.roster.present().len() <= self.overlay.limits.max + 1
    }

    /// The links over which an origin's frames are to go on.
    pub(super) fn targets(&self, slot: Slot, from: Option<PortId>) -> PortSet {
        let mut linked = PortSet::default();
        if slot != Slot::ME
            && self.is_complete()
            && let Some(author) = self.flood.origin(slot).and_then(|origin| self.roster.get(&origin.peer))
        {
            // What a neighbor has from the origin itself it need not have from us.
            let ports = self.flood.ports().filter(|(_, port)| author.presence.is_linked_to(&port.peer));
            linked = ports.map(|(id, _)| id).collect();
        }
        self.flood.targets(slot, from, linked)
    }

    // --- repair --------------------------------------------------------------------------------------------------------

    /// Asks for parcels that did not arrive.
    fn ask_missing(&mut self, port: PortId, now: Time) {
        let Some(port) = self.flood.port_mut(port) else { return };
        let missing = port.due_missing(now);
        if !missing.is_empty() {
            self.counters.parcels_missed += missing.len() as u64;
            let item = Item::Missing(missing).encode();
            port.enqueue(item.clone(), Kept::Asked(item));
        }
    }

    /// Sends again what was in lost parcels, but for what is no use any more.
    fn send_again(&mut self, port: PortId, numbers: &[u16]) {
        let Some(lost) = self.flood.port_mut(port).map(|port| port.lost(numbers, self.now)) else { return };
        for kept in lost {
            match kept {
                Kept::Nothing => {}
                Kept::Asked(item) => {
                    if let Some(port) = self.flood.port_mut(port) {
                        port.enqueue(item.clone(), Kept::Asked(item));
                    }
                }
                Kept::Proof(slot, last) => self.send_manifest_again(port, slot, last),
                Kept::Said(slot, seq) => {
                    let needless = self.flood.port(port).is_none_or(|port| port.theirs(slot) >= seq);
                    if !needless && let Ok(Some(said)) = self.broadcast.find(slot, seq) {
                        let said = said.clone();
                        self.send_said([port].into_iter().collect(), slot, said, true);
                    }
                }
            }
        }
    }

    /// Sends what a neighbor pulls.
    fn serve(&mut self, link: LinkId, port: PortId, slot: Slot, base: u64, mask: u64) {
        let Some((origin, boot)) = self.flood.origin(slot).map(|origin| (origin.peer, origin.boot)) else { return };
        for seq in (0..PULL_SPAN).filter(|bit| mask >> bit & 1 == 1).filter_map(|bit| base.checked_add(bit)) {
            match self.broadcast.find(slot, seq) {
                Ok(Some(said)) if said.hops < said.hop_limit || slot == Slot::ME => {
                    let said = said.clone();
                    self.send_said([port].into_iter().collect(), slot, said, true);
                }
                // As far as it may go it has gone.
                Ok(Some(_)) => return self.say_to(link, &Frame::Gone(Standing { origin, boot, upto: seq })),
                Ok(None) => {}
                Err(upto) => return self.say_to(link, &Frame::Gone(Standing { origin, boot, upto })),
            }
        }
    }

    /// The round trip to the neighbor that should send an author's messages; none if that cannot be relied upon.
    pub(super) fn parent_rtt(&self, slot: Slot) -> Option<Duration> {
        let parent = self.flood.origin(slot).and_then(|origin| origin.parent)?;
        self.flood.port(parent).filter(|port| !port.quiet).map(|port| port.rtt)
    }

    /// When something that was lost is to be asked for next.
    pub(super) fn next_repair(&self) -> Option<Time> {
        let parcels = self.flood.ports().flat_map(|(_, port)| port.next_missing().into_iter().chain(port.probe())).min();
        parcels.into_iter().chain(self.repairs.next()).min()
    }

    /// Asks for what was lost and did not come by itself.
    pub(super) fn repair(&mut self, now: Time) {
        let ports: Vec<PortId> = self.flood.ports().map(|(id, _)| id).collect();
        for port in ports {
            self.ask_missing(port, now);
            if let Some(held) = self.flood.port_mut(port)
                && held.probe().is_some_and(|due| due <= now)
            {
                let (link, bytes) = (held.link, held.keep_alive(now));
                self.send_datagram(link, bytes);
            }
        }
        for slot in self.repairs.due(now) {
            self.pull(slot, now);
        }
    }

    fn pull(&mut self, slot: Slot, now: Time) {
        let Some(ours) = self.broadcast.delivered(slot) else { return self.repairs.mended(slot) };
        let all: PortSet = self.flood.ports().filter(|(_, port)| port.theirs(slot) > ours).map(|(id, _)| id).collect();
        if all.is_empty() {
            return if self.broadcast.has_gap(slot) {
                self.repairs.look_again(slot, PortSet::default(), now + NOBODY_HAS_IT);
            } else {
                self.repairs.mended(slot);
            };
        }
        let all = all.without(self.repairs.cannot_help(slot));
        let mut asked = self.repairs.asked(slot);
        if all.without(asked).is_empty() {
            asked = PortSet::default();
        }
        let left = all.without(asked);
        let nearest = self
            .flood
            .ports()
            .filter(|(id, _)| left.contains(*id))
            .min_by_key(|(id, port)| (port.quiet, port.rtt, *id))
            .map(|(id, port)| (id, port.theirs(slot), port.rtt));
        let Some((port, theirs, rtt)) = nearest else { return self.repairs.start_over(slot, now + NOBODY_HAS_IT) };
        let Some((base, mask)) = self.broadcast.missing(slot, theirs) else { return self.repairs.mended(slot) };
        self.counters.messages_pulled += u64::from(mask.count_ones());
        let only = [port].into_iter().collect();
        self.flood.enqueue(only, slot, &Kept::Nothing, |whose| Item::Pull { whose, base: base as u16, mask });
        asked.insert(port);
        self.repairs.look_again(slot, asked, now + rtt * 5 / 4 + PULL_SLACK);
        // The tree has a hole: mend it there.
        let Some(origin) = self.flood.origin_mut(slot) else { return };
        origin.pulled = origin.pulled.saturating_add(1);
        if origin.pulled >= PULLED_MAX && origin.parent != Some(port) {
            origin.pulled = 0;
            let request = self.flood.ask(slot, port, now);
            self.graft(request);
        }
    }

    /// A neighbor does not keep any more what we pulled.
    pub(super) fn hear_gone(&mut self, link: LinkId, gone: &Standing, now: Time) {
        let (Some(port), Some(slot)) = (self.flood.port_of(link), self.flood.slot_of(&gone.origin, gone.boot)) else { return };
        let Some(ours) = self.broadcast.delivered(slot) else { return };
        let ahead = self.flood.ports().filter(|(_, port)| port.theirs(slot) > ours && !port.quiet);
        let (ahead, most) = ahead.fold((PortSet::default(), ours), |(mut ahead, most), (id, port)| {
            ahead.insert(id);
            (ahead, most.max(port.theirs(slot)))
        });
        if let Some(upto) = self.repairs.gone(slot, port, gone.upto, ahead, now) {
            let ready = self.broadcast.skip(slot, upto.min(most));
            self.repairs.mended(slot);
            self.deliver_said(gone.origin, ready, now);
        }
    }

    /// Asks neighbors to pass origins' frames on to us.
    pub(super) fn graft(&mut self, requests: impl IntoIterator<Item = Request>) {
        let mut by_link = std::collections::BTreeMap::<LinkId, Vec<_>>::new();
        for (link, origin) in requests {
            by_link.entry(link).or_default().push(origin);
        }
        for (link, origins) in by_link {
            for origins in origins.chunks(NAMES_PER_FRAME) {
                self.say_to(link, &Frame::Graft(origins.to_vec()));
            }
        }
    }

    // --- the beat ------------------------------------------------------------------------------------------------------

    /// What each link carries with every beat.
    pub(super) fn tend_links(&mut self, now: Time) {
        let ports: Vec<PortId> = self.flood.ports().map(|(id, _)| id).collect();
        for port in ports {
            self.notice_quiet(port, now);
            self.tell_aliases(port);
            self.tell_ages(port, now);
            self.tell_digest(port);
            if let Some(held) = self.flood.port_mut(port)
                && !held.has_queued()
                && now.since(held.sent) >= KEEP_ALIVE
            {
                let (link, bytes) = (held.link, held.keep_alive(now));
                self.send_datagram(link, bytes);
            }
        }
    }

    /// A link that fell quiet may be dead: what came over it is asked for elsewhere at once. It costs some copies if it was not.
    fn notice_quiet(&mut self, port: PortId, now: Time) {
        let Some(held) = self.flood.port_mut(port).filter(|port| !port.quiet) else { return };
        if self.overlay.get(held.link).is_some_and(|link| link.is_quiet(now)) {
            held.quiet = true;
            tracing::debug!(target: "peerflock::flood", link = ?held.link, peer = ?held.peer, "quiet");
            let requests = self.flood.go_around(port, now);
            self.graft(requests);
        }
    }

    /// Gives new origins a number.
    fn tell_aliases(&mut self, port: PortId) {
        let used = self.flood.slots_used();
        let Some((link, offered)) = self.flood.port(port).map(|port| (port.link, port.offered)) else { return };
        if offered >= used {
            return;
        }
        let news = self.flood.origins().filter(|(slot, _)| slot.index() >= offered);
        let aliases: Vec<Alias> =
            news.map(|(slot, origin)| Alias { number: slot.0, origin: origin.peer, boot: origin.boot }).collect();
        for aliases in aliases.chunks(NAMES_PER_FRAME) {
            self.say_to(link, &Frame::Aliases(aliases.to_vec()));
        }
        if let Some(port) = self.flood.port_mut(port) {
            port.offered = used;
        }
    }

    pub(super) fn hear_aliases(&mut self, link: LinkId, aliases: Vec<Alias>) {
        // A neighbor may remember more origins than there are members, but not many times more.
        let numbers_max = 4 * self.config.limits.members + 64;
        let Some(port) = self.flood.port_of(link) else { return };
        let mut known = Vec::new();
        for alias in aliases.into_iter().filter(|alias| (alias.number as usize) < numbers_max) {
            known.push(alias.number);
            self.flood.name(port, alias);
        }
        self.say_to(link, &Frame::AliasesKnown(known));
    }

    pub(super) fn hear_aliases_known(&mut self, link: LinkId, numbers: &[u32]) {
        let used = self.flood.slots_used();
        if let Some(port) = self.flood.port_of(link).and_then(|port| self.flood.port_mut(port)) {
            numbers.iter().filter(|number| (**number as usize) < used).for_each(|number| port.learned(Slot(*number)));
        }
    }

    fn tell_ages(&mut self, port: PortId, now: Time) {
        let Some((link, told)) = self.flood.port(port).map(|port| (port.link, port.ages_told)) else { return };
        if now.since(told) < AGES_EVERY || self.is_complete() {
            return;
        }
        if let Some(ages) = self.flood.ages_for(port) {
            self.say_to(link, &Frame::Ages { first: 0, ages: ages.clone().into() });
            if let Some(port) = self.flood.port_mut(port) {
                port.tell_ages(ages, now);
            }
        }
    }

    pub(super) fn hear_ages(&mut self, link: LinkId, first: u32, ages: &[u8]) {
        let Some(id) = self.flood.port_of(link) else { return };
        for (index, age) in (0..).zip(ages) {
            if let Some(slot) = first.checked_add(index).and_then(|alias| self.flood.resolve(id, Whose::Alias(alias)))
                && let Some(port) = self.flood.port_mut(id)
            {
                port.hear_age(slot, *age);
            }
        }
    }

    // --- out -----------------------------------------------------------------------------------------------------------

    /// Packs what waits for each link. What a neighbor is to leave out it is told at once of all that came with one parcel.
    pub(super) fn flush(&mut self) {
        for (link, origins) in std::mem::take(&mut self.prunes) {
            if self.overlay.get(link).is_some() {
                self.say_to(link, &Frame::Prune(origins));
            }
        }
        if self.flood.has_queued() {
            for (link, bytes) in self.flood.flush(self.now) {
                self.send_datagram(link, bytes);
            }
        }
    }

    fn send_datagram(&mut self, link: LinkId, bytes: Bytes) {
        self.counters.datagrams_sent += 1;
        self.counters.datagram_bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Datagram { link, bytes });
    }
}
