//! Who is linked to whom, and how long: in Peer Channel by chance, and without looking.

use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Config, Event, Input, LinkId, NeighborLimits, Orphan, Target};
use peerflock_tests::game::{self, config, members, millis, seconds, send, spawn};

/// 22: two halves of a split mesh whose members had links enough stayed apart for good. Here they find each other by themselves: those
/// that were parted, and those that never met and of whom one hears where one of the others is.
#[test]
fn weakness_22_islands_of_contented_members_find_each_other() {
    const SIZE: usize = 20;
    remember_signatures();
    for met_before in [true, false] {
        let mut sim = Sim::new(Options::default());
        for _ in 0..2 * SIZE {
            sim.add(config(7), [7; 32]);
        }
        (1..2 * SIZE).filter(|index| met_before || *index != SIZE).for_each(|index| sim.introduce(index, index / SIZE * SIZE));
        if met_before {
            sim.introduce(SIZE, 0);
            sim.run(seconds(20));
            assert!((0..2 * SIZE).all(|index| members(&sim, index) == 2 * SIZE));
            for one in 0..SIZE {
                (SIZE..2 * SIZE).for_each(|other| sim.cut(one, other));
            }
        }
        (0..2 * SIZE).for_each(|index| spawn(&mut sim, index, 2, Orphan::Adopt));
        sim.run(seconds(20));
        for index in 0..2 * SIZE {
            assert_eq!(members(&sim, index), SIZE, "two islands");
            assert!(sim.node(index).links().len() >= 3, "each contented");
        }
        sim.heal();
        if !met_before {
            sim.introduce(SIZE + 7, 3);
        }
        sim.run(seconds(10));
        let alone = (0..2 * SIZE).filter(|index| members(&sim, *index) < 2 * SIZE).count();
        assert_eq!(alone, 0, "so many do not see all after 10 s; met before: {met_before}");
        sim.run(seconds(5));
        assert!(sim.converged(), "met before: {met_before}");
    }
}

/// 23: those who started at the same moment did not find each other, and looked again after 10 s, then every 5 minutes. Here they do
/// within seconds, though none was reachable when the others first tried.
#[test]
fn weakness_23_those_who_start_at_the_same_moment_meet() {
    for count in [2, 8] {
        let mut sim = Sim::new(Options { loss: 0.05, ..Options::default() });
        for index in 0..count {
            sim.add(config(7), [7; 32]);
            (0..index).for_each(|other| sim.cut(index, other));
        }
        for one in 0..count {
            (0..count).filter(|other| *other != one).for_each(|other| sim.introduce(one, other));
        }
        sim.run(seconds(3));
        assert!((0..count).all(|index| members(&sim, index) == 1), "too early for all");
        sim.heal();
        sim.run(seconds(5));
        for index in 0..count {
            assert_eq!((members(&sim, index), sim.node(index).links().len()), (count, count - 1));
        }
    }
}

/// 24: nothing kept a link alive or noticed that it was dead. Here silence is noticed within about a second, and no noise is taken for
/// silence: not in two minutes in which nobody says anything and three packets of ten are lost.
#[test]
fn weakness_24_a_silent_death_is_noticed_and_loss_is_not_taken_for_one() {
    remember_signatures();
    let options = Options { loss: 0.3, jitter: millis(60), duplicates: 0.05, ..Options::default() };
    let mut sim = Sim::mesh(options, 12, &config(3), seconds(20));
    sim.run(seconds(2));
    let held = |sim: &Sim| -> Vec<Vec<LinkId>> {
        (0..12).map(|index| sim.node(index).links().iter().map(|link| link.link).collect()).collect()
    };
    (0..12).for_each(|index| drop(sim.take_events(index)));
    let before = held(&sim);
    sim.run(seconds(120));
    assert_eq!(held(&sim), before, "no link was given up");
    for index in 0..12 {
        let left = sim.take_events(index).into_iter().find(|(_, event)| matches!(event, Event::PeerLeft { .. }));
        assert_eq!(left, None, "node {index}");
    }

    let dead = sim.peer(0);
    let neighbors: Vec<usize> = (1..12).filter(|index| sim.node(*index).links().iter().any(|link| link.peer == dead)).collect();
    assert!(!neighbors.is_empty());
    sim.crash(0);
    sim.run(millis(1_300));
    for index in neighbors {
        assert!(sim.node(index).links().iter().all(|link| link.peer != dead), "node {index} holds on to a dead link");
    }
    sim.run(millis(1_200));
    assert!((1..12).all(|index| members(&sim, index) == 11), "all noticed");
}

