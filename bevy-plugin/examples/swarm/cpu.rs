//! CPU time of this process, where the system tells: Linux does, thread by thread, to the nanosecond.

use std::collections::BTreeMap;

/// From a moment on.
#[derive(Debug)]
pub(crate) struct CpuClock(BTreeMap<String, u64>);

impl CpuClock {
    pub(crate) fn start() -> Self {
        Self(threads())
    }

    /// What all threads used since the start, in milliseconds. Of one that ended meanwhile nothing is known any more; those that
    /// work do not end.
    pub(crate) fn spent_ms(&self) -> Option<f64> {
        let now = threads();
        let spent = |(thread, time): (&String, &u64)| time.saturating_sub(self.0.get(thread).copied().unwrap_or(0));
        (!now.is_empty()).then(|| now.iter().map(spent).sum::<u64>() as f64 / 1e6)
    }
}

/// Nanoseconds on a CPU, from `/proc/self/task/*/schedstat` (`Documentation/scheduler/sched-stats`).
fn threads() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let time = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        Some((task.file_name().into_string().ok()?, stat.split_whitespace().next()?.parse().ok()?))
    };
    tasks.filter_map(time).collect()
}
