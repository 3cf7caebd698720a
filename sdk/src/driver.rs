//! The driver: one task that carries out what the node wants done, and tells it what happened.
//!
//! The node decides everything and does nothing; the links do everything and decide nothing. The driver goes between them:
//! it takes what links report, lets timers fire, then drains the node's outputs. It never waits for anything but its next
//! input, and knows no clock but tokio's, so that a whole mesh runs in virtual time under a paused one.

mod bulk;
pub(crate) mod mailbox;
mod shared;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use peerflock_proto::{Candidate, CloseReason, Event, Input, LinkId, Output, is_relay};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::link::probe::{Arrived, SideDoor};
use crate::link::{LinkEndpoint, LinkEvent, LinkHandle, Taken, canonical};
use crate::metrics::Pressure;
use crate::reach::{self, Post};
use crate::resolve::ping;
use crate::sync::lock;
pub(crate) use bulk::BulkStream;
use shared::count;
pub(crate) use shared::{Shared, Standing};

/// Reports that may wait for the driver. When it is behind, links read no further, and QUIC tells the other ends.
pub(crate) const LINK_EVENTS_MAX: usize = 256;
/// How often links are measured.
const MEASURE_EVERY: Duration = Duration::from_millis(500);
/// How often to tell the protocol what links carry.
const LIMITS_EVERY: Duration = Duration::from_millis(100);
/// The shortest wait for a timer: tokio's own grain.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// Members asked how far they are at the same time; further questions fall away.
const PROBES_MAX: usize = 24;
/// How long such a question waits for its answer.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How long leaving waits for the others to hear the goodbye.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(1_500);
/// How long the socket stays open after that for the last packets.
const SHUT_DEADLINE: Duration = Duration::from_millis(250);

/// Drives one node until its mesh is left.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    endpoint: Arc<LinkEndpoint>,
    door: Arc<SideDoor>,
    link_events: mpsc::Receiver<LinkEvent>,
    slots: BTreeMap<LinkId, Slot>,
    /// The tasks of all links.
    tasks: JoinSet<()>,
    /// Resolvers and whatever else ends by itself once the mesh is to be left.
    helpers: JoinSet<()>,
    /// Questions how far somebody is. None where the links' packets go another way than those of ordinary sockets.
    probes: Option<JoinSet<()>>,
    /// Who waits for the node to have seen a frame.
    handled: Vec<oneshot::Sender<()>>,
    measure_at: Instant,
    limits_at: Instant,
}

/// A link as the driver knows it.
#[derive(Debug)]
enum Slot {
    /// Being dialed or accepted.
    Pending(AbortHandle),
    Open(LinkHandle),
}

impl Driver {
    pub(crate) fn new(
        shared: Arc<Shared>,
        endpoint: Arc<LinkEndpoint>,
        link_events: mpsc::Receiver<LinkEvent>,
        helpers: JoinSet<()>,
        probing: bool,
    ) -> Self {
        Self {
            shared,
            door: endpoint.side_door(),
            endpoint,
            link_events,
            slots: BTreeMap::new(),
            tasks: JoinSet::new(),
            helpers,
            probes: probing.then(JoinSet::new),
            handled: Vec::new(),
            measure_at: Instant::now() + MEASURE_EVERY,
            limits_at: Instant::now(),
        }
    }

    /// Runs until the mesh is left.
    pub(crate) async fn run(mut self) {
        let shared = self.shared.clone();
        let doorkeeper = tokio::spawn(self.endpoint.doorkeeper());
        let mut leaving = shared.leaving.subscribe();
        let timer = sleep_until(self.measure_at);
        tokio::pin!(timer);
        // Timers and outputs come before every wait, so a flood of reports delays neither.
        while !*leaving.borrow_and_update() {
            self.follow_if_moved();
            self.measure_if_due();
            self.tell_limits_if_due();
            let next = self.settle();
            // To wake up once too early costs less than to set the timer for every packet.
            if timer.is_elapsed() || next < timer.deadline() {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                // The other end is in `shared`: it cannot be gone.
                _ = leaving.changed() => {}
                event = self.link_events.recv() => self.take_in(event),
                () = shared.wake.notified() => {}
                _ = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                () = timer.as_mut() => {}
            }
        }
        doorkeeper.abort();
        self.leave().await;
    }

