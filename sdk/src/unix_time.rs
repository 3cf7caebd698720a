//! The time of day, for what outlives a process.

use std::time::SystemTime;

/// Seconds since 1970 by the machine's clock; 0 where that stands before.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
