//! What all players share: the sky they fly in, the components and the messages.

use bevy::math::{Rect, Vec2};
use bevy::prelude::*;
use bevy_peerflock::{Group, Quantized};
use serde::{Deserialize, Serialize};

/// The part of the world that every window shows, in world units around the origin.
pub(crate) const VIEW: Vec2 = Vec2::new(1920.0, 1080.0);
/// The part of it that is sky to fly in.
pub(crate) const SKY: Rect = Rect { min: Vec2::new(-930.0, -345.0), max: Vec2::new(930.0, 505.0) };
/// Most birds in one sky: whoever joins a mesh that has as many brings none, and gets its share at the next round.
pub(crate) const BIRDS_MAX: usize = 2_000;
/// The birds a player brings along unless told otherwise.
pub(crate) const BIRDS: usize = 60;
/// Most bytes of a chat line.
pub(crate) const CHAT_BYTES_MAX: usize = 240;

/// A bird. It is its owner who flies it; should the owner leave, another adopts it.
#[derive(Clone, Component, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Bird {
    /// Sets it a little apart from others: its size, the beat of its wings, its place in the flock.
    pub(crate) plumage: u8,
}

/// The starling that a player steers. It leaves with its player.
#[derive(Clone, Component, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Leader {
    /// The color of its flock: see [`palette`](crate::palette).
    pub(crate) color: u8,
    /// How many rounds its player has won.
    pub(crate) wins: u16,
}

/// On the leaders of a measured run: the wall clock when its owner last ticked, in milliseconds, cut to 32 bits.
///
/// A measured run is processes of one machine, so that its clock is everybody's.
#[derive(Clone, Component, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pulse(pub(crate) u32);

impl Quantized for Pulse {
    const GROUPS: &'static [Group] = &[Group::Motion(1)];

    fn quantize(&self, fields: &mut [i32]) {
        fields[0] = self.0.cast_signed();
    }

    fn restore(fields: &[i32]) -> Self {
        Self(fields.first().map_or(0, |stamp| stamp.cast_unsigned()))
    }
}

/// Something said to everyone.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ChatLine {
    /// Counts the speaker's lines from 0, so that a reader can tell a line that came twice from one said twice.
    pub(crate) number: u32,
    /// What was said; see [`clean`].
    pub(crate) text: String,
}

/// Text from somebody else made fit to be shown: one line, nothing invisible, at most `bytes_max` bytes.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    let mut clean = String::new();
    for letter in text.trim().chars().map(|letter| if letter.is_whitespace() { ' ' } else { letter }) {
        // Control characters would move the terminal's cursor; the bidirectional ones turn the rest of a line around.
        let unseen =
            letter.is_control() || matches!(letter, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        if clean.len() + letter.len_utf8() > bytes_max {
            break;
        }
        if !unseen {
            clean.push(letter);
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_say_is_tamed() {
        assert_eq!(clean("  hi\n\tthere \x1b[2J\u{202e}x ", 100), "hi  there [2Jx");
        assert_eq!(clean("ééé", 5), "éé");
        assert_eq!(clean(&"a".repeat(1_000), CHAT_BYTES_MAX).len(), CHAT_BYTES_MAX);
    }

    #[test]
    fn a_pulse_survives_as_an_integer() {
        for stamp in [0, 1, u32::MAX / 2 + 7, u32::MAX] {
            let mut fields = [0];
            Pulse(stamp).quantize(&mut fields);
            assert_eq!(Pulse::restore(&fields), Pulse(stamp));
        }
    }
}
