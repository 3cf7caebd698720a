//! The handle that a program holds on its mesh.

mod background;
mod builder;
mod start;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use peerflock_proto::{
    Boot, Change, EntityId, Event, Identity, Input, Member, MeshId, MeshTime, OwnershipError, OwnershipPolicy, PeerId, Profile,
    RemovalError, RemovalRule, Revocations, SendError, Target, Topic,
};

use crate::driver::Shared;
use crate::link::LinkEndpoint;
use crate::metrics::{Metrics, Pressure};
use crate::resolve::ticket::Lock;
use crate::resolve::{FoundMesh, Interface, Listing, ResolverReport, Ticket};

pub use background::StartingMesh;
pub use builder::PeerMeshBuilder;
pub use start::StartError;

/// How often a program without async looks whether the goodbye is said.
const LEAVE_LOOK_EVERY: Duration = Duration::from_millis(5);

/// A place in a mesh: cheap to clone, usable from any thread, with or without an async runtime.
///
/// All calls but the `async` ones return at once. When the last clone is dropped the mesh is left in the background; use
/// [`leave`](Self::leave) or [`leave_now`](Self::leave_now) before the program ends, or the others must find out by
/// themselves, which takes a second or two.
#[derive(Clone, Debug)]
pub struct PeerMesh {
    handle: Arc<Handle>,
}

/// What all clones share, and the end of which leaves the mesh.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// What runs the mesh, and its services.
    runtime: tokio::runtime::Handle,
    identity: Identity,
    /// Gone once the mesh is left: the driver holds the socket.
    endpoint: Weak<LinkEndpoint>,
    interface: Interface,
    peer: PeerId,
    boot: Boot,
    mesh: MeshId,
    ticket: Ticket,
}

impl PeerMesh {
    /// A mesh by name: everybody who says the same name, and has the same password, meets.
    ///
    /// Names are 1 to 64 bytes of UTF-8. Nothing happens before [`start`](PeerMeshBuilder::start).
    pub fn named(name: impl Into<String>) -> PeerMeshBuilder {
        PeerMeshBuilder::new(name.into())
    }

    /// The mesh to which `ticket` invites. Add the password if [it needs one](Ticket::needs_password).
    pub fn from_ticket(ticket: &Ticket) -> PeerMeshBuilder {
        PeerMeshBuilder::new(ticket.name().to_owned()).join(ticket.clone())
    }

    /// A mesh from a list: tries the addresses at which its members are said to be, and looks at the directories at which it was found,
    /// which help through routers, too. Add the password if it is [locked](FoundMesh::locked).
    ///
    /// The game's own settings, its [listing](PeerMeshBuilder::listing) among them, are not taken over: they are hearsay.
    pub fn found(found: &FoundMesh) -> PeerMeshBuilder {
        let builder = PeerMeshBuilder::new(found.name.clone());
        let builder = found.addresses.iter().fold(builder, |builder, address| builder.join_address(*address));
        found.directories.iter().cloned().fold(builder, PeerMeshBuilder::directory)
    }

    /// Who we are.
    pub fn id(&self) -> PeerId {
        self.handle.peer
    }

    /// Which of our lives this is: another one at every start.
    pub fn boot(&self) -> Boot {
        self.handle.boot
    }

    /// The mesh's name.
    pub fn name(&self) -> &str {
        self.handle.ticket.name()
    }

    /// Which mesh this is.
    pub fn mesh_id(&self) -> MeshId {
        self.handle.mesh
    }

    /// An invitation: the mesh's name, our addresses and key, and the secret if the mesh was made from one, or has had one since
    /// [members were removed](Self::remove). Never a password.
    pub fn ticket(&self) -> Ticket {
        let mut ticket = Ticket { addresses: self.local_addresses(), ..self.handle.ticket.clone() };
        if let Some(secret) = self.handle.shared.node(|node, _| node.secret()) {
            ticket.lock = Lock::Secret(*secret);
        }
        ticket
    }

    /// Removes members, if the [rule of the mesh](PeerMeshBuilder::removal) lets us. They are out at once; links that do not come to know
    /// the mesh's new lock end within ten seconds, and what they know no longer opens it, under whatever name. Who is invited later
    /// needs a [ticket](Self::ticket) made after this.
    ///
    /// # Errors
    /// Nobody was removed then.
    pub fn remove(&self, peers: &[PeerId]) -> Result<(), RemovalError> {
        self.handle.shared.act(|node, now| node.remove(peers, now))
    }

