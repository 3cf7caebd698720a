//! What a service told and its user has not read yet: bounded, however slow the reader is.

use std::collections::VecDeque;
use std::sync::Mutex;

use tokio::sync::Notify;

use crate::sync::lock;

/// A queue with any number of readers, each of whom gets what no other got.
#[derive(Debug)]
pub(super) struct Queue<T> {
    max: usize,
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    missed: u64,
    closed: bool,
}

impl<T> Queue<T> {
    /// For at most so many items; past it the oldest is dropped and counted.
    pub(super) fn new(max: usize) -> Self {
        let waiting = Waiting { items: VecDeque::new(), missed: 0, closed: false };
        Self { max, waiting: Mutex::new(waiting), arrived: Notify::new() }
    }

    pub(super) fn push(&self, item: T) {
        let mut waiting = lock(&self.waiting);
        if waiting.items.len() >= self.max {
            waiting.items.pop_front();
            waiting.missed += 1;
        }
        waiting.items.push_back(item);
        drop(waiting);
        self.arrived.notify_waiters();
    }

    /// Nothing more will come; what waits can still be taken.
    pub(super) fn close(&self) {
        lock(&self.waiting).closed = true;
        self.arrived.notify_waiters();
    }

    /// The oldest, if there is one.
    pub(super) fn try_next(&self) -> Option<T> {
        lock(&self.waiting).items.pop_front()
    }

    /// Waits for the oldest. None once all that came before the end is taken. To give up waiting loses nothing.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            // From here on nothing is missed that comes between the look and the wait.
            arrived.as_mut().enable();
            {
                let mut waiting = lock(&self.waiting);
                let item = waiting.items.pop_front();
                if item.is_some() || waiting.closed {
                    return item;
                }
            }
            arrived.await;
        }
    }

    /// How many were dropped.
    pub(super) fn missed(&self) -> u64 {
        lock(&self.waiting).missed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn the_oldest_fall_out_and_what_waits_at_the_end_is_still_told() {
        let queue = Arc::new(Queue::new(3));
        (0..5).for_each(|item| queue.push(item));
        assert_eq!((queue.missed(), queue.try_next()), (2, Some(2)));
        queue.close();
        assert_eq!((queue.next().await, queue.next().await, queue.next().await), (Some(3), Some(4), None));
        let queue = Arc::new(Queue::new(3));
        let reader = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.next().await, queue.next().await) }
        });
        tokio::task::yield_now().await;
        queue.push(7);
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(reader.await.unwrap(), (Some(7), None), "who waits is woken");
    }
}
