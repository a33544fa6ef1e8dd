//! redis, the real one.

// clippy allows it in `#[test]`s, and not in the functions that they share.
#![allow(clippy::unwrap_used)]

#[cfg(all(feature = "memory", feature = "testing"))]
mod conformance;
mod deadlines;
mod expiry;
mod foreign;
mod handed_in;
mod hostile;
pub(crate) mod keys;
mod large;
#[cfg(feature = "memory")]
mod near;
#[cfg(feature = "memcached")]
mod order;
mod outage;
mod permissions;
mod secrets;
#[cfg(feature = "tls")]
mod tls;
mod together;
mod unwilling;

use crate::support::Redis;
use crate::support::values::{PATIENT, percentile, put, soak, text, value_of};
use larder::{AsyncRedisCache, RedisBuilder};
use std::sync::atomic::{AtomicU64, Ordering};

/// A prefix that no other test of this process, or of another one on the same server, has.
fn prefix() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("t{}-{}:", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A builder for `server`, with a prefix of its own, and patience for a busy machine. Tests of
/// deadlines set their own.
fn on(server: &Redis) -> RedisBuilder {
    RedisBuilder::from_url(server.url()).unwrap().prefix(prefix()).op_timeout(PATIENT)
}

/// A cache on the server that tests share, with a prefix of its own.
fn shared() -> AsyncRedisCache {
    on(Redis::shared()).build().unwrap()
}
