//! What goes in comes out, whatever it is, and however it is cut.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::Limits;
use crate::id::{Boot, PeerId};
use crate::state::{Group, Kind, Orphan, Shape, Value};
use crate::time::MeshTime;

const PLACE: KindId = KindId(0);
const TEXT: KindId = KindId(1);

fn registry() -> Registry {
    let mut registry = Registry::default();
    let groups = &[Group::Motion(3), Group::Rotation, Group::Choice];
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(groups) });
    registry.register(Kind { name: "text".into(), shape: Shape::Bytes });
    registry
}

fn entity(counter: u32) -> EntityId {
    EntityId { spawner: PeerId([(counter % 3) as u8; 32]), boot: Boot(7), counter }
}

fn snapshot(tick: u32, records: impl IntoIterator<Item = Record>) -> Snapshot {
    let mut records: Vec<_> = records.into_iter().map(Arc::new).collect();
    records.sort_by_key(|record| record.entity);
    records.dedup_by_key(|record| record.entity);
    Snapshot::whole(Tick(tick), MeshTime(0), Arc::new(records), Arc::new(Models::new(&registry())))
}

fn world(tick: u32, count: u32, place: impl Fn(u32) -> [i32; 8]) -> Snapshot {
    snapshot(
        tick,
        (0..count).map(|counter| {
            let mut record = Record::new(entity(counter), 0, Orphan::Adopt);
            record.set(PLACE, Value::fields(place(counter)));
            record
        }),
    )
}

/// What a receiver with all pieces has, the pieces taken in reverse; and what each of the two has learned.
fn through(new: &Snapshot, basis: Option<Basis<'_>>, piece_bytes: usize) -> Vec<Arc<Record>> {
    let (pieces, models) = encode(new, basis, &registry(), piece_bytes);
    let baseline = basis.map(|basis| basis.baseline);
    let mut records: BTreeMap<_, _> =
        baseline.iter().flat_map(|baseline| baseline.records.iter()).map(|record| (record.entity, record.clone())).collect();
    let mut assembler = Assembler::default();
    for (number, piece) in pieces.iter().enumerate().rev() {
        assert!(piece.bytes.len() <= piece_bytes, "{} bytes", piece.bytes.len());
        let piece = decode(&piece.bytes, new.tick, basis, &registry(), 4_096).unwrap();
        if number == 0 {
            assert!(piece.models == models);
        }
        piece.removed.iter().for_each(|entity| drop(records.remove(entity)));
        records.extend(piece.changed.into_iter().map(|(_, record)| (record.entity, record)));
        piece.items.into_iter().for_each(|item| assembler.add(item, baseline, &Limits::default()).unwrap());
    }
    records.extend(assembler.finish().unwrap().into_iter().map(|record| (record.entity, record)));
    records.into_values().collect()
}

fn record() -> impl Strategy<Value = Record> {
    let place = prop::option::of(prop_oneof![any::<[i32; 8]>(), prop::array::uniform8(-3..4_i32)]);
    let text = prop::option::of((prop::collection::vec(any::<u8>(), 0..2_000), 0_u32..30));
    (0_u32..40, 0_u32..3, any::<bool>(), place, text).prop_map(|(counter, number, adopt, place, text)| {
        let mut record = Record::new(entity(counter), number, if adopt { Orphan::Adopt } else { Orphan::Vanish });
        if let Some(place) = place {
            record.set(PLACE, Value::fields(place));
        }
        if let Some((text, refs)) = text {
            record.set(TEXT, Value::Bytes { bytes: text.into(), refs: (0..refs % 4).map(entity).collect() });
        }
        record
    })
}

fn records() -> impl Strategy<Value = Vec<Record>> {
    prop::collection::vec(record(), 0..40)
}

proptest! {
    #[test]
    fn any_change_survives(older in records(), old in records(), new in records(), kept in any::<[u64; 2]>(), room in 620..2_000_usize) {
        let keep = |from: &Snapshot, bits: u64| {
            let kept = from.records.iter().enumerate().filter(move |(index, _)| bits >> index & 1 == 1);
            kept.map(|(_, record)| Record::clone(record)).collect::<Vec<_>>()
        };
        let older = snapshot(3, older);
        let old = snapshot(5, keep(&older, kept[0]).into_iter().chain(old));
        let new = snapshot(9, keep(&old, kept[1]).into_iter().chain(new));
        prop_assert_eq!(&through(&new, Some(Basis { baseline: &old, reference: Some(&older) }), room), &*new.records);
        prop_assert_eq!(&through(&new, Some(Basis { baseline: &old, reference: None }), room), &*new.records);
        prop_assert_eq!(&through(&new, None, room), &*new.records);
    }

    #[test]
    fn any_bytes_give_a_piece_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), level in any::<bool>()) {
        let base = world(5, 40, |counter| [counter as i32; 8]);
        let bytes = if level { [&[0][..], &bytes].concat() } else { bytes };
        let basis = Some(Basis { baseline: &base, reference: None });
        if let Ok(piece) = decode(&bytes, Tick(6), basis, &registry(), 4_096) {
            let mut assembler = Assembler::default();
            for item in piece.items {
                if assembler.add(item, Some(&base), &Limits::default()).is_err() {
                    return Ok(());
                }
            }
            let _ = assembler.finish();
        }
    }
}

