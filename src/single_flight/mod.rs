//! Single flight: one loader a key, however many wait.
//!
//! A flight is *loading*, then *storing*, then *finished* with a result, or *lost* when the loader's task went away without one.
//! The loader runs in a task of its own, so a caller may be dropped, parked or run out of patience and the work goes on.
//!
//! Two races are closed without a second read of the cache. A caller takes a [`ReadMark`] before it reads; if a flight on its key
//! finished or a write to it went by since then, its miss may be out of date and it reads again. A write to a key *invalidates* the flight on it,
//! and every flight that begins while it lasts: a load that began before a write was over is not stored after it.
//!
//! After moka's state list (computing, ready, panicked, leader gone) and the waiting-for graph of database deadlock detection.

mod cooldown;
mod guards;
mod wait_graph;

use crate::runtime::{self, lock};
use crate::{CacheValue, Error, ErrorKind, Result};
use cooldown::Cooldown;
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;
use tokio::sync::Notify;
use wait_graph::Edge;

const SHARDS: usize = 64;

/// How long a follower waits before it suspects that nobody will ever finish the flight, and takes over.
const PATIENCE: Duration = Duration::from_secs(30);

/// The same for a follower that blocks the very thread the loader runs on.
const PATIENCE_ON_OWN_THREAD: Duration = Duration::from_millis(50);

/// How deep loaders may run unshared inside one another before the cycle is an error.
const DEEPEST_UNSHARED: u32 = 32;

tokio::task_local! {
    /// The flight whose loader is running here.
    static CURRENT: Current;
}

#[derive(Clone, Copy)]
struct Current {
    flight: u64,
    depth: u32,
}

/// The flights of one slot.
pub(crate) struct Flights {
    shards: Box<[Mutex<Traffic>]>,
    hasher: RandomState,
    /// How many clears are under way; they write to every key.
    clears: AtomicUsize,
    /// The loaders that failed and are left in peace.
    throttle: Cooldown,
}

#[derive(Default)]
struct Traffic {
    flights: HashMap<Arc<str>, Arc<Flight>>,
    /// Flights that somebody gave up waiting for and that are still under way: nobody joins them, but writes invalidate them.
    detached: Vec<Arc<Flight>>,
    /// Writes under way, counted by the hash of their key; keys that share one only make a load go unstored.
    writes: ByHash<u32>,
    /// Callers that are reading, by the hash of their key. A count for all keys of a shard would not do: writes to others would
    /// make a reader of a slow backend read for ever.
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
    /// Goes up when a flight finishes and when a write begins and ends.
    changes: u64,
}

/// A caller that is reading, and what its key had seen when it began.
pub(crate) struct ReadMark<'a> {
    flights: &'a Flights,
    hash: u64,
    seen: u64,
}

/// What a caller that missed is to do.
pub(crate) enum Join {
    Lead(LeaderGuard),
    Follow(Arc<Flight>),
    /// A flight finished, or a write went by, since the mark was taken: read again.
    ReadAgain,
}

/// A write under way. Flights on its key are not stored as long as it lasts.
pub(crate) struct Write<'a> {
    flights: &'a Flights,
    hash: u64,
}

/// A clear under way.
pub(crate) struct Clear<'a>(&'a Flights);

/// One load of one key.
pub(crate) struct Flight {
    id: u64,
    key: Arc<str>,
    phase: Mutex<Phase>,
    /// Goes off when it is over.
    done: Notify,
    /// Where the loader was polled last.
    thread: Mutex<ThreadId>,
    depth: u32,
    /// Whether it was told already how the load went.
    is_told: AtomicBool,
}

#[derive(Clone)]
enum Phase {
    Loading { invalidated: bool },
    Storing { invalidated: bool },
    Finished(Result<CacheValue>),
    Lost,
}

/// What waiting for a flight came to.
pub(crate) enum Arrival {
    Finished(Result<CacheValue>),
    /// Nobody will finish it, or nobody seems to.
    Lost,
    /// It waits for the caller.
    Cycle,
}

