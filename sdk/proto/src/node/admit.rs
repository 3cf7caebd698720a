//! Links come and go: admission, verdicts, and what newcomers are told.

use std::net::{IpAddr, SocketAddr};

use super::room::Room;
use super::{CloseReason, Event, Farewell, Node, Output};
use crate::admission::handshake::Ends;
use crate::admission::{Accepter, Dialer, Knock, LockId, Proof, is_public, network};
use crate::id::{Boot, LinkId, PeerId};
use crate::overlay::{Keep, Stage};
use crate::roster::NEWCOMER;
use crate::time::Time;
use crate::wire::{ADMISSION_FRAME_BYTES_MAX, Confirm, DecodeError, Frame, REFERRALS_MAX, Referral, Signed, Verdict, Welcome};

/// Most entities' titles in one frame.
pub(super) const HOLDINGS_PER_FRAME: usize = 500;
/// Most addresses that one frame locks out.
const GUESSED_MAX: usize = 8;

impl Node {
    pub(super) fn link_up(&mut self, link: LinkId, peer: PeerId, address: SocketAddr, exporter: [u8; 32], now: Time) {
        let me = self.me;
        let Some(held) = self.overlay.get_mut(link) else { return };
        if !matches!(held.stage, Stage::Connecting) {
            return;
        }
        held.heard = now;
        held.peer = Some(peer);
        held.address = address;
        held.exporter = exporter;
        let (dialed, unexpected) = (held.dialed, held.expect.is_some_and(|expected| expected != peer));
        if peer == me {
            self.book.remove(&address);
            return self.close(link, CloseReason::SelfLink, now);
        }
        if unexpected {
            self.book.add(address, Some(peer), now);
            return self.close(link, CloseReason::Refused, now);
        }
        if !dialed {
            if !self.keys.allows(peer, now) {
                self.counters.strangers_locked_out += 1;
                return self.close(link, CloseReason::LockedOut, now);
            }
            self.stage(link, Stage::AwaitHello);
            return;
        }
        self.book.add(address, Some(peer), now);
        // Before HELLO, so that no guess is counted against us.
        if self.keep(link, now) == Keep::Old {
            return self.close(link, CloseReason::Duplicate, now);
        }
        let ends = Ends { dialer: me, accepter: peer, exporter };
        let lock = self.lock_for(&peer);
        let (key, opened) = self.locks.knock(&peer, self.misses(&peer));
        let (dialer, share) = Dialer::start(key, ends, &mut self.rng);
        self.lock_of(link, opened);
        self.stage(link, Stage::AwaitShare(Box::new(dialer)));
        self.say_to(link, &Frame::Hello { lock, share });
    }

    /// A frame of a link that is not admitted yet.
    pub(super) fn admission_frame(&mut self, link: LinkId, bytes: &[u8], now: Time) {
        let frame = match Frame::decode(bytes, ADMISSION_FRAME_BYTES_MAX) {
            Ok(frame) => frame,
            Err(DecodeError::Version(_)) => return self.close(link, CloseReason::Version, now),
            // Whatever is wrong, a stranger is told the same.
            Err(_) => return self.close(link, CloseReason::Refused, now),
        };
        let said = frame.unproved();
        let Some(held) = self.overlay.get_mut(link) else { return };
        let stage = std::mem::replace(&mut held.stage, Stage::Connecting);
        let Some(peer) = held.peer else { return };
        match (stage, frame) {
            (Stage::AwaitHello, Frame::Hello { lock, share }) => {
                let ends = Ends { dialer: peer, accepter: self.me, exporter: held.exporter };
                let Knock::With(key, opened) = self.locks.answer(&peer, lock) else {
                    // It tried nothing, so nothing is counted.
                    return self.close(link, CloseReason::OtherLock, now);
                };
                match Accepter::answer(key, ends, &share, &mut self.rng) {
                    Ok((accepter, share)) => {
                        self.lock_of(link, opened);
                        self.stage(link, Stage::AwaitConfirm(Box::new(accepter)));
                        self.say_to(link, &Frame::Share { share });
                    }
                    Err(_) => self.refuse(link, now),
                }
            }
            (Stage::AwaitShare(dialer), Frame::Share { share }) => match dialer.confirm(&share) {
                Ok((ours, theirs)) => {
                    // Room is made for a member now; for a stranger only once it proved the password, too.
                    let member = self.roster.present().contains(&peer);
                    let room = if member { self.room_beside(link, peer, usize::MAX, now) } else { Room::Now };
                    match room {
                        Room::Now => self.confirm(link, &ours, theirs, now),
                        Room::Soon => self.stage(link, Stage::AwaitRoom { ours, theirs }),
                        Room::Never => self.close(link, CloseReason::Full, now),
                    }
                }
                Err(_) => self.refuse(link, now),
            },
            (Stage::AwaitConfirm(accepter), Frame::Confirm(confirm)) => match accepter.verify(&said, confirm.tag) {
                Ok(proof) => {
                    held.hidden = confirm.hidden;
                    self.note_boot(link, confirm.boot);
                    self.judge(link, peer, &confirm, proof, now);
                }
                Err(_) => self.refuse(link, now),
            },
            (Stage::AwaitWelcome(theirs), Frame::Welcome(welcome)) => match theirs.verify(&said, welcome.tag) {
                Ok(()) => self.welcomed(link, peer, welcome, now),
                Err(_) => self.refuse(link, now),
            },
            // Something else where its proof was due.
            (Stage::AwaitConfirm(_) | Stage::AwaitWelcome(_), _) => self.refuse(link, now),
            _ => self.close(link, CloseReason::Refused, now),
        }
    }

