//! Everybody moves, and relays pass on what others say: what does it cost each peer that nobody can speak for another, and how long
//! does a lie of a relay stand?
//!
//! The cost is counted, not timed: how often all nodes of a run signed, were to check a signature, and hashed what signatures cover,
//! times what each of these takes on this machine, measured right after. A lie is one packet of state that a relay alters, the only
//! way or one of two: it stands from its arrival until the receiver has found it out, which undoes it at once.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use clap::Args;
use peerflock_proto::sim::effort::{Checker, Effort, Hasher, effort};
use peerflock_proto::sim::{forge, signature_checks};
use peerflock_proto::{Change, Config, EntityId, Identity, Input, KindId, NeighborLimits, Orphan, OwnershipPolicy, Time, Value};
use peerflock_tests::wiretap::{LATENCY, Wires};
use serde_json::json;

use super::Failure;
use crate::bodies;
use crate::dice::Dice;
use crate::report::Report;
use crate::scene::Network;
use crate::stats::{Figure, Latencies, part};
use crate::usage::cpu;

/// A lie that was not found out after so long never will be.
const GIVE_UP: Duration = Duration::from_secs(5);
/// How often it is looked at whether it was.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How often each piece of work is done to see what it takes.
const TIMED: u32 = 2_000;
/// A hash takes less than the clock can tell.
const HASH_ROUNDS: u32 = 100;
/// What a signature covers, in bytes.
const SIGNED_BYTES: usize = 160;
/// About whom lies are told, to whom, and who may: where there are two ways, whichever of them has the packet first.
const ORIGIN: usize = 0;
const RECEIVER: usize = 2;
const RELAYS: [usize; 2] = [1, 3];

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Peers in the mesh.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=1_000))]
    peers: u16,
    /// Ticks a second, of everybody.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=240))]
    hz: u32,
    /// Entities that each moves in every tick.
    #[arg(long, default_value_t = 2)]
    entities: u32,
    /// Virtual seconds that are counted.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Lies that are told, each in a mesh of its own.
    #[arg(long, default_value_t = 400)]
    lies: u32,
    #[command(flatten)]
    pub(crate) network: Network,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let settings = json!({
        "peers": options.peers, "hz": options.hz, "entities_each": options.entities, "seconds": options.seconds,
        "lies": options.lies,
    });
    options.network.each_seed("auth", settings, |seed| {
        let mut figures = cost(options, seed)?;
        figures.extend(exposure(options, seed));
        Ok(figures)
    })
}

/// What all nodes of this thread did to prove who said what.
#[derive(Clone, Copy)]
struct Work {
    effort: Effort,
    checks: u64,
}

impl Work {
    fn so_far() -> Self {
        Self { effort: effort(), checks: signature_checks().asked }
    }
}

/// What one of each takes.
struct Prices {
    signature: Duration,
    check: Duration,
    hash: Duration,
}

impl Prices {
    /// Measured now. `hashed`: how long what is hashed is, in bytes.
    fn measured(hashed: usize) -> Option<Self> {
        let identity = Identity::from_seed([9; 32]);
        let peer = identity.peer_id();
        // No message twice, or its verdict would be remembered.
        let first = signature_checks().asked;
        let message = |number: u32| {
            let mut message = [7; SIGNED_BYTES];
            message[..8].copy_from_slice(&(first + u64::from(number)).to_le_bytes());
            message
        };
        let (mut signed, signature) = (Vec::new(), timed(1, message, |message| identity.sign(message))?);
        signed.extend((0..TIMED).map(|number| (message(number), identity.sign(&message(number)))));
        let checker = Checker::new(&peer);
        let check = timed(1, |number| signed[number as usize], |(message, signature)| checker.check(message, signature))?;
        let hasher = Hasher::new(&peer);
        let payload = |number| bytes::Bytes::from(vec![number as u8; hashed]);
        let hash = timed(HASH_ROUNDS, payload, |payload| hasher.hash(payload.clone()))?;
        Some(Self { signature, check, hash })
    }
}

