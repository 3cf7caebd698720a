//! Meddling with the handshake: bits, splices, replays, mirrors.

use bytes::Bytes;
use peerflock_proto::sim::guess::{answer, hello, share};
use peerflock_proto::{CloseReason, Identity, LinkId, PeerId};

use super::hand::{Did, Hand, address};

const PASSWORD: &str = "mellon";
const DIALER: u8 = 1;
const ACCEPTER: u8 = 2;
const FRAMES: usize = 4;

/// What each end makes of a connection: who the other is, and what TLS derives.
#[derive(Clone, Copy)]
struct Sight {
    peer: PeerId,
    exporter: [u8; 32],
}

/// A dialer, an accepter, and what passes between them.
struct Meeting {
    ends: [Hand; 2],
    links: [LinkId; 2],
    /// All frames that were said in the handshake, in order.
    said: Vec<Bytes>,
}

/// How it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// Why the first end that closed did so.
    closed: Option<CloseReason>,
    /// Which of the two takes the other for a member.
    members: [bool; 2],
}

const IN: Outcome = Outcome { closed: None, members: [true, true] };

impl Outcome {
    /// Whether somebody was refused for the one reason that all are told, and the dialer did not believe it was in.
    fn is_refused(&self) -> bool {
        self.closed == Some(CloseReason::Refused) && !self.members[0]
    }
}

impl Meeting {
    /// Two who know the password and see each other.
    fn honest() -> Self {
        let [dialer, accepter] = [DIALER, ACCEPTER].map(peer);
        Self::seen(Sight { peer: accepter, exporter: [7; 32] }, Sight { peer: dialer, exporter: [7; 32] })
    }

    /// Two who know the password: what the dialer sees, and what the accepter sees.
    fn seen(by_dialer: Sight, by_accepter: Sight) -> Self {
        let (mut dialer, mut accepter) = (Hand::new(DIALER, PASSWORD), Hand::new(ACCEPTER, PASSWORD));
        let at = [address(1, 1), address(2, 2)];
        let link = dialer.dial(at[1]);
        let theirs = accepter.knocked(at[0], by_accepter.peer, by_accepter.exporter).expect("nobody has tried before");
        let did = dialer.up(link, at[1], by_dialer.peer, by_dialer.exporter);
        Self { ends: [dialer, accepter], links: [link, theirs], said: did.frames }
    }

    /// Passes the four frames on, each as `meddle` makes it.
    fn go(mut self, mut meddle: impl FnMut(usize, &mut Vec<u8>)) -> (Outcome, Vec<Bytes>) {
        let mut closed = None;
        for number in 0..FRAMES {
            let Some(frame) = self.said.get(number) else { break };
            let mut bytes = frame.to_vec();
            meddle(number, &mut bytes);
            // The dialer's are the first and the third.
            let to = (number + 1) % 2;
            let Did { frames, closed: ended, .. } = self.ends[to].hear(self.links[to], bytes);
            if let Some((_, reason)) = ended.first() {
                closed = Some(*reason);
                break;
            }
            // After the handshake an accepter has more to say.
            self.said.extend(frames.into_iter().take(1));
            self.said.truncate(FRAMES);
        }
        let members = [0, 1].map(|end| self.ends[end].node.is_member_link(self.links[end]));
        (Outcome { closed, members }, self.said)
    }
}

fn peer(seed: u8) -> PeerId {
    Identity::from_seed([seed; 32]).peer_id()
}

#[test]
fn without_meddling_they_are_in() {
    let (outcome, said) = Meeting::honest().go(|_, _| ());
    assert_eq!((outcome, said.len()), (IN, FRAMES));
}

