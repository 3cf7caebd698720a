//! A file for everybody beside a game: how many copies its source sends, how much of the lines it fills, and what the game notices.
//!
//! Real meshes over real QUIC, in virtual time, each two joined by a line of the same rate each way. Everybody moves some entities all the
//! time and watches those of the others: how old they are is measured in every frame of each, first for a while alone, then while a file goes from
//! one member to all others, as fast as it can.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use peerflock::service::content::{Content, ContentEvent, Quotas, Share, Transfer};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, PeerId};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Failure, in_virtual_time};
use crate::dice::Dice;
use crate::players::{Player, TICK, gather, play, unmet};
use crate::report::Report;
use crate::stats::Latencies;

const SETTLING: Duration = Duration::from_secs(4);
/// After which a file that is not there never will be: so many times what the lines would need.
const GIVE_UP: u32 = 20;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Members, its source among them.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(2..=64))]
    members: u8,
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    max_neighbors: usize,
    /// Size of the file, in MiB.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    mib: u32,
    /// What the line between each two carries, in bytes of UDP payload a second, each way.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(50_000..))]
    rate: u32,
    /// Round trip, in milliseconds.
    #[arg(long, default_value_t = 50)]
    rtt: u64,
    /// Part of the packets that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Entities that each moves in every tick.
    #[arg(long, default_value_t = 4)]
    entities: u32,
    /// Virtual seconds in which the game is measured alone.
    #[arg(long, default_value_t = 8)]
    alone: u64,
    /// Fetch into files in a folder of their own in there, which is gone afterwards, instead of into memory.
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    /// One member more has it, and bends every bit of it that it gives. Needs `--files`.
    #[arg(long, requires = "files")]
    liar: bool,
    /// The source's cable is pulled as soon as its neighbors have all of it between them.
    #[arg(long)]
    source_leaves: bool,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u8,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    in_virtual_time(measure(options))
}

async fn measure(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "members": options.members, "max_neighbors": options.max_neighbors, "mib": options.mib, "rate_bytes_per_second": options.rate,
        "rtt_ms": options.rtt, "loss": options.loss, "entities": options.entities, "alone": options.alone,
        "files": options.files.is_some(), "liar": options.liar, "source_leaves": options.source_leaves,
    });
    let mut report = Report::new("content", settings, Some(options.seed.into()));
    let line = Conditioner {
        rate_bytes_per_second: Some(options.rate),
        queue_bytes: 256 * 1_024,
        loss: options.loss,
        ..Conditioner::with_delay(Duration::from_millis(options.rtt) / 2)
    };
    let network = VirtualNetwork::new(options.seed.into(), line);
    let mut players = gather(&network, options.members, options.max_neighbors, options.entities).await?;
    let contents: Vec<Content> =
        players.iter().map(|player| Content::join(&player.mesh, Quotas::default())).collect::<Result<_, _>>().map_err(unmet)?;

    let (mut alone, mut beside) = (Latencies::default(), Latencies::default());
    let begun = Instant::now();
    while begun.elapsed() < SETTLING + Duration::from_secs(options.alone) {
        let ages = (begun.elapsed() >= SETTLING).then_some(&mut alone);
        play(&mut players, begun, ages, drop).await;
    }

    let mut bytes = vec![0; options.mib as usize * 1_024 * 1_024];
    let mut dice = Dice::new(options.seed.into());
    bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&dice.roll().to_le_bytes()[..chunk.len()]));
    let folder = options.files.as_deref().map(Folder::new).transpose()?;
    let liar = if options.liar { folder.as_ref() } else { None };
    if let Some(folder) = liar {
        lie(&contents[1], folder.0.join("lie"), &bytes).await?;
    }
    let memory_before = peak_memory();
    let id = contents[0].share(Share::bytes("file", bytes)).await.map_err(unmet)?.id;
    let shared = Instant::now();
    let fetching = 1 + usize::from(liar.is_some());
    let mut transfers: Vec<Transfer> = Vec::new();
    for (n, content) in contents[fetching..].iter().enumerate() {
        transfers.push(match &folder {
            Some(folder) => content.fetch_file(id, folder.0.join(n.to_string())).await.map_err(unmet)?,
            None => content.fetch_bytes(id).map_err(unmet)?,
        });
    }
    // What comes into those who fetch, over the links that there are.
    let lines: usize =
        players[fetching..].iter().map(|player| player.mesh.members().iter().filter(|other| other.linked).count()).sum();
    let all_bytes = id.len as f64 * transfers.len() as f64;
    let least = all_bytes / (lines as f64 * f64::from(options.rate));
    let (mut first_copy, mut halfway, mut left) = (None, None, None::<(Duration, usize)>);
    let door = players[0].mesh.local_addresses()[0];
    let mut done_after = vec![None; transfers.len()];
    let source_lines = players[0].mesh.members().iter().filter(|other| other.linked).count();
    let mut course = Course::default();
    while !transfers.iter().all(|transfer| transfer.progress().complete) {
        if shared.elapsed().as_secs_f64() > least * f64::from(GIVE_UP) + 60.0 {
            let done = transfers.iter().filter(|transfer| transfer.progress().complete).count();
            return Err(Failure::Unmet(format!("only {done} of {} have the file", transfers.len())));
        }
        // Of who is gone nothing new is to be seen.
        play(&mut players, begun, left.is_none().then_some(&mut beside), drop).await;
        if options.source_leaves
            && left.is_none()
            && contents[0].progress(&id).is_some_and(|progress| progress.elsewhere == id.len)
        {
            left = Some((shared.elapsed(), transfers.iter().filter(|transfer| transfer.progress().complete).count()));
            network.unplug(door);
        }
        for (done, transfer) in done_after.iter_mut().zip(&transfers) {
            if done.is_none() && transfer.progress().complete {
                *done = Some(shared.elapsed().as_secs_f64());
            }
        }
        let have: u64 = transfers.iter().map(|transfer| transfer.progress().have).sum();
        course.note(shared.elapsed(), have, &players[fetching..], &transfers);
        if have as f64 >= all_bytes / 2.0 {
            halfway.get_or_insert_with(|| shared.elapsed());
        }
        if contents[0].progress(&id).is_some_and(|progress| progress.served >= id.len) {
            first_copy.get_or_insert_with(|| shared.elapsed());
        }
    }
    let seconds = shared.elapsed().as_secs_f64();
    let served = contents[0].progress(&id).map_or(0, |progress| progress.served);
    report.field("source_copies", served as f64 / id.len as f64);
    report.field("seconds", seconds);
    report.field("first_copy_out_after_seconds", first_copy.map(|at| at.as_secs_f64()));
    report.field("half_there_after_seconds", halfway.map(|at| at.as_secs_f64()));
    // Who has more links has the file sooner: each one's own speed, as long as it lasts.
    let speeds: f64 = done_after.iter().flatten().map(|seconds| id.len as f64 / seconds).sum();
    report.field("aggregate_bytes_per_second", speeds);
    report.field("links", lines);
    report.field("aggregate_of_links_sum", speeds / (lines as f64 * f64::from(options.rate)));
    report.field("until_the_last_of_links_sum", least / seconds);
    // Why it is less than all: what came twice, how long nothing was under way over a link, how fast the source could let it out, and when.
    let all_served: u64 = contents.iter().filter_map(|content| content.progress(&id)).map(|progress| progress.served).sum();
    report.field("sent_of_needed", all_served as f64 / all_bytes);
    report.field("links_idle", course.idle as f64 / course.looked.max(1) as f64);
    let source_rate = source_lines as f64 * f64::from(options.rate);
    report.field("source_of_its_links", first_copy.map(|at| id.len as f64 / at.as_secs_f64() / source_rate));
    report.field("speed_each_second_of_links_sum", course.speeds(lines as f64 * f64::from(options.rate)));
    if let Some((at, whole)) = left {
        report.field("source_left_after_seconds", at.as_secs_f64());
        report.field("complete_when_it_left", whole);
        report.field("complete", transfers.len());
    }
    if liar.is_some() {
        let (mut found, mut wronged) = (0, 0);
        for content in &contents[fetching..] {
            for peer in corrupt(content).await {
                if peer == players[1].mesh.id() { found += 1 } else { wronged += 1 }
            }
        }
        report.field("liar_named_by", found);
        report.field("others_named_by", wronged);
    }
    // Of all members together, who are one process: all that came of the transfer, beside the source's own copy.
    report.field(
        "peak_memory_more_mib",
        peak_memory().zip(memory_before).map(|(after, before)| after.saturating_sub(before) / 1_024),
    );
    for (name, ages) in [("alone", &alone), ("beside", &beside)] {
        report.field(format!("age_{name}_p50_ms"), ages.percentile_ms(0.5));
        report.field(format!("age_{name}_p99_ms"), ages.percentile_ms(0.99));
        report.field(format!("age_{name}_max_ms"), ages.percentile_ms(1.0));
    }
    report.field("age_p99_rise", beside.percentile_ms(0.99) / alone.percentile_ms(0.99) - 1.0);
    Ok(report)
}

