//! Who should run a task: a weighted rendezvous of its number with every member, which all compute alike.
//!
//! Each member draws a lot for each task, and the best lot wins; who has twice the capacity wins twice as often, and whoever comes or
//! goes moves only the tasks that it wins or held. Whole numbers only: the logarithm of a floating point library is not the same on
//! all machines, and two members that differ in the last digit would run a task twice.

use peerflock_proto::PeerId;

use super::TaskId;

/// Bits after the point of a logarithm.
const FRACTION_BITS: u32 = 32;

/// How far a member is from a task: the lowest runs it. Equal only for equal members.
pub(super) fn distance(task: &TaskId, peer: &PeerId, capacity: u16) -> (u64, PeerId) {
    let mut hasher = blake3::Hasher::new_derive_key("peerflock 1 work rendezvous");
    hasher.update(&task.submitter.0).update(&task.boot.0.to_le_bytes()).update(&task.number.to_le_bytes()).update(&peer.0);
    let lot = hasher.finalize().as_bytes().first_chunk::<8>().map_or(1, |bytes| u64::from_le_bytes(*bytes));
    // -ln(u) / w is the least with a chance in proportion to w; the base of the logarithm does not matter.
    let steps = u128::from((64 << FRACTION_BITS) - log2(lot.max(1))) << 16;
    (u64::try_from(steps / u128::from(capacity.max(1))).unwrap_or(u64::MAX), *peer)
}

/// The logarithm to the base 2, with [`FRACTION_BITS`] bits after the point. `number` is not 0.
fn log2(number: u64) -> u64 {
    let whole = 63 - number.leading_zeros();
    // From 1 up to 2, with 63 bits after the point.
    let mut rest = number << (63 - whole);
    let mut result = u64::from(whole);
    for _ in 0..FRACTION_BITS {
        let squared = (u128::from(rest) * u128::from(rest)) >> 63;
        let carry = squared >> 64 != 0;
        rest = (if carry { squared >> 1 } else { squared }) as u64;
        result = result << 1 | u64::from(carry);
    }
    result
}

#[cfg(test)]
mod tests {
    use peerflock_proto::Boot;

    use super::*;

    fn task(number: u32) -> TaskId {
        TaskId { submitter: PeerId([9; 32]), boot: Boot(1), number }
    }

    #[test]
    fn logarithms_are_right() {
        for number in [1, 2, 3, 1_000, 1 << 40, u64::MAX] {
            let (ours, theirs) = (log2(number) as f64 / 2_f64.powi(32), (number as f64).log2());
            assert!((ours - theirs).abs() < 1e-8, "{number}: {ours} and {theirs}");
        }
    }

    #[test]
    fn lots_fall_by_capacity_and_move_little() {
        let members: Vec<(PeerId, u16)> = (0..8).map(|n| (PeerId([n; 32]), u16::from(n % 4) + 1)).collect();
        let winner = |task: &TaskId, members: &[(PeerId, u16)]| {
            members.iter().map(|(peer, capacity)| distance(task, peer, *capacity)).min().map(|(_, peer)| peer)
        };
        let tasks: Vec<TaskId> = (0..20_000).map(task).collect();
        for (peer, capacity) in &members {
            let won = tasks.iter().filter(|task| winner(task, &members) == Some(*peer)).count() as f64;
            let fair = tasks.len() as f64 * f64::from(*capacity) / 20.0;
            assert!((won / fair - 1.0).abs() < 0.1, "capacity {capacity}: {won} where {fair} are fair");
        }
        let without = &members[1..];
        for task in &tasks {
            let before = winner(task, &members);
            assert!(before == Some(members[0].0) || before == winner(task, without), "only what the leaver held moves");
        }
    }
}
