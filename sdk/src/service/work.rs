//! Work that the members share: tasks that any of them submits, and that all of them run.
//!
//! A task names a [function](Functions) that is registered in the program, and has an input, a time until which its result is needed,
//! and how many members are to run it. Its submitter tells all members; each draws a lot for each task, weighted by its declared
//! capacity, and whoever has the best ones and a place free runs it. All compute the same lots, so there is no
//! coordinator: any member can leave at any moment, and the others go on.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use peerflock::PeerMesh;
//! use peerflock::service::work::{Functions, Task, Work};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = PeerMesh::named("terrain").start().await?;
//! let functions = Functions::new(2).register("square", |job| {
//!     let number = u64::from_le_bytes(job.input().try_into().map_err(|_| "eight bytes expected")?);
//!     Ok(number.wrapping_mul(number).to_le_bytes().to_vec())
//! });
//! let work = Work::join(&mesh, functions)?;
//! let task = Task::new("square", 7_u64.to_le_bytes().to_vec()).within(Duration::from_secs(10)).copies(3);
//! let done = work.submit(task)?.await?;
//! println!("{:?}, and {:?} disagreed", done.output, done.odd);
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - **Every result once.** A task ends with one [`Done`], or with a [`WorkError`] that says why not: never with silence.
//! - **Whoever dies is replaced**: as soon as the mesh takes it for gone, which takes about 1.5 s. Whoever stalls is replaced when the
//!   task's [lease](Task::lease) runs out, unless its function [says](Job::still_at_it) that it goes on.
//! - **Near the deadline** somebody else runs the task, too: when [three fifths](SPECULATE_PART) of its time have passed.
//! - **Lies are outvoted**: with [`copies`](Task::copies) above one, different members run the task, more than half of them must agree, and
//!   who disagrees is named.
//! - **Results are signed**: each is a message to the submitter alone, and the mesh proves the author of each of those by a signature
//!   over the mesh, the author's start, the number, and a hash of the whole. What is not proved never comes here.
//! - **In a split** each half goes on, and runs again what the other half was at: when they meet again, results that were kept reach
//!   their submitter, who takes the first and [is told](WorkEvent::Twice) of the others.
//!
//! A function must give the same output for the same input on every machine, if `copies` is above one. It runs in a thread of its own
//! and is not stopped from outside: one that never returns keeps a place for good. Whoever submits tasks is trusted with the members'
//! processors: any member may.

mod board;
mod functions;
mod message;
mod rank;
mod task;

use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::{Boot, PeerId};
use serde::{Deserialize, Serialize};

pub use board::Board;
pub use functions::{Functions, Job, JobResult, Pending, Work};
pub use message::Outcome;

/// Longest input of a task, in bytes. For more, share the input as content and name it.
pub const INPUT_BYTES_MAX: usize = 48 * 1024;
/// Longest output of a task, in bytes. A longer one counts as a failure.
pub const OUTPUT_BYTES_MAX: usize = 48 * 1024;
/// Most open tasks of one submitter.
pub const TASKS_MAX: usize = 4_096;
/// Most bytes that the inputs of one submitter's open tasks take.
pub const TASK_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most members that run one task because of doubt, the first ones included.
pub const COPIES_MAX: u8 = 15;
/// So many members may say that they cannot before a task has failed.
pub const FAILURES_MAX: usize = 3;
/// When this part of a task's time has passed without a result, one member more runs it.
pub const SPECULATE_PART: f64 = 0.6;
/// Whoever drew the next best lot waits this long for each one before it to take a task.
pub const STAGGER: Duration = Duration::from_millis(300);
/// Bytes of results that are kept for submitters that are not here; past it, the oldest fall out.
pub const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long after the deadline a result is kept for a submitter that is not here, and a task is remembered.
pub const KEEP: Duration = Duration::from_secs(60);

/// Which task: who submitted it, in which of its lives, and as its how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Who submitted it.
    pub submitter: PeerId,
    /// In which of its starts.
    pub boot: Boot,
    /// Counts that start's tasks from 0.
    pub number: u32,
}

