//! The resolver that asks a directory, from the socket on which we play.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Identity, PeerId};
use quinn::{ClientConfig, Connection, IdleTimeout, TransportConfig, VarInt};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::address::DirectoryAddress;
use super::wire::{
    ALPN, ANSWER_BYTES_MAX, Answer, Notice, Owner, REQUEST_BYTES_MAX, Referral, Refusal, Request, Topic, decode, encode,
};
use crate::identity;
use crate::link::probe::{Arrived, SideDoor};
use crate::link::{LinkEndpoint, canonical, tls};
use crate::reach::{Courier, Post};
use crate::resolve::{Answer as Later, Found, Registration, Rendezvous, ResolveError, Resolver};

/// How long connecting to one address may take; the next is tried then.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1_500);
/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;
/// How long an answer may take. Who does not answer is asked on a new connection.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// A connection on which nothing was heard for so long is gone.
const IDLE_TIMEOUT_MS: u32 = 20_000;
/// How often we say that we are there: routers forget ports that are silent for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(7);
/// So long it is told that a directory would not relay.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Others asked for at once.
const COUNT: u8 = 16;
/// Addresses of one note.
const NOTE_ADDRESSES_MAX: usize = 8;
/// What names and seals are for.
const SERVICE: &str = "directory";
const LETTERS: &str = "directory letters";

/// A directory as a [`Resolver`]. [`PeerMeshBuilder::directory`](crate::PeerMeshBuilder::directory) adds one.
#[derive(Debug)]
pub struct Directory {
    address: DirectoryAddress,
    referral: Referral,
    /// Who we are there: nobody can tell by it who we are elsewhere.
    identity: Identity,
    line: tokio::sync::Mutex<Option<Arc<Line>>>,
    observed: Mutex<Option<SocketAddr>>,
}

/// A connection to it.
#[derive(Debug)]
struct Line {
    connection: Connection,
    address: SocketAddr,
    door: Arc<SideDoor>,
    asked_other_port: AtomicBool,
    notices: Mutex<Option<AbortHandle>>,
    /// With which letters are opened: another one once the mesh has another lock.
    rendezvous: Mutex<Rendezvous>,
    /// Why it would not relay, and when.
    no_relay: Mutex<Option<(Refusal, Instant)>>,
}

/// What members tell each other there, sealed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    peer: PeerId,
    addresses: Vec<SocketAddr>,
    beacon: u64,
}

impl Directory {
    /// The directory at `address`, which is to decide whether it names us to others.
    pub fn new(address: DirectoryAddress) -> Self {
        Self {
            address,
            referral: Referral::default(),
            identity: identity::fresh(),
            line: tokio::sync::Mutex::default(),
            observed: Mutex::default(),
        }
    }

    /// The same, with our own say in that.
    pub fn referral(mut self, referral: Referral) -> Self {
        self.referral = referral;
        self
    }