/// What `work` takes, by this thread's own clock, each of what is prepared so many times. None where the system does not tell.
fn timed<T, R>(rounds: u32, prepare: impl Fn(u32) -> T, work: impl Fn(&T) -> R) -> Option<Duration> {
    let prepared: Vec<T> = (0..TIMED).map(prepare).collect();
    let before = cpu()?;
    (0..rounds).for_each(|_| prepared.iter().for_each(|one| drop(black_box(work(one)))));
    Some(cpu()?.checked_sub(before)? / (TIMED * rounds))
}

fn cost(options: &Options, seed: u64) -> Result<Vec<Figure>, Failure> {
    let config = Config { registry: bodies::registry(), ..options.network.config() };
    let peers = usize::from(options.peers);
    let mut sim = options.network.meet(options.network.simulator(seed), &config, peers)?;
    (0..peers).for_each(|index| bodies::spawn(&mut sim, index, options.entities));
    let tick = Duration::from_secs(1) / options.hz;
    let (warmup, ticks) = (options.hz, (1 + options.seconds) * options.hz);
    let (start, mut before) = (sim.now(), Work::so_far());
    for number in 1..=ticks {
        if number == warmup + 1 {
            before = Work::so_far();
        }
        for index in 0..peers {
            let phase = start + tick * number + tick * index as u32 / peers as u32;
            sim.run(phase.since(sim.now()));
            sim.take_events(index);
            let changes = bodies::moved(&sim, index, options.entities, number as f32 / options.hz as f32);
            sim.input(index, Input::Commit(changes));
        }
    }
    let after = Work::so_far();
    let peer_seconds = f64::from(options.peers) * f64::from(options.seconds);
    let each = |after: u64, before: u64| (after - before) as f64 / peer_seconds;
    let signatures = each(after.effort.signatures, before.effort.signatures);
    let checks = each(after.checks, before.checks);
    let hashes = each(after.effort.hashes, before.effort.hashes);
    let bytes = each(after.effort.hashed_bytes, before.effort.hashed_bytes);
    let prices = Prices::measured((bytes / hashes.max(1.0)) as usize)
        .ok_or_else(|| Failure::Unmet("this system does not tell a thread's CPU time".into()))?;
    let share =
        signatures * prices.signature.as_secs_f64() + checks * prices.check.as_secs_f64() + hashes * prices.hash.as_secs_f64();
    let micros = |price: Duration| price.as_secs_f64() * 1e6;
    Ok(vec![
        Figure::less("cpu_share", share),
        Figure::less("signatures_per_second", signatures),
        Figure::less("checks_per_second", checks),
        Figure::less("hashes_per_second", hashes),
        Figure::less("hashed_bytes_per_second", bytes),
        Figure::less("signature_us", micros(prices.signature)),
        Figure::less("check_us", micros(prices.check)),
        Figure::less("hash_us", micros(prices.hash)),
    ])
}

fn exposure(options: &Options, seed: u64) -> Vec<Figure> {
    let (mut stood, mut dice) = (Latencies::default(), Dice::new(seed));
    for number in 0..options.lies {
        // The only way, or one of two.
        let pairs: &[_] = if number % 2 == 0 { &[(0, 1), (1, 2), (2, 3)] } else { &[(0, 1), (1, 2), (2, 3), (3, 0)] };
        if let Some(time) = lie(pairs, options, &mut dice) {
            stood.add(time);
        }
    }
    vec![
        Figure::less("expose_p50_ms", stood.percentile_ms(0.5)),
        Figure::less("expose_p99_ms", stood.percentile_ms(0.99)),
        Figure::less("expose_max_ms", stood.percentile_ms(1.0)),
        Figure::more("lies_exposed", part(stood.count(), options.lies.into())),
    ]
}

