//! One member's announcement on the local network, as it is said and as it is heard.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mdns_sd::{ResolvedService, ServiceEvent, ServiceInfo};
use peerflock_proto::{MeshId, PeerId};

use super::Listing;
use super::interface::{ADDRESSES_MAX, Interface};
use super::listing::line;
use super::ticket::NAME_BYTES_MAX;

/// What members of all meshes are found under (RFC 6763).
pub(super) const SERVICE: &str = "_peerflock._udp.local.";
/// The version of the announcement and of what is spoken at the port.
const VERSION: &str = "1";
/// Announcements remembered; more are ignored until some go.
const SIGHTINGS_MAX: usize = 512;
/// How much of a peer's key names its announcement. Every byte of it is sent twice, by every member, to everybody.
const INSTANCE_CHARS: usize = 16;
/// What the game's own pairs are announced under: this and a number, so that no key of theirs is one of ours.
const DATA_KEY: char = '+';

/// What a member says, and anybody may hear. Nothing of it is proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) peer: PeerId,
    pub(super) mesh: MeshId,
    pub(super) name: String,
    /// Its count of players is that below.
    pub(super) listing: Listing,
    pub(super) players: usize,
    /// A hash of whom it sees in the mesh: another one than ours, for long, means two halves. None where it says none.
    pub(super) beacon: Option<u64>,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Sighting {
    /// As mDNS publishes it. All addresses have the same port; each is told only on the network to which it belongs.
    pub(super) fn to_service(&self) -> Result<ServiceInfo, mdns_sd::Error> {
        let instance = self.instance();
        let ips: Vec<_> = self.addresses.iter().map(SocketAddr::ip).collect();
        let port = self.addresses.first().map_or(0, SocketAddr::port);
        let listing = self.listing.clone().fit();
        // As a rule the name says which mesh it is.
        let mesh = (self.mesh != MeshId::from_name(&self.name)).then(|| ("mesh".to_owned(), self.mesh.to_string()));
        let data = listing.data.iter().enumerate();
        let properties: Vec<(String, String)> = [
            ("version", VERSION.to_owned()),
            ("peer", self.peer.to_string()),
            ("name", line(self.name.clone(), NAME_BYTES_MAX)),
            ("game", listing.game.clone()),
            ("release", listing.version.clone()),
            ("mode", listing.mode.clone()),
            ("players", self.players.min(Listing::PLAYERS_MAX).to_string()),
            ("max", listing.players_max.to_string()),
            ("locked", u8::from(listing.locked).to_string()),
            ("public", if listing.public { "1" } else { "" }.to_owned()),
            ("roster", self.beacon.map(|hash| format!("{hash:016x}")).unwrap_or_default()),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value))
        .chain(mesh)
        .chain(data.map(|(number, (key, value))| (format!("{DATA_KEY}{number}"), format!("{key}={value}"))))
        .collect();
        let host = format!("peerflock-{instance}.local.");
        let mut service = ServiceInfo::new(SERVICE, &instance, &host, ips.as_slice(), port, properties.as_slice())?;
        // The name is a key: nobody else has it, and asking around first takes most of a second.
        service.set_requires_probe(false);
        Ok(service)
    }

    /// What mDNS knows it under.
    pub(super) fn fullname(&self) -> String {
        format!("{}.{SERVICE}", self.instance())
    }

    fn instance(&self) -> String {
        let mut peer = self.peer.to_string();
        peer.truncate(INSTANCE_CHARS);
        peer
    }

    /// As heard on `interface`; `None` when it is no announcement of ours, or of another version.
    pub(super) fn from_service(service: &ResolvedService, interface: &Interface) -> Option<Self> {
        let text = |key| service.get_property_val_str(key);
        if text("version") != Some(VERSION) {
            return None;
        }
        let owned = |key| text(key).unwrap_or_default().to_owned();
        let number = |key| text(key).and_then(|text| text.parse::<u16>().ok()).map_or(0, usize::from);
        let mut addresses: Vec<SocketAddr> = service
            .get_addresses()
            .iter()
            .map(mdns_sd::ScopedIp::to_ip_addr)
            .filter(|ip| interface.reaches(*ip))
            .map(|ip| SocketAddr::new(ip, service.get_port()))
            .collect();
        addresses.sort_by_key(|address| (address.is_ipv6(), *address));
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() || service.get_port() == 0 {
            return None;
        }
        let name = line(owned("name"), NAME_BYTES_MAX);
        let data = service.get_properties().iter().filter(|entry| entry.key().starts_with(DATA_KEY));
        Some(Self {
            peer: text("peer")?.parse().ok()?,
            mesh: text("mesh").map_or_else(|| Some(MeshId::from_name(&name)), |mesh| mesh.parse().ok())?,
            name,
            listing: Listing {
                game: owned("game"),
                version: owned("release"),
                mode: owned("mode"),
                players: None,
                players_max: number("max"),
                locked: text("locked") == Some("1"),
                public: text("public") == Some("1"),
                data: data
                    .filter_map(|entry| entry.val_str().split_once('='))
                    .map(|(key, value)| (key.into(), value.into()))
                    .collect(),
            }
            .fit(),
            players: number("players"),
            beacon: text("roster").and_then(|text| u64::from_str_radix(text, 16).ok()),
            addresses,
        })
    }
}

