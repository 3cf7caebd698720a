//! What a state packet holds: which piece of which tick, acknowledgements of others' ticks, and the coder's bits.

use super::acks::{self, Acked};
use super::replica::{PIECES_MAX, PieceHeader};
use crate::id::Tick;
use crate::time::MeshTime;
use crate::wire::DecodeError;
use crate::wire::bits::{BitReader, BitWriter};

/// Longest header without acknowledgements, in bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 24;

/// One packet's content, read.
#[derive(Debug)]
pub(crate) struct TickFrame<'a> {
    pub(crate) header: PieceHeader,
    /// The roster's hash, and what the origin has of each other member's ticks.
    pub(crate) acks: Option<(u32, Vec<Acked>)>,
    pub(crate) body: &'a [u8],
}

/// The bytes of a packet. `acks` are as [`acks::write`] wrote them.
pub(crate) fn encode(header: PieceHeader, acks: Option<(u32, &[Acked])>, body: &[u8]) -> Vec<u8> {
    let mut writer = BitWriter::default();
    writer.bits(u64::from(header.tick.0), 32);
    writer.bits(header.at.0, 64);
    writer.unsigned(header.piece as u32);
    writer.unsigned(header.pieces as u32);
    writer.unsigned(header.baseline.map_or(0, |baseline| header.tick.0 - baseline.0));
    writer.bit(acks.is_some());
    if let Some((hash, entries)) = acks {
        acks::write(&mut writer, hash, entries);
    }
    let mut bytes = writer.finish();
    bytes.extend_from_slice(body);
    bytes
}

/// The tick that a packet is of, as it says.
pub(crate) fn tick(bytes: &[u8]) -> Result<Tick, DecodeError> {
    BitReader::new(bytes).bits(32).map(|tick| Tick(tick as u32))
}

/// Reads a packet's content, for a mesh of at most so many members.
pub(crate) fn decode(bytes: &[u8], members_max: usize) -> Result<TickFrame<'_>, DecodeError> {
    let mut reader = BitReader::new(bytes);
    let tick = Tick(reader.bits(32)? as u32);
    let at = MeshTime(reader.bits(64)?);
    let piece = reader.below(PIECES_MAX)?;
    let pieces = reader.below(PIECES_MAX + 1)?;
    let back = reader.unsigned()?;
    let baseline = match back {
        0 => None,
        back => Some(Tick(tick.0.checked_sub(back).ok_or(DecodeError::Malformed)?)),
    };
    if piece >= pieces {
        return Err(DecodeError::Malformed);
    }
    let acks = if reader.bit()? { Some(acks::read(&mut reader, members_max)?) } else { None };
    Ok(TickFrame { header: PieceHeader { tick, at, piece, pieces, baseline }, acks, body: reader.rest() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_survives_and_its_header_keeps_its_bound() {
        let header = PieceHeader {
            tick: Tick(70),
            at: MeshTime(u64::MAX),
            piece: PIECES_MAX - 1,
            pieces: PIECES_MAX,
            baseline: Some(Tick(6)),
        };
        let bytes = encode(header, None, b"body");
        assert!(bytes.len() <= HEADER_BYTES_MAX + 4);
        let frame = decode(&bytes, 10).unwrap();
        assert_eq!((frame.header, frame.body), (header, &b"body"[..]));
        assert_eq!(tick(&bytes), Ok(header.tick));
        let acks = [Acked::default(); 3];
        let frame_bytes = encode(header, Some((7, &acks)), b"");
        assert_eq!(decode(&frame_bytes, 10).unwrap().acks, Some((7, acks.to_vec())));
        assert!(decode(&frame_bytes, 2).is_err());
    }
}
