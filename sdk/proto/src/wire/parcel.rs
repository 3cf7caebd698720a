//! Parcels: what one datagram on a link holds.
//!
//! ```text
//! parcel:  version u8 | number u16 | item*
//! item:    tag u8 | whose? | fields
//! tag:     bits 0-2 sort | bits 3-4 whose | bits 5-7 flags of the sort
//! whose:   nothing (the neighbor itself) | alias varint | key 32 B, boot u32
//! state:   seq u32 | hops u8 | limit u8 | length varint | payload
//! proof:   first u32 | hops u8 | limit u8 | count u8 | signature 64 B | 8 B of each packet
//! said:    seq u16 | reach | length varint | content, or its hash of 32 B | covers u8, signature 64 B?
//! missing: count u8 | number u16*
//! digest:  first varint | count varint | 4 bits each, or varint each
//! pull:    base u16 | mask u64
//! reach:   one byte of hops and limit where the limit is 16 and both fit, else 255, hops u8, limit u8
//! ```
//! Parcels of one link are numbered, so that a lost one is missed at the next. An alias is a small number that the sender gave an
//! origin on the link's stream. Numbers of messages are sent as their low bits: both ends know about where an author stands.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::said::{Content, Said, Seal};
use super::{DATAGRAM_BYTES_MAX, DecodeError, MANIFEST_MAX, Manifest, Packet, WIRE_VERSION, varint};
use crate::id::{Boot, PeerId, Signature};

/// What comes before the first item, in bytes.
pub(crate) const HEADER_BYTES: usize = 3;
/// Tag, key and boot of an origin that has no alias yet, in bytes.
const NAMED_BYTES: usize = 1 + 32 + 4;
/// Sequence number, hops, limit and length of a packet, in bytes.
const STATE_BYTES: usize = 4 + 2 + 2;
const SIGNATURE_BYTES: usize = 64;

/// Most payload of a packet that nobody relays, in bytes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - 1 - STATE_BYTES;
/// Most payload of a packet that carries its origin, in bytes.
pub(crate) const RELAYED_PAYLOAD_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - NAMED_BYTES - STATE_BYTES;
/// Longest content of a message that fits a parcel, in bytes; longer ones go on the stream.
pub(crate) const SAID_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - HEADER_BYTES - NAMED_BYTES - 2 - 3 - 2 - 1 - SIGNATURE_BYTES;
/// Most lost parcels asked for in one item.
pub(crate) const MISSING_MAX: usize = 64;
/// Messages that one pull can name.
pub(crate) const PULL_SPAN: u64 = 64;
/// Origins in one digest.
pub(crate) const DIGEST_MAX: usize = 1_024;

const STATE: u8 = 0;
const SAID: u8 = 1;
const MISSING: u8 = 2;
const DIGEST: u8 = 3;
const PULL: u8 = 4;
const PROOF: u8 = 5;

const FLAG_PROOF: u8 = 1 << 5;
const FLAG_RELAYED: u8 = 1 << 5;
const FLAG_REPAIR: u8 = 1 << 6;
const FLAG_HASH: u8 = 1 << 7;
const FLAG_WHOLE: u8 = 1 << 5;

/// The hop limit that costs no byte.
const COMMON_LIMIT: u8 = 16;

/// Whose a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The neighbor's that sent the parcel.
    Neighbor,
    /// The origin's that the neighbor gave this number.
    Alias(u32),
    /// Its number is not yet known to be known.
    Named(PeerId, Boot),
}

/// One thing in a parcel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    State {
        whose: Whose,
        packet: Packet,
    },
    /// What proves packets that were passed on.
    Proof {
        whose: Whose,
        manifest: Manifest,
    },
    /// `said.seq` is its low 16 bits; `repair` where it was asked for, so that a second copy says nothing about the tree.
    Said {
        whose: Whose,
        said: Said,
        repair: bool,
    },
    /// These parcels of yours did not arrive.
    Missing(Vec<u16>),
    /// How far I have each author's messages, by my numbers from `first` on.
    Digest {
        first: u32,
        marks: Marks,
    },
    /// Send me that author's message `base`, and those after it whose bits are set.
    Pull {
        whose: Whose,
        base: u16,
        mask: u64,
    },
}

