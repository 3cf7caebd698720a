//! One attempt to open a way between two ends: a state machine without a socket or a clock.
//!
//! Both ends send small probes to all addresses of the other, at about the same time. Most routers give a socket one port for all ways:
//! then the first probes that cross open them. Where nothing came through soon, one of the two may have a router that gives each way a
//! port of its own (a *hard*, or symmetric, one). Its end then opens many sockets towards the other, and that sends to many ports: few of
//! each are enough for two to meet, as birthdays do. Between two hard ones there is no way that is worth its packets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::offer::Offer;
use crate::link::probe::Via;

/// After how many milliseconds the addresses are probed, from the start.
const ROUNDS_MS: [u64; 9] = [0, 40, 100, 200, 350, 550, 800, 1_200, 1_700];
/// When nothing came through until then many ports are tried.
const WIDE_AFTER: Duration = Duration::from_millis(250);
/// Sockets opened towards an end whose router keeps one port, and after how many milliseconds each of them sends.
const SOCKETS: usize = 320;
const SOCKET_ROUNDS_MS: [u64; 2] = [0, 500];
/// Ports tried of an end whose router does not, so many at once.
const PORTS: usize = 1_600;
const PORTS_AT_ONCE: usize = 20;
const PORTS_EVERY: Duration = Duration::from_millis(10);
/// Of them so many next to the port last seen: some routers count.
const PORTS_NEAR: u16 = 32;
/// Ports that routers give.
const PORT_MIN: u16 = 1_024;
/// An attempt that led nowhere after so long never will.
const PATIENCE: Duration = Duration::from_secs(3);
/// Packets that one attempt may take, whatever happens: 130 kB of network.
pub(super) const PACKETS_MAX: usize = 2_400;
/// Ways probed because something came from there.
const LIVE_MAX: usize = 8;

const PROBE: u8 = 0;
const ACK: u8 = 1;
const MAC_BYTES: usize = 16;
/// How long a probe is, in bytes.
const PROBE_BYTES: usize = 8 + 1 + MAC_BYTES;

/// What an attempt wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Send these bytes.
    Probe { via: Via, to: SocketAddr, bytes: Vec<u8> },
    /// Open so many more sockets; answer with [`Attempt::opened`].
    OpenSockets(usize),
    /// Whatever goes there goes by that socket from now on.
    Adopt { via: Via, to: SocketAddr },
    /// Both directions work: dial.
    Dial(SocketAddr),
    /// It led nowhere.
    GiveUp,
}

/// An attempt. Times are durations since it began, on its own end.
#[derive(Debug)]
pub(super) struct Attempt {
    number: u64,
    key: [u8; 32],
    /// Whether we dial once there is a way; else the other end does.
    dialer: bool,
    mine: Offer,
    theirs: Offer,
    round: usize,
    /// Something of the other end came through.
    heard: bool,
    /// There is a way.
    settled: bool,
    over: bool,
    live: BTreeSet<(SocketAddr, Via)>,
    wide: Option<Wide>,
    packets: usize,
    dice: u64,
}

/// Many sockets, many ports.
#[derive(Debug)]
struct Wide {
    began: Duration,
    sockets: Vec<Via>,
    socket_round: usize,
    ports: Vec<u16>,
    ports_at: Duration,
}

