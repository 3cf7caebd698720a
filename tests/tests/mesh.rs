//! The protocol alone, in virtual time: whole meshes, and what befalls them.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::wire::WIRE_VERSION;
use peerflock_proto::{
    Change, CloseReason, Config, Event, Farewell, Input, Kind, KindId, NeighborLimits, Orphan, Registry, SendError, Shape,
    Target, Value, WorldEvent,
};
use peerflock_tests::game::{PLACE, entity, heard, registry, seconds, send, spawn, step};

fn config() -> Config {
    let mut registry = registry();
    registry.register(Kind { name: "note".into(), shape: Shape::Bytes });
    Config { registry, ..Config::default() }
}

fn lossy(seed: u64) -> Options {
    Options { seed, loss: 0.05, duplicates: 0.02, jitter: Duration::from_millis(10), ..Options::default() }
}

/// Every living node moves its first entity, 30 times a second.
fn play(sim: &mut Sim, alive: &[usize], ticks: i32) {
    for tick in 0..ticks {
        for index in alive {
            step(sim, *index, tick);
        }
        sim.run(Duration::from_millis(33));
    }
}

#[test]
fn a_hundred_peers_meet_and_see_one_world() {
    remember_signatures();
    // Few heartbeats: what takes the time is a hundred peers checking each other's signatures.
    let config = Config { heartbeat: seconds(1), link_silence: seconds(10), member_silence: seconds(15), ..config() };
    let mut sim = Sim::mesh(Options::default(), 100, &config, seconds(30));
    assert_eq!(sim.node(99).members(sim.now()).len(), 100, "all met");
    for index in 0..100 {
        spawn(&mut sim, index, 2, Orphan::Adopt);
    }
    play(&mut sim, &(0..100).collect::<Vec<_>>(), 5);
    // Neighbors are still being chosen, and what is missed meanwhile comes with the heartbeat after the next.
    sim.run(seconds(4));
    assert!(sim.converged());
    assert_eq!(sim.node(50).entity_count(), 200);
    for index in 0..100 {
        assert!(sim.node(index).counters().links_max <= config.neighbors.max as u64);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let trace = |seed| {
        let mut sim = Sim::mesh(lossy(seed), 12, &config(), seconds(20));
        for index in 0..12 {
            spawn(&mut sim, index, 3, Orphan::Adopt);
        }
        play(&mut sim, &(0..12).collect::<Vec<_>>(), 20);
        sim.crash(0);
        sim.run(seconds(3));
        sim.trace()
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn a_complete_mesh_sends_everything_one_hop_once() {
    let mut sim = Sim::mesh(Options::default(), 8, &config(), seconds(10));
    sim.run(seconds(2));
    for index in 0..8 {
        assert_eq!(sim.node(index).links().len(), 7);
        spawn(&mut sim, index, 5, Orphan::Vanish);
    }
    let before: Vec<_> = (0..8).map(|index| sim.node(index).counters()).collect();
    play(&mut sim, &[0, 1, 2, 3, 4, 5, 6, 7], 30);
    for (index, before) in before.iter().enumerate() {
        let after = sim.node(index).counters();
        assert_eq!(after.state_packets_duplicate, before.state_packets_duplicate);
        assert_eq!(after.state_packets_forwarded, before.state_packets_forwarded);
    }
}

#[test]
fn a_sparse_mesh_settles_on_trees() {
    remember_signatures();
    let config = Config { neighbors: NeighborLimits::with_max(4), ..config() };
    let mut sim = Sim::mesh(Options::default(), 30, &config, seconds(20));
    // Once neighbors are chosen.
    sim.run(seconds(10));
    for index in 0..30 {
        spawn(&mut sim, index, 1, Orphan::Vanish);
    }
    let all: Vec<_> = (0..30).collect();
    play(&mut sim, &all, 60);
    let before: Vec<_> = all.iter().map(|index| sim.node(*index).counters()).collect();
    play(&mut sim, &all, 60);
    let (mut first, mut duplicate) = (0, 0);
    for (index, before) in before.iter().enumerate() {
        let after = sim.node(index).counters();
        first += after.state_packets_first - before.state_packets_first;
        duplicate += after.state_packets_duplicate - before.state_packets_duplicate;
        assert!(sim.node(index).links().len() <= 4);
    }
    assert!(first >= 29 * 30 * 59, "{first} first copies");
    assert!((duplicate as f64) < 0.05 * first as f64, "{duplicate} duplicates of {first}");
}

#[test]
fn moving_worlds_converge_under_loss() {
    remember_signatures();
    for seed in 1..=4 {
        let config = Config { neighbors: NeighborLimits::with_max(4), ..config() };
        let mut sim = Sim::mesh(lossy(seed), 12, &config, seconds(20));
        let all: Vec<_> = (0..12).collect();
        for index in &all {
            spawn(&mut sim, *index, 40, Orphan::Adopt);
        }
        play(&mut sim, &all, 90);
        sim.run(seconds(1));
        assert!(sim.converged(), "{:?}", lossy(seed));
        assert_eq!(sim.node(3).entity_count(), 12 * 40);
    }
}

#[test]
fn messages_arrive_once_and_in_order_though_relays_die() {
    remember_signatures();
    for seed in 1..=4 {
        let config = Config { neighbors: NeighborLimits::with_max(3), ..config() };
        let mut sim = Sim::mesh(lossy(seed), 16, &config, seconds(20));
        sim.run(seconds(2));
        (0..16).for_each(|index| drop(heard(&mut sim, index)));
        for round in 0..40 {
            for index in 4..16 {
                send(&mut sim, index, Target::All, &format!("{round}")).unwrap();
            }
            if round == 20 {
                (0..4).for_each(|index| sim.crash(index));
            }
            sim.run(Duration::from_millis(50));
        }
        sim.run(seconds(6));
        for index in 4..16 {
            let mut texts: BTreeMap<_, Vec<String>> = BTreeMap::new();
            for (from, text) in heard(&mut sim, index) {
                texts.entry(from).or_default().push(text);
            }
            assert_eq!(texts.len(), 11, "{:?}", lossy(seed));
            let expected: Vec<_> = (0..40).map(|round| round.to_string()).collect();
            assert!(texts.values().all(|texts| *texts == expected), "{:?}: {texts:?}", lossy(seed));
        }
    }
}

#[test]
fn messages_to_one_reach_that_one_alone_across_relays() {
    let config = Config { neighbors: NeighborLimits::with_max(3), ..config() };
    let mut sim = Sim::mesh(lossy(3), 16, &config, seconds(20));
    sim.run(seconds(1));
    (0..16).for_each(|index| drop(heard(&mut sim, index)));
    let last = sim.peer(15);
    for number in 0..20 {
        send(&mut sim, 1, Target::One(last), &number.to_string()).unwrap();
        sim.run(Duration::from_millis(30));
    }
    sim.run(seconds(4));
    let expected: Vec<_> = (0..20).map(|number| (sim.peer(1), number.to_string())).collect();
    assert_eq!(heard(&mut sim, 15), expected);
    for index in 0..15 {
        assert_eq!(heard(&mut sim, index), []);
    }
}

#[test]
fn hops_and_loopback_mean_what_they_say() {
    let mut sim = Sim::mesh(Options::default(), 3, &config(), seconds(5));
    sim.run(seconds(1));
    (0..3).for_each(|index| drop(heard(&mut sim, index)));
    send(&mut sim, 0, Target::Hops(0), "home").unwrap();
    sim.run(seconds(1));
    assert_eq!((heard(&mut sim, 0).len(), heard(&mut sim, 1).len(), heard(&mut sim, 2).len()), (1, 0, 0));
    send(&mut sim, 0, Target::Hops(1), "near").unwrap();
    send(&mut sim, 0, Target::AllAndMe, "all").unwrap();
    send(&mut sim, 0, Target::All, "others").unwrap();
    sim.run(seconds(1));
    assert_eq!((heard(&mut sim, 0).len(), heard(&mut sim, 1).len(), heard(&mut sim, 2).len()), (2, 3, 3));
    assert_eq!(send(&mut sim, 0, Target::All, &"x".repeat(70_000)), Err(SendError::TooLong { len: 70_000, max: 65_536 }));
    send(&mut sim, 0, Target::All, &"x".repeat(65_536)).unwrap();
    sim.run(seconds(1));
    assert_eq!(heard(&mut sim, 2)[0].1.len(), 65_536);
    let mut alone = Sim::mesh(Options::default(), 1, &config(), seconds(1));
    assert_eq!(send(&mut alone, 0, Target::All, "hello?"), Err(SendError::NobodyThere));
}

#[test]
fn a_filter_keeps_bodies_back_and_blocks_nothing_else() {
    // A chain: 1 knows 0, 2 knows 1, and no other links are possible.
    let config = Config { neighbors: NeighborLimits::new(1, 1, 1), ..config() };
    let middle = Config { neighbors: NeighborLimits::new(2, 2, 2), ..config.clone() };
    let mut sim = Sim::new(Options::default());
    for config in [&config, &middle, &config] {
        sim.add(config.clone(), [7; 32]);
    }
    sim.introduce(0, 1);
    sim.introduce(2, 1);
    sim.run(seconds(3));
    assert_eq!(sim.node(0).members(sim.now()).len(), 3);
    sim.with(1, |node, _| node.set_filter(Box::new(|_, _, text| text != b"secret")));
    for text in ["one", "secret", "two"] {
        send(&mut sim, 0, Target::All, text).unwrap();
    }
    sim.run(seconds(3));
    let texts = |heard: Vec<(_, String)>| heard.into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    assert_eq!(texts(heard(&mut sim, 1)), ["one", "secret", "two"]);
    assert_eq!(texts(heard(&mut sim, 2)), ["one", "two"]);
}

#[test]
fn a_leavers_entities_are_adopted_and_its_avatar_vanishes() {
    for (leave, farewell) in [(true, Farewell::Left), (false, Farewell::Lost)] {
        let mut sim = Sim::mesh(Options::default(), 5, &config(), seconds(5));
        for index in 0..5 {
            spawn(&mut sim, index, 10, Orphan::Adopt);
        }
        let avatar = entity(&sim, 0, 10);
        sim.input(0, Input::Commit(vec![Change::Spawn { entity: avatar, orphan: Orphan::Vanish }]));
        sim.run(seconds(1));
        assert_eq!(sim.node(4).entity_count(), 51);
        (1..5).for_each(|index| drop(sim.take_events(index)));
        let (gone, left) = (sim.peer(0), sim.now());
        if leave {
            sim.input(0, Input::Leave);
        }
        sim.crash(0);
        sim.run(seconds(4));
        assert!(sim.converged());
        let mut adopted = 0;
        for index in 1..5 {
            assert_eq!(sim.node(index).entity_count(), 50);
            let me = sim.peer(index);
            let events = sim.take_events(index);
            assert!(events.iter().any(|(_, event)| *event == Event::PeerLeft { peer: gone, farewell }));
            assert!(events.iter().any(|(_, event)| *event == Event::World(WorldEvent::Vanished { entity: avatar })));
            for (at, event) in &events {
                if let Event::World(WorldEvent::Owner { owner, .. }) = event
                    && *owner == me
                {
                    adopted += 1;
                    assert!(at.since(left) < seconds(2), "adopted only after {:?}", at.since(left));
                }
            }
        }
        assert_eq!(adopted, 10);
    }
}

#[test]
fn ownership_passes_on_and_back_and_two_never_own_one() {
    let mut sim = Sim::mesh(lossy(5), 6, &config(), seconds(8));
    for index in 0..6 {
        spawn(&mut sim, index, 1, Orphan::Adopt);
    }
    sim.run(seconds(1));
    let ball = entity(&sim, 0, 0);
    for round in 0..12 {
        let (from, to) = (round % 6, sim.peer((round + 1) % 6));
        sim.input(from, Input::Commit(vec![Change::Transfer { entity: ball, to }]));
        sim.run(Duration::from_millis(700));
        let owner = (round + 1) % 6;
        sim.input(owner, Input::Commit(vec![Change::Set { entity: ball, kind: PLACE, value: Value::fields([round as i32, 7]) }]));
        sim.run(Duration::from_millis(500));
        // The former owner's word no longer counts.
        sim.input(from, Input::Commit(vec![Change::Set { entity: ball, kind: PLACE, value: Value::fields([-1, -1]) }]));
    }
    sim.run(seconds(2));
    assert!(sim.converged());
    assert_eq!(sim.node(2).entity_count(), 6);
    sim.input(0, Input::Commit(vec![Change::Despawn { entity: ball }]));
    sim.run(seconds(3));
    assert!(sim.converged());
    assert!((0..6).all(|index| sim.node(index).entity_count() == 5));
}

#[test]
fn a_late_joiner_sees_everything_at_once() {
    let config = config();
    let mut sim = Sim::mesh(Options::default(), 4, &config, seconds(5));
    for index in 0..4 {
        spawn(&mut sim, index, 500, Orphan::Adopt);
    }
    let note = Value::bytes(vec![7; 4_000]);
    let noted = entity(&sim, 0, 3);
    sim.input(0, Input::Commit(vec![Change::Set { entity: noted, kind: KindId(1), value: note.clone() }]));
    let ball = entity(&sim, 0, 0);
    let to = sim.peer(1);
    sim.input(0, Input::Commit(vec![Change::Transfer { entity: ball, to }]));
    sim.run(seconds(3));
    let late = sim.add(config, [7; 32]);
    sim.introduce(late, 2);
    sim.run(seconds(1));
    assert!(sim.converged());
    assert_eq!(sim.node(late).entity_count(), 2_000);
    let events = sim.take_events(late);
    assert!(events.iter().any(
        |(_, event)| matches!(event, Event::World(WorldEvent::Set { entity, value, .. }) if *entity == noted && *value == note)
    ));
}

#[test]
fn a_wrong_password_is_refused_and_the_mesh_plays_on() {
    let config = config();
    let mut sim = Sim::mesh(Options::default(), 3, &config, seconds(5));
    let stranger = sim.add(config.clone(), [8; 32]);
    sim.introduce(stranger, 0);
    sim.run(seconds(3));
    let events = sim.take_events(stranger);
    assert!(events.iter().any(|(_, event)| *event == Event::Refused { address: Sim::address(0), reason: CloseReason::Refused }));
    assert!(!events.iter().any(|(_, event)| matches!(event, Event::Joined | Event::PeerJoined { .. })));
    assert_eq!(sim.node(stranger).members(sim.now()).len(), 1);
    assert_eq!(sim.node(0).members(sim.now()).len(), 3);
    assert_eq!(sim.node(0).counters().guesses_failed, 1);
    let other_game = Config { registry: Registry::default(), ..config };
    let other = sim.add(other_game, [7; 32]);
    sim.introduce(other, 0);
    sim.run(seconds(3));
    let events = sim.take_events(other);
    assert!(events.iter().any(|(_, event)| matches!(event, Event::Refused { reason: CloseReason::Registry, .. })));
}

#[test]
fn a_thousand_wrong_passwords_admit_nobody_and_lock_the_address_out() {
    let mut sim = Sim::mesh(Options::default(), 2, &config(), seconds(5));
    // Its own node would give up dialing.
    let mut reckless = config();
    reckless.limits.guesses = u32::MAX;
    let guesser = sim.add(reckless, [8; 32]);
    for _ in 0..1_000 {
        sim.introduce(guesser, 0);
        sim.run(Duration::from_millis(500));
    }
    let counters = sim.node(0).counters();
    assert_eq!(sim.node(0).members(sim.now()).len(), 2);
    assert!(counters.strangers_locked_out > 0 && counters.guesses_failed < 20, "{counters:?}");
    let friend = sim.add(config(), [7; 32]);
    sim.introduce(friend, 0);
    sim.run(seconds(2));
    assert_eq!(sim.node(friend).members(sim.now()).len(), 3);
}

#[test]
fn who_falls_silent_where_the_proof_is_due_has_guessed() {
    // Whenever the stranger stops, it has guessed at most once; and somewhere between SHARE and CONFIRM it has.
    let guesses = |stops_after: Duration| {
        let mut sim = Sim::mesh(Options::default(), 1, &config(), seconds(1));
        let stranger = sim.add(config(), [7; 32]);
        sim.introduce(stranger, 0);
        sim.run(stops_after);
        sim.crash(stranger);
        sim.run(seconds(6));
        sim.node(0).counters().guesses_failed
    };
    let counted: Vec<u64> = (0..60).map(|step| guesses(Duration::from_millis(5 * step))).collect();
    assert!(counted.contains(&1) && counted.iter().all(|guesses| *guesses <= 1), "{counted:?}");
}

#[test]
fn garbage_from_a_stranger_or_a_member_breaks_nothing() {
    let mut sim = Sim::mesh(Options::default(), 2, &config(), seconds(5));
    spawn(&mut sim, 0, 3, Orphan::Adopt);
    sim.run(seconds(1));
    let link = sim.node(0).links()[0].link;
    for length in 0..600_usize {
        let bytes: Bytes = (0..length).map(|byte| (byte * 31 + length) as u8).collect();
        sim.input(0, Input::Datagram { link, bytes: bytes.clone() });
        let stranger = sim.with(0, |node, now| node.accept(([10, 9, 9, 9], length as u16).into(), now));
        if let Ok(stranger) = stranger {
            // Of our version, so that the decoder reads on.
            let versioned = [&[WIRE_VERSION], &bytes[..]].concat();
            sim.input(0, Input::Frame { link: stranger, bytes: versioned.into() });
        }
    }
    assert!(sim.node(0).counters().violations > 0);
    sim.run(seconds(2));
    assert!(sim.converged());
    assert_eq!(sim.node(1).entity_count(), 3);
}

#[test]
fn a_paused_peer_comes_back_as_itself_with_its_entities() {
    let mut sim = Sim::mesh(Options::default(), 5, &config(), seconds(5));
    for index in 0..5 {
        spawn(&mut sim, index, 8, Orphan::Adopt);
    }
    sim.run(seconds(1));
    sim.pause(2, seconds(10));
    sim.run(seconds(5));
    assert_eq!(sim.node(0).members(sim.now()).len(), 4);
    assert_eq!(sim.node(0).entity_count(), 40);
    sim.run(seconds(12));
    assert_eq!(sim.node(0).members(sim.now()).len(), 5);
    assert!(sim.converged());
    assert_eq!(sim.node(2).entity_count(), 40);
}

#[test]
fn two_halves_part_and_meet_again() {
    remember_signatures();
    let mut sim = Sim::mesh(Options::default(), 8, &config(), seconds(5));
    for index in 0..8 {
        spawn(&mut sim, index, 4, Orphan::Adopt);
    }
    sim.run(seconds(1));
    for one in 0..4 {
        for other in 4..8 {
            sim.cut(one, other);
        }
    }
    sim.run(seconds(10));
    assert_eq!(sim.node(0).members(sim.now()).len(), 4);
    assert_eq!((sim.node(0).entity_count(), sim.node(7).entity_count()), (32, 32));
    sim.heal();
    sim.run(seconds(25));
    assert_eq!(sim.node(0).members(sim.now()).len(), 8);
    assert!(sim.converged());
    assert_eq!(sim.node(0).entity_count(), 32);
}

#[test]
fn simultaneous_dials_leave_one_link() {
    let mut sim = Sim::new(lossy(9));
    for _ in 0..6 {
        sim.add(config(), [7; 32]);
    }
    for one in 0..6 {
        for other in (0..6).filter(|other| *other != one) {
            sim.introduce(one, other);
        }
    }
    sim.run(seconds(4));
    for index in 0..6 {
        let mut peers: Vec<_> = sim.node(index).links().iter().map(|link| link.peer).collect();
        peers.dedup();
        assert_eq!(peers.len(), 5);
        assert_eq!(sim.node(index).links().len(), 5);
        assert!(sim.node(index).members(sim.now()).iter().all(|member| member.neighbors.len() == 5));
    }
}
