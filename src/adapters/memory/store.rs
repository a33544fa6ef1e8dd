//! Entries that expire, and steps that are atomic, on top of the engine.

mod step;

use super::claims::{self, Claims, Release};
use super::engine::{Displaced, Engine, Entry, Gone, Node, Size};
use super::{KIND, clock};
use crate::adapter::{Claim, Presence};
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::expiry::Lifetime;
use crate::observers::EventSinks;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, lock};
use crate::value::CacheValue;
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;
use step::Step;

impl Release for Store {
    fn release(&self, key: &str, number: u64) {
        let hash = self.hash(key);
        lock(self.stripe(hash)).release(key, hash, number);
    }
}

#[cfg(all(test, shuttle))]
mod schedules;

const STRIPES: usize = 64;

/// A shard is for at least so many bytes, however many cores there are.
const LEAST_SHARD: u64 = 4 << 20;

/// And for at least so many entries, or it could not know which entries are worth keeping.
const LEAST_ENTRIES: u64 = 32;

/// What an entry costs beyond its key and value, as far as we know it.
const OVERHEAD: u64 = 112;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// The bounds of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    /// What one value may count for.
    pub(super) max_value_bytes: u64,
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
/// Reads take the engine's shard lock only. What reads and then writes is a [`Step`], so that
/// `add`, `incr` and `take` are one; the stripes are never held across an await.
pub(super) struct Store {
    pub(super) engine: Engine,
    bounds: Bounds,
    /// Each guards the steps on its keys, and the claims on them.
    stripes: Box<[Mutex<Claims>]>,
    hasher: RandomState,
    /// No entry expires before this.
    sweep_at: AtomicU64,
    pub(super) sinks: EventSinks,
}

impl Store {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { max_entries, max_bytes, .. } = bounds;
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let shards = 1_usize
            << (4 * cores)
                .min(max_bytes / LEAST_SHARD)
                .min(max_entries / LEAST_ENTRIES)
                .max(1)
                .ilog2();
        Self {
            engine: Engine::new(Size { entries: max_entries, bytes: max_bytes }, shards),
            bounds,
            stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(),
            hasher: RandomState::default(),
            sweep_at: AtomicU64::new(NEVER),
            sinks: EventSinks::default(),
        }
    }

    /// Lends the live value under `key`. Counts as a use. `look` runs under a lock: it must be
    /// short and not use the cache.
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

    /// Stores the value, or nothing if it weighs more than the store can hold; either way the older
    /// value is gone.
    pub(super) fn set(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
    ) -> Stored {
        self.write(key, |step| step.put(value, bytes, end(lifetime)))
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
        self.write(key, |step| {
            if self.contains(key) != wanted {
                step.discard(value);
                return None;
            }
            if wanted {
                step.put_over(value, bytes, end(lifetime))
            } else {
                Some(step.put(value, bytes, end(lifetime)))
            }
        })
    }

    pub(super) fn take(&self, key: &str) -> Option<CacheValue> {
        let removed = self.write(key, |step| step.take_out());
        removed.filter(|gone| is_live(gone.entry.deadline)).map(|gone| gone.entry.value)
    }

    /// Gives a live entry another lifetime.
    pub(super) fn touch(&self, key: &str, lifetime: Lifetime) -> Option<CacheValue> {
        self.write(key, |step| {
            let (value, weight) = self.peek(key, |entry| (entry.value.clone(), entry.weight))?;
            let Some(deadline) = end(lifetime) else {
                step.remove();
                return Some(value);
            };
            let entry = Entry { value: value.clone(), deadline, weight };
            step.replace(entry).then_some(value)
        })
    }

    // ---- claims

    /// Claims a key for a load; `None` while somebody else has a lease that this one asks for, too.
    pub(super) fn claim(self: &Arc<Self>, key: &str, lease: Option<Duration>) -> Option<Claim> {
        let hash = self.hash(key);
        let number = lock(self.stripe(hash)).add(key, hash, lease)?;
        let store: Weak<Self> = Arc::downgrade(self);
        Some(claims::with_token(store, key, number))
    }

    /// [`set`](Store::set) if the claim still holds; `None` if not.
    pub(super) fn set_claimed(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
        claim: &Claim,
    ) -> Option<Stored> {
        self.write(key, |step| {
            if !step.claims.holds(key, step.hash, claims::number(claim)) {
                step.discard(value);
                return None;
            }
            Some(step.put(value, bytes, end(lifetime)))
        })
    }

    // ---- changing

    /// Replaces a live value by what `change` makes of it, its expiry kept; a missing or stale one
    /// by what it makes of nothing. `None` if that is too large.
    ///
    /// `change` reads the value, which may run a user's `Serialize`: so it runs where no lock is
    /// held, and again if the value was replaced meanwhile.
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

    /// Puts a value in the place of `old`, whose expiry it gets unless it has its own; `None` if
    /// `old` is not there any more.
    fn exchange(
        &self,
        key: &str,
        old: &CacheValue,
        value: CacheValue,
        bytes: usize,
        lifetime: Option<Lifetime>,
    ) -> Option<Stored> {
        self.write(key, |step| {
            let found = self.peek(key, |entry| entry.value.is_same(old).then_some(entry.deadline));
            match found.flatten() {
                Some(deadline) => step.put_over(value, bytes, lifetime.map_or(Some(deadline), end)),
                None => {
                    step.discard(value);
                    None
                }
            }
        })
    }

    pub(super) fn clear(&self, prefix: &str) {
        // Before the entries go: a load that began before this must not be stored behind it.
        for stripe in &self.stripes {
            lock(stripe).end_all_below(prefix);
        }
        self.engine.retain(|node| !node.key.starts_with(prefix), drop);
    }

    pub(super) fn len(&self) -> usize {
        self.engine.len()
    }

    /// What a value of so many bytes counts for; `None` if that is more than there may be.
    pub(super) fn weight(&self, key: &str, bytes: usize) -> Option<u32> {
        let bytes = bytes as u64;
        let weight = OVERHEAD.saturating_add(key.len() as u64).saturating_add(bytes);
        let fits = bytes <= self.bounds.max_value_bytes && weight <= self.bounds.max_bytes;
        u32::try_from(weight).ok().filter(|_| fits)
    }

    /// Runs a step with the key's stripe held; afterwards emits the events of what it displaced,
    /// and drops it.
    fn write<R>(&self, key: &str, work: impl FnOnce(&mut Step<'_>) -> R) -> R {
        // Before the stripe is taken, and so dropped after it: a value's `Drop` may use the cache.
        let mut displaced = Displaced::default();
        let outcome = {
            let hash = self.hash(key);
            let claims = lock(self.stripe(hash));
            work(&mut Step { store: self, key, hash, claims, displaced: &mut displaced })
        };
        self.emit(displaced.iter());
        outcome
    }

    /// There will be something to sweep. Said when it is there: a sweep that has just begun forgets
    /// what was said before.
    pub(super) fn expect(&self, deadline: u64) {
        if deadline < self.sweep_at.load(Ordering::Relaxed) {
            self.sweep_at.fetch_min(deadline, Ordering::Relaxed);
        }
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn stripe(&self, hash: u64) -> &Mutex<Claims> {
        &self.stripes[hash as usize % STRIPES]
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

    fn emit<'a>(&self, gone: impl Iterator<Item = &'a Gone>) {
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
