//! The map behind the near level of the tests.

use super::core::Near;
use crate::sync::{Mutex, lock};
use std::collections::BTreeMap;

/// What a read has seen: which state of its key, and through which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: u32,
    pub(super) through: u32,
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    value: Seen,
    source: u16,
    deadline: u64,
}

/// A map with room for a few entries. It is not the memory engine, whose clock cannot be given.
#[derive(Debug)]
pub(super) struct Map {
    entries: Mutex<BTreeMap<String, Kept>>,
    room: usize,
}

impl Map {
    pub(super) fn with_room(room: usize) -> Self {
        Self { entries: Mutex::new(BTreeMap::new()), room }
    }

    /// The value under `key`, if it has not expired and `may_serve` says so of its source.
    pub(super) fn look(
        &self,
        key: &str,
        now: u64,
        may_serve: impl FnOnce(u16) -> bool,
    ) -> Option<Seen> {
        let entries = lock(&self.entries);
        let kept = entries.get(key).filter(|kept| kept.deadline > now)?;
        may_serve(kept.source).then_some(kept.value)
    }
}

impl Near for Map {
    type Value = Seen;
    /// The keys that were replaced or evicted.
    type Gone = Option<String>;

    fn keep(&self, key: &str, value: Seen, source: u16, deadline: u64) -> Self::Gone {
        let mut entries = lock(&self.entries);
        let kept = Kept { value, source, deadline };
        if entries.insert(key.to_owned(), kept).is_none() && entries.len() > self.room {
            // Which one does not matter, as long as the same seed evicts the same.
            let key = entries.keys().nth(deadline as usize % self.room).cloned()?;
            return entries.remove_entry(&key).map(|(key, _)| key);
        }
        None
    }

    fn remove(&self, key: &str) -> Option<Self::Gone> {
        lock(&self.entries).remove_entry(key).map(|(key, _)| Some(key))
    }

    fn remove_below(&self, prefix: &str) {
        lock(&self.entries).retain(|key, _| !key.starts_with(prefix));
    }

    fn remove_of(&self, is_meant: &dyn Fn(u16) -> bool) {
        lock(&self.entries).retain(|_, kept| !is_meant(kept.source));
    }
}
