//! Entries that expire, and steps that are atomic, on top of the engine.

mod step;

use super::claims::{self, Claims};
use super::earliest_end::{EarliestEnd, NEVER};
use super::engine::{Displaced, Engine, Entry, Gone, Node, Size};
use super::sweeper::Sweeps;
use super::{KIND, clock};
use crate::adapter::{Claim, CountedToken, CountsClaims, NearEntry, Presence, StoreSize};
use crate::error::Result;
use crate::event::{Event, EventKind};
use crate::expiry::Lifetime;
use crate::observers::EventSinks;
use crate::sync::{Mutex, lock};
use crate::value::CacheValue;
use foldhash::quality::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;
use step::Step;

impl CountsClaims for Store {
    fn share(&self, hash: u64, number: u64) {
        lock(self.stripe(hash)).add_handle(hash, number);
    }

    fn release(&self, hash: u64, number: u64) {
        lock(self.stripe(hash)).drop_handle(hash, number);
    }
}

impl Sweeps for Store {
    fn is_sweep_due(&self) -> bool {
        self.earliest_end.is_past()
    }

    fn sweep(&self) {
        let gone = |gone: Gone| self.emit_one(EventKind::Expire, &gone.key);
        self.earliest_end.sweep(&self.engine, |deadline| deadline, gone);
    }
}

#[cfg(all(test, shuttle))]
mod schedules;

const STRIPES: usize = 64;

/// The least bytes of a shard, for any number of cores.
const LEAST_SHARD: u64 = 4 << 20;

/// The least entries of a shard: with fewer, it could not distinguish entries that are used from
/// others.
const LEAST_ENTRIES: u64 = 32;

/// The approximate bytes that an entry takes besides its key and value.
const OVERHEAD: u64 = 112;

/// How many entries one step of a walk looks at, and up to a stretch of a shard more.
const WALKED: usize = 4_096;

/// A place in a walk through the entries.
pub(super) type Place = (usize, usize);

/// The bounds of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) max_entries: u64,
    pub(super) max_bytes: u64,
    /// The most bytes that one value may count for.
    pub(super) max_value_bytes: u64,
}

impl Bounds {
    /// How many shards a store with these bounds has.
    pub(super) fn shards(self) -> usize {
        let cores = thread::available_parallelism().map_or(1, usize::from) as u64;
        let most =
            (4 * cores).min(self.max_bytes / LEAST_SHARD).min(self.max_entries / LEAST_ENTRIES);
        1 << most.max(1).ilog2()
    }
}

/// Whether a value was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Stored {
    Yes,
    TooLarge,
}

/// The entries of a cache.
///
/// A read takes the engine's shard lock only. An operation that reads and then writes, such as
/// `add`, `incr` or `take`, is a [`Step`], which holds the stripe of its key. A stripe is never
/// held across an await.
pub(super) struct Store {
    pub(super) engine: Engine,
    bounds: Bounds,
    /// The locks of the steps on the keys of each stripe, with the claims on these keys.
    stripes: Box<[Mutex<Claims>]>,
    hasher: RandomState,
    pub(super) earliest_end: EarliestEnd,
    pub(super) sinks: EventSinks,
}

