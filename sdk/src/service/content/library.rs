//! The library: what one member has of which contents, what its neighbors have, and what to ask whom for. A state machine without I/O;
//! what it wants fetched it tells, and whoever fetches tells it what came of that (see `exchange`).

mod entry;
mod reveal;
mod way;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use peerflock_proto::{Identity, Member, PeerId, Target, Time, Topic};

use super::groups::Groups;
use super::message::{GAINED_MAX, Message, NAMED_MAX, Offer, SignedOffer};
use super::tree::ContentId;
use super::{Progress, Quotas};
use crate::service::{Input, Members, Output, Service};
pub(super) use entry::{Entry, Part};

/// Offers remembered, of all sources and of one.
const OFFERS_MAX: usize = 1_024;
const OFFERS_EACH_MAX: usize = 64;
/// Bytes of all of them.
const OFFERS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Offers of others that one member may pass on.
const OFFERS_TOLD_MAX: usize = 256;
/// Contents that one member may say to have as a whole.
const WHOLE_MAX: usize = 256;
/// How often to look around while anything is to be fetched or passed on.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// So many members pass on the offers of who is gone to somebody who comes.
const TELLERS: usize = 3;
/// A carried content that nobody has wanted for so long is dropped.
const CARRY_FOR: Duration = Duration::from_secs(60);

/// What came of asking for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// It came, and it is right. A question and its answer take so long with whom it came from.
    Right(Duration),
    /// What came is not that.
    Wrong,
}

/// What the library wants done, and what happened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    /// Ask somebody for a part of a content.
    Ask { id: ContentId, peer: PeerId, part: Part },
    /// Make room in memory for a content that others want.
    Carry(ContentId),
    /// That is not needed any more.
    Dropped(ContentId),
    /// A member shares a content.
    Offered(Offer),
    /// A member sent something wrong.
    Corrupt { id: ContentId, peer: PeerId },
    /// A content is here as a whole.
    Complete { id: ContentId },
}

/// What one member knows of all contents.
#[derive(Debug)]
pub(super) struct Library {
    identity: Identity,
    me: PeerId,
    quotas: Quotas,
    /// What is offered, and who told of it.
    offers: BTreeMap<ContentId, (Offer, SignedOffer, PeerId)>,
    offer_bytes: usize,
    entries: BTreeMap<ContentId, Entry>,
    /// Who has said to have which content as a whole.
    whole: BTreeMap<PeerId, BTreeSet<ContentId>>,
    members: Vec<Member>,
    neighbors: BTreeSet<PeerId>,
    look_at: Option<Time>,
    outputs: VecDeque<Output<Told>>,
}

impl Library {
    pub(super) fn new(identity: Identity, quotas: Quotas) -> Self {
        Self {
            me: identity.peer_id(),
            identity,
            quotas,
            offers: BTreeMap::new(),
            offer_bytes: 0,
            entries: BTreeMap::new(),
            whole: BTreeMap::new(),
            members: Vec::new(),
            neighbors: BTreeSet::new(),
            look_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// Offers a content that is here as a whole. Whether that was possible.
    pub(super) fn offer(&mut self, offer: Offer, now: Time) -> bool {
        let Some(signed) = offer.sign(&self.identity) else { return false };
        let id = offer.id;
        if !self.entries.contains_key(&id) && !self.has_place() {
            return false;
        }
        let message = Message::Offer(signed.clone());
        if !self.note_offer(offer, signed, self.me) {
            return false;
        }
        self.entries.insert(id, Entry::source(id, &self.me));
        self.say(Target::All, &message);
        self.say_whole(Target::All, &[id]);
        // So that whoever looks for it, or has some of it, answers.
        self.seek(id);
        self.look_at = Some(now);
        true
    }

    /// Whether a content can be fetched now.
    pub(super) fn can_fetch(&self, id: &ContentId) -> bool {
        self.entries.get(id).map_or_else(|| self.has_place(), Entry::is_carried)
    }

    /// Begins to fetch a content of which these groups are here; `proved` says whether the leaves are.
    pub(super) fn fetch(&mut self, id: ContentId, have: Groups, proved: bool, now: Time) {
        self.insert(id, Entry::fetch(id, &self.me, have, proved, now), now);
    }

    fn insert(&mut self, id: ContentId, entry: Entry, now: Time) {
        self.entries.insert(id, entry);
        self.look_at = Some(now);
        self.seek(id);
        self.complete_if_whole(id);
    }

    /// Has nothing to do with a content any more.
    pub(super) fn drop_content(&mut self, id: ContentId) {
        if self.entries.remove(&id).is_some() {
            self.say(Target::All, &Message::Gone(id));
        }
    }

    /// The offers that are known.
    pub(super) fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.offers.values().map(|(offer, ..)| offer)
    }

    pub(super) fn known_offer(&self, id: &ContentId) -> Option<&Offer> {
        self.offers.get(id).map(|(offer, ..)| offer)
    }

    /// What was asked of somebody came.
    pub(super) fn fetched(&mut self, id: ContentId, peer: PeerId, part: Part, fetched: Fetched, now: Time) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match fetched {
            Fetched::Right(round_trip) => entry.gain(&peer, part, round_trip, now),
            Fetched::Wrong => {
                entry.blame(&peer);
                self.outputs.push_back(Output::Tell(Told::Corrupt { id, peer }));
            }
        }
        self.complete_if_whole(id);
        self.ask(id, now);
    }

