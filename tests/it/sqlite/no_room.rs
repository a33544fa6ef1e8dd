//! Loads where there is no room: each of them evicts.

use super::{PATIENT, fresh_path, on};
use larder::{
    AsyncCacheAdapter, AsyncCacheWrapper, AsyncSqliteCache, CacheValue, Claim, ClaimedEntry, Entry,
    Expiry, FoundOrClaimed,
};
use std::fs;
use std::time::Duration;

const HOUR: Expiry = Expiry::After(Duration::from_secs(3_600));

/// Eviction spares the placeholders of the loads in flight, without which none could be stored; and
/// a database in memory outlives it.
#[tokio::test]
async fn what_is_loaded_is_stored_where_there_is_no_room() {
    for size in [20_000, 300_000] {
        for place in [on(&fresh_path()), AsyncSqliteCache::builder().in_memory()] {
            let adapter = place.max_bytes(4 << 20).op_timeout(PATIENT).build().unwrap();
            let cache = AsyncCacheWrapper::new(adapter).unwrap();
            cache.ttl(Expiry::Never).set("older", 1).await.unwrap();
            for n in 0..8_000_000 / size {
                let key = format!("k{n}");
                let load = async move { "x".repeat(size) };
                let _: String = cache.get_or_set_async(&key, load).await.unwrap();
                assert!(cache.contains(&key).await.unwrap(), "{key} of {size} bytes");
            }
            assert!(cache.contains("older").await.unwrap(), "the database began anew");
        }
    }
}

/// A batch is stored in transactions that are bounded by bytes.
#[tokio::test]
async fn a_batch_of_loads_may_be_larger_than_the_file() {
    let path = fresh_path();
    let cache = on(&path).max_bytes(16 << 20).build().unwrap();
    let keys: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_or_claim_many(&names).await.unwrap().into_iter();
    let claims: Vec<Claim> = found
        .map(|found| match found.unwrap() {
            FoundOrClaimed::Claimed(claim) => claim,
            other => panic!("{other:?}"),
        })
        .collect();
    let value = CacheValue::new("x".repeat(1 << 20));
    let entry = |(key, claim)| ClaimedEntry::new(Entry::new(key, value.clone(), HOUR), claim);
    let entries: Vec<_> = names.iter().copied().zip(&claims).map(entry).collect();
    for (key, stored) in names.iter().zip(cache.set_claimed_many(&entries).await.unwrap()) {
        assert!(stored.unwrap(), "the claim of {key} does not hold");
    }
    for key in &names[36..] {
        assert!(cache.contains(key).await.unwrap(), "{key}, one of the last, is not there");
    }
    let log = fs::metadata(path.with_extension("db-wal")).map_or(0, |file| file.len());
    assert!(log <= 17 << 20, "a log of {log} bytes");
}
