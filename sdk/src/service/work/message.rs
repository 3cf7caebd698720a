//! What members tell each other about work.

use bytes::Bytes;
use peerflock_proto::{Boot, wire::codec};
use serde::{Deserialize, Serialize};

use super::{FunctionId, INPUT_BYTES_MAX, TaskId};

/// Most numbers of tasks in one message.
pub(super) const IDS_MAX: usize = 512;
/// Most bytes of tasks in one message, about.
pub(super) const POSTED_BYTES_MAX: usize = 32 * 1024;
/// Most functions that a member may offer.
pub(super) const FUNCTIONS_MAX: usize = 256;
/// What a task costs in a message beside its input, about.
const POSTED_OVERHEAD_BYTES: usize = 48;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// What the sender can run, and how many at a time. Whoever has just come `asks` to be told all that concerns it.
    Able { boot: Boot, capacity: u16, functions: Vec<FunctionId>, asks: bool },
    /// Tasks of the sender's, new ones or the same again.
    Posted { boot: Boot, tasks: Vec<Posted> },
    /// What the sender does now: runs these (again or still), has finished those, and has given up others.
    Does { runs: Vec<TaskId>, finished: Vec<TaskId>, gave_up: Vec<TaskId> },
    /// What came of a task, for its submitter alone.
    Result { task: TaskId, outcome: Outcome },
    /// Tasks of the sender's that nobody need run any more.
    Closed { boot: Boot, numbers: Vec<u32> },
}

/// A task as its submitter tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Posted {
    pub(super) number: u32,
    pub(super) function: FunctionId,
    pub(super) input: Bytes,
    pub(super) copies: u8,
    pub(super) lease_ms: u32,
    /// Until the deadline, when this was said.
    pub(super) left_ms: u32,
}

impl Posted {
    pub(super) fn cost(&self) -> usize {
        POSTED_OVERHEAD_BYTES + self.input.len()
    }
}

/// What came of running a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The function's output.
    Output(Bytes),
    /// The function said that it cannot.
    Failed(String),
}

impl Message {
    /// `None` for what is too long, which our own limits rule out.
    pub(super) fn encode(&self) -> Option<Bytes> {
        codec::encode(self).ok()
    }

    /// `None` for what is no message, or is larger than one may be.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let message: Self = codec::decode(bytes).ok()?;
        let fits = match &message {
            Self::Able { functions, .. } => functions.len() <= FUNCTIONS_MAX,
            Self::Posted { tasks, .. } => tasks.iter().all(|task| task.input.len() <= INPUT_BYTES_MAX && task.copies > 0),
            Self::Does { runs, finished, gave_up } => [runs, finished, gave_up].iter().all(|ids| ids.len() <= IDS_MAX),
            Self::Result { .. } => true,
            Self::Closed { numbers, .. } => numbers.len() <= IDS_MAX,
        };
        fits.then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use peerflock_proto::PeerId;

    use super::*;

    #[test]
    fn golden_bytes() {
        let task = TaskId { submitter: PeerId([7; 32]), boot: Boot(300), number: 5 };
        let message = Message::Result { task, outcome: Outcome::Output(Bytes::from_static(b"ab")) };
        let mut expected = vec![3];
        expected.extend([7; 32]);
        expected.extend([251, 44, 1, 5, 0, 2, b'a', b'b']);
        assert_eq!(&message.encode().unwrap()[..], expected);
        assert_eq!(Message::decode(&expected), Some(message));
    }

    #[test]
    fn what_is_too_large_is_no_message() {
        let many = Message::Closed { boot: Boot(1), numbers: vec![1; IDS_MAX + 1] };
        assert_eq!(Message::decode(&many.encode().unwrap()), None);
        assert_eq!(Message::decode(&[9]), None);
        assert_eq!(Message::decode(b""), None);
    }
}
