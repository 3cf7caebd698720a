//! Which of an origin's relayed packets are proved, and which are still a neighbor's word.
//!
//! A relayed packet counts and goes on at once. Its hash is kept until a manifest of its origin comes, a quarter of a second later: then
//! it is proved, or found to be altered. Who leaves manifests out gains a second: after that packets wait for their proof, and what
//! counted without one is undone.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::id::{Boot, LinkId, MeshId, PeerId, Tick, Verifier};
use crate::time::Time;
use crate::wire::{LeafKey, MANIFEST_MAX, Manifest, Packet, PacketLeaf};

/// Most packets of one origin that wait for a manifest; those beyond them are dropped.
const WAITING_MAX: usize = 512;
/// Most of them that are held back with what they hold.
const HELD_MAX: usize = 64;
/// No packet is numbered further ahead of the newest manifest: a forged number must not make true ones look old.
const AHEAD_MAX: u32 = 1_024;
/// Where a packet waits for longer, those after it do not count before they are proved.
const PATIENCE: Duration = Duration::from_secs(1);
/// A packet that waits for so long should have been proved: the neighbor that passes them on is asked, and again after a while.
const OVERDUE: Duration = Duration::from_millis(400);
const ASK_EVERY: Duration = Duration::from_millis(120);
/// Manifests sent to one who asks.
const ASKED_MAX: usize = 3;
/// Manifests kept for packets that come late, and to be sent again.
const KEPT_MAX: usize = 8;

/// A parcel that something came in: its link and number.
pub(crate) type Came = (LinkId, u16);

/// What is known of the proofs of one origin.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    key: Option<LeafKey>,
    verifier: Option<Verifier>,
    /// In the order of arrival.
    waiting: VecDeque<Waiting>,
    kept: VecDeque<(Manifest, Came)>,
    /// Packets waited for too long: those that come now are held back.
    doubted: bool,
    /// When a neighbor was last asked for a proof.
    asked: Option<Time>,
}

#[derive(Debug)]
struct Waiting {
    seq: u32,
    leaf: PacketLeaf,
    by: LinkId,
    at: Time,
    /// The tick it says it is of.
    tick: Tick,
    /// What it holds, where that does not count yet.
    held: Option<Bytes>,
    /// The packet, where it does not go on yet.
    stopped: Option<Packet>,
}

/// What to make of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Its origin signed it.
    Proved,
    /// Its neighbor's word is enough for now.
    Lent,
    /// It may go on, but does not count before it is proved. `new`: so it is from now on.
    Held { new: bool },
    /// It came from one who passed on lies before: it neither counts nor goes on before it is proved.
    Doubted,
    /// A manifest says otherwise. `knowing`: the neighbor had passed that on before.
    Altered { knowing: bool },
    /// It is too old ever to be proved, too far ahead, or too much waits already.
    Refused,
}

/// What a manifest brought to light.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// The links by which altered packets came: of each the last one.
    pub(crate) altered: Vec<Altered>,
    /// What counted and should not have: everything from this tick on is to be undone.
    pub(crate) undo: Option<Tick>,
    /// What was held back and is proved now, with the links by which it came.
    pub(crate) released: Vec<(LinkId, Bytes)>,
    /// What is to go on now, with the same.
    pub(crate) onward: Vec<(LinkId, Packet)>,
}

/// A packet that is not what its origin sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Altered {
    /// The link by which it came, and when.
    pub(crate) by: LinkId,
    pub(crate) at: Time,
}

impl Ledger {
    pub(crate) fn leaf(&mut self, packet: &Packet, mesh: &MeshId, origin: &PeerId, boot: Boot) -> PacketLeaf {
        packet.leaf(self.key.get_or_insert_with(|| LeafKey::new(mesh, origin, boot)))
    }

    /// What checks the origin's signatures.
    pub(crate) fn verifier(&mut self, origin: &PeerId) -> &Verifier {
        self.verifier.get_or_insert_with(|| Verifier::new(origin))
    }

    /// Whether a manifest that is here covers a packet.
    pub(crate) fn covers(&self, seq: u32) -> bool {
        self.kept.iter().any(|(manifest, _)| manifest.leaf(seq).is_some())
    }

    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The packet for which a proof is to be asked for now, if one is overdue.
    pub(crate) fn ask(&mut self, now: Time) -> Option<u32> {
        let overdue = self.oldest().filter(|oldest| now.since(oldest.at) > OVERDUE)?.seq;
        if self.asked.is_some_and(|asked| now.since(asked) < ASK_EVERY) {
            return None;
        }
        self.asked = Some(now);
        Some(overdue)
    }

