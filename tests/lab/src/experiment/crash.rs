//! Many peers die at the same moment without a word, while all send on a beat: who still hears whom, and how soon is all as
//! before?
//!
//! Nobody is told of the crash; the survivors have to notice by silence. A message is *late* at a peer that does not have it
//! within a bound. Under loss a few are late in the best of times, so a round counts as complete when almost all of its
//! deliveries are in time, or no fewer than in the worst round before the crash; when the very last was late is told, too.

use std::time::Duration;

use clap::Args;
use peerflock_proto::Time;
use peerflock_proto::sim::Sim;
use serde_json::json;

use super::Failure;
use crate::dice::Dice;
use crate::graph;
use crate::report::Report;
use crate::scene::{Hearing, Ledger, Network, ROUND};
use crate::stats::{Figure, millis, part};

/// Rounds before the crash: the first are not looked at, the last reach into it.
const ROUNDS_BEFORE: usize = 60;
const ROUNDS_UNSEEN: usize = 20;
/// Rounds after it.
const ROUNDS_AFTER: usize = 100;
/// A round is complete when this part of its deliveries is in time, or as many as in the worst round before the crash.
const COMPLETE: f64 = 0.999;
/// In which a message said at the moment of the crash should arrive.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// When the parts into which the survivors fell are counted.
const COUNT_AFTER: Duration = Duration::from_secs(3);
/// Silence at the end, in which what is still missing may come.
const LAST_CHANCE: Duration = Duration::from_secs(5);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(3..=1_000))]
    peers: u16,
    /// Part of them that dies, 0 to 1; at least two survive.
    #[arg(long, default_value_t = 0.3)]
    kill: f64,
    /// Payload of each message, in bytes.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// A delivery after so many milliseconds is late.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u64).range(..=1_000))]
    bound_ms: u64,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let peers = usize::from(options.peers);
    let settings = json!({
        "peers": peers, "kill": options.kill, "payload": options.payload, "bound_ms": options.bound_ms,
        "complete": COMPLETE, "rounds": ROUNDS_BEFORE + ROUNDS_AFTER,
    });
    options.network.each_seed("crash", settings, |seed| {
        let mut alive: Vec<usize> = (0..peers).collect();
        let dying = ((peers as f64 * options.kill).round() as usize).min(peers - 2);
        let victims = Dice::new(seed).draw(&mut alive, dying);
        measure(options.network.mesh(seed, peers)?, &victims, &alive, options.payload, Duration::from_millis(options.bound_ms))
    })
}

/// What became of a message among the survivors.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    heard: u64,
    in_time: u64,
    within_first: u64,
}

