//! What happened and waits for the game to look: bounded, however seldom the game looks.
//!
//! Values of the world replace older ones that still wait, per entity and component, so what waits is bounded by the world
//! itself. Everything else (who came and went, what was said) has a budget in bytes, and past it the oldest falls out.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use peerflock_proto::{EntityId, Event, KindId, WorldEvent};
use smallvec::SmallVec;
use tokio::sync::Notify;

/// What may wait besides the world, in bytes.
pub(crate) const NOTICE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What an event costs beside the bytes it carries.
const NOTICE_OVERHEAD_BYTES: usize = 256;

/// Gaps among the waiting events are closed when they outnumber the events by so many.
const GAPS_MAX: usize = 1_024;

/// The events between the driver and the game.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Everything that waits, in the order in which it is to be told; none where something waited.
    events: VecDeque<Option<Event>>,
    /// The place of the first of them.
    first: u64,
    /// How many are there.
    waiting: usize,
    /// Where the world's events wait, by what they are about.
    entities: HashMap<EntityId, Waiting>,
    /// Where all others wait, oldest first, with their cost.
    notices: VecDeque<(u64, usize)>,
    notice_bytes: usize,
    dropped: u64,
    closed: bool,
}

/// Where the events about one entity wait.
#[derive(Debug, Default)]
struct Waiting {
    vanished: Option<u64>,
    appeared: Option<u64>,
    owner: Option<u64>,
    components: SmallVec<[(KindId, u64); 2]>,
}

impl Mailbox {
    /// Adds what happened in one go: a reader sees all of it or none, an entity with all its components.
    pub(crate) fn push_all(&self, events: impl IntoIterator<Item = Event>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        for event in events {
            match event {
                Event::World(event) => state.push_world(event),
                event => state.push_notice(event),
            }
        }
        state.compact();
        drop(state);
        self.arrived.notify_waiters();
    }

