//! One of everything that crosses a link, valid and signed: what tests of decoders begin with.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use crate::admission::{Certificate, LockId, Revocations};
use crate::config::Profile;
use crate::id::{Boot, EntityId, Identity, MeshId, PeerId, Signature, Tick};
use crate::node::Refusal;
use crate::time::MeshTime;
use crate::wire::{
    Adoption, Alias, Body, Confirm, Content, Frame, Holding, Item, Keyframe, Known, Lane, MANIFEST_MAX, Manifest, Marks, Message,
    Note, Numbered, Packet, Presence, Receipt, Referral, Said, Seal, Signed, Standing, UNRELAYED_HOP_LIMIT, Verdict, Welcome,
    Whose, codec, parcel,
};

/// A sample: what sort it is of, and its bytes.
pub type Sample = (String, Bytes);

/// One frame of each sort at the least.
///
/// # Panics
/// Never: all are short.
pub fn frames() -> Vec<Sample> {
    all_frames().iter().map(|frame| (sort(frame), frame.encode().expect("short"))).collect()
}

/// One parcel of each sort of item at the least.
pub fn parcels() -> Vec<Sample> {
    let packed = |item: &Item| {
        let mut bytes = parcel::begin(7, 0);
        item.encode().put(&mut bytes, true);
        (sort(item), bytes.freeze())
    };
    items().iter().map(packed).collect()
}

/// One of each of what members say to all or to one beside what the game says, as the codec encodes it.
///
/// # Panics
/// Never: all are short.
pub fn bodies() -> Vec<Sample> {
    all_bodies().iter().map(|body| (sort(body), codec::encode(body).expect("short"))).collect()
}

/// The sorts of frames that there are, by the code that reads them.
pub fn frame_sorts() -> &'static [&'static str] {
    variants::<Frame>()
}

/// The sorts of bodies that there are, by the code that reads them.
pub fn body_sorts() -> &'static [&'static str] {
    variants::<Body>()
}

/// Whether all of `bytes` are a body.
pub fn is_body(bytes: &[u8]) -> bool {
    codec::decode::<Body>(bytes).is_ok()
}

/// A value's sort is the first word that its `Debug` shows.
fn sort(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|letter| letter.is_alphanumeric()).collect()
}

fn identity() -> Identity {
    Identity::from_seed([1; 32])
}

fn peer() -> PeerId {
    identity().peer_id()
}

fn mesh() -> MeshId {
    MeshId::from_name("samples")
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_433))
}

fn entity() -> EntityId {
    EntityId { spawner: peer(), boot: Boot(300), counter: 5 }
}

fn all_frames() -> Vec<Frame> {
    let share = || Bytes::from([&b"A"[..], &peer().0].concat());
    let (origin, boot) = (peer(), Boot(300));
    let standing = Standing { origin, boot, upto: 70_000 };
    let profile = Profile { name: "Ann".into(), data: Bytes::from_static(b"red") };
    let presence = Presence::new(
        boot,
        9,
        profile,
        &[address()],
        vec![PeerId([2; 32]), PeerId([3; 32])],
        2,
        Duration::from_millis(40),
        12,
        None,
    );
    let note = Note { boot, lane: Lane::One { to: PeerId([2; 32]), after: 3 }, seq: 4, hop_limit: 16, body_hash: [5; 32] };
    let signed = |what: &str| Signed::new(&identity(), &mesh(), what, &note).expect("short");
    let holding = Holding { entity: entity(), number: 2, owner: Some(origin), previous: None, adopted: true };
    let referrals = vec![Referral { address: address(), peer: origin }];
    let welcome = Welcome {
        lock: LockId::default(),
        tag: [7; 32],
        boot,
        verdict: Verdict::Full,
        certificate: None,
        mesh_time: MeshTime(1_234_567),
        observed: address(),
        referrals: referrals.clone(),
    };
    let receipt = Receipt { to: origin, boot, upto: 4 };
    let body = codec::encode(&Body::Farewell).expect("short");
    let keyframe = Keyframe {
        origin,
        boot,
        tick: Tick(600),
        at: MeshTime(1_234_567),
        partial: false,
        part: 0,
        parts: 2,
        models: 1,
        body: Bytes::from_static(&[1, 0, 2, 0, 3, 0]),
    };
    vec![
        Frame::Hello { lock: LockId::NEWEST, share: share() },
        Frame::Share { share: share() },
        Frame::Confirm(Confirm {
            tag: [7; 32],
            boot,
            links: 2,
            registry: [8; 16],
            certificate: Some(certificate()),
            hidden: false,
        }),
        Frame::Welcome(welcome),
        Frame::Refer(referrals),
        Frame::Presence(presence.sign(&identity(), &mesh()).expect("short")),
        Frame::Message(Message { header: signed("message"), hops: 1, body: Some(body) }),
        Frame::Receipt(Signed::new(&identity(), &mesh(), "receipt", &receipt).expect("short")),
        Frame::Said { author: origin, boot, repair: false, said: said(Content::Whole(Bytes::from_static(b"\x01\x02hello"))) },
        Frame::Standing(vec![standing]),
        Frame::Gone(standing),
        Frame::Aliases(vec![Alias { number: 3, origin, boot }]),
        Frame::AliasesKnown(vec![1, 2, 300]),
        Frame::Prune(vec![origin]),
        Frame::Graft(vec![origin]),
        Frame::Ages { first: 3, ages: Bytes::from_static(&[1, 2, 255]) },
        Frame::Holdings(vec![holding]),
        Frame::HoldingsHash { part: 3, hash: [4; 16] },
        Frame::WantKeyframe { origin, tick: Tick(600) },
        Frame::WantProof { origin, seq: 700 },
        Frame::Keyframe(keyframe),
        Frame::Retire,
        Frame::Stay,
        Frame::Roster(vec![Known::new(&origin, boot, 3)]),
        Frame::Vote(signed("vote")),
        Frame::Removal { record: signed("removal"), letter: Some(Bytes::from(vec![6; 72])) },
        Frame::Evidence { origin, boot, one: manifest(2), other: manifest(1) },
        Frame::Revocations(Revocations::issue(&identity(), &mesh(), 3, [7, 9]).expect("few")),
        Frame::Guessed(vec![address().ip()]),
        Frame::Lock { lock: LockId { epoch: 1, record: 2 }, proof: [9; 32] },
        Frame::News(vec![Known::new(&origin, boot, 3), Known::new(&origin, boot, Known::UNKNOWN)]),
    ]
}

