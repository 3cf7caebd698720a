//! Two people with windows, a mouse and a keyboard: from the list of rooms into one game, and back.
//!
//! They have an X server of their own (Xvfb) and a hand (xdotool). Where those are not installed, the test says so and passes. Pictures of
//! every screen are kept beside the test's other files; their place is printed.
#![expect(clippy::print_stderr, clippy::print_stdout, reason = "what is skipped, and where the pictures are, is to be seen")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use peerflock_tests::programs::{Running, program};
use serde_json::Value;

/// Whatever is waited for: two games are drawn by software on a machine that may have other things to do.
const PATIENCE: Duration = Duration::from_secs(90);
const PASSWORD: &str = "dusk";
/// Where things are in a window of 1280 by 720, in pixels.
const OPEN_A_ROOM: (i32, i32) = (1_144, 133);
const FIRST_ROOM: (i32, i32) = (600, 300);
const ITS_HEART: (i32, i32) = (93, 300);
const SETTINGS: (i32, i32) = (1_188, 48);
const INVITE: (i32, i32) = (1_200, 48);
const SECOND_MEMBER: (i32, i32) = (200, 240);
const READY: (i32, i32) = (125, 650);
const START: (i32, i32) = (315, 650);
/// Windows stand side by side.
const NEXT_TO: i32 = 1_300;

/// Peer Channel's check C5.4, as people do it: those with the same game see each other, form a group, and leave it into the game's mesh.
#[test]
fn c5_4_two_meet_in_a_lobby_and_leave_it_into_one_game() {
    let Some(screen) = Screen::new() else { return };
    let room = format!("A loft {}", std::process::id());
    let ann = screen.lobby("Ann", 0);
    let ben = screen.lobby("Ben", NEXT_TO);
    screen.picture("1-list");

    // Ann opens a locked room. A window that is just being drawn for the first time may miss a click.
    screen.try_until("the room is open", || {
        ann.click(OPEN_A_ROOM);
        screen.picture("2-open-a-room");
        ann.write(&room);
        ann.keys(&["Tab", "Tab"]);
        ann.write(PASSWORD);
        ann.keys(&["Return"]);
        players_of(&room, Duration::from_secs(10)).is_some()
    });
    let listed = list(&room).expect("it was there just now");
    assert_eq!((&listed["locked"], &listed["players"]), (&true.into(), &1.into()), "{listed}");

    // Ben takes a color in the settings, searches, and marks the room.
    ben.click(SETTINGS);
    screen.picture("8-settings");
    ben.keys(&["Escape"]);
    ben.click(ITS_HEART);
    let settings = screen.folder.join("Ben/peerflock/lobby/settings.json");
    until("the favorite is remembered", || std::fs::read_to_string(&settings).is_ok_and(|text| text.contains(&room)));
    screen.picture("9-favorite");

    // Ben finds it, and is told that a wrong password is wrong.
    screen.try_until("a wrong password is said to be wrong", || {
        ben.keys(&["Escape"]);
        ben.click(FIRST_ROOM);
        ben.write("dawn");
        ben.keys(&["Return"]);
        ben.says("does not open this room", Duration::from_secs(20))
    });
    screen.picture("3-wrong-password");
    assert_eq!(list(&room).expect("the room goes on")["players"], 1, "nobody came in");
    ben.write(PASSWORD);
    ben.keys(&["Return"]);
    until("both are in the room", || players_of(&room, Duration::from_secs(4)) == Some(2));

    // Both say something; somebody who only watches tells us what all hear.
    let watcher = Watcher::new(&room);
    until("somebody watches", || watcher.saw(|event| event["event"] == "joined"));
    for (who, line) in [(&ann, "welcome Ben"), (&ben, "hello Ann")] {
        who.write(line);
        who.keys(&["Return"]);
    }
    let said = |name: &str, line: &str| watcher.count(|event| event["from"] == name && event["text"] == line);
    until("both are heard", || said("Ann", "welcome Ben") == 1 && said("Ben", "hello Ann") == 1);
    screen.picture("4-chat");

    // An invitation to be read by a camera, and what can be done about somebody.
    ann.click(INVITE);
    ben.click(SECOND_MEMBER);
    screen.picture("10-invite-and-member");
    ann.keys(&["Escape"]);
    ben.keys(&["Escape"]);

    // Both are ready. Ann starts the game, Ben stops the countdown, and both are told.
    ben.click(READY);
    ann.click(READY);
    screen.picture("5-ready");
    screen.try_until("Ben stops the countdown", || {
        ann.click(START);
        screen.picture("11-countdown");
        // The same button, which says Stop while it counts.
        ben.click(START);
        ann.says("Ben stopped the countdown", Duration::from_secs(6)) && ben.says("You stopped", Duration::from_secs(2))
    });
    assert!(game_of(&room).is_none(), "no game was opened");
    screen.try_until("the game opens", || {
        ann.click(START);
        let started = Instant::now();
        while game_of(&room).is_none() && started.elapsed() < Duration::from_secs(20) {}
        game_of(&room).is_some()
    });
    until("both are in one game", || game_of(&room).is_some_and(|game| game["players"] == 2));
    until("both games have a window", || screen.windows("Murmuration").len() == 2);
    sleep(Duration::from_secs(3));
    screen.picture("6-game");
    assert_eq!((said("Ann", "welcome Ben"), said("Ben", "hello Ann")), (1, 1), "nothing is said twice");

    // They close it, and are back in the room, both of them; what they said is still there.
    for window in screen.windows("Murmuration") {
        screen.run(&["windowclose", &window]);
    }
    until("the game is over", || game_of(&room).is_none() && screen.windows("Murmuration").is_empty());
    ben.write("that was fun");
    ben.keys(&["Return"]);
    until("they talk in the room again", || said("Ben", "that was fun") == 1);
    screen.picture("7-back");
    assert!(list(&room).is_some_and(|room| room["players"].as_u64() >= Some(2)), "both are still in the room");
}

