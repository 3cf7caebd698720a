//! Proof of packets that others pass on: our own manifests, and what those of others bring to light.

use std::time::Duration;

use super::{CloseReason, Node};
use crate::flood::{Altered, Came, Findings, Kept, PortId, Slot, Trust};
use crate::id::{LinkId, PeerId};
use crate::state::tick_frame;
use crate::time::Time;
use crate::wire::{Frame, Item, MANIFEST_MAX, Manifest, Packet, PacketLeaf};

/// Our packets are proved that often while we send; one that comes after a pause is proved at once. With a tick more it is a quarter of
/// a second at 60 Hz and at 20 Hz.
const PROVE_EVERY: Duration = Duration::from_millis(200);

/// Packets of ours that the next manifest covers.
#[derive(Debug, Default)]
pub(super) struct Unproved {
    /// Of the packets since the last manifest but one.
    leaves: Vec<PacketLeaf>,
    /// The number of the last.
    last: u32,
    /// How many came since the last manifest.
    fresh: usize,
    /// When that was.
    proved: Time,
}

impl Unproved {
    fn add(&mut self, seq: u32, leaf: PacketLeaf) {
        // Packets that nobody relays are in no manifest.
        if seq != self.last.wrapping_add(1) {
            (self.fresh, self.leaves) = (0, Vec::new());
        }
        self.leaves.push(leaf);
        self.last = seq;
        self.fresh += 1;
    }

    fn is_due(&self, now: Time) -> bool {
        self.fresh >= MANIFEST_MAX / 2 || (self.fresh > 0 && now.since(self.proved) >= PROVE_EVERY)
    }

    /// The number of the first packet of the manifest, and all leaves; the last of them stay for one more.
    fn take(&mut self, now: Time) -> (u32, Vec<PacketLeaf>) {
        let fresh = self.leaves.split_off(self.leaves.len() - self.fresh);
        let mut leaves = std::mem::replace(&mut self.leaves, fresh);
        leaves.extend_from_slice(&self.leaves);
        (self.fresh, self.proved) = (0, now);
        (self.last.wrapping_add(1).wrapping_sub(leaves.len() as u32), leaves)
    }
}

impl Node {
    // --- ours ----------------------------------------------------------------------------------------------------------

    /// A packet of ours that others will pass on is to be proved.
    pub(super) fn note_unproved(&mut self, packet: &Packet) {
        let (mesh, me, boot) = (self.mesh, self.me, self.boot);
        let Some(origin) = self.flood.origin_mut(Slot::ME) else { return };
        let leaf = origin.ledger.leaf(packet, &mesh, &me, boot);
        self.unproved.add(packet.seq, leaf);
        // A tick of many packets does not fit one manifest.
        if self.unproved.fresh >= MANIFEST_MAX / 2 {
            self.prove();
        }
    }

    /// Proves what we sent, if it is time.
    pub(super) fn prove(&mut self) {
        if !self.unproved.is_due(self.now) {
            return;
        }
        let (first, leaves) = self.unproved.take(self.now);
        let manifest = Manifest::new(&self.identity, &self.mesh, self.boot, first, self.config.hop_limit, leaves);
        self.send_manifest(Slot::ME, None, manifest, (LinkId(0), 0));
    }

    /// Keeps a manifest and passes it on.
    fn send_manifest(&mut self, slot: Slot, from: Option<PortId>, manifest: Manifest, came: Came) {
        let targets = self.targets(slot, from);
        if manifest.hops < manifest.hop_limit {
            let onward = Manifest { hops: manifest.hops + 1, ..manifest.clone() };
            let kept = Kept::Proof(slot, manifest.last());
            self.flood.enqueue(targets, slot, &kept, |whose| Item::Proof { whose, manifest: onward.clone() });
        }
        if let Some(origin) = self.flood.origin_mut(slot) {
            origin.ledger.keep(manifest, came);
        }
    }

    /// Sends a manifest again that was lost on a link.
    pub(super) fn send_manifest_again(&mut self, port: PortId, slot: Slot, last: u32) {
        let manifest = self.flood.origin(slot).and_then(|origin| origin.ledger.kept(last)).cloned();
        if let Some(manifest) = manifest {
            let onward = Manifest { hops: manifest.hops.saturating_add(1), ..manifest };
            let only = [port].into_iter().collect();
            self.flood.enqueue(only, slot, &Kept::Nothing, |whose| Item::Proof { whose, manifest: onward.clone() });
        }
    }

    /// A neighbor lacks the proof of a packet.
    pub(super) fn hear_want_proof(&mut self, link: LinkId, origin: &PeerId, seq: u32) {
        let (Some(port), Some(slot)) = (self.flood.port_of(link), self.flood.slot(origin)) else { return };
        let origin = self.flood.origin(slot);
        let answers: Vec<u32> = origin.iter().flat_map(|origin| origin.ledger.answers(seq)).map(Manifest::last).collect();
        for last in answers {
            self.send_manifest_again(port, slot, last);
        }
    }

    // --- those of others -----------------------------------------------------------------------------------------------

