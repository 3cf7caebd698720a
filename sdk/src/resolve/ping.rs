//! How far away a mesh is, asked without joining it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// How long QUIC's first packets are at the least (RFC 9000, section 14.1); shorter ones get no answer.
const PROBE_BYTES: usize = 1_200;
/// A version that exists to be refused (RFC 9000, section 15).
const RESERVED_VERSION: [u8; 4] = [0x1a, 0x2a, 0x3a, 0x4a];
/// The length of both connection identifiers in a probe, in bytes.
const ID_BYTES: usize = 8;

/// Asks the QUIC endpoint at `address` which versions it speaks, and says how long the answer took.
///
/// The other end keeps nothing of it, and the answer proves nothing about who is there.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] when nobody answered within `patience`; other kinds when no packet could be sent.
pub async fn ping(address: SocketAddr, patience: Duration) -> io::Result<Duration> {
    // From loopback to loopback, from anywhere to anywhere else.
    let from: IpAddr = match (address.ip(), address.ip().is_loopback()) {
        (IpAddr::V4(_), true) => Ipv4Addr::LOCALHOST.into(),
        (IpAddr::V4(_), false) => Ipv4Addr::UNSPECIFIED.into(),
        (IpAddr::V6(_), true) => Ipv6Addr::LOCALHOST.into(),
        (IpAddr::V6(_), false) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(address).await?;
    let mut id = [0; ID_BYTES];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let asked = Instant::now();
    socket.send(&probe(id)).await?;
    let mut answer = [0; PROBE_BYTES];
    loop {
        match timeout_at(asked + patience, socket.recv(&mut answer)).await {
            Ok(length) => {
                if answers(answer.get(..length?).unwrap_or_default(), id) {
                    return Ok(asked.elapsed());
                }
            }
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// A long header with a version that nobody speaks (RFC 8999, section 5.1), then nothing.
fn probe(id: [u8; ID_BYTES]) -> [u8; PROBE_BYTES] {
    let mut packet = [0; PROBE_BYTES];
    let header = [&[0xc0], RESERVED_VERSION.as_slice(), &[ID_BYTES as u8], &id, &[ID_BYTES as u8], &id].concat();
    packet[..header.len()].copy_from_slice(&header);
    packet
}

/// Whether `packet` is a version negotiation (RFC 8999, section 6) that answers the probe with this identifier.
fn answers(packet: &[u8], id: [u8; ID_BYTES]) -> bool {
    let [first, version @ .., length] = packet.first_chunk::<6>().copied().unwrap_or_default();
    first & 0x80 != 0 && version == [0; 4] && usize::from(length) == ID_BYTES && packet[6..].starts_with(&id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_answer_answers() {
        let id = [7; ID_BYTES];
        let mut answer = [[0x80, 0, 0, 0, 0, ID_BYTES as u8].as_slice(), &id, &[0; 12]].concat();
        assert!(answers(&answer, id));
        assert!(!answers(&answer, [8; ID_BYTES]), "somebody else's");
        assert!(!answers(&probe(id), id), "not the question itself");
        for length in 0..6 + ID_BYTES {
            assert!(!answers(&answer[..length], id));
        }
        answer[0] = 0;
        assert!(!answers(&answer, id));
    }

    #[tokio::test]
    async fn silence_is_a_timeout() {
        let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = ping(nobody.local_addr().unwrap(), Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
