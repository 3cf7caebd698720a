//! The report of a headless run: what each process saw, what all of it comes to, and whether it is as it should be.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

mod ages;

pub(crate) use ages::Ages;

/// What one process measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct PeerReport {
    /// Who: its public key.
    pub(crate) peer: String,
    /// What it is called.
    pub(crate) name: String,
    /// Members it sees, itself included.
    pub(crate) members: usize,
    /// Of the shared world, as it sees it.
    pub(crate) state_hash: String,
    /// Entities in it.
    pub(crate) entities: usize,
    /// Birds it sees.
    pub(crate) birds: usize,
    /// Birds it owns.
    pub(crate) birds_own: usize,
    /// Birds it gave away.
    pub(crate) birds_given: u64,
    /// Birds that became its own, those that hatched there included.
    pub(crate) birds_received: u64,
    /// How long it measured.
    pub(crate) seconds: f64,
    /// How old the newest state of each other was, in ticks, in each tick.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) ages: BTreeMap<String, Ages>,
    /// The longest it heard nothing new of each other.
    pub(crate) longest_silence_ms: BTreeMap<String, u64>,
    /// The longest that any bird stood still.
    pub(crate) longest_standstill_ms: u64,
    /// Lines it said.
    pub(crate) chat_sent: u32,
    /// The numbers of the lines it heard of each other, in the order in which they came.
    pub(crate) chat_received: BTreeMap<String, Vec<u32>>,
    /// Bytes sent while it measured, everything above UDP, from the links' rates.
    pub(crate) wire_bytes_sent: u64,
    /// Bytes sent while it measured as the protocol counts them, without QUIC's own.
    pub(crate) payload_bytes_sent: u64,
    /// Packets of state that came for the first time.
    pub(crate) state_packets_first: u64,
    /// Packets of state that had come before.
    pub(crate) state_packets_duplicate: u64,
    /// Most links held at once.
    pub(crate) links_max: u64,
    /// What members sent that broke the protocol.
    pub(crate) violations: u64,
    /// Events that fell out because the game did not take them.
    pub(crate) events_dropped: u64,
}

/// What the launcher knows of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// Processes started.
    pub(crate) peers: usize,
    /// The public key of the process that was killed.
    pub(crate) killed: Option<String>,
    /// Each process's name and the birds it counted when all had met; of a process that never said so, none.
    pub(crate) birds_at_start: Vec<(String, Option<usize>)>,
    /// What went wrong on the way: a process that ended, never met the others, or did not report.
    pub(crate) mishaps: Vec<String>,
    /// Birds that each process brought.
    pub(crate) birds_brought: usize,
    /// Ticks per second.
    pub(crate) tick_rate: f64,
    /// Most links that a process was to hold.
    pub(crate) max_neighbors: usize,
    /// Where the worlds differed after the quiet second: how much later they agreed.
    pub(crate) agreed_late_ms: Option<u64>,
    /// What the survivors reported.
    pub(crate) reports: Vec<PeerReport>,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether all is as it should be: `failures` is empty.
    pub(crate) ok: bool,
    /// What is not as it should be.
    pub(crate) failures: Vec<String>,
    /// Processes started.
    pub(crate) peers: usize,
    /// Those left at the end.
    pub(crate) peers_at_end: usize,
    /// The name of the process that was killed on purpose, if one was.
    pub(crate) killed: Option<String>,
    /// After one quiet second all that are left see the same members and have the same hash of the shared world.
    pub(crate) converged: bool,
    /// Where that is not so but became so: how long after the quiet second.
    pub(crate) agreed_late_ms: Option<u64>,
    /// That hash, or all that there were.
    pub(crate) state_hashes: Vec<String>,
    /// Seconds played, from when all had met until the quiet second.
    pub(crate) seconds: f64,
    /// Ticks per second.
    pub(crate) tick_rate: f64,
    /// Birds at the end, as all count them; as the first counts them where they do not agree.
    pub(crate) birds_total: usize,
    /// Birds when all had met, as all counted them.
    pub(crate) birds_total_start: usize,
    /// The same as `birds_total`.
    pub(crate) birds_total_end: usize,
    /// How often a bird passed from one peer to another, adoptions not counted.
    pub(crate) birds_given: u64,
    /// The age of the newest state of each other peer as applied, seen in every tick, in ticks: the median.
    pub(crate) state_age_p50_ticks: Option<f64>,
    /// And what 99 of 100 do not exceed. A process that was killed is left out.
    pub(crate) state_age_p99_ticks: Option<f64>,
    /// Chat lines said by those left at the end.
    pub(crate) chat_sent: u64,
    /// Deliveries there must be: each line once at each other peer left at the end.
    pub(crate) chat_expected: u64,
    /// Deliveries of those lines, each counted once.
    pub(crate) chat_delivered: u64,
    /// Deliveries beyond the first of the same line.
    pub(crate) chat_duplicates: u64,
    /// Lines that came after a later one of the same speaker.
    pub(crate) chat_out_of_order: u64,
    /// Bytes that a peer sends in a second on average, everything above UDP.
    pub(crate) bytes_per_peer_per_second: f64,
    /// The part of it that the protocol made: without QUIC's headers, acknowledgements and encryption.
    pub(crate) payload_bytes_per_peer_per_second: f64,
    /// Packets of state that came a second time, per packet that came a first time. 0 is none.
    pub(crate) redundancy: f64,
    /// Most links that any peer ever held.
    pub(crate) max_neighbors_seen: u64,
    /// Most links that a peer may hold.
    pub(crate) max_neighbors: usize,
    /// The longer of the next two.
    pub(crate) longest_stall_ms: u64,
    /// The longest that a peer heard nothing new from another; a process that was killed is left out.
    pub(crate) longest_silence_ms: u64,
    /// The longest that any bird stood still in the eyes of any peer, orphans waiting to be adopted included.
    pub(crate) longest_standstill_ms: u64,
    /// What each process reported.
    pub(crate) per_peer: Vec<PeerReport>,
}

