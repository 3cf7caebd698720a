//! The service: one UDP socket for players, one port more for those who want to know their router, two pages for who runs it.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use peerflock_proto::PeerId;
use quinn::{Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::address::DirectoryAddress;
use super::limits::{DirectoryLimits, Rates};
use super::relays::Relays;
use super::store::Store;
use super::wire::{
    ALPN, Answer, LETTER_BYTES_MAX, NAMED_MAX, Notice, Owner, REQUEST_BYTES_MAX, Refusal, Request, Topic, decode, encode,
};
use super::{PORT, http};
use crate::identity::{self, IdentityError};
use crate::link::gate::{Bucket, Gate, network};
use crate::link::probe::{Carrier, Token};
use crate::link::{canonical, probe, tls};
use crate::resolve::write_whole;
use crate::sync::lock;
use crate::unix_time::unix_seconds;

/// What the files are called in the folder for data.
const KEY_FILE: &str = "directory.key";
const ENTRIES_FILE: &str = "entries";
/// How often entries that are over go, and the rest is written down.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often to see whether players whose packets are relayed have moved.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// A player of whom nothing was heard for so long is gone.
const IDLE_TIMEOUT_MS: u32 = 30_000;
/// Requests of one player that may wait at once.
const REQUESTS_AT_ONCE: u32 = 8;
/// How long a request, or a letter to be passed on, may take on its way.
const REQUEST_DEADLINE: Duration = Duration::from_secs(3);
/// Connections asked for that may wait.
const INCOMING_MAX: usize = 256;
/// Answers from the other port, per second and at once.
const OTHER_PORT_RATE: f64 = 256.0;

/// What a directory is told before it starts.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryOptions {
    /// Where players reach it: UDP. All addresses at [`PORT`] by default.
    pub listen: SocketAddr,
    /// Where `/health` and `/metrics` are: TCP, for those who run it. Nowhere by default.
    pub http: Option<SocketAddr>,
    /// The folder in which key and entries survive a restart. By default none, and a new key at each start.
    pub data: Option<PathBuf>,
    /// Whether to name players who leave that to the directory. Yes by default.
    pub refers: bool,
    /// How much it takes.
    pub limits: DirectoryLimits,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        let listen = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
        Self { listen, http: None, data: None, refers: true, limits: DirectoryLimits::default() }
    }
}

/// Why a directory did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A socket could not be opened.
    #[error("no socket at {address}: {source}. Choose another port, or end what is using this one")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The key could not be kept.
    #[error(transparent)]
    Key(#[from] IdentityError),
    /// The entries could not be written down.
    #[error("the entries could not be written down: {0}. Check the folder for data: its owner, its rights, its room")]
    Data(io::Error),
    /// There is no runtime to run it in.
    #[error("the operating system refused a runtime: {0}. Close other programs and try again")]
    Runtime(io::Error),
    /// TLS could not be set up.
    #[error("TLS refused the directory's own key: {0}. Move the key file away to get a new one")]
    Tls(String),
}

/// What a directory has and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectoryStats {
    /// Players registered.
    pub entries: usize,
    /// Meshes with somebody in them.
    pub meshes: usize,
    /// Players connected.
    pub connections: usize,
    /// Registrations and renewals since the start.
    pub registrations: u64,
    /// Questions for others since the start.
    pub resolutions: u64,
    /// Letters passed on since the start.
    pub letters: u64,
    /// Requests refused since the start.
    pub refusals: u64,
    /// Pairs of players whose packets are relayed, or are to be.
    pub relays: usize,
    /// Bytes relayed since the start, everything above UDP included.
    pub relayed_bytes: u64,
    /// Bytes not relayed because their pair had more than its rate.
    pub relay_dropped_bytes: u64,
}

