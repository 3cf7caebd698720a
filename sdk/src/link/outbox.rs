//! What waits to be written on one link's stream: bounded in bytes, closed in order.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peerflock_proto::CloseReason;
use tokio::sync::Notify;
use tokio::time::Instant;

/// What may wait for a slow reader, in bytes. More, and the link is closed with [`CloseReason::TooSlow`].
pub(super) const BACKLOG_BYTES_MAX: usize = 1024 * 1024;
/// What a waiting frame costs beside its bytes: its length on the wire, and its place in the queue.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 64;

/// Why a frame was not taken: the other end reads too slowly.
#[derive(Debug)]
pub(crate) struct BacklogFull;

/// The queue between the driver, which never waits, and the task that writes.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// For the writer.
    changed: Notify,
    /// For whoever sees to it that closing does not take forever.
    closing: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Bytes>,
    backlog_bytes: usize,
    /// When something last began to wait, or waited no longer.
    moved: Option<Instant>,
    closing: Option<CloseReason>,
    writer: bool,
}

/// What waits on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// How much, in bytes.
    pub(crate) bytes: usize,
    /// Since when none of it got away.
    pub(crate) stuck_for: Duration,
}

/// What the writer is to do next.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// Write these frames, in this order, then say [`Outbox::written`].
    Write(Vec<Bytes>),
    /// Everything is written: close.
    Close(CloseReason),
}

impl Outbox {
    pub(super) fn push(&self, frame: Bytes) -> Result<(), BacklogFull> {
        let mut state = self.state();
        if state.closing.is_some() {
            return Ok(());
        }
        let cost = frame.len() + FRAME_OVERHEAD_BYTES;
        if state.backlog_bytes + cost > BACKLOG_BYTES_MAX {
            return Err(BacklogFull);
        }
        if state.backlog_bytes == 0 {
            state.moved = Some(Instant::now());
        }
        state.backlog_bytes += cost;
        state.frames.push_back(frame);
        self.changed.notify_one();
        Ok(())
    }

    /// Closes after everything pushed before. Returns whether a writer is there to see to it; if not, the caller must.
    pub(super) fn close(&self, reason: CloseReason) -> bool {
        let mut state = self.state();
        state.closing.get_or_insert(reason);
        self.changed.notify_one();
        self.closing.notify_one();
        state.writer
    }

    /// The writer is here; from now on it sees to closing. `Err` if that was asked for already.
    pub(super) fn attach(&self) -> Result<(), CloseReason> {
        let mut state = self.state();
        state.writer = true;
        state.closing.map_or(Ok(()), Err)
    }

    /// Waits for something to do.
    pub(super) async fn next(&self) -> Next {
        loop {
            {
                let mut state = self.state();
                if !state.frames.is_empty() {
                    return Next::Write(state.frames.drain(..).collect());
                }
                if let Some(reason) = state.closing {
                    return Next::Close(reason);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until closing is asked for, whatever waits to be written before.
    pub(super) async fn closing(&self) -> CloseReason {
        loop {
            let closing = self.state().closing;
            if let Some(reason) = closing {
                return reason;
            }
            self.closing.notified().await;
        }
    }

    /// So many bytes of what came from [`Next::Write`] wait no longer.
    pub(super) fn written(&self, bytes: usize) {
        let mut state = self.state();
        state.backlog_bytes = state.backlog_bytes.saturating_sub(bytes);
        state.moved = Some(Instant::now());
    }

    /// What waits now.
    pub(super) fn backlog(&self) -> Backlog {
        let state = self.state();
        let waiting = state.moved.filter(|_| state.backlog_bytes > 0);
        Backlog { bytes: state.backlog_bytes, stuck_for: waiting.map_or(Duration::ZERO, |moved| moved.elapsed()) }
    }

    /// Whether closing was asked for.
    pub(super) fn is_closing(&self) -> bool {
        self.state().closing.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_reader_is_noticed_at_the_limit_and_not_before() {
        let outbox = Outbox::default();
        let frame = Bytes::from(vec![0; 64 * 1024]);
        let taken = (0..100).take_while(|_| outbox.push(frame.clone()).is_ok()).count();
        assert_eq!(taken, BACKLOG_BYTES_MAX / (64 * 1024 + FRAME_OVERHEAD_BYTES));
        // What is being written still counts until it is.
        let Next::Write(frames) = outbox.next().await else { panic!("frames wait") };
        assert!(outbox.push(frame.clone()).is_err());
        outbox.written(frames.iter().map(|frame| frame.len() + FRAME_OVERHEAD_BYTES).sum());
        assert!(outbox.push(frame).is_ok());
    }

    #[tokio::test]
    async fn closing_comes_after_what_was_said_before() {
        let outbox = Outbox::default();
        outbox.attach().unwrap();
        outbox.push(Bytes::from_static(b"bye")).unwrap();
        assert!(outbox.close(CloseReason::Goodbye));
        outbox.push(Bytes::from_static(b"too late")).unwrap();
        assert!(outbox.close(CloseReason::Silence), "the first reason stays");
        assert_eq!(outbox.next().await, Next::Write(vec![Bytes::from_static(b"bye")]));
        assert_eq!(outbox.next().await, Next::Close(CloseReason::Goodbye));
        assert_eq!(outbox.closing().await, CloseReason::Goodbye);
    }

    #[test]
    fn without_a_writer_the_caller_closes() {
        let outbox = Outbox::default();
        assert!(!outbox.close(CloseReason::Duplicate));
        assert_eq!(outbox.attach(), Err(CloseReason::Duplicate));
    }
}
