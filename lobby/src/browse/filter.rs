//! Which of the rooms around somebody wants to see, in which order, and which one is the best to walk into.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{RoomInfo, Stage};

/// Round trips that feel alike: within such a step, company counts more than distance.
const NEAR_STEP: Duration = Duration::from_millis(40);
/// What an unmeasured round trip counts as.
const UNMEASURED: Duration = Duration::from_millis(200);

/// What a player wants to see of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Every word of this is in the room's name, game, mode or version, in upper or lower case.
    pub search: String,
    /// Only where a seat is free.
    pub free: bool,
    /// Only where no password is asked for.
    pub open: bool,
    /// Only where players still gather.
    pub gathering: bool,
    /// Only of this game; empty for all.
    pub game: String,
}

impl Filter {
    /// Whether anything is left out.
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }

    /// Whether this room is to be seen.
    pub fn fits(&self, room: &RoomInfo) -> bool {
        let shown = format!("{} {} {} {}", room.name, room.game, room.mode, room.version).to_lowercase();
        (!self.free || !room.is_full())
            && (!self.open || !room.locked)
            && (!self.gathering || room.stage == Stage::Gathering)
            && (self.game.is_empty() || room.game.eq_ignore_ascii_case(&self.game))
            && self.search.to_lowercase().split_whitespace().all(|word| shown.contains(word))
    }
}

/// Rooms in the order in which people want to read them: favorites, then where they can go, then by name.
pub fn in_order<T>(rooms: &mut [T], info: impl Fn(&T) -> &RoomInfo, favorites: &BTreeSet<String>) {
    rooms.sort_by_cached_key(|room| {
        let room = info(room);
        (!favorites.contains(&room.name), room.is_full(), room.name.to_lowercase(), room.mesh)
    });
}

/// The best room for somebody who only wants to play `game` in this `version`: one that gathers, is open and has a free seat;
/// among those the near ones, and of the near ones the fullest. `None` says: open one.
pub fn quick_match<'a>(rooms: impl IntoIterator<Item = &'a RoomInfo>, game: &str, version: &str) -> Option<&'a RoomInfo> {
    let wanted = Filter { free: true, open: true, gathering: true, game: game.to_owned(), ..Filter::default() };
    let plays = |room: &RoomInfo| version.is_empty() || room.version.is_empty() || room.version == version;
    rooms.into_iter().filter(|room| wanted.fits(room) && plays(room)).min_by_key(|room| {
        let steps = room.round_trip.unwrap_or(UNMEASURED).as_micros() / NEAR_STEP.as_micros();
        (steps, std::cmp::Reverse(room.players), room.mesh)
    })
}

#[cfg(test)]
mod tests {
    use peerflock::MeshId;

    use super::*;

    fn room(name: &str, players: usize, round_trip_ms: u64) -> RoomInfo {
        RoomInfo {
            name: name.into(),
            game: "Murmuration".into(),
            version: "1.2".into(),
            mode: "duel".into(),
            stage: Stage::Gathering,
            players,
            players_max: 8,
            locked: false,
            round_trip: Some(Duration::from_millis(round_trip_ms)),
            mesh: MeshId([name.len() as u8; 32]),
        }
    }

    #[test]
    fn words_are_looked_for_everywhere_and_all_of_them() {
        let hall = room("The Great Hall", 3, 10);
        let search = |text: &str| Filter { search: text.into(), ..Filter::default() }.fits(&hall);
        assert!(search("") && search("great") && search("HALL duel") && search("murm 1.2"));
        assert!(!search("great kitchen"));
    }

    #[test]
    fn filters_leave_out_what_they_say() {
        let free = room("a", 3, 10);
        let full = RoomInfo { players: 8, ..free.clone() };
        let locked = RoomInfo { locked: true, ..free.clone() };
        let playing = RoomInfo { stage: Stage::Playing, ..free.clone() };
        let fits = |filter: &Filter| [&free, &full, &locked, &playing].map(|room| filter.fits(room));
        assert_eq!(fits(&Filter::default()), [true; 4]);
        assert_eq!(fits(&Filter { free: true, ..Filter::default() }), [true, false, true, true]);
        assert_eq!(fits(&Filter { open: true, ..Filter::default() }), [true, true, false, true]);
        assert_eq!(fits(&Filter { gathering: true, ..Filter::default() }), [true, true, true, false]);
        assert_eq!(fits(&Filter { game: "chess".into(), ..Filter::default() }), [false; 4]);
    }

    #[test]
    fn the_best_room_is_near_and_has_company() {
        let far = room("far", 7, 180);
        let near = room("near", 2, 12);
        let busy = room("busy one", 5, 30);
        let full = RoomInfo { players: 8, ..room("full", 8, 1) };
        let locked = RoomInfo { locked: true, ..room("locked", 6, 1) };
        let other = RoomInfo { version: "0.9".into(), ..room("of old", 6, 1) };
        let all = [far.clone(), near, busy.clone(), full.clone(), locked, other];
        assert_eq!(quick_match(&all, "murmuration", "1.2"), Some(&busy));
        assert_eq!(quick_match(&[full, far.clone()], "murmuration", "1.2"), Some(&far));
        assert_eq!(quick_match(&[], "murmuration", "1.2"), None);
    }

    #[test]
    fn favorites_first_and_full_rooms_last() {
        let mut rooms = vec![room("beta", 8, 1), room("alpha", 1, 1), room("Zoo", 1, 1), room("gamma", 2, 1)];
        in_order(&mut rooms, |room| room, &BTreeSet::from(["Zoo".to_owned()]));
        assert_eq!(rooms.iter().map(|room| room.name.as_str()).collect::<Vec<_>>(), ["Zoo", "alpha", "gamma", "beta"]);
    }
}
