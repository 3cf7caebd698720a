//! What a dishonest member can make: frames, parcels and claims put together by hand from the real parts, for tests that play it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::config::Limits;
use crate::id::{Boot, EntityId, Identity, MeshId, PeerId, Tick};
use crate::state::coder::{self, Assembler, Models};
use crate::state::replica::PieceHeader;
use crate::state::snapshot::{Record, Snapshot};
use crate::state::{KindId, Orphan, Registry, Value, tick_frame};
use crate::time::MeshTime;
use crate::wire::{
    Body, Content, DATAGRAM_BYTES_MAX, FRAME_BYTES_MAX, Frame, Item, Keyframe, Manifest, PAYLOAD_BYTES_MAX, Packet, Said, Signed,
    Speech, UNRELAYED_HOP_LIMIT, Whose, parcel,
};

/// Links that forged things may travel.
const HOP_LIMIT: u8 = 16;

/// A parcel with this item first; None where it does not fit.
///
/// # Panics
/// Where it is no parcel: a fault of the test.
pub fn add_item(bytes: &Bytes, item: &Forged) -> Option<Bytes> {
    let (number, mut items) = parcel::decode(bytes.clone()).expect("what our own nodes send are parcels");
    items.insert(0, item.0.clone());
    let length: usize = items.iter().map(|item| item.encode().len(false)).sum();
    (length + parcel::HEADER_BYTES <= DATAGRAM_BYTES_MAX).then(|| pack(number, &items))
}

/// A parcel with this item in place of all others.
///
/// # Panics
/// Where it is no parcel, or the item does not fit: a fault of the test.
pub fn replace_items(bytes: &Bytes, item: &Forged) -> Bytes {
    let (number, _) = parcel::decode(bytes.clone()).expect("what our own nodes send are parcels");
    pack(number, std::slice::from_ref(&item.0))
}

/// What is in a parcel.
pub fn items_of(bytes: &Bytes) -> Vec<Forged> {
    parcel::decode(bytes.clone()).map(|(_, items)| items.into_iter().map(Forged).collect()).unwrap_or_default()
}

/// A parcel of these items.
///
/// # Panics
/// Where they do not fit: a fault of the test.
pub fn parcel_of(number: u16, items: &[Forged]) -> Bytes {
    pack(number, &items.iter().map(|forged| forged.0.clone()).collect::<Vec<_>>())
}

/// A parcel in which `alter` has changed the payloads of packets that others than its sender made; None where it changed nothing.
/// `alter` is told whose they are, as far as that is said, and their numbers; it returns whether it changed something.
pub fn alter_relayed(bytes: &Bytes, mut alter: impl FnMut(&mut u32, &mut Vec<u8>) -> bool) -> Option<Bytes> {
    let (number, mut items) = parcel::decode(bytes.clone()).ok()?;
    let mut altered = false;
    for item in &mut items {
        if let Item::State { whose: Whose::Alias(_) | Whose::Named(..), packet } = item {
            let mut payload = packet.payload.to_vec();
            if alter(&mut packet.seq, &mut payload) {
                (packet.payload, altered) = (payload.into(), true);
            }
        }
    }
    altered.then(|| pack(number, &items))
}

/// The packets of state in a parcel: whether somebody else than its sender made them, their numbers and their ticks.
pub fn packets(bytes: &Bytes) -> Vec<(bool, u32, Tick)> {
    let items = parcel::decode(bytes.clone()).map(|(_, items)| items).unwrap_or_default();
    let packet = |item: &Item| match item {
        Item::State { whose, packet } => Some((*whose != Whose::Neighbor, packet.seq, tick_frame::tick(&packet.payload).ok()?)),
        _ => None,
    };
    items.iter().filter_map(packet).collect()
}

fn pack(number: u16, items: &[Item]) -> Bytes {
    let mut bytes = parcel::begin(number, DATAGRAM_BYTES_MAX);
    for (place, item) in items.iter().enumerate() {
        item.encode().put(&mut bytes, place + 1 == items.len());
    }
    assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes in one parcel", bytes.len());
    bytes.freeze()
}

