//! Links come and go: admission, verdicts, and what newcomers are told.

use std::net::SocketAddr;

use super::{CloseReason, Event, Farewell, Node, Output};
use crate::admission::handshake::Ends;
use crate::admission::{Accepter, Dialer};
use crate::id::{Boot, LinkId, PeerId};
use crate::overlay::{Keep, Stage};
use crate::time::Time;
use crate::wire::{ADMISSION_FRAME_BYTES_MAX, DecodeError, Frame, REFERRALS_MAX, Referral, Verdict, Welcome};

/// Most entities' titles in one frame.
pub(super) const HOLDINGS_PER_FRAME: usize = 500;

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
            self.stage(link, Stage::AwaitHello);
            return;
        }
        // Before HELLO, so that no guess is counted against us.
        if self.overlay.keep(&me, link) == Keep::Old {
            return self.close(link, CloseReason::Duplicate, now);
        }
        let ends = Ends { dialer: me, accepter: peer, exporter };
        let (dialer, share) = Dialer::start(&self.key, ends, &mut self.rng);
        self.stage(link, Stage::AwaitShare(Box::new(dialer)));
        self.say_to(link, &Frame::Hello { share });
    }

    /// A frame of a link that is not admitted yet.
    pub(super) fn admission_frame(&mut self, link: LinkId, bytes: &[u8], now: Time) {
        let frame = match Frame::decode(bytes, ADMISSION_FRAME_BYTES_MAX) {
            Ok(frame) => frame,
            Err(DecodeError::Version(_)) => return self.close(link, CloseReason::Version, now),
            Err(_) => return self.close(link, CloseReason::Violation, now),
        };
        let Some(held) = self.overlay.get_mut(link) else { return };
        let stage = std::mem::replace(&mut held.stage, Stage::Connecting);
        let Some(peer) = held.peer else { return };
        match (stage, frame) {
            (Stage::AwaitHello, Frame::Hello { share }) => {
                let ends = Ends { dialer: peer, accepter: self.me, exporter: held.exporter };
                match Accepter::answer(&self.key, ends, &share, &mut self.rng) {
                    Ok((accepter, share)) => {
                        self.stage(link, Stage::AwaitConfirm(Box::new(accepter)));
                        self.say_to(link, &Frame::Share { share });
                    }
                    Err(_) => self.refuse(link, now),
                }
            }
            (Stage::AwaitShare(dialer), Frame::Share { share }) => match dialer.confirm(&share) {
                Ok((tag, confirmed)) => {
                    self.stage(link, Stage::AwaitWelcome(confirmed));
                    let boot = self.boot;
                    let links = u16::try_from(self.overlay.neighbors().count()).unwrap_or(u16::MAX);
                    let registry = self.config.registry.fingerprint();
                    self.say_to(link, &Frame::Confirm { tag, boot, links, registry });
                }
                Err(_) => self.refuse(link, now),
            },
            (Stage::AwaitConfirm(accepter), Frame::Confirm { tag, boot, links, registry }) => match accepter.verify(tag) {
                Ok(tag) => self.judge(link, (peer, boot), usize::from(links), registry, tag, now),
                Err(_) => self.refuse(link, now),
            },
            (Stage::AwaitWelcome(confirmed), Frame::Welcome(welcome)) => match confirmed.verify(welcome.tag) {
                Ok(()) => self.welcomed(link, peer, welcome, now),
                Err(_) => self.refuse(link, now),
            },
            // Something else where its proof was due.
            (Stage::AwaitConfirm(_), _) => self.refuse(link, now),
            _ => self.close(link, CloseReason::Violation, now),
        }
    }

    /// The other end did not prove the password.
    fn refuse(&mut self, link: LinkId, now: Time) {
        if let Some(held) = self.overlay.get(link) {
            self.limiter.failed(held.address.ip(), now);
            self.counters.guesses_failed += 1;
        }
        self.close(link, CloseReason::Refused, now);
    }

    /// The dialer proved the password: is there room for it?
    fn judge(
        &mut self,
        link: LinkId,
        (peer, boot): (PeerId, Boot),
        its_links: usize,
        registry: [u8; 16],
        tag: [u8; 32],
        now: Time,
    ) {
        let Some(address) = self.overlay.get(link).map(|held| held.address) else { return };
        self.limiter.succeeded(address.ip());
        let keep = self.overlay.keep(&self.me, link);
        let stranger = !self.roster.present().contains(&peer);
        let full = keep == Keep::Only && self.overlay.neighbors().count() >= self.overlay.limits.max;
        let in_need = stranger || its_links < self.overlay.limits.min;
        let verdict = if registry != self.config.registry.fingerprint() {
            Verdict::Registry
        } else if stranger && self.roster.present().len() >= self.config.limits.members {
            Verdict::MeshFull
        } else if keep == Keep::Old {
            Verdict::Duplicate
        } else if full && !(in_need && self.make_room(peer, address, now)) {
            Verdict::Full
        } else {
            Verdict::Admitted
        };
        let referrals = if verdict == Verdict::Admitted { Vec::new() } else { self.referrals(&peer) };
        let welcome = Welcome { tag, boot: self.boot, verdict, mesh_time: self.mesh_now(now), observed: address, referrals };
        self.say_to(link, &Frame::Welcome(welcome));
        match verdict {
            Verdict::Admitted => {
                if let Keep::New(old) = keep {
                    self.close(old, CloseReason::Duplicate, now);
                }
                self.admitted(link, peer, boot, now);
            }
            other => self.close(link, reason(other), now),
        }
    }

    /// We are told the verdict over ourselves.
    fn welcomed(&mut self, link: LinkId, peer: PeerId, welcome: Welcome, now: Time) {
        let Some(address) = self.overlay.get(link).map(|held| held.address) else { return };
        for Referral { address, peer } in welcome.referrals.into_iter().take(REFERRALS_MAX) {
            self.book.add(address, Some(peer), now);
        }
        if welcome.verdict != Verdict::Admitted {
            return self.close(link, reason(welcome.verdict), now);
        }
        let keep = self.overlay.keep(&self.me, link);
        let full = keep == Keep::Only && self.overlay.neighbors().count() >= self.overlay.limits.max;
        match keep {
            Keep::Old => return self.close(link, CloseReason::Duplicate, now),
            Keep::New(old) => self.close(old, CloseReason::Duplicate, now),
            Keep::Only => {}
        }
        // Somebody from another part of the mesh is worth a link that others can do without.
        if full && (self.roster.present().contains(&peer) || !self.make_room(peer, address, now)) {
            return self.close(link, CloseReason::Full, now);
        }
        let rtt = self.rtt(link);
        self.clock.sample(welcome.mesh_time, rtt, now);
        self.admitted(link, peer, welcome.boot, now);
    }

    /// Both ends know that they are members: tell the other what it needs to know.
    fn admitted(&mut self, link: LinkId, peer: PeerId, boot: Boot, now: Time) {
        self.stage(link, Stage::Member);
        let Some(held) = self.overlay.get_mut(link) else { return };
        held.heard = now;
        let (address, dialed) = (held.address, held.dialed);
        if dialed {
            self.book.reached(address, peer, now);
        }
        tracing::debug!(target: "peerflock::overlay", ?link, ?peer, %address, dialed, "admitted");
        self.outputs.push_back(Output::Admitted { link });
        let links = self.overlay.neighbors().count() as u64;
        self.counters.links_max = self.counters.links_max.max(links);
        if !self.joined {
            self.joined = true;
            self.event(Event::Joined);
        }

        let stranger = !self.roster.present().contains(&peer);
        self.open_port(link, peer, boot, stranger, now);
        // Where messages stand comes first: what follows makes the authors known.
        let standings = self.broadcast.standings();
        self.say_to(link, &Frame::Standing(standings));
        self.presence_changed(now);
        if let Some(presence) = self.presence() {
            self.say_to(link, &Frame::Presence(presence));
        }
        let others: Vec<_> =
            self.roster.members().filter(|(member, _)| **member != peer).map(|(_, member)| member.signed.clone()).collect();
        for signed in others {
            self.say_to(link, &Frame::Presence(signed));
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

    /// Drops the neighbor that can best do without us and refers it to the newcomer. False if all need us.
    fn make_room(&mut self, newcomer: PeerId, address: SocketAddr, now: Time) -> bool {
        let Some(link) = self.overlay.dispensable(&self.roster, &newcomer) else { return false };
        self.say_to(link, &Frame::Refer(vec![Referral { address, peer: newcomer }]));
        self.close(link, CloseReason::Pruned, now);
        true
    }

    /// Members with room for another link, else any.
    fn referrals(&self, except: &PeerId) -> Vec<Referral> {
        let mut others: Vec<_> = self.roster.members().filter(|(peer, _)| *peer != except).collect();
        others.sort_by_key(|(_, member)| std::cmp::Reverse(member.presence.free));
        let referral = |(peer, member): (&PeerId, &crate::roster::Present)| {
            member.presence.addresses.first().map(|address| Referral { address: *address, peer: *peer })
        };
        others.into_iter().filter_map(referral).take(REFERRALS_MAX).collect()
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

    fn stage(&mut self, link: LinkId, stage: Stage) {
        if let Some(held) = self.overlay.get_mut(link) {
            held.stage = stage;
        }
    }

    fn unlink(&mut self, link: LinkId, reason: CloseReason, now: Time) {
        let Some(held) = self.overlay.close(link) else { return };
        if matches!(held.stage, Stage::AwaitConfirm(_)) {
            // It saw our answer and did not confirm: that is a guess, too.
            self.limiter.failed(held.address.ip(), now);
            self.counters.guesses_failed += 1;
        }
        tracing::debug!(target: "peerflock::overlay", ?link, peer = ?held.peer, address = %held.address, ?reason, stage = ?held.stage, "closed");
        if held.is_member() {
            let requests = self.flood.close(link, now);
            self.graft(requests);
            self.keyframes.link_down(link);
            self.presence_changed(now);
            self.pace.soon(now);
        } else if held.dialed {
            match reason {
                CloseReason::Refused
                | CloseReason::LockedOut
                | CloseReason::Version
                | CloseReason::Registry
                | CloseReason::MeshFull => {
                    self.book.refused(held.address, now);
                    self.event(Event::Refused { address: held.address, reason });
                }
                CloseReason::SelfLink => self.book.remove(&held.address),
                _ => self.book.failed(held.address, now),
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
    }
}
