//! Services on the simulator: a hundred of them in one thread, in virtual time, repeated from a seed.

use std::sync::Arc;
use std::time::Duration;

use peerflock_proto::Event;
use peerflock_proto::sim::Sim;

use super::host::LOOK_EVERY;
use super::roster::Roster;
use super::{Inbox, Inboxes, Input, Output, Service, Time};

/// How often services look: what they say leaves that much later than it could.
const STEP: Duration = Duration::from_millis(2);

/// A simulated network with one service, or none, on each of its nodes.
///
/// ```
/// # use peerflock::service::{Input, Output, Service, Time};
/// # struct Mute;
/// # impl Service for Mute {
/// #     type Event = ();
/// #     const TOPIC: peerflock::Topic = peerflock::Topic(1_000);
/// #     fn handle(&mut self, _: Input<'_>, _: Time) {}
/// #     fn poll_output(&mut self) -> Option<Output<()>> { None }
/// #     fn poll_timeout(&self) -> Option<Time> { None }
/// # }
/// use std::time::Duration;
///
/// use peerflock::service::sim::ServiceSim;
/// use peerflock_proto::Config;
/// use peerflock_proto::sim::{Options, Sim};
///
/// let sim = Sim::mesh(Options::default(), 5, &Config::default(), Duration::from_secs(10));
/// let mut services = ServiceSim::new(sim);
/// for index in 0..5 {
///     services.start(index, Mute);
/// }
/// services.run(Duration::from_secs(1));
/// assert!(services.take_told(3).is_empty());
/// ```
#[derive(Debug)]
pub struct ServiceSim<S: Service> {
    /// The network below. Run it through [`run`](Self::run), or services will look late.
    pub sim: Sim,
    seats: Vec<Option<Seat<S>>>,
    told: Vec<Vec<(Time, S::Event)>>,
    events: Vec<Vec<(Time, Event)>>,
}

#[derive(Debug)]
struct Seat<S> {
    service: S,
    inboxes: Inboxes,
    inbox: Arc<Inbox>,
    roster: Roster,
    look_at: Time,
}

impl<S: Service> ServiceSim<S> {
    /// A network on which no services run yet.
    pub fn new(sim: Sim) -> Self {
        Self { sim, seats: Vec::new(), told: Vec::new(), events: Vec::new() }
    }

    /// Starts a service on a node, instead of the one that runs there.
    pub fn start(&mut self, index: usize, service: S) {
        self.grow();
        self.sort(index);
        let inboxes = Inboxes::default();
        // The first of its channel, in a set of its own.
        let Some(inbox) = inboxes.open(S::TOPIC) else { return };
        self.seats[index] = Some(Seat { service, inboxes, inbox, roster: Roster::default(), look_at: Time::default() });
        self.turn(index);
    }

    /// Ends a node's service, which is returned; the node stays.
    pub fn stop(&mut self, index: usize) -> Option<S> {
        self.seats.get_mut(index)?.take().map(|seat| seat.service)
    }

    /// A node stops without a word, and its service with it.
    pub fn crash(&mut self, index: usize) -> Option<S> {
        self.sim.crash(index);
        self.stop(index)
    }

    /// A node's service.
    ///
    /// # Panics
    /// Without one.
    pub fn service(&self, index: usize) -> &S {
        &self.seats[index].as_ref().expect("a service was started there").service
    }

    /// Calls something on a node's service, now, and does what the service then wants done.
    ///
    /// # Panics
    /// Without one.
    pub fn act<R>(&mut self, index: usize, act: impl FnOnce(&mut S, Time) -> R) -> R {
        let seat = self.seats[index].as_mut().expect("a service was started there");
        let result = act(&mut seat.service, self.sim.now());
        self.drain(index);
        result
    }

    /// Lets time pass.
    pub fn run(&mut self, duration: Duration) {
        self.grow();
        let end = self.sim.now() + duration;
        while self.sim.now() < end {
            self.sim.run(STEP.min(end.since(self.sim.now())));
            for index in 0..self.seats.len() {
                self.turn(index);
            }
        }
    }

    /// What a node's service told since the last call, and when.
    pub fn take_told(&mut self, index: usize) -> Vec<(Time, S::Event)> {
        self.told.get_mut(index).map(std::mem::take).unwrap_or_default()
    }

    /// What a node's game was told since the last call, and when.
    pub fn take_events(&mut self, index: usize) -> Vec<(Time, Event)> {
        self.grow();
        self.sort(index);
        std::mem::take(&mut self.events[index])
    }

    fn grow(&mut self) {
        let len = self.sim.len();
        self.seats.resize_with(len, || None);
        self.told.resize_with(len, Vec::new);
        self.events.resize_with(len, Vec::new);
    }

    /// Gives the service of a node what is for it, and keeps the rest.
    fn sort(&mut self, index: usize) {
        let events = self.sim.take_events(index);
        let Some(seat) = &self.seats[index] else { return self.events[index].extend(events) };
        for (at, event) in events {
            let rest = seat.inboxes.sort(vec![event]);
            self.events[index].extend(rest.into_iter().map(|event| (at, event)));
        }
    }

    fn turn(&mut self, index: usize) {
        self.sort(index);
        let now = self.sim.now();
        let Some(seat) = &mut self.seats[index] else { return };
        let waiting = seat.inbox.take();
        if !waiting.news.is_empty() || now >= seat.look_at {
            seat.look_at = now + LOOK_EVERY;
            if let Some(members) = seat.roster.look(self.sim.node(index).members(now), &waiting.news) {
                seat.service.handle(Input::Members(&members), now);
            }
        }
        for (from, payload) in &waiting.messages {
            seat.service.handle(Input::Message { from: *from, payload }, now);
        }
        if seat.service.poll_timeout().is_some_and(|due| due <= now) {
            seat.service.handle(Input::Timeout, now);
        }
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        let now = self.sim.now();
        let Some(seat) = &mut self.seats[index] else { return };
        while let Some(output) = seat.service.poll_output() {
            match output {
                Output::Send { to, payload } => {
                    let sent = self.sim.with(index, |node, now| node.send(to, S::TOPIC, payload.clone(), now));
                    if let Err(error) = &sent {
                        seat.service.handle(Input::Unsent { to, payload: &payload, error }, now);
                    }
                }
                Output::Tell(event) => self.told[index].push((now, event)),
            }
        }
    }
}