impl Attempt {
    /// Between the one who began and the one who answered; `mine` is ours. `dice` is any random number.
    pub(super) fn new(dialer: bool, mine: Offer, theirs: Offer, dice: u64) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 way");
        let (first, second) = if mine.answer { (&theirs, &mine) } else { (&mine, &theirs) };
        hash.update(&first.attempt.to_le_bytes()).update(&first.token).update(&second.token);
        Self {
            number: mine.attempt,
            key: *hash.finalize().as_bytes(),
            dialer,
            mine,
            theirs,
            round: 0,
            heard: false,
            settled: false,
            over: false,
            live: BTreeSet::new(),
            wide: None,
            packets: 0,
            dice: dice | 1,
        }
    }

    /// What is due after so long.
    pub(super) fn poll(&mut self, after: Duration) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.over {
            return acts;
        }
        if after >= PATIENCE {
            self.over = true;
            return if self.settled { acts } else { vec![Act::GiveUp] };
        }
        if self.settled {
            return acts;
        }
        while ROUNDS_MS.get(self.round).is_some_and(|due| after >= Duration::from_millis(*due)) {
            self.round += 1;
            let addresses: BTreeSet<SocketAddr> = self.theirs.inner.iter().chain(&self.theirs.outer).copied().collect();
            let live = self.live.clone();
            let all = addresses.into_iter().map(|to| (to, Via::Main)).chain(live);
            for (to, via) in all.collect::<BTreeSet<_>>() {
                self.probe(PROBE, via, to, &mut acts);
            }
        }
        if after >= WIDE_AFTER && !self.heard {
            self.widen(after, &mut acts);
        }
        acts
    }

    /// When to poll next.
    pub(super) fn next(&self, after: Duration) -> Duration {
        let round = ROUNDS_MS.get(self.round).map_or(PATIENCE, |due| Duration::from_millis(*due));
        let wide = match &self.wide {
            _ if self.heard || self.settled => PATIENCE,
            None => WIDE_AFTER.max(after),
            Some(wide) if !wide.ports.is_empty() => wide.ports_at,
            Some(wide) => {
                SOCKET_ROUNDS_MS.get(wide.socket_round).map_or(PATIENCE, |due| wide.began + Duration::from_millis(*due))
            }
        };
        round.min(wide).min(PATIENCE)
    }

    /// The sockets that were asked for.
    pub(super) fn opened(&mut self, sockets: Vec<Via>) {
        if let Some(wide) = &mut self.wide {
            wide.sockets = sockets;
        }
    }

    /// Whether it is of this attempt, a packet came.
    pub(super) fn hear(&mut self, from: SocketAddr, via: Via, bytes: &[u8]) -> Option<Vec<Act>> {
        let kind = self.open(bytes)?;
        let mut acts = Vec::new();
        let first = !self.settled;
        self.heard = true;
        if kind == PROBE {
            self.probe(ACK, via, from, &mut acts);
            if first && self.live.len() < LIVE_MAX && self.live.insert((from, via)) {
                if !self.dialer && !self.live.iter().any(|(_, other)| *other != via && *other != Via::Main) {
                    // The other end will dial this way: QUIC must listen here.
                    acts.push(Act::Adopt { via, to: from });
                }
                self.probe(PROBE, via, from, &mut acts);
            }
        } else if first {
            self.settled = true;
            if self.dialer {
                acts.push(Act::Adopt { via, to: from });
                acts.push(Act::Dial(from));
            }
        }
        Some(acts)
    }

    /// Whether no way is to be hoped for: no sort of address is at both ends, or both routers give each way a port of its own and there is
    /// no IPv6.
    pub(super) fn is_hopeless(&self) -> bool {
        let has = |offer: &Offer, six: bool| offer.inner.iter().chain(&offer.outer).any(|address| address.is_ipv6() == six);
        let both = |six| has(&self.mine, six) && has(&self.theirs, six);
        let hard = self.mine.hard == Some(true) && self.theirs.hard == Some(true);
        !both(true) && (hard || !both(false))
    }

    /// Packets sent so far.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// Whether there is nothing more to do.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    fn widen(&mut self, after: Duration, acts: &mut Vec<Act>) {
        let outer = |offer: &Offer| offer.outer.iter().find(|address| address.is_ipv4()).copied();
        // Both need IPv4 for what follows.
        let (Some(_), Some(theirs)) = (outer(&self.mine), outer(&self.theirs)) else { return };
        let (me_hard, they_hard) = (self.mine.hard, self.theirs.hard);
        if me_hard == Some(true) && they_hard == Some(true) {
            return;
        }
        if self.wide.is_none() {
            let ports = if they_hard == Some(false) { Vec::new() } else { self.ports(theirs.port()) };
            self.wide = Some(Wide { began: after, sockets: Vec::new(), socket_round: 0, ports, ports_at: after });
            if me_hard != Some(false) {
                acts.push(Act::OpenSockets(SOCKETS));
                // They are there when we are called next.
                return;
            }
        }
        let Some(wide) = &mut self.wide else { return };
        let mut sends: Vec<(Via, SocketAddr)> = Vec::new();
        if SOCKET_ROUNDS_MS.get(wide.socket_round).is_some_and(|due| after >= wide.began + Duration::from_millis(*due)) {
            wide.socket_round += 1;
            sends.extend(wide.sockets.iter().map(|via| (*via, theirs)));
        }
        if after >= wide.ports_at {
            wide.ports_at = after + PORTS_EVERY;
            let rest = wide.ports.len().saturating_sub(PORTS_AT_ONCE);
            sends.extend(wide.ports.drain(rest..).map(|port| (Via::Main, SocketAddr::new(theirs.ip(), port))));
        }
        for (via, to) in sends {
            self.probe(PROBE, via, to, acts);
        }
    }

    /// The ports to try, the last one first: none twice.
    fn ports(&mut self, seen: u16) -> Vec<u16> {
        let mut taken = BTreeSet::new();
        let near = (1..=PORTS_NEAR / 2).flat_map(|step| [seen.saturating_add(step), seen.saturating_sub(step)]);
        let mut ports: Vec<u16> = near.filter(|port| *port >= PORT_MIN && taken.insert(*port)).collect();
        while ports.len() < PORTS {
            let port = (self.roll() >> 16) as u16;
            if port >= PORT_MIN && taken.insert(port) {
                ports.push(port);
            }
        }
        ports.reverse();
        ports
    }

    fn roll(&mut self) -> u64 {
        // xorshift64: only to spread ports.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice
    }

    fn probe(&mut self, kind: u8, via: Via, to: SocketAddr, acts: &mut Vec<Act>) {
        if self.packets >= PACKETS_MAX {
            return;
        }
        self.packets += 1;
        let bytes = [&self.number.to_le_bytes(), [kind].as_slice(), &self.mac(kind, !self.mine.answer)].concat();
        acts.push(Act::Probe { via, to, bytes });
    }

    /// What proves a packet to be of this attempt and of its other end.
    fn mac(&self, kind: u8, from_first: bool) -> [u8; MAC_BYTES] {
        let mut hash = blake3::Hasher::new_keyed(&self.key);
        hash.update(&[kind, u8::from(from_first)]);
        let mut mac = [0; MAC_BYTES];
        hash.finalize_xof().fill(&mut mac);
        mac
    }

    fn open(&self, bytes: &[u8]) -> Option<u8> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (&kind, mac) = rest.split_first()?;
        let ours = u64::from_le_bytes(*number) == self.number && bytes.len() == PROBE_BYTES && kind <= ACK;
        (ours && mac == self.mac(kind, self.mine.answer)).then_some(kind)
    }
}

/// Which attempt a packet says to be of.
pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<8>().map(|number| u64::from_le_bytes(*number))
}

/// The address that a player's own router shows, when it is one.
pub(super) fn is_behind_router(inner: &[SocketAddr], seen: SocketAddr) -> bool {
    let same = |ip: IpAddr| inner.iter().any(|address| address.ip() == ip && address.port() == seen.port());
    !same(seen.ip())
}

#[cfg(test)]
mod tests;
