//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgAction, Parser};
use peerflock::directory::DirectoryAddress;
use peerflock::{NeighborLimits, Ticket};

use crate::bot;
use crate::round::{ROUND_SECONDS, ROUND_SECONDS_MIN};
use crate::settings::Settings;
use crate::world::{BIRDS, BIRDS_MAX};

/// Bots that fly along unless told otherwise.
const BOTS: usize = 3;
/// Most processes that one command starts.
const PEERS_MAX: usize = 64;
/// How long a headless run plays unless told otherwise, in seconds.
const SECONDS: f64 = 20.0;
/// The least time between a kill and the end of a run, in seconds: the others need it to find out and to adopt the birds.
const AFTER_KILL: f64 = 4.0;
/// What the mesh is called unless told otherwise.
const MESH: &str = "murmuration";

/// Lead a flock of starlings over a mesh of players. There is no server: every player holds a part of the sky.
///
/// Steer with the mouse, WASD, the arrow keys or a finger. Brush a smaller flock and its birds come over to you. Enter opens
/// the chat, F3 shows the mesh, F4 copies an invitation, F11 fills the screen. Without a display the game plays in the terminal.
#[derive(Clone, Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to call you
    #[arg(long, value_name = "NAME", env = "USER", hide_env = true, default_value = "You", help_heading = PLAY)]
    pub(crate) name: String,
    /// Bots to fly along, each a process of its own
    #[arg(long, value_name = "N", conflicts_with = "peers", help_heading = PLAY)]
    pub(crate) bots: Option<usize>,
    /// Birds that every player brings
    #[arg(long, value_name = "N", default_value_t = BIRDS, value_parser = at_most(BIRDS_MAX), help_heading = PLAY)]
    pub(crate) birds: usize,
    /// Length of a round; all players should say the same
    #[arg(long, value_name = "SECONDS", default_value_t = ROUND_SECONDS, value_parser = clap::value_parser!(u32).range(i64::from(ROUND_SECONDS_MIN)..=3_600), help_heading = PLAY)]
    pub(crate) round: u32,
    /// Let a bot steer your starling
    #[arg(long, help_heading = PLAY)]
    pub(crate) autopilot: bool,
    /// Only watch: Tab follows one flock after the other
    #[arg(long, conflicts_with_all = ["headless", "autopilot", "terminal"], help_heading = PLAY)]
    pub(crate) watch: bool,

    /// The mesh to open, or to find on this machine
    #[arg(long, value_name = "NAME", help_heading = MESH_HEADING)]
    pub(crate) mesh: Option<String>,
    /// Only who knows it can join
    #[arg(long, env = "MURMURATION_PASSWORD", hide_env_values = true, help_heading = MESH_HEADING)]
    pub(crate) password: Option<String>,
    /// Join the mesh that this ticket invites to (F4 copies it, and it is printed at the start)
    #[arg(long, value_name = "TICKET", value_parser = ticket, conflicts_with = "mesh", help_heading = MESH_HEADING)]
    pub(crate) join: Option<String>,
    /// Write the line `ticket: TICKET` on standard output once the mesh is open: for the lobby and other launchers
    #[arg(long, help_heading = MESH_HEADING)]
    pub(crate) print_ticket: bool,
    /// Let others on the network join; without it everything stays on this machine
    #[arg(long, help_heading = MESH_HEADING)]
    pub(crate) lan: bool,
    /// Meet players across the internet at this directory, as host or host:port; may be given several times. Implies --lan
    #[arg(long, value_name = "HOST", help_heading = MESH_HEADING)]
    pub(crate) directory: Vec<DirectoryAddress>,
    /// With --lan: use this network only, by the name of its interface
    #[arg(long, value_name = "NAME", help_heading = MESH_HEADING)]
    pub(crate) interface: Option<String>,
    /// Links that each player has at most [default: 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = MESH_HEADING)]
    pub(crate) max_neighbors: Option<u8>,
    /// Links below which a player looks for more [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = MESH_HEADING)]
    pub(crate) ideal_neighbors: Option<u8>,
    /// Links below which others make room for a player [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..), help_heading = MESH_HEADING)]
    pub(crate) min_neighbors: Option<u8>,

    /// Play in the terminal, even if there is a display
    #[arg(long, conflicts_with_all = ["headless", "screenshot"], help_heading = LOOK)]
    pub(crate) terminal: bool,
    /// Begin with the mesh (F3) shown
    #[arg(long, help_heading = LOOK)]
    pub(crate) show_mesh: bool,
    /// Save a picture of the window once all have met and played a while, then end
    #[arg(long, value_name = "FILE", conflicts_with = "headless", help_heading = LOOK)]
    pub(crate) screenshot: Option<PathBuf>,
    /// Seconds after which the picture is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 12.0, value_parser = seconds, requires = "screenshot", help_heading = LOOK)]
    pub(crate) screenshot_after: f64,

    /// No window, no terminal: bots only, measured
    #[arg(long, help_heading = MEASURE)]
    pub(crate) headless: bool,
    /// Processes in all: with a window or a terminal you and bots, headless bots only [default: 4]
    #[arg(long, value_name = "N", value_parser = at_most(PEERS_MAX), help_heading = MEASURE)]
    pub(crate) peers: Option<usize>,
    /// End after so many seconds [default headless: 20, counted from when all have met]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = MEASURE)]
    pub(crate) seconds: Option<f64>,
    /// Write what was measured as JSON
    #[arg(long, value_name = "FILE", requires = "headless", conflicts_with = "join", help_heading = MEASURE)]
    pub(crate) report: Option<PathBuf>,
    /// Kill the process that opened the mesh, without warning, after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "headless", conflicts_with = "join", help_heading = MEASURE)]
    pub(crate) kill_at: Option<f64>,
    /// Chat lines that every bot says in a headless run
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1_000), help_heading = MEASURE)]
    pub(crate) chat: u32,
    /// Ticks per second
    #[arg(long, value_name = "HZ", default_value_t = 30, value_parser = clap::value_parser!(u32).range(5..=120), help_heading = MEASURE)]
    pub(crate) tick_rate: u32,
    /// Seed of what is left to chance [default: another one every time]
    #[arg(long, value_name = "NUMBER", help_heading = MEASURE)]
    pub(crate) seed: Option<u64>,

    /// For the launcher: wait for orders on standard input
    #[arg(long, hide = true, action = ArgAction::SetTrue, exclusive = true)]
    pub(crate) child: bool,
}

