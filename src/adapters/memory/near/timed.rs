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

    /// Calls `look` with the value under `key` whose deadline is later than `now`. The value cannot
    /// be removed meanwhile.
    pub(crate) fn look<R>(
        &self,
        key: &str,
        now: u64,
        look: impl FnOnce(&CacheValue) -> R,
    ) -> Option<R> {
        self.0.look(key, true, |node| (node.deadline > now).then(|| look(&node.value))).flatten()
    }

    /// Keeps a value, and returns the key that was evicted for it.
    pub(crate) fn keep(&self, key: &str, value: CacheValue, deadline: u64) -> Option<String> {
        let mut displaced = Displaced::default();
        self.0.insert(key, Entry::new(value, deadline, 1), &mut displaced);
        displaced.iter().find(|gone| gone.evicted).map(|gone| gone.key.to_string())
    }

    /// Removes a key. Returns whether it was there.
    pub(crate) fn remove(&self, key: &str) -> bool {
        self.0.remove(key).is_some()
    }

    pub(crate) fn retain(&self, keep: impl Fn(&str, &CacheValue) -> bool) {
        self.0.retain(|node| keep(&node.key, &node.value), drop);
    }
}