    /// Nothing more will come; what waits can still be taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_waiters();
    }

    /// Everything that waits, oldest first.
    pub(crate) fn take_all(&self) -> Vec<Event> {
        let mut state = self.state();
        state.entities.clear();
        state.notices.clear();
        (state.notice_bytes, state.waiting) = (0, 0);
        state.first += state.events.len() as u64;
        state.events.drain(..).flatten().collect()
    }

    /// Waits for the next event. `None` when there will be none.
    pub(crate) async fn next(&self) -> Option<Event> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // From here on no arrival is missed, also one between the look and the wait.
            arrived.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(event) = state.pop() {
                    return Some(event);
                }
                if state.closed {
                    return None;
                }
            }
            arrived.await;
        }
    }

    /// Events that fell out because nobody took them.
    pub(crate) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push_notice(&mut self, event: Event) {
        let cost = NOTICE_OVERHEAD_BYTES
            + match &event {
                Event::Message { payload, .. } => payload.len(),
                Event::PeerJoined { profile, .. } | Event::PeerChanged { profile, .. } => profile.name.len() + profile.data.len(),
                Event::Joined
                | Event::Refused { .. }
                | Event::PeerLeft { .. }
                | Event::World(_)
                | Event::LockChanged { .. }
                | Event::WeWereRemoved { .. }
                | Event::OwnershipRequested { .. }
                | Event::OwnershipRefused { .. } => 0,
            };
        self.notice_bytes += cost;
        let place = self.place(event);
        self.notices.push_back((place, cost));
        while self.notice_bytes > NOTICE_BYTES_MAX {
            let Some((oldest, cost)) = self.notices.pop_front() else { break };
            self.remove(oldest);
            self.notice_bytes -= cost;
            self.dropped += 1;
        }
    }

    fn push_world(&mut self, event: WorldEvent) {
        match event {
            WorldEvent::Appeared { entity, owner, orphan } => {
                let appeared = self.entities.get(&entity).and_then(|waiting| waiting.appeared);
                let place = self.place_at(appeared, WorldEvent::Appeared { entity, owner, orphan });
                self.entities.entry(entity).or_default().appeared = Some(place);
            }
            WorldEvent::Set { entity, kind, .. } | WorldEvent::Unset { entity, kind } => {
                let first = self.first;
                let waiting = self.entities.entry(entity).or_default();
                match waiting.components.iter().find(|(other, _)| *other == kind) {
                    Some((_, place)) => {
                        if let Some(slot) = self.events.get_mut((place - first) as usize) {
                            *slot = Some(Event::World(event));
                        }
                    }
                    None => {
                        waiting.components.push((kind, first + self.events.len() as u64));
                        self.place(Event::World(event));
                    }
                }
            }
            WorldEvent::Owner { entity, owner } => {
                let waiting = self.entities.entry(entity).or_default();
                let (appeared, place) = (waiting.appeared, waiting.owner);
                if let Some(Event::World(WorldEvent::Appeared { owner: first, .. })) =
                    appeared.and_then(|place| self.get_mut(place)?.as_mut())
                {
                    *first = owner;
                    return;
                }
                let place = self.place_at(place, WorldEvent::Owner { entity, owner });
                self.entities.entry(entity).or_default().owner = Some(place);
            }
            WorldEvent::Vanished { entity } => {
                let waiting = self.entities.remove(&entity).unwrap_or_default();
                let components = waiting.components.iter().map(|(_, place)| *place);
                for place in waiting.owner.into_iter().chain(components).chain(waiting.appeared) {
                    self.remove(place);
                }
                // An entity that the game has never seen, or knows to be gone, needs no second end.
                let vanished = match (waiting.vanished, waiting.appeared) {
                    (Some(place), _) => place,
                    (None, Some(_)) => return,
                    (None, None) => self.place(Event::World(WorldEvent::Vanished { entity })),
                };
                self.entities.entry(entity).or_default().vanished = Some(vanished);
            }
        }
    }

    fn pop(&mut self) -> Option<Event> {
        let (place, event) = loop {
            let event = self.events.pop_front()?;
            self.first += 1;
            if let Some(event) = event {
                break (self.first - 1, event);
            }
        };
        self.waiting -= 1;
        match &event {
            Event::World(event) => {
                let (WorldEvent::Appeared { entity, .. }
                | WorldEvent::Set { entity, .. }
                | WorldEvent::Unset { entity, .. }
                | WorldEvent::Owner { entity, .. }
                | WorldEvent::Vanished { entity }) = event;
                if let Some(waiting) = self.entities.get_mut(entity) {
                    waiting.forget(place);
                    if waiting.is_empty() {
                        self.entities.remove(entity);
                    }
                }
            }
            // Notices wait in the same order everywhere, so this one is the oldest.
            _ => {
                if let Some((_, cost)) = self.notices.pop_front() {
                    self.notice_bytes -= cost;
                }
            }
        }
        Some(event)
    }

    /// Puts an event where an older one about the same thing waits, or at the end.
    fn place_at(&mut self, place: Option<u64>, event: WorldEvent) -> u64 {
        match place {
            Some(place) => {
                if let Some(slot) = self.get_mut(place) {
                    *slot = Some(Event::World(event));
                }
                place
            }
            None => self.place(Event::World(event)),
        }
    }

    fn place(&mut self, event: Event) -> u64 {
        self.events.push_back(Some(event));
        self.waiting += 1;
        self.first + self.events.len() as u64 - 1
    }

    fn get_mut(&mut self, place: u64) -> Option<&mut Option<Event>> {
        self.events.get_mut(usize::try_from(place.checked_sub(self.first)?).ok()?)
    }

    fn remove(&mut self, place: u64) {
        if self.get_mut(place).and_then(Option::take).is_some() {
            self.waiting -= 1;
        }
    }

    /// Closes the gaps, where there are many.
    fn compact(&mut self) {
        if self.events.len() <= 2 * self.waiting + GAPS_MAX {
            return;
        }
        let mut places: Vec<u64> = Vec::with_capacity(self.events.len());
        let mut next = self.first;
        for event in &self.events {
            places.push(next);
            next += u64::from(event.is_some());
        }
        let first = self.first;
        let moved = |place: &mut u64| *place = places.get((*place - first) as usize).copied().unwrap_or(*place);
        for waiting in self.entities.values_mut() {
            waiting.places_mut().for_each(moved);
        }
        self.notices.iter_mut().map(|(place, _)| place).for_each(moved);
        self.events.retain(Option::is_some);
    }
}

