//! The store of a near level: the engine, with the deadlines that are given, and the numbers of
//! sources.

#[cfg(test)]
mod timed;

use super::Bounds;
use super::earliest_end::EarliestEnd;
use super::engine::{Displaced, Engine, Entry, Gone, Node, Size};
use crate::value::CacheValue;

pub(crate) use super::clock::{now, recent};
pub(crate) use super::sweeper::{Sweeper, Sweeps};
#[cfg(test)]
pub(crate) use timed::TimedEngine;

/// By how much the [`recent`] time may be behind, in nanoseconds.
pub(crate) const TICK: u64 = 10_000_000;

/// The most bytes of a value that is kept near.
const LARGEST: usize = 256 << 10;

/// The approximate bytes that an entry takes besides its key and value: see the store of the
/// adapter, and the second handle of a value that remembers its object.
const OVERHEAD: u64 = 192;

/// How long a value is kept after its deadline, in nanoseconds. Until then it may be served as
/// stale.
const LINGERS: u64 = 600_000_000_000;

/// Until when a value is kept.
fn lasting(deadline: u64) -> u64 {
    deadline.saturating_add(LINGERS)
}

/// A value that fits the bounds, and what it counts for.
#[derive(Debug)]
pub(crate) struct Weighed {
    pub(crate) value: CacheValue,
    weight: u32,
}

/// What a step has displaced. It is dropped while no lock is held.
#[derive(Debug, Default)]
pub(crate) struct Dropped(#[allow(dead_code, reason = "held until it may be dropped")] Displaced);

impl From<Gone> for Dropped {
    fn from(gone: Gone) -> Self {
        let mut displaced = Displaced::default();
        displaced.push(gone);
        Self(displaced)
    }
}

/// The near values.
pub(crate) struct NearStore {
    engine: Engine,
    max_bytes: u64,
    earliest_end: EarliestEnd,
}

impl NearStore {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { max_entries, max_bytes, .. } = bounds;
        let size = Size { entries: max_entries, bytes: max_bytes };
        Self {
            engine: Engine::new(size, bounds.shards()),
            max_bytes,
            earliest_end: EarliestEnd::new(),
        }
    }

    /// The value as it is kept, and what it counts for; `None` if it is too large, or cannot be
    /// measured.
    pub(crate) fn weigh(&self, key: &str, value: &CacheValue) -> Option<Weighed> {
        if value.footprint().ok()? > LARGEST {
            return None;
        }
        let value = value.clone().remembering();
        let bytes = value.footprint().ok()?.saturating_add(key.len()) as u64;
        let weight = bytes.saturating_add(OVERHEAD);
        let weight = u32::try_from(weight).ok().filter(|_| weight <= self.max_bytes)?;
        Some(Weighed { value, weight })
    }

    /// Calls `look` with the value under `key`, if its deadline is later than `now` and `may_serve`
    /// says so of its source. Returns whether it was called. Both run under the lock of a shard.
    #[inline]
    pub(crate) fn look(
        &self,
        key: &str,
        now: u64,
        may_serve: impl FnOnce(u16) -> bool,
        look: impl FnOnce(&CacheValue),
    ) -> bool {
        let serve = |node: &Node| {
            let serves = node.deadline > now && may_serve(node.source);
            if serves {
                look(&node.value);
            }
            serves
        };
        self.engine.look(key, true, serve).unwrap_or(false)
    }

    /// Calls `look` with the value under `key`, its source and its deadline, which may be past.
    /// `look` runs under the lock of a shard.
    pub(crate) fn look_past<R>(
        &self,
        key: &str,
        look: impl FnOnce(&CacheValue, u16, u64) -> R,
    ) -> Option<R> {
        self.engine.look(key, true, |node| look(&node.value, node.source, node.deadline))
    }

    pub(crate) fn keep(&self, key: &str, kept: Weighed, source: u16, deadline: u64) -> Dropped {
        let Weighed { value, weight } = kept;
        let mut displaced = Displaced::default();
        self.engine.insert(key, Entry { value, deadline, weight, source }, &mut displaced);
        self.earliest_end.expect(lasting(deadline));
        Dropped(displaced)
    }

    pub(crate) fn remove(&self, key: &str) -> Option<Dropped> {
        self.engine.remove(key).map(Dropped::from)
    }

    /// Removes the keys that begin with `prefix`. Returns how many there were.
    pub(crate) fn remove_below(&self, prefix: &str) -> u64 {
        self.engine.remove_below(prefix)
    }

    /// Gives each value the source and the deadline that `new` makes of its own.
    pub(crate) fn relabel(&self, new: &dyn Fn(u16, u64) -> (u16, u64)) {
        self.engine.relabel(new);
    }

    pub(crate) fn len(&self) -> usize {
        self.engine.len()
    }

    /// Whether there may be a value that is kept no longer.
    pub(crate) fn is_sweep_due(&self) -> bool {
        self.earliest_end.is_past()
    }

    /// Removes the values that are kept no longer.
    pub(crate) fn sweep(&self) {
        self.earliest_end.sweep(&self.engine, lasting, drop);
    }
}
