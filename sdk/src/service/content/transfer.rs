//! A content on its way here, as its user sees it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::exchange::Shelf;
use super::{ContentId, Plain, Progress};

/// Why a content is not here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It is longer than we fetch.
    #[error("{len} bytes, where {most} are the most; raise `Quotas::fetch_bytes` if it is wanted")]
    TooLong {
        /// Its length, in bytes.
        len: u64,
        /// The most.
        most: u64,
    },
    /// It is sealed, and not to us.
    #[error("it is sealed to others; ask its source to seal it to you, or pass it on unread with `mirror`")]
    NotAReader,
    /// It is fetched or shared already, or as many contents are as may be.
    #[error("it is fetched or shared already, or too many are; stop one, or raise `Quotas::contents`")]
    NoPlace,
    /// The disk failed, or what was decrypted is spoiled.
    #[error("it could not be stored: {0}. See to the disk and fetch it again; what is there is gone on with")]
    Io(String),
    /// It was stopped.
    #[error("it was stopped before it was whole; fetch it again to go on")]
    Stopped,
    /// The mesh was left.
    #[error("the mesh was left before it was whole; join again and fetch it again to go on")]
    Closed,
}

/// A content on its way here. Dropping it does not stop it: [`Content::stop`](super::Content::stop) does.
#[derive(Debug)]
pub struct Transfer {
    shelf: Arc<Shelf>,
    progress: watch::Receiver<Progress>,
}

impl Transfer {
    pub(super) fn new(shelf: Arc<Shelf>) -> Self {
        let progress = shelf.progress.subscribe();
        Self { shelf, progress }
    }

    /// Which.
    pub fn id(&self) -> ContentId {
        self.shelf.id
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Whether it is here, or will not come: [`done`](Self::done) returns at once then.
    pub fn has_ended(&self) -> bool {
        self.shelf.end.borrow().is_some()
    }

    /// Waits until it has come further, or has ended. Returns at once if it has since the last call.
    pub async fn changed(&mut self) {
        let mut end = self.shelf.end.subscribe();
        if end.borrow().is_some() {
            return;
        }
        tokio::select! {
            biased;
            // The other ends are in the shelf: they cannot be gone.
            _ = self.progress.changed() => {}
            _ = end.wait_for(Option::is_some) => {}
        }
    }

    /// Waits until all of it is here. The bytes, if it was fetched into memory; none if into a file.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn done(&self) -> Result<Bytes, FetchError> {
        let mut end = self.shelf.end.subscribe();
        // The other end is in the shelf: it cannot be gone.
        let end = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or(Err(FetchError::Closed))?;
        Ok(match &self.shelf.plain {
            Some(Plain::Bytes { plain, .. }) => plain.get().cloned().unwrap_or_default(),
            Some(Plain::File { .. }) => Bytes::new(),
            None => self.shelf.store.bytes().unwrap_or_default(),
        })
    }
}