    async fn ask(&self, us: &Registration, request: &Request) -> Result<(Answer, Arc<Line>), ResolveError> {
        let line = self.line(us).await?;
        line.rendezvous.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&us.rendezvous);
        match timeout(ANSWER_DEADLINE, line.ask(request)).await {
            Ok(Some(Answer::No(refusal))) => Err(self.refused(refusal)),
            Ok(Some(answer)) => Ok((answer, line)),
            outcome => {
                // Gone, or another one in its place: the next request goes by a new connection.
                let mut held = self.line.lock().await;
                if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &line)) {
                    *held = None;
                }
                let why = if outcome.is_err() { "it does not answer" } else { "the connection broke" };
                Err(ResolveError::Unreachable { address: line.address, why: why.into() })
            }
        }
    }

    async fn line(&self, us: &Registration) -> Result<Arc<Line>, ResolveError> {
        let mut held = self.line.lock().await;
        if let Some(line) = held.as_ref().filter(|line| line.connection.close_reason().is_none()) {
            return Ok(line.clone());
        }
        *held = None;
        let line = Arc::new(self.connect(us).await?);
        line.listen(us.peer);
        *held = Some(line.clone());
        Ok(line)
    }

    async fn connect(&self, us: &Registration) -> Result<Line, ResolveError> {
        let DirectoryAddress { host, port, key } = &self.address;
        let endpoint = us.endpoint.upgrade().ok_or_else(|| ResolveError::Other("the mesh is left".into()))?;
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        let found = found.map_err(|error| {
            ResolveError::Other(format!("{host} is not known: {error}. Check its spelling, and the connection"))
        })?;
        let mut addresses: Vec<SocketAddr> = found.filter(|address| us.interface.reaches(address.ip())).collect();
        // IPv6 needs no router to understand us.
        addresses.sort_by_key(|address| address.is_ipv4());
        addresses.truncate(ADDRESSES_MAX);
        let mut failure =
            ResolveError::Other(format!("{host} has no address that the network in use ({}) reaches", us.interface));
        for address in addresses {
            match self.connect_to(&endpoint, address).await {
                Ok(connection) => {
                    let shown = tls::proved_peer(connection.peer_identity());
                    if key.is_some() && shown != *key {
                        failure = ResolveError::Refused {
                            by: self.name(),
                            why: "it shows another key than its address names: somebody stands in for it, or it has a new one. Ask who \
                                  runs it"
                                .into(),
                        };
                        continue;
                    }
                    return Ok(Line {
                        connection,
                        address: canonical(address),
                        door: endpoint.side_door(),
                        asked_other_port: AtomicBool::new(false),
                        notices: Mutex::default(),
                        rendezvous: Mutex::new(us.rendezvous.clone()),
                        no_relay: Mutex::default(),
                    });
                }
                Err(why) => failure = ResolveError::Unreachable { address, why },
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, endpoint: &LinkEndpoint, address: SocketAddr) -> Result<Connection, String> {
        let (_, client) = tls::configs(&self.identity, ALPN).map_err(|error| error.to_string())?;
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(Arc::new(transport()));
        let connecting = endpoint.connect(client, address).map_err(|error| error.to_string())?;
        match timeout(CONNECT_DEADLINE, connecting).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err("nobody answers there".into()),
        }
    }

    fn refused(&self, refusal: Refusal) -> ResolveError {
        ResolveError::Refused { by: self.name(), why: refusal.to_string() }
    }

    async fn enter(&self, us: &Registration, seen: Option<SocketAddr>) -> Result<(Duration, SocketAddr), ResolveError> {
        let mut addresses = us.addresses.clone();
        // Where it sees us is where others have to send, if anywhere.
        addresses.extend(seen.filter(|seen| !us.addresses.contains(seen)));
        let addresses = addresses.split_off(addresses.len().saturating_sub(NOTE_ADDRESSES_MAX));
        let note = encode(&Note { peer: us.peer, addresses, beacon: us.beacon });
        let note =
            us.rendezvous.seal(SERVICE, &note).ok_or_else(|| ResolveError::Other("the note could not be sealed".into()))?;
        let request = Request::Register { topic: us.rendezvous.topic(SERVICE, 0), note, referral: self.referral };
        match self.ask(us, &request).await? {
            (Answer::Registered { seconds, observed, other_port }, line) => {
                let observed = canonical(observed);
                line.door.post(Arrived::Told { nonce: line.door.nonce(), by: line.address, at: observed });
                if let Some(port) = other_port
                    && !line.asked_other_port.swap(true, Ordering::Relaxed)
                {
                    line.door.ask(SocketAddr::new(line.address.ip(), port));
                }
                Ok((Duration::from_secs(u64::from(seconds)), observed))
            }
            _ => Err(self.refused(Refusal::Malformed)),
        }
    }
}

impl Resolver for Directory {
    fn name(&self) -> String {
        format!("the directory {}:{}", self.address.host, self.address.port)
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Later<'a, Duration> {
        Box::pin(async move {
            let told = *self.observed.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut lasts, observed) = self.enter(us, told).await?;
            if told != Some(observed) && !us.addresses.contains(&observed) {
                (lasts, _) = self.enter(us, Some(observed)).await?;
            }
            *self.observed.lock().unwrap_or_else(PoisonError::into_inner) = Some(observed);
            Ok((lasts / 3).max(Duration::from_secs(1)))
        })
    }

    fn resolve<'a>(&'a self, us: &'a Registration) -> Later<'a, Vec<Found>> {
        Box::pin(async move {
            let topic = us.rendezvous.topic(SERVICE, 0);
            let (answer, line) = self.ask(us, &Request::Resolve { topic, count: COUNT }).await?;
            let Answer::Named(named) = answer else { return Err(self.refused(Refusal::Malformed)) };
            let mut found = Vec::new();
            for of in named {
                // What no member sealed is nobody's.
                let note = us.rendezvous.open(SERVICE, &of.note).and_then(|note| decode::<Note>(&note));
                let Some(note) = note.filter(|note| note.addresses.len() <= NOTE_ADDRESSES_MAX && note.peer != us.peer) else {
                    continue;
                };
                let by = Letters { line: Arc::downgrade(&line), to: of.owner, me: us.peer, rendezvous: us.rendezvous.clone() };
                line.door.post(Arrived::Found { peer: note.peer, by: Post::Courier(Arc::new(by)) });
                found.push(Found::peer(note.peer, note.addresses).beacon(Some(note.beacon)));
            }
            // Whoever is found may be out of reach all the same: then the player should know what could help.
            match line.why_no_relay().filter(|_| us.members <= 1) {
                Some(refusal) => Err(self.refused(refusal)),
                None => Ok(found),
            }
        })
    }

    fn withdraw<'a>(&'a self, us: &'a Registration) -> Later<'a, ()> {
        Box::pin(async move {
            // Nobody connects anew to say goodbye.
            if self.line.lock().await.is_some() {
                self.ask(us, &Request::Withdraw { topic: us.rendezvous.topic(SERVICE, 0) }).await?;
            }
            Ok(())
        })
    }

    fn knows_password(&self) -> bool {
        true
    }
}

