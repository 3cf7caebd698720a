//! The resolver of peers met before: a small file, for the player's eyes only.
//!
//! It knows meshes by a hash that nobody can turn back into a name and a password, and forgets what is old or too much.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::ResolveError;
use super::resolver::{Answer, Found, Registration, Resolver};
use crate::identity;
use crate::unix_time::unix_seconds;

/// What the file is called in the game's folder.
const FILE_NAME: &str = "met.json";
/// Meshes remembered; the one not played for longest goes first.
const MESHES_MAX: usize = 32;
/// Peers of each; those not met for longest go first.
const PEERS_MAX: usize = 16;
/// A longer file is none of ours.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Who was not met for so long has moved.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 24 * 3_600);
/// How often it is written down who is here.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// The version of the file.
const VERSION: u32 = 1;

/// Remembers whom we met and where, so that a mesh is found again when nothing else tells of it.
///
/// The file is written whole or not at all, readable by its user alone. One that is damaged is started anew.
#[derive(Debug)]
pub struct AddressBook {
    path: PathBuf,
    /// One writer at a time.
    writing: Mutex<()>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    version: u32,
    meshes: Vec<Mesh>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Mesh {
    /// Its hash, in hex.
    topic: String,
    peers: Vec<Peer>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Peer {
    /// Its key, in hex.
    peer: String,
    address: SocketAddr,
    /// When, in seconds since 1970.
    met: u64,
}

impl AddressBook {
    /// The book in the file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), writing: Mutex::new(()) }
    }

    /// The book of `game` in the user's folder for settings. None where the system has no such folder.
    pub fn of_game(game: &str) -> Option<Self> {
        identity::game_folder(game).map(|folder| Self::at(folder.join(FILE_NAME)))
    }

    fn load(&self) -> Result<File, ResolveError> {
        match read(&self.path) {
            Ok(text) => {
                let file: Option<File> = serde_json::from_slice(&text).ok();
                Ok(file.filter(|file| file.version == VERSION).unwrap_or_default())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(File::default()),
            Err(source) => Err(ResolveError::File { path: self.path.clone(), source }),
        }
    }

    fn write_down(&self, us: &Registration) -> Result<(), ResolveError> {
        if us.neighbors.is_empty() {
            return Ok(());
        }
        let _alone = self.writing.lock();
        let mut file = self.load()?;
        let before = serde_json::to_vec(&file).unwrap_or_default();
        file.version = VERSION;
        file.note(&topic(us), us, unix_seconds());
        // Times alone are not worth a write each time; the minute is near enough.
        let text = serde_json::to_vec(&file)
            .map_err(io::Error::other)
            .and_then(|text| if text == before { Ok(()) } else { write(&self.path, &text) });
        text.map_err(|source| ResolveError::File { path: self.path.clone(), source })
    }

    fn look_up(&self, us: &Registration) -> Result<Vec<Found>, ResolveError> {
        let (file, topic) = (self.load()?, topic(us));
        let mesh = file.meshes.into_iter().find(|mesh| mesh.topic == topic);
        let mut peers = mesh.map(|mesh| mesh.peers).unwrap_or_default();
        peers.truncate(PEERS_MAX);
        Ok(peers.into_iter().filter_map(|peer| Some(Found::peer(peer.peer.parse().ok()?, vec![peer.address]))).collect())
    }
}

impl Resolver for AddressBook {
    fn name(&self) -> String {
        "peers met before".into()
    }

    fn register<'a>(&'a self, us: &'a Registration) -> Answer<'a, Duration> {
        Box::pin(async move { self.write_down(us).map(|()| WRITE_EVERY) })
    }

    fn resolve<'a>(&'a self, us: &'a Registration) -> Answer<'a, Vec<Found>> {
        Box::pin(async move { self.look_up(us) })
    }

    fn withdraw<'a>(&'a self, us: &'a Registration) -> Answer<'a, ()> {
        Box::pin(async move { self.write_down(us) })
    }

    fn pace(&self, alone: bool) -> Duration {
        // While we play it has nothing that others do not know better.
        if alone { WRITE_EVERY } else { FORGOTTEN_AFTER }
    }

    fn knows_password(&self) -> bool {
        true
    }
}

impl File {
    fn note(&mut self, topic: &str, us: &Registration, now: u64) {
        let at = self.meshes.iter().position(|mesh| mesh.topic == topic);
        let mut mesh = match at {
            Some(at) => self.meshes.remove(at),
            None => Mesh { topic: topic.to_owned(), peers: Vec::new() },
        };
        for neighbor in &us.neighbors {
            let Some(peer) = neighbor.peer else { continue };
            let peer = peer.to_string();
            mesh.peers.retain(|known| known.peer != peer);
            mesh.peers.insert(0, Peer { peer, address: neighbor.address, met: now / 60 * 60 });
        }
        mesh.peers.retain(|peer| now.saturating_sub(peer.met) < FORGOTTEN_AFTER.as_secs());
        mesh.peers.truncate(PEERS_MAX);
        // The mesh played last stands first.
        self.meshes.insert(0, mesh);
        self.meshes.truncate(MESHES_MAX);
    }
}

fn topic(us: &Registration) -> String {
    HEXLOWER.encode(&us.rendezvous.topic("address book", 0))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The whole file or none of it, whatever happens on the way: beside it first, then in its place.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text)?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| _ = fs::remove_file(&beside))
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use peerflock_proto::{Candidate, MeshId, MeshKey, PeerId};

