//! Where members may be found, and when to try (again).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::is_relay;
use crate::id::PeerId;
use crate::time::Time;

/// Most addresses remembered; beyond them the one with most failures goes first.
const CONTACTS_MAX: usize = 4_096;
/// Wait after the first failure; doubled by each further one.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Wait after a refusal that only a user can mend.
const REFUSED_RETRY: Duration = Duration::from_secs(30);

/// The addresses known, each with its record of failures.
#[derive(Debug, Default)]
pub(crate) struct Book {
    contacts: BTreeMap<SocketAddr, Contact>,
    /// How many were ever noted.
    noted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Contact {
    peer: Option<PeerId>,
    failures: u32,
    next_try: Time,
    /// Somebody named the address alone: whoever is there is worth a try.
    anybody: bool,
    /// Who was told of first is tried first: the best sources speak first.
    number: u64,
}

impl Book {
    /// Notes an address, `not_before` which it is not worth a try. What is known of it stays; who is there may be news. Relayed links are
    /// asked for anew when they are needed.
    pub(crate) fn add(&mut self, address: SocketAddr, peer: Option<PeerId>, not_before: Time) {
        if is_relay(address) {
            return;
        }
        self.noted += 1;
        let number = self.noted;
        let anybody = peer.is_none();
        let contact =
            self.contacts.entry(address).or_insert(Contact { peer, failures: 0, next_try: not_before, anybody, number });
        contact.anybody |= anybody;
        if let Some(peer) = peer
            && contact.peer != Some(peer)
        {
            *contact = Contact { peer: Some(peer), failures: 0, next_try: not_before, ..*contact };
        }
        if self.contacts.len() > CONTACTS_MAX {
            let worst = self.contacts.iter().max_by_key(|(_, contact)| contact.failures).map(|(address, _)| *address);
            worst.map(|address| self.contacts.remove(&address));
        }
    }

    /// Addresses due for a try, with who is said to be there, how often a try failed, and how many were noted before it.
    pub(crate) fn due(&self, now: Time) -> impl Iterator<Item = (SocketAddr, Option<PeerId>, u32, u64)> {
        let due = self.contacts.iter().filter(move |(_, contact)| contact.next_try <= now);
        due.map(|(address, contact)| (*address, contact.peer, contact.failures, contact.number))
    }

    /// Whatever failed before, all addresses are due.
    pub(crate) fn retry_all(&mut self, now: Time) {
        for contact in self.contacts.values_mut() {
            *contact = Contact { failures: 0, next_try: now, ..*contact };
        }
    }

    /// A dial is under way: no other until it ends.
    pub(crate) fn trying(&mut self, address: SocketAddr, now: Time) {
        if let Some(contact) = self.contacts.get_mut(&address) {
            contact.next_try = now + RETRY_MAX;
        }
    }

    pub(crate) fn failed(&mut self, address: SocketAddr, is_member: bool, now: Time) {
        if let Some(contact) = self.contacts.get_mut(&address) {
            contact.next_try = now + RETRY.saturating_mul(1 << contact.failures.min(6)).min(RETRY_MAX);
            contact.failures += 1;
            // Who was said to be there may not be: a wrong name must not keep us from whom we were sent to.
            if contact.anybody && !is_member {
                contact.peer = None;
            }
        }
    }

    /// A user must mend something first; trying again soon helps nobody.
    pub(crate) fn refused(&mut self, address: SocketAddr, now: Time) {
        if let Some(contact) = self.contacts.get_mut(&address) {
            contact.failures += 1;
            contact.next_try = now + REFUSED_RETRY;
        }
    }

    /// `peer` is at `address`; if that link ends, it is worth a try at once.
    pub(crate) fn reached(&mut self, address: SocketAddr, peer: PeerId, now: Time) {
        if is_relay(address) {
            return;
        }
        self.noted += 1;
        let (number, anybody) =
            self.contacts.get(&address).map_or((self.noted, false), |contact| (contact.number, contact.anybody));
        self.contacts.insert(address, Contact { peer: Some(peer), failures: 0, next_try: now, anybody, number });
    }