/// How far the messages of several authors are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// The low four bits: for who knows about where they stand.
    Low(Vec<u8>),
    Whole(Vec<u64>),
}

/// Begins a parcel, with room for so many bytes of items. No more: messages are kept where they came in.
pub(crate) fn begin(number: u16, items: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity((HEADER_BYTES + items).min(DATAGRAM_BYTES_MAX));
    bytes.put_u8(WIRE_VERSION);
    bytes.put_u16_le(number);
    bytes
}

impl Item {
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self {
            Self::State { whose, packet } => {
                put_tag(&mut bytes, STATE, Some(whose), if packet.relayed { FLAG_RELAYED } else { 0 });
                bytes.put_u32_le(packet.seq);
                bytes.put_u8(packet.hops);
                bytes.put_u8(packet.hop_limit);
                varint::put(&mut bytes, packet.payload.len() as u64);
                bytes.put_slice(&packet.payload);
            }
            Self::Proof { whose, manifest } => {
                put_tag(&mut bytes, PROOF, Some(whose), 0);
                bytes.put_u32_le(manifest.first);
                bytes.put_u8(manifest.hops);
                bytes.put_u8(manifest.hop_limit);
                bytes.put_u8(manifest.leaves.len() as u8);
                bytes.put_slice(&manifest.signature.0);
                bytes.put_slice(manifest.leaves.as_flattened());
            }
            Self::Said { whose, said, repair } => {
                let flag = |is: bool, flag| if is { flag } else { 0 };
                let is_hash = matches!(said.content, Content::Hash(_));
                let flags = flag(said.seal.is_some(), FLAG_PROOF) | flag(*repair, FLAG_REPAIR) | flag(is_hash, FLAG_HASH);
                put_tag(&mut bytes, SAID, Some(whose), flags);
                bytes.put_u16_le(said.seq as u16);
                put_reach(&mut bytes, said.hops, said.hop_limit);
                match &said.content {
                    Content::Whole(content) => {
                        varint::put(&mut bytes, content.len() as u64);
                        bytes.put_slice(content);
                    }
                    Content::Hash(hash) => bytes.put_slice(hash),
                }
                if let Some(seal) = said.seal {
                    bytes.put_u8(seal.covers);
                    bytes.put_slice(&seal.signature.0);
                }
            }
            Self::Missing(numbers) => {
                put_tag(&mut bytes, MISSING, None, 0);
                bytes.put_u8(numbers.len().min(MISSING_MAX) as u8);
                numbers.iter().take(MISSING_MAX).for_each(|number| bytes.put_u16_le(*number));
            }
            Self::Digest { first, marks } => {
                let (whole, count) = match marks {
                    Marks::Low(marks) => (0, marks.len()),
                    Marks::Whole(marks) => (FLAG_WHOLE, marks.len()),
                };
                put_tag(&mut bytes, DIGEST, None, whole);
                varint::put(&mut bytes, u64::from(*first));
                varint::put(&mut bytes, count as u64);
                match marks {
                    Marks::Low(marks) => {
                        for pair in marks.chunks(2) {
                            bytes.put_u8(pair[0] & 15 | pair.get(1).map_or(0, |high| high << 4));
                        }
                    }
                    Marks::Whole(marks) => marks.iter().for_each(|mark| varint::put(&mut bytes, *mark)),
                }
            }
            Self::Pull { whose, base, mask } => {
                put_tag(&mut bytes, PULL, Some(whose), 0);
                bytes.put_u16_le(*base);
                varint::put(&mut bytes, *mask);
            }
        }
        bytes.freeze()
    }

    fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        let tag = get_u8(bytes)?;
        let (sort, flags) = (tag & 7, tag & (FLAG_PROOF | FLAG_REPAIR | FLAG_HASH));
        let allowed = match sort {
            STATE => FLAG_RELAYED,
            SAID => FLAG_PROOF | FLAG_REPAIR | FLAG_HASH,
            DIGEST => FLAG_WHOLE,
            _ => 0,
        };
        if flags & !allowed != 0 || (matches!(sort, MISSING | DIGEST) && tag & WHOSE_BITS != 0) {
            return Err(DecodeError::Malformed);
        }
        match sort {
            STATE => {
                let whose = get_whose(bytes, tag)?;
                let seq = u32::from_le_bytes(take(bytes)?);
                let [hops, hop_limit] = take(bytes)?;
                let length = get_length(bytes)?;
                // What is to be passed on must fit beside its origin's name.
                if flags & FLAG_RELAYED != 0 && length > RELAYED_PAYLOAD_BYTES_MAX {
                    return Err(DecodeError::TooLong(RELAYED_PAYLOAD_BYTES_MAX));
                }
                let payload = split(bytes, length)?;
                Ok(Self::State { whose, packet: Packet { seq, hop_limit, hops, relayed: flags & FLAG_RELAYED != 0, payload } })
            }
            PROOF => {
                let whose = get_whose(bytes, tag)?;
                let first = u32::from_le_bytes(take(bytes)?);
                let [hops, hop_limit, count] = take(bytes)?;
                let signature = Signature(take(bytes)?);
                if usize::from(count) > MANIFEST_MAX {
                    return Err(DecodeError::TooLong(MANIFEST_MAX));
                }
                let leaves: Vec<_> = (0..count).map(|_| take(bytes)).collect::<Result<_, _>>()?;
                // The numbers end where they end.
                if leaves.is_empty() || first.checked_add(u32::from(count)).is_none() {
                    return Err(DecodeError::Malformed);
                }
                Ok(Self::Proof { whose, manifest: Manifest { first, hop_limit, hops, leaves, signature } })
            }
            SAID => {
                let whose = get_whose(bytes, tag)?;
                let seq = u64::from(u16::from_le_bytes(take(bytes)?));
                let (hops, hop_limit) = get_reach(bytes)?;
                let content = if flags & FLAG_HASH != 0 {
                    Content::Hash(take(bytes)?)
                } else {
                    let length = get_length(bytes)?;
                    Content::Whole(split(bytes, length)?)
                };
                let seal = if flags & FLAG_PROOF != 0 {
                    Some(Seal { covers: get_u8(bytes)?, signature: Signature(take(bytes)?) })
                } else {
                    None
                };
                let repair = flags & FLAG_REPAIR != 0;
                Ok(Self::Said { whose, said: Said { seq, hops, hop_limit, content, seal }, repair })
            }
            MISSING => {
                let count = usize::from(get_u8(bytes)?);
                if count > MISSING_MAX {
                    return Err(DecodeError::TooLong(MISSING_MAX));
                }
                (0..count).map(|_| take(bytes).map(u16::from_le_bytes)).collect::<Result<_, _>>().map(Self::Missing)
            }
            DIGEST => {
                let first = u32::try_from(varint::get(bytes)?).map_err(|_| DecodeError::Malformed)?;
                let count = get_length(bytes)?;
                if count > DIGEST_MAX {
                    return Err(DecodeError::TooLong(DIGEST_MAX));
                }
                let marks = if flags & FLAG_WHOLE != 0 {
                    Marks::Whole((0..count).map(|_| varint::get(bytes)).collect::<Result<_, _>>()?)
                } else {
                    let pairs = split(bytes, count.div_ceil(2))?;
                    let mut marks: Vec<u8> = pairs.iter().flat_map(|pair| [pair & 15, pair >> 4]).collect();
                    if marks.len() > count && marks.pop() != Some(0) {
                        return Err(DecodeError::Malformed);
                    }
                    Marks::Low(marks)
                };
                Ok(Self::Digest { first, marks })
            }
            PULL => {
                let whose = get_whose(bytes, tag)?;
                Ok(Self::Pull { whose, base: u16::from_le_bytes(take(bytes)?), mask: varint::get(bytes)? })
            }
            _ => Err(DecodeError::Malformed),
        }
    }
}