/// Lets a member share these bytes as it should, and then give others.
async fn lie(content: &Content, path: PathBuf, bytes: &[u8]) -> Result<(), Failure> {
    let write = |bytes: &[u8]| std::fs::write(&path, bytes).map_err(|source| Failure::Write { path: path.clone(), source });
    write(bytes)?;
    content.share(Share::file(&path)).await.map_err(unmet)?;
    write(&bytes.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>())
}

/// Whom this one has found out.
async fn corrupt(content: &Content) -> Vec<PeerId> {
    let mut peers = Vec::new();
    while let Ok(Some(event)) = timeout(TICK, content.next_event()).await {
        if let ContentEvent::Corrupt { peer, .. } = event {
            peers.push(peer);
        }
    }
    peers
}

/// The most memory that this process ever had, in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// A folder of this run, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(within: &Path) -> Result<Self, Failure> {
        let path = within.join(format!("peerflock-content-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|source| Failure::Write { path: path.clone(), source })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a transfer goes.
#[derive(Default)]
struct Course {
    /// Moments at which a link over which something was missing still carried nothing, and all of them.
    idle: u64,
    looked: u64,
    /// What was there after each second.
    have: Vec<u64>,
}

impl Course {
    fn note(&mut self, passed: Duration, have: u64, players: &[Player], transfers: &[Transfer]) {
        for (player, progress) in players.iter().zip(transfers.iter().map(Transfer::progress)) {
            if !progress.complete {
                let links = player.mesh.members().iter().filter(|other| other.linked).count();
                self.looked += links as u64;
                self.idle += links.saturating_sub(progress.active) as u64;
            }
        }
        if passed.as_secs() as usize > self.have.len() {
            self.have.push(have);
        }
    }

    /// How fast it came in each second, of what the links carry.
    fn speeds(&self, links_sum: f64) -> Vec<f64> {
        let before = std::iter::once(&0).chain(&self.have);
        let speeds = self.have.iter().zip(before).map(|(after, before)| (after - before) as f64 / links_sum);
        speeds.map(|speed| (speed * 100.0).round() / 100.0).collect()
    }
}
