//! Contents: files of any size, named by their BLAKE3 hash, fetched from several members at once and passed on.
//!
//! Whoever shares one offers it to all; whoever wants it asks the neighbors that have some of it for what fewest have, checks each part
//! before it is stored, and passes it on from then on. So a source sends little more than one copy, however many want it, and may leave
//! as soon as one is out. The bytes go over streams of the links beside the game's traffic, and give way to it.
//!
//! ```no_run
//! use peerflock::PeerMesh;
//! use peerflock::service::content::{Content, ContentEvent, Quotas, Share};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("holiday").start().await?;
//! let content = Content::join(&mesh, Quotas::default())?;
//! content.share(Share::file("beach.jpg")).await?;
//! while let Some(event) = content.next_event().await {
//!     if let ContentEvent::Offered(offer) = event {
//!         let mut transfer = content.fetch_file(offer.id, "/tmp/theirs.jpg").await?;
//!         while !transfer.has_ended() {
//!             println!("{} of {} bytes", transfer.progress().have, offer.id.len);
//!             transfer.changed().await;
//!         }
//!         transfer.done().await?;
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - **What arrives is what was shared**: each part is checked against the hash before it is stored, whoever sent it. Who sends anything
//!   else is [named](ContentEvent::Corrupt), and has no more part in that content.
//! - **Offers are signed** by their source, and passed on when it is gone.
//! - **A source sends little more than one copy**: it shows each neighbor other parts, and the neighbors get the rest from each other.
//! - **What was interrupted goes on**: a file is filled under another name, checked anew at the next start, and renamed when it is whole.
//! - **Whom no neighbor can serve is served all the same**: a member on the shortest way to somebody who has it is asked to fetch it, too,
//!   within its [quota](Quotas::carry_bytes).
//! - **The game goes first**: see `docs/content.md` for the figures.
//! - **Only for readers, if asked**: [`Share::readers`] encrypts the content for some members; the others pass on what they cannot read.
//!
//! Nothing is fetched unless somebody asks for it here. Names and notes of offers come from others: do not take them for paths.

mod delay;
mod exchange;
mod groups;
mod library;
mod message;
mod seal;
mod share;
mod store;
mod transfer;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use peerflock_proto::{Identity, PeerId};
use tokio::sync::mpsc;

use crate::peer_mesh::PeerMesh;
use crate::service::{ServiceError, ServiceHandle, start};
use exchange::{Desk, Shelf, Voice};
use groups::Groups;
use library::Library;
use seal::ContentKey;
use store::{Store, blocking};

pub use message::{NAME_BYTES_MAX, NOTE_BYTES_MAX, Offer, READERS_MAX};
pub use share::{Share, ShareError};
pub use transfer::{FetchError, Transfer};
pub use tree::{CONTENT_BYTES_MAX, ContentId, ParseContentIdError};

use share::{decrypt_file, sealed_path};

/// Events that may wait for the program; what comes on top is dropped.
const EVENTS_MAX: usize = 1_024;

/// How much of others' contents there may be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Contents that we share, fetch or carry at a time; 64 if nothing is said.
    pub contents: usize,
    /// Bytes of memory for contents that we do not want and others cannot reach without us; 64 MiB if nothing is said. With 0, none is.
    pub carry_bytes: u64,
    /// The longest content that we fetch, in bytes; [`CONTENT_BYTES_MAX`] if nothing is said.
    pub fetch_bytes: u64,
}

impl Default for Quotas {
    fn default() -> Self {
        Self { contents: 64, carry_bytes: 64 * 1024 * 1024, fetch_bytes: CONTENT_BYTES_MAX }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ContentEvent {
    /// A member shares a content.
    Offered(Offer),
    /// A member sent something that is not the content. It is not asked for it again.
    Corrupt {
        /// Of which content.
        id: ContentId,
        /// Who.
        peer: PeerId,
    },
    /// A content that we fetch is here as a whole, and passed on from now on.
    Complete {
        /// Which.
        id: ContentId,
    },
}

/// How far a content has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Its length, in bytes.
    pub len: u64,
    /// Bytes of it that are here, and right.
    pub have: u64,
    /// Bytes of it that we gave to others.
    pub served: u64,
    /// Bytes of it that our neighbors have between them. When that is all, we can leave, and everybody gets it all the same.
    pub elsewhere: u64,
    /// Neighbors that have some of it.
    pub holders: usize,
    /// Neighbors of whom some of it is under way.
    pub active: usize,
    /// All of it is here.
    pub complete: bool,
}

/// A member's part in all contents: what it shares, fetches and passes on. Cheap to clone; ends with the last clone, or with the mesh.
#[derive(Clone, Debug)]
pub struct Content {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    library: ServiceHandle<Library>,
    desk: Arc<Desk>,
    identity: Identity,
    quotas: Quotas,
    events: tokio::sync::Mutex<mpsc::Receiver<ContentEvent>>,
}

/// What a sealed content becomes for its readers.
#[derive(Debug)]
enum Plain {
    File { path: PathBuf, key: ContentKey },
    Bytes { key: ContentKey, plain: OnceLock<Bytes> },
}

impl Content {
    /// Takes part in the contents of a mesh.
    ///
    /// # Errors
    /// When this program takes part already, or the mesh was left.
    pub fn join(mesh: &PeerMesh, quotas: Quotas) -> Result<Self, ServiceError> {
        let (tell, told) = mpsc::channel(EVENTS_MAX);
        let desk = Desk::new(mesh.shared().clone(), mesh.runtime().clone(), tell);
        let identity = mesh.identity().clone();
        let voice = Voice(desk.clone());
        let library = start(mesh, Library::new(identity.clone(), quotas), move |told| voice.tell(told))?;
        let inner = Arc::new(Inner { library, desk, identity, quotas, events: tokio::sync::Mutex::new(told) });
        // Whoever set it before us does not exist.
        _ = inner.desk.inner.set(Arc::downgrade(&inner));
        // The channel is ours, so that nobody else has opened the doors.
        if let Some(streams) = mesh.shared().bulk.open() {
            mesh.runtime().spawn(inner.desk.clone().take_in(streams));
        }
        Ok(Self { inner })
    }

