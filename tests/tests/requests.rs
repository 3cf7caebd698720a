//! Asking for an entity, granting, refusing, seizing: each by itself, in virtual time.

use std::time::Duration;

use peerflock_proto::sim::{Options, Sim};
use peerflock_proto::{
    Change, Config, EntityId, Event, Input, Orphan, OwnershipError, OwnershipPolicy, PeerId, Refusal, Time, WorldEvent,
};

/// Peer 0's entity, in a mesh where everyone has it.
fn mesh(count: usize, policy: OwnershipPolicy) -> (Sim, EntityId) {
    let mut sim = Sim::mesh(Options::default(), count, &Config::default(), Duration::from_secs(10));
    let entity = EntityId::new(sim.peer(0), sim.node(0).boot(), 0, policy);
    sim.input(0, Input::Commit(vec![Change::Spawn { entity, orphan: Orphan::Adopt }]));
    sim.run(Duration::from_secs(1));
    assert!((0..count).all(|index| sim.node(index).entity_count() == 1), "all have it");
    (0..count).for_each(|index| drop(sim.take_events(index)));
    (sim, entity)
}

fn ask(sim: &mut Sim, index: usize, entity: EntityId) -> Result<(), OwnershipError> {
    sim.with(index, |node, now| node.request_ownership(entity, now))
}

fn seize(sim: &mut Sim, index: usize, entity: EntityId) -> Result<(), OwnershipError> {
    sim.with(index, |node, now| node.seize(entity, now))
}

/// What a peer was told of owners and refusals, and when.
fn told(sim: &mut Sim, index: usize) -> (Vec<(Time, PeerId)>, Vec<Refusal>) {
    let (mut owners, mut refusals) = (Vec::new(), Vec::new());
    for (at, event) in sim.take_events(index) {
        match event {
            Event::World(WorldEvent::Owner { owner, .. }) => owners.push((at, owner)),
            Event::OwnershipRefused { refusal, .. } => refusals.push(refusal),
            _ => {}
        }
    }
    (owners, refusals)
}

fn questions(sim: &mut Sim, index: usize) -> Vec<PeerId> {
    let asked = |(_, event)| if let Event::OwnershipRequested { peer, .. } = event { Some(peer) } else { None };
    sim.take_events(index).into_iter().filter_map(asked).collect()
}

#[test]
fn of_two_who_ask_at_once_one_gets_it_and_the_other_is_told_and_may_ask_again() {
    let (mut sim, entity) = mesh(4, OwnershipPolicy::Grant);
    for index in [1, 2] {
        ask(&mut sim, index, entity).unwrap();
    }
    sim.run(Duration::from_secs(1));
    let told: Vec<_> = [1, 2].map(|index| told(&mut sim, index)).into();
    let winner = if told[0].1.is_empty() { 1 } else { 2 };
    let id = sim.peer(winner);
    assert!(told.iter().all(|(owners, _)| owners.iter().map(|(_, owner)| *owner).eq([id])), "{told:?}");
    assert_eq!([told[0].1.clone(), told[1].1.clone()].concat(), [Refusal::Moved]);
    let loser = 3 - winner;
    ask(&mut sim, loser, entity).unwrap();
    sim.run(Duration::from_secs(1));
    let (owners, refusals) = self::told(&mut sim, loser);
    assert_eq!((owners.last().map(|(_, owner)| *owner), refusals), (Some(sim.peer(loser)), vec![]));
    assert!(sim.converged());
}

