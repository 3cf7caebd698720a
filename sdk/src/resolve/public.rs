//! What a mesh that is listed publicly tells to whoever asks a directory or the DHT which meshes of a game there are.
//!
//! It is found under names that follow from the game's name alone, and nothing in it follows from a password: a stranger learns what the
//! mesh is called, what the game says of it, and where the member is that says so, and no more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use peerflock_proto::wire::codec;
use peerflock_proto::{MeshId, MeshKey, PeerId};
use serde::{Deserialize, Serialize};

use super::listing::line;
use super::rendezvous::Rendezvous;
use super::resolver::Registration;
use super::sighting::Sighting;
use super::ticket::{self, NAME_BYTES_MAX};
use super::{Interface, Listing};

/// Members of one mesh that tell of it at one place. More than one, so that it stays in the lists when one of them dies.
pub(crate) const TELLERS: usize = 2;
/// Addresses of one member.
const ADDRESSES_MAX: usize = 8;
/// The longest note, in bytes, before it is sealed.
const NOTE_BYTES_MAX: usize = 740;

/// Where the public meshes of `game` are told of.
pub(crate) fn rendezvous(game: &str) -> Rendezvous {
    // No mesh has that identifier: those follow from names by another function.
    Rendezvous::new(&MeshKey::open(MeshId(blake3::derive_key("peerflock 1 public meshes of a game", game.as_bytes()))))
}

/// What one member tells of its mesh. Hearsay, as all that resolvers say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    peer: PeerId,
    name: String,
    version: String,
    mode: String,
    players: u16,
    players_max: u16,
    locked: bool,
    data: BTreeMap<String, String>,
    addresses: Vec<SocketAddr>,
    /// When it was written, in seconds since 1970.
    pub(crate) written: u64,
}

impl Told {
    /// What we tell, at these addresses.
    pub(crate) fn of(us: &Registration, mut addresses: Vec<SocketAddr>, written: u64) -> Self {
        // Those that others saw us at come last, and matter most to whoever is far away.
        let addresses = addresses.split_off(addresses.len().saturating_sub(ADDRESSES_MAX));
        let Listing { game: _, version, mode, players, players_max, locked, data, public: _ } = us.listing.clone().fit();
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        Self {
            peer: us.peer,
            name: us.name.clone(),
            version,
            mode,
            players: count(players.unwrap_or(us.members)),
            players_max: count(players_max),
            locked,
            data,
            addresses,
            written,
        }
    }

    /// As it is left somewhere, for whoever knows the game's name.
    pub(crate) fn seal(&self, rendezvous: &Rendezvous, service: &str) -> Option<Vec<u8>> {
        rendezvous.seal(service, &codec::encode(self).ok()?)
    }

    /// What was left there; none if it makes no sense.
    pub(crate) fn open(rendezvous: &Rendezvous, service: &str, sealed: &[u8]) -> Option<Self> {
        let note = rendezvous.open(service, sealed).filter(|note| note.len() <= NOTE_BYTES_MAX)?;
        let told: Self = codec::decode(&note).ok()?;
        let distinct: BTreeSet<_> = told.addresses.iter().collect();
        let sane = ticket::is_name(&told.name) && told.name.len() <= NAME_BYTES_MAX && distinct.len() == told.addresses.len();
        (sane && told.addresses.len() <= ADDRESSES_MAX).then_some(told)
    }

    /// Who tells it.
    pub(crate) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Which mesh it is about: the name says so, whatever else is claimed.
    pub(crate) fn mesh(&self) -> MeshId {
        MeshId::from_name(&self.name)
    }

