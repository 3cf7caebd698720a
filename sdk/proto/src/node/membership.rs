//! Where the mesh has an authority: whose certificates hold, and which are taken back.

use super::Node;
use crate::admission::{Certificate, Revocations};
use crate::id::{LinkId, PeerId};
use crate::time::Time;
use crate::wire::Frame;

impl Node {
    /// The authority takes certificates back: members whose own is among them are out, and everybody is told. False, and nothing changed, if
    /// the list is not the authority's, or an older one.
    pub fn revoke(&mut self, list: Revocations, now: Time) -> bool {
        self.now = now;
        self.learn_revocations(None, list, now)
    }

    /// What certifies us, for others to see.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        self.config.membership.as_ref().map(|membership| membership.certificate.clone())
    }

    /// Whether `peer` may be a member, by what it shows. Without an authority everybody may who knows the password.
    pub(super) fn is_certified(&self, peer: &PeerId, shown: Option<&Certificate>, now: Time) -> bool {
        let Some(membership) = &self.config.membership else { return true };
        let unix_time = membership.unix_time_at_start + now.0 / 1_000_000;
        shown.is_some_and(|shown| {
            !self.revocations.as_ref().is_some_and(|list| list.revokes(shown))
                && shown.holds(&membership.authority, &self.mesh, peer, unix_time)
        })
    }

    pub(super) fn learn_revocations(&mut self, from: Option<LinkId>, list: Revocations, now: Time) -> bool {
        let Some(authority) = self.config.membership.as_ref().map(|membership| membership.authority) else { return false };
        if self.revocations.as_ref().is_some_and(|known| known.number >= list.number) {
            return false;
        }
        if !list.holds(&authority, &self.mesh) {
            self.counters.forgeries += 1;
            return false;
        }
        tracing::info!(target: "peerflock::admission", number = list.number, "certificates are taken back");
        self.pass_to_all(from, &Frame::Revocations(list.clone()));
        let is_out = |certificate: &Option<Certificate>| certificate.as_ref().is_some_and(|shown| list.revokes(shown));
        let out: Vec<PeerId> =
            self.roster.members().filter(|(_, member)| is_out(&member.presence.certificate)).map(|(peer, _)| *peer).collect();
        let we = is_out(&self.certificate());
        self.revocations = Some(list);
        for peer in out {
            self.shut_out(peer, None, now);
        }
        if we {
            self.thrown_out(authority, now);
        }
        true
    }

    /// What a newcomer must know of certificates.
    pub(super) fn tell_revocations(&mut self, link: LinkId) {
        if let Some(list) = self.revocations.clone() {
            self.say_to(link, &Frame::Revocations(list));
        }
    }
}