#[test]
fn the_owners_game_decides_and_the_one_who_asks_is_told() {
    let (mut sim, entity) = mesh(3, OwnershipPolicy::Ask);
    for index in [1, 2] {
        ask(&mut sim, index, entity).unwrap();
        ask(&mut sim, index, entity).unwrap();
    }
    sim.run(Duration::from_millis(500));
    let (one, other) = (sim.peer(1), sim.peer(2));
    let mut asked = questions(&mut sim, 0);
    asked.sort_by_key(|peer| *peer != one);
    assert_eq!(asked, [one, other], "each once");
    sim.input(0, Input::AnswerRequest { entity, peer: one, grant: false });
    sim.run(Duration::from_millis(500));
    assert_eq!(told(&mut sim, 1), (vec![], vec![Refusal::Refused]));
    sim.input(0, Input::AnswerRequest { entity, peer: one, grant: true });
    sim.input(0, Input::AnswerRequest { entity, peer: other, grant: true });
    sim.run(Duration::from_millis(500));
    assert_eq!(told(&mut sim, 1).0.len(), 1, "an answer to nobody's question changes nothing");
    let (owners, refusals) = told(&mut sim, 2);
    assert_eq!((owners.iter().map(|(_, owner)| *owner).collect::<Vec<_>>(), refusals), (vec![other], vec![]));
}

#[test]
fn no_answer_is_an_answer_and_who_cannot_ask_is_told_at_once() {
    let (mut sim, entity) = mesh(2, OwnershipPolicy::Ask);
    ask(&mut sim, 1, entity).unwrap();
    sim.run(Duration::from_millis(4_900));
    assert_eq!(told(&mut sim, 1).1, []);
    sim.run(Duration::from_millis(200));
    assert_eq!(told(&mut sim, 1).1, [Refusal::NoAnswer]);
    let unknown = EntityId::new(sim.peer(0), sim.node(0).boot(), 9, OwnershipPolicy::Ask);
    assert_eq!(ask(&mut sim, 1, unknown), Err(OwnershipError::Unknown(unknown)));
    sim.input(1, Input::RequestOwnership(unknown));
    assert_eq!(told(&mut sim, 1).1, [Refusal::Gone]);
    assert_eq!(seize(&mut sim, 1, entity), Err(OwnershipError::Forbidden(entity)));
    let (mut sim, entity) = mesh(2, OwnershipPolicy::Refuse);
    assert_eq!(ask(&mut sim, 1, entity), Err(OwnershipError::Forbidden(entity)));
    assert_eq!(ask(&mut sim, 0, entity), Err(OwnershipError::Forbidden(entity)));
}

#[test]
fn whoever_asks_one_that_is_about_to_die_is_told_who_has_it_then() {
    let (mut sim, entity) = mesh(4, OwnershipPolicy::Ask);
    sim.crash(0);
    for index in [1, 2, 3] {
        ask(&mut sim, index, entity).unwrap();
    }
    sim.run(Duration::from_secs(4));
    let told: Vec<_> = (1..4).map(|index| told(&mut sim, index)).collect();
    let owner = told[0].0.last().unwrap().1;
    for (index, (owners, refusals)) in (1..4).zip(told) {
        assert_eq!(owners.last().map(|(_, owner)| *owner), Some(owner));
        let expected: &[Refusal] = if sim.peer(index) == owner { &[] } else { &[Refusal::Moved] };
        assert_eq!(refusals, expected);
    }
}

#[test]
fn what_is_seized_is_ours_at_once_and_everybodys_news_one_hop_later() {
    let (mut sim, entity) = mesh(4, OwnershipPolicy::Seize);
    let before = sim.now();
    seize(&mut sim, 1, entity).unwrap();
    let me = sim.peer(1);
    assert_eq!(told(&mut sim, 1).0, [(before, me)]);
    sim.run(Duration::from_millis(200));
    for index in [0, 2, 3] {
        let (owners, _) = told(&mut sim, index);
        let [(at, owner)] = owners[..] else { panic!("{owners:?}") };
        let hop = sim.latency(1, index);
        assert!(owner == me && at.since(before) <= hop + Duration::from_millis(1), "{index} after {:?}", at.since(before));
    }
}

