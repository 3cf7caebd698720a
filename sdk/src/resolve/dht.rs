//! The resolver of BitTorrent's Mainline DHT: millions of machines that keep small notes for anybody, and belong to nobody.
//!
//! Members leave sealed notes there (BEP 44) under keys that only they can make, other keys every day: who does not know the mesh's name
//! and password can neither find such a note, nor read it, nor tell that two of them have anything to do with each other. The machines
//! that keep a note see that somebody at our address left it, no more.

mod public;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_lite::StreamExt;
use mainline::async_dht::AsyncDht;
use mainline::{MutableItem, SigningKey};
use peerflock_proto::PeerId;
use peerflock_proto::wire::codec;
pub(super) use public::Lookout;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::resolver::{Answer, Found, Registration, Resolver};
use super::{Interface, Rendezvous, ResolveError};
use crate::unix_time::unix_seconds;

/// Places for notes of one mesh and day. Two members may fall on one place: then the later is read, and knows the other.
const PLACES: u8 = 8;
/// A note lasts so long, and is left anew twice in that time.
const NOTE_LASTS: Duration = Duration::from_secs(30 * 60);
/// A day, and how long before and after its end both days count: clocks differ.
const DAY_SECONDS: u64 = 24 * 3_600;
const DUSK_SECONDS: u64 = 3_600;
/// Addresses of one note.
const ADDRESSES_MAX: usize = 8;
/// How long its machines may take to answer.
const DEADLINE: Duration = Duration::from_secs(12);
/// How long to look; and once somebody is found, how long for others.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);
const MORE: Duration = Duration::from_millis(200);
/// When "nobody" may be believed.
const PATIENCE: Duration = Duration::from_secs(4);
/// What names and seals are for.
const SERVICE: &str = "dht";

/// How to take part in the DHT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DhtOptions {
    /// Machines through which to find the others, as `host:port`. Those of BitTorrent at large where there are none.
    pub bootstrap: Vec<String>,
    /// The port to speak from. Any by default; it is not the one on which we play.
    pub port: Option<u16>,
}

/// The DHT as a [`Resolver`]. [`PeerMeshBuilder::dht`](crate::PeerMeshBuilder::dht) adds it. IPv4 alone can carry it; what its notes say
/// can be of any kind.
#[derive(Debug)]
pub struct Dht {
    options: DhtOptions,
    node: OnceCell<AsyncDht>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    peer: PeerId,
    addresses: Vec<SocketAddr>,
    beacon: u64,
    /// When it was written, in seconds since 1970.
    written: u64,
}

impl Dht {
    /// Takes part as `options` say, once it is asked for the first time.
    pub fn new(options: DhtOptions) -> Self {
        Self { options, node: OnceCell::new() }
    }

    async fn node(&self, interface: &Interface) -> Result<&AsyncDht, ResolveError> {
        self.node
            .get_or_try_init(async || {
                let mut builder = mainline::Dht::builder();
                if *interface == Interface::Loopback {
                    let stays = |place: &String| place.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback());
                    if self.options.bootstrap.is_empty() || !self.options.bootstrap.iter().all(stays) {
                        return Err(ResolveError::Other(
                            "the DHT is out there, and we are to stay on this machine: choose another interface".into(),
                        ));
                    }
                    builder.bind_address(Ipv4Addr::LOCALHOST);
                }
                if !self.options.bootstrap.is_empty() {
                    builder.bootstrap(&self.options.bootstrap);
                }
                self.options.port.map(|port| builder.port(port));
                // Names are looked up in there: not on a thread that serves others.
                let built = tokio::task::spawn_blocking(move || builder.build()).await.map_err(std::io::Error::other)?;
                Ok(built?.as_async())
            })
            .await
    }
}

impl Resolver for Dht {
    fn name(&self) -> String {
        "the DHT".into()
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(async move {
            let node = self.node(&us.interface).await?;
            let now = unix_seconds();
            let addresses = us.addresses.iter().rev().take(ADDRESSES_MAX).rev().copied().collect();
            let note = Note { peer: us.peer, addresses, beacon: us.beacon, written: now };
            let sealed = codec::encode(&note).ok().and_then(|note| us.rendezvous.seal(SERVICE, &note));
            let sealed = sealed.ok_or_else(|| ResolveError::Other("the note could not be sealed".into()))?;
            let signer = place(&us.rendezvous, now / DAY_SECONDS, us.peer.0[0] % PLACES);
            let item = MutableItem::new(signer, &sealed, i64::try_from(now).unwrap_or(i64::MAX), None);
            let put = node.put_mutable(item, None).await;
            put.map_err(|error| {
                ResolveError::Other(format!("no machine of the DHT took our note: {error}. Check the connection"))
            })?;
            if us.listing.public && !us.listing.game.is_empty() {
                // Members find us all the same; it is tried again with the next renewal.
                if let Err(error) = public::tell(node, us, now).await {
                    tracing::warn!(%error, "the mesh could not be listed publicly");
                }
            }
            Ok(NOTE_LASTS / 3)
        })
    }

