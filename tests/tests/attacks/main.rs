//! Attacks, one test or more for each, named after it: what strangers, members and whoever sits between them can try with bytes, and
//! what becomes of it. The counts are those that we set ourselves before a release.

mod decoding;
mod dictionary;
mod forging;
mod hand;
mod handshake;
mod lending;
mod members;
mod passwords;
mod strangers;

use peerflock_proto::Config;
use peerflock_tests::game::registry;

/// The game, with the usual limits.
fn config() -> Config {
    Config { registry: registry(), ..Config::default() }
}