// --- what is on the network ---------------------------------------------------------------------------------------------

fn meshes() -> Vec<Value> {
    let output = program("peerflock-lobby").args(["list", "--json", "--seconds", "2"]).output().expect("the lobby lists");
    serde_json::from_slice(&output.stdout).expect("as JSON")
}

fn list(room: &str) -> Option<Value> {
    meshes().into_iter().find(|mesh| mesh["name"] == room)
}

/// The game that was started from a room: it is called after it.
fn game_of(room: &str) -> Option<Value> {
    let is_it = |mesh: &Value| mesh["name"].as_str().is_some_and(|name| name != room && name.starts_with(room));
    meshes().into_iter().find(is_it)
}

fn players_of(room: &str, patience: Duration) -> Option<u64> {
    let started = Instant::now();
    loop {
        let found = list(room).and_then(|mesh| mesh["players"].as_u64());
        if found.is_some() || started.elapsed() > patience {
            return found;
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(200));
    }
}

/// Somebody in the room who only watches, from a terminal, and what that one is told.
struct Watcher {
    _process: Running,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Watcher {
    fn new(room: &str) -> Self {
        let mut command = program("peerflock-lobby");
        command.args(["join", room, "--watch", "--json", "--player", "Eve"]).env("PEERFLOCK_PASSWORD", PASSWORD);
        // An input that does not end.
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let (events, output) = (Arc::new(Mutex::new(Vec::new())), process.stdout.take().expect("it is piped"));
        let heard = events.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                heard.lock().expect("nobody panics with it").push(serde_json::from_str(&line).expect("each line is JSON"));
            }
        });
        Self { _process: Running(process), events }
    }

    fn count(&self, is_it: impl Fn(&Value) -> bool) -> usize {
        self.events.lock().expect("nobody panics with it").iter().filter(|event| is_it(event)).count()
    }

    fn saw(&self, is_it: impl Fn(&Value) -> bool) -> bool {
        self.count(is_it) > 0
    }
}

// --- the screen ---------------------------------------------------------------------------------------------------------

/// An X server of our own, with nobody else at it.
struct Screen {
    _server: Running,
    display: String,
    folder: PathBuf,
}