    /// Which of two links to the same peer stays: see [`Overlay::keep`](crate::overlay::Overlay::keep).
    fn keep(&self, link: LinkId, now: Time) -> Keep {
        self.overlay.keep(&self.me, link, self.dead_since(now))
    }

    /// Proves the password to the one we dialed.
    fn confirm(&mut self, link: LinkId, ours: &Proof, theirs: Proof, now: Time) {
        self.stage(link, Stage::AwaitWelcome(theirs));
        let links = u16::try_from(self.overlay.reliable(now)).unwrap_or(u16::MAX);
        let registry = self.config.registry.fingerprint();
        let (certificate, hidden) = (self.certificate(), self.config.relay_only);
        let confirm = Confirm { tag: [0; 32], boot: self.boot, links, registry, certificate, hidden };
        self.say_to(link, &Frame::Confirm(confirm).proved(ours));
    }

    /// Room for one more; none is needed for one that takes the place of another link to the same peer.
    fn room_beside(&mut self, link: LinkId, peer: PeerId, its_links: usize, now: Time) -> Room {
        if self.keep(link, now) != Keep::Only {
            return Room::Now;
        }
        let ahead = self.overlay.waiting().into_iter().filter(|waiting| *waiting != link).count();
        self.room(link, peer, its_links, ahead, now)
    }

    /// Goes on with admissions that waited for room.
    pub(super) fn serve_waiting(&mut self, now: Time) {
        for (ahead, link) in self.overlay.waiting().into_iter().enumerate() {
            let Some(held) = self.overlay.get_mut(link) else { continue };
            let Some(peer) = held.peer else { continue };
            let its_links = if let Stage::Welcoming { its_links, .. } = held.stage { its_links } else { usize::MAX };
            match self.room(link, peer, its_links, ahead, now) {
                Room::Now => {}
                Room::Soon => continue,
                Room::Never => {
                    self.close(link, CloseReason::Full, now);
                    continue;
                }
            }
            let Some(held) = self.overlay.get_mut(link) else { continue };
            match std::mem::replace(&mut held.stage, Stage::Connecting) {
                Stage::AwaitRoom { ours, theirs } => self.confirm(link, &ours, theirs, now),
                Stage::Welcoming { proof, .. } => self.pass(link, peer, Verdict::Admitted, &proof, now),
                _ => {}
            }
        }
    }

    /// The other end did not prove the password.
    fn refuse(&mut self, link: LinkId, now: Time) {
        if let Some(held) = self.overlay.get(link) {
            let (address, peer, dialed) = (held.address.ip(), held.peer, held.dialed);
            self.note_guess(address, peer, dialed, now);
        }
        self.close(link, CloseReason::Refused, now);
    }

