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

use std::time::Duration;

use peerflock_proto::{Config, Group, Kind, KindId, Registry, Shape};

const PLACE: KindId = KindId(0);

/// A game with one component, "place", of two integers that move.
fn config() -> Config {
    let mut registry = Registry::default();
    registry.register(Kind { name: "place".into(), shape: Shape::Fields(&[Group::Motion(2)]) });
    Config { registry, ..Config::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