/// Which function: a hash of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionId([u8; 16]);

impl FunctionId {
    /// The function that all who say `name` mean. Give it another name when it gives other outputs.
    pub fn named(name: &str) -> Self {
        let hash = blake3::derive_key("peerflock 1 work function", name.as_bytes());
        Self(hash.first_chunk().copied().unwrap_or_default())
    }
}

/// Something to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// By which function.
    pub function: FunctionId,
    /// Of what: at most [`INPUT_BYTES_MAX`].
    pub input: Bytes,
    /// Within how long the result is needed; 60 s if nothing is said, a day at most.
    pub within: Duration,
    /// How many members are to run it, 1 to 7; more than half of them must agree.
    pub copies: u8,
    /// How long one member may be at it without a word of its function, before another one takes over; 10 s if nothing is said.
    pub lease: Duration,
}

impl Task {
    /// Most members that may be asked for to run a task.
    pub const COPIES_MAX: u8 = 7;
    /// The longest time in which a result may be needed.
    pub const WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// The function of that name, of this input.
    pub fn new(function: &str, input: impl Into<Bytes>) -> Self {
        let (within, lease) = (Duration::from_secs(60), Duration::from_secs(10));
        Self { function: FunctionId::named(function), input: input.into(), within, copies: 1, lease }
    }

    /// The result is needed within so long.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within.min(Self::WITHIN_MAX);
        self
    }

    /// So many members are to run it.
    pub fn copies(mut self, copies: u8) -> Self {
        self.copies = copies.clamp(1, Self::COPIES_MAX);
        self
    }

    /// Whoever is at it so long without a word is replaced.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease.min(Self::WITHIN_MAX);
        self
    }
}

/// What came of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which.
    pub task: TaskId,
    /// The output on which more than half agreed.
    pub output: Bytes,
    /// Who agreed.
    pub by: Vec<PeerId>,
    /// Who disagreed, of those who were heard by then. Others are told of by [`WorkEvent::Odd`].
    pub odd: Vec<PeerId>,
}

/// Why a task was not taken. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too many tasks are open.
    #[error("{TASKS_MAX} tasks, or {TASK_BYTES_MAX} bytes of input, are open already; wait for some of them")]
    Full,
    /// The input is too long.
    #[error("{len} bytes of input, where {INPUT_BYTES_MAX} are the most; share it as content and name it, or cut the task")]
    TooLong {
        /// How long it was, in bytes.
        len: usize,
    },
    /// The mesh was left.
    #[error("the mesh was left; join again")]
    Closed,
}

/// Why a task has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The time was over.
    #[error("no result came within the task's time; give it more, cut it smaller, or see whether anybody offers its function")]
    Missed,
    /// Members said that they cannot.
    #[error("{FAILURES_MAX} members could not run it; the last one said: {0}")]
    Failed(String),
    /// However many ran it, no more than half agreed.
    #[error("the members do not agree on its result; see that the function gives the same output on every machine")]
    Disagreement,
    /// The mesh was left.
    #[error("the mesh was left before there was a result; join again and submit the task again")]
    Closed,
}

/// What happened to our tasks, and what we are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkEvent {
    /// Run this, and tell the board of it by [`Board::finish`].
    Run {
        /// Which.
        task: TaskId,
        /// By which function.
        function: FunctionId,
        /// Of what.
        input: Bytes,
    },
    /// That one need not be run any more.
    Cancel(TaskId),
    /// A task of ours has a result: the only one.
    Done(Done),
    /// A task of ours ended without a result.
    Ended {
        /// Which.
        task: TaskId,
        /// Why.
        error: WorkError,
    },
    /// A member's result is not the one that more than half agreed on.
    Odd {
        /// Of which task.
        task: TaskId,
        /// Whose.
        peer: PeerId,
    },
    /// A member ran a task of ours that was done already, as in a split. Its result was the same, and is not told again.
    Twice {
        /// Which.
        task: TaskId,
        /// Who.
        peer: PeerId,
    },
}
