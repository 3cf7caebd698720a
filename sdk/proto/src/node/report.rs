//! What can be asked of a node.

use std::net::SocketAddr;
use std::time::Duration;

use super::Node;
use crate::config::Profile;
use crate::id::{Boot, Identity, LinkId, MeshId, PeerId};
use crate::time::{MeshTime, Time};

/// One who is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Who.
    pub peer: PeerId,
    /// What it says of itself.
    pub profile: Profile,
    /// Whether it is ourselves.
    pub me: bool,
    /// Whether we hold a link to it.
    pub linked: bool,
    /// Round trip over that link, where one was measured.
    pub rtt: Option<Duration>,
    /// Whom it holds links to, as it says.
    pub neighbors: Vec<PeerId>,
    /// How long nothing was heard of it.
    pub silent_for: Duration,
}

/// A link to an admitted member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number.
    pub link: LinkId,
    /// Who is at the other end.
    pub peer: PeerId,
    /// Where that is.
    pub address: SocketAddr,
    /// Round trip, where one was measured.
    pub rtt: Option<Duration>,
    /// Where the other end saw us when we dialed it: behind a router, what the router makes of our address. Its word only.
    pub observed: Option<SocketAddr>,
}

/// A sign of who is in a mesh, for resolvers to publish: two members of one mesh that show different ones for long see different
/// members. It proves nothing, and tells strangers no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// A hash of the mesh and all its members.
    pub hash: u64,
    /// How many there are.
    pub members: usize,
}

/// Counts since the start. Bytes are those handed to the links: what QUIC adds is the links' to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Our own state frames made.
    pub state_frames_made: u64,
    /// Packets of state that came for the first time.
    pub state_packets_first: u64,
    /// Packets of state that had come before.
    pub state_packets_duplicate: u64,
    /// Packets of state passed on.
    pub state_packets_forwarded: u64,
    /// Packets of state that could not be used: their baseline was missing.
    pub state_packets_undecodable: u64,
    /// Parcels of neighbors that were lost on the way, and asked for again.
    pub parcels_missed: u64,
    /// Datagrams handed to the links.
    pub datagrams_sent: u64,
    /// Bytes of those.
    pub datagram_bytes_sent: u64,
    /// Frames handed to the links.
    pub frames_sent: u64,
    /// Bytes of those.
    pub frame_bytes_sent: u64,
    /// Frames of our own that were too long to send: a fault of ours.
    pub frames_too_long: u64,
    /// Messages that came for the first time.
    pub messages_first: u64,
    /// Messages that had come before.
    pub messages_duplicate: u64,
    /// Messages pulled from a neighbor because they were missed.
    pub messages_pulled: u64,
    /// Keyframes asked for.
    pub keyframes_wanted: u64,
    /// What members sent that broke the protocol.
    pub violations: u64,
    /// Packets and messages whose proof of origin did not hold.
    pub forgeries: u64,
    /// Members that said different things to different neighbors, proved by their own signatures. They are out.
    pub equivocations: u64,
    /// Neighbors dropped because they passed on lies again and again, or sent too much.
    pub neighbors_banished: u64,
    /// Frames and datagrams dropped because more came than a member may send.
    pub over_quota: u64,
    /// Admissions that did not end in a proof of the password.
    pub guesses_failed: u64,
    /// Strangers not listened to because of too many guesses from their address.
    pub strangers_locked_out: u64,
    /// Strangers not listened to because too many were at the door.
    pub strangers_turned_away: u64,
    /// Claims about entities that their origin does not own.
    pub foreign_claims: u64,
    /// Most links to members held at once.
    pub links_max: u64,
}

impl Node {
    /// Who we are.
    pub fn peer_id(&self) -> PeerId {
        self.me
    }

    /// Its key, for what is signed beside the protocol: begin what you sign with what it is for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// In which of our lives.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// In which mesh.
    pub fn mesh_id(&self) -> MeshId {
        self.mesh
    }

    /// The mesh's time at our time `now`.
    pub fn mesh_time(&self, now: Time) -> MeshTime {
        self.mesh_now(now)
    }

    /// A sign of who is here, for others to compare with theirs.
    pub fn beacon(&self) -> Beacon {
        let mut hash = blake3::Hasher::new_derive_key("peerflock 1 beacon");
        hash.update(&self.mesh.0);
        for peer in self.roster.present() {
            hash.update(&peer.0);
        }
        let hash = hash.finalize().as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Beacon { hash, members: self.roster.present().len() }
    }

    /// Whether that one is here.
    pub fn is_present(&self, peer: &PeerId) -> bool {
        self.roster.present().contains(peer)
    }

    /// How many are here, ourselves included.
    pub fn member_count(&self) -> usize {
        self.roster.present().len()
    }

    /// Everyone who is here, ourselves included, sorted by [`PeerId`].
    pub fn members(&self, now: Time) -> Vec<Member> {
        let me = Member {
            peer: self.me,
            profile: self.config.profile.clone(),
            me: true,
            linked: false,
            rtt: None,
            neighbors: self.overlay.neighbors().map(|(_, peer)| peer).collect(),
            silent_for: Duration::ZERO,
        };
        let mut members: Vec<Member> = self
            .roster
            .members()
            .map(|(peer, present)| {
                let link = self.overlay.neighbor(peer);
                Member {
                    peer: *peer,
                    profile: present.presence.profile(),
                    me: false,
                    linked: link.is_some(),
                    rtt: link.and_then(|link| self.overlay.get(link)).and_then(|link| link.rtt),
                    neighbors: present.presence.neighbors.clone(),
                    silent_for: now.since(present.heard),
                }
            })
            .collect();
        members.push(me);
        members.sort_by_key(|member| member.peer);
        members
    }

    /// The links to admitted members.
    pub fn links(&self) -> Vec<LinkInfo> {
        let info = |(link, peer)| {
            let held = self.overlay.get(link)?;
            Some(LinkInfo { link, peer, address: held.address, rtt: held.rtt, observed: held.observed })
        };
        self.overlay.neighbors().filter_map(info).collect()
    }

    /// Whether `link` leads to an admitted member.
    pub fn is_member_link(&self, link: LinkId) -> bool {
        self.overlay.get(link).is_some_and(crate::overlay::Link::is_member)
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        Counters { foreign_claims: self.world.foreign_claims, ..self.counters }
    }

    /// A hash of the shared world as seen from here: equal on two members only if they see the same entities, owners and values.
    pub fn state_hash(&self) -> [u8; 32] {
        self.world.hash()
    }

    /// How many entities are in the shared world.
    pub fn entity_count(&self) -> usize {
        self.world.len()
    }
}