fn all_bodies() -> Vec<Body> {
    let numbered = Numbered { entity: entity(), number: 2 };
    vec![
        Body::App { topic: 300, payload: Bytes::from_static(b"hello") },
        Body::Transfer { entity: entity(), number: 2, to: peer(), record: Bytes::from_static(&[1, 2, 3]) },
        Body::Adopt(vec![Adoption { entity: entity(), number: 2, adopted: true }]),
        Body::Farewell,
        Body::Seal,
        Body::Seize(vec![numbered]),
        Body::Remove(vec![numbered]),
        Body::Request { entity: entity() },
        Body::Refuse { entity: entity(), refusal: Refusal::Refused },
    ]
}

fn certificate() -> Certificate {
    Certificate::issue(&identity(), &mesh(), peer(), 7, Some(1_800_000_000))
}

fn manifest(count: usize) -> Manifest {
    Manifest { first: 7, hop_limit: 16, hops: 2, leaves: vec![[5; 8]; count], signature: Signature([3; 64]) }
}

fn said(content: Content) -> Said {
    Said { seq: 258, hops: 1, hop_limit: 9, content, seal: Some(Seal { covers: 2, signature: Signature([3; 64]) }) }
}

fn items() -> Vec<Item> {
    let named = Whose::Named(peer(), Boot(300));
    let packet = |relayed| {
        let (hop_limit, hops) = if relayed { (16, 2) } else { (UNRELAYED_HOP_LIMIT, 0) };
        Packet { seq: 300, hop_limit, hops, relayed, payload: Bytes::from_static(&[0x4c, 0x11, 0x22, 0x33, 0x44, 0x55]) }
    };
    vec![
        Item::State { whose: named, packet: packet(true) },
        Item::State { whose: Whose::Neighbor, packet: packet(false) },
        Item::Proof { whose: Whose::Alias(3), manifest: manifest(2) },
        Item::Proof { whose: Whose::Alias(3), manifest: manifest(MANIFEST_MAX) },
        Item::Said { whose: Whose::Alias(3), said: said(Content::Whole(Bytes::from_static(b"\x01\x02hello"))), repair: true },
        Item::Said { whose: named, said: said(Content::Hash([9; 32])), repair: false },
        Item::Missing(vec![5, 6, 65_535]),
        Item::Digest { first: 3, marks: Marks::Low(vec![1, 2, 3]) },
        Item::Digest { first: 0, marks: Marks::Whole(vec![300, 0, 7]) },
        Item::Pull { whose: named, base: 5, mask: 0x8000_0001 },
    ]
}

/// The names of an enum's variants, as its `Deserialize` tells them to whoever would read one.
fn variants<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    match T::deserialize(Asked) {
        Err(Names(names)) => names,
        Ok(_) => &[],
    }
}

/// Reads nothing; only listens to what an enum would like to read.
struct Asked;

#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
struct Names(&'static [&'static str]);

impl de::Error for Names {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Names;

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, names: &'static [&'static str], _: V) -> Result<V::Value, Names> {
        Err(Names(names))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_is_one_of_each() {
        let sorts = |samples: Vec<Sample>| samples.into_iter().map(|(sort, _)| sort).collect::<BTreeSet<_>>();
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        assert!(frame_sorts().len() > 20 && body_sorts().len() > 5);
        assert_eq!(sorts(frames()), all(frame_sorts()), "add the new one to `all_frames`");
        assert_eq!(sorts(bodies()), all(body_sorts()), "add the new one to `all_bodies`");
        assert_eq!(sorts(parcels()).len(), 6);
    }
}
