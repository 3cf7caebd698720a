use super::super::coder::{Body, Models};
use super::super::{Group, Kind, KindId, Orphan, Shape, Value};
use super::*;
use crate::config::Limits;
use crate::id::PeerId;

fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(1)]) });
    registry
}

fn entity(counter: u32) -> EntityId {
    EntityId { spawner: PeerId([1; 32]), boot: Boot(7), counter }
}

fn snapshot(tick: u32, places: &[(u32, i32)]) -> Snapshot {
    let record = |(counter, place): &(u32, i32)| {
        let mut record = Record::new(entity(*counter), 0, Orphan::Vanish);
        record.set(KindId(0), Value::fields([*place]));
        Arc::new(record)
    };
    let records = Arc::new(places.iter().map(record).collect());
    Snapshot::whole(Tick(tick), MeshTime(0), records, Arc::new(Models::new(&registry())))
}

/// A tick's pieces, and the tick with what was learned by them.
fn encode(mut new: Snapshot, baseline: Option<&Snapshot>, piece_bytes: usize) -> (Vec<Body>, Snapshot) {
    let basis = baseline.map(|baseline| Basis { baseline, reference: None });
    let (pieces, models) = coder::encode(&new, basis, &registry(), piece_bytes);
    new.models = Arc::new(models);
    (pieces, new)
}

fn header(tick: u32, piece: usize, pieces: usize, baseline: Option<u32>, check: u16) -> PieceHeader {
    let baseline = baseline.map(Tick);
    PieceHeader {
        tick: Tick(tick),
        at: MeshTime(0),
        piece,
        pieces,
        baseline,
        reference: None,
        partial: false,
        check,
        digest: None,
    }
}

fn receive(replica: &mut Replica, tick: u32, (piece, pieces): (usize, usize), baseline: Option<u32>, body: &Body) -> Received {
    let header = header(tick, piece, pieces, baseline, body.check);
    replica.receive(header, &body.bytes, &registry(), &Limits::default()).unwrap()
}

fn claims(received: Received) -> Vec<(u32, bool)> {
    match received {
        Received::Claims(changes) => changes.iter().map(|change| (change.entity.counter, change.new.is_some())).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn deltas_follow_one_another_and_old_ones_change_nothing() {
    let mut replica = Replica::new(Boot(7));
    let (full, first) = encode(snapshot(1, &[(1, 10), (2, 20)]), None, 1_000);
    assert_eq!(claims(receive(&mut replica, 1, (0, 1), None, &full[0])), [(1, true), (2, true)]);
    let (delta, _) = encode(snapshot(3, &[(2, 20), (3, 30)]), Some(&first), 1_000);
    assert_eq!(claims(receive(&mut replica, 3, (0, 1), Some(1), &delta[0])), [(1, false), (3, true)]);
    // Late: a baseline to come, but not what is shown.
    let (late, _) = encode(snapshot(2, &[(1, 11), (2, 20)]), Some(&first), 1_000);
    let late = &late[0];
    assert_eq!(claims(receive(&mut replica, 2, (0, 1), Some(1), late)), []);
    assert_eq!(replica.claims.len(), 2);
    assert!(matches!(
        receive(&mut replica, 9, (0, 1), Some(8), late),
        Received::NoBaseline { tick: Tick(8), fault: Fault::Missing }
    ));
}

#[test]
fn a_piece_counts_before_its_tick_is_whole() {
    let mut replica = Replica::new(Boot(7));
    let first: Vec<_> = (0..100).map(|n| (n, 0)).collect();
    let second: Vec<_> = (0..100_u32).map(|n| (n, (n + 1).wrapping_mul(2_654_435_761) as i32)).collect();
    let (first, second) = (snapshot(1, &first), snapshot(2, &second));
    replica.adopt_keyframe(first.clone(), true);
    let (pieces, second) = encode(second, Some(&first), 200);
    assert!(pieces.len() > 2);
    let take =
        |replica: &mut Replica, piece: usize| claims(receive(replica, 2, (piece, pieces.len()), Some(1), &pieces[piece])).len();
    let first_piece = take(&mut replica, 0);
    assert!(first_piece > 10 && first_piece < 100);
    let rest: usize = (1..pieces.len()).map(|piece| take(&mut replica, piece)).sum();
    assert_eq!(first_piece + rest, 100);
    assert_eq!(replica.newest().unwrap().records, second.records);
}

#[test]
fn one_to_whom_no_tick_comes_whole_starves_until_one_does() {
    let mut replica = Replica::new(Boot(7));
    assert!(!replica.is_starved(Tick(1_000)), "who never heard anything does not know what it misses");
    let places: Vec<_> = (0..100_u32).map(|n| (n, n.wrapping_mul(2_654_435_761) as i32)).collect();
    let (pieces, _) = encode(snapshot(5, &places), None, 200);
    assert!(pieces.len() > 2);
    for tick in 5..5 + STARVED_TICKS {
        receive(&mut replica, tick, (0, pieces.len()), None, &pieces[0]);
        assert!(!replica.is_starved(Tick(tick)));
    }
    let starved = 5 + STARVED_TICKS;
    receive(&mut replica, starved, (0, pieces.len()), None, &pieces[0]);
    assert!(replica.is_starved(Tick(starved)));
    replica.adopt_keyframe(snapshot(starved, &places), true);
    assert!(!replica.is_starved(Tick(starved)));
    assert!(!replica.is_starved(Tick(starved + STARVED_TICKS - 1)));
    assert!(replica.is_starved(Tick(starved + STARVED_TICKS)));
}

#[test]
fn who_has_another_baseline_than_the_origin_sees_that_and_starts_anew() {
    let places = |moved: i32| (0..100).map(|n| (n, if n == 3 { 3 + moved } else { n as i32 })).collect::<Vec<_>>();
    let truth = snapshot(1, &places(0));
    let (pieces, _) = encode(snapshot(2, &places(1)), Some(&truth), 1_000);
    let receive = |replica: &mut Replica, tick, body: &Body| receive(replica, tick, (0, 1), Some(1), body);
    // The entity that changes was another; or one that does not, in its turn.
    for wrong in [3, 50] {
        let mut replica = Replica::new(Boot(7));
        let lie: Vec<_> = places(0).into_iter().map(|(n, place)| (n, if n == wrong { 1_000 } else { place })).collect();
        replica.adopt_keyframe(snapshot(1, &lie), false);
        let (mut tick, mut noticed) = (2, false);
        while !noticed && tick < 8 {
            let (pieces, _) = encode(snapshot(tick, &places(1)), Some(&truth), 1_000);
            noticed =
                matches!(receive(&mut replica, tick, &pieces[0]), Received::NoBaseline { tick: Tick(1), fault: Fault::Differs });
            tick += 1;
        }
        assert!(noticed, "entity {wrong} was otherwise");
        assert_eq!((replica.newest().is_none(), replica.acked()), (true, Acked::default()), "nothing is built on it");
        replica.adopt_keyframe(truth.clone(), false);
        assert_eq!(claims(receive(&mut replica, tick, &encode(snapshot(tick, &places(1)), Some(&truth), 1_000).0[0])).len(), 1);
        assert_eq!(
            replica.claims.records().map(|record| record.get(KindId(0)).cloned()).collect::<Vec<_>>(),
            places(1).iter().map(|(_, place)| Some(Value::fields([*place]))).collect::<Vec<_>>()
        );
    }
    let mut replica = Replica::new(Boot(7));
    replica.adopt_keyframe(truth, true);
    assert_eq!(claims(receive(&mut replica, 2, &pieces[0])), [(3, true)]);
}
