//! From what a mesh was told to a mesh that runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::{Candidate, CloseReason, Config, Identity, MeshId, MeshKey, Node, Time};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::builder::{Door, PeerMeshBuilder};
use super::{Handle, PeerMesh};
use crate::conditioner::ParseConditionerError;
use crate::driver::{Driver, LINK_EVENTS_MAX, Shared, Standing};
use crate::identity::random;
use crate::link::{LinkEndpoint, OpenError, canonical};
use crate::resolve::lan::Announcer;
use crate::resolve::ticket::{self, Lock, Ticket};
use crate::resolve::{Listing, address, lan};

/// How long to look on the local network before opening the mesh alone.
const BROWSE: Duration = Duration::from_millis(1_500);
/// How long to try whoever was found there.
const BROWSE_AND_JOIN: Duration = Duration::from_secs(4);
/// How long to try addresses and tickets.
const JOIN_DEADLINE: Duration = Duration::from_secs(10);
/// How long to try others after somebody refused us: one of many may be odd, and the next one not.
const SECOND_OPINION: Duration = Duration::from_secs(1);

/// Why a mesh did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The mesh's name is none.
    #[error(
        "{name:?} is no name for a mesh: take 1 to {max} bytes of text on one line",
        max = ticket::NAME_BYTES_MAX
    )]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// A ticket is for another mesh than the one named.
    #[error("the ticket is for the mesh {ticket:?}, not for {name:?}: start with PeerMesh::from_ticket, or drop one of the two")]
    OtherMesh {
        /// The mesh named.
        name: String,
        /// The mesh of the ticket.
        ticket: String,
    },
    /// The ticket is for a mesh with a password, and none was given.
    #[error("the mesh {name:?} asks for a password beside the ticket: add it")]
    PasswordNeeded {
        /// Which mesh.
        name: String,
    },
    /// A member would not have us.
    #[error("{address} refused us: {reason}")]
    Refused {
        /// Which member.
        address: SocketAddr,
        /// Why, and what to do.
        reason: CloseReason,
    },
    /// Nobody answered, and the mesh was not to be opened alone.
    #[error(
        "nobody answered at any of {tried} addresses; check that the game runs there, that the address or ticket is a new one, \
         and that both are on networks that reach each other"
    )]
    NobodyThere {
        /// How many addresses were tried.
        tried: usize,
    },
    /// The socket could not be opened.
    #[error("no socket at {address}: {source}. Choose another port, or none to get a free one", address = shown(*address))]
    Bind {
        /// Where it was to be, if that was said.
        address: Option<SocketAddr>,
        /// Why not.
        source: io::Error,
    },
    /// TLS could not be set up with this identity.
    #[error("TLS refused our own identity: {0}. Make a new one")]
    Tls(String),
    /// The environment variable `PEERFLOCK_CONDITIONER` is no [`Conditioner`](crate::Conditioner).
    #[error("PEERFLOCK_CONDITIONER: {0}. Mend it, or unset it")]
    Conditioner(#[from] ParseConditionerError),
    /// There is no tokio runtime here.
    #[error("start() needs a tokio runtime with IO and time; without one, call start_in_background()")]
    NoRuntime,
    /// The thread for the mesh, or its runtime, could not be made.
    #[error("the operating system refused a thread for the mesh: {0}. Close other programs and try again")]
    Runtime(io::Error),
    /// The outcome was taken already, or the thread ended on the way.
    #[error("the outcome was taken already by try_ready(), or the mesh's thread ended while it started; start anew")]
    Stopped,
}