/// A parcel's number and its items.
pub(crate) fn decode(mut bytes: Bytes) -> Result<(u16, Vec<Item>), DecodeError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(DecodeError::TooLong(DATAGRAM_BYTES_MAX));
    }
    let version = get_u8(&mut bytes)?;
    if version != WIRE_VERSION {
        return Err(DecodeError::Version(version));
    }
    let number = u16::from_le_bytes(take(&mut bytes)?);
    let mut items = Vec::new();
    while bytes.has_remaining() {
        items.push(Item::decode(&mut bytes)?);
    }
    Ok((number, items))
}

/// Decodes a parcel and forgets it: the way in for fuzzers.
pub fn decode_parcel(bytes: &[u8]) -> Result<(), DecodeError> {
    decode(Bytes::copy_from_slice(bytes)).map(|_| ())
}

const WHOSE_BITS: u8 = 3 << 3;
const WHOSE_ALIAS: u8 = 1 << 3;
const WHOSE_NAMED: u8 = 2 << 3;

fn put_tag(bytes: &mut BytesMut, sort: u8, whose: Option<&Whose>, flags: u8) {
    match whose {
        None | Some(Whose::Neighbor) => bytes.put_u8(sort | flags),
        Some(Whose::Alias(alias)) => {
            bytes.put_u8(sort | WHOSE_ALIAS | flags);
            varint::put(bytes, u64::from(*alias));
        }
        Some(Whose::Named(peer, boot)) => {
            bytes.put_u8(sort | WHOSE_NAMED | flags);
            bytes.put_slice(&peer.0);
            bytes.put_u32_le(boot.0);
        }
    }
}

