//! All meshes on the local network, for a lobby.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use peerflock_proto::{MeshId, PeerId};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::interface::{ADDRESSES_MAX, Interface};
use super::lan::Mdns;
use super::sighting::{Sighting, Sightings};
use super::{Listing, ResolveError, ping};

/// How often the round-trip times are measured.
const PING_EVERY: Duration = Duration::from_secs(3);
/// How soon a mesh seen for the first time is measured.
const PING_SOON: Duration = Duration::from_millis(100);
/// How long a ping waits for its answer.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// Meshes measured in one round.
const PINGS_MAX: usize = 64;

/// One mesh on the local network, merged over all members that announce it. Hearsay: only a link proves anything.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FoundMesh {
    /// What it calls itself.
    pub name: String,
    /// Which it is.
    pub mesh: MeshId,
    /// Which game is played there.
    pub game: String,
    /// Which version of it. Empty where nothing is said about it.
    pub version: String,
    /// Which of its modes, or which map. Empty where nothing is said about it.
    pub mode: String,
    /// How many play.
    pub players: usize,
    /// How many may. 0 says nothing about it.
    pub players_max: usize,
    /// Whether a password or a ticket is needed.
    pub locked: bool,
    /// What else the game says of it, within the limits of a [`Listing`].
    pub data: BTreeMap<String, String>,
    /// Where its members are.
    pub addresses: Vec<SocketAddr>,
    /// The time to its nearest member and back, once measured.
    pub round_trip: Option<Duration>,
    /// Its members that announce it.
    pub hosts: Vec<PeerId>,
}

/// Keeps looking for meshes on the local network, in a thread of its own that ends with it. Needs no async runtime.
#[derive(Debug)]
pub struct Browser {
    found: Arc<Mutex<Vec<FoundMesh>>>,
    /// Dropped with the browser, which tells the thread to end.
    _stop: oneshot::Sender<()>,
}

impl Browser {
    /// Starts looking. The first meshes show up within a second.
    ///
    /// # Errors
    /// When the operating system refuses mDNS or a thread. Nothing is left behind then.
    pub fn start(interface: Interface) -> Result<Self, ResolveError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mdns = Mdns::open(&interface)?;
        let found = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let shelf = found.clone();
        std::thread::Builder::new().name("peerflock-browser".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    biased;
                    // Dropping the other end is the message.
                    _ = stopped => {}
                    () = look(mdns, interface, &shelf) => {}
                }
            });
        })?;
        Ok(Self { found, _stop: stop })
    }

    /// What is in the air now, by name.
    pub fn snapshot(&self) -> Vec<FoundMesh> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Looks for meshes on the local network for as long as `for_how_long`. Two seconds find what there is.
///
/// # Errors
/// When the operating system refuses mDNS or a thread.
pub async fn browse(interface: Interface, for_how_long: Duration) -> Result<Vec<FoundMesh>, ResolveError> {
    let browser = Browser::start(interface)?;
    sleep(for_how_long).await;
    Ok(browser.snapshot())
}