    /// Nothing more will come of what was asked of somebody.
    pub(super) fn lost(&mut self, id: ContentId, peer: PeerId, now: Time) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.lose(&peer, now);
        }
    }

    /// How far a content has come.
    pub(super) fn progress(&self, id: &ContentId) -> Option<Progress> {
        self.entries.get(id).map(Entry::progress)
    }

    /// Whether somebody has not answered yet.
    pub(super) fn waits_for(&self, id: &ContentId, peer: &PeerId) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.waits_for(peer))
    }

    /// Whether to give a part of a content to somebody.
    pub(super) fn gives(&mut self, id: &ContentId, peer: &PeerId, part: Part) -> bool {
        self.entries.get_mut(id).is_some_and(|entry| entry.gives(peer, part))
    }

    fn has_place(&self) -> bool {
        self.entries.len() < self.quotas.contents
    }

    fn complete_if_whole(&mut self, id: ContentId) {
        if self.entries.get_mut(&id).is_some_and(Entry::becomes_whole) {
            self.say_whole(Target::All, &[id]);
            self.outputs.push_back(Output::Tell(Told::Complete { id }));
        }
    }

    /// Asks for what is to be had.
    fn ask(&mut self, id: ContentId, now: Time) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (peer, part) in entry.ask(now) {
            self.outputs.push_back(Output::Tell(Told::Ask { id, peer, part }));
        }
    }

    /// An offer that was found to be its source's. Whether there was room for it.
    fn note_offer(&mut self, offer: Offer, signed: SignedOffer, teller: PeerId) -> bool {
        if self.offers.contains_key(&offer.id) {
            return true;
        }
        let of_source = self.offers.values().filter(|(other, ..)| other.source == offer.source).count();
        let told = self.offers.values().filter(|(.., other)| *other == teller).count();
        let fits = self.offers.len() < OFFERS_MAX && of_source < OFFERS_EACH_MAX && told < OFFERS_TOLD_MAX;
        if !fits || self.offer_bytes + signed.len() > OFFERS_BYTES_MAX {
            return false;
        }
        self.offer_bytes += signed.len();
        self.offers.insert(offer.id, (offer, signed, teller));
        true
    }

    fn say(&mut self, to: Target, message: &Message) {
        if let Some(payload) = message.encode() {
            self.outputs.push_back(Output::Send { to, payload });
        }
    }

    fn say_whole(&mut self, to: Target, ids: &[ContentId]) {
        ids.chunks(NAMED_MAX).for_each(|ids| self.say(to, &Message::Whole(ids.to_vec())));
    }

    /// Tells all neighbors what is here of a content: whoever has some of it says so, too.
    fn seek(&mut self, id: ContentId) {
        if let Some(holds) = self.entries.get(&id).and_then(Entry::holds_for_all) {
            self.say(Target::Hops(1), &holds);
        } else {
            let neighbors: Vec<PeerId> = self.neighbors.iter().copied().collect();
            neighbors.into_iter().for_each(|peer| self.show(id, peer));
        }
    }

    /// Tells one neighbor what is here of a content.
    fn show(&mut self, id: ContentId, peer: PeerId) {
        if let Some(holds) = self.entries.get(&id).map(|entry| entry.holds_for(&peer)) {
            self.say(Target::One(peer), &holds);
        }
    }

    fn on_members(&mut self, members: &Members, now: Time) {
        for peer in &members.left {
            for entry in self.entries.values_mut() {
                entry.gone(peer);
            }
            self.whole.remove(peer);
        }
        self.members.clone_from(&members.all);
        let neighbors: BTreeSet<PeerId> = members.all.iter().filter(|member| member.linked).map(|member| member.peer).collect();
        let gone: Vec<PeerId> = self.neighbors.difference(&neighbors).copied().collect();
        let new: Vec<PeerId> = neighbors.difference(&self.neighbors).copied().collect();
        self.neighbors = neighbors;
        for entry in self.entries.values_mut() {
            gone.iter().for_each(|peer| entry.gone(peer));
        }
        let ids: Vec<ContentId> = self.entries.keys().copied().collect();
        for (peer, id) in new.iter().flat_map(|peer| ids.iter().map(move |id| (*peer, *id))) {
            self.show(id, peer);
        }
        match members.joined[..] {
            [] => {}
            [peer] => self.say(Target::One(peer), &Message::Hello),
            [..] => self.say(Target::All, &Message::Hello),
        }
        if !self.entries.is_empty() {
            self.look_at.get_or_insert(now + LOOK_EVERY);
        }
    }

    /// Tells somebody who has come what there is.
    fn greet(&mut self, joined: PeerId) {
        let to = Target::One(joined);
        let present: BTreeSet<PeerId> = self.members.iter().map(|member| member.peer).collect();
        let tells = |offer: &Offer| {
            offer.source == self.me
                || (!present.contains(&offer.source) && {
                    let lot = |peer: &PeerId| *blake3::Hasher::new().update(&offer.id.root).update(&peer.0).finalize().as_bytes();
                    let ours = lot(&self.me);
                    present.iter().filter(|peer| **peer != joined && lot(peer) < ours).count() < TELLERS
                })
        };
        let offers: Vec<SignedOffer> =
            self.offers.values().filter(|(offer, ..)| tells(offer)).map(|(_, signed, _)| signed.clone()).collect();
        offers.into_iter().for_each(|signed| self.say(to, &Message::Offer(signed)));
        let whole: Vec<ContentId> = self.entries.iter().filter(|(_, entry)| entry.is_whole()).map(|(id, _)| *id).collect();
        self.say_whole(to, &whole);
        if self.neighbors.contains(&joined) {
            let ids: Vec<ContentId> = self.entries.keys().copied().collect();
            ids.into_iter().for_each(|id| self.show(id, joined));
        }
    }

    fn on_message(&mut self, from: PeerId, message: Message, now: Time) {
        match message {
            Message::Offer(signed) => {
                let Some(offer) = signed.verify() else { return };
                if !self.offers.contains_key(&offer.id) && self.note_offer(offer.clone(), signed, from) {
                    self.outputs.push_back(Output::Tell(Told::Offered(offer)));
                }
            }
            Message::Holds { id, have, wants } => {
                let Some(entry) = self.entries.get_mut(&id) else { return };
                let Some(have) = Groups::from_bytes(id.groups(), &have) else { return };
                // Whoever says it for the first time does not know of us.
                if entry.on_holds(from, have, wants, now) {
                    self.show(id, from);
                }
                self.ask(id, now);
                self.reveal(id, now);
            }
            Message::Gained { id, groups } => {
                let Some(entry) = self.entries.get_mut(&id) else { return };
                entry.on_gained(&from, &groups, now);
                self.ask(id, now);
                self.reveal(id, now);
            }
            Message::Whole(ids) => {
                let whole = self.whole.entry(from).or_default();
                whole.extend(ids);
                while whole.len() > WHOLE_MAX {
                    whole.pop_first();
                }
            }
            Message::Hello => self.greet(from),
            Message::Carry { id, hops } => self.on_carry(from, id, hops, now),
            Message::Gone(id) => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.gone(&from);
                }
                self.whole.get_mut(&from).into_iter().for_each(|whole| _ = whole.remove(&id));
            }
        }
    }

    /// Lets somebody who is asked for a content show more of it.
    fn reveal(&mut self, id: ContentId, now: Time) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        for (peer, groups) in entry.reveal(now) {
            self.say(Target::One(peer), &Message::Gained { id, groups });
        }
    }

    fn look(&mut self, now: Time) {
        let ids: Vec<ContentId> = self.entries.keys().copied().collect();
        for id in ids {
            self.ask(id, now);
            self.reveal(id, now);
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            let gained = entry.take_gained();
            let unwanted = entry.is_carried() && entry.unwanted_for(now) > CARRY_FOR;
            gained
                .chunks(GAINED_MAX)
                .for_each(|groups| self.say(Target::Hops(1), &Message::Gained { id, groups: groups.to_vec() }));
            self.find_way(id, now);
            if unwanted {
                self.drop_content(id);
                self.outputs.push_back(Output::Tell(Told::Dropped(id)));
            }
        }
        self.look_at = (!self.entries.is_empty()).then(|| now + LOOK_EVERY);
    }
}

impl Service for Library {
    type Event = Told;

    const TOPIC: Topic = Topic(130);

    fn handle(&mut self, input: Input<'_>, now: Time) {
        match input {
            Input::Members(members) => self.on_members(members, now),
            Input::Message { from, payload } => {
                if from != self.me
                    && let Some(message) = Message::decode(payload)
                {
                    self.on_message(from, message, now);
                }
            }
            // Who missed something is shown all again: what it misses is asked for by nobody else.
            Input::Unsent { to: Target::One(peer), .. } => self.entries.values_mut().for_each(|entry| entry.gone(&peer)),
            Input::Unsent { .. } => {}
            Input::Timeout => self.look(now),
        }
    }

    fn poll_output(&mut self) -> Option<Output<Told>> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.look_at
    }
}
