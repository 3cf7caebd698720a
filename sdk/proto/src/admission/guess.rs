//! How often one address may guess.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Time;

/// Addresses remembered at once; beyond them the one with the oldest guess is forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// How long the first lock-out lasts; each further failure doubles it, up to `LOCK_OUT_MAX`.
const LOCK_OUT: Duration = Duration::from_secs(60);
const LOCK_OUT_MAX: Duration = Duration::from_secs(3_600);
/// After so long without a failure an address starts afresh.
const FORGET_AFTER: Duration = Duration::from_secs(2 * 3_600);

/// After so many failures within `STORM`, whoever they came from, one wrong guess is enough to be locked out.
const STORM_FAILURES: u32 = 500;
const STORM: Duration = Duration::from_secs(3_600);

/// Counts failed admissions per address, or per key, and locks it out after too many.
#[derive(Debug)]
pub(crate) struct GuessLimiter<K = IpAddr> {
    allowed: u32,
    failures: BTreeMap<K, Failures>,
    /// All failures, since when.
    all: (u32, Time),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Time,
}

impl<K: Ord + Copy> GuessLimiter<K> {
    pub(crate) fn new(allowed: u32) -> Self {
        Self { allowed, failures: BTreeMap::new(), all: (0, Time(0)) }
    }

    /// Whether `address` may try (again) at `now`.
    pub(crate) fn allows(&self, address: K, now: Time) -> bool {
        let Some(failures) = self.failures.get(&address) else { return true };
        let storm = self.all.0 >= STORM_FAILURES && now.since(self.all.1) < STORM;
        let allowed = if storm { self.allowed.min(1) } else { self.allowed };
        let beyond = failures.count.saturating_sub(allowed);
        failures.count < allowed
            || now.since(failures.last) >= (LOCK_OUT * 2_u32.saturating_pow(beyond.min(10))).min(LOCK_OUT_MAX)
    }

    /// An admission from `address` did not end in a proof of the password.
    pub(crate) fn failed(&mut self, address: K, now: Time) {
        if now.since(self.all.1) >= STORM {
            self.all = (0, now);
        }
        self.all.0 = self.all.0.saturating_add(1);
        let failures = self.failures.entry(address).or_insert(Failures { count: 0, last: now });
        if now.since(failures.last) >= FORGET_AFTER {
            failures.count = 0;
        }
        *failures = Failures { count: failures.count.saturating_add(1), last: now };
        if self.failures.len() > ADDRESSES_MAX {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.last).map(|(address, _)| *address);
            oldest.map(|address| self.failures.remove(&address));
        }
    }

    /// Another member had to lock `address` out: so do we.
    pub(crate) fn lock_out(&mut self, address: K, now: Time) {
        for _ in 0..self.allowed {
            if self.allows(address, now) {
                self.failed(address, now);
            }
        }
    }

    /// Somebody at `address` proved the password.
    pub(crate) fn succeeded(&mut self, address: K) {
        self.failures.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_guesses_lock_an_address_out_and_no_other() {
        let (guesser, friend) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut limiter = GuessLimiter::new(5);
        let now = Time(1);
        for _ in 0..5 {
            assert!(limiter.allows(guesser, now));
            limiter.failed(guesser, now);
        }
        assert!(!limiter.allows(guesser, now));
        assert!(limiter.allows(friend, now));
        assert!(!limiter.allows(guesser, now + Duration::from_secs(59)));
        let later = now + Duration::from_secs(60);
        assert!(limiter.allows(guesser, later));
        limiter.failed(guesser, later);
        assert!(!limiter.allows(guesser, later + Duration::from_secs(119)));
        limiter.succeeded(guesser);
        assert!(limiter.allows(guesser, later));
    }

    #[test]
    fn in_a_storm_of_guesses_one_is_enough() {
        let mut limiter = GuessLimiter::new(5);
        let address = |n: u32| IpAddr::from((n + 1).to_be_bytes());
        (0..STORM_FAILURES - 1).for_each(|n| limiter.failed(address(n), Time(1)));
        assert!(limiter.allows(address(0), Time(2)));
        limiter.failed(address(1_000), Time(2));
        assert!(!limiter.allows(address(0), Time(3)) && limiter.allows(address(2_000), Time(3)), "honest newcomers come in");
        assert!(limiter.allows(address(0), Time(1) + STORM));
    }

    #[test]
    fn what_others_locked_out_is_locked_out_here_for_the_same_minute() {
        let mut limiter = GuessLimiter::new(5);
        let address = IpAddr::from([203, 0, 113, 7]);
        limiter.lock_out(address, Time(1));
        assert!(!limiter.allows(address, Time(1) + Duration::from_secs(59)));
        assert!(limiter.allows(address, Time(1) + Duration::from_secs(60)));
    }

    #[test]
    fn many_addresses_take_no_more_than_their_room() {
        let mut limiter = GuessLimiter::new(5);
        for n in 0..ADDRESSES_MAX as u32 + 100 {
            limiter.failed(IpAddr::from(n.to_be_bytes()), Time(u64::from(n)));
        }
        assert_eq!(limiter.failures.len(), ADDRESSES_MAX);
    }
}
