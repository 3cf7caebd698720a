//! Where one entity was, when: what is between two places is shown.

use std::collections::VecDeque;

use glam::Vec3;

use super::curve::Leg;
use super::playback::{FASTER, FORGET, Moment, SLOWER};
use crate::engine::{Component, Transform};

/// Most places remembered of one entity; the oldest fall out.
const SAMPLES_MAX: usize = 32;
/// Values come when something changes. Further apart than this, the entity stood still first, and moved then.
const STRETCH_SECONDS_MAX: f64 = 0.1;
/// Unless it went on about as fast as before: then its values come seldom, and it is shown so much later. Not if further apart
/// than this.
const GAP_SECONDS_MAX: f64 = 0.3;
/// Values closer together than this are of one moment: no game ticks so fast, and nothing can be divided by it.
const APART_SECONDS_MIN: f64 = 1e-4;
/// As fast as before is at least this part of it.
const WENT_ON: f32 = 0.35;
/// How fast what was shown otherwise than it turned out to be is put right: by a factor of e in so many seconds.
const MENDING_SECONDS: f64 = 0.08;
/// How long an entity that was shown beyond its newest place takes back to it, if it turns out to be the last.
const RETURN_SECONDS: f64 = 0.25;

/// Where a remote entity was, oldest first, in seconds of its owner's evened timeline.
#[derive(Component, Debug)]
pub(crate) struct Samples {
    samples: VecDeque<Sample>,
    /// The leg before the first of them.
    before: Option<Leg>,
    /// The velocities at both ends of the way from the first to the second, once it is under way.
    ends: Option<[Vec3; 2]>,
    /// How it moved when it last did: units per second, from value to value.
    speed: f32,
    /// How much later than others of its owner it is shown, as its values come seldom; and how much later it would have had to
    /// be.
    extra: f64,
    extra_wanted: f64,
    /// The last moment shown, where that was, and whether it was beyond the newest place.
    shown: Option<(f64, Vec3, bool)>,
    /// By how much it is shown elsewhere than it is, since when; that fades.
    drift: Option<(Vec3, f64)>,
    settled: bool,
    /// The newest place waits for a velocity.
    fresh: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: f64,
    place: Transform,
    /// Said by the owner, or the one that the way here ended with.
    velocity: Option<Velocity>,
    /// It came here by a jump: its owner said so.
    jump: bool,
}

#[derive(Clone, Copy, Debug)]
enum Velocity {
    Said(Vec3),
    Estimated(Vec3),
}

/// How remote entities are shown in one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Showing {
    /// Further is a jump.
    pub(crate) snap_distance: f32,
    /// How long an entity is shown going on beyond its newest place, in seconds.
    pub(crate) beyond: f64,
    /// How much later than others of its owner one may be shown whose values come seldom, in seconds.
    pub(crate) extra_max: f64,
}

impl Samples {
    /// From where it is shown to where it was at `moment`.
    pub(crate) fn from(shown: Transform, moment: Moment, sample: Transform) -> Self {
        let first = Sample { at: moment.at - STRETCH_SECONDS_MAX, place: shown, velocity: None, jump: false };
        Self {
            samples: [first, Sample { at: moment.at, place: sample, velocity: None, jump: false }].into(),
            before: None,
            ends: None,
            speed: 0.0,
            extra: 0.0,
            extra_wanted: 0.0,
            shown: None,
            drift: None,
            settled: false,
            fresh: true,
        }
    }

