//! The near store of the tests: the memory engine, or a plain map that evicts.

use super::core::Near;
use crate::adapters::memory::near::TimedEngine;
use crate::sync::{Mutex, lock};
use crate::value::CacheValue;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a read has seen: which state of its key, and through which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    pub(super) state: u32,
    pub(super) through: u32,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Kept {
    value: Seen,
    source: u16,
    deadline: u64,
}

/// A near store.
pub(super) enum Map {
    Engine(TimedEngine),
    /// A map with room for a few entries. What the engine evicts is decided by hashes, whose seed
    /// is another in each process, so a run could not be repeated.
    Small(Mutex<BTreeMap<String, Kept>>, usize),
}

impl Map {
    /// The memory engine, with room for all keys of a test.
    pub(super) fn of_the_engine() -> Self {
        Self::Engine(TimedEngine::with_room(100_000))
    }

    pub(super) fn with_room(room: usize) -> Self {
        Self::Small(Mutex::new(BTreeMap::new()), room)
    }

    /// The value under `key`, if it has not expired and `may_serve` says so of its source.
    pub(super) fn look(
        &self,
        key: &str,
        now: u64,
        may_serve: impl FnOnce(u16) -> bool,
    ) -> Option<Seen> {
        let look = |kept: &Kept| may_serve(kept.source).then_some(kept.value);
        match self {
            Self::Engine(engine) => engine.look(key, now, |value| look(kept(value)?)).flatten(),
            Self::Small(entries, _) => {
                lock(entries).get(key).filter(|kept| kept.deadline > now).and_then(look)
            }
        }
    }

    fn remove_where(&self, is_meant: impl Fn(&str, &Kept) -> bool) -> u64 {
        let removed = AtomicU64::new(0);
        let keep = |key: &str, kept: &Kept| {
            let goes = is_meant(key, kept);
            removed.fetch_add(goes.into(), Ordering::Relaxed);
            !goes
        };
        match self {
            Self::Engine(engine) => {
                engine.retain(|key, value| kept(value).is_some_and(|kept| keep(key, kept)));
            }
            Self::Small(entries, _) => lock(entries).retain(|key, kept| keep(key, kept)),
        }
        removed.into_inner()
    }
}

/// What is behind a value of the engine.
fn kept(value: &CacheValue) -> Option<&Kept> {
    value.downcast_ref()
}

impl Near for Map {
    type Value = Seen;
    /// The key that was evicted.
    type Gone = Option<String>;

    fn keep(&self, key: &str, value: Seen, source: u16, deadline: u64) -> Self::Gone {
        let kept = Kept { value, source, deadline };
        match self {
            Self::Engine(engine) => engine.keep(key, CacheValue::new(kept), deadline),
            Self::Small(entries, room) => {
                let mut entries = lock(entries);
                let is_new = entries.insert(key.to_owned(), kept).is_none();
                if !is_new || entries.len() <= *room {
                    return None;
                }
                // Which one does not matter, as long as the same seed evicts the same.
                let evicted = entries.keys().nth(deadline as usize % room).cloned()?;
                entries.remove_entry(&evicted).map(|(key, _)| key)
            }
        }
    }

    fn remove(&self, key: &str) -> Option<Self::Gone> {
        let was_there = match self {
            Self::Engine(engine) => engine.remove(key),
            Self::Small(entries, _) => lock(entries).remove(key).is_some(),
        };
        was_there.then_some(None)
    }

    fn remove_below(&self, prefix: &str) -> u64 {
        self.remove_where(|key, _| key.starts_with(prefix))
    }

    fn remove_of(&self, is_meant: &dyn Fn(u16) -> bool) -> u64 {
        self.remove_where(|_, kept| is_meant(kept.source))
    }
}
