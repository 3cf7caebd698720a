//! A member that speaks for others, moves their things, or says again what they said: with its own links, and without their keys.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::forge::{self, Claim, Forged};
use peerflock_proto::{
    Boot, Change, Config, EntityId, Event, Identity, Input, MeshTime, NeighborLimits, Orphan, OwnershipPolicy, PeerId, Target,
    Tick, Value, WorldEvent,
};
use peerflock_tests::game::{PLACE, TOPIC, millis, seconds};
use peerflock_tests::wiretap::Wires;

use super::config;

const TIMES: u32 = 1_000;
/// Four who are all linked to each other: the victim, the attacker, and two others.
const ALL: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
const VICTIM: usize = 0;
const ATTACKER: usize = 1;
const OTHERS: [usize; 2] = [2, 3];
const TRUTH: [i32; 2] = [41, 42];
const LIE: [i32; 2] = [666, 666];
/// Between two lies.
const PAUSE: Duration = Duration::from_millis(16);

/// What the attacker's next parcels hold beside what they should, or in place of it.
#[derive(Clone, Default)]
struct Lies {
    waiting: Rc<RefCell<Option<Forged>>>,
    /// The number and the tick of the victim's newest packet.
    newest: Rc<Cell<(u32, u32)>>,
}

impl Lies {
    /// From now on every parcel of the attacker to others than the victim holds the first lie that waits. `withholds`: and nothing else.
    fn of_attacker(wires: &mut Wires, withholds: bool) -> Self {
        let lies = Self::default();
        let Self { waiting, newest } = lies.clone();
        wires.tap(move |passing| {
            if passing.from == VICTIM && passing.datagram {
                let packets = forge::packets(&passing.bytes).into_iter().filter(|(relayed, ..)| !relayed);
                newest.set(packets.fold(newest.get(), |newest, (_, seq, tick)| newest.max((seq, tick.0))));
            } else if passing.from == ATTACKER && passing.datagram && passing.to != VICTIM {
                // To both others the same.
                if let Some(lie) = &*waiting.borrow() {
                    let beside = if withholds { None } else { forge::add_item(&passing.bytes, lie) };
                    passing.bytes = beside.unwrap_or_else(|| forge::replace_items(&passing.bytes, lie));
                }
            }
        });
        lies
    }

    fn tell(&self, lie: Forged) {
        *self.waiting.borrow_mut() = Some(lie);
    }

    fn end(&self) {
        *self.waiting.borrow_mut() = None;
    }
}

/// Four nodes, or a row or a ring of four in which the attacker stands between the victim and the others; the victim's entities, one of each
/// policy but the one that everyone may take.
fn scene(pairs: &[(usize, usize)]) -> (Wires, Vec<EntityId>) {
    // Where some are not linked to each other, no mesh of all is to be had.
    let neighbors = NeighborLimits::with_max(if pairs.len() == ALL.len() { 7 } else { 2 });
    let mut wires = Wires::new(pairs, &Config { neighbors, ..config() });
    let (spawner, boot) = (wires.peer(VICTIM), wires.node(VICTIM).boot());
    let policies = [OwnershipPolicy::Ask, OwnershipPolicy::Refuse, OwnershipPolicy::Grant];
    let entities: Vec<EntityId> = policies.map(|policy| EntityId::new(spawner, boot, 1, policy)).into();
    let spawn = |entity: &EntityId| {
        let value = Value::fields(TRUTH);
        [Change::Spawn { entity: *entity, orphan: Orphan::Adopt }, Change::Set { entity: *entity, kind: PLACE, value }]
    };
    wires.input(VICTIM, Input::Commit(entities.iter().flat_map(spawn).collect()));
    wires.run(seconds(2));
    for index in 0..4 {
        assert_eq!(wires.node(index).entity_count(), entities.len());
        wires.take_events(index);
    }
    (wires, entities)
}

/// What a node was told of the victim's entities since it was last asked.
fn told(wires: &mut Wires, index: usize) -> Vec<WorldEvent> {
    let world = |event| if let Event::World(event) = event { Some(event) } else { None };
    wires.take_events(index).into_iter().filter_map(world).collect()
}

