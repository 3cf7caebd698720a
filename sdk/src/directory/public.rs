//! Public meshes at a directory: whom of a mesh it takes to tell of it there, and how a list of them all is read.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use peerflock_proto::{Identity, MeshId, PeerId};
use quinn::{Connection, Endpoint, VarInt};
use tokio::time::{Instant, timeout};

use super::address::DirectoryAddress;
use super::dial;
use super::wire::{Answer, NAMED_MAX, Refusal, Request, Topic};
use crate::identity;
use crate::resolve::public::{self, Told};
use crate::resolve::{Interface, Rendezvous, ResolveError};

/// What seals are for.
pub(super) const SERVICE: &str = "directory list";
/// Names under which the meshes of one game are told of, so that there is room for more than one name has, and an answer names more.
const SHELVES: u8 = 4;
/// Meshes of one game remembered from one directory; more are left out.
const KNOWN_MAX: usize = 2_048;
/// How long one counts that was not named again: where there are more than fit an answer, some are named by lot.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// How long a member counts that said it tells of our mesh.
const TELLS_FOR: Duration = Duration::from_secs(90);
/// Such members remembered.
const TELLERS_KNOWN_MAX: usize = 64;
/// How long an answer may take.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// Where a mesh is told of.
pub(super) fn topic(game: &Rendezvous, mesh: MeshId) -> Topic {
    shelf(game, mesh.0[0] % SHELVES)
}

fn shelf(game: &Rendezvous, number: u8) -> Topic {
    game.topic(SERVICE, number.into())
}

/// Who of our mesh tells of it at a directory.
#[derive(Debug, Default)]
pub(super) struct Tellers {
    others: BTreeMap<PeerId, Instant>,
    /// Under which name we told of it.
    pub(super) told: Option<Topic>,
}

impl Tellers {
    /// A member says whether it tells of our mesh.
    pub(super) fn note(&mut self, peer: PeerId, tells: bool, now: Instant) {
        self.others.retain(|_, at| now.duration_since(*at) < TELLS_FOR);
        if !tells {
            self.others.remove(&peer);
        } else if self.others.len() < TELLERS_KNOWN_MAX || self.others.contains_key(&peer) {
            self.others.insert(peer, now);
        }
    }

    /// Whether it takes us: a few of the smallest identifiers are enough, of those who are members still.
    pub(super) fn needs(&self, us: PeerId, is_member: impl Fn(&PeerId) -> bool, now: Instant) -> bool {
        let before_us = self.others.iter().filter(|(peer, at)| **peer < us && now.duration_since(**at) < TELLS_FOR);
        before_us.filter(|(peer, _)| is_member(peer)).count() < public::TELLERS
    }
}

/// Reads the lists of some games at one directory, for somebody who plays in no mesh yet.
#[derive(Debug)]
pub(crate) struct Lookout {
    address: DirectoryAddress,
    interface: Interface,
    games: Vec<(String, Rendezvous)>,
    /// Who we are there: nobody can tell by it who we are elsewhere.
    identity: Identity,
    line: Option<(Endpoint, Connection, SocketAddr)>,
    known: BTreeMap<(usize, PeerId), (Told, Instant)>,
}

impl Lookout {
    pub(crate) fn new(address: DirectoryAddress, interface: Interface, games: &[String]) -> Self {
        let games = games.iter().map(|game| (game.clone(), public::rendezvous(game))).collect();
        Self { address, interface, games, identity: identity::fresh(), line: None, known: BTreeMap::new() }
    }

    /// What is told there now, with the game that it is about.
    pub(crate) async fn look(&mut self) -> Result<Vec<(String, Told)>, ResolveError> {
        for game in 0..self.games.len() {
            for number in 0..SHELVES {
                let topic = shelf(&self.games[game].1, number);
                let named = self.ask(&Request::Resolve { topic, count: NAMED_MAX as u8 }).await?;
                self.take(game, number, named.iter().map(Vec::as_slice), Instant::now());
            }
        }
        Ok(self.known.iter().map(|((game, _), (told, _))| (self.games[*game].0.clone(), told.clone())).collect())
    }

