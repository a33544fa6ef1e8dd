//! What a hit in memory may cost: nothing from the allocator.
#![cfg(feature = "memory")]

use allocation_counter::measure;
use bytes::{BufMut, Bytes, BytesMut};
use larder::{
    AsyncCacheWrapper, AsyncMemoryCache, CacheValue, CacheWrapper, Codec, Expiry, async_cached,
    cached,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Big {
    name: String,
    words: Vec<u64>,
}

fn big() -> Arc<Big> {
    Arc::new(Big { name: "Ada".into(), words: vec![7; 1_000] })
}

/// The output of a future that does not have to wait.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
fn free(what: &str, mut work: impl FnMut()) {
    // What is made once, on a thread's or the process's first use, is not a call's.
    work();
    let counted = measure(|| (0..100).for_each(|_| work()));
    assert_eq!(
        counted.count_total, 0,
        "{what} allocates {} times in 100 calls",
        counted.count_total
    );
}

#[test]
fn the_counter_counts() {
    assert!(measure(|| drop(std::hint::black_box(Box::new(1)))).count_total > 0);
}

#[test]
fn the_global_cache() {
    let big = big();
    cached().ttl(Expiry::Never).set("never", big.clone()).unwrap();
    cached().set("default", big.clone()).unwrap();
    for key in ["never", "default"] {
        free("async get", || {
            assert!(Arc::ptr_eq(
                &ready(async_cached().get::<Arc<Big>>(key)).unwrap().unwrap(),
                &big
            ))
        });
        free("blocking get", || {
            assert!(Arc::ptr_eq(&cached().get::<Arc<Big>>(key).unwrap().unwrap(), &big))
        });
        free("the plain function", || assert!(larder::get::<Arc<Big>>(key).unwrap().is_some()));
    }
    free("an async miss", || {
        assert!(ready(async_cached().get::<Arc<Big>>("nope")).unwrap().is_none())
    });
    free("a blocking miss", || assert!(cached().get::<Arc<Big>>("nope").unwrap().is_none()));

    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        free("a hit inside a runtime", || {
            assert!(ready(async_cached().get::<Arc<Big>>("default")).unwrap().is_some())
        });
        free("a blocking hit inside a runtime", || {
            assert!(cached().get::<Arc<Big>>("default").unwrap().is_some())
        });
    });
}

#[test]
fn a_cache_of_ones_own() {
    let big = big();
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
    let blocking: CacheWrapper = cache.blocking();
    blocking.set("k", big.clone()).unwrap();
    blocking.set("n", 5u64).unwrap();
    free("get", || assert!(ready(cache.get::<Arc<Big>>("k")).unwrap().is_some()));
    free("get of a number", || assert_eq!(ready(cache.get::<u64>("n")).unwrap(), Some(5)));
    ready(cache.tags(["t", "u"]).set("tagged", big.clone())).unwrap();
    free("get of an entry with tags", || {
        assert!(ready(cache.get::<Arc<Big>>("tagged")).unwrap().is_some())
    });
    free("get_or", || assert_eq!(ready(cache.get_or("n", 6u64)).unwrap(), 5));
    free("get_or_fail", || assert_eq!(ready(cache.get_or_fail::<u64>("n")).unwrap(), 5));
    free("get_or_set", || assert_eq!(ready(cache.get_or_set("n", 6u64)).unwrap(), 5));
    free("get_or_set_with", || assert_eq!(ready(cache.get_or_set_with("n", |_| 6u64)).unwrap(), 5));
    free("get_or_set_async", || {
        assert_eq!(ready(cache.get_or_set_async("n", async { 6u64 })).unwrap(), 5)
    });
    free("get_or_load", || {
        assert_eq!(ready(cache.get_or_load("n", || async { 6u64 })).unwrap(), 5)
    });
    free("get_or_load_here", || {
        assert_eq!(ready(cache.get_or_load_here("n", || async { 6u64 })).unwrap(), 5)
    });
    free("get through a clone", || {
        assert!(ready(cache.clone().get::<Arc<Big>>("k")).unwrap().is_some())
    });
    free("blocking get", || assert!(blocking.get::<Arc<Big>>("k").unwrap().is_some()));
    cache.swap_adapter("memory").unwrap();
    free("a miss after a swap", || assert!(ready(cache.get::<Arc<Big>>("k")).unwrap().is_none()));
}

