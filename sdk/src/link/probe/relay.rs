//! Packets of links that a directory carries: who they are for, on both ends and in between.
//!
//! Two players who find no way to each other hold a link through a directory. To QUIC its other end is at an address that no machine has
//! ([`RELAY_IP`]); here it is put into packets to the directory, and taken out of those that come from there. What is in them is QUIC's: the
//! directory can neither read nor alter it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::RELAY_IP;
use tokio::time::Instant;

use super::packet::{Packet, Token};
use super::{SideDoor, Via};

/// Ways by directories at once; the oldest falls out.
const RELAYS_MAX: usize = 16;
/// Packets that wait for QUIC to take them; more are lost, as anywhere.
const WAITING_MAX: usize = 64;
/// A way that no link uses after so long is closed.
const UNUSED: Duration = Duration::from_secs(15);

/// Passes packets on between the pairs that it knows: a directory.
pub(crate) trait Carrier: Send + Sync {
    /// Where a packet of so many bytes with this token, sent from `from`, goes to. None where it goes nowhere. Called for every packet, so it
    /// must not wait.
    fn carry(&self, token: Token, from: SocketAddr, bytes: usize) -> Option<SocketAddr>;
}

/// The ways by directories, of one socket.
#[derive(Default)]
pub(super) struct Relays {
    ways: Vec<Relay>,
    waiting: VecDeque<(SocketAddr, Bytes)>,
    next_port: u16,
    carrier: Option<Arc<dyn Carrier>>,
}

/// A way by a directory.
struct Relay {
    token: Token,
    /// The directory.
    by: SocketAddr,
    /// Where QUIC is told that the other end is.
    at: SocketAddr,
    bytes_per_second: f64,
    /// When a link last used it, or when it was opened.
    used: Instant,
}

impl Relays {
    /// What came for QUIC by a directory.
    pub(super) fn arrived(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.waiting.pop_front()
    }

    /// By which directory, and under which token, a packet gets to the other end at `at`.
    pub(super) fn way_to(&self, at: SocketAddr) -> Option<(SocketAddr, Token)> {
        self.ways.iter().find(|way| way.at == at).map(|way| (way.by, way.token))
    }
}

impl SideDoor {
    /// Opens a way by the directory at `by`. Returns where its other end is to be dialed.
    pub(crate) fn open_relay(&self, token: Token, by: SocketAddr, bytes_per_second: f64) -> SocketAddr {
        let (now, relays) = (Instant::now(), &mut self.state().relays);
        if let Some(way) = relays.ways.iter_mut().find(|way| way.token == token && way.by == by) {
            (way.bytes_per_second, way.used) = (bytes_per_second, now);
            return way.at;
        }
        if relays.ways.len() >= RELAYS_MAX {
            relays.ways.remove(0);
        }
        loop {
            relays.next_port = relays.next_port.checked_add(1).unwrap_or(1);
            let at = SocketAddr::new(RELAY_IP, relays.next_port);
            if relays.way_to(at).is_none() {
                relays.ways.push(Relay { token, by, at, bytes_per_second, used: now });
                return at;
            }
        }
    }

    /// What the directory carries each way, in bytes per second, where `at` is the other end of an open way by one.
    pub(crate) fn relay_rate(&self, at: SocketAddr) -> Option<f64> {
        self.state().relays.ways.iter().find(|way| way.at == at).map(|way| way.bytes_per_second)
    }

    /// Closes the ways by directories that no link uses any more.
    pub(crate) fn tend_relays(&self, in_use: impl Fn(SocketAddr) -> bool) {
        let now = Instant::now();
        self.state().relays.ways.retain_mut(|way| {
            if in_use(way.at) {
                way.used = now;
            }
            now - way.used < UNUSED
        });
    }

    /// From now on packets between others are passed on as `carrier` says.
    pub(crate) fn set_carrier(&self, carrier: Arc<dyn Carrier>) {
        self.state().relays.carrier = Some(carrier);
    }

    /// A relayed packet came: it is for us, or to be passed on.
    pub(super) fn take_relayed(&self, token: Token, from: SocketAddr, payload: &[u8]) {
        let carrier = {
            let relays = &mut self.state().relays;
            if let Some(way) = relays.ways.iter().find(|way| way.token == token && way.by == from) {
                if relays.waiting.len() < WAITING_MAX {
                    relays.waiting.push_back((way.at, Bytes::copy_from_slice(payload)));
                }
                return;
            }
            relays.carrier.clone()
        };
        let packet = Packet::Relay { token, payload }.bytes();
        if let Some(to) = carrier.and_then(|carrier| carrier.carry(token, from, packet.len())) {
            self.send(Via::Main, to, &packet);
        }
    }

    /// Sends a packet of QUIC's to the other end of a relayed link. Where there is no such way it goes nowhere.
    pub(super) fn relay(&self, at: SocketAddr, payload: &[u8]) {
        let way = self.state().relays.way_to(at);
        if let Some((by, token)) = way {
            self.send(Via::Main, by, &Packet::Relay { token, payload }.bytes());
        }
    }
}
