//! A service on a real mesh: a task on the mesh's runtime that carries out what the service wants done.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerflock_proto::{Time, Topic};
use tokio::time::{Instant, sleep_until};

use super::roster::Roster;
use super::{Inbox, Input, Output, Service};
use crate::driver::Shared;
use crate::peer_mesh::PeerMesh;

/// How often to look whether links changed.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The shortest wait for a timer: tokio's own grain.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// Why a service was not started. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// A service on the same channel runs on this mesh.
    #[error("a service on {0:?} runs on this mesh already; use a clone of its handle")]
    Taken(Topic),
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// A service that runs on a mesh. Cheap to clone, usable from any thread; it ends with the last clone, or with the mesh. It does not
/// keep a program in the mesh that dropped all its [`PeerMesh`]es.
pub struct ServiceHandle<S: Service> {
    life: Arc<Life<S>>,
}

/// What ends with the last handle.
struct Life<S: Service> {
    host: Arc<Host<S>>,
}

struct Host<S: Service> {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    /// Locked before the node, never while an await waits.
    seat: Mutex<Seat<S>>,
}

struct Seat<S: Service> {
    service: S,
    roster: Roster,
    look_at: Time,
    /// None when the service is over; whoever waits at its other end learns it by that.
    tell: Option<Box<dyn FnMut(S::Event) + Send>>,
}

/// Starts a service on a mesh. What it tells goes to `tell`, in order, while the service is locked: do not call the service in there.
/// When the service is over `tell` is dropped.
///
/// # Errors
/// When a service on its channel runs on this mesh already, or the mesh was left.
pub fn start<S: Service>(
    mesh: &PeerMesh,
    service: S,
    tell: impl FnMut(S::Event) + Send + 'static,
) -> Result<ServiceHandle<S>, ServiceError> {
    let (shared, runtime) = (mesh.shared().clone(), mesh.runtime());
    let inbox = shared.services.open(S::TOPIC).ok_or(ServiceError::Taken(S::TOPIC))?;
    // Looked at after that, or a mesh that is left in between would never tell us.
    if mesh.is_closed() {
        shared.services.close(S::TOPIC);
        return Err(ServiceError::Closed);
    }
    let seat = Seat { service, roster: Roster::default(), look_at: Time::default(), tell: Some(Box::new(tell)) };
    let host = Arc::new(Host { shared, inbox, seat: Mutex::new(seat) });
    // Whatever the service is asked for next, it knows who is here.
    host.turn();
    runtime.spawn(run(host.clone()));
    Ok(ServiceHandle { life: Arc::new(Life { host }) })
}

impl<S: Service> ServiceHandle<S> {
    /// Calls something on the service, and does what the service then wants done. The service is locked meanwhile.
    pub fn act<R>(&self, act: impl FnOnce(&mut S, Time) -> R) -> R {
        let host = &self.life.host;
        let mut seat = host.seat();
        let result = act(&mut seat.service, host.shared.now());
        host.drain(&mut seat);
        drop(seat);
        // Its next timeout may be an earlier one now.
        host.inbox.wake.notify_one();
        result
    }

    /// Whether the mesh was left, and the service with it.
    pub fn is_closed(&self) -> bool {
        *self.life.host.shared.closed.borrow()
    }
}

impl<S: Service> Clone for ServiceHandle<S> {
    fn clone(&self) -> Self {
        Self { life: self.life.clone() }
    }
}

impl<S: Service> fmt::Debug for ServiceHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHandle").field("topic", &S::TOPIC).finish_non_exhaustive()
    }
}

impl<S: Service> Drop for Life<S> {
    fn drop(&mut self) {
        self.host.shared.services.close(S::TOPIC);
        self.host.over();
    }
}

/// Runs a service until its last handle is gone or the mesh is left.
async fn run<S: Service>(host: Arc<Host<S>>) {
    while let Some(next) = host.turn() {
        tokio::select! {
            biased;
            () = host.inbox.wake.notified() => {}
            () = sleep_until(next) => {}
        }
    }
}

impl<S: Service> Host<S> {
    /// Tells the service what is new. When to come back at the latest; none when it is over.
    fn turn(&self) -> Option<Instant> {
        let waiting = self.inbox.take();
        let mut seat = self.seat();
        seat.tell.as_ref()?;
        let now = self.shared.now();
        if !waiting.news.is_empty() || now >= seat.look_at {
            seat.look_at = now + LOOK_EVERY;
            let all = self.shared.node(|node, now| node.members(now));
            if let Some(members) = seat.roster.look(all, &waiting.news) {
                seat.service.handle(Input::Members(&members), now);
                self.drain(&mut seat);
            }
        }
        for (from, payload) in &waiting.messages {
            seat.service.handle(Input::Message { from: *from, payload }, self.shared.now());
            self.drain(&mut seat);
        }
        let now = self.shared.now();
        if seat.service.poll_timeout().is_some_and(|due| due <= now) {
            seat.service.handle(Input::Timeout, now);
            self.drain(&mut seat);
        }
        let next = seat.service.poll_timeout().map_or(seat.look_at, |due| due.min(seat.look_at));
        drop(seat);
        if waiting.closed {
            self.over();
            return None;
        }
        let soonest = Instant::now() + SLEEP_MIN;
        Some(self.shared.instant(next).map_or(soonest + LOOK_EVERY, |next| next.max(soonest)))
    }

    /// Does what the service wants done.
    fn drain(&self, seat: &mut Seat<S>) {
        while let Some(output) = seat.service.poll_output() {
            match output {
                Output::Send { to, payload } => {
                    let sent = self.shared.act(|node, now| node.send(to, S::TOPIC, payload.clone(), now));
                    if let Err(error) = &sent {
                        seat.service.handle(Input::Unsent { to, payload: &payload, error }, self.shared.now());
                    }
                }
                Output::Tell(event) => {
                    if let Some(tell) = &mut seat.tell {
                        tell(event);
                    }
                }
            }
        }
    }

    fn over(&self) {
        self.seat().tell = None;
        self.inbox.wake.notify_one();
    }

    fn seat(&self) -> MutexGuard<'_, Seat<S>> {
        // A service whose user panicked in `act` is whole again at the next input, or its own tests would have shown it.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
