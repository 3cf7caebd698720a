//! Members that contradict themselves, pass on lies, send too much, come in crowds, or come back though they were removed.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::{Options, Sim, forge, remember_signatures};
use peerflock_proto::{
    Change, CloseReason, Config, EntityId, Event, Farewell, Identity, Input, LinkId, MeshId, MeshKey, NeighborLimits, Node,
    Orphan, Output, OwnershipPolicy, PeerId, RemovalRule, Target, Time, Value,
};
use peerflock_tests::game::{PLACE, TOPIC, millis, seconds};
use peerflock_tests::wiretap::Wires;

use super::config;

const TIMES: u32 = 1_000;
/// 0 reaches 3 by two ways, which see each other.
const DIAMOND: [(usize, usize); 5] = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)];

fn identity(index: usize) -> Identity {
    Identity::from_seed([index as u8 + 1; 32])
}

fn wires(pairs: &[(usize, usize)]) -> Wires {
    Wires::new(pairs, &Config { neighbors: NeighborLimits::with_max(3), ..config() })
}

/// Node `index` moves its entity 60 times a second, for so long.
fn play(wires: &mut Wires, index: usize, duration: Duration) {
    let entity = EntityId::new(wires.peer(index), wires.node(index).boot(), 1, OwnershipPolicy::Ask);
    let end = wires.now() + duration;
    let mut turn = 0;
    while wires.now() < end {
        turn += 1;
        let spawn = Change::Spawn { entity, orphan: Orphan::Adopt };
        wires.input(index, Input::Commit(vec![spawn, Change::Set { entity, kind: PLACE, value: Value::fields([turn, -turn]) }]));
        wires.run(millis(16));
    }
}

fn removed(wires: &mut Wires, index: usize, out: PeerId) -> usize {
    let left = Event::PeerLeft { peer: out, farewell: Farewell::Removed };
    wires.take_events(index).into_iter().filter(|event| *event == left).count()
}

// --- equivocation -------------------------------------------------------------------------------------------------------

#[test]
fn equivocation_is_found_where_both_copies_meet_and_told_to_all() {
    let mut wires = wires(&DIAMOND);
    play(&mut wires, 0, seconds(1));
    let (me, boot) = (identity(0), wires.node(0).boot());
    // To 1 it signs something else than to 2.
    wires.tap(move |passing| {
        if (passing.from, passing.to) == (0, 1) && passing.datagram {
            let two_faced = forge::equivocate(&passing.bytes, &me, &MeshId::from_name("wires"), boot);
            passing.bytes = two_faced.unwrap_or_else(|| passing.bytes.clone());
        }
    });
    play(&mut wires, 0, millis(600));
    let liar = wires.peer(0);
    for index in 1..4 {
        assert_eq!(removed(&mut wires, index, liar), 1, "node {index}: once");
        assert_eq!(wires.node(index).counters().equivocations, 1, "node {index}");
        assert_eq!(wires.link(index, 0), None);
    }
    wires.run(seconds(20));
    assert!((1..4).all(|index| wires.node(index).member_count() == 3), "and it does not come back");
}

#[test]
fn a_thousand_equivocation_pairs_raise_one_evidence() {
    let mut wires = wires(&DIAMOND);
    let (out, boot) = (wires.peer(3), wires.node(3).boot());
    for first in 0..TIMES {
        wires.inject(1, 2, false, forge::evidence(&identity(3), out, &MeshId::from_name("wires"), boot, first, true));
        if first % 100 == 0 {
            wires.run(millis(100));
        }
    }
    wires.run(seconds(1));
    for index in [0, 2] {
        assert_eq!(removed(&mut wires, index, out), 1, "node {index}");
        assert_eq!(wires.node(index).counters().equivocations, 1, "node {index}");
    }
}

#[test]
fn forged_evidence_a_thousand_times_removes_nobody() {
    let mut wires = wires(&DIAMOND);
    let (victim, boot, mesh) = (wires.peer(3), wires.node(3).boot(), MeshId::from_name("wires"));
    let forgeries = |wires: &Wires| wires.node(2).counters().forgeries;
    let before = forgeries(&wires);
    for first in 0..TIMES / 4 {
        for frame in [
            forge::evidence(&identity(1), victim, &mesh, boot, first, true),
            forge::evidence(&identity(3), victim, &mesh, boot, first, false),
            forge::evidence(&identity(3), victim, &MeshId::from_name("another"), boot, first, true),
            forge::evidence(&identity(3), victim, &mesh, boot, u32::MAX - 1, true),
        ] {
            wires.inject(1, 2, false, frame);
        }
        wires.run(millis(10));
    }
    assert_eq!(forgeries(&wires) - before, u64::from(TIMES));
    assert!((0..4).all(|index| wires.node(index).member_count() == 4));
}

// --- relays that lie ----------------------------------------------------------------------------------------------------

