//! When to show what a peer did: its ticks laid out evenly on the mesh's clock, and how far behind we show them.

use std::collections::HashMap;

use peerflock::{MeshTime, PeerId, Tick};

use super::{InterpolationDelay, seconds};

/// The time between two ticks until we know better: Bevy's default.
const TICK_SECONDS: f64 = 1.0 / 64.0;
/// Ticks are taken to be no closer and no further apart than this.
const TICK_SECONDS_MIN: f64 = 1.0 / 500.0;
const TICK_SECONDS_MAX: f64 = 0.25;
/// A tick this far from where it was expected starts the layout anew: the game there stood still, or its clock was set.
const RESYNC_SECONDS: f64 = 0.15;
/// How much of a tick's deviation is taken for real, the rest for jitter.
const PHASE_GAIN: f64 = 0.1;
const PERIOD_GAIN: f64 = 0.01;
/// A tick from the future is taken to be of now: a peer's clock may be off, or lie.
const FUTURE_SECONDS_MAX: f64 = 0.05;
/// How fast the worst lateness is forgotten, in seconds per second.
pub(super) const FORGET: f64 = 0.02;
/// How much slower and faster than life we play to change the delay. Nobody sees a twentieth.
pub(super) const SLOWER: f64 = 0.25;
pub(super) const FASTER: f64 = 0.05;

/// When a value is to be shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    /// In seconds of mesh time, on its owner's evened timeline.
    pub(crate) at: f64,
    /// From one tick of its owner to the next.
    pub(crate) period: f64,
}

/// The clock of every peer that moves something.
#[derive(Debug, Default, crate::engine::Resource)]
pub(crate) struct Playbacks {
    peers: HashMap<PeerId, Playback>,
    /// The tick asked about last: all values of one tick arrive in a row.
    last: Option<(PeerId, Tick, Moment)>,
    /// When the last frame was, in seconds of mesh time.
    last_frame: f64,
}

impl Playbacks {
    /// The moment at which the owner's `tick` is to be shown.
    pub(crate) fn arrived(&mut self, owner: PeerId, tick: Tick, at: MeshTime, now: MeshTime) -> Moment {
        let now = seconds(now);
        let at = seconds(at).min(now + FUTURE_SECONDS_MAX);
        // A value without a tick comes from the mesh at large, not from a tick of this owner.
        if tick == Tick(0) {
            return Moment { at, period: TICK_SECONDS };
        }
        match self.last {
            Some((last_owner, last_tick, moment)) if last_owner == owner && last_tick == tick => moment,
            _ => {
                let playback = self.peers.entry(owner).or_insert_with(|| Playback::new(tick, at));
                let at = playback.arrived(tick, at, now);
                let moment = Moment { at, period: playback.period };
                self.last = Some((owner, tick, moment));
                moment
            }
        }
    }

    /// A new frame: the delays follow what the peers need.
    pub(crate) fn advance(&mut self, now: f64, delay: InterpolationDelay) {
        // The mesh's clock may be set; a frame took no time then.
        let passed = (now - self.last_frame).clamp(0.0, 0.25);
        self.last_frame = now;
        for playback in self.peers.values_mut() {
            playback.advance(passed, delay);
        }
    }

    /// The moment of the owner's timeline that is shown now.
    pub(crate) fn shown_now(&self, owner: PeerId, now: f64) -> f64 {
        now - self.peers.get(&owner).and_then(|playback| playback.delay).unwrap_or(0.0)
    }

    /// A peer is gone.
    pub(crate) fn remove(&mut self, owner: PeerId) {
        self.peers.remove(&owner);
        self.last = None;
    }

    /// All are gone.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// One peer's clock, in seconds of mesh time.
#[derive(Debug)]
struct Playback {
    tick: Tick,
    /// When the newest tick was, evened.
    time: f64,
    /// From one tick to the next.
    period: f64,
    /// How far behind we would have had to be lately for every value to be in time.
    needed: f64,
    /// How far behind we are. None before the first frame.
    delay: Option<f64>,
}

impl Playback {
    fn new(tick: Tick, at: f64) -> Self {
        Self { tick, time: at, period: TICK_SECONDS, needed: 0.0, delay: None }
    }

    fn arrived(&mut self, tick: Tick, at: f64, now: f64) -> f64 {
        let steps = f64::from(tick.0.wrapping_sub(self.tick.0).cast_signed());
        let expected = self.time + steps * self.period;
        if steps > 0.0 {
            let error = at - expected;
            if error.abs() > RESYNC_SECONDS {
                self.time = at;
            } else {
                self.time = expected + error * PHASE_GAIN;
                self.period = (self.period + error * PERIOD_GAIN / steps).clamp(TICK_SECONDS_MIN, TICK_SECONDS_MAX);
            }
            self.tick = tick;
        }
        let moment = if steps < 0.0 { expected } else { self.time };
        // In time means: before the one before it was reached.
        self.needed = self.needed.max((now - moment).max(0.0) + self.period);
        moment
    }