    /// As it may be shown of that `game`, with what of it `interface` reaches. None if that is nothing.
    pub(super) fn sighting(&self, game: &str, interface: &Interface) -> Option<Sighting> {
        let reached = |address: &&SocketAddr| interface.reaches(address.ip()) && address.port() != 0;
        let addresses: Vec<SocketAddr> = self.addresses.iter().filter(reached).copied().collect();
        if addresses.is_empty() {
            return None;
        }
        let listing = Listing {
            game: game.to_owned(),
            version: self.version.clone(),
            mode: self.mode.clone(),
            players: None,
            players_max: self.players_max.into(),
            locked: self.locked,
            data: self.data.clone(),
            public: true,
        };
        Some(Sighting {
            peer: self.peer,
            mesh: self.mesh(),
            name: line(self.name.clone(), NAME_BYTES_MAX),
            listing: listing.fit(),
            players: self.players.into(),
            beacon: None,
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::PUBLIC_NOTE_BYTES_MAX;
    use crate::resolve::SEAL_BYTES;

    fn told() -> Told {
        Told {
            peer: PeerId([1; 32]),
            name: "dusk".into(),
            version: "1.4".into(),
            mode: "Rome".into(),
            players: 3,
            players_max: 8,
            locked: true,
            data: [("level".into(), "expert".into())].into(),
            addresses: vec!["127.0.0.1:7".parse().unwrap(), "192.0.2.1:7".parse().unwrap()],
            written: 7,
        }
    }

    #[test]
    fn who_knows_the_game_reads_it_and_nobody_else() {
        let game = rendezvous("Murmuration");
        let sealed = told().seal(&game, "x").unwrap();
        assert_eq!(Told::open(&game, "x", &sealed), Some(told()));
        assert_eq!(Told::open(&rendezvous("another"), "x", &sealed), None);
        assert_eq!(Told::open(&game, "y", &sealed), None);
        assert_ne!(game.topic("x", 0), Rendezvous::new(&MeshKey::open(MeshId::from_name("Murmuration"))).topic("x", 0));
        let shown = told().sighting("Murmuration", &Interface::Loopback).unwrap();
        assert_eq!(shown.addresses, ["127.0.0.1:7".parse().unwrap()], "nobody on loopback is sent out into the world");
        assert_eq!((shown.mesh, shown.players, shown.listing.locked), (MeshId::from_name("dusk"), 3, true));
        assert_eq!((shown.listing.game.as_str(), shown.listing.data["level"].as_str()), ("Murmuration", "expert"));
    }

    #[test]
    fn the_longest_fits_where_it_goes() {
        let text = |count| "x".repeat(count);
        let mut long = told();
        (long.name, long.version, long.mode) =
            (text(NAME_BYTES_MAX), text(Listing::VERSION_BYTES_MAX), text(Listing::MODE_BYTES_MAX));
        long.data = (10..10 + Listing::DATA_MAX).map(|number| (number.to_string(), text(24))).collect();
        long.addresses = (0..ADDRESSES_MAX as u16).map(|n| SocketAddr::from(([0xfe80, 1, 2, 3, 4, 5, 6, n], 65_000))).collect();
        (long.players, long.players_max, long.written) = (u16::MAX, u16::MAX, u64::MAX);
        let bytes: usize = long.data.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes + Listing::DATA_MAX >= Listing::DATA_BYTES_MAX, "{bytes}");
        let sealed = long.seal(&rendezvous("Murmuration"), "x").unwrap();
        assert!(sealed.len() <= NOTE_BYTES_MAX + SEAL_BYTES && sealed.len() <= PUBLIC_NOTE_BYTES_MAX, "{} bytes", sealed.len());
        assert_eq!(Told::open(&rendezvous("Murmuration"), "x", &sealed), Some(long));
    }

    #[test]
    fn hostile_notes_are_none_or_harmless() {
        let game = rendezvous("Murmuration");
        let read = |told: &Told| Told::open(&game, "x", &told.seal(&game, "x").unwrap());
        for name in ["", "two\nlines", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert_eq!(read(&Told { name: name.to_owned(), ..told() }), None, "{name:?}");
        }
        let address = told().addresses[0];
        assert_eq!(read(&Told { addresses: vec![address; 2], ..told() }), None);
        assert_eq!(read(&Told { version: "v".repeat(2_000), ..told() }), None, "longer than any honest one");
        let odd = Told { mode: "\u{1b}[2J".into(), data: [("a=\u{7}b".into(), "c\n".into())].into(), ..told() };
        let shown = read(&odd).unwrap().sighting("Murmuration", &Interface::All).unwrap().listing;
        assert_eq!((shown.mode.as_str(), shown.data), ("[2J", [("ab".into(), "c".into())].into()));
        let sealed = told().seal(&game, "x").unwrap();
        for at in 0..sealed.len() {
            assert_eq!(Told::open(&game, "x", &sealed[..at]), None);
        }
        // Whoever knows the game's name can seal anything.
        let plain = codec::encode(&told()).unwrap();
        for at in 0..plain.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xfb, 0xff] {
                let mut altered = plain.to_vec();
                altered[at] = byte;
                let note = Told::open(&game, "x", &game.seal("x", &altered).unwrap());
                _ = note.and_then(|note| note.sighting("Murmuration", &Interface::All));
            }
            _ = Told::open(&game, "x", &game.seal("x", &plain[..at]).unwrap());
        }
        let nowhere = Told { addresses: vec!["0.0.0.0:7".parse().unwrap(), "192.0.2.1:0".parse().unwrap()], ..told() };
        assert_eq!(nowhere.sighting("Murmuration", &Interface::All), None);
    }
}
