//! Messages: what Peer Channel left to applications, and what it made everybody pay.

use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{PeerId, SendError, Target};
use peerflock_tests::game::{TOPIC, config, heard, members, millis, row, seconds, send};

/// 1: nothing was guaranteed, neither delivery nor order. Here everyone who stays hears everything, once, in its sender's order, over
/// links that lose and while relays die. `nothing_lost.rs` tries this over many seeds.
#[test]
fn weakness_01_delivery_and_order_are_guaranteed() {
    remember_signatures();
    let options = Options { loss: 0.1, duplicates: 0.05, jitter: millis(20), ..Options::default() };
    let mut sim = Sim::mesh(options, 12, &config(3), seconds(20));
    sim.run(seconds(1));
    for round in 0..50 {
        for index in 0..10 {
            send(&mut sim, index, Target::All, &round.to_string()).unwrap();
        }
        if round == 25 {
            sim.crash(10);
            sim.crash(11);
        }
        sim.run(millis(50));
    }
    sim.run(seconds(8));
    let said: Vec<String> = (0..50).map(|round| round.to_string()).collect();
    for index in 0..10 {
        let all = heard(&mut sim, index);
        for author in (0..10).filter(|author| *author != index) {
            let author = sim.peer(author);
            let texts: Vec<&String> = all.iter().filter(|(from, _)| *from == author).map(|(_, text)| text).collect();
            assert_eq!(texts, said.iter().collect::<Vec<_>>(), "node {index}");
        }
    }
}

/// 4: "very, very most frequently asked": one could not speak to one member. Here one can, across relays, and nobody else hears it.
#[test]
fn weakness_04_one_member_can_be_spoken_to() {
    let mut sim = Sim::new(Options { loss: 0.1, ..Options::default() });
    row(&mut sim, 6, &config(7));
    let (to, from) = (sim.peer(5), sim.peer(0));
    let mut said = Vec::new();
    for text in 0..20 {
        send(&mut sim, 0, Target::One(to), &text.to_string()).unwrap();
        said.push((from, text.to_string()));
        sim.run(millis(20));
    }
    sim.run(seconds(5));
    assert_eq!(heard(&mut sim, 5), said);
    for index in 0..5 {
        assert_eq!(heard(&mut sim, index), [], "node {index}");
    }
}

/// 4: nor to some. Here one can, all of them hear all of it in order, nobody else does, and if one of them is not there, nobody is told.
#[test]
fn weakness_04_some_members_can_be_spoken_to() {
    let mut sim = Sim::new(Options { loss: 0.1, ..Options::default() });
    row(&mut sim, 6, &config(7));
    let (from, stranger) = (sim.peer(0), PeerId([9; 32]));
    let some = [sim.peer(2), sim.peer(5), sim.peer(4), sim.peer(2)];
    let say = |sim: &mut Sim, to: &[PeerId], text: &str| {
        let payload = bytes::Bytes::from(text.to_owned());
        sim.with(0, |node, now| node.send_to_some(to, TOPIC, payload, now))
    };
    let mut said = Vec::new();
    for text in 0..20 {
        say(&mut sim, &some, &text.to_string()).unwrap();
        said.push((from, text.to_string()));
        sim.run(millis(20));
        let nobody = say(&mut sim, &[some[0], stranger, some[1]], "not to you");
        assert_eq!(nobody, Err(SendError::UnknownPeers(vec![stranger])));
    }
    sim.run(seconds(5));
    for index in 1..6 {
        let expected: &[_] = if [2, 4, 5].contains(&index) { &said } else { &[] };
        assert_eq!(heard(&mut sim, index), expected, "node {index}");
    }
}

/// 5: everyone received and passed on everything. Here only those on the way carry what is for one or for those near, and where all
/// are linked to all, nobody passes anything on.
#[test]
fn weakness_05_only_those_on_the_way_carry_what_is_not_for_all() {
    const LENGTH: usize = 20_000;
    const COUNT: usize = 20;
    let sent = |sim: &Sim| -> Vec<u64> {
        let bytes = |index| {
            let counters = sim.node(index).counters();
            counters.frame_bytes_sent + counters.datagram_bytes_sent
        };
        (0..sim.len()).map(bytes).collect()
    };
    // Who sends how many times one of these messages.
    let carried = |sim: &mut Sim, to: Target| -> Vec<u64> {
        let before = sent(sim);
        for _ in 0..COUNT {
            send(sim, 0, to, &"x".repeat(LENGTH)).unwrap();
            sim.run(millis(200));
        }
        sim.run(seconds(1));
        let spent = sent(sim).into_iter().zip(before);
        spent.map(|(after, before)| (after - before) / (COUNT * LENGTH) as u64).collect()
    };
    let mut sim = Sim::new(Options::default());
    row(&mut sim, 6, &config(7));
    let to = sim.peer(2);
    assert_eq!(carried(&mut sim, Target::One(to)), [1, 1, 0, 0, 0, 0]);
    assert_eq!(carried(&mut sim, Target::Hops(2)), [1, 1, 0, 0, 0, 0]);
    assert_eq!(carried(&mut sim, Target::All), [1, 1, 1, 1, 1, 0]);
    let mut complete = Sim::mesh(Options::default(), 8, &config(7), seconds(10));
    complete.run(seconds(2));
    assert_eq!(carried(&mut complete, Target::All), [7, 0, 0, 0, 0, 0, 0, 0]);
}