    use super::*;
    use crate::resolve::rendezvous::Rendezvous;
    use crate::resolve::{Interface, Listing};

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("peerflock-book-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        folder.join(FILE_NAME)
    }

    fn us(name: &str, neighbors: impl IntoIterator<Item = u8>) -> Registration {
        let mesh = MeshId::from_name(name);
        let at = |peer: u8| SocketAddr::from(([192, 0, 2, peer], 7));
        Registration {
            peer: PeerId([200; 32]),
            mesh,
            name: name.into(),
            listing: Listing::default(),
            members: 1,
            beacon: 0,
            addresses: Vec::new(),
            neighbors: neighbors.into_iter().map(|n| Candidate { address: at(n), peer: Some(PeerId([n; 32])) }).collect(),
            interface: Interface::All,
            rendezvous: Rendezvous::new(&MeshKey::open(mesh)),
            endpoint: Weak::new(),
            shared: Weak::new(),
        }
    }

    #[tokio::test]
    async fn whom_we_met_we_find_again_in_that_mesh_only() {
        let path = scratch("again");
        let book = AddressBook::at(&path);
        assert_eq!(book.resolve(&us("dusk", [])).await.unwrap(), []);
        book.register(&us("dusk", [1, 2])).await.unwrap();
        book.register(&us("dawn", [3])).await.unwrap();
        let again = AddressBook::at(&path);
        let found = again.resolve(&us("dusk", [])).await.unwrap();
        assert_eq!(found.iter().map(|found| found.peer.unwrap().0[0]).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(found[0].addresses, ["192.0.2.2:7".parse().unwrap()]);
        assert_eq!(again.resolve(&us("noon", [])).await.unwrap(), []);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("dusk"), "{text}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn it_stays_small_and_forgets() {
        let path = scratch("small");
        let book = AddressBook::at(&path);
        for mesh in 0..MESHES_MAX + 9 {
            book.register(&us(&format!("mesh {mesh}"), 0..PEERS_MAX as u8 + 9)).await.unwrap();
        }
        let file = book.load().unwrap();
        assert_eq!((file.meshes.len(), file.meshes[0].peers.len()), (MESHES_MAX, PEERS_MAX));
        assert!(fs::metadata(&path).unwrap().len() < FILE_BYTES_MAX);
        let mut file = File::default();
        file.note("x", &us("x", [1]), 1_000);
        file.note("x", &us("x", [2]), 1_000 + FORGOTTEN_AFTER.as_secs());
        assert_eq!(file.meshes[0].peers.len(), 1);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[tokio::test]
    async fn a_damaged_book_is_begun_anew_and_one_that_cannot_be_read_says_so() {
        let path = scratch("damaged");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in [
            "",
            "{",
            "[1,2]",
            r#"{"version":9,"meshes":[]}"#,
            r#"{"version":1,"meshes":[{"topic":"","peers":[{"peer":"x","address":"127.0.0.1:1","met":0}]}]}"#,
        ] {
            fs::write(&path, text).unwrap();
            let book = AddressBook::at(&path);
            assert_eq!(book.resolve(&us("dusk", [])).await.unwrap(), [], "{text}");
            book.register(&us("dusk", [1])).await.unwrap();
            assert_eq!(book.resolve(&us("dusk", [])).await.unwrap().len(), 1, "{text}");
        }
        let folder = AddressBook::at(path.parent().unwrap());
        let error = folder.resolve(&us("dusk", [])).await.unwrap_err().to_string();
        assert!(error.contains("peerflock-book"), "{error}");
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