pub(super) async fn start(mut builder: PeerMeshBuilder) -> Result<PeerMesh, StartError> {
    let runtime = check(&mut builder)?;
    let interface = builder.resolved_interface();
    let bind = builder.resolved_bind(&interface);
    let conditioner = builder.resolved_conditioner()?;
    let mesh = MeshId::from_name(&builder.name);
    let key = key(mesh, builder.door.clone()).await?;
    let identity = builder.identity.clone().unwrap_or_else(crate::identity::fresh);

    let (events, link_events) = mpsc::channel(LINK_EVENTS_MAX);
    let seed = builder.seed.unwrap_or_else(|| *random());
    let id_key = derived(&seed, "link");
    let endpoint = LinkEndpoint::open(&identity, builder.socket.clone(), bind, conditioner, builder.seed, id_key, events)
        .map_err(|error| match error {
            OpenError::Socket(source) => StartError::Bind { address: bind, source },
            OpenError::Tls(error) => StartError::Tls(error.to_string()),
        })?;
    let endpoint = Arc::new(endpoint);
    let bound = endpoint.local_address().map_err(|source| StartError::Bind { address: bind, source })?;
    let addresses = interface.addresses(bound);
    let listing = Listing { locked: !matches!(builder.door, Door::Open), ..builder.listing.clone() };
    let node = node(&builder, identity, key, seed, addresses.clone());
    let (peer, boot) = (node.peer_id(), node.boot());
    let shared = Arc::new(Shared::new(node, Instant::now(), listing, endpoint.counters()));

    let candidates = candidates(&builder);
    let tried = candidates.len();
    let mut helpers = JoinSet::new();
    if !candidates.is_empty() {
        helpers.spawn(address::run(candidates, shared.clone()));
    }
    if builder.lan {
        let announcer =
            Announcer { peer, mesh, name: builder.name.clone(), interface: interface.clone(), addresses: addresses.clone() };
        helpers.spawn(lan::run(announcer, shared.clone()));
    }
    let door = Arc::downgrade(&endpoint);
    tokio::spawn(Driver::new(shared.clone(), endpoint, link_events, helpers, builder.socket.is_none()).run());

    let lock = match &builder.door {
        Door::Open => Lock::Open,
        Door::Password(_) => Lock::Password,
        Door::Secret(secret) => Lock::Secret(**secret),
    };
    let ticket = Ticket { name: builder.name, peer: Some(peer), addresses, lock };
    // From here on, giving up drops the handle, and with it the mesh.
    let mesh = PeerMesh {
        handle: Arc::new(Handle { shared: shared.clone(), runtime, endpoint: door, interface, peer, boot, mesh, ticket }),
    };
    match join(&shared, tried, builder.lan, builder.require_members.unwrap_or(tried > 0)).await {
        Ok(()) => Ok(mesh),
        Err(error) => {
            mesh.leave().await;
            Err(error)
        }
    }
}

/// Makes sense of what was told, and finds the runtime, or says why not.
fn check(builder: &mut PeerMeshBuilder) -> Result<tokio::runtime::Handle, StartError> {
    let runtime = tokio::runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
    if !ticket::is_name(&builder.name) {
        return Err(StartError::InvalidName { name: builder.name.clone() });
    }
    for ticket in &builder.tickets {
        if ticket.name != builder.name {
            return Err(StartError::OtherMesh { name: builder.name.clone(), ticket: ticket.name.clone() });
        }
        match (&builder.door, ticket.lock) {
            (Door::Open, Lock::Secret(secret)) => builder.door = Door::Secret(secret.into()),
            (Door::Open, Lock::Password) => return Err(StartError::PasswordNeeded { name: builder.name.clone() }),
            _ => {}
        }
    }
    Ok(runtime)
}

/// The key that admission needs. Stretching a password takes a while and much memory, on purpose: not on an async thread.
async fn key(mesh: MeshId, door: Door) -> Result<MeshKey, StartError> {
    match door {
        Door::Open => Ok(MeshKey::open(mesh)),
        Door::Secret(secret) => Ok(MeshKey::from_secret(mesh, *secret)),
        Door::Password(password) => tokio::task::spawn_blocking(move || MeshKey::from_password(mesh, &password))
            .await
            .map_err(|error| StartError::Runtime(io::Error::other(error))),
    }
}

fn node(builder: &PeerMeshBuilder, identity: Identity, key: MeshKey, seed: [u8; 32], addresses: Vec<SocketAddr>) -> Node {
    let config = Config {
        neighbors: builder.neighbors,
        profile: builder.profile.clone(),
        registry: builder.registry.clone(),
        addresses,
        limits: builder.limits,
        adopts: builder.adopts,
        state_rate: builder.state_rate,
        nearest_by: builder.nearest_by,
        removal: builder.removal.clone(),
        ..Config::default()
    };
    Node::new(config, identity, key, seed, Time::default())
}

