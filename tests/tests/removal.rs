//! Members are removed while the others play, on the simulator: out is out, and nobody else notices.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{
    Change, CloseReason, EntityId, Event, Farewell, Input, Orphan, PeerId, RemovalError, RemovalRule, Target, Topic, Value,
};
use peerflock_tests::game::{PLACE, config, seconds};

const SECRET: [u8; 32] = [7; 32];

/// A mesh in which the first member may remove others, say.
fn mesh(seed: u64, count: usize, rule: impl Fn(PeerId) -> RemovalRule) -> Sim {
    remember_signatures();
    let mut sim = Sim::mesh(Options { seed, loss: 0.02, ..Options::default() }, count, &config(4), seconds(20));
    sim.run(seconds(3));
    assert!((0..count).all(|index| sim.node(index).member_count() == count), "seed {seed}: all met");
    let rule = rule(sim.peer(0));
    (0..count).for_each(|index| sim.input(index, Input::SetRemovalRule(rule.clone())));
    (0..count).for_each(|index| _ = sim.take_events(index));
    sim
}

fn owner_decides(owner: PeerId) -> RemovalRule {
    RemovalRule::By([owner].into())
}

/// Everyone in `players` moves its entity and counts aloud, for so long.
struct Play {
    said: u32,
}

impl Play {
    fn begin(sim: &mut Sim, players: &[usize]) -> Self {
        for index in players {
            let entity = entity(sim, *index);
            let place = Change::Set { entity, kind: PLACE, value: Value::fields([0, 0]) };
            sim.input(*index, Input::Commit(vec![Change::Spawn { entity, orphan: Orphan::Vanish }, place]));
        }
        Self { said: 0 }
    }

    fn go_on(&mut self, sim: &mut Sim, players: &[usize], duration: Duration) {
        let end = sim.now() + duration;
        while sim.now() < end {
            self.said += 1;
            for index in players {
                let place = Value::fields([self.said as i32, *index as i32]);
                sim.input(*index, Input::Commit(vec![Change::Set { entity: entity(sim, *index), kind: PLACE, value: place }]));
                if self.said.is_multiple_of(6) {
                    let payload = Bytes::from(self.said.to_string());
                    sim.with(*index, |node, now| node.send(Target::All, Topic(300), payload, now)).unwrap();
                }
            }
            sim.run(Duration::from_micros(16_667));
        }
    }
}

fn entity(sim: &Sim, index: usize) -> EntityId {
    EntityId { spawner: sim.peer(index), boot: sim.node(index).boot(), counter: 1 }
}

fn others(count: usize, out: usize) -> Vec<usize> {
    (0..count).filter(|index| *index != out).collect()
}

#[test]
fn rekey_while_twelve_play_and_the_removed_one_cannot_return() {
    let (count, out) = (12, 5);
    let mut sim = mesh(1, count, owner_decides);
    let all: Vec<usize> = (0..count).collect();
    let staying = others(count, out);
    let mut play = Play::begin(&mut sim, &all);
    play.go_on(&mut sim, &all, seconds(2));
    let removed = sim.peer(out);
    sim.with(0, |node, now| node.remove(&[removed], now)).unwrap();
    assert!(sim.node(0).secret().is_some());
    play.go_on(&mut sim, &staying, seconds(1));
    let told: Vec<Event> = sim.take_events(out).into_iter().map(|(_, event)| event).collect();
    assert!(told.contains(&Event::WeWereRemoved { by: sim.peer(0) }), "it knows what became of it");
    // Beyond the time after which links with the old lock end.
    play.go_on(&mut sim, &staying, seconds(12));
    sim.run(seconds(1));

    for index in &staying {
        let events: Vec<Event> = sim.take_events(*index).into_iter().map(|(_, event)| event).collect();
        let gone: Vec<&Event> = events.iter().filter(|event| matches!(event, Event::PeerLeft { .. })).collect();
        assert_eq!(gone, [&Event::PeerLeft { peer: removed, farewell: Farewell::Removed }], "node {index}");
        for other in staying.iter().filter(|other| *other != index) {
            let from = sim.peer(*other);
            let heard: Vec<u32> = events
                .iter()
                .filter_map(|event| match event {
                    Event::Message { from: author, payload, .. } if *author == from => Some(payload),
                    _ => None,
                })
                .map(|payload| std::str::from_utf8(payload).unwrap().parse().unwrap())
                .collect();
            let said: Vec<u32> = (1..=play.said).filter(|number| number.is_multiple_of(6)).collect();
            assert_eq!(heard, said, "what {other} said to {index}");
        }
        assert_eq!(sim.node(*index).member_count(), count - 1);
        assert_eq!(sim.node(*index).entity_count(), count - 1);
    }

    // With the old password, under another name.
    let stranger = sim.add(config(4), SECRET);
    sim.introduce(stranger, 1);
    sim.run(seconds(5));
    let refusals: Vec<Event> = sim.take_events(stranger).into_iter().map(|(_, event)| event).collect();
    assert!(refusals.iter().any(|event| matches!(event, Event::Refused { reason: CloseReason::Refused, .. })), "{refusals:?}");
    assert_eq!(sim.node(stranger).member_count(), 1);
    // Whoever is invited now comes in, and knows who is not to.
    let secret = sim.node(3).secret().unwrap();
    let guest = sim.add(config(4), *secret);
    sim.input(guest, Input::SetRemovalRule(owner_decides(sim.peer(0))));
    sim.introduce(guest, 1);
    sim.run(seconds(5));
    assert_eq!(sim.node(guest).member_count(), count);
}

