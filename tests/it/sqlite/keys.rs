//! The keys of a file: pages behind large values.

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