const PLAY: &str = "The game";
const MESH_HEADING: &str = "The mesh";
const LOOK: &str = "What to see";
const MEASURE: &str = "Without hands";
const EXAMPLES: &str = "\
Examples:
  cargo demo                                        You and three bots, in a window
  cargo demo -- --lan --password dusk               Others on your network may join, if they know the password
  cargo demo -- --directory party.example.org --mesh evening --password dusk
                                                    The same across the internet: no port to open
  cargo demo -- --bots 0 --join peerflock1...       Join a friend's mesh by ticket
  cargo demo -- --terminal                          Play over SSH
  cargo demo -- --headless --peers 4 --seconds 20 --report r.json
                                                    Four bots, measured
  cargo demo -- --headless --peers 4 --kill-at 10   The one who opened the mesh is killed: no bird is lost

Exit codes: 0 all well; 1 something failed, as it says; 2 the mesh would not have you, or the command line makes no sense.";

impl Cli {
    /// Checks what clap cannot, and fills in what was left out. The error is for people.
    pub(crate) fn checked(mut self) -> Result<Self, String> {
        if self.headless {
            let seconds = *self.seconds.get_or_insert(SECONDS);
            if let Some(kill_at) = self.kill_at {
                if kill_at + AFTER_KILL > seconds {
                    return Err(format!(
                        "--kill-at {kill_at} leaves less than {AFTER_KILL} seconds to find out and adopt the birds: raise --seconds"
                    ));
                }
                if self.processes() < 2 {
                    return Err("--kill-at leaves nobody: raise --peers".into());
                }
            }
        }
        if self.interface.is_some() && !self.lan && self.directory.is_empty() {
            return Err("--interface names the network on which others may join: add --lan or --directory".into());
        }
        self.seed.get_or_insert_with(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |now| now.as_nanos() as u64) ^ u64::from(std::process::id())
        });
        Ok(self)
    }

    /// How many processes play in all, ours included where it plays.
    pub(crate) fn processes(&self) -> usize {
        // Whoever joins others brings no bots, unless asked to.
        let bots = self.bots.unwrap_or_else(|| if self.join.is_some() { 0 } else { BOTS });
        self.peers.unwrap_or(bots + 1)
    }

    /// How many links to hold.
    pub(crate) fn neighbors(&self) -> NeighborLimits {
        let given = |number: Option<u8>, otherwise: usize| number.map_or(otherwise, usize::from);
        let limits = self.max_neighbors.map_or_else(NeighborLimits::default, |max| NeighborLimits::with_max(max.into()));
        let (min, ideal) = (given(self.min_neighbors, limits.min), given(self.ideal_neighbors, limits.ideal));
        NeighborLimits::new(min, ideal, limits.max)
    }

    /// The settings of the player whom this process is, or of the first bot of a headless run.
    pub(crate) fn settings(&self) -> Settings {
        let limits = self.neighbors();
        let seed = self.seed.unwrap_or_default();
        // Two runs at once are two meshes, unless somebody names one to meet in.
        let mesh = self.mesh.clone().unwrap_or_else(|| if self.headless { format!("{MESH}-{seed:016x}") } else { MESH.into() });
        Settings {
            name: if self.headless { bot::name(0) } else { self.name.clone() },
            bot: self.headless,
            watch: self.watch,
            mesh,
            password: self.password.clone(),
            join: self.join.clone(),
            neighbors: [limits.min, limits.ideal, limits.max],
            lan: self.lan || !self.directory.is_empty(),
            // Who has a ticket knows where to go, and a measured run is nobody else's business unless it was given a name.
            directories: self.directory.iter().map(ToString::to_string).collect(),
            discover: self.lan || !self.directory.is_empty() || (self.join.is_none() && (!self.headless || self.mesh.is_some())),
            interface: self.interface.clone(),
            birds: self.birds,
            seed,
            tick_rate: f64::from(self.tick_rate),
            round_seconds: self.round,
            measured: self.headless,
        }
    }
}

