//! What a mesh is told before it starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use peerflock_proto::{Certificate, Identity, KindId, Limits, NeighborLimits, PeerId, Profile, Registry, RemovalRule};
use quinn::AsyncUdpSocket;
use zeroize::Zeroizing;

use super::{PeerMesh, StartError, StartingMesh, start};
use crate::conditioner::{Conditioner, ParseConditionerError};
use crate::directory::{Directory, DirectoryAddress};
use crate::resolve::{Interface, Listing, Resolver, Ticket};

/// Sets up a mesh; [`start`](Self::start) starts it. From [`PeerMesh::named`] or [`PeerMesh::from_ticket`].
#[derive(Clone)]
pub struct PeerMeshBuilder {
    pub(super) name: String,
    pub(super) door: Door,
    pub(super) identity: Option<Identity>,
    pub(super) profile: Profile,
    pub(super) neighbors: NeighborLimits,
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    pub(super) adopts: bool,
    pub(super) state_rate: Option<u32>,
    pub(super) nearest_by: Option<KindId>,
    pub(super) removal: RemovalRule,
    pub(super) certificate: Option<(PeerId, Certificate)>,
    pub(super) relay_only: bool,
    pub(super) interface: Option<Interface>,
    pub(super) bind: Option<SocketAddr>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) lan: bool,
    pub(super) address_book: Option<PathBuf>,
    pub(super) remember: bool,
    pub(super) punch: bool,
    pub(super) port_mapping: bool,
    pub(super) resolvers: Vec<Arc<dyn Resolver>>,
    pub(super) listing: Listing,
    pub(super) require_members: Option<bool>,
    pub(super) conditioner: Option<Conditioner>,
    pub(super) socket: Option<Arc<dyn AsyncUdpSocket>>,
    pub(super) seed: Option<[u8; 32]>,
}

/// What opens the mesh.
#[derive(Clone)]
pub(super) enum Door {
    Open,
    Password(Zeroizing<String>),
    Secret(Zeroizing<[u8; 32]>),
}