/// A directory that runs, in the tokio runtime in which it was started, until it is stopped or dropped.
#[derive(Debug)]
pub struct DirectoryService {
    inner: Arc<Inner>,
    endpoint: Endpoint,
    listen: SocketAddr,
    http: Option<SocketAddr>,
    /// Dropped with the service, which ends them.
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Inner {
    key: PeerId,
    options: DirectoryOptions,
    other_port: Option<u16>,
    store: Mutex<Store>,
    rates: Mutex<Rates>,
    players: Mutex<BTreeMap<Owner, Connection>>,
    networks: Mutex<BTreeMap<IpAddr, usize>>,
    connections: AtomicUsize,
    registrations: AtomicU64,
    resolutions: AtomicU64,
    letters: AtomicU64,
    refusals: AtomicU64,
    desk: Arc<RelayDesk>,
}

/// Where the socket asks what to do with relayed packets. Knows no connections: they know the socket, and would keep each other alive.
#[derive(Debug)]
struct RelayDesk {
    relays: Mutex<Relays>,
    limits: DirectoryLimits,
}

impl Carrier for RelayDesk {
    fn carry(&self, token: Token, from: SocketAddr, bytes: usize) -> Option<SocketAddr> {
        lock(&self.relays).carry(token, from, bytes, &self.limits, Instant::now())
    }
}

impl DirectoryService {
    /// Starts one.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub async fn start(options: DirectoryOptions) -> Result<Self, DirectoryError> {
        let identity = match &options.data {
            Some(folder) => identity::load_or_create_at(&folder.join(KEY_FILE))?,
            None => identity::fresh(),
        };
        let failed = |address| move |source| DirectoryError::Bind { address, source };
        let (server, _) = tls::configs(&identity, ALPN).map_err(|error| DirectoryError::Tls(error.to_string()))?;
        let mut config = ServerConfig::with_crypto(Arc::new(server));
        config.max_incoming(INCOMING_MAX).transport_config(Arc::new(transport())).migration(true);
        config.validation_token.sent(0);
        let mut plain = EndpointConfig::default();
        plain.grease_quic_bit(false);
        let (socket, door) = probe::answering(options.listen).map_err(failed(options.listen))?;
        let desk = Arc::new(RelayDesk { relays: Mutex::default(), limits: options.limits });
        door.set_carrier(desk.clone());
        let endpoint = Endpoint::new_with_abstract_socket(plain, Some(config), socket, Arc::new(TokioRuntime))
            .map_err(failed(options.listen))?;
        let listen = endpoint.local_addr().map(canonical).map_err(failed(options.listen))?;
        let mut tasks = JoinSet::new();
        let other_port = other_port(options.listen.ip(), listen.port(), &mut tasks).await;
        let listener = match options.http {
            Some(address) => Some(TcpListener::bind(address).await.map_err(failed(address))?),
            None => None,
        };
        let http = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let kept = options.data.as_ref().and_then(|folder| std::fs::read(folder.join(ENTRIES_FILE)).ok());
        let store = Store::load(&kept.unwrap_or_default(), &options.limits, unix_seconds());
        let inner = Arc::new(Inner {
            key: identity.peer_id(),
            options,
            other_port,
            store: Mutex::new(store),
            rates: Mutex::default(),
            players: Mutex::default(),
            networks: Mutex::default(),
            connections: AtomicUsize::new(0),
            registrations: AtomicU64::new(0),
            resolutions: AtomicU64::new(0),
            letters: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            desk,
        });
        tasks.spawn(accept(endpoint.clone(), inner.clone()));
        tasks.spawn(tidy(inner.clone()));
        tasks.spawn(follow(inner.clone()));
        if let Some(listener) = listener {
            let inner = inner.clone();
            tasks.spawn(http::serve(listener, move || inner.stats()));
        }
        Ok(Self { inner, endpoint, listen, http, _tasks: tasks })
    }

    /// Runs one and blocks, for a program that does nothing else: for ever, or for so long. `started` is told when it runs.
    ///
    /// # Errors
    /// See [`DirectoryError`].
    pub fn run(options: DirectoryOptions, stay: Option<Duration>, started: impl FnOnce(&Self)) -> Result<(), DirectoryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DirectoryError::Runtime)?;
        runtime.block_on(async {
            let service = Self::start(options).await?;
            started(&service);
            match stay {
                Some(stay) => tokio::time::sleep(stay).await,
                // Entries are written down every few seconds: ending by a signal loses next to nothing.
                None => std::future::pending().await,
            }
            service.stop().await.map_err(DirectoryError::Data)
        })
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        self.listen
    }

    /// Where its pages are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// What players are to be told, if the world knows this machine as `host`: with the key, so that nobody can stand in for it.
    pub fn address(&self, host: &str) -> DirectoryAddress {
        DirectoryAddress::new(host, self.listen.port()).key(self.inner.key)
    }

    /// What it has and did.
    pub fn stats(&self) -> DirectoryStats {
        self.inner.stats()
    }

    /// Writes down what it knows, and ends.
    ///
    /// # Errors
    /// When it cannot be written down. It ends all the same.
    pub async fn stop(self) -> io::Result<()> {
        self.endpoint.close(VarInt::from_u32(0), b"");
        _ = timeout(Duration::from_millis(250), self.endpoint.wait_idle()).await;
        self.inner.save()
    }
}

impl Drop for DirectoryService {
    fn drop(&mut self) {
        self.endpoint.close(VarInt::from_u32(0), b"");
    }
}

