//! From what a mesh was told to a mesh that runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::{CloseReason, Config, Identity, Membership, MeshId, MeshKey, Node, PeerId, Time};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::builder::{Door, PeerMeshBuilder};
use super::{Handle, PeerMesh};
use crate::conditioner::ParseConditionerError;
use crate::driver::{Driver, LINK_EVENTS_MAX, Shared, Standing};
use crate::identity::random;
use crate::link::{LinkEndpoint, OpenError};
use crate::reach::{Mapper, Reach};
use crate::resolve::hub::{self, Facts};
use crate::resolve::lan::Lan;
use crate::resolve::ticket::{self, Lock, Ticket};
use crate::resolve::told::Told;
use crate::resolve::{AddressBook, Interface, Listing, Rendezvous, Resolver, ResolverReport};

/// How long to wait at most for resolvers before opening the mesh alone.
const LOOK_MAX: Duration = Duration::from_secs(8);
/// How long to try whoever was found by them.
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
    /// The certificate is not for the identity that was given, or none was.
    #[error("the certificate is for {member:?}: give that identity with `identity(..)`, or ask for a certificate for yours")]
    OtherIdentity {
        /// For whom it is.
        member: PeerId,
    },
    /// Nobody answered, and the mesh was not to be opened alone.
    #[error(
        "nobody answered at any of {tried} addresses; check that the game runs there, that the address or ticket is a new one, \
         and that both are on networks that reach each other{}",
        told(resolvers)
    )]
    NobodyThere {
        /// How many addresses were given.
        tried: usize,
        /// Where else was looked, and what came of it.
        resolvers: Vec<ResolverReport>,
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
    let authority = builder.certificate.as_ref().map(|(authority, _)| *authority);
    let key = key(mesh, builder.door.clone(), authority).await?;
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
    let listing = Listing { locked: !matches!(builder.door, Door::Open), ..builder.listing.clone().fit() };
    let rendezvous = Rendezvous::new(&key);
    let node = node(&builder, identity.clone(), key, seed, addresses.clone());
    let (peer, boot) = (node.peer_id(), node.boot());
    let shared = Arc::new(Shared::new(node, Instant::now(), listing, addresses.clone(), endpoint.counters()));

    let told = Told::new(&builder.addresses, &builder.tickets);
    let tried = told.count();
    let mut helpers = JoinSet::new();
    let facts = Facts {
        peer,
        mesh,
        name: builder.name.clone(),
        // A socket that was given is on no network of this machine.
        interface: if builder.socket.is_some() { Interface::All } else { interface.clone() },
        rendezvous,
        endpoint: Arc::downgrade(&endpoint),
    };
    let resolvers = resolvers(&builder, &interface, told);
    let count = resolvers.len();
    for (index, resolver) in resolvers.into_iter().enumerate() {
        helpers.spawn(hub::run(index, resolver, facts.clone(), shared.clone()));
    }
    // In a network in memory there are no routers, and nothing may depend on luck.
    if builder.punch && !builder.relay_only && builder.socket.is_none() {
        let reach = Reach {
            shared: shared.clone(),
            door: endpoint.side_door(),
            endpoint: Arc::downgrade(&endpoint),
            me: peer,
            interface: interface.clone(),
            neighbors: builder.neighbors,
            watch: builder.socket.is_none() && interface != Interface::Loopback,
        };
        if builder.port_mapping && interface != Interface::Loopback {
            let (shared, door, endpoint) = (shared.clone(), endpoint.side_door(), Arc::downgrade(&endpoint));
            helpers.spawn(Mapper { shared, door, endpoint, interface: interface.clone() }.run());
        }
        helpers.spawn(reach.run());
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
        handle: Arc::new(Handle {
            shared: shared.clone(),
            runtime,
            identity,
            endpoint: door,
            interface,
            peer,
            boot,
            mesh,
            ticket,
        }),
    };
    match join(&shared, tried, count, builder.require_members.unwrap_or(tried > 0)).await {
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
    if let Some((_, certificate)) = &builder.certificate
        && builder.identity.as_ref().map(Identity::peer_id) != Some(certificate.member)
    {
        return Err(StartError::OtherIdentity { member: certificate.member });
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
async fn key(mesh: MeshId, door: Door, authority: Option<PeerId>) -> Result<MeshKey, StartError> {
    match (door, authority) {
        (Door::Open, Some(authority)) => Ok(MeshKey::of_authority(mesh, &authority)),
        (Door::Open, None) => Ok(MeshKey::open(mesh)),
        (Door::Secret(secret), _) => Ok(MeshKey::from_secret(mesh, *secret)),
        (Door::Password(password), _) => tokio::task::spawn_blocking(move || MeshKey::from_password(mesh, &password))
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
        membership: builder.certificate.clone().map(|(authority, certificate)| Membership {
            authority,
            certificate,
            unix_time_at_start: crate::unix_time::unix_seconds(),
        }),
        relay_only: builder.relay_only,
        ..Config::default()
    };
    Node::new(config, identity, key, seed, Time::default())
}

/// All that is asked for others, the best first.
fn resolvers(builder: &PeerMeshBuilder, interface: &Interface, told: Told) -> Vec<Arc<dyn Resolver>> {
    let mut resolvers: Vec<Arc<dyn Resolver>> = Vec::new();
    if told.count() > 0 {
        resolvers.push(Arc::new(told));
    }
    if builder.relay_only {
        // All others tell where we are to whoever asks.
        return resolvers;
    }
    if builder.lan {
        resolvers.push(Arc::new(Lan::new(interface.clone())));
    }
    // What lives in memory or on loopback leaves no traces on disk unless it is told to.
    let real = builder.socket.is_none() && *interface != Interface::Loopback && !builder.listing.game.is_empty();
    let book = match &builder.address_book {
        Some(path) => Some(AddressBook::at(path)),
        None if builder.remember && real => AddressBook::of_game(&builder.listing.game),
        None => None,
    };
    resolvers.extend(book.map(|book| Arc::new(book) as Arc<dyn Resolver>));
    resolvers.extend(builder.resolvers.iter().cloned());
    resolvers
}

/// Waits until we are in the mesh, or until we are sure enough that we must be its first member.
async fn join(shared: &Shared, tried: usize, resolvers: usize, require_members: bool) -> Result<(), StartError> {
    let started = Instant::now();
    let mut standing = shared.standing.subscribe();
    let patient = tried > 0 || require_members;
    let deadline = match resolvers {
        0 => started,
        _ if patient => started + JOIN_DEADLINE,
        _ => started + LOOK_MAX,
    };
    let met = |standing: &Standing| standing.joined || !standing.refusals.is_empty();
    let mut now = wait(&mut standing, deadline, |now| met(now) || !patient && now.looked.len() >= resolvers).await;
    if !patient && !met(&now) && now.candidates {
        now = wait(&mut standing, started + BROWSE_AND_JOIN, met).await;
    }
    if !now.joined && !now.refusals.is_empty() {
        now = wait(&mut standing, Instant::now() + SECOND_OPINION, |now| now.joined).await;
    }
    match now.refusals.first() {
        _ if now.joined => Ok(()),
        Some(&(address, reason)) => Err(StartError::Refused { address, reason }),
        None if require_members => Err(StartError::NobodyThere { tried, resolvers: shared.resolvers() }),
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

/// What came of each resolver, for whoever is alone.
fn told(resolvers: &[ResolverReport]) -> String {
    let each = resolvers.iter().map(|report| match (&report.failure, report.found) {
        (Some(failure), _) => format!("; {}: {failure}", report.name),
        (None, Some(count)) => format!("; {} named {count}", report.name),
        (None, None) => format!("; {} did not answer", report.name),
    });
    each.collect()
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
