//! Single flight (request coalescing): one loader per key, for any number of callers.
//!
//! A flight is *loading*, then *storing*, then *finished* with an outcome, or *lost* when the
//! loader's task went away without one. The loader runs in a task of its own, so a caller may be
//! dropped, parked or time out, and the load goes on.
//!
//! Two races are closed without a second read of the cache. First, a caller takes a [`ReadMark`]
//! before it reads. If a flight on the key finished, or a write to the key happened, after the mark
//! was taken, the miss may be outdated and the caller reads again. Second, a write to a key
//! *invalidates* the flights on the key, and every flight that begins during the write: a load that
//! began before the end of a write is not stored after it. Flights of a key are numbered in the
//! order in which they began, and a newer flight invalidates the older ones.
//!
//! Flights are invalidated under the lock of their shard. The wait for a store that has already
//! begun happens outside the lock, so a write that is dropped or fails there has still invalidated
//! the flights.
//!
//! The states follow moka (computing, ready, panicked, leader gone); cycles are found by the
//! wait-for graph of database deadlock detection.

mod carrier;
mod cooldown;
mod current;
mod flight;
mod guards;
mod hashed_key;
mod joint;
mod leader;
mod wait_graph;

pub(crate) use current::is_in_loader;
pub(crate) use flight::{Arrival, Flight, Outcome};
pub(crate) use hashed_key::HashedKey;
pub(crate) use joint::JointLoad;
pub(crate) use leader::LeaderGuard;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::lock;
use cooldown::Cooldown;
use hashbrown::HashTable;
use hashed_key::Hashed;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHARDS: usize = 64;

/// How long a forced refresh waits for the load before it. All refreshes requested during the wait
/// share one load.
const GRACE: Duration = Duration::from_millis(50);

/// How deep unshared loaders may be nested before the cycle is an error.
const DEEPEST_UNSHARED: u32 = 32;

/// The flights of one slot, in shards by the hash of the key.
pub(crate) struct Flights {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// How many clears are in progress; they write to every key.
    clears: AtomicUsize,
    /// The loaders that failed and are not called again for a while.
    throttle: Cooldown,
}

#[derive(Default)]
struct Shard {
    flights: HashTable<Arc<Flight>>,
    /// Flights that have not ended but can no longer be joined: a write invalidated them, or a
    /// newer load of the key began. They stay here so that the next write finds them as well.
    detached: HashTable<Arc<Flight>>,
    /// The number of writes in progress, by the hash of the key. If two keys have the same hash, at
    /// worst a load is not stored.
    writes: ByHash<u32>,
    /// The callers that are reading, by the hash of the key. With one counter for all keys of a
    /// shard, writes to other keys would make the reader of a slow backend read again without end.
    readers: ByHash<Readers>,
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

#[derive(Default)]
struct Readers {
    count: u32,
    /// Increases when a flight ends, and when a write begins and ends.
    changes: u64,
}

/// A caller that is reading, with the value of [`changes`](Readers::changes) when it began.
pub(crate) struct ReadMark<'a> {
    flights: &'a Flights,
    hash: u64,
    seen: u64,
}

/// A caller that accepts only a load that began after the call did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forced {
    /// The call's position in the order of flights.
    came: u64,
    /// Whether the call has already waited [`GRACE`] for the load before it.
    pub(crate) has_waited: bool,
}

impl Forced {
    /// A forced refresh that begins now.
    pub(crate) fn now() -> Self {
        Self { came: flight::next_id(), has_waited: false }
    }
}

/// How a caller joins.
#[derive(Default)]
pub(crate) struct Joining<'a> {
    /// Without a mark the caller never reads again.
    pub(crate) mark: Option<ReadMark<'a>>,
    /// The caller does not read again: a miss that may be outdated begins a flight that is not
    /// stored.
    pub(crate) insists: bool,
    pub(crate) forced: Option<Forced>,
    /// A load that the caller begins ends when the caller leaves.
    pub(crate) is_carried: bool,
}

/// What a caller does after a miss.
pub(crate) enum Join {
    Lead(LeaderGuard),
    Follow(Arc<Flight>),
    /// A flight ended, or a write happened, after the mark was taken: read again.
    ReadAgain,
    /// The flight began before the call did: wait for its end, at most for the limit, and join
    /// again.
    LetEnd(Arc<Flight>, Option<Duration>),
}

