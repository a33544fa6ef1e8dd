//! The engine: a bounded map whose entries expire. Everything known about quick_cache stays in this file.

use super::clock;
use crate::runtime::lock;
use crate::{CacheValue, Lifetime, Result};
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, OptionsBuilder, Weighter};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

const STRIPES: usize = 64;

/// A shard has at least so many bytes, however many cores there are, for a value has to fit into one.
const LEAST_SHARD: u64 = 4 << 20;

/// The part of a shard that its often used entries may take; what weighs more than that is not taken in.
const HOT: f64 = 0.97;

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
/// `take` are one step; the stripes are never held across an await. Values are dropped when no lock is held, for a value's own
/// `drop` may use the cache: what is displaced is declared before the stripe, and so goes after it.
pub(super) struct Store {
    entries: Cache<Arc<str>, Entry, Weigh, DefaultHashBuilder, HandBack>,
    /// What weighs more is not taken in.
    heaviest: u64,
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

/// Has quick_cache hand back what an insertion displaces.
#[derive(Clone)]
struct HandBack;

/// Values on their way out. Mostly one: the older value, or one that made room.
#[derive(Default)]
struct Displaced {
    first: Option<CacheValue>,
    more: Vec<CacheValue>,
}

impl Displaced {
    fn push(&mut self, value: CacheValue) {
        match &mut self.first {
            None => self.first = Some(value),
            Some(_) => self.more.push(value),
        }
    }
}

impl Lifecycle<Arc<str>, Entry> for HandBack {
    type RequestState = Displaced;

    fn begin_request(&self) -> Displaced {
        Displaced::default()
    }

    fn on_evict(&self, displaced: &mut Displaced, _: Arc<str>, entry: Entry) {
        displaced.push(entry.value);
    }
}

impl Store {
    pub(super) fn new(Bounds { max_entries, max_bytes }: Bounds) -> Self {
        // Half an entry more than there may be, or the last one would not quite fit.
        let floor = u64::try_from((2 * u128::from(max_bytes)).div_ceil(2 * u128::from(max_entries) + 1)).unwrap_or(max_bytes).max(1);
        let expected = max_entries.min(max_bytes / OVERHEAD).clamp(1, 1 << 16) as usize;
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let shards = 1 << (4 * cores).min(max_bytes / LEAST_SHARD).max(1).ilog2();
        let hasher = DefaultHashBuilder::default();
        let entries = OptionsBuilder::new()
            .estimated_items_capacity(expected)
            .weight_capacity(max_bytes)
            .shards(shards)
            .hot_allocation(HOT)
            .build()
            .map(|options| Cache::with_options(options, Weigh { floor }, hasher.clone(), HandBack))
            // Both capacities are given, which is all that is checked.
            .unwrap_or_else(|_| Cache::with(expected, max_bytes, Weigh { floor }, hasher.clone(), HandBack));
        let heaviest = (entries.shard_capacity() as f64 * HOT) as u64;
        Self {
            entries,
            heaviest,
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
        let mut displaced = Displaced::default();
        let _stripe = self.stripe(key);
        self.put(key, value, bytes, lifetime, &mut displaced)
    }

    /// [`set`](Store::set) if the key is live or not, as `wanted` says; `None` if it was the other.
    pub(super) fn set_if(&self, wanted: bool, key: &str, value: CacheValue, bytes: usize, lifetime: Lifetime) -> Option<Stored> {
        let mut displaced = Displaced::default();
        let _stripe = self.stripe(key);
        let found = self.peek(key).map(|entry| displaced.push(entry.value));
        if found.is_some() == wanted { Some(self.put(key, value, bytes, lifetime, &mut displaced)) } else { None }
    }

    pub(super) fn take(&self, key: &str) -> Option<CacheValue> {
        let removed = {
            let _stripe = self.stripe(key);
            self.entries.remove(key)
        };
        removed.filter(|(_, entry)| entry.is_live()).map(|(_, entry)| entry.value)
    }

    /// Gives a live entry another lifetime.
    pub(super) fn touch(&self, key: &str, lifetime: Lifetime) -> Option<CacheValue> {
        let mut displaced = Displaced::default();
        let _stripe = self.stripe(key);
        let mut entry = self.peek(key)?;
        let value = entry.value.clone();
        entry.deadline = deadline(lifetime);
        if lifetime.is_zero() {
            self.remove(key, &mut displaced);
        } else {
            self.insert(key, entry, &mut displaced);
        }
        Some(value)
    }

    /// Replaces a live value by what `change` makes of it, its expiry kept; a missing one by what it makes of nothing. `None` if
    /// that is too large.
    pub(super) fn change<R>(
        &self,
        key: &str,
        fresh: Lifetime,
        change: impl FnOnce(Option<&CacheValue>) -> Result<(CacheValue, usize, R)>,
    ) -> Result<Option<R>> {
        let mut displaced = Displaced::default();
        let _stripe = self.stripe(key);
        let found = self.peek(key);
        let changed = change(found.as_ref().map(|entry| &entry.value));
        let kept = found.map(|Entry { value, deadline, weight }| {
            displaced.push(value);
            (deadline, weight)
        });
        let (value, bytes, outcome) = changed?;
        let stored = match kept {
            Some((deadline, weight)) => {
                self.insert(key, Entry { value, deadline, weight }, &mut displaced);
                Stored::Yes
            }
            None => self.put(key, value, bytes, fresh, &mut displaced),
        };
        Ok((stored == Stored::Yes).then_some(outcome))
    }

    pub(super) fn clear(&self, prefix: &str) {
        self.retain(|key, _| !key.starts_with(prefix));
    }

    fn retain(&self, keep: impl Fn(&str, &Entry) -> bool) {
        let displaced = RefCell::new(Vec::new());
        self.entries.retain(|key, entry| {
            let keep = keep(key, entry);
            if !keep {
                displaced.borrow_mut().push(entry.value.clone());
            }
            keep
        });
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn put(&self, key: &str, value: CacheValue, bytes: usize, lifetime: Lifetime, displaced: &mut Displaced) -> Stored {
        let weight = OVERHEAD + key.len() as u64 + bytes as u64;
        if lifetime.is_zero() || weight > self.heaviest {
            displaced.push(value);
            self.remove(key, displaced);
            return if lifetime.is_zero() { Stored::Yes } else { Stored::TooLarge };
        }
        self.insert(key, Entry { value, deadline: deadline(lifetime), weight }, displaced);
        Stored::Yes
    }

    fn remove(&self, key: &str, displaced: &mut Displaced) {
        if let Some((_, entry)) = self.entries.remove(key) {
            displaced.push(entry.value);
        }
    }

    fn insert(&self, key: &str, entry: Entry, displaced: &mut Displaced) {
        let deadline = entry.deadline;
        let Displaced { first, more } = self.entries.insert_with_lifecycle(key.into(), entry);
        first.into_iter().chain(more).for_each(|value| displaced.push(value));
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
        self.retain(|_, entry| {
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