fn get_whose(bytes: &mut Bytes, tag: u8) -> Result<Whose, DecodeError> {
    match tag & WHOSE_BITS {
        0 => Ok(Whose::Neighbor),
        WHOSE_ALIAS => u32::try_from(varint::get(bytes)?).map(Whose::Alias).map_err(|_| DecodeError::Malformed),
        WHOSE_NAMED => Ok(Whose::Named(PeerId(take(bytes)?), Boot(u32::from_le_bytes(take(bytes)?)))),
        _ => Err(DecodeError::Malformed),
    }
}

/// Most hops that share a byte with the common limit.
const SHORT_HOPS: u8 = 254;
const LONG_REACH: u8 = 255;

fn put_reach(bytes: &mut BytesMut, hops: u8, limit: u8) {
    if limit == COMMON_LIMIT && hops <= SHORT_HOPS {
        return bytes.put_u8(hops);
    }
    bytes.put_slice(&[LONG_REACH, hops, limit]);
}

fn get_reach(bytes: &mut Bytes) -> Result<(u8, u8), DecodeError> {
    match get_u8(bytes)? {
        LONG_REACH => {
            let [hops, limit] = take(bytes)?;
            // One way to say each.
            if limit == COMMON_LIMIT && hops <= SHORT_HOPS { Err(DecodeError::Malformed) } else { Ok((hops, limit)) }
        }
        hops => Ok((hops, COMMON_LIMIT)),
    }
}

fn get_u8(bytes: &mut Bytes) -> Result<u8, DecodeError> {
    take(bytes).map(|[byte]| byte)
}

fn get_length(bytes: &mut Bytes) -> Result<usize, DecodeError> {
    usize::try_from(varint::get(bytes)?).map_err(|_| DecodeError::Malformed)
}

fn take<const N: usize>(bytes: &mut Bytes) -> Result<[u8; N], DecodeError> {
    let mut taken = [0; N];
    if bytes.remaining() < N {
        return Err(DecodeError::Malformed);
    }
    bytes.copy_to_slice(&mut taken);
    Ok(taken)
}

