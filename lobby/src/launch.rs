//! Running the game: find its program, build it where that is how we were started, start it into its mesh, and hear how it
//! goes.

use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use peerflock::directory::DirectoryAddress;
use peerflock::{Interface, Ticket};

use crate::start::Handover;

mod build;
mod find;
mod output;
mod room_game;

use build::Build;
use output::Output;

pub use find::{Found, GAME_VARIABLE, find};
pub use room_game::RoomGame;

/// A game that can be launched from a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Game {
    /// What it is called: on screen, in rooms and in listings.
    pub name: &'static str,
    /// Its program, without the system's ending; also its package, where it can be built.
    pub program: &'static str,
    /// The environment variable in which it takes its password: command lines can be read by every user of a machine.
    pub password_variable: &'static str,
}

/// The games that this lobby launches. A room names its game, but only what is in this list ever runs.
pub const GAMES: &[Game] = &[Game { name: "Murmuration", program: "murmuration", password_variable: "MURMURATION_PASSWORD" }];

/// The exit code with which a game says that its mesh would not have us.
const REFUSED_CODE: i32 = 2;
/// What the game says before the reason, if it does.
const REFUSED_LABEL: &str = "refused us: ";
/// What the game writes before its ticket.
const TICKET_LABEL: &str = "ticket:";

/// The game by this name, in upper or lower case, if it is one that we launch.
pub fn game(name: &str) -> Option<Game> {
    GAMES.iter().copied().find(|game| game.name.eq_ignore_ascii_case(name))
}

/// How to start the game.
#[derive(Clone)]
pub struct Order {
    /// The player's name.
    pub player: String,
    /// The name of the game's mesh.
    pub mesh: String,
    /// The password of the game's mesh, if it has one.
    pub password: Option<String>,
    /// Whom to join; `None` to be found, or to be the first.
    pub ticket: Option<Ticket>,
    /// The network to use; `None` for the game's own default.
    pub interface: Option<Interface>,
    /// Whether only to watch.
    pub watch: bool,
    /// Directories at which players across the internet find each other.
    pub directories: Vec<DirectoryAddress>,
}

/// A game on its way or under way. Dropping it lets the game go on by itself, but ends a build.
#[derive(Debug)]
pub struct Launch {
    game: Game,
    order: Order,
    stage: Stage,
}

/// What happened to the game since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LaunchEvent {
    /// It is being built; the compiler's latest words.
    Building(String),
    /// Its process runs.
    Started,
    /// It is open, and this is how to join it.
    Ticket(Ticket),
    /// It was left in good order.
    Ended,
    /// Its mesh would not have us; words for the player.
    Refused(String),
    /// It could not be started, or ended badly; words for the player.
    Failed(String),
}

#[derive(Debug)]
enum Stage {
    Building(Build),
    Running { child: Child, output: Output, ticket_told: bool },
    Over,
}

/// Why the game cannot be launched. Nothing runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its program is not here.
    #[error("{name} is not installed beside the lobby. {advice}")]
    Missing {
        /// Which game.
        name: &'static str,
        /// What to do.
        advice: String,
    },
    /// The operating system would not start it.
    #[error("{path} could not be started: {source}. Check that it may be run")]
    Spawn {
        /// What was to be started.
        path: PathBuf,
        /// Why it was not.
        source: std::io::Error,
    },
}

impl Order {
    /// Opens the game's mesh, as the room's starter does.
    pub fn open(player: &str, handover_mesh: &str, password: String, interface: Option<Interface>) -> Self {
        Self {
            player: player.to_owned(),
            mesh: handover_mesh.to_owned(),
            password: Some(password),
            ticket: None,
            interface,
            watch: false,
            directories: Vec::new(),
        }
    }

    /// Joins the game that a room was handed.
    pub fn join(player: &str, handover: &Handover, interface: Option<Interface>) -> Self {
        Self {
            player: player.to_owned(),
            mesh: handover.mesh.clone(),
            password: Some(handover.password()),
            ticket: handover.ticket.parse().ok(),
            interface,
            watch: false,
            directories: Vec::new(),
        }
    }

