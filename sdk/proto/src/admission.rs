//! May this stranger in: the password handshake, and the limits on guessing.
//!
//! On a fresh link, both keys proved by TLS, four frames follow (`handshake` has their order and reasons):
//!
//! ```text
//! dialer -> accepter  HELLO    its half of SPAKE2
//! accepter -> dialer  SHARE    the other half
//! dialer -> accepter  CONFIRM  "I know the password": the dialer first, so that every guess is seen and counted
//! accepter -> dialer  WELCOME  "so do I", and the verdict
//! ```
//! Both confirmations cover both identities, the TLS exporter (RFC 9266) and what their frames say beside them, so nobody between the two can splice
//! connections together, and nothing recorded helps to try passwords offline. The password decides who gets in, never who you are.
//!
//! Whoever is removed by the mesh's [`RemovalRule`] is kept out by another lock (`locks`), which it is not told.

mod address;
mod certificate;
mod crowd;
mod guess;
pub(crate) mod handshake;
mod key;
mod locks;
mod removal;

pub(crate) use address::{is_public, network};
pub use certificate::{Certificate, Membership, ParseCertificateError, Revocations};
pub(crate) use crowd::Crowd;
pub(crate) use guess::GuessLimiter;
pub(crate) use handshake::{Accepter, Dialer, Proof};
pub use key::MeshKey;
pub(crate) use locks::{Knock, LockId, Locks, short};
pub use removal::RemovalRule;
pub(crate) use removal::{Removal, Vote};