async fn accept(endpoint: Endpoint, inner: Arc<Inner>) {
    let mut gate = Gate::new(Instant::now());
    let mut players = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while players.try_join_next().is_some() {}
        let (address, now) = (canonical(incoming.remote_address()).ip(), Instant::now());
        let proved = incoming.remote_address_validated();
        if !proved && !address.is_loopback() && gate.asks_for_proof(now) {
            // The one error is a proof brought along already, which `proved` rules out.
            _ = incoming.retry();
        } else if (proved || address.is_loopback()) && gate.admits(address, now) && inner.has_room(address) {
            players.spawn(serve(incoming, address, inner.clone()));
        } else {
            incoming.ignore();
        }
    }
}

/// Serves one player until it is gone.
async fn serve(incoming: Incoming, from: IpAddr, inner: Arc<Inner>) {
    if let Ok(Ok(connection)) = timeout(REQUEST_DEADLINE, incoming).await
        && let Some(owner) = tls::proved_peer(connection.peer_identity()).map(|peer| peer.0)
    {
        inner.players().insert(owner, connection.clone());
        let mut requests = JoinSet::new();
        while let Ok((send, receive)) = connection.accept_bi().await {
            while requests.try_join_next().is_some() {}
            let (inner, connection) = (inner.clone(), connection.clone());
            requests.spawn(async move {
                // Who is too slow asks again.
                _ = timeout(REQUEST_DEADLINE, one_request(send, receive, owner, connection, inner)).await;
            });
        }
        let mut players = inner.players();
        if players.get(&owner).is_some_and(|held| held.stable_id() == connection.stable_id()) {
            players.remove(&owner);
        }
    }
    inner.gone(from);
}

async fn one_request(
    mut send: quinn::SendStream,
    mut receive: quinn::RecvStream,
    owner: Owner,
    connection: Connection,
    inner: Arc<Inner>,
) {
    let Ok(bytes) = receive.read_to_end(REQUEST_BYTES_MAX).await else { return };
    let answer = inner.answer(&bytes, owner, canonical(connection.remote_address())).await;
    if matches!(answer, Answer::No(_)) {
        inner.refusals.fetch_add(1, Ordering::Relaxed);
    }
    if send.write_all(&encode(&answer)).await.is_ok() && send.finish().is_ok() {
        _ = send.stopped().await;
    }
}

impl Inner {
    async fn answer(&self, bytes: &[u8], owner: Owner, from: SocketAddr) -> Answer {
        let limits = &self.options.limits;
        if !lock(&self.rates).admits(from.ip(), limits, Instant::now()) {
            return Answer::No(Refusal::TooMany);
        }
        let now = unix_seconds();
        match decode::<Request>(bytes) {
            None => Answer::No(Refusal::Malformed),
            Some(Request::Register { topic, note, referral }) => {
                self.registrations.fetch_add(1, Ordering::Relaxed);
                let (network, refers) = (network(from.ip()), self.options.refers);
                let entered = lock(&self.store).register(topic, owner, note, referral, refers, network, limits, now);
                let seconds = u32::try_from(limits.lifetime.as_secs()).unwrap_or(u32::MAX);
                entered.map_or_else(Answer::No, |()| Answer::Registered { seconds, observed: from, other_port: self.other_port })
            }
            Some(Request::Resolve { topic, count }) => {
                self.resolutions.fetch_add(1, Ordering::Relaxed);
                let count = usize::from(count).min(NAMED_MAX);
                let dice = || u32::from_le_bytes(*identity::random().first_chunk().unwrap_or(&[0; 4]));
                Answer::Named(lock(&self.store).resolve(&topic, &owner, count, now, dice))
            }
            Some(Request::Withdraw { topic }) => {
                lock(&self.store).withdraw(topic, owner);
                Answer::Done
            }
            Some(Request::Letter { topic, to, letter }) => self.pass_on(topic, owner, to, letter, now).await,
            Some(Request::Relay { topic, to }) => self.relay(topic, owner, to, from, now),
        }
    }

    /// Between two of one mesh, both registered here.
    async fn pass_on(&self, topic: Topic, from: Owner, to: Owner, letter: Vec<u8>, now: u64) -> Answer {
        if letter.len() > LETTER_BYTES_MAX {
            return Answer::No(Refusal::Malformed);
        }
        let player = self.players().get(&to).cloned().filter(|_| self.both_here(&topic, &from, &to, now));
        let Some(player) = player else { return Answer::No(Refusal::NotHere) };
        let notice = encode(&Notice { topic, from, letter });
        let sent = async {
            let mut stream = player.open_uni().await.ok()?;
            stream.write_all(&notice).await.ok()?;
            stream.finish().ok()
        };
        match timeout(REQUEST_DEADLINE, sent).await {
            Ok(Some(())) => {
                self.letters.fetch_add(1, Ordering::Relaxed);
                Answer::Done
            }
            _ => Answer::No(Refusal::NotHere),
        }
    }

