//! Whether a call goes by itself or waits for others.

#[cfg(any(feature = "redis", test))]
mod pipelined;
#[cfg(all(test, shuttle))]
mod schedules;

use super::queue::{Batchable, Limits, Queue};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::task::Waker;

/// Where calls set out: by themselves while it is quiet, together while it is crowded.
///
/// It is crowded from the moment at which one more than `alone` wants to go by itself, until a batch is back and nobody waits.
/// In between everybody waits for a turn, so that nobody overtakes what may not have been sent yet.
#[derive(Debug)]
pub(crate) struct Batcher<P: Batchable> {
    /// How many go by themselves at a time.
    max_direct: usize,
    direct: AtomicUsize,
    is_batching: AtomicBool,
    waiting: Mutex<Waiting<P>>,
}

/// Where they wait.
#[derive(Debug)]
struct Waiting<P: Batchable> {
    queue: Queue<P>,
    /// The leader's, while it has waiting and nobody waits.
    leader: Option<Waker>,
}

/// Leave to go alone, until dropped.
#[derive(Debug)]
pub(crate) struct DirectPermit<'s>(&'s AtomicUsize);

impl Drop for DirectPermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<P: Batchable> Batcher<P> {
    /// With batches of one, everybody goes alone.
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

    /// Leave to go alone, unless it is crowded.
    pub(crate) fn pass(&self) -> Option<DirectPermit<'_>> {
        if self.is_batching() {
            return None;
        }
        let pass = DirectPermit(&self.direct);
        let before = self.direct.fetch_add(1, Ordering::Acquire);
        (before < self.max_direct).then_some(pass)
    }

    /// What dropping a pass does, for a test that cannot keep it.
    #[cfg(test)]
    pub(crate) fn take_back(&self) {
        drop(DirectPermit(&self.direct));
    }

    /// Whether calls wait for others.
    pub(crate) fn is_batching(&self) -> bool {
        self.is_batching.load(Ordering::Acquire)
    }

    /// Waits for the next batch. Whoever is the first has to see to it that somebody leads.
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

/// The duty to take batches until nobody waits.
#[derive(Debug)]
#[must_use]
pub(crate) struct BatchLeader<P: Batchable> {
    batcher: Arc<Batcher<P>>,
    is_done: bool,
}

impl<P: Batchable> BatchLeader<P> {
    /// The next batch; `None` if nobody waits, and then it is not crowded any more.
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
    /// Whatever becomes of a leader, nobody waits for ever: the requests are dropped, and with them the senders of their answers.
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
