//! A headless run: so many bots, from the first takeoff to the report.
//!
//! One process opens the mesh, the others join its ticket. When all see all members and all birds, the play begins; at its end
//! all are told to stand still, and after one quiet second each says what the world looks like to it.

use std::io;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::{Bot, of_bot};
use crate::cli::Cli;
use crate::ending::{self, FAILED, NOT_ADMITTED};
use crate::pipe::{self, News, Order};
use crate::report::{PeerReport, Report, Run};
use crate::settings::Settings;

/// How long a process may take to open the mesh, or to join others.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// How long all may take to meet: this, and [`MEET_PER_PEER`] for each.
const MEET_WITHIN: Duration = Duration::from_secs(15);
/// See [`MEET_WITHIN`].
const MEET_PER_PEER: Duration = Duration::from_millis(500);
/// How long nothing may change before the worlds are compared.
const QUIET: Duration = Duration::from_secs(1);
/// How long the reports may take.
const REPORT_WITHIN: Duration = Duration::from_secs(10);
/// How long worlds that differ after the quiet second are watched, and how often.
const LATE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often to say how it goes.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// News that wait to be read.
const NEWS_MAX: usize = 1_024;

/// Flies, reports, judges.
pub(crate) fn fly(cli: &Cli) -> ExitCode {
    let (sender, news) = sync_channel(NEWS_MAX);
    let mut flight = Flight { cli, bots: Vec::new(), news, sender, said: Instant::now(), run: Run::default() };
    flight.run = Run {
        peers: cli.processes(),
        birds_brought: cli.birds,
        tick_rate: f64::from(cli.tick_rate),
        max_neighbors: cli.neighbors().max,
        ..Run::default()
    };
    let flown = if cli.join.is_some() { flight.visit() } else { flight.measure() };
    match flown {
        Ok(code) => code,
        Err(Trouble::Refused) => NOT_ADMITTED.into(),
        Err(Trouble::Io(error)) => ending::fail(&format!("{error}")),
    }
}

/// What ends a run before its time.
enum Trouble {
    /// The mesh would not have one of the bots, which said so itself.
    Refused,
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What the launcher knows of one of its bots.
struct Flyer {
    bot: Bot,
    peer: Option<String>,
    ticket: Option<String>,
    members: usize,
    birds: Option<usize>,
    ahead: Option<(String, usize)>,
    report: Option<PeerReport>,
    /// Killed on purpose, or ended and complained of.
    gone: bool,
}

struct Flight<'a> {
    cli: &'a Cli,
    bots: Vec<Flyer>,
    news: Receiver<(usize, News)>,
    sender: SyncSender<(usize, News)>,
    said: Instant,
    run: Run,
}

