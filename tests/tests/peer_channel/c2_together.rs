//! C2: chat, groups, being together.

use std::cell::Cell;
use std::rc::Rc;

use peerflock::test_utils::VirtualNetwork;
use peerflock::{CloseReason, Conditioner, Event, Farewell, Identity, PeerId, PeerMesh, PeerMeshBuilder, StartError, Target};
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_tests::game::{TOPIC, config, heard, millis, row, seconds, send};
use peerflock_tests::wiretap::Wires;
use tokio::time::{Instant, sleep};

fn builder(network: &VirtualNetwork, name: &str, n: u8) -> PeerMeshBuilder {
    PeerMesh::named(name).identity(Identity::from_seed([n; 32])).seed([n; 32]).lan(false).socket(network.socket())
}

fn said(mesh: &PeerMesh) -> Vec<String> {
    let text = |event| match event {
        Event::Message { payload, .. } => Some(String::from_utf8_lossy(&payload).into_owned()),
        _ => None,
    };
    mesh.try_events().into_iter().filter_map(text).collect()
}

/// A name and a password make a closed group: who has another password is told so at once, and never gets in.
#[tokio::test(start_paused = true)]
async fn c2_1_a_name_and_a_password_make_a_closed_group() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(millis(10)));
    let ann = builder(&network, "circle", 1).password("right").start().await.unwrap();
    let bob = builder(&network, "circle", 2).password("right").join(ann.ticket()).start().await.unwrap();
    let asked = Instant::now();
    let eve = builder(&network, "circle", 3).password("wrong").join(ann.ticket()).start().await.unwrap_err();
    assert!(matches!(eve, StartError::Refused { reason: CloseReason::Refused, .. }), "{eve}");
    assert!(asked.elapsed() < seconds(120), "{:?}", asked.elapsed());
    assert_eq!((ann.members().len(), bob.members().len()), (2, 2));
}

#[test]
fn c2_2_each_hears_everyone() {
    let mut sim = Sim::mesh(Options::default(), 10, &config(4), seconds(20));
    sim.run(seconds(1));
    for (to, count) in [(Target::All, 9), (Target::AllAndMe, 10)] {
        (0..10).for_each(|index| send(&mut sim, index, to, &index.to_string()).unwrap());
        sim.run(seconds(2));
        for index in 0..10 {
            let authors: std::collections::BTreeSet<PeerId> = heard(&mut sim, index).into_iter().map(|(from, _)| from).collect();
            assert_eq!(authors.len(), count, "node {index}, {to:?}");
        }
    }
}

#[test]
fn c2_3_one_learns_whether_anybody_is_there() {
    let mut sim = Sim::new(Options::default());
    let (one, other) = (sim.add(config(7), [7; 32]), sim.add(config(7), [7; 32]));
    sim.run(seconds(1));
    assert_eq!((sim.node(one).member_count(), sim.take_events(one)), (1, vec![]));
    sim.introduce(one, other);
    sim.run(seconds(2));
    assert_eq!(sim.node(one).member_count(), 2);
    sim.crash(other);
    sim.run(seconds(4));
    assert_eq!(sim.node(one).member_count(), 1);
    let peer = sim.peer(other);
    let story: Vec<&str> = sim
        .take_events(one)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::Joined => Some("in"),
            Event::PeerJoined { peer: who, .. } if *who == peer => Some("came"),
            Event::PeerLeft { peer: who, farewell: Farewell::Lost } if *who == peer => Some("went"),
            _ => None,
        })
        .collect();
    assert!(story == ["in", "came", "went"] || story == ["came", "in", "went"], "{story:?}");
}

