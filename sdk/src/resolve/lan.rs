//! The local network: every member announces its mesh by mDNS and hears the others, for as long as it plays.
//!
//! It goes on after joining, so that two meshes of one name that started apart find each other.

use std::sync::Arc;
use std::time::Duration;

use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent};
use peerflock_proto::{Candidate, MeshId, PeerId};
use tokio::time::{Instant, sleep_until, timeout};

use super::ResolveError;
use super::interface::Interface;
use super::sighting::{SERVICE, Sighting, Sightings};
use crate::driver::Shared;

/// How often the announcement is compared with how things stand.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many looks apart known candidates are offered again, to make up for dials that failed.
const OFFER_LOOKS: u32 = 3;
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
    let mut looks = 0_u32;
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
                let players = shared.node(|node, now| node.members(now).len());
                let now = announcer.sighting(&shared, players);
                if announced.as_ref() != Some(&now) {
                    match now.to_service().and_then(|service| mdns.daemon.register(service)) {
                        Ok(()) => announced = Some(now),
                        Err(error) => tracing::debug!(%error, "the announcement must wait"),
                    }
                }
                looks = looks.wrapping_add(1);
                if looks.is_multiple_of(OFFER_LOOKS) {
                    shared.candidates(sightings.iter().flat_map(|sighting| announcer.candidates(sighting)).collect());
                }
            }
        }
    }
    mdns.withdraw().await;
}

impl Announcer {
    fn sighting(&self, shared: &Shared, players: usize) -> Sighting {
        Sighting {
            peer: self.peer,
            mesh: self.mesh,
            name: self.name.clone(),
            listing: shared.listing(),
            players,
            addresses: self.addresses.clone(),
        }
    }

    /// Where `sighting` says that others of our mesh are.
    fn candidates<'s>(&self, sighting: &'s Sighting) -> impl Iterator<Item = Candidate> + use<'s> {
        let ours = sighting.mesh == self.mesh && sighting.peer != self.peer;
        ours.then(|| sighting.candidates()).into_iter().flatten()
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
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