    /// Votes for the removal of a member, where [the majority decides](RemovalRule::Majority).
    ///
    /// # Errors
    /// The vote was not cast then.
    pub fn vote_out(&self, peer: PeerId) -> Result<(), RemovalError> {
        self.handle.shared.act(|node, now| node.vote(peer, now))
    }

    /// The [authority](PeerMeshBuilder::certificate) of the mesh takes certificates back: members who show them are out, and all are told.
    /// Any member may bring the list in. False, and nothing happened, if it is not the authority's, or an older one than is known.
    pub fn revoke(&self, list: Revocations) -> bool {
        self.handle.shared.act(|node, now| node.revoke(list, now))
    }

    /// Who may remove members from now on: the owner of the room changed, say. All members should say the same.
    pub fn set_removal(&self, rule: RemovalRule) {
        self.handle.shared.act(|node, now| node.handle(Input::SetRemovalRule(rule), now));
    }

    /// Where others can reach us, as far as we know.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.handle.shared.addresses()
    }

    /// How each way to find others fares, in the order in which they were given.
    pub fn resolvers(&self) -> Vec<ResolverReport> {
        self.handle.shared.resolvers()
    }

    /// Who is here, ourselves included, in the order of their identifiers.
    pub fn members(&self) -> Vec<Member> {
        self.handle.shared.node(|node, now| node.members(now))
    }

    /// A number for a new entity of ours. Announce it with [`Change::Spawn`] in a [`commit`](Self::commit).
    ///
    /// Whoever wants to own it must ask us; see [`spawn_with`](Self::spawn_with) for other ways.
    pub fn spawn(&self) -> EntityId {
        self.spawn_with(OwnershipPolicy::default())
    }

    /// A number for a new entity of ours, which others may come to own as `policy` says, for as long as it exists.
    pub fn spawn_with(&self, policy: OwnershipPolicy) -> EntityId {
        self.handle.shared.spawn(self.handle.peer, self.handle.boot, policy)
    }

    /// Asks the owner of an entity for it. What comes of it is an event: [`WorldEvent::Owner`](crate::WorldEvent::Owner) with
    /// ourselves as the owner, or [`Event::OwnershipRefused`], after five seconds at the latest.
    ///
    /// # Errors
    /// If it cannot be asked for. No event follows then.
    pub fn request_ownership(&self, entity: EntityId) -> Result<(), OwnershipError> {
        self.handle.shared.act(|node, now| node.request_ownership(entity, now))
    }

    /// Answers [`Event::OwnershipRequested`]. Nothing happens if `peer` does not wait for that answer (any more).
    pub fn answer_request(&self, entity: EntityId, peer: PeerId, grant: bool) {
        self.handle.shared.act(|node, now| node.answer_request(entity, peer, grant, now));
    }

    /// Takes an entity that was spawned with [`OwnershipPolicy::Seize`]: it is ours at once, and all are told. Where another does
    /// the same at the same time, all come to the same one of the two, and the other is told by
    /// [`WorldEvent::Owner`](crate::WorldEvent::Owner).
    ///
    /// # Errors
    /// If it cannot be taken. Nothing changed then.
    pub fn seize(&self, entity: EntityId) -> Result<(), OwnershipError> {
        self.handle.shared.act(|node, now| node.seize(entity, now))
    }

    /// Ends a tick of the game: applies `changes` to the entities that we own and sends everybody what is new.
    ///
    /// Call it once per fixed tick, with no changes too. A change to an entity that we do not own, or a value of another
    /// shape than its component has, is ignored.
    pub fn commit(&self, changes: Vec<Change>) {
        self.handle.shared.act(|node, now| node.handle(Input::Commit(changes), now));
    }

    /// Says something: reliably, once, in our order.
    ///
    /// # Errors
    /// When nobody is there to hear it, or it is too long. Nothing was sent then.
    pub fn send(&self, to: Target, topic: Topic, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let payload = payload.into();
        self.handle.shared.act(|node, now| node.send(to, topic, payload, now))
    }

    /// Says something to some members: each of them gets it as if it were for that one alone.
    ///
    /// # Errors
    /// When one of them is not here ([`SendError::UnknownPeers`] names all who are not), has to catch up first, or it is too long.
    /// Nothing was sent to anybody then.
    pub fn send_to_some(&self, to: &[PeerId], topic: Topic, payload: impl Into<Bytes>) -> Result<(), SendError> {
        let payload = payload.into();
        self.handle.shared.act(|node, now| node.send_to_some(to, topic, payload, now))
    }

    /// Tries all known addresses again now and asks all neighbors whether they are still there: after sleep, or another network.
    pub fn refresh(&self) {
        self.handle.shared.act(|node, now| node.handle(Input::Refresh, now));
    }

    /// Says something else about ourselves from now on.
    pub fn set_profile(&self, profile: Profile) {
        self.handle.shared.act(|node, now| node.handle(Input::SetProfile(profile.cut()), now));
    }

    /// Tells strangers something else about the mesh from now on. Whether it is locked stays as it is.
    pub fn set_listing(&self, listing: Listing) {
        let locked = self.handle.shared.listing().locked;
        self.handle.shared.set_listing(Listing { locked, ..listing.fit() });
    }

    /// What strangers are told about the mesh.
    pub fn listing(&self) -> Listing {
        self.handle.shared.listing()
    }

    /// Waits for what happens next. `None` once the mesh is left and everything that happened before is told.
    ///
    /// Several tasks may wait: each event goes to one of them. It is safe to give up waiting; no event is lost by it.
    pub async fn next_event(&self) -> Option<Event> {
        self.handle.shared.mailbox.next().await
    }

    /// All that happened since the last call, for a game loop. Returns at once.
    ///
    /// Whoever looks seldom gets the newest value of everything rather than all values in between.
    pub fn try_events(&self) -> Vec<Event> {
        self.handle.shared.mailbox.take_all()
    }

    /// The time on the clock that all members share.
    pub fn now(&self) -> MeshTime {
        self.handle.shared.node(|node, now| node.mesh_time(now))
    }

    /// What is counted and measured. Hashes the world: for an overlay a few times a second, not for every frame.
    pub fn metrics(&self) -> Metrics {
        self.handle.shared.metrics()
    }

    /// Whether what we send gets through as fast as we send it: the worst of all links, as of the last half second.
    ///
    /// [`send`](Self::send) takes messages in any case, and what waits is bounded; a game that sends much should look here first.
    /// Which link it is, and how it fares, is in [`metrics`](Self::metrics).
    pub fn pressure(&self) -> Pressure {
        self.handle.shared.pressure()
    }

    /// Moves to a new socket: after the machine slept or changed networks, when the old one may be bound to an address that
    /// is gone. The members stay, and so do all links that we dialed (RFC 9000, section 9); others are dialed anew.
    ///
    /// Needed only where a socket is bound to one address, or a router has forgotten its port; to move is cheap, so do it when
    /// in doubt.
    ///
    /// # Errors
    /// When no socket can be opened, or the mesh is left. The old one stays in use then.
    pub fn rebind(&self) -> io::Result<()> {
        self.move_to(None)
    }

    /// The same, to this socket.
    ///
    /// # Errors
    /// When it has no address.
    #[cfg(feature = "test-utils")]
    pub fn rebind_to(&self, socket: Arc<dyn quinn::AsyncUdpSocket>) -> io::Result<()> {
        self.move_to(Some(socket))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.handle.identity
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.handle.runtime
    }

    fn move_to(&self, socket: Option<Arc<dyn quinn::AsyncUdpSocket>>) -> io::Result<()> {
        let endpoint = self.handle.endpoint.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let bound = endpoint.rebind(socket)?;
        self.handle.shared.moved(self.handle.interface.addresses(bound));
        Ok(())
    }

    /// Whether the mesh is left, by this handle or another, and nothing more will happen.
    pub fn is_closed(&self) -> bool {
        *self.handle.shared.closed.borrow()
    }

    /// Says goodbye and waits until the others have heard it, two seconds at most. Ends the mesh for all clones.
    pub async fn leave(self) {
        self.handle.shared.leave();
        self.handle.shared.over().await;
    }

    /// Says goodbye and blocks until the others have heard it or `timeout` has passed: for programs without async.
    ///
    /// Do not call it inside the runtime that runs the mesh: it would only wait out the timeout.
    pub fn leave_now(&self, timeout: Duration) {
        self.handle.shared.leave();
        // The thread that calls this is outside of any virtual time.
        let asked = Instant::now();
        while !self.is_closed() && asked.elapsed() < timeout {
            std::thread::sleep(LEAVE_LOOK_EVERY);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.leave();
    }
}