    /// Somebody at `address` may have tried a password: they at our door, or we, `dialed`, at theirs.
    fn note_guess(&mut self, address: IpAddr, peer: Option<PeerId>, dialed: bool, now: Time) {
        self.counters.guesses_failed += 1;
        if dialed {
            return self.dials.failed(address, now);
        }
        // Of IPv6 one guesser has more addresses than anybody could lock out.
        let address = network(address);
        self.limiter.failed(address, now);
        if let Some(peer) = peer {
            self.keys.failed(peer, now);
        }
        if is_public(address) && !self.limiter.allows(address, now) {
            // A mesh of many members must not be that many times as easy to guess at.
            self.pass_to_all(None, &Frame::Guessed(vec![address]));
        }
    }

    /// Other members locked addresses out.
    pub(super) fn hear_guessed(&mut self, link: LinkId, addresses: Vec<IpAddr>, now: Time) {
        for address in addresses.into_iter().take(GUESSED_MAX).map(network) {
            if is_public(address) && self.limiter.allows(address, now) {
                self.limiter.lock_out(address, now);
                self.pass_to_all(Some(link), &Frame::Guessed(vec![address]));
            }
        }
    }

    /// The dialer proved the password: is there room for it?
    fn judge(&mut self, link: LinkId, peer: PeerId, confirm: &Confirm, proof: Proof, now: Time) {
        let its_links = usize::from(confirm.links);
        let Some(address) = self.overlay.get(link).map(|held| held.address) else { return };
        self.limiter.succeeded(network(address.ip()));
        self.keys.succeeded(peer);
        let stranger = !self.roster.present().contains(&peer);
        let verdict = if self.removals.is_removed(&peer) || self.repute.is_banished(&peer, now) {
            Verdict::Removed
        } else if !self.is_certified(&peer, confirm.certificate.as_ref(), now) {
            Verdict::Certificate
        } else if confirm.registry != self.config.registry.fingerprint() {
            Verdict::Registry
        } else if stranger && self.roster.present().len() >= self.config.limits.members {
            Verdict::MeshFull
        } else if stranger && !self.crowd.has_room(address.ip(), &peer, self.config.limits.members_per_address, now) {
            Verdict::Crowded
        } else if self.keep(link, now) == Keep::Old {
            Verdict::Duplicate
        } else {
            match self.room_beside(link, peer, its_links, now) {
                Room::Now => Verdict::Admitted,
                Room::Soon => return self.stage(link, Stage::Welcoming { proof, its_links }),
                Room::Never => Verdict::Full,
            }
        };
        self.pass(link, peer, verdict, &proof, now);
    }

    /// Tells the dialer our verdict, and acts on it.
    fn pass(&mut self, link: LinkId, peer: PeerId, mut verdict: Verdict, proof: &Proof, now: Time) {
        let Some(observed) = self.overlay.get(link).map(|held| held.address) else { return };
        let keep = self.keep(link, now);
        if verdict == Verdict::Admitted && keep == Keep::Old {
            // Another link to it came while this one waited.
            verdict = Verdict::Duplicate;
        }
        let referrals = if verdict == Verdict::Admitted { Vec::new() } else { self.referrals(&peer) };
        let welcome = Welcome {
            tag: [0; 32],
            boot: self.boot,
            verdict,
            certificate: self.certificate().filter(|_| verdict == Verdict::Admitted),
            lock: self.lock_opened(link),
            mesh_time: self.mesh_now(now),
            observed,
            referrals,
        };
        self.say_to(link, &Frame::Welcome(welcome).proved(proof));
        if verdict != Verdict::Admitted {
            return self.close(link, reason(verdict), now);
        }
        if let Keep::New(old) = keep {
            self.close(old, CloseReason::Duplicate, now);
        }
        self.admitted(link, peer, now);
    }