impl PeerMeshBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            door: Door::Open,
            identity: None,
            profile: Profile::default(),
            neighbors: NeighborLimits::default(),
            registry: Registry::default(),
            limits: Limits::default(),
            adopts: true,
            state_rate: None,
            nearest_by: None,
            removal: RemovalRule::Nobody,
            certificate: None,
            relay_only: false,
            interface: None,
            bind: None,
            tickets: Vec::new(),
            addresses: Vec::new(),
            lan: true,
            address_book: None,
            remember: true,
            punch: true,
            port_mapping: true,
            resolvers: Vec::new(),
            listing: Listing::default(),
            require_members: None,
            conditioner: None,
            socket: None,
            seed: None,
        }
    }

    /// Only who knows the password can join. Without one, anybody can who knows the name.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.door = Door::Password(Zeroizing::new(password.into()));
        self
    }

    /// Only who has these 32 random bytes can join: a password that nobody can guess, to be passed on by
    /// [ticket](PeerMesh::ticket).
    pub fn secret(mut self, secret: [u8; 32]) -> Self {
        self.door = Door::Secret(Zeroizing::new(secret));
        self
    }

    /// Who we are. Without it somebody new at every start; see [`identity`](crate::identity).
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// What we say of ourselves to the other members.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile.cut();
        self
    }

    /// What to call the player; the rest of the [profile](Self::profile) stays.
    pub fn player(mut self, name: impl Into<String>) -> Self {
        self.profile.name = name.into();
        self.profile = self.profile.cut();
        self
    }

    /// Who may remove members, the same for all: nobody by default.
    pub fn removal(mut self, rule: RemovalRule) -> Self {
        self.removal = rule;
        self
    }

    /// Only who shows a certificate of `authority` can join; ours is `certificate`, for the [identity](Self::identity) that we bring. A
    /// password may be asked for beside it.
    ///
    /// An authority is an [`Identity`] that someone keeps away from the game; see [`Certificate::issue`] and [`PeerMesh::revoke`].
    pub fn certificate(mut self, authority: PeerId, certificate: Certificate) -> Self {
        self.certificate = Some((authority, certificate));
        self
    }

    /// Tells our address to nobody but those whom we dial ourselves, by a ticket or an address, and dials nobody else. Everybody hears us all
    /// the same, by way of them. Neither finds nor is found on the local network.
    pub fn relay_only(mut self) -> Self {
        self.relay_only = true;
        self.lan = false;
        self
    }

    /// How many neighbors to hold.
    pub fn neighbors(mut self, neighbors: NeighborLimits) -> Self {
        self.neighbors = neighbors;
        self
    }

    /// How many neighbors to hold at most.
    pub fn max_neighbors(self, max: usize) -> Self {
        self.neighbors(NeighborLimits::with_max(max))
    }

    /// The components that the game replicates, the same for all members.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// The components registered so far, to add more.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Sizes and counts that nothing may exceed.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Most bytes per second of our own state for each neighbor. What does not fit waits, by its weight ([`Change::Weigh`]). Without it,
    /// as many as the lines carry.
    ///
    /// [`Change::Weigh`]: crate::Change::Weigh
    pub fn state_rate(mut self, bytes_per_second: u32) -> Self {
        self.state_rate = Some(bytes_per_second);
        self
    }

    /// Whether to adopt what leavers leave behind. Yes by default; a peer that only looks on may leave that to the others.
    pub fn adopts(mut self, adopts: bool) -> Self {
        self.adopts = adopts;
        self
    }

    /// The component that says where things are, by its first three integers: with it, what a leaver leaves behind goes to whoever is
    /// nearest. All members should say the same. Without it, a hash decides.
    pub fn nearest_by(mut self, kind: KindId) -> Self {
        self.nearest_by = Some(kind);
        self
    }

    /// Stays on this machine: binds 127.0.0.1 and looks for others on loopback only.
    pub fn loopback_only(self) -> Self {
        self.interface(Interface::Loopback)
    }

    /// The network on which to look for others and be found: an [`Interface`], or its name as text.
    ///
    /// Without it, the environment variable `PEERFLOCK_INTERFACE` decides, and without that it is every network.
    /// Loopback binds 127.0.0.1 unless [`bind`](Self::bind) says otherwise.
    pub fn interface(mut self, interface: impl Into<Interface>) -> Self {
        self.interface = Some(interface.into());
        self
    }

    /// The address and port of our one socket. Without it any free port, for IPv6 and IPv4.
    pub fn bind(mut self, address: SocketAddr) -> Self {
        self.bind = Some(address);
        self
    }

    /// Joins where `ticket` says. Several may be given: whoever answers first will do.
    ///
    /// A ticket with a secret brings it along. A ticket for another mesh makes [`start`](Self::start) fail.
    pub fn join(mut self, ticket: Ticket) -> Self {
        self.tickets.push(ticket);
        self
    }

    /// Joins whoever is at `address`. Several may be given: whoever answers first will do.
    pub fn join_address(mut self, address: SocketAddr) -> Self {
        self.addresses.push(address);
        self
    }

    /// Whether to find and be found on the local network. On by default.
    pub fn lan(mut self, lan: bool) -> Self {
        self.lan = lan;
        self
    }

    /// Looks for others, and tells of us, by one more way. Several may be given; all are asked at once, and one that fails holds up
    /// nobody. See [`resolve`](crate::resolve).
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolvers.push(Arc::new(resolver));
        self
    }

    /// Looks for others, and can be found by them, at a [directory](crate::directory): a service that anyone can run.
    pub fn directory(self, address: DirectoryAddress) -> Self {
        self.resolver(Directory::new(address))
    }

    /// Looks for others, and can be found by them, in BitTorrent's DHT: with nothing but a name and a password, and no service of
    /// anybody's. Needs the cargo feature `dht`.
    #[cfg(feature = "dht")]
    pub fn dht(self, options: crate::resolve::DhtOptions) -> Self {
        self.resolver(crate::resolve::Dht::new(options))
    }

    /// Keeps the [address book](crate::resolve::AddressBook) of peers met before in the file at `path`.
    pub fn address_book(mut self, path: impl Into<PathBuf>) -> Self {
        self.address_book = Some(path.into());
        self
    }

    /// Whether to look for ways through routers to members that are not linked. On by default; without it they are heard by others.
    pub fn punch(mut self, punch: bool) -> Self {
        self.punch = punch;
        self
    }

    /// Whether to ask the router to let others in, by PCP or NAT-PMP. On by default, but not on loopback, and only together with
    /// [`punch`](Self::punch); the port is given back when the mesh is left, and nothing waits for a router that does not answer.
    pub fn port_mapping(mut self, map: bool) -> Self {
        self.port_mapping = map;
        self
    }

    /// Whether to keep an address book in the user's folder for settings, if the [listing](Self::listing) says which game this is. On
    /// by default, but not on loopback.
    pub fn remember(mut self, remember: bool) -> Self {
        self.remember = remember;
        self
    }

    /// What to tell strangers about the mesh.
    pub fn listing(mut self, listing: Listing) -> Self {
        self.listing = listing;
        self
    }

    /// Whether to fail when nobody is found, instead of opening the mesh alone. By default, yes with
    /// [`join`](Self::join) or [`join_address`](Self::join_address), no without.
    pub fn require_members(mut self, require: bool) -> Self {
        self.require_members = Some(require);
        self
    }

    /// Makes a worse network of the one we are on: all that we send fares as `conditioner` says.
    ///
    /// Without it, the environment variable `PEERFLOCK_CONDITIONER` decides; see [`conditioner`](crate::conditioner).
    pub fn conditioner(mut self, conditioner: Conditioner) -> Self {
        self.conditioner = Some(conditioner);
        self
    }

    /// Uses this socket instead of opening one: an end of a [virtual network](crate::test_utils), say.
    #[cfg(feature = "test-utils")]
    pub fn socket(mut self, socket: Arc<dyn AsyncUdpSocket>) -> Self {
        self.socket = Some(socket);
        self
    }

    /// The only randomness that the protocol and QUIC's timing get, so that a test can be repeated. Links to such a peer are
    /// **not safe** from anybody who knows the seed.
    #[cfg(feature = "test-utils")]
    pub fn seed(mut self, seed: [u8; 32]) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Joins whom it finds, or opens the mesh alone. Runs the mesh on the tokio runtime in which it is called; IO and time must
    /// be enabled there.
    ///
    /// # Errors
    /// See [`StartError`]; each says what to do. Nothing is left running then.
    pub async fn start(self) -> Result<PeerMesh, StartError> {
        start::start(self).await
    }

    /// The same in a thread of its own, for programs without an async runtime. Returns at once.
    pub fn start_in_background(self) -> StartingMesh {
        StartingMesh::new(self)
    }

    /// Where to look for others.
    pub(super) fn resolved_interface(&self) -> Interface {
        self.interface.clone().unwrap_or_else(Interface::from_environment)
    }

    /// What packets are to go through, if anything.
    pub(super) fn resolved_conditioner(&self) -> Result<Option<Conditioner>, ParseConditionerError> {
        self.conditioner.map_or_else(Conditioner::from_environment, |conditioner| Ok(Some(conditioner)))
    }

    /// Where to bind, if not anywhere.
    pub(super) fn resolved_bind(&self, interface: &Interface) -> Option<SocketAddr> {
        self.bind.or_else(|| (*interface == Interface::Loopback).then(|| (Ipv4Addr::LOCALHOST, 0).into()))
    }
}

