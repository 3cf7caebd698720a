//! C5: games; and C7.3, what carrying others' traffic costs. C5.3 and C5.4 are the lobby's and the game's.

use std::time::Duration;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, Identity, PeerMesh, PeerMeshBuilder, Pressure};
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Change, EntityId, Event, Farewell, Input, KindId, Orphan, PeerId, Target, Time, Value, WorldEvent};
use peerflock_tests::game::{config, millis, seconds, send, spawn};
use tokio::time::sleep;

use super::play;

/// When each value of `of` was seen at `index`.
fn seen(sim: &mut Sim, index: usize, of: usize) -> Vec<(Time, i32)> {
    let owner = sim.peer(of);
    let value = |(at, event): (Time, Event)| match event {
        Event::World(WorldEvent::Set { entity, value: Value::Fields(fields), .. }) if entity.spawner == owner => {
            Some((at, fields[0]))
        }
        _ => None,
    };
    sim.take_events(index).into_iter().filter_map(value).collect()
}

/// The players' own nodes are all there is; what one moves all see, and after each rest all have the same world.
#[test]
fn c5_1_and_2_moves_are_synchronized_without_a_server() {
    remember_signatures();
    let mut sim = Sim::mesh(Options { loss: 0.02, ..Options::default() }, 8, &config(7), seconds(10));
    (0..8).for_each(|index| spawn(&mut sim, index, 1, Orphan::Adopt));
    for round in 0..5 {
        play(&mut sim, 8, 100 * round, 20);
        sim.run(seconds(1));
        let hashes: Vec<_> = (0..8).map(|index| sim.node(index).state_hash()).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "round {round}");
    }
}

/// How late a move is seen is measured, and bounded by the way and a tick.
#[test]
fn c5_2_the_latency_of_moves_is_known() {
    let (calm, _) = latency(false);
    assert!((millis(10)..=millis(60)).contains(&calm), "a move is seen after {calm:?} on average, over links of 10 to 50 ms");
}

/// Chat beside moves: everybody talks as fast as people can and longer than they do, and moves come as before.
#[test]
fn c5_5_chat_does_not_delay_moves() {
    let ((calm, _), (busy, lines)) = (latency(false), latency(true));
    assert!(lines >= 8 * 50, "{lines} lines heard");
    assert!(busy <= calm + millis(10), "{calm:?} without, {busy:?} with chat");
}

/// The mean time from a move of player 0 to player 5 seeing it, and how many lines of chat were heard there meanwhile.
fn latency(chat: bool) -> (Duration, usize) {
    remember_signatures();
    let mut sim = Sim::mesh(Options::default(), 8, &config(7), seconds(10));
    (0..8).for_each(|index| spawn(&mut sim, index, 1, Orphan::Adopt));
    sim.run(seconds(2));
    seen(&mut sim, 5, 0);
    let (mut said, mut total, mut count, mut lines) = (Vec::new(), 0, 0, 0);
    for tick in 0..300 {
        said.push(sim.now());
        super::step(&mut sim, 8, 1_000 + tick);
        if chat && tick % 4 == 0 {
            (0..8).for_each(|index| send(&mut sim, index, Target::All, &"chat ".repeat(40)).unwrap());
        }
        sim.run(millis(16));
        let events = sim.take_events(5);
        let owner = sim.peer(0);
        for (at, event) in events {
            match event {
                Event::World(WorldEvent::Set { entity, value: Value::Fields(fields), .. }) if entity.spawner == owner => {
                    total += at.since(said[(fields[0] - 1_000) as usize]).as_micros() as u64;
                    count += 1;
                }
                Event::Message { .. } => lines += 1,
                _ => {}
            }
        }
    }
    assert!(count > 200, "{count} moves seen");
    (Duration::from_micros(total / count), lines)
}

/// A player whose machine dies is gone for all within four seconds, and the game goes on.
#[test]
fn c5_6_a_dropped_player_is_noticed_within_a_bounded_time() {
    remember_signatures();
    let mut sim = Sim::mesh(Options { loss: 0.02, ..Options::default() }, 8, &config(7), seconds(10));
    (0..8).for_each(|index| spawn(&mut sim, index, 1, Orphan::Adopt));
    play(&mut sim, 8, 0, 20);
    (0..8).for_each(|index| drop(sim.take_events(index)));
    let (died, dead) = (sim.now(), sim.peer(7));
    sim.crash(7);
    play(&mut sim, 7, 100, 300);
    for index in 0..7 {
        let events = sim.take_events(index);
        let gone = |event: &Event| *event == Event::PeerLeft { peer: dead, farewell: Farewell::Lost };
        let at = events.iter().find(|(_, event)| gone(event)).map(|(at, _)| at.since(died));
        assert!(at.is_some_and(|after| after <= seconds(4)), "node {index}: {at:?}");
    }
}

/// Whoever comes back has the world as it is now.
#[test]
fn c5_7_who_returns_has_the_current_state() {
    remember_signatures();
    let mut sim = Sim::mesh(Options::default(), 6, &config(7), seconds(10));
    (0..6).for_each(|index| spawn(&mut sim, index, 3, Orphan::Adopt));
    play(&mut sim, 6, 0, 20);
    sim.crash(5);
    play(&mut sim, 5, 500, 200);
    let again = sim.add(config(7), [7; 32]);
    sim.introduce(again, 2);
    sim.run(seconds(3));
    assert_eq!(sim.node(again).member_count(), 6);
    assert_eq!(sim.node(again).state_hash(), sim.node(0).state_hash());
}

