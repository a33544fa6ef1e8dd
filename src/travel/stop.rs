//! Whether a call goes by itself or waits for others.

#[cfg(any(feature = "redis", test))]
mod abreast;
#[cfg(all(test, shuttle))]
mod schedules;

use super::queue::{Limits, Passenger, Queue};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, lock};
use std::sync::Arc;
use std::task::Waker;

/// Where calls set out: by themselves while it is quiet, together while it is crowded.
///
/// It is crowded from the moment at which one more than `alone` wants to go by itself, until a batch is back and nobody waits.
/// In between everybody waits for a turn, so that nobody overtakes what may not have been sent yet.
#[derive(Debug)]
pub(crate) struct Stop<P: Passenger> {
    /// How many go by themselves at a time.
    most_alone: usize,
    alone: AtomicUsize,
    crowded: AtomicBool,
    room: Mutex<Room<P>>,
}

/// Where they wait.
#[derive(Debug)]
struct Room<P: Passenger> {
    queue: Queue<P>,
    /// The leader's, while it has room and nobody waits.
    leader: Option<Waker>,
}

/// Leave to go alone, until dropped.
#[derive(Debug)]
pub(crate) struct Pass<'s>(&'s AtomicUsize);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl<P: Passenger> Stop<P> {
    /// With batches of one, everybody goes alone.
    pub(crate) fn new(most_alone: usize, limits: Limits) -> Self {
        let most_alone = if limits.entries > 1 { most_alone } else { usize::MAX };
        let room = Mutex::new(Room { queue: Queue::new(limits), leader: None });
        Self { most_alone, alone: AtomicUsize::new(0), crowded: AtomicBool::new(false), room }
    }

    /// Leave to go alone, unless it is crowded.
    pub(crate) fn pass(&self) -> Option<Pass<'_>> {
        if self.is_crowded() {
            return None;
        }
        let pass = Pass(&self.alone);
        let before = self.alone.fetch_add(1, Ordering::Acquire);
        (before < self.most_alone).then_some(pass)
    }

    /// What dropping a pass does, for a test that cannot keep it.
    #[cfg(test)]
    pub(crate) fn take_back(&self) {
        drop(Pass(&self.alone));
    }

    /// Whether calls wait for others.
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Acquire)
    }

    /// Waits for the next batch. Whoever is the first has to see to it that somebody leads.
    #[must_use]
    pub(crate) fn wait(self: &Arc<Self>, passenger: P) -> Option<Lead<P>> {
        let mut room = lock(&self.room);
        room.queue.push(passenger);
        let leader = room.leader.take();
        let first = !self.crowded.swap(true, Ordering::AcqRel);
        drop(room);
        if let Some(leader) = leader {
            leader.wake();
        }
        first.then(|| Lead { stop: self.clone(), is_done: false })
    }
}

/// The duty to take batches until nobody waits.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lead<P: Passenger> {
    stop: Arc<Stop<P>>,
    is_done: bool,
}

impl<P: Passenger> Lead<P> {
    /// The next batch; `None` if nobody waits, and then it is not crowded any more.
    pub(crate) fn next(&mut self) -> Option<Vec<P>> {
        if self.is_done {
            return None;
        }
        let mut room = lock(&self.stop.room);
        let batch = room.queue.next();
        if batch.is_empty() {
            self.stop.crowded.store(false, Ordering::Release);
            self.is_done = true;
            return None;
        }
        Some(batch)
    }
}

impl<P: Passenger> Drop for Lead<P> {
    /// Whatever becomes of a leader, nobody waits for ever: the passengers are dropped, and with them the senders of their answers.
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut room = lock(&self.stop.room);
        let left = room.queue.take_all();
        self.stop.crowded.store(false, Ordering::Release);
        drop(room);
        drop(left);
    }
}
