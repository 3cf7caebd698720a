//! What members say to all, to those near them, and to one: taken in, passed on, delivered.

use bytes::Bytes;

use super::say::letter_context;
use super::{Event, Farewell, Node, Topic};
use crate::flood::{PortId, Slot};
use crate::id::{LinkId, PeerId};
use crate::message::{Place, Taken};
use crate::state::snapshot::Record;
use crate::time::Time;
use crate::wire::{Body, Content, Frame, Lane, Message, Note, Receipt, Said, Signed, Speech, codec};

impl Node {
    // --- to all --------------------------------------------------------------------------------------------------------

    pub(super) fn hear_said(&mut self, port: PortId, slot: Slot, said: Said, repair: bool, now: Time) {
        let Some((author, boot)) = self.flood.origin(slot).map(|origin| (origin.peer, origin.boot)) else { return };
        if slot == Slot::ME || said.hops > said.hop_limit || self.removals.is_removed(&author) {
            return;
        }
        let direct = self.flood.port(port).filter(|port| port.peer == author).map(|port| port.link);
        if let Some(link) = direct
            && !self.within_quota(link, said.len(), true, now)
        {
            return;
        }
        if !self.broadcast.is_new(slot, said.seq) {
            self.counters.messages_duplicate += 1;
            if !self.broadcast.check_again(slot, &said) {
                self.counters.forgeries += 1;
                tracing::warn!(target: "peerflock::message", ?author, "a message that its author's seal does not cover");
                self.repairs.note(slot, self.parent_rtt(slot), now);
            }
            return self.came_again(slot, port, repair);
        }
        let onward = said.clone();
        match self.broadcast.take(slot, said) {
            Taken::New(ready) => {
                self.counters.messages_first += 1;
                self.flood.first(slot, port, repair, now);
                if let Some(link) = self.flood.port(port).map(|port| port.link) {
                    self.note_first(link);
                }
                if self.roster.heard(&author, boot, now) {
                    self.member_returned(author, now);
                }
                if onward.hops < onward.hop_limit {
                    let onward = self.filtered(author, onward);
                    self.send_said(self.targets(slot, Some(port)), slot, onward, false);
                }
                if self.broadcast.has_gap(slot) {
                    self.repairs.note(slot, self.parent_rtt(slot), now);
                }
                self.deliver_said(author, ready, now);
            }
            Taken::Old => self.counters.messages_duplicate += 1,
            Taken::TooFar => {}
            Taken::Forged => {
                self.counters.forgeries += 1;
                tracing::warn!(target: "peerflock::message", ?author, "a seal that its author did not make");
                // From somebody else, next time.
                if let Some(port) = self.flood.port_mut(port) {
                    port.has(slot, 0);
                }
                self.repairs.note(slot, self.parent_rtt(slot), now);
            }
        }
    }

    /// The message without its content, if the filter keeps that back: the rest alone tells others not to wait for it.
    fn filtered(&self, author: PeerId, said: Said) -> Said {
        let Some(filter) = &self.filter else { return said };
        let passes = match &said.content {
            Content::Whole(bytes) => match Speech::decode(bytes.clone()) {
                Ok(Speech::App { topic, payload }) => filter(author, Topic(topic), &payload),
                _ => true,
            },
            Content::Hash(_) => true,
        };
        if passes { said } else { said.kept_back() }
    }

    pub(super) fn deliver_said(&mut self, author: PeerId, messages: Vec<Said>, now: Time) {
        for said in messages {
            let Content::Whole(bytes) = said.content else { continue };
            match Speech::decode(bytes) {
                Ok(Speech::App { topic, payload }) => {
                    self.event(Event::Message { from: author, topic: Topic(topic), private: false, payload });
                }
                // What changes what everyone must agree on is acted upon only if its author proved it, and by a seal of its own:
                // one that reaches back to before we listened cannot be checked.
                Ok(Speech::Mesh(body)) if body == Body::Seal || said.seal.is_some_and(|seal| seal.covers == 1) => {
                    self.hear_body(author, body, now);
                }
                _ => self.counters.violations += 1,
            }
        }
    }

    fn hear_body(&mut self, author: PeerId, body: Body, now: Time) {
        match body {
            Body::Transfer { entity, number, to, record } => match self.assemble_records(std::slice::from_ref(&record)) {
                Ok(records) => {
                    if let Some(record) = records.into_iter().find(|record| record.entity == entity && record.number == number) {
                        let (world, mut around) = self.world(now);
                        world.transferred(author, number, to, Record::clone(&record), &mut around);
                    }
                }
                Err(_) => self.counters.violations += 1,
            },
            Body::Adopt(adoptions) => {
                let (world, mut around) = self.world(now);
                let reply = world.adopted(author, adoptions, &mut around);
                self.reply(reply);
            }
            Body::Seize(seized) => {
                let (world, mut around) = self.world(now);
                let reply = world.seized(author, seized, &mut around);
                self.reply(reply);
            }
            Body::Remove(removed) => {
                let (world, mut around) = self.world(now);
                world.removed(author, removed, &mut around);
            }
            Body::Farewell => self.depart(author, Farewell::Left, now),
            Body::Seal => {}
            Body::App { .. } | Body::Request { .. } | Body::Refuse { .. } => self.counters.violations += 1,
        }
    }