/// A write in progress. Flights on the key are not stored while it lasts.
pub(crate) struct Write<'a> {
    flights: &'a Flights,
    hash: u64,
}

/// A clear in progress.
pub(crate) struct Clear<'a>(&'a Flights);

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Arc::new(Self {
            shards,
            hasher: RandomState::new(),
            clears: AtomicUsize::new(0),
            throttle: Cooldown::new(),
        })
    }

    /// A key with its hash in these flights.
    pub(crate) fn hashed<'k>(&self, key: &'k str) -> HashedKey<'k> {
        HashedKey { hash: self.hasher.hash_one(key), text: key }
    }

    /// Takes a mark. Must be called before `key` is read.
    pub(crate) fn read_mark(&self, key: HashedKey<'_>) -> ReadMark<'_> {
        let hash = key.hash;
        let mut shard = lock(self.shard(hash));
        let readers = shard.readers.entry(hash).or_default();
        readers.count += 1;
        ReadMark { flights: self, hash, seen: readers.changes }
    }

    /// Joins the flight on `key`, or begins a new one.
    pub(crate) fn join(self: &Arc<Self>, key: HashedKey<'_>, joining: Joining<'_>) -> Join {
        let mut shard = lock(self.shard(key.hash));
        if let Some(flight) = shard.joinable(key) {
            match joining.forced {
                Some(forced) if flight.began_before(forced.came) => {
                    let flight = flight.clone();
                    // A load that waits for this caller's own goes on after it: no other load
                    // stores a value, because the caller's is unshared.
                    if !flight.waits_for_caller() {
                        flight.supersede();
                    }
                    let runs_beside = shard.detached_on(key).next().is_some();
                    if runs_beside || !forced.has_waited {
                        return Join::LetEnd(flight, (!runs_beside).then_some(GRACE));
                    }
                    shard.detach(key);
                }
                _ => return Join::Follow(flight.clone()),
            }
        }
        // `joining` keeps the mark alive until the lock is released: its `Drop` takes the same
        // lock.
        let is_outdated = joining.mark.as_ref().is_some_and(|mark| shard.has_changed_since(mark));
        if is_outdated && !joining.insists {
            return Join::ReadAgain;
        }
        let flight = Flight::new(key, 0, joining.is_carried);
        if is_outdated || self.is_written(&shard, key) {
            flight.invalidate();
        }
        // The newest load of a key is stored; older loads that are still running are not.
        shard.detached_on(key).for_each(|older| older.supersede());
        shard.add(&flight);
        Join::Lead(LeaderGuard::new(self, flight))
    }

    /// Begins a flight on a key that has none, and that nobody writes; otherwise `None`. The caller
    /// has to read the key after this.
    pub(crate) fn lead_alone(self: &Arc<Self>, key: HashedKey<'_>) -> Option<LeaderGuard> {
        let mut shard = lock(self.shard(key.hash));
        let is_alone = shard.joinable(key).is_none()
            && shard.detached_on(key).next().is_none()
            && !self.is_written(&shard, key);
        if !is_alone {
            return None;
        }
        let flight = Flight::new(key, 0, false);
        shard.add(&flight);
        Some(LeaderGuard::new(self, flight))
    }

    /// Whether a write to the key, or a clear, is in progress.
    fn is_written(&self, shard: &Shard, key: HashedKey<'_>) -> bool {
        (!shard.writes.is_empty() && shard.writes.contains_key(&key.hash))
            || self.clears.load(Ordering::SeqCst) > 0
    }

    /// Whether a caller that joined now would follow a flight.
    pub(crate) fn has_flight(&self, key: HashedKey<'_>) -> bool {
        lock(self.shard(key.hash)).joinable(key).is_some()
    }

    /// Whether a load of the key that nobody can join any more waits for this call: a loader has
    /// removed or written its own key, and asks for it.
    pub(crate) fn waits_for_caller(&self, key: HashedKey<'_>) -> bool {
        lock(self.shard(key.hash)).detached_on(key).any(|flight| flight.waits_for_caller())
    }

    /// A flight that no caller can join and whose value is not stored: the way out of a cycle of
    /// loaders.
    pub(crate) fn unshared(self: &Arc<Self>, key: HashedKey<'_>) -> Result<LeaderGuard> {
        let depth = current::current_depth() + 1;
        if depth > DEEPEST_UNSHARED {
            return Err(Error::new(ErrorKind::Reentrant).with_key(key.text));
        }
        let flight = Flight::new(key, depth, false);
        flight.invalidate();
        Ok(LeaderGuard::new(self, flight))
    }

    /// Detaches a flight whose runtime has stopped, so that the next caller to join becomes the
    /// leader.
    pub(crate) fn give_up(&self, flight: &Arc<Flight>) {
        let mut shard = lock(self.shard(flight.key().hash));
        if shard.is_joinable(flight) {
            shard.detach(flight.key());
        }
    }

    /// Begins a write to `key`. Call this before the write, and keep the result until the write has
    /// ended.
    pub(crate) async fn write(&self, key: &str) -> Write<'_> {
        let (write, storing) = self.begin_write(self.hashed(key));
        if !storing.is_empty() {
            // Boxed: the future of the wait is larger than all else that a write needs.
            Box::pin(flight::await_stores(storing)).await;
        }
        write
    }

    /// [`write`](Self::write) for a write to several keys.
    pub(crate) async fn writes(&self, keys: &[&str]) -> Vec<Write<'_>> {
        let (writes, storing): (Vec<_>, Vec<_>) =
            keys.iter().map(|key| self.begin_write(self.hashed(key))).unzip();
        let storing: Vec<_> = storing.into_iter().flatten().collect();
        if !storing.is_empty() {
            Box::pin(flight::await_stores(storing)).await;
        }
        writes
    }

    /// Returns the write, and the flights that are being stored. The write has to wait for these,
    /// because their stores could reach the backend after it.
    fn begin_write(&self, key: HashedKey<'_>) -> (Write<'_>, Vec<Arc<Flight>>) {
        let hash = key.hash;
        let mut shard = lock(self.shard(hash));
        *shard.writes.entry(hash).or_default() += 1;
        shard.note_change(hash);
        (Write { flights: self, hash }, shard.invalidate(key))
    }

    /// Begins a clear of all keys with `prefix`. Call this before the clear, and keep the result
    /// until the clear has ended.
    pub(crate) async fn clear(&self, prefix: &str) -> Clear<'_> {
        self.clears.fetch_add(1, Ordering::SeqCst);
        let clear = Clear(self);
        let mut storing = Vec::new();
        // Invalidate all shards before the first await. A clear that is dropped while it waits may
        // still reach the backend, and every load that raced with it has to be invalidated by then.
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.note_change_of_all();
            storing.extend(shard.invalidate_prefix(prefix));
        }
        flight::await_stores(storing).await;
        clear
    }

    /// Detaches the flights whose values are stored with one of these tags, which were removed: a
    /// caller that comes now must not follow a load that began before the removal. Their values are
    /// not stored any more; one whose store has begun is dead in the store.
    pub(crate) fn detach_tagged(&self, records: &[&str]) {
        for shard in &self.shards {
            lock(shard).detach_tagged(records);
        }
    }

    /// Stops all stores: invalidates the flights in progress, and every flight that begins later.
    pub(crate) fn invalidate_all(&self) {
        self.clears.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let shard = lock(shard);
            for flight in shard.flights.iter().chain(&shard.detached) {
                flight.invalidate();
            }
        }
    }

    /// Starts the cooldown of the loader for `key`, which failed while a stale value could be
    /// served.
    pub(crate) fn throttle(&self, key: HashedKey<'_>, lasting: Duration) {
        self.throttle.add(key.hash, lasting);
    }

    /// Ends the cooldown: the loader for `key` works again.
    pub(crate) fn unthrottle(&self, key: HashedKey<'_>) {
        self.throttle.remove(key.hash);
    }

    pub(crate) fn is_throttled(&self, key: HashedKey<'_>) -> bool {
        self.throttle.holds(key.hash)
    }

    /// The flights on the same key that began before `flight` and are being stored.
    fn stores_before(&self, flight: &Flight) -> Vec<Arc<Flight>> {
        let shard = lock(self.shard(flight.key().hash));
        let detached = shard.detached_on(flight.key());
        detached.filter(|other| other.stores_before(flight)).cloned().collect()
    }

    /// Forgets a flight that has ended.
    fn remove(&self, flight: &Arc<Flight>) {
        let hash = flight.key().hash;
        let mut shard = lock(self.shard(hash));
        shard.remove(flight);
        // Note the change under the same lock. A caller that joins now and finds no flight must see
        // that its mark is outdated; otherwise it would load a second time.
        shard.note_change(hash);
    }

    fn shard(&self, hash: u64) -> &Mutex<Shard> {
        // The map in the shard uses the low bits of the hash, so the high bits choose the shard.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Shard {
    /// The flight that a caller of this key joins.
    fn joinable(&self, key: HashedKey<'_>) -> Option<&Arc<Flight>> {
        self.flights.find(key.hash, |flight| flight.is_on(key))
    }

    fn is_joinable(&self, flight: &Arc<Flight>) -> bool {
        self.joinable(flight.key()).is_some_and(|current| Arc::ptr_eq(current, flight))
    }

    fn detached_on<'s>(&'s self, key: HashedKey<'s>) -> impl Iterator<Item = &'s Arc<Flight>> {
        self.detached.iter_hash(key.hash).filter(move |flight| flight.is_on(key))
    }

    /// Adds a flight that callers can join.
    fn add(&mut self, flight: &Arc<Flight>) {
        self.flights.insert_unique(flight.key().hash, flight.clone(), |other| other.key().hash);
    }

    fn add_detached(&mut self, flight: Arc<Flight>) {
        self.detached.insert_unique(flight.key().hash, flight, |other| other.key().hash);
    }

    /// Moves the flight on `key` to the detached ones: no caller joins it any more.
    fn detach(&mut self, key: HashedKey<'_>) {
        if let Ok(found) = self.flights.find_entry(key.hash, |flight| flight.is_on(key)) {
            let (flight, _) = found.remove();
            self.add_detached(flight);
        }
    }

    fn remove(&mut self, flight: &Arc<Flight>) {
        for flights in [&mut self.flights, &mut self.detached] {
            let is_it = |other: &Arc<Flight>| Arc::ptr_eq(other, flight);
            if let Ok(found) = flights.find_entry(flight.key().hash, is_it) {
                found.remove();
                return;
            }
        }
    }

    /// Invalidates the flights on a key, and returns those that are being stored.
    fn invalidate(&mut self, key: HashedKey<'_>) -> Vec<Arc<Flight>> {
        // Usually both are empty.
        if !self.flights.is_empty() {
            self.detach(key);
        }
        if self.detached.is_empty() {
            return Vec::new();
        }
        self.detached_on(key).filter(|flight| flight.invalidate()).cloned().collect()
    }

    /// [`invalidate`](Self::invalidate) for all keys with a prefix.
    fn invalidate_prefix(&mut self, prefix: &str) -> Vec<Arc<Flight>> {
        let is_cleared = |flight: &Arc<Flight>| flight.key().text.starts_with(prefix);
        let cleared: Vec<_> = self.flights.extract_if(|flight| is_cleared(flight)).collect();
        cleared.into_iter().for_each(|flight| self.add_detached(flight));
        let flights = self.detached.iter().filter(|flight| is_cleared(flight));
        flights.filter(|flight| flight.invalidate()).cloned().collect()
    }

    /// Detaches and supersedes the flights with one of these tags.
    fn detach_tagged(&mut self, records: &[&str]) {
        let tagged: Vec<_> = self.flights.extract_if(|flight| flight.has_record(records)).collect();
        for flight in tagged {
            flight.supersede();
            self.add_detached(flight);
        }
    }

    fn note_change(&mut self, hash: u64) {
        if !self.readers.is_empty()
            && let Some(readers) = self.readers.get_mut(&hash)
        {
            readers.changes += 1;
        }
    }

    fn note_change_of_all(&mut self) {
        self.readers.values_mut().for_each(|readers| readers.changes += 1);
    }

    fn has_changed_since(&self, mark: &ReadMark<'_>) -> bool {
        self.readers.get(&mark.hash).is_none_or(|readers| readers.changes != mark.seen)
    }
}
