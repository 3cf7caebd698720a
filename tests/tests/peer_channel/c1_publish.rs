//! C1: publish and subscribe: tickers, headlines, scores, weather.

use std::collections::BTreeSet;

use bytes::Bytes;
use peerflock::service::sim::ServiceSim;
use peerflock::service::topics::{Engine, Published, SubscribeOptions, Topics};
use peerflock::test_utils::VirtualNetwork;
use peerflock::{Conditioner, PeerMesh};
use peerflock_proto::sim::Options;
use peerflock_proto::{Identity, PeerId};
use peerflock_tests::game::{millis, seconds};
use tokio::time::timeout;

use super::services;

/// Something heard: on which topic, from whom, what, and whether it was kept from before.
type Heard = (String, PeerId, String, bool);

fn mesh(count: usize, options: Options) -> ServiceSim<Engine> {
    services(options, count, Engine::new)
}

fn subscribe(mesh: &mut ServiceSim<Engine>, index: usize, pattern: &str, options: SubscribeOptions) -> u64 {
    mesh.act(index, |engine, now| engine.subscribe(pattern.parse().unwrap(), options, now)).unwrap()
}

fn follow(mesh: &mut ServiceSim<Engine>, index: usize, pattern: &str) {
    subscribe(mesh, index, pattern, SubscribeOptions::default());
}

fn publish(mesh: &mut ServiceSim<Engine>, index: usize, topic: &str, text: impl Into<String>) {
    let payload = Bytes::from(text.into());
    mesh.act(index, |engine, now| engine.publish(&topic.parse().unwrap(), payload, now)).unwrap();
}

fn heard(mesh: &mut ServiceSim<Engine>, index: usize) -> Vec<Heard> {
    let told = mesh.take_told(index).into_iter().map(|(_, told)| told);
    let text = |payload: &Bytes| String::from_utf8_lossy(payload).into_owned();
    told.map(|told| (told.topic().to_string(), told.publisher(), text(told.payload()), told.is_retained())).collect()
}

/// What was heard, without the rest.
fn texts(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|(_, _, text, _)| text.as_str()).collect()
}

/// What a node has handed to its links, in bytes.
fn sent(mesh: &ServiceSim<Engine>, index: usize) -> u64 {
    let counters = mesh.sim.node(index).counters();
    counters.frame_bytes_sent + counters.datagram_bytes_sent
}

/// Whoever knows the mesh's name and its secret hears the next item: real QUIC, no server, no third program.
#[tokio::test(start_paused = true)]
async fn c1_1_the_name_of_the_mesh_is_all_a_reader_needs() {
    let network = VirtualNetwork::new(1, Conditioner::with_delay(millis(10)));
    let builder =
        |n: u8| PeerMesh::named("sports day").secret([42; 32]).identity(Identity::from_seed([n; 32])).seed([n; 32]).lan(false);
    let publisher = builder(1).socket(network.socket()).start().await.unwrap();
    let topics = Topics::join(&publisher).unwrap();
    let reader = builder(2).socket(network.socket()).join(publisher.ticket()).start().await.unwrap();
    let mut scores = Topics::join(&reader).unwrap().subscribe::<(u8, u8)>("scores/*", SubscribeOptions::default()).unwrap();
    tokio::time::sleep(seconds(1)).await;
    topics.publish("scores/tennis", &(6_u8, 4_u8)).unwrap();
    let item = timeout(seconds(2), scores.next()).await.unwrap().unwrap();
    let (topic, publisher_id) = ("scores/tennis".parse().unwrap(), publisher.id());
    assert_eq!(item, Published { topic, publisher: publisher_id, value: (6, 4), retained: false });
    // What is no pair of numbers is left out, and counted.
    topics.publish("scores/chess", "draw").unwrap();
    topics.publish("scores/tennis", &(7_u8, 5_u8)).unwrap();
    assert_eq!(timeout(seconds(2), scores.next()).await.unwrap().map(|item| item.value), Some((7, 5)));
    assert_eq!(scores.unread(), 1);
    reader.leave().await;
    assert_eq!(scores.next().await, None, "the end of the mesh is the end of the subscription");
}

/// Ten readers or a hundred: what leaves the publisher for an item is at most one copy for each of its links, and does not grow.
#[test]
fn c1_2_a_publishers_load_stays_as_readers_grow() {
    const ITEMS: usize = 15;
    const LENGTH: usize = 4_000;
    let mut mesh = mesh(101, Options::default());
    let cost = |mesh: &mut ServiceSim<Engine>, readers: std::ops::RangeInclusive<usize>| {
        let all = *readers.end();
        readers.for_each(|index| follow(mesh, index, "news"));
        mesh.run(seconds(3));
        let quiet = sent(mesh, 0);
        mesh.run(millis(1_500));
        let before = sent(mesh, 0);
        for _ in 0..ITEMS {
            publish(mesh, 0, "news", "x".repeat(LENGTH));
            mesh.run(millis(100));
        }
        let spent = (sent(mesh, 0) - before).saturating_sub(before - quiet);
        mesh.run(seconds(2));
        for index in 1..=all {
            let heard = heard(mesh, index).into_iter().filter(|(.., retained)| !retained);
            assert_eq!(heard.count(), ITEMS, "reader {index} of {all}");
        }
        let links = mesh.sim.node(0).links().len();
        let copies = spent as f64 / (ITEMS * LENGTH) as f64;
        assert!(copies <= links as f64, "{copies} copies over {links} links for {all} readers");
        copies
    };
    let (few, many) = (cost(&mut mesh, 1..=10), cost(&mut mesh, 11..=100));
    assert!(many <= 1.3 * few.max(4.0), "{few} copies for 10 readers, {many} for 100");
}

