//! The keys of a file, and its size.

#![allow(clippy::unwrap_used)]

use larder::AsyncCacheWrapper;
use std::collections::BTreeSet;

async fn all(cache: &AsyncCacheWrapper) -> BTreeSet<String> {
    let (mut all, mut keys) = (BTreeSet::new(), cache.keys(""));
    while let Some(key) = keys.next().await {
        assert!(all.insert(key.unwrap()), "an index gives no key twice");
    }
    all
}

#[tokio::test]
async fn keys_of_large_values_come_in_several_pages() {
    let cache = AsyncCacheWrapper::new("sqlite::memory:?op_timeout=60s").unwrap();
    for number in 0..12 {
        cache.set(format!("large {number}"), "x".repeat(1_500_000)).await.unwrap();
    }
    cache.set_many((0..1_200).map(|number| (format!("small {number}"), number))).await.unwrap();
    assert_eq!(all(&cache).await.len(), 1_212);
}

#[tokio::test]
async fn a_sweep_counts_the_entries_and_the_pages_in_use() {
    let adapter = larder::AsyncSqliteCache::in_memory();
    let cache = AsyncCacheWrapper::new(adapter.clone()).unwrap();
    let size = || (cache.stats().entries, cache.stats().bytes);
    cache.set_many((0..50).map(|number| (number.to_string(), "x".repeat(10_000)))).await.unwrap();
    cache.ttl(std::time::Duration::ZERO).set("0", "gone").await.unwrap();
    adapter.purge_expired().await.unwrap();
    let (entries, bytes) = size();
    assert_eq!(entries, Some(49));
    assert!((490_000..1_500_000).contains(&bytes.unwrap()), "{bytes:?}");
    cache.clear().await.unwrap();
    adapter.purge_expired().await.unwrap();
    let (entries, less) = size();
    assert!(entries == Some(0) && less < bytes, "{less:?} of {bytes:?}");
}