    /// What to make of a packet, by what its origin signed. `direct`: it came from the origin itself, and the link proves that.
    pub(super) fn trust(&mut self, slot: Slot, packet: &Packet, direct: bool, came: Came, now: Time) -> Trust {
        let mesh = self.mesh;
        let Some(origin) = self.flood.origin_mut(slot) else { return Trust::Refused };
        // An origin that contradicts its own manifest would make us pass on what we know to be wrong.
        if direct && !origin.ledger.covers(packet.seq) {
            return Trust::Proved;
        }
        let Ok(tick) = tick_frame::tick(&packet.payload) else { return Trust::Refused };
        let (peer, boot) = (origin.peer, origin.boot);
        let leaf = origin.ledger.leaf(packet, &mesh, &peer, boot);
        let neighbor = self.overlay.get(came.0).and_then(|held| held.peer);
        let parole = !direct && neighbor.is_some_and(|neighbor| self.repute.is_on_parole(&neighbor, now));
        let trust = origin.ledger.judge(packet, leaf, tick, came, parole, now);
        if let Some(seq) = origin.ledger.ask(now) {
            self.say_to(came.0, &Frame::WantProof { origin: peer, seq });
        }
        match trust {
            Trust::Altered { knowing } => {
                self.counters.forgeries += 1;
                tracing::warn!(target: "peerflock::flood", origin = ?peer, link = ?came.0, knowing, "a packet unlike its proof");
                if knowing {
                    self.close(came.0, CloseReason::Violation, now);
                } else if !direct {
                    self.go_round(slot, came.0, now);
                    self.note_lie(Altered { by: came.0, at: now }, now);
                }
            }
            Trust::Held { new: true } => {
                tracing::warn!(target: "peerflock::flood", origin = ?peer, link = ?came.0, "no proof came for long");
                self.go_round(slot, came.0, now);
                if let Some(from) = self.flood.origin_mut(slot).and_then(|origin| origin.ledger.withdraw()) {
                    self.undo_state(slot, peer, from, now);
                }
            }
            _ => {}
        }
        trust
    }

    pub(super) fn hear_manifest(&mut self, port: PortId, slot: Slot, manifest: Manifest, came: Came, now: Time) {
        let (Some(origin), Some(neighbor)) = (self.flood.origin(slot), self.flood.port(port)) else { return };
        let (peer, boot, direct) = (origin.peer, origin.boot, origin.peer == neighbor.peer);
        let other = origin.ledger.contradiction(&manifest).cloned();
        if slot == Slot::ME || manifest.hops > manifest.hop_limit || (other.is_none() && !origin.ledger.is_news(&manifest)) {
            return;
        }
        // What came from the origin itself needs no proof where it ends.
        if direct && other.is_none() && !origin.ledger.is_waiting() && self.targets(slot, Some(port)).is_empty() {
            return;
        }
        let mesh = self.mesh;
        let verifier = self.flood.origin_mut(slot).map(|origin| origin.ledger.verifier(&peer));
        if !verifier.is_some_and(|verifier| manifest.holds(&mesh, verifier, boot)) {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::flood", origin = ?peer, link = ?came.0, "a proof that its origin did not sign");
            // Whoever passes one on has looked at it.
            return self.close(came.0, CloseReason::Violation, now);
        }
        if let Some(other) = other {
            return self.expose(slot, manifest, other, now);
        }
        let findings = self.flood.origin_mut(slot).map(|origin| origin.ledger.prove(&manifest, now)).unwrap_or_default();
        self.send_manifest(slot, Some(port), manifest, came);
        self.act_on(slot, peer, findings, now);
    }

    fn act_on(&mut self, slot: Slot, peer: PeerId, findings: Findings, now: Time) {
        if (!findings.altered.is_empty() || findings.undo.is_some())
            && let Some(origin) = self.flood.origin_mut(slot)
        {
            origin.forget_packets();
        }
        for altered in findings.altered {
            self.counters.forgeries += 1;
            tracing::warn!(target: "peerflock::flood", origin = ?peer, link = ?altered.by, "packets were altered on the way");
            self.go_round(slot, altered.by, now);
            self.note_lie(altered, now);
        }
        if let Some(from) = findings.undo {
            self.undo_state(slot, peer, from, now);
        }
        for (link, packet) in findings.onward {
            self.pass_on_packet(slot, self.flood.port_of(link), &packet);
        }
        for (link, payload) in findings.released {
            if self.apply_state(link, peer, false, &payload, now).is_err() {
                self.counters.violations += 1;
            }
        }
    }

    /// A neighbor is not to be relied upon for an origin: others are asked.
    pub(super) fn go_round(&mut self, slot: Slot, link: LinkId, now: Time) {
        if let Some((prune, graft)) = self.flood.shun(slot, link, now) {
            self.say_to(link, &Frame::Prune(vec![prune]));
            self.graft(graft);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_packet_is_in_two_manifests() {
        let mut unproved = Unproved::default();
        let time = |millis: u64| Time(10_000_000 + millis * 1_000);
        unproved.add(1, [1; 8]);
        assert!(unproved.is_due(time(0)), "the first after a pause is proved at once");
        assert_eq!(unproved.take(time(0)), (1, vec![[1; 8]]));
        assert!(!unproved.is_due(time(1_000)), "nothing to prove");
        unproved.add(2, [2; 8]);
        unproved.add(3, [3; 8]);
        assert!(!unproved.is_due(time(199)));
        assert!(unproved.is_due(time(200)));
        assert_eq!(unproved.take(time(200)), (1, vec![[1; 8], [2; 8], [3; 8]]));
        unproved.add(4, [4; 8]);
        assert_eq!(unproved.take(time(400)), (2, vec![[2; 8], [3; 8], [4; 8]]));
        // Some went unproved in between: manifests have no gaps.
        unproved.add(9, [9; 8]);
        assert_eq!(unproved.take(time(600)), (9, vec![[9; 8]]));
    }

    #[test]
    fn a_manifest_never_holds_more_than_it_may() {
        let mut unproved = Unproved::default();
        let now = Time(10_000_000);
        for seq in 1..1_000 {
            unproved.add(seq, [0; 8]);
            if unproved.is_due(now) {
                assert!(unproved.take(now).1.len() <= MANIFEST_MAX);
            }
        }
    }
}
