//! One origin: where its frames come from, and where they go on to.

use std::time::Duration;

use super::ledger::Ledger;
use super::{PortId, PortSet, Window};
use crate::id::{Boot, PeerId};
use crate::time::Time;

/// An origin all of whose frames had to be asked for so long has lost its tree as well.
const WITHOUT_WAY: Duration = Duration::from_secs(2);
/// An origin silent for so long, or for twice what is usual between its frames, may have lost its tree.
const SILENCE: Duration = Duration::from_millis(250);
/// So often such an origin is asked for before we take more time each time, and so often that time doubles.
const ASKED_IN_A_ROW: u8 = 3;
const DOUBLINGS_MAX: u8 = 6;
/// So many frames in a row do not get lost.
const FRAMES_MISSING: u32 = 6;
/// Longest usual time between frames that is believed.
const INTERVAL_MAX: Duration = Duration::from_secs(5);
/// So many frames in a row that came first by another link than the parent make that link the parent.
const ELSEWHERE: u8 = 8;
/// Who passed on what was altered is not listened to for so long, as long as others bring the origin's frames.
const SHUNNED: Duration = Duration::from_secs(10);
const SHUNNED_SILENCE: Duration = Duration::from_millis(300);

/// The number of an origin on this node, and on its links: small, dense, and given anew after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// We ourselves.
    pub(crate) const ME: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of one origin's frames.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) peer: PeerId,
    pub(crate) boot: Boot,
    /// Its packets of state that were here.
    pub(crate) packets: Window,
    /// The link by which its frames should come.
    pub(crate) parent: Option<PortId>,
    /// A second one, where the first loses much.
    pub(crate) spare: Option<PortId>,
    /// The links that its frames go on to, until they are pruned.
    pub(crate) eager: PortSet,
    /// Those of them that asked for it.
    pub(crate) wanted: PortSet,
    /// The links that we asked to leave it out.
    pub(crate) declined: PortSet,
    /// Which of its packets are proved.
    pub(crate) ledger: Ledger,
    /// The links that passed on what it did not say, and when that was last.
    pub(super) shunned: PortSet,
    shunned_at: Time,
    /// When a packet of it came.
    packet_heard: Time,
    /// When something of it came, and what is usual between that.
    pub(crate) heard: Time,
    /// The same of what came by itself: who must ask for everything has no way to the origin.
    came: Time,
    interval: Duration,
    /// When we last asked a neighbor for it.
    pub(crate) asked: Time,
    /// How often we asked for it since something of it came.
    pub(crate) unanswered: u8,
    /// Messages that had to be pulled since one came by the tree.
    pub(crate) pulled: u8,
    /// The link by which the newest frame came.
    newest: Option<PortId>,
    elsewhere: u8,
}

impl Origin {
    pub(crate) fn new(peer: PeerId, boot: Boot, now: Time) -> Self {
        Self {
            peer,
            boot,
            packets: Window::new(),
            parent: None,
            spare: None,
            eager: PortSet::default(),
            wanted: PortSet::default(),
            declined: PortSet::default(),
            ledger: Ledger::default(),
            shunned: PortSet::default(),
            shunned_at: now,
            packet_heard: now,
            heard: now,
            came: now,
            interval: Duration::ZERO,
            asked: now,
            unanswered: 0,
            pulled: 0,
            newest: None,
            elsewhere: 0,
        }
    }

    pub(super) fn port_opened(&mut self, port: PortId, lazy: bool) {
        if !lazy {
            self.eager.insert(port);
        }
    }

    pub(super) fn port_closed(&mut self, port: PortId) {
        for ports in [&mut self.eager, &mut self.wanted, &mut self.declined, &mut self.shunned] {
            ports.remove(port);
        }
        for one in [&mut self.parent, &mut self.spare, &mut self.newest] {
            *one = one.filter(|one| *one != port);
        }
    }

    /// A frame came by `from` that was not here before. What was asked for says nothing about the tree.
    pub(super) fn first(&mut self, from: PortId, repair: bool, lost_parent: bool, now: Time) {
        let since = now.since(self.heard).min(INTERVAL_MAX);
        self.interval = if since > self.interval { (self.interval + since) / 2 } else { (self.interval * 7 + since) / 8 };
        self.heard = now;
        if !repair {
            self.came = now;
        }
        if now.since(self.came) < WITHOUT_WAY {
            self.unanswered = 0;
        }
        if repair {
            return;
        }
        self.pulled = 0;
        self.newest = Some(from);
        self.elsewhere = if self.parent == Some(from) { 0 } else { self.elsewhere.saturating_add(1) };
        if lost_parent || self.elsewhere >= ELSEWHERE {
            self.parent = Some(from);
            self.elsewhere = 0;
        }
    }

    /// We heard nobody until now: that this origin was silent, and nobody answered for it, says nothing.
    pub(crate) fn forgive(&mut self, now: Time) {
        (self.heard, self.asked, self.unanswered) = (now, now, 0);
    }

    /// A packet came that was not here before.
    pub(crate) fn note_packet(&mut self, seq: u32, now: Time) {
        self.packets.insert(u64::from(seq));
        self.packet_heard = now;
    }

    /// Numbers were made up: which packets were here is known no more.
    pub(crate) fn forget_packets(&mut self) {
        self.packets = Window::new();
    }

    /// A link passed on what the origin did not say.
    pub(super) fn shun(&mut self, port: PortId, now: Time) {
        self.shunned.insert(port);
        self.shunned_at = now;
        self.parent = self.parent.filter(|parent| *parent != port);
        self.newest = self.newest.filter(|newest| *newest != port);
    }

    /// Whether what comes by a link is not to be listened to. Before nothing comes at all, it is.
    pub(crate) fn is_shunned(&mut self, port: PortId, now: Time) -> bool {
        if now.since(self.shunned_at) >= SHUNNED || now.since(self.packet_heard) >= SHUNNED_SILENCE {
            self.shunned = PortSet::default();
        }
        self.shunned.contains(port)
    }

    /// The other link by which a frame came that now comes by `from`.
    pub(super) fn came_by(&self, from: PortId) -> Option<PortId> {
        self.newest.filter(|newest| *newest != from)
    }

    /// How long it may say nothing before it counts as gone, where `silence` is what anyone may: longer if much of it gets lost on its
    /// way, as what only says that it lives is not repaired.
    pub(crate) fn silence(&self, silence: Duration) -> Duration {
        silence.max((self.interval * FRAMES_MISSING).min(silence * 2))
    }

    pub(super) fn is_silent(&self, now: Time) -> bool {
        let patience = SILENCE.max(self.interval * 2);
        let again = SILENCE.max(self.interval) * (1 << self.unanswered.saturating_sub(ASKED_IN_A_ROW).min(DOUBLINGS_MAX));
        let silent = now.since(self.heard) >= patience || now.since(self.came) >= WITHOUT_WAY.max(patience);
        silent && now.since(self.asked) >= again
    }
}
