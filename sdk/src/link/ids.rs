//! Connection identifiers of four bytes, which tell ours from garbage.
//!
//! Every packet of a link begins with one (RFC 9000, section 17.3), so their length counts sixty times a second and neighbor. Four
//! bytes do: a counter of two, and two bytes of zeros that only our own identifiers have, mixed so that nobody else can tell which
//! of them belong together (RFC 9000, section 5.1). A counter does not repeat itself for 65,536 identifiers, and QUIC passes over
//! those that are still in use. Who guesses one has won nothing: packets are authenticated.

use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// The length of the connection identifiers that we hand out, in bytes.
pub(super) const CONNECTION_ID_BYTES: usize = 4;
/// How often the halves are mixed. Four times is enough for a pseudo-random permutation (Luby and Rackoff, 1988).
const ROUNDS: u8 = 4;

/// Makes identifiers, and recognizes its own and those of others with the same key.
#[derive(Debug)]
pub(super) struct ShortIds {
    key: u64,
    next: u16,
}

impl ShortIds {
    pub(super) fn from_key(key: u64) -> Self {
        Self { key, next: 0 }
    }

    /// Whether it may be one of ours. Of garbage one in 65,536 may.
    pub(super) fn is_ours(&self, id: [u8; CONNECTION_ID_BYTES]) -> bool {
        let [a, b, c, d] = id;
        let halves = (0..ROUNDS).rev().fold((u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])), |(left, right), round| {
            (right ^ self.mix(round, left), left)
        });
        halves.1 == 0
    }

    /// One round of a Feistel network.
    fn mix(&self, round: u8, half: u16) -> u16 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.key);
        hasher.write_u8(round);
        hasher.write_u16(half);
        hasher.finish() as u16
    }
}

impl ConnectionIdGenerator for ShortIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let counter = self.next;
        self.next = counter.wrapping_add(1);
        let (left, right) = (0..ROUNDS).fold((counter, 0), |(left, right), round| (right, left ^ self.mix(round, right)));
        let ([a, b], [c, d]) = (left.to_le_bytes(), right.to_le_bytes());
        ConnectionId::new(&[a, b, c, d])
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let id = <[u8; CONNECTION_ID_BYTES]>::try_from(&id[..]).map_err(|_| InvalidCid)?;
        if self.is_ours(id) { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_are_different_and_known_to_who_has_the_key() {
        let (mut ours, theirs) = (ShortIds::from_key(7), ShortIds::from_key(8));
        let ids: Vec<ConnectionId> = (0..65_536).map(|_| ours.generate_cid()).collect();
        assert!(ids.iter().all(|id| id.len() == CONNECTION_ID_BYTES && ours.validate(id).is_ok()));
        assert_eq!(ids.iter().map(|id| id.to_vec()).collect::<BTreeSet<_>>().len(), ids.len());
        let mistaken = ids.iter().filter(|id| theirs.validate(id).is_ok()).count();
        assert!(mistaken < 16, "{mistaken} of 65,536: about one is to be expected");
        assert!(ours.validate(&ConnectionId::new(&[0; 8])).is_err(), "of another length");
    }

    #[test]
    fn neighbors_in_time_have_nothing_in_common() {
        let mut ours = ShortIds::from_key(7);
        let ids: Vec<u32> = (0..1_000).map(|_| u32::from_le_bytes(ours.generate_cid()[..].try_into().unwrap())).collect();
        let flipped: u32 = ids.windows(2).map(|pair| (pair[0] ^ pair[1]).count_ones()).sum();
        let mean = f64::from(flipped) / 999.0;
        assert!((15.0..17.0).contains(&mean), "{mean} of 32 bits");
    }
}
