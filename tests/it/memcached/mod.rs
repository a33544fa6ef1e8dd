//! Tests of memcached, with real servers.

// clippy allows `unwrap` in `#[test]` functions, but not in functions that they share.
#![allow(clippy::unwrap_used)]

mod awkward;
mod callers;
mod clear;
#[cfg(all(feature = "memory", feature = "testing"))]
mod conformance;
mod deadlines;
mod driver;
mod expiry;
mod hostile;
mod keys;
mod large;
#[cfg(feature = "redis")]
mod late;
#[cfg(feature = "redis")]
mod order;
mod outage;
mod secrets;

use crate::support::values::{PATIENT, percentile, put, text, value_of};
use crate::support::{Memcached, Proxy};
use larder::{AsyncMemcachedCache, Codec, MemcachedBuilder};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// A builder for three servers that tests share, with its own prefix.
pub(crate) fn on_three_servers() -> MemcachedBuilder {
    static SERVERS: OnceLock<[Memcached; 3]> = OnceLock::new();
    let [first, second, third] =
        SERVERS.get_or_init(|| std::array::from_fn(|_| Memcached::start()));
    on(first).server(server(second)).server(server(third))
}

/// A builder for a server behind a proxy, with its own prefix.
fn through(proxy: &Proxy) -> MemcachedBuilder {
    AsyncMemcachedCache::builder()
        .server(proxy.addr().to_string())
        .prefix(prefix())
        .op_timeout(PATIENT)
}

const CODECS: [Codec; 3] = [Codec::MessagePack, Codec::Json, Codec::Raw];
