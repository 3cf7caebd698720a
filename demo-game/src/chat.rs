//! What is said and what happens: one list of lines, for the window, the terminal and the log alike.

use std::collections::VecDeque;

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::players::{Players, count};
use crate::world::{CHAT_BYTES_MAX, ChatLine, clean};

/// Most lines kept.
const LINES_MAX: usize = 100;
/// Most lines of one speaker that are taken within [`FLOOD_SECONDS`]; whoever says more is not listened to meanwhile.
const FLOOD_LINES: usize = 8;
/// See [`FLOOD_LINES`].
const FLOOD_SECONDS: f64 = 4.0;

/// Say this to everyone.
#[derive(Clone, Debug, Message)]
pub(crate) struct Say(pub(crate) String);

/// What was said and what happened, oldest first.
#[derive(Debug, Default, Resource)]
pub(crate) struct Feed {
    lines: VecDeque<Line>,
    /// How many lines there ever were: a reader that remembers it knows what is new.
    pub(crate) count: u64,
}

/// One of those lines.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Seconds on the program's own clock.
    pub(crate) at: f64,
    /// Who said it; none for what merely happened.
    pub(crate) speaker: Option<Speaker>,
    /// Fit to be shown.
    pub(crate) text: String,
    /// The color of the flock it is about, if it is about one.
    pub(crate) color: Option<u8>,
}

/// Who said something, as it was called then.
#[derive(Clone, Debug)]
pub(crate) struct Speaker {
    pub(crate) peer: Option<PeerId>,
    pub(crate) name: String,
}

impl Feed {
    /// Adds what happened.
    pub(crate) fn notice(&mut self, at: f64, text: impl Into<String>, color: Option<u8>) {
        self.push(Line { at, speaker: None, text: text.into(), color });
    }

    /// The lines still kept, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Line> + ExactSizeIterator {
        self.lines.iter()
    }

    /// Adds what somebody said, unless there is nothing to show or it talks without end.
    fn hear(&mut self, at: f64, speaker: Speaker, text: &str, color: Option<u8>) {
        let text = clean(text, CHAT_BYTES_MAX);
        let recent = self.lines.iter().rev().take_while(|line| at - line.at < FLOOD_SECONDS);
        let said = recent.filter(|line| line.speaker.as_ref().is_some_and(|other| other.peer == speaker.peer)).count();
        if !text.is_empty() && said < FLOOD_LINES {
            self.push(Line { at, speaker: Some(speaker), text, color });
        }
    }

    fn push(&mut self, line: Line) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.count += 1;
    }
}

/// How many lines we said.
#[derive(Debug, Default, Resource)]
pub(crate) struct Said(pub(crate) u32);

pub(crate) fn plugin(app: &mut App) {
    app.init_resource::<Feed>()
        .init_resource::<Said>()
        .add_message::<Say>()
        .add_systems(PreUpdate, notice_comings_and_goings.before(count))
        .add_systems(Update, (hear, speak).chain().run_if(resource_exists::<MeshHandle>));
}

fn speak(
    time: Res<Time>,
    players: Res<Players>,
    mut asked: MessageReader<Say>,
    mut lines: MessageWriter<ToMesh<ChatLine>>,
    mut said: ResMut<Said>,
    mut feed: ResMut<Feed>,
) {
    for Say(text) in asked.read() {
        let text = clean(text, CHAT_BYTES_MAX);
        if text.is_empty() {
            continue;
        }
        let me = players.me();
        let speaker = Speaker { peer: me.map(|me| me.peer), name: me.map_or_else(String::new, |me| me.name.clone()) };
        feed.hear(time.elapsed_secs_f64(), speaker, &text, me.map(|me| me.color));
        // Alone, one talks to oneself.
        if players.len() > 1 {
            lines.write(ToMesh::all(ChatLine { number: said.0, text }));
            said.0 += 1;
        }
    }
}

fn hear(time: Res<Time>, players: Res<Players>, mut heard: MessageReader<FromMesh<ChatLine>>, mut feed: ResMut<Feed>) {
    for line in heard.read() {
        let player = players.get(line.from);
        let speaker =
            Speaker { peer: Some(line.from), name: player.map_or_else(|| line.from.short(), |player| player.name.clone()) };
        feed.hear(time.elapsed_secs_f64(), speaker, &line.message.text, player.map(|player| player.color));
    }
}

/// Runs before the players are counted anew, so that the leaver's last count is still there.
fn notice_comings_and_goings(
    time: Res<Time>,
    players: Res<Players>,
    mut mesh: MessageReader<MeshEvent>,
    mut peers: MessageReader<PeerEvent>,
    mut feed: ResMut<Feed>,
) {
    let now = time.elapsed_secs_f64();
    for event in mesh.read() {
        match event {
            MeshEvent::Refused { address, reason } => feed.notice(now, format!("{address} refused us: {reason}"), None),
            MeshEvent::Removed { .. } => feed.notice(now, "You were removed from this game", None),
            MeshEvent::SendFailed { error, .. } => feed.notice(now, format!("Not sent: {error}"), None),
            _ => {}
        }
    }
    for event in peers.read() {
        match event {
            PeerEvent::Joined { profile, peer } => {
                let name = Some(clean(&profile.name, 24)).filter(|name| !name.is_empty()).unwrap_or_else(|| peer.short());
                feed.notice(now, format!("{name} joined the flock"), None);
            }
            PeerEvent::Left { peer, farewell } => {
                let Some(player) = players.get(*peer) else { continue };
                let how = match farewell {
                    Farewell::Left => "left",
                    Farewell::Lost => "vanished",
                    Farewell::Removed => "was removed",
                };
                let birds = match player.birds {
                    0 => String::new(),
                    1 => "; 1 bird finds a new flock".into(),
                    birds => format!("; {birds} birds find new flocks"),
                };
                feed.notice(now, format!("{} {how}{birds}", player.name), Some(player.color));
            }
            PeerEvent::Changed { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speaker(id: u8) -> Speaker {
        Speaker { peer: Some(PeerId([id; 32])), name: "x".into() }
    }

    #[test]
    fn whoever_talks_without_end_is_cut_off_and_others_are_not() {
        let mut feed = Feed::default();
        for _ in 0..50 {
            feed.hear(1.0, speaker(1), "spam", None);
        }
        feed.hear(1.5, speaker(2), "hello", None);
        assert_eq!(feed.iter().len(), FLOOD_LINES + 1);
        feed.hear(1.1 + FLOOD_SECONDS, speaker(1), "sorry", None);
        assert_eq!(feed.iter().next_back().map(|line| line.text.as_str()), Some("sorry"));
    }

    #[test]
    fn the_feed_is_bounded_and_shows_no_empty_lines() {
        let mut feed = Feed::default();
        feed.hear(0.0, speaker(1), " \u{200b} ", None);
        assert_eq!(feed.iter().len(), 0);
        for at in 0..3 * LINES_MAX {
            feed.notice(at as f64, "x", None);
        }
        assert_eq!((feed.iter().len(), feed.count), (LINES_MAX, 3 * LINES_MAX as u64));
    }
}
