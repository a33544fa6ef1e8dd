//! What values count for, and which are too large.

use super::{put, read};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncMemoryCache, CacheValue, ErrorKind, EventKind,
    Expiry,
};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: u64 = 1 << 20;

/// How many such values a cache of 4 MiB holds.
async fn fit<T: Serialize + Send + Sync + 'static>(make: impl Fn() -> T) -> u64 {
    let cache = AsyncMemoryCache::builder().max_bytes(4 * MIB).build();
    for at in 0..200 {
        put(&cache, &format!("k{at}"), make(), Expiry::Never).await.unwrap();
    }
    cache.entry_count() as u64
}

/// By their encoded length a thousand times as many would be kept.
#[tokio::test]
async fn the_bound_of_bytes_is_on_memory_and_not_on_what_would_be_written() {
    let kept = fit(|| vec![0u64; 16 << 10]).await;
    assert!((16..=64).contains(&kept), "{kept} lists of 128 KiB in 4 MiB");
    let kept = fit(|| vec![String::new(); 5_461]).await;
    assert!((16..=64).contains(&kept), "{kept} lists of 128 KiB in 4 MiB");
    let kept = fit(|| (0..3_276).map(|_| Box::new(1u8)).collect::<Vec<_>>()).await;
    assert!((16..=64).contains(&kept), "{kept} lists of 128 KiB in 4 MiB");
    #[derive(Serialize)]
    struct Skipped {
        shown: u8,
        #[serde(skip)]
        _hidden: [u64; 4 << 10],
    }
    let kept = fit(|| Skipped { shown: 1, _hidden: [0; 4 << 10] }).await;
    assert!((64..=128).contains(&kept), "{kept} objects of 32 KiB in 4 MiB");
}

#[tokio::test]
async fn a_weigher_says_what_values_count_for() {
    #[derive(Serialize)]
    struct Page(#[serde(skip)] Vec<u8>);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let cache = AsyncMemoryCache::builder()
        .max_bytes(MIB)
        .prefix("p")
        .weigher(move |key, value: &CacheValue| {
            assert!(key.starts_with('p'));
            counted.fetch_add(1, Ordering::SeqCst);
            value.downcast_ref::<Page>().map_or(8, |page| page.0.len() as u64)
        })
        .build();
    for at in 0..100 {
        put(&cache, &format!("k{at}"), Page(vec![0; 100_000]), Expiry::Never).await.unwrap();
    }
    assert_eq!(cache.entry_count(), 10);
    assert_eq!(asked.load(Ordering::SeqCst), 100);
    let refused = put(&cache, "k", Page(vec![0; 2 << 20]), Expiry::Never).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
}

/// Whatever the number of cores.
#[tokio::test]
async fn the_largest_value_is_one_limit_that_can_be_set() {
    let cache = AsyncMemoryCache::new();
    for (size, fits) in [(31 * MIB, true), (33 * MIB, false)] {
        let stored = put(&cache, "k", vec![7u8; size as usize], Expiry::Never).await;
        assert_eq!(
            stored.map_err(|error| error.kind()),
            if fits { Ok(()) } else { Err(ErrorKind::TooLarge) }
        );
        assert_eq!(cache.contains("k").await.unwrap(), fits, "the older value goes");
    }
    let cache = AsyncMemoryCache::from_url("memory:?max_value_bytes=1000").unwrap();
    put(&cache, "k", "x".repeat(900), Expiry::Never).await.unwrap();
    let refused = put(&cache, "k", "x".repeat(1_000), Expiry::Never).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    assert_eq!(read::<String>(&cache, "k").await, None);
}

#[tokio::test]
async fn a_value_that_is_loaded_and_not_stored_emits_an_event() {
    let small = AsyncMemoryCache::builder().max_value_bytes(1_000).build();
    let cache = AsyncCacheWrapper::new(small).unwrap();
    let weighed = Arc::new(AtomicUsize::new(0));
    let counted = weighed.clone();
    let _observing = cache.observe(move |event| {
        let too_large = event.error.is_some_and(|error| error.kind() == ErrorKind::TooLarge);
        if event.kind == EventKind::BackendError && too_large {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for round in 1..=3 {
        let value = cache.get_or_set_async("k", async { "x".repeat(2_000) }).await.unwrap();
        assert_eq!(value.len(), 2_000);
        assert_eq!(weighed.load(Ordering::SeqCst), round);
    }
    cache.set("k", "x".repeat(2_000)).await.unwrap_err();
    assert_eq!(weighed.load(Ordering::SeqCst), 4);
}
