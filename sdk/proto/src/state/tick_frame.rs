//! What a state packet holds: which piece of which tick, acknowledgements of others' ticks, and the coder's bits.

use super::acks::{self, AckList};
use super::digest::{DIGEST_BYTES, StateDigest};
use super::replica::{PIECES_MAX, PieceHeader};
use crate::id::Tick;
use crate::time::MeshTime;
use crate::wire::DecodeError;
use crate::wire::bits::{BitReader, BitWriter};

/// Longest header without acknowledgements and digest, in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 22;
/// Bits that tell how many bits a tick takes.
const WIDTH_BITS: u32 = 5;
/// Times cross the wire in units of 64 microseconds, and without what all know: 76 hours around now.
const AT_SHIFT: u32 = 6;
const AT_BITS: u32 = 32;
const CHECK_BITS: u32 = 16;

/// One packet's content, read.
#[derive(Debug)]
pub(crate) struct TickFrame<'a> {
    pub(crate) header: PieceHeader,
    /// What the origin has of other members' ticks.
    pub(crate) acks: Option<AckList>,
    pub(crate) body: &'a [u8],
}

/// The bytes of a packet.
pub(crate) fn encode(header: PieceHeader, acks: Option<&AckList>, body: &[u8]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    write_tick(&mut writer, header.tick);
    writer.bits(header.at.0 >> AT_SHIFT, AT_BITS);
    writer.unsigned(header.pieces as u32 - 1);
    if header.pieces > 1 {
        writer.unsigned(header.piece as u32);
    }
    writer.unsigned(header.baseline.map_or(0, |baseline| header.tick.0 - baseline.0));
    if let Some(baseline) = header.baseline {
        writer.unsigned(header.reference.map_or(0, |reference| baseline.0 - reference.0));
        writer.bits(header.check.into(), CHECK_BITS);
        writer.bit(header.digest.is_some());
        header.digest.iter().flatten().for_each(|byte| writer.bits((*byte).into(), u8::BITS));
    }
    writer.bit(header.partial);
    writer.bit(acks.is_some());
    if let Some(list) = acks {
        acks::write(&mut writer, list);
    }
    let mut bytes = writer.finish();
    bytes.extend_from_slice(body);
    bytes
}

/// The time that a packet says it is of, as far as it is told: `at` in its units.
pub(crate) fn rounded(at: MeshTime) -> MeshTime {
    MeshTime(at.0 >> AT_SHIFT << AT_SHIFT)
}

/// The tick that a packet is of, as it says.
pub(crate) fn tick(bytes: &[u8]) -> Result<Tick, DecodeError> {
    read_tick(&mut BitReader::new(bytes))
}

/// Reads a packet's content, for a mesh of at most so many members, at about the time `now`.
pub(crate) fn decode(bytes: &[u8], members_max: usize, now: MeshTime) -> Result<TickFrame<'_>, DecodeError> {
    let mut reader = BitReader::new(bytes);
    let tick = read_tick(&mut reader)?;
    let low = reader.bits(AT_BITS)? as u32;
    let units = now.0 >> AT_SHIFT;
    let at = MeshTime(units.saturating_add_signed(i64::from(low.wrapping_sub(units as u32) as i32)) << AT_SHIFT);
    let pieces = reader.below(PIECES_MAX)? + 1;
    let piece = if pieces > 1 { reader.below(pieces)? } else { 0 };
    let back = |tick: Tick, back: u32| match back {
        0 => Ok(None),
        back => tick.0.checked_sub(back).map(Tick).map(Some).ok_or(DecodeError::Malformed),
    };
    let baseline = back(tick, reader.unsigned()?)?;
    let (reference, check, digest) = match baseline {
        Some(baseline) => {
            let (reference, check) = (back(baseline, reader.unsigned()?)?, reader.bits(CHECK_BITS)? as u16);
            (reference, check, if reader.bit()? { Some(read_digest(&mut reader)?) } else { None })
        }
        None => (None, 0, None),
    };
    let partial = reader.bit()?;
    let acks = if reader.bit()? { Some(acks::read(&mut reader, members_max)?) } else { None };
    Ok(TickFrame {
        header: PieceHeader { tick, at, piece, pieces, baseline, reference, partial, check, digest },
        acks,
        body: reader.rest(),
    })
}

fn read_digest(reader: &mut BitReader<'_>) -> Result<StateDigest, DecodeError> {
    let mut digest = [0; DIGEST_BYTES];
    for byte in &mut digest {
        *byte = reader.bits(u8::BITS)? as u8;
    }
    Ok(digest)
}

fn write_tick(writer: &mut BitWriter, tick: Tick) {
    let width = u32::BITS - tick.0.leading_zeros();
    writer.bits(width.saturating_sub(1).into(), WIDTH_BITS);
    writer.bits(tick.0.into(), width.max(1));
}

fn read_tick(reader: &mut BitReader<'_>) -> Result<Tick, DecodeError> {
    let width = reader.bits(WIDTH_BITS)? as u32 + 1;
    Ok(Tick(reader.bits(width)? as u32))
}

#[cfg(test)]
mod tests {
    use super::super::acks::Entry;
    use super::*;

    #[test]
    fn a_frame_survives_and_its_header_keeps_its_bound() {
        let now = MeshTime(1 << 60);
        let header = PieceHeader {
            tick: Tick(u32::MAX),
            at: rounded(MeshTime(now.0 - 5_000_000)),
            piece: PIECES_MAX - 1,
            pieces: PIECES_MAX,
            baseline: Some(Tick(u32::MAX - 63)),
            reference: Some(Tick(u32::MAX - 126)),
            partial: true,
            check: 0xabcd,
            digest: None,
        };
        assert!(encode(header, None, b"body").len() <= HEADER_BYTES_MAX + 4);
        let header = PieceHeader { digest: Some(*b"sixteen bytes..."), ..header };
        let bytes = encode(header, None, b"body");
        assert!(bytes.len() <= HEADER_BYTES_MAX + DIGEST_BYTES + 4);
        let frame = decode(&bytes, 10, now).unwrap();
        assert_eq!((frame.header, frame.body), (header, &b"body"[..]));
        assert_eq!(tick(&bytes), Ok(header.tick));
        let acks = AckList { roster_hash: 7, start: 0, entries: vec![Entry::default(); 3] };
        let frame_bytes = encode(header, Some(&acks), b"");
        assert_eq!(decode(&frame_bytes, 10, now).unwrap().acks, Some(acks));
        assert!(decode(&frame_bytes, 2, now).is_err());
        for small in [0, 1, 2, 255] {
            let header = PieceHeader {
                tick: Tick(small),
                pieces: 1,
                piece: 0,
                baseline: None,
                reference: None,
                check: 0,
                digest: None,
                ..header
            };
            assert_eq!(decode(&encode(header, None, b""), 2, now).unwrap().header, header);
        }
    }
}
