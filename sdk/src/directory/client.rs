//! The resolver that asks a directory, from the socket on which we play.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Identity, PeerId};
use quinn::{Connection, VarInt};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::address::DirectoryAddress;
use super::dial;
use super::public::{self, Tellers};
use super::wire::{Answer, Notice, Owner, REQUEST_BYTES_MAX, Referral, Refusal, Request, Topic, decode, encode};
use crate::identity;
use crate::link::canonical;
use crate::link::probe::{Arrived, SideDoor};
use crate::reach::{Courier, Post};
use crate::resolve::public::{Told, rendezvous};
use crate::resolve::{Answer as Later, Found, Registration, Rendezvous, ResolveError, Resolver};
use crate::sync::lock;
use crate::unix_time::unix_seconds;

/// How long an answer may take. Who does not answer is asked on a new connection.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
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
    tellers: Mutex<Tellers>,
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
    /// Whether it tells of the mesh publicly.
    tells: bool,
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
            tellers: Mutex::default(),
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
        match timeout(ANSWER_DEADLINE, dial::ask(&line.connection, request)).await {
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
        let endpoint = us.endpoint.upgrade().ok_or_else(|| ResolveError::Other("the mesh is left".into()))?;
        let connect = |config, at| endpoint.connect(config, at);
        let (connection, address) = dial::dial(&self.address, &us.interface, &self.identity, connect).await?;
        Ok(Line {
            connection,
            address: canonical(address),
            door: endpoint.side_door(),
            asked_other_port: AtomicBool::new(false),
            notices: Mutex::default(),
            rendezvous: Mutex::new(us.rendezvous.clone()),
            no_relay: Mutex::default(),
        })
    }

    fn refused(&self, refusal: Refusal) -> ResolveError {
        ResolveError::Refused { by: self.name(), why: refusal.to_string() }
    }

    async fn enter(&self, us: &Registration, seen: Option<SocketAddr>) -> Result<(Duration, SocketAddr), ResolveError> {
        let mut addresses = us.addresses.clone();
        // Where it sees us is where others have to send, if anywhere.
        addresses.extend(seen.filter(|seen| !us.addresses.contains(seen)));
        let addresses = addresses.split_off(addresses.len().saturating_sub(NOTE_ADDRESSES_MAX));
        let note = encode(&Note { peer: us.peer, addresses, beacon: us.beacon, tells: self.tells(us) });
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

    /// Whether it takes us to tell of our mesh publicly.
    fn tells(&self, us: &Registration) -> bool {
        let is_member = |peer: &PeerId| us.has_member(peer);
        us.listing.public && !us.listing.game.is_empty() && lock(&self.tellers).needs(us.peer, is_member, Instant::now())
    }

    /// Tells of our mesh publicly, or no longer.
    async fn tell(&self, us: &Registration, seen: SocketAddr) -> Result<(), ResolveError> {
        let game = rendezvous(&us.listing.game);
        let topic = self.tells(us).then(|| public::topic(&game, us.mesh));
        let told = std::mem::replace(&mut lock(&self.tellers).told, topic);
        if let Some(told) = told.filter(|told| Some(*told) != topic) {
            self.ask(us, &Request::Withdraw { topic: told }).await?;
        }
        let Some(topic) = topic else { return Ok(()) };
        let mut addresses = us.addresses.clone();
        addresses.extend((!us.addresses.contains(&seen)).then_some(seen));
        let told = Told::of(us, addresses, unix_seconds());
        let note = told.seal(&game, public::SERVICE).ok_or_else(|| ResolveError::Other("the note could not be sealed".into()))?;
        // Whoever does not want to be named to members is not named to strangers either.
        self.ask(us, &Request::Register { topic, note, referral: self.referral }).await.map(drop)
    }
}

impl Resolver for Directory {
    fn name(&self) -> String {
        dial::name(&self.address)
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Later<'a, Duration> {
        Box::pin(async move {
            let told = *self.observed.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut lasts, observed) = self.enter(us, told).await?;
            if told != Some(observed) && !us.addresses.contains(&observed) {
                (lasts, _) = self.enter(us, Some(observed)).await?;
            }
            *self.observed.lock().unwrap_or_else(PoisonError::into_inner) = Some(observed);
            // Members find us all the same; it is tried again with the next renewal.
            if let Err(error) = self.tell(us, observed).await {
                tracing::warn!(%error, "the mesh could not be listed publicly");
            }
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
                lock(&self.tellers).note(note.peer, note.tells, Instant::now());
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
                let told = lock(&self.tellers).told.take();
                if let Some(topic) = told {
                    self.ask(us, &Request::Withdraw { topic }).await?;
                }
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
    /// Asks for packets to and from `to` to be relayed, who is `peer`.
    async fn relay(&self, topic: Topic, to: Owner, peer: PeerId) {
        let refusal = match timeout(ANSWER_DEADLINE, dial::ask(&self.connection, &Request::Relay { topic, to })).await {
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
        *lock(&self.no_relay) = refusal.map(|refusal| (refusal, Instant::now()));
    }

    /// Why it would not relay of late.
    fn why_no_relay(&self) -> Option<Refusal> {
        let refused = *lock(&self.no_relay);
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
            _ = timeout(ANSWER_DEADLINE, dial::ask(&line.connection, &request)).await;
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
