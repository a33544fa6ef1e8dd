//! A leader with several batches in flight.

use super::BatchLeader;
use crate::batching::Batchable;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use std::task::{Context, Poll};
use std::time::Instant;

impl<P: Batchable> BatchLeader<P> {
    /// Whether a call waits. Waits for one as long as a batch is in flight; when none is, batching
    /// has ended.
    pub(crate) fn poll_waiting(
        &mut self,
        context: &mut Context<'_>,
        is_in_flight: bool,
    ) -> Poll<bool> {
        let mut waiting = lock(&self.batcher.waiting);
        if !waiting.queue.is_empty() {
            return Poll::Ready(true);
        }
        if is_in_flight {
            waiting.leader = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.batcher.is_batching.store(false, Ordering::Release);
        self.is_done = true;
        Poll::Ready(false)
    }

    /// The calls that wait, up to the size of a batch. Empty if all have been given up.
    pub(crate) fn take(&mut self) -> Vec<P> {
        let mut waiting = lock(&self.batcher.waiting);
        let Some(all) = waiting.queue.all_at_once() else { return waiting.queue.next() };
        drop(waiting);
        let (now, mut all) = (Instant::now(), Vec::from(all));
        all.retain_mut(|request| !request.is_over(now));
        all
    }
}