    fn advance(&mut self, passed: f64, delay: InterpolationDelay) {
        let wanted = match delay {
            InterpolationDelay::Adaptive { max } => self.needed.min(max.as_secs_f64()),
            InterpolationDelay::Fixed(delay) => delay.as_secs_f64(),
        };
        let current = self.delay.unwrap_or(wanted);
        // Time is slowed down or sped up, never turned back.
        self.delay = Some(current + (wanted - current).clamp(-passed * FASTER, passed * SLOWER));
        self.needed = (self.needed - passed * FORGET).max(self.period);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PEER: PeerId = PeerId([1; 32]);
    const ADAPTIVE: InterpolationDelay = InterpolationDelay::Adaptive { max: Duration::from_millis(250) };

    fn at(seconds: f64) -> MeshTime {
        MeshTime((seconds * 1e6) as u64)
    }

    /// Plays ticks that are 1/60 s apart but stamped unevenly, each arriving 20 ms late and every tenth 60 ms late; what comes
    /// is handed to `each`: the true time, the evened one, and the one shown at arrival.
    fn play(mut each: impl FnMut(f64, f64, f64)) {
        let mut playbacks = Playbacks::default();
        for tick in 1..2_000_u32 {
            let truth = f64::from(tick) / 60.0;
            // The owner's frames: three ticks in two frames, so that stamps are up to half a tick off.
            let stamp = truth + [0.0, 0.006, -0.004][tick as usize % 3];
            let late = if tick % 10 == 0 { 0.06 } else { 0.02 };
            let now = 1.0 + stamp + late;
            let moment = playbacks.arrived(PEER, Tick(tick), at(1.0 + stamp), at(now)).at;
            playbacks.advance(now, ADAPTIVE);
            each(1.0 + truth, moment, playbacks.shown_now(PEER, now));
        }
    }

    #[test]
    fn uneven_ticks_are_evened() {
        let (mut last, mut steps) = (0.0, Vec::new());
        play(|_, moment, _| {
            steps.push(moment - last);
            last = moment;
        });
        let late = &steps[1_000..];
        let spread = late.iter().copied().fold(0.0_f64, |worst, step| worst.max((step - 1.0 / 60.0).abs()));
        assert!(spread < 0.002, "ticks are {spread} s off where their stamps are 10 ms off");
    }

    #[test]
    fn the_delay_covers_the_worst_lateness_and_no_more() {
        let mut behind = Vec::new();
        play(|truth, moment, shown| {
            assert!((moment - truth).abs() < 0.02);
            behind.push(moment - shown);
        });
        let settled = &behind[500..];
        // Also the value that came 60 ms late was there a moment before it was shown.
        assert!(settled.iter().all(|behind| *behind > 0.0), "something came too late");
        assert!(settled.iter().all(|behind| *behind < 0.09), "shown later than need be");
    }

    #[test]
    fn time_never_runs_backwards() {
        let mut last = f64::MIN;
        play(|_, _, shown| {
            assert!(shown >= last - 0.05);
            last = shown;
        });
    }

    #[test]
    fn a_fixed_delay_is_kept() {
        let mut playbacks = Playbacks::default();
        let fixed = InterpolationDelay::Fixed(Duration::from_millis(100));
        for tick in 1..100 {
            let now = f64::from(tick) / 60.0;
            playbacks.arrived(PEER, Tick(tick), at(now), at(now));
            playbacks.advance(now, fixed);
            assert!((now - playbacks.shown_now(PEER, now) - 0.1).abs() < 1e-9);
        }
    }

    #[test]
    fn a_pause_or_a_lie_about_time_does_no_lasting_harm() {
        let mut playbacks = Playbacks::default();
        playbacks.arrived(PEER, Tick(1), at(1.0), at(1.0));
        // Ten seconds of nothing, in one tick.
        assert_eq!(playbacks.arrived(PEER, Tick(2), at(11.0), at(11.0)).at, 11.0);
        // A stamp of next year.
        assert!(playbacks.arrived(PEER, Tick(3), at(3e7), at(11.1)).at <= 11.2);
        assert!(playbacks.arrived(PEER, Tick(4), at(0.0), at(11.1)).at.is_finite());
        playbacks.advance(11.1, ADAPTIVE);
        assert!(11.1 - playbacks.shown_now(PEER, 11.1) <= 0.25);
        playbacks.arrived(PEER, Tick(u32::MAX), at(12.0), at(12.0));
        assert!(playbacks.arrived(PEER, Tick(1), at(12.0), at(12.0)).at.is_finite());
    }
}
