//! What players and a directory say to each other: one request and its answer on each stream, and notices from the directory.

use std::net::SocketAddr;

use peerflock_proto::wire::codec;
use serde::{Deserialize, Serialize};

use crate::link::probe::Token;

/// What is spoken (RFC 7301). Another version is another name.
pub(super) const ALPN: &[u8] = b"peerflock-directory/1";
/// The longest request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 2 * 1_024;
/// The longest answer, in bytes.
pub(super) const ANSWER_BYTES_MAX: usize = 32 * 1_024;
/// The longest note of one member, in bytes.
pub(crate) const NOTE_BYTES_MAX: usize = 768;
/// The longest letter that is passed on, in bytes.
pub(super) const LETTER_BYTES_MAX: usize = 1_280;
/// Most members named in one answer.
pub(super) const NAMED_MAX: usize = 32;

/// Of which mesh: 32 bytes that only members can make.
pub(super) type Topic = [u8; 32];
/// Whose: the key that its connection shows.
pub(super) type Owner = [u8; 32];

/// Whether a directory may name us to others of our mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Referral {
    /// The directory decides.
    #[default]
    ServiceDecides,
    /// It may.
    Share,
    /// It must not: we find others, others do not find us.
    DoNotShare,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// I am of this mesh; renews what I registered before.
    Register { topic: Topic, note: Vec<u8>, referral: Referral },
    /// Who else is?
    Resolve { topic: Topic, count: u8 },
    /// I am no longer.
    Withdraw { topic: Topic },
    /// Pass that on to that one, if it is connected.
    Letter { topic: Topic, to: Owner, letter: Vec<u8> },
    /// Carry our packets to that one, and its packets to us, once it asks for the same.
    Relay { topic: Topic, to: Owner },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// For so many seconds. That is where you seem to be; ask at that other port, too.
    Registered {
        seconds: u32,
        observed: SocketAddr,
        other_port: Option<u16>,
    },
    /// Some of them, drawn by lot.
    Named(Vec<Named>),
    Done,
    No(Refusal),
    /// Packets with this token are carried, no more than that many bytes per second each way.
    Relay {
        token: Token,
        bytes_per_second: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) owner: Owner,
    pub(super) note: Vec<u8>,
}

/// What a directory says by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    pub(super) topic: Topic,
    pub(super) from: Owner,
    pub(super) letter: Vec<u8>,
}

/// Why it will not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum Refusal {
    #[error("too many requests; they go on by themselves a little later")]
    TooMany,
    #[error("this mesh has as many entries there as it may; others of it can be found all the same")]
    MeshFull,
    #[error("your network has as many entries there as it may; close games that you do not play")]
    NetworkFull,
    #[error("the directory is full; take another one, or try again later")]
    Full,
    #[error("that one is not connected there")]
    NotHere,
    #[error("the request makes no sense to it; update the game or the directory")]
    Malformed,
    #[error(
        "it relays for nobody; let somebody join who can be reached, open a port on one of the two routers, or take another directory"
    )]
    NoRelay,
    #[error("it relays for as many pairs as it may; try again later, or let somebody join who can be reached")]
    RelaysFull,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // All of these are shorter than the codec's limit.
    codec::encode(value).map(|bytes| bytes.to_vec()).unwrap_or_default()
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    codec::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let request = Request::Resolve { topic: [9; 32], count: 5 };
        assert_eq!(encode(&request), [[1].as_slice(), &[9; 32], &[5]].concat());
        assert_eq!(decode(&encode(&request)), Some(request));
        let relay = Request::Relay { topic: [9; 32], to: [8; 32] };
        assert_eq!(encode(&relay), [[4].as_slice(), &[9; 32], &[8; 32]].concat());
        let relayed = Answer::Relay { token: [7; 8], bytes_per_second: 5 };
        assert_eq!(encode(&relayed), [[4].as_slice(), &[7; 8], &[5]].concat());
    }

    #[test]
    fn the_longest_of_each_fits() {
        let named = Named { owner: [1; 32], note: vec![0; NOTE_BYTES_MAX] };
        assert!(encode(&Answer::Named(vec![named; NAMED_MAX])).len() <= ANSWER_BYTES_MAX);
        let letter = Request::Letter { topic: [1; 32], to: [2; 32], letter: vec![0; LETTER_BYTES_MAX] };
        assert!(encode(&letter).len() <= REQUEST_BYTES_MAX);
    }

    #[test]
    fn no_bytes_make_trouble() {
        let good = encode(&Request::Register { topic: [1; 32], note: vec![7; 20], referral: Referral::Share });
        for at in 0..good.len() {
            _ = decode::<Request>(&good[..at]);
            for byte in 0..=255 {
                let mut altered = good.clone();
                altered[at] = byte;
                _ = decode::<Request>(&altered);
                _ = decode::<Answer>(&altered);
                _ = decode::<Notice>(&altered);
            }
        }
    }
}
