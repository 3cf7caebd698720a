//! One link: how far it has come, what it is worth, and whether it has fallen quiet.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{Quota, is_relay};
use crate::admission::{Accepter, Dialer, LockId, Proof};
use crate::id::{Boot, PeerId};
use crate::time::Time;

/// A link that was never silent for longer than this, and now is, may be dead.
const QUIET: Duration = Duration::from_millis(120);
/// Where it comes irregularly, a silence longer than usual by so many times the usual difference is suspicious.
const SPREADS: u32 = 8;
/// Taken for the usual silence of a link over which nothing came twice yet.
const USUAL: Duration = Duration::from_millis(400);
/// Round trips are compared for so long: a queue that one way has all that time is taken for the way itself.
const LEAST_OF: Duration = Duration::from_secs(30);
/// Longest silence that says something of how often something comes: what is longer was an outage.
const GAP_MAX: Duration = Duration::from_secs(1);
/// Things that come within this belong to one burst: they say nothing of how often something comes.
const BURST: Duration = Duration::from_millis(5);
/// A relayed link stays for so long at the least.
const SETTLED: Duration = Duration::from_secs(3);

/// A connection to one other process.
pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    pub(crate) dialed: bool,
    /// Who must be there, where that is known before.
    pub(crate) expect: Option<PeerId>,
    /// Where the other end says that we seem to be, where we dialed.
    pub(crate) observed: Option<SocketAddr>,
    /// Whose key was proved there.
    pub(crate) peer: Option<PeerId>,
    /// In which of its lives; known once it is a member.
    pub(crate) boot: Boot,
    /// What only the two ends of the connection know.
    pub(crate) exporter: [u8; 32],
    /// The newest lock that its other end proved to know, and when that was first to be expected of it.
    pub(crate) lock: LockId,
    pub(crate) heard_lock: Time,
    /// Its address is to be told to nobody.
    pub(crate) hidden: bool,
    /// A proof of a lock that we do not know yet.
    pub(crate) claimed: Option<(LockId, [u8; 32])>,
    pub(crate) stage: Stage,
    /// How much came over it, and how much of that its other end said itself.
    pub(crate) quota: Quota,
    pub(crate) own_quota: Quota,
    pub(crate) opened: Time,
    /// When something last came from there.
    pub(crate) heard: Time,
    /// The round trip, as last measured.
    pub(crate) rtt: Option<Duration>,
    /// The least in this stretch of [`LEAST_OF`] and in the one before, and when this one ends.
    least: [Option<Duration>; 2],
    least_until: Time,
    /// The usual time from one burst to the next, and by how much that usually differs.
    usual: Option<Duration>,
    spread: Duration,
    /// First copies that came over it, halved every second.
    firsts: u32,
    /// One end wants it to go.
    pub(crate) retiring: Option<Retiring>,
    /// The other end cannot do without it, until then at least.
    pub(crate) needed_until: Time,
}

/// A link that is about to be given up: nothing new takes its way over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retiring {
    /// When we close it; where the other end is to, when we no longer believe that it will.
    pub(crate) until: Time,
    pub(crate) ours: bool,
}

/// How far a link has come.
pub(crate) enum Stage {
    /// We dialed; no connection yet. Or it was accepted, and no key proved yet.
    Connecting,
    /// Accepted: HELLO is to come.
    AwaitHello,
    /// Dialed: HELLO was sent, SHARE is to come.
    AwaitShare(Box<Dialer>),
    /// Accepted: SHARE was sent, CONFIRM is to come.
    AwaitConfirm(Box<Accepter>),
    /// Dialed: our CONFIRM waits until a neighbor that is farther away has gone.
    AwaitRoom { ours: Proof, theirs: Proof },
    /// Dialed: CONFIRM was sent, WELCOME is to come.
    AwaitWelcome(Proof),
    /// Accepted, the other end proved to be a member: our WELCOME waits until a neighbor that is farther away has gone.
    Welcoming { proof: Proof, its_links: usize },
    /// Both ends are members.
    Member,
}

impl Link {
    pub(crate) fn new(address: SocketAddr, dialed: bool, expect: Option<PeerId>, now: Time) -> Self {
        Self {
            address,
            dialed,
            expect,
            observed: None,
            peer: None,
            boot: Boot(0),
            exporter: [0; 32],
            lock: LockId::default(),
            heard_lock: now,
            hidden: false,
            claimed: None,
            stage: Stage::Connecting,
            quota: Quota::new(now),
            own_quota: Quota::new(now),
            opened: now,
            heard: now,
            rtt: None,
            least: [None; 2],
            least_until: now + LEAST_OF,
            usual: None,
            spread: Duration::ZERO,
            firsts: 0,
            retiring: None,
            needed_until: Time(0),
        }
    }

    /// Whether somebody outside of the mesh carries it.
    pub(crate) fn is_relayed(&self) -> bool {
        is_relay(self.address)
    }

    /// Whether it is there for so long that what members say of each other has gone around.
    pub(crate) fn is_settled(&self, now: Time) -> bool {
        now.since(self.opened) >= SETTLED
    }

