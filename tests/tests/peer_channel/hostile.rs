//! What services make of messages that nobody honest sent: true ones with bytes changed, cut, repeated and put together, over many
//! seeds. Nothing panics, nothing is said without end, and afterwards they still work.

use std::time::Duration;

use bytes::Bytes;
use peerflock::service::documents::yrs::{Text, WriteTxn};
use peerflock::service::topics::SubscribeOptions;
use peerflock::service::{Input, Members, Output, Service, documents, topics};
use peerflock_proto::{Config, Identity, Member, MeshId, MeshKey, Node, PeerId, Profile, Time};
use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};

const PEERS: u8 = 3;
/// Nobody is answered with more messages than this for one.
const ANSWERS_MAX: usize = 8;

fn node(number: u8) -> Node {
    let key = MeshKey::open(MeshId::from_name("hostile"));
    Node::new(Config::default(), Identity::from_seed([number; 32]), key, [number; 32], Time(0))
}

fn peer(number: u8) -> PeerId {
    node(number).peer_id()
}

/// All are linked to all, as `me` sees it for the first time.
fn members(me: u8) -> Members {
    let member = |number: u8| Member {
        peer: peer(number),
        profile: Profile::default(),
        me: number == me,
        linked: number != me,
        rtt: None,
        neighbors: (0..PEERS).filter(|other| *other != number).map(peer).collect(),
        silent_for: Duration::ZERO,
    };
    let mut all: Vec<Member> = (0..PEERS).map(member).collect();
    all.sort_by_key(|member| member.peer);
    let joined = all.iter().filter(|member| !member.me).map(|member| member.peer).collect();
    Members { all, left: Vec::new(), joined }
}

/// What a service says, to whomever.
fn said<S: Service>(service: &mut S) -> Vec<Bytes> {
    let outputs = std::iter::from_fn(|| service.poll_output());
    outputs.filter_map(|output| if let Output::Send { payload, .. } = output { Some(payload) } else { None }).collect()
}

fn start<S: Service>(me: u8, make: &impl Fn(&Node) -> S) -> S {
    let mut service = make(&node(me));
    service.handle(Input::Members(&members(me)), Time(0));
    service
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], dice: &mut ChaCha8Rng) {
    let mut roll = |sides: usize| dice.next_u32() as usize % sides.max(1);
    let at = roll(bytes.len());
    match roll(6) {
        0 if !bytes.is_empty() => bytes[at] = roll(256) as u8,
        1 if !bytes.is_empty() => bytes[at] ^= 1 << roll(8),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, roll(256) as u8),
        4 => {
            let from = roll(other.len());
            bytes.splice(at..at, other[from..(from + roll(40)).min(other.len())].iter().copied());
        }
        _ => {
            // A number as large as there are.
            bytes.splice(at..at, [253, 255, 255, 255, 255, 255, 255, 255, 255]);
        }
    }
}

fn batter<S: Service>(seeds: u64, make: impl Fn(&Node) -> S, work: impl Fn(&mut S, u64, Time)) {
    // Two honest ones, until everything that is ever said has been said.
    let (mut one, mut other) = (start(0, &make), start(1, &make));
    let mut corpus: Vec<Bytes> = Vec::new();
    for round in 0..40_u64 {
        let now = Time(round * 700_000);
        work(&mut one, round, now);
        if round % 3 == 0 {
            work(&mut other, 1_000 + round, now);
        }
        for _ in 0..4 {
            for payload in said(&mut one) {
                other.handle(Input::Message { from: peer(0), payload: &payload }, now);
                corpus.push(payload);
            }
            for payload in said(&mut other) {
                one.handle(Input::Message { from: peer(1), payload: &payload }, now);
                corpus.push(payload);
            }
            one.handle(Input::Timeout, now);
            other.handle(Input::Timeout, now);
        }
    }
    assert!(corpus.len() > 50, "{} messages", corpus.len());
    for seed in 1..=seeds {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let mut victim = start(2, &make);
        work(&mut victim, seed, Time(0));
        said(&mut victim);
        for step in 0..30_u64 {
            let now = Time(step * 50_000);
            let mut pick = || corpus[dice.next_u32() as usize % corpus.len()].clone();
            let (first, second) = (pick(), pick());
            let mut bytes = first.to_vec();
            for _ in 0..dice.next_u32() % 4 {
                mutate(&mut bytes, &second, &mut dice);
            }
            victim.handle(Input::Message { from: peer((dice.next_u32() % 2) as u8), payload: &bytes.into() }, now);
            let answers = said(&mut victim).len();
            assert!(answers <= ANSWERS_MAX, "seed {seed}, step {step}: {answers} answers to one message");
            if victim.poll_timeout().is_some_and(|due| due <= now) {
                victim.handle(Input::Timeout, now);
                said(&mut victim);
            }
        }
        // Something short: what is long waits for what is still on its way.
        work(&mut victim, 9_001, Time(2_000_000));
        assert!(!said(&mut victim).is_empty(), "seed {seed}: it still speaks");
    }
}

#[test]
fn topics_survive_hostile_messages() {
    batter(1_500, topics::Engine::new, |engine, round, now| {
        if round % 1_000 == 0 || round < 5 {
            engine.subscribe("a/*".parse().unwrap(), SubscribeOptions { history: 9, publishers: None }, now).unwrap();
        }
        engine.publish(&format!("a/{}", round % 5).parse().unwrap(), Bytes::from(vec![7; round as usize % 90]), now).unwrap();
        engine.handle(Input::Timeout, Time(now.0 + 100_000));
    });
}

#[test]
fn documents_survive_hostile_messages() {
    batter(1_500, documents::Engine::new, |engine, round, now| {
        let plan = "plan".parse().unwrap();
        // Open already, but for the first time.
        _ = engine.open("plan".parse().unwrap(), None, now);
        let text = "x".repeat(if round % 9 == 8 { 50_000 } else { 20 });
        engine.edit(&plan, |txn| txn.get_or_insert_text("text").insert(txn, 0, &text), now).unwrap();
    });
}