impl Waiting {
    fn forget(&mut self, place: u64) {
        for slot in [&mut self.vanished, &mut self.appeared, &mut self.owner] {
            if *slot == Some(place) {
                *slot = None;
            }
        }
        self.components.retain(|(_, waiting)| *waiting != place);
    }

    fn places_mut(&mut self) -> impl Iterator<Item = &mut u64> {
        let components = self.components.iter_mut().map(|(_, place)| place);
        [&mut self.vanished, &mut self.appeared, &mut self.owner].into_iter().flatten().chain(components)
    }

    fn is_empty(&self) -> bool {
        self.vanished.is_none() && self.appeared.is_none() && self.owner.is_none() && self.components.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerflock_proto::{Boot, Identity, MeshTime, Orphan, PeerId, Profile, Tick, Topic, Value};

    use super::*;

    fn peer(n: u8) -> PeerId {
        Identity::from_seed([n; 32]).peer_id()
    }

    fn entity(counter: u32) -> EntityId {
        EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter }
    }

    fn appeared(entity: EntityId) -> Event {
        Event::World(WorldEvent::Appeared { entity, owner: PeerId([1; 32]), orphan: Orphan::Vanish })
    }

    fn set(entity: EntityId, kind: u8, value: i32) -> Event {
        let value = Value::fields([value].as_slice());
        Event::World(WorldEvent::Set { entity, kind: KindId(kind), value, tick: Tick(1), at: MeshTime(0) })
    }

    fn unset(entity: EntityId, kind: u8) -> Event {
        Event::World(WorldEvent::Unset { entity, kind: KindId(kind) })
    }

    fn vanished(entity: EntityId) -> Event {
        Event::World(WorldEvent::Vanished { entity })
    }

    fn owned(entity: EntityId, by: u8) -> Event {
        Event::World(WorldEvent::Owner { entity, owner: PeerId([by; 32]) })
    }

    fn message(bytes: usize) -> Event {
        Event::Message { from: peer(2), topic: Topic(300), private: false, payload: Bytes::from(vec![0; bytes]) }
    }

    fn told(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
        let mailbox = Mailbox::default();
        mailbox.push_all(events);
        mailbox.take_all()
    }

    #[test]
    fn the_newest_value_takes_the_place_of_the_older_one() {
        let (a, b) = (entity(1), entity(2));
        let events = told([appeared(a), set(a, 0, 1), appeared(b), set(a, 1, 5), set(a, 0, 2), unset(a, 1), set(b, 0, 7)]);
        assert_eq!(events, [appeared(a), set(a, 0, 2), appeared(b), unset(a, 1), set(b, 0, 7)]);
        assert_eq!(told([set(a, 0, 1), unset(a, 0), set(a, 0, 3)]), [set(a, 0, 3)]);
    }

    #[test]
    fn what_came_and_went_unseen_leaves_nothing() {
        let a = entity(1);
        assert_eq!(told([appeared(a), set(a, 0, 1), owned(a, 3), vanished(a)]), []);
        assert_eq!(told([set(a, 0, 1), owned(a, 3), vanished(a)]), [vanished(a)]);
        // Gone, back and gone again: the game is told once. Gone and back: it is told both.
        assert_eq!(told([vanished(a), appeared(a), set(a, 0, 1), vanished(a)]), [vanished(a)]);
        assert_eq!(told([vanished(a), appeared(a), set(a, 0, 1)]), [vanished(a), appeared(a), set(a, 0, 1)]);
    }

