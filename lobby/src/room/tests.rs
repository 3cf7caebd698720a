use std::thread::sleep;

use super::*;
use crate::chat::Line;

/// How long something may take that happens within milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(15);

fn open(player: &str, name: &str, password: Option<&str>) -> Room {
    let mut options = RoomOptions::new(player).on(Some(peerflock::Interface::Loopback));
    let builder = options.create(name, password, "Murmuration", 4).unwrap().lan(false);
    Room::new(builder.start_in_background().wait().unwrap(), &options)
}

fn join(player: &str, host: &Room, password: Option<&str>) -> Result<Room, RoomError> {
    let mut options = RoomOptions::new(player).on(Some(peerflock::Interface::Loopback));
    let builder = options.join_by_ticket(&host.ticket(), password)?.lan(false);
    Ok(Room::new(builder.start_in_background().wait()?, &options))
}

/// Polls all rooms until `done` says so; returns what each of them told.
fn until(rooms: &mut [&mut Room], mut done: impl FnMut(&[&mut Room], &[Vec<RoomEvent>]) -> bool) -> Vec<Vec<RoomEvent>> {
    let started = Instant::now();
    let mut told = vec![Vec::new(); rooms.len()];
    while !done(rooms, &told) {
        assert!(started.elapsed() < PATIENCE, "too long: {told:?}");
        for (room, told) in rooms.iter_mut().zip(&mut told) {
            told.extend(room.poll(Instant::now()));
        }
        sleep(Duration::from_millis(5));
    }
    told
}

fn lines(room: &Room) -> Vec<(String, String)> {
    let said = |line: &Line| line.speaker.as_ref().map(|speaker| (speaker.name.clone(), line.text.clone()));
    room.chat().lines().filter_map(said).collect()
}

#[test]
fn two_meet_talk_and_part() {
    let mut ada = open("Ada", "two meet", Some("dusk"));
    assert!(matches!(join("Bo", &ada, None), Err(RoomError::PasswordNeeded)));
    assert!(matches!(join("Bo", &ada, Some("dawn")), Err(RoomError::WrongPassword(_))));
    let mut bo = join("Bo\u{202E}", &ada, Some("dusk")).unwrap();
    until(&mut [&mut ada, &mut bo], |rooms, _| rooms.iter().all(|room| room.members().len() == 2 && room.facts().is_some()));

    let names = |room: &Room| room.members().iter().map(|member| member.name.clone()).collect::<Vec<_>>();
    assert_eq!((names(&ada), names(&bo)), (vec!["Ada".to_owned(), "Bo".to_owned()], vec!["Bo".to_owned(), "Ada".to_owned()]));
    assert_eq!(bo.facts(), Some(&RoomFacts::new("Murmuration", 4, true)), "learned inside, the ticket does not say");
    until(&mut [&mut ada, &mut bo], |rooms, _| {
        let members = rooms[0].members();
        members.len() == 2 && members[0].color != members[1].color
    });

    ada.say("hello").unwrap();
    bo.say("hi \u{1b}[2J").unwrap();
    until(&mut [&mut ada, &mut bo], |rooms, _| rooms.iter().all(|room| lines(room).len() == 2));
    for room in [&ada, &bo] {
        let mut lines = lines(room);
        lines.sort();
        assert_eq!(lines, [("Ada".to_owned(), "hello".to_owned()), ("Bo".to_owned(), "hi [2J".to_owned())]);
    }

    ada.leave(Duration::from_secs(2));
    until(&mut [&mut bo], |rooms, told| rooms[0].members().len() == 1 && told[0].contains(&RoomEvent::Went("Ada".into())));
    assert!(bo.chat().lines().any(|line| line.text == "Ada left"));
}