impl Store {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { max_entries, max_bytes, .. } = bounds;
        let size = Size { entries: max_entries, bytes: max_bytes };
        Self {
            engine: Engine::new(size, bounds.shards()),
            bounds,
            stripes: std::iter::repeat_with(Mutex::default).take(STRIPES).collect(),
            hasher: RandomState::default(),
            earliest_end: EarliestEnd::new(),
            sinks: EventSinks::default(),
        }
    }

    /// Calls `look` with the live value under `key`. Counts as a use. `look` runs under a lock, so
    /// it must be short and must not use the cache.
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

    /// The live value under `key`, with the rest of its life. Counts as a use.
    pub(super) fn get_near(&self, key: &str) -> Option<NearEntry> {
        // Both under one look: the deadline is that of this value, and not of a later one.
        let live =
            |node: &Node| is_live(node.deadline).then(|| (node.value.clone(), node.deadline));
        let (value, deadline) = self.engine.look(key, true, live).flatten()?;
        Some(NearEntry::new(value, until(deadline)))
    }

    /// Calls `look` with the live entry under `key`. Does not count as a use.
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
        self.peek(key, |entry| entry.deadline).map(until)
    }

    /// Whether nobody has swept for so long that this may be the child of a fork.
    pub(super) fn is_sweep_overdue(&self) -> bool {
        self.earliest_end.is_long_past()
    }

    /// Stores the value. If it weighs more than the store can hold, only removes the older value.
    pub(super) fn set(
        &self,
        key: &str,
        value: CacheValue,
        bytes: usize,
        lifetime: Lifetime,
    ) -> Stored {
        self.write(key, |step| step.put(value, bytes, end(lifetime)))
    }

    /// [`set`](Store::set), if whether the key is live equals `wanted`; otherwise `None`.
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
            let entry = Entry::new(value.clone(), deadline, weight);
            step.replace(entry).then_some(value)
        })
    }

    // ---- claims

    /// Claims a key for a load. Returns `None` while another claim has a lease, if this one asks
    /// for a lease.
    pub(super) fn claim(self: &Arc<Self>, key: &str, lease: Option<Duration>) -> Option<Claim> {
        let hash = self.hash(key);
        let number = lock(self.stripe(hash)).add(key, hash, lease)?;
        let store: Weak<Self> = Arc::downgrade(self);
        Some(Claim::counted(CountedToken::new(store, hash, number)))
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

    /// Ends a claim.
    pub(super) fn release(&self, key: &str, number: u64) {
        let hash = self.hash(key);
        lock(self.stripe(hash)).release(key, hash, number);
    }

    // ---- changing

    /// Replaces a live value by the result of `change`, and keeps its expiry. If the value is
    /// missing or stale, `change` gets `None`. Returns `None` if the result is too large.
    ///
    /// `change` reads the value, which may run a user's `Serialize`. So it runs while no lock is
    /// held, and again if the value was replaced in the meantime.
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

    /// Replaces `old` by a value, which gets the expiry of `old` unless it has its own. Returns
    /// `None` if `old` is not stored any more.
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
        // End the claims before removing the entries: a load that began before the clear must not
        // be stored after it.
        for stripe in &self.stripes {
            lock(stripe).end_all_below(prefix);
        }
        self.engine.retain(|node| !node.key.starts_with(prefix), drop);
    }

    /// Some of the live keys that begin with both prefixes, without the first, from `place` on; and
    /// the place of the next ones. Stops after a number of entries, whatever their keys: a walk
    /// through millions of them holds its thread for a short time only.
    pub(super) fn keys(
        &self,
        own: &str,
        prefix: &str,
        place: Place,
    ) -> (Vec<String>, Option<Place>) {
        let (mut keys, mut seen, mut next) = (Vec::new(), 0, Some(place));
        let bare = |node: &Node| {
            let key = node.key.strip_prefix(own)?;
            let is_asked = !key.is_empty() && key.starts_with(prefix);
            (is_asked && is_live(node.deadline) && !node.value.is_stale()).then(|| key.to_owned())
        };
        while let Some(place) = next
            && seen < WALKED
        {
            next = self.engine.walk(place, |node| {
                seen += 1;
                keys.extend(bare(node));
            });
            // An empty shard counts as well.
            seen += 1;
        }
        (keys, next)
    }

    pub(super) fn len(&self) -> usize {
        self.engine.len()
    }

    pub(super) fn size(&self) -> StoreSize {
        let Size { entries, bytes } = self.engine.size();
        StoreSize::new(entries, bytes)
    }

    /// The weight of an entry whose value has this number of bytes; `None` if the weight is over
    /// the bound.
    pub(super) fn weight(&self, key: &str, bytes: usize) -> Option<u32> {
        let bytes = bytes as u64;
        let weight = OVERHEAD.saturating_add(key.len() as u64).saturating_add(bytes);
        let fits = bytes <= self.bounds.max_value_bytes && weight <= self.bounds.max_bytes;
        u32::try_from(weight).ok().filter(|_| fits)
    }

    /// Runs a step with the key's stripe held. After that, emits the events of the displaced
    /// entries, and drops them.
    fn write<R>(&self, key: &str, work: impl FnOnce(&mut Step<'_>) -> R) -> R {
        // Declared before the stripe is taken, so it is dropped after the stripe is released: a
        // value's `Drop` may use the cache.
        let mut displaced = Displaced::default();
        let outcome = {
            let hash = self.hash(key);
            let claims = lock(self.stripe(hash));
            work(&mut Step { store: self, key, hash, claims, displaced: &mut displaced })
        };
        self.emit(displaced.iter());
        outcome
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn stripe(&self, hash: u64) -> &Mutex<Claims> {
        &self.stripes[hash as usize % STRIPES]
    }

    // ---- events

    fn emit<'a>(&self, gone: impl Iterator<Item = &'a Gone>) {
        for gone in gone.filter(|gone| gone.evicted) {
            // An entry that had expired before its eviction counts as expired, not as evicted.
            self.emit_one(
                if is_live(gone.entry.deadline) { EventKind::Evict } else { EventKind::Expire },
                &gone.key,
            );
        }
    }

    fn emit_one(&self, kind: EventKind, key: &str) {
        if !self.sinks.is_empty() {
            self.sinks.emit(&Event::new(kind, KIND).with_key(key));
        }
    }
}

#[inline]
fn is_live(deadline: u64) -> bool {
    // Even the recent clock has a cost, so it is not read for an entry that never expires.
    deadline == NEVER || deadline > clock::recent()
}

/// The deadline of an entry that is stored now; `None` if it expires at once.
fn end(lifetime: Lifetime) -> Option<u64> {
    match lifetime {
        Lifetime::Never => Some(NEVER),
        Lifetime::For(lasting) if lasting.is_zero() => None,
        // An end more than 584 years from now does not fit; the latest deadline stands for it.
        Lifetime::For(lasting) => {
            let lasting = u64::try_from(lasting.as_nanos()).unwrap_or(NEVER);
            Some(clock::now().saturating_add(lasting).min(NEVER - 1))
        }
    }
}

/// The time from now until a deadline; zero for one that is past.
fn until(deadline: u64) -> Lifetime {
    match deadline {
        NEVER => Lifetime::Never,
        deadline => Lifetime::For(Duration::from_nanos(deadline.saturating_sub(clock::now()))),
    }
}
