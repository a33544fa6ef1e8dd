//! The engine: a bounded, sharded map that evicts by S3-FIFO. Expiry and atomic steps are the
//! store's.
//!
//! A read takes a shard's read lock, finds the entry, marks it as used and passes a reference to
//! the caller. No list is reordered on a hit, so hits in one shard do not wait for each other.
//! Entries are in a slab, 64 bytes each, short keys included; the table holds their numbers.

mod budget;
mod ghosts;
mod queue;
#[cfg(all(test, shuttle))]
mod schedules;
mod shard;
#[cfg(test)]
mod tests;

pub(super) use budget::Size;
pub(super) use queue::Node;

use crate::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::value::CacheValue;
use budget::{Budget, Room};
use compact_str::CompactString;
use foldhash::quality::RandomState;
use shard::Shard;
use std::hash::{BuildHasher, Hasher};

/// An entry that is stored or displaced.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) value: CacheValue,
    /// When the entry expires, by the [`clock`](super::clock).
    pub(super) deadline: u64,
    pub(super) weight: u32,
    /// Who vouches for the value, in a near store; 0 in others.
    pub(super) source: u16,
}

impl Entry {
    pub(super) fn new(value: CacheValue, deadline: u64, weight: u32) -> Self {
        Self { value, deadline, weight, source: 0 }
    }
}

/// A displaced entry. It is dropped while no lock is held, because the `Drop` of a value may use
/// the cache.
#[derive(Debug)]
pub(super) struct Gone {
    pub(super) key: CompactString,
    pub(super) entry: Entry,
    /// Whether the entry was evicted to make room.
    pub(super) evicted: bool,
}

impl Gone {
    /// A value that was not stored, or was replaced: no event is emitted for it.
    pub(super) fn value(value: CacheValue) -> Self {
        Self::replaced(Entry::new(value, 0, 0))
    }

    fn replaced(entry: Entry) -> Self {
        Self { key: CompactString::default(), entry, evicted: false }
    }
}

/// The entries that a write displaces. Usually one: the older value, or an entry that was evicted.
#[derive(Debug, Default)]
pub(super) struct Displaced {
    first: Option<Gone>,
    more: Vec<Gone>,
}

