//! What this process uses, where the system tells.

use std::time::Duration;

use peerflock_proto::Identity;
use peerflock_proto::sim::{SignatureChecks, signature_checks};

/// CPU time of this thread, from `/proc/thread-self/schedstat` (nanoseconds on a CPU, `Documentation/scheduler/sched-stats`).
pub(crate) fn cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Memory of this process that is in RAM, in KiB: `VmRSS` of `/proc/self/status` (proc(5)).
pub(crate) fn memory_kib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// CPU time from a moment on, as if every signature had been checked by everyone who got it: the simulator checks each once, and
/// what it saved is added at the price of one check on this machine.
#[derive(Debug)]
pub(crate) struct CpuClock {
    cpu: Option<Duration>,
    checks: SignatureChecks,
}

impl CpuClock {
    pub(crate) fn start() -> Self {
        Self { cpu: cpu(), checks: signature_checks() }
    }

    pub(crate) fn spent(&self) -> Option<Duration> {
        let spent = cpu()?.checked_sub(self.cpu?)?;
        let checks = signature_checks();
        let saved = (checks.asked - self.checks.asked).saturating_sub(checks.made - self.checks.made);
        Some(spent + signature_check()?.mul_f64(saved as f64))
    }
}

/// What one check costs here: the mean of a few, each of a message that was never checked before, so that none is remembered.
fn signature_check() -> Option<Duration> {
    const CHECKS: u32 = 200;
    let identity = Identity::from_seed([9; 32]);
    let peer = identity.peer_id();
    let first = signature_checks().asked;
    let messages = (0..u64::from(CHECKS)).map(|number| (first + number).to_le_bytes());
    let signed: Vec<_> = messages.map(|message| (message, identity.sign(&message))).collect();
    let before = cpu()?;
    let good = signed.iter().filter(|(message, signature)| peer.verifies(message, signature)).count();
    let spent = cpu()?.checked_sub(before)?;
    (good == signed.len()).then_some(spent / CHECKS)
}

#[cfg(test)]
mod tests {
    use peerflock_proto::sim::remember_signatures;

    use super::*;

    #[test]
    fn a_check_is_never_free() {
        remember_signatures();
        for _ in 0..3 {
            let before = signature_checks();
            let cost = signature_check();
            let after = signature_checks();
            assert!(cost.is_none_or(|cost| cost > Duration::from_micros(1)), "{cost:?}");
            assert!(cost.is_none() || after.made - before.made == after.asked - before.asked);
        }
    }
}
