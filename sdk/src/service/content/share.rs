//! From a file or some bytes to a content that all can have, or only some can read.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use peerflock_proto::PeerId;

use super::Inner;
use super::exchange::Shelf;
use super::message::{NAME_BYTES_MAX, NOTE_BYTES_MAX, Offer, READERS_MAX};
use super::seal::{ContentKey, Seal, decrypt, encrypt};
use super::store::{Store, blocking};
use super::tree::{CONTENT_BYTES_MAX, Leaves};
use crate::identity::random;

/// Why a content is not shared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShareError {
    /// The file could not be read, or its encrypted copy not written.
    #[error("it could not be read, or encrypted: {0}. See that the file is there and that its folder can be written to")]
    Io(String),
    /// It is longer than a content may be.
    #[error("{len} bytes, where {CONTENT_BYTES_MAX} are the most; cut it into several")]
    TooLong {
        /// Its length, in bytes.
        len: u64,
    },
    /// The name, the note or the list of readers is too long.
    #[error(
        "a name holds {NAME_BYTES_MAX} bytes, a note {NOTE_BYTES_MAX}, and there are at most {READERS_MAX} readers; shorten them"
    )]
    OfferTooLong,
    /// A reader's key is none.
    #[error("{0:?} is no key to which anything can be sealed; leave it out")]
    NoKey(PeerId),
    /// It is fetched already, or as many contents and offers are as may be.
    #[error("too many contents or offers are here already; stop one, or raise `Quotas::contents`")]
    NoPlace,
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// What to share, and with whom.
#[derive(Clone, Debug)]
pub struct Share {
    what: What,
    name: String,
    note: Bytes,
    readers: Vec<PeerId>,
}

#[derive(Clone, Debug)]
enum What {
    File(PathBuf),
    Bytes(Bytes),
}

impl Share {
    /// A file, under its own name. It must stay as it is while it is shared: what is changed is refused by those who fetch it.
    pub fn file(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self { what: What::File(path), name, note: Bytes::new(), readers: Vec::new() }
    }

    /// Bytes in memory.
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        Self { what: What::Bytes(bytes.into()), name: name.into(), note: Bytes::new(), readers: Vec::new() }
    }

    /// What to call it.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What to say of it.
    pub fn note(mut self, note: impl Into<Bytes>) -> Self {
        self.note = note.into();
        self
    }

    /// Only these can read it; the others can only pass it on. We ourselves are none of them unless we are named.
    ///
    /// A file is encrypted into a copy beside it, `<path>.sealed`, which is what is shared.
    pub fn readers(mut self, readers: impl IntoIterator<Item = PeerId>) -> Self {
        self.readers = readers.into_iter().collect();
        self
    }

    pub(super) async fn run(self, inner: &Inner) -> Result<Offer, ShareError> {
        let Self { what, name, note, readers } = self;
        if name.len() > NAME_BYTES_MAX || note.len() > NOTE_BYTES_MAX || readers.len() > READERS_MAX {
            return Err(ShareError::OfferTooLong);
        }
        if inner.library.is_closed() {
            return Err(ShareError::Closed);
        }
        let key = (!readers.is_empty()).then(|| ContentKey::new(*random()));
        let seal = |key: &ContentKey| -> Result<Vec<Seal>, ShareError> {
            readers.iter().map(|reader| key.seal(*reader, *random()).ok_or(ShareError::NoKey(*reader))).collect()
        };
        let seals = key.as_ref().map(seal).transpose()?.unwrap_or_default();
        let prepared = match what {
            What::Bytes(bytes) => prepare_bytes(key, bytes),
            // It takes as long as reading it all does.
            What::File(path) => blocking(move || prepare_file(key, &path)).await,
        };
        let (store, leaves) = prepared.map_err(|error| ShareError::Io(error.to_string()))?;
        let id = leaves.id();
        let offer = Offer::new(inner.identity.peer_id(), id, name, note, seals);
        let shelf = Shelf::new(id, store, Some(leaves), None);
        let shared = inner.library.act(|library, now| {
            // Before the library is free again, and somebody asks for it.
            let known = inner.desk.shelf(&id);
            inner.desk.put(shelf);
            let shared = library.offer(offer.clone(), now);
            if !shared {
                match known {
                    Some(known) => inner.desk.put(known),
                    None => _ = inner.desk.take(&id),
                }
            }
            shared
        });
        inner.desk.show_progress(&id);
        if shared { Ok(offer) } else { Err(ShareError::NoPlace) }
    }
}

fn prepare_bytes(key: Option<ContentKey>, bytes: Bytes) -> io::Result<(Store, Leaves)> {
    let bytes = match key {
        Some(key) => {
            let mut sealed = Vec::new();
            encrypt(&key, &mut &bytes[..], &mut sealed)?;
            sealed.into()
        }
        None => bytes,
    };
    let leaves = Leaves::read(&mut &bytes[..], bytes.len() as u64)?;
    Ok((Store::Bytes(bytes), leaves))
}

fn prepare_file(key: Option<ContentKey>, path: &Path) -> io::Result<(Store, Leaves)> {
    let path = match key {
        Some(key) => {
            let sealed = sealed_path(path);
            let mut sink = BufWriter::new(File::create(&sealed)?);
            encrypt(&key, &mut BufReader::new(File::open(path)?), &mut sink)?;
            sink.flush()?;
            sealed
        }
        None => path.to_owned(),
    };
    let mut file = File::open(&path)?;
    let len = file.metadata()?.len();
    let leaves = Leaves::read(&mut file, len)?;
    Ok((Store::whole(&path)?, leaves))
}

/// Where the encrypted copy of a file is.
pub(super) fn sealed_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sealed");
    PathBuf::from(name)
}

/// Decrypts a file into another one, which gets its name when it is whole.
pub(super) fn decrypt_file(key: &ContentKey, sealed: &Path, path: &Path) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".plain");
    let part = PathBuf::from(part);
    let mut sink = BufWriter::new(File::create(&part)?);
    decrypt(key, &mut BufReader::new(File::open(sealed)?), &mut sink)?;
    sink.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    std::fs::rename(part, path)
}