/// 24, and what it cost: what was sent into a dead link was gone. Here a relay's silent death delays what others say by less than a
/// second.
#[test]
fn weakness_24_a_relays_death_delays_no_message_for_a_second() {
    remember_signatures();
    for seed in 1..=3 {
        let mut sim = Sim::mesh(Options { seed, loss: 0.05, ..Options::default() }, 20, &config(3), seconds(20));
        sim.run(seconds(2));
        let mut sent = std::collections::BTreeMap::new();
        for round in 0..60 {
            for author in 3..20 {
                let text = format!("{round}");
                send(&mut sim, author, Target::All, &text).unwrap();
                sent.insert((sim.peer(author), text), sim.now());
            }
            if round == 20 {
                (0..3).for_each(|index| sim.crash(index));
            }
            sim.run(millis(50));
        }
        sim.run(seconds(5));
        for index in 3..20 {
            let mut count = 0;
            for (at, event) in sim.take_events(index) {
                if let Some(sent) = game::message(event).and_then(|said| sent.get(&said)) {
                    count += 1;
                    assert!(at.since(*sent) < seconds(1), "seed {seed}: node {index} heard it after {:?}", at.since(*sent));
                }
            }
            assert_eq!(count, 60 * 16, "seed {seed}: node {index}");
        }
    }
}

/// 25: whoever left said nothing. Here it says goodbye to all, and none has to find out by its silence.
#[test]
fn weakness_25_whoever_leaves_says_goodbye_to_all() {
    let mut sim = Sim::mesh(Options::default(), 12, &config(3), seconds(20));
    sim.run(seconds(1));
    (0..12).for_each(|index| drop(sim.take_events(index)));
    let (gone, left) = (sim.peer(0), sim.now());
    sim.input(0, Input::Leave);
    sim.crash(0);
    sim.run(seconds(5));
    for index in 1..12 {
        let goodbyes: Vec<_> = sim
            .take_events(index)
            .into_iter()
            .filter_map(|(at, event)| match event {
                Event::PeerLeft { peer, farewell } => Some((peer, farewell, at.since(left))),
                _ => None,
            })
            .collect();
        assert!(
            matches!(goodbyes[..], [(peer, peerflock_proto::Farewell::Left, after)] if peer == gone && after < millis(500)),
            "node {index}: {goodbyes:?}"
        );
    }
}

/// 30: a quiet mesh never chose its links, and a busy one not by latency. Here links get shorter than chance would have them, with
/// nothing said.
#[test]
fn weakness_30_latency_counts_in_the_choice_of_neighbors() {
    remember_signatures();
    let options = Options { latency: (millis(5), millis(95)), ..Options::default() };
    let mut sim = Sim::mesh(options, 30, &config(5), seconds(20));
    sim.run(seconds(90));
    let index_of = |sim: &Sim, peer| (0..30).find(|index| sim.peer(*index) == peer).expect("one of ours");
    let mut links = Vec::new();
    let mut pairs = Vec::new();
    for one in 0..30 {
        links.extend(sim.node(one).links().iter().map(|link| sim.latency(one, index_of(&sim, link.peer)).as_secs_f64()));
        pairs.extend((0..one).map(|other| sim.latency(one, other).as_secs_f64()));
    }
    let mean = |all: &[f64]| all.iter().sum::<f64>() / all.len() as f64;
    assert!(mean(&links) <= 0.75 * mean(&pairs), "{} s where chance gives {}", mean(&links), mean(&pairs));
}

/// 31: how many links, how long to wait and how much to keep were constants that nobody could set. Here they are settings, and kept.
#[test]
fn weakness_31_limits_and_times_are_settings() {
    for max in [2, 4] {
        let config = Config { neighbors: NeighborLimits::new(1, 2, max), ..config(7) };
        let sim = Sim::mesh(Options::default(), 10, &config, seconds(20));
        let most = (0..10).map(|index| sim.node(index).counters().links_max).max();
        assert_eq!(most, Some(max as u64));
    }
    for silence in [300, 3_000] {
        let times =
            Config { link_silence: millis(silence), member_silence: millis(silence + 200), heartbeat: millis(50), ..config(7) };
        let mut sim = Sim::mesh(Options::default(), 3, &times, seconds(5));
        sim.crash(0);
        sim.run(millis(silence - 150));
        assert_eq!(members(&sim, 1), 3, "not before {silence} ms");
        sim.run(millis(600));
        assert_eq!(members(&sim, 1), 2, "after {silence} ms");
    }
    let mut limits = peerflock_proto::Limits { message_bytes: 100, members: 2, ..Default::default() };
    limits.guesses = 1;
    let small = Config { limits, ..config(7) };
    let mut sim = Sim::mesh(Options::default(), 3, &small, seconds(5));
    assert_eq!(members(&sim, 0), 2, "no third is let in");
    let long = send(&mut sim, 0, Target::All, &"x".repeat(101));
    assert_eq!(long, Err(peerflock_proto::SendError::TooLong { len: 101, max: 100 }));
}
