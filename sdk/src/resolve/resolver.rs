//! What a resolver is: something that knows where members of a mesh may be, and tells others where we are.
//!
//! ```
//! use std::time::Duration;
//!
//! use peerflock::resolve::{Answer, Found, Registration, Resolver};
//!
//! /// Asks a list that somebody keeps, and puts nobody onto it.
//! struct MyList(Vec<std::net::SocketAddr>);
//!
//! impl Resolver for MyList {
//!     fn name(&self) -> String {
//!         "my list".into()
//!     }
//!
//!     fn register<'a>(&'a self, _: &'a Registration) -> Answer<'a, Duration> {
//!         Box::pin(async { Ok(Duration::from_secs(60)) })
//!     }
//!
//!     fn resolve<'a>(&'a self, _: &'a Registration) -> Answer<'a, Vec<Found>> {
//!         Box::pin(async { Ok(self.0.iter().map(|address| Found::at(*address)).collect()) })
//!     }
//! }
//! ```

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Weak;
use std::time::Duration;

use peerflock_proto::{Candidate, MeshId, PeerId};

use super::rendezvous::Rendezvous;
use super::{Interface, Listing, ResolveError};
use crate::driver::Shared;
use crate::link::LinkEndpoint;

/// What a resolver answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ResolveError>> + Send + 'a>>;

/// One way to find members, and to be found. [`PeerMeshBuilder::resolver`](crate::PeerMeshBuilder::resolver) adds one to a mesh.
///
/// Each is run beside the others, and told of us while it is asked for others: one that fails, hangs or panics holds up nobody, and is asked again,
/// ever more seldom, until it works. A call that takes longer than its [deadline](Self::deadline) is given up; so any of
/// these futures may be dropped on the way. What a resolver says is hearsay: links prove who is there, admission whether both belong
/// together.
pub trait Resolver: Send + Sync + 'static {
    /// What to call it in messages to the player.
    fn name(&self) -> String;

    /// Tells others where we are. Answers how soon that wants to be repeated.
    fn register<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration>;

    /// Tells them again, with what has changed. As [`register`](Self::register) unless there is something cheaper.
    fn refresh<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration> {
        self.register(us)
    }

    /// Where others of our mesh may be. Of very many some drawn by lot will do.
    fn resolve<'a>(&'a self, us: &'a Registration) -> Answer<'a, Vec<Found>>;

    /// Tells others that we are gone.
    fn withdraw<'a>(&'a self, _us: &'a Registration) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Waits until it is worth asking again before it is time. Never, unless it says so.
    fn news(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }

    /// How long after the start "nobody" is not yet believed.
    fn patience(&self) -> Duration {
        Duration::ZERO
    }

    /// How long one call may take before it is given up.
    fn deadline(&self) -> Duration {
        super::CALL_DEADLINE
    }

    /// How often to ask, while we are alone and once we are not.
    fn pace(&self, alone: bool) -> Duration {
        if alone { Duration::from_secs(1) } else { Duration::from_secs(15) }
    }

    /// Whether only who knows the password can be found here. Then whoever is found and would not have us is none of ours, and not
    /// worth a word to the player.
    fn knows_password(&self) -> bool {
        false
    }
}

/// What of ourselves and our mesh a resolver may tell, as of now.
#[derive(Clone)]
#[non_exhaustive]
pub struct Registration {
    /// Who we are.
    pub peer: PeerId,
    /// Which mesh, by the hash of its name. Whoever guesses the name can tell.
    pub mesh: MeshId,
    /// What the mesh is called.
    pub name: String,
    /// What strangers may know of it.
    pub listing: Listing,
    /// Members, ourselves included.
    pub members: usize,
    /// A hash of who they are. Whoever sees another one for long is in another half of the mesh.
    pub beacon: u64,
    /// Where we may be reached.
    pub addresses: Vec<SocketAddr>,
    /// Our neighbors, and where they are.
    pub neighbors: Vec<Candidate>,
    /// On which network to look.
    pub interface: Interface,
    /// Names and seals that only members can make.
    pub rendezvous: Rendezvous,
    pub(crate) endpoint: Weak<LinkEndpoint>,
    pub(crate) shared: Weak<Shared>,
}

impl Registration {
    /// Whether that one is a member now.
    pub(crate) fn has_member(&self, peer: &PeerId) -> bool {
        self.shared.upgrade().is_some_and(|shared| shared.node(|node, _| node.is_present(peer)))
    }
}

/// One of whom a resolver knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Who is said to be there. Nobody else is talked to then.
    pub peer: Option<PeerId>,
    /// Where.
    pub addresses: Vec<SocketAddr>,
    /// The [beacon](Registration::beacon) that it shows.
    pub beacon: Option<u64>,
}

impl Found {
    /// Somebody at `address`.
    pub fn at(address: SocketAddr) -> Self {
        Self { peer: None, addresses: vec![address], beacon: None }
    }

    /// `peer`, at one of `addresses`.
    pub fn peer(peer: PeerId, addresses: Vec<SocketAddr>) -> Self {
        Self { peer: Some(peer), addresses, beacon: None }
    }

    /// The same with what it shows of who is in its mesh.
    pub fn beacon(mut self, beacon: Option<u64>) -> Self {
        self.beacon = beacon;
        self
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("peer", &self.peer)
            .field("name", &self.name)
            .field("members", &self.members)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