/// 1 alters whatever it passes on of 0's state. 2, who is deceived first, drops it; 3, to whom 2 passed on some of it before it could know, keeps
/// its link to 2.
#[test]
fn a_relay_that_goes_on_lying_is_dropped_and_whoever_believed_it_is_not() {
    // 0 - 1 - 2 - 3, and a way round from 0 to 3.
    let mut wires = wires(&[(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)]);
    play(&mut wires, 0, seconds(2));
    let lies = Rc::new(Cell::new(0));
    let told = lies.clone();
    wires.tap(move |passing| {
        if (passing.from, passing.to) == (1, 2) && passing.datagram {
            let altered = forge::alter_relayed(&passing.bytes, |_, payload| {
                told.set(told.get() + 1);
                payload.last_mut().is_some_and(|byte| {
                    *byte ^= 0x55;
                    true
                })
            });
            passing.bytes = altered.unwrap_or_else(|| passing.bytes.clone());
        }
    });
    // Whatever way is found round it, it goes on for as long as anything of 0's comes by it.
    play(&mut wires, 0, seconds(10));
    assert!(lies.get() > 0, "it had something to lie about");
    let counters = wires.node(2).counters();
    assert!(counters.forgeries > 0, "found out");
    assert!(wires.link(3, 2).is_some() && wires.link(2, 3).is_some(), "the honest one keeps its link");
    assert_eq!((3..6).map(|index| wires.node(index).counters().neighbors_banished).sum::<u64>(), 0);
    // What all see in the end is the truth.
    let truth = wires.node(0).state_hash();
    wires.run(seconds(3));
    assert!([3, 4, 5].iter().all(|index| wires.node(*index).state_hash() == truth));
    assert_eq!(wires.node(2).state_hash(), truth);
}

// --- old epoch ----------------------------------------------------------------------------------------------------------

#[test]
fn old_epoch_a_thousand_things_of_a_removed_member_are_heard_by_nobody() {
    let mut wires = wires(&DIAMOND);
    let owner = wires.peer(1);
    (0..4).for_each(|index| wires.input(index, Input::SetRemovalRule(RemovalRule::By([owner].into()))));
    let record = wires.record();
    play(&mut wires, 0, seconds(2));
    for number in 0..50 {
        wires.send(0, Target::All, &format!("<{number}>")).unwrap();
        play(&mut wires, 0, millis(32));
    }
    let said: Vec<_> = record.borrow().iter().filter(|passing| passing.to == 3).cloned().collect();
    let out = wires.peer(0);
    wires.remove(1, &[out]);
    wires.run(seconds(11));
    (1..4).for_each(|index| _ = wires.take_events(index));
    let before: Vec<_> = (1..4).map(|index| wires.node(index).state_hash()).collect();
    let mut replayed = 0;
    while replayed < TIMES as usize {
        for passing in &said {
            wires.replay(passing);
            replayed += 1;
        }
        wires.run(millis(100));
    }
    for index in 1..4 {
        let heard = wires.take_events(index);
        assert!(
            !heard.iter().any(|event| matches!(event, Event::Message { .. } | Event::World(_) | Event::PeerJoined { .. })),
            "{heard:?}"
        );
        assert_eq!(wires.node(index).state_hash(), before[index - 1]);
        assert_eq!(wires.node(index).member_count(), 3);
    }
}

// --- crowds -------------------------------------------------------------------------------------------------------------

/// One member at its door, and many who all know the password.
fn admitted(newcomers: impl IntoIterator<Item = SocketAddr>) -> (usize, BTreeSet<&'static str>) {
    let key = MeshKey::open(MeshId::from_name("crowd"));
    let node = |seed: [u8; 32]| Node::new(config(), Identity::from_seed(seed), key.clone(), seed, Time(0));
    let config_of_host = Config { neighbors: NeighborLimits::with_max(64), ..config() };
    let mut host = Node::new(config_of_host, Identity::from_seed([255; 32]), key.clone(), [255; 32], Time(0));
    let (mut admitted, mut reasons) = (0, BTreeSet::new());
    for (number, address) in newcomers.into_iter().enumerate() {
        let now = Time(1_000_000 * number as u64);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        let mut guest = node(seed);
        let door = SocketAddr::from(([198, 51, 100, 1], 1));
        guest.handle(Input::Candidates(vec![peerflock_proto::Candidate { address: door, peer: None }]), now);
        guest.handle_timeout(now);
        let mut at_guest = None;
        let mut at_host: Option<LinkId> = None;
        loop {
            let mut quiet = true;
            while let Some(output) = guest.poll_output() {
                quiet = false;
                match output {
                    Output::Dial { link, .. } if at_guest.is_none() => {
                        let theirs = host.accept(address, now).unwrap();
                        (at_guest, at_host) = (Some(link), Some(theirs));
                        let up = |link, peer: PeerId, address| Input::LinkUp { link, peer, address, exporter: [9; 32] };
                        host.handle(up(theirs, guest.peer_id(), address), now);
                        guest.handle(up(link, host.peer_id(), door), now);
                    }
                    Output::Frame { bytes, .. } => {
                        if let Some(link) = at_host {
                            host.handle(Input::Frame { link, bytes }, now);
                        }
                    }
                    _ => {}
                }
            }
            while let Some(output) = host.poll_output() {
                match output {
                    Output::Frame { link, bytes } if Some(link) == at_host => {
                        quiet = false;
                        guest.handle(Input::Frame { link: at_guest.unwrap(), bytes }, now);
                    }
                    Output::Admitted { link } if Some(link) == at_host => admitted += 1,
                    Output::Close { link, reason } if Some(link) == at_host => {
                        reasons.insert(if reason == CloseReason::Crowded { "crowded" } else { "another" });
                    }
                    _ => {}
                }
            }
            if quiet {
                break;
            }
        }
        // It goes again, so that there are links for all.
        if let Some(link) = at_host {
            host.handle(Input::LinkDown { link, reason: CloseReason::Transport }, now);
        }
    }
    (admitted, reasons)
}

