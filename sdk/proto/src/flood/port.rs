//! What crossed one link: numbered parcels, what was lost of them, and what the neighbor has.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::{Age, NO_AGE, Slot, Window};
use crate::id::{Boot, LinkId, PeerId};
use crate::time::Time;
use crate::wire::{Alias, DATAGRAM_BYTES_MAX, Encoded, MISSING_MAX, parcel};

/// Most parcels whose content is remembered, and how long: after that nobody asks for it any more.
const HISTORY_MAX: usize = 2_048;
const HISTORY: Duration = Duration::from_millis(750);
/// Most lost parcels that wait to be asked for; beyond it the oldest are given up.
const WAITING_MAX: usize = 1_024;
/// A jump in the numbers wider than this is no loss but a new beginning.
const JUMP: u64 = 512;
/// A parcel that overtook others makes us wait so long, at most, before others are taken for lost.
const GRACE_MAX: Duration = Duration::from_millis(30);
/// Loss is averaged over about so many parcels.
const LOSS_OVER: u32 = 128;
/// On a link that loses, a parcel that nothing follows for so long is followed by an empty one, so that it is missed soon.
const PROBE_AFTER: Duration = Duration::from_millis(5);
/// Who missed a parcel is thought to miss more for so long.
const LOSSY_FOR: Duration = Duration::from_secs(5);
/// Most messages remembered that went over the stream.
const STREAMED_MAX: usize = 256;
/// Longest average time between two parcels that is believed.
const INTERVAL_MAX: Duration = Duration::from_secs(2);

/// The number of a link among those that stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortId(pub(crate) u8);

impl PortId {
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }

    fn bit(self) -> u64 {
        1_u64.checked_shl(u32::from(self.0)).unwrap_or(0)
    }
}

/// Some of the links that stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortSet(u64);

impl PortSet {
    /// Whether that is news.
    pub(crate) fn insert(&mut self, port: PortId) -> bool {
        let is_new = !self.contains(port);
        self.0 |= port.bit();
        is_new
    }

    pub(crate) fn remove(&mut self, port: PortId) {
        self.0 &= !port.bit();
    }

    pub(crate) fn contains(self, port: PortId) -> bool {
        self.0 & port.bit() != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl IntoIterator for PortSet {
    type Item = PortId;
    type IntoIter = Ports;

    fn into_iter(self) -> Ports {
        Ports(self.0)
    }
}

/// The links of a [`PortSet`], in the order of their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Ports(u64);

impl Iterator for Ports {
    type Item = PortId;

    fn next(&mut self) -> Option<PortId> {
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        (lowest < u64::BITS).then_some(PortId(lowest as u8))
    }
}

impl FromIterator<PortId> for PortSet {
    fn from_iter<T: IntoIterator<Item = PortId>>(ports: T) -> Self {
        ports.into_iter().fold(Self::default(), |mut set, port| {
            set.insert(port);
            set
        })
    }
}

/// What a parcel held that is sent again if it is lost. State is not: the next tick supersedes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Nothing,
    /// An author's message.
    Said(Slot, u64),
    /// An origin's manifest that ends with this packet.
    Proof(Slot, u32),
    /// Something that was asked for.
    Asked(Encoded),
}

/// One link to a member.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) link: LinkId,
    pub(crate) peer: PeerId,
    pub(crate) boot: Boot,
    /// Round trip, as the driver measured it.
    pub(crate) rtt: Duration,
    /// What it carries in bytes per second, where it is full.
    pub(crate) limit: Option<u64>,
    /// Nothing came for so long that it may be dead.
    pub(crate) quiet: bool,
    /// Part of the parcels that was lost on the way here, in 1/65,536.
    pub(crate) loss: u32,
    /// When something last came, and what is usual between that.
    pub(crate) heard: Time,
    pub(crate) interval: Duration,

    next_number: u16,
    queue: VecDeque<(Encoded, Kept)>,
    history: VecDeque<Sent>,
    pub(crate) sent: Time,
    lossy_until: Time,
    /// When an empty parcel is to follow the last.
    probe: Option<Time>,
    /// By our slot: whether the neighbor knows our number for it.
    known: Vec<bool>,
    /// Which numbers have been offered to it.
    pub(crate) offered: usize,

    highest: Option<u64>,
    numbers: Window,
    missing: VecDeque<(Time, u64)>,
    grace: Duration,
    /// By the neighbor's number.
    aliases: Vec<Option<Named>>,
    /// Messages that went over the stream of late: it brings them, however long that takes.
    streamed: VecDeque<(Slot, u64)>,

    /// By our slot: up to where the neighbor has that author's messages.
    theirs: Vec<u64>,
    /// By our slot: how old the origin's frames are there.
    ages: Vec<Age>,
    told_ages: Vec<Age>,
    pub(crate) ages_told: Time,
    pub(crate) digest: LastDigest,
}

/// What the neighbor was last told of our messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LastDigest {
    /// [`Broadcast::version`](crate::message::Broadcast::version) at the last times, the oldest first: in case one is lost, all is
    /// told that often.
    pub(crate) versions: [u64; 3],
    /// Digests told in all.
    pub(crate) count: u32,
}

