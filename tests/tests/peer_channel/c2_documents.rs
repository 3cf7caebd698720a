//! C2.10 and C2.11: party planning, shared documents, offline access.

use bytes::Bytes;
use peerflock::service::documents::yrs::{Array, GetString, ReadTxn, Text, WriteTxn};
use peerflock::service::documents::{Documents, Engine};
use peerflock::service::sim::ServiceSim;
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, PeerMesh, PeerMeshBuilder};
use peerflock_proto::Identity;
use peerflock_proto::sim::{Options, Sim};
use peerflock_tests::game::{config, millis, seconds};

use super::services;

fn open(mesh: &mut ServiceSim<Engine>, index: usize, kept: Option<&[u8]>) {
    mesh.act(index, |engine, now| engine.open("plan".parse().unwrap(), kept, now)).unwrap();
}

fn write(mesh: &mut ServiceSim<Engine>, index: usize, text: &str) {
    let plan = "plan".parse().unwrap();
    let edit = |txn: &mut peerflock::service::documents::yrs::TransactionMut<'_>| {
        let list = txn.get_or_insert_array("to bring");
        list.push_back(txn, text);
        txn.get_or_insert_text("notes").insert(txn, 0, text);
    };
    mesh.act(index, |engine, now| engine.edit(&plan, edit, now)).unwrap();
}

fn notes(mesh: &ServiceSim<Engine>, index: usize) -> String {
    let plan = "plan".parse().unwrap();
    let read = |txn: &peerflock::service::documents::yrs::Transaction<'_>| {
        txn.get_text("notes").map(|text| text.get_string(txn)).unwrap_or_default()
    };
    mesh.service(index).read(&plan, read).unwrap()
}

fn hash(mesh: &ServiceSim<Engine>, index: usize) -> [u8; 16] {
    mesh.service(index).hash(&"plan".parse().unwrap()).unwrap()
}

/// Everybody edits at the same time, over links that lose; after some quiet all have the same, and nothing is lost.
#[test]
fn c2_10_concurrent_edits_end_equal_everywhere() {
    for seed in 1..=3 {
        let options = Options { seed, loss: 0.05, jitter: millis(20), ..Options::default() };
        let mut mesh = services(options, 12, Engine::new);
        (0..12).for_each(|index| open(&mut mesh, index, None));
        for round in 0..5 {
            for index in 0..12 {
                write(&mut mesh, index, &format!("<{index}.{round}>"));
            }
            mesh.run(millis(50));
        }
        mesh.run(seconds(5));
        for index in 0..12 {
            assert_eq!(hash(&mesh, index), hash(&mesh, 0), "member {index}, {options:?}");
            let notes = notes(&mesh, index);
            let all = (0..12).all(|index| (0..5).all(|round| notes.contains(&format!("<{index}.{round}>"))));
            assert!(all, "member {index}, {options:?}: {notes}");
        }
    }
}

/// A document longer than a message, opened by somebody new; and both halves of a split go on writing.
#[test]
fn c2_10_long_documents_and_splits_end_equal() {
    let mut mesh = services(Options::default(), 8, Engine::new);
    (0..7).for_each(|index| open(&mut mesh, index, None));
    mesh.run(seconds(1));
    for n in 0..20 {
        write(&mut mesh, n % 7, &"long ".repeat(2_000));
        mesh.run(millis(100));
    }
    // In one edit more than a message holds.
    write(&mut mesh, 3, &"very long ".repeat(10_000));
    mesh.run(seconds(3));
    open(&mut mesh, 7, None);
    mesh.run(seconds(4));
    assert!(notes(&mesh, 7).len() >= 300_000);
    for index in 0..8 {
        assert_eq!(hash(&mesh, index), hash(&mesh, 0), "member {index}");
    }
    (0..4).for_each(|one| (4..8).for_each(|other| mesh.sim.cut(one, other)));
    mesh.run(seconds(4));
    write(&mut mesh, 0, "<left>");
    write(&mut mesh, 7, "<right>");
    mesh.run(seconds(2));
    assert_ne!(hash(&mesh, 0), hash(&mesh, 7));
    mesh.sim.heal();
    (0..8).for_each(|index| mesh.sim.introduce(index, (index + 4) % 8));
    mesh.run(seconds(10));
    for index in 0..8 {
        assert_eq!(hash(&mesh, index), hash(&mesh, 0), "member {index}");
        assert!(notes(&mesh, index).contains("<left>") && notes(&mesh, index).contains("<right>"));
    }
}