/// A lie about a thing of the victim's. `of`: in whose name.
fn claim(wires: &Wires, of: Option<(PeerId, Boot)>, entity: EntityId, number: u32, turn: u32) -> Claim {
    let at = wires.node(ATTACKER).mesh_time(wires.now());
    let (seq, tick) = (100_000 + turn, Tick(100_000 + turn));
    Claim { of, seq, tick, at: MeshTime(at.0), entity, number, kind: PLACE, value: Value::fields(LIE) }
}

#[test]
fn a_thousand_owner_spoofs_leave_the_victims_component_byte_equal() {
    let (mut wires, entities) = scene(&ALL);
    let before: Vec<_> = (0..4).map(|index| wires.node(index).state_hash()).collect();
    let lies = Lies::of_attacker(&mut wires, false);
    // As they are, as if given away once or often.
    let numbers = [0, 1, 2, 1 << 20, u32::MAX];
    let mut sent = 0;
    for turn in 0..TIMES {
        let (entity, number) = (entities[turn as usize % entities.len()], numbers[turn as usize % numbers.len()]);
        let registry = config().registry;
        lies.tell(claim(&wires, None, entity, number, turn).forge(&registry));
        // So that there is a parcel to put it in.
        let own = EntityId::new(wires.peer(ATTACKER), wires.node(ATTACKER).boot(), turn, OwnershipPolicy::Ask);
        wires.input(ATTACKER, Input::Commit(vec![Change::Spawn { entity: own, orphan: Orphan::Vanish }]));
        wires.run(PAUSE);
        sent += 1;
        for index in OTHERS {
            let news = told(&mut wires, index);
            assert_eq!(news, [], "node {index} after {sent} lies, the last with number {number}");
        }
    }
    lies.end();
    for index in OTHERS {
        assert_eq!(wires.node(index).state_hash(), before[index], "node {index}");
        assert!(wires.node(index).counters().foreign_claims >= u64::from(TIMES), "they were heard");
    }
    assert_eq!(wires.node(VICTIM).entity_count(), entities.len() + TIMES as usize, "it never heard a lie");
}

/// The victim goes on moving its things, and the attacker lies about them, so many times with so much time between, in packets
/// numbered so far ahead of the victim's newest. How often the others saw a lie, and for how long at most.
fn forged_origin(wires: &mut Wires, entities: &[EntityId], times: u32, pause: Duration, ahead: &[u32]) -> (u32, Duration) {
    let victim = (wires.peer(VICTIM), wires.node(VICTIM).boot());
    let lies = Lies::of_attacker(wires, false);
    let registry = config().registry;
    let (mut believed, mut longest, mut since) = (0, Duration::ZERO, [None; 4]);
    for turn in 0..times {
        let entity = entities[turn as usize % entities.len()];
        let ahead = ahead[turn as usize % ahead.len()];
        let ((seq, tick), mut lie) = (lies.newest.get(), claim(wires, Some(victim), entity, 0, turn));
        (lie.seq, lie.tick) = (seq + ahead, Tick(tick + ahead));
        lies.tell(lie.forge(&registry));
        let end = wires.now() + pause;
        while wires.now() < end {
            let step = (wires.now().0 / 16_000 % 7) as i32;
            let moved = entities.iter().map(|entity| {
                let value = Value::fields([TRUTH[0] + step, TRUTH[1]]);
                Change::Set { entity: *entity, kind: PLACE, value }
            });
            wires.input(VICTIM, Input::Commit(moved.collect()));
            wires.input(ATTACKER, Input::Commit(vec![]));
            wires.run(PAUSE);
            // One parcel to each, where there is time between two lies.
            if pause > PAUSE {
                lies.end();
            }
            for index in OTHERS {
                for event in told(wires, index) {
                    let WorldEvent::Set { value, .. } = event else { continue };
                    if value == Value::fields(LIE) {
                        believed += 1;
                        since[index].get_or_insert_with(|| wires.now());
                    } else if let Some(since) = since[index].take() {
                        longest = longest.max(wires.now().since(since));
                    }
                }
                if let Some(since) = since[index] {
                    longest = longest.max(wires.now().since(since));
                }
            }
        }
    }
    lies.end();
    (believed, longest)
}