async fn look(mut mdns: Mdns, interface: Interface, shelf: &Mutex<Vec<FoundMesh>>) {
    let mut sightings = Sightings::new(interface);
    let mut round_trips: BTreeMap<MeshId, Duration> = BTreeMap::new();
    let mut asked: BTreeSet<MeshId> = BTreeSet::new();
    let mut pings: JoinSet<(MeshId, Option<Duration>)> = JoinSet::new();
    let mut next_round = Instant::now() + PING_EVERY;
    loop {
        tokio::select! {
            biased;
            Some(pong) = pings.join_next(), if !pings.is_empty() => {
                if let Ok((mesh, Some(round_trip))) = pong {
                    round_trips.insert(mesh, round_trip);
                }
            }
            event = mdns.hear() => {
                sightings.hear(event);
            }
            () = sleep_until(next_round) => {
                next_round = Instant::now() + PING_EVERY;
                for mesh in merge(&sightings, &round_trips).into_iter().take(PINGS_MAX.saturating_sub(pings.len())) {
                    asked.insert(mesh.mesh);
                    if let Some(&address) = mesh.addresses.first() {
                        pings.spawn(async move { (mesh.mesh, ping(address, PING_PATIENCE).await.ok()) });
                    }
                }
            }
        }
        let found = merge(&sightings, &round_trips);
        round_trips.retain(|mesh, _| found.iter().any(|found| found.mesh == *mesh));
        asked.retain(|mesh| found.iter().any(|found| found.mesh == *mesh));
        if found.iter().any(|mesh| !asked.contains(&mesh.mesh)) {
            next_round = next_round.min(Instant::now() + PING_SOON);
        }
        *shelf.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// One entry per mesh, however many members announce it.
fn merge(sightings: &Sightings, round_trips: &BTreeMap<MeshId, Duration>) -> Vec<FoundMesh> {
    let mut meshes: BTreeMap<MeshId, Vec<&Sighting>> = BTreeMap::new();
    for sighting in sightings.by_age() {
        meshes.entry(sighting.mesh).or_default().push(sighting);
    }
    let found = meshes.into_iter().filter_map(|(mesh, members)| {
        let name = prevailing(members.iter().map(|member| &member.name))?;
        let players = prevailing(members.iter().map(|member| member.players))?;
        let Listing { game, version, mode, players: _, players_max, locked, data } =
            prevailing(members.iter().map(|member| &member.listing))?.clone();
        let mut addresses = Vec::new();
        for address in members.iter().flat_map(|member| &member.addresses) {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        let round_trip = round_trips.get(&mesh).copied();
        let hosts = members.iter().map(|member| member.peer).collect();
        let name = name.clone();
        Some(FoundMesh { name, mesh, game, version, mode, players, players_max, locked, data, addresses, round_trip, hosts })
    });
    let mut found: Vec<FoundMesh> = found.collect();
    found.sort_by(|left, right| left.name.cmp(&right.name).then(left.mesh.cmp(&right.mesh)));
    found
}

/// What most say, so that one liar changes nothing; of what as many say, what was said last.
fn prevailing<T: Ord>(said: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, (usize, usize)> = BTreeMap::new();
    for (number, said) in said.enumerate() {
        let (count, last) = counts.entry(said).or_default();
        (*count, *last) = (*count + 1, number);
    }
    counts.into_iter().max_by_key(|(_, votes)| *votes).map(|(said, _)| said)
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceEvent;

    use super::*;

    fn sighting(peer: u8, mesh: &str, players: usize) -> Sighting {
        Sighting {
            peer: PeerId([peer; 32]),
            mesh: MeshId::from_name(mesh),
            name: mesh.into(),
            listing: Listing { locked: peer == 2, ..Listing::new("Murmuration").players_max(8) },
            players,
            beacon: None,
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 1_000 + u16::from(peer)))],
        }
    }

    fn heard(sightings: impl IntoIterator<Item = Sighting>) -> Sightings {
        let mut all = Sightings::new(Interface::Loopback);
        for sighting in sightings {
            all.hear(ServiceEvent::ServiceResolved(Box::new(sighting.to_service().unwrap().as_resolved_service())));
        }
        all
    }

    #[test]
    fn members_of_one_mesh_are_one_entry() {
        let sightings = heard([sighting(1, "dusk", 2), sighting(3, "dawn", 1), sighting(2, "dusk", 3)]);
        let round_trip = Duration::from_millis(4);
        let found = merge(&sightings, &[(MeshId::from_name("dusk"), round_trip)].into());
        assert_eq!(found.iter().map(|mesh| mesh.name.as_str()).collect::<Vec<_>>(), ["dawn", "dusk"]);
        let dusk = &found[1];
        assert_eq!((dusk.players, dusk.players_max, dusk.locked, dusk.round_trip), (3, 8, true, Some(round_trip)));
        assert_eq!((dusk.hosts.len(), dusk.addresses.len()), (2, 2));
        assert_eq!(found[0].round_trip, None);
    }

    #[test]
    fn most_members_are_believed_and_of_two_the_newer() {
        let told = |peer, mode: &str, players| {
            let said = sighting(peer, "dusk", players);
            Sighting { listing: said.listing.clone().version("1.4").mode(mode).data("level", mode), ..said }
        };
        let mut sightings = heard([told(1, "Rome", 3), told(3, "Rome", 3), told(4, "the largest lie", 60_000)]);
        let found = |sightings: &Sightings| {
            let found = merge(sightings, &BTreeMap::new()).remove(0);
            (found.players, found.version, found.mode, found.data["level"].clone())
        };
        let expected = |mode: &str, players| (players, "1.4".to_owned(), mode.to_owned(), mode.to_owned());
        assert_eq!(found(&sightings), expected("Rome", 3));
        // Identifiers decide nothing: who is heard last is.
        for (peer, mode) in [(3, "Paris"), (4, "Rome"), (1, "Paris"), (4, "Oslo"), (3, "Oslo")] {
            let newer = told(peer, mode, 4);
            sightings.hear(ServiceEvent::ServiceResolved(Box::new(newer.to_service().unwrap().as_resolved_service())));
        }
        assert_eq!(found(&sightings), expected("Oslo", 4));
        let sightings = heard([told(9, "new", 2), told(1, "newer", 1)]);
        assert_eq!(found(&sightings), expected("newer", 1));
    }

    #[test]
    fn a_crowded_mesh_lists_few_addresses() {
        let found = merge(&heard((0..100).map(|peer| sighting(peer, "dusk", 100))), &BTreeMap::new());
        assert_eq!((found.len(), found[0].hosts.len(), found[0].addresses.len()), (1, 100, ADDRESSES_MAX));
    }
}
