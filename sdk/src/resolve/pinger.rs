//! Which mesh is asked next how far away it is, and where: addresses are hearsay, and nobody is to be flooded on somebody's word.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use peerflock_proto::MeshId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ping;

/// How often a round-trip time is measured, where there are few.
const PING_EVERY: Duration = Duration::from_secs(3);
/// Where there are more: one after the other, so much apart.
const PING_APART: Duration = Duration::from_secs(1);
/// A long list is quieter: a ping is as long as QUIC's first packets must be.
const LONG_LIST: usize = 20;
const PING_APART_LONG: Duration = Duration::from_secs(5);
/// How soon a mesh seen for the first time is measured, and how soon at the next address where one did not answer.
const PING_SOON: Duration = Duration::from_millis(100);
/// How long a ping waits for its answer.
const PING_PATIENCE: Duration = Duration::from_secs(1);
/// Pings under way at once.
const PINGS_MAX: usize = 64;
/// Where nothing answers, or nothing answers any more, it is asked only so often.
const SILENT_EVERY: Duration = Duration::from_secs(60);
/// So many pings without an answer to one machine, whatever the mesh, and it counts as silent.
const UNANSWERED_MAX: u32 = 8;
/// So often in a row a mesh may not answer before nothing is known of how far away it is.
const FAILURES_MAX: u32 = 3;
/// Machines that are asked.
const MACHINES_MAX: usize = 1_024;

/// All measurements.
#[derive(Debug, Default)]
pub(super) struct Pinger {
    meshes: BTreeMap<MeshId, Measured>,
    machines: BTreeMap<IpAddr, Machine>,
    under_way: JoinSet<(MeshId, SocketAddr, Option<Duration>)>,
}

/// Pings to one machine.
#[derive(Debug)]
struct Machine {
    under_way: u32,
    /// Not answered since one was.
    unanswered: u32,
    /// When the last was sent.
    asked: Instant,
}

/// What is known of one mesh.
#[derive(Debug)]
struct Measured {
    addresses: Vec<SocketAddr>,
    /// Counts the addresses that did not answer: the next one is asked.
    next: usize,
    failures: u32,
    under_way: bool,
    due: Instant,
    round_trip: Option<Duration>,
}

impl Pinger {
    /// These meshes there are, and no others.
    pub(super) fn keep<'a>(&mut self, meshes: impl Iterator<Item = (MeshId, &'a [SocketAddr])>, now: Instant) {
        let mut before = std::mem::take(&mut self.meshes);
        for (mesh, addresses) in meshes {
            let mut measured = before.remove(&mesh).unwrap_or_else(|| Measured {
                addresses: Vec::new(),
                next: 0,
                failures: 0,
                under_way: false,
                due: now + PING_SOON,
                round_trip: None,
            });
            if measured.addresses != addresses {
                // The one that answers stays the one that is asked, wherever it stands now.
                let asked = measured.address();
                measured.addresses = addresses.to_vec();
                measured.next = measured.addresses.iter().position(|address| Some(*address) == asked).unwrap_or(0);
            }
            self.meshes.insert(mesh, measured);
        }
    }

    pub(super) fn round_trip(&self, mesh: &MeshId) -> Option<Duration> {
        self.meshes.get(mesh)?.round_trip
    }

    /// When there is something to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.under_way.len() >= PINGS_MAX {
            return None;
        }
        self.meshes.values().filter(|mesh| !mesh.under_way && !mesh.addresses.is_empty()).map(|mesh| mesh.due).min()
    }

    /// Asks what is due.
    pub(super) fn ask(&mut self, now: Instant) {
        for (mesh, address) in self.choose(now) {
            self.under_way.spawn(async move { (mesh, address, ping(address, PING_PATIENCE).await.ok()) });
        }
    }

    /// Waits for an answer, or for the end of waiting for one. For ever if nothing is under way. May be given up.
    pub(super) async fn answer(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok((mesh, address, round_trip))) => self.take(mesh, address, round_trip, Instant::now()),
            // It ended without an outcome, which no code of ours does.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    fn choose(&mut self, now: Instant) -> Vec<(MeshId, SocketAddr)> {
        let mut chosen = Vec::new();
        for (mesh, measured) in &mut self.meshes {
            let Some(address) = measured.address().filter(|_| measured.due <= now && !measured.under_way) else { continue };
            if self.under_way.len() + chosen.len() >= PINGS_MAX {
                break;
            }
            if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(&address.ip()) {
                continue;
            }
            let fresh = Machine { under_way: 0, unanswered: 0, asked: now };
            let machine = self.machines.entry(address.ip()).or_insert(fresh);
            if machine.unanswered >= UNANSWERED_MAX && now.duration_since(machine.asked) < SILENT_EVERY {
                measured.due = machine.asked + SILENT_EVERY;
                continue;
            }
            if machine.under_way >= UNANSWERED_MAX {
                measured.due = now + PING_SOON;
                continue;
            }
            machine.under_way += 1;
            machine.asked = now;
            measured.under_way = true;
            chosen.push((*mesh, address));
        }
        chosen
    }

    fn take(&mut self, mesh: MeshId, address: SocketAddr, round_trip: Option<Duration>, now: Instant) {
        if let Some(machine) = self.machines.get_mut(&address.ip()) {
            machine.under_way = machine.under_way.saturating_sub(1);
            machine.unanswered = if round_trip.is_some() { 0 } else { machine.unanswered.saturating_add(1) };
        }
        self.machines.retain(|_, machine| machine.under_way > 0 || now.duration_since(machine.asked) < SILENT_EVERY);
        let apart = if self.meshes.len() > LONG_LIST { PING_APART_LONG } else { PING_APART };
        let every = apart.saturating_mul(self.meshes.len() as u32).max(PING_EVERY);
        let Some(measured) = self.meshes.get_mut(&mesh) else { return };
        measured.under_way = false;
        if round_trip.is_some() {
            (measured.round_trip, measured.failures) = (round_trip, 0);
            measured.due = now + every;
            return;
        }
        measured.failures += 1;
        measured.next += 1;
        if measured.failures >= FAILURES_MAX {
            measured.round_trip = None;
        }
        let each_was_asked = measured.failures as usize >= measured.addresses.len().max(FAILURES_MAX as usize);
        measured.due = now + if each_was_asked { SILENT_EVERY } else { PING_SOON };
    }
}

