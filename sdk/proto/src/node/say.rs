//! What we say: messages, presence, goodbye.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::{CloseReason, Event, Node, Output, Target, Topic};
use crate::flood::{Kept, PortId, PortSet, Slot};
use crate::id::{Boot, LinkId, MeshId, PeerId};
use crate::message::{Place, SendError};
use crate::time::Time;
use crate::wire::{Body, Content, Frame, Item, Lane, Message, Note, Presence, SAID_BYTES_MAX, Said, Signed, Speech, codec};

/// What we say to all is sealed that often while we talk; whatever comes after a pause is sealed at once.
const SEAL_EVERY: Duration = Duration::from_millis(240);
/// What was said last is sealed after so long if nothing more is said.
const SEAL_WAIT: Duration = Duration::from_millis(240);

/// A letter opens only as the message that it was written for.
pub(super) fn letter_context(mesh: &MeshId, boot: Boot, seq: u64) -> [u8; 44] {
    let mut context = [0; 44];
    context[..32].copy_from_slice(&mesh.0);
    context[32..36].copy_from_slice(&boot.0.to_le_bytes());
    context[36..].copy_from_slice(&seq.to_le_bytes());
    context
}

impl Node {
    /// Sends a message. Everyone who stays in the mesh gets one to all, once, in our order; so does the one whom it is for.
    pub fn send(&mut self, to: Target, topic: Topic, payload: Bytes, now: Time) -> Result<(), SendError> {
        self.check(&payload)?;
        let alone = self.roster.present().len() < 2;
        let echo = Event::Message { from: self.me, topic, private: false, payload: payload.clone() };
        self.now = now;
        let to_all = |payload| Speech::App { topic: topic.0, payload };
        let body = |payload| Body::App { topic: topic.0, payload };
        match to {
            Target::All if alone => return Err(SendError::NobodyThere),
            Target::All | Target::AllAndMe if !self.may_say(payload.len(), now) => return Err(SendError::TooFast),
            Target::All => self.say_to_all(&to_all(payload), false),
            Target::AllAndMe => {
                self.say_to_all(&to_all(payload), false);
                self.event(echo);
            }
            Target::Hops(hops) => {
                self.near_seq += 1;
                if let Ok(body) = codec::encode(&body(payload))
                    && let Some(message) = self.author_message(Lane::Near, self.near_seq, hops.min(self.config.hop_limit), body)
                    && hops > 0
                {
                    self.forward_message(Slot::ME, None, message);
                }
                self.event(echo);
            }
            Target::One(peer) if peer == self.me => self.event(echo),
            Target::One(peer) if !self.roster.present().contains(&peer) => return Err(SendError::UnknownPeer(peer)),
            Target::One(peer) => {
                let place = self.private.place(&peer).ok_or(SendError::Backlog(peer))?;
                self.say_to_one(peer, place, &body(payload));
            }
        }
        Ok(())
    }

    /// Sends a message to some members: each of them gets it as if it were for that one alone. To ourselves it comes back at once.
    ///
    /// # Errors
    /// Nothing was sent to anybody then: [`SendError::UnknownPeers`] names all who are no members, [`SendError::Backlog`] the first
    /// one that has to catch up.
    pub fn send_to_some(&mut self, to: &[PeerId], topic: Topic, payload: Bytes, now: Time) -> Result<(), SendError> {
        self.check(&payload)?;
        let to: BTreeSet<PeerId> = to.iter().copied().collect();
        let unknown: Vec<PeerId> = to.difference(self.roster.present()).copied().collect();
        if !unknown.is_empty() {
            return Err(SendError::UnknownPeers(unknown));
        }
        self.now = now;
        let mut places = Vec::new();
        for peer in to.iter().filter(|peer| **peer != self.me) {
            places.push((*peer, self.private.place(peer).ok_or(SendError::Backlog(*peer))?));
        }
        let body = Body::App { topic: topic.0, payload: payload.clone() };
        for (peer, place) in places {
            self.say_to_one(peer, place, &body);
        }
        if to.contains(&self.me) {
            self.event(Event::Message { from: self.me, topic, private: false, payload });
        }
        Ok(())
    }

    /// Whether so much may be said to all: neighbors would drop what is more.
    fn may_say(&mut self, bytes: usize, now: Time) -> bool {
        let rate = self.config.limits.origin_bytes_per_second / 2;
        self.said.take(bytes, rate, now)
    }

    /// What can be wrong with a message whoever it is for.
    fn check(&self, payload: &Bytes) -> Result<(), SendError> {
        let (len, max) = (payload.len(), self.config.limits.message_bytes);
        match self.left {
            true => Err(SendError::Closed),
            false if len > max => Err(SendError::TooLong { len, max }),
            false => Ok(()),
        }
    }

    pub(super) fn say_to_one(&mut self, peer: PeerId, place: Place, body: &Body) {
        let lane = Lane::One { to: peer, after: place.after };
        let context = letter_context(&self.mesh, self.boot, place.seq);
        let letter =
            codec::encode(body).ok().and_then(|body| self.letters.seal(&self.identity, &peer, &context, &body, &mut self.rng));
        if let Some(letter) = letter
            && let Some(message) = self.author_message(lane, place.seq, self.config.hop_limit, letter)
            && let Some(message) = self.private.sent(peer, place.seq, message, self.now)
        {
            self.route(peer, &Frame::Message(message));
        }
    }

    /// Says something that concerns the mesh to all members.
    pub(super) fn tell_everyone(&mut self, body: Body) {
        // Whoever acts on it wants to see it proved, whatever they heard before: so it has a seal of its own.
        self.seal_now();
        self.say_to_all(&Speech::Mesh(body), true);
    }