    /// It was there at `moment`. What arrives later is newer, whatever its moment says.
    pub(crate) fn push(&mut self, moment: Moment, sample: Transform) {
        (self.settled, self.fresh) = (false, true);
        if let Some(last) = self.samples.back_mut() {
            if last.at + APART_SECONDS_MIN > moment.at {
                last.place = sample;
                self.ends = None;
                return;
            }
            let gap = moment.at - last.at;
            let distance = last.place.translation.distance(sample.translation);
            let went_on =
                gap <= GAP_SECONDS_MAX && distance > 0.0 && distance >= WENT_ON * self.speed * gap as f32 && self.speed > 0.0;
            self.speed = distance / gap as f32;
            if went_on {
                self.extra_wanted = self.extra_wanted.max(gap - moment.period);
            } else if gap > STRETCH_SECONDS_MAX + APART_SECONDS_MIN {
                // It stands, whatever it said of its speed when it came here.
                last.velocity = None;
                let stood = Sample { at: moment.at - STRETCH_SECONDS_MAX, jump: false, ..*last };
                self.samples.push_back(stood);
            }
        }
        self.samples.push_back(Sample { at: moment.at, place: sample, velocity: None, jump: false });
        while self.samples.len() > SAMPLES_MAX {
            self.pass();
        }
    }

    /// It was there at `moment`, and came there by a jump.
    pub(crate) fn jump(&mut self, moment: Moment, sample: Transform) {
        self.push(moment, sample);
        self.speed = 0.0;
        if let Some(newest) = self.samples.back_mut() {
            newest.jump = true;
        }
    }

    /// How fast it was at its newest place, if that waits to know, or if it is `news`: it came to a stop there, say. What is no
    /// number is nothing known.
    pub(crate) fn know_velocity(&mut self, news: bool, velocity: impl FnOnce() -> Vec3) {
        if (std::mem::take(&mut self.fresh) || news)
            && let Some(newest) = self.samples.back_mut()
        {
            newest.velocity = Some(velocity()).filter(|velocity| velocity.is_finite()).map(Velocity::Said);
        }
    }

    /// Whether the newest place is shown already.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Where it was at `moment`. Moments must not go backwards: what is before the last one is forgotten.
    pub(crate) fn shown_at(&mut self, moment: f64, showing: Showing) -> Transform {
        let passed = self.shown.map_or(0.0, |(last, ..)| (moment - last).clamp(0.0, 0.25));
        self.extra_wanted = (self.extra_wanted - passed * FORGET).max(0.0);
        let wanted = self.extra_wanted.min(showing.extra_max);
        self.extra += (wanted - self.extra).clamp(-passed * FASTER, passed * SLOWER);
        let (mut place, beyond) = self.place_at(moment - self.extra, showing);
        if let Some((_, shown, true)) = self.shown
            && !beyond
        {
            // What was waited for is there: it is not where it was shown to be, but on its way from there.
            let drift = shown - place.translation;
            let small = drift.length_squared() <= showing.snap_distance * showing.snap_distance;
            self.drift = (small && drift != Vec3::ZERO).then_some((drift, moment));
        }
        if let Some((drift, since)) = self.drift {
            let left = (-(moment - since) / MENDING_SECONDS).exp() as f32;
            place.translation += drift * left;
            if left < 0.01 {
                self.drift = None;
            }
            self.settled &= self.drift.is_none();
        }
        if !place.translation.is_finite() {
            // Where single precision ends, there are places, and nothing between them.
            self.drift = None;
            place.translation = self.samples.front().map_or(Vec3::ZERO, |here| here.place.translation);
        }
        self.shown = Some((moment, place.translation, beyond));
        place
    }

    /// Where it is at `moment`, and whether that is beyond the newest place.
    fn place_at(&mut self, moment: f64, showing: Showing) -> (Transform, bool) {
        while self.samples.get(1).is_some_and(|next| next.at <= moment) {
            self.pass();
            // A way across which it jumped says nothing of how it moves.
            self.before = self.before.filter(|leg| leg.way.length() <= showing.snap_distance);
        }
        let Some(here) = self.samples.front().copied() else { return (Transform::IDENTITY, false) };
        let Some(there) = self.samples.get(1).copied() else { return self.go_on(here, moment, showing) };
        let way = there.place.translation - here.place.translation;
        let leg = Leg { way, seconds: there.at - here.at };
        // Before the first place, and across a jump, it stays where it is.
        if moment <= here.at || there.jump || way.length_squared() > showing.snap_distance * showing.snap_distance {
            return (here.place, false);
        }
        let ends = match self.ends {
            Some(ends) => ends,
            None => self.begin(leg, showing),
        };
        let part = ((moment - here.at) / leg.seconds) as f32;
        let place = Transform {
            translation: here.place.translation + leg.at(part, ends),
            rotation: here.place.rotation.slerp(there.place.rotation, part),
            scale: here.place.scale.lerp(there.place.scale, part),
        };
        (place, false)
    }

