//! Loads that are ready at once, over a store that answers at once: they run inside their call.

use larder::{AsyncCacheWrapper, AsyncMemoryCache, ErrorKind};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn memory() -> AsyncMemoryCache {
    AsyncMemoryCache::new()
}

#[tokio::test]
async fn a_removal_in_the_loader_is_not_undone() {
    let store = memory();
    let own = AsyncCacheWrapper::new(store.clone()).unwrap();
    let other = AsyncCacheWrapper::new(store).unwrap();
    for cache in [own.clone(), other] {
        let loader = async move {
            cache.remove("k").await.unwrap();
            7u8
        };
        assert_eq!(own.get_or_set_async("k", loader).await.unwrap(), 7);
        assert_eq!(own.get::<u8>("k").await.unwrap(), None, "it was removed during its load");
    }
}

#[tokio::test]
async fn a_clear_or_a_write_in_the_loader_is_not_undone() {
    let store = memory();
    let own = AsyncCacheWrapper::new(store.clone()).unwrap();
    let other = AsyncCacheWrapper::new(store).unwrap();
    for cache in [own.clone(), other] {
        let clearing = cache.clone();
        let loader = async move {
            clearing.clear().await.unwrap();
            7u8
        };
        assert_eq!(own.get_or_set_async("k", loader).await.unwrap(), 7);
        assert_eq!(own.get::<u8>("k").await.unwrap(), None, "it was cleared during its load");
        let loader = async move {
            cache.set("k", 8u8).await.unwrap();
            7u8
        };
        assert_eq!(own.get_or_set_async("k", loader).await.unwrap(), 7);
        assert_eq!(own.take::<u8>("k").await.unwrap(), Some(8), "it was written during its load");
    }
}

#[tokio::test]
async fn a_loader_that_swaps_the_adapter_stores_nothing() {
    let store = memory();
    let cache = AsyncCacheWrapper::new(store.clone()).unwrap();
    let swapping = cache.clone();
    let loader = async move {
        swapping.swap_adapter("memory").unwrap();
        7u8
    };
    assert_eq!(cache.get_or_set_async("k", loader).await.unwrap(), 7);
    assert_eq!(cache.get::<u8>("k").await.unwrap(), None);
    assert_eq!(store.entry_count(), 0, "the old store, which may be set again");
}

#[tokio::test]
async fn a_panic_or_an_error_is_that_of_the_call_and_nothing_is_left() {
    let cache = AsyncCacheWrapper::new(memory()).unwrap();
    let panics = cache.get_or_set_async("k", async { if true { panic!("no") } else { 1u8 } });
    assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Panic);
    let panics = cache.get_or_set_with("k", |_| if true { panic!("no") } else { 1u8 });
    assert_eq!(panics.await.unwrap_err().kind(), ErrorKind::Panic);
    let fails = cache.try_get_or_set_async("k", async { Err::<u8, _>(std::fmt::Error) });
    assert!(fails.await.unwrap_err().load_error::<std::fmt::Error>().is_some());
    assert_eq!(cache.get_or_set_async("k", async { 5u8 }).await.unwrap(), 5);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.loads, stats.load_errors), (4, 1, 3));
}

#[tokio::test]
async fn a_value_that_cannot_be_stored_reaches_its_caller() {
    let small = AsyncMemoryCache::builder().max_value_bytes(100).build();
    let cache = AsyncCacheWrapper::new(small).unwrap();
    let large = || async { vec![7u8; 1_000] };
    assert_eq!(cache.get_or_load("k", large).await.unwrap().len(), 1_000);
    let strict = cache.fail_open(false).get_or_load("k", large).await;
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::TooLarge);
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.backend_errors), (2, 2));
}

/// Each key is loaded once, however many callers ask at the same time: a call whose read is out of
/// date when its flight begins reads again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_that_race_for_a_key_load_it_once() {
    const KEYS: usize = 3_000;
    let cache = AsyncCacheWrapper::new(memory()).unwrap();
    let loads: Arc<Vec<AtomicUsize>> =
        Arc::new(std::iter::repeat_with(AtomicUsize::default).take(KEYS).collect());
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                for key in 0..KEYS {
                    let counts = loads.clone();
                    let load = move || async move {
                        counts[key].fetch_add(1, Ordering::Relaxed);
                        key
                    };
                    assert_eq!(cache.get_or_load(format!("k{key}"), load).await.unwrap(), key);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let mut often = HashMap::new();
    loads.iter().for_each(|count| *often.entry(count.load(Ordering::Relaxed)).or_insert(0) += 1);
    assert_eq!(often, HashMap::from([(1, KEYS)]), "how often how many keys were loaded");
}
