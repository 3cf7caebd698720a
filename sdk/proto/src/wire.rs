//! What crosses a link: frames on its stream, datagrams beside it, their version and their limits.
//!
//! A **frame** is reliable and in order: the admission handshake, presence, keyframes, who owns what, messages that are long or to
//! one, and what neighbors agree about their link. It is one version byte and a [`codec`]-encoded `Frame`. A **datagram** may be
//! lost: it is one numbered `parcel` of packets of state, messages, and what neighbors need to know to repair them. Every decoder
//! here is total: any bytes give a value or an error, and memory stays within the limits below.

pub(crate) mod bits;
pub mod codec;
mod frame;
mod packet;
pub(crate) mod parcel;
mod said;
pub(crate) mod varint;

pub use frame::decode_frame as fuzz_frame;
pub(crate) use frame::{
    ADDRESSES_MAX, Adoption, Alias, Body, Confirm, Frame, Holding, Keyframe, Known, Lane, Message, Note, Numbered, Presence,
    REFERRALS_MAX, Receipt, Referral, Signed, Standing, Verdict, Welcome,
};
pub(crate) use packet::{LeafKey, MANIFEST_MAX, Manifest, Packet, PacketLeaf, UNRELAYED_HOP_LIMIT};
pub use parcel::decode_parcel as fuzz_parcel;
pub(crate) use parcel::{
    DIGEST_MAX, Encoded, Item, MISSING_MAX, Marks, PAYLOAD_BYTES_MAX, PULL_SPAN, RELAYED_PAYLOAD_BYTES_MAX, SAID_BYTES_MAX, Whose,
};
pub(crate) use said::{Content, Leaf, Said, Seal, Speech};

/// What two ends must agree on before anything else; the first byte of every frame.
pub const WIRE_VERSION: u8 = 6;

/// The protocol as TLS names it (RFC 7301).
pub const ALPN: &[u8] = b"peerflock/2";

/// Longest frame from a stranger, in bytes.
pub const ADMISSION_FRAME_BYTES_MAX: usize = 512;

/// Longest frame from a member, in bytes: a message of the largest size and what is around it.
pub const FRAME_BYTES_MAX: usize = 80 * 1024;

/// Longest datagram, in bytes: what quinn leaves of a path MTU pinned at 1,200 with connection identifiers of 4 bytes.
pub const DATAGRAM_BYTES_MAX: usize = 1_166;

/// Why bytes from the wire meant nothing. Nothing changed; the sender is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Another version of the protocol; update the older side.
    #[error("wire version {0}, where {WIRE_VERSION} was expected")]
    Version(u8),
    /// Longer than anything of its sort may be.
    #[error("longer than the limit of {0} bytes")]
    TooLong(usize),
    /// It ends too early, or says what cannot be.
    #[error("malformed")]
    Malformed,
    /// It goes on after its end.
    #[error("trailing bytes")]
    Trailing,
}
