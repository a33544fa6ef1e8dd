//! The bounds that all shards share. If each shard had bounds of its own, some shards would be full
//! early, because keys are not spread evenly, and a value would have to fit into one shard.

use crate::sync::atomic::{AtomicU64, Ordering};

/// A number of entries, and the number of bytes that they count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Size {
    pub(in super::super) entries: u64,
    pub(in super::super) bytes: u64,
}

impl Size {
    /// The size of one entry.
    pub(super) fn of(weight: u32) -> Self {
        Self { entries: 1, bytes: weight.into() }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.entries += more.entries;
        self.bytes += more.bytes;
    }

    fn less(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(other.entries),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// The bounds, and the part that is in use.
#[derive(Debug)]
pub(super) struct Budget {
    max: Size,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Budget {
    pub(super) fn new(max: Size) -> Self {
        Self { max, entries: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn try_take(&self, size: Size) -> bool {
        if !take(&self.bytes, size.bytes, self.max.bytes) {
            return false;
        }
        let both = take(&self.entries, size.entries, self.max.entries);
        if !both {
            self.bytes.fetch_sub(size.bytes, Ordering::Relaxed);
        }
        both
    }

    /// Returns the size of a removed entry to the budget.
    pub(super) fn give(&self, size: Size) {
        if size != Size::default() {
            self.bytes.fetch_sub(size.bytes, Ordering::Relaxed);
            self.entries.fetch_sub(size.entries, Ordering::Relaxed);
        }
    }
}

fn take(taken: &AtomicU64, more: u64, max: u64) -> bool {
    let take = |taken: u64| taken.checked_add(more).filter(|sum| *sum <= max);
    more == 0 || taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
}

/// The part of the budget that is reserved for an entry that is being stored. The rest is returned
/// when this is dropped.
pub(super) struct Room<'a> {
    budget: &'a Budget,
    has: Size,
}

impl<'a> Room<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Self { budget, has: Size::default() }
    }

    /// Whether the reservation is at least `wanted`. Takes more from the budget if necessary.
    pub(super) fn reaches(&mut self, wanted: Size) -> bool {
        let missing = wanted.less(self.has);
        let reaches = self.budget.try_take(missing);
        if reaches {
            self.has.add(missing);
        }
        reaches
    }

    /// Adds the size of an evicted entry, or a part of it.
    pub(super) fn add(&mut self, freed: Size) {
        self.has.add(freed);
    }

    /// Spends the reservation: the entry is stored.
    pub(super) fn spend(&mut self, size: Size) {
        self.has = self.has.less(size);
    }

    /// Returns the whole reservation: two writers that each hold a part of what both need would
    /// wait for each other.
    pub(super) fn give_back(&mut self) {
        self.budget.give(std::mem::take(&mut self.has));
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}