    /// Nobody is to be found there ever: it is ourselves, or somebody who said goodbye.
    pub(crate) fn remove(&mut self, address: &SocketAddr) {
        self.contacts.remove(address);
    }

    pub(crate) fn remove_peer(&mut self, peer: &PeerId) {
        self.contacts.retain(|_, contact| contact.peer != Some(*peer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overlay::RELAY_IP;

    #[test]
    fn where_a_relayed_link_ends_is_no_place_to_dial() {
        let (mut book, address) = (Book::default(), SocketAddr::new(RELAY_IP, 7));
        book.add(address, Some(PeerId([1; 32])), Time(0));
        book.reached(address, PeerId([1; 32]), Time(0));
        assert_eq!(book.due(Time(1_000_000)).count(), 0);
    }

    #[test]
    fn failures_are_tried_ever_more_seldom() {
        let (mut book, address) = (Book::default(), SocketAddr::from(([127, 0, 0, 1], 7)));
        book.add(address, None, Time(0));
        let mut now = Time(0);
        let mut waits = Vec::new();
        for _ in 0..10 {
            assert_eq!(book.due(now).map(|(address, peer, ..)| (address, peer)).collect::<Vec<_>>(), [(address, None)]);
            book.trying(address, now);
            assert_eq!(book.due(now).count(), 0);
            book.failed(address, false, now);
            let started = now;
            while book.due(now).next().is_none() {
                now = now + Duration::from_millis(250);
            }
            waits.push(now.since(started).as_millis());
        }
        assert_eq!(waits[..4], [250, 500, 1_000, 2_000]);
        assert_eq!(waits[9], 15_000);
        book.retry_all(now);
        assert_eq!(book.due(now).count(), 1);
        book.trying(address, now);
        book.reached(address, PeerId([1; 32]), now);
        assert_eq!(book.due(now).count(), 1);
    }

    #[test]
    fn who_was_told_of_first_is_first() {
        let mut book = Book::default();
        let addresses = [9, 3, 7].map(|host| SocketAddr::from(([10, 0, 0, host], 1)));
        for address in addresses {
            book.add(address, None, Time(0));
        }
        book.add(addresses[2], Some(PeerId([1; 32])), Time(0));
        book.add(addresses[0], None, Time(0));
        let mut due: Vec<_> = book.due(Time(0)).map(|(address, _, _, number)| (number, address)).collect();
        due.sort_unstable();
        assert_eq!(due.iter().map(|(_, address)| *address).collect::<Vec<_>>(), addresses);
    }

    #[test]
    fn a_wrong_name_keeps_nobody_from_an_address_that_was_given() {
        let (mut book, address, now) = (Book::default(), SocketAddr::from(([127, 0, 0, 1], 7)), Time(0));
        let named = |book: &Book| book.due(now + RETRY_MAX).next().and_then(|(_, peer, ..)| peer);
        book.add(address, Some(PeerId([7; 32])), now);
        book.failed(address, false, now);
        assert_eq!(named(&book), Some(PeerId([7; 32])), "nobody said that another would do");
        book.add(address, None, now);
        assert_eq!(named(&book), Some(PeerId([7; 32])));
        book.failed(address, true, now);
        assert_eq!(named(&book), Some(PeerId([7; 32])), "it said so itself");
        book.failed(address, false, now);
        assert_eq!(named(&book), None);
    }

    #[test]
    fn it_takes_no_more_than_its_room() {
        let mut book = Book::default();
        for port in 0..CONTACTS_MAX as u32 + 10 {
            book.add(SocketAddr::from(([10, 0, (port >> 8) as u8, port as u8], 1)), None, Time(0));
        }
        assert!(book.contacts.len() <= CONTACTS_MAX);
    }
}