impl Measured {
    fn address(&self) -> Option<SocketAddr> {
        self.addresses.get(self.next % self.addresses.len().max(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mesh(number: u16) -> MeshId {
        MeshId::from_name(&number.to_string())
    }

    fn at(host: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, host], port))
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_address_is_asked_where_one_is_silent_and_the_one_that_answers_stays() {
        let (mut pinger, mut now) = (Pinger::default(), Instant::now());
        let addresses = [at(1, 7), at(2, 7), at(3, 7)];
        pinger.keep([(mesh(1), addresses.as_slice())].into_iter(), now);
        assert_eq!(pinger.choose(now), [], "not at once: its other members are told in a moment");
        let mut asked = Vec::new();
        for _ in 0..4 {
            now = pinger.due().unwrap();
            let (of, address) = pinger.choose(now)[0];
            assert_eq!(pinger.due(), None, "one at a time");
            asked.push(address);
            let answer = (address == addresses[1]).then_some(Duration::from_millis(30));
            pinger.take(of, address, answer, now);
        }
        assert_eq!(asked, [addresses[0], addresses[1], addresses[1], addresses[1]]);
        assert_eq!(pinger.round_trip(&mesh(1)), Some(Duration::from_millis(30)));
        let others = [at(9, 7), at(8, 7), addresses[1]];
        pinger.keep([(mesh(1), others.as_slice())].into_iter(), now);
        assert_eq!(pinger.choose(pinger.due().unwrap())[0].1, addresses[1]);
        pinger.keep(std::iter::empty(), now);
        assert_eq!((pinger.due(), pinger.round_trip(&mesh(1))), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_hardly_asked_and_forgotten_as_far_away() {
        let (mut pinger, start) = (Pinger::default(), Instant::now());
        let mut now = start;
        pinger.keep([(mesh(1), [at(1, 7)].as_slice())].into_iter(), now);
        let mut sent = 0;
        while now < start + Duration::from_secs(600) {
            now = pinger.due().unwrap();
            for (of, address) in pinger.choose(now) {
                sent += 1;
                let answer = (sent == 1).then_some(Duration::from_millis(30));
                pinger.take(of, address, answer, now + PING_PATIENCE);
            }
        }
        assert!((10..=16).contains(&sent), "{sent} in ten minutes");
        assert_eq!(pinger.round_trip(&mesh(1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_list_is_measured_soon_and_then_in_turn() {
        let (mut pinger, start) = (Pinger::default(), Instant::now());
        let meshes: Vec<(MeshId, [SocketAddr; 1])> = (0..200).map(|n| (mesh(n), [at(n as u8, 7)])).collect();
        pinger.keep(meshes.iter().map(|(mesh, addresses)| (*mesh, addresses.as_slice())), start);
        let (mut now, mut sent) = (start, Vec::new());
        while now < start + Duration::from_secs(1_500) {
            now += PING_SOON;
            for (of, address) in pinger.choose(now) {
                sent.push(now);
                pinger.take(of, address, Some(Duration::from_millis(3)), now);
            }
            if now == start + Duration::from_secs(1) {
                assert!(meshes.iter().all(|(mesh, _)| pinger.round_trip(mesh).is_some()));
            }
        }
        let later = sent.iter().filter(|at| **at > start + Duration::from_secs(1)).count();
        assert!((180..=220).contains(&later), "{later} in 1,500 s, and each once");
    }

    /// Somebody tells of a thousand meshes, all of them at the machine of a victim.
    #[tokio::test(start_paused = true)]
    async fn no_list_makes_us_flood_a_machine() {
        let (mut pinger, start) = (Pinger::default(), Instant::now());
        let meshes: Vec<(MeshId, [SocketAddr; 1])> = (0..1_000).map(|n| (mesh(n), [at(1, n + 1)])).collect();
        pinger.keep(meshes.iter().map(|(mesh, addresses)| (*mesh, addresses.as_slice())), start);
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(600) {
            now += PING_SOON;
            for (of, address) in pinger.choose(now) {
                sent += 1;
                pinger.take(of, address, None, now);
            }
        }
        assert!(sent <= 11 * UNANSWERED_MAX as usize, "{sent} in ten minutes");
    }
}
