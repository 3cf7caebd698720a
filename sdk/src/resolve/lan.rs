//! The local network: members announce their mesh by mDNS and hear the others, for as long as they play.
//!
//! It goes on after joining, so that two meshes of one name that started apart find each other. Who starts asks who is there; from then
//! on it hears what comes, changes and goes, and everybody is quiet but for the renewal of what is announced.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent};
use peerflock_proto::{MeshId, PeerId};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::announcer::{Announcer, Say};
use super::interface::Interface;
use super::resolver::{Answer, Found, Registration, Resolver};
use super::sighting::{SERVICE, Sighting, Sightings};
use super::{Listing, ResolveError};

/// How often the announcement is compared with how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long whoever starts asks who is there, ever more seldom: at once, and after 1, 3 and 7 s.
const ASK_FOR: Duration = Duration::from_secs(8);
/// When a list asks once more. What was lost is not told again within a second after it was (RFC 6762, section 6), and so not to the
/// question that comes a second after the first.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1_200);
/// How long it takes to hear of everybody.
const BROWSE: Duration = Duration::from_millis(1_500);
/// How long leaving waits for the others to hear that the announcement is withdrawn.
const WITHDRAW_DEADLINE: Duration = Duration::from_millis(300);

/// The resolver of the local network.
pub(crate) struct Lan {
    interface: Interface,
    state: Mutex<State>,
}

struct State {
    /// None while mDNS does not work here.
    mdns: Option<Mdns>,
    sightings: Sightings,
    announcer: Announcer,
}

/// mDNS on one interface: a thread of its own, which ends with this.
pub(super) struct Mdns {
    daemon: ServiceDaemon,
    heard: Receiver<ServiceEvent>,
    /// None once it was done.
    asks_again_at: Option<Instant>,
    /// None once we ask no more.
    asks_until: Option<Instant>,
}

impl Mdns {
    pub(super) fn open(interface: &Interface) -> Result<Self, ResolveError> {
        let open = || {
            let daemon = ServiceDaemon::new()?;
            if let Some(kind) = interface.kind() {
                daemon.disable_interface(IfKind::All)?;
                daemon.enable_interface(kind)?;
            }
            let heard = daemon.browse(SERVICE)?;
            let now = Instant::now();
            Ok(Self { daemon, heard, asks_again_at: Some(now + ASK_AGAIN_AFTER), asks_until: Some(now + ASK_FOR) })
        };
        open().map_err(|error: mdns_sd::Error| ResolveError::Lan(error.to_string()))
    }

    /// Waits for what is heard next. Listens anew where mDNS hung up on us because we were slow.
    pub(super) async fn hear(&mut self) -> ServiceEvent {
        loop {
            self.settle();
            if self.asks_again_at.is_some_and(|at| at <= Instant::now()) {
                self.asks_again_at = None;
                // Not asked again, then; the questions that mDNS repeats by itself follow.
                _ = self.listen_again();
            }
            let settles_at = self.asks_again_at.or(self.asks_until).unwrap_or_else(|| Instant::now() + ASK_FOR);
            tokio::select! {
                biased;
                event = self.heard.recv_async() => match event {
                    Ok(event) => return event,
                    Err(_) => {
                        sleep(LOOK_EVERY).await;
                        // Tried again after as long where that fails.
                        _ = self.listen_again();
                    }
                },
                () = sleep_until(settles_at) => {}
            }
        }
    }

    /// Once we asked for long enough: only listens from then on. What is known already is told again.
    fn settle(&mut self) {
        if self.asks_until.is_some_and(|until| until <= Instant::now())
            && let Ok(heard) = self.daemon.browse_cache(SERVICE)
        {
            (self.heard, self.asks_until) = (heard, None);
        }
    }

    fn listen_again(&mut self) -> Result<(), mdns_sd::Error> {
        let asks = self.asks_until.is_some();
        self.heard = if asks { self.daemon.browse(SERVICE) } else { self.daemon.browse_cache(SERVICE) }?;
        Ok(())
    }

    async fn withdraw(&self) {
        if let Ok(done) = self.daemon.shutdown() {
            _ = timeout(WITHDRAW_DEADLINE, done.recv_async()).await;
        }
    }
}

impl Drop for Mdns {
    fn drop(&mut self) {
        // Already done where `withdraw` was called; the thread then no longer listens.
        _ = self.daemon.shutdown();
    }
}

