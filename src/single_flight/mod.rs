//! Single flight (request coalescing): one loader a key, however many wait.
//!
//! A flight is *loading*, then *storing*, then *finished* with an outcome, or *lost* when the
//! loader's task went away without one. The loader runs in a task of its own, so a caller may be
//! dropped, parked or run out of patience and the work goes on.
//!
//! Two races are closed without a second read of the cache. A caller takes a [`ReadMark`] before it
//! reads; if a flight on its key finished or a write to it went by since then, its miss may be out of
//! date and it reads again. A write to a key *invalidates* the flights on it, and every flight that
//! begins while it lasts: a load that began before a write was over is not stored after it. Flights
//! of a key are ordered by when they began, and a newer one invalidates the older ones likewise.
//!
//! Flights are invalidated under the lock of their shard. Only waiting for a store that has begun
//! happens outside, so a write that is dropped there, or that fails, has invalidated all the same.
//!
//! After moka's state list (computing, ready, panicked, leader gone) and the waiting-for graph of
//! database deadlock detection.

mod cooldown;
mod current;
mod flight;
mod guards;
mod leader;
mod wait_graph;

pub(crate) use current::is_in_loader;
pub(crate) use flight::{Arrival, Flight, Outcome};
pub(crate) use leader::LeaderGuard;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::lock;
use cooldown::Cooldown;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SHARDS: usize = 64;

/// How long a forced refresh lets the load before it end: all that are asked for meanwhile are one.
const GRACE: Duration = Duration::from_millis(50);

/// How deep loaders may run unshared inside one another before the cycle is an error.
const DEEPEST_UNSHARED: u32 = 32;

/// The flights of one slot.
pub(crate) struct Flights {
    shards: Box<[Mutex<Traffic>]>,
    hasher: RandomState,
    /// How many clears are in progress; they write to every key.
    clears: AtomicUsize,
    /// The loaders that failed and are not called again for a while.
    throttle: Cooldown,
}

#[derive(Default)]
struct Traffic {
    flights: HashMap<Arc<str>, Arc<Flight>>,
    /// Flights that nobody can join any more and that have not ended: a write invalidated them, or
    /// a newer load of their key began. They stay here so that the next write finds them, too.
    detached: HashMap<Arc<str>, Vec<Arc<Flight>>>,
    /// Writes in progress, counted by the hash of their key; keys that share one only make a load
    /// go unstored.
    writes: ByHash<u32>,
    /// Callers that are reading, by the hash of their key. A count for all keys of a shard would
    /// not do: writes to others would make a reader of a slow backend read for ever.
    readers: ByHash<Readers>,
}

type ByHash<V> = HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// Of a number that is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Default)]
struct Readers {
    count: u32,
    /// Goes up when a flight ends and when a write begins and ends.
    changes: u64,
}

/// A caller that is reading, and what its key had seen when it began.
pub(crate) struct ReadMark<'a> {
    flights: &'a Flights,
    hash: u64,
    seen: u64,
}

/// A caller that accepts only what began after it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forced {
    /// Its place in the order of flights.
    came: u64,
    /// Whether it has let the load before it end for [`GRACE`].
    pub(crate) has_waited: bool,
}

impl Forced {
    /// Of a caller that comes now.
    pub(crate) fn now() -> Self {
        Self { came: flight::next_id(), has_waited: false }
    }
}

/// How a caller joins.
#[derive(Default)]
pub(crate) struct Joining<'a> {
    /// Without a mark nothing is read again.
    pub(crate) mark: Option<ReadMark<'a>>,
    /// Not to be told to read again: a miss that may be out of date begins a flight that is not
    /// stored.
    pub(crate) insists: bool,
    pub(crate) forced: Option<Forced>,
}

/// What a caller that missed is to do.
pub(crate) enum Join {
    Lead(LeaderGuard),
    Follow(Arc<Flight>),
    /// A flight ended, or a write went by, since the mark was taken: read again.
    ReadAgain,
    /// The flight began before the caller came: let it end, no longer than the limit, and join
    /// again.
    LetEnd(Arc<Flight>, Option<Duration>),
}