impl Report {
    /// Adds up a run and judges it.
    pub(crate) fn new(run: Run) -> Self {
        let reports = &run.reports;
        let alive: BTreeSet<&str> = reports.iter().map(|report| report.peer.as_str()).collect();
        let at_start: Vec<Option<usize>> = run.birds_at_start.iter().map(|(_, birds)| *birds).collect();
        let hashes: BTreeSet<&String> = reports.iter().map(|report| &report.state_hash).collect();
        let survivors = run.peers - usize::from(run.killed.is_some());
        let seconds = mean(reports.iter().map(|report| report.seconds));
        let chat = Chat::new(reports);

        let mut ages = Ages::default();
        for (_, others) in reports.iter().flat_map(|report| &report.ages).filter(|(peer, _)| alive.contains(peer.as_str())) {
            ages.merge(others);
        }
        let silences = reports.iter().flat_map(|report| &report.longest_silence_ms);
        let longest_silence_ms = silences.filter(|(peer, _)| alive.contains(peer.as_str())).map(|(_, ms)| *ms).max().unwrap_or(0);
        let longest_standstill_ms = reports.iter().map(|report| report.longest_standstill_ms).max().unwrap_or(0);
        let first: u64 = reports.iter().map(|report| report.state_packets_first).sum();
        let duplicate: u64 = reports.iter().map(|report| report.state_packets_duplicate).sum();
        let per_second = |bytes: fn(&PeerReport) -> u64| {
            mean(reports.iter().map(|report| if report.seconds > 0.0 { bytes(report) as f64 / report.seconds } else { 0.0 }))
        };
        let birds_total = reports.first().map_or(0, |report| report.birds);

        let mut report = Self {
            ok: false,
            failures: run.mishaps.clone(),
            peers: run.peers,
            peers_at_end: reports.len(),
            killed: run.killed.clone(),
            converged: reports.len() == survivors
                && hashes.len() == 1
                && reports.iter().all(|report| report.members == survivors),
            agreed_late_ms: run.agreed_late_ms,
            state_hashes: hashes.into_iter().cloned().collect(),
            seconds: rounded(seconds),
            tick_rate: run.tick_rate,
            birds_total,
            birds_total_start: at_start.iter().copied().flatten().next().unwrap_or(0),
            birds_total_end: birds_total,
            birds_given: reports.iter().map(|report| report.birds_given).sum(),
            state_age_p50_ticks: ages.quantile(0.5),
            state_age_p99_ticks: ages.quantile(0.99),
            chat_sent: chat.sent,
            chat_expected: chat.expected,
            chat_delivered: chat.delivered,
            chat_duplicates: chat.duplicates,
            chat_out_of_order: chat.out_of_order,
            bytes_per_peer_per_second: rounded(per_second(|report| report.wire_bytes_sent)),
            payload_bytes_per_peer_per_second: rounded(per_second(|report| report.payload_bytes_sent)),
            redundancy: if first == 0 { 0.0 } else { (duplicate as f64 / first as f64 * 1e4).round() / 1e4 },
            max_neighbors_seen: reports.iter().map(|report| report.links_max).max().unwrap_or(0),
            max_neighbors: run.max_neighbors,
            longest_stall_ms: longest_silence_ms.max(longest_standstill_ms),
            longest_silence_ms,
            longest_standstill_ms,
            per_peer: reports.iter().map(|report| PeerReport { ages: BTreeMap::new(), ..report.clone() }).collect(),
        };
        report.judge(&run, &at_start);
        report.ok = report.failures.is_empty();
        report
    }