    /// The manifests for one who asks for the proof of a packet, and of those after it.
    pub(crate) fn answers(&self, seq: u32) -> impl Iterator<Item = &Manifest> {
        let manifests = self.kept.iter().map(|(manifest, _)| manifest);
        manifests.skip_while(move |manifest| manifest.leaf(seq).is_none()).take(ASKED_MAX)
    }

    /// Judges a packet by its hash, and remembers it if it is not proved yet. `parole`: its neighbor passed on lies before.
    pub(crate) fn judge(&mut self, packet: &Packet, leaf: PacketLeaf, tick: Tick, came: Came, parole: bool, now: Time) -> Trust {
        let known = self.kept.iter().find_map(|(manifest, by)| Some((manifest.leaf(packet.seq)?, *by)));
        if let Some((known, by)) = known {
            let after = came.0 == by.0 && (came.1.wrapping_sub(by.1) as i16) > 0;
            return if *known == leaf { Trust::Proved } else { Trust::Altered { knowing: after } };
        }
        let too_old = self.kept.front().is_some_and(|(oldest, _)| packet.seq < oldest.first);
        let too_far = self.kept.back().is_some_and(|(newest, _)| is_too_far(packet.seq, newest));
        let held_back = self.waiting.iter().rev().take_while(|one| one.held.is_some()).count();
        if too_old || too_far || self.waiting.len() >= WAITING_MAX || held_back >= HELD_MAX {
            return Trust::Refused;
        }
        let new = !self.doubted && self.oldest().is_some_and(|oldest| now.since(oldest.at) > PATIENCE);
        self.doubted |= new;
        let held = (self.doubted || parole).then(|| packet.payload.clone());
        let stopped = parole.then(|| packet.clone());
        self.waiting.push_back(Waiting { seq: packet.seq, leaf, by: came.0, at: now, tick, held, stopped });
        match (parole, self.doubted) {
            (true, _) => Trust::Doubted,
            (false, true) => Trust::Held { new },
            (false, false) => Trust::Lent,
        }
    }

    /// Whether a manifest says anything that is not here: only then its signature is worth looking at.
    pub(crate) fn is_news(&self, manifest: &Manifest) -> bool {
        let Some((oldest, _)) = self.kept.front() else { return true };
        manifest.last() >= oldest.first && (manifest.first..=manifest.last()).any(|seq| !self.covers(seq))
    }

    /// A manifest that is here and says something else of the same packet.
    pub(crate) fn contradiction(&self, manifest: &Manifest) -> Option<&Manifest> {
        self.kept.iter().map(|(kept, _)| kept).find(|kept| kept.contradicts(manifest))
    }

    /// Keeps a manifest whose signature holds.
    pub(crate) fn keep(&mut self, manifest: Manifest, came: Came) {
        if self.kept.len() >= KEPT_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((manifest, came));
    }

    /// The manifest that ends with this packet, if it is still here.
    pub(crate) fn kept(&self, last: u32) -> Option<&Manifest> {
        self.kept.iter().map(|(manifest, _)| manifest).find(|manifest| manifest.last() == last)
    }

    /// Compares what came with a manifest whose signature holds.
    pub(crate) fn prove(&mut self, manifest: &Manifest, now: Time) -> Findings {
        let mut findings = Findings::default();
        let mut wrong = false;
        for one in std::mem::take(&mut self.waiting) {
            match manifest.leaf(one.seq) {
                Some(leaf) if *leaf == one.leaf => {
                    findings.released.extend(one.held.map(|payload| (one.by, payload)));
                    findings.onward.extend(one.stopped.map(|packet| (one.by, packet)));
                }
                leaf if leaf.is_some() || is_too_far(one.seq, manifest) => {
                    wrong |= one.held.is_none();
                    match findings.altered.iter_mut().find(|altered| altered.by == one.by) {
                        Some(altered) => altered.at = altered.at.max(one.at),
                        None => findings.altered.push(Altered { by: one.by, at: one.at }),
                    }
                    self.note_undo(&mut findings, &one);
                }
                // Its own manifests are lost, and will not come any more; or it is further ahead than its origin ever was.
                _ if (one.seq < manifest.first && now.since(one.at) > PATIENCE) || now.since(one.at) > 2 * PATIENCE => {
                    wrong |= one.held.is_none();
                    self.note_undo(&mut findings, &one);
                }
                _ => self.waiting.push_back(one),
            }
        }
        if wrong {
            // What came since may be a difference from what is undone.
            for one in std::mem::take(&mut self.waiting) {
                self.note_undo(&mut findings, &one);
            }
        } else {
            findings.undo = None;
        }
        self.doubted &= self.oldest().is_some_and(|oldest| now.since(oldest.at) > PATIENCE);
        findings
    }