/// An origin that the neighbor gave a number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named {
    pub(super) peer: PeerId,
    pub(super) boot: Boot,
    /// Our own number for it, and whose turn that was: numbers are given anew.
    pub(super) carried: Option<(Slot, u32)>,
}

#[derive(Debug)]
struct Sent {
    number: u16,
    at: Time,
    kept: Vec<Kept>,
}

impl Port {
    pub(crate) fn new(link: LinkId, peer: PeerId, boot: Boot, now: Time) -> Self {
        Self {
            link,
            peer,
            boot,
            rtt: Duration::ZERO,
            limit: None,
            quiet: false,
            loss: 0,
            heard: now,
            interval: Duration::ZERO,
            next_number: 0,
            queue: VecDeque::new(),
            history: VecDeque::new(),
            sent: now,
            lossy_until: Time(0),
            probe: None,
            known: Vec::new(),
            offered: 0,
            highest: None,
            numbers: Window::new(),
            missing: VecDeque::new(),
            grace: Duration::ZERO,
            aliases: Vec::new(),
            streamed: VecDeque::new(),
            theirs: Vec::new(),
            ages: Vec::new(),
            told_ages: Vec::new(),
            ages_told: Time(0),
            digest: LastDigest::default(),
        }
    }

    /// A slot is somebody else's from now on.
    pub(super) fn reset(&mut self, slot: Slot) {
        set(&mut self.known, slot.index(), false);
        set(&mut self.theirs, slot.index(), 0);
        set(&mut self.ages, slot.index(), NO_AGE);
        set(&mut self.told_ages, slot.index(), NO_AGE);
        self.offered = self.offered.min(slot.index());
    }

    // --- to the neighbor -----------------------------------------------------------------------------------------------

    pub(crate) fn enqueue(&mut self, item: Encoded, kept: Kept) {
        self.queue.push_back((item, kept));
    }

    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Fills parcels with what waits.
    pub(super) fn pack(&mut self, now: Time, parcels: &mut Vec<(LinkId, Bytes)>) {
        while !self.queue.is_empty() {
            let (count, length) = self.fitting();
            if count == 0 {
                // What fits no parcel at all is nothing we make; better lost than for ever in the way.
                debug_assert!(false, "items fit a parcel");
                self.queue.pop_front();
                continue;
            }
            let mut bytes = self.begin(length, now);
            for (place, (item, kept)) in self.queue.drain(..count).enumerate() {
                item.put(&mut bytes, place + 1 == count);
                if let (true, Some(sent)) = (kept != Kept::Nothing, self.history.back_mut()) {
                    sent.kept.push(kept);
                }
            }
            let repaired = self.history.back().is_some_and(|sent| !sent.kept.is_empty());
            self.probe = (repaired && now < self.lossy_until).then_some(now + PROBE_AFTER);
            parcels.push((self.link, bytes.freeze()));
        }
    }

    /// How many of the items that wait fit the next parcel, and how many bytes they take at the most.
    fn fitting(&self) -> (usize, usize) {
        let room = DATAGRAM_BYTES_MAX - parcel::HEADER_BYTES;
        let (mut count, mut length) = (0, 0);
        for (item, _) in &self.queue {
            if length + item.len(true) > room {
                break;
            }
            count += 1;
            length += item.len(false);
            // It fits as the last only.
            if length > room {
                break;
            }
        }
        (count, length)
    }

    /// A parcel with nothing in it: we are here.
    pub(crate) fn keep_alive(&mut self, now: Time) -> Bytes {
        self.probe = None;
        self.begin(0, now).freeze()
    }

    /// When one is due to show whether the last parcel arrived.
    pub(crate) fn probe(&self) -> Option<Time> {
        self.probe
    }

