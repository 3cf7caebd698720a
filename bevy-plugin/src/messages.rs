//! What is said once: messages to everybody or to one, as Bevy's own messages.

use std::any::type_name;
use std::collections::HashMap;

use peerflock::codec;
use peerflock::{Bytes, PeerId, SendError, Target, Topic};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{App, IntoScheduleConfigs, Last, Message, MessageReader, MessageWriter, Res, Resource, World, on_message};
use crate::plugin::{MeshHandle, PeerflockSystems};
use crate::presence::MeshEvent;
use crate::replicate::is_finite;

/// Registers the messages that a game sends.
pub trait MeshMessageAppExt {
    /// Makes `M` a message that peers send each other: write [`ToMesh<M>`], read [`FromMesh<M>`].
    ///
    /// Messages arrive reliably, once, and in their sender's order; they leave at the end of the frame in which they are
    /// written, and are at most 64 KiB long. Peers know each other's message types by their full path. Entities in messages are
    /// not translated: send a [`MeshEntity`](crate::MeshEntity).
    ///
    /// # Panics
    /// When another message type got the same number (one in 65,280): rename one of the two.
    fn add_mesh_message<M: Serialize + DeserializeOwned + Send + Sync + 'static>(&mut self) -> &mut Self;
}

impl MeshMessageAppExt for App {
    fn add_mesh_message<M: Serialize + DeserializeOwned + Send + Sync + 'static>(&mut self) -> &mut Self {
        let name = type_name::<M>();
        let mut topics = self.world_mut().get_resource_or_init::<Topics>();
        if topics.add(topic_of(name), name, deliver::<M>) {
            self.add_message::<ToMesh<M>>().add_message::<FromMesh<M>>().add_message::<MeshEvent>();
            self.add_systems(Last, send::<M>.run_if(on_message::<ToMesh<M>>).in_set(PeerflockSystems::SendMessages));
        }
        self
    }
}

/// A message on its way out. [`ToMesh::all`] and [`ToMesh::to`] are the usual ones.
#[derive(Clone, Debug, Message)]
pub struct ToMesh<M: Send + Sync + 'static> {
    /// To whom.
    pub to: Target,
    /// What.
    pub message: M,
}

impl<M: Send + Sync + 'static> ToMesh<M> {
    /// To every other peer.
    pub const fn all(message: M) -> Self {
        Self { to: Target::All, message }
    }

    /// To `peer` alone.
    pub const fn to(peer: PeerId, message: M) -> Self {
        Self { to: Target::One(peer), message }
    }

    /// To every peer, ourselves included: our own message comes back in its place among the others.
    pub const fn all_and_me(message: M) -> Self {
        Self { to: Target::AllAndMe, message }
    }
}

/// A message that came in.
#[derive(Clone, Debug, Message)]
pub struct FromMesh<M: Send + Sync + 'static> {
    /// Who sent it; that is proved.
    pub from: PeerId,
    /// Whether it was for us alone.
    pub private: bool,
    /// What.
    pub message: M,
}

/// Why a message was not sent. Nobody received it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MessageError {
    /// There is no mesh (yet).
    #[error("there is no mesh yet; wait for MeshEvent::Ready")]
    NoMesh,
    /// Its `Serialize` failed, or it is too long.
    #[error("the message cannot be encoded: {0}")]
    Codec(String),
    /// Nobody is there to receive it, or it is too long.
    #[error(transparent)]
    Send(#[from] SendError),
}

/// Who takes which messages.
#[derive(Default, Resource)]
pub(crate) struct Topics(HashMap<Topic, Reader>);

/// The type behind a topic, and what decodes it.
struct Reader {
    name: &'static str,
    deliver: fn(&mut World, Incoming),
}

/// A message that arrived, still as bytes.
pub(crate) struct Incoming {
    pub(crate) from: PeerId,
    pub(crate) topic: Topic,
    pub(crate) private: bool,
    pub(crate) payload: Bytes,
}

impl Topics {
    /// Whether the topic is new.
    fn add(&mut self, topic: Topic, name: &'static str, deliver: fn(&mut World, Incoming)) -> bool {
        if let Some(known) = self.0.get(&topic) {
            let other = known.name;
            assert!(other == name, "the mesh messages {other} and {name} got the same topic, {}: rename one of them", topic.0);
            return false;
        }
        self.0.insert(topic, Reader { name, deliver });
        true
    }
}

/// Hands a message to whoever reads its topic.
pub(crate) fn receive(world: &mut World, incoming: Incoming) {
    match world.get_resource::<Topics>().and_then(|topics| topics.0.get(&incoming.topic)) {
        Some(reader) => (reader.deliver)(world, incoming),
        None => tracing::debug!(topic = incoming.topic.0, from = %incoming.from, "a message that this game does not know"),
    }
}

fn deliver<M: Serialize + DeserializeOwned + Send + Sync + 'static>(world: &mut World, incoming: Incoming) {
    match codec::decode::<M>(&incoming.payload) {
        Ok(message) if !is_finite(&message) => {
            tracing::debug!(from = %incoming.from, message = type_name::<M>(), "a message with a number that is none");
        }
        Ok(message) => {
            world.write_message(FromMesh::<M> { from: incoming.from, private: incoming.private, message });
        }
        Err(error) => tracing::debug!(from = %incoming.from, message = type_name::<M>(), %error, "a message that means nothing"),
    }
}

fn send<M: Serialize + Send + Sync + 'static>(
    mut messages: MessageReader<'_, '_, ToMesh<M>>,
    mesh: Option<Res<'_, MeshHandle>>,
    mut events: MessageWriter<'_, MeshEvent>,
) {
    for ToMesh { to, message } in messages.read() {
        let sent = mesh.as_ref().ok_or(MessageError::NoMesh).and_then(|mesh| {
            let payload = codec::encode(message).map_err(|error| MessageError::Codec(error.to_string()))?;
            Ok(mesh.send(*to, topic_of(type_name::<M>()), payload)?)
        });
        if let Err(error) = sent {
            events.write(MeshEvent::SendFailed { message: type_name::<M>(), to: *to, error });
        }
    }
}

/// A type's topic, the same in every build: the 64-bit FNV-1a hash of its path, folded into the numbers that are free for games.
fn topic_of(name: &str) -> Topic {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let free = u64::from(u16::MAX - Topic::RESERVED) + 1;
    // Less than `free`, so that the sum fits.
    Topic(Topic::RESERVED + (hash % free) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_stable_and_free_for_games() {
        // Peers of different builds meet on these numbers.
        assert_eq!(topic_of("my_game::Shout"), Topic(22_907));
        for n in 0..100_000 {
            assert!(topic_of(&n.to_string()).0 >= Topic::RESERVED);
        }
    }

    #[test]
    #[should_panic(expected = "rename one of them")]
    fn a_collision_is_met_at_the_start() {
        let mut topics = Topics::default();
        assert!(topics.add(Topic(300), "a", deliver::<u8>));
        assert!(!topics.add(Topic(300), "a", deliver::<u8>));
        topics.add(Topic(300), "b", deliver::<u16>);
    }
}
