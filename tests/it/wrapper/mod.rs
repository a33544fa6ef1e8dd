//! The core, on memory: what API.md says, and what an adversary would try.

#![allow(clippy::unwrap_used, reason = "tests")]

mod at_once;
mod codec;
pub(crate) mod events;
mod faces;
mod fail_open;
mod forms;
mod globals;
#[cfg(feature = "test-util")]
mod idle;
mod leases;
mod loads;
mod many;
#[cfg(feature = "test-util")]
mod meanings;
mod namespaces;
mod observers;
pub(crate) mod order;
mod outcomes;
mod races;
mod reentrance;
#[cfg(feature = "test-util")]
mod refresh;
#[cfg(feature = "test-util")]
mod schedules;
mod single_flight;
mod size;
#[cfg(feature = "test-util")]
mod stale;
#[cfg(feature = "test-util")]
mod stampede;
mod swaps;
mod task_locals;
pub(crate) mod through;
#[cfg(feature = "test-util")]
mod timeouts;
mod turmoil;
mod walk;

use larder::testing::FaultyAdapter;
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, EventKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A cache of its own, in memory.
fn fresh() -> AsyncCacheWrapper {
    AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap()
}

/// One that keeps objects and one that keeps bytes.
fn plain_and_encoded() -> [AsyncCacheWrapper; 2] {
    [fresh(), AsyncCacheWrapper::new(AsyncMemoryCache::builder().encoded().build()).unwrap()]
}

type Faulty = Arc<FaultyAdapter<AsyncMemoryCache>>;

/// A cache over an adapter that can be made to fail, and that enforces no claims: the order of
/// loads and writes is the wrapper's.
fn faulty() -> (AsyncCacheWrapper, Faulty) {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()).without_claims());
    let cache = AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    (cache, adapter)
}

/// Two caches, as of two processes, over one adapter that enforces claims.
fn two_over_one() -> ([AsyncCacheWrapper; 2], Faulty) {
    let adapter = Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()));
    let over = |_| AsyncCacheWrapper::new(adapter.clone() as Arc<dyn AsyncCacheAdapter>).unwrap();
    ([0, 1].map(over), adapter)
}

/// Counts how often a loader runs.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Counts the events of a kind.
fn events_of(cache: &AsyncCacheWrapper, kind: EventKind) -> Runs {
    let events = Runs::default();
    let counting = events.clone();
    cache.observe(move |event| {
        if event.kind == kind {
            counting.add();
        }
    });
    events
}
