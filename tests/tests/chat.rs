//! Chat among many, in virtual time: each line once and in order on lossy links, the past for who comes late, floods, forgeries,
//! and what people type to break things.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may fail anywhere")]

use std::collections::{BTreeMap, BTreeSet};

use peerflock::service::Service;
use peerflock::service::chat::{
    Audience, ChatEvent, ChatLine, Engine, HISTORY_LINES_MAX, LineId, SayError, TYPING_SHOWN, lawless_line, main_channel, pace,
    text,
};
use peerflock::service::sim::ServiceSim;
use peerflock_proto::sim::{Options, Sim, remember_signatures};
use peerflock_proto::{Config, NeighborLimits, PeerId, Target};
use peerflock_tests::game::{millis, seconds};

type Chats = ServiceSim<Engine>;

fn config() -> Config {
    Config { neighbors: NeighborLimits::with_max(7), ..Config::default() }
}

/// A mesh of `count` nodes with up to seven neighbors each, and chat on all of them.
fn chats(options: Options, count: usize) -> Chats {
    remember_signatures();
    let mut sim = Sim::mesh(options, count, &config(), seconds(30));
    sim.run(seconds(3));
    let mut chats = ServiceSim::new(sim);
    (0..count).for_each(|index| start(&mut chats, index));
    chats.run(seconds(6));
    chats
}

fn start(chats: &mut Chats, index: usize) {
    let engine = Engine::new(chats.sim.node(index));
    chats.start(index, engine);
}

/// One more comes, by way of node 0.
fn newcomer(chats: &mut Chats) -> usize {
    let index = chats.sim.add(config(), [7; 32]);
    chats.sim.introduce(index, 0);
    chats.run(seconds(4));
    start(chats, index);
    index
}

fn say(chats: &mut Chats, index: usize, line: &str) -> Result<LineId, SayError> {
    chats.act(index, |engine, now| engine.say(&main_channel(), line, &[], now))
}

fn events(chats: &mut Chats, index: usize) -> Vec<ChatEvent> {
    chats.take_told(index).into_iter().map(|(_, event)| event).collect()
}

/// What was said just now.
fn said(chats: &mut Chats, index: usize) -> Vec<ChatLine> {
    let said = |event| if let ChatEvent::Said(line) = event { Some(line) } else { None };
    events(chats, index).into_iter().filter_map(said).collect()
}

fn log(chats: &Chats, index: usize) -> Vec<ChatLine> {
    chats.service(index).lines(&main_channel())
}