    fn resolve<'a>(&'a self, us: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(async move {
            let node = self.node(&us.interface).await?;
            let now = unix_seconds();
            let days = days(now);
            let mut asked = JoinSet::new();
            for (day, number) in days.iter().flat_map(|day| (0..PLACES).map(|number| (*day, number))) {
                let key = place(&us.rendezvous, day, number).verifying_key().to_bytes();
                let node = node.clone();
                // The first copy will do: to wait for the slowest machine takes seconds, and an older note names the same people.
                asked.spawn(async move { node.get_mutable(&key, None, None).next().await });
            }
            let mut found = Vec::new();
            let mut until = Instant::now() + LOOK_DEADLINE;
            while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
                let Ok(Some(item)) = answer else { continue };
                if let Some(note) = read(&us.rendezvous, item.value(), now).filter(|note| note.peer != us.peer) {
                    found.push(Found::peer(note.peer, note.addresses).beacon(Some(note.beacon)));
                    until = until.min(Instant::now() + MORE);
                }
            }
            Ok(found)
        })
    }

    fn patience(&self) -> Duration {
        PATIENCE
    }

    fn pace(&self, alone: bool) -> Duration {
        // Each look asks dozens of strangers' machines.
        if alone { Duration::from_secs(1) } else { Duration::from_secs(120) }
    }

    fn deadline(&self) -> Duration {
        DEADLINE
    }

    fn knows_password(&self) -> bool {
        true
    }
}

/// The days whose notes count at this moment.
fn days(now: u64) -> Vec<u64> {
    let mut days = vec![now / DAY_SECONDS];
    if now % DAY_SECONDS < DUSK_SECONDS {
        days.push((now / DAY_SECONDS).saturating_sub(1));
    } else if now % DAY_SECONDS > DAY_SECONDS - DUSK_SECONDS {
        days.push(now / DAY_SECONDS + 1);
    }
    days
}

/// The key of one place on one day.
fn place(rendezvous: &Rendezvous, day: u64, number: u8) -> SigningKey {
    SigningKey::from_bytes(&rendezvous.topic(&format!("dht place {number}"), day))
}

/// What a note says, if a member wrote it and it is not too old.
fn read(rendezvous: &Rendezvous, sealed: &[u8], now: u64) -> Option<Note> {
    let note: Note = codec::decode(&rendezvous.open(SERVICE, sealed)?).ok()?;
    let fresh = note.written <= now + DUSK_SECONDS && now.saturating_sub(note.written) <= NOTE_LASTS.as_secs();
    let sane = |address: &SocketAddr| !matches!(address.ip(), IpAddr::V4(ip) if ip.is_broadcast());
    (fresh && note.addresses.len() <= ADDRESSES_MAX && note.addresses.iter().all(sane)).then_some(note)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use peerflock_proto::{MeshId, MeshKey};

    use super::*;

    fn of(secret: u8) -> Rendezvous {
        Rendezvous::new(&MeshKey::from_secret(MeshId::from_name("dusk"), [secret; 32]))
    }

    #[test]
    fn places_are_others_every_day_and_for_every_password() {
        let mut keys = BTreeSet::new();
        for (secret, day, number) in
            (1..4).flat_map(|secret| (0..30).flat_map(move |day| (0..PLACES).map(move |n| (secret, day, n))))
        {
            keys.insert(place(&of(secret), day, number).verifying_key().to_bytes());
        }
        assert_eq!(keys.len(), 3 * 30 * usize::from(PLACES));
        assert_eq!(place(&of(1), 7, 3), place(&of(1), 7, 3));
    }

    #[test]
    fn only_fresh_notes_of_members_are_read() {
        let note = Note { peer: PeerId([1; 32]), addresses: vec!["192.0.2.1:7".parse().unwrap()], beacon: 3, written: 100_000 };
        let seal = |note: &Note| of(1).seal(SERVICE, &codec::encode(note).unwrap()).unwrap();
        assert_eq!(read(&of(1), &seal(&note), 100_000), Some(note.clone()));
        assert_eq!(read(&of(2), &seal(&note), 100_000), None);
        assert_eq!(read(&of(1), &seal(&note), 100_000 + NOTE_LASTS.as_secs() + 1), None, "too old");
        assert_eq!(read(&of(1), &seal(&note), 100_000 - DUSK_SECONDS - 1), None, "of tomorrow");
        let many = Note { addresses: vec!["192.0.2.1:7".parse().unwrap(); ADDRESSES_MAX + 1], ..note };
        assert_eq!(read(&of(1), &seal(&many), 100_000), None);
    }
}
