//! The engine: a bounded map whose entries expire. Everything known about quick_cache stays in this file.

use super::clock;
use crate::runtime::lock;
use crate::{CacheValue, Lifetime, Result};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Weighter};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const STRIPES: usize = 64;

/// What an entry costs beyond its key and value, as far as we know it.
const OVERHEAD: u64 = 112;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// An entry: reading clones it, which counts one reference.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) value: CacheValue,
    /// By the [`clock`].
    deadline: u64,
    weight: u64,
}

/// The bounds of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Stored {
    Yes,
    TooLarge,
}

/// The map.
///
/// Reads take quick_cache's shard lock only. What reads and then writes holds the key's stripe, so that `add`, `incr` and
/// `take` are one step; the stripes are never held across an await.
pub(super) struct Store {
    entries: Cache<Arc<str>, Entry, Weigh>,
    stripes: Box<[Mutex<()>]>,
    hasher: DefaultHashBuilder,
    /// No entry expires before this.
    sweep_at: AtomicU64,
}

/// Every entry weighs at least `floor`, so that the bound on bytes is a bound on entries too.
#[derive(Clone)]
struct Weigh {
    floor: u64,
}

impl Weighter<Arc<str>, Entry> for Weigh {
    fn weight(&self, _: &Arc<str>, entry: &Entry) -> u64 {
        entry.weight.max(self.floor)
    }
}

impl Store {
    pub(super) fn new(Bounds { max_entries, max_bytes }: Bounds) -> Self {
        let floor = max_bytes.div_ceil(max_entries.max(1)).max(1);
        let hasher = DefaultHashBuilder::default();
        // Also decides how many shards there are: each has its part of the capacity to itself.
        let expected = usize::try_from(max_entries.min(1 << 16)).unwrap_or(1 << 16);
        Self {
            entries: Cache::with(expected, floor.saturating_mul(max_entries), Weigh { floor }, hasher.clone(), DefaultLifecycle::default()),
            stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(),
            hasher,
            sweep_at: AtomicU64::new(NEVER),
        }
    }

    /// The live entry under `key`. Counts as a use.
    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        self.entries.get(key).filter(|entry| entry.is_live())
    }

    /// The live entry under `key`, without counting as a use.
    fn peek(&self, key: &str) -> Option<Entry> {
        self.entries.peek(key).filter(|entry| entry.is_live())
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    pub(super) fn left(&self, key: &str) -> Option<Lifetime> {
        let entry = self.peek(key)?;
        Some(match entry.deadline {
            NEVER => Lifetime::Never,
            deadline => Lifetime::For(Duration::from_nanos(deadline.saturating_sub(clock::now()))),
        })
    }

    /// Stores the value, or nothing if it weighs more than the store can hold; either way the older value is gone.
    pub(super) fn set(&self, key: &str, value: CacheValue, bytes: usize, lifetime: Lifetime) -> Stored {
        let _stripe = self.stripe(key);
        self.put(key, value, bytes, lifetime)
    }

    /// [`set`](Store::set) if the key is live or not, as `wanted` says; `None` if it was the other.
    pub(super) fn set_if(&self, wanted: bool, key: &str, value: CacheValue, bytes: usize, lifetime: Lifetime) -> Option<Stored> {
        let _stripe = self.stripe(key);
        (self.peek(key).is_some() == wanted).then(|| self.put(key, value, bytes, lifetime))
    }

    pub(super) fn take(&self, key: &str) -> Option<CacheValue> {
        let _stripe = self.stripe(key);
        let (_, entry) = self.entries.remove(key)?;
        entry.is_live().then_some(entry.value)
    }

    /// Gives a live entry another lifetime.
    pub(super) fn touch(&self, key: &str, lifetime: Lifetime) -> Option<CacheValue> {
        let _stripe = self.stripe(key);
        let mut entry = self.peek(key)?;
        let value = entry.value.clone();
        entry.deadline = deadline(lifetime);
        if lifetime.is_zero() {
            self.entries.remove(key);
        } else {
            self.insert(key, entry);
        }
        Some(value)
    }

    /// Replaces a live value by what `change` makes of it, its expiry kept; a missing one by what it makes of nothing.
    pub(super) fn change<R>(
        &self,
        key: &str,
        fresh: Lifetime,
        change: impl FnOnce(Option<&CacheValue>) -> Result<(CacheValue, usize, R)>,
    ) -> Result<R> {
        let _stripe = self.stripe(key);
        let found = self.peek(key);
        let (value, bytes, outcome) = change(found.as_ref().map(|entry| &entry.value))?;
        match found {
            Some(entry) => self.insert(key, Entry { value, ..entry }),
            None => drop(self.put(key, value, bytes, fresh)),
        }
        Ok(outcome)
    }

    pub(super) fn clear(&self, prefix: &str) {
        if prefix.is_empty() {
            self.entries.clear();
        } else {
            self.entries.retain(|key, _| !key.starts_with(prefix));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn put(&self, key: &str, value: CacheValue, bytes: usize, lifetime: Lifetime) -> Stored {
        let weight = OVERHEAD + key.len() as u64 + bytes as u64;
        if lifetime.is_zero() || weight > self.entries.shard_capacity() {
            self.entries.remove(key);
            return if lifetime.is_zero() { Stored::Yes } else { Stored::TooLarge };
        }
        self.insert(key, Entry { value, deadline: deadline(lifetime), weight });
        Stored::Yes
    }

    fn insert(&self, key: &str, entry: Entry) {
        let deadline = entry.deadline;
        self.entries.insert(key.into(), entry);
        if deadline < self.sweep_at.load(Ordering::Relaxed) {
            self.sweep_at.fetch_min(deadline, Ordering::Relaxed);
        }
    }

    fn stripe(&self, key: &str) -> MutexGuard<'_, ()> {
        lock(&self.stripes[self.hasher.hash_one(key) as usize % STRIPES])
    }

    // ---- giving back what nobody reads

    /// Whether something may have expired since the last sweep.
    pub(super) fn is_sweep_due(&self) -> bool {
        self.sweep_at.load(Ordering::Relaxed) <= clock::now()
    }

    /// Removes the entries that have expired.
    pub(super) fn sweep(&self) {
        self.sweep_at.store(NEVER, Ordering::Relaxed);
        let now = clock::now();
        self.entries.retain(|_, entry| {
            let live = entry.deadline > now;
            if live {
                self.sweep_at.fetch_min(entry.deadline, Ordering::Relaxed);
            }
            live
        });
    }
}

impl Entry {
    fn is_live(&self) -> bool {
        // The clock is dear even so: it is not read for what never expires.
        self.deadline == NEVER || self.deadline > clock::recent()
    }
}

fn deadline(lifetime: Lifetime) -> u64 {
    match lifetime {
        Lifetime::Never => NEVER,
        // 584 years from now is not for ever.
        Lifetime::For(lasting) => {
            let lasting = u64::try_from(lasting.as_nanos()).unwrap_or(NEVER);
            clock::now().saturating_add(lasting).min(NEVER - 1)
        }
    }
}