/// Any of them may go, the first one too.
#[test]
fn c2_4_the_session_outlives_any_member() {
    remember_signatures();
    for gone in [0, 5] {
        let mut sim = Sim::mesh(Options::default(), 12, &config(4), seconds(20));
        sim.run(seconds(1));
        sim.crash(gone);
        sim.run(seconds(4));
        let here: Vec<usize> = (0..12).filter(|index| *index != gone).collect();
        for index in &here {
            heard(&mut sim, *index);
            send(&mut sim, *index, Target::All, &index.to_string()).unwrap();
        }
        sim.run(seconds(2));
        for index in &here {
            assert_eq!(heard(&mut sim, *index).len(), here.len() - 1, "node {index} after {gone} went");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c2_5_one_program_in_two_groups() {
    let network = VirtualNetwork::new(2, Conditioner::with_delay(millis(10)));
    let (red, blue) = (builder(&network, "red", 1).start().await.unwrap(), builder(&network, "blue", 2).start().await.unwrap());
    // One program with a place in each.
    let in_red = builder(&network, "red", 3).join(red.ticket()).start().await.unwrap();
    let in_blue = builder(&network, "blue", 3).join(blue.ticket()).start().await.unwrap();
    sleep(seconds(1)).await;
    red.send(Target::All, TOPIC, "red").unwrap();
    blue.send(Target::All, TOPIC, "blue").unwrap();
    sleep(seconds(1)).await;
    assert_eq!((said(&in_red), said(&in_blue)), (vec!["red".into()], vec!["blue".into()]));
    assert_eq!((in_red.members().len(), in_blue.members().len()), (2, 2));
}

/// What a relay alters is not heard, and what was meant comes all the same: to one, where nothing is heard before its proof.
#[test]
fn c2_6_the_origin_of_a_message_is_proved() {
    let mut wires = Wires::row(3, &config(7));
    let letters = Rc::new(Cell::new(0_usize));
    let count = letters.clone();
    wires.tap(move |passing| {
        if (passing.from, passing.to) == (1, 2) && passing.is_letter() {
            count.set(count.get() + 1);
            if count.get() % 2 == 1 {
                // Another byte of what was said each time; how far it travelled may be altered by whoever carries it.
                let mut bytes = passing.bytes.to_vec();
                let place = bytes.len() - 1 - count.get() % 30;
                bytes[place] ^= 1;
                passing.bytes = bytes.into();
            }
        }
    });
    let to = wires.peer(2);
    let said: Vec<String> = (0..30).map(|number| format!("truth {number}")).collect();
    for text in &said {
        wires.send(0, Target::One(to), text).unwrap();
        wires.run(millis(900));
    }
    wires.run(seconds(8));
    assert!(letters.get() >= 2 * said.len(), "{} letters: each was altered once", letters.get());
    assert_eq!(wires.heard(2), said, "what was said, and nothing else");
    assert!(wires.node(2).counters().forgeries > 0);
}

#[test]
fn c2_7_one_or_some_are_spoken_to() {
    let mut sim = Sim::new(Options::default());
    row(&mut sim, 6, &config(7));
    let some = [sim.peer(2), sim.peer(4)];
    send(&mut sim, 0, Target::One(some[1]), "to one").unwrap();
    sim.with(0, |node, now| node.send_to_some(&some, TOPIC, "to some".into(), now)).unwrap();
    sim.run(seconds(3));
    let texts = |sim: &mut Sim, index| heard(sim, index).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
    for index in 1..6 {
        let expected: &[&str] = match index {
            2 => &["to some"],
            4 => &["to one", "to some"],
            _ => &[],
        };
        assert_eq!(texts(&mut sim, index), expected, "node {index}");
    }
}

#[test]
fn c2_8_those_near_are_asked_and_nobody_else() {
    for hops in [0, 1, 3] {
        let mut sim = Sim::new(Options::default());
        row(&mut sim, 7, &config(7));
        (0..7).for_each(|index| drop(heard(&mut sim, index)));
        send(&mut sim, 3, Target::Hops(hops), "who is near?").unwrap();
        sim.run(seconds(2));
        for index in 0..7_usize {
            let near = index.abs_diff(3) <= usize::from(hops);
            assert_eq!(heard(&mut sim, index).len(), usize::from(near), "node {index}, {hops} hops");
        }
    }
}

/// Nothing but the members' own sockets on a network that leads nowhere: they meet, talk, and one after the other goes.
#[tokio::test(start_paused = true)]
async fn c2_12_no_server_is_needed() {
    let network = VirtualNetwork::new(4, Conditioner::with_delay(millis(5)));
    let first = builder(&network, "island", 1).start().await.unwrap();
    let second = builder(&network, "island", 2).join(first.ticket()).start().await.unwrap();
    let third = builder(&network, "island", 3).join(second.ticket()).start().await.unwrap();
    sleep(seconds(1)).await;
    first.leave().await;
    third.send(Target::All, TOPIC, "still here").unwrap();
    sleep(seconds(1)).await;
    assert_eq!(said(&second), ["still here"]);
}