impl Screen {
    /// None, and a line about it, where the tools are not there.
    fn new() -> Option<Self> {
        for tool in ["Xvfb", "xdotool", "import"] {
            let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).stdout(Stdio::null()).status();
            if !found.is_ok_and(|status| status.success()) {
                eprintln!("SKIPPED: {tool} is not installed, so nobody can sit before the windows");
                return None;
            }
        }
        let mut server = Command::new("Xvfb");
        server.args(["-displayfd", "1", "-screen", "0", "2600x740x24", "-nolisten", "tcp"]);
        let mut server = server.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("Xvfb starts");
        let mut number = String::new();
        let output = server.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut number).expect("Xvfb says its number");
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("windows");
        std::fs::create_dir_all(&folder).expect("there is room for pictures");
        println!("pictures: {}", folder.display());
        Some(Self { _server: Running(server), display: format!(":{}", number.trim()), folder })
    }

    /// A lobby window at this place. Its log is kept.
    fn lobby(&self, player: &str, left: i32) -> Person<'_> {
        let mut command = program("peerflock-lobby");
        command.args(["--player", player]).env("DISPLAY", &self.display).env("NO_COLOR", "1").stdout(Stdio::null());
        command.env("RUST_LOG", "warn,wgpu=error,naga=error,peerflock::lobby=info");
        // Each has an own identity, as on machines of their own.
        command.env("XDG_CONFIG_HOME", self.folder.join(player));
        let before = self.windows("Lobby");
        let mut process = command.spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        keep(&mut process, log.clone());
        let mut window = None;
        until("a window is there", || {
            window = self.windows("Lobby").into_iter().find(|window| !before.contains(window));
            window.is_some()
        });
        let window = window.unwrap_or_default();
        self.run(&["windowmove", &window, &left.to_string(), "0"]);
        // The first frames take long.
        sleep(Duration::from_secs(5));
        Person { screen: self, _process: Running(process), window, log }
    }

    fn windows(&self, name: &str) -> Vec<String> {
        self.run(&["search", "--name", name]).lines().map(str::to_owned).collect()
    }

    /// The hand does something; what it says.
    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("xdotool").args(arguments).env("DISPLAY", &self.display).output().expect("xdotool runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn picture(&self, name: &str) {
        sleep(Duration::from_millis(500));
        let file = self.folder.join(format!("{name}.png"));
        let taken = Command::new("import").args(["-window", "root"]).arg(&file).env("DISPLAY", &self.display).status();
        assert!(taken.is_ok_and(|status| status.success()), "{} was not taken", file.display());
    }

    /// Tries a few times.
    fn try_until(&self, what: &str, mut act: impl FnMut() -> bool) {
        for _ in 0..4 {
            if act() {
                return;
            }
        }
        self.picture("failed");
        panic!("it was tried four times: {what}");
    }
}

/// Keeps what a process logs.
fn keep(process: &mut Child, log: Arc<Mutex<String>>) {
    let mut output = process.stderr.take().expect("it is piped");
    std::thread::spawn(move || {
        let mut bytes = [0; 4_096];
        while let Ok(length @ 1..) = output.read(&mut bytes) {
            log.lock().expect("nobody panics with it").push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
}

/// Somebody before a window.
struct Person<'a> {
    screen: &'a Screen,
    _process: Running,
    window: String,
    log: Arc<Mutex<String>>,
}

impl Person<'_> {
    fn look(&self) {
        self.screen.run(&["windowfocus", "--sync", &self.window]);
        sleep(Duration::from_millis(300));
    }

    /// Slowly, as a person does it: a button that is drawn ten times a second has to see the pointer come.
    fn click(&self, (x, y): (i32, i32)) {
        self.look();
        self.screen.run(&["mousemove", "--window", &self.window, &x.to_string(), &y.to_string()]);
        for (act, pause) in [("mousedown", 400), ("mouseup", 300)] {
            sleep(Duration::from_millis(400));
            self.screen.run(&[act, "1"]);
            sleep(Duration::from_millis(pause));
        }
        sleep(Duration::from_secs(1));
    }

    fn write(&self, text: &str) {
        self.look();
        self.screen.run(&["type", "--delay", "60", text]);
        sleep(Duration::from_millis(500));
    }

    fn keys(&self, keys: &[&str]) {
        self.look();
        for key in keys {
            self.screen.run(&["key", key]);
            sleep(Duration::from_millis(400));
        }
    }

    /// Whether the window says this to the one before it.
    fn says(&self, text: &str, patience: Duration) -> bool {
        let started = Instant::now();
        let said = || self.log.lock().expect("nobody panics with it").contains(text);
        while started.elapsed() < patience && !said() {
            sleep(Duration::from_millis(100));
        }
        said()
    }
}
