//! Real servers, and faults between them and the library.
//!
//! Everything here blocks briefly and needs no runtime, so it can be called from any test,
//! synchronous or not. Servers run on free loopback ports, in a temporary directory of their own,
//! and never outlive the test process.

// The features that the tests are built with decide which of these are used.
#![allow(dead_code, unused_imports)]

pub(crate) mod alone;
pub(crate) mod hostile;
pub(crate) mod memcached;
pub(crate) mod noise;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod turns;
pub(crate) mod values;
pub(crate) mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use memcached::Memcached;
pub(crate) use proxy::Proxy;
pub(crate) use redis::Redis;

/// Asks `condition` again and again; panics when it does not hold within `limit`.
pub(crate) fn wait_until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(holds_within(limit, condition), "not within {limit:?}: {what}");
}

/// Whether `condition` comes to hold within `limit`; asks at least once.
pub(crate) fn holds_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// [`wait_until`] for asynchronous tests: other tasks of the runtime go on in between.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> F,
) {
    let end = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Locks although a test that panicked held it: what these locks guard is whole between any two
/// statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
