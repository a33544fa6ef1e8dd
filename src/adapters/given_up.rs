//! Removals that were given up in flight, over another connection than later writes use.
//!
//! Calls of one connection keep their order, also calls whose callers have gone. A removal that
//! uses another connection than the writes of its keys has no such order: it may reach the server
//! after a later write that was acknowledged, and undo it. So a write first waits until the other
//! connection has executed what was given up there.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the removals that were given up, and those that are known to have ended.
#[derive(Debug, Default)]
pub(crate) struct GivenUp {
    count: AtomicU64,
    settled: AtomicU64,
}

impl GivenUp {
    /// A removal that begins now.
    pub(crate) fn watch(&self) -> Watched<'_> {
        Watched(Some(self))
    }

    /// The number of removals given up so far, if one of them may still be in flight.
    pub(crate) fn in_flight(&self) -> Option<u64> {
        let count = self.count.load(Ordering::Acquire);
        (self.settled.load(Ordering::Acquire) < count).then_some(count)
    }

    /// The first `count` removals that were given up have ended.
    pub(crate) fn settle(&self, count: u64) {
        self.settled.fetch_max(count, Ordering::AcqRel);
    }
}

/// A removal. It counts as given up unless it was answered.
#[derive(Debug)]
pub(crate) struct Watched<'g>(Option<&'g GivenUp>);

impl Watched<'_> {
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if let Some(all) = self.0 {
            all.count.fetch_add(1, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_is_in_flight_until_it_is_settled() {
        let all = GivenUp::default();
        all.watch().answered();
        assert_eq!(all.in_flight(), None);
        drop(all.watch());
        let seen = all.in_flight().unwrap();
        drop(all.watch());
        all.settle(seen);
        let both = all.in_flight().expect("the second one was given up after the look");
        all.settle(both);
        assert_eq!(all.in_flight(), None);
    }
}
