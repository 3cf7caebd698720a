use yrs::{Array, Map, MapPrelim, Text, WriteTxn};

use super::*;

/// Chances from a seed: xorshift, for choices only.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

fn dice(seed: u64) -> Dice {
    Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

fn say(replica: &mut Replica, text: &str) -> Bytes {
    replica.edit(|txn| txn.get_or_insert_text("text").push(txn, text)).unwrap().1.unwrap()
}

fn text(replica: &Replica) -> String {
    replica.read(|txn| txn.get_text("text").map(|text| yrs::GetString::get_string(&text, txn)).unwrap_or_default())
}

/// Something at random, anywhere in the document.
fn scribble(replica: &mut Replica, dice: &mut Dice) -> Option<Bytes> {
    let (choice, place, word) = (dice.roll(6), dice.roll(1_000) as u32, format!("{} ", dice.roll(100)));
    let edit = |txn: &mut TransactionMut<'_>| {
        let (text, list, map) = (txn.get_or_insert_text("text"), txn.get_or_insert_array("list"), txn.get_or_insert_map("map"));
        let (chars, items) = (yrs::GetString::get_string(&text, txn).len() as u32, list.len(txn));
        match choice {
            0 => text.insert(txn, place % (chars + 1), &word),
            1 if chars > 0 => text.remove_range(txn, place % chars, 1),
            2 => drop(list.insert(txn, place % (items + 1), word)),
            3 if items > 0 => list.remove(txn, place % items),
            4 => drop(map.insert(txn, format!("{}", place % 5), MapPrelim::from([("by", word)]))),
            5 => drop(map.remove(txn, &format!("{}", place % 5))),
            _ => {}
        }
    };
    replica.edit(edit).unwrap().1
}

/// Both learn what the other has.
fn meet(replicas: &mut [Replica], a: usize, b: usize) {
    let (to_b, to_a) = (replicas[a].since(replicas[b].version()), replicas[b].since(replicas[a].version()));
    replicas[b].take(&to_b).unwrap();
    replicas[a].take(&to_a).unwrap();
}

/// What is in the text, the list and the map; one that was never made is an empty one.
fn contents(replica: &Replica) -> (String, String, BTreeMap<String, String>) {
    use yrs::types::ToJson;
    replica.read(|txn| {
        let list = txn.get_array("list").map(|list| list.to_json(txn).to_string());
        let map = match txn.get_map("map").map(|map| map.to_json(txn)) {
            Some(yrs::Any::Map(map)) => map.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
            _ => BTreeMap::new(),
        };
        let text = txn.get_text("text").map(|text| yrs::GetString::get_string(&text, txn));
        (text.unwrap_or_default(), list.unwrap_or_else(|| "[]".into()), map)
    })
}

/// Three edit at the same time and meet in any order, over a thousand seeds: all end with the same.
#[test]
fn three_way_concurrent_edits_end_equal() {
    for seed in 1..=1_000 {
        let mut dice = dice(seed);
        let mut replicas: Vec<Replica> = (1..=3).map(Replica::new).collect();
        for _ in 0..20 {
            let who = dice.roll(3);
            let update = scribble(&mut replicas[who], &mut dice);
            // Some hear of it at once, others when they meet somebody.
            if let Some(update) = update
                && dice.roll(3) == 0
            {
                _ = replicas[(who + 1) % 3].take(&update);
            }
            if dice.roll(4) == 0 {
                meet(&mut replicas, who, (who + 1 + dice.roll(2)) % 3);
            }
        }
        // Never all three: what one has of another it passes on.
        meet(&mut replicas, 0, 1);
        meet(&mut replicas, 1, 2);
        meet(&mut replicas, 0, 1);
        let first = (replicas[0].version().clone(), contents(&replicas[0]));
        for replica in &replicas {
            assert_eq!((replica.version().clone(), contents(replica)), first, "seed {seed}");
        }
        let loaded = Replica::load(9, &replicas[2].encode()).unwrap();
        assert_eq!((loaded.version().clone(), contents(&loaded)), first, "seed {seed}: from disk");
    }
}