    /// Takes in what waits, as much as one batch may hold.
    fn take_in(&mut self, first: Option<LinkEvent>) {
        let Some(first) = first else { return };
        self.on_link(first);
        for _ in 1..LINK_EVENTS_MAX {
            let Ok(next) = self.link_events.try_recv() else { return };
            self.on_link(next);
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        let input = match event {
            LinkEvent::Knock { incoming } => return self.on_knock(*incoming),
            LinkEvent::Up { link, peer, address, exporter, handle } => {
                let Some(slot) = self.slots.get_mut(&link) else {
                    return handle.close(CloseReason::Goodbye);
                };
                let rtt = handle.rtt();
                count(&self.shared.counts.opened);
                tracing::debug!(target: "peerflock::link", link = link.0, %peer, %address, dialed = handle.is_dialer(), "up");
                *slot = Slot::Open(handle);
                // The node wants to know at once whether this one is near.
                self.shared.node(|node, now| {
                    node.handle(Input::LinkUp { link, peer, address, exporter }, now);
                    node.handle(Input::LinkStats { link, rtt, limit: None }, now);
                });
                return;
            }
            LinkEvent::DialFailed { link } => {
                if self.slots.remove(&link).is_none() {
                    return;
                }
                tracing::debug!(target: "peerflock::link", link = link.0, "dial failed");
                Input::DialFailed { link }
            }
            LinkEvent::Frame { link, bytes, handled } => {
                self.handled.extend(handled);
                if !self.slots.contains_key(&link) {
                    return;
                }
                Input::Frame { link, bytes }
            }
            LinkEvent::Datagram { link, bytes } => {
                if !self.slots.contains_key(&link) {
                    return;
                }
                Input::Datagram { link, bytes }
            }
            LinkEvent::Bulk { link, stream } => return self.shared.bulk.incoming(link, *stream),
            LinkEvent::Down { link, reason } => {
                if self.slots.remove(&link).is_none() {
                    return;
                }
                self.note_end(link, reason, "down");
                Input::LinkDown { link, reason }
            }
        };
        self.shared.node(|node, now| node.handle(input, now));
    }

    fn on_knock(&mut self, incoming: quinn::Incoming) {
        let address = canonical(incoming.remote_address());
        match self.shared.node(|node, now| node.accept(address, now)) {
            Ok(link) => {
                let task = self.tasks.spawn(self.endpoint.accept(link, incoming));
                self.slots.insert(link, Slot::Pending(task));
            }
            Err(reason) => {
                tracing::debug!(%address, %reason, "a stranger was turned away");
                incoming.ignore();
            }
        }
    }

    /// Lets due timers fire and carries out all that the node wants done. Returns when to come back at the latest.
    fn settle(&mut self) -> Instant {
        loop {
            let (outputs, timer) = self.shared.node(|node, now| {
                if node.poll_timeout().is_some_and(|due| due <= now) {
                    node.handle_timeout(now);
                }
                let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
                (outputs, node.poll_timeout())
            });
            if outputs.is_empty() {
                for handled in self.handled.drain(..) {
                    // A link that ended meanwhile does not wait any more.
                    _ = handled.send(());
                }
                let timer = timer.and_then(|due| self.shared.instant(due)).map_or(self.limits_at, |due| due.min(self.limits_at));
                return timer.max(Instant::now() + SLEEP_MIN);
            }
            let mut events = Vec::new();
            for output in outputs {
                match output {
                    Output::Event(event) => events.push(event),
                    output => self.carry_out(output),
                }
            }
            self.tell(events);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial { link, address, expect } => {
                let task = self.tasks.spawn(self.endpoint.dial(link, address, expect));
                self.slots.insert(link, Slot::Pending(task));
            }
            Output::Probe { address } => self.probe(address),
            Output::Frame { link, bytes } => {
                let Some(Slot::Open(handle)) = self.slots.get(&link) else { return };
                if handle.send_frame(bytes).is_err() && !self.cut(link) {
                    count(&self.shared.counts.frames_dropped);
                }
            }
            Output::Datagram { link, bytes } => {
                let Some(Slot::Open(handle)) = self.slots.get(&link) else { return };
                match handle.send_datagram(bytes) {
                    Taken::Sent => {}
                    Taken::Skipped => count(&self.shared.counts.datagrams_skipped),
                    Taken::Refused => count(&self.shared.counts.datagrams_unsent),
                }
            }
            Output::Admitted { link } => {
                if let Some(Slot::Open(handle)) = self.slots.get(&link) {
                    handle.admit();
                    self.shared.bulk.admitted(link, handle.peer(), handle.bulk());
                }
            }
            Output::Close { link, reason } => {
                match self.slots.remove(&link) {
                    Some(Slot::Open(handle)) => handle.close(reason),
                    Some(Slot::Pending(task)) => task.abort(),
                    None => return,
                }
                self.note_end(link, reason, "closed");
            }
            // Told together with the others of its batch.
            Output::Event(event) => self.tell(vec![event]),
        }
    }

    /// Asks how far a member is, by what every QUIC endpoint answers.
    fn probe(&mut self, address: SocketAddr) {
        // Where a relayed link ends there is nothing to be asked.
        let Some(probes) = self.probes.as_mut().filter(|_| !is_relay(address)) else { return };
        while probes.try_join_next().is_some() {}
        if probes.len() < PROBES_MAX {
            let shared = self.shared.clone();
            probes.spawn(async move {
                // No answer is none: the node does not wait for one.
                if let Ok(rtt) = ping(address, PROBE_PATIENCE).await {
                    shared.act(|node, now| node.handle(Input::Probed { address, rtt }, now));
                }
            });
        }
    }

    /// Tells the application and its services, and whoever waits for the mesh to start.
    fn tell(&self, events: Vec<Event>) {
        // What members tell each other about ways is not for the game.
        let (letters, events): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| matches!(event, Event::Message { topic: reach::TOPIC, .. }));
        for letter in letters {
            if let Event::Message { from, private: true, payload, .. } = letter {
                self.door.post(Arrived::Letter { from, bytes: payload, by: Post::Mesh });
            }
        }
        for event in &events {
            match event {
                Event::Joined => self.shared.note_joined(),
                Event::Refused { address, reason } => self.shared.note_refusal(*address, *reason),
                Event::WeWereRemoved { .. } => self.shared.leave(),
                _ => {}
            }
        }
        let events = self.shared.services.sort(events);
        if !events.is_empty() {
            self.shared.mailbox.push_all(events);
        }
    }

