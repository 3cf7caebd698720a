//! How does a frame reach everyone once: trees of first arrivals, and what mends them.
//!
//! A new origin's frames go over every link. Where a frame comes a second time, the receiver asks one of the two neighbors to leave
//! this origin out (*prune*); what is left is a tree per origin (Plumtree; Leitão, Pereira, Rodrigues, 2007). Neighbors tell each
//! other how old what origins say is when it gets to them: so of two ways the shorter stays, and where a link that was pruned would be
//! shorter by now, it is asked again (*graft*). The same where the tree broke: its link fell quiet, or messages have to be pulled.
//!
//! Up to `max_neighbors + 1` members everybody is linked to everybody and knows it: nobody passes on what others have from the
//! origin itself.
//!
//! | file | it answers |
//! | --- | --- |
//! | `ledger` | which relayed packets are proved |
//! | `origin` | where do one origin's frames come from, and where do they go |
//! | `port` | what crossed one link: numbered parcels, what was lost, what the neighbor has |
//! | `repair` | which messages are missing, and whom to ask for them when |
//! | `window` | which numbers were seen |

mod ledger;
mod origin;
mod port;
mod repair;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;

pub(crate) use ledger::{Altered, Came, Findings, Trust};
pub(crate) use origin::{Origin, Slot};
pub(crate) use port::{Kept, Port, PortId, PortSet};
pub(crate) use repair::Repairs;
pub(crate) use window::Window;

use crate::config::NeighborLimits;
use crate::id::{Boot, LinkId, PeerId};
use crate::time::Time;
use crate::wire::{Alias, Encoded, Item, Whose};

/// How old what an origin says is when it gets here, in steps of [`AGE_STEP`]; [`NO_AGE`] where nothing comes.
pub(crate) type Age = u8;
const AGE_STEP: Duration = Duration::from_millis(2);
const NO_AGE: Age = Age::MAX;
/// Of two ways whose ages differ by less, the one stays that is used already.
const MARGIN: Duration = Duration::from_millis(4);
/// No origin is asked for again sooner, so that what was asked for has time to come.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Origins looked at in one beat for whether they fell silent.
const LOOKED_AT: usize = 300;
/// Most origins asked for at one look around for shorter ways.
const IMPROVEMENTS_MAX: usize = 16;
/// A link that loses more than this, in 1/65,536, wants a second parent beside it; one that loses less than the other can do without.
const LOSSY: u32 = 65_536 * 15 / 100;
const HEALED: u32 = 65_536 * 8 / 100;
/// A number that stood for an origin that is gone is given to another one no sooner.
const SLOT_REST: Duration = Duration::from_secs(120);
/// Most numbers that rest. Whoever makes members come and go faster makes them rest less, not us count on for ever.
const RESTING_MAX: usize = 4_096;

/// The origins, the links to neighbors, and what is between them.
#[derive(Debug)]
pub(crate) struct Flood {
    /// By [`Slot`]. The first one is ourselves.
    origins: Vec<Option<Origin>>,
    /// By [`Slot`]: how often it changed hands. Whoever remembers a slot sees by it whether that is still whose it was.
    turns: Vec<u32>,
    slots: BTreeMap<PeerId, Slot>,
    resting: VecDeque<(Time, Slot)>,
    /// By [`PortId`].
    ports: Vec<Option<Port>>,
    links: BTreeMap<LinkId, PortId>,
}

/// A neighbor to be asked for an origin's frames, or asked to leave them out.
pub(crate) type Request = (LinkId, PeerId);

impl Flood {
    pub(crate) fn new(me: PeerId, boot: Boot, now: Time) -> Self {
        let mut flood = Self {
            origins: Vec::new(),
            turns: Vec::new(),
            slots: BTreeMap::new(),
            resting: VecDeque::new(),
            ports: Vec::new(),
            links: BTreeMap::new(),
        };
        flood.enroll(me, boot, now);
        flood
    }

    // --- origins -------------------------------------------------------------------------------------------------------

    /// Begins to carry an origin's frames, and says by which number. A known boot keeps its own.
    pub(crate) fn enroll(&mut self, peer: PeerId, boot: Boot, now: Time) -> Slot {
        if let Some(slot) = self.slot_of(&peer, boot) {
            return slot;
        }
        self.forget(&peer, now);
        let crowded = self.resting.len() >= RESTING_MAX;
        let rested = self.resting.pop_front_if(|(since, _)| crowded || now.since(*since) >= SLOT_REST).map(|(_, slot)| slot);
        let slot = rested.unwrap_or(Slot(self.origins.len() as u32));
        let mut origin = Origin::new(peer, boot, now);
        origin.eager = self.ports().map(|(id, _)| id).collect();
        match self.origins.get_mut(slot.index()) {
            Some(free) => *free = Some(origin),
            None => {
                self.origins.push(Some(origin));
                self.turns.push(0);
            }
        }
        self.slots.insert(peer, slot);
        self.ports.iter_mut().flatten().for_each(|port| port.reset(slot));
        slot
    }

