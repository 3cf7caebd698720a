//! When a member announces its mesh on the local network, and whether it does at all: a few of each mesh are enough for everybody.
//!
//! What is announced is heard by every machine there, so it costs all of them. A rule that all compute alike keeps it down: of the
//! members of a mesh that are announced, those with the smallest identifiers go on, and the others step back until they are needed.
//! Announcements are renewed shortly before listeners would ask for that: else every listener would ask about every mesh.

use std::time::Duration;

use tokio::time::Instant;

use super::sighting::Sighting;

/// Members of one mesh that announce it. More than one, so that it stays in the lists when one of them dies.
const ANNOUNCERS: usize = 4;
/// How long there must be enough others before we step back: what is heard of newcomers flickers.
const STEP_BACK_AFTER: Duration = Duration::from_secs(10);
/// How long there must be too few others before we announce again.
const RETURN_AFTER: Duration = Duration::from_secs(3);
/// Mere counts are announced no more often than this.
const COUNTS_EVERY: Duration = Duration::from_secs(3);
/// How long an announcement stands. Listeners ask anew for addresses after 96 s (RFC 6762, section 5.2, of a lifetime of 120 s).
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(88);

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// All is said.
    Nothing,
    /// This.
    Announce(Box<Sighting>),
    /// That we no longer announce.
    Withdraw,
}

/// What we announced, and since when others make that unnecessary, or no longer do.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    announced: Option<(Sighting, Instant)>,
    stepped_back: bool,
    /// Since when it is the other way round.
    otherwise_since: Option<Instant>,
}

impl Announcer {
    /// `standing` is what we would announce, `before_us` how many members with smaller identifiers than ours are announced and see
    /// the same members as we do.
    pub(super) fn look(&mut self, standing: &Sighting, before_us: usize, now: Instant) -> Say {
        let patience = if self.stepped_back { RETURN_AFTER } else { STEP_BACK_AFTER };
        if (before_us >= ANNOUNCERS) == self.stepped_back {
            self.otherwise_since = None;
        } else if now.duration_since(*self.otherwise_since.get_or_insert(now)) >= patience {
            self.otherwise_since = None;
            self.stepped_back = !self.stepped_back;
            if self.stepped_back {
                return if self.announced.take().is_some() { Say::Withdraw } else { Say::Nothing };
            }
        }
        if self.stepped_back {
            return Say::Nothing;
        }
        let due = self.announced.as_ref().is_none_or(|(said, at)| {
            let age = now.duration_since(*at);
            let counts_alone = Sighting { players: said.players, beacon: said.beacon, ..standing.clone() } == *said;
            age >= RENEW_EVERY || said != standing && (!counts_alone || age >= COUNTS_EVERY)
        });
        if !due {
            return Say::Nothing;
        }
        self.announced = Some((standing.clone(), now));
        Say::Announce(Box::new(standing.clone()))
    }

    /// What we announced did not go out, or nobody hears it any more.
    pub(super) fn forget(&mut self) {
        self.announced = None;
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::{MeshId, PeerId};

    use super::*;
    use crate::resolve::Listing;

    fn standing(players: usize) -> Sighting {
        Sighting {
            peer: PeerId([9; 32]),
            mesh: MeshId::from_name("dusk"),
            name: "dusk".into(),
            listing: Listing::new("Murmuration"),
            players,
            beacon: Some(players as u64),
            addresses: vec!["127.0.0.1:4433".parse().unwrap()],
        }
    }

    /// What is said in each second, for so long, with so many before us and so many players.
    fn said(announcer: &mut Announcer, from: Instant, seconds: u64, at: impl Fn(u64) -> (usize, Sighting)) -> Vec<(u64, bool)> {
        let each = (0..seconds).filter_map(|second| {
            let (before_us, standing) = at(second);
            match announcer.look(&standing, before_us, from + Duration::from_secs(second)) {
                Say::Nothing => None,
                Say::Announce(said) => {
                    assert_eq!(*said, standing);
                    Some((second, true))
                }
                Say::Withdraw => Some((second, false)),
            }
        });
        each.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_is_said_once_and_renewed_before_anybody_asks() {
        let mut announcer = Announcer::default();
        let heard = said(&mut announcer, Instant::now(), 200, |_| (0, standing(1)));
        assert_eq!(heard, [(0, true), (88, true), (176, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn counts_wait_a_little_and_the_last_one_is_said() {
        let mut announcer = Announcer::default();
        let heard = said(&mut announcer, Instant::now(), 20, |second| (0, standing(1 + second.min(7) as usize)));
        assert_eq!(heard, [(0, true), (3, true), (6, true), (9, true)]);
        let other = Sighting { listing: Listing::new("Murmuration").mode("Rome"), ..standing(8) };
        let heard = said(&mut announcer, Instant::now() + Duration::from_secs(10), 3, |_| (0, other.clone()));
        assert_eq!(heard, [(0, true)], "what the game says is said at once");
    }

    #[tokio::test(start_paused = true)]
    async fn where_enough_others_announce_we_step_back_and_return_when_they_are_gone() {
        let mut announcer = Announcer::default();
        let start = Instant::now();
        let before = |second| match second {
            // One moment with fewer does not count, either way.
            5 | 60..70 | 100 => 3,
            _ => 4,
        };
        let heard = said(&mut announcer, start, 125, |second| (before(second), standing(50 + second as usize % 2)));
        let withdrawn: Vec<u64> = heard.iter().filter(|(_, announced)| !announced).map(|(second, _)| *second).collect();
        assert_eq!(withdrawn, [16, 80], "{heard:?}");
        let announced: Vec<u64> = heard.iter().filter(|(_, announced)| *announced).map(|(second, _)| *second).collect();
        assert!(announced.iter().all(|second| (0..16).contains(second) || (63..80).contains(second)), "{announced:?}");
        assert!(announced.contains(&63), "{announced:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_go_out_is_said_again() {
        let mut announcer = Announcer::default();
        let start = Instant::now();
        assert!(matches!(announcer.look(&standing(1), 0, start), Say::Announce(_)));
        assert_eq!(announcer.look(&standing(1), 0, start), Say::Nothing);
        announcer.forget();
        assert!(matches!(announcer.look(&standing(1), 0, start), Say::Announce(_)));
    }
}