    /// Takes in all that was named on one shelf.
    fn take<'a>(&mut self, game: usize, number: u8, named: impl ExactSizeIterator<Item = &'a [u8]>, now: Instant) {
        let all = named.len() < NAMED_MAX;
        let mut seen = Vec::new();
        for sealed in named {
            let Some(told) = Told::open(&self.games[game].1, SERVICE, sealed) else { continue };
            // On another shelf it would come and go with that.
            if told.mesh().0[0] % SHELVES != number {
                continue;
            }
            let key = (game, told.peer());
            if self.known.len() < KNOWN_MAX || self.known.contains_key(&key) {
                seen.push(key.1);
                self.known.insert(key, (told, now));
            }
        }
        self.known.retain(|(of, peer), (told, at)| {
            let elsewhere = *of != game || told.mesh().0[0] % SHELVES != number;
            elsewhere || seen.contains(peer) || (!all && now.duration_since(*at) < KNOWN_FOR)
        });
    }

    async fn ask(&mut self, request: &Request) -> Result<Vec<Vec<u8>>, ResolveError> {
        if self.line.as_ref().is_none_or(|(_, connection, _)| connection.close_reason().is_some()) {
            self.line = None;
            let endpoint = endpoint(&self.interface)?;
            let connect = |config, at| endpoint.connect_with(config, at, "directory");
            let (connection, at) = dial::dial(&self.address, &self.interface, &self.identity, connect).await?;
            self.line = Some((endpoint, connection, at));
        }
        let Some((_, connection, at)) = &self.line else { return Err(ResolveError::Silent) };
        let refused = |refusal: Refusal| ResolveError::Refused { by: dial::name(&self.address), why: refusal.to_string() };
        match timeout(ANSWER_DEADLINE, dial::ask(connection, request)).await {
            Ok(Some(Answer::Named(named))) => Ok(named.into_iter().map(|named| named.note).collect()),
            Ok(Some(Answer::No(refusal))) => Err(refused(refusal)),
            Ok(Some(_)) => Err(refused(Refusal::Malformed)),
            outcome => {
                let why = if outcome.is_err() { "it does not answer" } else { "the connection broke" };
                let error = ResolveError::Unreachable { address: *at, why: why.into() };
                self.line = None;
                Err(error)
            }
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        if let Some((_, connection, _)) = &self.line {
            connection.close(VarInt::from_u32(0), b"");
        }
    }
}

/// A socket of its own: there is no mesh yet that would have one.
fn endpoint(interface: &Interface) -> Result<Endpoint, ResolveError> {
    if *interface == Interface::Loopback {
        return Ok(Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?);
    }
    // Machines without IPv6 have no such socket.
    let any = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into());
    Ok(any.or_else(|_| Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_tell_and_others_take_over() {
        let (mut tellers, now) = (Tellers::default(), Instant::now());
        let us = PeerId([5; 32]);
        let everybody = |_: &PeerId| true;
        assert!(tellers.needs(us, everybody, now));
        for peer in [9, 8, 1] {
            tellers.note(PeerId([peer; 32]), true, now);
        }
        assert!(tellers.needs(us, everybody, now), "one with a smaller identifier is one too few");
        tellers.note(PeerId([2; 32]), true, now);
        assert!(!tellers.needs(us, everybody, now));
        assert!(tellers.needs(us, |peer| *peer != PeerId([2; 32]), now), "who left counts no more");
        tellers.note(PeerId([1; 32]), false, now);
        assert!(tellers.needs(us, everybody, now));
        tellers.note(PeerId([3; 32]), true, now);
        let later = now + TELLS_FOR;
        assert!(!tellers.needs(us, everybody, now) && tellers.needs(us, everybody, later), "nor who is silent for long");
        for n in 0..1_000_u32 {
            let mut peer = [0; 32];
            peer[..4].copy_from_slice(&n.to_be_bytes());
            tellers.note(PeerId(peer), true, now);
        }
        assert_eq!(tellers.others.len(), TELLERS_KNOWN_MAX);
    }
}