#[test]
fn the_unchanged_costs_nothing() {
    let world = world(5, 1_000, |_| [1; 8]);
    let (pieces, _) = encode(&world, Some(Basis { baseline: &world, reference: None }), &registry(), 1_000);
    assert_eq!(pieces.len(), 1);
    assert!(pieces[0].bytes.len() <= 8, "{} bytes", pieces[0].bytes.len());
}

#[test]
fn what_goes_on_as_before_costs_little() {
    let at = |tick: i32| {
        move |counter: u32| [counter as i32 * 7 + 3 * tick, tick, -tick, 2, 5 * tick, 4, tick * counter as i32 % 7, 0]
    };
    let [mut first, mut second] = [(1, at(1)), (2, at(2))].map(|(tick, at)| world(tick, 100, at));
    let mut bytes = 0;
    for tick in 3..100 {
        let mut third = world(tick, 100, at(tick as i32));
        let (pieces, models) = encode(&third, Some(Basis { baseline: &second, reference: Some(&first) }), &registry(), 1_150);
        third.models = Arc::new(models);
        (first, second, bytes) = (second, third, pieces[0].bytes.len());
    }
    assert!(bytes < 100, "{bytes} bytes for 100 that move");
}

#[test]
fn a_lost_piece_spoils_no_other() {
    let (old, new) = (world(1, 600, |_| [0; 8]), world(2, 600, |counter| [(counter + 1).wrapping_mul(2_654_435_761) as i32; 8]));
    let basis = Some(Basis { baseline: &old, reference: None });
    let (pieces, _) = encode(&new, basis, &registry(), 500);
    assert!(pieces.len() > 3);
    let mut next = 0;
    for piece in pieces {
        let piece = decode(&piece.bytes, Tick(2), basis, &registry(), 0).unwrap();
        assert_eq!(piece.start, next);
        next = piece.end;
        let expected: Vec<_> = (piece.start..piece.end).map(|index| (index, new.records[index].clone())).collect();
        assert_eq!(piece.changed, expected);
    }
    assert_eq!(next, 600);
}

/// Who only reads the first piece learns what its writer did, wherever that ends.
#[test]
fn a_piece_teaches_both_sides_the_same() {
    let old = world(1, 600, |_| [0; 8]);
    let new = world(2, 600, |counter| [(counter + 1).wrapping_mul(2_654_435_761) as i32 >> (counter % 31); 8]);
    let basis = Some(Basis { baseline: &old, reference: None });
    let mut at_block = 0;
    for room in 700..1_500 {
        let (pieces, models) = encode(&new, basis, &registry(), room);
        let first = decode(&pieces[0].bytes, Tick(2), basis, &registry(), 0).unwrap();
        assert!(first.models == models, "pieces of {room} bytes");
        at_block += usize::from(first.end.is_multiple_of(BLOCK));
    }
    assert!(at_block > 0, "none ended where a block does");
}

#[test]
fn many_values_that_change_at_once_are_split() {
    let mut registry = Registry::default();
    for name in ["a", "b", "c", "d"] {
        registry.register(Kind { name: name.into(), shape: Shape::Bytes });
    }
    let of = |tick, byte: u8| {
        let mut record = Record::new(entity(1), 0, Orphan::Adopt);
        (0..4).for_each(|kind| record.set(KindId(kind), Value::bytes(vec![byte; 400])));
        let models = Arc::new(Models::new(&registry));
        Snapshot::whole(Tick(tick), MeshTime(0), Arc::new(vec![Arc::new(record)]), models)
    };
    let (old, new) = (of(1, 1), of(2, 2));
    let basis = Some(Basis { baseline: &old, reference: None });
    let (pieces, _) = encode(&new, basis, &registry, 1_000);
    assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.bytes.len() <= 1_000));
    let mut assembler = Assembler::default();
    for piece in &pieces {
        for item in decode(&piece.bytes, Tick(2), basis, &registry, 9).unwrap().items {
            assembler.add(item, Some(&old), &Limits::default()).unwrap();
        }
    }
    assert_eq!(assembler.finish().unwrap(), *new.records);
}
