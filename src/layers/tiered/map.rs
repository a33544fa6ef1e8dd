//! The near store of the tests: the memory engine, or a plain map that evicts.

use super::core::{Joinable, Near};
use crate::adapters::memory::near::TimedEngine;
use crate::sync::{Mutex, lock};
use crate::value::CacheValue;
use serde::Serialize;
use std::collections::BTreeMap;

/// The number of a read, for those that join it.
impl Joinable for u64 {
    type Joined = Self;

    fn join(&mut self) -> Self {
        *self
    }
}

/// What a read has seen: which state of its key, and through which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Seen {
    pub(super) state: u32,
    pub(super) through: u32,
}

#[derive(Clone, Copy, Debug)]
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
        self.look_past(key, |source, deadline| deadline > now && may_serve(source))
    }

    /// The value under `key`, if `may_serve` says so of its source and its deadline.
    pub(super) fn look_past(
        &self,
        key: &str,
        may_serve: impl FnOnce(u16, u64) -> bool,
    ) -> Option<Seen> {
        match self {
            Self::Engine(engine) => {
                let look = |value: &CacheValue, source, deadline| {
                    value.downcast_ref().copied().filter(|_| may_serve(source, deadline))
                };
                engine.look(key, look).flatten()
            }
            Self::Small(entries, _) => {
                let entries = lock(entries);
                let kept = entries.get(key)?;
                may_serve(kept.source, kept.deadline).then_some(kept.value)
            }
        }
    }
}

impl Near for Map {
    type Value = Seen;
    /// The key that was evicted.
    type Gone = Option<String>;

    fn keep(&self, key: &str, value: Seen, source: u16, deadline: u64) -> Self::Gone {
        match self {
            Self::Engine(engine) => engine.keep(key, CacheValue::new(value), source, deadline),
            Self::Small(entries, room) => {
                let mut entries = lock(entries);
                let kept = Kept { value, source, deadline };
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
        match self {
            Self::Engine(engine) => engine.remove_below(prefix),
            Self::Small(entries, _) => {
                let mut entries = lock(entries);
                let before = entries.len();
                entries.retain(|key, _| !key.starts_with(prefix));
                (before - entries.len()) as u64
            }
        }
    }

    fn relabel(&self, new: &dyn Fn(u16, u64) -> (u16, u64)) {
        match self {
            Self::Engine(engine) => engine.relabel(new),
            Self::Small(entries, _) => lock(entries).values_mut().for_each(|kept| {
                (kept.source, kept.deadline) = new(kept.source, kept.deadline);
            }),
        }
    }
}