    fn measure_if_due(&mut self) {
        if Instant::now() < self.measure_at {
            return;
        }
        self.measure_at = Instant::now() + MEASURE_EVERY;
        let mut traffic = lock(&self.shared.traffic);
        traffic.retain(|link, _| self.slots.contains_key(link));
        let mut stuck = Vec::new();
        for (&link, slot) in &self.slots {
            let Slot::Open(handle) = slot else { continue };
            let of_link = traffic.entry(link).or_default();
            let moved = of_link.measure(&handle.stats(), handle.address(), MEASURE_EVERY);
            if let Some(from) = moved {
                tracing::info!(target: "peerflock::link", link = link.0, %from, address = %handle.address(), "moved");
            }
            let (before, pressure) = of_link.look(handle);
            if before != pressure {
                let (reading, backlog) = (handle.reading(), handle.backlog());
                tracing::info!(
                    target: "peerflock::link", link = link.0, ?pressure, queueing_ms = reading.queueing.as_millis(),
                    limit = reading.limit, backlog = backlog.bytes, "pressure"
                );
            }
            if pressure == Pressure::Stuck {
                stuck.push(link);
            }
        }
        drop(traffic);
        for link in stuck {
            self.cut(link);
        }
    }

    fn tell_limits_if_due(&mut self) {
        if Instant::now() < self.limits_at {
            return;
        }
        self.limits_at = Instant::now() + LIMITS_EVERY;
        self.shared.node(|node, now| {
            for (&link, slot) in &self.slots {
                let Slot::Open(handle) = slot else { continue };
                let (rtt, limit) = (handle.rtt(), handle.reading().limit.map(|limit| limit as u64));
                node.handle(Input::LinkStats { link, rtt, limit }, now);
            }
        });
    }

