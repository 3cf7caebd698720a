//! Topics: publish and subscribe. Many named topics on one mesh, any number of publishers on each, and only those carry an item who
//! subscribed, and the links between them.
//!
//! ```no_run
//! use peerflock::PeerMesh;
//! use peerflock::service::topics::{SubscribeOptions, Topics};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("sports day").start().await?;
//! let topics = Topics::join(&mesh)?;
//! topics.publish("scores/tennis", &(6_u8, 4_u8))?;
//!
//! let mut scores = topics.subscribe::<(u8, u8)>("scores/*", SubscribeOptions::default())?;
//! while let Some(item) = scores.next().await {
//!     println!("{}: {:?}, says {}", item.topic, item.value, item.publisher);
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - A subscriber gets each item once, in its publisher's order, from when the publisher knows of the subscription: some tenths of a
//!   second after [`subscribe`](Topics::subscribe), if both run topics. A newcomer also gets the last value of each topic, or as many as
//!   it asked for ([`SubscribeOptions::history`]), from anybody who has them, whether the publisher is still there or not.
//! - Items are signed by their publishers with the keys by which members are known (Ed25519 over mesh, topic, number and content), so
//!   that whoever passes one on can neither alter nor invent one. [`SubscribeOptions::publishers`] says whose items count.
//! - A publisher hands an item to four others at most, however many read it; so does everybody who passes it on. Who did not
//!   subscribe and is not on the way carries nothing but who is interested in what.
//! - What a crash on the way took along is noticed by the next item, or within seconds, and fetched from somebody else. What nobody
//!   keeps any more, after [`HISTORY_ITEMS_MAX`] newer items on the topic, is left out.
//!
//! Topics are not secret: every member of the mesh may subscribe to all of them and may publish on all of them.

mod engine;
mod interests;
mod message;
mod name;
mod store;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
pub use engine::{Delivered, Engine};
pub use message::{ITEM_BYTES_MAX, PATTERNS_MAX, PUBLISHED_MAX};
pub use name::{NAME_BYTES_MAX, NameError, Pattern, TopicName};
use peerflock_proto::PeerId;
use serde::Serialize;
use serde::de::DeserializeOwned;
pub use store::{HISTORY_BYTES_MAX, HISTORY_ITEMS_MAX, STORE_BYTES_MAX, STREAMS_MAX};

use super::queue::Queue;
use super::{ServiceError, ServiceHandle, start};
use crate::codec::{self, EncodeError};
use crate::peer_mesh::PeerMesh;
use crate::sync::lock;

/// Items that wait for a subscription's reader; past it the oldest is dropped and counted.
pub const QUEUE_ITEMS_MAX: usize = 1_024;

/// The topics of a mesh. Cheap to clone, usable from any thread, with or without an async runtime.
#[derive(Clone, Debug)]
pub struct Topics {
    service: ServiceHandle<Engine>,
    queues: Arc<Queues>,
}

/// What a subscription is to bring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// How many of the last items of each topic to begin with. At most [`HISTORY_ITEMS_MAX`] are kept. Default 1: the last value.
    pub history: u16,
    /// Whose items count. Default none: everybody's.
    pub publishers: Option<BTreeSet<PeerId>>,
}

/// Something published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published<T> {
    /// On which topic.
    pub topic: TopicName,
    /// By whom: proved.
    pub publisher: PeerId,
    /// What.
    pub value: T,
    /// Whether it may have been published before we subscribed.
    pub retained: bool,
}

/// What comes of [`Topics::subscribe`]. Ends the subscription when it is dropped.
pub struct Subscription<T> {
    id: u64,
    topics: Topics,
    queue: Arc<Queue<Delivered>>,
    unread: u64,
    value: PhantomData<fn() -> T>,
}

/// What topics have cost and brought here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicCounters {
    /// Items published here.
    pub published: u64,
    /// Items given to subscriptions here.
    pub delivered: u64,
    /// Copies handed to others, of our own items and of others'.
    pub handed_on: u64,
    /// Items that came a second time, and were not given to anybody.
    pub duplicates: u64,
    /// Items that were asked for, because they came late or not at all.
    pub pulled: u64,
    /// Items that their publishers did not sign.
    pub forged: u64,
    /// Messages that made no sense.
    pub malformed: u64,
}