    /// The velocities at both ends of the way that begins: they stay as they are until it ends, whatever becomes known meanwhile.
    fn begin(&mut self, leg: Leg, showing: Showing) -> [Vec3; 2] {
        let said = |sample: Option<&Sample>| match sample?.velocity? {
            Velocity::Said(velocity) => {
                Some(velocity).filter(|velocity| velocity.length() * leg.seconds as f32 <= showing.snap_distance)
            }
            Velocity::Estimated(_) => None,
        };
        let next = self
            .samples
            .get(1)
            .zip(self.samples.get(2))
            .map(|(from, to)| Leg { way: to.place.translation - from.place.translation, seconds: to.at - from.at });
        let next = next.filter(|next| next.way.length() <= showing.snap_distance);
        let start = said(self.samples.front()).unwrap_or_else(|| {
            match (self.before, self.samples.front().and_then(|here| here.velocity)) {
                (Some(before), Some(Velocity::Estimated(velocity))) => leg.tamed(velocity, &before),
                (Some(before), _) => leg.tamed(before.velocity_before(&leg), &before),
                (None, _) => leg.velocity(),
            }
        });
        let end = said(self.samples.get(1)).unwrap_or_else(|| match (next, self.before) {
            (Some(next), _) => leg.tamed(leg.velocity_before(&next), &next),
            (None, Some(before)) => leg.tamed(leg.velocity_after(&before), &leg),
            (None, None) => leg.velocity(),
        });
        if let Some(there) = self.samples.get_mut(1)
            && there.velocity.is_none()
        {
            there.velocity = Some(Velocity::Estimated(end));
        }
        self.ends = Some([start, end]);
        [start, end]
    }

    /// At its newest place, or beyond it for as long as may be: then back, for it seems to have stopped there.
    fn go_on(&mut self, here: Sample, moment: f64, showing: Showing) -> (Transform, bool) {
        let late = moment - here.at;
        let velocity = match here.velocity {
            Some(Velocity::Said(velocity)) => velocity,
            _ => self.before.map_or(Vec3::ZERO, |leg| leg.velocity()),
        };
        let still =
            showing.beyond <= 0.0 || velocity == Vec3::ZERO || velocity.length() * showing.beyond as f32 > showing.snap_distance;
        if late <= 0.0 || still || late >= showing.beyond + RETURN_SECONDS {
            self.settled = late >= 0.0;
            return (here.place, late > 0.0);
        }
        let back = ((late - showing.beyond) / RETURN_SECONDS).max(0.0) as f32;
        let ahead = late.min(showing.beyond) as f32 * (1.0 - back * back * (3.0 - 2.0 * back));
        (Transform { translation: here.place.translation + velocity * ahead, ..here.place }, true)
    }

    /// The first place is behind.
    fn pass(&mut self) {
        self.ends = None;
        if let (Some(from), Some(to)) = (self.samples.pop_front(), self.samples.front()) {
            let leg = Leg { way: to.place.translation - from.place.translation, seconds: to.at - from.at };
            self.before = (!to.jump).then_some(leg);
            if to.jump {
                // Nothing is put right smoothly across a jump.
                (self.shown, self.drift) = (self.shown.map(|(moment, place, _)| (moment, place, false)), None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