impl Flight<'_> {
    /// Opens a mesh, plays, compares.
    fn measure(mut self) -> Result<ExitCode, Trouble> {
        let seconds = self.cli.seconds.unwrap_or_default();
        self.start(0, None)?;
        self.wait(OPEN_WITHIN, |flight| flight.bots[0].ticket.is_some())?;
        let ticket = self.bots[0].ticket.clone();
        if ticket.is_none() {
            self.run.mishaps.push("the first process did not open the mesh in time".into());
        }
        for index in 1..self.run.peers {
            self.start(index, ticket.clone())?;
        }
        let (peers, birds) = (self.run.peers, self.run.peers * self.cli.birds);
        let within = MEET_WITHIN + MEET_PER_PEER * peers as u32;
        let met = |flyer: &Flyer| flyer.members == peers && flyer.birds == Some(birds);
        self.wait(within, |flight| flight.bots.iter().all(met))?;
        if !self.bots.iter().all(met) {
            let seen: Vec<String> = self.bots.iter().map(|flyer| format!("{} sees {}", flyer.bot.name, flyer.members)).collect();
            self.run.mishaps.push(format!("{peers} processes did not all meet within {within:?}: {}", seen.join(", ")));
        }
        self.run.birds_at_start = self.bots.iter().map(|flyer| (flyer.bot.name.clone(), flyer.birds)).collect();

        self.order(&Order::Play { chat: self.cli.chat, seconds });
        match self.cli.kill_at {
            Some(kill_at) => {
                self.wait(Duration::from_secs_f64(kill_at), |_| false)?;
                let first = &mut self.bots[0];
                first.bot.kill();
                first.gone = true;
                self.run.killed = first.peer.clone();
                ending::say(&format!("killed {}, who had opened the mesh", first.bot.name));
                self.wait(Duration::from_secs_f64(seconds - kill_at), |_| false)?;
            }
            None => self.wait(Duration::from_secs_f64(seconds), |_| false)?,
        }

        self.order(&Order::Quiet);
        self.wait(QUIET, |_| false)?;
        self.run.reports = self.reports()?;
        let flown = self.bots.iter().filter(|flyer| !flyer.gone);
        let missing = flown.filter(|flyer| flyer.report.is_none()).map(|flyer| format!("{} did not report", flyer.bot.name));
        self.run.mishaps.extend(missing);
        self.wait_for_agreement()?;
        self.conclude()
    }

    /// What all who are left have measured so far.
    fn reports(&mut self) -> Result<Vec<PeerReport>, Trouble> {
        self.bots.iter_mut().for_each(|flyer| flyer.report = None);
        self.order(&Order::Report);
        self.wait(REPORT_WITHIN, |flight| flight.bots.iter().all(|flyer| flyer.gone || flyer.report.is_some()))?;
        Ok(self.bots.iter().filter(|flyer| !flyer.gone).filter_map(|flyer| flyer.report.clone()).collect())
    }

    /// Worlds that differ after the quiet second have failed; whether they are late or apart for good is still worth knowing.
    fn wait_for_agreement(&mut self) -> Result<(), Trouble> {
        let quiet = Instant::now();
        let mut reports = self.run.reports.clone();
        while reports.windows(2).any(|pair| pair[0].state_hash != pair[1].state_hash) {
            if quiet.elapsed() > LATE {
                self.run.mishaps.push(format!("the worlds still differ {} s after the quiet second", LATE.as_secs()));
                return Ok(());
            }
            self.run.agreed_late_ms = Some(0);
            self.wait(LOOK_EVERY, |_| false)?;
            reports = self.reports()?;
        }
        self.run.agreed_late_ms = self.run.agreed_late_ms.map(|_| quiet.elapsed().as_millis() as u64);
        Ok(())
    }

    /// Joins others, who are not ours to compare with, and plays.
    fn visit(mut self) -> Result<ExitCode, Trouble> {
        for index in 0..self.run.peers {
            self.start(index, self.cli.join.clone())?;
        }
        let inside = |flyer: &Flyer| flyer.gone || flyer.ticket.is_some();
        self.wait(OPEN_WITHIN, |flight| flight.bots.iter().all(inside))?;
        if !self.bots.iter().all(inside) {
            self.run.mishaps.push(format!("not in the mesh after {OPEN_WITHIN:?}"));
        }
        self.wait(Duration::from_secs_f64(self.cli.seconds.unwrap_or_default()), |_| false)?;
        if self.run.mishaps.is_empty() { Ok(ExitCode::SUCCESS) } else { Ok(ending::fail(&self.run.mishaps.join("; "))) }
    }

    fn conclude(mut self) -> Result<ExitCode, Trouble> {
        let report = Report::new(std::mem::take(&mut self.run));
        self.bots.iter_mut().for_each(|flyer| flyer.bot.let_go());
        if let Some(file) = &self.cli.report {
            let json = serde_json::to_string_pretty(&report).map_err(io::Error::from)?;
            std::fs::write(file, json + "\n")
                .map_err(|error| io::Error::new(error.kind(), format!("cannot write {}: {error}", file.display())))?;
        }
        // The exit code says the essential, should nobody read it.
        _ = ending::print(&summary(&report));
        report.failures.iter().for_each(|failure| ending::say(&format!("FAILED: {failure}")));
        Ok(if report.ok { ExitCode::SUCCESS } else { FAILED.into() })
    }

    fn start(&mut self, index: usize, ticket: Option<String>) -> Result<(), Trouble> {
        let player = self.cli.settings();
        let settings = Settings { discover: player.discover && ticket.is_none(), join: ticket, ..of_bot(index, &player) };
        let (bot, output) = Bot::start(&settings, Stdio::piped(), Stdio::inherit())
            .and_then(|mut bot| bot.output().map(|output| (bot, output)).ok_or_else(|| io::ErrorKind::BrokenPipe.into()))?;
        let sender = self.sender.clone();
        thread::Builder::new().name(format!("news of {}", bot.name)).spawn(move || {
            for news in pipe::read(output) {
                if sender.send((index, news)).is_err() {
                    break;
                }
            }
        })?;
        self.bots.push(Flyer { bot, peer: None, ticket: None, members: 0, birds: None, ahead: None, report: None, gone: false });
        Ok(())
    }

    /// Takes in news until `done`, `within` at most.
    fn wait(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Trouble> {
        let end = Instant::now() + within;
        while !done(self) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match self.news.recv_timeout(left.min(Duration::from_millis(50))) {
                Ok((index, news)) => self.note(index, news),
                // We hold a sender ourselves, so that the channel does not close.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.look_after_bots()?;
            self.say_how_it_goes();
        }
        Ok(())
    }

    fn note(&mut self, index: usize, news: News) {
        let flyer = &mut self.bots[index];
        match news {
            News::Ready { peer, ticket } => (flyer.peer, flyer.ticket) = (Some(peer), Some(ticket)),
            News::Status { members, birds, ahead } => (flyer.members, flyer.birds, flyer.ahead) = (members, Some(birds), ahead),
            News::Report(report) => flyer.report = Some(*report),
        }
    }

    /// A bot that ended by itself is a mishap; one that was not let in ends the run.
    fn look_after_bots(&mut self) -> Result<(), Trouble> {
        for flyer in self.bots.iter_mut().filter(|flyer| !flyer.gone) {
            match flyer.bot.ended() {
                Some(code) if code == i32::from(NOT_ADMITTED) => return Err(Trouble::Refused),
                Some(code) => {
                    flyer.gone = true;
                    self.run.mishaps.push(format!("{} ended by itself, with exit code {code}", flyer.bot.name));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn order(&mut self, order: &Order) {
        for flyer in self.bots.iter_mut().filter(|flyer| !flyer.gone) {
            // A bot that cannot be told anything has ended, which will be noticed.
            _ = flyer.bot.order(order);
        }
    }

    fn say_how_it_goes(&mut self) {
        if self.said.elapsed() < SAY_EVERY {
            return;
        }
        self.said = Instant::now();
        let Some(flyer) = self.bots.iter().find(|flyer| !flyer.gone) else { return };
        let ahead = flyer.ahead.as_ref().map_or_else(String::new, |(name, birds)| format!(", {name} leads {birds}"));
        ending::say(&format!("{} members, {} birds{ahead}", flyer.members, flyer.birds.unwrap_or(0)));
    }
}

/// The report in a few lines.
fn summary(report: &Report) -> String {
    let ticks = |age: Option<f64>| age.map_or_else(|| "unknown".into(), |age| format!("{age} ticks"));
    format!(
        "{} peers{}, {} s: {}; birds {} at the start, {} at the end, {} passed on\n\
         \x20 age of state p99 {} (median {}), longest stall {} ms, redundancy {}\n\
         \x20 chat {} lines, {} of {} deliveries, {} doubled; {} bytes per peer and second, at most {} neighbors",
        report.peers,
        if report.killed.is_some() { " (one killed)" } else { "" },
        report.seconds,
        if report.converged { "converged" } else { "NOT converged" },
        report.birds_total_start,
        report.birds_total_end,
        report.birds_given,
        ticks(report.state_age_p99_ticks),
        ticks(report.state_age_p50_ticks),
        report.longest_stall_ms,
        report.redundancy,
        report.chat_sent,
        report.chat_delivered,
        report.chat_expected,
        report.chat_duplicates,
        report.bytes_per_peer_per_second,
        report.max_neighbors_seen,
    )
}