impl Lan {
    pub(crate) fn new(interface: Interface) -> Self {
        let state = State { mdns: None, sightings: Sightings::new(interface.clone()), announcer: Announcer::default() };
        Self { interface, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, us: &Registration) -> Result<(), ResolveError> {
        let state = &mut *self.state();
        let mdns = match &mut state.mdns {
            Some(mdns) => mdns,
            None => state.mdns.insert(Mdns::open(&self.interface)?),
        };
        mdns.settle();
        let standing = Sighting {
            peer: us.peer,
            mesh: us.mesh,
            name: us.name.clone(),
            listing: Listing { players: None, ..us.listing.clone() },
            players: us.listing.players.unwrap_or(us.members),
            beacon: Some(us.beacon),
            addresses: us.addresses.clone(),
        };
        let before_us = state.sightings.iter().filter(|other| {
            let agrees = other.mesh == us.mesh && other.beacon == Some(us.beacon);
            // Whoever is no member could otherwise silence them all.
            agrees && other.peer < us.peer && us.has_member(&other.peer)
        });
        let done = match state.announcer.look(&standing, before_us.count(), Instant::now()) {
            Say::Nothing => Ok(()),
            Say::Announce(said) => said.to_service().and_then(|service| mdns.daemon.register(service)),
            Say::Withdraw => mdns.daemon.unregister(&standing.fullname()).map(drop),
        };
        done.map_err(|error| {
            state.announcer.forget();
            ResolveError::Lan(error.to_string())
        })
    }

    /// Waits for what is heard next, and takes it in if it is new. Listens anew where mDNS hung up on us because we were slow.
    async fn listen(&self) {
        loop {
            let heard = self.state().mdns.as_ref().map(|mdns| mdns.heard.clone());
            let Some(heard) = heard else { return std::future::pending().await };
            while let Ok(event) = heard.recv_async().await {
                if self.state().sightings.hear(event).is_some() {
                    return;
                }
            }
            if self.state().mdns.as_ref().is_some_and(|mdns| !mdns.heard.same_channel(&heard)) {
                continue; // It asks no more, and tells us by another way.
            }
            sleep(LOOK_EVERY).await;
            let state = &mut *self.state();
            if state.mdns.as_mut().is_some_and(|mdns| mdns.listen_again().is_err()) {
                state.mdns = None;
                state.announcer.forget();
            }
            return;
        }
    }
}

/// Whether what this machine announces on `interface` comes back to it within `patience`.
pub(crate) async fn hears_itself(interface: &Interface, patience: Duration) -> Result<bool, ResolveError> {
    let (says, hears) = (Mdns::open(interface)?, Mdns::open(interface)?);
    let peer = PeerId(*crate::identity::random());
    let sighting = Sighting {
        peer,
        // Nobody's mesh: whoever lists meshes sees it for a moment.
        mesh: MeshId(peer.0),
        name: "doctor".into(),
        listing: Listing::default(),
        players: 0,
        beacon: None,
        addresses: interface.addresses(SocketAddr::from(([0, 0, 0, 0], 9))),
    };
    let failed = |error: mdns_sd::Error| ResolveError::Lan(error.to_string());
    says.daemon.register(sighting.to_service().map_err(failed)?).map_err(failed)?;
    let mut sightings = Sightings::new(interface.clone());
    let heard = async {
        while let Ok(event) = hears.heard.recv_async().await {
            sightings.hear(event);
            if sightings.iter().any(|sighting| sighting.peer == peer) {
                return true;
            }
        }
        false
    };
    let heard = timeout(patience, heard).await.unwrap_or(false);
    says.withdraw().await;
    Ok(heard)
}

impl Resolver for Lan {
    fn name(&self) -> String {
        "the local network".into()
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(async move { self.announce(us).map(|()| LOOK_EVERY) })
    }

    fn resolve<'a>(&'a self, us: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            let state = self.state();
            if state.mdns.is_none() {
                return Err(ResolveError::Lan("mDNS is not running".into()));
            }
            let ours = state.sightings.iter().filter(|sighting| sighting.mesh == us.mesh && sighting.peer != us.peer);
            Ok(ours.map(|sighting| Found::peer(sighting.peer, sighting.addresses.clone()).beacon(sighting.beacon)).collect())
        })
    }

    fn withdraw<'a>(&'a self, _: &'a Registration) -> Answer<'a, ()> {
        Box::pin(async move {
            let mdns = self.state().mdns.take();
            if let Some(mdns) = mdns {
                mdns.withdraw().await;
            }
            Ok(())
        })
    }

    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.listen())
    }

    fn patience(&self) -> Duration {
        BROWSE
    }

    fn pace(&self, _: bool) -> Duration {
        LOOK_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::Browser;

    /// Real multicast, on loopback only.
    #[tokio::test]
    async fn what_is_announced_on_loopback_is_found_measured_and_withdrawn() {
        // Something that answers like a QUIC endpoint.
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 1_500];
            while let Ok((_, from)) = socket.recv_from(&mut question).await {
                let answer = [&[0x80, 0, 0, 0, 0, 8], &question[15..23], &[0; 12]].concat();
                _ = socket.send_to(&answer, from).await;
            }
        });
        let mut key = [0; 32];
        getrandom::fill(&mut key).unwrap();
        let sighting = Sighting {
            peer: PeerId(key),
            mesh: MeshId(key),
            name: "Loopback".into(),
            listing: Listing::new("test"),
            players: 1,
            beacon: None,
            addresses: vec![address],
        };
        let mdns = Mdns::open(&Interface::Loopback).unwrap();
        mdns.daemon.register(sighting.to_service().unwrap()).unwrap();
        let browser = Browser::start(Interface::Loopback).unwrap();
        // Other programs on this machine may announce meshes of their own meanwhile.
        let mesh = || browser.snapshot().into_iter().find(|found| found.mesh == sighting.mesh);
        let seen = eventually(|| mesh().filter(|mesh| mesh.round_trip.is_some())).await;
        assert_eq!((seen.name.as_str(), seen.players, seen.addresses), ("Loopback", 1, vec![address]));

        let more = Sighting { players: 2, ..sighting.clone() };
        mdns.daemon.register(more.to_service().unwrap()).unwrap();
        eventually(|| mesh().filter(|mesh| mesh.players == 2)).await;

        mdns.withdraw().await;
        eventually(|| mesh().is_none().then_some(())).await;
    }

    async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "not within ten seconds");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
