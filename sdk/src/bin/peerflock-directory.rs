//! `peerflock-directory`: a place on the internet where players of a mesh find each other. See `peerflock::directory`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use peerflock::directory::{DirectoryLimits, DirectoryOptions, DirectoryService, PORT};

const HELP: &str = "\
A directory: players who know the same name and password find each other here. It learns neither.

Usage: peerflock-directory [OPTIONS]

Options:
  --listen ADDRESS    Where players reach it, UDP [default: [::]:4434]; the next port answers questions, too
  --http ADDRESS      Where /health and /metrics are, TCP [default: nowhere]
  --data FOLDER       Where its key and its entries survive a restart [default: nowhere, and a new key at each start]
  --host NAME         What the world calls this machine, for the address that is printed [default: the first of its own addresses]
  --private           Name no players but those who ask for it
  --lifetime SECONDS  How long an entry lasts unless it is renewed [default: 60]
  --relays PAIRS      Relay for so many pairs of first players who find no way to each other; 0 for none [default: 256]
  --seconds SECONDS   End after so long [default: never]
  --help              This text

Example: peerflock-directory --data /var/lib/peerflock --http 127.0.0.1:8080 --host directory.example.org";

/// What was asked for.
struct Asked {
    options: DirectoryOptions,
    host: Option<String>,
    seconds: Option<u64>,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            say(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            complain(&format!("{why}\n\n{HELP}"));
            return ExitCode::from(2);
        }
    };
    let Asked { options, host, seconds } = asked;
    let outcome = DirectoryService::run(options, seconds.map(Duration::from_secs), |service| {
        let listen = service.local_address();
        let host = host.unwrap_or_else(|| if listen.ip().is_unspecified() { "HOST".into() } else { listen.ip().to_string() });
        say(&format!("listening at {listen}; players add {}", service.address(&host)));
        if let Some(http) = service.http_address() {
            say(&format!("http://{http}/health and http://{http}/metrics"));
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// None where help was asked for.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let mut asked = Asked { options: DirectoryOptions::default(), host: None, seconds: None };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} wants a value after it"));
        match word.as_str() {
            "--help" | "-h" => return Ok(None),
            "--private" => asked.options.refers = false,
            "--listen" => asked.options.listen = address(&value()?, "--listen")?,
            "--http" => asked.options.http = Some(address(&value()?, "--http")?),
            "--data" => asked.options.data = Some(PathBuf::from(value()?)),
            "--host" => asked.host = Some(value()?),
            "--seconds" => asked.seconds = Some(number(&value()?, "--seconds")?),
            "--relays" => {
                let relays = usize::try_from(number(&value()?, "--relays")?).unwrap_or(usize::MAX);
                asked.options.limits = DirectoryLimits { relays, ..asked.options.limits };
            }
            "--lifetime" => {
                let lifetime = Duration::from_secs(number(&value()?, "--lifetime")?.clamp(3, 86_400));
                asked.options.limits = DirectoryLimits { lifetime, ..asked.options.limits };
            }
            _ => return Err(format!("{word} is no option")),
        }
    }
    Ok(Some(asked))
}

fn address(text: &str, option: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{option} wants an address and a port, like [::]:{PORT} or 127.0.0.1:8080, not {text}"))
}

fn number(text: &str, option: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{option} wants a number, not {text}"))
}

#[allow(clippy::print_stdout, reason = "the one place where this program prints")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "the one place where this program complains")]
fn complain(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<Asked>, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_or_named() {
        let asked =
            parsed("--listen 127.0.0.1:7 --http 127.0.0.1:8 --data /x --host h --private --lifetime 9 --relays 5 --seconds 1")
                .unwrap()
                .unwrap();
        assert_eq!((asked.options.listen.port(), asked.options.http.unwrap().port(), asked.options.refers), (7, 8, false));
        assert_eq!(asked.options.limits.relays, 5);
        assert_eq!((asked.options.limits.lifetime.as_secs(), asked.seconds, asked.host.as_deref()), (9, Some(1), Some("h")));
        assert!(parsed("--help --nonsense").unwrap().is_none());
        for (wrong, part) in
            [("--nonsense", "--nonsense"), ("--listen", "wants a value"), ("--listen x", "[::]:4434"), ("--lifetime x", "number")]
        {
            assert!(parsed(wrong).err().unwrap().contains(part), "{wrong}");
        }
    }
}
