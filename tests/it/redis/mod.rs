//! redis, the real one.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

mod conformance;
mod deadlines;
mod expiry;
mod foreign;
mod handed_in;
mod hostile;
pub(crate) mod keys;
mod large;
mod order;
mod outage;
mod permissions;
mod secrets;
#[cfg(feature = "tls")]
mod tls;
mod together;
mod unwilling;

use crate::support::Redis;
use larder::{AsyncCacheAdapter, AsyncRedisCache, CacheValue, Expiry, RedisBuilder, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A prefix that no other test of this process, or of another one on the same server, has.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A builder for `server`, with a prefix of its own, and patience for a busy machine. Tests of deadlines set their own.
fn on(server: &Redis) -> RedisBuilder {
    RedisBuilder::from_url(server.url()).unwrap().prefix(prefix()).op_timeout(PATIENT)
}

/// A cache on the server that tests share, with a prefix of its own.
fn shared() -> AsyncRedisCache {
    on(Redis::shared()).build().unwrap()
}

const PATIENT: Duration = Duration::from_secs(60);

/// Whether the long forms run.
fn soak() -> bool {
    std::env::var_os("LARDER_SOAK").is_some()
}

async fn put(cache: &AsyncRedisCache, key: &str, value: &str) -> Result<()> {
    cache.set(key, CacheValue::new(value.to_owned()), Expiry::Default).await
}

async fn text(cache: &AsyncRedisCache, key: &str) -> Result<Option<String>> {
    cache.get(key).await?.map(|value| value.decode()).transpose()
}

/// The value that belongs to a key, so that a wrong one is seen.
fn value_of(key: &str) -> String {
    format!("value of {key}: {}", key.len() * 7919)
}

/// What lies at `share` of the sorted durations.
fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