    pub(crate) fn forget(&mut self, peer: &PeerId, now: Time) {
        if let Some(slot) = self.slots.remove(peer) {
            self.origins[slot.index()] = None;
            self.turns[slot.index()] = self.turns[slot.index()].wrapping_add(1);
            self.ports.iter_mut().flatten().for_each(|port| port.forget(slot));
            self.resting.push_back((now, slot));
        }
    }

    pub(crate) fn slot(&self, peer: &PeerId) -> Option<Slot> {
        self.slots.get(peer).copied()
    }

    pub(crate) fn slot_of(&self, peer: &PeerId, boot: Boot) -> Option<Slot> {
        self.slot(peer).filter(|slot| self.origin(*slot).is_some_and(|origin| origin.boot == boot))
    }

    pub(crate) fn origin(&self, slot: Slot) -> Option<&Origin> {
        self.origins.get(slot.index())?.as_ref()
    }

    pub(crate) fn origin_mut(&mut self, slot: Slot) -> Option<&mut Origin> {
        self.origins.get_mut(slot.index())?.as_mut()
    }

    pub(crate) fn origins(&self) -> impl Iterator<Item = (Slot, &Origin)> {
        (0..).map(Slot).zip(&self.origins).filter_map(|(slot, origin)| Some((slot, origin.as_ref()?)))
    }

