//! Where the bytes of a content are: in memory, or in a file that is filled group by group and can be gone on with later.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::groups::Groups;
use super::tree::{ContentId, Leaves};
use crate::sync::lock;

/// The bytes of one content.
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// All there.
    Bytes(Bytes),
    /// In memory, as far as they have come.
    Memory(Arc<Mutex<BTreeMap<u32, Bytes>>>),
    /// In a file: its path while it is filled, and when it is whole.
    File(Arc<FileStore>),
}

#[derive(Debug)]
pub(super) struct FileStore {
    file: Mutex<File>,
    path: PathBuf,
    /// Being filled still: what it is called, and where its leaves are kept meanwhile.
    part: Option<(PathBuf, PathBuf)>,
}

impl Store {
    pub(super) fn memory() -> Self {
        Self::Memory(Arc::default())
    }

    /// A file that is whole. Blocks.
    pub(super) fn whole(path: &Path) -> io::Result<Self> {
        let file = Mutex::new(File::open(path)?);
        Ok(Self::File(Arc::new(FileStore { file, path: path.to_owned(), part: None })))
    }

    /// The file that is to be at `path`, and what of it is there already: every group of it is checked anew, so that nothing need be
    /// believed of how the last run ended. Blocks.
    pub(super) fn resume(path: &Path, id: ContentId) -> io::Result<(Self, Option<Leaves>, Groups)> {
        let beside = |suffix: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        let (part, leaves_path) = (beside(".part"), beside(".leaves"));
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&part)?;
        // One that lies there from another content is of no use, and does no harm.
        let leaves = std::fs::read(&leaves_path).ok().and_then(|bytes| Leaves::prove(id, &bytes));
        let there = file.metadata()?.len();
        file.set_len(id.len)?;
        let mut groups = Groups::none(id.groups());
        if let Some(leaves) = &leaves {
            let mut buffer = vec![0; id.group_len(0)];
            for group in 0..id.groups() {
                let bytes = &mut buffer[..id.group_len(group)];
                if id.range(group).end > there || file.read_exact(bytes).is_err() {
                    break;
                }
                if leaves.proves(group, bytes) {
                    groups.insert(group);
                }
            }
        }
        let store = FileStore { file: Mutex::new(file), path: path.to_owned(), part: Some((part, leaves_path)) };
        Ok((Self::File(Arc::new(store)), leaves, groups))
    }

    /// Remembers the leaves for the next run.
    pub(super) async fn note(&self, leaves: &Leaves) -> io::Result<()> {
        let Self::File(file) = self else { return Ok(()) };
        let Some((_, path)) = file.part.clone() else { return Ok(()) };
        let bytes = leaves.bytes();
        blocking(move || std::fs::write(path, bytes)).await
    }

    pub(super) async fn read(&self, id: ContentId, group: u32) -> io::Result<Bytes> {
        let range = id.range(group);
        match self {
            Self::Bytes(bytes) => {
                let part = bytes.get(range.start as usize..range.end as usize);
                part.map(|part| bytes.slice_ref(part)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            Self::Memory(groups) => lock(groups).get(&group).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
            Self::File(file) => {
                let file = file.clone();
                blocking(move || {
                    let mut bytes = vec![0; (range.end - range.start) as usize];
                    let mut file = lock(&file.file);
                    file.seek(SeekFrom::Start(range.start))?;
                    file.read_exact(&mut bytes)?;
                    Ok(bytes.into())
                })
                .await
            }
        }
    }

    pub(super) async fn write(&self, id: ContentId, group: u32, bytes: Bytes) -> io::Result<()> {
        match self {
            Self::Bytes(_) => Ok(()),
            Self::Memory(groups) => {
                lock(groups).insert(group, bytes);
                Ok(())
            }
            Self::File(file) => {
                let file = file.clone();
                blocking(move || {
                    let mut file = lock(&file.file);
                    file.seek(SeekFrom::Start(id.range(group).start))?;
                    file.write_all(&bytes)
                })
                .await
            }
        }
    }

    /// Everything is there: a file gets its name. Others go on reading it.
    pub(super) async fn finish(&self) -> io::Result<()> {
        let Self::File(file) = self else { return Ok(()) };
        let file = file.clone();
        blocking(move || {
            if let Some((part, leaves)) = &file.part {
                lock(&file.file).sync_all()?;
                std::fs::rename(part, &file.path)?;
                // Whoever takes them away before us does us a favor.
                _ = std::fs::remove_file(leaves);
            }
            Ok(())
        })
        .await
    }

    /// All bytes in one, where they are in memory.
    pub(super) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes.clone()),
            Self::Memory(groups) => Some(lock(groups).values().map(|group| &group[..]).collect::<Vec<_>>().concat().into()),
            Self::File(_) => None,
        }
    }
}

/// Disks may take their time: the mesh does not wait for them.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of its own, gone with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("peerflock-store-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_file_is_gone_on_with_and_only_what_is_right_counts() {
        let folder = Folder::new("resume");
        let path = folder.0.join("photo");
        let bytes = Bytes::from((0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        let leaves = Leaves::read(&mut &bytes[..], bytes.len() as u64).unwrap();
        let id = leaves.id();
        let (store, known, groups) = Store::resume(&path, id).unwrap();
        assert_eq!((known, groups.count()), (None, 0));
        store.note(&leaves).await.unwrap();
        let source = Store::Bytes(bytes.clone());
        for group in [0, 3, 7, 24] {
            store.write(id, group, source.read(id, group).await.unwrap()).await.unwrap();
        }
        // One is spoiled before the next run.
        store.write(id, 5, Bytes::from(vec![1; 16_384])).await.unwrap();
        drop(store);
        let (store, known, groups) = Store::resume(&path, id).unwrap();
        assert_eq!(known, Some(leaves));
        assert_eq!(groups.iter().collect::<Vec<_>>(), [0, 3, 7, 24]);
        for group in 0..id.groups() {
            store.write(id, group, source.read(id, group).await.unwrap()).await.unwrap();
        }
        store.finish().await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
        assert_eq!(store.read(id, 7).await.unwrap(), source.read(id, 7).await.unwrap(), "it is read on under its new name");
        assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left beside it");
    }

    #[tokio::test]
    async fn what_is_not_there_is_an_error() {
        let id = ContentId::of(b"four");
        assert!(Store::memory().read(id, 0).await.is_err());
        assert!(Store::Bytes(Bytes::from_static(b"two")).read(id, 0).await.is_err());
    }
}
