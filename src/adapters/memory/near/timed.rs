//! The engine with deadlines by a clock that is given: for the simulation of the near level.

use crate::adapters::memory::engine::{Displaced, Engine, Entry, Size};
use crate::value::CacheValue;

/// An engine whose entries all have the same weight.
pub(crate) struct TimedEngine(Engine);

impl TimedEngine {
    pub(crate) fn with_room(entries: u64) -> Self {
        // One shard: with more, the seed of its hashes would decide what is evicted.
        Self(Engine::new(Size { entries, bytes: entries }, 1))
    }

    /// Calls `look` with the value under `key`, its source and its deadline. The value cannot be
    /// removed meanwhile.
    pub(crate) fn look<R>(
        &self,
        key: &str,
        look: impl FnOnce(&CacheValue, u16, u64) -> R,
    ) -> Option<R> {
        self.0.look(key, true, |node| look(&node.value, node.source, node.deadline))
    }

    /// Keeps a value, and returns the key that was evicted for it.
    pub(crate) fn keep(
        &self,
        key: &str,
        value: CacheValue,
        source: u16,
        deadline: u64,
    ) -> Option<String> {
        let mut displaced = Displaced::default();
        self.0.insert(key, Entry { value, deadline, weight: 1, source }, &mut displaced);
        displaced.iter().find(|gone| gone.evicted).map(|gone| gone.key.to_string())
    }

    /// Removes a key. Returns whether it was there.
    pub(crate) fn remove(&self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    /// Removes the keys that begin with `prefix`, and returns how many.
    pub(crate) fn remove_below(&self, prefix: &str) -> u64 {
        self.0.remove_below(prefix)
    }

    pub(crate) fn relabel(&self, new: &dyn Fn(u16, u64) -> (u16, u64)) {
        self.0.relabel(new);
    }
}
