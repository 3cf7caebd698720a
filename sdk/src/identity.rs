//! Who this player is, from one start to the next.
//!
//! By default every start is somebody new. A game that wants to know its players again keeps an [`Identity`] on disk:
//!
//! ```no_run
//! # fn main() -> Result<(), peerflock::identity::IdentityError> {
//! let identity = peerflock::identity::load_or_create("my-game")?;
//! let builder = peerflock::PeerMesh::named("my-game").identity(identity);
//! # Ok(()) }
//! ```
//!
//! Two programs that run at once must not use one identity: to the mesh they would be the same peer.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use peerflock_proto::Identity;
use zeroize::Zeroizing;

/// The length of the file: the secret, nothing else.
const SEED_BYTES: usize = 32;
/// What the file is called in the game's folder.
const FILE_NAME: &str = "identity.key";

/// Why an identity could not be kept. Nothing was overwritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The system does not say where programs keep their settings.
    #[error("no folder for settings: set HOME (or APPDATA on Windows), or name a file with `load_or_create_at`")]
    NoFolder,
    /// The file is not ours, or damaged.
    #[error("{0} holds no identity: it must be {SEED_BYTES} bytes long. Move it away to get a new identity")]
    Damaged(PathBuf),
    /// The file can be neither read nor made.
    #[error("{path} can be neither read nor made: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A fresh identity that nobody has met.
///
/// # Panics
/// When the operating system has no randomness: nothing that is secret can be made then.
pub fn fresh() -> Identity {
    Identity::from_seed(*random())
}

/// The identity kept for `game` in the user's folder for settings, made at the first call.
///
/// # Errors
/// See [`IdentityError`].
pub fn load_or_create(game: &str) -> Result<Identity, IdentityError> {
    load_or_create_at(&game_folder(game).ok_or(IdentityError::NoFolder)?.join(FILE_NAME))
}

/// Where what is kept for `game` lies, in the user's folder for settings. `None` where the system does not say where that is.
pub fn game_folder(game: &str) -> Option<PathBuf> {
    // What a file system may not like in a name is left out.
    let folder: String =
        game.chars().map(|letter| if letter.is_alphanumeric() || "-_".contains(letter) { letter } else { '-' }).collect();
    settings_folder().map(|settings| settings.join("peerflock").join(folder))
}

/// The identity kept in the file at `path`, made at the first call, for the user's eyes only.
///
/// # Errors
/// See [`IdentityError`].
pub fn load_or_create_at(path: &Path) -> Result<Identity, IdentityError> {
    let failed = |source| IdentityError::File { path: path.to_owned(), source };
    match load(path) {
        Ok(Some(identity)) => return Ok(identity),
        Ok(None) => return Err(IdentityError::Damaged(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let seed = random();
    match create(path, &seed) {
        Ok(()) => Ok(Identity::from_seed(*seed)),
        // Another start of the game was quicker: theirs it is.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(path).map_err(failed)?.ok_or_else(|| IdentityError::Damaged(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn load(path: &Path) -> io::Result<Option<Identity>> {
    let mut seed = Zeroizing::new(Vec::with_capacity(SEED_BYTES + 1));
    fs::File::open(path)?.take(SEED_BYTES as u64 + 1).read_to_end(&mut seed)?;
    Ok(seed.as_slice().try_into().ok().map(Identity::from_seed))
}

fn create(path: &Path, seed: &[u8; SEED_BYTES]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(seed)?;
    file.sync_all()
}

fn settings_folder() -> Option<PathBuf> {
    let folder = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute());
    if cfg!(windows) {
        folder("APPDATA")
    } else if cfg!(target_os = "macos") {
        folder("HOME").map(|home| home.join("Library").join("Application Support"))
    } else {
        folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")))
    }
}

/// 32 bytes that nobody can guess.
pub(crate) fn random() -> Zeroizing<[u8; SEED_BYTES]> {
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    // Without randomness there are no secrets and no links; every system that has a network has it.
    getrandom::fill(seed.as_mut_slice()).expect("the operating system provides randomness");
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("peerflock-identity-{}-{name}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        folder.join("game").join(FILE_NAME)
    }

    #[test]
    fn the_second_start_is_the_same_player() {
        let path = scratch("same");
        let first = load_or_create_at(&path).unwrap();
        assert_eq!(load_or_create_at(&path).unwrap().peer_id(), first.peer_id());
        assert_ne!(fresh().peer_id(), first.peer_id());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_not_overwritten() {
        let path = scratch("damaged");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for content in [&[1; 31][..], &[1; 33], b""] {
            fs::write(&path, content).unwrap();
            assert!(matches!(load_or_create_at(&path), Err(IdentityError::Damaged(_))));
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        fs::remove_dir_all(path.parent().unwrap().parent().unwrap()).unwrap();
    }
}
