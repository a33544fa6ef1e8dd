//! A store that blocks, behind the bridge, passes the suite that every adapter passes.
#![allow(clippy::unwrap_used, reason = "tests")]

use larder::testing::conformance;
use larder::{
    AsyncCacheAdapter, AsyncMemoryCache, Blocking, CacheAdapter, CacheValue, ErrorKind, Expiry,
    KeyCursor, KeyPage, Result, awaitable,
};
use std::sync::Arc;

/// Blocks its thread for every call, as a store without async code does.
struct Store(AsyncMemoryCache);

impl CacheAdapter for Store {
    fn get(&self, key: &str) -> Result<Option<CacheValue>> {
        awaitable(self.0.get(key)).wait()
    }

    fn set(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<()> {
        awaitable(self.0.set(key, value, expiry)).wait()
    }

    fn remove(&self, key: &str) -> Result<bool> {
        awaitable(self.0.remove(key)).wait()
    }

    fn update_timeout(&self, key: &str, expiry: Expiry) -> Result<Option<CacheValue>> {
        awaitable(self.0.update_timeout(key, expiry)).wait()
    }

    fn clear(&self, prefix: &str) -> Result<()> {
        awaitable(self.0.clear(prefix)).wait()
    }

    fn add(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        awaitable(self.0.add(key, value, expiry)).wait()
    }

    fn replace(&self, key: &str, value: CacheValue, expiry: Expiry) -> Result<bool> {
        awaitable(self.0.replace(key, value, expiry)).wait()
    }

    fn incr(&self, key: &str, by: i64, expiry: Expiry) -> Result<i64> {
        awaitable(self.0.incr(key, by, expiry)).wait()
    }

    fn take(&self, key: &str) -> Result<Option<CacheValue>> {
        awaitable(self.0.take(key)).wait()
    }

    fn expiry(&self, key: &str) -> Result<Option<Expiry>> {
        awaitable(self.0.expiry(key)).wait()
    }

    fn keys(&self, prefix: &str, after: Option<&KeyCursor>) -> Result<KeyPage> {
        awaitable(self.0.keys(prefix, after)).wait()
    }

    fn rebuild(&self) -> Result<Arc<dyn AsyncCacheAdapter>> {
        Ok(Arc::new(Blocking(Self(AsyncMemoryCache::new()))))
    }

    fn backend(&self) -> &str {
        "blocking store"
    }
}

conformance!(bridged, Blocking(Store(AsyncMemoryCache::new())));

#[tokio::test]
async fn a_store_that_panics_is_an_error() {
    struct Broken;
    impl CacheAdapter for Broken {
        fn get(&self, _: &str) -> Result<Option<CacheValue>> {
            panic!("the store is broken")
        }
        fn set(&self, _: &str, _: CacheValue, _: Expiry) -> Result<()> {
            Ok(())
        }
        fn remove(&self, _: &str) -> Result<bool> {
            Ok(false)
        }
        fn update_timeout(&self, _: &str, _: Expiry) -> Result<Option<CacheValue>> {
            Ok(None)
        }
        fn clear(&self, _: &str) -> Result<()> {
            Ok(())
        }
    }
    let error = Blocking(Broken).get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend);
}
