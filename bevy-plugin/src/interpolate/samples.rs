//! Where one entity was, when: what is between two places is shown.

use std::collections::VecDeque;

use crate::engine::{Component, Transform};

/// Most places remembered of one entity; the oldest fall out.
const SAMPLES_MAX: usize = 32;
/// Values come when something changes. Further apart than this, the entity stood still first, and moved then.
const STRETCH_SECONDS_MAX: f64 = 0.1;

/// Where a remote entity was, oldest first, in seconds of its owner's evened timeline.
#[derive(Component, Debug)]
pub(crate) struct Samples {
    samples: VecDeque<(f64, Transform)>,
    settled: bool,
}

impl Samples {
    /// From where it is shown to where it was at `moment`.
    pub(crate) fn from(shown: Transform, moment: f64, sample: Transform) -> Self {
        Self { samples: [(moment - STRETCH_SECONDS_MAX, shown), (moment, sample)].into(), settled: false }
    }

    /// It was there at `moment`. What arrives later is newer, whatever its moment says.
    pub(crate) fn push(&mut self, moment: f64, sample: Transform) {
        self.settled = false;
        if let Some((last, place)) = self.samples.back_mut() {
            if *last >= moment {
                *place = sample;
                return;
            }
            let started = moment - STRETCH_SECONDS_MAX;
            if *last < started {
                let stood = *place;
                self.samples.push_back((started, stood));
            }
        }
        self.samples.push_back((moment, sample));
        while self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// Whether the newest place is shown already.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Where it was at `moment`. Moments must not go backwards: what is before the last one is forgotten.
    pub(crate) fn shown_at(&mut self, moment: f64, snap_distance: f32) -> Transform {
        while self.samples.get(1).is_some_and(|(next, _)| *next <= moment) {
            self.samples.pop_front();
        }
        let Some((from, here)) = self.samples.front().copied() else { return Transform::IDENTITY };
        let Some((to, there)) = self.samples.get(1).copied() else {
            self.settled = moment >= from;
            return here;
        };
        // Before the first place, and across a jump, it stays where it is.
        if moment <= from || here.translation.distance_squared(there.translation) > snap_distance * snap_distance {
            return here;
        }
        let part = ((moment - from) / (to - from)) as f32;
        Transform {
            translation: here.translation.lerp(there.translation, part),
            rotation: here.rotation.slerp(there.rotation, part),
            scale: here.scale.lerp(there.scale, part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(x: f32) -> Transform {
        Transform::from_xyz(x, 0.0, 0.0)
    }

    fn x(samples: &mut Samples, moment: f64) -> f32 {
        samples.shown_at(moment, 500.0).translation.x
    }

    #[test]
    fn it_moves_from_place_to_place_and_stops() {
        let mut samples = Samples::from(at(0.0), 1.0, at(0.0));
        samples.push(1.05, at(5.0));
        samples.push(1.1, at(10.0));
        assert_eq!(x(&mut samples, 0.5), 0.0);
        assert!((x(&mut samples, 1.025) - 2.5).abs() < 1e-3);
        assert!((x(&mut samples, 1.075) - 7.5).abs() < 1e-3);
        assert!(!samples.is_settled());
        assert_eq!(x(&mut samples, 7.0), 10.0, "never beyond the newest");
        assert!(samples.is_settled());
    }

    #[test]
    fn who_stood_still_starts_when_it_started() {
        let mut samples = Samples::from(at(0.0), 1.0, at(1.0));
        assert_eq!(x(&mut samples, 2.0), 1.0);
        samples.push(9.0, at(2.0));
        assert!(!samples.is_settled());
        assert_eq!(x(&mut samples, 8.0), 1.0, "it did not creep for eight seconds");
        assert!((x(&mut samples, 8.95) - 1.5).abs() < 1e-3);
        assert_eq!(x(&mut samples, 9.0), 2.0);
    }

    #[test]
    fn a_jump_is_a_jump() {
        let mut samples = Samples::from(at(0.0), 1.0, at(0.0));
        samples.push(1.1, at(501.0));
        assert_eq!(x(&mut samples, 1.09), 0.0);
        assert_eq!(x(&mut samples, 1.1), 501.0);
    }

    #[test]
    fn the_later_news_wins() {
        let mut samples = Samples::from(at(0.0), 1.0, at(1.0));
        samples.push(0.9, at(2.0));
        assert_eq!(x(&mut samples, 1.0), 2.0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut samples = Samples::from(at(0.0), 1.0, at(1.0));
        for n in 0..1_000 {
            samples.push(1.0 + f64::from(n) * 0.01, at(0.0));
        }
        assert_eq!(samples.samples.len(), SAMPLES_MAX);
    }
}