impl Line {
    async fn ask(&self, request: &Request) -> Option<Answer> {
        let (mut send, mut receive) = self.connection.open_bi().await.ok()?;
        send.write_all(&encode(request)).await.ok()?;
        send.finish().ok()?;
        decode(&receive.read_to_end(ANSWER_BYTES_MAX).await.ok()?)
    }

    /// Asks for packets to and from `to` to be relayed, who is `peer`.
    async fn relay(&self, topic: Topic, to: Owner, peer: PeerId) {
        let refusal = match timeout(ANSWER_DEADLINE, self.ask(&Request::Relay { topic, to })).await {
            Ok(Some(Answer::Relay { token, bytes_per_second })) => {
                let at = self.door.open_relay(token, self.address, f64::from(bytes_per_second));
                self.door.post(Arrived::Relayed { peer, at });
                None
            }
            // An older directory knows no such request.
            Ok(Some(Answer::No(Refusal::Malformed))) => Some(Refusal::NoRelay),
            Ok(Some(Answer::No(refusal))) => Some(refusal),
            // Whoever looks for others next notices, too.
            _ => None,
        };
        if let Some(refusal) = refusal {
            tracing::debug!(target: "peerflock::reach", ?peer, %refusal, "not relayed");
        }
        *self.no_relay.lock().unwrap_or_else(PoisonError::into_inner) = refusal.map(|refusal| (refusal, Instant::now()));
    }

    /// Why it would not relay of late.
    fn why_no_relay(&self) -> Option<Refusal> {
        let refused = *self.no_relay.lock().unwrap_or_else(PoisonError::into_inner);
        refused.filter(|(_, at)| at.elapsed() < REFUSED_FOR).map(|(refusal, _)| refusal)
    }

    /// Passes on what others send us by the directory, until the connection ends.
    fn listen(self: &Arc<Self>, me: PeerId) {
        let (line, connection) = (Arc::downgrade(self), self.connection.clone());
        let task = tokio::spawn(async move {
            while let Ok(mut stream) = connection.accept_uni().await {
                let Ok(Ok(bytes)) = timeout(ANSWER_DEADLINE, stream.read_to_end(REQUEST_BYTES_MAX)).await else { continue };
                let Some(line) = line.upgrade() else { return };
                let Some(notice) = decode::<Notice>(&bytes) else { continue };
                let rendezvous = line.rendezvous.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let letter = rendezvous.open(LETTERS, &notice.letter).and_then(|letter| decode::<(PeerId, Bytes)>(&letter));
                let Some((from, bytes)) = letter else { continue };
                // The answer goes back the same way.
                let by = Letters { line: Arc::downgrade(&line), to: notice.from, me, rendezvous };
                line.door.post(Arrived::Letter { from, bytes, by: Post::Courier(Arc::new(by)) });
            }
        });
        *self.notices.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
    }
}

/// Carries letters to one who is registered there.
#[derive(Debug)]
struct Letters {
    /// Gone with the connection.
    line: Weak<Line>,
    to: Owner,
    me: PeerId,
    rendezvous: Rendezvous,
}

impl Courier for Letters {
    fn send(&self, letter: &[u8]) {
        let Some(line) = self.line.upgrade() else { return };
        let Some(letter) = self.rendezvous.seal(LETTERS, &encode(&(self.me, Bytes::copy_from_slice(letter)))) else { return };
        let request = Request::Letter { topic: self.rendezvous.topic(SERVICE, 0), to: self.to, letter };
        tokio::spawn(async move {
            // Nobody waits for it: what does not arrive is tried again.
            _ = timeout(ANSWER_DEADLINE, line.ask(&request)).await;
        });
    }

    fn relay(&self, peer: PeerId) {
        let Some(line) = self.line.upgrade() else { return };
        let (topic, to) = (self.rendezvous.topic(SERVICE, 0), self.to);
        tokio::spawn(async move { line.relay(topic, to, peer).await });
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(task) = self.notices.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
        self.connection.close(VarInt::from_u32(0), b"");
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
