//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use peerflock::Interface;
use peerflock::directory::DirectoryAddress;
use peerflock_lobby::Filter;
use peerflock_lobby::card::PLAYERS_MAX;

/// Meet before you play: rooms on your network, without a server.
///
/// Without a command it opens a window. Without a display it lists what there is in the terminal.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) common: Common,
    /// In this terminal, without a window
    #[arg(long, conflicts_with = "screenshot")]
    pub(crate) tui: bool,
    /// With the window: save a picture of it and close it
    #[arg(long, value_name = "FILE", value_parser = picture)]
    pub(crate) screenshot: Option<PathBuf>,
    /// With the window: close it after so long; the picture is taken then
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// What to call you [default: what you said last, or your name on this machine]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) player: Option<String>,
    /// Find rooms across the internet at this directory, too, as host or host:port, and list there what you open; may be given several times
    #[arg(long = "at", global = true, value_name = "DIRECTORY")]
    pub(crate) directories: Vec<DirectoryAddress>,
    /// The network to use, by the name of its interface; `lo` stays on this machine [default: all]
    #[arg(long, global = true, value_name = "NAME", env = "PEERFLOCK_INTERFACE", value_parser = interface)]
    pub(crate) interface: Option<Interface>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the rooms and games on this network
    List {
        /// As one JSON array
        #[arg(long)]
        json: bool,
        /// How long to look
        #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
        seconds: Duration,
        #[command(flatten)]
        which: Which,
    },
    /// List them again and again, until Ctrl+C
    Watch {
        /// One JSON array a line
        #[arg(long)]
        json: bool,
        /// End after so long
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        seconds: Option<Duration>,
        #[command(flatten)]
        which: Which,
    },
    /// Open a room and stay in it; what you type is said to everyone
    Create {
        /// What to call the room
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Only who knows it can come in [default: anybody]
        #[arg(long, env = "PEERFLOCK_PASSWORD", hide_env_values = true)]
        password: Option<String>,
        /// How many players there is room for
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=i64::from(PLAYERS_MAX)))]
        players: u16,
        /// A map or a mode, shown in lists
        #[arg(long, value_name = "MODE")]
        mode: Option<String>,
        #[command(flatten)]
        stay: Stay,
    },
    /// Join a room and stay in it; what you type is said to everyone
    Join {
        /// Its name on this network, or an invitation to it
        #[arg(value_name = "NAME|INVITATION")]
        room: String,
        /// The room's password, if it has one
        #[arg(long, env = "PEERFLOCK_PASSWORD", hide_env_values = true)]
        password: Option<String>,
        #[command(flatten)]
        stay: Stay,
    },
    /// Join the best room for you, or open one, and stay in it
    Quick {
        #[command(flatten)]
        stay: Stay,
    },
    /// Say something in a room, and leave once it was heard
    Say {
        /// The room's name on this network, or an invitation to it
        #[arg(value_name = "NAME|INVITATION")]
        room: String,
        /// What to say
        #[arg(value_name = "LINE")]
        line: String,
        /// The room's password, if it has one
        #[arg(long, env = "PEERFLOCK_PASSWORD", hide_env_values = true)]
        password: Option<String>,
        /// What happens as one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Find out why others cannot be reached: this machine, its networks and its router
    Doctor {
        /// Ask this directory what it sees of us, as host or host:port; may be given several times
        #[arg(long, value_name = "HOST")]
        directory: Vec<DirectoryAddress>,
        /// Ask this member, too: the address of somebody who plays and can be reached
        #[arg(long, value_name = "ADDRESS")]
        member: Vec<SocketAddr>,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Run a directory, at which players find each other across the internet
    Directory {
        /// Where players reach it: UDP
        #[arg(long, value_name = "ADDRESS", default_value = "[::]:4434")]
        listen: SocketAddr,
        /// Where /health and /metrics are: TCP [default: nowhere]
        #[arg(long, value_name = "ADDRESS")]
        http: Option<SocketAddr>,
        /// The folder in which its key and its entries survive a restart [default: nowhere]
        #[arg(long, value_name = "FOLDER")]
        data: Option<PathBuf>,
        /// What the world calls this machine
        #[arg(long, value_name = "NAME", default_value = "HOST")]
        host: String,
        /// Name no players but those who ask for it
        #[arg(long)]
        private: bool,
        /// End after so long
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        seconds: Option<Duration>,
    },
}

/// Which rooms to list.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Only those with all these words in name, game or mode
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    pub(crate) search: String,
    /// Only those with a free seat
    #[arg(long)]
    pub(crate) free: bool,
    /// Only those without a password
    #[arg(long)]
    pub(crate) open: bool,
}

impl Which {
    /// The same as the list's filter.
    pub(crate) fn filter(&self) -> Filter {
        Filter { search: self.search.clone(), free: self.free, open: self.open, ..Filter::default() }
    }
}

impl Common {
    /// What to call the player.
    pub(crate) fn name(&self) -> &str {
        self.player.as_deref().unwrap_or("Player")
    }
}

/// How to be in a room from the terminal.
#[derive(Debug, Default, Args)]
pub(crate) struct Stay {
    /// Leave after so long [default: at the end of standard input, or Ctrl+C]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) seconds: Option<Duration>,
    /// Say this once somebody else is there; may be given several times
    #[arg(long, value_name = "LINE")]
    pub(crate) say: Vec<String>,
    /// Be ready: when somebody starts the game, start it here too
    #[arg(long)]
    pub(crate) ready: bool,
    /// Press Start as soon as so many others are ready
    #[arg(long, value_name = "N", conflicts_with = "watch")]
    pub(crate) start: Option<usize>,
    /// Show the invitation as a code for a camera, too
    #[arg(long, conflicts_with = "json")]
    pub(crate) qr: bool,
    /// Come to watch, without a seat
    #[arg(long, conflicts_with = "ready")]
    pub(crate) watch: bool,
    /// What happens as one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo lobby                                             The window
  cargo lobby -- --tui                                    The same in this terminal
  cargo lobby -- list --json                              What is there, for scripts
  cargo lobby -- create --name Friday --password dusk     Open a room
  cargo lobby -- join Friday --password dusk              Join it
  cargo lobby -- say Friday 'back in five' --password dusk
  cargo lobby -- --at directory.example.org               Rooms of all the world
  cargo lobby -- doctor                                   Why can nobody reach me?
  cargo lobby -- --interface lo                           Stay on this machine

Exit codes: 0 all well; 1 something failed, as it says; 2 the room would not have you, or the command line makes no sense.";

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a number of seconds from 0.1 to 86400".into()),
    }
}

fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if ending.eq_ignore_ascii_case("png") => Ok(path),
        _ => Err("pictures are PNG files: give a name that ends in .png".into()),
    }
}

fn interface(name: &str) -> Result<Interface, std::convert::Infallible> {
    Ok(Interface::from(name))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(std::iter::once("lobby").chain(line.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_flags_may_come_after_the_command() {
        let cli = parse("list --json --interface lo --seconds 0.5").unwrap();
        assert_eq!(cli.common.interface, Some(Interface::Loopback));
        assert!(matches!(cli.command, Some(Command::List { json: true, seconds, .. }) if seconds == Duration::from_millis(500)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (line, word) in [
            ("list --seconds NaN", "seconds"),
            ("list --seconds=-1", "seconds"),
            ("create", "--name"),
            ("create --name x --players 1", "1"),
            ("--screenshot x.jpg", "PNG"),
            ("--tui --screenshot x.png", "--tui"),
            ("join x --watch --start 2", "--start"),
            ("say x", "LINE"),
            ("dance", "dance"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
