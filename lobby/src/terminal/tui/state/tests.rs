use super::*;

fn lobby() -> Lobby {
    let browser = Browser::start(Interface::Loopback).unwrap();
    Lobby::new("Ada", Some(Interface::Loopback), Vec::new(), Settings::default(), browser)
}

fn keys(lobby: &mut Lobby, keys: &[KeyCode]) {
    keys.iter().for_each(|key| lobby.press(KeyEvent::new(*key, KeyModifiers::NONE)));
}

fn write(lobby: &mut Lobby, text: &str) {
    text.chars().for_each(|letter| keys(lobby, &[KeyCode::Char(letter)]));
}

fn until(lobby: &mut Lobby, mut is_so: impl FnMut(&Lobby) -> bool) {
    let started = Instant::now();
    while !is_so(lobby) {
        assert!(started.elapsed() < Duration::from_secs(20), "it takes too long");
        lobby.pass(Instant::now());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn by_keys_alone_a_room_is_opened_talked_in_and_left() {
    let mut ada = lobby();
    keys(&mut ada, &[KeyCode::Char('n')]);
    assert_eq!(ada.prompt.as_ref().unwrap().typed, "Ada's room", "a name is proposed");
    write(&mut ada, &format!(" {}", std::process::id() % 10_000));
    keys(&mut ada, &[KeyCode::Enter]);
    assert!(matches!(ada.prompt.as_ref().unwrap().ask, Ask::NewPassword { .. }));
    write(&mut ada, "dusk");
    keys(&mut ada, &[KeyCode::Enter]);
    until(&mut ada, |lobby| lobby.visit.as_ref().is_some_and(|visit| visit.room.facts().is_some()));
    let visit = ada.visit.as_ref().unwrap();
    assert!(visit.room.facts().unwrap().locked);
    let (ticket, name) = (visit.room.ticket(), visit.room.name().to_owned());

    let mut ben = lobby();
    keys(&mut ben, &[KeyCode::Char('i')]);
    write(&mut ben, "nonsense");
    keys(&mut ben, &[KeyCode::Enter]);
    assert!(ben.prompt.as_ref().unwrap().wrong.as_ref().unwrap().contains("no invitation"));
    write(&mut ben, &ticket.to_string());
    keys(&mut ben, &[KeyCode::Enter]);
    write(&mut ben, "dusk");
    keys(&mut ben, &[KeyCode::Enter]);
    let (mut both, started) = (false, Instant::now());
    while !both {
        assert!(started.elapsed() < Duration::from_secs(20), "they meet");
        [&mut ada, &mut ben].into_iter().for_each(|lobby| lobby.pass(Instant::now()));
        both = ben.visit.as_ref().is_some_and(|visit| visit.room.members().len() == 2);
        std::thread::sleep(Duration::from_millis(10));
    }
    write(&mut ben, "hi Ada!!");
    keys(&mut ben, &[KeyCode::Backspace, KeyCode::Enter]);
    until(&mut ada, |lobby| lobby.visit.as_ref().unwrap().room.chat().lines().any(|line| line.text == "hi Ada!"));
    keys(&mut ben, &[KeyCode::F(2), KeyCode::F(4)]);
    let visit = ben.visit.as_ref().unwrap();
    assert!(visit.room.is_ready() && visit.code.is_some() && visit.line.is_empty());
    keys(&mut ben, &[KeyCode::Esc]);
    assert!(ben.visit.as_ref().unwrap().code.is_none(), "first the code goes away");
    keys(&mut ben, &[KeyCode::Esc]);
    assert!(ben.visit.is_none() && ben.settings.recent[0].name == name);
    keys(&mut ben, &[KeyCode::Char('q')]);
    assert!(ben.is_done());
    ada.leave();
}

#[test]
fn what_is_looked_for_is_looked_for_at_once_and_escape_forgets_it() {
    let mut lobby = lobby();
    keys(&mut lobby, &[KeyCode::Char('/')]);
    write(&mut lobby, "hall\u{7}\u{202e}");
    assert_eq!(lobby.filter.search, "hall", "what cannot be seen is not typed");
    keys(&mut lobby, &[KeyCode::Enter]);
    assert!(lobby.prompt.is_none() && lobby.filter.is_on());
    keys(&mut lobby, &[KeyCode::Esc]);
    assert!(!lobby.filter.is_on() && !lobby.is_done());
}
