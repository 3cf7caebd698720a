//! Services: what takes part in a mesh beside the game, each on a channel of its own, however many of them on one mesh.
//!
//! A service is a state machine without I/O, like the protocol below it: it is told what happened and what time it is, and says
//! what it wants done. So a hundred of them run in one thread in virtual time (`sim::ServiceSim`, with the feature `test-utils`), and
//! the same code runs on a real mesh: [`start`] gives it a task on the mesh's own runtime, also where the program has none (Bevy).
//!
//! What is said on a service's [`Topic`] goes to the service and never to the game's events. Services of the SDK have the numbers in
//! [`SERVICE_TOPICS`]: a member that does not run a service does not see anything of it. A service of your own may claim any other
//! number from [`Topic::RESERVED`] on, here and as long as it runs.
//!
//! ```
//! use std::collections::VecDeque;
//!
//! use peerflock::service::{self, Input, Output, Service, Time};
//! use peerflock::{PeerId, PeerMesh, Target, Topic};
//!
//! /// Greets whoever comes, and tells its user who greets.
//! #[derive(Default)]
//! struct Greeter {
//!     outputs: VecDeque<Output<PeerId>>,
//! }
//!
//! impl Service for Greeter {
//!     type Event = PeerId;
//!     const TOPIC: Topic = Topic(1_000);
//!
//!     fn handle(&mut self, input: Input<'_>, _now: Time) {
//!         match input {
//!             Input::Members(members) => {
//!                 let greetings = members.joined.iter().map(|peer| Output::Send { to: Target::One(*peer), payload: "hello".into() });
//!                 self.outputs.extend(greetings);
//!             }
//!             Input::Message { from, .. } => self.outputs.push_back(Output::Tell(from)),
//!             Input::Unsent { .. } | Input::Timeout => {}
//!         }
//!     }
//!
//!     fn poll_output(&mut self) -> Option<Output<PeerId>> {
//!         self.outputs.pop_front()
//!     }
//!
//!     fn poll_timeout(&self) -> Option<Time> {
//!         None
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("dusk").loopback_only().lan(false).start().await?;
//! let greeter = service::start(&mesh, Greeter::default(), |peer| println!("{peer} greets us"))?;
//! // The game goes on with `mesh.next_event()`; the service ends with the last handle on it.
//! drop(greeter);
//! # Ok(()) }
//! ```

pub mod chat;
pub mod content;
#[cfg(feature = "documents")]
pub mod documents;
mod host;
mod inbox;
mod queue;
mod roster;
mod signer;
#[cfg(feature = "test-utils")]
pub mod sim;
pub mod topics;
pub mod work;

use std::ops::RangeInclusive;

use bytes::Bytes;
pub use host::{ServiceError, ServiceHandle, start};
pub(crate) use inbox::{Inbox, Inboxes};
pub use peerflock_proto::Time;
use peerflock_proto::{Member, PeerId, SendError, Target, Topic};

/// The channels of the SDK's services. What is said on them never reaches the game, whether the service runs here or not.
pub const SERVICE_TOPICS: RangeInclusive<u16> = 128..=Topic::RESERVED - 1;

/// A state machine that takes part in a mesh. Mutate, drain, wait: [`handle`](Self::handle) an input, then
/// [`poll_output`](Self::poll_output) until there is nothing, then wait for the next input or for
/// [`poll_timeout`](Self::poll_timeout).
pub trait Service: Send + 'static {
    /// What it tells its user.
    type Event: Send + 'static;

    /// The channel it speaks on.
    const TOPIC: Topic;

    /// Takes in what happened. What comes from others may be anything: it must neither panic nor make memory grow without bound.
    fn handle(&mut self, input: Input<'_>, now: Time);

    /// What is to be done next, until there is nothing.
    fn poll_output(&mut self) -> Option<Output<Self::Event>>;

    /// When it wants to be told [`Input::Timeout`] next.
    fn poll_timeout(&self) -> Option<Time>;
}

/// What happened, for [`Service::handle`].
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Who is here now: first of all, at once when somebody comes or goes, and within a second when links changed.
    Members(&'a Members),
    /// Somebody said something on the service's channel, reliably, once, in that one's order. It may be gone already.
    Message {
        /// Who: proved.
        from: PeerId,
        /// What.
        payload: &'a Bytes,
    },
    /// What was to be sent could not be. To send it again at once would only fail again: wait for a timeout or for members.
    Unsent {
        /// To whom.
        to: Target,
        /// What.
        payload: &'a Bytes,
        /// Why not.
        error: &'a SendError,
    },
    /// The time that [`Service::poll_timeout`] named has come.
    Timeout,
}

/// What a service wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<E> {
    /// Say this on the service's channel.
    Send {
        /// To whom.
        to: Target,
        /// What.
        payload: Bytes,
    },
    /// Tell the user.
    Tell(E),
}

/// Who is here, and what is different from the last time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    /// All, ourselves included, in the order of their identifiers, each with those it is linked to.
    pub all: Vec<Member>,
    /// Who has gone. Look at these first: somebody who was started anew in the meantime is among those who came, too.
    pub left: Vec<PeerId>,
    /// Who has come; at the first time, everybody but ourselves.
    pub joined: Vec<PeerId>,
}
