//! Entries that expire, and steps that are atomic, on top of the engine.

use super::engine::{Displaced, Engine, Entry, Gone, Node};
use super::{KIND, clock};
use crate::adapter::Presence;
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::expiry::Lifetime;
use crate::observers::EventSinks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::value::CacheValue;
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::thread;
use std::time::Duration;

#[cfg(all(test, shuttle))]
mod schedules;

const STRIPES: usize = 64;

/// A shard has at least so many bytes, however many cores there are, for a value has to fit into one.
const LEAST_SHARD: u64 = 4 << 20;

/// And room for at least so many entries: keys are not spread evenly.
const LEAST_ENTRIES: u64 = 32;

/// What weighs more than this part of a shard is not taken in: it would push out everything else.
const HEAVIEST: f64 = 0.97;

/// What an entry costs beyond its key and value, as far as we know it.
const OVERHEAD: u64 = 112;

/// No deadline.
const NEVER: u64 = u64::MAX;

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

/// The entries of a cache.
///
/// Reads take the engine's shard lock only. What reads and then writes holds the key's stripe, so that `add`, `incr` and
/// `take` are one step; the stripes are never held across an await. Values are dropped, and observers told, when no lock is held, for both
/// may use the cache: what is displaced is declared before the stripe, and so goes after it.
///
/// `clear`, eviction and the sweep take no stripe. So whoever found an entry and writes over it [replaces](Engine::replace) it, for it
/// may have gone in between.
pub(super) struct Store {
    engine: Engine,
    /// So many bytes are a unit of weight: one, but where a shard has more bytes than four bytes can count.
    unit: u64,
    /// Every entry weighs at least so much, so that the bound on bytes is a bound on entries too.
    floor: u32,
    /// What weighs more is not taken in.
    heaviest: u32,
    stripes: Box<[Mutex<()>]>,
    hasher: RandomState,
    /// No entry expires before this.
    sweep_at: AtomicU64,
    pub(super) sinks: EventSinks,
}