    /// The proofs of what waits are not to be expected any more, and nobody is to blame: everything that counted from this tick on is
    /// to be undone.
    pub(crate) fn abandon(&mut self) -> Option<Tick> {
        (self.doubted, self.asked) = (false, None);
        std::mem::take(&mut self.waiting).iter().filter(|one| one.held.is_none()).map(|one| one.tick).min()
    }

    /// Proofs are late: what counted on a neighbor's word does so no more. From which tick on it is to be undone.
    pub(crate) fn withdraw(&mut self) -> Option<Tick> {
        let lent = |one: &Waiting| one.held.is_none();
        let from = self.waiting.iter().filter(|one| lent(one)).map(|one| one.tick).min();
        self.waiting.retain(|one| !lent(one));
        from
    }

    /// We heard nobody for `absence`: nobody is late for that.
    pub(crate) fn forgive(&mut self, absence: Duration) {
        self.waiting.iter_mut().for_each(|one| one.at = one.at + absence);
    }

    /// What has waited longest of what the next manifests should cover: a number made up far ahead tells nothing about them.
    fn oldest(&self) -> Option<&Waiting> {
        let newest = self.kept.back().map(|(newest, _)| newest.last());
        self.waiting.iter().find(|one| newest.is_none_or(|newest| one.seq <= newest.saturating_add(MANIFEST_MAX as u32)))
    }

    fn note_undo(&self, findings: &mut Findings, one: &Waiting) {
        if one.held.is_none() {
            findings.undo = Some(findings.undo.map_or(one.tick, |undo| undo.min(one.tick)));
        }
    }
}

