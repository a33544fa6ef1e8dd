//! Loads that ask for other keys, thousands deep.

use crate::own_process::{own_process, threads};
use larder::{CacheWrapper, awaitable};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Builder;

const DEEP: usize = 10_000;

/// Far fewer threads than loads.
const MOST_THREADS: usize = DEEP / 20;

/// A load of one key by way of the next; the sum says how many there were.
fn nest(cache: &CacheWrapper, left: usize, most: &Arc<AtomicUsize>) -> usize {
    let (inner, seen) = (cache.clone(), most.clone());
    let loader = async move {
        if left == 0 {
            seen.fetch_max(threads(), Ordering::SeqCst);
            return 0;
        }
        nest(&inner, left - 1, &seen) + 1
    };
    cache.get_or_set_async(format!("k{left}"), loader).unwrap()
}

fn deep(cache: &CacheWrapper) {
    let most = Arc::new(AtomicUsize::new(0));
    assert_eq!(nest(cache, DEEP, &most), DEEP);
    let most = most.load(Ordering::SeqCst);
    assert!(most < MOST_THREADS, "{most} threads for {DEEP} loads");
}

/// The same by the async face within.
fn nest_async(cache: CacheWrapper, left: usize) -> futures_util::future::BoxFuture<'static, usize> {
    Box::pin(async move {
        let inner = cache.clone();
        let loader =
            async move { if left == 0 { 0 } else { nest_async(inner, left - 1).await + 1 } };
        cache.as_async().get_or_set_async(format!("k{left}"), loader).await.unwrap()
    })
}

own_process! {
    fn on_a_plain_thread() {
        deep(&CacheWrapper::new("memory").unwrap());
    }

    fn with_a_limit() {
        let cache = larder::AsyncCacheWrapper::builder("memory").hard_timeout(Duration::from_secs(100)).build().unwrap();
        deep(&cache.blocking());
    }

    fn on_a_worker_of_a_runtime() {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(async {
            tokio::spawn(async { deep(&CacheWrapper::new("memory").unwrap()) }).await.unwrap();
        });
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            deep(&CacheWrapper::new("memory").unwrap());
        });
    }

    fn awaited_within() {
        let cache = CacheWrapper::new("memory").unwrap();
        let inner = cache.clone();
        let depth = cache.get_or_set_async("top", async move { nest_async(inner, DEEP).await });
        assert_eq!(depth.unwrap(), DEEP);
        assert!(threads() < MOST_THREADS, "{} threads", threads());
    }

    /// Loads that only larder's threads drive: thousands at the same time, each of which waits.
    fn thousands_beside_each_other() {
        let cache = CacheWrapper::new("memory").unwrap();
        let calls = (0..DEEP).map(|at| {
            let loader = async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                at
            };
            cache.as_async().get_or_set_async(format!("k{at}"), loader)
        });
        let all = awaitable(futures_util::future::join_all(calls)).wait();
        assert!(all.into_iter().map(Result::unwrap).eq(0..DEEP));
        assert!(threads() < MOST_THREADS, "{} threads", threads());
    }

    /// If a caller leaves a load that it drove itself, another thread goes on with the load.
    fn a_caller_that_leaves_its_load() {
        let cache = CacheWrapper::new("memory").unwrap();
        let loader = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            7u64
        };
        let left = cache.view().hard_timeout(Duration::from_millis(10)).get_or_set_async("k", loader);
        assert_eq!(left.unwrap_err().kind(), larder::ErrorKind::Timeout);
        let follower = cache.get_or_set("k", 1u64);
        assert_eq!(follower.unwrap(), 7);
        assert_eq!(cache.get::<u64>("k").unwrap(), Some(7));
    }
}
