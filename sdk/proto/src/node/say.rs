//! What we say: messages, presence, goodbye.

use bytes::Bytes;

use super::{CloseReason, Event, Node, Output, Target, Topic};
use crate::id::{LinkId, PeerId};
use crate::message::{SendError, Taken};
use crate::time::Time;
use crate::wire::{Body, Frame, Lane, Message, Note, Presence, Signed, codec};

impl Node {
    /// Sends a message. Everyone who stays in the mesh gets one to all, once, in our order; so does the one whom it is for.
    pub fn send(&mut self, to: Target, topic: Topic, payload: Bytes, now: Time) -> Result<(), SendError> {
        if self.left {
            return Err(SendError::Closed);
        }
        let (len, max) = (payload.len(), self.config.limits.message_bytes);
        if len > max {
            return Err(SendError::TooLong { len, max });
        }
        let alone = self.roster.present().len() < 2;
        let echo = Event::Message { from: self.me, topic, private: false, payload: payload.clone() };
        let body = Body::App { topic: topic.0, payload };
        match to {
            Target::All if alone => return Err(SendError::NobodyThere),
            Target::All => self.tell_everyone(&body),
            Target::AllAndMe => {
                self.tell_everyone(&body);
                self.event(echo);
            }
            Target::Hops(hops) => {
                self.near_seq += 1;
                if let Some(message) = self.author_message(Lane::Near, self.near_seq, hops.min(self.config.hop_limit), &body)
                    && hops > 0
                {
                    self.forward_message(self.me, None, message);
                }
                self.event(echo);
            }
            Target::One(peer) if peer == self.me => self.event(echo),
            Target::One(peer) if !self.roster.present().contains(&peer) => return Err(SendError::UnknownPeer(peer)),
            Target::One(peer) => {
                let seq = self.private.next_seq(&peer).ok_or(SendError::Backlog(peer))?;
                if let Some(message) = self.author_message(Lane::One(peer), seq, self.config.hop_limit, &body) {
                    self.private.sent(peer, seq, message.clone(), now);
                    self.route(peer, &Frame::Message(message));
                }
            }
        }
        Ok(())
    }

    /// Says something to all members.
    pub(super) fn tell_everyone(&mut self, body: &Body) {
        let Some(message) = self.author_message(Lane::Everyone, self.message_seq + 1, self.config.hop_limit, body) else {
            self.counters.frames_too_long += 1;
            return;
        };
        self.message_seq += 1;
        // Kept like everyone else's, for those who miss it.
        if let Taken::New(_) = self.broadcast.take(&self.me, self.message_seq, false, message.clone())
            && self.config.hop_limit > 0
        {
            self.forward_message(self.me, None, message);
        }
    }

    fn author_message(&self, lane: Lane, seq: u64, hop_limit: u8, body: &Body) -> Option<Message> {
        let body = codec::encode(body).ok()?;
        let note = Note { boot: self.boot, lane, seq, hop_limit, body_hash: *blake3::hash(&body).as_bytes() };
        let header = Signed::new(&self.identity, &self.mesh, "message", &note)?;
        Some(Message { header, hops: 1, body: Some(body) })
    }

    /// Passes a message on along its author's tree.
    pub(super) fn forward_message(&mut self, author: PeerId, from: Option<LinkId>, message: Message) {
        let targets = self.flood_targets(author, from);
        if targets.is_empty() {
            return;
        }
        if let Some(bytes) = Frame::Message(message).encode() {
            for link in targets {
                self.send_frame(link, bytes.clone());
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

    /// The links over which an origin's frames are to go on.
    pub(super) fn flood_targets(&self, origin: PeerId, from: Option<LinkId>) -> Vec<LinkId> {
        let author = self.roster.get(&origin);
        let sparse = self.roster.present().len() > self.overlay.limits.max + 1;
        self.overlay
            .neighbors()
            .filter(|(link, peer)| Some(*link) != from && *peer != origin && self.flood.is_eager(*link, &origin))
            // What a neighbor has from the origin itself it need not have from us. In larger meshes that is no news: presence
            // tells of links too late.
            .filter(|(_, peer)| from.is_none() || sparse || !author.is_some_and(|author| author.presence.is_linked_to(peer)))
            .map(|(link, _)| link)
            .collect()
    }

    /// What we say of ourselves, as of now.
    pub(super) fn presence(&self, now: Time) -> Option<Signed> {
        let neighbors: Vec<PeerId> = self.overlay.neighbors().map(|(_, peer)| peer).collect();
        let (free, within) = (self.free_places(), self.welcome_within(now));
        let profile = self.config.profile.clone();
        Presence::new(self.boot, self.presence_seq, profile, &self.config.addresses, neighbors, free, within, self.message_seq)
            .sign(&self.identity, &self.mesh)
    }

    /// What we say of ourselves changed: it is told with the next beat, so that several changes are told at once.
    pub(super) fn presence_changed(&mut self, now: Time) {
        self.presence_seq += 1;
        self.neighborhood.look(now);
        self.pace.tell_presence(now);
    }

    pub(super) fn leave(&mut self) {
        self.tell_everyone(&Body::Farewell);
        let links: Vec<LinkId> = self.overlay.iter().map(|(link, _)| link).collect();
        for link in links {
            if self.overlay.close(link).is_some() {
                self.outputs.push_back(Output::Close { link, reason: CloseReason::Goodbye });
            }
        }
        self.left = true;
    }
}
