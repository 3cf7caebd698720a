//! Which messages are missing, and when to ask for them.
//!
//! Most of what is lost comes again by itself: the next parcel on the link shows the gap, and the neighbor that sent it is asked. What
//! does not, because the tree has a hole further up or its relay died, is pulled from a neighbor that has it, after a wait that
//! leaves the first way its time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{PortId, PortSet, Slot};
use crate::time::Time;

/// What the first way is given beyond a round trip, before a missing message is pulled.
const SLACK: Duration = Duration::from_millis(10);
/// Longest such wait, and the one where there is no first way.
const WAIT_MAX: Duration = Duration::from_millis(120);
const WAIT_MIN: Duration = Duration::from_millis(15);

/// The authors of whom something is missing.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    holes: BTreeMap<Slot, Hole>,
}

#[derive(Debug)]
struct Hole {
    due: Time,
    /// Who was asked already.
    asked: PortSet,
    /// Who said that it is not kept there any more, and up to where at the least.
    gone: PortSet,
    gone_upto: u64,
}

impl Repairs {
    /// Something of an author's is missing. `rtt` is the round trip to the neighbor that should have sent it, if there is one.
    pub(crate) fn note(&mut self, slot: Slot, rtt: Option<Duration>, now: Time) {
        let due = now + rtt.map_or(WAIT_MIN, |rtt| (rtt / 2 + SLACK).min(WAIT_MAX));
        self.holes.entry(slot).or_insert_with(|| Hole {
            due,
            asked: PortSet::default(),
            gone: PortSet::default(),
            gone_upto: u64::MAX,
        });
    }

    /// Nothing is missing any more.
    pub(crate) fn mended(&mut self, slot: Slot) {
        self.holes.remove(&slot);
    }

    /// Those whose wait is over.
    pub(crate) fn due(&self, now: Time) -> Vec<Slot> {
        self.holes.iter().filter(|(_, hole)| hole.due <= now).map(|(slot, _)| *slot).collect()
    }

    /// When the next wait is over.
    pub(crate) fn next(&self) -> Option<Time> {
        self.holes.values().map(|hole| hole.due).min()
    }

    /// Whom we asked already; when all were, it begins anew.
    pub(crate) fn asked(&self, slot: Slot) -> PortSet {
        self.holes.get(&slot).map(|hole| hole.asked).unwrap_or_default()
    }

    /// A neighbor says that it cannot help up to there. What all of `ahead` say, who have more than we, is so: up to where we may
    /// stop waiting. Nobody alone can make us miss what others have.
    pub(crate) fn gone(&mut self, slot: Slot, port: PortId, upto: u64, ahead: PortSet, now: Time) -> Option<u64> {
        let hole = self.holes.get_mut(&slot)?;
        hole.gone.insert(port);
        hole.gone_upto = hole.gone_upto.min(upto);
        hole.due = now;
        ahead.without(hole.gone).is_empty().then_some(hole.gone_upto)
    }

    /// Who cannot help.
    pub(crate) fn cannot_help(&self, slot: Slot) -> PortSet {
        self.holes.get(&slot).map(|hole| hole.gone).unwrap_or_default()
    }

    /// Nobody could help so far: all are asked again from `due` on.
    pub(crate) fn start_over(&mut self, slot: Slot, due: Time) {
        if let Some(hole) = self.holes.get_mut(&slot) {
            *hole = Hole { due, asked: PortSet::default(), gone: PortSet::default(), gone_upto: u64::MAX };
        }
    }

    /// We asked these, and look again at `due`.
    pub(crate) fn look_again(&mut self, slot: Slot, asked: PortSet, due: Time) {
        if let Some(hole) = self.holes.get_mut(&slot) {
            (hole.due, hole.asked) = (due, asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot(1);
    const NOW: Time = Time(1_000_000);

    fn ports(ids: &[u8]) -> PortSet {
        ids.iter().map(|id| PortId(*id)).collect()
    }

    #[test]
    fn nobody_alone_makes_us_miss_what_others_have() {
        let mut repairs = Repairs::default();
        assert_eq!(repairs.gone(SLOT, PortId(0), 9, ports(&[0]), NOW), None, "nothing was asked");
        repairs.note(SLOT, None, NOW);
        assert_eq!(repairs.gone(SLOT, PortId(0), 9, ports(&[0, 2]), NOW), None);
        assert_eq!(repairs.cannot_help(SLOT), ports(&[0]));
        assert_eq!(repairs.gone(SLOT, PortId(2), 7, ports(&[0, 2]), NOW), Some(7), "no further than all say");
    }

    #[test]
    fn a_wait_is_begun_once_and_bounded() {
        let mut repairs = Repairs::default();
        repairs.note(SLOT, Some(Duration::from_millis(40)), NOW);
        repairs.note(SLOT, None, NOW);
        assert_eq!(repairs.next(), Some(NOW + Duration::from_millis(30)));
        assert_eq!(repairs.due(NOW), []);
        repairs.mended(SLOT);
        repairs.note(SLOT, Some(Duration::from_secs(9)), NOW);
        assert_eq!(repairs.next(), Some(NOW + WAIT_MAX));
        repairs.start_over(SLOT, NOW);
        assert_eq!(repairs.due(NOW), [SLOT]);
    }
}
