//! Opening or joining a room: what the player chose, as a mesh to be started.

use std::collections::BTreeMap;

use peerflock::directory::DirectoryAddress;
use peerflock::{CloseReason, FoundMesh, Identity, Interface, Limits, Listing, PeerMesh, PeerMeshBuilder, StartError, Ticket};

use crate::browse::{self, Stage};
use crate::card::RoomFacts;
use crate::text;

/// Members that a room takes beyond its seats: who watches, and who came at the same moment as somebody else and got no seat.
pub const WATCHERS_MAX: usize = 16;

/// What a player chose for a room.
#[derive(Clone, Debug, Default)]
pub struct RoomOptions {
    /// What to call the player.
    pub player: String,
    /// The network to use; `None` for what `PEERFLOCK_INTERFACE` says, or all.
    pub interface: Option<Interface>,
    /// Whether to watch only, without a seat. Default false.
    pub watch: bool,
    /// The color to take where it is free; `None` for any.
    pub color: Option<u8>,
    /// The player's key; `None` for a fresh one that nobody has met.
    pub identity: Option<Identity>,
    /// The version of the game; rooms of the same game with other versions are shown as such. Empty says nothing.
    pub version: String,
    /// What a room that is opened is about, beside its game: see [`RoomFacts::settings`]. The one called `mode` is shown in lists.
    pub settings: BTreeMap<String, String>,
    /// Directories at which members across the internet find each other. A room that is opened is listed there, too, for all who look for
    /// rooms of its game.
    pub directories: Vec<DirectoryAddress>,
    facts: Option<RoomFacts>,
}