/// Thirty readers, losses, doubles and jitter: each item at each reader, once, in order, and the crash of a tenth of them changes
/// nothing for the rest.
#[test]
fn c1_3_each_reader_gets_each_item_once() {
    let options = Options { loss: 0.05, duplicates: 0.05, jitter: millis(20), ..Options::default() };
    let mut mesh = mesh(30, options);
    (1..30).for_each(|index| follow(&mut mesh, index, "scores/football"));
    mesh.run(seconds(3));
    for n in 0..40 {
        publish(&mut mesh, 0, "scores/football", n.to_string());
        if n == 20 {
            (27..30).for_each(|index| drop(mesh.crash(index)));
        }
        mesh.run(millis(100));
    }
    mesh.run(seconds(8));
    let expected: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    for index in 1..27 {
        assert_eq!(texts(&heard(&mut mesh, index)), expected, "reader {index}, {options:?}");
    }
}

#[test]
fn c1_4_any_number_of_publishers() {
    let mut mesh = mesh(20, Options::default());
    (0..20).for_each(|index| follow(&mut mesh, index, "quotes/**"));
    mesh.run(seconds(3));
    for round in 0..5 {
        for index in 0..10 {
            publish(&mut mesh, index, &format!("quotes/{}", index % 3), format!("{index}.{round}"));
        }
        mesh.run(millis(100));
    }
    mesh.run(seconds(5));
    let expected: BTreeSet<String> = (0..10).flat_map(|index| (0..5).map(move |round| format!("{index}.{round}"))).collect();
    for index in 0..20 {
        let heard = heard(&mut mesh, index);
        assert_eq!(heard.len(), expected.len(), "reader {index}");
        assert_eq!(heard.iter().map(|(_, _, text, _)| text.clone()).collect::<BTreeSet<_>>(), expected, "reader {index}");
    }
}

/// Each hears what it subscribed to and nothing else; and only those who subscribed, and those on the way to them, carry it.
#[test]
fn c1_5_topics_do_not_see_each_other() {
    const ITEMS: usize = 20;
    const LENGTH: usize = 10_000;
    let mut mesh = mesh(40, Options::default());
    (1..6).for_each(|index| follow(&mut mesh, index, "a/one"));
    (6..11).for_each(|index| follow(&mut mesh, index, "a/two"));
    (11..13).for_each(|index| follow(&mut mesh, index, "a/*"));
    mesh.run(seconds(3));
    let all_sent = |mesh: &ServiceSim<Engine>| (0..40).map(|index| sent(mesh, index)).collect::<Vec<u64>>();
    let quiet = all_sent(&mesh);
    mesh.run(seconds(4));
    let before = all_sent(&mesh);
    for n in 0..ITEMS {
        publish(&mut mesh, 0, "a/one", format!("{n}{}", "1".repeat(LENGTH)));
        publish(&mut mesh, 0, "a/two", format!("{n}{}", "2".repeat(LENGTH)));
        publish(&mut mesh, 0, "a/two/more", "nobody wants this");
        mesh.run(millis(100));
    }
    mesh.run(seconds(2));
    let after = all_sent(&mesh);
    for index in 1..40 {
        let heard = heard(&mut mesh, index);
        let on = |topic: &str| heard.iter().filter(|(on, ..)| on == topic).count();
        let (one, two) = (index < 6 || (11..13).contains(&index), (6..13).contains(&index));
        assert_eq!((on("a/one"), on("a/two")), (usize::from(one) * ITEMS, usize::from(two) * ITEMS), "reader {index}");
        assert_eq!(heard.len(), on("a/one") + on("a/two"), "reader {index}");
    }
    // One copy to each of 14 readers, over some two links each: of 39 others, most carry none.
    let carried = |index: usize| (after[index] - before[index]).saturating_sub(before[index] - quiet[index]) as usize;
    let carriers = (0..40).filter(|index| carried(*index) > ITEMS * LENGTH / 2).count();
    let total: usize = (0..40).map(carried).sum();
    assert!(carriers <= 28, "{carriers} members carry what 14 read");
    assert!(total <= 3 * 14 * ITEMS * LENGTH, "{total} bytes");
}