/// What was decoded first stands beside the bytes.
#[cfg(feature = "sqlite")]
#[test]
fn a_hit_of_what_is_near() {
    use larder::AsyncSqliteCache;
    use larder::layers::Tiered;
    use std::time::Duration;

    const HOUR: Duration = Duration::from_secs(3_600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tiered = Tiered::builder(AsyncSqliteCache::in_memory()).near_bound(HOUR).near_ttl(HOUR);
    let cache = AsyncCacheWrapper::new(tiered.build()).unwrap();
    runtime.block_on(async {
        cache.set("k", big()).await.unwrap();
        cache.set("n", 5u64).await.unwrap();
        assert!(cache.get::<Arc<Big>>("k").await.unwrap().is_some());
        assert_eq!(cache.get::<u64>("n").await.unwrap(), Some(5));
    });
    free("get", || assert!(ready(cache.get::<Arc<Big>>("k")).unwrap().is_some()));
    free("get of a number", || assert_eq!(ready(cache.get::<u64>("n")).unwrap(), Some(5)));
    free("get_or_set", || assert_eq!(ready(cache.get_or_set("n", 6u64)).unwrap(), 5));
    assert_eq!(cache.stats().near.map(|near| near.far_reads), Some(2));
}

/// A load that is ready at once over a store that answers at once: the loader's box, the flight, its
/// key, and the value.
#[test]
fn a_miss_that_is_loaded_at_once() {
    const CALLS: u64 = 100;
    let cache = AsyncCacheWrapper::new(AsyncMemoryCache::new()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let keys: Vec<String> = (0..3_000).map(|number| format!("key {number}")).collect();
    let mut keys = keys.iter();
    let mut count = |what: &str, most: u64, miss: &mut dyn FnMut(&str)| {
        // Tables of the store and of the flights grow with the first keys.
        keys.by_ref().take(600).for_each(|key| miss(key));
        let counted = measure(|| keys.by_ref().take(CALLS as usize).for_each(|key| miss(key)));
        let each = counted.count_total / CALLS;
        assert!(each <= most, "{what} allocates {each} times");
    };
    runtime.block_on(async {
        count("get_or_set_async", 4, &mut |key| {
            assert_eq!(ready(cache.get_or_set_async(key, async { 6u64 })).unwrap(), 6)
        });
        count("try_get_or_load", 4, &mut |key| {
            let load = || async { Ok::<_, std::io::Error>(6u64) };
            assert_eq!(ready(cache.try_get_or_load(key, load)).unwrap(), 6)
        });
        count("get_or_set_with", 3, &mut |key| {
            assert_eq!(ready(cache.get_or_set_with(key, |_| 6u64)).unwrap(), 6)
        });
    });
}

#[cfg(feature = "macros")]
mod memoised {
    use super::*;
    use larder::cached;
    use std::sync::LazyLock;

    #[cached(key = "async:{name}:{id}", ttl = "1h", refresh_ahead = 0.8)]
    async fn detached(name: &str, id: u64) -> Arc<Big> {
        Arc::new(Big { name: format!("{name} {id}"), words: vec![7; 1_000] })
    }

    #[cached(key = "here:{name}:{id}", ttl = "1h", here)]
    async fn here(name: &str, id: u64) -> Result<Arc<Big>, larder::Error> {
        Ok(detached::uncached(name, id).await)
    }

    #[cached(key = "blocking:{name}:{id}", namespace = "n", ttl = "1h")]
    fn blocking(name: &str, id: u64) -> Arc<Big> {
        Arc::new(Big { name: format!("{name} {id}"), words: vec![7; 1_000] })
    }

    #[cached(name = "json")]
    fn json(ids: &[u64], all: Option<bool>, name: &str) -> u64 {
        ids.iter().sum::<u64>() + u64::from(all.unwrap_or(name.is_empty()))
    }

    #[cached(key = "tagged:{name}:{id}", ttl = "1h", tags("{name}", "{name}:{id}"))]
    async fn tagged(name: &str, id: u64) -> Arc<Big> {
        detached::uncached(name, id).await
    }

    #[cached(key = "tagged here:{name}:{id}", ttl = "1h", here, tags("{name}", "{name}:{id}"))]
    async fn tagged_here(name: &str, id: u64) -> Result<Arc<Big>, larder::Error> {
        Ok(detached::uncached(name, id).await)
    }

    #[cached(
        key = "tagged blocking:{name}:{id}",
        namespace = "n",
        ttl = "1h",
        tags("{name}", "{name}:{id}")
    )]
    fn tagged_blocking(name: &str, id: u64) -> Arc<Big> {
        blocking::uncached(name, id)
    }

    #[test]
    fn a_hit_with_tags_allocates_nothing_either() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tagged("Ada", 7).await;
            tagged_here("Ada", 7).await.unwrap();
            free("a load with a task", || assert_eq!(ready(tagged("Ada", 7)).name, "Ada 7"));
            free("a load in its caller", || {
                assert_eq!(ready(tagged_here("Ada", 7)).unwrap().name, "Ada 7")
            });
        });
        free("a blocking function", || assert_eq!(tagged_blocking("Ada", 7).name, "Ada 7"));
    }

    /// A cache that asks its store for each hit, as if the store were far.
    static FAR: LazyLock<AsyncCacheWrapper> =
        LazyLock::new(|| AsyncCacheWrapper::new("memory:?skip_near=true").expect("a URL"));

    #[cached(key = "far:{name}:{id}", cache = *FAR, tags("all", "{name}", "{name}:{id}"))]
    async fn far(name: &str, id: u64) -> Arc<Big> {
        detached::uncached(name, id).await
    }

    #[cached(key = "far here:{name}:{id}", cache = *FAR, here, tags("{name}", "{name}:{id}"))]
    async fn far_here(name: &str, id: u64) -> Result<Arc<Big>, larder::Error> {
        Ok(detached::uncached(name, id).await)
    }

    static FAR_BLOCKING: LazyLock<CacheWrapper> = LazyLock::new(|| FAR.blocking());

    #[cached(key = "far blocking:{name}:{id}", cache = *FAR_BLOCKING, tags("{name}:{id}"))]
    fn far_blocking(name: &str, id: u64) -> Arc<Big> {
        blocking::uncached(name, id)
    }

    /// How often 100 calls allocate, after a first one.
    fn allocations(mut work: impl FnMut()) -> u64 {
        work();
        measure(|| (0..100).for_each(|_| work())).count_total
    }

    /// A hit by hand, which has no tags to make.
    fn by_hand(key: &str) -> Arc<Big> {
        ready(FAR.get_or_load(key, || async { unreachable!("it is a hit") })).expect("a hit")
    }

    fn by_hand_blocking(key: &str) -> Arc<Big> {
        FAR_BLOCKING.get_or_set_with(key, |_| unreachable!("it is a hit")).expect("a hit")
    }

    #[test]
    fn tags_cost_a_hit_of_a_far_store_no_allocation() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            far("Ada", 7).await;
            far_here("Ada", 7).await.unwrap();
            let hit = allocations(|| assert_eq!(ready(far("Ada", 7)).name, "Ada 7"));
            assert_eq!(hit, allocations(|| assert_eq!(by_hand("far:Ada:7").name, "Ada 7")));
            let hit = allocations(|| assert_eq!(ready(far_here("Ada", 7)).unwrap().name, "Ada 7"));
            assert_eq!(hit, allocations(|| assert_eq!(by_hand("far here:Ada:7").name, "Ada 7")));
        });
        far_blocking("Ada", 7);
        let hit = allocations(|| assert_eq!(far_blocking("Ada", 7).name, "Ada 7"));
        let by_hand = || assert_eq!(by_hand_blocking("far blocking:Ada:7").name, "Ada 7");
        assert_eq!(hit, allocations(by_hand));
    }

    #[test]
    fn a_hit_allocates_nothing_beyond_the_values_clone() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            detached("Ada", 7).await;
            here("Ada", 7).await.unwrap();
            free("a load with a task", || assert_eq!(ready(detached("Ada", 7)).name, "Ada 7"));
            free("a load in its caller", || {
                assert_eq!(ready(here("Ada", 7)).unwrap().name, "Ada 7")
            });
        });
        free("a blocking function", || assert_eq!(blocking("Ada", 7).name, "Ada 7"));
        free("a function without `key`", || assert_eq!(json(&[1, 2], Some(true), "x"), 4));
    }
}