impl Displaced {
    pub(super) fn push(&mut self, gone: Gone) {
        match &mut self.first {
            None => self.first = Some(gone),
            Some(_) => self.more.push(gone),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Gone> {
        self.first.iter().chain(&self.more)
    }
}

/// The hash of a key. One half selects the shard, the other half the place in the shard.
#[derive(Clone, Copy)]
struct Hash(u64);

impl Hash {
    #[inline]
    fn of(key: &str, hasher: &RandomState) -> Self {
        let mut hasher = hasher.build_hasher();
        hasher.write(key.as_bytes());
        Self(hasher.finish())
    }

    fn tag(self) -> u32 {
        self.0 as u32
    }

    /// Spreads the bits to both ends, because the table uses both ends.
    #[inline]
    fn spread(self) -> u64 {
        u64::from(self.tag()).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

/// The map.
pub(super) struct Engine {
    shards: Box<[Padded]>,
    budget: Budget,
    hasher: RandomState,
}

/// A shard on cache lines of its own, so that locks of different threads do not share a line.
#[repr(align(128))]
struct Padded(RwLock<Shard>);

impl Padded {
    fn read(&self) -> RwLockReadGuard<'_, Shard> {
        // Ignore poisoning: while a shard is changed only an allocation can panic, and that is
        // before the change.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Shard> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Makes an engine with `shards` shards, a power of two. `max` bounds all entries together, in
    /// all shards.
    pub(super) fn new(max: Size, shards: usize) -> Self {
        let hasher = RandomState::default();
        let shards = std::iter::repeat_with(|| Padded(RwLock::new(Shard::new(hasher.clone()))))
            .take(shards.next_power_of_two())
            .collect();
        Self { shards, budget: Budget::new(max), hasher }
    }

    /// The number of a key's shard.
    #[inline]
    fn place(&self, key: &str) -> (usize, Hash) {
        let hash = Hash::of(key, &self.hasher);
        ((hash.0 >> 32) as usize & (self.shards.len() - 1), hash)
    }

    /// Calls `look` with the entry under `key`. `look` runs under the shard's lock, so it must be
    /// short and must not use the cache.
    #[inline]
    pub(super) fn look<R>(
        &self,
        key: &str,
        counts_as_use: bool,
        look: impl FnOnce(&Node) -> R,
    ) -> Option<R> {
        let (at, hash) = self.place(key);
        self.shards[at].read().look(key, hash, counts_as_use).map(look)
    }

    /// Stores an entry, which must not weigh more than the bound of the engine. Replacing an entry
    /// counts as a use.
    pub(super) fn insert(&self, key: &str, entry: Entry, displaced: &mut Displaced) {
        let (at, hash) = self.place(key);
        let put = |entry, room: &mut Room<'_>, displaced: &mut Displaced| {
            let stored = self.shards[at].write().insert(key, hash, entry, room, displaced);
            stored.map(|()| true)
        };
        self.make_way(at, entry, displaced, put);
    }

    /// Replaces the entry under `key`. Returns whether there was one; if not, the new entry is
    /// displaced itself.
    #[must_use]
    pub(super) fn replace(&self, key: &str, entry: Entry, displaced: &mut Displaced) -> bool {
        let (at, hash) = self.place(key);
        let put = |entry, room: &mut Room<'_>, displaced: &mut Displaced| {
            self.shards[at].write().replace(key, hash, entry, room, displaced)
        };
        self.make_way(at, entry, displaced, put)
    }

    /// Puts an entry into the shard `at`. The shard evicts to make room; if it has nothing to
    /// evict, other shards evict. No two shards are locked at the same time.
    fn make_way(
        &self,
        at: usize,
        mut entry: Entry,
        displaced: &mut Displaced,
        put: impl Fn(Entry, &mut Room<'_>, &mut Displaced) -> Result<bool, Entry>,
    ) -> bool {
        let mut room = Room::new(&self.budget);
        loop {
            match put(entry, &mut room, displaced) {
                Ok(stored) => return stored,
                Err(refused) => entry = refused,
            }
            let mut others = (1..self.shards.len()).map(|step| (at + step) % self.shards.len());
            match others.find_map(|other| self.shards[other].write().evict()) {
                Some(gone) => {
                    room.add(Size::of(gone.entry.weight));
                    displaced.push(gone);
                }
                // The missing room is reserved by other writers.
                None => {
                    room.give_back();
                    std::thread::yield_now();
                }
            }
        }
    }

    pub(super) fn remove(&self, key: &str) -> Option<Gone> {
        let (at, hash) = self.place(key);
        let gone = self.shards[at].write().remove(key, hash)?;
        self.budget.give(Size::of(gone.entry.weight));
        Some(gone)
    }

    /// Removes the entries that `keep` rejects, and passes them to `gone` while no lock is held. A
    /// shard is locked for a limited number of entries at a time. Entries that are stored in the
    /// meantime may or may not be checked.
    pub(super) fn retain(&self, keep: impl Fn(&mut Node) -> bool, mut gone: impl FnMut(Gone)) {
        const STRETCH: usize = 1_024;
        for shard in &self.shards {
            let mut from = 0;
            loop {
                let mut removed = Vec::new();
                let more = shard.write().retain(from..from + STRETCH, &keep, &mut removed);
                removed.iter().for_each(|gone| self.budget.give(Size::of(gone.entry.weight)));
                removed.into_iter().for_each(&mut gone);
                if !more {
                    break;
                }
                from += STRETCH;
            }
        }
    }

    /// Removes the keys that begin with `prefix`. Returns how many there were.
    pub(super) fn remove_below(&self, prefix: &str) -> u64 {
        let mut removed = 0;
        self.retain(|node| !node.key.starts_with(prefix), |_| removed += 1);
        removed
    }

    /// Gives each entry the source and the deadline that `new` makes of its own. Entries that are
    /// stored in the meantime may or may not be given others.
    pub(super) fn relabel(&self, new: impl Fn(u16, u64) -> (u16, u64)) {
        let relabel = |node: &mut Node| {
            (node.source, node.deadline) = new(node.source, node.deadline);
            true
        };
        self.retain(relabel, drop);
    }

    /// Shows some entries to `look`, from `place` on, which is a shard and a number of a node in it.
    /// Returns the place of the next ones, unless these are the last. An entry keeps its place for
    /// as long as it lives. `look` runs under the shard's lock.
    pub(super) fn walk(
        &self,
        (at, from): (usize, usize),
        look: impl FnMut(&Node),
    ) -> Option<(usize, usize)> {
        const STRETCH: usize = 1_024;
        let shard = self.shards.get(at)?;
        let more = shard.read().walk(from..from + STRETCH, look);
        let next = if more { (at, from + STRETCH) } else { (at + 1, 0) };
        (next.0 < self.shards.len()).then_some(next)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// The entries and their weights. What is reserved for entries that are being stored is left
    /// out.
    pub(super) fn size(&self) -> Size {
        let mut all = Size::default();
        self.shards.iter().for_each(|shard| all.add(shard.read().size()));
        all
    }
}