fn texts(lines: &[ChatLine]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// Fifty people, a tenth of all packets lost: everybody hears each line once, in its author's order, and all logs end alike. Who
/// comes then has the last two hundred.
#[test]
fn fifty_hear_each_line_once_in_order_and_a_late_joiner_has_the_last_two_hundred() {
    const COUNT: usize = 50;
    const LINES: usize = 5;
    let options = Options { loss: 0.1, jitter: millis(20), seed: 7, ..Options::default() };
    let mut chats = chats(options, COUNT);
    for line in 0..LINES {
        for index in 0..COUNT {
            let text = format!("{index}: {line}");
            say(&mut chats, index, &text).unwrap_or_else(|error| panic!("{error}: {text}, {options:?}"));
            chats.run(millis(23));
        }
    }
    chats.run(seconds(6));
    let first = log(&chats, 0);
    assert_eq!(first.len(), HISTORY_LINES_MAX);
    for index in 0..COUNT {
        let mut heard: BTreeMap<PeerId, Vec<u64>> = BTreeMap::new();
        for line in said(&mut chats, index) {
            heard.entry(line.author).or_default().push(line.id.unwrap().number);
        }
        assert_eq!(heard.len(), COUNT, "node {index}, {options:?}");
        for (author, numbers) in heard {
            assert_eq!(numbers, (1..=LINES as u64).collect::<Vec<_>>(), "{author} at node {index}, {options:?}");
        }
        assert_eq!(log(&chats, index), first, "the log of node {index} differs, {options:?}");
    }
    // Those who were there are gone from the mesh or not: it is all the same, as long as one of them is here.
    (1..6).for_each(|index| drop(chats.crash(index)));
    chats.run(seconds(3));
    let late = newcomer(&mut chats);
    chats.run(seconds(4));
    assert_eq!(log(&chats, late), first, "{options:?}");
    let told = events(&mut chats, late);
    let earlier = told.iter().filter(|event| matches!(event, ChatEvent::Earlier(_))).count();
    assert_eq!((earlier, told.len()), (HISTORY_LINES_MAX, HISTORY_LINES_MAX), "{options:?}");
    // And goes on from there.
    say(&mut chats, late, "hello").unwrap();
    say(&mut chats, 0, "hi").unwrap();
    chats.run(seconds(3));
    assert_eq!(log(&chats, 20), log(&chats, late), "{options:?}");
}

/// Lines that are said while somebody comes, by all, over lossy links: none is missing in the end.
#[test]
fn what_is_said_while_somebody_comes_is_not_lost() {
    for seed in 1..=2 {
        let options = Options { loss: 0.1, seed, ..Options::default() };
        let mut chats = chats(options, 12);
        let late = chats.sim.add(config(), [7; 32]);
        chats.sim.introduce(late, 3);
        for step in 0..60 {
            if step == 30 {
                start(&mut chats, late);
            }
            say(&mut chats, step % 12, &format!("step {step}")).unwrap();
            chats.run(millis(150));
        }
        chats.run(seconds(8));
        assert_eq!(log(&chats, 0).len(), 60, "{options:?}");
        assert_eq!(texts(&log(&chats, late)), texts(&log(&chats, 0)), "{options:?}");
    }
}

/// Somebody's program floods. Everybody else shows what the pace allows and then nothing more of it, and all others as before.
#[test]
fn a_flooder_is_muted_and_nobody_else() {
    let mut chats = chats(Options::default(), 6);
    let mut number = 0;
    for second in 0..20 {
        for _ in 0..20 {
            number += 1;
            lawless(&mut chats, 5, number, "spam");
            chats.run(millis(50));
        }
        if second % 2 == 0 {
            say(&mut chats, 1, &format!("calm {second}")).unwrap();
        }
    }
    chats.run(seconds(2));
    let spammer = chats.sim.peer(5);
    for index in 0..5 {
        let events = events(&mut chats, index);
        let lines = events.iter().filter_map(|event| if let ChatEvent::Said(line) = event { Some(line) } else { None });
        let (spam, calm): (Vec<_>, Vec<_>) = lines.partition(|line| line.author == spammer);
        assert_eq!(calm.len(), 10, "node {index}");
        assert!(spam.len() <= pace::OTHERS.burst as usize + 3, "node {index} showed {} lines of 400", spam.len());
        assert_eq!(events.iter().filter(|event| **event == ChatEvent::Flooding(spammer)).count(), 1, "node {index}");
    }
    // It calms down, and is heard again when its time is over.
    chats.run(pace::FLOOD_MUTE);
    lawless(&mut chats, 5, number + 1, "sorry");
    chats.run(seconds(1));
    assert_eq!(texts(&said(&mut chats, 2)), ["sorry"]);
}

/// A line from a program that keeps to no pace and cleans nothing.
fn lawless(chats: &mut Chats, index: usize, number: u64, text: &str) {
    let order = log(chats, 0).len() as u64 + number;
    let payload = lawless_line(chats.sim.node(index), number, order, text);
    // Too long for the mesh, most likely.
    _ = chats.sim.with(index, |node, now| node.send(Target::All, Engine::TOPIC, payload, now));
}

/// Each author has a pace; the last says when.
#[test]
fn we_hold_ourselves_to_a_pace() {
    let mut chats = chats(Options::default(), 2);
    let sent = (0..20).take_while(|_| say(&mut chats, 0, "hi").is_ok()).count();
    assert_eq!(sent, pace::OWN.burst as usize);
    assert_eq!(say(&mut chats, 0, "hi"), Err(SayError::TooFast));
    chats.run(pace::OWN.refill);
    assert!(say(&mut chats, 0, "hi").is_ok());
    chats.run(seconds(1));
    assert_eq!(said(&mut chats, 1).len(), sent + 1);
    assert_eq!(say(&mut chats, 0, " \u{200B} "), Err(SayError::Empty));
}

/// Its author changes or deletes a line, everywhere and for who comes later; nobody else can.
#[test]
fn only_its_author_edits_and_deletes_a_line() {
    let mut chats = chats(Options { loss: 0.05, ..Options::default() }, 6);
    let (kept, gone) = (say(&mut chats, 0, "helo").unwrap(), say(&mut chats, 0, "a secret").unwrap());
    chats.run(seconds(2));
    chats.act(0, |engine, now| engine.edit(&kept, "hello", now)).unwrap();
    chats.act(0, |engine, now| engine.delete(&gone, now)).unwrap();
    let refused = chats.act(1, |engine, now| engine.delete(&kept, now));
    assert_eq!(refused, Err(SayError::NotYours));
    chats.run(seconds(2));
    let late = newcomer(&mut chats);
    chats.run(seconds(3));
    for index in [0, 3, 5, late] {
        let log = log(&chats, index);
        assert_eq!((texts(&log), log[0].edited), (vec!["hello"], true), "node {index}");
        assert_eq!(log[0].id.as_ref(), Some(&kept));
        let evidence = chats.service(index).evidence(&gone).unwrap();
        let mesh = chats.sim.node(index).mesh_id();
        assert_eq!(evidence.check(&mesh), Some((gone.clone(), None)), "what was deleted is kept by nobody");
    }
    let told = events(&mut chats, 3);
    assert!(told.contains(&ChatEvent::Deleted(gone.clone())) && told.iter().any(|event| matches!(event, ChatEvent::Edited(_))));
    assert_eq!(chats.act(0, |engine, now| engine.edit(&gone, "back", now)), Err(SayError::Forgotten));
}

/// What is said to one or to a team is heard by those, and is in nobody's history; channels are apart.
#[test]
fn to_one_to_a_team_and_in_channels() {
    let mut chats = chats(Options::default(), 6);
    let peers: Vec<PeerId> = (0..6).map(|index| chats.sim.peer(index)).collect();
    chats.act(0, |engine, now| engine.whisper(peers[3], "psst", now)).unwrap();
    chats.act(0, |engine, now| engine.say_to_team(2, &[peers[1], peers[2], peers[0]], "go left", now)).unwrap();
    let trade = "trade".parse().unwrap();
    chats.act(4, |engine, now| engine.say(&trade, "two eggs", &[peers[5]], now)).unwrap();
    let away = chats.act(0, |engine, now| engine.whisper(PeerId([9; 32]), "psst", now));
    assert_eq!(away, Err(SayError::NotHere));
    chats.run(seconds(1));
    for index in 0..6 {
        let lines = said(&mut chats, index);
        let heard = |text: &str| lines.iter().find(|line| line.text == text).map(|line| line.audience.clone());
        assert_eq!(heard("psst"), [0, 3].contains(&index).then_some(Audience::One(peers[3])), "node {index}");
        assert_eq!(heard("go left"), (index < 3).then_some(Audience::Team(2)), "node {index}");
        assert_eq!(heard("two eggs"), Some(Audience::Channel(trade.clone())));
        assert_eq!((log(&chats, index).len(), chats.service(index).lines(&trade).len()), (0, 1));
        assert!(lines.iter().find(|line| line.text == "two eggs").unwrap().mentions == [peers[5]]);
    }
    let late = newcomer(&mut chats);
    chats.run(seconds(3));
    assert_eq!(texts(&chats.service(late).lines(&trade)), ["two eggs"]);
    assert_eq!(events(&mut chats, late).len(), 1);
}

/// Who is muted here is muted here alone; who types is shown for a while.
#[test]
fn muting_and_typing() {
    let mut chats = chats(Options::default(), 4);
    let loud = chats.sim.peer(1);
    chats.act(2, |engine, _| engine.mute(loud, true));
    say(&mut chats, 1, "HELLO").unwrap();
    chats.act(3, |engine, now| (0..50).for_each(|_| engine.typing(&main_channel(), now)));
    chats.run(seconds(1));
    let typing = vec![chats.sim.peer(3)];
    let who = |chats: &mut Chats, index: usize| chats.act(index, |engine, now| engine.who_types(&main_channel(), now));
    assert_eq!(who(&mut chats, 0), typing);
    assert_eq!((said(&mut chats, 0).len(), said(&mut chats, 2).len()), (1, 0));
    chats.run(TYPING_SHOWN);
    assert_eq!(who(&mut chats, 0), []);
    chats.act(2, |engine, _| engine.mute(loud, false));
    say(&mut chats, 1, "hello").unwrap();
    chats.run(seconds(1));
    assert!(texts(&said(&mut chats, 2)).contains(&"hello"));
}

/// One line of each in ten seconds, because whoever moderates says so: all keep to it, whoever takes over goes on with it, who comes
/// is told, and nobody shows what a program says that does not care.
#[test]
fn slow_mode_holds_for_all_and_survives_whoever_set_it() {
    let mut chats = chats(Options { loss: 0.05, seed: 5, ..Options::default() }, 6);
    let moderate = |chats: &mut Chats, members: &[usize], index: usize| {
        let peer = chats.sim.peer(index);
        members.iter().for_each(|member| chats.act(*member, |engine, _| engine.set_moderator(Some(peer))));
    };
    moderate(&mut chats, &[0, 1, 2, 3, 4, 5], 1);
    let every = Some(seconds(10));
    assert_eq!(chats.act(2, |engine, _| engine.set_slow_mode(every)), Err(SayError::NotModerator));
    assert_eq!(chats.act(1, |engine, _| engine.set_slow_mode(every)), Ok(()));
    chats.run(seconds(1));
    for index in 0..6 {
        assert_eq!(chats.service(index).slow_mode(), every, "node {index}");
        assert_eq!(events(&mut chats, index), [ChatEvent::SlowMode(every)], "node {index}");
    }
    let mut number = 0;
    for second in 0..40 {
        say(&mut chats, 0, "honest").ok();
        if second == 0 {
            assert!(matches!(say(&mut chats, 0, "again"), Err(SayError::SlowMode { wait }) if wait == seconds(10)));
        }
        number += 1;
        lawless(&mut chats, 5, number, "spam");
        chats.run(seconds(1));
    }
    let lines = said(&mut chats, 3);
    let of = |index: usize| lines.iter().filter(|line| line.author == chats.sim.peer(index)).count();
    assert_eq!(of(0), 4, "every tenth second");
    assert!((4..=8).contains(&of(5)), "{} of 40", of(5));
    // Whispers are nobody else's business.
    let to = chats.sim.peer(4);
    assert_eq!(chats.act(0, |engine, now| engine.whisper(to, "psst", now)), Ok(()));
    // Who set it is gone, and another takes its place.
    drop(chats.crash(1));
    chats.run(seconds(3));
    moderate(&mut chats, &[0, 2, 3, 4, 5], 2);
    let late = newcomer(&mut chats);
    assert_eq!(chats.service(late).slow_mode(), None, "it does not know yet whose word counts");
    moderate(&mut chats, &[late], 2);
    chats.run(seconds(1));
    assert_eq!(chats.service(late).slow_mode(), every);
    assert!(say(&mut chats, late, "hello").is_ok() && say(&mut chats, late, "again").is_err());
    // A word that does not count changes nothing; the end is told to all.
    assert_eq!(chats.act(3, |engine, _| engine.set_slow_mode(None)), Err(SayError::NotModerator));
    chats.act(2, |engine, _| engine.set_slow_mode(None)).unwrap();
    chats.run(seconds(2));
    for index in [0, 2, 3, 4, 5, late] {
        assert_eq!(chats.service(index).slow_mode(), None, "node {index}");
    }
    assert!(say(&mut chats, late, "again").is_ok());
}

/// Two meshes that talked apart have one past when they meet.
#[test]
fn two_meshes_that_meet_have_one_past() {
    let options = Options { seed: 3, loss: 0.05, ..Options::default() };
    remember_signatures();
    let mut chats = ServiceSim::new(Sim::new(options));
    for index in 0..6 {
        chats.sim.add(config(), [7; 32]);
        chats.sim.introduce(index, index / 3 * 3);
    }
    chats.run(seconds(5));
    (0..6).for_each(|index| start(&mut chats, index));
    for _ in 0..5 {
        chats.run(seconds(5));
        say(&mut chats, 1, "left").unwrap();
        say(&mut chats, 4, "right").unwrap();
    }
    chats.run(seconds(2));
    assert_eq!((log(&chats, 0).len(), log(&chats, 5).len()), (5, 5), "{options:?}");
    chats.sim.introduce(0, 3);
    chats.run(seconds(15));
    let first = log(&chats, 0);
    assert_eq!(first.len(), 10, "{:?}, {options:?}", texts(&first));
    for index in 1..6 {
        assert_eq!(log(&chats, index), first, "node {index}, {options:?}");
    }
}

/// What people send to break things is refused where it is typed, or harmless where it is shown, whoever passes it on uncleaned.
#[test]
fn a_thousand_hostile_strings_are_shown_harmlessly() {
    let mut chats = chats(Options::default(), 5);
    let hostile: Vec<String> = (0..1_000).map(hostile).collect();
    assert!(hostile.iter().collect::<BTreeSet<_>>().len() > 900);
    let mut shown = 0;
    for (number, text) in hostile.iter().enumerate() {
        // As its own program would send it, and as one that cleans nothing would: two of each, so that both keep to the pace.
        let (honest, liar) = (number % 2, 2 + number % 2);
        let said_by = say(&mut chats, honest, text);
        assert!(matches!(said_by, Ok(_) | Err(SayError::Empty)), "{said_by:?} for string {number}");
        lawless(&mut chats, liar, number as u64 + 1, text);
        chats.run(millis(550));
        let lines = said(&mut chats, 4);
        let of = |index: usize| lines.iter().filter(|line| line.author == chats.sim.peer(index)).count();
        assert_eq!(of(honest), usize::from(said_by.is_ok()), "string {number}: {text:?}");
        assert!(of(liar) <= 1, "string {number}");
        for line in lines {
            shown += 1;
            assert!(is_harmless(&line.text), "string {number}: {:?} of {text:?}", line.text);
        }
    }
    assert!(shown > 800, "only {shown} lines were shown at all: what is seen is harmless, but it is to be seen");
    assert_eq!(log(&chats, 4).len(), HISTORY_LINES_MAX);
    for index in 0..5 {
        assert!(log(&chats, index).iter().all(|line| is_harmless(&line.text)));
    }
}

/// By other rules than those that clean it, so that the test is no echo of the code.
fn is_harmless(line: &str) -> bool {
    let turns = |c: char| matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{200E}' | '\u{200F}' | '\u{61C}');
    let hides = |c: char| matches!(c, '\u{200B}' | '\u{FEFF}' | '\u{2060}' | '\u{E0000}'..='\u{E007F}' | '\u{2028}' | '\u{2029}');
    let climbs = |c: char| matches!(c, '\u{300}'..='\u{36F}' | '\u{489}' | '\u{1AB0}'..='\u{1AFF}' | '\u{20D0}'..='\u{20FF}');
    let (mut marks, mut tallest) = (0, 0);
    for c in line.chars() {
        marks = if climbs(c) { marks + 1 } else { 0 };
        tallest = tallest.max(marks);
    }
    !line.is_empty()
        && line.trim() == line
        && line.len() <= text::CHAT_BYTES_MAX
        && tallest <= 4
        && !line.chars().any(|c| c.is_control() || turns(c) || hides(c))
}

/// Hostile string number `n`: tricks with direction, towers, controls, escapes, invisible letters, lengths, and all of it mixed.
fn hostile(n: usize) -> String {
    const PIECES: [&str; 24] = [
        "\u{202E}",
        "\u{202D}",
        "\u{2066}",
        "\u{2069}",
        "\u{200F}",
        "\u{61C}",
        "\u{1b}[2J",
        "\u{7}",
        "\r\n",
        "\0",
        "\u{9b}31m",
        "\u{200B}",
        "\u{FEFF}",
        "\u{3164}",
        "\u{2028}",
        "\u{E0041}",
        "\u{FFFF}",
        "\u{10FFFF}",
        "مرحبا",
        "שלום",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈",
        "e\u{301}",
        "word",
    ];
    let mut state = n as u64 + 1;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    match n % 10 {
        0 => format!("a{}b{n}", "\u{335}\u{489}\u{361}".repeat(10 + draw(3_000))),
        1 => format!("\u{202E}{n} gpj.exe\u{2066}\u{202E}"),
        2 => format!("{n}{}", "\u{1b}]0;owned\u{7}\u{1b}[8m".repeat(1 + draw(50))),
        3 if n % 100 == 3 => format!("{n} {}", "x".repeat(1 << 20)),
        3 => format!("{n}{}", "\u{1F468}\u{200D}".repeat(draw(2_000))),
        4 => format!("{}{n}", "\u{FDFD}".repeat(draw(500))),
        5 => char::from_u32(draw(0x300) as u32).map_or_else(String::new, |c| format!("{c}{n}{c}{c}")),
        _ => (0..1 + draw(60)).map(|_| PIECES[draw(PIECES.len())]).collect::<String>() + &n.to_string(),
    }
}
