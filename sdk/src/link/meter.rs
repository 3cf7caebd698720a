//! What a link can take, judged from our own numbers: which datagrams to skip, how fast to write streams.
//!
//! Nothing of ours ever waits for a slow link: a tick that it cannot take is skipped before QUIC sees it, and the next one is
//! newer. What must not happen is that a router's queue fills with our state, because then all of it is old. So:
//!
//! 1. **Standing queue.** Each batch of acknowledgements gives one round trip, of its newest packet. The least of an interval
//!    (one round trip, 100 ms at least) minus the least of the last 20 to 30 s is what stands in queues the whole time. Jitter
//!    and reordering do not show in a minimum; what does is a queue. (Minimum over an interval: `CoDel`, RFC 8289; history of
//!    base delays: LEDBAT, RFC 6817, section 3.4.) Loss says nothing: a radio link loses much and is idle.
//! 2. **Limit.** There is none until more than [`QUEUE_HIGH`] stands and more goes in than comes out. Then the link is full and
//!    what was acknowledged in the interval is what it delivers (BBR's delivery rate, draft-cardwell-iccrg-bbr-congestion-control). From now on we send
//!    less than that until the queue falls, then more while it stays below [`QUEUE_LOW`]: in small steps at first, in larger ones
//!    the longer no queue comes of it. When the limit did not matter for a while it is lifted.
//! 3. **Others' queues.** If it does not fall however much we give way, it is not our doing: the path became longer, or
//!    somebody else fills it. Then what is measured now is the new base, and the limit is lifted. Yielding to a bulk transfer
//!    would end the game and help nobody.
//! 4. **Skipping.** What is handed over within a millisecond goes or stays together, so that a tick is not torn. Whether it
//!    goes is drawn, likelier the more credit the limit has given: else of two origins that always come one after the other
//!    only the first would ever pass. At least every [`SKIP_MAX`] one goes, so that a slow link does not look dead.
//! 5. **Brake.** A line that becomes much thinner fills its queue before a round trip tells. So no more than a large tick goes out
//!    beyond what was delivered in a round trip, and a longer queue makes us give way further.
//! 6. **Streams** have a rate of their own. It doubles per interval while it is used up and hardly a queue stands, halves when
//!    one does, and is at most a quarter of the limit where there is one: a large message must not stand before state.
//!
//! Round trips do not tell which way a queue stands; that more goes in than comes out does. Where both directions are full, both
//! ends give way to each other's queue, but no further than [`YIELD`] of what their own line carries. On loopback there is no line
//! at all: what waits there waits for the processor, and nothing is skipped.
//!
//! Silence is no measurement: after an outage all goes on as before, with the next acknowledgement as with the first.

mod streams;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::streams::{Queue, StreamRate};
use super::bulk_rate::BulkRate;
use crate::conditioner::Chance;