impl Store {
    pub(super) fn new(Bounds { max_entries, max_bytes }: Bounds) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let shards = 1_usize
            << (4 * cores)
                .min(max_bytes / LEAST_SHARD)
                .min(max_entries / LEAST_ENTRIES)
                .max(1)
                .ilog2();
        let unit = (max_bytes / shards as u64).div_ceil(u32::MAX.into()).max(1);
        let capacity = max_bytes / unit;
        let engine = Engine::new(capacity, shards);
        // Half an entry more than there may be, or the last one would not quite fit.
        let floor = (2 * u128::from(capacity)).div_ceil(2 * u128::from(max_entries) + 1).max(1);
        let floor = u32::try_from(floor).unwrap_or(u32::MAX);
        let heaviest = (engine.shard_capacity() as f64 * HEAVIEST) as u32;
        Self {
            engine,
            unit,
            floor,
            heaviest,
            stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(),
            hasher: RandomState::default(),
            sweep_at: AtomicU64::new(NEVER),
            sinks: EventSinks::default(),
        }
    }

    /// Lends the live value under `key`. Counts as a use. `look` runs under a lock: it must be short and not use the cache.
    #[inline]
    pub(super) fn look<R>(&self, key: &str, look: impl FnOnce(&CacheValue) -> R) -> Option<R> {
        self.engine
            .look(key, true, |node| is_live(node.deadline).then(|| look(&node.value)))
            .flatten()
    }

    /// The live value under `key`. Counts as a use.
    #[inline]
    pub(super) fn get(&self, key: &str) -> Option<CacheValue> {
        self.look(key, CacheValue::clone)
    }

    /// Lends the live entry under `key`, without counting as a use.
    fn peek<R>(&self, key: &str, look: impl FnOnce(&Node) -> R) -> Option<R> {
        self.engine.look(key, false, |node| is_live(node.deadline).then(|| look(node))).flatten()
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.peek(key, |_| ()).is_some()
    }

    pub(super) fn presence(&self, key: &str) -> Presence {
        self.peek(key, |node| Presence::of(&node.value)).unwrap_or(Presence::Missing)
    }

    pub(super) fn left(&self, key: &str) -> Option<Lifetime> {
        let deadline = self.peek(key, |entry| entry.deadline)?;
        Some(match deadline {
            NEVER => Lifetime::Never,
            deadline => Lifetime::For(Duration::from_nanos(deadline.saturating_sub(clock::now()))),
        })
    }

    /// Stores the value, or nothing if it weighs more than the store can hold; either way the older value is gone.
    pub(super) fn set(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
    ) -> Stored {
        self.write(key, |displaced| self.put(key, value, bytes, lifetime, displaced))
    }

    /// [`set`](Store::set) if the key is live or not, as `wanted` says; `None` if it was the other.
    pub(super) fn set_if(
        &self,
        wanted: bool,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
    ) -> Option<Stored> {
        self.write(key, |displaced| {
            if self.contains(key) != wanted {
                // Not here, where the stripe is held.
                displaced.push(Gone::value(value));
                return None;
            }
            if !wanted {
                return Some(self.put(key, value, bytes, lifetime, displaced));
            }
            match self.entry(key, value, bytes, end(lifetime), displaced) {
                Ok(entry) => self.replace(key, entry, displaced).then_some(Stored::Yes),
                Err(stored) => Some(stored),
            }
        })
    }

    pub(super) fn take(&self, key: &str) -> Option<CacheValue> {
        let removed = self.write(key, |_| self.engine.remove(key));
        removed.filter(|gone| is_live(gone.entry.deadline)).map(|gone| gone.entry.value)
    }

    /// Gives a live entry another lifetime.
    pub(super) fn touch(&self, key: &str, lifetime: Lifetime) -> Option<CacheValue> {
        self.write(key, |displaced| {
            let (value, weight) = self.peek(key, |entry| (entry.value.clone(), entry.weight))?;
            let Some(deadline) = end(lifetime) else {
                self.remove(key, displaced);
                return Some(value);
            };
            let entry = Entry { value: value.clone(), deadline, weight };
            self.replace(key, entry, displaced).then_some(value)
        })
    }

    /// Replaces a live value by what `change` makes of it, its expiry kept; a missing or stale one by what it makes of
    /// nothing. `None` if that is too large.
    ///
    /// `change` reads the value, which may run a user's `Serialize`: so it runs where no lock is held, and again if the value was
    /// replaced meanwhile.
    pub(super) fn change<R>(
        &self,
        key: &str,
        fresh: Lifetime,
        change: impl Fn(Option<&CacheValue>) -> Result<(CacheValue, usize, R)>,
    ) -> Result<Option<R>> {
        loop {
            let old = self.peek(key, |entry| entry.value.clone());
            let live = old.as_ref().filter(|old| !old.is_stale());
            let (value, bytes, outcome) = change(live)?;
            let renewed = live.is_none().then_some(fresh);
            let stored = match &old {
                Some(old) => self.exchange(key, old, value, bytes, renewed),
                None => self.set_if(false, key, value, bytes, fresh),
            };
            match stored {
                Some(Stored::Yes) => return Ok(Some(outcome)),
                Some(Stored::TooLarge) => return Ok(None),
                None => {}
            }
        }
    }

    /// Puts a value in the place of `old`, whose expiry it gets unless it has its own; `None` if `old` is not there any more.
    fn exchange(
        &self,
        key: &str,
        old: &CacheValue,
        value: CacheValue,
        bytes: usize,
        lifetime: Option<Lifetime>,
    ) -> Option<Stored> {
        self.write(key, |displaced| {
            let found = self.peek(key, |entry| entry.value.is_same(old).then_some(entry.deadline));
            let Some(deadline) = found.flatten() else {
                displaced.push(Gone::value(value));
                return None;
            };
            let deadline = lifetime.map_or(Some(deadline), end);
            match self.entry(key, value, bytes, deadline, displaced) {
                Ok(entry) => self.replace(key, entry, displaced).then_some(Stored::Yes),
                Err(stored) => Some(stored),
            }
        })
    }

    pub(super) fn clear(&self, prefix: &str) {
        self.engine.retain(|node| !node.key.starts_with(prefix), drop);
    }

    pub(super) fn len(&self) -> usize {
        self.engine.len()
    }

    /// Runs `work` with the key's stripe held; tells of what it displaces, and drops it, afterwards.
    fn write<R>(&self, key: &str, work: impl FnOnce(&mut Displaced) -> R) -> R {
        let mut displaced = Displaced::default();
        let outcome = {
            let _stripe = self.stripe(key);
            work(&mut displaced)
        };
        self.tell(displaced.iter());
        outcome
    }

    fn put(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
        displaced: &mut Displaced,
    ) -> Stored {
        match self.entry(key, value, bytes, end(lifetime), displaced) {
            Ok(entry) => {
                let deadline = entry.deadline;
                self.engine.insert(key, entry, displaced);
                self.expect(deadline);
                Stored::Yes
            }
            Err(stored) => stored,
        }
    }

    /// An entry for a value; for one that is not to be stored, the older one goes.
    fn entry(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        deadline: Option<u64>,
        displaced: &mut Displaced,
    ) -> std::result::Result<Entry, Stored> {
        let weight = (OVERHEAD + key.len() as u64 + bytes as u64).div_ceil(self.unit);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        match deadline {
            Some(deadline) if weight <= self.heaviest => {
                Ok(Entry { value, deadline, weight: weight.max(self.floor) })
            }
            _ => {
                displaced.push(Gone::value(value));
                self.remove(key, displaced);
                Err(if deadline.is_none() { Stored::Yes } else { Stored::TooLarge })
            }
        }
    }

    fn remove(&self, key: &str, displaced: &mut Displaced) {
        if let Some(gone) = self.engine.remove(key) {
            displaced.push(gone);
        }
    }

    fn replace(&self, key: &str, entry: Entry, displaced: &mut Displaced) -> bool {
        let deadline = entry.deadline;
        let replaced = self.engine.replace(key, entry, displaced);
        self.expect(deadline);
        replaced
    }

    /// There will be something to sweep. Said when it is there: a sweep that has just begun forgets what was said before.
    fn expect(&self, deadline: u64) {
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
        let keep = |node: &Node| {
            let live = node.deadline > now;
            if live {
                self.sweep_at.fetch_min(node.deadline, Ordering::Relaxed);
            }
            live
        };
        self.engine.retain(keep, |gone| self.tell_one(EventKind::Expire, &gone.key));
    }

    // ---- telling

    fn tell<'a>(&self, gone: impl Iterator<Item = &'a Gone>) {
        for gone in gone.filter(|gone| gone.evicted) {
            // What had expired before it was evicted was not pushed out.
            self.tell_one(
                if is_live(gone.entry.deadline) { EventKind::Evict } else { EventKind::Expire },
                &gone.key,
            );
        }
    }

    fn tell_one(&self, kind: EventKind, key: &str) {
        if !self.sinks.is_empty() {
            self.sinks.emit(&Event::new(kind, KIND).with_key(key));
        }
    }
}

#[inline]
fn is_live(deadline: u64) -> bool {
    // The clock is dear even so: it is not read for what never expires.
    deadline == NEVER || deadline > clock::recent()
}

/// The deadline of what is stored now; `None` if it ends at once.
fn end(lifetime: Lifetime) -> Option<u64> {
    match lifetime {
        Lifetime::Never => Some(NEVER),
        Lifetime::For(lasting) if lasting.is_zero() => None,
        // 584 years from now is not for ever.
        Lifetime::For(lasting) => {
            let lasting = u64::try_from(lasting.as_nanos()).unwrap_or(NEVER);
            Some(clock::now().saturating_add(lasting).min(NEVER - 1))
        }
    }
}