/// Play costs nobody a server: whoever opened the mesh is a player like the others, and none of the first four is needed.
#[test]
fn c5_8_play_needs_nobody_but_its_players() {
    remember_signatures();
    let mut sim = Sim::mesh(Options::default(), 8, &config(7), seconds(10));
    (0..8).for_each(|index| spawn(&mut sim, index, 1, Orphan::Adopt));
    play(&mut sim, 8, 0, 20);
    for gone in 0..4 {
        sim.input(gone, Input::Leave);
        sim.crash(gone);
        sim.run(seconds(1));
    }
    sim.run(seconds(2));
    let left: Vec<_> = (4..8).map(|index| (sim.node(index).member_count(), sim.node(index).state_hash())).collect();
    assert!(left.iter().all(|view| *view == left[0] && view.0 == 4), "{left:?}");
}

/// However many there are, nobody holds more links than it was told to: so forwarding has a bound, too.
#[test]
fn c7_3_nobody_carries_more_than_its_links() {
    remember_signatures();
    let mut sim = Sim::new(Options::default());
    for index in 0..24 {
        sim.add(config(if index < 12 { 7 } else { 3 }), [7; 32]);
        if index > 0 {
            sim.introduce(index, 0);
        }
    }
    for _ in 0..20 {
        sim.run(millis(500));
        for index in 0..24 {
            let (links, max) = (sim.node(index).links().len(), if index < 12 { 7 } else { 3 });
            assert!(links <= max, "node {index} holds {links} links of {max}");
        }
    }
    assert!((0..24).all(|index| sim.node(index).member_count() == 24));
}

/// One of five comes to sit behind a line far too thin for the game: its neighbors send it fewer ticks, it goes on hearing of all, and
/// what the others see of each other is as fresh as before.
#[tokio::test(start_paused = true)]
async fn c7_3_a_slow_neighbor_is_eased_and_the_others_are_not_hurt() {
    let line = Conditioner::with_delay(millis(20));
    let network = VirtualNetwork::new(1, line);
    let mut players: Vec<PeerMesh> = Vec::new();
    for n in 1..=5 {
        let builder = PeerMesh::named("c7").identity(Identity::from_seed([n; 32])).seed([n; 32]).lan(false);
        let builder = builder.registry(config(7).registry).socket(network.socket());
        let tickets = players.first().map(PeerMesh::ticket);
        players.push(tickets.into_iter().fold(builder, PeerMeshBuilder::join).start().await.unwrap());
    }
    sleep(seconds(3)).await;
    let own: Vec<Vec<EntityId>> = players.iter().map(|mesh| (0..200).map(|_| mesh.spawn()).collect()).collect();
    for (mesh, own) in players.iter().zip(&own) {
        mesh.commit(own.iter().map(|&entity| Change::Spawn { entity, orphan: Orphan::Vanish }).collect());
    }
    let slow = players[4].id();
    freshness(&players, &own, slow).await;
    let (before, _) = freshness(&players, &own, slow).await;
    let [door, rest @ ..] = [4, 0, 1, 2, 3].map(|index: usize| players[index].local_addresses()[0]);
    let thin = Conditioner { rate_bytes_per_second: Some(15_000), ..line };
    for other in rest {
        network.set_link_conditioner(other, door, thin);
    }
    freshness(&players, &own, slow).await;
    let (after, heard) = freshness(&players, &own, slow).await;
    assert!(after <= before + millis(5), "{before:?} before, {after:?} beside a thin line");
    assert!(heard > 200, "whoever is slow hears of things {heard} times in that time");
    for mesh in &players[..4] {
        for link in mesh.metrics().links {
            assert_eq!(link.pressure > Pressure::Free, link.peer == slow, "{link:?}");
        }
    }
}

/// Everybody moves everything for five seconds, in no way that can be foretold. How old a move is at the 99th percentile where one of those
/// who are not slow sees another one's, and how many moves the slow one sees.
async fn freshness(players: &[PeerMesh], own: &[Vec<EntityId>], slow: PeerId) -> (Duration, usize) {
    let (mut ages, mut heard) = (Vec::new(), 0);
    for tick in 0..300_u32 {
        for (mesh, own) in players.iter().zip(own) {
            let place = |entity: &EntityId| {
                [17, 29].map(|prime| (tick * prime + entity.counter).wrapping_mul(2_654_435_761).cast_signed() >> 18)
            };
            let set = |entity: &EntityId| Change::Set { entity: *entity, kind: KindId(0), value: Value::fields(place(entity)) };
            mesh.commit(own.iter().map(set).collect());
            for event in mesh.try_events() {
                match event {
                    Event::World(WorldEvent::Set { .. }) if mesh.id() == slow => heard += 1,
                    Event::World(WorldEvent::Set { entity, at, .. }) if entity.spawner != slow => ages.push(mesh.now().since(at)),
                    _ => {}
                }
            }
        }
        sleep(millis(16)).await;
    }
    ages.sort_unstable();
    (ages[ages.len() * 99 / 100], heard)
}
