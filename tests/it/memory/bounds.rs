//! A cache that grows for ever is a leak.

use super::{put, read};
use crate::trials::{rng, trials};
use larder::{AsyncCacheAdapter, AsyncMemoryCache, ErrorKind, Expiry};
use std::time::{Duration, Instant};

#[tokio::test]
async fn what_is_used_stays() {
    // With every choice of the three that are not used.
    for unused in 0..7 {
        let cache = AsyncMemoryCache::builder().max_entries(9).build();
        for key in 0..9 {
            put(&cache, &format!("k{key}"), key, Expiry::Never).await.unwrap();
        }
        assert_eq!(cache.entry_count(), 9, "nine fit");
        let used: Vec<String> = (0..9)
            .filter(|key| !(unused..unused + 3).contains(key))
            .map(|key| format!("k{key}"))
            .collect();
        for key in &used {
            assert!(cache.get(key).await.unwrap().is_some());
        }
        put(&cache, "new", 1, Expiry::Never).await.unwrap();
        assert!(cache.entry_count() <= 9);
        for key in used.iter().map(String::as_str).chain(["new"]) {
            assert!(
                cache.contains(key).await.unwrap(),
                "{key} was evicted, and {unused}.. was not used"
            );
        }
    }
}

#[tokio::test]
async fn never_over_the_bound_of_entries() {
    let mut rng = rng("never_over_the_bound_of_entries");
    for bound in [1, 2, 9, 10, 33, 100, 1_000, 5_000] {
        let cache = AsyncMemoryCache::builder().max_entries(bound).build();
        for at in 0..bound * 10 {
            put(&cache, &format!("k{at}"), at, Expiry::Never).await.unwrap();
            assert!(
                cache.entry_count() as u64 <= bound,
                "{} entries of {bound}",
                cache.entry_count()
            );
            if rng.u8(..) < 20 {
                cache.get(&format!("k{}", rng.u64(..=at))).await.unwrap();
            }
        }
        assert_eq!(cache.entry_count() as u64, bound, "as many as are allowed");
    }
}

/// Nothing is evicted as long as there is room, however unevenly the keys are spread over the
/// shards.
#[tokio::test]
async fn as_many_entries_fit_as_are_allowed() {
    for bound in [1, 2, 20, 33, 100, 1_000, 3_000] {
        let cache = AsyncMemoryCache::builder().max_entries(bound).build();
        for at in 0..bound {
            put(&cache, &format!("k{at}"), "x".repeat(at as usize % 100), Expiry::Never)
                .await
                .unwrap();
        }
        for at in 0..bound {
            assert!(cache.contains(&format!("k{at}")).await.unwrap(), "k{at} of {bound}");
        }
    }
}

#[tokio::test]
async fn never_over_the_bound_of_bytes() {
    let mut rng = rng("never_over_the_bound_of_bytes");
    const BYTES: usize = 1 << 20;
    let cache = AsyncMemoryCache::builder().max_bytes(BYTES as u64).max_entries(1_000).build();
    let mut stored = Vec::new();
    for at in 0..3_000 {
        let (key, size) = (format!("k{at}"), rng.usize(1..40_000));
        match put(&cache, &key, "x".repeat(size), Expiry::Never).await {
            Ok(()) => stored.push((key, size)),
            Err(e) => assert_eq!(e.kind(), ErrorKind::TooLarge),
        }
    }
    let mut total = 0;
    for (key, size) in &stored {
        if cache.contains(key).await.unwrap() {
            total += size;
        }
    }
    assert!(total <= BYTES, "{total} bytes of {BYTES}");
    assert!(total > BYTES / 3, "{total} bytes of {BYTES} is a waste");
}