fn measure(mut sim: Sim, victims: &[usize], alive: &[usize], payload: usize, bound: Duration) -> Result<Vec<Figure>, Failure> {
    let all: Vec<usize> = (0..sim.len()).collect();
    let mut ledger = Ledger::default();
    // By sender and number, among the survivors alone.
    let mut fates = vec![vec![Fate::default(); ROUNDS_BEFORE + 1 + ROUNDS_AFTER]; sim.len()];
    let mut dies = vec![false; sim.len()];
    victims.iter().for_each(|index| dies[*index] = true);
    let mut hear = |hearing: Hearing| {
        if hearing.again || dies[hearing.receiver] {
            return;
        }
        let fate = &mut fates[hearing.sender][hearing.number];
        fate.heard += 1;
        fate.in_time += u64::from(hearing.latency <= bound);
        fate.within_first += u64::from(hearing.latency <= FIRST_WITHIN);
    };
    for _ in 0..ROUNDS_BEFORE {
        ledger.round(&mut sim, &all, payload, &mut hear)?;
    }
    let crash = sim.now();
    victims.iter().for_each(|index| sim.crash(*index));
    for index in alive {
        ledger.say(&mut sim, *index, payload)?;
    }
    let mut components = None;
    for _ in 0..ROUNDS_AFTER {
        ledger.round(&mut sim, alive, payload, &mut hear)?;
        if components.is_none() && sim.now().since(crash) >= COUNT_AFTER {
            components = Some(graph::components(&graph::links(&sim), alive) as f64);
        }
    }
    sim.run(LAST_CHANCE);
    ledger.collect(&mut sim, &mut hear);

    let others = alive.len() as u64 - 1;
    let late_in = |number: usize| alive.iter().map(|sender| others - fates[*sender][number].in_time).sum::<u64>();
    // What was said within the bound before the crash might still have been on its way.
    let untouched = ROUNDS_BEFORE - bound.div_duration_f64(ROUND).ceil() as usize - 1;
    let late_before = (ROUNDS_UNSEEN..untouched).map(late_in).max().unwrap_or(0);
    let after = ROUNDS_BEFORE..ROUNDS_BEFORE + 1 + ROUNDS_AFTER;
    let said_after: Vec<(usize, Time, Fate)> = after
        .clone()
        .flat_map(|number| alive.iter().map(move |sender| (*sender, number)))
        .filter_map(|(sender, number)| Some((number, ledger.said_at(sender, number)?, fates[sender][number])))
        .collect();
    let last_said = |which: &dyn Fn(usize, &Fate) -> bool| {
        let said = said_after.iter().filter(|(number, _, fate)| which(*number, fate));
        said.map(|(_, at, _)| at.since(crash)).max().map_or(0.0, millis)
    };
    let pairs = others * alive.len() as u64;
    let tolerable = late_before.max((pairs as f64 * (1.0 - COMPLETE)) as u64);
    // Until the last message of the last round that was not complete.
    let incomplete = after.clone().rev().find(|number| late_in(*number) > tolerable);
    let complete_again = last_said(&|number, _| Some(number) == incomplete);
    let last_late = last_said(&|_, fate| fate.in_time < others);
    let first: u64 = alive.iter().map(|sender| fates[*sender][ROUNDS_BEFORE].within_first).sum();
    let heard: u64 = said_after.iter().map(|(_, _, fate)| fate.heard).sum();
    Ok(vec![
        Figure::more("first_message_reach", part(first, pairs)),
        // If the last round was incomplete, nobody knows when the next would be complete.
        Figure::soon("complete_again_ms", (incomplete != after.clone().next_back()).then_some(complete_again)),
        Figure::soon("components", components),
        Figure::less("late_total", after.clone().map(late_in).sum::<u64>() as f64),
        Figure::less("last_late_ms", last_late),
        Figure::less("late_in_worst_round_before", late_before as f64),
        Figure::more("delivered", part(heard, pairs * after.len() as u64)),
        Figure::more("survivors", alive.len() as f64),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_dies_and_nobody_notices() {
        let network = Network { max_neighbors: 7, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 2 };
        let alive: Vec<usize> = (0..8).collect();
        let found = measure(network.mesh(2, 8).unwrap(), &[], &alive, 50, Duration::from_millis(250)).unwrap();
        let value = |name| found.iter().find(|figure| figure.name == name).unwrap().value.unwrap();
        assert_eq!(["first_message_reach", "delivered", "components"].map(value), [1.0; 3]);
        assert_eq!(["complete_again_ms", "late_total", "last_late_ms"].map(value), [0.0; 3]);
    }

    #[test]
    fn a_bound_that_nothing_meets_is_never_met_again() {
        let network = Network { max_neighbors: 3, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 2 };
        let alive: Vec<usize> = (0..9).collect();
        let found = measure(network.mesh(2, 12).unwrap(), &[9, 10, 11], &alive, 50, Duration::ZERO).unwrap();
        let value = |name| found.iter().find(|figure| figure.name == name).unwrap().value.unwrap();
        assert_eq!((value("late_total"), value("late_in_worst_round_before")), (72.0 * 101.0, 72.0));
        assert!(value("last_late_ms") > 4_900.0 && value("delivered") > 0.9);
    }
}
