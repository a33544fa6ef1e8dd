//! Whether a call is sent directly or waits for a batch.

#[cfg(any(feature = "redis", test))]
mod pipelined;
#[cfg(all(test, shuttle))]
mod schedules;

use super::queue::{Batchable, Limits, Queue};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::task::Waker;

/// Sends calls directly while they are few, and in batches above that.
///
/// Batching begins when one more than `max_direct` calls are in flight, and ends when a batch has
/// been answered and no call waits. In between every call waits for its turn, so that no call is
/// sent before an earlier call about the same key.
#[derive(Debug)]
pub(crate) struct Batcher<P: Batchable> {
    /// The most calls that are sent directly at the same time.
    max_direct: usize,
    direct: AtomicUsize,
    is_batching: AtomicBool,
    waiting: Mutex<Waiting<P>>,
}

/// The calls that wait for a batch.
#[derive(Debug)]
struct Waiting<P: Batchable> {
    queue: Queue<P>,
    /// The leader's waker, while batches are in flight and no call waits.
    leader: Option<Waker>,
}

/// The right to be in flight without a batch, until dropped.
#[derive(Debug)]
pub(crate) struct DirectPermit<'s>(&'s AtomicUsize);

impl Drop for DirectPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<P: Batchable> Batcher<P> {
    /// If a batch holds one call only, every call is sent directly.
    pub(crate) fn new(max_direct: usize, limits: Limits) -> Self {
        let max_direct = if limits.entries > 1 { max_direct } else { usize::MAX };
        let waiting = Mutex::new(Waiting { queue: Queue::new(limits), leader: None });
        Self {
            max_direct,
            direct: AtomicUsize::new(0),
            is_batching: AtomicBool::new(false),
            waiting,
        }
    }

    /// Returns a permit to be sent directly; `None` while calls are being batched.
    pub(crate) fn pass(&self) -> Option<DirectPermit<'_>> {
        if self.is_batching() {
            return None;
        }
        let pass = DirectPermit(&self.direct);
        let before = self.direct.fetch_add(1, Ordering::Acquire);
        (before < self.max_direct).then_some(pass)
    }

    /// Releases a permit that a test could not keep.
    #[cfg(test)]
    pub(crate) fn take_back(&self) {
        drop(DirectPermit(&self.direct));
    }

    /// Whether calls wait for others.
    pub(crate) fn is_batching(&self) -> bool {
        self.is_batching.load(Ordering::Acquire)
    }

    /// Puts a call into the queue for the next batch. The first such call gets the leader, which
    /// has to be run.
    #[must_use]
    pub(crate) fn wait(self: &Arc<Self>, request: P) -> Option<BatchLeader<P>> {
        let mut waiting = lock(&self.waiting);
        waiting.queue.push(request);
        let leader = waiting.leader.take();
        let first = !self.is_batching.swap(true, Ordering::AcqRel);
        drop(waiting);
        if let Some(leader) = leader {
            leader.wake();
        }
        first.then(|| BatchLeader { batcher: self.clone(), is_done: false })
    }
}

/// Takes batches from the queue until no call waits.
#[derive(Debug)]
#[must_use]
pub(crate) struct BatchLeader<P: Batchable> {
    batcher: Arc<Batcher<P>>,
    is_done: bool,
}

impl<P: Batchable> BatchLeader<P> {
    /// The next batch; `None` if no call waits, and then batching has ended.
    pub(crate) fn next(&mut self) -> Option<Vec<P>> {
        if self.is_done {
            return None;
        }
        let mut waiting = lock(&self.batcher.waiting);
        let batch = waiting.queue.next();
        if batch.is_empty() {
            self.batcher.is_batching.store(false, Ordering::Release);
            self.is_done = true;
            return None;
        }
        Some(batch)
    }
}

impl<P: Batchable> Drop for BatchLeader<P> {
    /// A leader that ends early, by a panic or with its runtime, leaves no call waiting: the
    /// requests are dropped, and with them the senders of their answers.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut waiting = lock(&self.batcher.waiting);
        let left = waiting.queue.take_all();
        self.batcher.is_batching.store(false, Ordering::Release);
        drop(waiting);
        drop(left);
    }
}