    pub(crate) fn origins_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Origin)> {
        (0..).map(Slot).zip(&mut self.origins).filter_map(|(slot, origin)| Some((slot, origin.as_mut()?)))
    }

    /// How many numbers were ever given out.
    pub(crate) fn slots_used(&self) -> usize {
        self.origins.len()
    }

    // --- links ---------------------------------------------------------------------------------------------------------

    /// A link to a neighbor stands. `lazy`: it carries only what is asked for, as both ends have other ways already.
    pub(crate) fn open(&mut self, link: LinkId, peer: PeerId, boot: Boot, lazy: bool, now: Time) {
        let free = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        if free >= NeighborLimits::MAX {
            return;
        }
        let id = PortId(free as u8);
        let port = Port::new(link, peer, boot, now);
        match self.ports.get_mut(free) {
            Some(place) => *place = Some(port),
            None => self.ports.push(Some(port)),
        }
        self.links.insert(link, id);
        for origin in self.origins.iter_mut().flatten() {
            origin.port_opened(id, lazy);
        }
    }

    /// A link is gone: whom to ask for what came over it.
    pub(crate) fn close(&mut self, link: LinkId, now: Time) -> Vec<Request> {
        let Some(id) = self.links.remove(&link) else { return Vec::new() };
        let requests = self.go_around(id, now);
        self.ports[id.index()] = None;
        for origin in self.origins.iter_mut().flatten() {
            origin.port_closed(id);
        }
        requests
    }

    pub(crate) fn port_of(&self, link: LinkId) -> Option<PortId> {
        self.links.get(&link).copied()
    }

    pub(crate) fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.index())?.as_ref()
    }

    pub(crate) fn port_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(id.index())?.as_mut()
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = (PortId, &Port)> {
        (0..).map(PortId).zip(&self.ports).filter_map(|(id, port)| Some((id, port.as_ref()?)))
    }

    pub(crate) fn ports_mut(&mut self) -> impl Iterator<Item = (PortId, &mut Port)> {
        (0..).map(PortId).zip(&mut self.ports).filter_map(|(id, port)| Some((id, port.as_mut()?)))
    }

    /// A neighbor gave an origin a number.
    pub(crate) fn name(&mut self, port: PortId, alias: Alias) {
        let carried = self.carried(&alias.origin, alias.boot);
        if let Some(port) = self.port_mut(port) {
            port.name(alias, carried);
        }
    }

    /// Whose frames an item of that port's are, where its origin is carried here.
    pub(crate) fn resolve(&mut self, port: PortId, whose: Whose) -> Option<Slot> {
        let held = self.port(port)?;
        match whose {
            Whose::Neighbor => self.slot_of(&held.peer, held.boot),
            Whose::Alias(number) => {
                let named = *held.alias(number)?;
                if let Some((slot, turn)) = named.carried
                    && self.turns.get(slot.index()) == Some(&turn)
                {
                    return Some(slot);
                }
                // It was named before we carried it, or before it had this number here.
                let carried = self.carried(&named.peer, named.boot);
                if let Some(named) = self.port_mut(port).and_then(|port| port.alias_mut(number)) {
                    named.carried = carried;
                }
                carried.map(|(slot, _)| slot)
            }
            Whose::Named(peer, boot) => self.slot_of(&peer, boot),
        }
    }

    fn carried(&self, peer: &PeerId, boot: Boot) -> Option<(Slot, u32)> {
        let slot = self.slot_of(peer, boot)?;
        Some((slot, *self.turns.get(slot.index())?))
    }

    /// Queues an item about an origin on several links.
    pub(crate) fn enqueue(&mut self, ports: PortSet, slot: Slot, kept: &Kept, item: impl Fn(Whose) -> Item) {
        let Some((peer, boot)) = self.origin(slot).map(|origin| (origin.peer, origin.boot)) else { return };
        let short = if slot == Slot::ME { Whose::Neighbor } else { Whose::Alias(slot.0) };
        let (mut alias, mut named) = (None::<Encoded>, None::<Encoded>);
        for id in ports {
            let Some(port) = self.port_mut(id) else { continue };
            let bytes = if slot == Slot::ME || port.knows(slot) {
                alias.get_or_insert_with(|| item(short).encode())
            } else {
                named.get_or_insert_with(|| item(Whose::Named(peer, boot)).encode())
            };
            port.enqueue(bytes.clone(), kept.clone());
        }
    }

    /// Packs what waits for each link.
    pub(crate) fn flush(&mut self, now: Time) -> Vec<(LinkId, Bytes)> {
        let mut parcels = Vec::new();
        for port in self.ports.iter_mut().flatten() {
            port.pack(now, &mut parcels);
        }
        parcels
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.ports.iter().flatten().any(Port::has_queued)
    }

    // --- trees ---------------------------------------------------------------------------------------------------------

    /// The links over which an origin's frames go on, `from` one of them or from ourselves. `linked` are neighbors that are linked to
    /// the origin in a mesh where everybody is.
    pub(crate) fn targets(&self, slot: Slot, from: Option<PortId>, linked: PortSet) -> PortSet {
        let Some(origin) = self.origin(slot) else { return PortSet::default() };
        let mut targets = origin.eager.without(linked).with(origin.wanted);
        for (id, port) in self.ports() {
            if Some(id) == from || port.peer == origin.peer {
                targets.remove(id);
            }
        }
        targets
    }

    /// The link towards an origin: the one that its frames come by.
    pub(crate) fn parent(&self, peer: &PeerId) -> Option<LinkId> {
        let parent = self.origin(self.slot(peer)?)?.parent?;
        self.port(parent).map(|port| port.link)
    }

    /// A frame came for the first time.
    pub(crate) fn first(&mut self, slot: Slot, from: PortId, repair: bool, now: Time) {
        let parent = self.origin(slot).and_then(|origin| origin.parent);
        let lost_parent = parent.and_then(|parent| self.port(parent)).is_none_or(|parent| parent.quiet);
        if let Some(origin) = self.origin_mut(slot) {
            origin.first(from, repair, lost_parent, now);
        }
    }

    /// A frame came again by `from`: which neighbor to ask to leave the origin out.
    pub(crate) fn duplicate(&mut self, slot: Slot, from: PortId, repair: bool) -> Option<Request> {
        let origin = self.origin(slot)?;
        let other = origin.came_by(from).filter(|_| !repair)?;
        // With a second parent wanted, neither of the two is too much.
        if origin.spare.is_some() && (origin.spare == Some(from) || origin.parent == Some(from)) {
            return None;
        }
        let loser = match (self.age_by(slot, from), self.age_by(slot, other)) {
            (Some(this), Some(that)) if this + MARGIN < that => other,
            _ => from,
        };
        let winner = if loser == from { other } else { from };
        let link = self.port(loser)?.link;
        let origin = self.origin_mut(slot)?;
        origin.parent = Some(winner);
        origin.declined.insert(loser).then_some((link, origin.peer))
    }

    /// A neighbor asks us to leave an origin out, or to pass it on again.
    pub(crate) fn pruned(&mut self, link: LinkId, origin: &PeerId) {
        if let (Some(port), Some(slot)) = (self.port_of(link), self.slot(origin))
            && let Some(origin) = self.origin_mut(slot)
        {
            origin.eager.remove(port);
            origin.wanted.remove(port);
        }
    }

    pub(crate) fn grafted(&mut self, link: LinkId, origin: &PeerId) {
        if let (Some(port), Some(slot)) = (self.port_of(link), self.slot(origin))
            && let Some(origin) = self.origin_mut(slot)
        {
            origin.eager.insert(port);
            origin.wanted.insert(port);
        }
    }

    /// The origins whose frames have their way over that link.
    pub(crate) fn fed_by(&self, port: PortId) -> Vec<Slot> {
        self.origins().filter(|(_, origin)| origin.parent == Some(port)).map(|(slot, _)| slot).collect()
    }

    /// A neighbor passed on what an origin did not say, or no proof: whose frames it is asked to leave out, and who is asked instead.
    /// None if there is nobody else.
    pub(crate) fn shun(&mut self, slot: Slot, link: LinkId, now: Time) -> Option<(PeerId, Option<Request>)> {
        let port = self.port_of(link)?;
        let all: PortSet = self.ports().map(|(id, _)| id).collect();
        let origin = self.origin_mut(slot)?;
        origin.shun(port, now);
        if all.without(origin.shunned).is_empty() {
            origin.shunned = PortSet::default();
            return None;
        }
        origin.declined.insert(port);
        let peer = origin.peer;
        Some((peer, self.ask_another(slot, Some(port), now)))
    }

    /// How long what the origin says takes to get here, where that is known.
    pub(crate) fn age(&self, slot: Slot) -> Option<Duration> {
        if slot == Slot::ME {
            return Some(Duration::ZERO);
        }
        self.age_by(slot, self.origin(slot)?.parent?)
    }

    /// The same over one link.
    fn age_by(&self, slot: Slot, port: PortId) -> Option<Duration> {
        let (origin, port) = (self.origin(slot)?, self.port(port)?);
        if port.peer == origin.peer {
            return Some(port.rtt / 2);
        }
        let theirs = port.age(slot);
        (theirs != NO_AGE).then(|| AGE_STEP * u32::from(theirs) + port.rtt / 2)
    }

    /// What `port`'s neighbor should know of our ages, where that is news. An origin that comes from there is nothing to offer.
    pub(crate) fn ages_for(&self, port: PortId) -> Option<Vec<Age>> {
        let told = self.port(port)?;
        let ages: Vec<Age> = (0..self.origins.len() as u32)
            .map(Slot)
            .map(|slot| match self.origin(slot) {
                Some(origin) if origin.parent != Some(port) => self.age(slot).map_or(NO_AGE, steps),
                _ => NO_AGE,
            })
            .collect();
        let news = |(slot, age): (u32, &Age)| {
            let told = told.told_age(Slot(slot));
            (told == NO_AGE) != (*age == NO_AGE) || told.abs_diff(*age) > 2 + told / 8
        };
        (0..).zip(&ages).any(news).then_some(ages)
    }

    /// Whom to ask for the origins that came by `port`, which is quiet or about to go.
    pub(crate) fn go_around(&mut self, port: PortId, now: Time) -> Vec<Request> {
        let orphaned: Vec<Slot> =
            self.origins().filter(|(_, origin)| origin.parent == Some(port)).map(|(slot, _)| slot).collect();
        orphaned.into_iter().filter_map(|slot| self.ask_another(slot, Some(port), now)).collect()
    }

    /// What a new link is to be asked for: the origins that nothing brings.
    pub(crate) fn without_way(&mut self, link: LinkId, now: Time) -> Vec<Request> {
        let Some(new) = self.port_of(link) else { return Vec::new() };
        let is_lost = |origin: &Origin| origin.parent.and_then(|parent| self.port(parent)).is_none_or(|parent| parent.quiet);
        let lost: Vec<Slot> =
            self.origins().filter(|(slot, origin)| *slot != Slot::ME && is_lost(origin)).map(|(slot, _)| slot).collect();
        lost.into_iter().filter_map(|slot| self.ask(slot, new, now)).collect()
    }

    /// Whom to ask for an origin instead of `not`.
    pub(crate) fn ask_another(&mut self, slot: Slot, not: Option<PortId>, now: Time) -> Option<Request> {
        let (best, _) = self.best_way(slot, not)?;
        self.ask(slot, best, now)
    }

    /// The neighbor nearest to an origin of those that can be relied upon.
    pub(crate) fn nearest(&self, slot: Slot) -> Option<LinkId> {
        let (best, _) = self.best_way(slot, None)?;
        self.port(best).map(|port| port.link)
    }

    /// Asks a neighbor for an origin's frames; None if that is no news to it.
    pub(crate) fn ask(&mut self, slot: Slot, port: PortId, now: Time) -> Option<Request> {
        let link = self.port(port)?.link;
        let origin = self.origin_mut(slot)?;
        origin.asked = now;
        // Who was never asked to leave it out may have been lazy from the start.
        origin.declined.remove(port);
        Some((link, origin.peer))
    }

    /// The shortest way to an origin's frames but for `not`, among neighbors that are not quiet; those of unknown age last.
    fn best_way(&self, slot: Slot, not: Option<PortId>) -> Option<(PortId, Option<Duration>)> {
        let shunned = self.origin(slot).map(|origin| origin.shunned).unwrap_or_default();
        self.ports()
            .filter(|(id, port)| Some(*id) != not && !port.quiet && !shunned.contains(*id))
            .map(|(id, _)| (id, self.age_by(slot, id)))
            .min_by_key(|(id, age)| (age.is_none(), *age, *id))
    }

    /// Looks for shorter ways, and for second ones where a link loses much. `complete`: everybody is linked to everybody.
    pub(crate) fn improve(&mut self, complete: bool, present: &BTreeSet<PeerId>, now: Time) -> Vec<Request> {
        let mut requests = Vec::new();
        for slot in (1..self.origins.len() as u32).map(Slot) {
            let Some(origin) = self.origin(slot) else { continue };
            if requests.len() >= IMPROVEMENTS_MAX || now.since(origin.asked) < ASK_AGAIN || !present.contains(&origin.peer) {
                continue;
            }
            if complete {
                // Each from itself: what was pruned while the mesh was not complete is wanted again.
                let direct = self.ports().find(|(_, port)| port.peer == origin.peer).map(|(id, _)| id);
                if let Some(direct) = direct.filter(|direct| origin.declined.contains(*direct)) {
                    requests.extend(self.ask(slot, direct, now));
                }
                continue;
            }
            let Some(parent) = origin.parent else {
                requests.extend(self.best_way(slot, None).and_then(|(best, _)| self.ask(slot, best, now)));
                continue;
            };
            let loss = self.port(parent).map_or(0, |port| port.loss);
            let Some((best, age)) = self.best_way(slot, Some(parent)) else { continue };
            let shorter = age.is_some_and(|age| self.age(slot).is_none_or(|current| age + MARGIN.max(current / 8) < current));
            let lossy = loss > LOSSY && origin.spare.is_none();
            if let Some(origin) = self.origin_mut(slot) {
                if lossy {
                    origin.spare = Some(best);
                } else if loss < HEALED {
                    origin.spare = None;
                }
            }
            if shorter || lossy {
                requests.extend(self.ask(slot, best, now));
            }
        }
        requests
    }

    /// Origins that fell silent for longer than is their way: their tree may be broken where we cannot see it. What neighbors said of
    /// their ways may be out of date, and two may wait for each other: so the best way is asked first, then all, then each in turn,
    /// ever more seldom.
    /// Of very many, each look is at a part of them, the one that is `turn`'s.
    pub(crate) fn silent(&mut self, may_be_here: impl Fn(&PeerId) -> bool, turn: usize, now: Time) -> Vec<Request> {
        let parts = self.origins.len().div_ceil(LOOKED_AT);
        let part = (turn % parts..self.origins.len()).step_by(parts).map(|slot| Slot(slot as u32));
        let silent: Vec<(Slot, Option<PortId>, u8)> = part
            .filter_map(|slot| Some((slot, self.origin(slot)?)))
            .filter(|(slot, origin)| *slot != Slot::ME && origin.is_silent(now) && may_be_here(&origin.peer))
            .map(|(slot, origin)| (slot, origin.parent, origin.unanswered))
            .collect();
        let mut requests = Vec::new();
        for (slot, parent, unanswered) in silent {
            let ports: Vec<PortId> = self.ports().filter(|(_, port)| !port.quiet).map(|(id, _)| id).collect();
            let asked = match unanswered {
                0 => self.best_way(slot, parent).map(|(best, _)| best).into_iter().collect(),
                1 => ports,
                more => ports.iter().cycle().skip(usize::from(more)).take(ports.len().min(1)).copied().collect(),
            };
            requests.extend(asked.into_iter().filter_map(|port| self.ask(slot, port, now)));
            if let Some(origin) = self.origin_mut(slot) {
                origin.unanswered = unanswered.saturating_add(1);
            }
        }
        requests
    }
}

fn steps(age: Duration) -> Age {
    Age::try_from(age.as_millis() / AGE_STEP.as_millis()).unwrap_or(NO_AGE).min(NO_AGE - 1)
}
