//! When a sweep is due, and what it removes: the same for the entries of a cache and for values near.

use super::clock;
use super::engine::{Engine, Gone, Node};
use crate::sync::atomic::{AtomicU64, Ordering};

/// How long a sweep is usually late at most, in nanoseconds.
const LATE: u64 = 2_000_000_000;

/// No deadline.
pub(super) const NEVER: u64 = u64::MAX;

/// The earliest time at which an entry of an engine may expire.
#[derive(Debug)]
pub(super) struct EarliestEnd(AtomicU64);

impl EarliestEnd {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(NEVER))
    }

    /// Records that an entry will expire. Call this after storing the entry, because a sweep that
    /// has just begun forgets earlier records.
    ///
    /// Deadlines of a clock that a test has paused are not recorded: the sweep reads the time of
    /// its own thread, which may be past a deadline before the test's time is.
    pub(super) fn expect(&self, deadline: u64) {
        if deadline < self.0.load(Ordering::Relaxed) && !clock::is_paused() {
            self.0.fetch_min(deadline, Ordering::Relaxed);
        }
    }

    /// Whether an entry may have expired since the last sweep.
    pub(super) fn is_past(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= clock::now()
    }

    /// Whether an entry expired long ago and was not swept.
    pub(super) fn is_long_past(&self) -> bool {
        self.0.load(Ordering::Relaxed).saturating_add(LATE) <= clock::recent()
    }

    /// Removes the entries that have expired, and passes them to `gone` while no lock is held.
    ///
    /// `lasting` says until when an entry is kept, by its deadline.
    pub(super) fn sweep(
        &self,
        engine: &Engine,
        lasting: impl Fn(u64) -> u64,
        gone: impl FnMut(Gone),
    ) {
        self.0.store(NEVER, Ordering::Relaxed);
        let now = clock::now();
        let keep = |node: &mut Node| {
            let end = lasting(node.deadline);
            let live = end > now;
            if live {
                self.0.fetch_min(end, Ordering::Relaxed);
            }
            live
        };
        engine.retain(keep, gone);
    }

    #[cfg(all(test, shuttle))]
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
