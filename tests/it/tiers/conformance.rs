//! The suite that every adapter passes, with a near level before the adapter, and the one that an
//! adapter passes which tells a near level of changes.

use crate::support::{Memcached, Redis};
use crate::wrapper::through::Through;
use larder::layers::Tiered;
use larder::testing::{Suite, Verb, conformance, near_conformance};
use larder::{AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, IntoAdapter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The limits of a memcached with default settings.
const LIMIT: usize = (1 << 20) - 512;

type Adapter = Arc<dyn AsyncCacheAdapter>;

fn over_memory() -> Adapter {
    Arc::new(Tiered::new(AsyncMemoryCache::new(), AsyncMemoryCache::builder().encoded().build()))
}

/// A fresh part of a store.
fn part_of(url: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (separator, number) =
        (if url.contains('?') { '&' } else { '?' }, NEXT.fetch_add(1, Ordering::Relaxed));
    let prefix = format!("tiers{}-{number}:", std::process::id());
    format!("{url}{separator}prefix={prefix}&op_timeout=60s")
}

/// As a cache has it that is given a URL: with a resilient layer between the two levels.
fn over(url: &str) -> Adapter {
    format!("near+{}", part_of(url)).into_adapter().unwrap()
}

fn over_redis() -> Adapter {
    over(Redis::shared().url())
}

fn over_memcached() -> Adapter {
    over(Memcached::shared().url())
}

fn over_sqlite() -> Adapter {
    over(&format!("sqlite:{}", crate::sqlite::fresh_path().display()))
}

fn through(adapter: Adapter) -> Through {
    Through::over(AsyncCacheWrapper::new(adapter).unwrap(), &["users *"])
}

fn of_memcached() -> Suite {
    Suite::new().whole_seconds().max_value(LIMIT).except([Verb::Keys])
}

conformance!(memory, over_memory());
conformance!(memory_through_a_wrapper, through(over_memory()));
conformance!(redis, over_redis());
conformance!(redis_through_a_wrapper, through(over_redis()));
conformance!(memcached, over_memcached(), of_memcached());
conformance!(memcached_through_a_wrapper, through(over_memcached()), of_memcached());
conformance!(sqlite, over_sqlite());
conformance!(sqlite_through_a_wrapper, through(over_sqlite()));

/// Two clients of one store, each with a resilient layer.
fn two_of(url: &str) -> (Adapter, Adapter) {
    let part = part_of(url);
    (part.clone().into_adapter().unwrap(), part.into_adapter().unwrap())
}

fn two_of_sqlite() -> (Adapter, Adapter) {
    two_of(&format!("sqlite:{}", crate::sqlite::fresh_path().display()))
}

near_conformance!(redis_tells, two_of(Redis::shared().url()));
near_conformance!(sqlite_tells, two_of_sqlite());
