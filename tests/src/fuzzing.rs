//! The fuzz targets: what strangers and members can send, each as a way in that takes any bytes. cargo-fuzz runs them in `tests/fuzz`,
//! and `tests/mutators.rs` with the seeded [`mutator`](crate::mutator) in every test run.
//!
//! A target panics when something is wrong: that is how a fuzzer finds out.

pub mod admission;
pub mod component;
pub mod frame;
pub mod keyframe;
pub mod node;
pub mod record;

/// One of the targets.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `tests/fuzz/corpus`.
    pub name: &'static str,
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Something that takes one input after the other. What came before may matter to it: who wants each input to stand alone makes
    /// a new one for each.
    pub start: fn() -> Box<dyn FnMut(&[u8])>,
}

/// All of them.
pub const TARGETS: [Target; 6] =
    [frame::TARGET, admission::TARGET, node::TARGET, record::TARGET, component::TARGET, keyframe::TARGET];

/// One input alone.
pub fn once(target: &Target, bytes: &[u8]) {
    (target.start)()(bytes);
}

/// The fuzzer's bytes, read as instructions. After their end everything is 0.
#[derive(Debug)]
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().map_or((0, self.0), |(first, rest)| (*first, rest));
        self.0 = rest;
        first
    }

    /// Some bytes: first how many.
    fn bytes(&mut self) -> &'a [u8] {
        let length = usize::from(self.byte()).min(self.0.len());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes
    }

    fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// Bytes as [`Script::bytes`] reads them.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let length = bytes.len().min(usize::from(u8::MAX));
    [&[length as u8], &bytes[..length]].concat()
}
