//! What happens next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Events in the order of their times; those of one time in the order in which they were added.
#[derive(Debug)]
pub(super) struct Schedule<E> {
    heap: BinaryHeap<Reverse<(u64, u64, Boxed<E>)>>,
    added: u64,
    pub(super) now: u64,
}

/// An event, which has no order of its own.
#[derive(Debug)]
struct Boxed<E>(E);

impl<E> PartialEq for Boxed<E> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<E> Eq for Boxed<E> {}

impl<E> PartialOrd for Boxed<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Boxed<E> {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl<E> Schedule<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), added: 0, now: 0 }
    }

    pub(super) fn at(&mut self, time: u64, event: E) {
        self.added += 1;
        self.heap.push(Reverse((time.max(self.now), self.added, Boxed(event))));
    }

    /// The next event, whose time is now.
    pub(super) fn next(&mut self) -> Option<E> {
        let Reverse((time, _, Boxed(event))) = self.heap.pop()?;
        self.now = time;
        Some(event)
    }
}