    /// The same, with these directories.
    pub fn at(mut self, directories: &[DirectoryAddress]) -> Self {
        self.directories = directories.to_vec();
        self
    }

    /// The same, only to watch.
    pub fn watching(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }

    /// The game's command line. Values come in the same word as their flag, so that none is taken for a flag itself.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![format!("--name={}", self.player), "--bots=0".to_owned()];
        match &self.ticket {
            Some(ticket) => arguments.push(format!("--join={ticket}")),
            None => arguments.push(format!("--mesh={}", self.mesh)),
        }
        arguments.extend(self.directories.iter().map(|directory| format!("--directory={directory}")));
        if self.watch {
            arguments.push("--watch".to_owned());
        }
        // Whoever plays can let others in.
        arguments.push("--print-ticket".to_owned());
        // Without `--lan` the game stays on this machine.
        match self.interface.clone().unwrap_or_else(Interface::from_environment) {
            Interface::Loopback => {}
            Interface::Named(name) => arguments.extend(["--lan".to_owned(), format!("--interface={name}")]),
            Interface::All => arguments.push("--lan".to_owned()),
        }
        arguments
    }
}

impl Launch {
    /// Starts `game`, or first its build if the lobby itself was started by cargo and the game was never built.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn start(game: Game, order: Order) -> Result<Self, LaunchError> {
        let stage = match find(game) {
            Found::Program(path) => run(game, path, &order)?,
            Found::Buildable { cargo, manifest } => Stage::Building(Build::start(game, &cargo, &manifest)?),
            Found::Nothing { advice } => return Err(LaunchError::Missing { name: game.name, advice }),
        };
        Ok(Self { game, order, stage })
    }

    /// Which game.
    pub fn game(&self) -> Game {
        self.game
    }

    /// Whether the game's process runs.
    pub fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }

    /// What happened since the last call. Returns at once.
    pub fn poll(&mut self) -> Vec<LaunchEvent> {
        match &mut self.stage {
            Stage::Over => Vec::new(),
            Stage::Building(build) => match build.poll() {
                build::State::Working(Some(words)) => vec![LaunchEvent::Building(words)],
                build::State::Working(None) => Vec::new(),
                build::State::Failed(why) => self.over(LaunchEvent::Failed(why)),
                build::State::Done => match find(self.game) {
                    Found::Program(path) => match run(self.game, path, &self.order) {
                        Ok(stage) => {
                            self.stage = stage;
                            vec![LaunchEvent::Started]
                        }
                        Err(error) => self.over(LaunchEvent::Failed(error.to_string())),
                    },
                    _ => self.over(LaunchEvent::Failed(format!(
                        "{} was built, but not where the lobby looks. Set {GAME_VARIABLE} to its program.",
                        self.game.name
                    ))),
                },
            },
            Stage::Running { child, output, ticket_told } => {
                let mut events = Vec::new();
                if !*ticket_told && let Some(ticket) = ticket_in(&output.text()) {
                    *ticket_told = true;
                    events.push(LaunchEvent::Ticket(ticket));
                }
                match child.try_wait() {
                    Ok(None) => {}
                    Ok(Some(status)) if status.success() => events.extend(self.over(LaunchEvent::Ended)),
                    Ok(Some(status)) => {
                        // Whoever was killed had no last words.
                        let said = status.code().and_then(|_| last_words(&output.text()));
                        let why = said.unwrap_or_else(|| format!("The game was ended from outside ({status})."));
                        let refused = status.code() == Some(REFUSED_CODE);
                        events.extend(self.over(if refused { LaunchEvent::Refused(why) } else { LaunchEvent::Failed(why) }));
                    }
                    Err(error) => events.extend(self.over(LaunchEvent::Failed(error.to_string()))),
                }
                events
            }
        }
    }

    /// Ends the game, or its build.
    pub fn stop(&mut self) {
        if let Stage::Running { child, .. } = &mut self.stage
            && child.kill().is_ok()
        {
            _ = child.wait();
        }
        self.stage = Stage::Over;
    }

    fn over(&mut self, event: LaunchEvent) -> Vec<LaunchEvent> {
        self.stage = Stage::Over;
        vec![event]
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Order({:?} into {:?}, secrets not shown)", self.player, self.mesh)
    }
}