impl fmt::Debug for PeerMeshBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let door = match self.door {
            Door::Open => "open",
            Door::Password(_) => "password (not shown)",
            Door::Secret(_) => "secret (not shown)",
        };
        f.debug_struct("PeerMeshBuilder")
            .field("name", &self.name)
            .field("door", &door)
            .field("profile", &self.profile)
            .field("neighbors", &self.neighbors)
            .field("interface", &self.interface)
            .field("bind", &self.bind)
            .field("tickets", &self.tickets)
            .field("addresses", &self.addresses)
            .field("lan", &self.lan)
            .field("listing", &self.listing)
            .field("require_members", &self.require_members)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let builder = PeerMesh::named("dusk").password("hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"));
        let builder = builder.secret([0xab; 32]);
        assert!(!format!("{builder:?}").contains("171"));
    }

    #[test]
    fn loopback_binds_loopback() {
        let builder = PeerMesh::named("dusk").loopback_only();
        let interface = builder.resolved_interface();
        assert_eq!(builder.resolved_bind(&interface), Some("127.0.0.1:0".parse().unwrap()));
        let bound = "127.0.0.2:7".parse().unwrap();
        assert_eq!(builder.bind(bound).resolved_bind(&interface), Some(bound));
        let anywhere = PeerMesh::named("dusk").interface("eth0");
        assert_eq!(anywhere.resolved_bind(&anywhere.resolved_interface()), None);
    }
}
