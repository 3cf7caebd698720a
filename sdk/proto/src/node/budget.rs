//! How much of our own state a tick may say: what the game allows, and what the lines carry.
//!
//! Where that is less than what changed, fewer and smaller ticks go, with what waits most for it in them (see `backlog`): a line
//! never has more to carry than it can, so nothing in it gets old. One slow neighbor does not thin out the world for everyone: it gets
//! fewer of the ticks. Only when most links are full is it our own line that is.

use std::time::Duration;

use super::Node;
use crate::flood::Slot;
use crate::id::LinkId;
use crate::time::Time;

/// Credit for more than so long is not saved up.
const SAVED: Duration = Duration::from_millis(250);
/// And for less than this, a datagram, always.
const SAVED_BYTES_MIN: i64 = 1_200;
/// Ticks are as rare as a packet is nearly full: each says again what the last ones said that are not acknowledged yet.
const TICK_BYTES_MIN: i64 = 1_000;
/// The least that a tick may say, when it must go.
const ROOM_MIN: i64 = 64;
/// What each packet costs beside its payload, about, in bytes: parcel, QUIC and UDP.
const PACKET_BYTES: usize = 48;
/// Of what a link carries, in percent: the rest is for messages and repairs.
const OURS: u64 = 95;
/// When a link is no longer full we send so much more, in percent, each time it is measured, up to where it hardly counts.
const GROWTH: u64 = 105;
const RATE_MAX: u64 = 8 << 20;

/// Bytes that may go.
#[derive(Debug)]
pub(super) struct Allowance {
    credit: i64,
    filled: Time,
}

impl Allowance {
    pub(super) fn starting(now: Time) -> Self {
        Self { credit: SAVED_BYTES_MIN, filled: now }
    }

    fn fill(&mut self, rate: u64, now: Time) -> i64 {
        let bytes = |time: Duration| i64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(i64::MAX);
        let gained = bytes(now.since(self.filled).min(SAVED));
        // What is less than a byte is not lost.
        if gained > 0 {
            self.filled = now;
            self.credit = (self.credit + gained).min(bytes(SAVED).max(SAVED_BYTES_MIN));
        }
        self.credit
    }
}

/// What a tick may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TickSize {
    Whole,
    Bytes(usize),
    /// Nothing yet: a later tick says more at once.
    Later,
}

impl Node {
    /// How much a tick may say now. `must`: it goes in any case.
    pub(super) fn tick_size(&mut self, must: bool, now: Time) -> TickSize {
        let Some(rate) = self.state_rate() else {
            self.allowance = Allowance::starting(now);
            return TickSize::Whole;
        };
        match self.allowance.fill(rate, now) {
            credit if credit < TICK_BYTES_MIN && !must => TickSize::Later,
            credit => TickSize::Bytes(credit.max(ROOM_MIN) as usize),
        }
    }

    /// A tick took so many bytes, in so many packets.
    pub(super) fn spend(&mut self, bytes: usize, packets: usize) {
        self.author.took(bytes);
        self.allowance.credit -= (bytes + packets * PACKET_BYTES) as i64;
    }

    /// What a link carries, in bytes per second, as the driver sees it; None if it is not full.
    pub(super) fn note_limit(&mut self, link: LinkId, limit: Option<u64>) {
        if let Some(port) = self.flood.port_of(link).and_then(|port| self.flood.port_mut(port)) {
            port.limit = limit.or_else(|| port.limit.map(|before| before * GROWTH / 100)).filter(|limit| *limit < RATE_MAX);
        }
    }

    /// Bytes per second of our own state for each neighbor: what the game allows, and what the median link has room for beside what
    /// we pass on.
    pub(super) fn state_rate(&self) -> Option<u64> {
        let mut rates: Vec<u64> = self
            .flood
            .ports()
            .map(|(id, port)| match port.limit {
                Some(limit) => {
                    let passes = |slot| self.flood.targets(slot, None, Default::default()).contains(id);
                    let origins = self.flood.origins().filter(|(slot, _)| *slot != Slot::ME && passes(*slot)).count() as u64;
                    limit * OURS / 100 / if self.is_complete() { 1 } else { origins + 1 }
                }
                None => u64::MAX,
            })
            .collect();
        rates.sort_unstable();
        let carried = rates.get(rates.len() / 2).copied().filter(|rate| *rate < u64::MAX);
        let allowed = self.config.state_rate.map(u64::from);
        carried.into_iter().chain(allowed).min()
    }
}
