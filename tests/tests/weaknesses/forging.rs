//! What members did to one another in Peer Channel, and cannot here.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;

use peerflock_proto::{Config, Input, Target};
use peerflock_tests::game::{config, millis, seconds};
use peerflock_tests::wiretap::Wires;

/// Alters one byte of each thing said from one node to another that holds a text, or may hold it sealed: of the first such thing the
/// first byte, of the next the second, and so on.
struct Liar {
    altered: Rc<Cell<usize>>,
    length: Rc<Cell<usize>>,
}

impl Liar {
    /// `alter` is told the byte and how often it had its turn.
    fn between(wires: &mut Wires, from: usize, to: usize, turns: usize, alter: fn(u8, usize) -> u8) -> Self {
        let (altered, length) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(usize::MAX)));
        let (count, longest) = (altered.clone(), length.clone());
        let mut seen = BTreeSet::new();
        wires.tap(move |passing| {
            let text = format!("<{:04}>", count.get());
            let said = if passing.is_letter() { passing.bytes.to_vec() } else { text.clone().into_bytes() };
            if (passing.from, passing.to) != (from, to) || !(passing.is_letter() || passing.holds(&text)) || !seen.insert(said) {
                return;
            }
            let mut bytes = passing.bytes.to_vec();
            longest.set(bytes.len() * turns);
            let (place, turn) = ((count.get() / turns) % bytes.len(), count.get() % turns);
            bytes[place] = alter(bytes[place], turn);
            passing.bytes = bytes.into();
            count.set(count.get() + 1);
        });
        Self { altered, length }
    }

    /// Node 0 says texts until each byte was altered; all that it said.
    fn lie(&self, wires: &mut Wires, to: impl Fn(&Wires) -> Target) -> Vec<String> {
        let mut said = Vec::new();
        while said.len() < self.length.get() {
            assert!(said.len() < 4_000, "the texts are not where the liar is");
            let text = format!("<{:04}>", self.altered.get());
            let target = to(wires);
            wires.send(0, target, &text).expect("somebody is there");
            said.push(text);
            // So long that a link that breaks over it stands again.
            wires.run(millis(250));
        }
        said
    }
}

/// 18: whoever passed a message on could read it. Ours to one is sealed to its reader.
#[test]
fn weakness_18_what_is_for_one_is_read_by_nobody_who_passes_it_on() {
    let mut wires = Wires::row(3, &config(2));
    let passed = wires.record();
    let last = wires.peer(2);
    wires.send(0, Target::One(last), "for your eyes only").unwrap();
    wires.send(0, Target::Hops(2), "for all eyes").unwrap();
    wires.run(seconds(1));
    let heard = wires.heard(2);
    assert!(heard.contains(&"for your eyes only".to_owned()) && heard.contains(&"for all eyes".to_owned()), "{heard:?}");
    assert!(passed.borrow().iter().any(|passing| passing.to == 1 && passing.holds("for all eyes")), "the tap sees what passes");
    assert!(!passed.borrow().iter().any(|passing| passing.holds("for your eyes only")));
    // One bit of it altered on the way, it is not delivered, and comes all the same: it is sent again.
    let mut altered = 0;
    wires.tap(move |passing| {
        if passing.from == 1 && passing.to == 2 && passing.bytes.len() > 200 && altered < 1 {
            altered += 1;
            let mut bytes = passing.bytes.to_vec();
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            passing.bytes = bytes.into();
        }
    });
    wires.send(0, Target::One(last), "once more").unwrap();
    wires.run(seconds(2));
    assert_eq!(wires.heard(2), ["once more"]);
}

/// 19: its hop count was not signed, and 0 went round to "without limit": one member made a flood of what was meant for those near.
/// Ours is limited by what the author signed; a liar gets it at most as far again as its own word would go.
#[test]
fn weakness_19_the_hop_count_is_signed_and_zero_stays_home() {
    let mut wires = Wires::row(8, &config(7));
    let record = wires.record();
    wires.send(0, Target::Hops(0), "<home>").unwrap();
    wires.send(0, Target::Hops(2), "<near>").unwrap();
    wires.run(seconds(2));
    assert!(record.borrow().iter().all(|passing| !passing.holds("<home>")), "nobody else is told");
    assert_eq!(wires.heard(0), ["<home>", "<near>"]);
    let reached: Vec<usize> = (1..8).filter(|index| wires.heard(*index) == ["<near>"]).collect();
    assert_eq!(reached, [1, 2]);

    let liar = Liar::between(&mut wires, 1, 2, 3, |_, turn| [0, 1, u8::MAX][turn]);
    liar.lie(&mut wires, |_| Target::Hops(2));
    for index in 5..8 {
        assert_eq!(wires.heard(index), Vec::<String>::new(), "node {index} is further than that");
    }
}

/// 20: unsigned message IDs: whoever used an ID first kept the genuine message from all behind it. Ours takes nothing for known
/// whose author did not sign it.
#[test]
fn weakness_20_a_forged_copy_that_comes_first_suppresses_nothing() {
    // What 0 says comes to 2 over the liar 1 first, and over 3 and 4 later.
    let mut wires = Wires::new(&[(0, 1), (1, 2), (0, 3), (3, 4), (4, 2)], &config(7));
    let liar = Liar::between(&mut wires, 1, 2, 1, |byte, _| byte ^ 0x10);
    let said = liar.lie(&mut wires, |_| Target::All);
    wires.run(seconds(3));
    for index in 1..5 {
        assert_eq!(wires.heard(index), said, "node {index}");
    }
}