/// Bytes that others made: random ones, cut ones, and true ones with some changed, over many seeds. Nothing panics, nothing grows, and
/// whatever is refused changes nothing.
#[test]
fn hostile_bytes_change_nothing_and_bring_nothing_down() {
    let mut author = Replica::new(1);
    let mut updates: Vec<Bytes> = Vec::new();
    let mut at_work = dice(7);
    for _ in 0..200 {
        updates.extend(scribble(&mut author, &mut at_work));
    }
    updates.push(author.encode());
    for seed in 1..=5_000 {
        let mut dice = dice(seed);
        let mut victim = Replica::load(2, &author.encode()).unwrap();
        for _ in 0..4 {
            let mut bytes = updates[dice.roll(updates.len())].to_vec();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len());
                match dice.roll(5) {
                    0 => bytes[at] = dice.roll(256) as u8,
                    1 => bytes[at] ^= 1 << dice.roll(8),
                    2 => bytes.truncate(at.max(1)),
                    3 => bytes.insert(at, dice.roll(256) as u8),
                    _ => {
                        let from = dice.roll(bytes.len());
                        let piece = bytes[from..(from + 8).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            let (before, said) = (victim.version().clone(), victim.encode());
            if victim.take(&bytes).is_err() {
                assert_eq!(victim.version(), &before, "seed {seed}: {bytes:?}");
                assert_eq!(victim.encode().len(), said.len(), "seed {seed}");
            }
            assert!(victim.base.len() + victim.log_bytes <= 2 * DOCUMENT_BYTES_MAX);
        }
        // It still works.
        say(&mut victim, "still here");
        assert!(text(&victim).contains("still here"), "seed {seed}");
    }
}

#[test]
fn what_builds_on_what_is_missing_waits_for_nobody() {
    let (mut ann, mut bob) = (Replica::new(1), Replica::new(2));
    let first = say(&mut ann, "one ");
    let second = say(&mut ann, "two");
    assert_eq!(bob.take(&second), Err(Refusal::Missing));
    assert_eq!(bob.version(), Replica::new(3).version());
    assert_eq!(bob.take(&first), Ok(true));
    assert_eq!(bob.take(&second), Ok(true));
    assert_eq!((bob.take(&second), text(&bob)), (Ok(false), "one two".into()));
}

#[test]
fn a_document_has_a_largest_size_and_is_compacted() {
    let mut ann = Replica::new(1);
    let page = "x".repeat(100_000);
    // What is deleted does not count.
    for _ in 0..100 {
        ann.edit(|txn| {
            let text = txn.get_or_insert_text("text");
            let len = yrs::GetString::get_string(&text, txn).len() as u32;
            text.remove_range(txn, 0, len);
            text.push(txn, &page);
        })
        .unwrap();
    }
    assert!(ann.base.len() + ann.log_bytes < 500_000, "{} + {}", ann.base.len(), ann.log_bytes);
    let mut pages = 1;
    let error = loop {
        let outcome = ann.edit(|txn| txn.get_or_insert_text("text").push(txn, &page));
        match outcome {
            Ok(_) => pages += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((error, pages), (EditError::TooLong, DOCUMENT_BYTES_MAX / 100_000));
    assert_eq!(text(&ann).len(), pages * 100_000, "as it was");
    ann.edit(|txn| txn.get_or_insert_text("text").remove_range(txn, 0, 100_000)).unwrap();
    say(&mut ann, "and there is room again");
    // The same of what others send.
    let mut bob = Replica::new(2);
    bob.take(&ann.encode()).unwrap();
    let more = {
        let mut other = Replica::new(3);
        say(&mut other, &page);
        say(&mut other, &page);
        other.encode()
    };
    let before = bob.version().clone();
    assert_eq!(bob.take(&more), Err(Refusal::TooLong));
    assert_eq!(bob.version(), &before);
}

#[test]
fn what_others_would_refuse_is_refused_here() {
    let mut ann = Replica::new(1);
    say(&mut ann, "hello");
    let outcome = ann.edit(|txn| {
        txn.get_or_insert_text("text").push(txn, " there");
        let fragment = txn.get_or_insert_xml_fragment("xml");
        yrs::XmlFragment::push_back(&fragment, txn, yrs::XmlElementPrelim::empty("p"));
    });
    assert_eq!(outcome.err(), Some(EditError::Unsupported));
    assert_eq!(text(&ann), "hello");
}
