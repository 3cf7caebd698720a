//! The endpoint: one socket that dials and accepts, with QUIC's knobs as a game needs them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::{CloseReason, Identity, LinkId, PeerId, is_relay, wire};
use quinn::{
    AsyncUdpSocket, ConnectError, Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::bulk::BulkBudget;
use super::conditioned::ConditionedSocket;
use super::congestion::ConstantWindowFactory;
use super::connection::{self, DATAGRAM_SEND_BYTES, STRANGER_WINDOW_BYTES};
use super::gate::Gate;
use super::ids::ShortIds;
use super::meter::Meter;
use super::paced::PacedSocket;
use super::probe::{ProbeSocket, SideDoor};
use super::socket::{self, CountingSocket, SocketCounters};
use super::{LinkEvent, canonical, tls};
use crate::conditioner::Conditioner;

/// A connection that does not stand after this long, dialed or accepted, is given up.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A connection on which nothing was heard for this long is gone. The protocol has its own, shorter patience with members; what it
/// is patient with, QUIC must not end.
const IDLE_TIMEOUT_MS: u32 = 15_000;
/// How often a silent connection says that it lives, and keeps the ports of a router open.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// What QUIC assumes before it has measured: closer to how players are linked than its own 333 ms.
const INITIAL_RTT: Duration = Duration::from_millis(100);
/// Datagrams that may wait for the driver, in bytes; past it the oldest fall out.
const DATAGRAM_RECEIVE_BYTES: usize = 64 * 1024;
/// Stream bytes in flight: what the congestion window would bound if there were one.
pub(super) const STREAM_SEND_BYTES: u64 = 32 * 1024;
/// What the other end may send ahead of us on one stream, in bytes.
pub(super) const STREAM_RECEIVE_BYTES: u32 = 256 * 1024;
/// Requests for a connection that may wait for the gate.
const INCOMING_MAX: usize = 64;
/// What one of them may send meanwhile, in bytes.
const INCOMING_BUFFER_BYTES: u64 = 16 * 1024;
/// What all of them may send meanwhile, in bytes.
const INCOMING_BUFFER_TOTAL_BYTES: u64 = 1024 * 1024;
/// QUIC wants a name to dial; with raw public keys it means nothing and is never sent.
const SERVER_NAME: &str = "peer";

/// The part of what a directory carries that is for datagrams; the rest is for what QUIC adds to them, and for its acknowledgements.
const RELAY_SHARE: f64 = 0.6;

/// Why no endpoint could be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the UDP socket could not be opened: {0}")]
    Socket(#[from] io::Error),
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// One socket that dials and accepts.
#[derive(Debug)]
pub(crate) struct LinkEndpoint {
    endpoint: Endpoint,
    client: quinn::ClientConfig,
    server: ServerConfig,
    events: mpsc::Sender<LinkEvent>,
    sockets: Sockets,
    bulk: Arc<BulkBudget>,
    /// Where sockets are registered, whoever asks for a new one.
    runtime: tokio::runtime::Handle,
}

/// How our sockets are made.
#[derive(Debug)]
struct Sockets {
    /// Where they are bound, if that was said.
    address: Option<SocketAddr>,
    conditioner: Option<Conditioner>,
    connection_id_key: u64,
    counters: Arc<SocketCounters>,
    door: Arc<SideDoor>,
}

impl Sockets {
    /// Puts around a socket all that ours have.
    fn wrap(&self, socket: Arc<dyn AsyncUdpSocket>) -> Arc<dyn AsyncUdpSocket> {
        let socket = ProbeSocket::new(socket, self.door.clone());
        let mut socket: Arc<dyn AsyncUdpSocket> = Arc::new(PacedSocket::new(Arc::new(socket)));
        if let Some(conditioner) = self.conditioner {
            socket = Arc::new(ConditionedSocket::new(socket, conditioner));
        }
        Arc::new(CountingSocket::new(socket, self.counters.clone(), self.connection_id_key))
    }
}

impl LinkEndpoint {
    /// Opens an endpoint on `socket`, or on a new one bound to `address`. Its links report to `events`. What it sends fares as
    /// `conditioner` says.
    ///
    /// `seed` makes QUIC itself repeatable, for tests; it must be random otherwise.
    pub(crate) fn open(
        identity: &Identity,
        socket: Option<Arc<dyn AsyncUdpSocket>>,
        address: Option<SocketAddr>,
        conditioner: Option<Conditioner>,
        seed: Option<[u8; 32]>,
        connection_id_key: u64,
        events: mpsc::Sender<LinkEvent>,
    ) -> Result<Self, OpenError> {
        let (server_tls, client_tls) = tls::configs(identity, wire::ALPN)?;

        let client = quinn::ClientConfig::new(Arc::new(client_tls));

        let mut server = ServerConfig::with_crypto(Arc::new(server_tls));
        server
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(INCOMING_BUFFER_TOTAL_BYTES)
            .migration(true);
        server.validation_token.sent(0);

        let mut config = EndpointConfig::default();
        // The fixed bit tells QUIC from garbage: keep it.
        config.grease_quic_bit(false).rng_seed(seed).cid_generator(move || Box::new(ShortIds::from_key(connection_id_key)));

        let socket = match socket {
            Some(socket) => socket,
            None => socket::open(address)?,
        };
        let sockets = Sockets { address, conditioner, connection_id_key, counters: Arc::default(), door: SideDoor::new() };
        let socket = sockets.wrap(socket);
        let endpoint = Endpoint::new_with_abstract_socket(config, Some(server.clone()), socket, Arc::new(TokioRuntime))?;
        Ok(Self { endpoint, client, server, events, sockets, bulk: Arc::default(), runtime: tokio::runtime::Handle::current() })
    }

    /// Moves to `socket`, or to a new one. Links that we dialed come along; to those that we accepted we are gone.
    pub(crate) fn rebind(&self, socket: Option<Arc<dyn AsyncUdpSocket>>) -> io::Result<SocketAddr> {
        let _inside = self.runtime.enter();
        let socket = match socket {
            Some(socket) => socket,
            // The old one still holds the port that was asked for, if any: take another, as a router would give us.
            None => socket::open(self.sockets.address.map(|address| SocketAddr::new(address.ip(), 0)))?,
        };
        self.endpoint.rebind_abstract(self.sockets.wrap(socket))?;
        let address = self.local_address()?;
        tracing::info!(target: "peerflock::link", %address, "rebound");
        Ok(address)
    }

    /// Where the socket is bound.
    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr().map(canonical)
    }

    /// What the socket counts.
    pub(crate) fn counters(&self) -> Arc<SocketCounters> {
        self.sockets.counters.clone()
    }

    /// What goes through the socket beside QUIC.
    pub(crate) fn side_door(&self) -> Arc<SideDoor> {
        self.sockets.door.clone()
    }

    /// Connects to a service that is no member, from the same socket: so that it sees us where members would.
    pub(crate) fn connect(&self, client: quinn::ClientConfig, address: SocketAddr) -> Result<quinn::Connecting, ConnectError> {
        self.endpoint.connect_with(client, address, SERVER_NAME)
    }

    /// Dials `address`. The future runs the link to its end; dropping it hangs up.
    pub(crate) fn dial(&self, link: LinkId, address: SocketAddr, expect: Option<PeerId>) -> impl Future<Output = ()> + use<> {
        let meter = self.meter(link, address);
        // Where a relayed link ended there is nobody to be dialed.
        let nowhere = is_relay(address) && self.sockets.door.relay_rate(address).is_none();
        let mut client = self.client.clone();
        client.transport_config(Arc::new(transport(0, meter.clone())));
        let connecting = match nowhere {
            true => Err(ConnectError::InvalidRemoteAddress(address)),
            false => self.endpoint.connect_with(client, address, SERVER_NAME),
        };
        let (events, budget) = (self.events.clone(), self.bulk.clone());
        async move {
            let connected = match connecting {
                Ok(connecting) => timeout(CONNECT_DEADLINE, connecting).await,
                Err(error) => {
                    tracing::debug!(%address, %error, "cannot dial");
                    _ = events.send(LinkEvent::DialFailed { link }).await;
                    return;
                }
            };
            match connected {
                Ok(Ok(connection)) => connection::run(link, connection, true, expect, meter, budget, events).await,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "dialing failed");
                    _ = events.send(LinkEvent::DialFailed { link }).await;
                }
                Err(_) => _ = events.send(LinkEvent::DialFailed { link }).await,
            }
        }
    }

    /// Lets strangers knock. The future passes on to the driver whoever the gate lets through, until the endpoint is shut.
    pub(crate) fn doorkeeper(&self) -> impl Future<Output = ()> + use<> {
        let (endpoint, events, counters) = (self.endpoint.clone(), self.events.clone(), self.sockets.counters.clone());
        let mut gate = Gate::new(Instant::now());
        async move {
            while let Some(incoming) = endpoint.accept().await {
                let (address, now) = (canonical(incoming.remote_address()).ip(), Instant::now());
                let proved = incoming.remote_address_validated();
                // An address has a budget only once it is proved: a forger must not use up another's. Loopback cannot be
                // forged from outside, and its players would wait a round trip for nothing.
                if !proved && !address.is_loopback() && gate.asks_for_proof(now) {
                    // The one error is a proof brought along already, which `proved` rules out.
                    _ = incoming.retry();
                } else if (proved || address.is_loopback()) && gate.admits(address, now) {
                    if events.send(LinkEvent::Knock { incoming: Box::new(incoming) }).await.is_err() {
                        return;
                    }
                } else {
                    counters.turned_away();
                    incoming.ignore();
                }
            }
        }
    }

    /// Accepts a connection. The future runs the link to its end; dropping it hangs up.
    pub(crate) fn accept(&self, link: LinkId, incoming: quinn::Incoming) -> impl Future<Output = ()> + use<> {
        let (events, budget) = (self.events.clone(), self.bulk.clone());
        let meter = self.meter(link, incoming.remote_address());
        let mut server = self.server.clone();
        server.transport_config(Arc::new(transport(1, meter.clone())));
        async move {
            let reason = match incoming.accept_with(Arc::new(server)) {
                Ok(connecting) => match timeout(CONNECT_DEADLINE, connecting).await {
                    Ok(Ok(connection)) => return connection::run(link, connection, false, None, meter, budget, events).await,
                    Ok(Err(error)) => connection::close_reason(&error),
                    Err(_) => CloseReason::Deadline,
                },
                Err(error) => connection::close_reason(&error),
            };
            _ = events.send(LinkEvent::Down { link, reason }).await;
        }
    }

    /// Closes what is left, and waits until the other ends know or `deadline` has passed.
    pub(crate) async fn shut(&self, deadline: Duration) {
        self.endpoint.close(VarInt::from_u32(CloseReason::Goodbye.code()), b"");
        _ = timeout(deadline, self.endpoint.wait_idle()).await;
    }

    fn meter(&self, link: LinkId, address: SocketAddr) -> Arc<Meter> {
        let meter = Meter::new(self.sockets.connection_id_key ^ link.0, Instant::now().into_std());
        // A conditioner makes a line of any way.
        if canonical(address).ip().is_loopback() && self.sockets.conditioner.is_none() {
            meter.set_boundless();
        }
        if let Some(rate) = self.sockets.door.relay_rate(canonical(address)) {
            meter.set_ceiling(rate * RELAY_SHARE);
        }
        Arc::new(meter)
    }
}