/// A write in progress. Flights on its key are not stored as long as it lasts.
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

    /// To be taken before `key` is read.
    pub(crate) fn read_mark(&self, key: &str) -> ReadMark<'_> {
        let hash = self.hash(key);
        let mut traffic = lock(self.shard(hash));
        let readers = traffic.readers.entry(hash).or_default();
        readers.count += 1;
        ReadMark { flights: self, hash, seen: readers.changes }
    }

    /// Joins the flight on `key`, or begins one.
    pub(crate) fn join(self: &Arc<Self>, key: &str, joining: Joining<'_>) -> Join {
        let hash = self.hash(key);
        let mut traffic = lock(self.shard(hash));
        if let Some(flight) = traffic.flights.get(key) {
            match joining.forced {
                Some(forced) if flight.began_before(forced.came) => {
                    let flight = flight.clone();
                    flight.supersede();
                    let runs_beside = traffic.detached.contains_key(key);
                    if runs_beside || !forced.has_waited {
                        return Join::LetEnd(flight, (!runs_beside).then_some(GRACE));
                    }
                    traffic.detach(key);
                }
                _ => return Join::Follow(flight.clone()),
            }
        }
        // The mark itself goes when the lock has gone.
        let is_outdated = joining.mark.as_ref().is_some_and(|mark| traffic.has_changed_since(mark));
        if is_outdated && !joining.insists {
            return Join::ReadAgain;
        }
        let flight = Flight::new(key, 0);
        if is_outdated
            || traffic.writes.contains_key(&hash)
            || self.clears.load(Ordering::SeqCst) > 0
        {
            flight.invalidate();
        }
        // The newest load of a key is the one that is stored.
        traffic.detached.get(key).into_iter().flatten().for_each(|older| older.supersede());
        traffic.flights.insert(flight.key().clone(), flight.clone());
        Join::Lead(LeaderGuard::new(self, flight))
    }

    /// A flight that nobody can join and that is not stored: the way out of a cycle of loaders.
    pub(crate) fn unshared(self: &Arc<Self>, key: &str) -> Result<LeaderGuard> {
        let depth = current::current_depth() + 1;
        if depth > DEEPEST_UNSHARED {
            return Err(Error::new(ErrorKind::Reentrant).with_key(key));
        }
        let flight = Flight::new(key, depth);
        flight.invalidate();
        Ok(LeaderGuard::new(self, flight))
    }

    /// Takes a flight that nobody works at out of the way, so that the next to join leads.
    pub(crate) fn give_up(&self, flight: &Arc<Flight>) {
        let mut traffic = lock(self.shard(self.hash(flight.key())));
        if traffic.is_joinable(flight) {
            traffic.detach(flight.key());
        }
    }

    /// To be called before a write to `key`, and kept until it is over.
    pub(crate) async fn write(&self, key: &str) -> Write<'_> {
        let (write, storing) = self.begin_write(key);
        flight::await_stores(storing).await;
        write
    }

    /// [`write`](Self::write) for a write to several keys.
    pub(crate) async fn writes(&self, keys: &[&str]) -> Vec<Write<'_>> {
        let (writes, storing): (Vec<_>, Vec<_>) =
            keys.iter().map(|key| self.begin_write(key)).unzip();
        flight::await_stores(storing.into_iter().flatten().collect()).await;
        writes
    }

    /// The write, and the flights whose stores have to be waited for: they would land after it.
    fn begin_write(&self, key: &str) -> (Write<'_>, Vec<Arc<Flight>>) {
        let hash = self.hash(key);
        let mut traffic = lock(self.shard(hash));
        *traffic.writes.entry(hash).or_default() += 1;
        traffic.note_change(hash);
        (Write { flights: self, hash }, traffic.invalidate(key))
    }

    /// To be called before everything that begins with `prefix` is cleared, and kept until it is
    /// over.
    pub(crate) async fn clear(&self, prefix: &str) -> Clear<'_> {
        self.clears.fetch_add(1, Ordering::SeqCst);
        let clear = Clear(self);
        let mut storing = Vec::new();
        // All shards before the first await: a clear that is dropped there has invalidated all.
        for shard in &self.shards {
            let mut traffic = lock(shard);
            traffic.note_change_of_all();
            storing.extend(traffic.invalidate_prefix(prefix));
        }
        flight::await_stores(storing).await;
        clear
    }

    /// Makes sure that nothing more is stored: what is in flight is invalidated, and so is whatever
    /// begins.
    pub(crate) fn invalidate_all(&self) {
        self.clears.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let traffic = lock(shard);
            for flight in traffic.flights.values().chain(traffic.detached.values().flatten()) {
                flight.invalidate();
            }
        }
    }

    /// The loader for `key` failed while there was something to serve in its place: it is not called
    /// again for a while.
    pub(crate) fn throttle(&self, key: &str, lasting: Duration) {
        self.throttle.add(self.hash(key), lasting);
    }

    /// The loader for `key` works again.
    pub(crate) fn unthrottle(&self, key: &str) {
        self.throttle.remove(self.hash(key));
    }

    pub(crate) fn is_throttled(&self, key: &str) -> bool {
        self.throttle.holds(self.hash(key))
    }

    /// The flights on the same key that began before `flight` and are being stored.
    fn stores_before(&self, flight: &Flight) -> Vec<Arc<Flight>> {
        let traffic = lock(self.shard(self.hash(flight.key())));
        let detached = traffic.detached.get(flight.key()).into_iter().flatten();
        detached.filter(|other| other.stores_before(flight)).cloned().collect()
    }

    /// Forgets a flight that has ended.
    fn remove(&self, flight: &Arc<Flight>) {
        let hash = self.hash(flight.key());
        let mut traffic = lock(self.shard(hash));
        if traffic.is_joinable(flight) {
            traffic.flights.remove(flight.key());
        } else if let Some(detached) = traffic.detached.get_mut(flight.key()) {
            detached.retain(|other| !Arc::ptr_eq(other, flight));
            if detached.is_empty() {
                traffic.detached.remove(flight.key());
            }
        }
        // Under the lock, so that whoever finds no flight here also sees that one has ended.
        traffic.note_change(hash);
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &Mutex<Traffic> {
        // Not by the bits that a map looks at.
        &self.shards[(hash >> 32) as usize % SHARDS]
    }
}

