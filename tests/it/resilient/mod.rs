//! A layer around an adapter that may be away.

#![allow(clippy::unwrap_used, reason = "tests")]

#[cfg(feature = "test-util")]
mod breaker;
mod conformance;
#[cfg(feature = "test-util")]
mod fail_open;
#[cfg(feature = "test-util")]
mod in_flight;
#[cfg(all(feature = "redis", feature = "memcached"))]
mod outage;
#[cfg(feature = "test-util")]
mod recovery;
#[cfg(feature = "test-util")]
mod refused;
#[cfg(all(feature = "redis", feature = "memcached", feature = "sqlite"))]
mod replaced;
#[cfg(feature = "test-util")]
mod retry;
mod scheduling;

use larder::layers::{BreakerState, Resilient, ResilientBuilder};
use larder::testing::{Fault, FaultyAdapter};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, ErrorKind, EventKind,
    Expiry, Result,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

type Store = Arc<FaultyAdapter<AsyncMemoryCache>>;

const AWAY: Fault = Fault::Fail(ErrorKind::Unavailable);

fn store() -> Store {
    Arc::new(FaultyAdapter::new(AsyncMemoryCache::new()).without_claims())
}

/// A layer, and the store in it.
fn around(
    set: impl FnOnce(ResilientBuilder<Store>) -> ResilientBuilder<Store>,
) -> (Resilient<Store>, Store) {
    let store = store();
    (set(Resilient::builder(store.clone())).build(), store)
}

async fn put(cache: &impl AsyncCacheAdapter, key: &str, value: &str) -> Result<()> {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Never).await
}

async fn text(cache: &impl AsyncCacheAdapter, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// Calls until the breaker is open.
async fn break_it(cache: &Resilient<Store>) {
    for _ in 0..100 {
        if cache.breaker_state() != BreakerState::Closed {
            return;
        }
        assert!(cache.get("probe").await.is_err());
    }
    panic!("the breaker does not open");
}

/// By the paused clock, which goes on by itself while everybody waits.
async fn until(what: &str, condition: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    begun.elapsed()
}

/// Notes the events of a wrapper.
fn events(cache: &AsyncCacheWrapper) -> Arc<Mutex<Vec<EventKind>>> {
    let events: Arc<Mutex<Vec<EventKind>>> = Arc::default();
    let seen = events.clone();
    cache.observe(move |event| seen.lock().unwrap().push(event.kind));
    events
}

fn count(events: &Mutex<Vec<EventKind>>, kind: EventKind) -> usize {
    events.lock().unwrap().iter().filter(|seen| **seen == kind).count()
}