/// 6: at 7 neighbors each message crossed six times as many links as it had readers. Here second copies end once the trees stand.
#[test]
fn weakness_06_seven_neighbors_do_not_cost_seven_copies() {
    let (first, duplicate, _) = everyone_speaks();
    assert!(first >= 31 * 32 * 90, "{first} first copies");
    assert!((duplicate as f64) < 0.1 * first as f64, "{duplicate} second copies beside {first} first ones");
}

/// 6, in bytes: proofs of origin and all that keeps the mesh together included.
#[test]
fn weakness_06_a_byte_costs_at_most_thirteen_tenths_of_a_byte_a_reader() {
    let (_, _, cost) = everyone_speaks();
    assert!(cost <= 1.3, "{cost} bytes for each byte that a reader heard");
}

/// 32 peers with up to 7 neighbors each say 200 bytes 20 times a second: first copies, second copies, and bytes on all links for
/// each byte that a reader heard.
fn everyone_speaks() -> (u64, u64, f64) {
    const LENGTH: usize = 200;
    remember_signatures();
    let mut sim = Sim::mesh(Options::default(), 32, &config(7), seconds(20));
    let speak = |sim: &mut Sim, rounds: u32| {
        for _ in 0..rounds {
            for index in 0..32 {
                send(sim, index, Target::All, &"x".repeat(LENGTH)).unwrap();
            }
            sim.run(millis(50));
        }
        let counters = (0..32).map(|index| sim.node(index).counters());
        counters.fold((0, 0, 0), |(first, duplicate, bytes), counters| {
            let sent = counters.frame_bytes_sent + counters.datagram_bytes_sent;
            (first + counters.messages_first, duplicate + counters.messages_duplicate, bytes + sent)
        })
    };
    let before = speak(&mut sim, 60);
    let after = speak(&mut sim, 100);
    let (first, duplicate, bytes) = (after.0 - before.0, after.1 - before.1, after.2 - before.2);
    (first, duplicate, bytes as f64 / (first * LENGTH as u64) as f64)
}

/// 26: a message to nobody was sent with success. Here the sender is told, also once the others are gone again.
#[test]
fn weakness_26_speaking_to_nobody_is_an_error() {
    let mut sim = Sim::mesh(Options::default(), 1, &config(7), seconds(1));
    let stranger = PeerId([9; 32]);
    assert_eq!(send(&mut sim, 0, Target::All, "hello?"), Err(SendError::NobodyThere));
    assert_eq!(send(&mut sim, 0, Target::One(stranger), "hello?"), Err(SendError::UnknownPeer(stranger)));
    for leaves in [true, false] {
        let other = sim.add(config(7), [7; 32]);
        sim.introduce(other, 0);
        sim.run(seconds(2));
        assert_eq!(send(&mut sim, 0, Target::All, "hello!"), Ok(()));
        if leaves {
            sim.input(other, peerflock_proto::Input::Leave);
        }
        sim.crash(other);
        sim.run(seconds(3));
        assert_eq!(members(&sim, 0), 1);
        let gone = sim.peer(other);
        assert_eq!(send(&mut sim, 0, Target::All, "hello?"), Err(SendError::NobodyThere));
        assert_eq!(send(&mut sim, 0, Target::One(gone), "hello?"), Err(SendError::UnknownPeer(gone)));
    }
}

/// 27: back-pressure never reached the application, and queues had no bound. Here whoever sends to one that does not take it is told so
/// at a bound, and what was taken arrives.
#[test]
fn weakness_27_a_sender_is_told_to_wait_and_what_it_may_send_is_bounded() {
    const LENGTH: usize = 60_000;
    let mut sim = Sim::mesh(Options::default(), 2, &config(7), seconds(5));
    let reader = sim.peer(1);
    sim.pause(1, millis(900));
    let mut taken = 0;
    let refused = loop {
        match send(&mut sim, 0, Target::One(reader), &"x".repeat(LENGTH)) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken * LENGTH <= 4 << 20, "no bound");
    };
    assert_eq!(refused, SendError::Backlog(reader));
    assert!(taken >= 2, "a bound that leaves no room");
    sim.run(seconds(4));
    assert_eq!(heard(&mut sim, 1).len(), taken);
    assert_eq!(send(&mut sim, 0, Target::One(reader), "go on"), Ok(()));
}