/// Everybody we were told of.
fn candidates(builder: &PeerMeshBuilder) -> Vec<Candidate> {
    let told = builder.addresses.iter().map(|address| Candidate { address: canonical(*address), peer: None });
    let invited = builder
        .tickets
        .iter()
        .flat_map(|ticket| ticket.addresses.iter().map(|address| Candidate { address: canonical(*address), peer: ticket.peer }));
    told.chain(invited).collect()
}

/// Waits until we are in the mesh, or until we are sure enough that we must be its first member.
async fn join(shared: &Shared, tried: usize, lan: bool, require_members: bool) -> Result<(), StartError> {
    let started = Instant::now();
    let mut standing = shared.standing.subscribe();
    let deadline = match (tried, require_members, lan) {
        (1.., _, _) | (0, true, true) => started + JOIN_DEADLINE,
        (0, false, true) => started + BROWSE,
        (0, _, false) => started,
    };
    let mut met = wait(&mut standing, deadline, |standing| standing.joined || !standing.refusals.is_empty()).await;
    if tried == 0 && !met.joined && met.refusals.is_empty() && met.candidates {
        met = wait(&mut standing, started + BROWSE_AND_JOIN, |standing| standing.joined || !standing.refusals.is_empty()).await;
    }
    if !met.joined && !met.refusals.is_empty() {
        met = wait(&mut standing, Instant::now() + SECOND_OPINION, |standing| standing.joined).await;
    }
    match met.refusals.first() {
        _ if met.joined => Ok(()),
        Some(&(address, reason)) => Err(StartError::Refused { address, reason }),
        None if require_members => Err(StartError::NobodyThere { tried }),
        None => Ok(()),
    }
}

async fn wait(
    standing: &mut tokio::sync::watch::Receiver<Standing>,
    deadline: Instant,
    enough: impl FnMut(&Standing) -> bool,
) -> Standing {
    _ = timeout_at(deadline, standing.wait_for(enough)).await;
    standing.borrow().clone()
}

/// A number of our own from the seed, for one purpose.
fn derived(seed: &[u8; 32], purpose: &str) -> u64 {
    let hash = blake3::Hasher::new_keyed(seed).update(purpose.as_bytes()).finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "any port".into(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(name: &str, lock: Lock) -> Ticket {
        Ticket { name: name.into(), peer: None, addresses: vec!["192.0.2.1:7".parse().unwrap()], lock }
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_said_before_anything_happens() {
        for name in ["", "  ", "two\nlines", &"x".repeat(65)] {
            let outcome = PeerMesh::named(name).loopback_only().start().await;
            assert!(matches!(outcome, Err(StartError::InvalidName { .. })), "{name:?}");
        }
        let other = PeerMesh::named("dusk").loopback_only().join(ticket("dawn", Lock::Open)).start().await;
        assert!(matches!(other, Err(StartError::OtherMesh { .. })));
        let locked = PeerMesh::from_ticket(&ticket("dusk", Lock::Password)).loopback_only().start().await;
        assert!(matches!(locked, Err(StartError::PasswordNeeded { .. })));
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let bind = PeerMesh::named("dusk").loopback_only().bind(taken.local_addr().unwrap()).start().await.unwrap_err();
        assert!(matches!(bind, StartError::Bind { .. }) && bind.to_string().contains("another port"), "{bind}");
    }

    #[test]
    fn tickets_bring_their_secret_unless_told_otherwise() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let mut builder = PeerMesh::from_ticket(&ticket("dusk", Lock::Secret([7; 32])));
        check(&mut builder).unwrap();
        assert!(matches!(&builder.door, Door::Secret(secret) if **secret == [7; 32]));
        let mut builder = PeerMesh::from_ticket(&ticket("dusk", Lock::Password)).password("hunter2");
        check(&mut builder).unwrap();
        assert!(matches!(&builder.door, Door::Password(password) if **password == "hunter2"));
    }

    #[test]
    fn outside_of_a_runtime_the_way_out_is_named() {
        let mut builder = PeerMesh::named("dusk");
        assert!(matches!(check(&mut builder), Err(StartError::NoRuntime)));
        assert!(StartError::NoRuntime.to_string().contains("start_in_background"));
    }
}
