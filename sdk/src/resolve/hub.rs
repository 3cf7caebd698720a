//! Many resolvers at once: each in a task of its own, their results merged, their failures told and survived.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use peerflock_proto::{Candidate, MeshId, MeshKey, PeerId, is_relay};
use tokio::time::{Instant, sleep_until, timeout};

use super::rendezvous::Rendezvous;
use super::resolver::{Found, Registration, Resolver};
use super::{Interface, ResolveError};
use crate::driver::Shared;
use crate::link::LinkEndpoint;

/// What a resolver does not answer within this it does not answer at all, unless it says that it needs longer.
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long leaving waits for one to tell others that we are gone.
const WITHDRAW_DEADLINE: Duration = Duration::from_millis(400);
/// Wait after the first failure; doubled by each further one.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Addresses taken from one answer: who names more is not to keep us busy.
const ADDRESSES_MAX: usize = 64;
/// Of one member: as many as it can have.
const ADDRESSES_OF_ONE_MAX: usize = 8;
/// Members of whom a resolver told that are remembered, so that each is tried once.
const OFFERED_MAX: usize = 1_024;
/// Who shows another roster of our mesh than we do for so long is of another half of it: its addresses are tried, and again after as
/// long.
const APART: Duration = Duration::from_secs(3);

/// How one resolver fares, for whoever wants to know why nobody is found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolverReport {
    /// Which.
    pub name: String,
    /// Whether others can find us by it.
    pub registered: bool,
    /// How many others it named when it was last asked. None before it ever answered.
    pub found: Option<usize>,
    /// What failed last, at which step, and what to do; none once it works again.
    pub failure: Option<String>,
}

/// What of us stays the same while we play.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) peer: PeerId,
    pub(crate) mesh: MeshId,
    pub(crate) name: String,
    pub(crate) interface: Interface,
    pub(crate) rendezvous: Rendezvous,
    pub(crate) endpoint: Weak<LinkEndpoint>,
}

impl Facts {
    fn registration(&self, shared: &Arc<Shared>) -> Registration {
        let (beacon, secret) = shared.node(|node, _| (node.beacon(), node.secret()));
        // Whoever was removed knows the lock that was: under the new one it finds nobody.
        let rendezvous = secret.map(|secret| Rendezvous::new(&MeshKey::from_secret(self.mesh, *secret)));
        Registration {
            peer: self.peer,
            mesh: self.mesh,
            name: self.name.clone(),
            listing: shared.listing(),
            members: beacon.members,
            beacon: beacon.hash,
            addresses: shared.addresses(),
            // Relayed links end at no place that anybody could be told.
            neighbors: shared
                .neighbors()
                .iter()
                .filter(|link| !is_relay(link.address))
                .map(|link| Candidate { address: link.address, peer: Some(link.peer) })
                .collect(),
            interface: self.interface.clone(),
            rendezvous: rendezvous.unwrap_or_else(|| self.rendezvous.clone()),
            endpoint: self.endpoint.clone(),
            shared: Arc::downgrade(shared),
        }
    }
}

/// Registers with the resolver numbered `index`, asks it and offers what it knows, until the mesh is left.
pub(crate) async fn run(index: usize, resolver: Arc<dyn Resolver>, facts: Facts, shared: Arc<Shared>) {
    let started = Instant::now();
    let mut report = ResolverReport { name: resolver.name(), registered: false, found: None, failure: None };
    let (mut refresh_at, mut failures, mut told) = (None, 0_u32, (Vec::new(), None));
    let mut offers = Offers::default();
    let mut next = started;
    loop {
        tokio::select! {
            biased;
            () = shared.left() => break,
            () = sleep_until(next) => {}
            () = resolver.news(), if report.failure.is_none() => {}
        }
        let us = facts.registration(&shared);
        let mut outcome = Ok(());
        // What the game says to the world is told when it changes, and counts with the next renewal.
        let said = us.listing.public.then(|| us.listing.clone());
        let due = refresh_at.is_none_or(|at| at <= Instant::now()) || told.0 != us.addresses || told.1 != said;
        let was = report.registered;
        let register = async {
            match due {
                true if was => Some(within(resolver.refresh(&us), resolver.deadline()).await),
                true => Some(within(resolver.register(&us), resolver.deadline()).await),
                false => None,
            }
        };
        // At once: what takes long must not take twice as long. Whoever cannot be told of us may still know of others.
        let (registered, found) = tokio::join!(register, within(resolver.resolve(&us), resolver.deadline()));
        match registered {
            None => {}
            Some(Ok(lease)) => {
                report.registered = true;
                refresh_at = Some(Instant::now() + lease);
                told = (us.addresses.clone(), said);
            }
            Some(Err(error)) => {
                report.registered = false;
                refresh_at = None;
                outcome = Err(("registering", error));
            }
        }
        match found {
            Ok(found) => {
                report.found = Some(found.len());
                let offer = offers.look(found, &us, Instant::now());
                if resolver.knows_password() {
                    shared.note_unvouched(offer.iter().map(|candidate| candidate.address));
                }
                shared.candidates(offer);
            }
            Err(error) => outcome = outcome.and(Err(("looking for others", error))),
        }
        let now = Instant::now();
        match outcome {
            Ok(()) => {
                (failures, report.failure) = (0, None);
                let pace = now + resolver.pace(us.members <= 1);
                next = refresh_at.map_or(pace, |at| pace.min(at));
            }
            Err((step, error)) => {
                tracing::debug!(resolver = report.name, step, %error, "resolver failed");
                next = now + RETRY.saturating_mul(1 << failures.min(5)).min(RETRY_MAX);
                failures += 1;
                report.failure = Some(format!("{step}: {error}"));
            }
        }
        // Nobody is believed only after a while; an error at once, there is nothing to wait for.
        let looked =
            report.found.is_some_and(|found| found > 0) || report.failure.is_some() || now >= started + resolver.patience();
        shared.note_resolver(index, report.clone(), looked);
        if !looked {
            next = next.min(started + resolver.patience());
        }
    }
    _ = timeout(WITHDRAW_DEADLINE, resolver.withdraw(&facts.registration(&shared))).await;
}