    /// Carries packets between two of one mesh, both registered here, once both ask for it.
    fn relay(&self, topic: Topic, owner: Owner, to: Owner, from: SocketAddr, now: u64) -> Answer {
        if !self.both_here(&topic, &owner, &to, now) {
            return Answer::No(Refusal::NotHere);
        }
        let (limits, fresh) = (&self.options.limits, identity::random().first_chunk().copied().unwrap_or_default());
        let asked = lock(&self.desk.relays).ask(topic, owner, to, from, fresh, limits, Instant::now());
        asked.map_or_else(Answer::No, |token| Answer::Relay { token, bytes_per_second: limits.relay_bytes_per_second })
    }

    fn both_here(&self, topic: &Topic, one: &Owner, other: &Owner, now: u64) -> bool {
        let store = lock(&self.store);
        store.has(topic, one, now) && store.has(topic, other, now)
    }

    /// Whether one more from there may connect. Counts it; [`gone`](Self::gone) takes it back.
    fn has_room(&self, from: IpAddr) -> bool {
        let limits = &self.options.limits;
        let mut networks = lock(&self.networks);
        let of_network = networks.entry(network(from)).or_default();
        if *of_network >= limits.connections_of_network || self.connections.load(Ordering::Relaxed) >= limits.connections {
            return false;
        }
        *of_network += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn gone(&self, from: IpAddr) {
        let mut networks = lock(&self.networks);
        if let Some(count) = networks.get_mut(&network(from)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                networks.remove(&network(from));
            }
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    fn save(&self) -> io::Result<()> {
        let Some(folder) = &self.options.data else { return Ok(()) };
        let entries = lock(&self.store).save();
        write_whole(&Path::join(folder, ENTRIES_FILE), &entries)
    }

    fn stats(&self) -> DirectoryStats {
        let (entries, meshes) = lock(&self.store).size();
        let (relays, relayed_bytes, relay_dropped_bytes) = lock(&self.desk.relays).stats();
        DirectoryStats {
            entries,
            meshes,
            connections: self.connections.load(Ordering::Relaxed),
            registrations: self.registrations.load(Ordering::Relaxed),
            resolutions: self.resolutions.load(Ordering::Relaxed),
            letters: self.letters.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
            relays,
            relayed_bytes,
            relay_dropped_bytes,
        }
    }

    fn players(&self) -> MutexGuard<'_, BTreeMap<Owner, Connection>> {
        lock(&self.players)
    }
}

async fn tidy(inner: Arc<Inner>) {
    let mut every = interval(TIDY_EVERY);
    loop {
        every.tick().await;
        lock(&inner.store).expire(unix_seconds());
        let of_tidy = inner.clone();
        // Files may take their time: not on a thread that serves players.
        let saved = tokio::task::spawn_blocking(move || of_tidy.save()).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!(%error, "the entries could not be written down; a restart would forget them");
        }
    }
}

/// Relayed packets go where players are now: a router may give one another port under way, and QUIC notices.
async fn follow(inner: Arc<Inner>) {
    let mut every = interval(FOLLOW_EVERY);
    loop {
        every.tick().await;
        if lock(&inner.desk.relays).stats().0 == 0 {
            continue;
        }
        let places: BTreeMap<Owner, SocketAddr> =
            inner.players().iter().map(|(owner, connection)| (*owner, canonical(connection.remote_address()))).collect();
        let mut relays = lock(&inner.desk.relays);
        relays.follow(|owner| places.get(owner).copied());
        relays.tidy(Instant::now());
    }
}

/// A second port at which players learn whether their router shows them to everybody alike: the next one, or any.
async fn other_port(ip: IpAddr, port: u16, tasks: &mut JoinSet<()>) -> Option<u16> {
    let socket = match UdpSocket::bind((ip, port.saturating_add(1))).await {
        Ok(socket) => socket,
        Err(_) => UdpSocket::bind((ip, 0)).await.ok()?,
    };
    let port = socket.local_addr().ok()?.port();
    tasks.spawn(async move {
        let mut packet = [0; 256];
        let mut budget = Bucket::full(OTHER_PORT_RATE, Instant::now());
        loop {
            match socket.recv_from(&mut packet).await {
                Ok((length, from)) => {
                    let answer = probe::answer_to(packet.get(..length).unwrap_or_default(), from);
                    if let Some(answer) = answer.filter(|_| budget.take(OTHER_PORT_RATE, OTHER_PORT_RATE, Instant::now())) {
                        _ = socket.try_send_to(&answer, from);
                    }
                }
                // What the network says of packets that did not arrive is no trouble of ours.
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    });
    Some(port)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(REQUESTS_AT_ONCE))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .receive_window(VarInt::from_u32(16 * 1_024))
        .send_window(64 * 1_024)
        .datagram_receive_buffer_size(None)
        .mtu_discovery_config(None)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}
