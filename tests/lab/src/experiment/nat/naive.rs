//! The naive puncher: what ours is to be compared with. Both ends learn from somebody who can be reached where the other is seen from there,
//! and send to each other at once. Nothing more: no addresses of their own, no many sockets, no ports tried, no relay.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::json;

use super::READY;
use crate::report;

/// Where the introducer listens.
pub(super) const PORT: u16 = 4_500;
/// How long the two try, once they know of each other: as long as our own may take.
const TRY: Duration = Duration::from_secs(2);
/// How long they wait to be introduced.
const INTRODUCED: Duration = Duration::from_secs(4);
/// How often everything is sent again.
const AGAIN: Duration = Duration::from_millis(100);
const HELLO: &[u8] = b"hello";

/// Tells each of two where it sees the other, until it is ended.
pub(super) fn introduce(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("::", port))?;
    report::say(READY);
    let (mut seen, mut packet) = (BTreeMap::new(), [0; 64]);
    loop {
        let (length, from) = socket.recv_from(&mut packet)?;
        seen.insert(packet[..length].to_vec(), from);
        let other = seen.iter().find(|(name, _)| **name != packet[..length]).map(|(_, at)| *at);
        if let Some(other) = other {
            let other = SocketAddr::new(other.ip().to_canonical(), other.port());
            socket.send_to(other.to_string().as_bytes(), from)?;
        }
    }
}

/// One end. Says whether the other was heard.
pub(super) fn puncher(name: &str, introducer: SocketAddr) -> io::Result<serde_json::Value> {
    let socket = UdpSocket::bind(if introducer.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" })?;
    socket.set_read_timeout(Some(AGAIN))?;
    let (started, mut packet) = (Instant::now(), [0; 64]);
    let mut other: Option<(SocketAddr, Instant)> = None;
    let mut heard = false;
    while other.map_or_else(|| started.elapsed() < INTRODUCED, |(_, since)| since.elapsed() < TRY) {
        match other {
            // Another family of addresses: there is nothing to be tried.
            Some((at, _)) => _ = socket.send_to(HELLO, at),
            None => _ = socket.send_to(name.as_bytes(), introducer)?,
        }
        let again = Instant::now() + AGAIN;
        while Instant::now() < again {
            let Ok((length, from)) = socket.recv_from(&mut packet) else { break };
            if &packet[..length] == HELLO {
                heard = true;
                // The other may be heard by us and not hear us: answer where it came from, as anybody would.
                _ = socket.send_to(HELLO, from);
            } else if other.is_none() {
                let at = std::str::from_utf8(&packet[..length]).ok().and_then(|text| text.parse().ok());
                other = at.map(|at| (at, Instant::now()));
            }
        }
    }
    Ok(json!({"heard": heard}))
}
