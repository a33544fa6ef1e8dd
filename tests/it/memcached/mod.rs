//! Tests of memcached, with real servers.

// clippy allows `unwrap` in `#[test]` functions, but not in functions that they share.
#![allow(clippy::unwrap_used)]

mod awkward;
mod clear;
mod conformance;
mod deadlines;
mod expiry;
mod keys;
mod large;
mod late;
mod order;
mod outage;
mod secrets;

use crate::support::{Memcached, Proxy};
use larder::{
    AsyncCacheAdapter, AsyncMemcachedCache, CacheValue, Expiry, MemcachedBuilder, Result,
};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A prefix that no other test uses.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The server part of a test server's URL, as the builder takes it.
fn server(of: &Memcached) -> String {
    let url = of.url();
    match url.strip_prefix("memcached+unix://") {
        Some(path) => format!("unix:{path}"),
        None => url.trim_start_matches("memcached://").to_owned(),
    }
}

/// A builder for a server, with its own prefix and long deadlines for a busy machine. Tests of
/// deadlines set their own.
fn on(of: &Memcached) -> MemcachedBuilder {
    AsyncMemcachedCache::builder().server(server(of)).prefix(prefix()).op_timeout(PATIENT)
}

/// The patience of tests, for a machine that runs all other tests at the same time.
fn patient(builder: MemcachedBuilder) -> AsyncMemcachedCache {
    builder.op_timeout(PATIENT).build().expect("a configuration")
}

/// A cache on the server that tests share, with a prefix of its own.
fn shared() -> AsyncMemcachedCache {
    patient(on(Memcached::shared()))
}

/// A builder for a server behind a proxy, with its own prefix.
fn through(proxy: &Proxy) -> MemcachedBuilder {
    AsyncMemcachedCache::builder()
        .server(proxy.addr().to_string())
        .prefix(prefix())
        .op_timeout(PATIENT)
}

const PATIENT: Duration = Duration::from_secs(60);

async fn put(cache: &AsyncMemcachedCache, key: &str, value: &str) -> Result<()> {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Default).await
}

async fn text(cache: &AsyncMemcachedCache, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// The value of a key, by which a wrong value is noticed.
fn value_of(key: &str) -> String {
    format!("value of {key}: {}", key.len() * 7919)
}

/// The duration at `share` of the sorted durations.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