/// A queue that stands longer than this makes us send less. More than acknowledgements may be held back (25 ms).
pub(super) const QUEUE_HIGH: Duration = Duration::from_millis(60);
/// Below this we try to send more.
const QUEUE_LOW: Duration = Duration::from_millis(30);
/// How often to judge: once a round trip, but within these.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_millis(400);
/// Fewer round trips say nothing about an interval.
const SAMPLES_MIN: u32 = 4;
/// Acknowledgements further apart belong to different intervals.
const SILENCE: Duration = Duration::from_millis(500);
/// The base is the least of this many windows.
const BASE_WINDOWS: usize = 3;
/// How long each of them is.
const BASE_WINDOW: Duration = Duration::from_secs(10);
/// What to send of what was delivered, to let a queue fall.
const YIELD: f64 = 0.8;
/// The same where a whole second stands, as when a line became much thinner.
const YIELD_MIN: f64 = 0.2;
/// In about so long a queue is to be gone.
const DRAIN: Duration = Duration::from_secs(1);
/// What may be on its way beyond what was delivered of late in a round trip: so long a queue, and a large tick.
const WAY_SLACK: Duration = Duration::from_millis(60);
const WAY_BYTES: f64 = 16.0 * 1_024.0;
/// While more is on its way, one group goes this often, as long as acknowledgements come.
const BRAKED: Duration = Duration::from_millis(300);
/// Who offers so much of the limit keeps to it, about.
const PACED: f64 = 1.15;
/// The same for one that stands, but not high.
const HOLD: f64 = 0.97;
/// A line is full when this much more goes in than comes out.
const GROWING: f64 = 1.1;
/// More than this is a queue, however slow the line.
const CARRYING_MAX: Duration = Duration::from_millis(60);
/// What QUIC and UDP add to a group of datagrams, about, in bytes.
const OVERHEAD_BYTES: f64 = 30.0;
/// How much more to try in an interval, for each one before it that led to no queue, and how many count.
const PROBE: f64 = 0.01;
pub(super) const CLIMBS_MAX: u32 = 4;
/// So often to yield in vain.
const YIELDS_MAX: u32 = 6;
/// A limit that did not bind for so many intervals is lifted.
const UNNEEDED_MAX: u32 = 10;
/// No limit is lower, in bytes per second: what a link must carry to be one.
const LIMIT_MIN: f64 = 8_000.0;
/// Datagrams handed over within this long go together.
const GROUP: Duration = Duration::from_millis(1);
/// How much the newest group weighs in the mean.
const GROUP_SMOOTHING: f64 = 0.1;
/// Nothing is skipped any more when nothing went for this long.
const SKIP_MAX: Duration = Duration::from_millis(100);
/// The part of a limited link that streams may have.
const STREAM_SHARE: f64 = 0.25;

/// Judges one link. Shared by QUIC, which tells it of acknowledgements, and by whoever sends.
#[derive(Debug)]
pub(super) struct Meter(Mutex<State>);

/// What a meter shows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// What stands in queues along the link.
    pub(crate) queueing: Duration,
    /// Bytes per second to stay within, while the link is slower than what we have for it.
    pub(crate) limit: Option<f64>,
    /// The part of datagram bytes that went in the last interval, 0 to 1.
    pub(crate) share: f64,
    /// Datagrams skipped so far.
    pub(crate) skipped: u64,
    /// Stream bytes per second.
    pub(crate) stream_rate: f64,
}

impl Meter {
    /// For a link of which nothing is known. `seed` decides what is skipped.
    pub(super) fn new(seed: u64, now: Instant) -> Self {
        Self(Mutex::new(State::new(seed, now)))
    }

    /// Forgets everything about the path: it is another one now.
    pub(super) fn reset(&self) {
        let mut state = self.state();
        let (chance, skipped, boundless, ceiling) = (state.chance.0, state.skipped, state.boundless, state.ceiling);
        *state = State { skipped, boundless, ceiling, ..State::new(chance, state.filled) };
        state.bind();
    }

    /// So many bytes were acknowledged, the newest of them after `round_trip`; so many are still on their way.
    pub(super) fn acked(&self, bytes: u64, in_flight: u64, round_trip: Duration, now: Instant) {
        let mut state = self.state();
        state.acked(bytes, round_trip, in_flight, now);
    }

    /// From now on nothing is ever skipped or held back: the way is this machine's memory.
    pub(super) fn set_boundless(&self) {
        self.state().boundless = true;
    }

    /// No more than that many bytes per second is ever to be sent: whoever carries the link said so.
    pub(super) fn set_ceiling(&self, bytes_per_second: f64) {
        let mut state = self.state();
        state.ceiling = Some(bytes_per_second);
        state.bind();
    }

    /// Whether a datagram is to be sent now. If not, it is superseded by the next one.
    pub(super) fn admits(&self, bytes: usize, now: Instant) -> bool {
        self.state().admits(bytes as f64, now)
    }

    /// How long to wait before writing so many bytes to a stream. Counts them.
    pub(super) fn stream_wait(&self, bytes: usize, now: Instant) -> Duration {
        self.state().stream_wait(bytes as f64, now)
    }

