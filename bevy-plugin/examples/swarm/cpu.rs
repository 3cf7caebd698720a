//! CPU time of this process and of the whole machine, where the system tells: Linux does, of a process thread by thread, to the
//! nanosecond.

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

/// What all programs of the machine used so far, in milliseconds: user, nice, system, then after idle and waiting interrupts, in
/// ticks of 10 ms (`/proc/stat`, proc(5)).
pub(crate) fn machine_ms() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    Some((ticks.get(..3)?.iter().sum::<f64>() + ticks.get(5..7)?.iter().sum::<f64>()) * 10.0)
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
