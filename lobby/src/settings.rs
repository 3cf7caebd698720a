//! What a player's lobby remembers from one day to the next, in one small file that people can read.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use peerflock::{Identity, Ticket, identity};
use serde::{Deserialize, Serialize};

use crate::card::COLORS;
use crate::text;

/// What the lobby's folder is called, beside those of games.
const FOLDER: &str = "lobby";
/// What the file is called in it.
const FILE_NAME: &str = "settings.json";
/// Most of the file that is read, in bytes: it holds what is counted below, and nothing else.
const FILE_BYTES_MAX: u64 = 256 * 1_024;
/// Rooms remembered as recent.
pub const RECENT_MAX: usize = 12;
/// Rooms that can be favorites.
pub const FAVORITES_MAX: usize = 200;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// What the player wants to be called; empty where it was never said.
    pub player: String,
    /// The color to take where it is free; `None` for any.
    pub color: Option<u8>,
    /// Whether others meet the same player again the next time, by the same key.
    pub keep_identity: bool,
    /// Names of rooms to be shown first.
    pub favorites: BTreeSet<String>,
    /// Where the player has been, latest first.
    pub recent: Vec<Recent>,
    /// Where the file is; `None` where the system has no folder for it: then nothing is kept.
    #[serde(skip)]
    path: Option<PathBuf>,
}

/// A room that the player has been in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recent {
    /// What it is called.
    pub name: String,
    /// The game.
    pub game: String,
    /// How to come back, as long as somebody is there: an invitation, without any password.
    pub ticket: String,
}

impl Settings {
    /// The settings in the user's folder for such, or fresh ones. What cannot be read is left as it is, and fresh settings are used.
    pub fn load() -> Self {
        match identity::game_folder(FOLDER) {
            Some(folder) => Self::load_from(folder.join(FILE_NAME)),
            None => Self::default(),
        }
    }

    /// The same, in this file.
    pub fn load_from(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let mut settings = match read(&path).map(|text| serde_json::from_str::<Self>(&text)) {
            Ok(Ok(settings)) => settings.cleaned(),
            Ok(Err(error)) => {
                // Somebody may want to mend it by hand: it is not overwritten.
                tracing::warn!(%error, ?path, "the settings could not be read; this time nothing is remembered");
                return Self::default();
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, ?path, "the settings could not be read");
                }
                Self::default()
            }
        };
        settings.path = Some(path);
        settings
    }

    /// Writes them down; the old file stays until the new one is whole.
    ///
    /// # Errors
    /// When the system refuses. The old settings are still there then.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // Where somebody has been is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(fresh, path)
    }

    /// The player's key: the one that is kept, or a fresh one for today.
    pub fn identity(&self) -> Identity {
        let kept = self.keep_identity.then(|| identity::load_or_create(FOLDER));
        match kept {
            Some(Ok(identity)) => identity,
            Some(Err(error)) => {
                tracing::warn!(%error, "the identity could not be kept; a fresh one is used");
                identity::fresh()
            }
            None => identity::fresh(),
        }
    }

    /// Makes a room a favorite, or no longer. Says whether it is one now.
    pub fn toggle_favorite(&mut self, room: &str) -> bool {
        if self.favorites.remove(room) {
            return false;
        }
        self.favorites.len() < FAVORITES_MAX && self.favorites.insert(room.to_owned())
    }

    /// Remembers that we are in this room.
    pub fn visited(&mut self, game: &str, ticket: &Ticket) {
        let name = text::clean_name(ticket.name());
        self.recent.retain(|recent| recent.name != name);
        self.recent.insert(0, Recent { name, game: game.to_owned(), ticket: ticket.to_string() });
        self.recent.truncate(RECENT_MAX);
    }

    fn cleaned(mut self) -> Self {
        self.player = text::clean_name(&self.player);
        self.color = self.color.filter(|color| *color < COLORS);
        self.favorites = self.favorites.iter().map(|name| text::clean_name(name)).take(FAVORITES_MAX).collect();
        self.recent.retain(|recent| recent.ticket.parse::<Ticket>().is_ok());
        for recent in &mut self.recent {
            (recent.name, recent.game) = (text::clean_name(&recent.name), text::clean_name(&recent.game));
        }
        self.recent.truncate(RECENT_MAX);
        self
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(what: &str) -> PathBuf {
        std::env::temp_dir().join(format!("peerflock-settings-{what}-{}", std::process::id())).join(FILE_NAME)
    }

    fn ticket(name: &str) -> Ticket {
        peerflock::PeerMesh::named(name).loopback_only().lan(false).start_in_background().wait().unwrap().ticket()
    }

    #[test]
    fn they_come_back() {
        let path = place("back");
        let mut settings = Settings::load_from(&path);
        assert_eq!(settings, Settings { path: Some(path.clone()), ..Settings::default() });
        settings.player = "Ada".into();
        settings.color = Some(3);
        assert!(settings.toggle_favorite("Friday") && settings.toggle_favorite("Sunday") && !settings.toggle_favorite("Sunday"));
        let (one, two) = (ticket("one"), ticket("two"));
        [&one, &two, &one].into_iter().for_each(|ticket| settings.visited("Murmuration", ticket));
        assert_eq!(settings.recent.iter().map(|recent| recent.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        settings.save().unwrap();
        assert_eq!(Settings::load_from(&path), settings);
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions()) & 0o077, 0);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn what_somebody_broke_is_neither_used_nor_lost() {
        let path = place("broken");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "{ \"player\": ").unwrap();
        let settings = Settings::load_from(&path);
        assert_eq!(settings, Settings::default());
        settings.save().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{ \"player\": ");
        fs::write(&path, r#"{"player":"\u202ex","color":99,"recent":[{"name":"a","game":"b","ticket":"no"}],"later":1}"#)
            .unwrap();
        let settings = Settings::load_from(&path);
        assert_eq!((settings.player.as_str(), settings.color, settings.recent.len()), ("x", None, 0));
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
