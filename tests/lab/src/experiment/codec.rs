//! The state coder on a trace of moving bodies: how many bits a world takes, and how long that is worked on.
//!
//! The rule is that of Glenn Fiedler's networked physics data challenge (2015), strictly: frame `i` is coded against what the receiver
//! is known to have, which is frame `i - baseline` at best; nothing is built on a packet that may be lost, and what arrives is equal bit by bit.
//! The coder gets no more than a game tells it: one component with a rotation, a position and a flag.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use peerflock_proto::state::stream::{Bases, Piece, Receiver, Sender};
use peerflock_proto::{Group, Tick};
use serde_json::json;

use super::Failure;
use crate::dice::Dice;
use crate::flock;
use crate::report::Report;

/// Largest component of the rotation and the three others, x, y, z, a flag.
const GROUPS: &[Group] = &[Group::Rotation, Group::Motion(3), Group::Choice];
/// Integers of one body.
const WIDTH: usize = 8;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// A file of frames, plain or compressed by zstd. Without it a flock flies that is made here.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How the file is laid out.
    #[arg(long, value_enum, default_value_t = Layout::Cubes901)]
    layout: Layout,
    /// Bodies in each frame; 901 for a file, 250 for the flock, unless told otherwise.
    #[arg(long)]
    bodies: Option<usize>,
    /// Frames per second.
    #[arg(long, default_value_t = 60.0)]
    hz: f64,
    /// The newest frame that the receiver may be known to have is this many frames old.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=60))]
    baseline: u32,
    /// Part of the frames that is lost, 0 to 1.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// Which frames are lost, and how the flock flies, follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Layouts of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// Per body eight 32-bit integers, little-endian: largest quaternion component, its three others, x, y, z, a flag.
    Cubes901,
}

pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let bodies = options.bodies.unwrap_or_else(|| if options.trace.is_some() { 901 } else { 250 });
    let frames = match &options.trace {
        Some(path) => read(path, bodies)?,
        None => flock::frames(bodies, options.seed),
    };
    let (mut sender, mut receiver) = (Sender::new(GROUPS), Receiver::new(GROUPS));
    let mut dice = Dice::new(options.seed);
    let mut arrived: Vec<u32> = Vec::new();
    let (mut bytes, mut pieces, mut changed, mut counted) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut encoding, mut decoding) = (Duration::ZERO, Duration::ZERO);
    let mut bit_exact = true;
    for (frame, number) in frames.iter().zip(1_u32..) {
        let mut known = arrived.iter().rev().copied().filter(|known| known + options.baseline <= number);
        let mut known = || known.next().filter(|known| number - known < 60).map(Tick);
        let bases = Bases { baseline: known(), reference: known() };
        sender.set(Tick(number), frame);
        let start = Instant::now();
        let packets = sender.encode(bases);
        encoding += start.elapsed();
        // The first frames are those of a newcomer, not of a game that runs.
        if number > options.baseline {
            bytes += packets.iter().map(Piece::len).sum::<usize>();
            pieces += packets.len();
            counted += 1;
            let before = &frames[(number - options.baseline) as usize - 1];
            changed += frame.chunks_exact(WIDTH).zip(before.chunks_exact(WIDTH)).filter(|(new, old)| new != old).count();
        }
        if dice.falls(options.loss) {
            continue;
        }
        let start = Instant::now();
        let decoded = receiver.decode(Tick(number), bases, &packets);
        decoding += start.elapsed();
        arrived.push(number);
        bit_exact &= decoded.is_ok() && receiver.newest().is_some_and(|(tick, now)| tick.0 == number && now == *frame);
    }
    if counted == 0 || arrived.is_empty() {
        return Err(Failure::Unmet("the trace has no more frames than the baseline is old".into()));
    }
    let settings = json!({
        "trace": options.trace.as_ref().map(|path| path.display().to_string()),
        "layout": "cubes901", "bodies": bodies, "hz": options.hz, "baseline": options.baseline, "loss": options.loss,
    });
    let per_frame = |total: f64| total / counted as f64;
    let micros = |time: Duration, frames: usize| time.as_secs_f64() * 1e6 / frames as f64;
    let (encode, decode) = (micros(encoding, frames.len()), micros(decoding, arrived.len()));
    let mut report = Report::new("codec", settings, Some(options.seed));
    report.field("frames", counted);
    report.field("kbit_s", per_frame(bytes as f64) * 8.0 * options.hz / 1_000.0);
    report.field("kb_s", per_frame(bytes as f64) * options.hz / 1_000.0);
    report.field("bytes_per_frame", per_frame(bytes as f64));
    report.field("packets_per_frame", per_frame(pieces as f64));
    report.field("changed_per_frame", per_frame(changed as f64));
    report.field("bytes_per_changed_body", bytes as f64 / changed.max(1) as f64);
    report.field("us_per_frame", encode + decode);
    report.field("encode_us_per_frame", encode);
    report.field("decode_us_per_frame", decode);
    report.field("bit_exact", bit_exact);
    Ok(report)
}

/// The frames of a file, with rotations around zero, as a game has them.
fn read(path: &Path, bodies: usize) -> Result<Vec<Vec<i32>>, Failure> {
    let fail = |source| Failure::Read { path: path.to_owned(), source };
    let mut bytes = std::fs::read(path).map_err(fail)?;
    if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut plain = Vec::new();
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(&bytes[..])
            .map_err(|error| fail(std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string())))?;
        std::io::Read::read_to_end(&mut decoder, &mut plain).map_err(fail)?;
        bytes = plain;
    }
    let mut integers: Vec<i32> = bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
    if bodies == 0 || bytes.len() % (4 * WIDTH * bodies) != 0 || integers.is_empty() {
        let length = bytes.len();
        return Err(Failure::Unmet(format!(
            "{} has {length} bytes, which are no frames of {bodies} bodies of {WIDTH} integers; tell their number with --bodies",
            path.display()
        )));
    }
    let largest = integers.chunks_exact(WIDTH).flat_map(|body| &body[1..4]).copied().max().unwrap_or(0);
    let middle = i32::try_from(largest.unsigned_abs().next_power_of_two() / 2).unwrap_or(0);
    integers.chunks_exact_mut(WIDTH).for_each(|body| body[1..4].iter_mut().for_each(|value| *value = value.wrapping_sub(middle)));
    Ok(integers.chunks_exact(WIDTH * bodies).map(<[i32]>::to_vec).collect())
}