/// How long one lie stood; None if it was never found out.
fn lie(pairs: &[(usize, usize)], options: &Options, dice: &mut Dice) -> Option<Duration> {
    let config = Config { registry: bodies::registry(), neighbors: NeighborLimits::with_max(2), ..Config::default() };
    let mut wires = Wires::new(pairs, &config);
    let origin = wires.node(ORIGIN);
    let entity = EntityId::new(origin.peer_id(), origin.boot(), 1, OwnershipPolicy::Ask);
    wires.input(ORIGIN, Input::Commit(vec![Change::Spawn { entity, orphan: Orphan::Adopt }]));
    let tick = Duration::from_secs(1) / options.hz;
    let play = |wires: &mut Wires, number: u32, time: Duration| {
        let value = Value::fields(bodies::transform(1, number as f32 / options.hz as f32));
        wires.input(ORIGIN, Input::Commit(vec![Change::Set { entity, kind: KindId(0), value }]));
        wires.run(time);
    };
    // At any moment between two proofs.
    let before = options.hz + (dice.roll() % u64::from(options.hz)) as u32;
    (0..before).for_each(|number| play(&mut wires, number, tick));

    let forgeries = wires.node(RECEIVER).counters().forgeries;
    let (armed, sent) = (Rc::new(RefCell::new(Dice::new(dice.roll()))), Rc::new(Cell::new(false)));
    let (draw, told) = (armed, sent.clone());
    wires.tap(move |passing| {
        if !RELAYS.contains(&passing.from) || (passing.to, passing.datagram) != (RECEIVER, true) || told.get() {
            return;
        }
        let altered = forge::alter_relayed(&passing.bytes, |_, payload| {
            // One bit, anywhere; of one packet.
            let bit = draw.borrow_mut().roll() as usize % (payload.len() * 8).max(1);
            let is_first = !told.replace(true);
            payload.get_mut(bit / 8).filter(|_| is_first).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
            is_first
        });
        passing.bytes = altered.unwrap_or_else(|| passing.bytes.clone());
    });
    let (mut arrived, started): (Option<Time>, Time) = (None, wires.now());
    let mut number = before;
    while wires.now().since(started) < GIVE_UP {
        play(&mut wires, number, Duration::ZERO);
        number += 1;
        let next = wires.now() + tick;
        while wires.now() < next {
            let looked = wires.now();
            wires.run(LOOK_EVERY);
            if sent.get() {
                arrived.get_or_insert(looked + LATENCY);
            }
            if wires.node(RECEIVER).counters().forgeries > forgeries {
                return Some(wires.now().since(arrived?));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let network = Network { max_neighbors: 3, loss: 0.0, burst: 1.0, seed: 2, seeds: 1, settle: 2, json: None };
        Options { peers: 10, hz: 60, entities: 2, seconds: 1, lies: 10, network }
    }

    fn value(figures: &[Figure], name: &str) -> f64 {
        figures.iter().find(|figure| figure.name == name).unwrap().value.unwrap()
    }

    #[test]
    fn who_hears_more_pays_more_and_a_proof_covers_many_packets() {
        let few = cost(&Options { peers: 6, ..options() }, 2).unwrap();
        let many = cost(&Options { peers: 12, ..options() }, 2).unwrap();
        assert!(value(&many, "cpu_share") > 1.3 * value(&few, "cpu_share"));
        assert!(value(&many, "checks_per_second") * 3.0 < value(&many, "hashes_per_second"));
        // Five proofs a second of what it says itself, and what it says of itself.
        assert!((4.0..10.0).contains(&value(&many, "signatures_per_second")), "{many:?}");
    }

    #[test]
    fn lies_are_found_out() {
        let found = exposure(&options(), 2);
        assert_eq!(value(&found, "lies_exposed"), 1.0, "{found:?}");
        assert!(value(&found, "expose_max_ms") > 0.0 && value(&found, "expose_max_ms") <= 300.0, "{found:?}");
    }
}
