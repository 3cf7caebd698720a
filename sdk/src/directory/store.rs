//! Who is registered: entries that belong to a key, last a while, and are named by lot. No clock, no socket, no dice of its own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::limits::DirectoryLimits;
use super::wire::{NAMED_MAX, NOTE_BYTES_MAX, Named, Owner, Referral, Refusal, Topic, decode, encode};

/// What a file of entries begins with.
const FILE_PREFIX: &[u8] = b"peerflock directory 1\n";
/// The longest entry in a file, in bytes.
const ENTRY_BYTES_MAX: usize = 1_024;

/// All entries. Times are seconds since 1970, given by whoever calls.
#[derive(Debug, Default)]
pub(super) struct Store {
    meshes: BTreeMap<Topic, BTreeMap<Owner, Entry>>,
    networks: BTreeMap<IpAddr, usize>,
    count: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    note: Vec<u8>,
    shared: bool,
    network: IpAddr,
    until: u64,
}

/// An entry in a file.
#[derive(Serialize, Deserialize)]
struct Kept {
    topic: Topic,
    owner: Owner,
    note: Vec<u8>,
    shared: bool,
    network: IpAddr,
    until: u64,
}

impl Store {
    /// Enters `owner`, or renews its entry. `by_default` is what the service does where the player leaves it to it.
    pub(super) fn register(
        &mut self,
        topic: Topic,
        owner: Owner,
        note: Vec<u8>,
        referral: Referral,
        by_default: bool,
        network: IpAddr,
        limits: &DirectoryLimits,
        now: u64,
    ) -> Result<(), Refusal> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let shared = match referral {
            Referral::Share => true,
            Referral::DoNotShare => false,
            Referral::ServiceDecides => by_default,
        };
        let entry = Entry { note, shared, network, until: now.saturating_add(limits.lifetime.as_secs()) };
        let mesh = self.meshes.get(&topic);
        let before = mesh.and_then(|mesh| mesh.get(&owner)).map(|entry| entry.network);
        let of_network = self.networks.get(&network).copied().unwrap_or(0);
        if before != Some(network) && of_network >= limits.entries_of_network {
            return Err(Refusal::NetworkFull);
        }
        if before.is_none() && mesh.is_some_and(|mesh| mesh.len() >= limits.entries_of_mesh) {
            return Err(Refusal::MeshFull);
        }
        if before.is_none() && self.count >= limits.entries {
            return Err(Refusal::Full);
        }
        self.remove(topic, owner);
        self.insert(topic, owner, entry);
        Ok(())
    }

    /// Up to `count` others of that mesh, none twice, drawn by `dice`.
    pub(super) fn resolve(
        &self,
        topic: &Topic,
        asks: &Owner,
        count: usize,
        now: u64,
        mut dice: impl FnMut() -> u32,
    ) -> Vec<Named> {
        let Some(mesh) = self.meshes.get(topic) else { return Vec::new() };
        let mut others: Vec<(&Owner, &Entry)> =
            mesh.iter().filter(|(owner, entry)| *owner != asks && entry.shared && entry.until > now).collect();
        let count = count.min(NAMED_MAX).min(others.len());
        // The first places of a shuffle (Fisher and Yates).
        for place in 0..count {
            let rest = (others.len() - place) as u64;
            let drawn = place + ((u64::from(dice()) * rest) >> 32) as usize;
            others.swap(place, drawn);
        }
        others.truncate(count);
        others.into_iter().map(|(owner, entry)| Named { owner: *owner, note: entry.note.clone() }).collect()
    }

    /// Whether `owner` is registered there.
    pub(super) fn has(&self, topic: &Topic, owner: &Owner, now: u64) -> bool {
        self.meshes.get(topic).and_then(|mesh| mesh.get(owner)).is_some_and(|entry| entry.until > now)
    }

    /// Takes `owner` out. Nobody else can.
    pub(super) fn withdraw(&mut self, topic: Topic, owner: Owner) {
        self.remove(topic, owner);
    }

    /// Forgets what nobody renewed, and meshes with nobody in them.
    pub(super) fn expire(&mut self, now: u64) {
        let old: Vec<(Topic, Owner)> = self
            .meshes
            .iter()
            .flat_map(|(topic, mesh)| mesh.iter().filter(|(_, entry)| entry.until <= now).map(|(owner, _)| (*topic, *owner)))
            .collect();
        for (topic, owner) in old {
            self.remove(topic, owner);
        }
    }

    /// Entries and meshes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.count, self.meshes.len())
    }

    /// All entries, for a file.
    pub(super) fn save(&self) -> Vec<u8> {
        let mut file = FILE_PREFIX.to_vec();
        for (topic, mesh) in &self.meshes {
            for (owner, entry) in mesh {
                let Entry { note, shared, network, until } = entry.clone();
                let bytes = encode(&Kept { topic: *topic, owner: *owner, note, shared, network, until });
                file.extend((bytes.len() as u16).to_le_bytes());
                file.extend(bytes);
            }
        }
        file
    }

    /// The entries of a file, as far as they can be read and are not over.
    pub(super) fn load(mut file: &[u8], limits: &DirectoryLimits, now: u64) -> Self {
        let mut store = Self::default();
        let Some(rest) = file.strip_prefix(FILE_PREFIX) else { return store };
        file = rest;
        while let Some((length, rest)) = file.split_first_chunk::<2>() {
            let length = usize::from(u16::from_le_bytes(*length));
            let Some((bytes, rest)) = rest.split_at_checked(length).filter(|_| length <= ENTRY_BYTES_MAX) else { break };
            file = rest;
            let Some(kept) = decode::<Kept>(bytes) else { break };
            // A file is no way around the limits, nor a way to live for ever.
            let until = kept.until.min(now.saturating_add(limits.lifetime.as_secs()));
            let mesh = store.meshes.get(&kept.topic).map_or(0, BTreeMap::len);
            if until > now && store.count < limits.entries && mesh < limits.entries_of_mesh && kept.note.len() <= NOTE_BYTES_MAX {
                store.remove(kept.topic, kept.owner);
                store.insert(
                    kept.topic,
                    kept.owner,
                    Entry { note: kept.note, shared: kept.shared, network: kept.network, until },
                );
            }
        }
        store
    }

    fn insert(&mut self, topic: Topic, owner: Owner, entry: Entry) {
        *self.networks.entry(entry.network).or_default() += 1;
        self.meshes.entry(topic).or_default().insert(owner, entry);
        self.count += 1;
    }

    fn remove(&mut self, topic: Topic, owner: Owner) {
        let Some(mesh) = self.meshes.get_mut(&topic) else { return };
        let Some(entry) = mesh.remove(&owner) else { return };
        if mesh.is_empty() {
            self.meshes.remove(&topic);
        }
        self.count -= 1;
        if let Some(count) = self.networks.get_mut(&entry.network) {
            *count -= 1;
            if *count == 0 {
                self.networks.remove(&entry.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const DUSK: Topic = [1; 32];

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn enter(store: &mut Store, topic: Topic, owner: u8, referral: Referral, now: u64) -> Result<(), Refusal> {
        store.register(topic, [owner; 32], vec![owner], referral, true, ip(owner), &DirectoryLimits::default(), now)
    }

    fn dice(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 32) as u32
        }
    }

    #[test]
    fn entries_are_named_renewed_withdrawn_and_forgotten() {
        let mut store = Store::default();
        for owner in 1..=3 {
            enter(&mut store, DUSK, owner, Referral::Share, 100).unwrap();
        }
        let names = |store: &Store, now| -> BTreeSet<u8> {
            store.resolve(&DUSK, &[1; 32], 10, now, dice(7)).into_iter().map(|named| named.owner[0]).collect()
        };
        assert_eq!(names(&store, 100), [2, 3].into());
        assert!(store.resolve(&[9; 32], &[1; 32], 10, 100, dice(7)).is_empty());
        enter(&mut store, DUSK, 2, Referral::Share, 150).unwrap();
        assert_eq!(names(&store, 159), [2, 3].into());
        assert_eq!(names(&store, 160), [2].into(), "what is over is not named, cleaned up or not");
        store.expire(160);
        assert_eq!(store.size(), (1, 1));
        store.withdraw(DUSK, [3; 32]);
        assert_eq!(store.size(), (1, 1), "not there is no trouble");
        store.withdraw(DUSK, [2; 32]);
        assert_eq!((store.size(), store.networks.len()), ((0, 0), 0), "nothing is left of a mesh with nobody in it");
    }

    #[test]
    fn picks_are_random_and_none_comes_twice() {
        let mut store = Store::default();
        for owner in 0..100 {
            enter(&mut store, DUSK, owner, Referral::Share, 0).unwrap();
        }
        let mut drawn: BTreeMap<u8, usize> = BTreeMap::new();
        for seed in 0..2_000 {
            let named = store.resolve(&DUSK, &[0; 32], 10, 1, dice(seed));
            let different: BTreeSet<u8> = named.iter().map(|named| named.owner[0]).collect();
            assert_eq!((named.len(), different.len(), different.contains(&0)), (10, 10, false), "seed {seed}");
            different.into_iter().for_each(|owner| *drawn.entry(owner).or_default() += 1);
        }
        // Each is expected 202 times.
        assert_eq!(drawn.len(), 99);
        assert!(drawn.values().all(|count| (120..300).contains(count)), "{drawn:?}");
    }

    #[test]
    fn who_does_not_want_to_be_named_is_not() {
        let mut store = Store::default();
        enter(&mut store, DUSK, 1, Referral::DoNotShare, 0).unwrap();
        enter(&mut store, DUSK, 2, Referral::Share, 0).unwrap();
        enter(&mut store, DUSK, 3, Referral::ServiceDecides, 0).unwrap();
        let limits = DirectoryLimits::default();
        store.register(DUSK, [4; 32], vec![], Referral::ServiceDecides, false, ip(4), &limits, 0).unwrap();
        store.register(DUSK, [5; 32], vec![], Referral::Share, false, ip(5), &limits, 0).unwrap();
        let named: BTreeSet<u8> =
            store.resolve(&DUSK, &[9; 32], 10, 1, dice(1)).into_iter().map(|named| named.owner[0]).collect();
        assert_eq!(named, [2, 3, 5].into());
        assert!(store.has(&DUSK, &[1; 32], 1));
    }

    #[test]
    fn nothing_grows_past_its_limit() {
        let limits = DirectoryLimits { entries: 50, entries_of_mesh: 20, entries_of_network: 8, ..DirectoryLimits::default() };
        let mut store = Store::default();
        let mut refusals = BTreeMap::new();
        for n in 0..10_000_u32 {
            let mut owner = [0; 32];
            owner[..4].copy_from_slice(&n.to_le_bytes());
            let outcome =
                store.register([(n % 5) as u8; 32], owner, vec![0; 10], Referral::Share, true, ip((n % 31) as u8), &limits, 0);
            if let Err(refusal) = outcome {
                *refusals.entry(format!("{refusal:?}")).or_insert(0) += 1;
            }
            assert!(store.count <= 50 && store.networks.values().all(|count| *count <= 8));
            assert!(store.meshes.values().all(|mesh| mesh.len() <= 20));
        }
        assert!(refusals.contains_key("Full"), "{refusals:?}");
        let long = store.register(DUSK, [9; 32], vec![0; NOTE_BYTES_MAX + 1], Referral::Share, true, ip(99), &limits, 0);
        assert_eq!(long, Err(Refusal::Malformed));
        // Who is in renews, however full it is.
        let (topic, owner) = store.meshes.iter().map(|(topic, mesh)| (*topic, *mesh.keys().next().unwrap())).next().unwrap();
        let network = store.meshes[&topic][&owner].network;
        assert_eq!(store.register(topic, owner, vec![1], Referral::Share, true, network, &limits, 1), Ok(()));
    }

    #[test]
    fn a_restart_forgets_nobody_and_a_damaged_file_does_no_harm() {
        let (mut store, limits) = (Store::default(), DirectoryLimits::default());
        for owner in 0..10 {
            enter(&mut store, [owner % 3; 32], owner, Referral::Share, 100 + u64::from(owner)).unwrap();
        }
        let file = store.save();
        let again = Store::load(&file, &limits, 110);
        assert_eq!((again.size(), again.networks.len()), (store.size(), 10));
        assert_eq!(Store::load(&file, &limits, 166).size().0, 3, "what is over stays away");
        assert_eq!(Store::load(&file, &limits, 0).meshes.values().flatten().map(|(_, entry)| entry.until).max(), Some(60));
        for at in 0..file.len() {
            assert!(Store::load(&file[..at], &limits, 110).size().0 <= 10);
            let mut altered = file.clone();
            altered[at] ^= 0xff;
            assert!(Store::load(&altered, &limits, 110).size().0 <= 10);
        }
    }
}
