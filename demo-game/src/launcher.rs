//! Starts bots as processes of their own, and keeps them on a leash: whatever becomes of us, they end with us.

use std::io;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::bot;
use crate::dice::Dice;
use crate::pipe::{self, Order};
use crate::settings::Settings;

mod flight;

pub(crate) use flight::fly;

/// How long a bot has to say goodbye before it is ended.
const GOODBYE: Duration = Duration::from_secs(3);

/// A bot in a process of its own. It ends when this is dropped, or when our process does.
#[derive(Debug)]
pub(crate) struct Bot {
    pub(crate) name: String,
    process: Child,
    leash: Option<ChildStdin>,
}

impl Bot {
    /// Starts one; `news` says what becomes of its standard output, `errors` of its standard error.
    pub(crate) fn start(settings: &Settings, news: Stdio, errors: Stdio) -> io::Result<Self> {
        let mut process =
            Command::new(std::env::current_exe()?).arg("--child").stdin(Stdio::piped()).stdout(news).stderr(errors).spawn()?;
        let leash = process.stdin.take();
        let mut bot = Self { name: settings.name.clone(), process, leash };
        bot.order(&Order::Begin(Box::new(settings.clone())))?;
        Ok(bot)
    }

    /// Its standard output, once, if it was piped.
    pub(crate) fn output(&mut self) -> Option<ChildStdout> {
        self.process.stdout.take()
    }

    /// Tells it what to do.
    pub(crate) fn order(&mut self, order: &Order) -> io::Result<()> {
        self.leash.as_mut().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |leash| pipe::write(leash, order))
    }

    /// Its exit code, if it has ended; 1 where a signal ended it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.try_wait().ok().flatten().map(|status| status.code().unwrap_or(1))
    }

    /// Ends it at once, without a goodbye: SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; either way it is gone then.
        _ = self.process.kill();
        _ = self.process.wait();
    }

    /// Asks it to end; [`Drop`] waits for it.
    pub(crate) fn let_go(&mut self) {
        self.leash = None;
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.let_go();
        let asked = Instant::now();
        while self.ended().is_none() {
            if asked.elapsed() > GOODBYE {
                return self.kill();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The bots that fly along with a player.
#[derive(Debug, Default)]
pub(crate) struct Company(Vec<Bot>);

impl Company {
    /// Starts so many bots, which join where `ticket` says. Bots are company: where one cannot be started, there is one less.
    pub(crate) fn start(bots: usize, player: &Settings, ticket: &str, quiet: bool) -> (Self, Option<io::Error>) {
        let mut company = Self::default();
        for index in 0..bots {
            let settings = Settings {
                join: Some(ticket.into()),
                lan: false,
                discover: false,
                interface: None,
                directories: Vec::new(),
                ..of_bot(index, player)
            };
            match Bot::start(&settings, Stdio::null(), if quiet { Stdio::null() } else { Stdio::inherit() }) {
                Ok(bot) => company.0.push(bot),
                Err(error) => return (company, Some(error)),
            }
        }
        (company, None)
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        // All at once, then one after the other is waited for.
        self.0.iter_mut().for_each(Bot::let_go);
    }
}

/// The settings of the `index`th bot of `player`.
pub(crate) fn of_bot(index: usize, player: &Settings) -> Settings {
    // Thrown, not counted up: neighboring seeds would throw the same, one after the other.
    let seed = Dice::new(player.seed.rotate_left(17) ^ index as u64).throw();
    Settings { name: bot::name(index), bot: true, watch: false, seed, ..player.clone() }
}
