//! Ways in for fuzzers: decoders that nothing public leads to by itself, with valid input for them to begin with.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::Limits;
use crate::id::{Boot, EntityId, PeerId, Tick};
use crate::state::coder::{self, Assembler, Basis, Models};
use crate::state::replica::{PieceHeader, Replica};
use crate::state::snapshot::{Record, Snapshot};
use crate::state::{Group, Kind, KindId, Orphan, Registry, Shape, Value, tick_frame};
use crate::time::MeshTime;
use crate::wire::DecodeError;

/// Most bytes in a piece of these samples.
const PIECE_BYTES: usize = 400;
const MEMBERS_MAX: usize = 64;
const NOW: MeshTime = MeshTime(1 << 40);
const ENTITIES: u32 = 40;
const TICKS: u32 = 4;

/// A game with a component of each shape.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let shapes = [
        ("place", Shape::Fields(&[Group::Motion(3), Group::Rotation])),
        ("mood", Shape::Fields(&[Group::Choice, Group::Motion(1)])),
        ("notes", Shape::Bytes),
    ];
    for (name, shape) in shapes {
        registry.register(Kind { name: name.to_owned(), shape });
    }
    registry
}

/// What one origin's entities are, tick after tick, and one who hears of it.
#[derive(Debug)]
pub struct Story {
    registry: Registry,
    /// The content of the packets of each tick.
    ticks: Vec<Vec<Vec<u8>>>,
    /// What was learned by the first tick, and its records.
    keyframe: (Vec<u8>, Vec<Vec<u8>>),
}

impl Default for Story {
    fn default() -> Self {
        let registry = registry();
        let (mut ticks, mut before): (_, Option<Snapshot>) = (Vec::new(), None);
        let mut keyframe = Default::default();
        for tick in 1..=TICKS {
            let models = before.as_ref().map_or_else(|| Models::new(&registry).into(), |before| before.models.clone());
            let mut snapshot = Snapshot::whole(Tick(tick), NOW, records(tick).into(), models);
            let basis = before.as_ref().map(|baseline| Basis { baseline, reference: None });
            let (pieces, models) = coder::encode(&snapshot, basis, &registry, PIECE_BYTES);
            snapshot.models = models.into();
            let header = |piece: usize, check| PieceHeader {
                tick: Tick(tick),
                at: tick_frame::rounded(NOW),
                piece,
                pieces: pieces.len(),
                baseline: before.as_ref().map(|before| before.tick),
                reference: None,
                partial: false,
                check,
                digest: None,
            };
            let pieces = pieces.iter().enumerate();
            ticks.push(pieces.map(|(piece, body)| tick_frame::encode(header(piece, body.check), None, &body.bytes)).collect());
            let (records, _) = coder::encode(&snapshot, None, &registry, PIECE_BYTES);
            keyframe = (snapshot.models.to_bytes(), records.into_iter().map(|body| body.bytes).collect());
            before = Some(snapshot);
        }
        Self { registry, ticks, keyframe }
    }
}

fn records(tick: u32) -> Vec<Arc<Record>> {
    let record = |counter: u32| {
        let entity = EntityId { spawner: PeerId([1; 32]), boot: Boot(1), counter };
        let mut record = Record::new(entity, 0, if counter.is_multiple_of(2) { Orphan::Adopt } else { Orphan::Vanish });
        let step = (tick * (counter % 5)) as i32;
        record.set(KindId(0), Value::fields([step, -step, 1_000 * counter as i32, 3, step % 90, 7, -7]));
        if counter % 3 == tick % 3 {
            record.set(KindId(1), Value::fields([step % 4, 100]));
        }
        if counter % 7 == tick % 7 {
            record.set(KindId(2), Value::bytes(vec![tick as u8; counter as usize * 20]));
        }
        Arc::new(record)
    };
    // Some come and some go.
    (tick..tick + ENTITIES).map(record).collect()
}

impl Story {
    /// The packets that say it.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        self.ticks.iter().flatten().cloned().collect()
    }

    /// Bytes for [`keyframe`](Self::keyframe).
    pub fn keyframes(&self) -> Vec<Vec<u8>> {
        let (models, records) = &self.keyframe;
        records.iter().map(|record| [&(models.len() as u16).to_le_bytes(), models.as_slice(), record].concat()).collect()
    }

    /// Somebody who has heard the first tick, and the second but for its last packet, hears this one.
    ///
    /// # Errors
    /// If that is no packet of state.
    ///
    /// # Panics
    /// If its own packets are none: a fault of ours.
    pub fn packet(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        let mut replica = Replica::new(Boot(1));
        let heard = self.ticks[0].iter().chain(self.ticks[1].split_last().map_or(&[][..], |(_, heard)| heard));
        for packet in heard {
            self.receive(&mut replica, packet).expect("its own are packets");
        }
        self.receive(&mut replica, bytes)
    }

    fn receive(&self, replica: &mut Replica, bytes: &[u8]) -> Result<(), DecodeError> {
        let frame = tick_frame::decode(bytes, MEMBERS_MAX, NOW)?;
        replica.receive(frame.header, frame.body, &self.registry, &Limits::default()).map(|_| ())
    }

    /// A keyframe of one part is taken in: how long what was learned is, that, and records.
    ///
    /// # Errors
    /// If that is no keyframe.
    pub fn keyframe(&self, bytes: &[u8]) -> Result<(), DecodeError> {
        let (length, rest) = bytes.split_first_chunk::<2>().ok_or(DecodeError::Malformed)?;
        let (models, body) = rest.split_at_checked(u16::from_le_bytes(*length).into()).ok_or(DecodeError::Malformed)?;
        Models::from_bytes(models, &self.registry)?;
        let limits = Limits::default();
        let mut assembler = Assembler::default();
        let body = Bytes::copy_from_slice(body);
        for item in coder::decode(&body, Tick(0), None, &self.registry, limits.entities_per_origin)?.items {
            assembler.add(item, None, &limits)?;
        }
        assembler.finish().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_story_is_one() {
        let story = Story::default();
        assert!(story.packets().len() >= TICKS as usize);
        for packet in story.ticks[..2].iter().flatten() {
            assert_eq!(story.packet(packet), Ok(()));
        }
        assert_eq!(story.packet(&[0; 3]), Err(DecodeError::Malformed));
        for keyframe in story.keyframes() {
            assert!(!matches!(story.keyframe(&keyframe), Err(DecodeError::TooLong(_))));
        }
        assert_eq!(story.keyframe(&[255; 3]), Err(DecodeError::Malformed));
    }
}
