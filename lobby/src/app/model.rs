//! What the window shows, and nothing about how.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bevy::prelude::*;
use peerflock::directory::DirectoryAddress;
use peerflock::resolve::Browser;
use peerflock::{FoundMesh, Interface, MeshId, PeerId, StartingMesh, Ticket};
use peerflock_lobby::browse::{self, in_order};
use peerflock_lobby::{Filter, Launch, QrSquare, Room, RoomInfo, RoomMember, RoomOptions, Settings, Stage};

/// How long a notice stays.
const NOTICE_STAYS: Duration = Duration::from_secs(8);
/// Looking for less than this, nobody can say yet that there is nothing.
const LOOK_AROUND: Duration = Duration::from_millis(2_500);
/// Everything.
#[derive(Resource)]
pub(crate) struct Model {
    /// What to call the player.
    pub(crate) player: String,
    /// What is remembered from one day to the next.
    pub(crate) settings: Settings,
    /// What of the list is to be seen.
    pub(crate) filter: Filter,
    /// The network to use, where it was said.
    pub(crate) interface: Option<Interface>,
    /// Directories at which rooms of all the world are.
    pub(crate) directories: Vec<DirectoryAddress>,
    /// Looks for meshes; `None` when the system does not let us.
    pub(crate) browser: Option<Browser>,
    /// Why it does not.
    pub(crate) blind: Option<String>,
    /// Since when we look.
    pub(crate) looking_since: Instant,
    /// What was found, as it was found and as it is shown, in the same order.
    pub(crate) found: Vec<(FoundMesh, RoomInfo)>,
    /// What is in front of everything.
    pub(crate) dialog: Option<Dialog>,
    /// The room being entered.
    pub(crate) entering: Option<Entering>,
    /// The room we are in.
    pub(crate) visit: Option<Visit>,
    /// The game on its way or under way.
    pub(crate) play: Option<Play>,
    /// Something to be told.
    pub(crate) notice: Option<Notice>,
}

/// A question in front of everything.
pub(crate) struct Dialog {
    /// What it is about.
    pub(crate) about: About,
    /// What was wrong with the last answer.
    pub(crate) wrong: Option<String>,
    /// Whether the password is shown.
    pub(crate) peek: bool,
}

/// What a dialog is about.
#[derive(Clone)]
pub(crate) enum About {
    /// Opening a room with so many seats.
    OpenRoom { seats: u16 },
    /// The password of a room or game on the list.
    Password { found: Box<FoundMesh> },
    /// The password of a room that an invitation leads to.
    InvitePassword { ticket: Ticket },
    /// An invitation.
    Invite,
    /// Whether to leave the room.
    Leave,
    /// An invitation to the room that we are in, to be copied, or read by a camera.
    Share { ticket: Ticket, code: Option<QrSquare> },
    /// What to do about somebody in the room.
    Member { peer: PeerId },
    /// What the owner decides about the room.
    Door,
    /// The player's own settings.
    Settings,
}

/// On the way into a room.
pub(crate) struct Entering {
    pub(crate) name: String,
    pub(crate) mesh: StartingMesh,
    pub(crate) options: RoomOptions,
    /// Where a wrong password leads back to.
    pub(crate) again: Option<About>,
}

/// In a room.
pub(crate) struct Visit {
    pub(crate) room: Room,
    /// Who is here, as last looked at.
    pub(crate) members: Vec<RoomMember>,
    /// Somebody's game is opening: who agreed waits for it.
    pub(crate) opening: Option<String>,
    /// Whom we do not want to hear.
    pub(crate) muted: BTreeSet<PeerId>,
    /// Whether the room is remembered as one that we were in.
    pub(crate) remembered: bool,
}

/// A game on its way or under way.
pub(crate) struct Play {
    pub(crate) launch: Launch,
    /// The secret that the room waits for, until the game is open.
    pub(crate) promised: Option<([u8; 32], String)>,
    /// What is to be said about it.
    pub(crate) status: String,
    /// The question to come back to when its mesh would not have us.
    pub(crate) again: Option<About>,
}

/// Something to be told, for a while.
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) bad: bool,
    until: Instant,
}

impl Visit {
    pub(crate) fn new(room: Room) -> Self {
        Self { members: room.members(), room, opening: None, muted: BTreeSet::new(), remembered: false }
    }
}