    fn begin(&mut self, bytes: usize, now: Time) -> BytesMut {
        self.sent = now;
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        while self.history.pop_front_if(|sent| now.since(sent.at) > HISTORY).is_some() {}
        if self.history.len() >= HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Sent { number, at: now, kept: Vec::new() });
        parcel::begin(number, bytes)
    }

    /// What was in parcels that the neighbor misses.
    pub(crate) fn lost(&mut self, numbers: &[u16], now: Time) -> Vec<Kept> {
        self.lossy_until = now + LOSSY_FOR;
        let first = self.history.front().map_or(0, |sent| sent.number);
        let sent = numbers.iter().filter_map(|number| {
            let sent = self.history.get_mut(usize::from(number.wrapping_sub(first)))?;
            (sent.number == *number).then(|| std::mem::take(&mut sent.kept))
        });
        sent.flatten().collect()
    }

    pub(crate) fn knows(&self, slot: Slot) -> bool {
        self.known.get(slot.index()).copied().unwrap_or(false)
    }

    /// The neighbor knows our number for a slot.
    pub(crate) fn learned(&mut self, slot: Slot) {
        set(&mut self.known, slot.index(), true);
    }

    pub(crate) fn told_age(&self, slot: Slot) -> Age {
        self.told_ages.get(slot.index()).copied().unwrap_or(NO_AGE)
    }

    pub(crate) fn tell_ages(&mut self, ages: Vec<Age>, now: Time) {
        self.told_ages = ages;
        self.ages_told = now;
    }

    // --- from the neighbor ---------------------------------------------------------------------------------------------

    /// Something came.
    pub(crate) fn heard(&mut self, now: Time) {
        let since = now.since(self.heard).min(INTERVAL_MAX);
        self.interval = (self.interval * 7 + since) / 8;
        self.heard = now;
        self.quiet = false;
    }

    /// Takes a parcel's number in; false if it was here before.
    pub(crate) fn receive(&mut self, number: u16, now: Time) -> bool {
        let full = match self.highest {
            None => u64::from(number) + (1 << 16),
            Some(highest) => highest.wrapping_add_signed(i64::from(number.wrapping_sub(highest as u16) as i16)),
        };
        if !self.numbers.insert(full) {
            return false;
        }
        let highest = self.highest.unwrap_or(full);
        if full > highest && full - highest <= JUMP {
            for lost in highest + 1..full {
                self.missing.push_back((now + self.grace, lost));
                self.loss += (65_536 - self.loss) / LOSS_OVER;
            }
            let surplus = self.missing.len().saturating_sub(WAITING_MAX);
            self.missing.drain(..surplus);
        } else if full < highest {
            // Late, not lost: how late says how long to wait with the next ones.
            self.missing.retain(|(_, missing)| *missing != full);
            let behind = u32::try_from(highest - full).unwrap_or(u32::MAX).saturating_mul(micros_per(self.interval));
            self.grace = self.grace.max(Duration::from_micros(u64::from(behind)).min(GRACE_MAX));
        } else {
            self.grace = self.grace * 255 / 256;
        }
        self.loss -= self.loss / LOSS_OVER;
        self.highest = Some(highest.max(full));
        true
    }

    /// Parcels to ask for now.
    pub(crate) fn due_missing(&mut self, now: Time) -> Vec<u16> {
        let mut due = Vec::new();
        while due.len() < MISSING_MAX
            && let Some((_, number)) = self.missing.pop_front_if(|(due, _)| *due <= now)
        {
            due.push(number as u16);
        }
        due
    }

    /// When the next is to be asked for.
    pub(crate) fn next_missing(&self) -> Option<Time> {
        self.missing.front().map(|(due, _)| *due)
    }

    /// A message is to go over the stream; false if it went before.
    pub(crate) fn stream(&mut self, slot: Slot, seq: u64) -> bool {
        let is_new = !self.streamed.contains(&(slot, seq));
        if is_new {
            self.streamed.push_back((slot, seq));
            if self.streamed.len() > STREAMED_MAX {
                self.streamed.pop_front();
            }
        }
        is_new
    }

    /// The slot is to be another's.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.streamed.retain(|(of, _)| *of != slot);
    }

    /// The neighbor gave an origin a number; `carried` is our own, if we carry it.
    pub(super) fn name(&mut self, alias: Alias, carried: Option<(Slot, u32)>) {
        let named = Named { peer: alias.origin, boot: alias.boot, carried };
        set(&mut self.aliases, alias.number as usize, Some(named));
    }

    pub(super) fn alias(&self, number: u32) -> Option<&Named> {
        self.aliases.get(number as usize)?.as_ref()
    }

    pub(super) fn alias_mut(&mut self, number: u32) -> Option<&mut Named> {
        self.aliases.get_mut(number as usize)?.as_mut()
    }

    /// Up to where the neighbor has an author's messages.
    pub(crate) fn theirs(&self, slot: Slot) -> u64 {
        self.theirs.get(slot.index()).copied().unwrap_or(0)
    }

    pub(crate) fn has(&mut self, slot: Slot, upto: u64) {
        set(&mut self.theirs, slot.index(), upto);
    }

    pub(crate) fn age(&self, slot: Slot) -> Age {
        self.ages.get(slot.index()).copied().unwrap_or(NO_AGE)
    }

    pub(crate) fn hear_age(&mut self, slot: Slot, age: Age) {
        set(&mut self.ages, slot.index(), age);
    }
}

fn micros_per(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

trait Fill {
    const EMPTY: Self;
}

impl Fill for bool {
    const EMPTY: Self = false;
}

impl Fill for u64 {
    const EMPTY: Self = 0;
}

impl Fill for Age {
    const EMPTY: Self = NO_AGE;
}

impl Fill for Option<Named> {
    const EMPTY: Self = None;
}

/// Sets one place of a list that grows as needed; who calls it has checked the index against a limit.
fn set<T: Clone + Fill>(list: &mut Vec<T>, index: usize, value: T) {
    if index >= list.len() {
        list.resize(index + 1, T::EMPTY);
    }
    list[index] = value;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_skips_numbers_makes_us_remember_no_more_than_the_limit() {
        let mut port = Port::new(LinkId(1), PeerId([1; 32]), Boot(1), Time(0));
        for parcel in 0..100 {
            assert!(port.receive(parcel * 512, Time(0)));
        }
        assert_eq!(port.missing.len(), WAITING_MAX);
        assert_eq!(port.due_missing(Time(0)).len(), MISSING_MAX);
    }
}