#[test]
fn a_hundred_sybils_from_one_public_address_are_eight() {
    let sybils = (0..100).map(|port| SocketAddr::from(([203, 0, 113, 7], 1_000 + port)));
    assert_eq!(admitted(sybils), (8, BTreeSet::from(["crowded"])));
}

#[test]
fn a_lan_party_and_loopback_still_fit() {
    let party = (0..100).map(|host| SocketAddr::from(([192, 168, 1, 10 + host], 4_000)));
    assert_eq!(admitted(party), (100, BTreeSet::new()));
    let loopback = (0..100).map(|port| SocketAddr::from(([127, 0, 0, 1], 1_000 + port)));
    assert_eq!(admitted(loopback), (100, BTreeSet::new()));
}

// --- floods -------------------------------------------------------------------------------------------------------------

const QUOTA: u32 = 50_000;

/// Eight talk and move; the last of them says ten times what it may, if it `floods`. How late what the others say is, in the 99th part of a
/// hundred; and how many dropped the flooder.
fn talk(floods: bool) -> (Duration, u64) {
    remember_signatures();
    let mut config = config();
    config.limits.origin_bytes_per_second = QUOTA;
    let mut sim = Sim::mesh(Options { seed: 3, ..Options::default() }, 7, &config, seconds(20));
    // Its own node would not let it.
    config.limits.origin_bytes_per_second = u32::MAX;
    sim.add(config, [7; 32]);
    sim.introduce(7, 0);
    sim.run(seconds(3));
    assert!((0..8).all(|index| sim.node(index).member_count() == 8));
    (0..8).for_each(|index| _ = sim.take_events(index));
    let mut late = Vec::new();
    for turn in 0..600_u64 {
        for index in 0..7 {
            let sent = sim.now().0.to_string();
            sim.with(index, |node, now| node.send(Target::All, TOPIC, Bytes::from(sent), now)).unwrap();
        }
        if floods {
            let payload = Bytes::from(vec![turn as u8; QUOTA as usize * 10 / 60]);
            let _ = sim.with(7, |node, now| node.send(Target::All, TOPIC, payload, now));
        }
        sim.run(Duration::from_micros(16_667));
        for index in 0..7 {
            late.extend(sim.take_events(index).into_iter().filter_map(|(at, event)| match event {
                Event::Message { payload, .. } => {
                    let sent: u64 = std::str::from_utf8(&payload).ok()?.parse().ok()?;
                    Some(at.since(Time(sent)))
                }
                _ => None,
            }));
        }
    }
    late.sort_unstable();
    assert!(late.len() > 600 * 7 * 6 * 99 / 100, "nearly all of it arrived");
    (late[late.len() * 99 / 100], (0..7).map(|index| sim.node(index).counters().neighbors_banished).sum())
}

#[test]
fn a_tenfold_flooder_delays_nobody_and_loses_its_links() {
    let (before, nobody) = talk(false);
    let (beside, dropped) = talk(true);
    assert_eq!(nobody, 0, "whoever keeps to the limit is not dropped");
    assert!(dropped >= 7, "{dropped} dropped it");
    assert!(beside <= before.mul_f64(1.2), "{beside:?} beside the flooder, {before:?} without");
}

// --- privacy ------------------------------------------------------------------------------------------------------------

/// Those who hide are dialed by nobody, and what goes round among members holds no address of theirs.
#[test]
fn a_relay_only_address_is_told_to_nobody() {
    for hides in [true, false] {
        let config = Config { relay_only: hides, neighbors: NeighborLimits::with_max(2), ..config() };
        let mut wires = Wires::row(4, &config);
        let record = wires.record();
        for index in 0..4 {
            wires.input(index, Input::SetProfile(peerflock_proto::Profile::named("somebody else")));
        }
        wires.run(seconds(5));
        let told = record.borrow().iter().filter(|passing| forge::presence_content(&passing.bytes).is_some()).count();
        let holds = |bytes: &Bytes| bytes.windows(4).any(|window| window == [127, 0, 0, 1]);
        let named = record.borrow().iter().filter(|passing| holds(&passing.bytes)).count();
        assert!(told > 3, "presence goes round");
        assert_eq!(named > 0, !hides, "{named} times");
        assert!((0..4).all(|index| wires.node(index).member_count() == 4), "and all are heard by all");
    }
}
