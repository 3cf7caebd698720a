//! What changed: the entities of all members, as quantized differences from what everyone is known to have.
//!
//! An owner's side is `author`, with `acks` to tell which tick everyone has, and `backlog` for what a thin line cannot take at once; the receivers' side is one `replica` per
//! origin, which puts ticks together from pieces. Between the two lies `coder`. `world` is what is shown: each entity as its
//! owner claims it, with `ownership` to tell whose it is. [`Registry`] says what a value means, [`quantize`] makes integers of floating point.

pub(crate) mod acks;
pub(crate) mod author;
pub(crate) mod backlog;
pub(crate) mod coder;
pub(crate) mod digest;
pub(crate) mod ownership;
pub mod quantize;
mod registry;
pub(crate) mod replica;
pub(crate) mod snapshot;
#[cfg(feature = "sim")]
pub mod stream;
pub(crate) mod tick_frame;
pub(crate) mod world;

pub use registry::{
    Change, FIELDS_MAX, Fields, GROUP_MAX, Group, KINDS_MAX, Kind, KindId, Orphan, REFS_MAX, Registry, Shape, Value,
};