    /// We are told the verdict over ourselves.
    fn welcomed(&mut self, link: LinkId, peer: PeerId, welcome: Welcome, now: Time) {
        if let Some(held) = self.overlay.get(link) {
            self.dials.succeeded(held.address.ip());
        }
        let referred = if self.config.relay_only { 0 } else { REFERRALS_MAX };
        for Referral { address, peer } in welcome.referrals.into_iter().take(referred) {
            self.book.add(address, Some(peer), now);
        }
        if welcome.verdict != Verdict::Admitted {
            return self.close(link, reason(welcome.verdict), now);
        }
        if !self.is_certified(&peer, welcome.certificate.as_ref(), now) {
            return self.close(link, CloseReason::Certificate, now);
        }
        let keep = self.keep(link, now);
        let full = keep == Keep::Only && self.overlay.neighbors().count() >= self.overlay.limits.max;
        match keep {
            Keep::Old => return self.close(link, CloseReason::Duplicate, now),
            Keep::New(old) => self.close(old, CloseReason::Duplicate, now),
            Keep::Only => {}
        }
        // Somebody from another part of the mesh is worth a link that others can do without.
        if full && (self.roster.present().contains(&peer) || self.room(link, peer, 0, 0, now) != Room::Now) {
            return self.close(link, CloseReason::Full, now);
        }
        if let Some(held) = self.overlay.get_mut(link) {
            held.observed = Some(welcome.observed);
        }
        let rtt = self.least_rtt(link);
        self.clock.sample(welcome.mesh_time, rtt, now);
        self.note_boot(link, welcome.boot);
        if self.joined.is_none() {
            self.locks.called(welcome.lock);
            self.lock_of(link, welcome.lock);
        }
        self.admitted(link, peer, now);
    }

    /// Both ends know that they are members: tell the other what it needs to know.
    fn admitted(&mut self, link: LinkId, peer: PeerId, now: Time) {
        self.stage(link, Stage::Member);
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.heard = now;
        held.heard_lock = now;
        let (address, dialed, boot) = (held.address, held.dialed, held.boot);
        if !dialed {
            self.crowd.enter(address.ip(), peer, now);
        }
        if dialed {
            self.book.reached(address, peer, now);
            self.neighborhood.near.reached(&peer);
        }
        self.neighborhood.near.stir(now);
        tracing::debug!(target: "peerflock::overlay", ?link, ?peer, %address, dialed, "admitted");
        self.outputs.push_back(Output::Admitted { link });
        let links = self.overlay.neighbors().count() as u64;
        self.counters.links_max = self.counters.links_max.max(links);
        if self.joined.is_none() {
            self.joined = Some(now);
            self.broadcast.begin();
            self.event(Event::Joined);
        }

        let stranger = !self.roster.present().contains(&peer);
        self.open_port(link, peer, boot, stranger, now);
        self.tell_lock(link, peer);
        // Where messages stand comes first: what follows makes the authors known.
        // A member hears of newcomers what all others hear of them, ourselves included; a stranger comes to what is said from now on.
        let we_are_new = self.joined.is_some_and(|joined| now.since(joined) < NEWCOMER);
        let is_newcomer =
            |author: &PeerId| !stranger && if *author == self.me { we_are_new } else { self.roster.is_newcomer(author, now) };
        let standings = self.broadcast.standings(is_newcomer);
        self.say_to(link, &Frame::Standing(standings));
        self.presence_changed(now);
        if stranger {
            if let Some(presence) = self.presence(now) {
                self.say_to(link, &Frame::Presence(presence));
            }
            // It knows nobody: everything at once, rather than after it asked.
            let others: Vec<(PeerId, Signed)> =
                self.roster.members().map(|(member, present)| (*member, present.signed.clone())).collect();
            for (member, signed) in others {
                self.roster.shown(&member, link);
                self.say_to(link, &Frame::Presence(signed));
            }
        } else {
            // That we are linked now it hears when all do: told at once, each link would be news for the whole mesh.
            self.say_to(link, &Frame::Roster(self.known_members()));
        }
        for holdings in self.world.holdings(None).chunks(HOLDINGS_PER_FRAME) {
            self.say_to(link, &Frame::Holdings(holdings.to_vec()));
        }
        if stranger {
            let origins: Vec<PeerId> = self.roster.present().iter().filter(|origin| **origin != peer).copied().collect();
            for origin in origins {
                self.send_keyframe(link, origin, None);
            }
        }
    }

    /// The link carries the flood from now on. Two who both have other ways to everybody begin with only what they ask for.
    fn open_port(&mut self, link: LinkId, peer: PeerId, boot: Boot, stranger: bool, now: Time) {
        let others = self.flood.ports().any(|(_, port)| !port.quiet);
        let lazy = !stranger && others && !self.is_complete();
        let rtt = self.rtt(link);
        self.flood.open(link, peer, boot, lazy, now);
        if let Some(port) = self.flood.port_of(link).and_then(|port| self.flood.port_mut(port)) {
            port.rtt = rtt;
        }
        let wanted = self.flood.without_way(link, now);
        self.graft(wanted);
    }