#[test]
fn old_epoch_a_member_that_was_away_comes_back_and_the_removed_one_does_not() {
    for seed in 1..=5 {
        let mut sim = mesh(seed, 6, owner_decides);
        for (one, other) in (0..4).flat_map(|one| [(one, 4), (one, 5)]) {
            sim.cut(one, other);
        }
        sim.run(seconds(5));
        let removed = sim.peer(5);
        sim.with(0, |node, now| node.remove(&[removed], now)).unwrap();
        sim.run(seconds(20));
        sim.heal();
        sim.run(seconds(40));
        for index in 0..5 {
            let members: BTreeSet<PeerId> = sim.node(index).members(sim.now()).into_iter().map(|member| member.peer).collect();
            assert_eq!(members, (0..5).map(|index| sim.peer(index)).collect(), "seed {seed}, node {index}");
            assert_eq!(sim.node(index).secret(), sim.node(0).secret(), "seed {seed}, node {index}");
        }
    }
}

#[test]
fn two_halves_that_each_removed_somebody_agree_when_they_meet() {
    for seed in 1..=5 {
        let mut sim = mesh(seed, 8, |owner| RemovalRule::By([owner].into()));
        let both = RemovalRule::By([sim.peer(0), sim.peer(7)].into());
        (0..8).for_each(|index| sim.input(index, Input::SetRemovalRule(both.clone())));
        for (one, other) in (0..4).flat_map(|one| (4..8).map(move |other| (one, other))) {
            sim.cut(one, other);
        }
        sim.run(seconds(5));
        let (first, second) = (sim.peer(3), sim.peer(4));
        sim.with(0, |node, now| node.remove(&[first], now)).unwrap();
        sim.with(7, |node, now| node.remove(&[second], now)).unwrap();
        sim.run(seconds(20));
        sim.heal();
        sim.run(seconds(60));
        let staying = [0, 1, 2, 5, 6, 7];
        for index in staying {
            let members: BTreeSet<PeerId> = sim.node(index).members(sim.now()).into_iter().map(|member| member.peer).collect();
            assert_eq!(members, staying.map(|index| sim.peer(index)).into(), "seed {seed}, node {index}");
            assert_eq!(sim.node(index).secret(), sim.node(0).secret(), "seed {seed}, node {index}");
        }
    }
}

#[test]
fn the_majority_removes_and_a_minority_does_not() {
    let mut sim = mesh(1, 7, |_| RemovalRule::Majority);
    let accused = sim.peer(6);
    for voter in 0..3 {
        sim.with(voter, |node, now| node.vote(accused, now)).unwrap();
        sim.with(voter, |node, now| node.vote(accused, now)).unwrap();
    }
    sim.run(seconds(5));
    assert!((0..7).all(|index| sim.node(index).member_count() == 7), "three of seven are no majority");
    sim.with(3, |node, now| node.vote(accused, now)).unwrap();
    sim.run(seconds(5));
    assert!((0..6).all(|index| sim.node(index).member_count() == 6));
    let secret = sim.node(0).secret();
    assert!(secret.is_some() && (1..6).all(|index| sim.node(index).secret() == secret), "all have one lock");
    assert_eq!(sim.with(0, |node, now| node.vote(accused, now)), Err(RemovalError::UnknownPeer(accused)));
}

/// A carried vote is carried out though the one whose turn it is dies at that moment.
#[test]
fn a_carried_vote_outlives_its_first_voter() {
    let mut sim = mesh(2, 7, |_| RemovalRule::Majority);
    let accused = sim.peer(6);
    let first = (0..4).min_by_key(|index| sim.peer(*index)).unwrap();
    let last = if first == 3 { 2 } else { 3 };
    for voter in (0..4).filter(|voter| *voter != last) {
        sim.with(voter, |node, now| node.vote(accused, now)).unwrap();
    }
    sim.run(seconds(1));
    // The first in order never hears that there are enough.
    sim.with(last, |node, now| node.vote(accused, now)).unwrap();
    sim.crash(first);
    sim.run(seconds(8));
    let left: Vec<usize> = (0..6).filter(|index| *index != first).collect();
    assert!(left.iter().all(|index| sim.node(*index).member_count() == 5), "the accused and the dead are gone");
}

#[test]
fn nobody_removes_against_the_rule() {
    let mut sim = mesh(1, 6, owner_decides);
    let victim = sim.peer(2);
    assert_eq!(sim.with(1, |node, now| node.remove(&[victim], now)), Err(RemovalError::NotAllowed));
    assert_eq!(sim.with(1, |node, now| node.vote(victim, now)), Err(RemovalError::NotAllowed));
    let owner = sim.peer(0);
    assert_eq!(sim.with(0, |node, now| node.remove(&[owner], now)), Err(RemovalError::Ourselves));
    let nobody = PeerId([9; 32]);
    assert_eq!(sim.with(0, |node, now| node.remove(&[nobody], now)), Err(RemovalError::UnknownPeer(nobody)));
    // A usurper makes itself the owner, and is alone with that.
    let usurper = sim.peer(1);
    sim.input(1, Input::SetRemovalRule(RemovalRule::By([usurper].into())));
    sim.with(1, |node, now| node.remove(&[victim], now)).unwrap();
    sim.run(seconds(2));
    for index in [0, 2, 3, 4, 5] {
        assert!(sim.node(index).secret().is_none(), "node {index} has the lock that it had");
        assert!(sim.node(index).members(sim.now()).iter().any(|member| member.peer == victim));
    }
    assert!([0, 2, 3, 4, 5].iter().any(|index| sim.node(*index).counters().forgeries > 0), "it is noticed");
}