    fn say_to_all(&mut self, speech: &Speech, sealed: bool) {
        let Some(content) = speech.encode() else {
            self.counters.frames_too_long += 1;
            return;
        };
        self.message_seq += 1;
        let sealed = sealed || self.now.since(self.sealed) >= SEAL_EVERY;
        if sealed {
            self.sealed = self.now;
        }
        let content = Content::Whole(content);
        let said = Said { seq: self.message_seq, hops: 0, hop_limit: self.config.hop_limit, content, seal: None };
        // Kept like everyone else's, for those who miss it.
        let said = self.broadcast.author(said, &self.identity, sealed);
        if self.config.hop_limit > 0 {
            self.pace.last_said = self.now;
            self.send_said(self.targets(Slot::ME, None), Slot::ME, said, false);
        }
    }

    /// Seals what was said last if nothing is said any more.
    pub(super) fn seal(&mut self) {
        if self.now.since(self.sealed) >= SEAL_WAIT {
            self.seal_now();
        }
    }

    fn seal_now(&mut self) {
        if self.broadcast.unsealed() > 0 {
            self.say_to_all(&Speech::Mesh(Body::Seal), true);
        }
    }

    /// Sends a message to all over some links: in a datagram if it fits one.
    pub(super) fn send_said(&mut self, ports: PortSet, slot: Slot, said: Said, repair: bool) {
        if ports.is_empty() {
            return;
        }
        let (seq, said) = (said.seq, Said { hops: said.hops.saturating_add(1), ..said });
        if said.len() <= SAID_BYTES_MAX {
            let kept = Kept::Said(slot, seq);
            return self.flood.enqueue(ports, slot, &kept, |whose| Item::Said { whose, said: said.clone(), repair });
        }
        self.send_said_reliably(ports, slot, said, repair);
    }

    fn send_said_reliably(&mut self, ports: PortSet, slot: Slot, said: Said, repair: bool) {
        let Some((author, boot)) = self.flood.origin(slot).map(|origin| (origin.peer, origin.boot)) else { return };
        let seq = said.seq;
        let Some(bytes) = (Frame::Said { author, boot, repair, said }).encode() else {
            self.counters.frames_too_long += 1;
            return;
        };
        for port in ports {
            // Who asks for what is on its way only waits for a slow stream.
            let fresh = self.flood.port_mut(port).and_then(|port| port.stream(slot, seq).then_some(port.link));
            if let Some(link) = fresh {
                self.send_frame(link, bytes.clone());
            }
        }
    }

    /// A message to those near, or to one.
    fn author_message(&self, lane: Lane, seq: u64, hop_limit: u8, body: Bytes) -> Option<Message> {
        let note = Note { boot: self.boot, lane, seq, hop_limit, body_hash: *blake3::hash(&body).as_bytes() };
        let header = Signed::new(&self.identity, &self.mesh, "message", &note)?;
        Some(Message { header, hops: 1, body: Some(body) })
    }

    /// Passes a message to those near on along its author's tree.
    pub(super) fn forward_message(&mut self, slot: Slot, from: Option<PortId>, message: Message) {
        let targets = self.targets(slot, from);
        if let Some(bytes) = Frame::Message(message).encode() {
            for port in targets {
                if let Some(link) = self.flood.port(port).map(|port| port.link) {
                    self.send_frame(link, bytes.clone());
                }
            }
        }
    }

    /// Sends a frame towards one member: over the link to it, else the way its own frames come.
    pub(super) fn route(&mut self, peer: PeerId, frame: &Frame) {
        let way = self.overlay.neighbor(&peer).or_else(|| self.flood.parent(&peer));
        // Without a way yet, the message waits to be repeated.
        if let Some(link) = way {
            self.say_to(link, frame);
        }
    }

    /// What we say of ourselves, as of now.
    pub(super) fn presence(&self, now: Time) -> Option<Signed> {
        let neighbors: Vec<PeerId> = self.overlay.neighbors().map(|(_, peer)| peer).collect();
        let (free, within) = (self.free_places(), self.welcome_within(now));
        let profile = self.config.profile.clone();
        let addresses: &[SocketAddr] = if self.config.relay_only { &[] } else { &self.config.addresses };
        let (seq, certificate) = (self.presence_seq, self.certificate());
        Presence::new(self.boot, seq, profile, addresses, neighbors, free, within, self.message_seq, certificate)
            .sign(&self.identity, &self.mesh)
    }

    /// What we say of ourselves changed: it is told with the next beat, so that several changes are told at once.
    pub(super) fn presence_changed(&mut self, now: Time) {
        self.presence_seq += 1;
        self.neighborhood.look(now);
        self.pace.tell_presence(now);
    }

    pub(super) fn leave(&mut self) {
        self.flush();
        // On the streams, which deliver what was said before the end. The farewell has a seal of its own.
        let pending = (self.broadcast.unsealed() > 0).then_some(Body::Seal);
        for body in pending.into_iter().chain([Body::Farewell]) {
            let Some(content) = Speech::Mesh(body).encode() else { continue };
            self.message_seq += 1;
            let content = Content::Whole(content);
            let said = Said { seq: self.message_seq, hops: 1, hop_limit: self.config.hop_limit, content, seal: None };
            let said = self.broadcast.author(said, &self.identity, true);
            self.send_said_reliably(self.flood.ports().map(|(id, _)| id).collect(), Slot::ME, said, false);
        }
        let links: Vec<LinkId> = self.overlay.iter().map(|(link, _)| link).collect();
        for link in links {
            if self.overlay.close(link).is_some() {
                self.outputs.push_back(Output::Close { link, reason: CloseReason::Goodbye });
            }
        }
        self.left = true;
    }
}
