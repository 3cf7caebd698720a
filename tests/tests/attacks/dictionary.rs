//! Playing the attacker: somebody with a dictionary that holds the true password, all frames that were said, and all the arithmetic that
//! SPAKE2 allows. One word can be tried with each connection that somebody makes, and nothing afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::sim::guess::{self, Dialing, Expected, View};
use peerflock_proto::{CloseReason, Identity, Input, PeerId};
use peerflock_tests::game::{millis, seconds};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Group};

use super::hand::{Hand, address, key, mesh};

const WORDS: usize = 200;
/// Where in the dictionary the true password stands.
const TRUE: usize = 123;

type Scalar = <Ed25519Group as Group>::Scalar;

fn word(number: usize) -> String {
    format!("word {number}")
}

fn peer(seed: u8) -> PeerId {
    Identity::from_seed([seed; 32]).peer_id()
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// A dialer that knows the password, an accepter that does, and whoever carries the frames between them.
struct Recorded {
    by_dialer: View,
    by_accepter: View,
    hello: Bytes,
    share: Bytes,
    proofs: Vec<Bytes>,
}

/// The handshake of two who know the password. `between`: who ends TLS on both sides, if anybody does.
fn recorded(between: Option<PeerId>) -> Recorded {
    let (mut dialer, mut accepter) = (Hand::new(1, &word(TRUE)), Hand::new(2, &word(TRUE)));
    let (a, b) = (peer(1), peer(2));
    let exporters = if between.is_some() { [[1; 32], [2; 32]] } else { [[7; 32]; 2] };
    let by_dialer = View { mesh: mesh(), dialer: a, accepter: between.unwrap_or(b), exporter: exporters[0] };
    let by_accepter = View { mesh: mesh(), dialer: between.unwrap_or(a), accepter: b, exporter: exporters[1] };
    let link = dialer.dial(address(2, 2));
    let theirs = accepter.knocked(address(1, 1), by_accepter.dialer, by_accepter.exporter).expect("the first try");
    let hello = dialer.up(link, address(2, 2), by_dialer.accepter, by_dialer.exporter).frames.remove(0);
    let share = accepter.hear(theirs, hello.clone()).frames.remove(0);
    let confirm = dialer.hear(link, share.clone()).frames.remove(0);
    let answered = accepter.hear(theirs, confirm.clone());
    assert_eq!(answered.admitted, between.is_none());
    let proofs = [vec![confirm], answered.frames.into_iter().take(1).collect()].concat();
    Recorded { by_dialer, by_accepter, hello, share, proofs }
}

/// The key that SPAKE2 gives to two whose shared point is this (its transcript: `hash_ab` of the `spake2` crate).
fn shared(view: &View, password: &[u8; 32], halves: [&[u8]; 2], point: &[u8]) -> [u8; 32] {
    let hash = |bytes: &[u8]| <[u8; 32]>::from(Sha256::digest(bytes));
    let parts = [hash(password), hash(&view.dialer.0), hash(&view.accepter.0)].concat();
    Sha256::digest([&parts, &halves[0][1..], &halves[1][1..], point].concat()).into()
}

/// An attacker that is the accepter: it knows the secret number behind the half that it sent, and has the dialer's.
struct Accepting {
    secret: Scalar,
    /// What it sent.
    share: Bytes,
}

impl Accepting {
    /// The half of an accepter that takes `guess` for the password, by SPAKE2's own arithmetic.
    fn guessing(guess: &[u8; 32], seed: u64) -> Self {
        let secret = Ed25519Group::random_scalar(&mut rng(seed));
        let blinded = Ed25519Group::scalarmult(&Ed25519Group::const_n(), &Ed25519Group::hash_to_scalar(guess));
        let point = Ed25519Group::add(&Ed25519Group::basepoint_mult(&secret), &blinded);
        Self { secret, share: [&b"B"[..], &Ed25519Group::element_to_bytes(&point)].concat().into() }
    }

    /// What the frames would prove if `password` were the true one.
    fn expects(&self, view: &View, hello: &[u8], password: &[u8; 32]) -> Expected {
        let theirs = Ed25519Group::bytes_to_element(&hello[1..]).expect("an honest half");
        let minus = Ed25519Group::scalar_neg(&Ed25519Group::hash_to_scalar(password));
        let unblinded = Ed25519Group::add(&theirs, &Ed25519Group::scalarmult(&Ed25519Group::const_m(), &minus));
        let point = Ed25519Group::element_to_bytes(&Ed25519Group::scalarmult(&unblinded, &self.secret));
        Expected::new(view, &shared(view, password, [hello, &self.share], &point), hello, &self.share)
    }
}

/// The words that a recorded handshake does not rule out: whether somebody who has it all can tell the true one.
fn found(recorded: &Recorded) -> BTreeSet<usize> {
    let (hello, share) = (guess::share(&recorded.hello).unwrap(), guess::share(&recorded.share).unwrap());
    let mut found = BTreeSet::new();
    for number in 0..WORDS {
        let (key, password) = (key(&word(number)), guess::password(&key(&word(number))));
        for view in [recorded.by_dialer, recorded.by_accepter] {
            let mut tries = Vec::new();
            for seed in 0..3 {
                // As a dialer, as an accepter, with secrets of its own: against what was said by others.
                tries.extend(Dialing::start(&view, &key, rng(seed)).0.expects(&share));
                tries.extend(guess::accept(&view, &key, &hello, rng(seed)).map(|(_, expected)| expected));
            }
            // With the halves as they were, and what can be made of them without the secrets: unblinded by the word, nothing, or their sum.
            let unblind = |half: &[u8], base| {
                let minus = Ed25519Group::scalar_neg(&Ed25519Group::hash_to_scalar(&password));
                let point = Ed25519Group::bytes_to_element(&half[1..]).expect("an honest half");
                Ed25519Group::add(&point, &Ed25519Group::scalarmult(&base, &minus))
            };
            let (x, y) = (unblind(&hello, Ed25519Group::const_m()), unblind(&share, Ed25519Group::const_n()));
            for point in [Ed25519Group::add(&x, &y), x, y] {
                let secret = shared(&view, &password, [&hello, &share], &Ed25519Group::element_to_bytes(&point));
                tries.push(Expected::new(&view, &secret, &hello, &share));
            }
            if tries.iter().any(|expected| recorded.proofs.iter().any(|proof| expected.proves(proof))) {
                found.insert(number);
            }
        }
    }
    found
}

#[test]
fn a_recorded_handshake_does_not_tell_the_password_from_other_words() {
    // Somebody who sees through TLS: all four frames, and the exporter.
    let open = recorded(None);
    assert_eq!(open.proofs.len(), 2);
    assert_eq!(found(&open), BTreeSet::new());
    // Somebody who ended TLS on both sides and passed on what they said: HELLO, SHARE and CONFIRM, and both exporters.
    let spliced = recorded(Some(peer(9)));
    assert_eq!(spliced.proofs.len(), 1);
    assert_eq!(found(&spliced), BTreeSet::new());
}

/// Who answers itself has one guess: it must choose a word before it sees the proof, and the proof says only whether it was that one.
#[test]
fn who_takes_part_learns_of_one_word_a_connection() {
    for chosen in [TRUE, TRUE + 1] {
        let mut dialer = Hand::new(1, &word(TRUE));
        let link = dialer.dial(address(2, 2));
        let view = View { mesh: mesh(), dialer: peer(1), accepter: peer(9), exporter: [7; 32] };
        let hello = guess::share(&dialer.up(link, address(2, 2), peer(9), view.exporter).frames[0]).unwrap();
        let attacker = Accepting::guessing(&guess::password(&key(&word(chosen))), 5);
        let confirm = dialer.hear(link, guess::answer(attacker.share.clone()).unwrap()).frames.remove(0);
        let held: Vec<usize> = (0..WORDS)
            .filter(|number| attacker.expects(&view, &hello, &guess::password(&key(&word(*number)))).proves(&confirm))
            .collect();
        assert_eq!(held, if chosen == TRUE { vec![TRUE] } else { vec![] }, "the word that it chose, and no other");
    }
}

/// A listener whose address got into somebody's book takes a word from its dictionary for each dial, and then hangs up.
#[test]
fn a_rogue_listener_has_one_guess_a_dial_and_is_dialed_ever_more_seldom() {
    #[derive(Clone, Copy, Debug)]
    enum Ends {
        HangsUp,
        Refuses,
        Lies,
        SaysNothing,
    }
    for ends in [Ends::HangsUp, Ends::Refuses, Ends::Lies, Ends::SaysNothing] {
        let (mut dialer, at) = (Hand::new(1, &word(TRUE)), address(9, 9));
        let mut dials = vec![(dialer.dial(at), at)];
        let (started, mut guesses, mut checks) = (dialer.now, Vec::new(), 0);
        while dialer.now.since(started) < seconds(3_600) {
            for (link, _) in std::mem::take(&mut dials) {
                let chosen = guesses.len();
                let exporter = [chosen as u8; 32];
                let view = View { mesh: mesh(), dialer: peer(1), accepter: peer(9), exporter };
                let hello = guess::share(&dialer.up(link, at, peer(9), exporter).frames[0]).unwrap();
                // The real accepter's code, as if its password were the next word.
                let (share, expected) = guess::accept(&view, &key(&word(chosen)), &hello, rng(chosen as u64)).unwrap();
                let confirm = dialer.hear(link, guess::answer(share).unwrap()).frames.remove(0);
                checks += 1;
                guesses.push((dialer.now, expected.proves(&confirm)));
                match ends {
                    Ends::HangsUp => drop(dialer.handle(Input::LinkDown { link, reason: CloseReason::Transport })),
                    Ends::Refuses => drop(dialer.handle(Input::LinkDown { link, reason: CloseReason::Refused })),
                    Ends::Lies => assert_eq!(dialer.hear(link, confirm).closed, [(link, CloseReason::Refused)]),
                    Ends::SaysNothing => {}
                }
            }
            // The address is told again and again, as a poisoned address book would.
            let candidate = peerflock_proto::Candidate { address: at, peer: None };
            dials.extend(dialer.handle(Input::Candidates(vec![candidate])).dials);
            dials.extend(dialer.pass(millis(500)).dials);
            // The user, too, insists now and then.
            if dialer.now.since(started).as_millis().is_multiple_of(60_000) {
                dials.extend(dialer.handle(Input::Refresh).dials);
            }
        }
        // Five, and then as a guesser at the door: after 1, 2, 4, .. minutes, and once an hour.
        let within = |time: Duration| guesses.iter().filter(|(at, _)| at.since(started) < time).count();
        assert_eq!(checks, guesses.len());
        assert!((1..=5).contains(&within(seconds(60))), "{ends:?}: {} in a minute", within(seconds(60)));
        assert!(checks <= 12, "{ends:?}: {checks} in an hour");
        assert!(guesses.iter().all(|(_, found)| !found), "{ends:?}: the word is not among the first");
    }
}