#[test]
fn the_game_starts_when_all_are_ready_and_everybody_gets_the_same_hand_over() {
    let mut ada = open("Ada", "all start", None);
    until(&mut [&mut ada], |_, told| told[0].contains(&RoomEvent::Seated));
    let (mut bo, mut cy) = (join("Bo", &ada, None).unwrap(), join("Cy", &ada, None).unwrap());
    bo.set_ready(true);
    until(&mut [&mut ada, &mut bo, &mut cy], |rooms, _| {
        rooms.iter().all(|room| room.members().len() == 3) && rooms[0].members().iter().any(|member| member.ready)
    });
    let told = ada.start_game(1, Instant::now());
    assert!(matches!(&told[..], [RoomEvent::GameOff(why)] if why.contains("Cy") && !why.contains("Bo")), "{told:?}");

    cy.set_ready(true);
    until(&mut [&mut ada, &mut bo, &mut cy], |rooms, _| rooms[0].members().iter().filter(|member| member.ready).count() == 2);
    // Its owner chooses a map, and nobody else.
    assert!(ada.set_setting("map", "marsh") && !bo.set_setting("map", "moor"));
    until(&mut [&mut ada, &mut bo, &mut cy], |rooms, _| {
        rooms.iter().all(|room| room.facts().is_some_and(|facts| facts.settings.contains_key("map")))
    });
    // One takes it back while it counts down: all are told who.
    assert_eq!(ada.start_game(1, Instant::now()), []);
    until(&mut [&mut ada, &mut bo, &mut cy], |rooms, _| rooms.iter().all(|room| room.countdown(Instant::now()).is_some()));
    cy.set_ready(false);
    let stopped =
        |told: &Vec<RoomEvent>| told.iter().any(|event| matches!(event, RoomEvent::GameOff(why) if why.contains("stopped")));
    let told = until(&mut [&mut ada, &mut bo, &mut cy], |_, told| told.iter().all(stopped));
    assert!(told[0].contains(&RoomEvent::GameOff("Cy stopped the countdown.".into())));
    assert!(told[2].contains(&RoomEvent::GameOff("You stopped the countdown.".into())));
    cy.set_ready(true);
    until(&mut [&mut ada, &mut bo, &mut cy], |rooms, _| rooms[0].members().iter().filter(|member| member.ready).count() == 2);
    assert_eq!(ada.start_game(2, Instant::now()), []);
    until(&mut [&mut ada, &mut bo, &mut cy], |_, told| told[0].contains(&RoomEvent::OpenGame));
    ada.game_opened(Handover::new("all start", [5; 32], ada.ticket().to_string()));
    let begins = |event: &RoomEvent| matches!(event, RoomEvent::JoinGame(_) | RoomEvent::GameBegins(_));
    let told = until(&mut [&mut ada, &mut bo, &mut cy], |_, told| told.iter().all(|told| told.iter().any(begins)));
    let Some(RoomEvent::GameBegins(handover)) = told[0].iter().find(|event| begins(event)) else { panic!("{told:?}") };
    assert_eq!((handover.mesh.as_str(), handover.secret, handover.seed), ("all start", [5; 32], 2));
    assert_eq!((&handover.players, handover.players.len()), (&ada.seated(), 3));
    assert_eq!(handover.settings, BTreeMap::from([("map".to_owned(), "marsh".to_owned())]));
    for told in &told[1..] {
        assert!(told.contains(&RoomEvent::JoinGame(handover.clone())), "the same for all: {told:?}");
    }
    assert!(ada.mesh().now() >= handover.begins, "not before the moment that was agreed");
    assert!(!bo.is_ready() && !cy.is_ready(), "the next round is agreed anew");

    // Who comes later is let in by one who plays, though the starter has left.
    ada.leave(Duration::from_secs(2));
    let mut di = join("Di", &bo, None).unwrap();
    until(&mut [&mut bo, &mut cy, &mut di], |rooms, _| rooms[2].can_join_running() && rooms[2].members().len() == 3);
    let asked = di.join_running();
    assert_eq!(asked, []);
    let told = until(&mut [&mut bo, &mut cy, &mut di], |_, told| told[2].iter().any(begins));
    assert!(told[2].iter().any(|event| matches!(event, RoomEvent::JoinGame(late) if late == handover)), "{told:?}");
    di.game_over();
    assert!(di.can_join_running());
}

/// Three come at once for the last two seats: all agree who sits, the third is told why; the owner's role passes on, and who is
/// removed is out.
#[test]
fn seats_an_owner_and_the_door() {
    let mut ada = open("Ada", "seats", None);
    until(&mut [&mut ada], |_, told| told[0].contains(&RoomEvent::Seated));
    let mut bo = join("Bo", &ada, None).unwrap();
    until(&mut [&mut ada, &mut bo], |_, told| told[1].contains(&RoomEvent::Seated));
    ada.say("before you came").unwrap();
    until(&mut [&mut ada, &mut bo], |rooms, _| rooms.iter().all(|room| lines(room).len() == 1));

    let (mut cy, mut di, mut ed) =
        (join("Cy", &ada, None).unwrap(), join("Di", &ada, None).unwrap(), join("Ed", &ada, None).unwrap());
    let decided = |told: &Vec<RoomEvent>| told.iter().any(|event| matches!(event, RoomEvent::Seated | RoomEvent::NoSeat(_)));
    let told = until(&mut [&mut ada, &mut bo, &mut cy, &mut di, &mut ed], |rooms, told| {
        let agreed = rooms.iter().all(|room| room.seated() == rooms[0].seated() && room.seated().len() == 4);
        agreed && told[2..].iter().all(decided) && rooms.iter().all(|room| lines(room).len() == 1)
    });
    let turned_away = told[2..].iter().filter(|told| told.iter().any(|event| matches!(event, RoomEvent::NoSeat(_)))).count();
    assert_eq!(turned_away, 1, "{told:?}");
    assert!(told[2..].iter().flatten().all(|event| !matches!(event, RoomEvent::NoSeat(why) if !why.contains("All 4 seats"))));
    assert_eq!((ada.owner(), ed.owner()), (Some(ada.mesh().id()), Some(ada.mesh().id())));

    assert!(!ed.close(true) && ada.close(true), "the room is its owner's");
    until(&mut [&mut ada, &mut bo, &mut cy, &mut di, &mut ed], |rooms, _| rooms.iter().all(|room| room.is_closed()));
    assert!(bo.remove(ada.mesh().id()).is_err());
    ada.remove(ed.mesh().id()).unwrap();
    until(&mut [&mut ada, &mut bo, &mut cy, &mut di, &mut ed], |rooms, told| {
        told[4].contains(&RoomEvent::Removed("Ada".into())) && rooms[..4].iter().all(|room| room.members().len() == 4)
    });
    ada.leave(Duration::from_secs(2));
    let next = bo.mesh().id();
    until(&mut [&mut bo, &mut cy, &mut di], |rooms, _| rooms.iter().all(|room| room.owner() == Some(next) && room.is_closed()));
    assert!(bo.close(false), "the role passed on");
}
