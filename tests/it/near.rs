//! Reads for a near level: a value, and with it the rest of its life, which is never said too long.

// clippy allows `unwrap` in `#[test]` functions, but not in functions that they share.
#![allow(clippy::unwrap_used)]

use crate::memcached::on_three_servers;
use crate::support::values::{PATIENT, value_of};
use larder::{
    AsyncCacheAdapter, AsyncMemoryCache, AsyncSqliteCache, CacheValue, Codec, ErrorKind, Expiry,
    Lifetime, NearEntry,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CODECS: [Codec; 3] = [Codec::MessagePack, Codec::Json, Codec::Raw];

/// Keys of all kinds: of another alphabet, with a NUL, with a space, too long for memcached.
fn odd_keys() -> [String; 5] {
    ["plain", "清", "a\0b", "a b", &"long".repeat(100)].map(str::to_owned)
}

fn sqlite(codec: Codec, prefix: &str) -> AsyncSqliteCache {
    let builder = AsyncSqliteCache::builder().in_memory().op_timeout(PATIENT);
    builder.codec(codec).prefix(prefix).build().unwrap()
}

/// Every adapter that gives the rest of a life with the value, under every codec.
fn adapters() -> Vec<Arc<dyn AsyncCacheAdapter>> {
    let mut all: Vec<Arc<dyn AsyncCacheAdapter>> = Vec::new();
    for codec in CODECS {
        all.push(Arc::new(AsyncMemoryCache::builder().codec(codec).encoded().build()));
        all.push(Arc::new(sqlite(codec, "a_%:")));
        all.push(Arc::new(on_three_servers().codec(codec).build().unwrap()));
    }
    all.push(Arc::new(AsyncMemoryCache::builder().prefix("p:").build()));
    all
}

fn text(entry: &NearEntry) -> String {
    entry.value.decode().unwrap()
}

async fn put(cache: &dyn AsyncCacheAdapter, key: &str, expiry: impl Into<Expiry>) {
    cache.set(key, CacheValue::new(value_of(key)), expiry.into()).await.unwrap();
}

async fn left(cache: &dyn AsyncCacheAdapter, key: &str) -> Lifetime {
    cache.get_near(key).await.unwrap().unwrap_or_else(|| panic!("{key} is there")).left
}

#[tokio::test]
async fn a_value_comes_with_the_rest_of_its_life_and_nobody_vouches_for_it() {
    for cache in adapters() {
        let (cache, life) = (&*cache, Duration::from_secs(30));
        for key in odd_keys() {
            let begun = Instant::now();
            put(cache, &key, life).await;
            let entry = cache.get_near(&key).await.unwrap().unwrap();
            assert_eq!(text(&entry), value_of(&key));
            assert!(entry.source.is_none(), "{cache:?}");
            let Lifetime::For(left) = entry.left else { panic!("{cache:?}: {:?}", entry.left) };
            // Whole seconds on memcached, of which one may just be over.
            let least = life - Duration::from_secs(2) - begun.elapsed();
            assert!((least..=life).contains(&left), "{cache:?}, {key:?}: {left:?}");
            assert!(cache.touch(&key, Duration::from_secs(9).into()).await.unwrap());
            let touched = self::left(cache, &key).await;
            assert!(touched.as_millis_ceil().unwrap() <= 9_000, "{cache:?}: {touched:?}");
            put(cache, &key, Expiry::Never).await;
            assert_eq!(self::left(cache, &key).await, Lifetime::Never, "{cache:?}");
        }
    }
}

#[tokio::test]
async fn what_is_missing_for_a_read_is_missing_for_a_near_level() {
    for cache in adapters() {
        let cache = &*cache;
        let missing = async |key: &str| cache.get_near(key).await.unwrap().is_none();
        assert!(missing("never written").await, "{cache:?}");
        put(cache, "removed", Expiry::Never).await;
        assert!(cache.remove("removed").await.unwrap());
        put(cache, "zero", Duration::ZERO).await;
        put(cache, "over", Duration::from_millis(1)).await;
        let _claim = cache.claim("claimed", None).await.unwrap();
        for key in ["removed", "zero", "claimed"] {
            assert!(missing(key).await, "{cache:?}: {key}");
        }
        crate::support::eventually("it expires", PATIENT, async || missing("over").await).await;
        put(cache, "cleared:k", Expiry::Never).await;
        cache.clear("cleared:").await.unwrap();
        assert!(missing("cleared:k").await, "{cache:?}");
        assert_eq!(cache.get_near("").await.unwrap_err().kind(), ErrorKind::InvalidKey);
        let refused = cache.get_many_near(&["k", ""]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidKey);
    }
}

#[tokio::test]
async fn a_batch_has_an_answer_for_each_key_in_its_place() {
    for cache in adapters() {
        let cache = &*cache;
        for key in odd_keys() {
            put(cache, &key, Duration::from_secs(30)).await;
        }
        put(cache, "ever", Expiry::Never).await;
        let odd = odd_keys();
        let mut keys = vec!["missing", "ever"];
        keys.extend(odd.iter().map(String::as_str));
        keys.push("ever");
        let found = cache.get_many_near(&keys).await.unwrap();
        assert_eq!(found.len(), keys.len());
        for (key, found) in keys.into_iter().zip(found) {
            let Some(entry) = found.unwrap() else {
                assert_eq!(key, "missing", "{cache:?}");
                continue;
            };
            assert_eq!(text(&entry), value_of(key), "{cache:?}");
            assert_eq!(entry.left == Lifetime::Never, key == "ever", "{cache:?}: {key}");
        }
        assert!(cache.get_many_near(&[]).await.unwrap().is_empty());
    }
}

/// Writes a key with a short life and a long one in turn, each under its own value.
async fn alternate(cache: Arc<dyn AsyncCacheAdapter>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        for (value, seconds) in [("short", 30), ("long", 3_000)] {
            let life = Expiry::After(Duration::from_secs(seconds));
            cache.set("k", CacheValue::new(value.to_owned()), life).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_a_life_is_that_of_the_value_and_not_of_the_next_one() {
    for cache in adapters() {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(alternate(cache.clone(), stop.clone()));
        let has_begun = async || cache.contains("k").await.unwrap();
        crate::support::eventually("the writer begins", PATIENT, has_begun).await;
        let mut seen = [0; 2];
        for _ in 0..1_000 {
            let found = match cache.get_many_near(&["k"]).await.unwrap().pop().unwrap().unwrap() {
                Some(found) => Some(found),
                None => cache.get_near("k").await.unwrap(),
            };
            let Some(found) = found else { continue };
            let is_long = text(&found) == "long";
            let left = found.left.as_millis_ceil().unwrap();
            assert_eq!(is_long, left > 30_000, "{cache:?}: {}, {left} ms left", text(&found));
            seen[usize::from(is_long)] += 1;
        }
        stop.store(true, Ordering::Relaxed);
        writer.await.unwrap();
        assert!(seen.iter().sum::<u32>() > 0, "{cache:?}: {seen:?}");
    }
}

#[tokio::test]
async fn a_value_near_does_not_outlive_the_one_in_the_store() {
    let memory: Arc<dyn AsyncCacheAdapter> = Arc::new(AsyncMemoryCache::new());
    for cache in [memory, Arc::new(sqlite(Codec::MessagePack, ""))] {
        // On a busy machine a short life can end before the first read.
        let mut life = Duration::from_millis(120);
        let latest = loop {
            put(&*cache, "k", life).await;
            match latest_end(&*cache).await {
                Some(latest) => break latest,
                None => life *= 2,
            }
        };
        assert!(latest <= Instant::now(), "{cache:?}: in {:?}", latest - Instant::now());
    }
}

/// Reads a key until it is gone; returns the latest end of a value near, if any was read.
async fn latest_end(cache: &dyn AsyncCacheAdapter) -> Option<Instant> {
    let mut latest = None;
    loop {
        let sent = Instant::now();
        let Some(found) = cache.get_near("k").await.unwrap() else { return latest };
        let Lifetime::For(left) = found.left else { panic!("{cache:?}: it ends") };
        latest = latest.max(Some(sent + left));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
