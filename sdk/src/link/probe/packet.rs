//! The packets beside QUIC, byte by byte: what all begin with, a byte for their sort, and what they say.

use std::net::{IpAddr, SocketAddr};

use crate::link::canonical;

/// What all of these packets begin with: the fixed bit is clear, and nobody else's protocol begins like that.
const MAGIC: [u8; 4] = [0x21, b'p', b'f', 1];
/// Sort of a packet: where am I?
const ASK: u8 = 1;
/// Sort of a packet: there.
const TOLD: u8 = 2;
/// Sort of a packet: something for whoever tries to get through.
const PROBE: u8 = 3;
/// Sort of a packet: one of QUIC's, on its way between two players by a directory.
const RELAY: u8 = 4;
const TOKEN_BYTES: usize = 8;
/// How long a question is: as long as the longest answer, so that asking in another's name sends it no more than that.
const ASK_BYTES: usize = MAGIC.len() + 1 + NONCE_BYTES + 19;
const NONCE_BYTES: usize = 8;
/// The longest of these packets, in bytes.
pub(super) const PACKET_BYTES_MAX: usize = 256;

/// What the answer to a question is known by.
pub(super) type Nonce = [u8; NONCE_BYTES];

/// What a directory knows the packets of one pair by.
pub(crate) type Token = [u8; TOKEN_BYTES];

/// What a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// Where am I?
    Ask { nonce: Nonce },
    /// Seen from here, you are there.
    Told { nonce: Nonce, at: SocketAddr },
    /// For whoever tries to get through.
    Probe(&'a [u8]),
    /// For the other one of a pair.
    Relay { token: Token, payload: &'a [u8] },
}

impl<'a> Packet<'a> {
    /// None if it is none of ours.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let (&sort, payload) = packet.strip_prefix(&MAGIC)?.split_first()?;
        match sort {
            ASK if packet.len() == ASK_BYTES => Some(Self::Ask { nonce: *payload.first_chunk()? }),
            TOLD => {
                let (nonce, at) = payload.split_first_chunk()?;
                Some(Self::Told { nonce: *nonce, at: read_address(at)? })
            }
            PROBE => Some(Self::Probe(payload)),
            RELAY => {
                let (token, payload) = payload.split_first_chunk()?;
                Some(Self::Relay { token: *token, payload })
            }
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut packet = MAGIC.to_vec();
        match self {
            Self::Ask { nonce } => {
                packet.push(ASK);
                packet.extend(nonce);
                packet.resize(ASK_BYTES, 0);
            }
            Self::Told { nonce, at } => {
                packet.push(TOLD);
                packet.extend(nonce);
                match at.ip() {
                    IpAddr::V4(ip) => {
                        packet.push(4);
                        packet.extend(ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        packet.push(6);
                        packet.extend(ip.octets());
                    }
                }
                packet.extend(at.port().to_be_bytes());
            }
            Self::Probe(payload) => {
                packet.push(PROBE);
                packet.extend_from_slice(payload);
            }
            Self::Relay { token, payload } => {
                packet.push(RELAY);
                packet.extend(token);
                packet.extend_from_slice(payload);
            }
        }
        packet
    }
}

/// Whether a packet is one of these, and none of QUIC's.
pub(super) fn is_ours(packet: &[u8]) -> bool {
    packet.starts_with(&MAGIC)
}

/// A question: where am I?
pub(crate) fn question(nonce: Nonce) -> Vec<u8> {
    Packet::Ask { nonce }.bytes()
}

/// The answer to a question, for a socket with nothing else to do; none if it is no question.
pub(crate) fn answer_to(packet: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    match Packet::read(packet)? {
        Packet::Ask { nonce } => Some(Packet::Told { nonce, at: canonical(from) }.bytes()),
        _ => None,
    }
}

/// What an answer to the question with this nonce says.
pub(crate) fn read_answer(packet: &[u8], nonce: Nonce) -> Option<SocketAddr> {
    match Packet::read(packet)? {
        Packet::Told { nonce: of, at } if of == nonce => Some(at),
        _ => None,
    }
}

fn read_address(bytes: &[u8]) -> Option<SocketAddr> {
    let (&family, rest) = bytes.split_first()?;
    let (ip, rest) = match family {
        4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (IpAddr::from(*ip), rest))?,
        _ => return None,
    };
    let port = u16::from_be_bytes(rest.try_into().ok()?);
    Some(SocketAddr::new(ip.to_canonical(), port))
}