/// Stored bytes with a header that is in order, over any payload.
fn framed(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(b"\xC1LD\x01\x01\0\0\0");
    out.put_bytes(0, 20);
    out.put_u32(crc32fast::hash(b"k"));
    out.put_u32(payload.len() as u32);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out);
    crc.update(payload);
    out.put_u32(crc.finalize());
    out.put_slice(payload);
    out.freeze()
}

/// The most bytes in use at once while `T` is read.
fn peak<T: DeserializeOwned + Clone + Send + Sync + 'static>(value: &CacheValue) -> u64 {
    measure(|| drop(value.decode::<T>())).bytes_max
}

/// Memory follows the input, whatever lengths the input claims.
#[test]
fn decoding_takes_no_more_than_the_input_is_worth() {
    const LEN: usize = 1 << 20;
    let claim = |marker: u8| [vec![marker, 0xff, 0xff, 0xff, 0xff], vec![1; 100]].concat();
    let honest = |marker: u8, count: usize, of: &[u8]| {
        [&[marker][..], &(count as u32).to_be_bytes(), &of.repeat(count)].concat()
    };
    let inputs = [
        ("a list that lies", claim(0xdd)),
        ("a map that lies", claim(0xdf)),
        ("text that lies", claim(0xdb)),
        ("bytes that lie", claim(0xc6)),
        ("lists that lie within lists", [0xdd, 0xff, 0xff, 0xff, 0xff].repeat(LEN / 5)),
        ("empty texts", honest(0xdd, LEN, &[0xa0])),
        ("empty lists", honest(0xdd, LEN, &[0x90])),
        ("nothings", honest(0xdd, LEN, &[0xc0])),
        ("texts", honest(0xdd, LEN / 4, b"\xa3abc")),
        ("a map", honest(0xdf, LEN / 4, b"\xa1a\xa1b")),
    ];
    for (what, input) in inputs {
        let value = CacheValue::from_stored("k", framed(&input), Codec::MessagePack);
        assert!(!value.is_unreadable());
        let peaks = [
            peak::<Vec<String>>(&value),
            peak::<Vec<Vec<u8>>>(&value),
            peak::<Vec<Option<u64>>>(&value),
            peak::<HashMap<String, String>>(&value),
            peak::<String>(&value),
            peak::<serde_json::Value>(&value),
        ];
        println!("{what}: {} bytes, {peaks:?}", input.len());
        let most = 64 * input.len() as u64 + (1 << 20);
        assert!(
            peaks.into_iter().all(|peak| peak <= most),
            "{what}: {} bytes took {peaks:?}",
            input.len()
        );
    }
}
