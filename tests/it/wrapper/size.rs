//! The size of a store, in the figures of its cache.

use super::{fresh, plain_and_encoded};
use larder::layers::{Batching, Resilient};
use larder::testing::FaultyAdapter;
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, Blocking, CacheAdapter, CacheValue,
    Expiry, Result, StoreSize,
};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn memory_counts_entries_and_bytes_exactly() {
    for cache in plain_and_encoded() {
        let size = || (cache.stats().entries.unwrap(), cache.stats().bytes.unwrap());
        assert_eq!(size(), (0, 0));
        cache.set("one", "x".repeat(1_000)).await.unwrap();
        let one = size();
        assert!(one.0 == 1 && (1_000..1_500).contains(&one.1), "{one:?}");
        cache.namespace("n").set("e", "x".repeat(1_000)).await.unwrap();
        assert_eq!(size(), (2, 2 * one.1), "of the whole store, with all namespaces");
        cache.set("one", "x".repeat(3_000)).await.unwrap();
        assert_eq!(size(), (2, 2 * one.1 + 2_000), "a replaced value counts once");
        cache.touch("one", Duration::ZERO).await.unwrap();
        cache.remove("n:e").await.unwrap();
        assert_eq!(size(), (0, 0));
        assert_eq!(cache.blocking().stats().entries, Some(0));
        assert!(cache.stats().to_string().ends_with("store: 0 entries, 0 bytes"));
    }
}

#[tokio::test]
async fn the_bytes_are_those_that_the_bound_counts() {
    let bounded = AsyncMemoryCache::builder().max_bytes(100_000).build();
    let cache = AsyncCacheWrapper::new(bounded).unwrap();
    for number in 0..2_000 {
        cache.set(format!("key {number}"), "x".repeat(number % 300)).await.unwrap();
        let stats = cache.stats();
        assert!(stats.bytes.unwrap() <= 100_000, "{stats}");
    }
    let stats = cache.stats();
    assert!(stats.bytes.unwrap() > 80_000 && stats.entries.unwrap() > 100, "{stats}");
}

#[tokio::test]
async fn layers_say_what_the_adapter_inside_says() {
    let memory = AsyncMemoryCache::new();
    memory.set("k", CacheValue::new(1u8), Expiry::Never).await.unwrap();
    let size = memory.size();
    assert_eq!(size.entries, Some(1));
    let shared: Arc<dyn AsyncCacheAdapter> = Arc::new(memory.clone());
    let layers: [Box<dyn AsyncCacheAdapter>; 4] = [
        Box::new(Resilient::new(memory.clone())),
        Box::new(Batching::new(memory.clone())),
        Box::new(FaultyAdapter::new(memory.clone())),
        Box::new(shared),
    ];
    assert!(layers.iter().all(|layer| layer.size() == size));

    struct Sized;
    impl CacheAdapter for Sized {
        fn get(&self, _: &str) -> Result<Option<CacheValue>> {
            Ok(None)
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
        fn size(&self) -> StoreSize {
            StoreSize::new(5, 50)
        }
    }
    let bridged = AsyncCacheWrapper::new(Blocking(Sized)).unwrap();
    assert_eq!((bridged.stats().entries, bridged.stats().bytes), (Some(5), Some(50)));
}

/// A server counts the entries of everybody, and a file those of all processes only when it sweeps.
#[tokio::test]
async fn what_is_not_known_is_left_out() {
    for url in ["redis://127.0.0.1:1", "memcached://127.0.0.1:1", "sqlite::memory:"] {
        let stats = AsyncCacheWrapper::new(url).unwrap().stats();
        assert_eq!((stats.entries, stats.bytes), (None, None), "{url}");
        assert!(!stats.to_string().contains("store:"), "{stats}");
    }
    let cache = fresh();
    cache.set("k", 1u8).await.unwrap();
    cache.set_adapter("off").unwrap();
    assert_eq!(cache.stats().entries, Some(0), "of the present adapter");
}