/// A edits alone and leaves. B, who was away all the time, gets it from C, who met A in between.
#[test]
fn c2_11_what_was_written_offline_arrives_through_a_third() {
    let mut sim = Sim::new(Options::default());
    let (a, b, c) = (sim.add(config(7), [7; 32]), sim.add(config(7), [7; 32]), sim.add(config(7), [7; 32]));
    // A and B never see each other.
    sim.cut(a, b);
    let mut mesh = ServiceSim::new(sim);
    for index in [a, b, c] {
        let engine = Engine::new(mesh.sim.node(index));
        mesh.start(index, engine);
        open(&mut mesh, index, None);
    }
    write(&mut mesh, a, "<a, alone>");
    write(&mut mesh, b, "<b, alone>");
    mesh.run(seconds(2));
    mesh.sim.introduce(c, a);
    mesh.run(seconds(4));
    assert_eq!(notes(&mesh, c), "<a, alone>");
    // A goes for good, and keeps its copy.
    let kept: Bytes = mesh.service(a).encode(&"plan".parse().unwrap()).unwrap();
    mesh.crash(a);
    mesh.run(seconds(4));
    write(&mut mesh, c, "<c>");
    mesh.sim.introduce(b, c);
    mesh.run(seconds(5));
    assert_eq!(hash(&mesh, b), hash(&mesh, c));
    let all = notes(&mesh, b);
    assert!(["<a, alone>", "<b, alone>", "<c>"].iter().all(|text| all.contains(text)), "{all}");
    // A again, from its disk, in another life.
    let again = mesh.sim.add(config(7), [7; 32]);
    mesh.sim.introduce(again, c);
    let engine = Engine::new(mesh.sim.node(again));
    mesh.start(again, engine);
    open(&mut mesh, again, Some(&kept));
    write(&mut mesh, again, "<a, again>");
    mesh.run(seconds(5));
    for index in [b, c, again] {
        assert_eq!(hash(&mesh, index), hash(&mesh, b));
        assert!(notes(&mesh, index).contains("<a, again>"));
    }
}

/// The same on real QUIC, with files: closed, opened again, edited alone, and met.
#[tokio::test(start_paused = true)]
async fn c2_11_what_is_kept_on_disk_is_worked_on_alone_and_shared_later() {
    let folder = std::env::temp_dir().join(format!("peerflock-plan-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |who: &str| Some(folder.join(who));
    let network = VirtualNetwork::new(3, Conditioner::with_delay(millis(10)));
    let builder = |n: u8| -> PeerMeshBuilder {
        let builder = PeerMesh::named("party").secret([42; 32]).identity(Identity::from_seed([n; 32]));
        builder.seed([n; 32]).lan(false).socket(network.socket())
    };
    let add = |plan: &peerflock::service::documents::Document, what: &str| {
        plan.edit(|txn| txn.get_or_insert_array("to bring").push_back(txn, what)).unwrap();
    };
    // Ann plans alone, and stops.
    {
        let ann = builder(1).start().await.unwrap();
        let documents = Documents::join(&ann).unwrap();
        let plan = documents.open("plan", path("ann")).unwrap();
        assert!(documents.open("plan", None).is_err(), "open already");
        add(&plan, "cake");
        plan.save().unwrap();
        add(&plan, "candles");
        drop(plan);
        ann.leave().await;
    }
    let ann = builder(3).start().await.unwrap();
    let anns = Documents::join(&ann).unwrap();
    let plan = anns.open("plan", path("ann")).unwrap();
    let bob = builder(4).join(ann.ticket()).start().await.unwrap();
    let bobs = Documents::join(&bob).unwrap();
    let mut theirs = bobs.open("plan", path("bob")).unwrap();
    add(&theirs, "music");
    while theirs.hash() != plan.hash() {
        assert!(tokio::time::timeout(seconds(10), theirs.changed()).await.unwrap());
    }
    let items = |plan: &peerflock::service::documents::Document| {
        plan.read(|txn| txn.get_array("to bring").map_or(0, |list| list.len(txn))).unwrap()
    };
    assert_eq!((items(&plan), items(&theirs)), (3, 3));
    bob.leave().await;
    assert!(!theirs.changed().await, "the mesh is left");
    drop(theirs);
    std::fs::write(folder.join("bob"), b"peerflock document 1\nnonsense").unwrap();
    assert!(anns.open("other", path("bob")).is_err(), "a damaged file is said, and left as it is");
    std::fs::remove_dir_all(&folder).unwrap();
}