/// Items of a publisher who is not accepted do not reach the application, nor does what somebody altered on the way.
#[test]
fn c1_6_only_what_an_accepted_publisher_signed_arrives() {
    let mut mesh = mesh(10, Options::default());
    let accepted = mesh.sim.peer(0);
    let options = SubscribeOptions { publishers: Some([accepted].into()), ..SubscribeOptions::default() };
    subscribe(&mut mesh, 2, "news", options);
    follow(&mut mesh, 3, "news");
    mesh.run(seconds(3));
    publish(&mut mesh, 0, "news", "from the agency");
    publish(&mut mesh, 1, "news", "from somebody");
    mesh.run(seconds(2));
    assert_eq!(texts(&heard(&mut mesh, 2)), ["from the agency"]);
    assert_eq!(heard(&mut mesh, 3).len(), 2);

    // Node 9 hears an item as a reader would, and passes it on altered: in its text, its number, its publisher.
    let genuine = {
        let (from, to) = (mesh.sim.peer(0), 9);
        follow(&mut mesh, to, "news");
        mesh.run(seconds(2));
        mesh.stop(to);
        publish(&mut mesh, 0, "news", "untouched");
        mesh.run(seconds(1));
        let said = mesh.take_events(to).into_iter().filter_map(|(_, event)| match event {
            peerflock_proto::Event::Message { from: by, topic, payload, .. } if topic.0 == 128 && by == from => Some(payload),
            _ => None,
        });
        said.last().expect("a child of the publisher, or of another: see below")
    };
    let before = mesh.service(3).counters().forged;
    let place = genuine.windows(9).position(|window| window == b"untouched").expect("not encrypted for members");
    // Its text, its number or what comes after, and a byte of its signature.
    for at in [place, place - 3, place - 30, genuine.len() - 1] {
        let mut altered = genuine.to_vec();
        altered[at] ^= 1;
        let to = mesh.sim.peer(3);
        mesh.sim
            .with(9, |node, now| node.send(peerflock_proto::Target::One(to), peerflock_proto::Topic(128), altered.into(), now))
            .unwrap();
        mesh.run(millis(200));
    }
    mesh.run(seconds(1));
    assert_eq!(texts(&heard(&mut mesh, 3)), ["untouched"]);
    let counters = mesh.service(3).counters();
    assert!(counters.forged + counters.malformed + counters.duplicates > before, "{counters:?}");
}

/// Whoever comes late has the last value of each topic, or as many as wanted: also when the publisher has left.
#[test]
fn c1_7_a_late_subscriber_has_the_last_value() {
    let mut mesh = mesh(30, Options::default());
    (1..5).for_each(|index| follow(&mut mesh, index, "weather/*"));
    mesh.run(seconds(2));
    for n in 0..10 {
        publish(&mut mesh, 0, "weather/oslo", format!("oslo {n}"));
        publish(&mut mesh, 5, "weather/rome", format!("rome {n}"));
        mesh.run(millis(50));
    }
    follow(&mut mesh, 20, "weather/oslo");
    mesh.run(seconds(2));
    assert_eq!(
        heard(&mut mesh, 20).into_iter().map(|(_, _, text, kept)| (text, kept)).collect::<Vec<_>>(),
        [("oslo 9".into(), true)]
    );
    mesh.crash(0);
    mesh.run(seconds(3));
    follow(&mut mesh, 21, "weather/*");
    subscribe(&mut mesh, 22, "weather/**", SubscribeOptions { history: 3, publishers: None });
    mesh.run(seconds(3));
    assert_eq!(texts(&heard(&mut mesh, 21)), ["oslo 9", "rome 9"]);
    let mut three = heard(&mut mesh, 22);
    three.sort();
    assert_eq!(texts(&three), ["oslo 7", "oslo 8", "oslo 9", "rome 7", "rome 8", "rome 9"]);
    // And what comes next, once.
    publish(&mut mesh, 5, "weather/rome", "rain");
    mesh.run(seconds(1));
    assert_eq!(heard(&mut mesh, 21).last().map(|(_, _, text, kept)| (text.as_str(), *kept)), Some(("rain", false)));
    assert_eq!(texts(&heard(&mut mesh, 22)), ["rain"]);
}

/// A split: each half goes on by itself, and afterwards everybody has what was published in the other.
#[test]
fn c1_7_what_was_published_beyond_a_split_is_caught_up_with() {
    let mut mesh = mesh(20, Options::default());
    (0..20).for_each(|index| follow(&mut mesh, index, "log"));
    publish(&mut mesh, 0, "log", "before");
    mesh.run(seconds(3));
    for one in 0..10 {
        (10..20).for_each(|other| mesh.sim.cut(one, other));
    }
    mesh.run(seconds(5));
    publish(&mut mesh, 0, "log", "left half");
    publish(&mut mesh, 0, "log", "left half, still");
    mesh.run(seconds(2));
    assert_eq!(texts(&heard(&mut mesh, 15)), ["before"]);
    mesh.sim.heal();
    (0..20).for_each(|index| mesh.sim.introduce(index, (index + 10) % 20));
    mesh.run(seconds(15));
    for index in 11..20 {
        let all = heard(&mut mesh, index);
        let news = texts(&all).into_iter().filter(|text| *text != "before").collect::<Vec<_>>();
        assert_eq!(news, ["left half", "left half, still"], "reader {index}");
    }
}