/// 21: a bad signature cut the link to whoever passed it on, who had not looked. Ours cuts nobody for what another said.
#[test]
fn weakness_21_whoever_passes_on_a_forgery_keeps_its_links() {
    let honest = [(1, 2), (2, 1), (2, 3), (3, 2)];
    for private in [false, true] {
        let mut wires = Wires::row(4, &config(7));
        let before = honest.map(|(one, other)| wires.link(one, other));
        let liar = Liar::between(&mut wires, 0, 1, 1, |byte, _| byte ^ 0x10);
        let said = liar.lie(&mut wires, |wires| if private { Target::One(wires.peer(3)) } else { Target::All });
        wires.run(seconds(3));
        assert_eq!(honest.map(|(one, other)| wires.link(one, other)), before, "private: {private}");
        let forgeries: u64 = (1..4).map(|index| wires.node(index).counters().forgeries).sum();
        assert!(forgeries > 0, "nobody noticed");
        // What no seal covers yet is its neighbor's word: a lie is heard until the seal comes, and then what was meant.
        let heard = wires.heard(3);
        let mut rest = heard.iter();
        assert!(said.iter().all(|said| rest.any(|heard| heard == said)), "what was meant arrives, private: {private}: {heard:?}");
        assert!(!private || heard == said, "to one no lie is heard: {heard:?}");
    }
}

/// 28: a fault in its arithmetic punished a link for copies of old messages. Ours may come as late as they like: the link stays, and
/// what is new passes as fast as before.
#[test]
fn weakness_28_late_copies_cost_a_link_nothing() {
    let mut wires = Wires::row(3, &config(7));
    let record = wires.record();
    for text in 0..10 {
        wires.send(0, Target::All, &format!("<late {text}>")).unwrap();
        wires.run(millis(100));
    }
    let copies: Vec<_> = record.borrow().iter().filter(|passing| passing.to == 2 && passing.holds("<late")).cloned().collect();
    assert!(copies.len() >= 10, "what is sent is seen");
    assert_eq!(wires.heard(2).len(), 10);
    let links = (wires.link(1, 2), wires.link(2, 1));
    for late in [2, 30, 60] {
        wires.run(seconds(late));
        for _ in 0..5 {
            copies.iter().for_each(|copy| wires.replay(copy));
            wires.run(millis(50));
        }
    }
    assert_eq!((wires.link(1, 2), wires.link(2, 1)), links);
    assert_eq!(wires.node(2).counters().violations, 0);
    wires.send(0, Target::All, "new").unwrap();
    wires.run(millis(100));
    assert_eq!(wires.heard(2), ["new"], "at once, and no old one again");
}

/// 29: without a limit on hops and with a memory of 5 minutes, a copy later than that was flooded anew. Ours has a limit, and a
/// number that was delivered is never delivered again, whatever the caches forgot.
#[test]
fn weakness_29_a_copy_older_than_any_memory_is_neither_delivered_nor_passed_on() {
    assert!(Config::default().hop_limit < 32, "a limit by default");
    let mut wires = Wires::row(4, &config(7));
    let record = wires.record();
    let reader = wires.peer(3);
    for text in 0..5 {
        for to in [Target::All, Target::Hops(3), Target::One(reader)] {
            wires.send(0, to, &format!("<late {text}>")).unwrap();
        }
        wires.run(millis(200));
    }
    let copies: Vec<_> = record.borrow().iter().filter(|passing| passing.to == 2 && passing.holds("<late")).cloned().collect();
    assert!(copies.len() >= 5, "what is sent is seen");
    wires.run(seconds(2));
    assert_eq!((wires.heard(2).len(), wires.heard(3).len()), (10, 15));
    // Everything that keeps messages is filled with others, and ten minutes pass.
    for _ in 0..24 {
        wires.send(0, Target::All, &"x".repeat(60_000)).unwrap();
        wires.run(millis(200));
    }
    wires.run(seconds(600));
    (0..4).for_each(|index| drop(wires.heard(index)));
    let replay = |wires: &mut Wires, who_knew_it: &str| {
        let record = wires.record();
        copies.iter().for_each(|copy| wires.replay(copy));
        wires.run(seconds(3));
        let nothing = Vec::<String>::new();
        assert_eq!((wires.heard(2), wires.heard(3)), (nothing.clone(), nothing), "{who_knew_it}");
        // Those for one only are the reader's to judge.
        let passed_on = record.borrow().iter().filter(|passing| passing.from == 2 && passing.holds("<late")).count();
        assert!(passed_on <= 5, "{passed_on} passed on, {who_knew_it}");
    };
    replay(&mut wires, "while its author is here");
    wires.input(0, Input::Leave);
    wires.run(seconds(300));
    assert_eq!(wires.node(2).members(peerflock_proto::Time(0)).len(), 3, "the author is gone, and forgotten");
    replay(&mut wires, "after its author is forgotten");
}