/// A parcel in which every proof of its sender's own says something else of the first packet, signed by that sender as well; None where it holds none.
pub fn equivocate(bytes: &Bytes, sender: &Identity, mesh: &MeshId, boot: Boot) -> Option<Bytes> {
    let (number, mut items) = parcel::decode(bytes.clone()).ok()?;
    let mut altered = false;
    for item in &mut items {
        if let Item::Proof { whose: Whose::Neighbor, manifest } = item {
            manifest.leaves[0][0] ^= 1;
            let leaves = std::mem::take(&mut manifest.leaves);
            *manifest = Manifest::new(sender, mesh, boot, manifest.first, manifest.hop_limit, leaves);
            altered = true;
        }
    }
    altered.then(|| pack(number, &items))
}

/// A frame that says that `origin` signed two different things for the same packet, if `contradicts`; both signed by `signer`.
///
/// # Panics
/// Never: it is short.
pub fn evidence(signer: &Identity, origin: PeerId, mesh: &MeshId, boot: Boot, first: u32, contradicts: bool) -> Bytes {
    let manifest = |byte| Manifest::new(signer, mesh, boot, first, HOP_LIMIT, vec![[byte; 8]; 3]);
    let frame = Frame::Evidence { origin, boot, one: manifest(1), other: manifest(if contradicts { 2 } else { 1 }) };
    frame.encode().expect("short")
}

/// One thing for a parcel.
#[derive(Clone, Debug)]
pub struct Forged(Item);

impl Forged {
    /// The same, said to be of somebody: what its origin said itself, as a relay would say it again. Packets that nobody relays
    /// look as if they were to be.
    #[must_use]
    pub fn in_the_name_of(mut self, (peer, boot): (PeerId, Boot)) -> Self {
        match &mut self.0 {
            Item::State { whose, packet } if *whose == Whose::Neighbor => {
                *whose = Whose::Named(peer, boot);
                if !packet.relayed {
                    (packet.relayed, packet.hops, packet.hop_limit) = (true, 1, HOP_LIMIT);
                }
            }
            Item::Proof { whose, .. } | Item::Said { whose, .. } | Item::Pull { whose, .. } if *whose == Whose::Neighbor => {
                *whose = Whose::Named(peer, boot);
            }
            _ => {}
        }
        self
    }
}

/// A packet of state that says what somebody would like others to believe.
#[derive(Clone, Debug)]
pub struct Claim {
    /// In whose name; None in that of the link's own end.
    pub of: Option<(PeerId, Boot)>,
    /// The number of the packet.
    pub seq: u32,
    /// The tick that it says it is of.
    pub tick: Tick,
    /// When that is said to have been.
    pub at: MeshTime,
    /// Which entity.
    pub entity: EntityId,
    /// How often its owner is said to have changed.
    pub number: u32,
    /// Which component.
    pub kind: KindId,
    /// What it is said to be.
    pub value: Value,
}

impl Claim {
    /// The packet.
    ///
    /// # Panics
    /// Where it does not fit one: a fault of the test.
    pub fn forge(&self, registry: &Registry) -> Forged {
        let mut record = Record::new(self.entity, self.number, Orphan::Adopt);
        record.set(self.kind, self.value.clone());
        let records = vec![record.into()].into();
        let snapshot = Snapshot::whole(self.tick, self.at, records, Models::new(registry).into());
        let (pieces, _) = coder::encode(&snapshot, None, registry, PAYLOAD_BYTES_MAX);
        assert_eq!(pieces.len(), 1, "one small entity");
        let header = PieceHeader {
            tick: self.tick,
            at: tick_frame::rounded(self.at),
            piece: 0,
            pieces: 1,
            baseline: None,
            reference: None,
            partial: true,
            check: pieces[0].check,
            digest: None,
        };
        let payload = tick_frame::encode(header, None, &pieces[0].bytes).into();
        let (whose, relayed) = self.of.map_or((Whose::Neighbor, false), |(peer, boot)| (Whose::Named(peer, boot), true));
        let (hop_limit, hops) = if relayed { (HOP_LIMIT, 1) } else { (UNRELAYED_HOP_LIMIT, 0) };
        Forged(Item::State { whose, packet: Packet { seq: self.seq, hop_limit, hops, relayed, payload } })
    }
}