/// The right, and the duty, to finish a flight. Dropping it loses the flight, and its followers try again.
pub(crate) struct LeaderGuard {
    flights: Arc<Flights>,
    flight: Arc<Flight>,
    end: Phase,
}

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

    /// Joins the flight on `key`, or begins one. Without a mark nothing is read again; nor is it where the caller `insists`,
    /// and then a miss that may be out of date begins a flight that is not stored.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: &str,
        mark: Option<ReadMark<'_>>,
        insists: bool,
    ) -> Join {
        let hash = self.hash(key);
        let mut traffic = lock(self.shard(hash));
        if let Some(flight) = traffic.flights.get(key) {
            return Join::Follow(flight.clone());
        }
        // The mark itself goes when the lock has gone.
        let is_outdated = mark.as_ref().is_some_and(|mark| traffic.has_changed_since(mark));
        if is_outdated && !insists {
            return Join::ReadAgain;
        }
        let flight = Flight::new(key, 0);
        if is_outdated
            || traffic.writes.contains_key(&hash)
            || self.clears.load(Ordering::SeqCst) > 0
        {
            flight.invalidate();
        }
        traffic.flights.insert(flight.key.clone(), flight.clone());
        Join::Lead(self.guard(flight))
    }

    /// A flight that nobody can join and that is not stored: the way out of a cycle of loaders.
    pub(crate) fn unshared(self: &Arc<Self>, key: &str) -> Result<LeaderGuard> {
        let depth = CURRENT.try_with(|current| current.depth).unwrap_or_default() + 1;
        if depth > DEEPEST_UNSHARED {
            return Err(Error::new(ErrorKind::Reentrant).with_key(key));
        }
        let flight = Flight::new(key, depth);
        flight.invalidate();
        Ok(self.guard(flight))
    }

    /// Takes a flight that seems stuck out of the way, so that the next to join leads.
    pub(crate) fn give_up(&self, flight: &Arc<Flight>) {
        let mut traffic = lock(self.shard(self.hash(&flight.key)));
        if traffic.flights.get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            traffic.flights.remove(&flight.key);
            traffic.detached.push(flight.clone());
        }
    }

    /// To be called before a write to `key`, and kept until it is over.
    pub(crate) async fn write(&self, key: &str) -> Write<'_> {
        let hash = self.hash(key);
        let invalidated = {
            let mut traffic = lock(self.shard(hash));
            *traffic.writes.entry(hash).or_default() += 1;
            traffic.note_change(hash);
            traffic.take(
                |flying| flying == key,
                // Nearly always: then the key need not be hashed again.
                |flights| {
                    if flights.is_empty() {
                        Vec::new()
                    } else {
                        flights.remove(key).into_iter().collect()
                    }
                },
            )
        };
        let write = Write { flights: self, hash };
        for flight in invalidated {
            flight.await_store().await;
        }
        write
    }

    /// To be called before everything that begins with `prefix` is cleared, and kept until it is over.
    pub(crate) async fn clear(&self, prefix: &str) -> Clear<'_> {
        self.clears.fetch_add(1, Ordering::SeqCst);
        let clear = Clear(self);
        for shard in &self.shards {
            let cleared = |key: &str| key.starts_with(prefix);
            let invalidated = {
                let mut traffic = lock(shard);
                traffic.note_change_of_all();
                traffic.take(cleared, |flights| {
                    flights.extract_if(|key, _| cleared(key)).map(|(_, flight)| flight).collect()
                })
            };
            for flight in invalidated {
                flight.await_store().await;
            }
        }
        clear
    }

    /// Makes sure that nothing more is stored: what is under way is invalidated, and so is whatever begins.
    pub(crate) fn invalidate_all(&self) {
        self.clears.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let traffic = lock(shard);
            for flight in traffic.flights.values().chain(&traffic.detached) {
                flight.invalidate();
            }
        }
    }

    /// The loader for `key` failed while there was something to serve in its place: it is left in peace for a while.
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

    fn detach(&self, flight: &Arc<Flight>) {
        let hash = self.hash(&flight.key);
        let mut traffic = lock(self.shard(hash));
        if traffic.flights.get(&flight.key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            traffic.flights.remove(&flight.key);
        } else {
            traffic.detached.retain(|flight| !Arc::ptr_eq(flight, flight));
        }
        // Under the lock, so that whoever finds no flight here also sees that one has finished.
        traffic.note_change(hash);
    }

    fn guard(self: &Arc<Self>, flight: Arc<Flight>) -> LeaderGuard {
        LeaderGuard { flights: self.clone(), flight, end: Phase::Lost }
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
    /// Takes out the flights that a write invalidates: those that `taken` takes out of the map, and the detached on such keys.
    fn take(
        &mut self,
        invalidates: impl Fn(&str) -> bool,
        taken: impl FnOnce(&mut HashMap<Arc<str>, Arc<Flight>>) -> Vec<Arc<Flight>>,
    ) -> Vec<Arc<Flight>> {
        let mut flights = taken(&mut self.flights);
        flights.extend(self.detached.extract_if(.., |flight| invalidates(&flight.key)));
        flights
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

impl Flight {
    fn new(key: &str, depth: u32) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            key: key.into(),
            phase: Mutex::new(Phase::Loading { invalidated: false }),
            done: Notify::new(),
            thread: Mutex::new(thread::current().id()),
            depth,
            is_told: AtomicBool::new(false),
        })
    }

    /// Whether it is still to be told how the load went: a load that runs out of its caller's time has failed, whatever it comes to.
    pub(crate) fn is_untold(&self) -> bool {
        !self.is_told.swap(true, Ordering::Relaxed)
    }

    /// Waits for the result, within the patience of someone else's follower. Cancel safe.
    pub(crate) async fn arrival(&self) -> Arrival {
        let mut waited = Duration::ZERO;
        while waited < PATIENCE {
            // Only a blocking follower can stand on the loader's own thread, and only it pays for looking.
            let patience = if runtime::is_blocked() { PATIENCE_ON_OWN_THREAD } else { PATIENCE };
            match runtime::timeout(patience, self.landing()).await {
                Some(arrival) => return arrival,
                None if runtime::is_blocked() && *lock(&self.thread) == thread::current().id() => {
                    break;
                }
                None => waited += patience,
            }
        }
        Arrival::Lost
    }

    /// Waits for the result as long as it takes, as the one whose loader it is. Cancel safe.
    ///
    /// That the caller waits is known as soon as this is called: were it only when it is polled, a loader that is quick to ask
    /// back would close the circle first, and it would be the leader who finds it.
    pub(crate) fn landing(&self) -> impl Future<Output = Arrival> + Send {
        let edge = Edge::add(CURRENT.try_with(|current| current.flight).ok(), self.id);
        async move {
            let Some(_edge) = edge else {
                return Arrival::Cycle;
            };
            // Nobody can wait there.
            if runtime::is_gone() && !lock(&self.phase).is_over() {
                return Arrival::Lost;
            }
            self.over().await
        }
    }

    async fn over(&self) -> Arrival {
        loop {
            let mut rung = pin!(self.done.notified());
            // Before the look: what rings in between is heard.
            rung.as_mut().enable();
            match &*lock(&self.phase) {
                Phase::Finished(result) => return Arrival::Finished(result.clone()),
                Phase::Lost => return Arrival::Lost,
                Phase::Loading { .. } | Phase::Storing { .. } => {}
            }
            rung.await;
        }
    }

    /// Lets a write by. A store that is on its way finishes first, or it would land after the write.
    async fn await_store(&self) {
        if !self.invalidate() || runtime::is_gone() {
            return;
        }
        let patience = if runtime::is_blocked() { PATIENCE_ON_OWN_THREAD } else { PATIENCE };
        // Should it be late, it is no harm: an invalidated store takes itself back.
        let _late = runtime::timeout(patience, self.over()).await;
    }

    /// Marks it as invalidated by a write; whether its store has begun.
    fn invalidate(&self) -> bool {
        match &mut *lock(&self.phase) {
            Phase::Loading { invalidated } => {
                *invalidated = true;
                false
            }
            Phase::Storing { invalidated } => {
                *invalidated = true;
                true
            }
            Phase::Finished(_) | Phase::Lost => false,
        }
    }

    fn end(&self, end: Phase) {
        let mut phase = lock(&self.phase);
        if !phase.is_over() {
            *phase = end;
            drop(phase);
            self.done.notify_waiters();
        }
    }
}