    /// The same for a bulk stream.
    pub(super) fn bulk_wait(&self, bytes: usize, now: Instant) -> Duration {
        let mut state = self.state();
        state.interval.put += bytes as f64;
        if state.boundless { Duration::ZERO } else { state.bulk.wait(bytes as f64, now) }
    }

    /// What was sent in bulk came so much later than at best.
    pub(super) fn bulk_reported(&self, queue: Duration, now: Instant) {
        self.state().bulk.reported(queue, now);
    }

    /// Bulk bytes per second.
    pub(super) fn bulk_rate(&self) -> f64 {
        self.state().bulk.rate()
    }

    /// How many bytes to write to a stream in one go.
    pub(super) fn stream_piece(&self) -> usize {
        self.state().streams.piece()
    }

    pub(super) fn reading(&self) -> Reading {
        let state = self.state();
        Reading {
            queueing: state.queueing,
            limit: state.limit,
            share: state.share,
            skipped: state.skipped,
            stream_rate: state.streams.rate(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct State {
    chance: Chance,
    // The path.
    bases: [Option<Duration>; BASE_WINDOWS],
    base_since: Option<Instant>,
    queueing: Duration,
    interval: Interval,
    last_ack: Option<Instant>,
    // Datagrams.
    limit: Option<f64>,
    /// What the line carried when it was last full, in bytes per second.
    capacity: f64,
    yields: u32,
    yielded: Option<Instant>,
    unneeded: u32,
    climbs: u32,
    credit: f64,
    /// What was offered last was about what may go.
    paced: bool,
    filled: Instant,
    group_since: Option<Instant>,
    group_goes: bool,
    group_bytes: f64,
    group_mean: f64,
    last_sent: Option<Instant>,
    share: f64,
    skipped: u64,
    boundless: bool,
    /// The highest limit there may be.
    ceiling: Option<f64>,
    /// Bytes sent and neither acknowledged nor lost, and how many were delivered per second in the last two intervals.
    on_way: f64,
    delivered: [f64; 2],
    streams: StreamRate,
    bulk: BulkRate,
}

#[derive(Debug, Default)]
struct Interval {
    since: Option<Instant>,
    samples: u32,
    least: Option<Duration>,
    acked: u64,
    offered: f64,
    sent: f64,
    /// Bytes put on the wire, streams and overhead included, about.
    put: f64,
}

impl State {
    fn new(seed: u64, now: Instant) -> Self {
        Self {
            chance: Chance(seed),
            bases: [None; BASE_WINDOWS],
            base_since: None,
            queueing: Duration::ZERO,
            interval: Interval::default(),
            last_ack: None,
            limit: None,
            capacity: 0.0,
            yields: 0,
            yielded: None,
            unneeded: 0,
            climbs: 0,
            credit: 0.0,
            paced: false,
            filled: now,
            group_since: None,
            group_goes: true,
            group_bytes: 0.0,
            group_mean: 1_000.0,
            last_sent: None,
            share: 1.0,
            skipped: 0,
            boundless: false,
            ceiling: None,
            on_way: 0.0,
            delivered: [0.0; 2],
            streams: StreamRate::new(now),
            bulk: BulkRate::new(now),
        }
    }

    fn acked(&mut self, bytes: u64, round_trip: Duration, in_flight: u64, now: Instant) {
        self.on_way = in_flight as f64;
        if self.last_ack.is_none_or(|last| now.saturating_duration_since(last) > SILENCE) {
            self.interval = Interval { since: Some(now), ..Interval::default() };
            self.streams.begin();
            // What was sent into the silence is lost, though nobody said so yet.
            self.on_way = 0.0;
        }
        self.last_ack = Some(now);
        self.note_base(round_trip, now);
        let base = self.base().unwrap_or(round_trip);
        self.bulk.acked(bytes, round_trip, base, now);
        let interval = &mut self.interval;
        interval.acked += bytes;
        interval.samples += 1;
        interval.least = Some(interval.least.map_or(round_trip, |least| least.min(round_trip)));
        let length = (base + self.queueing).clamp(INTERVAL_MIN, INTERVAL_MAX);
        let passed = interval.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if passed >= length && interval.samples >= SAMPLES_MIN {
            let interval = std::mem::replace(&mut self.interval, Interval { since: Some(now), ..Interval::default() });
            self.judge(&interval, base, passed.as_secs_f64(), now);
        }
    }

    fn note_base(&mut self, round_trip: Duration, now: Instant) {
        let since = *self.base_since.get_or_insert(now);
        // While we hold a queue low it never quite empties: what it was before must not be forgotten, or the base would creep up.
        if self.limit == self.ceiling && now.saturating_duration_since(since) >= BASE_WINDOW {
            self.base_since = Some(now);
            self.bases.rotate_right(1);
            self.bases[0] = None;
        }
        self.bases[0] = Some(self.bases[0].map_or(round_trip, |least| least.min(round_trip)));
    }

    fn base(&self) -> Option<Duration> {
        self.bases.iter().flatten().min().copied()
    }

    fn judge(&mut self, interval: &Interval, base: Duration, seconds: f64, now: Instant) {
        let least = interval.least.unwrap_or(base);
        let (before, queueing) = (self.queueing, least.saturating_sub(base));
        let (delivered, offered) = (interval.acked as f64 / seconds, interval.offered / seconds);
        self.queueing = queueing;
        self.paced = self.limit.is_some_and(|limit| offered <= limit * PACED);
        self.delivered = [delivered, self.delivered[0]];
        self.share = if interval.offered > 0.0 { interval.sent / interval.offered } else { 1.0 };
        // A slow line takes its time for each packet. That is no queue, but shorter packets may have shown a lower base.
        let carrying = if self.capacity > 0.0 { (self.group_mean + OVERHEAD_BYTES) / self.capacity } else { 0.0 };
        let carrying = Duration::from_secs_f64(carrying).min(CARRYING_MAX);
        let (low, high) = (QUEUE_LOW + carrying, QUEUE_HIGH + carrying);
        if queueing > low {
            (self.unneeded, self.climbs) = (0, 0);
            // More went in than came out: it is our line that is full, and this is what it carries.
            let growing = interval.put > interval.acked as f64 * GROWING;
            if growing {
                self.capacity = delivered;
            }
            let part = if queueing > high { yields_to(queueing) } else { HOLD };
            // It takes a round trip to see what came of the last time; and while it falls, what we gave was enough.
            let due = self.yielded.is_none_or(|at| now.saturating_duration_since(at) > least);
            let falls = queueing.as_secs_f64() < before.as_secs_f64() * 0.95;
            let begins = queueing > high && growing;
            if (self.limit.is_some() || begins) && due && !falls && !self.boundless {
                let carries = if growing { delivered } else { self.capacity };
                let within = self.limit.map_or(carries, |limit| limit.min(carries));
                // Else it may stand on the way back, and the other end must give way, not both of us all the way down.
                let least = if growing { 0.0 } else { within.min(self.capacity * YIELD) };
                self.limit = Some((within * part).max(least).max(LIMIT_MIN));
                self.yielded = Some(now);
                self.yields += u32::from(queueing > high);
            }
            if self.yields > YIELDS_MAX {
                self.bases = [None; BASE_WINDOWS];
                self.bases[0] = Some(least);
                (self.yields, self.queueing, self.limit, self.capacity) = (0, Duration::ZERO, None, 0.0);
            }
        } else {
            self.yields = 0;
            if let Some(limit) = &mut self.limit {
                // The queue is gone: what was given up for that is taken back.
                *limit = limit.max(self.capacity * YIELD);
                let binds = offered >= *limit * 0.9;
                self.unneeded = if binds { 0 } else { self.unneeded + 1 };
                // Slowly at first, faster the longer no queue comes of it: what was delivered when the line was full is known no
                // better than acknowledgements came through on the way back. A limit far above all that is asked for would not be
                // there when it is needed.
                let most = if queueing > low / 2 { 1 } else { CLIMBS_MAX };
                self.climbs = if binds { (self.climbs + 1).min(most) } else { 0 };
                *limit *= 1.0 + PROBE * f64::from(self.climbs);
                if self.unneeded >= UNNEEDED_MAX {
                    (self.limit, self.capacity) = (None, 0.0);
                }
            }
        }
        self.bind();
        let queue = if queueing > high * 2 {
            Queue::Long
        } else if queueing > low {
            Queue::Stands
        } else {
            Queue::None
        };
        self.streams.judge(queue, self.limit.map(|limit| limit * STREAM_SHARE));
        // What is left of a full line is the game's: a queue that it fills itself is no report's business.
        if let Some(limit) = self.limit {
            self.bulk.bound(limit * STREAM_SHARE);
        }
    }

    /// Keeps the limit below the ceiling, and sets it there where there would be none.
    fn bind(&mut self) {
        if let Some(ceiling) = self.ceiling {
            self.limit = Some(self.limit.map_or(ceiling, |limit| limit.min(ceiling)));
            self.streams.bound(ceiling * STREAM_SHARE);
            self.bulk.bound(ceiling * STREAM_SHARE);
        }
    }

    fn admits(&mut self, bytes: f64, now: Instant) -> bool {
        let same_group = self.group_since.is_some_and(|since| now.saturating_duration_since(since) < GROUP);
        if same_group {
            self.group_bytes += bytes;
        } else {
            if self.group_since.is_some() {
                self.group_mean += GROUP_SMOOTHING * (self.group_bytes - self.group_mean);
            }
            self.group_since = Some(now);
            self.group_bytes = bytes;
            self.group_goes = self.draws(now);
            let overhead = if self.group_goes { OVERHEAD_BYTES } else { 0.0 };
            self.interval.put += overhead;
            self.bulk.others(overhead);
        }
        self.interval.offered += bytes;
        if self.group_goes {
            self.interval.sent += bytes;
            self.interval.put += bytes;
            self.bulk.others(bytes);
            self.on_way += bytes;
            self.credit -= bytes;
            self.last_sent = Some(now);
        } else {
            self.skipped += 1;
        }
        self.group_goes
    }

    /// Whether a new group goes.
    fn draws(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let since_sent = self.last_sent.map_or(Duration::MAX, |last| now.saturating_duration_since(last));
        if self.is_braked(now) && since_sent < BRAKED {
            return false;
        }
        let Some(limit) = self.limit else {
            self.credit = 0.0;
            return true;
        };
        // Two groups of credit let one pass for sure.
        let most = 2.0 * self.group_mean.max(1.0);
        self.credit = (self.credit + limit * passed).clamp(-2.0 * most, most);
        // Who offers no more than goes is not skipped by chance.
        let paces = self.paced && self.credit >= 0.0;
        since_sent >= SKIP_MAX || paces || self.chance.part() * most < self.credit
    }

    /// Whether much more is on its way than the line delivered of late: it became thinner, and a queue is growing. No longer than
    /// acknowledgements come, as after an outage all goes on at once.
    fn is_braked(&self, now: Instant) -> bool {
        let delivered = self.delivered[0].max(self.delivered[1]);
        let hears = delivered > 0.0 && self.last_ack.is_some_and(|last| now.saturating_duration_since(last) < BRAKED);
        let way = self.base().unwrap_or_default() + WAY_SLACK;
        hears && !self.boundless && self.on_way > delivered * way.as_secs_f64() + WAY_BYTES
    }

    fn stream_wait(&mut self, bytes: f64, now: Instant) -> Duration {
        self.interval.put += bytes;
        self.bulk.others(bytes);
        // What streams take is not there for datagrams.
        self.credit -= bytes;
        self.streams.wait(bytes, now)
    }
}

/// What to send of what was delivered while so much stands in the queue: less the longer it is, so that it is gone in a second or two.
fn yields_to(queueing: Duration) -> f64 {
    (1.0 - queueing.as_secs_f64() / DRAIN.as_secs_f64()).clamp(YIELD_MIN, YIELD)
}

#[cfg(test)]
mod tests;
