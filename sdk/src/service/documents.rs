//! Shared documents: what several people edit at the same time, with and without a connection, and everybody ends up with the same.
//!
//! ```no_run
//! use peerflock::PeerMesh;
//! use peerflock::service::documents::{Documents, yrs::{Array, ReadTxn, WriteTxn}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("party").start().await?;
//! let documents = Documents::join(&mesh)?;
//! let mut plan = documents.open("plan", Some("plan.document".into()))?;
//! plan.edit(|txn| txn.get_or_insert_array("to bring").push_back(txn, "cake"))?;
//! plan.changed().await;
//! let items = plan.read(|txn| txn.get_array("to bring").map_or(0, |list| list.len(txn)))?;
//! println!("{items} things to bring");
//! # Ok(()) }
//! ```
//!
//! A document holds texts, lists and maps by name, those of [`yrs`], the library that merges (a CRDT; Yjs in Rust). Edit it in
//! [`edit`](Document::edit), read it in [`read`](Document::read).
//!
//! # What is promised
//! - Whatever several people did at the same time, all who have it open end with the same document, as soon as all changes are with all.
//! - Each copy is whole: it is edited alone, kept [on disk](Documents::open), and its changes go to whoever is met next, also those that
//!   others made. Who wrote something and who reads it need never be there at the same time, if somebody was with both.
//! - A file is written whole or not at all, half a second after a change and when the document is closed.
//! - What others send is walked through before it is merged. What is no update, goes too deep or makes the document too long
//!   ([`DOCUMENT_BYTES_MAX`], [`NESTED_MAX`], [`WRITERS_MAX`]) is refused and changes nothing.
//!
//! # What is not
//! A document belongs to all who are in the mesh: each of them may change everything in it, and what is passed on for others carries no
//! proof of who wrote it. A member that breaks the library's rules on purpose, by writing in another's name, can make copies differ.
//! Keep documents to meshes whose members trust each other. XML, embedded documents and weak links of the library are refused.

mod engine;
mod file;
mod replica;
mod scan;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
pub use engine::{Changed, DOCUMENTS_MAX, Engine};
pub use replica::{DOCUMENT_BYTES_MAX, NESTED_MAX, Refusal, Replica, Version, WRITERS_MAX};
use tokio::runtime;
use tokio::sync::watch;
pub use yrs;
use yrs::{Transaction, TransactionMut};

use super::topics::NameError;
pub use super::topics::TopicName as DocumentName;
use super::{ServiceError, ServiceHandle, start};
use crate::peer_mesh::PeerMesh;
use crate::sync::lock;

/// A document is written to disk so long after it changed.
const SAVE_AFTER: Duration = Duration::from_millis(500);

/// The documents of a mesh. Cheap to clone, usable from any thread, with or without an async runtime.
#[derive(Clone, Debug)]
pub struct Documents {
    service: ServiceHandle<Engine>,
    changes: Arc<Changes>,
    runtime: runtime::Handle,
}

/// An open document. It is saved and closed when this is dropped.
pub struct Document {
    name: DocumentName,
    documents: Documents,
    changes: watch::Receiver<u64>,
    keeper: Option<Arc<Keeper>>,
}

/// What documents have cost and brought here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DocumentCounters {
    /// Updates of others that brought something new.
    pub updates_taken: u64,
    /// Pieces of updates sent to those who lacked them.
    pub parts_sent: u64,
    /// What others sent and was refused.
    pub refused: u64,
}

/// Why a document was not opened. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// That is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It is open here.
    #[error("that document is open here already; share what opened it")]
    AlreadyOpen,
    /// So many are open and no more.
    #[error("{DOCUMENTS_MAX} documents are open; close one first")]
    TooMany,
    /// The file holds no document.
    #[error("the file holds no document ({0}); move it away to begin with an empty one")]
    Damaged(Refusal),
    /// The file cannot be read.
    #[error("{path}: {source}. Choose another file, or move it away", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Why an edit did not happen. The document is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The document would be too long.
    #[error("the document would exceed {DOCUMENT_BYTES_MAX} bytes or another limit; delete something, or begin another one")]
    TooLong,
    /// The edit brings in what others would refuse.
    #[error("documents hold texts, lists, maps and values up to 16 deep; XML, embedded documents and links are not passed on")]
    Unsupported,
    /// The document is closed.
    #[error("the document is closed; open it again")]
    Closed,
}

/// Counts changes, by document; none for a closed one.
#[derive(Debug, Default)]
struct Changes {
    by_name: Mutex<BTreeMap<DocumentName, watch::Sender<u64>>>,
}

/// Where the engine's events go; gone when the service is over.
struct Ear(Arc<Changes>);

/// Where a document is kept.
struct Keeper {
    path: PathBuf,
    /// What went wrong last.
    error: Mutex<Option<io::Error>>,
    /// One writer at a time.
    writing: Mutex<()>,
}

