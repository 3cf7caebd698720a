//! `cargo lab`: every figure that Peerflock quotes, measured here and now.
//!
//! Alone it lists the experiments and the claim that each proves. Each prints a table for people and, with `--json FILE`, writes
//! one JSON object: the experiment, its options and seed, and its fields. Figures are counts, or ratios within one run:
//! machines differ, and are noisy.

mod bodies;
mod callgrind;
mod dice;
mod experiment;
mod flock;
mod graph;
mod players;
mod report;
mod scene;
mod stats;
mod svg;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::experiment::{
    Failure, age, auth, chat, churn, codec, content, crash, encode, flood, game, islands, link, nat, ownership, queue, resolvers,
    rest, rooms, starve,
};
use crate::report::Report;

/// Measures what Peerflock claims.
#[derive(Debug, Parser)]
#[command(name = "cargo lab", version, after_help = "Example: cargo lab game --peers 8 --seconds 20 --json game.json")]
struct Cli {
    #[command(subcommand)]
    experiment: Option<Experiment>,
    /// Write the figures to this file, too.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Experiment {
    /// The state coder alone on a trace of moving bodies: bits a second, and time a frame.
    Codec(codec::Options),
    /// Several processes of the real game on loopback: bytes, CPU, age of state, redundancy.
    Game(game::Options),
    /// The protocol alone in virtual time, everybody sending: copies, bytes and latency of each delivery.
    Flood(flood::Options),
    /// Many peers die at once without a word: who still hears whom, and how soon all is as before.
    Crash(crash::Options),
    /// Two contented meshes and one address: how soon they are one.
    Islands(islands::Options),
    /// Peers come and go while everybody talks: what those who stay miss.
    Churn(churn::Options),
    /// Real sockets on loopback: CPU and memory of a mesh beside a plain full mesh of QUIC connections, in one run.
    Link(link::Options),
    /// One link in virtual time: how old state gets on a lossy one, a slow one, and after outages.
    Queue(queue::Options),
    /// One tick of an origin in small and in large meshes: instructions, allocations, packets and bytes.
    Encode(encode::Options),
    /// One mesh of that, in this process.
    #[command(hide = true)]
    EncodeOne(encode::One),
    /// Everybody moves all of its entities: how old is what each sees of the others, and how soon all see one world.
    Age(age::Options),
    /// What proving who said what costs each peer, and how soon a relay is found out that alters what it passes on.
    Auth(auth::Options),
    /// A line too thin for its world: how old what matters and the rest is when the sender must choose.
    Starve(starve::Options),
    /// Small meshes that fall apart and heal while players give, ask for, seize and remove the same things: who owns what in the end.
    Ownership(ownership::Options),
    /// A file for everybody beside a game: copies that its source sends, how much of the lines it fills, what the game notices.
    Content(content::Options),
    /// Chat beside a game: how much older what players see of each other is while everybody talks.
    Chat(chat::Options),
    /// Many rooms on one local network, in network namespaces: how soon a newcomer has the whole list, and what it costs each
    /// host to be there. Needs root on Linux.
    Rooms(rooms::Options),
    /// The rooms of one host.
    #[command(hide = true)]
    RoomsHost(rooms::host::Options),
    /// Each way to find others: time to the first link, alone and among many, an outage, a poisoned one. Real sockets on loopback.
    Resolvers(resolvers::Options),
    /// Real processes behind routers of every sort, in network namespaces: who gets a link of its own. Needs root on Linux.
    Nat(nat::Options),
    /// One player in a namespace.
    #[command(hide = true)]
    NatPeer(nat::peer::Options),
    /// A large world in which nothing moves: what keeping it costs, and how soon a newcomer has it.
    Rest(rest::Options),
}

impl Experiment {
    /// Its report; none where another process reports.
    fn run(&self) -> Result<Option<Report>, Failure> {
        let report = match self {
            Self::Codec(options) => codec::run(options),
            Self::Game(options) => game::run(options),
            Self::Flood(options) => flood::run(options),
            Self::Crash(options) => crash::run(options),
            Self::Islands(options) => islands::run(options),
            Self::Churn(options) => churn::run(options),
            Self::Link(options) => link::run(options),
            Self::Queue(options) => queue::run(options),
            Self::Encode(options) => encode::run(options),
            Self::EncodeOne(options) => encode::run_one(options),
            Self::Age(options) => age::run(options),
            Self::Auth(options) => auth::run(options),
            Self::Starve(options) => starve::run(options),
            Self::Ownership(options) => ownership::run(options),
            Self::Content(options) => content::run(options),
            Self::Chat(options) => chat::run(options),
            Self::Rooms(options) => rooms::run(options),
            Self::RoomsHost(options) => return rooms::host::run(options).map(|()| None),
            Self::Nat(options) => nat::run(options),
            Self::Resolvers(options) => resolvers::run(options),
            Self::Rest(options) => rest::run(options),
            Self::NatPeer(options) => return nat::peer::run(options).map(|()| None),
        };
        report.map(Some)
    }
}