impl Phase {
    fn is_over(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Lost)
    }
}

impl LeaderGuard {
    pub(crate) fn flight(&self) -> &Arc<Flight> {
        &self.flight
    }

    /// Runs a loader's future as the loader of this flight.
    pub(crate) async fn run<F: Future>(&self, loader: F) -> F::Output {
        let mut loader = pin!(loader);
        let polled = poll_fn(|cx| {
            *lock(&self.flight.thread) = thread::current().id();
            loader.as_mut().poll(cx)
        });
        CURRENT.scope(self.current(), polled).await
    }

    /// Runs a loader's closure as the loader of this flight.
    pub(crate) fn run_now<R>(&self, loader: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self.current(), loader)
    }

    /// Whether the value may be stored: no write came since the flight began.
    pub(crate) fn begin_store(&self) -> bool {
        let mut phase = lock(&self.flight.phase);
        let free = matches!(*phase, Phase::Loading { invalidated: false });
        if free {
            *phase = Phase::Storing { invalidated: false };
        }
        free
    }

    /// Whether the value is not to be stored, whatever it is.
    pub(crate) fn is_invalidated(&self) -> bool {
        matches!(*lock(&self.flight.phase), Phase::Loading { invalidated: true })
    }

    /// Whether a write came while the value was being stored.
    pub(crate) fn was_invalidated(&self) -> bool {
        matches!(*lock(&self.flight.phase), Phase::Storing { invalidated: true })
    }

    /// Gives everybody the result.
    pub(crate) fn finish(mut self, result: Result<CacheValue>) {
        self.end = Phase::Finished(result);
    }

    fn current(&self) -> Current {
        Current { flight: self.flight.id, depth: self.flight.depth }
    }
}

impl Drop for LeaderGuard {
    fn drop(&mut self) {
        // In this order: whoever hears of the end must not find the flight.
        self.flights.detach(&self.flight);
        self.flight.end(std::mem::replace(&mut self.end, Phase::Lost));
    }
}
