//! A leader with several batches under way.

use super::Lead;
use crate::sync::atomic::Ordering;
use crate::sync::lock;
use crate::travel::Passenger;
use std::task::{Context, Poll};
use std::time::Instant;

impl<P: Passenger> Lead<P> {
    /// Whether somebody waits. Waits for somebody as long as a batch is under way; when none is, it is not crowded any more.
    pub(crate) fn poll_waiting(&mut self, context: &mut Context<'_>, is_under_way: bool) -> Poll<bool> {
        let mut room = lock(&self.stop.room);
        if !room.queue.is_empty() {
            return Poll::Ready(true);
        }
        if is_under_way {
            room.leader = Some(context.waker().clone());
            return Poll::Pending;
        }
        self.stop.crowded.store(false, Ordering::Release);
        self.is_done = true;
        Poll::Ready(false)
    }

    /// Those that wait, or as many as fit into a batch. None are left if all have given up.
    pub(crate) fn take(&mut self) -> Vec<P> {
        let mut room = lock(&self.stop.room);
        let Some(all) = room.queue.all_at_once() else { return room.queue.next() };
        drop(room);
        let (now, mut all) = (Instant::now(), Vec::from(all));
        all.retain_mut(|passenger| !passenger.is_over(now));
        all
    }
}
