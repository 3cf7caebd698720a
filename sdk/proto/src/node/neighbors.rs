//! Who our neighbors are to be: whom to dial, and which links have died.

use std::time::Duration;

use super::{CloseReason, Node, Output};
use crate::id::LinkId;
use crate::overlay::Link;
use crate::time::Time;

/// Whoever takes longer from connection to membership is no member.
const ADMISSION_DEADLINE: Duration = Duration::from_secs(5);
/// Most dials at once.
const DIALS_MAX: usize = 8;

impl Node {
    pub(super) fn close_dead_links(&mut self, now: Time) {
        let silence = self.config.link_silence;
        let dead: Vec<(LinkId, CloseReason)> = self
            .overlay
            .iter()
            .filter_map(|(link, held)| {
                if held.is_member() {
                    (now.since(held.heard) >= silence).then_some((link, CloseReason::Silence))
                } else {
                    (now.since(held.opened) >= ADMISSION_DEADLINE).then_some((link, CloseReason::Deadline))
                }
            })
            .collect();
        for (link, reason) in dead {
            self.close(link, reason, now);
        }
    }

    /// Dials whom the overlay wants: members not yet linked, up to the goal, and addresses where somebody else may be.
    pub(super) fn dial_due(&mut self, now: Time) {
        let neighbors = self.overlay.neighbors().count();
        let mut dialing = self.overlay.iter().filter(|(_, link)| link.dialed && !link.is_member()).count();
        let mut wanted = self.overlay.goal(self.roster.present().len()).saturating_sub(neighbors + dialing);
        let mut dials = Vec::new();
        let mut due = self.book.due(now);
        // Those with room first: the full ones would have to turn a neighbor away.
        due.sort_by_key(|(_, peer)| {
            let free = peer.and_then(|peer| self.roster.get(&peer)).map_or(0, |member| member.presence.free);
            free == 0
        });
        for (address, peer) in due {
            if dialing >= DIALS_MAX {
                break;
            }
            let member = peer.is_some_and(|peer| self.roster.present().contains(&peer));
            let linked = peer.is_some_and(|peer| {
                peer == self.me || self.overlay.iter().any(|(_, link)| link.peer == Some(peer) || link.expect == Some(peer))
            });
            let known_address = self.overlay.iter().any(|(_, link)| link.address == address);
            if linked
                || known_address
                || (member && wanted == 0)
                || dials.iter().any(|(_, other)| peer.is_some() && *other == peer)
            {
                continue;
            }
            if member {
                wanted -= 1;
            }
            dialing += 1;
            dials.push((address, peer));
        }
        for (address, expect) in dials {
            self.book.trying(address, now);
            let link = self.overlay.open(Link::new(address, true, expect, now));
            self.outputs.push_back(Output::Dial { link, address, expect });
        }
    }
}