async fn within<T>(answer: super::Answer<'_, T>, deadline: Duration) -> Result<T, ResolveError> {
    timeout(deadline, answer).await.unwrap_or(Err(ResolveError::Silent))
}

/// What a resolver named before.
#[derive(Debug, Default)]
struct Offers {
    known: BTreeMap<(Option<PeerId>, Vec<SocketAddr>), ()>,
    /// Who sees others in our mesh than we do: since when, or since we last did something about it.
    apart: BTreeMap<PeerId, Instant>,
}

impl Offers {
    /// Of all that is known now, what is worth a try.
    fn look(&mut self, found: Vec<Found>, us: &Registration, now: Instant) -> Vec<Candidate> {
        let alone = us.members <= 1;
        let others: Vec<Found> = found
            .into_iter()
            .filter(|found| found.peer != Some(us.peer))
            .map(|mut found| {
                found.addresses.retain(|address| us.interface.reaches(address.ip()) && address.port() != 0);
                found.addresses.truncate(ADDRESSES_OF_ONE_MAX);
                found
            })
            .collect();
        let differs = |found: &Found| found.beacon.is_some_and(|beacon| beacon != us.beacon);
        self.apart.retain(|peer, _| others.iter().any(|found| found.peer == Some(*peer) && differs(found)));
        let mut offer = Vec::new();
        for found in others {
            let key = (found.peer, found.addresses.clone());
            let new = !self.known.contains_key(&key);
            let mut again = false;
            if let Some(peer) = found.peer
                && differs(&found)
                && (self.apart.len() < OFFERED_MAX || self.apart.contains_key(&peer))
            {
                let since = self.apart.entry(peer).or_insert(now);
                if now.duration_since(*since) >= APART {
                    (*since, again) = (now, true);
                }
            }
            if (alone || new || again) && offer.len() + found.addresses.len() <= ADDRESSES_MAX {
                if new && self.known.len() >= OFFERED_MAX {
                    self.known.pop_first();
                }
                self.known.insert(key, ());
                offer.extend(found.addresses.iter().map(|address| Candidate { address: *address, peer: found.peer }));
            }
        }
        offer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Listing;

    fn us(members: usize, beacon: u64) -> Registration {
        let mesh = MeshId::from_name("dusk");
        Registration {
            peer: PeerId([9; 32]),
            mesh,
            name: "dusk".into(),
            listing: Listing::default(),
            members,
            beacon,
            addresses: Vec::new(),
            neighbors: Vec::new(),
            interface: Interface::Loopback,
            rendezvous: Rendezvous::new(&MeshKey::open(mesh)),
            endpoint: Weak::new(),
            shared: Weak::new(),
        }
    }

    fn found(peer: u8, beacon: Option<u64>) -> Found {
        Found::peer(PeerId([peer; 32]), vec![SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(peer)))]).beacon(beacon)
    }

    #[tokio::test(start_paused = true)]
    async fn who_sees_another_roster_for_long_is_offered_again_and_again() {
        let mut offers = Offers::default();
        let mut offered = Vec::new();
        for second in 0..10 {
            offered.extend((!offers.look(vec![found(1, Some(8))], &us(2, 7), Instant::now()).is_empty()).then_some(second));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(offered, [0, 3, 6, 9], "at once because it is new, then because it stays another");
        assert_eq!(offers.look(vec![found(1, Some(7))], &us(2, 7), Instant::now()), []);
        tokio::time::advance(2 * APART).await;
        assert_eq!(offers.look(vec![found(1, Some(8))], &us(2, 7), Instant::now()), [], "different since now only");
    }

    #[tokio::test]
    async fn one_who_is_alone_is_told_again_and_a_member_only_what_is_new() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        assert_eq!(offers.look(vec![found(1, None)], &us(1, 7), now).len(), 1);
        assert_eq!(offers.look(vec![found(1, None)], &us(1, 7), now).len(), 1);
        assert_eq!(offers.look(vec![found(1, None), found(2, None)], &us(2, 7), now).len(), 1);
        let mut moved = found(1, None);
        moved.addresses.push(SocketAddr::from(([127, 0, 0, 1], 7)));
        assert_eq!(offers.look(vec![moved], &us(2, 7), now).len(), 2);
    }

    #[tokio::test]
    async fn a_flood_of_names_nowhere_and_ourselves_are_not_tried() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        let abroad = Found::at("192.0.2.1:53".parse().unwrap());
        let nowhere =
            [abroad, Found::at("127.0.0.1:0".parse().unwrap()), Found::at("0.0.0.0:7".parse().unwrap()), found(9, None)];
        assert_eq!(offers.look(nowhere.to_vec(), &us(1, 7), now), []);
        for round in 0..100_u16 {
            let flood = (0..1_000_u16).map(|n| Found::at(SocketAddr::from(([127, 1, (round & 255) as u8, 1], 1_000 + n))));
            assert!(offers.look(flood.collect(), &us(1, 7), now).len() <= ADDRESSES_MAX);
            assert!(offers.known.len() <= OFFERED_MAX && offers.apart.len() <= OFFERED_MAX);
        }
    }
}