    /// Cuts off whoever is too slow, unless it is the last neighbor we have, or we its last: then it is better than nothing.
    /// Returns whether it was cut.
    fn cut(&mut self, link: LinkId) -> bool {
        let stays = self.shared.node(|node, now| {
            // Nobody is slow while nobody is heard.
            if node.is_cut_off(now) {
                return true;
            }
            let links = node.links();
            let Some(held) = links.iter().find(|held| held.link == link) else { return false };
            let neighbors = node.members(now).into_iter().find(|member| member.peer == held.peer).map(|member| member.neighbors);
            links.len() == 1 || neighbors.is_some_and(|neighbors| neighbors.len() <= 1)
        });
        if stays {
            return false;
        }
        let Some(Slot::Open(handle)) = self.slots.remove(&link) else { return false };
        let reason = CloseReason::TooSlow;
        handle.abort(reason);
        count(&self.shared.counts.too_slow);
        self.note_end(link, reason, "cut");
        self.shared.node(|node, now| node.handle(Input::LinkDown { link, reason }, now));
        true
    }

    /// After the socket was changed: links that we dialed have moved along, those that we accepted must be dialed anew.
    fn follow_if_moved(&mut self) {
        if !self.shared.moved.swap(false, Ordering::Relaxed) {
            return;
        }
        let lost: Vec<LinkId> = self
            .slots
            .iter()
            .filter(|(_, slot)| matches!(slot, Slot::Open(handle) if !handle.is_dialer()))
            .map(|(link, _)| *link)
            .collect();
        for link in lost {
            let Some(Slot::Open(handle)) = self.slots.remove(&link) else { continue };
            let (address, reason) = (handle.address(), CloseReason::Transport);
            handle.abort(reason);
            self.note_end(link, reason, "left behind");
            self.shared.node(|node, now| {
                let peer = node.links().iter().find(|held| held.link == link).map(|held| held.peer);
                node.handle(Input::LinkDown { link, reason }, now);
                node.handle(Input::Candidates(vec![Candidate { address, peer }]), now);
            });
        }
    }

    fn note_end(&self, link: LinkId, reason: CloseReason, how: &'static str) {
        count(&self.shared.counts.closed);
        tracing::debug!(target: "peerflock::link", link = link.0, ?reason, how, "down");
    }

    /// Says goodbye, waits until it is heard or can no longer be, and closes everything.
    async fn leave(mut self) {
        let deadline = Instant::now() + GOODBYE_DEADLINE;
        self.shared.node(|node, now| node.handle(Input::Leave, now));
        self.settle();
        // From here on nobody listens to the links; they only finish what they were told.
        self.link_events.close();
        for slot in std::mem::take(&mut self.slots).into_values() {
            match slot {
                Slot::Pending(task) => task.abort(),
                Slot::Open(handle) => handle.close(CloseReason::Goodbye),
            }
        }
        for tasks in [&mut self.tasks, &mut self.helpers] {
            while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
        }
        self.endpoint.shut(SHUT_DEADLINE).await;
        self.shared.end();
    }
}

impl Drop for Driver {
    /// A driver that is dropped on the way, with its runtime, leaves nobody waiting.
    fn drop(&mut self) {
        self.shared.end();
    }
}