fn all_is_true(wires: &mut Wires, entities: &[EntityId]) {
    let end = entities.iter().map(|entity| Change::Set { entity: *entity, kind: PLACE, value: Value::fields([7, 8]) });
    wires.input(VICTIM, Input::Commit(end.collect()));
    wires.run(seconds(3));
    for index in OTHERS {
        assert_eq!(wires.node(index).state_hash(), wires.node(VICTIM).state_hash(), "node {index}");
        assert_eq!(wires.node(index).members(wires.now()).len(), 4);
    }
}

/// Where everybody hears everybody, nobody needs a relay's word.
#[test]
fn a_thousand_packets_of_a_forged_origin_are_not_believed_where_its_origin_is_heard() {
    let (mut wires, entities) = scene(&ALL);
    let (believed, longest) = forged_origin(&mut wires, &entities, TIMES, PAUSE, &[1, 2, 3, 500, 100_000]);
    assert_eq!((believed, longest), (0, Duration::ZERO));
    all_is_true(&mut wires, &entities);
}

/// Where there is another way to the victim, whoever lies about it without end is not listened to for longer than proofs may take.
#[test]
fn a_thousand_packets_of_a_forged_origin_are_undone_where_others_pass_it_on() {
    let (mut wires, entities) = scene(&[(0, 1), (1, 2), (2, 3), (3, 0)]);
    let (believed, longest) = forged_origin(&mut wires, &entities, TIMES, PAUSE, &[1, 2, 3]);
    assert!(longest <= millis(1_100), "a lie stood for {longest:?}");
    assert!(believed <= TIMES / 10, "{believed} lies were believed");
    all_is_true(&mut wires, &entities);
    assert!(wires.node(2).counters().forgeries > 0);
}

/// Where only the attacker passes on what the victim says, its word holds until the victim's next proof; where it numbers its lie ahead
/// of all that the victim has said, until that should have been proved.
#[test]
fn a_packet_of_a_forged_origin_is_undone_where_only_the_forger_passes_it_on() {
    for (ahead, limit) in [(1, 300), (2, 300), (3, 300), (20, 500), (500, 2_500)] {
        for delay in 0..5 {
            let (mut wires, entities) = scene(&[(0, 1), (1, 2), (2, 3)]);
            wires.run(millis(37 * delay));
            // The first is so far ahead that nobody is.
            let (believed, longest) = forged_origin(&mut wires, &entities, 2, millis(4_000), &[1_000_000, ahead]);
            assert!(believed > 0, "there is nobody else to listen to");
            assert!(longest <= millis(limit), "{ahead} ahead: a lie stood for {longest:?}");
            all_is_true(&mut wires, &entities);
        }
    }
}

#[test]
fn a_thousand_presences_of_a_forged_origin_are_not_applied() {
    let (mut wires, _) = scene(&ALL);
    let attacker = Identity::from_seed([ATTACKER as u8 + 1; 32]);
    assert_eq!(attacker.peer_id(), wires.peer(ATTACKER));
    let record = wires.record();
    wires.input(VICTIM, Input::SetProfile(peerflock_proto::Profile::named("victim")));
    wires.run(seconds(1));
    let content = record
        .borrow()
        .iter()
        .filter(|passing| passing.from == VICTIM)
        .find_map(|passing| forge::presence_content(&passing.bytes));
    let content = content.expect("a presence was said");
    let (before, victim, mesh) = (wires.node(2).members(wires.now()), wires.peer(VICTIM), wires.node(2).mesh_id());
    let before = before.into_iter().find(|member| member.peer == victim).expect("it is here");
    for turn in 0..TIMES {
        // Newer than all that the victim has said, with another name. (The boot and the number come first.)
        let mut content = content.to_vec();
        let place = content.windows(6).position(|window| window == b"victim").expect("its name");
        content[place..place + 6].copy_from_slice(format!("v{:05}", turn % 100_000).as_bytes());
        let boot_bytes = 5;
        content[boot_bytes] = 250;
        let lie = forge::presence(&attacker, victim, &mesh, content.into());
        wires.inject(ATTACKER, 2, false, lie);
        wires.run(millis(2));
    }
    wires.run(seconds(1));
    let after = wires.node(2).members(wires.now()).into_iter().find(|member| member.peer == victim).expect("it is still here");
    assert_eq!(after.profile, before.profile);
    assert_eq!(wires.node(2).counters().forgeries, u64::from(TIMES));
}

