//! What waits for a service: bounded, however slow the service is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use peerflock_proto::{Event, PeerId, Topic};
use tokio::sync::Notify;

use super::SERVICE_TOPICS;

/// What may wait for one service, in bytes; what comes on top is dropped and counted.
pub(crate) const INBOX_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a message costs beside the bytes it carries.
const MESSAGE_OVERHEAD_BYTES: usize = 256;
/// Comings and goings remembered one by one; past it, whoever is here tells the rest.
const NEWS_MAX: usize = 4_096;

/// All services of one mesh, by their channels.
#[derive(Debug, Default)]
pub(crate) struct Inboxes {
    by_topic: Mutex<BTreeMap<Topic, Arc<Inbox>>>,
}

/// What waits for one service.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    /// Something is there, or the service should look for another reason.
    pub(super) wake: Notify,
}

/// What was there to be taken.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Who came (true) or went, in order.
    pub(super) news: Vec<(PeerId, bool)>,
    pub(super) messages: VecDeque<(PeerId, Bytes)>,
    bytes: usize,
    dropped: u64,
    pub(super) closed: bool,
}

impl Inboxes {
    /// Opens an inbox for a channel; none if there is one.
    pub(super) fn open(&self, topic: Topic) -> Option<Arc<Inbox>> {
        let mut by_topic = self.lock();
        if by_topic.contains_key(&topic) {
            return None;
        }
        let inbox = Arc::new(Inbox::default());
        by_topic.insert(topic, inbox.clone());
        Some(inbox)
    }

    pub(super) fn close(&self, topic: Topic) {
        self.lock().remove(&topic);
    }

    /// Gives the services what is theirs; what is left is for the game.
    pub(crate) fn sort(&self, events: Vec<Event>) -> Vec<Event> {
        let by_topic = self.lock();
        let is_ours = |topic: &Topic| by_topic.contains_key(topic) || SERVICE_TOPICS.contains(&topic.0);
        let mut rest = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Message { from, topic, payload, .. } if is_ours(&topic) => {
                    if let Some(inbox) = by_topic.get(&topic) {
                        inbox.push(from, payload);
                    }
                }
                Event::PeerJoined { peer, .. } => {
                    by_topic.values().for_each(|inbox| inbox.note(peer, true));
                    rest.push(event);
                }
                Event::PeerLeft { peer, .. } => {
                    by_topic.values().for_each(|inbox| inbox.note(peer, false));
                    rest.push(event);
                }
                event => rest.push(event),
            }
        }
        rest
    }

    /// The mesh is left: no service hears anything more.
    pub(crate) fn close_all(&self) {
        for inbox in std::mem::take(&mut *self.lock()).into_values() {
            inbox.lock().closed = true;
            inbox.wake.notify_one();
        }
    }

    /// Messages that fell away because a service did not keep up.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().values().map(|inbox| inbox.lock().dropped).sum()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Topic, Arc<Inbox>>> {
        // Nothing in here panics halfway through a change.
        self.by_topic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    fn push(&self, from: PeerId, payload: Bytes) {
        let mut waiting = self.lock();
        let bytes = waiting.bytes + payload.len() + MESSAGE_OVERHEAD_BYTES;
        if bytes > INBOX_BYTES_MAX {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes = bytes;
        waiting.messages.push_back((from, payload));
        drop(waiting);
        self.wake.notify_one();
    }

    fn note(&self, peer: PeerId, came: bool) {
        let mut waiting = self.lock();
        if waiting.news.len() < NEWS_MAX {
            waiting.news.push((peer, came));
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// All that waits.
    pub(super) fn take(&self) -> Waiting {
        let mut waiting = self.lock();
        let (dropped, closed) = (waiting.dropped, waiting.closed);
        std::mem::replace(&mut *waiting, Waiting { dropped, closed, ..Waiting::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::{Farewell, Profile};

    use super::*;

    const PEER: PeerId = PeerId([1; 32]);

    fn message(topic: u16, bytes: usize) -> Event {
        Event::Message { from: PEER, topic: Topic(topic), private: true, payload: vec![0; bytes].into() }
    }

    #[test]
    fn services_get_what_is_theirs_and_the_game_the_rest() {
        let inboxes = Inboxes::default();
        let (ours, claimed) = (inboxes.open(Topic(128)).unwrap(), inboxes.open(Topic(1_000)).unwrap());
        assert!(inboxes.open(Topic(128)).is_none(), "one service to a channel");
        let joined = Event::PeerJoined { peer: PEER, profile: Profile::named("Ada") };
        let left = Event::PeerLeft { peer: PEER, farewell: Farewell::Left };
        let events = vec![message(128, 1), joined.clone(), message(1_000, 2), message(255, 3), message(256, 4), left.clone()];
        // Nobody runs service 255 here, and yet the game does not hear of it.
        assert_eq!(inboxes.sort(events), [joined, message(256, 4), left]);
        let (ours, claimed) = (ours.take(), claimed.take());
        assert_eq!(ours.messages, [(PEER, Bytes::from(vec![0; 1]))]);
        assert_eq!(claimed.messages, [(PEER, Bytes::from(vec![0; 2]))]);
        assert_eq!((&ours.news, &claimed.news), (&vec![(PEER, true), (PEER, false)], &ours.news));
        inboxes.close(Topic(1_000));
        assert_eq!(inboxes.sort(vec![message(1_000, 2)]), [message(1_000, 2)]);
    }

    #[test]
    fn a_service_that_does_not_look_costs_no_more_than_its_share() {
        let inboxes = Inboxes::default();
        let inbox = inboxes.open(Topic(128)).unwrap();
        let size = 64 * 1024;
        for _ in 0..1_000 {
            inboxes.sort(vec![message(128, size), Event::PeerLeft { peer: PEER, farewell: Farewell::Left }]);
        }
        let kept = INBOX_BYTES_MAX / (size + MESSAGE_OVERHEAD_BYTES);
        assert_eq!(inboxes.dropped(), 1_000 - kept as u64);
        assert_eq!(inbox.take().messages.len(), kept);
        // What was taken makes room.
        inboxes.sort(vec![message(128, size)]);
        assert_eq!(inbox.take().messages.len(), 1);
    }
}