    /// The round trip was measured.
    pub(crate) fn note_rtt(&mut self, rtt: Duration, now: Time) {
        self.rtt = Some(rtt);
        if now >= self.least_until {
            self.least = [None, self.least[0]];
            self.least_until = now + LEAST_OF;
        }
        self.least[0] = Some(self.least[0].map_or(rtt, |least| least.min(rtt)));
    }

    /// The least round trip in a while: what both ways take where nothing stands in a queue.
    pub(crate) fn least_rtt(&self) -> Option<Duration> {
        self.least.into_iter().flatten().min()
    }

    /// Something came.
    pub(crate) fn hear(&mut self, now: Time) {
        let gap = now.since(self.heard).min(GAP_MAX);
        self.heard = now;
        if gap < BURST {
            return;
        }
        // As TCP learns a round trip and its spread (RFC 6298, section 2): a new link may be the next to die.
        (self.usual, self.spread) = match self.usual {
            None => (Some(gap), gap / 2),
            Some(usual) => (Some((usual * 7 + gap) / 8), (self.spread * 7 + gap.abs_diff(usual)) / 8),
        };
    }

    /// Whether it is suspiciously long since something came: dead, perhaps, but not to be closed for that alone.
    pub(crate) fn is_quiet(&self, now: Time) -> bool {
        let usual = self.usual.unwrap_or(USUAL);
        now.since(self.heard) >= QUIET.max(usual * 12 / 5).max(usual + self.spread * SPREADS)
    }

    /// A first copy of something came over it.
    pub(crate) fn note_first(&mut self) {
        self.firsts = self.firsts.saturating_add(1);
    }

    /// First copies count less as time passes.
    pub(crate) fn age_firsts(&mut self) {
        self.firsts /= 2;
    }

    pub(crate) fn firsts(&self) -> u32 {
        self.firsts
    }

    /// Whether its admission waits until a neighbor has gone.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.stage, Stage::AwaitRoom { .. } | Stage::Welcoming { .. })
    }

    pub(crate) fn is_member(&self) -> bool {
        matches!(self.stage, Stage::Member)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:?} at {}, {:?})", self.peer, self.address, self.stage)
    }
}

impl fmt::Debug for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What lies within is secret.
        f.write_str(match self {
            Self::Connecting => "Connecting",
            Self::AwaitHello => "AwaitHello",
            Self::AwaitShare(_) => "AwaitShare",
            Self::AwaitConfirm(_) => "AwaitConfirm",
            Self::AwaitRoom { .. } => "AwaitRoom",
            Self::AwaitWelcome(_) => "AwaitWelcome",
            Self::Welcoming { .. } => "Welcoming",
            Self::Member => "Member",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_round_trip_is_that_of_the_last_while() {
        let (mut link, mut now) = (Link::new(([127, 0, 0, 1], 7).into(), true, None, Time(0)), Time(0));
        let millis = Duration::from_millis;
        assert_eq!(link.least_rtt(), None);
        link.note_rtt(millis(20), now);
        for _ in 0..30 {
            now = now + Duration::from_secs(1);
            link.note_rtt(millis(300), now);
            assert_eq!((link.rtt, link.least_rtt()), (Some(millis(300)), Some(millis(20))), "a queue");
        }
        for _ in 0..31 {
            now = now + Duration::from_secs(1);
            link.note_rtt(millis(300), now);
        }
        assert_eq!(link.least_rtt(), Some(millis(300)), "the way has become longer");
    }

    fn after(interval: Duration, count: u32, lost: impl Fn(u32) -> bool) -> (Link, Time) {
        let mut link = Link::new(SocketAddr::from(([127, 0, 0, 1], 1)), true, None, Time(0));
        let mut now = Time(0);
        for number in 0..count {
            now = now + interval;
            if !lost(number) {
                link.hear(now);
                link.hear(now);
            }
        }
        (link, now)
    }

    #[test]
    fn a_link_that_is_new_is_found_quiet_as_soon_as_an_old_one() {
        let ms = Duration::from_millis;
        let (fresh, _) = after(ms(50), 0, |_| false);
        assert!(!fresh.is_quiet(Time(0) + ms(900)), "nothing is usual yet");
        let (young, now) = after(ms(50), 12, |number| number == 7);
        assert!(!young.is_quiet(now + ms(119)) && young.is_quiet(now + ms(230)));
    }

    #[test]
    fn a_busy_link_is_soon_found_quiet_and_an_idle_one_is_not() {
        let ms = Duration::from_millis;
        let (busy, now) = after(ms(16), 200, |_| false);
        assert!(!busy.is_quiet(now + ms(119)) && busy.is_quiet(now + ms(120)));
        let (lobby, now) = after(ms(250), 200, |_| false);
        assert!(!lobby.is_quiet(now + ms(550)) && lobby.is_quiet(now + ms(610)));
        // What members far away say comes as it comes: after 40 ms, then after 100, and so on.
        let (relay, now) = after(ms(20), 1_997, |number| number * number % 7 != 1);
        assert!(!relay.is_quiet(now + ms(250)) && relay.is_quiet(now + ms(500)));
        // One in twenty is lost: no false alarm while two in a row are.
        let (lossy, now) = after(ms(50), 2_000, |number| number % 20 == 7);
        assert!(!lossy.is_quiet(now + ms(119)) && lossy.is_quiet(now + ms(200)));
    }
}