impl Documents {
    /// Takes part in the documents of a mesh.
    ///
    /// # Errors
    /// When this was called before and what came of it is still there, or the mesh was left.
    pub fn join(mesh: &PeerMesh) -> Result<Self, ServiceError> {
        let changes = Arc::new(Changes::default());
        let engine = mesh.shared().node(|node, _| Engine::new(node));
        let ear = Ear(changes.clone());
        let service = start(mesh, engine, move |changed: Changed| ear.hear(&changed))?;
        Ok(Self { service, changes, runtime: mesh.runtime().clone() })
    }

    /// Opens a document by name: what others have of it comes, and what they lack goes. With a `path` it is read from there and kept
    /// there. Several documents may be open at once.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, name: &str, path: Option<PathBuf>) -> Result<Document, OpenError> {
        let name: DocumentName = name.parse()?;
        let kept = match &path {
            Some(path) => file::read(path).map_err(|source| OpenError::File { path: path.clone(), source })?,
            None => None,
        };
        let changes = self.service.act(|engine, now| {
            engine.open(name.clone(), kept.as_deref(), now)?;
            // Before anything is told of it.
            let (sender, changes) = watch::channel(0);
            lock(&self.changes.by_name).insert(name.clone(), sender);
            Ok::<_, OpenError>(changes)
        })?;
        let keeper = path.map(|path| Arc::new(Keeper { path, error: Mutex::default(), writing: Mutex::default() }));
        if let Some(keeper) = &keeper {
            self.runtime.spawn(keep(self.clone(), name.clone(), changes.clone(), Arc::downgrade(keeper)));
        }
        Ok(Document { name, documents: self.clone(), changes, keeper })
    }

    /// What documents have cost and brought here.
    pub fn counters(&self) -> DocumentCounters {
        self.service.act(|engine, _| engine.counters())
    }
}

impl Document {
    /// Its name.
    pub fn name(&self) -> &DocumentName {
        &self.name
    }

    /// Edits it: one step for the others, too. Do not call the document in there.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn edit<R>(&self, edit: impl FnOnce(&mut TransactionMut<'_>) -> R) -> Result<R, EditError> {
        self.documents.service.act(|engine, now| engine.edit(&self.name, edit, now))
    }

    /// Looks at it. Do not call the document in there.
    ///
    /// # Errors
    /// When it is closed.
    pub fn read<R>(&self, read: impl FnOnce(&Transaction<'_>) -> R) -> Result<R, EditError> {
        self.documents.service.act(|engine, _| engine.read(&self.name, read)).ok_or(EditError::Closed)
    }

    /// What is in it: equal where that is the same, on all machines.
    pub fn hash(&self) -> Option<[u8; 16]> {
        self.documents.service.act(|engine, _| engine.hash(&self.name))
    }

    /// Waits until it changes, here or by others. False once the mesh is left.
    ///
    /// What changed between two calls is noticed by the second.
    pub async fn changed(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }

    /// Whether it changed since the last look. Returns at once.
    pub fn has_changed(&mut self) -> bool {
        let changed = self.changes.has_changed().unwrap_or(false);
        self.changes.mark_unchanged();
        changed
    }

    /// Writes it to disk now, if it is kept there, and blocks until that is done.
    ///
    /// # Errors
    /// When it cannot be written, now or the last time by itself. What was there before is still there then.
    pub fn save(&self) -> io::Result<()> {
        let Some(keeper) = &self.keeper else { return Ok(()) };
        let state = self.documents.service.act(|engine, _| engine.encode(&self.name));
        // Closed with the mesh: it was saved then.
        state.map_or(Ok(()), |state| keeper.write(&state))?;
        lock(&keeper.error).take().map_or(Ok(()), Err)
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        let state = self.documents.service.act(|engine, _| engine.close(&self.name));
        lock(&self.documents.changes.by_name).remove(&self.name);
        if let (Some(keeper), Some(state)) = (&self.keeper, state)
            && let Err(error) = keeper.write(&state)
        {
            tracing::warn!(target: "peerflock::documents", path = %keeper.path.display(), %error, "not saved");
        }
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Ear {
    fn hear(&self, changed: &Changed) {
        if let Some(changes) = lock(&self.0.by_name).get(&changed.document) {
            changes.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        // Whoever waits learns that nothing more comes.
        lock(&self.0.by_name).clear();
    }
}

impl Keeper {
    fn write(&self, state: &Bytes) -> io::Result<()> {
        let _one_at_a_time = lock(&self.writing);
        file::write(&self.path, state)
    }
}

/// Saves a document a while after each change, as long as it is open.
async fn keep(documents: Documents, name: DocumentName, mut changes: watch::Receiver<u64>, keeper: std::sync::Weak<Keeper>) {
    while changes.changed().await.is_ok() {
        tokio::time::sleep(SAVE_AFTER).await;
        changes.mark_unchanged();
        let state = documents.service.act(|engine, _| engine.encode(&name));
        let (Some(keeper), Some(state)) = (keeper.upgrade(), state) else { return };
        let written = {
            let keeper = keeper.clone();
            tokio::task::spawn_blocking(move || keeper.write(&state)).await
        };
        if let Ok(Err(error)) = written {
            tracing::warn!(target: "peerflock::documents", path = %keeper.path.display(), %error, "not saved");
            *lock(&keeper.error) = Some(error);
        }
    }
}
