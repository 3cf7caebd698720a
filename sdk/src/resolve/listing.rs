//! What strangers may know of a mesh before they join it.

use std::collections::BTreeMap;

use super::cut;

/// What resolvers tell strangers about a mesh, so that a lobby can list it. Anybody on the network can read it; anybody in the world, if it is
/// [public](Self::public).
///
/// ```
/// # use peerflock::Listing;
/// let listing = Listing::new("Murmuration").version("1.4").mode("Rome at dusk").players_max(8).data("level", "expert");
/// ```
///
/// All of it fits into one packet: texts are cut to their limits, and pairs beyond theirs are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listing {
    /// Which game is played, cut to [`Listing::GAME_BYTES_MAX`].
    pub game: String,
    /// Which version of it, cut to [`Listing::VERSION_BYTES_MAX`]. Empty says nothing about it.
    pub version: String,
    /// Which of its modes, or which map, cut to [`Listing::MODE_BYTES_MAX`]. Empty says nothing about it.
    pub mode: String,
    /// How many play, if the game counts otherwise than by members: those that only watch are members, too.
    pub players: Option<usize>,
    /// How many may play. 0 says nothing about it.
    pub players_max: usize,
    /// Whether a password or a ticket is needed. Set by itself when the mesh has one.
    pub locked: bool,
    /// Whether to tell of the mesh beyond the local network, wherever its members look for each other: at directories and in the DHT.
    /// Whoever knows the game's name can then find it: its name, what is said here, and the addresses of its members, nothing of its
    /// password. No, unless [asked for](Self::public).
    pub public: bool,
    /// Whatever else the game wants to be known: at most [`Listing::DATA_MAX`] pairs of at most [`Listing::DATA_BYTES_MAX`] together.
    pub data: BTreeMap<String, String>,
}

impl Listing {
    /// The longest name of a game, in bytes of UTF-8.
    pub const GAME_BYTES_MAX: usize = 64;
    /// The longest version of a game, in bytes of UTF-8.
    pub const VERSION_BYTES_MAX: usize = 32;
    /// The longest name of a mode or map, in bytes of UTF-8.
    pub const MODE_BYTES_MAX: usize = 48;
    /// Most pairs in [`data`](Self::data).
    pub const DATA_MAX: usize = 12;
    /// Most bytes of all keys and values together.
    pub const DATA_BYTES_MAX: usize = 320;
    /// The longest key, in bytes of UTF-8.
    pub const KEY_BYTES_MAX: usize = 24;
    /// The longest value, in bytes of UTF-8.
    pub const VALUE_BYTES_MAX: usize = 128;
    /// The most players that can be told.
    pub const PLAYERS_MAX: usize = u16::MAX as usize;

    /// A listing of `game`.
    pub fn new(game: impl Into<String>) -> Self {
        Self { game: game.into(), ..Self::default() }.fit()
    }

    /// The same listing of one version of the game.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self.fit()
    }

    /// The same listing of one of its modes, or maps.
    pub fn mode(mut self, mode: impl Into<String>) -> Self {
        self.mode = mode.into();
        self.fit()
    }

    /// The same listing with `players` that play, whatever the count of members.
    pub fn players(mut self, players: usize) -> Self {
        self.players = Some(players);
        self.fit()
    }

    /// The same listing with room for `players_max`.
    pub fn players_max(mut self, players_max: usize) -> Self {
        self.players_max = players_max;
        self.fit()
    }

    /// The same listing, told of [beyond the local network](Self#structfield.public) or not.
    pub fn public(mut self, public: bool) -> Self {
        self.public = public;
        self
    }

    /// The same listing with `value` under `key`. A key has no `=` in it. What would exceed the limits is left out.
    pub fn data(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.data.insert(key.into(), value.into());
        self.fit()
    }

    /// As it may be told and believed: within its limits, and without control characters.
    pub(crate) fn fit(self) -> Self {
        let mut data = BTreeMap::new();
        let mut bytes = 0;
        for (key, value) in self.data {
            let key = line(key, Self::KEY_BYTES_MAX).replace('=', "");
            let value = line(value, Self::VALUE_BYTES_MAX);
            let length = key.len() + value.len();
            let fits = data.len() < Self::DATA_MAX && bytes + length <= Self::DATA_BYTES_MAX;
            if fits && !key.is_empty() && !data.contains_key(&key) {
                bytes += length;
                data.insert(key, value);
            }
        }
        Self {
            game: line(self.game, Self::GAME_BYTES_MAX),
            version: line(self.version, Self::VERSION_BYTES_MAX),
            mode: line(self.mode, Self::MODE_BYTES_MAX),
            players: self.players.map(|players| players.min(Self::PLAYERS_MAX)),
            players_max: self.players_max.min(Self::PLAYERS_MAX),
            locked: self.locked,
            public: self.public,
            data,
        }
    }
}

/// At most `bytes_max` bytes of `text` on one line.
pub(super) fn line(mut text: String, bytes_max: usize) -> String {
    text.retain(|letter| !letter.is_control());
    cut(text, bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_game_says_is_said() {
        let listing = Listing::new("Murmuration").version("1.4").mode("Rome").players(3).players_max(8).data("level", "expert");
        let data = [("level".to_owned(), "expert".to_owned())].into();
        let (game, version, mode) = ("Murmuration".into(), "1.4".into(), "Rome".into());
        assert_eq!(
            listing,
            Listing { game, version, mode, players: Some(3), players_max: 8, locked: false, public: false, data }
        );
    }

    #[test]
    fn nothing_exceeds_its_limit() {
        let mut listing = Listing::new("ü".repeat(500)).version("v".repeat(500)).mode("two\nlines\u{7}").players(usize::MAX);
        for number in 0..500 {
            listing = listing.data(format!("key {number:03}"), "x".repeat(20));
        }
        assert_eq!(listing.game, "ü".repeat(Listing::GAME_BYTES_MAX / 2));
        assert_eq!((listing.version.len(), listing.mode.as_str()), (Listing::VERSION_BYTES_MAX, "twolines"));
        assert_eq!((listing.players, listing.data.len()), (Some(Listing::PLAYERS_MAX), Listing::DATA_BYTES_MAX / 27));
        let small = (0..500).fold(Listing::default(), |listing, number| listing.data(format!("{number:03}"), ""));
        assert_eq!(small.data.len(), Listing::DATA_MAX);
        let odd = Listing::default().data("", "nothing").data("a=b", "c").data("long", "y".repeat(500)).data("k".repeat(99), "");
        let keys: Vec<&str> = odd.data.keys().map(String::as_str).collect();
        assert_eq!(keys, ["ab", &"k".repeat(Listing::KEY_BYTES_MAX), "long"]);
        assert_eq!(odd.data["long"].len(), Listing::VALUE_BYTES_MAX);
        assert_eq!(odd.clone().fit(), odd, "what fits stays as it is");
    }
}