fn is_too_far(seq: u32, newest: &Manifest) -> bool {
    seq.saturating_sub(newest.last()) > AHEAD_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Identity;

    const RELAY: LinkId = LinkId(1);
    const OTHER: LinkId = LinkId(2);

    struct Origin {
        identity: Identity,
        mesh: MeshId,
    }

    impl Origin {
        fn new() -> Self {
            Self { identity: Identity::from_seed([1; 32]), mesh: MeshId::from_name("test") }
        }

        fn packet(&self, seq: u32) -> Packet {
            Packet { seq, hop_limit: 3, hops: 1, relayed: true, payload: vec![seq as u8; 9].into() }
        }

        fn manifest(&self, first: u32, last: u32) -> Manifest {
            let key = LeafKey::new(&self.mesh, &self.identity.peer_id(), Boot(1));
            let leaves = (first..=last).map(|seq| self.packet(seq).leaf(&key)).collect();
            Manifest::new(&self.identity, &self.mesh, Boot(1), first, 3, leaves)
        }

        fn hear(&self, ledger: &mut Ledger, packet: &Packet, came: Came, now: Time) -> Trust {
            let leaf = ledger.leaf(packet, &self.mesh, &self.identity.peer_id(), Boot(1));
            ledger.judge(packet, leaf, Tick(packet.seq), came, false, now)
        }

        fn altered(&self, seq: u32) -> Packet {
            Packet { payload: vec![255; 9].into(), ..self.packet(seq) }
        }
    }

    fn millis(millis: u64) -> Time {
        Time(millis * 1_000)
    }

    #[test]
    fn after_an_outage_nobody_is_to_blame_for_proofs_that_did_not_come() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        assert_eq!(origin.hear(&mut ledger, &origin.packet(4), (RELAY, 0), millis(0)), Trust::Lent);
        ledger.forgive(Duration::from_millis(900));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(5), (RELAY, 0), millis(1_850)), Trust::Lent);
        assert_eq!(origin.hear(&mut ledger, &origin.packet(6), (RELAY, 0), millis(1_950)), Trust::Held { new: true });
        assert_eq!(ledger.abandon(), Some(Tick(4)));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(7), (RELAY, 0), millis(9_000)), Trust::Lent);
        assert_eq!((ledger.abandon(), ledger.abandon()), (Some(Tick(7)), None));
    }

    #[test]
    fn what_is_not_proved_for_long_is_withdrawn() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        for seq in 4..=6 {
            assert_eq!(origin.hear(&mut ledger, &origin.packet(seq), (RELAY, 0), millis(seq.into())), Trust::Lent);
        }
        assert_eq!(origin.hear(&mut ledger, &origin.packet(7), (RELAY, 0), millis(1_100)), Trust::Held { new: true });
        assert_eq!((ledger.withdraw(), ledger.withdraw()), (Some(Tick(4)), None));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(8), (RELAY, 0), millis(1_110)), Trust::Held { new: false });
        let released = ledger.prove(&origin.manifest(4, 8), millis(1_120)).released;
        assert_eq!(released.len(), 2, "what was held back counts once it is proved");
        assert_eq!(origin.hear(&mut ledger, &origin.packet(9), (RELAY, 0), millis(1_130)), Trust::Lent);
    }

    #[test]
    fn a_manifest_proves_what_is_as_it_was_and_finds_what_is_not() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        for seq in 1..=3 {
            assert_eq!(origin.hear(&mut ledger, &origin.packet(seq), (RELAY, 0), millis(0)), Trust::Lent);
        }
        assert_eq!(ledger.prove(&origin.manifest(1, 3), millis(1)), Findings::default());
        assert!(!ledger.is_waiting());
        origin.hear(&mut ledger, &origin.packet(4), (RELAY, 0), millis(2));
        origin.hear(&mut ledger, &origin.altered(5), (OTHER, 0), millis(2));
        origin.hear(&mut ledger, &origin.packet(6), (RELAY, 0), millis(2));
        let findings = ledger.prove(&origin.manifest(4, 5), millis(3));
        assert_eq!(
            (findings.altered, findings.undo, findings.released),
            (vec![Altered { by: OTHER, at: millis(2) }], Some(Tick(5)), vec![])
        );
        assert!(!ledger.is_waiting(), "what came after it is undone, too");
    }

    #[test]
    fn from_one_who_passed_on_lies_nothing_counts_before_it_is_proved() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        let hear = |ledger: &mut Ledger, packet: &Packet| {
            let leaf = ledger.leaf(packet, &origin.mesh, &origin.identity.peer_id(), Boot(1));
            ledger.judge(packet, leaf, Tick(packet.seq), (OTHER, 0), true, millis(0))
        };
        assert_eq!(hear(&mut ledger, &origin.packet(1)), Trust::Doubted);
        assert_eq!(hear(&mut ledger, &origin.altered(2)), Trust::Doubted);
        let findings = ledger.prove(&origin.manifest(1, 2), millis(1));
        assert_eq!(findings.released, [(OTHER, origin.packet(1).payload)]);
        assert_eq!(findings.onward, [(OTHER, origin.packet(1))]);
        assert_eq!((findings.altered, findings.undo), (vec![Altered { by: OTHER, at: millis(0) }], None));
    }

    #[test]
    fn what_an_origin_signs_twice_must_be_the_same() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        ledger.keep(origin.manifest(1, 3), (RELAY, 0));
        assert!(ledger.contradiction(&origin.manifest(2, 5)).is_none());
        let mut other = origin.manifest(3, 4);
        other.leaves[0][0] ^= 1;
        assert_eq!(ledger.contradiction(&other).map(Manifest::last), Some(3));
        other = origin.manifest(4, 5);
        other.leaves[0][0] ^= 1;
        assert!(ledger.contradiction(&other).is_none(), "of other packets");
    }

    #[test]
    fn a_lost_manifest_costs_nothing() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        let mut now = millis(0);
        for window in 0..10_u32 {
            for seq in window * 15..window * 15 + 15 {
                assert_eq!(origin.hear(&mut ledger, &origin.packet(seq), (RELAY, 0), now), Trust::Lent);
                now = now + Duration::from_millis(16);
            }
            // Every second one is lost; each covers two windows.
            if window % 2 == 1 {
                let manifest = origin.manifest(window.saturating_sub(1) * 15, window * 15 + 14);
                assert!(ledger.is_news(&manifest));
                assert_eq!(ledger.prove(&manifest, now), Findings::default());
                ledger.keep(manifest, (RELAY, 0));
                assert!(!ledger.is_waiting());
            }
        }
    }

    #[test]
    fn without_manifests_trust_ends_after_a_second_and_comes_back_with_one() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        assert_eq!(origin.hear(&mut ledger, &origin.packet(1), (RELAY, 0), millis(0)), Trust::Lent);
        assert_eq!(origin.hear(&mut ledger, &origin.packet(2), (RELAY, 0), millis(1_000)), Trust::Lent);
        assert_eq!(origin.hear(&mut ledger, &origin.packet(3), (RELAY, 0), millis(1_001)), Trust::Held { new: true });
        assert_eq!(origin.hear(&mut ledger, &origin.packet(4), (RELAY, 0), millis(1_002)), Trust::Held { new: false });
        // The first can never be proved: what it said is undone, and the rest counts now.
        let findings = ledger.prove(&origin.manifest(3, 4), millis(1_003));
        assert_eq!((findings.altered, findings.undo), (vec![], Some(Tick(1))));
        assert_eq!(findings.released, [3, 4].map(|seq| (RELAY, origin.packet(seq).payload)));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(5), (RELAY, 0), millis(1_004)), Trust::Lent);
    }

    #[test]
    fn an_overdue_proof_is_asked_for_and_given() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        origin.hear(&mut ledger, &origin.packet(1), (RELAY, 0), millis(0));
        assert_eq!(ledger.ask(millis(400)), None, "its time is not over");
        assert_eq!([401, 500, 522].map(|now| ledger.ask(millis(now))), [Some(1), None, Some(1)]);
        let mut neighbor = Ledger::default();
        (0..6).for_each(|window| neighbor.keep(origin.manifest(2 * window, 2 * window + 3), (OTHER, 0)));
        assert_eq!(neighbor.answers(5).map(Manifest::last).collect::<Vec<_>>(), [5, 7, 9]);
        assert_eq!(neighbor.answers(99).count(), 0);
        ledger.prove(&origin.manifest(0, 3), millis(530));
        assert_eq!(ledger.ask(millis(900)), None);
    }

    #[test]
    fn a_number_made_up_a_little_ahead_does_not_stand_for_long() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        ledger.keep(origin.manifest(1, 3), (RELAY, 0));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(900), (OTHER, 0), millis(0)), Trust::Lent);
        assert_eq!(ledger.ask(millis(500)), None, "nobody has its proof");
        let manifest = origin.manifest(2, 6);
        assert_eq!(ledger.prove(&manifest, millis(1_900)), Findings::default());
        ledger.keep(manifest, (RELAY, 0));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(7), (RELAY, 0), millis(1_950)), Trust::Lent, "the others count");
        let findings = ledger.prove(&origin.manifest(4, 7), millis(2_001));
        assert_eq!(findings.undo, Some(Tick(900)));
    }

    #[test]
    fn who_alters_what_it_proved_itself_is_known() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        ledger.keep(origin.manifest(5, 9), (RELAY, u16::MAX));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(6), (OTHER, 0), millis(0)), Trust::Proved);
        assert_eq!(origin.hear(&mut ledger, &origin.altered(7), (OTHER, 3), millis(0)), Trust::Altered { knowing: false });
        // Sent before the manifest, though it comes after it.
        assert_eq!(
            origin.hear(&mut ledger, &origin.altered(7), (RELAY, u16::MAX - 1), millis(0)),
            Trust::Altered { knowing: false }
        );
        assert_eq!(origin.hear(&mut ledger, &origin.altered(7), (RELAY, 1), millis(0)), Trust::Altered { knowing: true });
        assert_eq!(origin.hear(&mut ledger, &origin.packet(4), (OTHER, 0), millis(0)), Trust::Refused);
        assert!(!ledger.is_news(&origin.manifest(6, 8)), "nothing new in it");
        assert!(!ledger.is_news(&origin.manifest(1, 4)), "too old");
        assert!(ledger.is_news(&origin.manifest(8, 12)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        let trusts = (0..2_000).map(|seq| origin.hear(&mut ledger, &origin.packet(seq), (RELAY, 0), millis(0)));
        assert_eq!(trusts.filter(|trust| *trust == Trust::Lent).count(), WAITING_MAX);
        let mut ledger = Ledger::default();
        let trusts =
            (0..2_000).map(|seq| origin.hear(&mut ledger, &origin.packet(seq), (RELAY, 0), millis(2_000 * u64::from(seq))));
        assert_eq!(trusts.filter(|trust| matches!(trust, Trust::Held { .. })).count(), HELD_MAX);
    }

    #[test]
    fn a_number_far_ahead_is_altered() {
        let (origin, mut ledger) = (Origin::new(), Ledger::default());
        assert_eq!(origin.hear(&mut ledger, &origin.packet(u32::MAX), (OTHER, 0), millis(0)), Trust::Lent);
        let findings = ledger.prove(&origin.manifest(1, 3), millis(1));
        assert_eq!((findings.altered, findings.undo), (vec![Altered { by: OTHER, at: millis(0) }], Some(Tick(u32::MAX))));
        ledger.keep(origin.manifest(1, 3), (RELAY, 0));
        assert_eq!(origin.hear(&mut ledger, &origin.packet(u32::MAX), (OTHER, 0), millis(2)), Trust::Refused);
    }
}
