//! Chat beside a game: how much older is what players see of each other while everybody talks?
//!
//! Real meshes over real QUIC, in virtual time, each two joined by a line of the same rate each way. The same game is played twice, from
//! the same seed: once in silence, once with so many lines a second, said by all in turn. Each author keeps to the pace of chat; lines
//! over it, which chat would not send, go out as messages of the same length, so that the mesh carries them all the same.

use std::time::Duration;

use clap::Args;
use peerflock::service::chat::{Chat, ChatEvent};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, Event, Target, Topic};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{Failure, in_virtual_time};
use crate::players::{self, Player, gather, play, unmet};
use crate::report::Report;
use crate::stats::Latencies;

/// What somebody says, about.
const LINE: &str = "over here, behind the tower, and bring the others along";
/// What a line takes besides, for its place, its author and the author's signature.
const LINE_OVERHEAD_BYTES: usize = 144;
const BEYOND: Topic = Topic(Topic::RESERVED);
/// Before anything is measured.
const SETTLING: Duration = Duration::from_secs(4);
/// Until the last line must have arrived.
const LAST_LINES: Duration = Duration::from_secs(3);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Members of the mesh.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(2..=100))]
    members: u8,
    /// Lines a second, of all members together.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    lines: u32,
    /// Most neighbors of each.
    #[arg(long, default_value_t = 7)]
    max_neighbors: usize,
    /// What the line between each two carries, in bytes of UDP payload a second, each way.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(20_000..))]
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
    /// Virtual seconds that are measured, each time.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Everything random follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What one game came to.
#[derive(Default)]
struct Outcome {
    ages: Latencies,
    said: u64,
    beyond: u64,
    heard: u64,
    heard_beyond: u64,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "members": options.members, "lines_per_second": options.lines, "max_neighbors": options.max_neighbors,
        "rate_bytes_per_second": options.rate, "rtt_ms": options.rtt, "loss": options.loss, "entities": options.entities,
        "seconds": options.seconds,
    });
    let mut report = Report::new("chat", settings, Some(options.seed));
    let without = in_virtual_time(game(options, 0))?;
    let with = in_virtual_time(game(options, options.lines))?;
    let others = u64::from(options.members) - 1;
    report.field("lines_said", with.said);
    report.field("lines_beyond_the_pace", with.beyond);
    report.field("lines_heard_of_due", with.heard as f64 / (with.said * others).max(1) as f64);
    report.field("beyond_heard_of_due", with.heard_beyond as f64 / (with.beyond * others).max(1) as f64);
    for (name, ages) in [("without", &without.ages), ("with", &with.ages)] {
        report.field(format!("p50_ms_{name}"), ages.percentile_ms(0.5));
        report.field(format!("p99_ms_{name}"), ages.percentile_ms(0.99));
        report.field(format!("max_ms_{name}"), ages.percentile_ms(1.0));
    }
    report.field("rise", with.ages.percentile_ms(0.99) / without.ages.percentile_ms(0.99) - 1.0);
    Ok(report)
}

async fn game(options: &Options, lines: u32) -> Result<Outcome, Failure> {
    let line = Conditioner {
        rate_bytes_per_second: Some(options.rate),
        loss: options.loss,
        ..Conditioner::with_delay(Duration::from_millis(options.rtt) / 2)
    };
    let network = VirtualNetwork::new(options.seed, line);
    let mut players = gather(&network, options.members, options.max_neighbors, options.entities).await?;
    let chats: Vec<Chat> = players.iter().map(|player| Chat::join(&player.mesh)).collect::<Result<_, _>>().map_err(unmet)?;
    let (begun, mut outcome, mut due) = (Instant::now(), Outcome::default(), 0);
    while begun.elapsed() < SETTLING + Duration::from_secs(options.seconds) {
        let measured = begun.elapsed().saturating_sub(SETTLING);
        while measured.as_secs_f64() * f64::from(lines) > f64::from(due) {
            say(&players, &chats, due as usize, &mut outcome);
            due += 1;
        }
        let (ages, heard) = (&mut outcome.ages, &mut outcome.heard_beyond);
        let ages = (begun.elapsed() >= SETTLING).then_some(ages);
        play(&mut players, begun, ages, |event| *heard += u64::from(is_beyond(&event))).await;
    }
    let last = Instant::now();
    while last.elapsed() < LAST_LINES {
        sleep(players::TICK).await;
        let events = players.iter().flat_map(|player| player.mesh.try_events());
        outcome.heard_beyond += events.filter(is_beyond).count() as u64;
    }
    for (player, chat) in players.iter().zip(&chats) {
        while let Some(event) = chat.try_next() {
            let of_others = matches!(event, ChatEvent::Said(line) if line.author != player.mesh.id());
            outcome.heard += u64::from(of_others);
        }
    }
    Ok(outcome)
}

/// The next of them says something.
fn say(players: &[Player], chats: &[Chat], number: usize, outcome: &mut Outcome) {
    let speaker = number % players.len();
    if chats[speaker].say(&format!("{number}: {LINE}")).is_ok() {
        outcome.said += 1;
    } else if players[speaker].mesh.send(Target::All, BEYOND, vec![7; LINE.len() + LINE_OVERHEAD_BYTES]).is_ok() {
        outcome.beyond += 1;
    }
}

fn is_beyond(event: &Event) -> bool {
    matches!(event, Event::Message { topic, .. } if *topic == BEYOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { members: 3, lines: 20, max_neighbors: 7, rate: 1_000_000, rtt: 40, loss: 0.0, entities: 1, seconds: 2, seed: 1 }
    }

    #[test]
    fn all_lines_are_heard_and_the_ages_are_those_of_the_way() {
        let talks = in_virtual_time(game(&options(), 20)).unwrap();
        assert_eq!(talks.said + talks.beyond, 40);
        assert!(talks.said >= 15 && talks.beyond > 0, "{} {}", talks.said, talks.beyond);
        assert_eq!((talks.heard, talks.heard_beyond), (2 * talks.said, 2 * talks.beyond));
        let silent = in_virtual_time(game(&options(), 0)).unwrap();
        assert_eq!((silent.said, silent.beyond, silent.heard, silent.heard_beyond), (0, 0, 0, 0));
        let (p50, p99) = (silent.ages.percentile_ms(0.5), silent.ages.percentile_ms(0.99));
        assert!((20.0..60.0).contains(&p50) && p99 < 80.0, "{p50} {p99}");
    }
}