impl Traffic {
    fn is_joinable(&self, flight: &Arc<Flight>) -> bool {
        self.flights.get(flight.key()).is_some_and(|current| Arc::ptr_eq(current, flight))
    }

    /// Nobody joins the flight on `key` any more.
    fn detach(&mut self, key: &str) {
        if let Some((key, flight)) = self.flights.remove_entry(key) {
            self.detached.entry(key).or_default().push(flight);
        }
    }

    /// Invalidates the flights on a key; those that are being stored.
    fn invalidate(&mut self, key: &str) -> Vec<Arc<Flight>> {
        // Nearly always empty: then the key need not be hashed again.
        if !self.flights.is_empty() {
            self.detach(key);
        }
        if self.detached.is_empty() {
            return Vec::new();
        }
        let flights = self.detached.get(key).into_iter().flatten();
        flights.filter(|flight| flight.invalidate()).cloned().collect()
    }

    /// [`invalidate`](Self::invalidate) for all keys with a prefix.
    fn invalidate_prefix(&mut self, prefix: &str) -> Vec<Arc<Flight>> {
        let cleared = |key: &str| key.starts_with(prefix);
        for (key, flight) in self.flights.extract_if(|key, _| cleared(key)) {
            self.detached.entry(key).or_default().push(flight);
        }
        let flights = self.detached.iter().filter(|(key, _)| cleared(key)).flat_map(|(_, all)| all);
        flights.filter(|flight| flight.invalidate()).cloned().collect()
    }

    fn note_change(&mut self, hash: u64) {
        if let Some(readers) = self.readers.get_mut(&hash) {
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
