//! A leader with several batches in flight.

use super::BatchLeader;
use crate::batching::Batchable;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use std::task::{Context, Poll};
use std::time::Instant;

impl<P: Batchable> BatchLeader<P> {
    /// Returns whether a call waits. While a batch is in flight, waits until a call comes; if no
    /// batch is in flight and no call waits, batching has ended.
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

    /// Takes the calls that wait, up to the size of a batch. Empty if all of them have been given
    /// up.
    pub(crate) fn take(&mut self) -> Vec<P> {
        let mut waiting = lock(&self.batcher.waiting);
        let Some(all) = waiting.queue.all_at_once() else { return waiting.queue.next() };
        drop(waiting);
        let (now, mut all) = (Instant::now(), Vec::from(all));
        all.retain_mut(|request| !request.is_over(now));
        all
    }
}