/// A ticket as it was written, once it is seen to be one.
fn ticket(text: &str) -> Result<String, String> {
    Ticket::from_str(text.trim()).map(|_| text.trim().to_owned()).map_err(|error| error.to_string())
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 86400".into()),
    }
}

fn at_most(max: usize) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text| match text.parse() {
        Ok(number) if (1..=max).contains(&number) => Ok(number),
        _ => Err(format!("a whole number from 1 to {max}")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("murmuration").chain(line.split_whitespace());
        Cli::try_parse_from(words).map_err(|error| error.to_string()).and_then(Cli::checked)
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let help = Cli::command().render_long_help().to_string();
        for word in ["--peers", "--kill-at", "--screenshot", "cargo demo -- --headless", "Exit codes"] {
            assert!(help.contains(word), "{word} is missing");
        }
        assert!(!help.contains("--child"));
    }

    #[test]
    fn the_commands_of_the_readme_mean_what_they_say() {
        let plain = parse("").unwrap();
        assert_eq!((plain.processes(), plain.headless, plain.lan), (4, false, false));
        assert_eq!(plain.settings().mesh, "murmuration");
        let measured = parse("--headless --peers 4 --seconds 20 --report r.json --kill-at 10").unwrap();
        assert_eq!((measured.processes(), measured.seconds, measured.kill_at), (4, Some(20.0), Some(10.0)));
        let crowd = parse("--headless --peers 12 --max-neighbors 4").unwrap();
        assert_eq!((crowd.neighbors().max, crowd.seconds), (4, Some(SECONDS)));
        assert_eq!(parse("--bots 1").unwrap().processes(), 2);
        assert_eq!(parse("--max-neighbors 1").unwrap().settings().neighbors, [1, 1, 1]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (line, word) in [
            ("--kill-at 3", "--headless"),
            ("--headless --seconds 10 --kill-at 8", "raise --seconds"),
            ("--headless --peers 1 --kill-at 3", "raise --peers"),
            ("--bots 2 --peers 3", "cannot be used with"),
            ("--peers 0", "from 1 to"),
            ("--peers 1000", "from 1 to"),
            ("--seconds 0", "seconds"),
            ("--seconds NaN", "seconds"),
            ("--join nonsense", "no ticket"),
            ("--interface lo", "--lan"),
            ("--report r.json", "--headless"),
            ("--child --headless", "cannot be used with"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn headless_runs_do_not_meet_by_accident() {
        let mesh = |line| parse(line).unwrap().settings().mesh;
        assert_ne!(mesh("--headless --seed 1"), mesh("--headless --seed 2"));
        assert_eq!(mesh("--headless --seed 1 --mesh dusk"), "dusk");
    }
}