impl Model {
    pub(crate) fn new(
        player: String,
        interface: Option<Interface>,
        directories: Vec<DirectoryAddress>,
        settings: Settings,
    ) -> Self {
        let (browser, blind) = match browse::browser(interface.clone(), &directories) {
            Ok(browser) => (Some(browser), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Self {
            player,
            settings,
            filter: Filter::default(),
            interface,
            directories,
            browser,
            blind,
            looking_since: Instant::now(),
            found: Vec::new(),
            dialog: None,
            entering: None,
            visit: None,
            play: None,
            notice: None,
        }
    }

    /// Puts `about` in front.
    pub(crate) fn ask(&mut self, about: About, wrong: Option<String>) {
        if let Some(wrong) = &wrong {
            tracing::info!(target: "peerflock::lobby", wrong, "asked again");
        }
        self.dialog = Some(Dialog { about, wrong, peek: false });
    }

    /// Tells something good or bad.
    pub(crate) fn tell(&mut self, text: impl Into<String>, bad: bool) {
        let text = text.into();
        tracing::info!(target: "peerflock::lobby", notice = text, bad);
        self.notice = Some(Notice { text, bad, until: Instant::now() + NOTICE_STAYS });
    }

    /// Takes notices away that were there long enough.
    pub(crate) fn forget_notice(&mut self, now: Instant) {
        self.notice.take_if(|notice| now >= notice.until);
    }

    /// The line of the list for `mesh`.
    pub(crate) fn info(&self, mesh: MeshId) -> Option<&RoomInfo> {
        self.found.iter().map(|(_, info)| info).find(|info| info.mesh == mesh)
    }

    /// The lines of the list to be seen, in their order.
    pub(crate) fn shown(&self) -> Vec<&RoomInfo> {
        let mut shown: Vec<&RoomInfo> = self.found.iter().map(|(_, info)| info).filter(|info| self.filter.fits(info)).collect();
        in_order(&mut shown, |info| info, &self.settings.favorites);
        shown
    }

    /// What is remembered is written down. What the system says against it is told once, not at every click.
    pub(crate) fn remember(&self) {
        if let Err(error) = self.settings.save() {
            tracing::warn!(%error, "the settings could not be saved");
        }
    }

    /// How many seconds it still counts down.
    pub(crate) fn countdown(&self) -> Option<u64> {
        let left = self.visit.as_ref()?.room.countdown(Instant::now())?;
        Some(left.as_millis().div_ceil(1_000) as u64)
    }

    /// Whether others play already, and we could go after them.
    pub(crate) fn can_follow(&self) -> bool {
        let Some(visit) = &self.visit else { return false };
        self.play.is_none() && visit.room.can_join_running()
    }

    /// Whether there was time to find anything.
    pub(crate) fn has_looked(&self) -> bool {
        self.looking_since.elapsed() > LOOK_AROUND
    }

    /// The member of the room with this place in the list.
    pub(crate) fn member(&self, peer: PeerId) -> Option<&RoomMember> {
        self.visit.as_ref()?.members.iter().find(|member| member.peer == peer)
    }

    /// Why Start cannot be pressed now, or `None` if it can.
    pub(crate) fn why_not_start(&self) -> Option<String> {
        let visit = self.visit.as_ref()?;
        if self.play.is_some() {
            return Some("The game is running.".into());
        }
        if let Some(seconds) = self.countdown().filter(|seconds| *seconds > 0) {
            return Some(format!("The game starts in {seconds} s. Anybody can stop it."));
        }
        if visit.room.is_starting() {
            return Some("Starting...".into());
        }
        let late: Vec<&str> = visit
            .members
            .iter()
            .filter(|member| !member.me && member.seated && !member.ready)
            .map(|member| member.name.as_str())
            .collect();
        match late[..] {
            [] => None,
            [one] => Some(format!("Waiting for {one} to be ready.")),
            [one, two] => Some(format!("Waiting for {one} and {two} to be ready.")),
            [one, .., last] => Some(format!("Waiting for {one}, {last} and {} more.", late.len() - 2)),
        }
    }
}

/// What pressing the button of a line on the list does.
pub(crate) fn way_in(info: &RoomInfo) -> &'static str {
    match info.stage {
        // A game has no place to watch it from.
        Stage::Playing if info.is_full() => "Full",
        Stage::Playing => "Play",
        Stage::Gathering if info.is_full() => "Watch",
        Stage::Gathering => "Join",
    }
}

impl About {
    /// Seats of a room unless chosen otherwise.
    pub(crate) const SEATS: u16 = 8;

    pub(crate) fn open_room() -> Self {
        Self::OpenRoom { seats: Self::SEATS }
    }
}