/// A message to all in somebody's name, without a seal.
///
/// # Panics
/// Where it is too long: a fault of the test.
pub fn said(of: (PeerId, Boot), seq: u64, topic: u16, text: &str) -> Forged {
    spoken(of, seq, &Speech::App { topic, payload: Bytes::from(text.to_owned()) })
}

/// Somebody's farewell, without a seal.
///
/// # Panics
/// Never: it is short.
pub fn farewell(of: (PeerId, Boot), seq: u64) -> Forged {
    spoken(of, seq, &Speech::Mesh(Body::Farewell))
}

fn spoken((peer, boot): (PeerId, Boot), seq: u64, speech: &Speech) -> Forged {
    let content = Content::Whole(speech.encode().expect("short"));
    let said = Said { seq, hops: 1, hop_limit: HOP_LIMIT, content, seal: None };
    Forged(Item::Said { whose: Whose::Named(peer, boot), said, repair: false })
}

/// What a member says of itself, as bytes that `signer` signed in the name of `author`.
///
/// # Panics
/// Where they are too long: a fault of the test.
pub fn presence(signer: &Identity, author: PeerId, mesh: &MeshId, content: Bytes) -> Bytes {
    let mut signed = Signed::of_bytes(signer, mesh, "presence", content);
    signed.author = author;
    Frame::Presence(signed).encode().expect("short enough")
}

/// What a presence says, in the bytes that its author signed; None where a frame is no presence.
pub fn presence_content(frame: &[u8]) -> Option<Bytes> {
    match Frame::decode(frame, FRAME_BYTES_MAX) {
        Ok(Frame::Presence(signed)) => Some(signed.bytes().clone()),
        _ => None,
    }
}

/// A part of a keyframe that says what its maker likes. Its body is cut where it is longer than a frame.
pub fn keyframe(origin: PeerId, boot: Boot, tick: Tick, (part, parts, models): (u16, u16, u16), body: &[u8]) -> Bytes {
    let body = Bytes::copy_from_slice(&body[..body.len().min(FRAME_BYTES_MAX - 256)]);
    let keyframe = Keyframe { origin, boot, tick, at: MeshTime(0), partial: false, part, parts, models, body };
    Frame::Keyframe(keyframe).encode().expect("it was cut to fit")
}

/// The same, of a part of a keyframe as an honest member sent it: all values of `origin` that `alter` gives another are that. None where
/// it is no such part, or nothing was altered.
pub fn alter_keyframe(
    bytes: &Bytes,
    origin: PeerId,
    registry: &Registry,
    alter: impl Fn(KindId, &Value) -> Option<Value>,
) -> Option<Bytes> {
    let Ok(Frame::Keyframe(mut keyframe)) = Frame::decode(bytes, FRAME_BYTES_MAX) else { return None };
    if keyframe.origin != origin || keyframe.part < keyframe.models {
        return None;
    }
    let mut assembler = Assembler::default();
    let limits = Limits::default();
    for item in coder::decode(&keyframe.body, Tick(0), None, registry, limits.entities_per_origin).ok()?.items {
        assembler.add(item, None, &limits).ok()?;
    }
    let mut altered = false;
    let mut records = assembler.finish().ok()?;
    for record in records.iter_mut().map(Arc::make_mut) {
        for (kind, value) in record.components().to_vec() {
            if let Some(lie) = alter(kind, &value) {
                record.set(kind, lie);
                altered = true;
            }
        }
    }
    let snapshot = Snapshot::whole(keyframe.tick, keyframe.at, Arc::new(records), Models::new(registry).into());
    keyframe.body = coder::encode(&snapshot, None, registry, FRAME_BYTES_MAX).0.swap_remove(0).bytes.into();
    altered.then(|| Frame::Keyframe(keyframe).encode())?
}

/// Bytes as the codec makes them of any value, with the version in front: for frames that no honest member would send.
///
/// # Panics
/// Where the value is too long: a fault of the test.
pub fn framed(value: &impl Serialize) -> Bytes {
    let body = crate::wire::codec::encode(value).expect("short enough");
    let mut bytes = BytesMut::new();
    bytes.put_u8(crate::wire::WIRE_VERSION);
    bytes.put(body);
    bytes.freeze()
}