#[tokio::test]
async fn a_batch_and_counters_are_bounded_too() {
    let cache = AsyncMemoryCache::builder().max_entries(10).build();
    for at in 0..200 {
        cache.incr(&format!("n{at}"), 1, Expiry::Default).await.unwrap();
        cache.add(&format!("a{at}"), larder::CacheValue::new(at), Expiry::Default).await.unwrap();
        assert!(cache.entry_count() <= 10);
    }
    let cache = AsyncMemoryCache::builder().max_entries(0).build();
    put(&cache, "k", 1, Expiry::Never).await.unwrap();
    assert_eq!(read(&cache, "k").await, Some(1), "at least one");
}

#[tokio::test]
async fn what_has_expired_is_given_back_though_nobody_reads_it() {
    let count = trials(30_000, 100_000);
    let cache = AsyncMemoryCache::builder().max_entries(1_000_000).max_bytes(1 << 30).build();
    for at in 0..count {
        put(&cache, &format!("brief {at}"), at, Duration::from_millis(700)).await.unwrap();
    }
    for at in 0..100 {
        put(&cache, &format!("lasting {at}"), at, Expiry::Never).await.unwrap();
        put(&cache, &format!("long {at}"), at, Duration::from_secs(3_600)).await.unwrap();
    }
    // The sweeper sleeps fifty times as long as a sweep took, half a minute at the most.
    let deadline = Instant::now() + Duration::from_secs(90);
    while cache.entry_count() > 200 {
        assert!(Instant::now() < deadline, "{} entries are still there", cache.entry_count());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cache.entry_count(), 200);
    // And again, once it has slept.
    let deadline = Instant::now() + Duration::from_secs(90);
    put(&cache, "late", 1, Duration::from_millis(10)).await.unwrap();
    while cache.entry_count() > 200 {
        assert!(Instant::now() < deadline, "a later entry is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn touched_entries_are_not_swept() {
    let cache = AsyncMemoryCache::new();
    put(&cache, "k", 1, Duration::from_millis(100)).await.unwrap();
    assert!(cache.touch("k", Expiry::Never).await.unwrap());
    put(&cache, "brief", 1, Duration::from_millis(100)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while cache.entry_count() > 1 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(read(&cache, "k").await, Some(1));
}

/// A value may use the cache when it is dropped, whatever drops it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_uses_the_cache_as_it_is_dropped() {
    #[derive(serde::Serialize)]
    struct Busy(#[serde(skip)] larder::CacheWrapper, u32);
    impl Drop for Busy {
        fn drop(&mut self) {
            let sibling = format!("sibling {}", self.1 % 7);
            self.0.set(&sibling, self.1).unwrap();
            self.0.remove(format!("k{}", (self.1 + 1) % 50)).unwrap();
            self.0.get::<u32>(&sibling).unwrap();
        }
    }
    let work = async {
        let cache =
            larder::AsyncCacheWrapper::new(AsyncMemoryCache::builder().max_entries(20).build())
                .unwrap();
        let busy = |at| Busy(cache.blocking(), at);
        for at in 0..2_000u32 {
            let key = format!("k{}", at % 50);
            cache.set(&key, busy(at)).await.unwrap();
            match at % 6 {
                0 => cache.set(&key, busy(at)).await.unwrap(),
                1 => drop(cache.remove(&key).await.unwrap()),
                2 => cache.ttl(Duration::ZERO).set(&key, busy(at)).await.unwrap(),
                3 => drop(cache.touch(&key, Duration::ZERO).await.unwrap()),
                4 => drop(cache.replace(&key, busy(at)).await.unwrap()),
                _ => drop(cache.add(&key, busy(at)).await.unwrap()),
            }
            if at % 100 == 0 {
                cache.clear().await.unwrap();
                cache.namespace("k1").clear().await.unwrap();
            }
        }
        // The values hold the cache that holds them.
        cache.swap_adapter("memory").unwrap().clear("").await.unwrap();
    };
    let (done, came) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work);
        done.send(()).unwrap();
    });
    assert_eq!(came.recv_timeout(Duration::from_secs(20)), Ok(()), "deadlock");
}