    // --- to those near, and to one -------------------------------------------------------------------------------------

    pub(super) fn hear_message(&mut self, link: LinkId, message: Message) {
        let author = message.header.author;
        let Some(note) = message.header.peek::<Note>() else {
            self.counters.violations += 1;
            return;
        };
        if author == self.me || message.hops > note.hop_limit || self.removals.is_removed(&author) {
            return;
        }
        match note.lane {
            // Not ours to judge: its reader will check it.
            Lane::One { to, .. } if to != self.me => {
                if message.hops < note.hop_limit {
                    self.route(to, &Frame::Message(Message { hops: message.hops + 1, ..message }));
                }
            }
            Lane::One { after, .. } => self.hear_private(author, &note, after, message),
            Lane::Near => self.hear_near(link, author, &note, message),
        }
    }

    fn hear_private(&mut self, author: PeerId, note: &Note, after: u64, message: Message) {
        if !self.is_genuine(author, note, &message)
            || self.roster.get(&author).is_none_or(|member| member.presence.boot != note.boot)
        {
            return;
        }
        let context = letter_context(&self.mesh, note.boot, note.seq);
        let letter = message.body.as_ref();
        let Some(body) = letter.and_then(|letter| self.letters.open(&self.identity, &author, &context, letter)) else {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::message", ?author, "a letter to us that does not open");
            return;
        };
        let message = Message { body: Some(body), ..message };
        let (ready, upto) = self.private.take(author, note.boot, Place { seq: note.seq, after }, message);
        self.counters.messages_first += ready.len() as u64;
        let receipt = Receipt { to: author, boot: note.boot, upto };
        if let Some(signed) = Signed::new(&self.identity, &self.mesh, "receipt", &receipt) {
            self.route(author, &Frame::Receipt(signed));
        }
        ready.into_iter().for_each(|message| self.deliver(author, message.body, true));
    }

    fn hear_near(&mut self, link: LinkId, author: PeerId, note: &Note, message: Message) {
        let (Some(slot), Some(port)) = (self.flood.slot_of(&author, note.boot), self.flood.port_of(link)) else { return };
        if !self.broadcast.is_new_near(slot, note.seq) {
            self.counters.messages_duplicate += 1;
            return;
        }
        if !self.is_genuine(author, note, &message) || !self.broadcast.take_near(slot, note.seq) {
            return;
        }
        self.counters.messages_first += 1;
        let body = message.body.clone();
        if message.hops < note.hop_limit {
            self.forward_message(slot, Some(port), Message { hops: message.hops + 1, ..message });
        }
        self.deliver(author, body, false);
    }

    /// Whether a message is what its author signed. What is not is counted.
    fn is_genuine(&mut self, author: PeerId, note: &Note, message: &Message) -> bool {
        let intact = message.body.as_ref().is_some_and(|body| *blake3::hash(body).as_bytes() == note.body_hash);
        let genuine = intact && message.header.open::<Note>(&self.mesh, "message").is_some();
        if !genuine {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::message", ?author, "a message that its author did not sign");
        }
        genuine
    }

    fn deliver(&mut self, author: PeerId, body: Option<Bytes>, private: bool) {
        match body.map(|body| codec::decode::<Body>(&body)) {
            Some(Ok(Body::App { topic, payload })) => {
                self.event(Event::Message { from: author, topic: Topic(topic), private, payload });
            }
            Some(Ok(Body::Request { entity })) if private => self.hear_request(author, entity, self.now),
            Some(Ok(Body::Refuse { entity, refusal })) if private => self.hear_refusal(author, entity, refusal),
            // Only what everyone hears can change what everyone must agree on.
            _ => self.counters.violations += 1,
        }
    }

    pub(super) fn hear_receipt(&mut self, signed: Signed) {
        let reader = signed.author;
        let Some(receipt) = signed.peek::<Receipt>() else {
            self.counters.violations += 1;
            return;
        };
        if receipt.to != self.me {
            return self.route(receipt.to, &Frame::Receipt(signed));
        }
        if receipt.boot == self.boot && signed.open::<Receipt>(&self.mesh, "receipt").is_some() {
            for message in self.private.receipted(&reader, receipt.upto, self.now) {
                self.route(reader, &Frame::Message(message));
            }
        }
    }
}