    /// Closes a link from our end.
    pub(super) fn close(&mut self, link: LinkId, reason: CloseReason, now: Time) {
        if self.overlay.get(link).is_some() {
            self.outputs.push_back(Output::Close { link, reason });
            self.unlink(link, reason, now);
        }
    }

    /// A link is gone, whoever closed it.
    pub(super) fn link_gone(&mut self, link: LinkId, reason: CloseReason, now: Time) {
        let Some(held) = self.overlay.get(link) else { return };
        let (member, peer) = (held.is_member(), held.peer);
        self.unlink(link, reason, now);
        if let (true, Some(peer), CloseReason::Goodbye) = (member, peer, reason) {
            self.depart(peer, Farewell::Left, now);
        }
    }

    /// The other end said which of its lives this is.
    fn note_boot(&mut self, link: LinkId, boot: Boot) {
        if let Some(held) = self.overlay.get_mut(link) {
            held.boot = boot;
        }
    }

    /// The lock with which the link is opened.
    fn lock_of(&mut self, link: LinkId, lock: LockId) {
        if let Some(held) = self.overlay.get_mut(link) {
            held.lock = lock;
        }
    }

    fn lock_opened(&self, link: LinkId) -> LockId {
        self.overlay.get(link).map(|held| held.lock).unwrap_or_default()
    }

    fn stage(&mut self, link: LinkId, stage: Stage) {
        if let Some(held) = self.overlay.get_mut(link) {
            held.stage = stage;
        }
    }

    fn unlink(&mut self, link: LinkId, reason: CloseReason, now: Time) {
        let Some(held) = self.overlay.close(link) else { return };
        let known = held.peer.is_some_and(|peer| self.roster.present().contains(&peer));
        if matches!(held.stage, Stage::AwaitConfirm(_)) && !known {
            // It saw our answer and did not confirm: that is a guess, too. A member may have found somebody better meanwhile.
            self.note_guess(held.address.ip(), held.peer, false, now);
        }
        if matches!(held.stage, Stage::AwaitWelcome(_)) && !known && reason != CloseReason::Duplicate {
            // It has our proof and gave none: the same, the other way round.
            self.note_guess(held.address.ip(), held.peer, true, now);
        }
        tracing::debug!(target: "peerflock::overlay", ?link, peer = ?held.peer, address = %held.address, ?reason, stage = ?held.stage, "closed");
        if held.is_member() {
            let requests = self.flood.close(link, now);
            self.graft(requests);
            self.keyframes.link_down(link);
            self.roster.link_down(link);
            self.presence_changed(now);
            self.pace.soon(now);
            self.neighborhood.near.stir(now);
            if let (CloseReason::Pruned, Some(peer)) = (reason, held.peer) {
                self.neighborhood.near.refused(&peer, now);
            }
        } else if held.dialed {
            // Where members are they say themselves.
            let is_member = held.peer.or(held.expect).is_some_and(|peer| self.roster.present().contains(&peer));
            if let Some(peer) = held.peer.or(held.expect) {
                self.neighborhood.near.refused(&peer, now);
            }
            match reason {
                CloseReason::Refused
                | CloseReason::LockedOut
                | CloseReason::Version
                | CloseReason::Registry
                | CloseReason::Removed
                | CloseReason::Crowded
                | CloseReason::Certificate
                | CloseReason::MeshFull => {
                    self.book.refused(held.address, now);
                    self.event(Event::Refused { address: held.address, reason });
                }
                CloseReason::SelfLink => self.book.remove(&held.address),
                CloseReason::OtherLock => {
                    if let Some(peer) = held.peer {
                        self.lock_unknown(&peer);
                    }
                    self.book.failed(held.address, is_member, now);
                }
                _ => self.book.failed(held.address, is_member, now),
            }
        }
    }
}

fn reason(verdict: Verdict) -> CloseReason {
    match verdict {
        Verdict::Admitted => CloseReason::Goodbye,
        Verdict::Full => CloseReason::Full,
        Verdict::MeshFull => CloseReason::MeshFull,
        Verdict::Duplicate => CloseReason::Duplicate,
        Verdict::Registry => CloseReason::Registry,
        Verdict::Removed => CloseReason::Removed,
        Verdict::Crowded => CloseReason::Crowded,
        Verdict::Certificate => CloseReason::Certificate,
    }
}