#[test]
fn all_come_to_the_same_one_of_those_who_seize_at_once_and_it_flickers_for_nobody() {
    for seed in 1..20 {
        let options = Options { seed, loss: 0.05, ..Options::default() };
        let mut sim = Sim::mesh(options, 5, &Config::default(), Duration::from_secs(10));
        let entity = EntityId::new(sim.peer(0), sim.node(0).boot(), 0, OwnershipPolicy::Seize);
        sim.input(0, Input::Commit(vec![Change::Spawn { entity, orphan: Orphan::Adopt }]));
        sim.run(Duration::from_secs(1));
        (0..5).for_each(|index| drop(sim.take_events(index)));
        for index in 1..5 {
            seize(&mut sim, index, entity).unwrap();
        }
        sim.run(Duration::from_secs(3));
        let told: Vec<Vec<PeerId>> =
            (0..5).map(|index| told(&mut sim, index).0.into_iter().map(|(_, owner)| owner).collect()).collect();
        let winner = told[0].last().copied();
        for (index, owners) in told.iter().enumerate() {
            assert_eq!(owners.last().copied(), winner, "seed {seed}: {told:?}");
            // Each news is of one who ranks higher: nobody who gave way is ever the owner again.
            let mut sorted = owners.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), owners.len(), "seed {seed}: it flickers for {index}: {owners:?}");
        }
        assert!(sim.converged(), "{options:?}");
    }
}

#[test]
fn a_leavers_things_go_to_whoever_is_nearest_and_willing() {
    use peerflock_proto::{Group, Kind, KindId, Registry, Shape, Value};
    let mut registry = Registry::default();
    let place = registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(3)]) });
    let at = |entity, x| Change::Set { entity, kind: KindId(0), value: Value::fields([x, 0, 0]) };
    // The second nearest, where the nearest is not willing.
    for (willing, heir) in [(true, 3), (false, 2)] {
        let config = |adopts| Config { registry: registry.clone(), nearest_by: Some(place), adopts, ..Config::default() };
        let mut sim = Sim::new(Options::default());
        for index in 0..5 {
            sim.add(config(index != 3 || willing), [7; 32]);
            if index > 0 {
                sim.introduce(index, 0);
            }
        }
        sim.run(Duration::from_secs(3));
        let things: Vec<EntityId> =
            (0..20).map(|count| EntityId::new(sim.peer(0), sim.node(0).boot(), count, OwnershipPolicy::Ask)).collect();
        let spawns =
            things.iter().flat_map(|entity| [Change::Spawn { entity: *entity, orphan: Orphan::Adopt }, at(*entity, 900)]);
        let spawns = spawns.collect();
        sim.input(0, Input::Commit(spawns));
        // Their avatars; the last has none.
        for (index, x) in [(1, -500), (2, 500), (3, 1_000)] {
            let avatar = EntityId::new(sim.peer(index), sim.node(index).boot(), 0, OwnershipPolicy::Ask);
            sim.input(index, Input::Commit(vec![Change::Spawn { entity: avatar, orphan: Orphan::Vanish }, at(avatar, x)]));
        }
        sim.run(Duration::from_secs(1));
        (0..5).for_each(|index| drop(sim.take_events(index)));
        sim.crash(0);
        sim.run(Duration::from_secs(5));
        for index in 1..5 {
            let (owners, _) = told(&mut sim, index);
            assert!(owners.len() == things.len() && owners.iter().all(|(_, owner)| *owner == sim.peer(heir)), "{owners:?}");
        }
    }
}

#[test]
fn what_its_owner_removed_while_others_took_it_over_stays_removed() {
    for policy in [OwnershipPolicy::Ask, OwnershipPolicy::Seize] {
        let (mut sim, entity) = mesh(4, policy);
        for one in [0, 1] {
            for other in [2, 3] {
                sim.cut(one, other);
            }
        }
        sim.run(Duration::from_secs(4));
        assert!(!told(&mut sim, 2).0.is_empty(), "the others took it over");
        sim.input(0, Input::Commit(vec![Change::Despawn { entity }]));
        sim.run(Duration::from_secs(1));
        // Whoever removed it is no more, and another has to know.
        sim.crash(0);
        sim.heal();
        sim.run(Duration::from_secs(15));
        assert_eq!([1, 2, 3].map(|index| sim.node(index).entity_count()), [0; 3], "{policy:?}");
        assert!(sim.converged());
    }
}