/// Why there is no room, in words for the player. We are not in any room then.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// The name is empty, or nothing in it can be shown.
    #[error("A room needs a name that people can read. Type one, up to 24 letters.")]
    NoName,
    /// The password is wrong.
    #[error("That password does not open this room. Check upper and lower case, or ask whoever invited you.")]
    WrongPassword(#[source] StartError),
    /// The room takes a password, and none was given.
    #[error("This takes a password. Ask whoever invited you.")]
    PasswordNeeded,
    /// Too many wrong passwords.
    #[error("Too many wrong passwords from here. Wait a minute, then try the right one.")]
    LockedOut(#[source] StartError),
    /// No seat is free.
    #[error("This room is full. Wait until somebody leaves, or open a room of your own.")]
    Full(#[source] StartError),
    /// The room speaks another version, or is no room at all.
    #[error(
        "This is a room of another version, or no room but a game. Update Peerflock here and there, or join it from the game."
    )]
    OtherVersion(#[source] StartError),
    /// Nobody answered.
    #[error("Nobody answers in this room any more. It may have just closed; look at the list again.")]
    Gone(#[source] StartError),
    /// Anything else.
    #[error("That did not work: {0}")]
    Start(#[source] StartError),
}

impl RoomOptions {
    /// For a player of this name.
    pub fn new(player: impl Into<String>) -> Self {
        Self { player: player.into(), ..Self::default() }
    }

    /// On this network.
    pub fn on(mut self, interface: Option<Interface>) -> Self {
        self.interface = interface;
        self
    }

    /// Opens a room called `name` for `players_max` players of `game`. A room of that name that is already open is joined
    /// instead, if the password fits.
    ///
    /// # Errors
    /// [`RoomError::NoName`].
    pub fn create(
        &mut self,
        name: &str,
        password: Option<&str>,
        game: &str,
        players_max: u16,
    ) -> Result<PeerMeshBuilder, RoomError> {
        let name = text::clean_name(name);
        if name.is_empty() {
            return Err(RoomError::NoName);
        }
        let password = password.filter(|password| !password.trim().is_empty());
        let facts = RoomFacts::new(game, players_max, password.is_some());
        let facts = facts.version(&self.version).settings(self.settings.clone());
        let builder = self.lock(PeerMesh::named(name), password).limits(seats(facts.players_max)).listing(self.listing(&facts));
        self.facts = Some(facts);
        Ok(self.common(builder))
    }

    /// Joins a room on the list.
    ///
    /// # Errors
    /// [`RoomError::PasswordNeeded`].
    pub fn join(&mut self, found: &FoundMesh, password: Option<&str>) -> Result<PeerMeshBuilder, RoomError> {
        if found.locked && password.is_none_or(str::is_empty) {
            return Err(RoomError::PasswordNeeded);
        }
        let room = browse::RoomInfo::of(found);
        let facts = RoomFacts::new(&room.game, u16::try_from(room.players_max).unwrap_or(u16::MAX), found.locked);
        let mode = (!room.mode.is_empty()).then(|| (RoomFacts::MODE.to_owned(), room.mode.clone()));
        let facts = facts.version(&room.version).settings(mode.into_iter().collect());
        let mut builder = self.lock(PeerMesh::named(found.name.clone()), password.filter(|_| found.locked));
        if room.players_max > 0 {
            builder = builder.limits(seats(facts.players_max)).listing(self.listing(&facts));
            self.facts = Some(facts);
        }
        for address in &found.addresses {
            builder = builder.join_address(*address);
        }
        Ok(self.common(builder))
    }

    /// Joins by invitation. What the room is about is learned inside.
    ///
    /// # Errors
    /// [`RoomError::PasswordNeeded`].
    pub fn join_by_ticket(&mut self, ticket: &Ticket, password: Option<&str>) -> Result<PeerMeshBuilder, RoomError> {
        if ticket.needs_password() && password.is_none_or(str::is_empty) {
            return Err(RoomError::PasswordNeeded);
        }
        self.facts = None;
        let builder = self.lock(PeerMesh::from_ticket(ticket), password.filter(|_| ticket.needs_password()));
        Ok(self.common(builder))
    }

    /// The player's name as others will see it.
    pub(super) fn player_name(&self) -> String {
        text::clean_name(&self.player)
    }

    pub(super) fn facts(&self) -> Option<RoomFacts> {
        self.facts.clone()
    }

    fn listing(&self, facts: &RoomFacts) -> Listing {
        listing(facts).public(!self.directories.is_empty())
    }

    fn lock(&self, builder: PeerMeshBuilder, password: Option<&str>) -> PeerMeshBuilder {
        match password {
            Some(password) => builder.password(password),
            None => builder,
        }
    }

    fn common(&self, builder: PeerMeshBuilder) -> PeerMeshBuilder {
        let mut builder = builder.player(self.player_name());
        if let Some(identity) = &self.identity {
            builder = builder.identity(identity.clone());
        }
        for directory in &self.directories {
            builder = builder.directory(directory.clone());
        }
        match &self.interface {
            Some(interface) => builder.interface(interface.clone()),
            None => builder,
        }
    }
}

impl From<StartError> for RoomError {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Refused { reason, .. } => match reason {
                CloseReason::Refused => Self::WrongPassword(error),
                CloseReason::LockedOut => Self::LockedOut(error),
                CloseReason::MeshFull | CloseReason::Full => Self::Full(error),
                CloseReason::Version | CloseReason::Registry => Self::OtherVersion(error),
                _ => Self::Start(error),
            },
            StartError::NobodyThere { .. } => Self::Gone(error),
            StartError::PasswordNeeded { .. } => Self::PasswordNeeded,
            _ => Self::Start(error),
        }
    }
}

fn seats(players_max: u16) -> Limits {
    Limits { members: usize::from(players_max) + WATCHERS_MAX, ..Limits::default() }
}

/// What strangers on the network are told of a room.
pub(super) fn listing(facts: &RoomFacts) -> Listing {
    let listing = Listing::new(browse::listed_game(&facts.game, Stage::Gathering)).players_max(facts.players_max.into());
    listing.version(facts.version.clone()).mode(facts.mode())
}