fn main() -> ExitCode {
    let Cli { experiment, json } = Cli::parse();
    let Some(experiment) = experiment else {
        report::say(LIST);
        return ExitCode::SUCCESS;
    };
    let outcome = experiment.run().and_then(|report| report.map_or(Ok(()), |report| finish(&report, json.as_deref())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            report::complain(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn finish(report: &Report, json: Option<&Path>) -> Result<(), Failure> {
    report::say(&report.table());
    if let Some(path) = json {
        std::fs::write(path, report.json()).map_err(|source| Failure::Write { path: path.to_owned(), source })?;
    }
    Ok(())
}

const LIST: &str = "\
Experiments, and what each proves:

  cargo lab game     a real game runs over real QUIC links between real processes: all end with one world, and this is what it
                     costs in bytes and CPU, and how old the state is that players see; with --entities: the same of so many
                     moving entities and nothing else, each update in bytes
  cargo lab codec    the coder that every game gets by registering its components says what moves in fewer bits than one made by hand
                     for just that: any trace laid out like Fiedler's 901 cubes, under that challenge's strict rule, with loss
                     or without; a flock made here where there is no file
  cargo lab flood    when everybody sends on a beat, each hears each once, by about the shortest way: copies, bytes per byte
                     of payload, latency against the shortest path, with loss alone or in bursts; with --sweep and --svg: a
                     peer's cost grows no faster than what it must receive
  cargo lab crash    when most peers die at once without a word, what a survivor says at that moment still reaches the others,
                     and within a second or so all hear all again, as one mesh
  cargo lab islands  two meshes that are each content become one when one learns one address of the other
  cargo lab churn    while peers come, leave and die, those who stay miss no message, and get none twice or out of order
  cargo lab link     one packet carries many players' frames: CPU per delivered frame against a plain full mesh of QUIC
                     connections, and memory per neighbor, over real sockets on loopback
  cargo lab queue    fresh state never waits behind stale: its age in our queues at 5 % loss, after outages, and on a link of
                     half the needed rate, over real QUIC in virtual time
  cargo lab encode   a tick is encoded once, whoever listens: what its origin spends on it in a mesh of 64 beside what it spends in
                     a mesh of 8, in instructions and allocations counted by valgrind where there is one (the goal: 1.05 times)
  cargo lab age      with 5 % loss and a round trip of 100 ms, what players see of each other's moving entities is at the 99th
                     percentile at most 100 ms and 3 ticks old, with 20 % loss 1 s; when all stop, all see one world
  cargo lab auth     among 64 peers at 60 Hz, proving and checking who said what takes each less than 3 % of a core, and a relay that
                     alters what it passes on is found out, and its lie undone, within a quarter of a second
  cargo lab ownership  whatever happens to whom at what moment, every entity ends with one owner, the same for all; nothing is lost that
                     nobody removed, and nothing removed is back: thousands of short stories, a seed each
  cargo lab nat      behind routers of all four sorts, 15 of 16 pairs get a link of their own within 2 s, and all 16 play; so do
                     those behind two routers, at one, with nothing in common, and alone with a directory; beside each what a
                     naive puncher gets there; real processes in network namespaces, as root
  cargo lab rooms    200 rooms on one local network: a newcomer has the whole list within 2 s, and when all is quiet each host sends and
                     receives less than 2 kB/s together; real processes in network namespaces, as root
  cargo lab resolvers  whatever the way to find others, the first link stands within seconds, among 2 and among 20; dead addresses
                     delay it by less than 5 s; a directory may die and come back empty, and play goes on
  cargo lab rest     an untouched world of 10,000 entities costs a node less than 1 % of a core, and on the wire it is a heartbeat; a newcomer has 2,000 within 2 s
  cargo lab starve   on a line of 20 kB/s every one of 2,000 moving entities is at most 2 s old, and those that weigh more 200 ms, over
                     real QUIC in virtual time
  cargo lab content  a file goes from one to all: its source sends at most 1.5 copies, the lines are filled to 0.8, and what players
                     see of each other is at the 99th percentile less than 10 % older meanwhile, over real QUIC in virtual time
  cargo lab chat     50 lines of chat a second make what 50 players see of each other less than 5 % older at the 99th percentile, over
                     real QUIC in virtual time

Flood, crash, islands, churn, auth, ownership and encode run in virtual time, on links of 10 to 50 ms, with the defaults that users run.
Each takes --help, and --json FILE for its figures.";
