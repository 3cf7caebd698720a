//! For whom packets are relayed, and how many of them: pairs of one mesh who both asked for it. No clock, no socket, no dice of its own.
//!
//! What goes through is QUIC's, from one player to the other: it cannot be read or altered here. A packet is known by the token of its pair,
//! and by where it comes from; it goes to the other end, at an address that its connection to the directory proved, and from where
//! packets of the same pair came of late. So nobody is sent what he did not ask for, and nothing grows on its way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::DirectoryLimits;
use super::wire::{Owner, Refusal, Topic};
use crate::link::gate::{Bucket, network};
use crate::link::probe::Token;

/// An end that sent nothing for so long gets nothing any more. QUIC says that it lives once a second.
const SILENCE: Duration = Duration::from_secs(15);

/// All pairs.
#[derive(Debug, Default)]
pub(super) struct Relays {
    pairs: BTreeMap<Token, Pair>,
    tokens: BTreeMap<(Topic, Owner, Owner), Token>,
    relayed_bytes: u64,
    dropped_bytes: u64,
}

#[derive(Debug)]
struct Pair {
    topic: Topic,
    /// In the order of their keys.
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    owner: Owner,
    /// None until it asks.
    address: Option<SocketAddr>,
    /// When it asked, or a packet of it came.
    heard: Instant,
    /// What it may send.
    bucket: Bucket,
}

impl Relays {
    /// `owner`, whose connection comes from `from`, wants packets to and from `other` relayed. Returns their token: `fresh` where there is none yet.
    pub(super) fn ask(
        &mut self,
        topic: Topic,
        owner: Owner,
        other: Owner,
        from: SocketAddr,
        fresh: Token,
        limits: &DirectoryLimits,
        now: Instant,
    ) -> Result<Token, Refusal> {
        if limits.relays == 0 {
            return Err(Refusal::NoRelay);
        }
        if owner == other {
            return Err(Refusal::Malformed);
        }
        self.tidy(now);
        let key = (topic, owner.min(other), owner.max(other));
        let known = self.tokens.get(&key).copied();
        let pair = known.and_then(|token| self.pairs.get(&token));
        let enters = pair.is_none_or(|pair| pair.end(owner).is_none_or(|end| end.address.is_none()));
        let full = known.is_none() && self.pairs.len() >= limits.relays;
        if full || enters && self.of_network(network(from.ip())) >= limits.relays_of_network {
            return Err(Refusal::RelaysFull);
        }
        let token = known.unwrap_or(fresh);
        self.tokens.insert(key, token);
        let burst = f64::from(limits.relay_burst_bytes);
        let end = |owner| End { owner, address: None, heard: now, bucket: Bucket::full(burst, now) };
        let pair = self.pairs.entry(token).or_insert_with(|| Pair { topic, ends: [end(key.1), end(key.2)] });
        if let Some(end) = pair.ends.iter_mut().find(|end| end.owner == owner) {
            (end.address, end.heard) = (Some(from), now);
        }
        Ok(token)
    }

    /// Where a packet of so many bytes goes to. None for one that goes nowhere.
    pub(super) fn carry(
        &mut self,
        token: Token,
        from: SocketAddr,
        bytes: usize,
        limits: &DirectoryLimits,
        now: Instant,
    ) -> Option<SocketAddr> {
        let [one, two] = &mut self.pairs.get_mut(&token)?.ends;
        let (sender, receiver) = match () {
            () if one.address == Some(from) => (one, two),
            () if two.address == Some(from) => (two, one),
            () => return None,
        };
        sender.heard = now;
        let to = receiver.address.filter(|_| receiver.lives(now))?;
        let (rate, burst) = (f64::from(limits.relay_bytes_per_second), f64::from(limits.relay_burst_bytes));
        let goes = sender.bucket.take_many(bytes as f64, rate, burst, now);
        *if goes { &mut self.relayed_bytes } else { &mut self.dropped_bytes } += bytes as u64;
        goes.then_some(to)
    }

    /// Routers may have given players other ports: `address_of` knows where they are now.
    pub(super) fn follow(&mut self, address_of: impl Fn(&Owner) -> Option<SocketAddr>) {
        for end in self.pairs.values_mut().flat_map(|pair| &mut pair.ends) {
            if end.address.is_some() {
                end.address = address_of(&end.owner).or(end.address);
            }
        }
    }

    /// Forgets pairs of which one end is silent.
    pub(super) fn tidy(&mut self, now: Instant) {
        let tokens = &mut self.tokens;
        self.pairs.retain(|_, pair| {
            let lives = pair.ends.iter().all(|end| end.lives(now));
            if !lives {
                tokens.remove(&(pair.topic, pair.ends[0].owner, pair.ends[1].owner));
            }
            lives
        });
    }

    /// Pairs, and bytes relayed and dropped since the start.
    pub(super) fn stats(&self) -> (usize, u64, u64) {
        (self.pairs.len(), self.relayed_bytes, self.dropped_bytes)
    }

    /// Pairs with an end there.
    fn of_network(&self, of: IpAddr) -> usize {
        let there = |end: &End| end.address.is_some_and(|address| network(address.ip()) == of);
        self.pairs.values().filter(|pair| pair.ends.iter().any(there)).count()
    }
}