    /// Shares a content: all who are here, and all who come later, are told of it. It must stay as it is where it is.
    ///
    /// # Errors
    /// See [`ShareError`]. Nothing is shared then.
    pub async fn share(&self, share: Share) -> Result<Offer, ShareError> {
        share.run(&self.inner).await
    }

    /// Fetches a content into a file, and passes it on. If something of it lies there from the last time, it goes on from that.
    ///
    /// While it comes it is called `<path>.part`. A sealed one stays beside it as `<path>.sealed`, to be passed on.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing is fetched then.
    pub async fn fetch_file(&self, id: ContentId, path: impl AsRef<Path>) -> Result<Transfer, FetchError> {
        let key = self.key(&id)?;
        let path = path.as_ref().to_owned();
        let place = if key.is_some() { sealed_path(&path) } else { path.clone() };
        let resumed = blocking(move || Store::resume(&place, id)).await;
        let (store, leaves, groups) = resumed.map_err(|error| FetchError::Io(error.to_string()))?;
        let plain = key.map(|key| Plain::File { path, key });
        self.begin(Shelf::new(id, store, leaves, plain), groups)
    }

    /// Fetches a content into memory, and passes it on.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing is fetched then.
    pub fn fetch_bytes(&self, id: ContentId) -> Result<Transfer, FetchError> {
        let plain = self.key(&id)?.map(|key| Plain::Bytes { key, plain: OnceLock::new() });
        self.begin(Shelf::new(id, Store::memory(), None, plain), Groups::none(id.groups()))
    }

    /// Fetches a content into memory as it is, readable or not, and passes it on.
    ///
    /// # Errors
    /// See [`FetchError`]. Nothing is fetched then.
    pub fn mirror(&self, id: ContentId) -> Result<Transfer, FetchError> {
        self.check(&id)?;
        self.begin(Shelf::new(id, Store::memory(), None, None), Groups::none(id.groups()))
    }

    /// Has nothing to do with a content any more: it is neither fetched nor passed on. Files stay.
    pub fn stop(&self, id: &ContentId) {
        self.inner.library.act(|library, _| library.drop_content(*id));
        if let Some(shelf) = self.inner.desk.take(id) {
            shelf.end.send_if_modified(|end| {
                let open = end.is_none();
                end.get_or_insert(Err(FetchError::Stopped));
                open
            });
        }
    }

    /// What is offered.
    pub fn offers(&self) -> Vec<Offer> {
        self.inner.library.act(|library, _| library.offers().cloned().collect())
    }

    /// How far a content has come that we share, fetch or carry.
    pub fn progress(&self, id: &ContentId) -> Option<Progress> {
        self.inner.library.act(|library, _| library.progress(id))
    }

    /// Waits for what happens next. `None` when the mesh is left.
    pub async fn next_event(&self) -> Option<ContentEvent> {
        self.inner.events.lock().await.recv().await
    }

    fn check(&self, id: &ContentId) -> Result<(), FetchError> {
        let most = self.inner.quotas.fetch_bytes.min(CONTENT_BYTES_MAX);
        if id.len > most { Err(FetchError::TooLong { len: id.len, most }) } else { Ok(()) }
    }

    /// The key of a content that is sealed; none if it is not.
    fn key(&self, id: &ContentId) -> Result<Option<ContentKey>, FetchError> {
        self.check(id)?;
        let seals = self.inner.library.act(|library, _| library.known_offer(id).map(|offer| offer.seals.clone()));
        let seals = seals.unwrap_or_default();
        let key = seals.iter().find_map(|seal| seal.open(&self.inner.identity));
        if key.is_none() && !seals.is_empty() { Err(FetchError::NotAReader) } else { Ok(key) }
    }

    fn begin(&self, shelf: Arc<Shelf>, groups: Groups) -> Result<Transfer, FetchError> {
        if self.inner.library.is_closed() {
            return Err(FetchError::Closed);
        }
        let (id, proved) = (shelf.id, shelf.leaves.get().is_some());
        let transfer = Transfer::new(shelf.clone());
        // Before the library is free again, and asks for something.
        let begun = self.inner.library.act(|library, now| {
            let begun = library.can_fetch(&id);
            if begun {
                self.inner.desk.put(shelf.clone());
                library.fetch(id, groups, proved, now);
            }
            begun
        });
        if !begun {
            return Err(FetchError::NoPlace);
        }
        self.inner.desk.show_progress(&id);
        Ok(transfer)
    }
}