#[test]
fn every_flipped_bit_of_every_frame_is_refused_for_the_same_reason() {
    let (_, said) = Meeting::honest().go(|_, _| ());
    let bits: usize = said.iter().map(|frame| frame.len() * 8).sum();
    assert!(bits >= 176 * 8, "{bits} bits: the handshake is longer than that");
    for (frame, bytes) in said.iter().enumerate() {
        for bit in 0..bytes.len() * 8 {
            let (outcome, _) = Meeting::honest().go(|number, bytes| {
                if number == frame {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            });
            // The first byte is the version: who speaks another must hear that, or nobody would know what to do.
            if bit < 8 {
                assert_eq!(outcome.closed, Some(CloseReason::Version), "bit {bit} of frame {frame}");
            } else if frame == 0 && (16..64).contains(&bit) && outcome.closed == Some(CloseReason::OtherLock) {
                // It named a lock that nobody knows: nothing was tried, and a member that was away must hear that.
            } else {
                assert!(outcome.is_refused(), "bit {bit} of frame {frame}: {outcome:?}");
            }
        }
    }
}

#[test]
fn every_frame_cut_short_or_followed_by_a_byte_is_refused_for_the_same_reason() {
    let (_, said) = Meeting::honest().go(|_, _| ());
    for (frame, bytes) in said.iter().enumerate() {
        for length in 1..=bytes.len() + 1 {
            if length == bytes.len() {
                continue;
            }
            let (outcome, _) = Meeting::honest().go(|number, bytes| {
                if number == frame {
                    bytes.resize(length, 0);
                }
            });
            assert!(outcome.is_refused(), "frame {frame} of {length} bytes: {outcome:?}");
        }
    }
}

/// Somebody in the middle ends TLS on both sides and passes on what both say.
#[test]
fn a_splice_of_two_connections_is_refused() {
    let middle = peer(9);
    let [dialer, accepter] = [DIALER, ACCEPTER].map(peer);
    let sight = |peer, exporter| Sight { peer, exporter: [exporter; 32] };
    for (what, by_dialer, by_accepter) in [
        ("as TLS has it", sight(middle, 1), sight(middle, 2)),
        ("were the exporters the same", sight(middle, 7), sight(middle, 7)),
        ("were the keys the right ones", sight(accepter, 1), sight(dialer, 2)),
        ("had it the accepter's key", sight(accepter, 1), sight(middle, 2)),
        ("had it the dialer's key", sight(middle, 1), sight(dialer, 2)),
    ] {
        let (outcome, said) = Meeting::seen(by_dialer, by_accepter).go(|_, _| ());
        assert!(outcome.is_refused() && outcome.members == [false; 2], "{what}: {outcome:?}");
        assert_eq!(said.len(), 3, "{what}: the dialer's proof is the last that is said");
    }
}

/// All that a dialer said once is said again, as that dialer.
#[test]
fn a_replayed_transcript_is_refused() {
    let (outcome, said) = Meeting::honest().go(|_, _| ());
    assert_eq!(outcome, IN);
    // On a connection with an exporter of its own, and on one that had the same: the accepter's half is fresh.
    for exporter in [8, 7] {
        let mut accepter = Hand::new(ACCEPTER, PASSWORD);
        accepter.node = fresh(&accepter, exporter);
        let link = accepter.knocked(address(1, 1), peer(DIALER), [exporter; 32]).unwrap();
        let did = accepter.hear(link, said[0].clone());
        assert_ne!(did.frames[0], said[1], "another half each time");
        let did = accepter.hear(link, said[2].clone());
        assert_eq!((did.closed, did.admitted), (vec![(link, CloseReason::Refused)], false));
    }
    // And all that an accepter said, to who dials.
    for exporter in [8, 7] {
        let mut dialer = Hand::new(DIALER, PASSWORD);
        dialer.node = fresh(&dialer, exporter);
        let link = dialer.dial(address(2, 2));
        let first = dialer.up(link, address(2, 2), peer(ACCEPTER), [exporter; 32]);
        assert_ne!(first.frames[0], said[0], "another half each time");
        assert_eq!(dialer.hear(link, said[1].clone()).frames.len(), 1);
        let did = dialer.hear(link, said[3].clone());
        assert_eq!((did.closed, did.admitted), (vec![(link, CloseReason::Refused)], false));
    }
}

/// The same peer after a restart: other randomness.
fn fresh(hand: &Hand, seed: u8) -> peerflock_proto::Node {
    let identity = Identity::from_seed(if hand.peer() == peer(DIALER) { [DIALER; 32] } else { [ACCEPTER; 32] });
    peerflock_proto::Node::new(super::config(), identity, super::hand::key(PASSWORD), [50 + seed; 32], hand.now)
}

#[test]
fn self_dial_ends_before_anything_is_said() {
    let mut node = Hand::new(1, PASSWORD);
    let me = node.peer();
    let link = node.dial(address(1, 1));
    let did = node.up(link, address(1, 1), me, [7; 32]);
    assert_eq!((did.frames, did.closed), (vec![], vec![(link, CloseReason::SelfLink)]));
    assert_eq!(node.knocked(address(1, 1), me, [7; 32]), Err(CloseReason::SelfLink));
}

/// Whatever a peer says is said back to it, as if by somebody else.
#[test]
fn a_mirror_is_refused() {
    let mut node = Hand::new(1, PASSWORD);
    let mirror = peer(9);
    // It dials the mirror, and the mirror dials it: it would let itself in.
    let out = node.dial(address(9, 1));
    let inwards = node.knocked(address(9, 2), mirror, [7; 32]).unwrap();
    let hello = node.up(out, address(9, 1), mirror, [7; 32]).frames.remove(0);
    let share = node.hear(inwards, hello).frames.remove(0);
    let confirm = node.hear(out, share).frames.remove(0);
    let did = node.hear(inwards, confirm);
    assert_eq!((did.closed, did.admitted), (vec![(inwards, CloseReason::Refused)], false));
}

/// Two who dial each other are each given the other's HELLO as the answer to their own.
#[test]
fn a_role_swap_is_refused() {
    for side_too in [false, true] {
        let mut ends = [Hand::new(DIALER, PASSWORD), Hand::new(ACCEPTER, PASSWORD)];
        let links = [ends[0].dial(address(2, 2)), ends[1].dial(address(1, 1))];
        let hellos = [
            ends[0].up(links[0], address(2, 2), peer(ACCEPTER), [7; 32]).frames.remove(0),
            ends[1].up(links[1], address(1, 1), peer(DIALER), [7; 32]).frames.remove(0),
        ];
        let mut confirms = Vec::new();
        for end in [0, 1] {
            assert_eq!(
                ends[end].hear(links[end], hellos[1 - end].clone()).closed,
                [(links[end], CloseReason::Refused)],
                "HELLO is no answer"
            );
        }
        let mut ends = [Hand::new(DIALER, PASSWORD), Hand::new(ACCEPTER, PASSWORD)];
        let links = [ends[0].dial(address(2, 2)), ends[1].dial(address(1, 1))];
        for end in [0, 1] {
            let other = [ACCEPTER, DIALER][end];
            let mut half = share(&hellos[1 - end]).unwrap().to_vec();
            assert_eq!(half[0], b'A', "it says which side it is");
            if side_too {
                half[0] = b'B';
            }
            ends[end].up(links[end], [address(2, 2), address(1, 1)][end], peer(other), [7; 32]);
            let did = ends[end].hear(links[end], answer(half.into()).unwrap());
            if side_too {
                confirms.push(did.frames[0].clone());
            } else {
                assert_eq!(did.closed, [(links[end], CloseReason::Refused)]);
            }
        }
        // Neither proof is worth anything to the other: what one expects is a WELCOME.
        for (end, confirm) in confirms.iter().rev().enumerate() {
            assert_eq!(ends[end].hear(links[end], confirm.clone()).closed, [(links[end], CloseReason::Refused)]);
        }
    }
}

/// An accepter is given a half that says it is its own side's.
#[test]
fn a_half_of_the_wrong_side_or_of_small_order_is_refused() {
    let (_, said) = Meeting::honest().go(|_, _| ());
    let theirs = share(&said[1]).unwrap();
    let small = |order: u8| {
        let mut point = [0; 33];
        (point[0], point[1]) = (b'A', order);
        Bytes::copy_from_slice(&point)
    };
    for half in [theirs, small(0), small(1), Bytes::new(), vec![b'A'; 300].into()] {
        let mut accepter = Hand::new(ACCEPTER, PASSWORD);
        let link = accepter.knocked(address(1, 1), peer(DIALER), [7; 32]).unwrap();
        let did = accepter.hear(link, hello(half).unwrap());
        assert_eq!((did.frames, did.closed), (vec![], vec![(link, CloseReason::Refused)]));
    }
}