/// A plain QUIC endpoint with nothing of ours but the keys: what our own is to be compared with, and what strangers have.
#[cfg(any(test, feature = "test-utils"))]
pub(crate) fn plain(socket: Arc<dyn AsyncUdpSocket>) -> Result<(Endpoint, quinn::ClientConfig), OpenError> {
    let (server_tls, client_tls) = tls::configs(&crate::identity::fresh(), wire::ALPN)?;
    let server = ServerConfig::with_crypto(Arc::new(server_tls));
    let endpoint = Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))?;
    Ok((endpoint, quinn::ClientConfig::new(Arc::new(client_tls))))
}

/// QUIC's knobs. `streams` is how many streams the other end may open: the dialer opens the one there is.
fn transport(streams: u32, meter: Arc<Meter>) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .congestion_controller_factory(Arc::new(ConstantWindowFactory(meter)))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_RECEIVE_BYTES))
        .send_window(STREAM_SEND_BYTES)
        .datagram_send_buffer_size(DATAGRAM_SEND_BYTES)
        .datagram_receive_buffer_size(Some(DATAGRAM_RECEIVE_BYTES))
        .initial_rtt(INITIAL_RTT)
        // 1,200 bytes pass everywhere; what the protocol sends is cut to fit.
        .mtu_discovery_config(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE));
    transport
}