fn split(bytes: &mut Bytes, length: usize) -> Result<Bytes, DecodeError> {
    if bytes.remaining() < length { Err(DecodeError::Malformed) } else { Ok(bytes.split_to(length)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parcel(items: &[Item]) -> Bytes {
        let mut bytes = begin(7, 0);
        items.iter().for_each(|item| bytes.put(item.encode()));
        bytes.freeze()
    }

    fn named() -> Whose {
        Whose::Named(PeerId([9; 32]), Boot(1))
    }

    fn said(content: Content, hop_limit: u8, seal: Option<Seal>) -> Item {
        Item::Said { whose: named(), said: Said { seq: 65_535, hops: 1, hop_limit, content, seal }, repair: false }
    }

    #[test]
    fn golden_bytes() {
        let said = Said { seq: 258, hops: 1, hop_limit: 16, content: Content::Whole(Bytes::from_static(b"hi")), seal: None };
        let items = [
            Item::Said { whose: Whose::Alias(3), said, repair: true },
            Item::Digest { first: 0, marks: Marks::Low(vec![1, 2, 3]) },
            Item::Pull { whose: Whose::Neighbor, base: 5, mask: 1 },
            Item::Missing(vec![6]),
            Item::State {
                whose: Whose::Neighbor,
                packet: Packet { seq: 8, hop_limit: 16, hops: 0, relayed: true, payload: Bytes::from_static(b"!") },
            },
        ];
        let expected = [
            WIRE_VERSION,
            7,
            0,
            0x49,
            3,
            2,
            1,
            1,
            2,
            b'h',
            b'i',
            3,
            0,
            3,
            0x21,
            3,
            4,
            5,
            0,
            1,
            2,
            1,
            6,
            0,
            0x20,
            8,
            0,
            0,
            0,
            0,
            16,
            1,
            b'!',
        ];
        assert_eq!(parcel(&items)[..], expected);
        assert_eq!(decode(parcel(&items)), Ok((7, items.to_vec())));
    }

    #[test]
    fn the_longest_of_each_sort_fits_and_survives() {
        let seal = Seal { covers: 255, signature: Signature([3; 64]) };
        let packet = |relayed, length| Packet { seq: 1, hop_limit: 9, hops: 8, relayed, payload: vec![0; length].into() };
        let leaves = vec![[5; 8]; MANIFEST_MAX];
        let manifest = Manifest { first: 7, hop_limit: 9, hops: 8, leaves, signature: Signature([3; 64]) };
        for item in [
            Item::State { whose: Whose::Neighbor, packet: packet(false, PAYLOAD_BYTES_MAX) },
            Item::State { whose: named(), packet: packet(true, RELAYED_PAYLOAD_BYTES_MAX) },
            Item::Proof { whose: named(), manifest },
            said(Content::Whole(vec![0; SAID_BYTES_MAX].into()), 255, Some(seal)),
            said(Content::Hash([1; 32]), 16, None),
            Item::Missing(vec![65_535; MISSING_MAX]),
            Item::Digest { first: 70_000, marks: Marks::Low(vec![15; DIGEST_MAX]) },
            Item::Digest { first: 0, marks: Marks::Whole(vec![u64::MAX, 0, 300]) },
        ] {
            let bytes = parcel(std::slice::from_ref(&item));
            assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "{} bytes", bytes.len());
            assert_eq!(decode(bytes), Ok((7, vec![item])));
        }
    }

    #[test]
    fn a_proved_packet_too_long_to_be_passed_on_is_refused() {
        let payload = vec![0; RELAYED_PAYLOAD_BYTES_MAX + 1].into();
        let packet = Packet { seq: 1, hop_limit: 9, hops: 0, relayed: true, payload };
        let bytes = parcel(&[Item::State { whose: Whose::Neighbor, packet }]);
        assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "it would fit the link from its origin");
        assert_eq!(decode(bytes), Err(DecodeError::TooLong(RELAYED_PAYLOAD_BYTES_MAX)));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_parcel_or_an_error(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = begin(7, 0);
            bytes.put_slice(&raw);
            if let Ok((number, items)) = decode(bytes.clone().freeze()) {
                prop_assert_eq!(number, 7);
                prop_assert_eq!(&parcel(&items)[..], &bytes[..]);
            }
        }
    }
}
