//! Which birds change sides: the rules, without engine or mesh.
//!
//! Only an owner can give a bird away, so it is the owner of the smaller flock that notices the brush and lets its birds go.

use bevy::math::{Rect, Vec2};

use crate::boids::Grid;

/// This near, birds of two flocks brush, in world units.
pub(crate) const REACH: f32 = 30.0;
/// How many birds a leader is worth who brushes in person: so flocks of one size can win birds from each other.
pub(crate) const LEADER_WORTH: usize = 12;
/// How long a bird stays where it has come to before it may change sides again, in seconds.
pub(crate) const SETTLING_SECONDS: f32 = 4.0;
/// Most birds that one flock loses in a second.
pub(crate) const LOSSES_PER_SECOND: f32 = 7.0;

/// Somebody else's bird or leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger {
    /// Where it is.
    pub(crate) position: Vec2,
    /// The number of its flock, as the caller counts flocks.
    pub(crate) flock: usize,
    /// Whether it is the leader.
    pub(crate) leads: bool,
}

/// Which birds of a flock of `own` go over to which flock: (index into `birds`, number of the flock), at most `most`.
/// `birds` are those that may change sides; `sizes` are the birds in each stranger's flock.
pub(crate) fn defectors(
    own: usize,
    birds: &[Vec2],
    strangers: &[Stranger],
    sizes: &[usize],
    bounds: Rect,
    most: usize,
) -> Vec<(usize, usize)> {
    let strength =
        |stranger: &Stranger| sizes.get(stranger.flock).map_or(0, |size| size + if stranger.leads { LEADER_WORTH } else { 0 });
    let stronger: Vec<Stranger> = strangers.iter().filter(|stranger| strength(stranger) > own).copied().collect();
    if stronger.is_empty() {
        return Vec::new();
    }
    let grid = Grid::new(bounds, REACH, stronger.iter().map(|stranger| stranger.position));
    let lured = |bird: &Vec2| {
        grid.nearest::<1>(*bird, REACH, |index| Some(stronger[index].position)).iter().next().map(|index| stronger[index].flock)
    };
    birds.iter().enumerate().filter_map(|(index, bird)| Some((index, lured(bird)?))).take(most).collect()
}

/// How the birds are dealt out anew when a round begins: (from, to, how many), so that all flocks are alike but for one bird.
/// Everyone computes the same from the same sizes.
pub(crate) fn deal(sizes: &[usize]) -> Vec<(usize, usize, usize)> {
    let total: usize = sizes.iter().sum();
    let share = |flock: usize| total / sizes.len() + usize::from(flock < total % sizes.len());
    let mut poor =
        (0..sizes.len()).map(|flock| (flock, share(flock).saturating_sub(sizes[flock]))).filter(|(_, lacks)| *lacks > 0);
    let mut receiver = poor.next();
    let mut gifts = Vec::new();
    for (giver, size) in sizes.iter().enumerate() {
        let mut spare = size.saturating_sub(share(giver));
        while let Some((flock, lacks)) = receiver.filter(|_| spare > 0) {
            let gift = spare.min(lacks);
            gifts.push((giver, flock, gift));
            spare -= gift;
            receiver = if lacks > gift { Some((flock, lacks - gift)) } else { poor.next() };
        }
    }
    gifts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    const BOUNDS: Rect = Rect { min: Vec2::new(-500.0, -500.0), max: Vec2::new(500.0, 500.0) };

    fn stranger(x: f32, leads: bool) -> Stranger {
        Stranger { position: Vec2::new(x, 0.0), flock: 0, leads }
    }

    #[test]
    fn the_smaller_flock_loses_what_is_brushed() {
        let birds = [Vec2::ZERO, Vec2::new(200.0, 0.0)];
        let brushing = [stranger(REACH - 1.0, false)];
        assert_eq!(defectors(10, &birds, &brushing, &[11], BOUNDS, 9), [(0, 0)]);
        assert_eq!(defectors(10, &birds, &brushing, &[10], BOUNDS, 9), [], "equal flocks keep their birds");
        assert_eq!(defectors(10, &birds, &brushing, &[9], BOUNDS, 9), [], "the larger flock keeps its birds");
        assert_eq!(defectors(10, &birds, &[stranger(REACH + 1.0, false)], &[99], BOUNDS, 9), [], "near is not brushed");
        assert_eq!(defectors(10, &birds, &brushing, &[], BOUNDS, 9), [], "a flock nobody counted is no flock");
    }

    #[test]
    fn a_leader_in_person_tips_the_scales() {
        let birds = [Vec2::ZERO];
        assert_eq!(defectors(60, &birds, &[stranger(5.0, true)], &[60], BOUNDS, 9), [(0, 0)]);
        assert_eq!(defectors(60 + LEADER_WORTH, &birds, &[stranger(5.0, true)], &[60], BOUNDS, 9), []);
    }

    #[test]
    fn no_more_than_so_many_at_once() {
        let birds = [Vec2::ZERO; 20];
        assert_eq!(defectors(20, &birds, &[stranger(1.0, false)], &[40], BOUNDS, 3).len(), 3);
    }

    #[test]
    fn dealing_loses_none_and_leaves_all_alike() {
        let mut dice = Dice::new(11);
        for _ in 0..300 {
            let mut sizes: Vec<usize> = (0..1 + dice.throw() % 12).map(|_| (dice.throw() % 90) as usize).collect();
            let total: usize = sizes.iter().sum();
            for (from, to, count) in deal(&sizes) {
                assert!(count > 0 && from != to);
                sizes[from] -= count;
                sizes[to] += count;
            }
            assert_eq!(sizes.iter().sum::<usize>(), total);
            assert!(sizes.iter().max().unwrap_or(&0) - sizes.iter().min().unwrap_or(&0) <= 1, "{sizes:?}");
        }
        assert_eq!(deal(&[]), []);
    }
}