    #[test]
    fn only_the_last_owner_matters() {
        let a = entity(1);
        assert_eq!(told([owned(a, 2), set(a, 0, 1), owned(a, 3)]), [owned(a, 3), set(a, 0, 1)]);
        let first = Event::World(WorldEvent::Appeared { entity: a, owner: PeerId([9; 32]), orphan: Orphan::Vanish });
        assert_eq!(told([appeared(a), owned(a, 9)]), [first]);
    }

    #[test]
    fn memory_is_bounded_by_the_world_and_the_budget() {
        let mailbox = Mailbox::default();
        for round in 0..1_000 {
            for n in 0..10 {
                mailbox.push_all([set(entity(n), 0, round)]);
                mailbox.push_all([appeared(entity(1_000 + n))]);
                mailbox.push_all([vanished(entity(1_000 + n))]);
            }
        }
        let state = mailbox.state();
        assert!(state.events.len() <= 2 * state.waiting + GAPS_MAX + 3, "{} places", state.events.len());
        drop(state);
        assert_eq!(mailbox.take_all().len(), 10);

        let (size, sent) = (64 * 1024, 1_000);
        for _ in 0..sent {
            mailbox.push_all([message(size)]);
        }
        let kept = NOTICE_BYTES_MAX / (size + NOTICE_OVERHEAD_BYTES);
        assert_eq!(mailbox.dropped(), (sent - kept) as u64);
        assert_eq!(mailbox.take_all().len(), kept);
        assert_eq!(mailbox.state().notice_bytes, 0);
    }

    #[test]
    fn the_oldest_falls_out_first() {
        let mailbox = Mailbox::default();
        mailbox.push_all([Event::Joined]);
        mailbox.push_all([set(entity(1), 0, 1)]);
        for n in 0..200 {
            mailbox.push_all([message(64 * 1024 - n)]);
        }
        let events = mailbox.take_all();
        assert_eq!(events[0], set(entity(1), 0, 1), "the world stays");
        assert_eq!(events.last(), Some(&message(64 * 1024 - 199)));
        assert!(!events.contains(&Event::Joined));
    }

    #[tokio::test]
    async fn one_by_one_is_the_same_as_all_at_once() {
        let a = entity(1);
        let joined = Event::PeerJoined { peer: peer(2), profile: Profile::named("Ada") };
        let mailbox = Mailbox::default();
        for event in [joined.clone(), appeared(a), set(a, 0, 1), message(10), owned(a, 4)] {
            mailbox.push_all([event]);
        }
        let first = Event::World(WorldEvent::Appeared { entity: a, owner: PeerId([4; 32]), orphan: Orphan::Vanish });
        assert_eq!(mailbox.next().await, Some(joined));
        assert_eq!(mailbox.next().await, Some(first));
        // What was told is told: news about the same thing waits anew, in its own place.
        mailbox.push_all([owned(a, 5)]);
        mailbox.push_all([set(a, 0, 2)]);
        assert_eq!(mailbox.next().await, Some(set(a, 0, 2)));
        assert_eq!(mailbox.next().await, Some(message(10)));
        assert_eq!(mailbox.next().await, Some(owned(a, 5)));
        mailbox.push_all([vanished(a)]);
        mailbox.close();
        mailbox.push_all([Event::Joined]);
        assert_eq!(mailbox.next().await, Some(vanished(a)));
        assert_eq!(mailbox.next().await, None);
        let state = mailbox.state();
        assert!(state.entities.is_empty() && state.notices.is_empty() && state.notice_bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_reader_wakes() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let reader = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.next().await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        mailbox.push_all([Event::Joined]);
        assert_eq!(reader.await.unwrap(), Some(Event::Joined));
    }
}