    /// What is not as it should be.
    fn judge(&mut self, run: &Run, at_start: &[Option<usize>]) {
        let brought = run.peers * run.birds_brought;
        if !self.converged {
            let seen: Vec<usize> = run.reports.iter().map(|report| report.members).collect();
            self.failures.push(format!(
                "not converged: {} of {} reports, {} different worlds{}, members seen: {seen:?}",
                run.reports.len(),
                run.peers - usize::from(run.killed.is_some()),
                self.state_hashes.len(),
                self.agreed_late_ms.map_or_else(String::new, |late| format!(" (the same {late} ms later)"))
            ));
        }
        if at_start.len() != run.peers || at_start.iter().any(|birds| *birds != Some(brought)) {
            let counts = run.birds_at_start.iter();
            let counts: Vec<String> = counts
                .map(|(name, birds)| format!("{name} {}", birds.map_or_else(|| "none".into(), |birds| birds.to_string())))
                .collect();
            self.failures.push(format!("birds at the start: {brought} hatched, counted were {}", counts.join(", ")));
        }
        for report in run.reports.iter().filter(|report| report.birds != brought) {
            self.failures.push(format!("birds lost or doubled: {} counts {} of {brought}", report.name, report.birds));
        }
        let owned: usize = run.reports.iter().map(|report| report.birds_own).sum();
        if run.reports.len() == run.peers - usize::from(run.killed.is_some()) && owned != brought {
            self.failures.push(format!("{owned} birds have an owner who says so, of {brought}"));
        }
        if self.chat_delivered != self.chat_expected || self.chat_duplicates + self.chat_out_of_order > 0 {
            self.failures.push(format!(
                "chat: {} of {} deliveries, {} doubled, {} out of order",
                self.chat_delivered, self.chat_expected, self.chat_duplicates, self.chat_out_of_order
            ));
        }
        if self.max_neighbors_seen > run.max_neighbors as u64 {
            self.failures.push(format!("a peer held {} links, {} were allowed", self.max_neighbors_seen, run.max_neighbors));
        }
    }
}

/// How the chat went among those who are left.
struct Chat {
    sent: u64,
    expected: u64,
    delivered: u64,
    duplicates: u64,
    out_of_order: u64,
}

impl Chat {
    fn new(reports: &[PeerReport]) -> Self {
        let sent: u64 = reports.iter().map(|report| u64::from(report.chat_sent)).sum();
        let listeners = reports.len().saturating_sub(1) as u64;
        let mut chat = Self { sent, expected: sent * listeners, delivered: 0, duplicates: 0, out_of_order: 0 };
        for (listener, speaker) in reports.iter().flat_map(|listener| reports.iter().map(move |speaker| (listener, speaker))) {
            let Some(numbers) = listener.chat_received.get(&speaker.peer).filter(|_| listener.peer != speaker.peer) else {
                continue;
            };
            // A line that its speaker does not know of was never said: it counts as doubled.
            let distinct: BTreeSet<u32> = numbers.iter().copied().filter(|number| *number < speaker.chat_sent).collect();
            chat.delivered += distinct.len() as u64;
            chat.duplicates += (numbers.len() - distinct.len()) as u64;
            chat.out_of_order += numbers.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
        }
        chat
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests;
