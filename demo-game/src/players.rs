//! Who plays: names, colors and birds, counted anew in every frame for whoever shows or weighs them.

use std::collections::HashMap;

use bevy::prelude::*;
use bevy_peerflock::prelude::*;

use crate::palette;
use crate::settings::{BOT, Settings, WATCHER};
use crate::world::{Bird, Leader, clean};

/// Longest name shown, in bytes.
const NAME_BYTES_MAX: usize = 24;

/// All members of the mesh, ourselves included, in the order of their identifiers.
#[derive(Debug, Default, Resource)]
pub(crate) struct Players(Vec<Player>);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) peer: PeerId,
    /// Fit to be shown.
    pub(crate) name: String,
    /// Of its flock.
    pub(crate) color: u8,
    /// Rounds won.
    pub(crate) wins: u16,
    /// Birds led.
    pub(crate) birds: usize,
    pub(crate) me: bool,
    pub(crate) bot: bool,
    /// Where its leader is shown; none where it has not arrived yet.
    pub(crate) leader: Option<Vec2>,
    /// The middle of its birds, if it has any.
    pub(crate) middle: Option<Vec2>,
}

impl Players {
    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Player> + Clone {
        self.0.iter()
    }

    /// The one who is `peer`.
    pub(crate) fn get(&self, peer: PeerId) -> Option<&Player> {
        self.index(peer).map(|index| &self.0[index])
    }

    /// Ourselves.
    pub(crate) fn me(&self) -> Option<&Player> {
        self.0.iter().find(|player| player.me)
    }

    /// Its place among all.
    pub(crate) fn index(&self, peer: PeerId) -> Option<usize> {
        self.0.binary_search_by_key(&peer, |player| player.peer).ok()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All of them, the largest flock first; equal ones in the same order for everybody.
    pub(crate) fn ranking(&self) -> Vec<&Player> {
        let mut ranking: Vec<&Player> = self.0.iter().collect();
        ranking.sort_by_key(|player| (std::cmp::Reverse(player.birds), player.peer));
        ranking
    }

    /// Who leads more birds than any other, if one does.
    pub(crate) fn winner(&self) -> Option<&Player> {
        match self.ranking()[..] {
            [first] => Some(first),
            [first, second, ..] if first.birds > second.birds => Some(first),
            _ => None,
        }
    }

    /// All birds there are.
    pub(crate) fn birds(&self) -> usize {
        self.0.iter().map(|player| player.birds).sum()
    }
}

/// Counts everybody's birds.
pub(crate) fn count(
    mesh: Res<MeshHandle>,
    settings: Res<Settings>,
    peers: Res<Peers>,
    leaders: Query<(&Owner, &Leader, &Transform)>,
    birds: Query<(&Owner, &Transform), With<Bird>>,
    mut players: ResMut<Players>,
) {
    let mut flocks: HashMap<PeerId, (usize, Vec2)> = HashMap::new();
    for (owner, transform) in &birds {
        let (count, sum) = flocks.entry(owner.0).or_default();
        *count += 1;
        *sum += transform.translation.truncate();
    }
    let led: HashMap<PeerId, (&Leader, Vec2)> =
        leaders.iter().map(|(owner, leader, transform)| (owner.0, (leader, transform.translation.truncate()))).collect();
    let player = |peer: PeerId, name: &str, me: bool, bot: bool| {
        let leader = led.get(&peer);
        let (birds, sum) = flocks.get(&peer).copied().unwrap_or_default();
        Player {
            peer,
            name: Some(clean(name, NAME_BYTES_MAX)).filter(|name| !name.is_empty()).unwrap_or_else(|| peer.short()),
            color: leader.map_or_else(|| palette::wish(peer), |(leader, _)| leader.color),
            wins: leader.map_or(0, |(leader, _)| leader.wins),
            birds,
            me,
            bot,
            leader: leader.map(|(_, position)| *position),
            middle: (birds > 0).then(|| sum / birds as f32),
        }
    };
    // Who only watches is no player.
    let playing = peers.iter().filter(|(_, profile)| &*profile.data != WATCHER);
    let others = playing.map(|(peer, profile)| player(peer, &profile.name, false, &*profile.data == BOT));
    let me = (!settings.watch).then(|| player(mesh.id(), &settings.name, true, settings.bot));
    players.0 = others.chain(me).collect();
    players.0.sort_by_key(|player| player.peer);
}

#[cfg(test)]
impl Players {
    /// Players with so many birds each, numbered from 0; the first is ourselves.
    pub(crate) fn with_birds(birds: &[usize]) -> Self {
        let player = |(index, birds): (usize, &usize)| Player {
            peer: PeerId([index as u8; 32]),
            name: format!("Player {index}"),
            color: index as u8,
            wins: 0,
            birds: *birds,
            me: index == 0,
            bot: false,
            leader: None,
            middle: None,
        };
        Self(birds.iter().enumerate().map(player).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_flock_wins_and_only_if_there_is_one() {
        assert_eq!(Players::with_birds(&[3, 9, 4]).winner().map(|winner| winner.birds), Some(9));
        assert!(Players::with_birds(&[3, 9, 9]).winner().is_none());
        assert!(Players::with_birds(&[]).winner().is_none());
        let players = Players::with_birds(&[1, 2, 2]);
        let ranked: Vec<usize> = players.ranking().iter().filter_map(|player| players.index(player.peer)).collect();
        assert_eq!((ranked, players.birds()), (vec![1, 2, 0], 5));
    }
}