/// How often to look how a game goes.
pub const POLL_EVERY: Duration = Duration::from_millis(100);

fn run(game: Game, path: PathBuf, order: &Order) -> Result<Stage, LaunchError> {
    let spawn = || {
        let (output, for_out, for_err) = Output::create()?;
        let mut command = std::process::Command::new(&path);
        command.args(order.arguments()).stdin(std::process::Stdio::null()).stdout(for_out).stderr(for_err);
        // What it says last is shown to people.
        command.env("NO_COLOR", "1").env_remove(game.password_variable);
        if let Some(password) = &order.password {
            command.env(game.password_variable, password);
        }
        Ok(Stage::Running { child: command.spawn()?, output, ticket_told: false })
    };
    spawn().map_err(|source| LaunchError::Spawn { path: path.clone(), source })
}

/// The ticket that the game wrote, once the whole line is there.
fn ticket_in(text: &str) -> Option<Ticket> {
    let whole = &text[..text.rfind('\n')?];
    whole.lines().find_map(|line| line.trim().strip_prefix(TICKET_LABEL)?.trim().parse().ok())
}

/// The last line that the game wrote before it ended: programs say there what went wrong.
fn last_words(text: &str) -> Option<String> {
    let line = text.lines().rev().find(|line| !line.trim().is_empty() && !line.starts_with(TICKET_LABEL))?;
    let words = crate::text::clean_line(line);
    // Programs put their own name before what they say, or what kind of saying it is.
    let words = words.split_once(": ").filter(|(who, _)| !who.contains(' ')).map_or(words.as_str(), |(_, words)| words);
    let words = words.rsplit(REFUSED_LABEL).next().unwrap_or(words);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            player: "--help".into(),
            mesh: "-x".into(),
            password: Some("hunter2".into()),
            ticket: None,
            interface: Some(Interface::Loopback),
            watch: false,
            directories: Vec::new(),
        }
    }

    #[test]
    fn no_value_can_become_a_flag_and_no_password_is_on_the_command_line() {
        let arguments = order().arguments();
        assert_eq!(arguments, ["--name=--help", "--bots=0", "--mesh=-x", "--print-ticket"]);
        assert!(!format!("{:?}", order()).contains("hunter2"));
    }

    #[test]
    fn loopback_stays_on_the_machine() {
        let everywhere = Order { interface: Some(Interface::All), ..order() }.arguments();
        assert!(everywhere.contains(&"--lan".to_owned()));
        assert!(!order().arguments().contains(&"--lan".to_owned()));
    }

    #[test]
    fn half_a_ticket_is_none() {
        assert_eq!(ticket_in("ticket: peerflock1abc"), None);
        assert_eq!(ticket_in("hello\nticket: nonsense\n"), None);
        let mesh = peerflock::PeerMesh::named("dusk").loopback_only().lan(false).start_in_background().wait().unwrap();
        let ticket = mesh.ticket();
        assert_eq!(ticket_in(&format!("hello\nticket: {ticket}\n")), Some(ticket));
    }

    #[test]
    fn the_last_words_are_told() {
        let text = "starting\nerror: the password does not open this mesh\n\n";
        assert_eq!(last_words(text).unwrap(), "The password does not open this mesh");
        assert_eq!(last_words("murmuration: could not join: too late\n").unwrap(), "Could not join: too late");
        let refused = "murmuration: could not join the mesh: 127.0.0.1:1 refused us: the mesh is full\n";
        assert_eq!(last_words(refused).unwrap(), "The mesh is full");
        assert_eq!(last_words("\n \n"), None);
    }

    #[test]
    fn only_known_games_run() {
        assert!(game("Murmuration").is_some());
        assert_eq!(game("murmuration"), game("Murmuration"));
        for name in ["", "sh", "../murmuration", "murmuration "] {
            assert_eq!(game(name), None);
        }
    }
}