/// Why something was not published. Nothing was.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PublishError {
    /// That is no name of a topic.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The value cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The value is too long.
    #[error("{len} bytes, where an item holds at most {ITEM_BYTES_MAX}; publish a part of it, or where it can be had")]
    TooLong {
        /// How long it was, in bytes.
        len: usize,
    },
    /// One member publishes on so many topics and no more.
    #[error("one member publishes on at most {PUBLISHED_MAX} topics; put more into one of them")]
    TooManyTopics,
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// Why there is no subscription.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// That is no pattern for topics.
    #[error(transparent)]
    Pattern(#[from] NameError),
    /// One member has so many subscriptions of different patterns and no more.
    #[error("one member has at most {PATTERNS_MAX} different patterns; use a wildcard for several")]
    TooMany,
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// By subscription. None when there is nothing more to come.
#[derive(Debug, Default)]
struct Queues {
    by_id: Mutex<BTreeMap<u64, Weak<Queue<Delivered>>>>,
}

/// Where the engine's events go; gone when the service is over.
struct Ear(Arc<Queues>);

impl Topics {
    /// Takes part in the topics of a mesh, as a publisher, a subscriber or both.
    ///
    /// # Errors
    /// When this was called before and what came of it is still there, or the mesh was left.
    pub fn join(mesh: &PeerMesh) -> Result<Self, ServiceError> {
        let queues = Arc::new(Queues::default());
        let engine = mesh.shared().node(|node, _| Engine::new(node));
        let ear = Ear(queues.clone());
        let service = start(mesh, engine, move |delivered| ear.hear(delivered))?;
        Ok(Self { service, queues })
    }

    /// Publishes a value on a topic, to all who subscribed or will: the last ones are kept for those.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish<T: Serialize + ?Sized>(&self, topic: &str, value: &T) -> Result<(), PublishError> {
        let (topic, payload) = (topic.parse()?, codec::encode(value)?);
        self.publish_bytes(&topic, payload)
    }

    /// The same for a value that is bytes already.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_bytes(&self, topic: &TopicName, payload: impl Into<Bytes>) -> Result<(), PublishError> {
        if self.service.is_closed() {
            return Err(PublishError::Closed);
        }
        let payload = payload.into();
        self.service.act(|engine, now| engine.publish(topic, payload, now))
    }

    /// Subscribes to a topic, or to many: see [`Pattern`]. `T` is what their publishers publish; see [`Subscription::unread`] for what
    /// is not that. `T = Raw` takes bytes as they are.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe<T: Readable>(&self, pattern: &str, options: SubscribeOptions) -> Result<Subscription<T>, SubscribeError> {
        let pattern: Pattern = pattern.parse()?;
        if self.service.is_closed() {
            return Err(SubscribeError::Closed);
        }
        let queue = Arc::new(Queue::new(QUEUE_ITEMS_MAX));
        let id = self.service.act(|engine, now| {
            let id = engine.subscribe(pattern, options, now)?;
            // Before anything is told of it.
            lock(&self.queues.by_id).insert(id, Arc::downgrade(&queue));
            Ok::<u64, SubscribeError>(id)
        })?;
        Ok(Subscription { id, topics: self.clone(), queue, unread: 0, value: PhantomData })
    }

    /// Who subscribed to a topic, as far as is known here, ourselves included.
    ///
    /// # Errors
    /// When that is no name of a topic.
    pub fn subscribers(&self, topic: &str) -> Result<Vec<PeerId>, NameError> {
        let topic = topic.parse()?;
        Ok(self.service.act(|engine, _| engine.subscribers(&topic)))
    }

    /// What topics have cost and brought here.
    pub fn counters(&self) -> TopicCounters {
        self.service.act(|engine, _| engine.counters())
    }
}

impl<T: Readable> Subscription<T> {
    /// Waits for the next item. None once the mesh is left and everything before is told.
    ///
    /// It is safe to give up waiting; nothing is lost by it.
    pub async fn next(&mut self) -> Option<Published<T>> {
        loop {
            let delivered = self.queue.next().await?;
            if let Some(published) = self.read(&delivered) {
                return Some(published);
            }
        }
    }

    /// The next item, if there is one. Returns at once.
    pub fn try_next(&mut self) -> Option<Published<T>> {
        loop {
            let delivered = self.queue.try_next()?;
            if let Some(published) = self.read(&delivered) {
                return Some(published);
            }
        }
    }

    /// What was published, if it is a `T`.
    fn read(&mut self, delivered: &Delivered) -> Option<Published<T>> {
        let Some(value) = T::read(delivered.payload()) else {
            self.unread += 1;
            return None;
        };
        let (topic, publisher) = (delivered.topic().clone(), delivered.publisher());
        Some(Published { topic, publisher, value, retained: delivered.retained })
    }

    /// Items that were no `T`, and were left out.
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Items that fell away because nobody read: more than [`QUEUE_ITEMS_MAX`] waited.
    pub fn missed(&self) -> u64 {
        self.queue.missed()
    }
}

/// Bytes as they were published, for [`Topics::subscribe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Bytes);

/// What a subscription can bring: every type that serde reads, and [`Raw`].
pub trait Readable: Sized {
    /// From the payload of an item.
    fn read(payload: &Bytes) -> Option<Self>;
}

impl<T: DeserializeOwned> Readable for T {
    fn read(payload: &Bytes) -> Option<Self> {
        codec::decode(payload).ok()
    }
}

impl Readable for Raw {
    fn read(payload: &Bytes) -> Option<Self> {
        Some(Self(payload.clone()))
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let id = self.id;
        self.topics.service.act(|engine, now| engine.unsubscribe(id, now));
        lock(&self.topics.queues.by_id).remove(&id);
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { history: 1, publishers: None }
    }
}

impl Delivered {
    /// The subscription that it is for, by the number from [`Engine::subscribe`].
    pub fn subscription(&self) -> u64 {
        self.subscription
    }

    /// On which topic.
    pub fn topic(&self) -> &TopicName {
        &self.item.stream.topic
    }

    /// By whom.
    pub fn publisher(&self) -> PeerId {
        self.item.stream.publisher
    }

    /// What.
    pub fn payload(&self) -> &Bytes {
        &self.item.payload
    }

    /// Whether it may have been published before the subscription.
    pub fn is_retained(&self) -> bool {
        self.retained
    }
}

impl Ear {
    fn hear(&self, delivered: Delivered) {
        let queue = lock(&self.0.by_id).get(&delivered.subscription).and_then(Weak::upgrade);
        if let Some(queue) = queue {
            queue.push(delivered);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        lock(&self.0.by_id).values().filter_map(Weak::upgrade).for_each(|queue| queue.close());
    }
}
