//! Trying passwords at the door of one member.

use std::net::SocketAddr;

use peerflock_proto::sim::guess::{Dialing, View, hello, share};
use peerflock_proto::{Boot, CloseReason, Identity, PeerId};
use peerflock_tests::game::seconds;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::config;
use super::hand::{Hand, address, key, mesh};

const IDENTITIES: u8 = 10;
const TRIES: usize = 1_000;
/// Wrong passwords from one address before it is locked out.
const ALLOWED: u64 = 5;

fn guesser(number: u8) -> PeerId {
    Identity::from_seed([100 + number; 32]).peer_id()
}

/// One try of a password as `who`, from `host`: whether it was listened to, and whether that let it in.
fn try_password(door: &mut Hand, who: u8, host: u8, password: &str, number: usize) -> Result<bool, CloseReason> {
    try_from(door, who, address(host, number as u16), password, number)
}

fn try_from(door: &mut Hand, who: u8, from: SocketAddr, password: &str, number: usize) -> Result<bool, CloseReason> {
    let mut exporter = [3; 32];
    exporter[..8].copy_from_slice(&(number as u64).to_le_bytes());
    let view = View { mesh: mesh(), dialer: guesser(who), accepter: door.peer(), exporter };
    let link = door.knocked(from, view.dialer, exporter)?;
    let (dialing, half) = Dialing::start(&view, &key(password), ChaCha8Rng::seed_from_u64(number as u64));
    let did = door.hear(link, hello(half).expect("short"));
    let theirs = share(&did.frames[0]).expect("a stranger's HELLO is answered");
    let expected = dialing.expects(&theirs).expect("an honest half");
    let did = door.hear(link, expected.confirm(Boot(7), config().registry.fingerprint()).expect("short"));
    if !did.admitted {
        assert_eq!(did.closed, [(link, CloseReason::Refused)]);
    }
    Ok(did.admitted)
}

#[test]
fn a_thousand_wrong_passwords_from_ten_identities_let_nobody_in_and_lock_their_addresses_out() {
    let mut door = Hand::new(1, "mellon");
    let (mut admitted, mut locked_out) = (0, 0);
    for number in 0..TRIES {
        let who = (number % usize::from(IDENTITIES)) as u8;
        match try_password(&mut door, who, 10 + who, &format!("guess {number}"), number) {
            Ok(let_in) => admitted += u64::from(let_in),
            Err(CloseReason::LockedOut) => locked_out += 1,
            Err(other) => panic!("try {number}: {other}"),
        }
    }
    assert_eq!(admitted, 0);
    let guesses = ALLOWED * u64::from(IDENTITIES);
    let counters = door.node.counters();
    assert_eq!((locked_out, counters.guesses_failed), (TRIES as u64 - guesses, guesses));
    assert_eq!(counters.strangers_locked_out, locked_out);
    // Even the right one is not listened to from there, and it still enters from anywhere else.
    assert_eq!(try_password(&mut door, 0, 10, "mellon", TRIES), Err(CloseReason::LockedOut));
    assert_eq!(try_password(&mut door, 0, 99, "mellon", TRIES + 1), Ok(true));
    assert_eq!(door.node.links().len(), 1);
}

#[test]
fn ten_identities_at_one_address_have_no_more_guesses_than_one() {
    let mut door = Hand::new(1, "mellon");
    let listened = (0..TRIES)
        .filter(|number| try_password(&mut door, (number % 10) as u8, 10, &format!("guess {number}"), *number).is_ok())
        .count();
    assert_eq!(listened as u64, ALLOWED);
    assert_eq!(try_password(&mut door, 0, 99, "mellon", TRIES), Ok(true));
}

#[test]
fn all_addresses_of_one_ipv6_network_have_no_more_guesses_than_one() {
    let mut door = Hand::new(1, "mellon");
    let within = |network, number: usize| SocketAddr::from(([0x2001, 0xdb8, 0, network, 0, 0, 0, number as u16], 7));
    let guess = |number: &usize| try_from(&mut door, (number % 10) as u8, within(1, *number), "guess", *number).is_ok();
    assert_eq!((0..TRIES).filter(guess).count() as u64, ALLOWED);
    assert_eq!(try_from(&mut door, 0, within(2, 1), "mellon", TRIES), Ok(true), "and nobody else suffers");
}

#[test]
fn patience_buys_few_more_guesses() {
    let mut door = Hand::new(1, "mellon");
    // A try each second for a day.
    let mut listened = 0;
    for second in 0..24 * 3_600 {
        listened += u64::from(try_password(&mut door, 0, 10, "guess", second).is_ok());
        door.now = door.now + seconds(1);
    }
    // 5, then after 1, 2, 4, .. 32 minutes, then one in an hour.
    assert!((25..=35).contains(&listened), "{listened} guesses in a day");
}

#[test]
fn who_sees_the_answer_and_hangs_up_has_used_a_guess() {
    let mut door = Hand::new(1, "mellon");
    for number in 0..20 {
        let view = View { mesh: mesh(), dialer: guesser(0), accepter: door.peer(), exporter: [number; 32] };
        let link = match door.knocked(address(10, u16::from(number)), view.dialer, view.exporter) {
            Ok(link) => link,
            Err(reason) => {
                assert_eq!((u64::from(number), reason), (ALLOWED, CloseReason::LockedOut));
                return;
            }
        };
        let (_, half) = Dialing::start(&view, &key("guess"), ChaCha8Rng::seed_from_u64(number.into()));
        assert_eq!(door.hear(link, hello(half).expect("short")).frames.len(), 1);
        door.handle(peerflock_proto::Input::LinkDown { link, reason: CloseReason::Transport });
    }
    panic!("never locked out");
}
