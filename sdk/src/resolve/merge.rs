//! One entry for each mesh, however many members say something of it, on the local network and elsewhere.

use std::collections::BTreeMap;

use peerflock_proto::{MeshId, PeerId};

use super::Listing;
use super::browser::FoundMesh;
use super::interface::ADDRESSES_MAX;
use super::sighting::Sighting;
use crate::directory::DirectoryAddress;

/// The meshes of which anything was said, what was said last at the end; by a directory, or on the local network. By name.
pub(super) fn merge<'a>(said: impl Iterator<Item = (&'a Sighting, Option<&'a DirectoryAddress>)>) -> Vec<FoundMesh> {
    let mut meshes: BTreeMap<MeshId, Mesh<'_>> = BTreeMap::new();
    for (number, (sighting, directory)) in said.enumerate() {
        let mesh = meshes.entry(sighting.mesh).or_default();
        // Wherever one says something, it has one voice.
        mesh.members.insert(sighting.peer, (number, sighting));
        if let Some(directory) = directory.filter(|directory| !mesh.directories.contains(directory)) {
            mesh.directories.push(directory);
        }
        mesh.addresses.push(sighting);
    }
    let mut found: Vec<FoundMesh> = meshes.into_iter().filter_map(|(id, mesh)| mesh.found(id)).collect();
    found.sort_by(|left, right| left.name.cmp(&right.name).then(left.mesh.cmp(&right.mesh)));
    found
}

/// What was said of one.
#[derive(Default)]
struct Mesh<'a> {
    members: BTreeMap<PeerId, (usize, &'a Sighting)>,
    addresses: Vec<&'a Sighting>,
    directories: Vec<&'a DirectoryAddress>,
}

impl Mesh<'_> {
    fn found(self, mesh: MeshId) -> Option<FoundMesh> {
        let mut members: Vec<_> = self.members.into_values().collect();
        members.sort_by_key(|(number, _)| *number);
        let members: Vec<&Sighting> = members.into_iter().map(|(_, sighting)| sighting).collect();
        let name = prevailing(members.iter().map(|member| &member.name))?.clone();
        let players = prevailing(members.iter().map(|member| member.players))?;
        let Listing { game, version, mode, players: _, players_max, locked, data, public } =
            prevailing(members.iter().map(|member| &member.listing))?.clone();
        let mut addresses = Vec::new();
        // What was said last is there most likely, and what was said nearby.
        for address in self.addresses.iter().rev().flat_map(|sighting| &sighting.addresses) {
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        Some(FoundMesh {
            name,
            mesh,
            game,
            version,
            mode,
            players,
            players_max,
            locked,
            data,
            public,
            addresses,
            round_trip: None,
            hosts: members.iter().map(|member| member.peer).collect(),
            directories: self.directories.into_iter().cloned().collect(),
        })
    }
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
    use std::net::SocketAddr;

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

    fn nearby(sightings: &[Sighting]) -> Vec<FoundMesh> {
        merge(sightings.iter().map(|sighting| (sighting, None)))
    }

    #[test]
    fn members_of_one_mesh_are_one_entry() {
        let found = nearby(&[sighting(1, "dusk", 2), sighting(3, "dawn", 1), sighting(2, "dusk", 3)]);
        assert_eq!(found.iter().map(|mesh| mesh.name.as_str()).collect::<Vec<_>>(), ["dawn", "dusk"]);
        let dusk = &found[1];
        assert_eq!((dusk.players, dusk.players_max, dusk.locked), (3, 8, true));
        assert_eq!((dusk.hosts.len(), dusk.addresses.len()), (2, 2));
    }

    #[test]
    fn most_members_are_believed_and_of_two_the_newer() {
        let told = |peer, mode: &str, players| {
            let said = sighting(peer, "dusk", players);
            Sighting { listing: said.listing.clone().version("1.4").mode(mode).data("level", mode), ..said }
        };
        let found = |sightings: &[Sighting]| {
            let found = nearby(sightings).remove(0);
            (found.players, found.version, found.mode, found.data["level"].clone())
        };
        let expected = |mode: &str, players| (players, "1.4".to_owned(), mode.to_owned(), mode.to_owned());
        let with_a_liar = [told(1, "Rome", 3), told(3, "Rome", 3), told(4, "the largest lie", 60_000)];
        assert_eq!(found(&with_a_liar), expected("Rome", 3));
        // Identifiers decide nothing: who is heard last is.
        assert_eq!(found(&[told(1, "Paris", 4), told(4, "Oslo", 4), told(3, "Oslo", 4)]), expected("Oslo", 4));
        assert_eq!(found(&[told(9, "new", 2), told(1, "newer", 1)]), expected("newer", 1));
    }

    #[test]
    fn a_crowded_mesh_lists_few_addresses() {
        let crowd: Vec<Sighting> = (0..100).map(|peer| sighting(peer, "dusk", 100)).collect();
        let found = nearby(&crowd);
        assert_eq!((found.len(), found[0].hosts.len(), found[0].addresses.len()), (1, 100, ADDRESSES_MAX));
    }

    #[test]
    fn who_is_found_twice_is_one_and_what_is_nearby_counts_more() {
        let [one, two] = [DirectoryAddress::new("one", 1), DirectoryAddress::new("two", 2)];
        let far = Sighting {
            listing: Listing::new("Murmuration").public(true),
            addresses: vec!["192.0.2.7:7".parse().unwrap(), "127.0.0.1:1001".parse().unwrap()],
            ..sighting(1, "dusk", 2)
        };
        let near = Sighting { listing: Listing::new("Murmuration").mode("Rome").public(true), ..sighting(1, "dusk", 3) };
        let found = merge([(&far, Some(&one)), (&far, Some(&two)), (&far, Some(&one)), (&near, None)].into_iter());
        let dusk = &found[0];
        assert_eq!((found.len(), dusk.hosts.len(), dusk.players, dusk.mode.as_str(), dusk.public), (1, 1, 3, "Rome", true));
        assert_eq!(dusk.directories, [one, two]);
        assert_eq!(dusk.addresses, ["127.0.0.1:1001".parse().unwrap(), "192.0.2.7:7".parse().unwrap()]);
    }
}