/// All announcements that are in the air now, by the name that mDNS knows them under.
#[derive(Debug)]
pub(super) struct Sightings {
    interface: Interface,
    /// Each with the number of the event that changed it last.
    seen: BTreeMap<String, (u64, Sighting)>,
    events: u64,
}

impl Sightings {
    pub(super) fn new(interface: Interface) -> Self {
        Self { interface, seen: BTreeMap::new(), events: 0 }
    }

    /// Takes in what mDNS heard. Returns the announcement that is new, or new in part.
    pub(super) fn hear(&mut self, event: ServiceEvent) -> Option<&Sighting> {
        match event {
            ServiceEvent::ServiceResolved(service) => {
                let Some(sighting) = Sighting::from_service(&service, &self.interface) else {
                    self.seen.remove(&service.fullname);
                    return None;
                };
                let full = self.seen.len() >= SIGHTINGS_MAX && !self.seen.contains_key(&service.fullname);
                if full || self.seen.get(&service.fullname).is_some_and(|(_, known)| *known == sighting) {
                    return None;
                }
                self.events += 1;
                let entry = self.seen.entry(service.fullname.clone()).insert_entry((self.events, sighting));
                Some(&entry.into_mut().1)
            }
            ServiceEvent::ServiceRemoved(_, fullname) => {
                self.seen.remove(&fullname);
                None
            }
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Sighting> {
        self.seen.values().map(|(_, sighting)| sighting)
    }

    /// The same, what changed last at the end.
    pub(super) fn by_age(&self) -> Vec<&Sighting> {
        let mut all: Vec<_> = self.seen.values().collect();
        all.sort_by_key(|(event, _)| *event);
        all.into_iter().map(|(_, sighting)| sighting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An announcement with eight addresses and this much text is still one packet on Ethernet.
    const TEXT_BYTES_MAX: usize = 900;

    fn sighting(n: u8) -> Sighting {
        Sighting {
            peer: PeerId([n; 32]),
            mesh: MeshId::from_name("dusk"),
            name: "Dusk = over. Rome".into(),
            listing: Listing { locked: true, ..Listing::new("Murmuration").players_max(12) },
            players: 4,
            beacon: Some(7),
            addresses: vec!["127.0.0.1:4433".parse().unwrap()],
        }
    }

    fn heard(sighting: &Sighting) -> ResolvedService {
        sighting.to_service().unwrap().as_resolved_service()
    }

    #[test]
    fn what_is_said_is_heard() {
        assert_eq!(Sighting::from_service(&heard(&sighting(1)), &Interface::Loopback), Some(sighting(1)));
    }

    #[test]
    fn all_that_a_game_says_is_heard_and_fits_into_a_packet() {
        let mut rich = sighting(1);
        rich.listing = rich.listing.version("1.4 beta").mode("Rome at dusk").data("Level", "expert = fast").data("für", "alle");
        assert_eq!(Sighting::from_service(&heard(&rich), &Interface::Loopback), Some(rich.clone()));
        let long = |letter: &str| letter.repeat(500);
        rich.name = long("n");
        rich.listing = rich.listing.version(long("v")).mode(long("m"));
        rich.listing.game = long("g");
        rich.listing.data = (10..200).map(|number| (number.to_string(), "x".repeat(23))).collect();
        (rich.players, rich.listing.players_max) = (usize::MAX, usize::MAX);
        let service = rich.to_service().unwrap();
        assert_eq!(Sighting::from_service(&service.clone().as_resolved_service(), &Interface::Loopback).unwrap().players, 65_535);
        // One length byte each, and the equals sign.
        let bytes: usize = service.get_properties().iter().map(|text| text.key().len() + text.val_str().len() + 2).sum();
        assert_eq!(service.get_properties().iter().filter(|text| text.key().starts_with(DATA_KEY)).count(), Listing::DATA_MAX);
        assert!(bytes <= TEXT_BYTES_MAX, "{bytes} bytes");
    }

    #[test]
    fn what_an_earlier_version_says_is_heard() {
        let good = heard(&sighting(1));
        let known = ["version", "peer", "name", "game", "players", "max", "locked", "roster"];
        let mesh = ("mesh", sighting(1).mesh.to_string());
        let mut old: Vec<(&str, &str)> = known.map(|key| (key, good.get_property_val_str(key).unwrap())).to_vec();
        old.push((mesh.0, &mesh.1));
        let service = ServiceInfo::new(SERVICE, "x", "x.local.", "127.0.0.1", 4433, old.as_slice()).unwrap();
        assert_eq!(Sighting::from_service(&service.as_resolved_service(), &Interface::Loopback), Some(sighting(1)));
    }

    #[test]
    fn hostile_text_is_cut_or_left_out() {
        let good = heard(&sighting(1));
        let mut properties: Vec<(String, String)> =
            good.txt_properties.iter().map(|text| (text.key().to_owned(), text.val_str().to_owned())).collect();
        properties.retain(|(key, _)| !["release", "mode"].contains(&key.as_str()));
        properties.extend([("release".into(), "9".repeat(240)), ("mode".into(), "\u{1b}[2Jred\n".into())]);
        properties.extend([("+".into(), "=".into()), ("+x".into(), "no pair".into()), ("+y".into(), "a\u{0}=b\u{7}".into())]);
        properties.extend((100..400).map(|number| (format!("+{number}"), format!("{number}={}", "z".repeat(200)))));
        let service = ServiceInfo::new(SERVICE, "x", "x.local.", "127.0.0.1", 7, properties.as_slice()).unwrap();
        let listing = Sighting::from_service(&service.as_resolved_service(), &Interface::Loopback).unwrap().listing;
        assert_eq!((listing.version.len(), listing.mode.as_str()), (Listing::VERSION_BYTES_MAX, "[2Jred"));
        let pairs: Vec<(&str, usize)> = listing.data.iter().map(|(key, value)| (key.as_str(), value.len())).collect();
        assert_eq!(pairs, [("100", Listing::VALUE_BYTES_MAX), ("101", Listing::VALUE_BYTES_MAX), ("a", 1)]);
    }

    #[test]
    fn long_and_odd_names_stay_within_limits() {
        let mut odd = sighting(1);
        odd.name = "ü".repeat(500);
        odd.listing.game = "a\u{7}b\n".into();
        let heard = Sighting::from_service(&heard(&odd), &Interface::All).unwrap();
        assert_eq!(heard.name, "ü".repeat(NAME_BYTES_MAX / 2));
        assert_eq!(heard.listing.game, "ab");
    }

    #[test]
    fn foreign_announcements_are_none() {
        let good = heard(&sighting(1));
        let with = |key: &str, value: &str| {
            let mut properties: Vec<(String, String)> =
                good.txt_properties.iter().map(|text| (text.key().to_owned(), text.val_str().to_owned())).collect();
            properties.retain(|(known, _)| known != key);
            properties.push((key.to_owned(), value.to_owned()));
            let service = ServiceInfo::new(SERVICE, "x", "x.local.", "127.0.0.1", 7, properties.as_slice());
            Sighting::from_service(&service.unwrap().as_resolved_service(), &Interface::Loopback)
        };
        assert!(with("extra", "1").is_some());
        assert_eq!(with("players", "-9").unwrap().players, 0);
        for (key, value) in [("version", "2"), ("peer", "beef"), ("mesh", "é")] {
            assert!(with(key, value).is_none(), "{key}");
        }
        // Nobody on loopback can send us out into the world.
        let mut abroad = sighting(1);
        abroad.addresses = vec!["192.0.2.1:53".parse().unwrap()];
        assert_eq!(Sighting::from_service(&heard(&abroad), &Interface::Loopback), None);
    }

    #[test]
    fn sightings_come_change_and_go() {
        let mut sightings = Sightings::new(Interface::Loopback);
        let resolved = |sighting: &Sighting| ServiceEvent::ServiceResolved(Box::new(heard(sighting)));
        let mut one = sighting(1);
        assert_eq!(sightings.hear(resolved(&one)), Some(&one));
        assert_eq!(sightings.hear(resolved(&one)), None, "nothing new");
        one.players = 5;
        assert_eq!(sightings.hear(resolved(&one)), Some(&one));
        assert_eq!(sightings.iter().collect::<Vec<_>>(), [&one]);
        sightings.hear(ServiceEvent::ServiceRemoved(SERVICE.into(), heard(&one).fullname));
        assert_eq!(sightings.iter().count(), 0);
    }

    #[test]
    fn a_flood_of_announcements_is_bounded() {
        let mut sightings = Sightings::new(Interface::Loopback);
        for n in 0..2_000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let one = Sighting { peer: PeerId(key), ..sighting(1) };
            sightings.hear(ServiceEvent::ServiceResolved(Box::new(heard(&one))));
        }
        assert_eq!(sightings.iter().count(), SIGHTINGS_MAX);
    }
}