impl Pair {
    fn end(&self, owner: Owner) -> Option<&End> {
        self.ends.iter().find(|end| end.owner == owner)
    }
}

impl End {
    fn lives(&self, now: Instant) -> bool {
        now.duration_since(self.heard) < SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUSK: Topic = [1; 32];

    fn at(n: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, (n % 200) as u8], 1_000 + n))
    }

    fn limits() -> DirectoryLimits {
        DirectoryLimits {
            relays: 3,
            relays_of_network: 2,
            relay_bytes_per_second: 1_000,
            relay_burst_bytes: 5_000,
            ..DirectoryLimits::default()
        }
    }

    fn asks(relays: &mut Relays, one: u8, two: u8, now: Instant) -> Result<Token, Refusal> {
        let token = [one.min(two), one.max(two), 0, 0, 0, 0, 0, one];
        relays.ask(DUSK, [one; 32], [two; 32], at(one.into()), token, &limits(), now)
    }

    #[test]
    fn packets_go_between_two_who_both_asked_and_nowhere_else() {
        let (mut relays, now, limits) = (Relays::default(), Instant::now(), limits());
        let token = asks(&mut relays, 1, 2, now).unwrap();
        assert_eq!(relays.carry(token, at(1), 100, &limits, now), None, "the other did not ask");
        assert_eq!(asks(&mut relays, 2, 1, now), Ok(token), "one token for both");
        assert_eq!(relays.carry(token, at(1), 100, &limits, now), Some(at(2)));
        assert_eq!(relays.carry(token, at(2), 100, &limits, now), Some(at(1)));
        assert_eq!(relays.carry(token, at(3), 100, &limits, now), None, "somebody else's");
        assert_eq!(relays.carry([9; 8], at(1), 100, &limits, now), None);
        assert_eq!(asks(&mut relays, 1, 1, now), Err(Refusal::Malformed));
        assert_eq!(relays.stats(), (1, 200, 0));
        // One's router gives it another port.
        relays.follow(|owner| (*owner == [2; 32]).then(|| at(7)));
        assert_eq!(relays.carry(token, at(1), 100, &limits, now), Some(at(7)));
        assert_eq!(relays.carry(token, at(2), 100, &limits, now), None);
    }

    #[test]
    fn a_pair_has_its_rate_each_way() {
        let (mut relays, mut now, limits) = (Relays::default(), Instant::now(), limits());
        let token = asks(&mut relays, 1, 2, now).unwrap();
        asks(&mut relays, 2, 1, now).unwrap();
        let mut went = [0; 2];
        for _ in 0..100 {
            now += Duration::from_millis(100);
            for (way, from) in [at(1), at(2)].into_iter().enumerate() {
                for _ in 0..5 {
                    went[way] += if relays.carry(token, from, 500, &limits, now).is_some() { 500 } else { 0 };
                }
            }
        }
        // 5,000 at once and 1,000 in each of 10 seconds.
        assert!(went.iter().all(|went| (14_000..=15_000).contains(went)), "{went:?}");
        assert_eq!(relays.stats(), (1, went.iter().sum(), 2 * 250_000 - went.iter().sum::<u64>()));
    }

    #[test]
    fn who_is_silent_gets_nothing_and_is_forgotten() {
        let (mut relays, now, limits) = (Relays::default(), Instant::now(), limits());
        let token = asks(&mut relays, 1, 2, now).unwrap();
        asks(&mut relays, 2, 1, now).unwrap();
        let later = now + SILENCE - Duration::from_secs(1);
        assert_eq!(relays.carry(token, at(1), 100, &limits, later), Some(at(2)));
        let later = now + SILENCE;
        assert_eq!(relays.carry(token, at(1), 100, &limits, later), None, "it does not answer");
        relays.tidy(later);
        assert_eq!((relays.stats().0, relays.tokens.len()), (0, 0));
    }

    #[test]
    fn nothing_grows_past_its_limit() {
        let (mut relays, now) = (Relays::default(), Instant::now());
        assert!(asks(&mut relays, 1, 2, now).is_ok() && asks(&mut relays, 1, 3, now).is_ok());
        assert_eq!(asks(&mut relays, 1, 4, now), Err(Refusal::RelaysFull), "of one network");
        assert!(asks(&mut relays, 5, 6, now).is_ok());
        assert_eq!(asks(&mut relays, 7, 8, now), Err(Refusal::RelaysFull), "of all");
        assert!(asks(&mut relays, 2, 1, now).is_ok(), "who is in is in");
        for n in 0..100 {
            _ = asks(&mut relays, 10 + n, 150 + n, now);
        }
        assert_eq!((relays.pairs.len(), relays.tokens.len()), (3, 3));
        assert!(asks(&mut relays, 7, 8, now + SILENCE).is_ok(), "room again");
        let none = DirectoryLimits { relays: 0, ..limits() };
        assert_eq!(relays.ask(DUSK, [1; 32], [2; 32], at(1), [0; 8], &none, now), Err(Refusal::NoRelay));
    }
}