#[test]
fn a_thousand_messages_and_farewells_of_a_forged_origin_do_not_last() {
    let (mut wires, entities) = scene(&ALL);
    let victim = (wires.peer(VICTIM), wires.node(VICTIM).boot());
    let lies = Lies::of_attacker(&mut wires, false);
    let mut said = Vec::new();
    let mut departures = 0;
    for turn in 0..TIMES {
        let seq = u64::from(turn) + 1;
        let lie = if turn % 2 == 0 { forge::said(victim, seq, TOPIC.0, "lie") } else { forge::farewell(victim, seq) };
        lies.tell(lie);
        if turn % 10 == 0 {
            let text = format!("true {turn}");
            wires.send(VICTIM, Target::All, &text).expect("somebody is there");
            said.push(text);
        }
        wires.input(ATTACKER, Input::Commit(vec![]));
        wires.run(PAUSE);
    }
    lies.end();
    wires.run(seconds(3));
    for index in OTHERS {
        let mut heard = Vec::new();
        for event in wires.take_events(index) {
            match event {
                Event::Message { payload, .. } => heard.push(String::from_utf8_lossy(&payload).into_owned()),
                Event::PeerLeft { .. } => departures += 1,
                _ => {}
            }
        }
        // Around a lie the order may suffer: what was taken for another message comes in its turn once the seal has shown it.
        let mut genuine: Vec<_> = heard.iter().filter(|text| *text != "lie").cloned().collect();
        genuine.sort_unstable();
        said.sort_unstable();
        assert_eq!(genuine, said, "what was meant arrives, once");
        assert_eq!(wires.node(index).members(wires.now()).len(), 4);
        assert_eq!(wires.node(index).state_hash(), wires.node(VICTIM).state_hash());
    }
    assert_eq!(departures, 0, "nobody is sent away by a farewell that it did not say");
    assert_eq!(wires.node(2).entity_count(), entities.len());
}

/// All that the victim said is said again by the attacker, in parcels of its own.
#[test]
fn a_thousand_replayed_numbers_are_not_applied_again() {
    for pairs in [&ALL[..], &[(0, 1), (1, 2), (2, 3)]] {
        let (mut wires, entities) = scene(pairs);
        let victim = (wires.peer(VICTIM), wires.node(VICTIM).boot());
        let record = wires.record();
        let mut said = Vec::new();
        for turn in 0..20 {
            let value = Value::fields([turn, turn]);
            wires.input(VICTIM, Input::Commit(vec![Change::Set { entity: entities[0], kind: PLACE, value }]));
            wires.send(VICTIM, Target::All, &format!("once {turn}")).expect("somebody is there");
            said.push(format!("once {turn}"));
            wires.run(millis(50));
        }
        wires.run(seconds(1));
        let copies: Vec<Bytes> = record
            .borrow()
            .iter()
            .filter(|passing| (passing.from, passing.datagram) == (VICTIM, true))
            .map(|passing| passing.bytes.clone())
            .collect();
        assert!(copies.len() >= 40);
        for index in OTHERS {
            assert_eq!(wires.heard(index), said);
        }
        let before = wires.node(2).state_hash();
        let lies = Lies::of_attacker(&mut wires, false);
        let mut replayed = 0;
        for copy in copies.iter().cycle() {
            for item in forge::items_of(copy) {
                lies.tell(item.in_the_name_of(victim));
                wires.input(ATTACKER, Input::Commit(vec![]));
                wires.run(PAUSE);
                replayed += 1;
            }
            if replayed >= TIMES {
                break;
            }
        }
        lies.end();
        wires.run(seconds(1));
        for index in OTHERS {
            for event in wires.take_events(index) {
                assert!(!matches!(event, Event::Message { .. } | Event::World(_)), "node {index}: {event:?}");
            }
        }
        assert_eq!(wires.node(2).state_hash(), before);
    }
}
