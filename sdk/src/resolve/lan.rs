//! The local network: every member announces its mesh by mDNS and hears the others, for as long as it plays.
//!
//! It goes on after joining, so that two meshes of one name that started apart find each other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent};
use peerflock_proto::{Beacon, Candidate, MeshId, PeerId};
use tokio::time::{Instant, sleep_until, timeout};

use super::ResolveError;
use super::interface::Interface;
use super::sighting::{SERVICE, Sighting, Sightings};
use crate::driver::Shared;

/// How often the announcement is compared with how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who announces our mesh with another roster than ours for so long is of another half of it: its address is offered, and again
/// after as long.
const APART: Duration = Duration::from_secs(3);
/// How long leaving waits for the others to hear that the announcement is withdrawn.
const WITHDRAW_DEADLINE: Duration = Duration::from_millis(300);

/// What of ourselves the announcement needs beside what changes as we play.
#[derive(Clone, Debug)]
pub(crate) struct Announcer {
    pub(crate) peer: PeerId,
    pub(crate) mesh: MeshId,
    pub(crate) name: String,
    pub(crate) interface: Interface,
    pub(crate) addresses: Vec<std::net::SocketAddr>,
}

/// mDNS on one interface: a thread of its own, which ends with this.
pub(super) struct Mdns {
    daemon: ServiceDaemon,
    heard: Receiver<ServiceEvent>,
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
            Ok(Self { daemon, heard })
        };
        open().map_err(|error: mdns_sd::Error| ResolveError::Lan(error.to_string()))
    }

    /// Waits for what is heard next. Listens anew where mDNS hung up on us because we were slow.
    pub(super) async fn hear(&mut self) -> ServiceEvent {
        loop {
            match self.heard.recv_async().await {
                Ok(event) => return event,
                Err(_) => {
                    tokio::time::sleep(LOOK_EVERY).await;
                    if let Ok(heard) = self.daemon.browse(SERVICE) {
                        self.heard = heard;
                    }
                }
            }
        }
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

/// Announces and listens until the mesh is left.
pub(crate) async fn run(announcer: Announcer, shared: Arc<Shared>) {
    let mut mdns = match Mdns::open(&announcer.interface) {
        Ok(mdns) => mdns,
        Err(error) => {
            tracing::warn!(%error, "nobody on the local network will find this mesh");
            return;
        }
    };
    let mut sightings = Sightings::new(announcer.interface.clone());
    let mut announced = None;
    let mut next_look = Instant::now();
    let mut apart = Apart::default();
    loop {
        tokio::select! {
            biased;
            () = shared.left() => break,
            event = mdns.hear() => {
                if let Some(sighting) = sightings.hear(event) {
                    shared.candidates(announcer.candidates(sighting).collect());
                }
            }
            () = sleep_until(next_look) => {
                next_look += LOOK_EVERY;
                let beacon = shared.node(|node, _| node.beacon());
                let now = announcer.sighting(&shared, beacon);
                if announced.as_ref() != Some(&now) {
                    match now.to_service().and_then(|service| mdns.daemon.register(service)) {
                        Ok(()) => announced = Some(now),
                        Err(error) => tracing::debug!(%error, "the announcement must wait"),
                    }
                }
                let ours = sightings.iter().filter(|sighting| announcer.is_of_our_mesh(sighting));
                shared.candidates(apart.look(ours, beacon.hash, Instant::now()));
            }
        }
    }
    mdns.withdraw().await;
}

impl Announcer {
    fn sighting(&self, shared: &Shared, beacon: Beacon) -> Sighting {
        Sighting {
            peer: self.peer,
            mesh: self.mesh,
            name: self.name.clone(),
            listing: shared.listing(),
            players: beacon.members,
            beacon: Some(beacon.hash),
            addresses: self.addresses.clone(),
        }
    }

    /// Where `sighting` says that others of our mesh are.
    fn candidates<'s>(&self, sighting: &'s Sighting) -> impl Iterator<Item = Candidate> + use<'s> {
        self.is_of_our_mesh(sighting).then(|| sighting.candidates()).into_iter().flatten()
    }

    fn is_of_our_mesh(&self, sighting: &Sighting) -> bool {
        sighting.mesh == self.mesh && sighting.peer != self.peer
    }
}

/// Who sees others in our mesh than we do: since when, or since we last did something about it.
#[derive(Debug, Default)]
struct Apart(BTreeMap<PeerId, Instant>);

impl Apart {
    /// Looks at all who announce our mesh; returns where those are who have seen it differently for too long.
    fn look<'s>(&mut self, ours: impl Iterator<Item = &'s Sighting>, beacon: u64, now: Instant) -> Vec<Candidate> {
        let differing: BTreeMap<PeerId, &Sighting> =
            ours.filter(|sighting| sighting.beacon != Some(beacon)).map(|sighting| (sighting.peer, sighting)).collect();
        self.0.retain(|peer, _| differing.contains_key(peer));
        let mut offers = Vec::new();
        for (peer, sighting) in differing {
            let since = self.0.entry(peer).or_insert(now);
            if now.duration_since(*since) >= APART {
                *since = now;
                offers.extend(sighting.candidates());
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::{Browser, Listing};

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

    #[tokio::test(start_paused = true)]
    async fn who_sees_another_roster_for_long_is_offered_again_and_again() {
        let sighting = |beacon| Sighting {
            peer: PeerId([1; 32]),
            mesh: MeshId([2; 32]),
            name: "Halves".into(),
            listing: Listing::new("test"),
            players: 1,
            beacon,
            addresses: vec!["127.0.0.1:7".parse().unwrap()],
        };
        let (mut apart, other, same) = (Apart::default(), sighting(Some(8)), sighting(Some(7)));
        let mut offered = Vec::new();
        for second in 0..10 {
            offered.extend((!apart.look([&other].into_iter(), 7, Instant::now()).is_empty()).then_some(second));
            tokio::time::advance(LOOK_EVERY).await;
        }
        assert_eq!(offered, [3, 6, 9]);
        assert_eq!(apart.look([&same].into_iter(), 7, Instant::now()), []);
        tokio::time::advance(2 * APART).await;
        assert_eq!(apart.look([&other].into_iter(), 7, Instant::now()), [], "different since now only");
    }

    async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "not within ten seconds");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
