//! Connecting to a directory, from whatever socket: every address of its name is tried, and its key is looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::Identity;
use quinn::{ClientConfig, ConnectError, Connecting, Connection, IdleTimeout, TransportConfig, VarInt};
use tokio::time::timeout;

use super::address::DirectoryAddress;
use super::wire::{ALPN, ANSWER_BYTES_MAX, Answer, Request, decode, encode};
use crate::link::tls;
use crate::resolve::{Interface, ResolveError};

/// How long connecting to one address may take; the next is tried then.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1_500);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;
/// A connection on which nothing was heard for so long is gone.
const IDLE_TIMEOUT_MS: u32 = 20_000;
/// How often we say that we are there: routers forget ports that are silent for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(7);

/// Connects to the directory at `address` as `identity`, by way of `connect`, and says where it is.
pub(super) async fn dial(
    address: &DirectoryAddress,
    interface: &Interface,
    identity: &Identity,
    connect: impl Fn(ClientConfig, SocketAddr) -> Result<Connecting, ConnectError>,
) -> Result<(Connection, SocketAddr), ResolveError> {
    let DirectoryAddress { host, port, key } = address;
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let found = found
        .map_err(|error| ResolveError::Other(format!("{host} is not known: {error}. Check its spelling, and the connection")))?;
    let mut addresses: Vec<SocketAddr> = found.filter(|address| interface.reaches(address.ip())).collect();
    // IPv6 needs no router to understand us.
    addresses.sort_by_key(|address| address.is_ipv4());
    addresses.truncate(ADDRESSES_MAX);
    let mut failure = ResolveError::Other(format!("{host} has no address that the network in use ({interface}) reaches"));
    for at in addresses {
        match dial_one(at, identity, &connect).await {
            Ok(connection) => {
                if key.is_some() && tls::proved_peer(connection.peer_identity()) != *key {
                    failure = ResolveError::Refused {
                        by: name(address),
                        why: "it shows another key than its address names: somebody stands in for it, or it has a new one. Ask who \
                              runs it"
                            .into(),
                    };
                    continue;
                }
                return Ok((connection, at));
            }
            Err(why) => failure = ResolveError::Unreachable { address: at, why },
        }
    }
    Err(failure)
}

/// Asks on a stream of its own. None if the connection broke.
pub(super) async fn ask(connection: &Connection, request: &Request) -> Option<Answer> {
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&encode(request)).await.ok()?;
    send.finish().ok()?;
    decode(&receive.read_to_end(ANSWER_BYTES_MAX).await.ok()?)
}

/// What to call it in messages to the player.
pub(super) fn name(address: &DirectoryAddress) -> String {
    format!("the directory {}:{}", address.host, address.port)
}

async fn dial_one(
    address: SocketAddr,
    identity: &Identity,
    connect: impl Fn(ClientConfig, SocketAddr) -> Result<Connecting, ConnectError>,
) -> Result<Connection, String> {
    let (_, client) = tls::configs(identity, ALPN).map_err(|error| error.to_string())?;
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(Arc::new(transport()));
    let connecting = connect(client, address).map_err(|error| error.to_string())?;
    match timeout(CONNECT_DEADLINE, connecting).await {
        Ok(connected) => connected.map_err(|error| error.to_string()),
        Err(_) => Err("nobody answers there".into()),
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(8))
        .receive_window(VarInt::from_u32(64 * 1_024))
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}
