//! One host: opens its rooms, perhaps a list of all, says so as one JSON object a line, and stays until its input ends.

use std::io::Read;
use std::time::Duration;

use clap::Args;
use peerflock::resolve::Browser;
use peerflock::{Interface, Listing, PeerMesh};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::experiment::Failure;
use crate::report;

/// How often the list is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const NETWORK: &str = "eth0";

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The number of the first room.
    #[arg(long)]
    first: u32,
    /// Rooms to open.
    #[arg(long)]
    rooms: u32,
    /// Keep a list open, in which there are to be so many rooms. 0: none.
    #[arg(long)]
    list: u32,
    /// Seconds until they must be in it, where no rooms are opened.
    #[arg(long)]
    patience: u64,
}

pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Unmet(format!("no runtime: {error}")))?;
    runtime.block_on(stay(options))
}

async fn stay(options: &Options) -> Result<(), Failure> {
    let unmet = |error: &dyn std::fmt::Display| Failure::Unmet(error.to_string());
    let mut starting = JoinSet::new();
    for number in options.first..options.first + options.rooms {
        let listing = Listing::new("Murmuration").version("1.4.0").mode("Rome at dusk").players_max(8);
        // With a secret: to stretch a password takes longer than to find anybody, and is not what is measured here.
        let room = PeerMesh::named(format!("Room {number}")).secret([7; 32]).interface(NETWORK).remember(false);
        starting.spawn(room.listing(listing).start());
    }
    let mut rooms = Vec::new();
    while let Some(room) = starting.join_next().await {
        rooms.push(room.map_err(|error| unmet(&error))?.map_err(|error| unmet(&error))?);
    }
    let begun = Instant::now();
    let list = (options.list > 0).then(|| Browser::start(Interface::from(NETWORK))).transpose().map_err(|error| unmet(&error))?;
    let found = || list.as_ref().map_or(0, |list| list.snapshot().len());
    let mut complete = None;
    while options.rooms == 0 && complete.is_none() && begun.elapsed() < Duration::from_secs(options.patience) {
        if found() >= options.list as usize {
            complete = Some(begun.elapsed().as_secs_f64() * 1_000.0);
        } else {
            sleep(LOOK_EVERY).await;
        }
    }
    report::say(&json!({"complete_after_ms": complete, "found": found()}).to_string());
    let input = tokio::task::spawn_blocking(|| {
        // Nothing is ever said there: it ends with whoever started us.
        _ = std::io::stdin().read(&mut [0]);
    });
    input.await.map_err(|error| unmet(&error))
}
